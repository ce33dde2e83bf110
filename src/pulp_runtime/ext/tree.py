"""Files and folders that are no files: what a program finds in its tree, whoever makes up their content.

A capability that mounts a `Node` is reached by every WASI program through its ordinary file API. Names are `str`; a
path below a node is a tuple of them, `()` for the node itself, with no empty name, no `.`, no NUL and no `/` in it.
What cannot be done raises `OSError` with an `errno` of the host, such as `FileNotFoundError` or
`OSError(errno.EROFS, "why")`; the program sees the same number of WASI's. Nothing here blocks: a file that has nothing
yet, or no room, raises `BlockingIOError`, and whoever waits for it does that elsewhere.

A node is shared by every program that runs, unless its capability makes one for each run: then it is used by one
thread at a time.
"""

from __future__ import annotations

import enum
import errno
import os
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeAlias

Parts: TypeAlias = tuple[str, ...]
Wake: TypeAlias = Callable[[], None]


class Kind(enum.IntEnum):
    """What something is; the numbers are `filetype` of WASI preview 1."""

    UNKNOWN = 0
    DEVICE = 2
    FOLDER = 3
    FILE = 4
    SOCKET = 6
    LINK = 7


class Stat(NamedTuple):
    """What is known of a file or folder. Times are nanoseconds since 1970."""

    kind: Kind
    size: int = 0
    inode: int = 0
    device: int = 0
    links: int = 1
    accessed_ns: int = 0
    modified_ns: int = 0
    changed_ns: int = 0


class Entry(NamedTuple):
    """One name in a folder."""

    name: str
    kind: Kind
    inode: int = 0


class How(NamedTuple):
    """How something is to be opened.

    Attributes:
        read: bytes, or names, will be read.
        write: bytes will be written.
        create: make it if it is not there.
        exclusive: with `create`: it must not be there.
        truncate: begin with nothing.
        append: every write goes to the end.
        folder: it must be a folder.
        follow: a symbolic link at the end of the path is followed.
    """

    read: bool = True
    write: bool = False
    create: bool = False
    exclusive: bool = False
    truncate: bool = False
    append: bool = False
    folder: bool = False
    follow: bool = True

    @property
    def changes(self) -> bool:
        """Whether opening like this may change something."""
        return self.write or self.create or self.truncate or self.append


class File:
    """An open file. Override what it can do; the rest refuses.

    Attributes:
        kind: what it is.
        seekable: whether it has positions: then `read_at`, `write_at` and `append` are used, else `read` and `write`.
    """

    kind: Kind = Kind.FILE
    seekable: bool = False

    def read_at(self, offset: int, into: memoryview) -> int:
        """Fill `into` with the bytes at `offset`; return how many there were, 0 at the end."""
        raise OSError(errno.EBADF, "not open for reading")

    def write_at(self, offset: int, data: memoryview) -> int:
        """Write at `offset`; return how many bytes were taken, at least one."""
        raise OSError(errno.EBADF, "not open for writing")

    def append(self, data: memoryview) -> int:
        """Write at the end, in one step; return how many bytes were taken."""
        raise OSError(errno.EBADF, "not open for appending")

    def read(self, size: int) -> bytes:
        """Return the next bytes of a stream, 1 to `size`, b"" at its end; raise `BlockingIOError` for none yet."""
        raise OSError(errno.EBADF, "not open for reading")

    def write(self, data: bytes) -> int:
        """Give bytes to a stream; return how many were taken; raise `BlockingIOError` while there is no room."""
        raise OSError(errno.EBADF, "not open for writing")

    def ready(self, *, write: bool = False) -> int | None:
        """Return how many bytes could be read (or written) without waiting, 0 if unknown; None if one would wait."""
        return 0

    def watch(self, wake: Wake) -> Wake:
        """Have `wake()` called, from any thread, whenever `ready` may have changed; return what ends that.

        Only files whose `ready` may answer None need this.
        """
        return lambda: None

    def fileno(self) -> int | None:
        """Return the host's descriptor that tells when this is ready; then `watch` is not used. None has none."""
        return None

    def stat(self) -> Stat:
        """Return what is known of it now."""
        return Stat(self.kind)

    def truncate(self, size: int) -> None:
        """Cut it, or fill it up with zeros."""
        raise OSError(errno.EINVAL, "has no size that can be set")

    def set_times(self, accessed_ns: int | None, modified_ns: int | None) -> None:
        """Set its times; None leaves one as it is."""
        raise OSError(errno.ENOTSUP, "has no times that can be set")

    def sync(self) -> None:
        """Return when what was written is safe."""

    def close(self) -> None:
        """Finish: called once, when the program closes it or comes to its end. What it raises, closing answers."""

    def abandon(self) -> None:
        """Finish instead of `close` when the program was ended (a trap, its deadline): what is half done is undone."""
        self.close()


class Node:
    """What can be mounted: a folder with all below it, or a single file. Override what it can do; the rest refuses.

    Attributes:
        resolves: whether it understands `..` and symbolic links in paths itself; else it gets none.
    """

    resolves: bool = False

    @property
    def read_only(self) -> bool:
        """Whether nothing can be changed: then nothing can be moved there either, wherever it comes from."""
        return False

    def open(self, parts: Parts, how: How) -> File | Node:
        """Open what is at a path; a folder is answered as a node of its own, which is closed at the end."""
        raise FileNotFoundError(errno.ENOENT, "not there")

    def stat(self, parts: Parts, *, follow: bool = True) -> Stat:
        """Return what is known of what is at a path."""
        raise FileNotFoundError(errno.ENOENT, "not there")

    def entries(self) -> Iterator[Entry]:
        """Return the names in this folder, without `.` and `..`, in an order that stays the same."""
        raise NotADirectoryError(errno.ENOTDIR, "no folder")

    def make_folder(self, parts: Parts) -> None:
        """Make a folder."""
        raise read_only()

    def remove_folder(self, parts: Parts) -> None:
        """Remove an empty folder."""
        raise read_only()

    def unlink(self, parts: Parts) -> None:
        """Remove a file or a link."""
        raise read_only()

    def rename(self, parts: Parts, to: Node, to_parts: Parts) -> None:
        """Move something in one step, in place of what is there; `EXDEV` if `to` is no place it can go to."""
        raise read_only()

    def link(self, parts: Parts, to: Node, to_parts: Parts, *, follow: bool = False) -> None:
        """Give a file another name."""
        raise OSError(errno.ENOTSUP, "has no hard links")

    def symlink(self, target: str, parts: Parts) -> None:
        """Make a symbolic link."""
        raise OSError(errno.ENOTSUP, "has no symbolic links")

    def read_link(self, parts: Parts) -> str:
        """Return where a symbolic link leads."""
        raise OSError(errno.EINVAL, "no symbolic link")

    def set_times(self, parts: Parts, accessed_ns: int | None, modified_ns: int | None, *, follow: bool = True) -> None:
        """Set the times of what is at a path; None leaves one as it is."""
        raise read_only()

    def close(self) -> None:
        """Let go of what an open folder holds."""


def read_only() -> OSError:
    """Return the error for a change where nothing can be changed."""
    return OSError(errno.EROFS, os.strerror(errno.EROFS))
