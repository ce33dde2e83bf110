"""`storage.sqlite` in a running host: restarts, threads, and the loop that looks after statements."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.capabilities.puppet import Puppet, StubGuest, until
from tests.capabilities.storage.tables import NEWER

from pulp_runtime.capabilities.storage.sqlite import NAME
from pulp_runtime.capabilities.storage.sqlite_watch import OVERDUE_TIMES, Watch
from pulp_runtime.errors import CellError

Puppets = Callable[..., tuple[Puppet, ...]]
QUICK = "call_timeout_ms = 300"


def done(cell: Puppet, sql: str) -> Any:
    return cell.ask("sqlite_exec", sql.encode(), 0, 0)


def rows(cell: Puppet, sql: str) -> Any:
    return cell.ask("sqlite_query", sql.encode(), 0, 0)["rows"]


def test_a_cell_keeps_its_rows_over_restarts_and_an_open_transaction_does_not_outlive_a_trap(puppets: Puppets) -> None:
    (cell,) = puppets(NAME, NEWER)
    done(cell, "CREATE TABLE t (x); INSERT INTO t VALUES ('kept')")
    done(cell, "BEGIN IMMEDIATE; INSERT INTO t VALUES ('lost')")
    assert rows(cell, "SELECT x FROM t") == [["kept"], ["lost"]]
    cell.trap()

    assert rows(cell, "SELECT x FROM t") == [["kept"]]
    done(cell, "BEGIN IMMEDIATE; INSERT INTO t VALUES ('more'); COMMIT")
    assert rows(cell, "SELECT x FROM t") == [["kept"], ["more"]]


def test_cells_work_on_their_databases_at_the_same_time(puppets: Puppets, tmp_path: Path) -> None:
    names = [f"cell{number}" for number in range(6)]
    cells = puppets(NAME, NEWER, *names)

    def work(cell: Puppet) -> None:
        done(cell, "CREATE TABLE t (i INTEGER PRIMARY KEY, who TEXT)")
        for number in range(50):
            done(cell, f"INSERT INTO t VALUES ({number}, '{cell.name}')")
        assert rows(cell, "SELECT count(*), min(who), max(who) FROM t") == [[50, cell.name, cell.name]]

    with ThreadPoolExecutor(len(cells)) as pool:
        for result in [pool.submit(work, cell) for cell in cells]:
            result.result()
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == names


@pytest.mark.slow
def test_threat_12_instructions_that_take_long_end_soon_after_the_deadline(puppets: Puppets) -> None:
    (cell,) = puppets(NAME, NEWER, lines={"one": (QUICK,)})
    forever = (
        "WITH RECURSIVE c (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) "
        "SELECT sum(length(randomblob(4000000))) FROM c"
    )

    began = time.monotonic()
    with pytest.raises(CellError, match="deadline"):
        cell("sqlite_query", forever.encode(), 0, 0)
    assert time.monotonic() - began < 3.0
    until(lambda: cell.host.status()["one"].state == "ready" and cell.host.status()["one"].restarts)
    assert rows(cell, "SELECT 1") == [[1]]


@pytest.mark.slow
def test_threat_9_a_sort_that_would_fill_the_disk_is_interrupted(puppets: Puppets) -> None:
    if not Path("/proc/self/io").exists():
        pytest.skip("this system does not count what a thread writes")
    (cell,) = puppets(NAME, NEWER, lines={"one": ("[limits]", "disk_quota_mb = 1")})
    sort = "WITH RECURSIVE c (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x FROM c ORDER BY randomblob(20000)"

    code, answer = cell("sqlite_query", sort.encode(), 0, 0)
    assert (code, b"database or disk is full (13)" in answer) == (5, True)


@pytest.mark.slow
def test_a_cell_that_waits_for_a_lock_lets_others_have_the_worker(puppets: Puppets, tmp_path: Path) -> None:
    waits, works = puppets(NAME, NEWER, "waits", "works", workers=1)
    done(waits, "CREATE TABLE t (x); PRAGMA busy_timeout = 20000")
    done(works, "CREATE TABLE t (x)")
    other = sqlite3.connect(tmp_path / "data" / "waits" / "data.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    thread = threading.Thread(target=done, args=(waits, "INSERT INTO t VALUES (1)"))
    thread.start()
    for number in range(20):
        done(works, f"INSERT INTO t VALUES ({number})")
    other.execute("COMMIT")
    thread.join()
    other.close()

    assert rows(waits, "SELECT x FROM t") == [[1]]


def test_a_broken_database_fails_its_cell_and_no_other(puppets: Puppets, tmp_path: Path) -> None:
    broken = tmp_path / "data" / "broken" / "data.db"
    broken.parent.mkdir(parents=True)
    broken.write_bytes(b"no database, but long enough to look like one" * 100)
    _broken, sound = puppets(NAME, NEWER, "broken", "sound")
    status = sound.host.status()

    assert status["broken"].state == "failed"
    assert "file is not a database; put it right, restore a backup" in status["broken"].reason
    assert rows(sound, "SELECT 1") == [[1]]


def enter(watch: Watch, guest: StubGuest) -> None:
    watch.guest = guest  # type: ignore[assignment]
    watch.runs += 1


def test_a_statement_that_cannot_be_ended_is_told_once(stub_guest: Callable[..., StubGuest]) -> None:
    interrupts = []
    watch = Watch(lambda: interrupts.append(1), lambda: 1 << 40)
    guest = stub_guest()
    enter(watch, guest)
    assert [watch.tend(), watch.late()] == [False, False]
    guest.seconds = 0.0

    assert watch.late()
    assert [watch.tend() for _ in range(2 * OVERDUE_TIMES)].count(True) == 1
    assert len(interrupts) == 2 * OVERDUE_TIMES
    enter(watch, guest)
    assert not watch.tend()
    watch.guest = None
    assert [watch.tend(), watch.late()] == [False, False]


def test_a_connection_that_has_just_been_closed_is_not_interrupted(stub_guest: Callable[..., StubGuest]) -> None:
    connection = sqlite3.connect(":memory:")
    watch = Watch(connection.interrupt, lambda: 0)
    guest = stub_guest()
    guest.seconds = 0.0
    enter(watch, guest)
    connection.close()

    assert not watch.tend()
