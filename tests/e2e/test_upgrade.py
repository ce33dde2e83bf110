"""Another version while there is work: requests in flight, data of another shape, versions that fail halfway."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pulp_runtime import Host
from pulp_runtime.errors import Errno, OperationFailed

from .test_reload import Stage as Reloaded
from .test_reload import guest

DEADLINE_SECONDS = 20.0
STATEMENTS = """(module
  (import "pulp" "sqlite_exec" (func $exec (param i32 i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (global $top (mut i32) (i32.const 4096))
  (func (export "pulp_alloc") (param i32) (result i32) (local i32)
    (local.set 1 (global.get $top))
    (global.set $top (i32.add (global.get $top) (local.get 0))) (local.get 1))
  (func (export "pulp_step") (param i32 i32) (result i32) (i32.const 0))
  (func (export "pulp_shutdown") (result i32) (i32.const 0))
  (func $run (param i32 i32) (result i32)
    (call $exec (local.get 0) (local.get 1) (i32.const 0) (i32.const 0) (i32.const 8) (i32.const 12)))
  (func (export "pulp_on_call") (param i32 i32 i32 i32 i32 i32) (result i32) (local $at i32)
    (local.set $at (i32.const 16))
    (i32.store (local.get $at) (call $run (local.get 2) (local.get 3)))
    (i32.store (local.get 4) (local.get $at)) (i32.store (local.get 5) (i32.const 4)) (i32.const 0))
  (func (export "pulp_init") (param i32 i32) (result i32)
    %(statements)s
    (i32.const %(code)d)) %(data)s)"""


def migrating(statements: list[str], code: int = 0) -> str:
    """Return a guest whose `pulp_init` runs statements and answers a code; `run` runs one more."""
    calls, data, at = [], [], 256
    for statement in statements:
        data.append(f'(data (i32.const {at}) "{statement}")')
        calls.append(f"(if (call $run (i32.const {at}) (i32.const {len(statement)})) (then (return (i32.const 90))))")
        at += len(statement)
    return STATEMENTS % {"statements": "\n".join(calls), "data": "\n".join(data), "code": code}


@pytest.fixture
def says(cell, wasm, tmp_path: Path) -> Iterator[Reloaded]:
    folder = cell(wasm(guest("1")), 'capabilities = ["transport.http.inbound"]', name="says")
    with Host([folder], storage_root=tmp_path / "data", http_port="127.0.0.1:0") as host:
        yield Reloaded(host, folder, wasm)


class Store:
    """A host with one cell that keeps a database."""

    def __init__(self, host: Host, folder: Path, wasm: Callable[[str], bytes], file: Path) -> None:
        self.host, self.folder, self._wasm, self._file = host, folder, wasm, file

    def write(self, statements: list[str], code: int = 0) -> None:
        (self.folder / "cell.wasm").write_bytes(self._wasm(migrating(statements, code)))

    def do(self, operation: str) -> None:
        self.host._thread.run(getattr(self.host.operations, operation)("store"))

    def run(self, statement: str) -> int:
        return int.from_bytes(self.host.call("store", "run", statement.encode()), "little")

    @property
    def tables(self) -> dict[str, int]:
        """What is on the disk: tables, and how many rows each has."""
        with sqlite3.connect(self._file) as database:
            names = [name for (name,) in database.execute("SELECT name FROM sqlite_master ORDER BY name")]
            found = {name: database.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in names}
        database.close()
        return found


@pytest.fixture
def store(cell, wasm, tmp_path: Path) -> Iterator[Store]:
    first = migrating(["CREATE TABLE IF NOT EXISTS one (a)", "INSERT INTO one VALUES (1)"])
    folder = cell(wasm(first), 'capabilities = ["storage.sqlite"]', 'provides = ["run"]', "tick_ms = 0", name="store")
    with Host([folder], storage_root=tmp_path / "data", http_port="127.0.0.1:0") as host:
        yield Store(host, folder, wasm, tmp_path / "data" / "store" / "data.db")


@pytest.mark.slow
def test_threat_49_a_request_in_flight_is_answered_by_the_version_that_has_it(says: Reloaded) -> None:
    lock = says.host._runners()["says"].cell._lock
    says.write("2")
    answers: list[tuple[int, bytes]] = []
    lock.acquire()  # the cell is in a call that takes as long as this test wants
    try:
        client = threading.Thread(target=lambda: answers.append(says.get()))
        client.start()
        wait_until(lambda: bool(lock._queue))  # the request has been taken out of the mailbox
        operator = threading.Thread(target=lambda: says.do("reload"))
        operator.start()
        wait_until(lambda: bool(says.host._runners()["says"]._jobs))
        assert answers == []
    finally:
        lock.release()
    client.join()
    operator.join()

    assert answers == [(200, b"1")]
    assert says.get() == (200, b"2")


@pytest.mark.slow
def test_threat_49_requests_that_wait_are_answered_by_the_new_version_and_none_is_lost(says: Reloaded) -> None:
    runner = says.host._runners()["says"]
    says.write("2")
    answers: list[tuple[int, bytes]] = []
    runner.cell._lock.acquire()
    try:
        first = threading.Thread(target=lambda: answers.append(says.get()))
        first.start()
        wait_until(lambda: bool(runner.cell._lock._queue))
        operator = threading.Thread(target=lambda: says.do("reload"))
        operator.start()
        wait_until(lambda: bool(runner._jobs))
        others = [threading.Thread(target=lambda: answers.append(says.get())) for _ in range(20)]
        for other in others:
            other.start()
        wait_until(lambda: len(runner.mailbox) == 20)
    finally:
        runner.cell._lock.release()
    for thread in (first, operator, *others):
        thread.join()

    assert len(answers) == 21
    assert {status for status, _ in answers} == {200}
    assert runner.restarts == 0


def test_threat_49_a_migration_that_fails_halfway_is_rolled_back_and_the_old_version_goes_on(store: Store) -> None:
    assert store.tables == {"one": 1}
    store.write(["BEGIN", "CREATE TABLE two (b)", "INSERT INTO two SELECT a FROM one", "DROP TABLE one"], code=7)

    with pytest.raises(OperationFailed, match="pulp_init returned 7"):
        store.do("reload")

    assert store.run("INSERT INTO one VALUES (2)") == Errno.OK
    assert store.tables == {"one": 2}


def test_threat_49_a_version_that_cannot_read_the_data_is_not_adopted(store: Store) -> None:
    store.write(["INSERT INTO two VALUES (1)"])  # there is no such table

    with pytest.raises(OperationFailed, match="pulp_init returned 90"):
        store.do("reload")

    assert store.run("INSERT INTO one VALUES (2)") == Errno.OK
    assert store.host.status()["store"].state == "ready"


def test_threat_49_a_rollback_that_the_data_do_not_allow_is_refused_and_the_new_version_goes_on(
    store: Store,
) -> None:
    store.write(["BEGIN", "CREATE TABLE two (b)", "INSERT INTO two SELECT a FROM one", "DROP TABLE one", "COMMIT"])
    store.do("reload")
    assert store.tables == {"two": 1}
    store.write(["INSERT INTO two VALUES (2)"])
    store.do("reload")

    with pytest.raises(OperationFailed, match="pulp_init returned 90"):
        store.do("rollback")  # to the one that migrates: what it would make is there already

    assert store.run("INSERT INTO two VALUES (3)") == Errno.OK
    assert store.tables == {"two": 3}


def test_threat_49_a_trap_in_the_new_versions_init_leaves_the_old_one_and_its_data(store: Store, wasm) -> None:
    text = migrating(["BEGIN", "DROP TABLE one"]).replace("(i32.const 0)) (data", "unreachable) (data")
    (store.folder / "cell.wasm").write_bytes(wasm(text))

    with pytest.raises(OperationFailed, match="unreachable"):
        store.do("reload")

    assert store.run("INSERT INTO one VALUES (2)") == Errno.OK
    assert store.tables == {"one": 2}
    assert store.host.status()["store"].restarts == 0


def wait_until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE_SECONDS
    while not true():
        assert time.monotonic() < end
        time.sleep(0.001)
