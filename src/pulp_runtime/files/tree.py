"""Walk a tree of folders with two descriptors, however deep it is and whoever moves it meanwhile."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

_READ: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


class Found(NamedTuple):
    """An entry of a folder.

    Attributes:
        folder: descriptor of the folder it stands in, good until the walk goes on.
        name: its name there.
    """

    folder: int
    name: bytes

    def status(self) -> os.stat_result | None:
        """Return what the system knows of it, a link not followed; None if it is gone."""
        try:
            return os.stat(self.name, dir_fd=self.folder, follow_symlinks=False)
        except FileNotFoundError:
            return None


def walk(top: int) -> Iterator[Found]:
    """Yield every entry below a folder, what is inside a folder before the folder. Links are entries, not followed.

    A folder that cannot be read, or is gone, is an entry without content. On its way up the walk opens `..` and makes
    sure that it is the folder it came from.

    Args:
        top: descriptor of the folder, good for `dir_fd`.

    Raises:
        OSError: `ESTALE`, a folder was moved while the walk was in it; or the top cannot be read.
    """
    folder = os.open(b".", _READ, dir_fd=top)
    above: list[tuple[bytes, tuple[int, int], list[bytes]]] = []
    inner: list[bytes] = []
    try:
        yield from _entries(folder, inner)
        while True:
            if inner:
                name = inner.pop()
                try:
                    entered = os.open(name, _READ, dir_fd=folder)
                except OSError:
                    yield Found(folder, name)
                    continue
                above.append((name, _identity(folder), inner))
                os.close(folder)
                folder, inner = entered, []
                yield from _entries(folder, inner)
            elif above:
                name, outer, inner = above.pop()
                left = os.open(b"..", _READ, dir_fd=folder)
                os.close(folder)
                folder = left
                if _identity(folder) != outer:
                    raise OSError(errno.ESTALE, "a folder was moved meanwhile")
                yield Found(folder, name)
            else:
                return
    finally:
        os.close(folder)


def _entries(folder: int, inner: list[bytes]) -> Iterator[Found]:
    """Yield what is no folder, and note the names of folders in `inner`."""
    with os.scandir(folder) as entries:
        for entry in entries:
            name = os.fsencode(entry.name)
            if entry.is_dir(follow_symlinks=False):
                inner.append(name)
            else:
                yield Found(folder, name)


def _identity(folder: int) -> tuple[int, int]:
    status = os.fstat(folder)
    return status.st_dev, status.st_ino


def remove(
    folder: int,
    name: bytes,
    *,
    removed: Callable[[os.stat_result], None] = lambda _status: None,
    pause: Callable[[], None] = lambda: None,
) -> None:
    """Remove a folder and everything in it; a link in it is removed, not followed.

    Args:
        folder: descriptor of the folder it stands in.
        name: of the folder to remove.
        removed: told of every entry that is gone.
        pause: asked before every entry; what it raises ends the work half done.

    Raises:
        OSError: an entry could not be removed, or a new one appeared meanwhile.
    """
    top = os.open(name, _READ, dir_fd=folder)
    try:
        for found in walk(top):
            pause()
            status = found.status()
            if status is not None:
                _remove(found.folder, found.name, status)
                removed(status)
    finally:
        os.close(top)
    status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    _remove(folder, name, status)
    removed(status)


def _remove(folder: int, name: bytes, status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        os.rmdir(name, dir_fd=folder)
    else:
        os.unlink(name, dir_fd=folder)
