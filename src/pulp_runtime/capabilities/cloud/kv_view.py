"""The keys of a scope as files see them: as they are, or through a transaction."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import Final, Protocol

from pulp_runtime.capabilities.cloud.kv_backend import Transacting
from pulp_runtime.capabilities.cloud.kv_mount import Held, Mount
from pulp_runtime.kv.entry import BATCH, PAGE, Entry, Listed


class View(Protocol):
    """What files need of the keys. Raises `OSError`."""

    def entry(self, key: bytes) -> Entry | None:
        """Return what is at a key."""

    def status(self, key: bytes) -> Listed | None:
        """Return what is known of it."""

    def page(self, prefix: bytes, after: bytes, limit: int) -> Sequence[Listed]:
        """Return a page of keys."""

    def put(self, key: bytes, value: bytes, expect: int | None, owner: object) -> int:
        """Store a value."""

    def append(self, key: bytes, data: bytes, expect: int | None) -> int:
        """Add to one."""

    def delete(self, key: bytes, expect: int | None) -> None:
        """Delete one."""

    def rename(self, old: bytes, new: bytes) -> None:
        """Move one."""

    def move(self, old: bytes, new: bytes) -> None:
        """Move a folder."""

    def reserve(self, key: bytes, owner: object) -> bool:
        """Let only `owner` create a key."""

    def release(self, key: bytes, owner: object) -> None:
        """Let others create it again."""

    def held(self, key: bytes) -> Sequence[Held]:
        """Return the revisions of a key that the program holds open."""


class AsTheyAre:
    """The keys themselves: a change is one for everybody. Implements `View`."""

    def __init__(self, mount: Mount) -> None:
        self._mount: Final = mount
        self._keys: Final = mount.keys
        self._answering: Final = mount.answering

    def entry(self, key: bytes) -> Entry | None:
        """See `View.entry`."""
        with self._answering:
            return self._keys.get(key)

    def status(self, key: bytes) -> Listed | None:
        """See `View.status`."""
        with self._answering:
            return self._keys.status(key)

    def page(self, prefix: bytes, after: bytes, limit: int) -> Sequence[Listed]:
        """See `View.page`."""
        with self._answering:
            return self._keys.page(prefix, after=after, limit=limit)

    def put(self, key: bytes, value: bytes, expect: int | None, owner: object) -> int:
        """See `View.put`; when the key disappears stays as it was set."""
        size = len(key) + len(value)
        self._mount.room(size)
        with self._answering, self._mount.waiting(size):
            return self._keys.put(key, value, expect=expect, ttl_seconds=None, owner=owner)

    def append(self, key: bytes, data: bytes, expect: int | None) -> int:
        """See `View.append`."""
        size = len(key) + len(data)
        self._mount.room(size)
        with self._answering, self._mount.waiting(size):
            return self._keys.append(key, data, expect=expect)

    def delete(self, key: bytes, expect: int | None) -> None:
        """See `View.delete`."""
        with self._answering, self._mount.waiting(0):
            self._keys.delete(key, expect=expect)

    def rename(self, old: bytes, new: bytes) -> None:
        """See `View.rename`."""
        with self._answering, self._mount.waiting(0):
            self._keys.rename(old, new)

    def move(self, old: bytes, new: bytes) -> None:
        """See `View.move`."""
        with self._answering, self._mount.run.blocking():
            self._keys.move(old, new)

    def reserve(self, key: bytes, owner: object) -> bool:
        """See `View.reserve`."""
        with self._answering:
            return self._keys.reserve(key, owner)

    def release(self, key: bytes, owner: object) -> None:
        """See `View.release`."""
        self._keys.release(key, owner)

    def held(self, key: bytes) -> Sequence[Held]:
        """See `View.held`."""
        return self._mount.held.get(key, ())


class Isolated:
    """The keys through a transaction: nobody sees a change before it commits. Implements `View`."""

    def __init__(self, mount: Mount, transaction: Transacting) -> None:
        self._answering: Final = mount.answering
        self._transaction: Final = transaction
        self._mount: Final = mount
        self._reserved: Final[dict[bytes, object]] = {}
        self._written_bytes = 0

    def entry(self, key: bytes) -> Entry | None:
        """See `View.entry`."""
        with self._answering:
            return self._transaction.entry(key)

    def status(self, key: bytes) -> Listed | None:
        """See `View.status`."""
        entry = self.entry(key)
        return None if entry is None else Listed(key, len(entry.value), *entry[1:])

    def page(self, prefix: bytes, after: bytes, limit: int) -> Sequence[Listed]:
        """See `View.page`."""
        with self._answering:
            return self._transaction.listing(prefix, after=after, limit=limit)

    def put(self, key: bytes, value: bytes, expect: int | None, owner: object) -> int:
        """See `View.put`."""
        holder = self._reserved.get(key)
        if holder is not None and holder is not owner:
            raise OSError(errno.EBUSY, "the key is being created")
        size = len(value)
        self._mount.take(size)
        try:
            with self._answering:
                self._transaction.put(key, value, ttl_seconds=None)
        except OSError:
            self._mount.take(-size)
            raise
        self._written_bytes += size
        return 0

    def end(self) -> None:
        """Give back the room that what it has written took."""
        self._mount.take(-self._written_bytes)
        self._written_bytes = 0

    def append(self, key: bytes, data: bytes, expect: int | None) -> int:
        """See `View.append`."""
        entry = self.entry(key)
        return self.put(key, data if entry is None else entry.value + data, expect, None)

    def delete(self, key: bytes, expect: int | None) -> None:
        """See `View.delete`."""
        with self._answering:
            if not self._transaction.delete(key):
                raise FileNotFoundError(errno.ENOENT, "not there")

    def rename(self, old: bytes, new: bytes) -> None:
        """See `View.rename`."""
        entry = self.entry(old)
        if entry is None:
            raise FileNotFoundError(errno.ENOENT, "not there")
        if old != new:
            if self.page(new + b"/", b"", 1):
                raise IsADirectoryError(errno.EISDIR, "a folder")
            self.put(new, entry.value, None, None)
            self.delete(old, None)

    def move(self, old: bytes, new: bytes) -> None:
        """See `View.move`."""
        keys: list[bytes] = []
        while part := self.page(old, keys[-1] if keys else b"", PAGE):
            keys += [listed.key for listed in part]
            if len(keys) > BATCH:
                raise OSError(errno.EBUSY, f"at most {BATCH} keys are moved at once")
        if not keys:
            raise FileNotFoundError(errno.ENOENT, "not there")
        if self.page(new, b"", 1):
            raise IsADirectoryError(errno.EISDIR, "the folder is not empty")
        for key in keys:
            self.rename(key, new + key[len(old) :])

    def reserve(self, key: bytes, owner: object) -> bool:
        """See `View.reserve`."""
        return self.status(key) is None and self._reserved.setdefault(key, owner) is owner

    def release(self, key: bytes, owner: object) -> None:
        """See `View.release`."""
        if self._reserved.get(key) is owner:
            del self._reserved[key]

    def held(self, key: bytes) -> Sequence[Held]:
        """See `View.held`: a transaction looks after that itself."""
        return ()
