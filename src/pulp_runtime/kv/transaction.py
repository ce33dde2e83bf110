"""Transactions: a snapshot to read, writes of one's own on top, and all or nothing at the end.

Nobody waits for a transaction. It is checked when it commits: if a key it has read, listed or wants to write has been
changed by somebody else since it began, it has lost and nothing is written.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from pulp_runtime.kv.entry import PAGE, Change, Delete, Entry, Listed, Put, after_prefix, check_key, check_value
from pulp_runtime.kv.fault import Conflict, TooMany, ValueTooLarge
from pulp_runtime.kv.tables import Tables, translated

if TYPE_CHECKING:
    from pulp_runtime.kv.store import Store

OPEN: Final = 64
"""Most open transactions of one store: each holds a view of the file, and keeps its log from being reused."""
REMEMBERED: Final = 100_000
"""How many changes an open transaction may miss. One that has missed more has lost."""
KEYS: Final = 10_000
"""Most keys of one transaction, read, listed and written."""
WRITTEN_BYTES: Final = 64 * 1024 * 1024
"""Most bytes that wait in one transaction."""


NEW: Final = 1 << 62
"""The inode of a key that is new in a transaction is at least this; no revision is."""


class Transaction:
    """One transaction. A method that raises `Conflict` has ended it. Safe from any thread, one at a time.

    Attributes:
        since: the revision it sees.
    """

    def __init__(self, store: Store, since: int, now_ns: int) -> None:
        self.since: Final = since
        self._store: Final = store
        self._now_ns: Final = now_ns
        self._tables: Final = Tables(store.path, snapshot=True)
        self._tables.revision  # noqa: B018  # the first reading is what makes it a snapshot
        self._lock: Final = threading.RLock()
        self._read: Final[set[bytes]] = set()
        self._listed: Final[list[tuple[bytes, bytes]]] = []
        self._written: Final[dict[bytes, Put | None]] = {}
        self._bytes = 0
        self._open = True

    @property
    def written_bytes(self) -> int:
        """How many bytes of keys and values wait to be written."""
        return self._bytes + sum(map(len, self._written))

    def get(self, key: bytes) -> bytes | None:
        """Return the value at a key, as it was when the transaction began or as it has put it since."""
        entry = self.entry(key)
        return None if entry is None else entry.value

    def entry(self, key: bytes) -> Entry | None:
        """Return what is at a key in the same way; what it has put itself has revision 0."""
        with self._lock, translated():
            self._require_open()
            if key in self._written:
                written = self._written[key]
                return None if written is None else Entry(written.value, 0, self._now_ns, 0, self._inode(key))
            self._note(key)
            return self._find(key)

    def _inode(self, key: bytes) -> int:
        known = self._tables.know(key)
        return NEW | hash(key) & (NEW - 1) if known is None else known.inode

    def page(self, prefix: bytes = b"", *, after: bytes = b"", limit: int = PAGE) -> list[bytes]:
        """Return a page of keys that begin with `prefix`, in byte order, its own writes among them."""
        return [listed.key for listed in self.listing(prefix, after=after, limit=limit)]

    def listing(self, prefix: bytes = b"", *, after: bytes = b"", limit: int = PAGE) -> list[Listed]:
        """Return the same page with what is known of each; what it has put itself has revision 0."""
        with self._lock, translated():
            self._require_open()
            limit = min(limit, PAGE)
            # Its own deletions may take away as many from a page as there are.
            part = self._tables.page(prefix, after, self._now_ns, limit + len(self._written))
            there = {listed.key: listed for listed in part if listed.key not in self._written}
            last = part[-1].key if len(part) == limit + len(self._written) else b"\xff"
            for key, put in self._written.items():
                if put is not None and key.startswith(prefix) and after < key <= last:
                    there[key] = Listed(key, len(put.value), 0, self._now_ns, 0, self._inode(key))
            found = [there[key] for key in sorted(there)[:limit]]
            end = found[-1].key + b"\0" if len(found) == limit else after_prefix(prefix)
            self._listed.append((max(prefix, after + b"\0"), end))
            if len(self._listed) > KEYS:
                raise self._lost(TooMany(f"a transaction has at most {KEYS} listings"))
            return found

    def put(self, key: bytes, value: bytes, *, ttl_seconds: int | None = 0) -> None:
        """Store a value, when it commits; `ttl_seconds` as in `Put`."""
        check_key(key)
        check_value(value)
        with self._lock:
            self._require_open()
            self._write(key, Put(key, value, ttl_seconds=ttl_seconds))

    def delete(self, key: bytes) -> bool:
        """Delete a key, when it commits; answer whether it was there."""
        check_key(key)
        with self._lock:
            there = self.get(key) is not None
            self._write(key, None)
            return there

    def commit(self) -> int:
        """Make all of it happen; return the revision of the last change.

        Raises:
            Conflict: somebody else was faster; nothing has happened.
        """
        with self._lock:
            self._require_open()
            # What is deleted may be in the way of what is put.
            gone: list[Put | Delete] = [Delete(key) for key, put in self._written.items() if put is None]
            changes: Sequence[Put | Delete] = gone + [put for put in self._written.values() if put is not None]
            try:
                return self._store.settle(self, changes)
            finally:
                self.rollback()

    def rollback(self) -> None:
        """Forget all of it. May be called again, and after a commit."""
        with self._lock:
            if self._open:
                self._open = False
                self._tables.close()
                self._store.forget(self)

    def lost(self, change: Change) -> bool:
        """Tell whether a change of somebody else's is one that this transaction must not have missed."""
        key = change.key
        if key in self._read or key in self._written:
            return True
        return any(first <= key < end for first, end in self._listed)

    def _find(self, key: bytes) -> Entry | None:
        entry = self._tables.find(key)
        return None if entry is None or 0 < entry.expires_ns <= self._now_ns else entry

    def _write(self, key: bytes, put: Put | None) -> None:
        before = self._written.get(key)
        self._bytes += (len(put.value) if put else 0) - (len(before.value) if before else 0)
        self._written[key] = put
        self._note(key)
        if self._bytes > WRITTEN_BYTES:
            raise self._lost(ValueTooLarge(f"a transaction writes at most {WRITTEN_BYTES} bytes"))

    def _note(self, key: bytes) -> None:
        self._read.add(key)
        if len(self._read) > KEYS:
            raise self._lost(TooMany(f"a transaction has at most {KEYS} keys"))

    def _lost(self, error: Exception) -> Exception:
        self.rollback()
        return error

    def _require_open(self) -> None:
        if not self._open:
            raise Conflict("the transaction is over")


