"""Results that are read in pieces."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import pytest
from tests.capabilities.storage.tables import NEWER, OUTS, PAGE, Tables, memory_guest, settled, storage, tables

from pulp_runtime.capabilities.storage import sqlite
from pulp_runtime.capabilities.storage.sqlite_rows import OPEN_RESULTS
from pulp_runtime.testing import CellUnderTest, guest

Make = Callable[..., CellUnderTest]
COUNT = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) SELECT i FROM n"
BLOBS = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) SELECT i, zeroblob(1000) FROM n"


@pytest.fixture
def sql(pulp_cell: Make, tmp_path: Path) -> Tables:
    return tables(pulp_cell, pages=4, **storage(tmp_path))


def opened(sql: Tables, statement: str, *values: Any) -> int:
    code, answer = sql.open(statement, *values)
    assert code == 0, answer
    return answer["handle"]


def test_rows_come_in_pieces_and_then_nothing(sql: Tables) -> None:
    code, answer = sql.open(COUNT, 5)
    assert (code, answer["columns"]) == (0, ["i"])

    assert sql.next(answer["handle"], 5 + 2 * 10) == (0, [[1], [2]])
    assert sql.next(answer["handle"], 5 + 2 * 10 + 9) == (0, [[3], [4]])
    assert sql.next(answer["handle"]) == (0, [[5]])
    assert sql.next(answer["handle"]) == (0, b"")
    assert sql.next(answer["handle"]) == (6, None)


def test_a_result_far_larger_than_the_cells_memory_is_read_whole(sql: Tables) -> None:
    handle = opened(sql, BLOBS, 5_000)  # five million bytes, through memory of a quarter of one
    seen = pieces = 0
    while (rows := sql.next(handle, 100_000)[1]) != b"":
        assert [row[0] for row in rows] == list(range(seen + 1, seen + 1 + len(rows)))
        seen += len(rows)
        pieces += 1

    assert seen == 5_000
    assert pieces > 5_000_000 // (4 * PAGE)


def test_a_row_that_does_not_fit_is_19_and_stays_the_next(sql: Tables) -> None:
    handle = opened(sql, BLOBS, 2)

    code, answer = sql.next(handle, 100)
    assert (code, answer["error"]) == (19, "the next row takes 1018 bytes, not 100")
    assert [row[0] for row in sql.next(handle, 1018)[1]] == [1]
    assert [row[0] for row in sql.next(handle, 0xFFFF_FFFF)[1]] == [2]


def test_no_rows_is_nothing_at_once(sql: Tables) -> None:
    assert sql.next(opened(sql, "SELECT 1 WHERE 0")) == (0, b"")


def test_dates_and_odd_text_are_converted_as_in_a_query(sql: Tables) -> None:
    sql.done("CREATE TABLE t (at DATETIME, b TEXT)")
    sql.done("INSERT INTO t VALUES ('2026-05-01', CAST(x'ff' AS TEXT))")
    handle = opened(sql, "SELECT at, b FROM t")
    sql.cell.run("sqlite_rows_next", handle, 1000, *OUTS)
    address, length = (int.from_bytes(sql.cell.read(out, 4), "little") for out in OUTS)
    data = sql.cell.read(address, length)

    assert msgpack.unpackb(data, raw=True) == [[msgpack.Timestamp(1_777_593_600, 0), b"\xff"]]


def test_other_statements_run_between_two_pieces(sql: Tables) -> None:
    sql.done("CREATE TABLE t (i)")
    handle = opened(sql, COUNT, 100)
    other = opened(sql, COUNT, 100)
    for expected in range(1, 101):
        assert sql.next(handle, 15) == (0, [[expected]])
        sql.done("INSERT INTO t VALUES (?)", expected)
        assert sql.next(other, 15) == (0, [[expected]])
    assert sql.rows("SELECT count(*) FROM t") == [[100]]


def test_a_result_of_a_change_can_be_read_too(sql: Tables) -> None:
    sql.done("CREATE TABLE t (i INTEGER PRIMARY KEY)")
    handle = opened(sql, "INSERT INTO t VALUES (1), (2), (3) RETURNING i")

    assert sql.next(handle) == (0, [[1], [2], [3]])
    assert sql.next(handle) == (0, b"")
    assert sql.done("SELECT 1") == {"rows_affected": 3, "last_insert_id": 3}


def test_a_result_can_be_given_up(sql: Tables) -> None:
    sql.done("CREATE TABLE t (i); INSERT INTO t VALUES (1), (2), (3), (4)")
    handle = opened(sql, "SELECT i FROM t")
    sql.next(handle, 15)

    assert sql.exec("DROP TABLE t")[0] == 12
    assert sql.close(handle) == 0
    assert sql.exec("DROP TABLE t")[0] == 0
    assert sql.close(handle) == 6
    assert sql.next(handle) == (6, None)


def test_a_failure_on_the_way_closes_the_result(sql: Tables) -> None:
    handle = opened(sql, "SELECT abs(i) FROM (SELECT 1 AS i UNION ALL SELECT 2 UNION ALL SELECT -9223372036854775808)")

    codes = [sql.next(handle, 15)[0] for _ in range(4)]
    assert 5 in codes
    assert sql.next(handle) == (6, None)


def test_a_rollback_ends_what_is_being_read(sql: Tables) -> None:
    sql.done("CREATE TABLE t (i); INSERT INTO t VALUES (1), (2), (3), (4); BEGIN; DELETE FROM t WHERE i = 4")
    handle = opened(sql, "SELECT i FROM t")
    sql.next(handle, 15)
    sql.done("ROLLBACK")

    code, answer = sql.next(handle)
    assert (code, "aborted" in str(answer)) in ((5, True), (0, False))  # SQLite may go on reading what has not changed


def test_a_cell_reads_so_many_results_and_no_more(sql: Tables) -> None:
    handles = [opened(sql, COUNT, 3) for _ in range(OPEN_RESULTS)]

    code, answer = sql.open(COUNT, 3)
    assert (code, answer["error"]) == (21, "16 results are open; close one")
    assert sql.close(handles[3]) == 0
    assert opened(sql, COUNT, 3) not in handles


@pytest.mark.parametrize("statement", ["CREATE TABLE t (x)", "SELECT 1; SELECT 2", "", " -- nothing", "SELEC"])
def test_only_one_statement_with_rows_can_be_read(sql: Tables, statement: str) -> None:
    assert sql.open(statement or " ")[0] == 5


@pytest.mark.parametrize("handle", [0, 2, 0xFFFF_FFFF])
def test_a_handle_that_nobody_gave_out_is_6(sql: Tables, handle: int) -> None:
    opened(sql, COUNT, 3)

    assert sql.next(handle) == (6, None)
    assert sql.close(handle) == 6


def test_results_end_with_the_instance(sql: Tables) -> None:
    handle = opened(sql, COUNT, 3)
    sql.cell.restart()

    assert sql.next(handle) == (6, None)


def test_a_handle_that_cannot_be_delivered_is_taken_back(pulp_cell: Make, tmp_path: Path) -> None:
    cell = pulp_cell(guest(NEWER, alloc="refuse"), capabilities=[sqlite.capability()], **storage(tmp_path))
    cell.init()
    cell.write(64, b"SELECT 1")
    for _ in range(2 * OPEN_RESULTS):
        assert cell.run("sqlite_rows_open", 64, 8, 0, 0, *OUTS) == 7


def test_pieces_that_cannot_be_delivered_are_7(pulp_cell: Make, tmp_path: Path) -> None:
    cell = pulp_cell(memory_guest(NEWER, 2), capabilities=[sqlite.capability()], **storage(tmp_path))
    cell.init()
    sql = Tables(cell, NEWER)
    handle = opened(sql, BLOBS, 200)

    assert sql.next(handle, 1_000_000) == (7, None)


# Results that are read in one piece ---------------------------------------------------------------------------------


def test_threat_13_a_result_longer_than_the_bound_is_a_code_and_never_in_memory_at_once(
    pulp_cell: Make, tmp_path: Path
) -> None:
    sql = tables(pulp_cell, capability=settled(result_bytes=65_536), **storage(tmp_path))

    code, answer = sql.query(BLOBS, 1_000_000_000)  # a terabyte, if it were read to its end
    assert (code, answer["error"]) == (
        19,
        "the result is longer than 65536 bytes; read it with sqlite_rows_open",
    )
    assert sql.query(BLOBS, 60)[0] == 0
    code, answer = sql.call("sqlite_query_many", BLOBS, msgpack.packb([[40], [40]]))
    assert (code, answer["columns"]) == (19, None)


def test_threat_13_a_result_larger_than_the_cells_memory_is_a_code(sql: Tables) -> None:
    assert sql.query(BLOBS, 1_000) == (7, None)
    assert sql.rows(COUNT, 3) == [[1], [2], [3]]


def test_threat_13_a_value_past_its_bound_is_an_error(pulp_cell: Make, tmp_path: Path) -> None:
    sql = tables(pulp_cell, capability=settled(value_bytes=100_000), **storage(tmp_path))

    assert sql.query("SELECT length(zeroblob(100000))")[0] == 0
    for statement in ("SELECT zeroblob(100001)", "SELECT hex(zeroblob(60000))"):
        code, answer = sql.query(statement)
        assert (code, answer["error"]) == (5, "string or blob too big (18)")
    code, answer = sql.query("SELECT ?", bytes(100_001))
    assert (code, answer["error"]) == (5, "string or blob too big (18)")
