"""An open file of the host's disk."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, Final

from pulp_runtime.ext.tree import File, Kind, Stat
from pulp_runtime.files.atomic import sync
from pulp_runtime.files.quota import disk_bytes

if TYPE_CHECKING:
    from pulp_runtime.wasi.real import Mount

_APPEND: Final = getattr(os, "RWF_APPEND", 0)
_KINDS: Final = {
    stat.S_IFREG: Kind.FILE,
    stat.S_IFDIR: Kind.FOLDER,
    stat.S_IFLNK: Kind.LINK,
    stat.S_IFCHR: Kind.DEVICE,
    stat.S_IFSOCK: Kind.SOCKET,
}


def kind_of(mode: int) -> Kind:
    """Return what the system's mode bits say something is."""
    return _KINDS.get(stat.S_IFMT(mode), Kind.UNKNOWN)


def host_stat(found: os.stat_result) -> Stat:
    """Return what the system knows of something, in the tree's terms."""
    return Stat(
        kind_of(found.st_mode),
        found.st_size,
        found.st_ino,
        found.st_dev,
        found.st_nlink,
        found.st_atime_ns,
        found.st_mtime_ns,
        found.st_ctime_ns,
    )


class RealFile(File):
    """A regular file that is open.

    Args:
        handle: its descriptor, closed with it.
        size: how long it is.
        mount: where it is: its quota counts what is written, and a read-only one changes no times either.
    """

    kind = Kind.FILE
    seekable = True

    def __init__(self, handle: int, size: int, mount: Mount) -> None:
        self._handle: Final = handle
        self._size = size
        self._mount: Final = mount
        self._quota: Final = mount.quota

    def read_at(self, offset: int, into: memoryview) -> int:
        """See `File.read_at`."""
        return os.preadv(self._handle, (into,), offset)

    def write_at(self, offset: int, data: memoryview) -> int:
        """See `File.write_at`."""
        if self._quota is not None:
            self._grow(offset + len(data))
        return os.pwrite(self._handle, data, offset)

    def append(self, data: memoryview) -> int:
        """See `File.append`."""
        if self._quota is not None:
            self._grow(os.fstat(self._handle).st_size + len(data))
        if _APPEND:
            return os.pwritev(self._handle, (data,), 0, _APPEND)
        return os.pwrite(self._handle, data, os.fstat(self._handle).st_size)

    def _grow(self, end: int) -> None:
        """Have the quota let the file be longer, before it is."""
        if end <= self._size or self._quota is None:
            return
        now = max(self._size, os.fstat(self._handle).st_size)
        more = disk_bytes(end) - disk_bytes(now)
        if more > 0:
            self._quota.check(more)
            self._quota.charge(more)
        self._size = max(end, now)

    def stat(self) -> Stat:
        """See `File.stat`."""
        return host_stat(os.fstat(self._handle))

    def truncate(self, size: int) -> None:
        """See `File.truncate`."""
        self._grow(size)
        os.ftruncate(self._handle, size)
        self._size = size

    def allocate(self, offset: int, length: int) -> None:
        """Have the disk give the room for these bytes; a file that ends before them grows."""
        self._grow(offset + length)
        try:
            os.posix_fallocate(self._handle, offset, length)
        except AttributeError:  # not every system has it
            raise OSError(errno.ENOTSUP, "cannot be asked for here") from None

    def set_times(self, accessed_ns: int | None, modified_ns: int | None) -> None:
        """See `File.set_times`."""
        self._mount.writable()
        found = os.fstat(self._handle)
        os.utime(
            self._handle,
            ns=(
                found.st_atime_ns if accessed_ns is None else accessed_ns,
                found.st_mtime_ns if modified_ns is None else modified_ns,
            ),
        )

    def sync(self) -> None:
        """See `File.sync`."""
        sync(self._handle)

    def close(self) -> None:
        """See `File.close`."""
        os.close(self._handle)
