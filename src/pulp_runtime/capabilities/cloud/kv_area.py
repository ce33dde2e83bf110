"""What can stand below the mount of a scope: the keys themselves, and folders with a dot in front of their names."""

from __future__ import annotations

import errno
import zlib
from collections.abc import Iterator
from typing import Final

from pulp_runtime.capabilities.cloud.kv_mount import Mount, key_of
from pulp_runtime.ext import Entry, File, How, Kind, Stat
from pulp_runtime.ext.tree import Parts
from pulp_runtime.kv.entry import Listed
from pulp_runtime.kv.folders import Named, names

FOLDER_INODE: Final = 1 << 62
"""Inodes of folders are at least this; no revision is."""


class Area:
    """One of them. Paths are below it; what is not overridden is refused, for it is there but not this way."""

    def __init__(self, mount: Mount) -> None:
        self.mount: Final = mount

    def at(self, parts: Parts) -> tuple[Area, Parts]:
        """Return who answers for a path, and what the path is to it."""
        return self, parts

    def open(self, parts: Parts, how: How) -> File | None:
        """Open what is at a path; None for a folder."""
        raise refused()

    def stat(self, parts: Parts) -> Stat:
        """Return what is known of what is at a path."""
        raise refused()

    def entries(self, parts: Parts) -> Iterator[Entry]:
        """Yield the names in a folder."""
        yield from ()

    def make_folder(self, parts: Parts) -> None:
        """Make a folder."""
        raise refused()

    def remove_folder(self, parts: Parts) -> None:
        """Remove a folder."""
        raise refused()

    def unlink(self, parts: Parts) -> None:
        """Remove a file."""
        raise refused()

    def rename(self, parts: Parts, to_parts: Parts) -> None:
        """Move something within the area."""
        raise refused()

    def set_times(self, parts: Parts, modified_ns: int | None) -> None:
        """Set when something was modified."""
        raise refused()

    # Folders that mirror those of the keys ----------------------------------------------------------------------

    def listed(self, folder: bytes) -> Iterator[Named]:
        """Yield the names that the keys make in a folder."""
        keys, answering = self.mount.keys, self.mount.answering

        def page(prefix: bytes, after: bytes, limit: int) -> list[Listed]:
            with answering:
                return list(keys.page(prefix, after=after, limit=limit))

        return names(page, folder)

    def is_folder(self, key: bytes) -> bool:
        """Tell whether there are keys below one."""
        with self.mount.answering:
            return bool(self.mount.keys.page(key + b"/", limit=1))

    def mirrored(self, parts: Parts) -> Iterator[Entry]:
        """Yield a folder of keys as one of files."""
        for one in self.listed(prefix_of(parts)):
            name = one.name.decode()
            yield folder_entry((*parts, name)) if one.is_folder else Entry(name, Kind.FILE, one.inode)

    def status_of(self, parts: Parts, how: How | None = None) -> Listed | None:
        """Return what is known of the key that a mirrored path stands for; None for a folder.

        Raises:
            OSError: `ENOENT`, there is neither; `EACCES`, it is a folder and `how` changes something.
        """
        key = key_of(parts)
        if key:
            with self.mount.answering:
                status = self.mount.keys.status(key)
            if status is not None:
                if how is not None and how.folder:
                    raise NotADirectoryError(errno.ENOTDIR, "no folder")
                return status
            if not self.is_folder(key):
                raise missing()
        if how is not None and how.changes:
            raise refused()
        return None


def missing() -> OSError:
    """Return what to raise when something is not there."""
    return FileNotFoundError(errno.ENOENT, "not there")


def refused() -> OSError:
    """Return what to raise when something is there, but not for this."""
    return PermissionError(errno.EACCES, "not this way")


def folder_stat(parts: Parts, device: int = 0) -> Stat:
    """Return what is known of a folder."""
    return Stat(Kind.FOLDER, inode=_folder_inode(parts), device=device)


def folder_entry(parts: Parts) -> Entry:
    """Return a folder as an entry of the one above it."""
    return Entry(parts[-1], Kind.FOLDER, _folder_inode(parts))


def _folder_inode(parts: Parts) -> int:
    return FOLDER_INODE | zlib.crc32("/".join(parts).encode())


def prefix_of(parts: Parts) -> bytes:
    """Return what the keys in a folder begin with."""
    return key_of(parts) + b"/" if parts else b""
