"""What is known of a descriptor, and what can be set: `fd_fdstat_*`, `fd_filestat_*`, `fd_prestat_*` and others."""

from __future__ import annotations

import time
from struct import Struct
from typing import Final

from pulp_runtime.ext.tree import Stat
from pulp_runtime.wasi import right
from pulp_runtime.wasi.descriptor import Descriptor
from pulp_runtime.wasi.errno import Refused, WasiErrno
from pulp_runtime.wasi.listing import Listing
from pulp_runtime.wasi.real import RealFolder
from pulp_runtime.wasi.real_file import RealFile
from pulp_runtime.wasi.state import PAIR, State
from pulp_runtime.wasi.streams import MAX_POSITION

FDSTAT: Final = Struct("<BxH4xQQ")
FILESTAT: Final = Struct("<QQB7xQQQQQ")
_LONG: Final = (1 << 64) - 1
_ADVICE: Final = 6

ACCESSED, ACCESSED_NOW, MODIFIED, MODIFIED_NOW = 1, 2, 4, 8


class Attributes(State):
    """The functions about descriptors."""

    def fd_close(self, fd: int) -> None:
        """Close; the number is free whatever closing answers."""
        self.descriptors.take(fd).close()

    def fd_renumber(self, fd: int, to: int) -> None:
        """Move a descriptor to the number of another one, which is closed."""
        self.descriptors.get(to)
        self.descriptors.get(fd)
        if fd != to:
            replaced = self.descriptors.put(to, self.descriptors.take(fd))
            replaced.close()

    def fd_fdstat_get(self, fd: int, answer: int) -> None:
        """Tell what a descriptor is and may be used for."""
        found = self.descriptors.get(fd)
        FDSTAT.pack_into(self.view(answer, 24), 0, found.kind, found.flags, found.rights, found.inheriting)

    def fd_fdstat_set_flags(self, fd: int, flags: int) -> None:
        """Set whether it appends, waits, and is durable."""
        found = self._has(fd, right.SET_FLAGS)
        if flags & ~right.FLAGS:
            raise Refused(WasiErrno.INVAL, "no such flag")
        found.flags = flags

    def fd_fdstat_set_rights(self, fd: int, base: int, inheriting: int) -> None:
        """Give up rights; none can be had back."""
        found = self.descriptors.get(fd)
        if base & ~found.rights or inheriting & ~found.inheriting:
            raise Refused(WasiErrno.NOTCAPABLE, "rights it has not")
        found.rights, found.inheriting = base, inheriting

    def fd_filestat_get(self, fd: int, answer: int) -> None:
        """Tell what is known of the file or folder."""
        found = self._has(fd, right.STAT)
        into = self.view(answer, 64)
        if found.node is not None:
            fill_filestat(into, found.node.stat(()))
        elif found.file is not None:
            fill_filestat(into, found.file.stat())

    def fd_filestat_set_size(self, fd: int, size: int) -> None:
        """Cut a file, or fill it up with zeros."""
        found, file = self.file(fd)
        self._sizeable(found, right.SET_SIZE, size)
        file.truncate(size)

    def fd_allocate(self, fd: int, offset: int, length: int) -> None:
        """Have room for what will be written; a shorter file grows."""
        found, file = self.file(fd)
        self._sizeable(found, right.ALLOCATE, offset + length)
        if not length:
            raise Refused(WasiErrno.INVAL, "no length")
        if isinstance(file, RealFile):
            file.allocate(offset, length)
        elif file.stat().size < offset + length:
            file.truncate(offset + length)

    def _sizeable(self, found: Descriptor, needed: int, size: int) -> None:
        if not found.seekable or not found.rights & right.WRITE:
            raise Refused(WasiErrno.INVAL if found.seekable else WasiErrno.SPIPE, "not open for writing")
        if not found.rights & needed:
            raise Refused(WasiErrno.NOTCAPABLE)
        if size > MAX_POSITION:
            raise Refused(WasiErrno.FBIG)

    def fd_filestat_set_times(self, fd: int, accessed: int, modified: int, flags: int) -> None:
        """Set the times of the file or folder."""
        found = self._has(fd, right.SET_TIMES)
        first, second = times(accessed, modified, flags)
        if found.node is not None:
            found.node.set_times((), first, second)
        elif found.file is not None:
            found.file.set_times(first, second)

    def fd_advise(self, fd: int, offset: int, length: int, advice: int) -> None:
        """Take note of how a file will be used: nothing follows from it."""
        found, _ = self.file(fd)
        if not found.seekable:
            raise Refused(WasiErrno.SPIPE)
        if not found.rights & right.ADVISE:
            raise Refused(WasiErrno.NOTCAPABLE)
        if advice >= _ADVICE or offset > MAX_POSITION or length > MAX_POSITION:
            raise Refused(WasiErrno.INVAL)

    def fd_sync(self, fd: int) -> None:
        """Return when what was written is safe."""
        self._sync(fd, right.SYNC)

    def fd_datasync(self, fd: int) -> None:
        """Return when what was written is safe."""
        self._sync(fd, right.DATASYNC)

    def _sync(self, fd: int, needed: int) -> None:
        found = self._has(fd, needed)
        durable = found.node if isinstance(found.node, RealFolder) else found.file
        if durable is not None:  # any other folder is as durable as its files
            with self.machine.blocking():
                durable.sync()

    def fd_prestat_get(self, fd: int, answer: int) -> None:
        """Tell how long the name is that a folder was given under; `BADF` for any other descriptor."""
        PAIR.pack_into(self.view(answer, 8), 0, 0, len(self._preopen(fd)))

    def fd_prestat_dir_name(self, fd: int, buffer: int, length: int) -> None:
        """Write that name."""
        name = self._preopen(fd)
        if length < len(name):
            raise Refused(WasiErrno.NAMETOOLONG)
        self.view(buffer, len(name))[:] = name

    def fd_readdir(self, fd: int, buffer: int, length: int, cookie: int, used: int) -> None:
        """Write names in a folder, as many as there is room for."""
        found, node = self.folder(fd, right.READDIR)
        into = self.view(buffer, length)
        answer = self.view(used, 4)
        if found.listing is None:
            found.listing = Listing(node, self.machine.seconds_left)
        answer[:] = found.listing.fill(cookie, into).to_bytes(4, "little")

    def _preopen(self, fd: int) -> bytes:
        name = self.descriptors.get(fd).preopen
        if name is None:
            raise Refused(WasiErrno.BADF)
        return name

    def _has(self, fd: int, needed: int) -> Descriptor:
        found = self.descriptors.get(fd)
        if not found.rights & needed:
            raise Refused(WasiErrno.NOTCAPABLE)
        return found


def fill_filestat(into: memoryview, stat: Stat) -> None:
    """Write what is known of something, in preview 1's shape; a time before 1970 is 1970."""
    FILESTAT.pack_into(
        into,
        0,
        stat.device & _LONG,
        stat.inode & _LONG,
        stat.kind,
        stat.links,
        stat.size,
        max(0, stat.accessed_ns),
        max(0, stat.modified_ns),
        max(0, stat.changed_ns),
    )


def times(accessed: int, modified: int, flags: int) -> tuple[int | None, int | None]:
    """Return the times to be set, None for one to be left; `INVAL` for flags that contradict each other."""
    if flags & ~15 or flags & 3 == 3 or flags & 12 == 12:
        raise Refused(WasiErrno.INVAL, "a time and `now`")
    if max(accessed, modified) > MAX_POSITION:
        raise Refused(WasiErrno.INVAL, "no such time")
    now = time.time_ns()
    return (
        now if flags & ACCESSED_NOW else accessed if flags & ACCESSED else None,
        now if flags & MODIFIED_NOW else modified if flags & MODIFIED else None,
    )
