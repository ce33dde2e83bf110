"""SQL that means harm: it stays in its file, ends at the deadline, and takes neither the host's memory nor its disk."""

from __future__ import annotations

import os
import resource
import sqlite3
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.capabilities.storage.tables import Tables, settled, stop_at, storage, tables

from pulp_runtime.errors import CellTrap, HookFailed
from pulp_runtime.testing import CellUnderTest
from pulp_runtime.testing.pytest_plugin import pulp_cell

__all__ = ["pulp_cell"]

Make = Callable[..., CellUnderTest]
MIB = 1 << 20


@pytest.fixture
def sql(pulp_cell: Make, tmp_path: Path) -> Tables:
    return tables(pulp_cell, **storage(tmp_path))


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """Another cell's database, with a secret in it."""
    path = tmp_path / "data" / "other" / "data.db"
    path.parent.mkdir(parents=True)
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE secret (x)")
    connection.execute("INSERT INTO secret VALUES ('canary')")
    connection.commit()
    connection.close()
    return path


# 11: out of the file ------------------------------------------------------------------------------------------------

REFUSED = [
    "ATTACH '{}' AS other",
    "ATTACH DATABASE 'file:{}?mode=ro' AS other",
    "ATTACH ':memory:' AS other",
    "ATTACH '' AS other",
    "DETACH main",
    "VACUUM INTO '{}.copy'",
    "VACUUM main INTO '{}.copy'",
    "SELECT load_extension('{}')",
    "SELECT readfile('{}')",
    "SELECT writefile('{}', 'gone')",
    "SELECT edit('{}')",
    "SELECT fts3_tokenizer('simple')",
    "SELECT fts3_tokenizer('simple', x'0000000000000000')",
    "SELECT * FROM sqlite_dbpage",
    "CREATE VIRTUAL TABLE temp.pages USING sqlite_dbpage",
    "CREATE VIRTUAL TABLE temp.rows USING csv(filename='{}')",
    "CREATE VIRTUAL TABLE temp.archive USING zipfile('{}')",
    "PRAGMA writable_schema = ON",
    "PRAGMA journal_mode = OFF",
    "PRAGMA journal_mode = MEMORY",
    "PRAGMA main.journal_mode = DELETE",
    "PRAGMA temp_store_directory = '/tmp'",
    "PRAGMA data_store_directory = '/tmp'",
    "PRAGMA temp_store = MEMORY",
    "PRAGMA locking_mode = EXCLUSIVE",
    "PRAGMA trusted_schema = ON",
    "PRAGMA hard_heap_limit = 1",
    "PRAGMA soft_heap_limit = 1",
    "PRAGMA max_page_count = 4294967294",
    "PRAGMA page_size = 65536",
    "PRAGMA mmap_size = 1000000000",
    "PRAGMA journal_size_limit = -1",
    "PRAGMA cache_size = -1000000000",
    "PRAGMA cache_size = 1000000000",
    "PRAGMA cache_size = nonsense",
    "PRAGMA schema_version = 5",
    "PRAGMA threads = 8",
    "PRAGMA cell_size_check = OFF",
    "PRAGMA database_list",
    "SELECT file FROM pragma_database_list",
    "PRAGMA nobody_knows_this = 1",
]


@pytest.mark.parametrize("statement", REFUSED)
def test_threat_11_what_leads_out_of_the_file_is_refused(sql: Tables, canary: Path, statement: str) -> None:
    before = canary.read_bytes()
    text = statement.format(canary)

    assert sql.exec(text)[0] == 5
    assert sql.query(text)[0] == 5
    assert sql.open(text)[0] == 5
    assert canary.read_bytes() == before
    assert sorted(path.name for path in canary.parent.iterdir()) == ["data.db"]


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("ATTACH '/x' AS other", "another database (ATTACH, VACUUM INTO)"),
        ("PRAGMA writable_schema = ON", "PRAGMA writable_schema = ON"),
        ("SELECT fts3_tokenizer('simple')", "function fts3_tokenizer"),
    ],
)
def test_threat_11_a_refusal_is_told_to_the_guest_and_to_the_operator(sql: Tables, statement: str, told: str) -> None:
    _code, answer = sql.exec(statement)

    assert answer["error"] == f"authorization denied: {told} is not allowed in a cell (23)"
    (record,) = [record for record in sql.cell.logged if record.message == "statement refused"]
    assert record.fields == {"cell": "one", "reason": told}


def test_threat_11_what_the_host_sets_itself_cannot_be_repeated_by_a_guest(sql: Tables) -> None:
    """A compiled statement is found again by its text, without the authorizer being asked."""
    (most,) = sql.rows("PRAGMA max_page_count")[0]

    assert sql.exec(f"PRAGMA main.max_page_count = {most}")[0] == 5
    assert sql.exec(f"PRAGMA max_page_count = {most}")[0] == 5


