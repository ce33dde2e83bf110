"""SQL from a real guest to a real server: results, errors, transactions."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from pulp_runtime.testing import HOSTILE_RANGES, CellUnderTest, guest

from conftest import ADDRESS, LENGTH, NAME, PARAMS, QUERY, Caller
from pulp_ext_postgres.database import capability

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


# Statements ---------------------------------------------------------------------------------------------------------


def test_a_cell_reads_back_what_it_wrote(db: Caller) -> None:
    db.done("CREATE TABLE notes (id INTEGER PRIMARY KEY AUTOINCREMENT, body TEXT NOT NULL, data BLOB)")

    written = db.exec("INSERT INTO notes (body, data) VALUES (?, ?), (?, X'00FF')", "one", b"\x00\x01", "Zoë")

    assert written.value == {"rows_affected": 2, "last_insert_id": 0}
    assert db.query("SELECT id, body, data FROM notes ORDER BY id").value == {
        "columns": ["id", "body", "data"],
        "rows": [[1, "one", b"\x00\x01"], [2, "Zoë", b"\x00\xff"]],
    }


def test_results_are_the_bytes_of_the_contract(db: Caller) -> None:
    db.done("CREATE TABLE t (n INTEGER)")

    assert db.exec("INSERT INTO t VALUES (7)").raw == (
        b"\x82\xadrows_affected\xd3" + bytes(7) + b"\x01\xaelast_insert_id\xd3" + bytes(8)
    )
    assert db.query("SELECT n FROM t").raw == b"\x82\xa7columns\x91\xa1n\xa4rows\x91\x91\xd3" + bytes(7) + b"\x07"
    assert db.query("SELECT n FROM t WHERE n = 0").raw == b"\x82\xa7columns\x91\xa1n\xa4rows\xc0"
    assert db.query("SELEC").raw == b"\x83\xa7columns\xc0\xa4rows\xc0\xa5error\xd9" + (
        b'?ERROR: syntax error at or near "SELEC" (SQLSTATE 42601)'.replace(b"?", bytes([55]))
    )


def test_statements_run_one_after_the_other_and_take_their_parameters_in_order(db: Caller) -> None:
    last = db.exec("CREATE TABLE t (a INTEGER); INSERT INTO t VALUES (?), (?); UPDATE t SET a = a + ?;", 1, 2, 10)

    assert last.value["rows_affected"] == 2
    both = db.query("SELECT a FROM t WHERE a = ?; UPDATE t SET a = 0; -- the end\n;", 11)
    assert both.value == {"columns": ["a"], "rows": [[11]]}
    assert db.rows("SELECT a FROM t") == [[0], [0]]


def test_what_comes_before_a_statement_that_fails_has_been_done(db: Caller) -> None:
    assert db.exec("CREATE TABLE t (a INTEGER); INSERT INTO t VALUES (1); INSERT INTO nowhere VALUES (1)").code == 5
    assert db.rows("SELECT a FROM t") == [[1]]


def test_numbered_parameters_name_values(db: Caller) -> None:
    assert db.rows("SELECT CAST(?2 AS TEXT), CAST(?1 AS TEXT), CAST($2 AS TEXT)", "a", "b") == [["b", "a", "b"]]


def test_surplus_parameters_are_ignored_and_missing_ones_are_an_error(db: Caller) -> None:
    assert db.rows("SELECT CAST(? AS INTEGER)", 1, 2, 3) == [[1]]
    short = db.query("SELECT CAST(? AS INTEGER), CAST(? AS INTEGER)", 1)
    assert (short.code, short.value["error"]) == (5, "the statement takes 2 parameters, there are 1")


def test_a_query_without_rows_has_no_columns(db: Caller) -> None:
    assert db.query("CREATE TABLE t (a INTEGER)").value == {"columns": [], "rows": None}
    assert db.query("INSERT INTO t VALUES (1) RETURNING a").value == {"columns": ["a"], "rows": [[1]]}
    assert db.query("/* nothing */").value == {"columns": [], "rows": None}
    assert db.exec(" ; ").value == {"rows_affected": 0, "last_insert_id": 0}


@pytest.mark.parametrize(
    ("declared", "value", "read"),
    [
        ("INTEGER", None, None),
        ("INTEGER", 2**63 - 1, 2**63 - 1),
        ("INTEGER", -(2**63), -(2**63)),
        ("INTEGER", True, 1),
        ("BOOLEAN", True, 1),
        ("BOOLEAN", False, 0),
        ("BOOLEAN", 1, 1),
        ("TEXT", 5, "5"),
        ("TEXT", "'; DROP TABLE t; --", "'; DROP TABLE t; --"),
        ("TEXT", "", ""),
        ("REAL", 1.5, 1.5),
        ("DOUBLE PRECISION", 0.1, 0.1),
        ("DOUBLE PRECISION", float("-inf"), float("-inf")),
        ("DOUBLE PRECISION", 5e-324, 5e-324),
        ("NUMERIC", 12, 12),
        ("NUMERIC(10, 2)", 1.25, 1.25),
        ("BLOB", b"\x00\xff'\\", b"\x00\xff'\\"),
        ("BLOB", b"", None),
        ("TIMESTAMP", NOON, NOON),
        ("TIMESTAMPTZ", NOON.replace(microsecond=123456), NOON.replace(microsecond=123456)),
        ("TIMESTAMP", datetime(1969, 7, 20, 20, 17, tzinfo=UTC), datetime(1969, 7, 20, 20, 17, tzinfo=UTC)),
        ("DATE", NOON, NOON.replace(hour=0)),
        ("TEXT", NOON, "2026-05-01 12:00:00+00:00"),
        ("JSONB", '{"a": 1}', '{"a": 1}'),
        ("UUID", "00000000-0000-0000-0000-00000000000A", "00000000-0000-0000-0000-00000000000a"),
    ],
)
def test_a_value_comes_back_as_the_contract_says(db: Caller, declared: str, value: Any, read: Any) -> None:
    db.done(f"CREATE TABLE t (v {declared})")
    written = db.exec("INSERT INTO t VALUES (?)", value)
    assert written.code == 0, written.value

    assert db.rows("SELECT v FROM t") == [[read]]
    assert db.rows("SELECT 1 FROM t WHERE v IS NULL OR v = ?", value) == [[1]] or declared in ("REAL", "DATE")


@pytest.mark.parametrize(
    ("expression", "read"),
    [
        ("TIMESTAMP 'infinity'", "infinity"),
        ("TIMESTAMP '0044-03-15 BC'", "0044-03-15 00:00:00 BC"),
        ("DATE '12026-01-01'", "12026-01-01"),
        ("TIMESTAMPTZ '2026-05-01 12:00:00+05:30'", datetime(2026, 5, 1, 6, 30, tzinfo=UTC)),
        ("sum(n) FROM (VALUES (1), (2)) AS t(n)", 3),
        ("avg(n) FROM (VALUES (1), (2)) AS t(n)", 1.5),
        ("NUMERIC '123456789012345678901234567890'", 1.2345678901234568e29),
        ("ARRAY[1, 2]", "{1,2}"),
        ("INTERVAL '1 day'", "1 day"),
        ("'x'::name", "x"),
    ],
)
def test_an_expression_comes_back_as_the_contract_says(db: Caller, expression: str, read: Any) -> None:
    assert db.rows(f"SELECT {expression}") == [[read]]


# Errors -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statement", "code", "told"),
    [
        ("SELECT * FROM missing", 5, 'relation "missing" does not exist (SQLSTATE 42P01)'),
        ("INSERT INTO t VALUES (1, 1)", 13, "(SQLSTATE 23505)"),
        ("INSERT INTO t VALUES (2, NULL)", 13, "(SQLSTATE 23502)"),
        ("INSERT INTO t VALUES (2, -1)", 13, "(SQLSTATE 23514)"),
        ("INSERT INTO u VALUES (99)", 13, "(SQLSTATE 23503)"),
        ("SELECT 1/0", 5, "division by zero"),
        ("SELECT CAST('x' AS INTEGER)", 5, "invalid input syntax"),
        ("PRAGMA journal_mode", 5, "PRAGMA is refused: PostgreSQL has no pragmas; leave it out"),
        ("VACUUM", 5, "VACUUM is refused"),
        ("ATTACH 'x' AS y", 5, "ATTACH is refused"),
        ("REPLACE INTO t VALUES (1, 2)", 5, "REPLACE is refused: write INSERT ... ON CONFLICT"),
        ("INSERT OR IGNORE INTO t VALUES (1, 2)", 5, "INSERT OR ... is refused"),
        ("COPY t TO STDOUT", 5, "COPY is refused"),
        ("COMMIT", 5, "cannot commit: no transaction is active"),
        ("ROLLBACK", 5, "cannot rollback: no transaction is active"),
    ],
)
def test_an_error_is_a_code_and_its_text(db: Caller, statement: str, code: int, told: str) -> None:
    db.done(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER NOT NULL CHECK (n > 0)); INSERT INTO t VALUES (1, 1)",
        "CREATE TABLE u (id INTEGER REFERENCES t (id))",
    )

    for answer in (db.exec(statement), db.query(statement)):
        assert answer.code == code
        assert told in answer.value["error"]
    assert db.rows("SELECT 1") == [[1]], "the connection is as good as before"


def test_a_raised_error_of_the_cells_own_is_5(db: Caller) -> None:
    assert db.exec("DO $$ BEGIN RAISE EXCEPTION 'custom; not ?'; END $$").value["error"] == (
        "ERROR: custom; not ? (SQLSTATE P0001)"
    )


def test_writing_in_a_transaction_that_only_reads_is_14(db: Caller) -> None:
    db.done("CREATE TABLE t (n INTEGER)", "BEGIN READ ONLY")

    assert db.exec("INSERT INTO t VALUES (1)").code == 14
    db.done("ROLLBACK")


def test_a_lock_that_another_holds_is_12_after_a_while(make_cell: Callable[..., Caller]) -> None:
    one, two = make_cell({"shared_schema": "test_busy"}), make_cell({"shared_schema": "test_busy"}, name="two")
    one.done("CREATE TABLE t (n INTEGER)", "BEGIN", "LOCK TABLE t")
    two.done("SET lock_timeout = '20ms'")

    busy = two.exec("INSERT INTO t VALUES (1)")
    assert (busy.code, busy.value["error"]) == (
        12,
        "ERROR: canceling statement due to lock timeout (SQLSTATE 55P03)",
    )
    one.done("COMMIT")
    two.done("INSERT INTO t VALUES (1)")


def test_transactions_that_cannot_both_be_are_12(make_cell: Callable[..., Caller]) -> None:
    one, two = make_cell({"shared_schema": "test_serial"}), make_cell({"shared_schema": "test_serial"}, name="two")
    one.done("CREATE TABLE t (n INTEGER)", "INSERT INTO t VALUES (1)")
    for cell in (one, two):
        cell.done("BEGIN ISOLATION LEVEL REPEATABLE READ", "SELECT * FROM t")
    one.done("UPDATE t SET n = 2", "COMMIT")

    lost = two.exec("UPDATE t SET n = 3")
    assert (lost.code, "SQLSTATE 40001" in lost.value["error"]) == (12, True)


@pytest.mark.parametrize(
    ("params", "code"),
    [
        pytest.param(b"\xc0", 0, id="nil"),
        pytest.param(b"\x90", 0, id="none"),
        pytest.param(b"\x80", 3, id="a map"),
        pytest.param(b"\x01", 3, id="a number"),
        pytest.param(b"\x92\x01", 3, id="fewer than announced"),
        pytest.param(b"\x91\x01\x01", 3, id="more than announced"),
        pytest.param(b"\xc1", 3, id="no MessagePack"),
        pytest.param(b"\xdd\xff\xff\xff\xff", 5, id="four billion"),
        pytest.param(b"\x91" * 10_000 + b"\x01", 3, id="nested without end"),
        pytest.param(b"\x91\x91\x01", 5, id="an array in it"),
        pytest.param(b"\x91\x80", 5, id="a map in it"),
        pytest.param(b"\x91\xc7\x01\x05x", 5, id="an extension in it"),
        pytest.param(b"\x91\xc7\x05\xffxxxxx", 5, id="a time of a wrong length"),
        pytest.param(b"\x91\xc7\x0c\xff" + bytes(4) + b"\x7f" + b"\xff" * 7, 5, id="a time past all years"),
        pytest.param(b"\x91\xcf\xff\xff\xff\xff\xff\xff\xff\xff", 5, id="2**64-1"),
        pytest.param(b"\x91\xa3a\x00b", 5, id="text with a NUL"),
        pytest.param(b"\x91\xa1\xff", 5, id="text that is no UTF-8"),
    ],
)
def test_parameters_that_are_none_are_refused(db: Caller, params: bytes, code: int) -> None:
    db.done("CREATE TABLE t (v TEXT)")
    query = "SELECT 1" if not code else "INSERT INTO t VALUES (?)"

    assert db.call("sqlite_exec", query, params).code == code
    assert db.rows("SELECT count(*) FROM t") == [[0]]


@pytest.mark.parametrize("query", [b"SELECT '\xff'", b"SELECT 1\0; DROP TABLE t"])
def test_a_query_that_is_no_text_is_5(db: Caller, query: bytes) -> None:
    assert db.call("sqlite_query", query).code == 5


@pytest.mark.parametrize("name", ["sqlite_exec", "sqlite_query"])
def test_an_empty_query_is_1(db: Caller, name: str) -> None:
    assert db.call(name, "") == (1, None, b"")


@pytest.mark.parametrize("name", ["sqlite_exec", "sqlite_query"])
@pytest.mark.parametrize("words", HOSTILE_RANGES.values(), ids=HOSTILE_RANGES.keys())
def test_a_query_or_parameters_outside_memory_are_2(db: Caller, name: str, words: tuple[int, int]) -> None:
    db.cell.write(QUERY, b"SELECT 1")

    assert db.cell.run(name, *words, PARAMS, 0, ADDRESS, LENGTH) == 2
    assert db.cell.run(name, QUERY, 8, *words, ADDRESS, LENGTH) == 2


@pytest.mark.parametrize(
    ("alloc", "code"), [pytest.param("refuse", 7, id="has no room"), pytest.param("outside", 8, id="lies about it")]
)
def test_an_answer_is_lost_on_a_guest_that(make_cell: Callable[..., Caller], alloc: str, code: int) -> None:
    db = make_cell(alloc=alloc)

    assert db.exec("CREATE TABLE t (n INTEGER)").code == code
    assert db.exec("CREATE TABLE t (n INTEGER)").code == 5, "it was done all the same; the error's text is left out"


def test_an_answer_without_a_place_is_8(db: Caller) -> None:
    db.cell.write(QUERY, b"SELECT 1")

    assert db.cell.run("sqlite_query", QUERY, 8, 0, 0, 65_533, LENGTH) == 8
    assert db.cell.run("sqlite_query", QUERY, 5, 0, 0, 65_533, LENGTH) == 5, "of an error, the code counts"


def test_a_cell_that_does_not_declare_it_is_answered_99(pulp_cell: Callable[..., CellUnderTest]) -> None:
    one = capability()
    cell = pulp_cell(guest({"sqlite_exec": 6, "sqlite_query": 6}), capabilities=[one], declares=[])

    assert {cell.run(name, *[0] * 6) for name in ("sqlite_exec", "sqlite_query")} == {99}


def test_a_closed_cell_has_no_database(db: Caller) -> None:
    db.database.teardown_cell("guest")

    assert db.exec("SELECT 1").code == 9


# Transactions -------------------------------------------------------------------------------------------------------


def test_a_transaction_stays_open_across_calls(db: Caller) -> None:
    db.done("CREATE TABLE t (n INTEGER)", "BEGIN", "INSERT INTO t VALUES (1)", "SAVEPOINT s")
    db.done("INSERT INTO t VALUES (2)", "ROLLBACK TO s", "INSERT INTO t VALUES (3)", "COMMIT")
    db.done("BEGIN", "DELETE FROM t", "ROLLBACK")

    assert db.rows("SELECT n FROM t ORDER BY n") == [[1], [3]]


def test_temporary_tables_and_settings_last(db: Caller) -> None:
    db.done("CREATE TEMP TABLE t (n INTEGER)", "SET application_name = 'mine'")

    assert db.rows("SELECT count(*), current_setting('application_name') FROM t") == [[0, "mine"]]


def test_a_transaction_does_not_begin_twice(db: Caller) -> None:
    db.done("BEGIN")

    assert db.exec("BEGIN").value["error"] == "cannot start a transaction within a transaction"
    db.done("COMMIT")


def test_a_commit_that_was_none_is_said_to_be(db: Caller) -> None:
    db.done("CREATE TABLE t (n INTEGER)", "BEGIN", "INSERT INTO t VALUES (1)")
    assert db.exec("SELECT 1/0").code == 5

    ended = db.exec("COMMIT")

    assert (ended.code, ended.value["error"]) == (
        5,
        "the transaction had failed before, and has been rolled back",
    )
    assert db.rows("SELECT n FROM t") == []


def test_a_restart_rolls_back_what_was_open_and_frees_its_locks(make_cell: Callable[..., Caller]) -> None:
    one, two = make_cell({"shared_schema": "test_left"}), make_cell({"shared_schema": "test_left"}, name="two")
    one.done("CREATE TABLE t (n INTEGER)", "BEGIN", "INSERT INTO t VALUES (1)", "LOCK TABLE t")

    one.cell.init()
    one.cell.restart()

    two.done("INSERT INTO t VALUES (2)")
    assert one.rows("SELECT n FROM t") == [[2]]


# The first version --------------------------------------------------------------------------------------------------


@pytest.fixture
def old(make_cell: Callable[..., Caller]) -> Caller:
    return make_cell(source=guest({"sqlite_exec": 4, "sqlite_query": 6}))


def test_an_older_module_gets_bare_rows_also_before_its_first_exec(old: Caller) -> None:
    assert old.query("SELECT 1, 'a' WHERE 1 = ?", 1).raw == b"\x91\x92\xd3" + bytes(7) + b"\x01\xa1a"
    assert old.query("SELECT 1 WHERE 1 = 0").raw == b"\xc0"


def test_an_older_module_is_answered_5_for_every_error_and_no_text(old: Caller) -> None:
    assert old.call("sqlite_exec", "CREATE TABLE t (n INTEGER PRIMARY KEY)", words=4).code == 0
    assert [old.call("sqlite_exec", "INSERT INTO t VALUES (?)", b"\x91\x01", words=4).code for _ in "12"] == [0, 5]
    assert old.query("INSERT INTO t VALUES (1)") == (5, None, b"")
    assert old.call("sqlite_exec", "", words=4).code == 1


def test_the_imports_are_the_published_ones() -> None:
    words = sorted((one.name, one.words) for one in capability().functions.values())

    assert words == [("sqlite_exec", 4), ("sqlite_exec", 6), ("sqlite_query", 6)]
    assert capability().name == NAME
