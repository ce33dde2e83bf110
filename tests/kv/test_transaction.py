from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pulp_runtime.kv import transaction as module
from pulp_runtime.kv.entry import Put
from pulp_runtime.kv.fault import Conflict, KeyInvalid, TooMany, ValueTooLarge
from pulp_runtime.kv.store import Store
from pulp_runtime.kv.transaction import OPEN, Transaction


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "kv.db")
    store.apply([Put(b"a", b"1"), Put(b"b", b"2"), Put(b"c", b"3")])
    yield store
    store.close()


def values(store: Store) -> dict[bytes, bytes]:
    return {listed.key: store.get(listed.key).value for listed in store.page()}  # type: ignore[union-attr]


def test_a_transaction_sees_the_store_as_it_was_and_its_own_writes(store: Store) -> None:
    transaction = store.begin()
    store.put(b"b", b"changed")
    store.delete(b"c")
    store.put(b"d", b"new")
    transaction.put(b"a", b"mine")

    assert transaction.get(b"a") == b"mine"
    assert transaction.get(b"b") == b"2"
    assert transaction.get(b"c") == b"3"
    assert transaction.get(b"d") is None
    assert transaction.page() == [b"a", b"b", b"c"]
    assert transaction.since == 3
    transaction.rollback()


def test_nobody_sees_it_before_it_commits_and_then_all_of_it(store: Store) -> None:
    transaction = store.begin()
    transaction.put(b"a", b"10")
    assert transaction.delete(b"b")
    assert not transaction.delete(b"nobody")
    transaction.put(b"new", b"20", ttl_seconds=60)
    before = values(store)

    assert transaction.commit() == 6
    assert before == {b"a": b"1", b"b": b"2", b"c": b"3"}
    assert values(store) == {b"a": b"10", b"c": b"3", b"new": b"20"}
    assert store.get(b"new").expires_ns > 0  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("does", "other"),
    [
        pytest.param(lambda t: t.get(b"a"), lambda s: s.put(b"a", b"x"), id="reads what another changes"),
        pytest.param(lambda t: t.get(b"a"), lambda s: s.delete(b"a"), id="reads what another deletes"),
        pytest.param(
            lambda t: t.get(b"z"), lambda s: s.put(b"z", b"x"), id="finds nothing where another puts something"
        ),
        pytest.param(lambda t: t.put(b"a", b"y"), lambda s: s.put(b"a", b"x"), id="writes what another writes"),
        pytest.param(lambda t: t.delete(b"a"), lambda s: s.put(b"a", b"x"), id="deletes what another changes"),
        pytest.param(lambda t: t.page(b"a"), lambda s: s.put(b"ab", b"x"), id="lists where another adds"),
        pytest.param(lambda t: t.page(), lambda s: s.delete(b"c"), id="lists what another deletes"),
        pytest.param(lambda t: t.page(limit=2), lambda s: s.put(b"aa", b""), id="has one page in which another adds"),
        pytest.param(lambda t: t.get(b"a"), lambda s: s.rename(b"b", b"a"), id="reads what another moves there"),
        pytest.param(lambda t: t.get(b"a"), lambda s: s.append(b"a", b"x"), id="reads what another appends to"),
    ],
)
def test_a_transaction_loses_when_it(
    store: Store, does: Callable[[Transaction], object], other: Callable[[Store], object]
) -> None:
    transaction = store.begin()
    does(transaction)
    transaction.put(b"written", b"")
    other(store)

    with pytest.raises(Conflict):
        transaction.commit()
    assert store.get(b"written") is None
    with pytest.raises(Conflict):
        transaction.get(b"a")


@pytest.mark.parametrize(
    ("does", "other"),
    [
        pytest.param(lambda t: t.get(b"a"), lambda s: s.put(b"b", b"x"), id="other keys are changed"),
        pytest.param(lambda t: t.page(b"a"), lambda s: s.put(b"b", b"x"), id="keys outside its listing are"),
        pytest.param(lambda t: t.page(limit=1), lambda s: s.put(b"c", b"x"), id="keys behind its page are"),
        pytest.param(lambda t: t.page(after=b"a"), lambda s: s.put(b"a", b"x"), id="keys before its page are"),
        pytest.param(lambda t: t.get(b"a"), lambda s: s.expire(b"a", 60), id="only a time to live is set"),
    ],
)
def test_a_transaction_wins_when(
    store: Store, does: Callable[[Transaction], object], other: Callable[[Store], object]
) -> None:
    transaction = store.begin()
    does(transaction)
    transaction.put(b"written", b"")
    other(store)

    transaction.commit()
    assert store.get(b"written") is not None