def test_threat_11_a_refused_statement_is_refused_again(sql: Tables) -> None:
    for _ in range(3):
        assert sql.exec("PRAGMA writable_schema = ON")[0] == 5
    assert sql.exec("UPDATE sqlite_master SET sql = 'x'")[0] == 5


def test_threat_11_a_vacuum_of_ones_own_is_allowed(sql: Tables) -> None:
    sql.done("CREATE TABLE t (x); INSERT INTO t VALUES (zeroblob(100000)); DELETE FROM t")

    assert sql.exec("VACUUM")[0] == 0
    assert sql.exec("ATTACH '' AS other")[0] == 5


ALLOWED = [
    "PRAGMA foreign_keys = OFF", "PRAGMA user_version = 3", "PRAGMA synchronous = FULL", "PRAGMA cache_size = -2000",
    "PRAGMA journal_mode = wal", "PRAGMA wal_checkpoint(TRUNCATE)", "PRAGMA table_info(t)", "PRAGMA integrity_check",
    "PRAGMA busy_timeout = 100", "PRAGMA optimize", "PRAGMA locking_mode = normal", "PRAGMA page_size", "ANALYZE",
    "SELECT * FROM pragma_table_info('t')", "CREATE VIRTUAL TABLE f USING fts5(a)", "SELECT json('[1]')", "REINDEX",
    "CREATE VIRTUAL TABLE r USING rtree(id, a, b)", "CREATE TEMP TABLE mine AS SELECT 1", "EXPLAIN QUERY PLAN SELECT 1",
]  # fmt: skip


@pytest.mark.parametrize("statement", ALLOWED)
def test_threat_11_and_what_a_program_needs_is_not(sql: Tables, statement: str) -> None:
    sql.done("CREATE TABLE t (x)")

    assert sql.exec(statement)[1].get("error", "") == ""


# 12: without end, without bound -------------------------------------------------------------------------------------

FOREVER = "WITH RECURSIVE c (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c"
ENDLESS = {
    "a recursion": FOREVER,
    "a cross join": "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000) "
    "SELECT count(*) FROM n AS a, n AS b, n AS c",
    "a change": f"CREATE TABLE t (x); INSERT INTO t {FOREVER}",
    "a pattern": "WITH RECURSIVE c (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) "
    "SELECT count(*) FROM c WHERE hex(zeroblob(500 + x % 7)) LIKE '%0%0%0%0%01'",
    "a sort": "WITH RECURSIVE c (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x FROM c ORDER BY -x",
}


@pytest.mark.slow
@pytest.mark.parametrize("statement", ENDLESS.values(), ids=ENDLESS)
@pytest.mark.parametrize("function", ["sqlite_exec", "sqlite_query"])
def test_threat_12_a_statement_without_end_ends_at_the_deadline(
    pulp_cell: Make, tmp_path: Path, function: str, statement: str
) -> None:
    sql = tables(pulp_cell, **storage(tmp_path), **stop_at(0.25))

    began = time.monotonic()
    with pytest.raises(CellTrap):
        sql.call(function, statement)
    assert time.monotonic() - began < 3.0
    sql.cell.restart()
    assert sql.rows("SELECT 1") == [[1]]


@pytest.mark.slow
def test_threat_12_rows_without_end_end_at_the_deadline(pulp_cell: Make, tmp_path: Path) -> None:
    sql = tables(pulp_cell, **storage(tmp_path), **stop_at(0.25))

    with pytest.raises(CellTrap):
        sql.exec("WITH RECURSIVE c (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x FROM c")


BOUNDS = {
    "a blob of two gigabytes": "SELECT zeroblob(2000000000)",
    "random bytes": "SELECT randomblob(2000000000)",
    "a doubled text": "WITH RECURSIVE d (t) AS (SELECT 'x' UNION ALL SELECT t || t FROM d) SELECT max(t) FROM d",
    "a deep expression": f"SELECT {'(' * 5000}1{')' * 5000}",
    "a long expression": f"SELECT {'1 + ' * 5000}1",
    "a wide result": f"SELECT {', '.join(['1'] * 2001)}",
    "many selects": " UNION ALL ".join(["SELECT 1"] * 501),
    "many parameters": f"SELECT {', '.join(['?'] * 1999)}, ?40000",
    "a long pattern": f"SELECT 'x' LIKE '{'%a' * 5001}'",
    "a long text": f"SELECT '{'x' * 1_048_576}'",
    "many joins": f"SELECT 1 FROM {', '.join(f'(SELECT 1) AS t{at}' for at in range(65))}",
    "memory for a row": f"SELECT {', '.join(['hex(zeroblob(8000000))'] * 100)}",
}


