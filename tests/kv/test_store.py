from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pulp_runtime.kv import entry
from pulp_runtime.kv.entry import Delete, Entry, Listed, Put
from pulp_runtime.kv.fault import (
    Conflict,
    KeyInvalid,
    KeyMissing,
    NotANumber,
    StoreBusy,
    StoreClosed,
    StoreFailed,
    StoreFull,
    TooMany,
    ValueTooLarge,
)
from pulp_runtime.kv.folders import names
from pulp_runtime.kv.store import BATCH, SWEEP, Store

SECOND = 1_000_000_000


class Clock:
    def __init__(self) -> None:
        self.now = 1_000 * SECOND

    def __call__(self) -> int:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += int(seconds * SECOND)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[Store]:
    store = Store(tmp_path / "kv.db", now_ns=clock)
    yield store
    store.close()


# One key ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value", [b"", b"x", b"\0\xff" * 500, bytes(entry.VALUE_BYTES)], ids=["0", "1", "1000", "16 MiB"]
)
def test_what_was_put_is_got(store: Store, value: bytes) -> None:
    assert store.put(b"key", value) == 1
    assert store.get(b"key") == Entry(value, 1, 1_000 * SECOND, 0, 1)


def test_nothing_is_none(store: Store) -> None:
    assert store.get(b"nobody") is None


def test_a_put_replaces_and_a_delete_ends_it(store: Store, clock: Clock) -> None:
    store.put(b"key", b"one")
    clock.advance(5)
    assert store.put(b"key", b"two") == 2
    assert store.get(b"key") == Entry(b"two", 2, 1_005 * SECOND, 0, 1)
    assert store.delete(b"key") == 3
    assert store.get(b"key") is None
    assert store.put(b"key", b"three") == 4
    assert store.get(b"key") == Entry(b"three", 4, 1_005 * SECOND, 0, 4)


@pytest.mark.parametrize(
    "key", [b"", b"a\0b", b"\xff", b"\xed\xa0\x80", b"x" * 1025], ids=["empty", "nul", "bytes", "surrogate", "long"]
)
def test_a_key_that_no_store_takes_is_refused_and_nothing_changes(store: Store, key: bytes) -> None:
    for change in (
        lambda: store.put(key, b""),
        lambda: store.delete(key),
        lambda: store.append(key, b""),
        lambda: store.increment(key),
        lambda: store.rename(b"a", key),
        lambda: store.rename(key, b"a"),
        lambda: store.expire(key, 1),
        lambda: store.apply([Put(b"a", b""), Put(key, b"")]),
        lambda: store.locks.acquire(key, store),
    ):
        with pytest.raises(KeyInvalid):
            change()
    assert (store.revision, store.get(key), store.page()) == (0, None, [])


def test_the_longest_key_is_taken_and_none_is_folded(store: Store) -> None:
    keys = ["A", "a", "\u00e9", "e\u0301", "x" * 1024, "é" * 512, "a/../b", ".", "/", "\n", "\\"]
    for number, key in enumerate(keys):
        store.put(key.encode(), b"%d" % number)

    assert [store.get(key.encode()).value for key in keys] == [b"%d" % number for number in range(len(keys))]  # type: ignore[union-attr]


def test_a_value_past_16_mib_is_refused(store: Store) -> None:
    with pytest.raises(ValueTooLarge):
        store.put(b"key", bytes(entry.VALUE_BYTES + 1))
    with pytest.raises(ValueTooLarge):
        store.apply([Put(b"a", b""), Put(b"key", bytes(entry.VALUE_BYTES + 1))])
    assert store.page() == []


# Conditions ---------------------------------------------------------------------------------------------------------


def test_put_if_absent(store: Store) -> None:
    assert store.put(b"key", b"one", expect=0) == 1
    with pytest.raises(Conflict) as refused:
        store.put(b"key", b"two", expect=0)
    assert refused.value.revision == 1
    assert store.get(b"key").value == b"one"  # type: ignore[union-attr]


def test_compare_and_swap(store: Store) -> None:
    first = store.put(b"key", b"one")
    second = store.put(b"key", b"two", expect=first)
    for expect in (first, 99, 0):
        with pytest.raises(Conflict) as refused:
            store.put(b"key", b"three", expect=expect)
        assert refused.value.revision == second
    with pytest.raises(Conflict):
        store.delete(b"key", expect=first)
    assert store.delete(b"key", expect=second) == 3
    with pytest.raises(Conflict) as gone:
        store.put(b"key", b"four", expect=second)
    assert gone.value.revision == 0
    with pytest.raises(KeyMissing):
        store.delete(b"key")
    assert store.revision == 3


