"""Several changes that happen together or not at all."""

from __future__ import annotations

from types import TracebackType
from typing import Final, Self

from pulp_runtime.kv.cache import Cache
from pulp_runtime.kv.entry import SECOND_NS, Change, Entry
from pulp_runtime.kv.fault import Conflict, KeyMissing
from pulp_runtime.kv.tables import Tables


class Changing:
    """Changes in progress, under the store's lock. A context manager: its end commits, an exception rolls back.

    A key whose time is over is not there. Whoever looks at one here deletes it, as a change with a revision of its own.

    Attributes:
        changes: what has been done so far, in order.
        revision: the last one given out.
        now_ns: when it all happens.
    """

    def __init__(self, tables: Tables, cache: Cache, revision: int, now_ns: int) -> None:
        self.changes: Final[list[Change]] = []
        self.revision = revision
        self.now_ns: Final = now_ns
        self._tables: Final = tables
        self._cache: Final = cache
        self._after: Final[dict[bytes, Entry | None]] = {}

    def __enter__(self) -> Self:
        self._tables.begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _stack: TracebackType | None
    ) -> None:
        if kind is not None:
            self._tables.rollback()
            return
        try:
            self._tables.commit(self.revision)
        except BaseException:
            self._tables.rollback()
            raise
        for key, entry in self._after.items():
            if entry is None:
                self._cache.forget(key)
            else:
                self._cache.keep(key, entry)

    def look(self, key: bytes, *, whole: bool = False) -> Entry | None:
        """Return what is at a key by now, None for nothing; with its value only if `whole`."""
        if key in self._after:
            entry = self._after[key]
        else:
            entry = self._cache.find(key) or (self._tables.find(key) if whole else self._tables.know(key))
        if entry is not None and 0 < entry.expires_ns <= self.now_ns:
            self.delete(key)
            return None
        return entry

    def expected(self, key: bytes, expect: int | None, *, whole: bool = False) -> Entry | None:
        """Return the same if its revision is `expect`, 0 for nothing; None expects nothing in particular.

        Raises:
            Conflict: it is not.
        """
        entry = self.look(key, whole=whole)
        found = 0 if entry is None else entry.revision
        if expect is not None and expect != found:
            raise Conflict(f"the revision is {found}, not {expect}", found)
        return entry

    def put(self, key: bytes, value: bytes, there: Entry | None, expires_ns: int = 0) -> Entry:
        """Store a value in place of `there`."""
        revision = self._next(key, deleted=False)
        entry = Entry(value, revision, self.now_ns, expires_ns, revision if there is None else there.inode)
        self._tables.put(key, entry)
        self._after[key] = entry
        return entry

    def delete(self, key: bytes) -> None:
        """Delete a key that is there."""
        self._next(key, deleted=True)
        self._tables.delete(key)
        self._after[key] = None

    def rename(self, old: bytes, new: bytes) -> None:
        """Move an entry; what is at its new key is replaced.

        Raises:
            KeyMissing: there is nothing to move.
        """
        entry = self.look(old, whole=True)
        if entry is None:
            raise KeyMissing("there is nothing at the key")
        if old == new:
            return
        if self.look(new) is not None:
            self._tables.delete(new)
        self._next(old, deleted=True)
        revision = self._next(new, deleted=False)
        self._tables.rename(old, new, revision)
        self._after[old] = None
        self._after[new] = entry._replace(revision=revision)

    def expire(self, key: bytes, ttl_seconds: int) -> Entry:
        """Set when a key disappears, 0 for never. That is no change of its value, and has no revision.

        Raises:
            KeyMissing: there is no such key.
        """
        entry = self.look(key, whole=True)
        if entry is None:
            raise KeyMissing("there is nothing at the key")
        entry = entry._replace(expires_ns=self.at(ttl_seconds))
        self._tables.expire(key, entry.expires_ns)
        self._after[key] = entry
        return entry

    def at(self, ttl_seconds: int) -> int:
        """Return when a time to live from now on is over; 0 for 0."""
        return self.now_ns + ttl_seconds * SECOND_NS if ttl_seconds else 0

    def _next(self, key: bytes, *, deleted: bool) -> int:
        self.revision += 1
        self.changes.append(Change(key, self.revision, deleted))
        return self.revision
