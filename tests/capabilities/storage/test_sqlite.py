from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.capabilities.storage.tables import NEWER, OUTS, SQL, Tables, memory_guest, settled, stop_at, storage, tables

from pulp_runtime.capabilities.storage import sqlite
from pulp_runtime.errors import CellTrap, HookFailed
from pulp_runtime.ext import CellRef, ExtensionError
from pulp_runtime.log import Log
from pulp_runtime.testing import HOSTILE_RANGES, CellUnderTest, FakeHost, guest

Make = Callable[..., CellUnderTest]
T = "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT UNIQUE NOT NULL, score REAL CHECK (score >= 0))"


@pytest.fixture
def sql(pulp_cell: Make, tmp_path: Path) -> Tables:
    return tables(pulp_cell, **storage(tmp_path))


@pytest.fixture
def first(pulp_cell: Make, tmp_path: Path) -> Tables:
    """A module of the first version."""
    return tables(pulp_cell, first=True, **storage(tmp_path))


@pytest.fixture
def t(sql: Tables) -> Tables:
    sql.done(T)
    return sql


# Both shapes of a result --------------------------------------------------------------------------------------------


def test_what_was_inserted_is_read_back(t: Tables) -> None:
    assert t.done("INSERT INTO t (name, score) VALUES (?, ?)", "ann", 1.5) == {"rows_affected": 1, "last_insert_id": 1}
    assert t.query("SELECT id, name, score FROM t WHERE name = ?", "ann") == (
        0,
        {"columns": ["id", "name", "score"], "rows": [[1, "ann", 1.5]]},
    )


def test_the_bytes_of_a_result_are_those_of_the_contract(t: Tables) -> None:
    t.done("INSERT INTO t VALUES (7, 'a', 0.5)")

    assert t.raw("SELECT * FROM t") == (
        b"\x82\xa7columns\x93\xa2id\xa4name\xa5score\xa4rows\x91\x93\xd3\0\0\0\0\0\0\0\x07\xa1a\xcb\x3f\xe0\0\0\0\0\0\0"
    )
    code, data = t.call("sqlite_exec", "DELETE FROM t", raw=True)
    assert (code, data) == (
        0,
        b"\x82\xadrows_affected\xd3\0\0\0\0\0\0\0\x01\xaelast_insert_id\xd3\0\0\0\0\0\0\0\x07",
    )


def test_without_a_row_there_are_columns_and_nil(t: Tables) -> None:
    assert t.raw("SELECT id, name AS n FROM t") == b"\x82\xa7columns\x92\xa2id\xa1n\xa4rows\xc0"


def test_a_module_of_the_first_version_is_given_bare_rows(first: Tables) -> None:
    assert first.exec(T) == (0, None)
    assert first.raw("SELECT * FROM t") == b"\xc0"
    assert first.exec("INSERT INTO t VALUES (7, 'a', NULL)") == (0, None)
    assert first.raw("SELECT id, name, score FROM t") == b"\x91\x93\xd3\0\0\0\0\0\0\0\x07\xa1a\xc0"


@pytest.mark.parametrize(
    "statement",
    ["SELECT * FROM nowhere", "INSERT INTO t VALUES (1, NULL, 1)", "INSERT INTO t VALUES (1, 'a', -1)"],
)
def test_a_module_of_the_first_version_knows_one_code_for_what_fails(first: Tables, statement: str) -> None:
    first.exec(T)

    assert first.exec(statement) == (5, None)
    assert first.query(statement) == (5, b"")


def test_a_module_that_imports_only_queries_is_given_the_newer_shape(pulp_cell: Make, tmp_path: Path) -> None:
    cell = pulp_cell(memory_guest({"sqlite_query": 6}, 4), capabilities=[sqlite.capability()], **storage(tmp_path))
    cell.init()

    assert Tables(cell, {"sqlite_query": 6}).query("SELECT 1 AS one") == (0, {"columns": ["one"], "rows": [[1]]})


def test_names_of_columns_are_sqlites_own_and_may_be_there_twice(sql: Tables) -> None:
    assert sql.query("SELECT 1 + 1, 2 AS b, 3 AS b, x'00' \"a b\", ?", 5)[1]["columns"] == [
        "1 + 1",
        "b",
        "b",
        "a b",
        "?",
    ]


