"""Open values: a snapshot that is read, a value that is put when it is closed, one that is appended to."""

from __future__ import annotations

import errno
import time
from typing import TYPE_CHECKING, Final

from pulp_runtime.ext import Bytes, File, How, Kind, Stat
from pulp_runtime.kv.entry import VALUE_BYTES, Entry, Listed

if TYPE_CHECKING:
    from pulp_runtime.capabilities.cloud.kv_keys import Keys

TOUCH_NS: Final = 10_000_000_000
"""A time that is set and is no further from now than this means: now."""


class Snapshot(Bytes):
    """A value that is read: as it was when it was opened, whatever others do."""

    def __init__(self, keys: Keys, entry: Entry) -> None:
        super().__init__(entry.value)
        keys.mount.take(len(entry.value))
        self._keys: Final = keys
        self._entry: Final = entry

    def stat(self) -> Stat:
        """See `File.stat`."""
        return stat_of(self._entry, len(self._entry.value), self._keys.mount.granted.device)

    def close(self) -> None:
        """See `File.close`."""
        self._keys.mount.take(-len(self._entry.value))


class Value(File):
    """A value that is written: put whole, in one step, when it is closed; left as it was if that never happens.

    Args:
        keys: where.
        key: which.
        entry: what is there.
        how: `write`, `read` and `truncate` count.
        owner: for whom the key has been reserved, if it has been.
    """

    seekable = True

    def __init__(self, keys: Keys, key: bytes, entry: Entry | None, how: How, owner: object = None) -> None:
        self._keys: Final = keys
        self.key = key
        self._entry = entry
        self._reads: Final = how.read
        self._writes: Final = how.write
        self._owner = owner
        self._changed = how.truncate or entry is None
        self._data: bytes | bytearray = b"" if how.truncate or entry is None else entry.value
        self._counted = 0
        self._attached = False
        try:
            self._count(len(self._data))
        except OSError:
            self._finish()
            raise
        # What was held open when this was opened counts, even if it is closed first, as when a program just exits.
        self._held: Final = tuple(keys.view.held(key))
        keys.attach(self)
        self._attached = True

    def _count(self, size: int) -> None:
        self._keys.mount.take(size - self._counted)
        self._counted = size

    def read_at(self, offset: int, into: memoryview) -> int:
        """See `File.read_at`: what has been written here is read here."""
        if not self._reads:
            raise OSError(errno.EBADF, "not open for reading")
        piece = self._data[offset : offset + len(into)]
        into[: len(piece)] = piece
        return len(piece)

    def write_at(self, offset: int, data: memoryview) -> int:
        """See `File.write_at`; `EFBIG` past 16 MiB."""
        if not self._writes:
            raise OSError(errno.EBADF, "not open for writing")
        if offset >= VALUE_BYTES and len(data):
            raise OSError(errno.EFBIG, f"a value has at most {VALUE_BYTES} bytes")
        taken = min(len(data), VALUE_BYTES - offset)
        buffer = self._buffer(offset + taken)
        buffer[offset : offset + taken] = data[:taken]
        self._changed = True
        return taken

    def append(self, data: memoryview) -> int:
        """See `File.append`: a program that says so after opening. It is put at the end like all else."""
        return self.write_at(len(self._data), data)

    def _buffer(self, size: int) -> bytearray:
        """Return what is written to, with at least so many bytes."""
        if size > len(self._data):
            self._keys.mount.room(size, charge=False)
            self._count(size)
        if isinstance(self._data, bytes):
            self._data = bytearray(self._data)
        if size > len(self._data):
            self._data.extend(bytes(size - len(self._data)))
        return self._data

    def truncate(self, size: int) -> None:
        """See `File.truncate`; `EFBIG` past 16 MiB."""
        if not self._writes:
            raise OSError(errno.EINVAL, "not open for writing")
        if size > VALUE_BYTES:
            raise OSError(errno.EFBIG, f"a value has at most {VALUE_BYTES} bytes")
        buffer = self._buffer(size)
        del buffer[size:]
        self._count(size)
        self._changed = True

    def set_times(self, accessed_ns: int | None, modified_ns: int | None) -> None:
        """See `File.set_times`: now is when it is put."""
        now_or_never(modified_ns)
        self._changed = True

    def stat(self) -> Stat:
        """See `File.stat`."""
        return stat_of(self._entry, len(self._data), self._keys.mount.granted.device)

    def sync(self) -> None:
        """See `File.sync`: put it now, and again when it is closed if it is written to after that."""
        if self._put():
            self._entry = self._keys.view.entry(self.key)

    def _put(self) -> bool:
        """Put what has been changed; answer whether anything has."""
        if not self._changed or not self._attached:
            return False
        held = self._held or self._keys.view.held(self.key)
        expect = 0 if self._owner is not None else held[0].revision if held else None
        revision = self._keys.view.put(self.key, bytes(self._data), expect, self._owner)
        for one in held:
            one.revision = revision
        self._changed = False
        self._unreserve()
        return True

    def detach(self) -> None:
        """Put nothing any more: the key has been deleted by the program itself."""
        self._attached = False
        self._unreserve()

    def _unreserve(self) -> None:
        owner, self._owner = self._owner, None
        if owner is not None:
            self._keys.view.release(self.key, owner)

    def close(self) -> None:
        """See `File.close`: put it."""
        try:
            self._put()
        finally:
            self._finish()

    def abandon(self) -> None:
        """See `File.abandon`: the old value stays."""
        self._finish()

    def _finish(self) -> None:
        self._unreserve()
        self._count(0)
        self._data = b""
        if self._attached:
            self._attached = False
            self._keys.detach(self)