class Transactions:
    """The open transactions of a store, and what they may have missed. Used under the store's lock."""

    def __init__(self) -> None:
        self._open: Final[dict[Transaction, bool]] = {}
        self._missed: Final[deque[Change]] = deque(maxlen=REMEMBERED)

    def begin(self, store: Store, revision: int, now_ns: int) -> Transaction:
        """Begin one.

        Raises:
            TooMany: 64 are open.
        """
        if len(self._open) >= OPEN:
            raise TooMany(f"{OPEN} transactions are open already")
        transaction = Transaction(store, revision, now_ns)
        self._open[transaction] = True
        return transaction

    def note(self, changes: Sequence[Change]) -> None:
        """Remember changes for those that are open."""
        if self._open:
            self._missed.extend(changes)

    def check(self, transaction: Transaction) -> None:
        """Return if a transaction may commit.

        Raises:
            Conflict: it has lost, or has missed too much to know.
        """
        missed = [change for change in self._missed if change.revision > transaction.since]
        if len(missed) == REMEMBERED or any(transaction.lost(change) for change in missed):
            raise Conflict("somebody else was faster")

    def end(self, transaction: Transaction) -> None:
        """Forget one that has ended."""
        self._open.pop(transaction, None)
        if not self._open:
            self._missed.clear()

    def all(self) -> list[Transaction]:
        """Return those that are open."""
        return list(self._open)
