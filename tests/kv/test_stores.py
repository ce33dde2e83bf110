from __future__ import annotations

from pathlib import Path

import pytest

from pulp_runtime.kv.fault import StoreBusy, StoreClosed
from pulp_runtime.kv.stores import Stores


def test_who_asks_for_one_file_gets_one_store(tmp_path: Path) -> None:
    stores = Stores()
    one, two = stores.open(tmp_path / "a.db"), stores.open(tmp_path / "." / "a.db")
    other = stores.open(tmp_path / "b.db")

    assert one.store is two.store
    assert other.store is not one.store
    assert set(stores.all()) == {one.store, other.store}


def test_the_last_one_closes_it(tmp_path: Path) -> None:
    stores = Stores()
    one, two = stores.open(tmp_path / "a.db"), stores.open(tmp_path / "a.db")
    one.release()
    one.release()
    two.store.put(b"key", b"x")
    two.release()

    with pytest.raises(StoreClosed):
        two.store.get(b"key")
    again = stores.open(tmp_path / "a.db")
    assert again.store.get(b"key").value == b"x"  # type: ignore[union-attr]
    again.release()
    assert stores.all() == []


def test_those_who_share_a_store_want_the_same_of_it(tmp_path: Path) -> None:
    stores = Stores()
    lease = stores.open(tmp_path / "a.db")
    with pytest.raises(StoreBusy, match="durability"):
        stores.open(tmp_path / "a.db", power_safe=True)
    lease.release()
    stores.open(tmp_path / "a.db", power_safe=True).release()