class Growing(File):
    """A value that is appended to: each write is a change of its own, whoever else appends at the same time."""

    seekable = True

    def __init__(self, keys: Keys, key: bytes, how: How) -> None:
        self._keys: Final = keys
        self._key: Final = key
        self._reads: Final = how.read
        self._seen: Entry | None = None

    def read_at(self, offset: int, into: memoryview) -> int:
        """See `File.read_at`: a snapshot, taken when it is first read after a write."""
        if not self._reads:
            raise OSError(errno.EBADF, "not open for reading")
        if self._seen is None:
            entry = self._keys.view.entry(self._key)
            if entry is None:
                return 0
            self._keys.mount.take(len(entry.value))
            self._seen = entry
        piece = self._seen.value[offset : offset + len(into)]
        into[: len(piece)] = piece
        return len(piece)

    def write_at(self, offset: int, data: memoryview) -> int:
        """See `File.write_at`: wherever that is, it goes to the end."""
        return self.append(data)

    def append(self, data: memoryview) -> int:
        """See `File.append`; `EFBIG` for a value that would pass 16 MiB."""
        held = self._keys.view.held(self._key)
        revision = self._keys.view.append(self._key, bytes(data), held[0].revision if held else None)
        for one in held:
            one.revision = revision
        self._forget()
        return len(data)

    def _forget(self) -> None:
        if self._seen is not None:
            self._keys.mount.take(-len(self._seen.value))
            self._seen = None

    def truncate(self, size: int) -> None:
        """See `File.truncate`: not of what only grows."""
        raise OSError(errno.ENOTSUP, "open for appending")

    def set_times(self, accessed_ns: int | None, modified_ns: int | None) -> None:
        """See `File.set_times`: now is a change of its own."""
        now_or_never(modified_ns)
        self.append(memoryview(b""))

    def stat(self) -> Stat:
        """See `File.stat`."""
        status = self._keys.view.status(self._key)
        return Stat(Kind.FILE) if status is None else stat_of(status, status.size, self._keys.mount.granted.device)

    def close(self) -> None:
        """See `File.close`."""
        self._forget()


def stat_of(entry: Entry | Listed | None, size: int, device: int) -> Stat:
    """Return what `stat` says of a value: `ctim` carries the revision."""
    if entry is None:
        return Stat(Kind.FILE, size=size, device=device)
    modified_ns = entry.modified_ns
    return Stat(Kind.FILE, size, entry.inode, device, 1, modified_ns, modified_ns, entry.revision)


def now_or_never(modified_ns: int | None) -> None:
    """Return if a time to be set is about now; `ENOTSUP` for any other: a value was modified when it was put."""
    if modified_ns is None or abs(modified_ns - time.time_ns()) > TOUCH_NS:
        raise OSError(errno.ENOTSUP, "the time of a value is when it was put")