def test_only_one_of_many_swaps_of_one_revision_succeeds(store: Store) -> None:
    store.put(b"key", b"")
    won = []
    ready = threading.Barrier(8)

    def swap(number: int) -> None:
        ready.wait()
        try:
            won.append(store.put(b"key", b"%d" % number, expect=1))
        except Conflict:
            pass

    threads = [threading.Thread(target=swap, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert won == [2]


# More than put and delete -------------------------------------------------------------------------------------------


def test_appends_of_many_threads_lose_nothing(store: Store) -> None:
    def append(letter: bytes) -> None:
        for _ in range(50):
            store.append(b"log", letter)

    threads = [threading.Thread(target=append, args=(letter,)) for letter in (b"a", b"b", b"c", b"d")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    value = store.get(b"log").value  # type: ignore[union-attr]
    assert sorted(value) == sorted(b"abcd" * 50)


def test_an_append_past_16_mib_is_refused_and_the_value_stays(store: Store) -> None:
    store.put(b"key", bytes(entry.VALUE_BYTES - 1))
    store.append(b"key", b"x")
    with pytest.raises(ValueTooLarge):
        store.append(b"key", b"x")
    assert len(store.get(b"key").value) == entry.VALUE_BYTES  # type: ignore[union-attr]


def test_a_counter_counts(store: Store) -> None:
    assert [store.increment(b"n"), store.increment(b"n", 41), store.increment(b"n", -50)] == [(1, 1), (42, 2), (-8, 3)]
    assert store.get(b"n").value == b"-8"  # type: ignore[union-attr]


@pytest.mark.parametrize("value", [b"x", b"", b"1.5", b" 1", b"0x1", "１".encode(), b"9223372036854775808", b"1" * 50])
def test_what_is_no_number_is_not_counted(store: Store, value: bytes) -> None:
    store.put(b"n", value)
    with pytest.raises(NotANumber):
        store.increment(b"n")
    assert store.get(b"n").value == value  # type: ignore[union-attr]


@pytest.mark.parametrize(("value", "by"), [(b"9223372036854775807", 1), (b"-9223372036854775808", -1)])
def test_a_counter_does_not_wrap_around(store: Store, value: bytes, by: int) -> None:
    store.put(b"n", value)
    with pytest.raises(NotANumber):
        store.increment(b"n", by)


def test_a_rename_moves_and_replaces_in_one_step(store: Store) -> None:
    store.put(b"old", b"one", ttl_seconds=60)
    store.put(b"new", b"two")
    told: list[tuple[bytes, int, bool]] = []
    store.watch(b"", lambda change: told.append(tuple(change)))

    assert store.rename(b"old", b"new") == 4
    assert store.get(b"old") is None
    assert store.get(b"new") == Entry(b"one", 4, 1_000 * SECOND, 1_060 * SECOND, 1)
    assert told == [(b"old", 3, True), (b"new", 4, False)]
    with pytest.raises(KeyMissing):
        store.rename(b"old", b"new")
    assert store.rename(b"new", b"new") == 4
    assert store.get(b"new").value == b"one"  # type: ignore[union-attr]


def test_several_changes_happen_together(store: Store) -> None:
    store.put(b"a", b"1")
    revision = store.apply(
        [Put(b"b", b"2", expect=0), Put(b"a", b"3", expect=1), Delete(b"b"), Put(b"b", b"4"), Delete(b"nobody")]
    )

    assert revision == store.revision == 5
    assert [(listed.key, listed.revision) for listed in store.page()] == [(b"a", 3), (b"b", 5)]


@pytest.mark.parametrize("wrong", [Put(b"b", b"", expect=7), Delete(b"b", expect=7), Put(b"a", b"", expect=0)])
def test_or_none_of_them_does(store: Store, wrong: Put | Delete) -> None:
    store.put(b"a", b"1")
    told: list[object] = []
    store.watch(b"", told.append)
    with pytest.raises(Conflict):
        store.apply([Put(b"a", b"2"), Put(b"c", b"3"), Delete(b"a"), Put(b"a", b"5"), wrong])

    assert (store.revision, told) == (1, [])
    assert [(listed.key, store.get(listed.key).value) for listed in store.page()] == [(b"a", b"1")]  # type: ignore[union-attr]


def test_too_many_changes_at_once_are_refused(store: Store) -> None:
    with pytest.raises(TooMany):
        store.apply([Delete(b"a")] * (BATCH + 1))
    assert store.apply([]) == 0


# Time to live -------------------------------------------------------------------------------------------------------


def test_a_key_disappears_when_its_time_is_over(store: Store, clock: Clock) -> None:
    store.put(b"key", b"x", ttl_seconds=10)
    assert store.next_due_ns == 1_010 * SECOND
    clock.advance(9.999)
    assert store.get(b"key") is not None
    clock.advance(0.001)

    assert store.get(b"key") is None
    assert store.page() == []
    assert store.status(b"a") is None
    with pytest.raises(KeyMissing):
        store.delete(b"key")
    with pytest.raises(KeyMissing):
        store.expire(b"key", 5)
    with pytest.raises(KeyMissing):
        store.rename(b"key", b"other")


def test_a_watch_is_told_when_it_is_swept(store: Store, clock: Clock) -> None:
    told: list[tuple[bytes, int, bool]] = []
    store.watch(b"", lambda change: told.append(tuple(change)))
    store.put(b"a", b"", ttl_seconds=1)
    store.put(b"b", b"", ttl_seconds=100)
    store.put(b"c", b"")
    assert store.sweep() == 0
    clock.advance(2)

    assert store.sweep() == 1
    assert told[3:] == [(b"a", 4, True)]
    assert store.next_due_ns == 1_100 * SECOND
    clock.advance(100)
    assert store.sweep() == 1
    assert store.next_due_ns == 0


def test_a_sweep_is_bounded(store: Store, clock: Clock) -> None:
    store.apply([Put(b"%d" % number, b"", ttl_seconds=1) for number in range(SWEEP + 10)])
    clock.advance(1)

    assert [store.sweep(), store.sweep(), store.sweep()] == [SWEEP, 10, 0]


def test_what_is_put_after_its_time_is_a_new_key(store: Store, clock: Clock) -> None:
    told: list[tuple[bytes, int, bool]] = []
    store.put(b"key", b"old", ttl_seconds=1)
    store.put(b"n", b"5", ttl_seconds=1)
    store.put(b"log", b"old", ttl_seconds=1)
    clock.advance(1)
    store.watch(b"key", lambda change: told.append(tuple(change)))

    assert store.put(b"key", b"new", expect=0) == 5
    assert store.get(b"key") == Entry(b"new", 5, 1_001 * SECOND, 0, 5)
    assert told == [(b"key", 4, True), (b"key", 5, False)]
    assert store.increment(b"n")[0] == 1
    store.append(b"log", b"new")
    assert store.get(b"log").value == b"new"  # type: ignore[union-attr]


def test_a_put_ends_what_was_set_and_an_append_does_not(store: Store, clock: Clock) -> None:
    store.put(b"key", b"x", ttl_seconds=10)
    store.append(b"key", b"y")
    assert store.get(b"key").expires_ns == 1_010 * SECOND  # type: ignore[union-attr]
    store.put(b"key", b"z")
    assert store.get(b"key").expires_ns == 0  # type: ignore[union-attr]
    store.expire(b"key", 3)
    assert store.get(b"key") == Entry(b"z", 3, 1_000 * SECOND, 1_003 * SECOND, 1)
    assert store.next_due_ns == 1_003 * SECOND
    store.expire(b"key", 0)
    clock.advance(1000)
    assert store.get(b"key").value == b"z"  # type: ignore[union-attr]


# Listings -----------------------------------------------------------------------------------------------------------


def test_keys_are_listed_in_the_order_of_their_bytes(store: Store) -> None:
    keys = sorted(key.encode() for key in ["b", "a", "a/b", "a b", "ab", "Z", "é", "\U0010ffff", "a\x01"])
    for key in reversed(keys):
        store.put(key, key)

    assert [listed.key for listed in store.page()] == keys
    assert [listed.key for listed in store.page(b"a")] == [key for key in keys if key.startswith(b"a")]
    assert [listed.key for listed in store.page(b"\xf4\x8f\xbf\xbf")] == ["\U0010ffff".encode()]
    assert store.page(b"a/")[0] == (b"a/b", 3, store.get(b"a/b").revision, 1_000 * SECOND, 0, store.get(b"a/b").inode)  # type: ignore[union-attr]


def test_pages_have_every_key_once_while_others_write(store: Store) -> None:
    for number in range(0, 300, 2):
        store.put(b"%04d" % number, b"")
    seen: list[bytes] = []
    while part := store.page(after=seen[-1] if seen else b"", limit=7):
        seen += [listed.key for listed in part]
        if seen[-1] < b"0280":
            store.put(b"%04d" % (int(seen[-1]) + 1), b"")
            store.delete(seen[0] if store.get(seen[0]) else seen[1]) if len(seen) < 10 else None

    assert seen == sorted(set(seen))
    assert {b"%04d" % number for number in range(0, 300, 2)} <= set(seen)


def test_a_page_is_bounded(store: Store) -> None:
    store.apply([Put(b"%d" % number, b"") for number in range(entry.PAGE + 5)])

    assert len(store.page(limit=1 << 40)) == entry.PAGE
    assert store.page(limit=0) == []


def test_folders_are_what_slashes_make_of_keys(store: Store) -> None:
    for key in (b"a", b"a/1", b"a/2/x", b"a0", b"b/c/d", b"b/c", b"b", b"z/"):
        store.put(key, b"")
    for number in range(200):
        store.put(b"many/%03d/x" % number, b"")
        store.put(b"many/%03d/y" % number, b"")

    def page(prefix: bytes, after: bytes, limit: int) -> list[Listed]:
        return store.page(prefix, after=after, limit=limit)

    def found(folder: bytes = b"") -> list[tuple[bytes, bool]]:
        return [(one.name, one.is_folder) for one in names(page, folder)]

    assert found() == [(b"a", False), (b"a0", False), (b"b", False), (b"many", True), (b"z", True)]
    assert found(b"a/") == [(b"1", False), (b"2", True)]
    assert found(b"b/") == [(b"c", False)]
    assert found(b"nowhere/") == []
    assert found(b"many/") == [(b"%03d" % number, True) for number in range(200)]
    inodes = {one.name: one.inode for one in names(page)}
    assert inodes[b"a0"] == store.get(b"a0").inode  # type: ignore[union-attr]
    assert inodes[b"z"] == 0


def test_a_name_that_becomes_a_folder_while_it_is_listed_comes_once(store: Store) -> None:
    for key in (b"a", b"b", b"c"):
        store.put(key, b"")

    def page(prefix: bytes, after: bytes, limit: int) -> list[Listed]:
        return store.page(prefix, after=after, limit=1)

    listing = names(page)
    assert next(listing).name == b"a"
    store.delete(b"a")
    store.put(b"a/1", b"")
    store.put(b"a!", b"")

    assert [one.name for one in listing] == [b"a!", b"b", b"c"]


# Watches and locks --------------------------------------------------------------------------------------------------


def test_a_watch_sees_every_change_of_its_prefix_in_order_and_nothing_else(store: Store) -> None:
    store.put(b"a/0", b"")
    told: list[tuple[bytes, int, bool]] = []
    watch = store.watch(b"a/", lambda change: told.append(tuple(change)))
    assert watch.since == 1

    def write(number: int) -> None:
        for at in range(30):
            store.put(b"a/%d/%d" % (number, at), b"")
            store.put(b"b", b"")
        store.delete(b"a/%d/0" % number)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(told) == 4 * 31
    assert [revision for _key, revision, _deleted in told] == sorted({revision for _key, revision, _deleted in told})
    assert all(key.startswith(b"a/") for key, _revision, _deleted in told)
    watch.close()
    watch.close()
    store.put(b"a/0", b"")
    assert len(told) == 4 * 31


def test_a_listener_that_fails_is_logged_and_the_others_hear_of_it(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[object] = []

    def fail(_change: object) -> None:
        raise ZeroDivisionError

    store.watch(b"", fail)
    store.watch(b"", told.append)
    assert store.put(b"key", b"") == 1
    assert len(told) == 1
    assert "watch failed" in caplog.text


def test_watches_are_bounded(store: Store) -> None:
    for _ in range(1000):
        store.watch(b"", lambda _change: None)
    with pytest.raises(TooMany):
        store.watch(b"", lambda _change: None)


def test_a_lock_is_held_by_one_owner_until_it_lets_go(store: Store) -> None:
    one, two = object(), object()
    assert store.locks.acquire(b"key", one)
    assert not store.locks.acquire(b"key", two)
    assert not store.locks.acquire(b"key", one)
    assert not store.locks.release(b"key", two)
    assert store.locks.owner(b"key") is one
    assert store.locks.acquire(b"other", one)
    assert store.locks.release(b"key", one)
    assert store.locks.acquire(b"key", two)
    assert store.locks.release_all(one) == 1
    assert store.locks.release_all(one) == 0
    assert store.locks.acquire(b"other", two)


def test_locks_are_bounded(store: Store) -> None:
    for number in range(10_000):
        store.locks.acquire(b"%d" % number, store)
    with pytest.raises(TooMany):
        store.locks.acquire(b"one more", store)


# The file -----------------------------------------------------------------------------------------------------------


def test_everything_is_there_when_it_is_opened_again(tmp_path: Path, clock: Clock) -> None:
    with_ttl = Store(tmp_path / "kv.db", now_ns=clock)
    with_ttl.put(b"a", b"1")
    with_ttl.put(b"b", b"2", ttl_seconds=60)
    with_ttl.delete(b"a")
    with_ttl.close()
    again = Store(tmp_path / "kv.db", now_ns=clock)

    assert again.revision == 3
    assert again.get(b"b") == Entry(b"2", 2, 1_000 * SECOND, 1_060 * SECOND, 2)
    assert again.next_due_ns == 1_060 * SECOND
    assert again.put(b"c", b"") == 4
    again.close()


@pytest.mark.parametrize("power_safe", [False, True])
def test_durability_is_sqlites(tmp_path: Path, power_safe: bool) -> None:
    store = Store(tmp_path / "kv.db", power_safe=power_safe)
    (level,) = store._tables._connection.execute("PRAGMA synchronous").fetchone()
    (mode,) = store._tables._connection.execute("PRAGMA journal_mode").fetchone()

    assert (level, mode) == (2 if power_safe else 1, "wal")
    store.close()


def test_a_store_is_open_once(tmp_path: Path) -> None:
    store = Store(tmp_path / "kv.db")
    with pytest.raises(StoreBusy, match="in use"):
        Store(tmp_path / "kv.db")
    store.close()
    Store(tmp_path / "kv.db").close()


def test_a_closed_store_answers_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path / "kv.db")
    store.put(b"key", b"")
    transaction = store.begin()
    store.close()
    store.close()

    uses: list[Callable[[], object]] = [
        lambda: store.get(b"key"),
        lambda: store.put(b"key", b""),
        lambda: store.page(),
        lambda: store.sweep(),
        lambda: store.begin(),
        lambda: store.watch(b"", lambda _change: None),
        lambda: store.apply([]),
    ]
    for use in uses:
        with pytest.raises(StoreClosed):
            use()
    with pytest.raises(Conflict):
        transaction.get(b"key")


@pytest.mark.parametrize("content", [b"no database at all" * 500, b"SQLite format 3\0" + bytes(5000)])
def test_a_file_that_is_no_store_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "kv.db").write_bytes(content)
    with pytest.raises(StoreFailed):
        Store(tmp_path / "kv.db")
    assert (tmp_path / "kv.db").read_bytes() == content


def test_another_programs_database_is_refused(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "kv.db")
    connection.execute("CREATE TABLE entry (x)")
    connection.commit()
    connection.close()
    with pytest.raises(StoreFailed, match="another program's"):
        Store(tmp_path / "kv.db")


def test_a_folder_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreFailed):
        Store(tmp_path / "file" / "kv.db")
    (tmp_path / "kv.db.lock").symlink_to(tmp_path / "file")
    with pytest.raises(StoreFailed):
        Store(tmp_path / "kv.db")


def test_a_full_disk_is_told_and_nothing_is_lost(store: Store) -> None:
    store.put(b"kept", b"x")
    store._tables._connection.execute("PRAGMA max_page_count = 10")
    with pytest.raises(StoreFull):
        store.put(b"large", bytes(1_000_000))

    assert store.get(b"large") is None
    assert store.put(b"small", b"y") == 2
    assert [listed.key for listed in store.page()] == [b"kept", b"small"]


def test_files_of_a_store_are_its_owners(tmp_path: Path) -> None:
    Store(tmp_path / "folder" / "kv.db").close()

    assert os.stat(tmp_path / "folder").st_mode & 0o777 == 0o700


def test_little_memory_is_enough(tmp_path: Path) -> None:
    store = Store(tmp_path / "kv.db", cache_bytes=10_000)
    for number in range(200):
        store.put(b"%d" % number, bytes([number]) * number)
    store.put(b"large", bytes(100_000))

    for number in range(200):
        assert store.get(b"%d" % number).value == bytes([number]) * number  # type: ignore[union-attr]
        assert store.get(b"0").value == b""  # type: ignore[union-attr]
    assert len(store.get(b"large").value) == 100_000  # type: ignore[union-attr]
    assert store._cache._bytes <= 5_000
    store.close()