def test_numbers_of_rows_and_ids_are_the_connections_last(t: Tables) -> None:
    t.done("INSERT INTO t (id, name) VALUES (41, 'a'), (42, 'b'), (43, 'c')")

    assert t.done("CREATE TABLE u (x)") == {"rows_affected": 3, "last_insert_id": 43}
    assert t.done("SELECT 1") == {"rows_affected": 3, "last_insert_id": 43}
    assert t.done("UPDATE t SET score = 1 WHERE id > 41") == {"rows_affected": 2, "last_insert_id": 43}
    assert t.done("DELETE FROM t WHERE id = 0") == {"rows_affected": 0, "last_insert_id": 43}


@pytest.mark.parametrize(
    ("statement", "affected"),
    [
        ("WITH few AS (SELECT 1 AS i UNION SELECT 2) INSERT INTO t (name) SELECT 'n' || i FROM few", 2),
        ("INSERT INTO t (name) VALUES ('x'), ('y') RETURNING id", 2),
        ("/* one */ INSERT INTO t (name) -- two\nVALUES ('z')", 1),
        ("REPLACE INTO t (id, name) VALUES (9, 'r')", 1),
        ("EXPLAIN DELETE FROM t", 0),
    ],
)
def test_rows_affected_are_counted_whatever_the_statement_looks_like(t: Tables, statement: str, affected: int) -> None:
    assert t.done(statement)["rows_affected"] == affected
    assert t.rows("SELECT changes()") == [[affected]]


def test_rows_that_a_query_changes_are_counted_too(t: Tables) -> None:
    assert t.rows("INSERT INTO t (name) VALUES ('a'), ('b') RETURNING id, name") == [[1, "a"], [2, "b"]]
    assert t.query("UPDATE t SET score = 1") == (0, {"columns": [], "rows": None})
    assert t.done("SELECT 1") == {"rows_affected": 2, "last_insert_id": 2}


# Several statements -------------------------------------------------------------------------------------------------


def test_all_statements_are_run_and_parameters_are_used_up_in_order(t: Tables) -> None:
    answer = t.done(
        "INSERT INTO t (id, name) VALUES (?, ?); INSERT INTO t (id, name) VALUES (?, ?);; -- the end", 1, "a", 2, "b"
    )

    assert answer == {"rows_affected": 1, "last_insert_id": 2}
    assert t.rows("SELECT id, name FROM t ORDER BY id") == [[1, "a"], [2, "b"]]


@pytest.mark.parametrize(
    ("statements", "columns", "rows"),
    [
        pytest.param("SELECT 1 AS a; SELECT 2 AS b", ["b"], [[2]], id="the last"),
        pytest.param("SELECT 1 AS a; INSERT INTO t (name) VALUES ('x')", ["a"], [[1]], id="the last with rows"),
        pytest.param("SELECT 1 AS a; SELECT 2 AS b WHERE 0", ["a"], [[1]], id="the last that has one"),
        pytest.param("SELECT 1 AS a WHERE 0; SELECT 2 AS b WHERE 0", ["b"], None, id="the last, when none has"),
        pytest.param("CREATE TABLE v (x); DROP TABLE v", [], None, id="nothing to give"),
        pytest.param("-- nothing\n ; /* at all */", [], None, id="nothing at all"),
    ],
)
def test_of_several_statements_a_query_gives_the_rows_of(
    t: Tables, statements: str, columns: list[str], rows: list[list[Any]] | None
) -> None:
    assert t.query(statements) == (0, {"columns": columns, "rows": rows})


def test_a_statement_that_fails_ends_the_text_and_leaves_what_was_done(t: Tables) -> None:
    code, answer = t.exec("INSERT INTO t (name) VALUES ('a'); INSERT INTO nowhere VALUES (1); DELETE FROM t")

    assert (code, answer["error"]) == (5, "SQL logic error: no such table: nowhere (1)")
    assert t.rows("SELECT name FROM t") == [["a"]]


def test_a_trigger_is_one_statement_with_all_that_is_in_it(t: Tables) -> None:
    t.done(
        "CREATE TABLE log (what); CREATE TRIGGER after_t AFTER INSERT ON t BEGIN "
        "INSERT INTO log VALUES (new.name); INSERT INTO log VALUES ('; END;'); END; "
        "INSERT INTO t (name) VALUES ('a;b')"
    )

    assert t.rows("SELECT what FROM log") == [["a;b"], ["; END;"]]