@pytest.mark.slow
@pytest.mark.parametrize("statement", BOUNDS.values(), ids=BOUNDS)
def test_threat_12_what_would_need_too_much_is_an_error(pulp_cell: Make, tmp_path: Path, statement: str) -> None:
    sql = tables(pulp_cell, **storage(tmp_path))
    values = [0] * 2000 if "?" in statement else []
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    assert sql.query(statement, *values)[0] == 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1 << 20  # KiB: a gigabyte
    assert sql.rows("SELECT 1") == [[1]]


def test_threat_12_a_trigger_that_fires_itself_is_an_error(sql: Tables) -> None:
    sql.done("PRAGMA recursive_triggers = ON; CREATE TABLE t (x)")
    sql.done("CREATE TRIGGER again AFTER INSERT ON t BEGIN INSERT INTO t VALUES (new.x + 1); END")

    assert sql.exec("INSERT INTO t VALUES (1)")[1]["error"] == (
        "SQL logic error: too many levels of trigger recursion (1)"
    )
    assert sql.rows("SELECT count(*) FROM t") == [[0]]


# 14: a file that somebody else wrote --------------------------------------------------------------------------------


def broken(path: Path, kind: str) -> None:
    """Make a file that is no sound database."""
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE t (a TEXT, b)")
    connection.executemany("INSERT INTO t VALUES (?, ?)", [("x" * 500, number) for number in range(500)])
    connection.execute("CREATE INDEX i ON t (a)")
    connection.commit()
    if kind == "schema":
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("UPDATE sqlite_master SET rootpage = 1 WHERE name = 'i'")
        connection.execute(
            "INSERT INTO sqlite_master VALUES ('view', 'v', 'v', 0, 'CREATE VIEW v AS SELECT load_extension(''x'')')"
        )
        connection.commit()
    connection.close()
    data = bytearray(path.read_bytes())
    if kind == "header":
        data[:16] = b"not a database!!"
    elif kind == "pages":
        for at in range(4096, len(data), 997):
            data[at : at + 3] = b"\xff\xff\xff"
    elif kind == "cut":
        del data[len(data) // 2 :]
    elif kind == "counts":
        data[28:32] = struct.pack(">I", 0x7FFF_FFFF)
        data[32:36] = struct.pack(">I", 0x7FFF_FFFF)
    path.write_bytes(data)


ON_BROKEN = [
    *("SELECT * FROM t", "SELECT * FROM v", "INSERT INTO t VALUES ('a', 1)", "PRAGMA integrity_check"),
    *("DELETE FROM t", "SELECT a FROM t ORDER BY a", "DROP TABLE t"),
]


@pytest.mark.parametrize("kind", ["pages", "cut", "counts", "schema"])
def test_threat_14_a_damaged_database_is_an_error_for_its_cell_alone(
    pulp_cell: Make, tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "data" / "one" / "data.db"
    path.parent.mkdir(parents=True)
    broken(path, kind)
    try:
        sql = tables(pulp_cell, **storage(tmp_path))
    except HookFailed as error:
        refused = str(error)
    else:
        refused = "restore a backup"
        for statement in ON_BROKEN:
            code, answer = sql.exec(statement)
            assert code in (0, 5, 12, 13), answer
    assert "restore a backup" in refused
    other = tables(pulp_cell, name="other", **storage(tmp_path))
    assert other.rows("SELECT 1") == [[1]]


def test_threat_14_a_file_that_is_no_database_fails_the_load_and_says_what_to_do(
    pulp_cell: Make, tmp_path: Path
) -> None:
    path = tmp_path / "data" / "one" / "data.db"
    path.parent.mkdir(parents=True)
    broken(path, "header")

    with pytest.raises(HookFailed, match="file is not a database; put it right, restore a backup, or move the file"):
        tables(pulp_cell, **storage(tmp_path))


def test_threat_14_functions_that_a_schema_smuggles_in_are_refused(pulp_cell: Make, tmp_path: Path) -> None:
    path = tmp_path / "data" / "one" / "data.db"
    path.parent.mkdir(parents=True)
    connection = sqlite3.connect(path)
    connection.execute("CREATE VIEW v AS SELECT fts3_tokenizer('simple') AS pointer")
    connection.execute("CREATE TABLE t (x, y GENERATED ALWAYS AS (x + 1))")
    connection.execute("CREATE TRIGGER g AFTER INSERT ON t BEGIN SELECT fts3_tokenizer('simple', x'00'); END")
    connection.commit()
    connection.close()
    sql = tables(pulp_cell, **storage(tmp_path))

    for statement in ("SELECT pointer FROM v", "INSERT INTO t VALUES (1)"):
        code, answer = sql.exec(statement)
        assert (code, answer["error"].partition(":")[0]) in ((5, "authorization denied"), (5, "SQL logic error"))
    assert sql.rows("SELECT * FROM t") == []


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm", "-journal"])
def test_threat_14_a_link_in_place_of_a_file_is_refused(pulp_cell: Make, tmp_path: Path, suffix: str) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"canary")
    folder = tmp_path / "data" / "one"
    folder.mkdir(parents=True)
    (folder / f"data.db{suffix}").symlink_to(outside)

    with pytest.raises(HookFailed, match="is no regular file"):
        tables(pulp_cell, **storage(tmp_path))
    assert outside.read_bytes() == b"canary"


def test_threat_14_a_journal_that_would_delete_another_file_is_refused(pulp_cell: Make, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"canary")
    folder = tmp_path / "data" / "one"
    folder.mkdir(parents=True)
    connection = sqlite3.connect(folder / "data.db")
    connection.execute("CREATE TABLE t (x)")
    connection.commit()
    connection.close()
    name = os.fsencode(victim)
    total = sum(name)
    page = bytes.fromhex("d9d505f920a163d7") + struct.pack(">IIIII", 0, 0, 2, 512, 4096)
    record = struct.pack(">I", 0x4000_0000 // 4096 + 1) + name + struct.pack(">II", len(name), total)
    journal = folder / "data.db-journal"
    journal.write_bytes(page.ljust(512, b"\0") + record + bytes.fromhex("d9d505f920a163d7"))

    with pytest.raises(HookFailed, match="names a file that SQLite would delete"):
        tables(pulp_cell, **storage(tmp_path))
    assert victim.read_bytes() == b"canary"


# 9 and 15: the disk -------------------------------------------------------------------------------------------------


def used(sql: Tables) -> int:
    return sum(path.stat().st_size for path in sql.path.parent.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("steps", [["{}"], ["BEGIN", "{}", "COMMIT"]], ids=["by itself", "in a transaction"])
def test_threat_9_a_full_quota_is_an_error_and_what_is_there_stays(
    pulp_cell: Make, tmp_path: Path, steps: list[str]
) -> None:
    sql = tables(pulp_cell, capability=settled(disk_bytes=4 * MIB), **storage(tmp_path))
    sql.done("CREATE TABLE t (x); INSERT INTO t VALUES ('kept')")
    refused: list[Any] = []
    for _ in range(400):
        answers = [sql.exec(step.format("INSERT INTO t VALUES (zeroblob(20000))")) for step in steps]
        refused += [answer for code, answer in answers if code]
        assert used(sql) <= 4 * MIB + 65_536
        if refused:
            sql.exec("ROLLBACK")
            break

    assert refused[0]["error"] == "database or disk is full (13)"
    assert sql.rows("SELECT count(*) FROM t WHERE x = 'kept'") == [[1]]
    assert sql.exec("DELETE FROM t WHERE x <> 'kept'")[0] == 0
    assert sql.exec("VACUUM")[0] == 0
    assert sql.exec("INSERT INTO t VALUES (zeroblob(20000))")[0] == 0


@pytest.mark.slow
def test_threat_9_one_large_transaction_is_stopped_before_its_log_is_too_large(pulp_cell: Make, tmp_path: Path) -> None:
    sql = tables(pulp_cell, capability=settled(disk_bytes=4 * MIB), **storage(tmp_path))
    sql.done("CREATE TABLE t (x)")

    code, answer = sql.exec(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) INSERT INTO t SELECT zeroblob(5000) FROM n"
    )
    assert (code, answer["error"]) == (5, "database or disk is full (13)")
    assert used(sql) <= 4 * MIB + 65_536
    assert sql.rows("SELECT count(*) FROM t") == [[0]]


def test_threat_9_files_beside_the_database_count_too(pulp_cell: Make, tmp_path: Path) -> None:
    large = tmp_path / "data" / "one" / "large.bin"
    large.parent.mkdir(parents=True)
    large.write_bytes(bytes(4 * MIB - 100_000))
    sql = tables(pulp_cell, capability=settled(disk_bytes=4 * MIB), **storage(tmp_path))
    sql.done("CREATE TABLE t (x)")

    assert sql.exec("INSERT INTO t VALUES (zeroblob(100000))")[1]["error"] == "database or disk is full (13)"


@pytest.mark.slow
def test_threat_9_temporary_tables_count_too(pulp_cell: Make, tmp_path: Path) -> None:
    sql = tables(pulp_cell, capability=settled(disk_bytes=4 * MIB), **storage(tmp_path))

    code, answer = sql.exec(
        "CREATE TEMP TABLE t AS WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) "
        "SELECT zeroblob(5000) FROM n"
    )
    assert (code, answer["error"]) == (5, "database or disk is full (13)")