def test_of_two_that_change_one_key_the_second_loses(store: Store) -> None:
    one, two = store.begin(), store.begin()
    for each in (one, two):
        each.put(b"a", b"%d" % (int(each.get(b"a") or b"") + 1))

    one.commit()
    with pytest.raises(Conflict):
        two.commit()
    assert store.get(b"a").value == b"2"  # type: ignore[union-attr]


def test_transactions_that_try_again_count_right(store: Store) -> None:
    """The lost update, by eight threads."""
    store.put(b"n", b"0")

    def count() -> None:
        for _ in range(10):
            while True:
                transaction = store.begin()
                transaction.put(b"n", b"%d" % (int(transaction.get(b"n") or b"") + 1))
                try:
                    transaction.commit()
                    break
                except Conflict:
                    pass

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.get(b"n").value == b"80"  # type: ignore[union-attr]


def test_pages_of_a_transaction_have_its_own_writes_in_their_place(store: Store) -> None:
    transaction = store.begin()
    transaction.delete(b"b")
    transaction.put(b"ab", b"")
    transaction.put(b"z", b"")

    assert transaction.page() == [b"a", b"ab", b"c", b"z"]
    assert transaction.page(limit=2) == [b"a", b"ab"]
    assert transaction.page(after=b"ab", limit=2) == [b"c", b"z"]
    assert transaction.page(b"a") == [b"a", b"ab"]
    transaction.rollback()


def test_a_transaction_that_ends_leaves_nothing(store: Store) -> None:
    for _ in range(3 * OPEN):
        transaction = store.begin()
        transaction.put(b"a", b"x")
        transaction.rollback()
        transaction.rollback()
    assert values(store)[b"a"] == b"1"
    assert len(store._transactions._missed) == 0


def test_an_empty_transaction_commits(store: Store) -> None:
    assert store.begin().commit() == 3


def test_open_transactions_are_bounded(store: Store) -> None:
    opened = [store.begin() for _ in range(OPEN)]
    with pytest.raises(TooMany):
        store.begin()
    opened[0].rollback()
    store.begin().rollback()


def test_what_waits_in_a_transaction_is_bounded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WRITTEN_BYTES", 1000)
    monkeypatch.setattr(module, "KEYS", 5)
    transaction = store.begin()
    for _ in range(10):
        transaction.put(b"a", bytes(900))
    with pytest.raises(ValueTooLarge):
        transaction.put(b"b", bytes(200))
    reader, lister = store.begin(), store.begin()
    for number in range(5):
        reader.get(b"%d" % number)
        lister.page()
    with pytest.raises(TooMany):
        reader.get(b"one more")
    with pytest.raises(TooMany):
        lister.page()
    assert store._transactions.all() == []


def test_one_that_has_missed_too_much_has_lost(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REMEMBERED", 3)
    monkeypatch.setattr(store, "_transactions", transactions := module.Transactions())
    transactions._missed = type(transactions._missed)(maxlen=3)  # type: ignore[misc]
    transaction = store.begin()
    for number in range(5):
        store.put(b"other%d" % number, b"")
    transaction.put(b"a", b"x")
    with pytest.raises(Conflict):
        transaction.commit()


@pytest.mark.parametrize("key", [b"", b"\xff"])
def test_keys_are_checked_at_once(store: Store, key: bytes) -> None:
    transaction = store.begin()
    with pytest.raises(KeyInvalid):
        transaction.put(key, b"")
    with pytest.raises(KeyInvalid):
        transaction.delete(key)
    with pytest.raises(ValueTooLarge):
        transaction.put(b"a", bytes(16 * 1024 * 1024 + 1))
    transaction.rollback()