def test_a_text_with_nothing_in_it_is_done(sql: Tables) -> None:
    assert sql.done("  -- nothing\n;;") == {"rows_affected": 0, "last_insert_id": 0}


# Failures -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statement", "code", "text"),
    [
        ("SELECT * FROM nowhere", 5, "SQL logic error: no such table: nowhere (1)"),
        ("SELEC 1", 5, 'SQL logic error: near "SELEC": syntax error (1)'),
        ("INSERT INTO t (name) VALUES ('a')", 13, "constraint failed: UNIQUE constraint failed: t.name (2067)"),
        ("INSERT INTO t (id, name) VALUES (1, 'b')", 13, "constraint failed: UNIQUE constraint failed: t.id (1555)"),
        ("INSERT INTO t (name) VALUES (NULL)", 13, "constraint failed: NOT NULL constraint failed: t.name (1299)"),
        ("INSERT INTO t VALUES (5, 'e', -1)", 13, "constraint failed: CHECK constraint failed: score >= 0 (275)"),
        ("INSERT INTO child VALUES (9)", 13, "constraint failed: FOREIGN KEY constraint failed (787)"),
        ("DELETE FROM guarded", 5, "constraint failed: not this one (1811)"),
        ("INSERT INTO t (id, name) VALUES ('x', 'x')", 5, "datatype mismatch (20)"),
        ("SELECT zeroblob(999999999)", 5, "string or blob too big (18)"),
        ("SELECT abs(-9223372036854775808)", 5, "SQL logic error: integer overflow (1)"),
        ("COMMIT", 5, "SQL logic error: cannot commit - no transaction is active (1)"),
    ],
)
def test_a_failure_is_a_code_and_a_text(t: Tables, statement: str, code: int, text: str) -> None:
    t.done(
        "INSERT INTO t (id, name) VALUES (1, 'a'); CREATE TABLE child (t REFERENCES t (id)); CREATE TABLE guarded (x)"
    )
    t.done("INSERT INTO guarded VALUES (1)")
    t.done("CREATE TRIGGER g BEFORE DELETE ON guarded BEGIN SELECT RAISE(ABORT, 'not this one'); END")

    assert t.exec(statement) == (code, {"rows_affected": 0, "last_insert_id": 0, "error": text})
    assert t.query(statement) == (code, {"columns": None, "rows": None, "error": text})


def test_a_database_that_another_holds_is_busy(pulp_cell: Make, tmp_path: Path) -> None:
    sql = tables(pulp_cell, **storage(tmp_path))
    sql.done("CREATE TABLE t (x); PRAGMA busy_timeout = 1")
    other = sql.other()
    other.execute("BEGIN IMMEDIATE")

    code, answer = sql.exec("INSERT INTO t VALUES (1)")
    assert (code, answer["error"]) == (12, "database is locked (5) (SQLITE_BUSY)")
    other.execute("COMMIT")
    assert sql.exec("INSERT INTO t VALUES (1)")[0] == 0
    other.close()


@pytest.mark.slow
def test_a_wait_for_a_lock_ends_at_the_deadline(pulp_cell: Make, tmp_path: Path) -> None:
    sql = tables(pulp_cell, **storage(tmp_path), **stop_at(0.3))
    sql.done("CREATE TABLE t (x)")
    other = sql.other()
    other.execute("BEGIN IMMEDIATE")

    began = time.monotonic()
    try:
        assert sql.exec("INSERT INTO t VALUES (1)")[0] == 12
    except CellTrap:
        pass  # the answer came a moment too late
    assert 0.2 < time.monotonic() - began < 2.0  # SQLite would have waited for 5
    other.close()


def test_a_table_that_is_being_read_cannot_be_dropped(t: Tables) -> None:
    t.done("INSERT INTO t (name) VALUES ('a'), ('b'), ('c'), ('d')")
    _code, opened = t.open("SELECT name FROM t")
    t.next(opened["handle"], 10)

    code, answer = t.exec("DROP TABLE t")
    assert (code, answer["error"]) == (12, "database table is locked (6)")


def test_a_database_that_must_not_be_changed_is_read_only(t: Tables) -> None:
    t.done("PRAGMA query_only = ON")

    code, answer = t.exec("DELETE FROM t")
    assert (code, answer["error"]) == (14, "attempt to write a readonly database (8)")


