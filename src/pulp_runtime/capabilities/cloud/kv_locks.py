"""`.lock/<key>`: who creates the file has the lock, until it is closed, removed, or the run is over."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Final

from pulp_runtime.capabilities.cloud.kv_area import Area, folder_entry, folder_stat, missing, prefix_of, refused
from pulp_runtime.capabilities.cloud.kv_mount import Mount, key_of
from pulp_runtime.ext import Bytes, Entry, File, How, Kind, Outcome, Stat
from pulp_runtime.ext.tree import Parts

NOTE_BYTES: Final = 4_096
"""Most bytes that are written into a lock."""


class Locks(Area):
    """The locks of a scope. They are in memory only, of the host or the cluster, and have nothing to do with values."""

    def __init__(self, mount: Mount) -> None:
        super().__init__(mount)
        self._own: Final[dict[bytes, Lock]] = {}
        self._ends = False

    def open(self, parts: Parts, how: How) -> File | None:
        """See `Area.open`; to create one is to take it, `EEXIST` while somebody has it."""
        key = key_of(parts)
        if key and how.create and not how.folder:
            if not how.exclusive:
                raise refused()
            return self._take(key, how)
        owner = self.mount.keys.locks.owner(key) if key else None
        if owner is not None:
            if how.changes:
                raise refused()
            if how.folder:
                raise NotADirectoryError(errno.ENOTDIR, "no folder")
            return Bytes(bytes(owner.note) if isinstance(owner, Lock) else b"")
        if not self._is_folder(key):
            raise missing()
        if how.changes:
            raise refused()
        return None

    def _take(self, key: bytes, how: How) -> File:
        lock = Lock(self, key, how)
        with self.mount.answering:
            if not self.mount.keys.locks.acquire(key, lock):
                raise FileExistsError(errno.EEXIST, "somebody has the lock")
        self._own[key] = lock
        if not self._ends:
            self._ends = True
            self.mount.run.on_end(self._end)
        return lock

    def _is_folder(self, key: bytes) -> bool:
        return not key or bool(self.mount.keys.locks.keys(key + b"/"))

    def release(self, key: bytes, lock: Lock) -> None:
        """Let go of a lock that has been taken here."""
        self.mount.keys.locks.release(key, lock)
        if self._own.get(key) is lock:
            del self._own[key]

    def _end(self, _outcome: Outcome) -> None:
        """Let go of whatever the run still has, however it ended."""
        for key, lock in list(self._own.items()):
            self.release(key, lock)

    def stat(self, parts: Parts) -> Stat:
        """See `Area.stat`; a lock is there while somebody has it."""
        key = key_of(parts)
        device = self.mount.granted.device
        owner = self.mount.keys.locks.owner(key) if key else None
        if owner is not None:
            return Stat(Kind.FILE, size=len(owner.note) if isinstance(owner, Lock) else 0, device=device)
        if not self._is_folder(key):
            raise missing()
        return folder_stat(parts, device)

    def entries(self, parts: Parts) -> Iterator[Entry]:
        """See `Area.entries`."""
        prefix = prefix_of(parts)
        seen = set()
        for key in self.mount.keys.locks.keys(prefix):
            name, inside, _rest = key[len(prefix) :].decode().partition("/")
            if name not in seen:
                seen.add(name)
                yield folder_entry((*parts, name)) if inside else Entry(name, Kind.FILE)

    def unlink(self, parts: Parts) -> None:
        """See `Area.unlink`; only who has a lock removes it."""
        key = key_of(parts)
        lock = self._own.get(key)
        if lock is None:
            raise refused() if self.mount.keys.locks.owner(key) is not None else missing()
        self.release(key, lock)


class Lock(File):
    """A lock that is held. What is written into it, such as who has it, others read; it goes with the lock.

    Attributes:
        note: what has been written.
    """

    seekable = True

    def __init__(self, locks: Locks, key: bytes, how: How) -> None:
        self._locks: Final = locks
        self._key: Final = key
        self._how: Final = how
        self.note: Final = bytearray()

    def read_at(self, offset: int, into: memoryview) -> int:
        """See `File.read_at`."""
        piece = self.note[offset : offset + len(into)]
        into[: len(piece)] = piece
        return len(piece)

    def write_at(self, offset: int, data: memoryview) -> int:
        """See `File.write_at`."""
        if not self._how.write:
            raise OSError(errno.EBADF, "not open for writing")
        if offset + len(data) > NOTE_BYTES:
            raise OSError(errno.EFBIG, f"a lock holds at most {NOTE_BYTES} bytes")
        self.note.extend(bytes(max(0, offset - len(self.note))))
        self.note[offset : offset + len(data)] = data
        return len(data)

    def append(self, data: memoryview) -> int:
        """See `File.append`."""
        return self.write_at(len(self.note), data)

    def truncate(self, size: int) -> None:
        """See `File.truncate`."""
        if not self._how.write or size > len(self.note):
            raise OSError(errno.EINVAL, "what is written into a lock is not longer than it is")
        del self.note[size:]

    def stat(self) -> Stat:
        """See `File.stat`."""
        return Stat(Kind.FILE, size=len(self.note), device=self._locks.mount.granted.device)

    def close(self) -> None:
        """See `File.close`: let go."""
        self._locks.release(self._key, self)
