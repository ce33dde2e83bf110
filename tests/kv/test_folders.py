"""What files need of a store: folders, reservations, moves, what is known of a key without its value."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pulp_runtime.kv import change
from pulp_runtime.kv.entry import KEY_BYTES, Delete, Put
from pulp_runtime.kv.fault import (
    Conflict,
    FolderInTheWay,
    KeyInTheWay,
    KeyInvalid,
    KeyMissing,
    KeyReserved,
    KeyTooLong,
    TooMany,
)
from pulp_runtime.kv.lock import LOCKS
from pulp_runtime.kv.store import Store
from pulp_runtime.kv.stores import Stores
from pulp_runtime.kv.transaction import NEW


@pytest.fixture(params=[0, 1 << 20], ids=["without a cache", "with a cache"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "kv.db", folders=True, cache_bytes=request.param)
    for key in (b"a", b"f/1", b"f/g/2"):
        store.put(key, key)
    yield store
    store.close()


def keys(store: Store) -> list[bytes]:
    return [listed.key for listed in store.page()]


@pytest.mark.parametrize(
    ("act", "fault"),
    [
        pytest.param(lambda s: s.put(b"a/b", b""), KeyInTheWay, id="put below a key"),
        pytest.param(lambda s: s.put(b"a/b/c", b""), KeyInTheWay, id="put far below a key"),
        pytest.param(lambda s: s.put(b"f", b""), FolderInTheWay, id="put in place of a folder"),
        pytest.param(lambda s: s.append(b"f/g", b""), FolderInTheWay, id="append in place of a folder"),
        pytest.param(lambda s: s.increment(b"a/b"), KeyInTheWay, id="count below a key"),
        pytest.param(lambda s: s.rename(b"f/1", b"a/b"), KeyInTheWay, id="rename below a key"),
        pytest.param(lambda s: s.rename(b"a", b"f"), FolderInTheWay, id="rename in place of a folder"),
        pytest.param(lambda s: s.move(b"f/", b"a/"), KeyInTheWay, id="move below a key"),
        pytest.param(lambda s: s.apply([Put(b"x", b""), Put(b"x/y", b"")]), KeyInTheWay, id="do both at once"),
    ],
)
def test_a_key_is_no_folder_when_you(store: Store, act: Callable[[Store], object], fault: type[Exception]) -> None:
    before = keys(store)
    with pytest.raises(fault):
        act(store)
    assert keys(store) == before


def test_a_key_that_goes_makes_room_for_a_folder(store: Store) -> None:
    store.apply([Delete(b"a"), Put(b"a/b", b"")])
    store.expire(b"a/b", 1)
    store._now_ns = lambda: 1 << 62  # type: ignore[misc]
    store.put(b"a", b"")

    assert store.get(b"a") is not None
    assert store.get(b"a/b") is None


def test_without_folders_a_key_may_be_both(tmp_path: Path) -> None:
    store = Store(tmp_path / "kv.db")
    store.put(b"a", b"")
    store.put(b"a/b", b"")
    assert keys(store) == [b"a", b"a/b"]
    store.close()


def test_a_key_is_reserved_for_one(store: Store) -> None:
    me, other = object(), object()
    assert not store.reserve(b"a", me)
    assert store.reserve(b"n", me)
    assert not store.reserve(b"n", me)
    assert not store.reserve(b"n", other)
    for act in (
        lambda: store.put(b"n", b""),
        lambda: store.put(b"n", b"", owner=other),
        lambda: store.append(b"n", b""),
        lambda: store.rename(b"a", b"n"),
        lambda: store.apply([Put(b"n", b"")]),
    ):
        with pytest.raises(KeyReserved):
            act()
    assert store.put(b"n", b"", expect=0, owner=me) == 4
    store.put(b"n", b"other")  # it is there now: anybody may
    store.release(b"n", other)
    store.release(b"n", me)
    store.delete(b"n")
    assert store.reserve(b"n", other)


def test_a_folder_moves_in_one_step(store: Store) -> None:
    told: list[bytes] = []
    store.watch(b"", lambda one: told.append(one.key))
    inode = store.get(b"f/g/2").inode  # type: ignore[union-attr]
    store.move(b"f/", b"h/i/")

    assert keys(store) == [b"a", b"h/i/1", b"h/i/g/2"]
    assert told == [b"f/1", b"h/i/1", b"f/g/2", b"h/i/g/2"]
    assert store.get(b"h/i/g/2").inode == inode  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        pytest.param(b"none/", b"x/", KeyMissing, id="that is not there"),
        pytest.param(b"f/", b"f/g/", KeyInvalid, id="into itself"),
        pytest.param(b"f/g/", b"f/", FolderInTheWay, id="to one that is not empty"),
        pytest.param(b"f/", b"x" * (KEY_BYTES - 2) + b"/", KeyTooLong, id="so that a key would be too long"),
    ],
)
def test_a_folder_is_not_moved(store: Store, old: bytes, new: bytes, fault: type[Exception]) -> None:
    before = keys(store)
    with pytest.raises(fault):
        store.move(old, new)
    assert keys(store) == before


def test_a_folder_of_too_many_keys_is_not_moved(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(change, "BATCH", 1)
    with pytest.raises(TooMany):
        store.move(b"f/", b"x/")
    assert keys(store) == [b"a", b"f/1", b"f/g/2"]


def test_the_status_of_a_key_is_what_a_page_says_of_it(store: Store) -> None:
    for listed in store.page():
        assert store.status(listed.key) == listed
    assert store.status(b"none") is None
    store.expire(b"a", 1)
    store._now_ns = lambda: 1 << 62  # type: ignore[misc]
    assert store.status(b"a") is None


def test_a_time_to_live_stays_when_it_is_not_mentioned(store: Store) -> None:
    store.expire(b"a", 100)
    due = store.get(b"a").expires_ns  # type: ignore[union-attr]
    store.put(b"a", b"2", ttl_seconds=None)
    store.apply([Put(b"a", b"3", ttl_seconds=None)])
    assert store.get(b"a").expires_ns == due > 0  # type: ignore[union-attr]
    store.put(b"a", b"4")
    assert store.get(b"a").expires_ns == 0  # type: ignore[union-attr]
    store.put(b"new", b"", ttl_seconds=None)
    assert store.get(b"new").expires_ns == 0  # type: ignore[union-attr]


def test_an_append_can_expect_a_revision(store: Store) -> None:
    with pytest.raises(Conflict):
        store.append(b"a", b"+", expect=7)
    store.append(b"a", b"+", expect=1)
    assert store.get(b"a").value == b"a+"  # type: ignore[union-attr]


def test_held_keys_are_listed(store: Store) -> None:
    for key in (b"b", b"f/1", b"a"):
        store.locks.acquire(key, self := object())
    assert store.locks.keys() == [b"a", b"b", b"f/1"]
    assert store.locks.keys(b"f/") == [b"f/1"]
    assert store.locks.owner(b"a") is self
    assert LOCKS == 10_000


def test_a_transaction_tells_what_it_would_write(store: Store) -> None:
    transaction = store.begin()
    transaction.put(b"a", b"22")
    transaction.put(b"new", b"")
    transaction.delete(b"f/1")

    listed = {one.key: one for one in transaction.listing()}
    assert list(listed) == [b"a", b"f/g/2", b"new"]
    assert (listed[b"a"].size, listed[b"a"].revision) == (2, 0)
    assert listed[b"a"].inode == store.get(b"a").inode  # type: ignore[union-attr]
    assert listed[b"new"].inode >= NEW
    assert transaction.entry(b"a").value == b"22"  # type: ignore[union-attr]
    assert transaction.entry(b"f/g/2") == store.get(b"f/g/2")
    assert transaction.entry(b"f/1") is None
    assert transaction.written_bytes == len(b"a22newf/1")
    transaction.commit()
    assert keys(store) == [b"a", b"f/g/2", b"new"]


def test_stores_are_opened_as_folders(tmp_path: Path) -> None:
    lease = Stores().open(tmp_path / "kv.db", folders=True)
    lease.store.put(b"a", b"")
    with pytest.raises(KeyInTheWay):
        lease.store.put(b"a/b", b"")
    assert not lease.store.power_safe
    lease.release()