@pytest.mark.parametrize("function", ["sqlite_exec", "sqlite_query", "sqlite_rows_open"])
def test_text_that_is_not_utf8_is_an_error_of_sql(sql: Tables, function: str) -> None:
    code, answer = sql.call(function, b"SELECT '\xff'")

    assert (code, answer["error"]) == (5, "SQL logic error: the text is not UTF-8 (1)")


def test_text_with_nul_in_it_is_an_error_of_sql(sql: Tables) -> None:
    assert sql.query("SELECT 1\0; DROP TABLE t")[0] == 5


def test_a_long_error_is_cut(sql: Tables) -> None:
    code, answer = sql.query(f"SELECT [{'é' * 5000}]")

    assert code == 5
    assert 4000 < len(answer["error"].encode()) <= 4096


# Words of the boundary ----------------------------------------------------------------------------------------------

IMPORTS = [name for name in NEWER if name.startswith(("sqlite_exec", "sqlite_query", "sqlite_rows_open"))]


@pytest.mark.parametrize("function", IMPORTS)
def test_no_sql_is_1(sql: Tables, function: str) -> None:
    assert sql.cell.run(function, SQL, 0, SQL, 0, *OUTS) == 1


@pytest.mark.parametrize("function", IMPORTS)
@pytest.mark.parametrize("place", HOSTILE_RANGES)
def test_sql_and_parameters_outside_memory_are_2(sql: Tables, function: str, place: str) -> None:
    address, length = HOSTILE_RANGES[place]
    outside = address + (64 - 1) * 65_536 if address <= 65_536 and length < 4 else address
    sql.cell.write(SQL, b"SELECT 1")

    assert sql.cell.run(function, outside, length, 0, 0, *OUTS) == 2
    assert sql.cell.run(function, SQL, 8, outside, length, *OUTS) == 2


@pytest.mark.parametrize("function", IMPORTS)
@pytest.mark.parametrize(
    "params", [b"\x01", b"\x80", b"\xa1a", b"\x92\x01", b"\x91\x01\x01", b"\xc1", b"\xdd\xff\xff\xff\xff"]
)
def test_parameters_that_are_no_array_are_3(sql: Tables, function: str, params: bytes) -> None:
    assert sql.call(function, "SELECT 1", params)[0] == 3


def test_nil_is_no_parameters(sql: Tables) -> None:
    assert sql.call("sqlite_query", "SELECT 1", b"\xc0")[0] == 0


@pytest.mark.parametrize(("alloc", "code"), [("refuse", 7), ("outside", 8)])
def test_a_result_without_a_place_is_7_or_8_and_the_statement_has_been_run(
    pulp_cell: Make, tmp_path: Path, alloc: Any, code: int
) -> None:
    cell = pulp_cell(guest({"sqlite_exec": 6}, alloc=alloc), capabilities=[sqlite.capability()], **storage(tmp_path))
    cell.init()
    cell.write(SQL, b"CREATE TABLE t (x)")

    assert cell.run("sqlite_exec", SQL, 18, 0, 0, 16, 20) == code
    assert cell.run("sqlite_exec", SQL, 18, 0, 0, 16, 20) == 5  # it is there; the text of the error finds no place


def test_out_addresses_outside_memory_are_8(sql: Tables) -> None:
    sql.cell.write(SQL, b"SELECT 1")

    assert sql.cell.run("sqlite_query", SQL, 8, 0, 0, 64 * 65_536 - 2, 20) == 8


def test_a_cell_that_has_been_torn_down_has_no_database(pulp_cell: Make, tmp_path: Path) -> None:
    capability = sqlite.capability()
    cell = pulp_cell(memory_guest(NEWER, 4), capabilities=[capability], **storage(tmp_path))
    cell.init()
    capability.teardown_cell(cell.spec.name)  # type: ignore[misc]

    assert Tables(cell, NEWER).query("SELECT 1") == (9, None)
    assert cell.run("sqlite_rows_next", 1, 100, *OUTS) == 9
    assert cell.run("sqlite_rows_close", 1) == 9


def test_a_cell_that_does_not_declare_it_is_answered_99(pulp_cell: Make) -> None:
    cell = pulp_cell(memory_guest(NEWER, 4), capabilities=[sqlite.capability()], declares=[])
    cell.init()

    assert Tables(cell, NEWER).query("SELECT 1") == (99, None)


# Transactions and life ----------------------------------------------------------------------------------------------


