"""A store: what can be done with it, by any thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from pulp_runtime.kv.cache import Cache
from pulp_runtime.kv.change import INT64, Changing, number_of
from pulp_runtime.kv.entry import BATCH, PAGE, Change, Delete, Entry, Listed, Put, check_key, check_value
from pulp_runtime.kv.fault import KeyMissing, NotANumber, StoreClosed, TooMany
from pulp_runtime.kv.hold import Hold
from pulp_runtime.kv.lock import Locks
from pulp_runtime.kv.tables import Tables, translated
from pulp_runtime.kv.transaction import Transaction, Transactions
from pulp_runtime.kv.watch import Watch, Watches

CACHE_BYTES: Final = 32 * 1024 * 1024
"""How much of a store is kept in memory by default."""
SWEEP: Final = 256
"""Most expired keys that are deleted at once."""


class Store:
    """An open store. Safe from any thread; changes happen one after the other, each on disk before it is seen.

    Attributes:
        path: the file.
        locks: who holds which key.
        power_safe: see the arguments.

    Args:
        path: the file; created with its folder when it is not there.
        power_safe: whether a change that has returned survives a power failure, not only the end of the process.
        folders: whether a key may not be a folder as well: with a value at `a` there is none at `a/b`.
        cache_bytes: how much is kept in memory.
        now_ns: the clock, nanoseconds since 1970.

    Raises:
        StoreBusy: another process has it open.
        StoreFailed: the file cannot be opened, or is no store.
    """

    def __init__(
        self,
        path: Path,
        *,
        power_safe: bool = False,
        folders: bool = False,
        cache_bytes: int = CACHE_BYTES,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.path: Final = path
        self.locks: Final = Locks()
        self.power_safe: Final = power_safe
        self._reserved: Final = Locks()
        self._folders: Final = folders
        self._now_ns: Final = now_ns
        self._lock: Final = threading.RLock()
        self._cache: Final = Cache(cache_bytes)
        self._watches: Final = Watches()
        self._transactions: Final = Transactions()
        self._closed = False
        self._hold: Final = Hold(path)
        try:
            with translated():
                self._tables: Final = Tables(path, power_safe=power_safe)
                self._revision = self._tables.revision
                self._next_due_ns = self._tables.next_due_ns()
        except BaseException:
            self._hold.release()
            raise

    # Looking ----------------------------------------------------------------------------------------------------

    @property
    def revision(self) -> int:
        """The revision of the last change; 0 for a store that never had one."""
        return self._revision

    def get(self, key: bytes) -> Entry | None:
        """Return what is at a key, None for nothing."""
        entry = self._cache.recent.get(key)
        if entry is None:
            entry = self._read(key)
        if entry is not None and entry.expires_ns and entry.expires_ns <= self._now_ns():
            return None
        return entry

    def _read(self, key: bytes) -> Entry | None:
        with self._lock, translated():
            self._require_open()
            entry = self._cache.find(key)
            if entry is None:
                entry = self._tables.find(key)
                if entry is not None:
                    self._cache.keep(key, entry)
            return entry

    def status(self, key: bytes) -> Listed | None:
        """Return what is known of what is at a key, without its value; None for nothing."""
        entry = self._cache.recent.get(key)
        if entry is None:
            with self._lock, translated():
                self._require_open()
                found = self._tables.status(key)
        else:
            found = Listed(key, len(entry.value), *entry[1:])
        return None if found is None or 0 < found.expires_ns <= self._now_ns() else found

    def page(self, prefix: bytes = b"", *, after: bytes = b"", limit: int = PAGE) -> list[Listed]:
        """Return a page of the keys that begin with `prefix`, in byte order; less than `limit` when there are no more.

        The next page comes after the last key of this one. Nothing is listed twice and nothing that stays is left
        out, whatever is changed between two pages.
        """
        with self._lock, translated():
            self._require_open()
            return self._tables.page(prefix, after, self._now_ns(), min(limit, PAGE))

    # Changing ---------------------------------------------------------------------------------------------------

    def put(
        self,
        key: bytes,
        value: bytes,
        *,
        expect: int | None = None,
        ttl_seconds: int | None = 0,
        owner: object = None,
    ) -> int:
        """Store a value; return the revision of the change.

        Args:
            key: 1 to 1,024 bytes of UTF-8.
            value: at most 16 MiB.
            expect: the revision that must be there, 0 for none; None for no matter what.
            ttl_seconds: when it disappears again, 0 for never; what was set before is forgotten, but for None.
            owner: who reserved the key, if it is reserved.

        Raises:
            Conflict: something else is there.
            KeyReserved: nothing is there, and somebody else has reserved it.
            KeyInTheWay, FolderInTheWay: in a store of folders.
            KeyInvalid, ValueTooLarge, StoreFull, StoreFailed, StoreClosed: nothing has changed.
        """
        check_key(key)
        check_value(value)
        with self._lock, translated():
            with self._changing(owner) as changing:
                there = changing.expected(key, expect)
                entry = changing.put(key, value, there, changing.at(ttl_seconds, there))
            self._published(changing, entry.expires_ns)
        return entry.revision

    def delete(self, key: bytes, *, expect: int | None = None) -> int:
        """Delete a key; return the revision of the change.

        Raises:
            KeyMissing: there is nothing.
            Conflict: its revision is another than `expect`.
        """
        check_key(key)
        with self._lock, translated():
            with self._changing() as changing:
                if changing.expected(key, expect) is None:
                    raise KeyMissing("there is nothing at the key")
                changing.delete(key)
            self._published(changing)
        return changing.revision

    def append(self, key: bytes, data: bytes, *, expect: int | None = None) -> int:
        """Add bytes to the end of a value, of a new one if there is none; return the revision of the change.

        Raises:
            Conflict: its revision is another than `expect`.
            ValueTooLarge: the value would be longer than 16 MiB.
        """
        check_key(key)
        with self._lock, translated():
            with self._changing() as changing:
                there = changing.expected(key, expect, whole=True)
                value = data if there is None else there.value + data
                check_value(value)
                changing.put(key, value, there, there.expires_ns if there else 0)
            self._published(changing)
        return changing.revision

    def increment(self, key: bytes, by: int = 1) -> tuple[int, int]:
        """Add to a number, 0 if there is none; return the number, and the revision of the change.

        It is stored as decimal digits.

        Raises:
            NotANumber: the value is none, or would pass 64 bits.
        """
        check_key(key)
        with self._lock, translated():
            with self._changing() as changing:
                there = changing.look(key, whole=True)
                number = number_of(b"0" if there is None else there.value) + by
                if number not in INT64:
                    raise NotANumber(f"{number} does not fit into 64 bits")
                changing.put(key, b"%d" % number, there, there.expires_ns if there else 0)
            self._published(changing)
        return number, changing.revision

    def rename(self, old: bytes, new: bytes) -> int:
        """Move an entry to another key in one step, replacing what is there; return the revision of the change.

        Raises:
            KeyMissing: there is nothing to move.
        """
        check_key(old)
        check_key(new)
        with self._lock, translated():
            with self._changing() as changing:
                changing.rename(old, new)
            self._published(changing)
        return changing.revision

    def move(self, old: bytes, new: bytes) -> int:
        """Move all keys of a folder to another one in one step; return the revision of the last change.

        Args:
            old: what the keys begin with, up to a `/`.
            new: what they begin with then; nothing does yet.

        Raises:
            KeyMissing: there are none.
            FolderInTheWay: something begins with `new`.
            KeyInvalid: a key would be too long, or the folder inside itself.
            TooMany: there are more than 10,000.
        """
        with self._lock, translated():
            with self._changing() as changing:
                changing.move(old, new)
            self._published(changing)
        return changing.revision

    def reserve(self, key: bytes, owner: object) -> bool:
        """Let only `owner` create a key, until it is released; answer False if it is there, or somebody has it.

        Raises:
            TooMany: 10,000 keys are reserved.
        """
        with self._lock:
            return self.status(key) is None and self._reserved.acquire(key, owner)

    def release(self, key: bytes, owner: object) -> None:
        """Let others create a key that `owner` has reserved."""
        self._reserved.release(key, owner)

    def expire(self, key: bytes, ttl_seconds: int) -> None:
        """Set when a key disappears, 0 for never; neither value nor revision change.

        Raises:
            KeyMissing: there is no such key.
        """
        check_key(key)
        with self._lock, translated():
            with self._changing() as changing:
                entry = changing.expire(key, ttl_seconds)
            self._published(changing, entry.expires_ns)

    def apply(self, changes: Sequence[Put | Delete], *, check: Callable[[], None] | None = None) -> int:
        """Do several things at once, or none of them; return the last revision.

        Args:
            changes: in order, at most 10,000; a later one sees what an earlier one did.
            check: called before anything is done, while nobody else changes the store; may raise.

        Raises:
            Conflict: one of them expects something else.
        """
        if len(changes) > BATCH:
            raise TooMany(f"at most {BATCH} changes at once, not {len(changes)}")
        for one in changes:
            check_key(one.key)
            if isinstance(one, Put):
                check_value(one.value)
        with self._lock, translated():
            if check is not None:
                check()
            soonest = 0
            with self._changing() as changing:
                for one in changes:
                    there = changing.expected(one.key, one.expect)
                    if isinstance(one, Put):
                        due = changing.put(one.key, one.value, there, changing.at(one.ttl_seconds, there)).expires_ns
                        soonest = min(soonest or due, due or soonest)
                    elif there is not None:
                        changing.delete(one.key)
            self._published(changing, soonest)
        return changing.revision

    def _changing(self, owner: object = None) -> Changing:
        self._require_open()
        now_ns = self._now_ns()
        return Changing(self._tables, self._cache, self._revision, now_ns, self._reserved, owner, self._folders)

    def _published(self, changing: Changing, due_ns: int = 0) -> None:
        """Let others see what has been committed: watches, and transactions that may have lost by it."""
        self._revision = changing.revision
        if due_ns and (not self._next_due_ns or due_ns < self._next_due_ns):
            self._next_due_ns = due_ns
        if changing.changes:
            self._transactions.note(changing.changes)
            self._watches.tell(changing.changes)

    # Time -------------------------------------------------------------------------------------------------------

    @property
    def next_due_ns(self) -> int:
        """When `sweep` has something to do, nanoseconds since 1970; 0 for never."""
        return self._next_due_ns

    @property
    def due(self) -> bool:
        """Whether `sweep` has something to do now."""
        return 0 < self._next_due_ns <= self._now_ns()

    def sweep(self) -> int:
        """Delete keys whose time is over, at most 256; return how many.

        Nobody finds them before that either; but a watch is told of them now.
        """
        with self._lock, translated():
            with self._changing() as changing:
                for key in self._tables.due(changing.now_ns, SWEEP):
                    changing.look(key)
            self._published(changing)
            self._next_due_ns = self._tables.next_due_ns()
        return len(changing.changes)

    # Others -----------------------------------------------------------------------------------------------------

    def watch(self, prefix: bytes, listener: Callable[[Change], None]) -> Watch:
        """Call `listener(change)` for each change of a key that begins with `prefix`, from now on, in order.

        It is called by the thread that makes the change, which waits for it; it must neither block nor use the store.

        Raises:
            TooMany: the store has 1,000 watches.
        """
        with self._lock:
            self._require_open()
            return self._watches.add(prefix, listener, self._revision)

    def begin(self) -> Transaction:
        """Begin a transaction: reads see the store as it is now, writes happen together at the end.

        Raises:
            TooMany: 64 are open.
        """
        with self._lock, translated():
            self._require_open()
            return self._transactions.begin(self, self._revision, self._now_ns())

    def settle(self, transaction: Transaction, changes: Sequence[Put | Delete]) -> int:
        """Apply what a transaction wants if nothing it has seen or wants to change has been changed since it began.

        Raises:
            Conflict: something has.
        """

        def check() -> None:
            self._transactions.check(transaction)

        return self.apply(changes, check=check)

    def forget(self, transaction: Transaction) -> None:
        """Forget a transaction that has ended."""
        with self._lock:
            self._transactions.end(transaction)

    def close(self) -> None:
        """End transactions and watches and close the file. May be called again."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._watches.clear()
            self._cache.clear()
            self._tables.close()
        for transaction in self._transactions.all():  # outside: one that commits waits for the store's lock
            transaction.rollback()
        self._hold.release()

    def _require_open(self) -> None:
        if self._closed:
            raise StoreClosed("the store is closed")
