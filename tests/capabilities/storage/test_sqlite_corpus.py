"""What SQL means in a cell is what it means in Python's `sqlite3`: statement by statement, byte for byte.

Thousands of statements in the manner of sqllogictest are made up, the same in every run. The public corpus of that
project is run too where it has been downloaded: `SQLLOGICTEST=/folder/with/test/files pytest -m conformance`.
"""

from __future__ import annotations

import os
import sqlite3
import struct
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from tests.capabilities.storage.corpus import Maker, Record, parsed
from tests.capabilities.storage.tables import Tables, storage, tables

from pulp_runtime.testing import CellUnderTest

Make = Callable[..., CellUnderTest]
CORPUS = os.environ.get("SQLLOGICTEST", "")
SEEDS = range(6)
RECORDS = 1_000


class Raw(bytes):
    """Text as it is stored: a cast from a blob need not be UTF-8, and a `str` could not hold it."""


class Reference:
    """Python's `sqlite3`, its answers written down as the contract wants them, by an encoder of the test's own."""

    def __init__(self) -> None:
        self._connection = sqlite3.connect(":memory:", isolation_level=None)
        self._connection.execute("PRAGMA foreign_keys = ON")
        self._connection.text_factory = Raw

    def run(self, sql: str) -> bytes | str:
        """Return the rows, encoded; or the error."""
        try:
            rows = self._connection.execute(sql).fetchall()
        except (sqlite3.Error, OverflowError) as error:
            return str(error)
        return _array([_array([_value(value) for value in row]) for row in rows]) if rows else b"\xc0"

    def close(self) -> None:
        self._connection.close()


def _head(short: int, most: int, wide: list[tuple[int, str]], size: int) -> bytes:
    if size < most:
        return bytes([short | size])
    for code, form in wide:
        if size < 1 << 8 * struct.calcsize(form):
            return bytes([code]) + struct.pack(form, size)
    raise ValueError(size)


def _array(items: list[bytes]) -> bytes:
    return _head(0x90, 16, [(0xDC, ">H"), (0xDD, ">I")], len(items)) + b"".join(items)


def _value(value: object) -> bytes:
    if value is None or (value == b"" and not isinstance(value, Raw)):
        return b"\xc0"
    if isinstance(value, int):
        return b"\xd3" + struct.pack(">q", value)
    if isinstance(value, float):
        return b"\xcb" + struct.pack(">d", value)
    if isinstance(value, Raw):
        return _head(0xA0, 32, [(0xD9, ">B"), (0xDA, ">H"), (0xDB, ">I")], len(value)) + value
    assert isinstance(value, bytes)
    return _head(0, 0, [(0xC4, ">B"), (0xC5, ">H"), (0xC6, ">I")], len(value)) + value


def disagreements(sql: Tables, records: Iterable[Record]) -> tuple[int, list[str]]:
    """Run every record on both sides; return how many there were, and where they do not agree."""
    reference = Reference()
    ran = 0
    found = []
    for record in records:
        ran += 1
        expected = reference.run(record.sql)
        function = "sqlite_query" if record.query else "sqlite_exec"
        code, answer = sql.call(function, record.sql, raw=True)
        if isinstance(expected, str):
            agree = code in (5, 12, 13) and expected.encode() in answer
        elif record.query:
            agree = code == 0 and answer.partition(b"\xa4rows")[2] == expected
        else:
            agree = code == 0
        if not agree:
            found.append(f"{record.sql}\n  sqlite3: {expected!r}\n  cell {code}: {answer!r}")
    reference.close()
    return ran, found


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_a_cell_and_python_agree_on_every_statement(pulp_cell: Make, tmp_path: Path, seed: int) -> None:
    sql = tables(pulp_cell, **storage(tmp_path))
    sql.done("PRAGMA synchronous = OFF; PRAGMA wal_autocheckpoint = 1000")  # the disk is not what is tested

    ran, found = disagreements(sql, Maker(seed).records(RECORDS))
    assert ran > RECORDS
    assert found == []


def test_what_is_made_up_has_rows_and_errors_in_it() -> None:
    reference = Reference()
    answers = [reference.run(record.sql) for record in Maker(0).records(RECORDS) if record.query]
    reference.close()

    assert sum(isinstance(answer, str) for answer in answers) > 20
    assert sum(answer != b"\xc0" for answer in answers) > len(answers) // 2


def test_a_file_of_the_corpus_is_read_as_its_authors_describe_it() -> None:
    text = (
        "# a remark\nhash-threshold 8\n\nstatement ok\nCREATE TABLE t (a)\n\nstatement error\nSELECT\n\n"
        "onlyif mysql\nstatement ok\nSET x\n\nskipif sqlite\nquery I nosort\nSELECT 1 DIV 1\n----\n1\n\n"
        "onlyif sqlite # why\nquery II rowsort label-1\nSELECT a,\n  2 FROM t\n----\n1\n2\n\n"
        "halt\n\nstatement ok\nDROP TABLE t\n"
    )

    assert list(parsed(text)) == [
        Record("CREATE TABLE t (a)", query=False),
        Record("SELECT", query=False),
        Record("SELECT a,\n  2 FROM t", query=True),
    ]


@pytest.mark.conformance
@pytest.mark.skipif(not CORPUS, reason="SQLLOGICTEST does not name a folder with the public corpus")
@pytest.mark.parametrize("file", sorted(Path(CORPUS or ".").rglob("*.test")) if CORPUS else [], ids=str)
@pytest.mark.timeout(3600)
def test_a_cell_and_python_agree_on_the_public_corpus(pulp_cell: Make, tmp_path: Path, file: Path) -> None:
    sql = tables(pulp_cell, pages=1024, **storage(tmp_path))
    sql.done("PRAGMA synchronous = OFF; PRAGMA wal_autocheckpoint = 1000")

    _ran, found = disagreements(sql, parsed(file.read_text(errors="replace")))
    assert found == []