def test_a_transaction_spans_calls(t: Tables) -> None:
    other = t.other()
    for statement in ("BEGIN", "INSERT INTO t (name) VALUES ('a')", "SAVEPOINT s", "INSERT INTO t (name) VALUES ('b')"):
        t.done(statement)
    t.done("ROLLBACK TO s")

    assert t.rows("SELECT name FROM t") == [["a"]]
    assert other.execute("SELECT name FROM t").fetchall() == []
    t.done("COMMIT")
    assert other.execute("SELECT name FROM t").fetchall() == [("a",)]
    other.close()


def test_threat_15_a_transaction_that_a_trap_left_open_is_rolled_back_and_its_lock_released(t: Tables) -> None:
    t.done("INSERT INTO t (name) VALUES ('kept')")
    t.done("BEGIN IMMEDIATE; INSERT INTO t (name) VALUES ('lost')")
    other = t.other()
    other.execute("PRAGMA busy_timeout = 0")
    with pytest.raises(CellTrap):
        t.cell.run("trap")
    t.cell.restart()

    other.execute("BEGIN IMMEDIATE")  # nobody holds the lock any more
    other.execute("COMMIT")
    other.close()
    assert t.rows("SELECT name FROM t") == [["kept"]]


def test_temporary_tables_and_pragmas_last_as_long_as_the_instance(t: Tables) -> None:
    t.done("CREATE TEMP TABLE mine (x); PRAGMA foreign_keys = OFF")
    assert t.rows("SELECT count(*) FROM mine") == [[0]]
    assert t.rows("PRAGMA foreign_keys") == [[0]]

    t.cell.restart()
    assert t.query("SELECT count(*) FROM mine")[0] == 5
    assert t.rows("PRAGMA foreign_keys") == [[1]]


def test_what_was_committed_is_there_in_the_next_life(pulp_cell: Make, tmp_path: Path) -> None:
    one = tables(pulp_cell, **storage(tmp_path))
    one.done("CREATE TABLE t (x); INSERT INTO t VALUES (5)")
    one.cell.close()

    again = tables(pulp_cell, **storage(tmp_path))
    assert again.rows("SELECT x FROM t") == [[5]]
    assert again.path == tmp_path / "data" / "one" / "data.db"


@pytest.mark.parametrize(
    ("pragma", "value"),
    [
        ("journal_mode", "wal"),
        ("foreign_keys", 1),
        ("busy_timeout", 5000),
        ("wal_autocheckpoint", 1),
        ("synchronous", 1),
    ],
)
def test_pragmas_are_set_as_the_contract_says(sql: Tables, pragma: str, value: str | int) -> None:
    assert sql.rows(f"PRAGMA {pragma}") == [[value]]


def test_a_guests_own_patience_is_kept(sql: Tables) -> None:
    sql.done("PRAGMA busy_timeout = 1234")
    sql.done("SELECT 1")

    assert sql.rows("PRAGMA busy_timeout") == [[1234]]


@pytest.mark.parametrize("adopted", [True, False])
def test_at_a_reload_the_connection_of_one_version_goes_on(pulp_cell: Make, tmp_path: Path, adopted: bool) -> None:
    capability = sqlite.capability()
    sql = tables(pulp_cell, capability=capability, **storage(tmp_path))
    sql.done("CREATE TEMP TABLE old (x); CREATE TABLE t (x)")
    capability.swap_begin("one")  # type: ignore[misc]
    capability.register(Binder(), CellRef("one", "one", Log("pulp")))
    sql.done("CREATE TEMP TABLE new (x); INSERT INTO t VALUES (1)")
    capability.swap_end("one", adopted)  # type: ignore[misc]

    assert sql.rows("SELECT x FROM t") == [[1]]
    assert sql.query("SELECT * FROM new")[0] == (0 if adopted else 5)
    assert sql.query("SELECT * FROM old")[0] == (5 if adopted else 0)


class Binder:
    """A linker that binds nothing."""

    wanted: dict[str, int] = {}  # noqa: RUF012  # as the protocol has it

    def define(self, *_words: object, **_options: object) -> None:
        pass


def test_two_cells_have_two_databases(pulp_cell: Make, tmp_path: Path) -> None:
    one, two = (tables(pulp_cell, name=name, **storage(tmp_path)) for name in ("one", "two"))
    one.done(T)

    assert two.query("SELECT * FROM t")[0] == 5


