"""SQL through a C cell, and the same statements in a plain Python loop on `sqlite3`.

    python -m benchmarks.sqlite [--count 10000] [--rounds 7] [--quick]

insert, one by one        each its own transaction, on disk when the call returns
insert, in a transaction  thousands in one
insert, 1,000 a call      the same, with `sqlite_exec_many`; the loop is the one above
point query               one row by its key
point query, 1,000 a call the same, with `sqlite_query_many`; the loop is the one above
scan                      a thousand rows in one result

Both sides have the pragmas of `storage.sqlite`, and a database of their own in the same folder. What a cell does more:
parameters and rows cross as MessagePack, the text of a statement with every call.
"""

from __future__ import annotations

import argparse
import itertools
import sqlite3
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.store import Operation, compare, loaded

CREATE = "CREATE TABLE IF NOT EXISTS player (id INTEGER PRIMARY KEY, name TEXT, score REAL)"
INSERT = "INSERT INTO player (id, name, score) VALUES (?, ?, ?)"
SELECT = "SELECT id, name, score FROM player WHERE id = ?"
SCAN = "SELECT id, name, score FROM player WHERE id < 1000"
PRAGMAS = ("journal_mode = WAL", "foreign_keys = ON", "wal_autocheckpoint = 1", "synchronous = NORMAL")


def cell_side(run: Callable[..., None], count: int) -> dict[str, tuple[Operation, int]]:
    """Return the operations of the cell."""
    start = itertools.count(0, count)
    few = max(1, count // 50)

    def in_transaction(export: str) -> None:
        run("begin")
        run(export, next(start), count)
        run("commit")

    run("create")
    return {
        "insert, in a transaction": (lambda: in_transaction("insert"), count),
        "insert, 1,000 a call": (lambda: in_transaction("insert_many"), count),
        "insert, one by one": (lambda: run("insert", next(start), few), few),
        "point query": (lambda: run("query", 0, count), count),
        "point query, 1,000 a call": (lambda: run("query_many", 0, count), count),
        "scan": (lambda: run("scan", 0, 10), 10),
    }


def python_side(path: Path, count: int) -> dict[str, tuple[Operation, int]]:
    """Return the operations of the loop."""
    connection = sqlite3.connect(path, isolation_level=None)
    for pragma in PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")
    connection.execute(CREATE)
    start = itertools.count(0, count)
    few = max(1, count // 50)

    def insert(times: int) -> None:
        first = next(start)
        for number in range(first, first + times):
            connection.execute(INSERT, (number, "a name of some length", number / 2))

    def in_transaction() -> None:
        connection.execute("BEGIN")
        insert(count)
        connection.execute("COMMIT")

    def query() -> None:
        for number in range(count):
            connection.execute(SELECT, (number,)).fetchall()

    def scan() -> None:
        for _ in range(10):
            connection.execute(SCAN).fetchall()

    return {
        "insert, in a transaction": (in_transaction, count),
        "insert, 1,000 a call": (in_transaction, count),
        "insert, one by one": (lambda: insert(few), few),
        "point query": (query, count),
        "point query, 1,000 a call": (query, count),
        "scan": (scan, 10),
    }


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sqlite", description="SQL through a cell.")
    parser.add_argument("--count", type=int, default=10_000, help="repetitions in one measurement (10,000)")
    parser.add_argument("--rounds", type=int, default=7, help="rounds; figures are medians over them (7)")
    parser.add_argument("--quick", action="store_true", help="one short round: does it work at all?")
    options = parser.parse_args()
    count, rounds = (1_000, 1) if options.quick else (options.count // 1000 * 1000, options.rounds)
    with tempfile.TemporaryDirectory() as name, loaded(Path(name)) as run:
        folder = Path(name)
        compare({"cell": cell_side(run, count), "sqlite3": python_side(folder / "plain.db", count)}, rounds)


if __name__ == "__main__":
    main()
