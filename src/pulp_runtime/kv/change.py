"""Several changes that happen together or not at all."""

from __future__ import annotations

import re
from types import TracebackType
from typing import Final, Self

from pulp_runtime.kv.cache import Cache
from pulp_runtime.kv.entry import BATCH, KEY_BYTES, PAGE, SECOND_NS, Change, Entry
from pulp_runtime.kv.fault import (
    Conflict,
    FolderInTheWay,
    KeyInTheWay,
    KeyInvalid,
    KeyMissing,
    KeyReserved,
    KeyTooLong,
    NotANumber,
    TooMany,
)
from pulp_runtime.kv.folders import folders_of
from pulp_runtime.kv.lock import Locks
from pulp_runtime.kv.tables import Tables

INT64: Final = range(-(1 << 63), 1 << 63)

_NUMBER: Final = re.compile(rb"[+-]?[0-9]{1,20}")


class Changing:
    """Changes in progress, under the store's lock. A context manager: its end commits, an exception rolls back.

    A key whose time is over is not there. Whoever looks at one here deletes it, as a change with a revision of its own.

    Attributes:
        changes: what has been done so far, in order.
        revision: the last one given out.
        now_ns: when it all happens.

    Args:
        reserved: keys that only who has reserved them may create.
        owner: who that is.
        folders: whether a key may not be a folder as well.
    """

    def __init__(
        self,
        tables: Tables,
        cache: Cache,
        revision: int,
        now_ns: int,
        reserved: Locks,
        owner: object,
        folders: bool,
    ) -> None:
        self.changes: Final[list[Change]] = []
        self.revision = revision
        self.now_ns: Final = now_ns
        self._tables: Final = tables
        self._cache: Final = cache
        self._reserved: Final = reserved
        self._owner: Final = owner
        self._folders: Final = folders
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
        """Store a value in place of `there`.

        Raises:
            KeyReserved, KeyInTheWay, FolderInTheWay: it cannot be there.
        """
        if there is None:
            self._free(key)
        revision = self._next(key, deleted=False)
        entry = Entry(value, revision, self.now_ns, expires_ns, revision if there is None else there.inode)
        self._tables.put(key, entry)
        self._after[key] = entry
        return entry

    def _free(self, key: bytes) -> None:
        """Return if a key that is not there may be."""
        holder = self._reserved.owner(key)
        if holder is not None and holder is not self._owner:
            raise KeyReserved("somebody is about to create the key")
        if not self._folders:
            return
        for folder in folders_of(key):
            if self.look(folder[:-1]) is not None:
                raise KeyInTheWay("the folder of the key is a key itself")
        if self._tables.page(key + b"/", b"", self.now_ns, 1):
            raise FolderInTheWay("the key is a folder")

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
        else:
            self._free(new)
        self._next(old, deleted=True)
        revision = self._next(new, deleted=False)
        self._tables.rename(old, new, revision)
        self._after[old] = None
        self._after[new] = entry._replace(revision=revision)

    def move(self, old: bytes, new: bytes) -> None:
        """Move all keys of a folder to another, which is empty.

        Args:
            old: what the keys begin with, up to a `/`.
            new: what they begin with then.

        Raises:
            KeyMissing: there are none.
            FolderInTheWay: the other is not empty.
            KeyInvalid: a key would be too long, or the folder inside itself.
            TooMany: there are more than 10,000 keys.
        """
        if new.startswith(old):
            raise KeyInvalid("a folder cannot be moved into itself")
        if self._tables.page(new, b"", self.now_ns, 1):
            raise FolderInTheWay("the folder is not empty")
        keys: list[bytes] = []
        while part := self._tables.page(old, keys[-1] if keys else b"", self.now_ns, PAGE):
            keys += [listed.key for listed in part]
            if len(keys) > BATCH:
                raise TooMany(f"at most {BATCH} keys are moved at once")
        if not keys:
            raise KeyMissing("there is no such folder")
        if max(map(len, keys)) - len(old) + len(new) > KEY_BYTES:
            raise KeyTooLong(f"a key has at most {KEY_BYTES} bytes")
        for key in keys:
            self.rename(key, new + key[len(old) :])

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

    def at(self, ttl_seconds: int | None, there: Entry | None = None) -> int:
        """Return when a time to live from now on is over, 0 for 0; that of `there` for None."""
        if ttl_seconds is None:
            return there.expires_ns if there else 0
        return self.now_ns + ttl_seconds * SECOND_NS if ttl_seconds else 0

    def _next(self, key: bytes, *, deleted: bool) -> int:
        self.revision += 1
        self.changes.append(Change(key, self.revision, deleted))
        return self.revision


def number_of(value: bytes) -> int:
    """Return a value as a number; raise `NotANumber` if it is none of 64 bits."""
    if not _NUMBER.fullmatch(value) or int(value) not in INT64:
        raise NotANumber("the value is no decimal number of 64 bits")
    return int(value)