def test_a_storage_root_that_cannot_be_used_fails_the_load(pulp_cell: Make, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")

    with pytest.raises(HookFailed, match=r"storage\.sqlite: .*data\.db: .*put it right"):
        tables(pulp_cell, **storage(tmp_path))


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ({"value_bytes": 1}, "value_bytes"),
        ({"result_bytes": 2_000_000_000}, "result_bytes"),
        ({"vlaue_bytes": 100_000}, "vlaue_bytes"),
    ],
)
def test_settings_that_make_no_sense_fail_the_load(
    pulp_cell: Make, tmp_path: Path, table: dict[str, int], problem: str
) -> None:
    with pytest.raises(HookFailed, match=problem):
        tables(pulp_cell, capability=settled(**table), **storage(tmp_path))


@pytest.mark.parametrize("config", [{"heap_mb": -1}, {"heap": 5}])
def test_an_operators_settings_that_make_no_sense_stop_the_host(config: dict[str, int]) -> None:
    with FakeHost() as host, pytest.raises(ExtensionError, match="heap"):
        sqlite.capability().setup(host(sqlite.NAME, config=config))  # type: ignore[misc]


def test_many_texts_are_remembered_and_no_more(sql: Tables) -> None:
    for number in range(600):
        assert sql.rows(f"SELECT {number}") == [[number]]


def test_a_name_means_what_it_means_now(sql: Tables) -> None:
    sql.done("CREATE TABLE t (a); INSERT INTO t VALUES (1)")
    assert sql.query("SELECT * FROM t")[1]["columns"] == ["a"]
    sql.done("ALTER TABLE t RENAME COLUMN a TO b")
    assert sql.query("SELECT * FROM t")[1]["columns"] == ["b"]
    sql.done("BEGIN; ALTER TABLE t RENAME COLUMN b TO c")
    assert sql.query("SELECT * FROM t")[1]["columns"] == ["c"]
    sql.done("ROLLBACK")
    assert sql.query("SELECT * FROM t")[1]["columns"] == ["b"]


# Many at once -------------------------------------------------------------------------------------------------------


def many(t: Tables, function: str, sql: str, *runs: list[Any]) -> tuple[int, Any]:
    return t.call(function, sql, msgspec.msgpack.encode(runs))


def test_one_statement_is_run_with_many_sets_of_parameters(t: Tables) -> None:
    assert many(t, "sqlite_exec_many", "INSERT INTO t (name) VALUES (?)", ["a"], ["b"], ["c"]) == (
        0,
        {"rows_affected": 3, "last_insert_id": 3},
    )
    assert many(t, "sqlite_query_many", "SELECT id FROM t WHERE name = ?", ["c"], ["nobody"], ["a"]) == (
        0,
        {"columns": ["id"], "results": [[[3]], None, [[1]]]},
    )
    assert many(t, "sqlite_exec_many", "DELETE FROM t") == (0, {"rows_affected": 0, "last_insert_id": 3})
    assert many(t, "sqlite_query_many", "SELECT 1") == (0, {"columns": [], "results": []})


def test_many_runs_end_at_the_first_that_fails(t: Tables) -> None:
    code, answer = many(t, "sqlite_exec_many", "INSERT INTO t (name) VALUES (?)", ["a"], [None], ["c"])

    assert (code, answer["error"]) == (13, "constraint failed: NOT NULL constraint failed: t.name (1299)")
    assert t.rows("SELECT name FROM t") == [["a"]]


@pytest.mark.parametrize(
    ("function", "statement", "runs", "code"),
    [
        pytest.param("sqlite_exec_many", "SELECT ?", [[1]], 5, id="a statement with rows, to be executed"),
        pytest.param("sqlite_exec_many", "DELETE FROM t; DELETE FROM t", [[]], 5, id="two statements"),
        pytest.param("sqlite_query_many", "DELETE FROM t", [[]], 5, id="a statement without rows, to be asked"),
        pytest.param("sqlite_query_many", "SELECT ?", [[1], []], 5, id="too few parameters"),
        pytest.param("sqlite_exec_many", "DELETE FROM t WHERE id = ?", [[[1]]], 5, id="an array to be stored"),
        pytest.param("sqlite_exec_many", "DELETE FROM t WHERE id = ?", [1], 3, id="parameters that are no array"),
        pytest.param("sqlite_query_many", "SELECT ?", [{}], 3, id="a map"),
    ],
)
def test_what_many_runs_cannot_be(t: Tables, function: str, statement: str, runs: list[Any], code: int) -> None:
    assert many(t, function, statement, *runs)[0] == code
