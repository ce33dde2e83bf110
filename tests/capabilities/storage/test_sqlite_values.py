"""Values of every kind into a database and out of it, through a cell."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.capabilities.storage.tables import Tables, storage, tables

from pulp_runtime.abi.codec import Timestamp
from pulp_runtime.abi.sql import decode_many, decode_params
from pulp_runtime.capabilities.storage.sqlite_values import moment_text, read_moment
from pulp_runtime.testing import CellUnderTest

Make = Callable[..., CellUnderTest]
HOUR = 3600


@pytest.fixture
def sql(pulp_cell: Make, tmp_path: Path) -> Tables:
    return tables(pulp_cell, **storage(tmp_path))


def stored(sql: Tables, params: bytes) -> list[Any]:
    """Return the storage class and the value of the first parameter."""
    code, answer = sql.call("sqlite_query", "SELECT typeof(?1), ?1", params)
    assert code == 0, answer
    return answer["rows"][0]


def one(value: bytes) -> bytes:
    return b"\x91" + value


# Into SQLite --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "kind", "back"),
    [
        pytest.param(b"\xc0", "null", None, id="nil"),
        pytest.param(b"\xc2", "integer", 0, id="false"),
        pytest.param(b"\xc3", "integer", 1, id="true"),
        pytest.param(b"\x05", "integer", 5, id="a short integer"),
        pytest.param(b"\xff", "integer", -1, id="a short negative one"),
        pytest.param(b"\xd3" + struct.pack(">q", -(1 << 63)), "integer", -(1 << 63), id="the smallest"),
        pytest.param(b"\xcf" + struct.pack(">Q", (1 << 63) - 1), "integer", (1 << 63) - 1, id="the largest"),
        pytest.param(b"\xca" + struct.pack(">f", 0.5), "real", 0.5, id="a float of four bytes"),
        pytest.param(b"\xcb" + struct.pack(">d", 1e300), "real", 1e300, id="a float of eight"),
        pytest.param(b"\xcb" + struct.pack(">d", math.inf), "real", math.inf, id="infinity"),
        pytest.param(b"\xcb" + struct.pack(">d", math.nan), "null", None, id="not a number"),
        pytest.param(b"\xa0", "text", "", id="empty text"),
        pytest.param(b"\xa3a\0b", "text", "a\0b", id="text with NUL"),
        pytest.param(b"\xd9\x04\xf0\x9f\x8d\x8c", "text", "🍌", id="text of four bytes a character"),
        pytest.param(b"\xc4\0", "blob", None, id="an empty blob, which comes back as nil"),
        pytest.param(b"\xc4\x02\xff\0", "blob", b"\xff\0", id="a blob"),
        pytest.param(b"\xa1\xff", "blob", b"\xff", id="text that is not UTF-8 is a blob"),
        pytest.param(
            b"\xd6\xff" + struct.pack(">I", 1_777_636_800), "text", "2026-05-01 12:00:00 +0000 UTC", id="a moment"
        ),
        pytest.param(
            b"\xd7\xff" + struct.pack(">Q", 120_000_000 << 34 | 1_777_636_800),
            "text",
            "2026-05-01 12:00:00.12 +0000 UTC",
            id="a moment with a fraction",
        ),
        pytest.param(
            b"\xc7\x0c\xff" + struct.pack(">Iq", 1, -62_135_596_800),
            "text",
            "0001-01-01 00:00:00.000000001 +0000 UTC",
            id="a nanosecond after the first moment of the calendar",
        ),
    ],
)
def test_a_parameter_is_bound_as(sql: Tables, value: bytes, kind: str, back: object) -> None:
    assert stored(sql, one(value)) == [kind, back]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        pytest.param(b"\xcf" + b"\xff" * 8, "Python int too large", id="an unsigned integer past 63 bits"),
        pytest.param(b"\x90", "parameter 1 is an array", id="an array"),
        pytest.param(b"\x80", "parameter 1 is a map", id="a map"),
        pytest.param(b"\xd4\x05\x00", "parameter 1 is extension 5", id="another extension"),
        pytest.param(b"\xd5\xff\x00\x00", "parameter 1 is extension -1", id="no moment"),
    ],
)
def test_what_no_column_holds_is_an_error(sql: Tables, value: bytes, text: str) -> None:
    code, answer = sql.call("sqlite_query", "SELECT ?", one(value))

    assert code == 5
    assert text in answer["error"]


@pytest.mark.parametrize(
    ("statement", "values", "row"),
    [
        pytest.param("SELECT ?, ?", [1, 2], [1, 2], id="in order"),
        pytest.param("SELECT ?2, ?1", [1, 2], [2, 1], id="by number"),
        pytest.param("SELECT ?2, ?", [1, 2, 3], [2, 3], id="one more than the last number"),
        pytest.param("SELECT $2, $1, $2", [1, 2], [2, 1, 2], id="by number behind a dollar sign"),
        pytest.param("SELECT $2, ?", [1, 2], [2, 2], id="both"),
        pytest.param(
            "SELECT ?, '?', \"?\", `?`, [?], /* ? */ ? -- ?", [1, 2], [1, "?", "?", "?", "?", 2], id="elsewhere"
        ),
        pytest.param("SELECT ?", [1, 2, 3], [1], id="and what is left over is ignored"),
    ],
)
def test_parameters_are_taken(sql: Tables, statement: str, values: list[int], row: list[Any]) -> None:
    sql.done('CREATE TABLE names ("?")')
    code, answer = sql.query(statement.replace('"?", `?`, [?]', "'?', '?', '?'"), *values)

    assert (code, answer.get("error", "")) == (0, "")
    assert answer["rows"] == [row]


@pytest.mark.parametrize("quoted", ['"?"', "`?`", "[?]"])
def test_a_question_mark_in_a_name_is_no_parameter(sql: Tables, quoted: str) -> None:
    sql.done('CREATE TABLE names ("?"); INSERT INTO names VALUES (7)')

    assert sql.rows(f"SELECT {quoted} FROM names WHERE {quoted} = ?", 7) == [[7]]


@pytest.mark.parametrize(
    ("statement", "values", "text"),
    [
        ("SELECT ?, ?", [1], "missing argument with index 2"),
        ("SELECT ?3", [1, 2], "missing argument with index 3"),
        ("SELECT $4", [1, 2], "missing argument with index 3"),
        ("SELECT 1; SELECT ?, ?", [1], "missing argument with index 2"),
        ("SELECT :name", [1], 'missing named argument "name"'),
        ("SELECT @name, ?", [1, 2], 'missing named argument "name"'),
        ("SELECT $name", [1], 'missing named argument "name"'),
        ("SELECT ?0", [1], "variable number must be between ?1 and ?32766"),
        ("SELECT ?99999", [1], "missing argument with index 2"),
        ("SELECT ?123456789012345678901234567890", [1], "variable number must be between"),
    ],
)
def test_a_parameter_without_a_value_is_an_error(sql: Tables, statement: str, values: list[int], text: str) -> None:
    code, answer = sql.query(statement, *values)

    assert code == 5
    assert text in answer["error"]


# Out of SQLite ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("NULL", b"\xc0"),
        ("5", b"\xd3\0\0\0\0\0\0\0\x05"),
        ("-1", b"\xd3\xff\xff\xff\xff\xff\xff\xff\xff"),
        ("0.1", b"\xcb\x3f\xb9\x99\x99\x99\x99\x99\x9a"),
        ("1e999", b"\xcb\x7f\xf0\0\0\0\0\0\0"),
        ("''", b"\xa0"),
        ("'é'", b"\xa2\xc3\xa9"),
        ("substr(hex(zeroblob(16)), 1, 31)", b"\xbf" + b"0" * 31),
        ("hex(zeroblob(16))", b"\xd9\x20" + b"0" * 32),
        ("CAST(x'41ff' AS TEXT)", b"\xa2A\xff"),
        ("x''", b"\xc0"),
        ("x'00ff'", b"\xc4\x02\0\xff"),
        ("zeroblob(300)", b"\xc5\x01\x2c" + bytes(300)),
        ("1 < 2", b"\xd3\0\0\0\0\0\0\0\x01"),
    ],
)
def test_a_value_is_delivered_as(sql: Tables, expression: str, value: bytes) -> None:
    assert sql.raw(f"SELECT {expression} AS v") == b"\x82\xa7columns\x91\xa1v\xa4rows\x91\x91" + value


def test_text_that_is_not_utf8_does_not_lose_its_row(sql: Tables) -> None:
    sql.done("CREATE TABLE t (a, b)")
    sql.done("INSERT INTO t VALUES (1, 'ok'), (2, CAST(x'ff41' AS TEXT)), (3, 'ok')")
    before = sql.raw("INSERT INTO t VALUES (4, CAST(x'fe' AS TEXT)) RETURNING b")

    assert before.endswith(b"\x91\x91\xa1\xfe")
    assert b"\x92\xd3\0\0\0\0\0\0\0\x02\xa2\xffA" in sql.raw("SELECT * FROM t")
    assert sql.rows("SELECT count(*) FROM t") == [[4]]


def test_a_boolean_column_holds_integers(sql: Tables) -> None:
    sql.done("CREATE TABLE t (on_ BOOLEAN)")
    sql.done("INSERT INTO t VALUES (?), (?)", True, False)

    assert sql.rows("SELECT on_ FROM t") == [[1], [0]]


# Dates --------------------------------------------------------------------------------------------------------------

MOMENT = msgpack.Timestamp(1_777_636_800, 0)
NOON = "2026-05-01 12:00:00"


@pytest.fixture
def dated(sql: Tables) -> Tables:
    sql.done(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, at TIMESTAMP, d Date, dt datetime, s TIMESTAMP(3), z TIMESTAMP WITH "
        "TIME ZONE, text TEXT)"
    )
    return sql


def columns(sql: Tables, statement: str, *values: Any) -> list[Any]:
    """Return the first row of a query, moments as they are."""
    data = sql.raw(statement, *values)
    return msgpack.unpackb(data)["rows"][0]


def test_text_in_a_column_declared_as_a_date_is_a_moment(dated: Tables) -> None:
    dated.done("INSERT INTO t (at, d, dt, s, z, text) VALUES (?1, ?1, ?1, ?1, ?1, ?1)", NOON)

    assert columns(dated, "SELECT at, d, dt, s, z, text FROM t") == [MOMENT, MOMENT, MOMENT, NOON, NOON, NOON]
    assert columns(dated, "SELECT * FROM t") == [1, MOMENT, MOMENT, MOMENT, NOON, NOON, NOON]


@pytest.mark.parametrize(
    ("statement", "row"),
    [
        pytest.param("SELECT t.at AS x, u.at FROM t JOIN t AS u", [MOMENT, MOMENT], id="under another name"),
        pytest.param("SELECT at FROM (SELECT id, at FROM t)", [MOMENT], id="through a subquery"),
        pytest.param("WITH w AS (SELECT at FROM t) SELECT at FROM w WHERE 1 = ?", [MOMENT], id="through a WITH"),
        pytest.param("SELECT at FROM v", [MOMENT], id="through a view"),
        pytest.param("SELECT at FROM tt", [MOMENT], id="of a temporary table"),
        pytest.param("SELECT (SELECT at FROM t)", [MOMENT], id="of a scalar subquery, which SQLite sees through"),
        pytest.param("SELECT at || '' FROM t", [NOON], id="but not of an expression"),
        pytest.param("SELECT max(at) FROM t", [NOON], id="nor of a function"),
        pytest.param("UPDATE t SET id = id RETURNING at, id, text", [MOMENT, 1, NOON], id="returned by an update"),
        pytest.param(
            "UPDATE OR FAIL main.t SET id = id RETURNING *", [1, MOMENT, None, None, None, None, NOON], id="all"
        ),
        pytest.param("INSERT INTO t (at) VALUES ('2026-05-01 12:00:00') RETURNING at", [MOMENT], id="by an insert"),
        pytest.param("DELETE FROM t RETURNING at", [MOMENT], id="by a delete"),
        pytest.param(
            "WITH x AS (SELECT 9) INSERT INTO t (at) SELECT '2026-05-01' FROM x RETURNING at, ?",
            [msgpack.Timestamp(1_777_593_600, 0), 1],
            id="by an insert with a WITH",
        ),
        pytest.param("SELECT at FROM t WHERE ? LIMIT ?", [MOMENT], id="with parameters"),
    ],
)
def test_the_declared_type_of_a_column_is_found(dated: Tables, statement: str, row: list[Any]) -> None:
    dated.done("INSERT INTO t (at, text) VALUES (?1, ?1)", NOON)
    dated.done("CREATE VIEW v AS SELECT at FROM t; CREATE TEMP TABLE tt (at TIMESTAMP)")
    dated.done("INSERT INTO tt VALUES (?)", NOON)

    assert columns(dated, statement, *[1] * statement.count("?")) == row
    assert columns(dated, "SELECT at FROM tt") == [MOMENT]


def test_other_values_in_a_date_column_stay_what_they_are(dated: Tables) -> None:
    dated.done("INSERT INTO t (at, d, dt) VALUES (?, ?, ?)", 1_700_000_000, 2460310.1234567891, b"2026-05-01")

    assert columns(dated, "SELECT at, d, dt, s FROM t") == [1_700_000_000, 2460310.1234567891, b"2026-05-01", None]


def test_text_that_is_no_moment_stays_text(dated: Tables) -> None:
    dated.done("INSERT INTO t (at, d, dt) VALUES ('tomorrow', '2026-13-01', '')")

    assert columns(dated, "SELECT at, d, dt FROM t") == ["tomorrow", "2026-13-01", ""]


def test_a_table_with_dates_that_comes_later_is_noticed(sql: Tables) -> None:
    sql.done("CREATE TABLE t (at TEXT)")
    sql.done("INSERT INTO t VALUES (?)", NOON)
    assert columns(sql, "SELECT at FROM t") == [NOON]
    sql.done("ALTER TABLE t ADD COLUMN other DATETIME; UPDATE t SET other = at")
    assert columns(sql, "SELECT at, other FROM t") == [NOON, MOMENT]
    sql.done("BEGIN; ALTER TABLE t DROP COLUMN other; ALTER TABLE t RENAME COLUMN at TO other")
    assert columns(sql, "SELECT other FROM t") == [NOON]
    sql.done("ROLLBACK")
    assert columns(sql, "SELECT other FROM t") == [MOMENT]


def test_an_error_that_rolls_back_takes_declared_types_with_it(sql: Tables) -> None:
    sql.done("CREATE TABLE t (at TEXT, u UNIQUE); INSERT INTO t VALUES (?1, 1)", NOON)
    sql.done("BEGIN; DROP TABLE t; CREATE TABLE t (at DATETIME, u UNIQUE); INSERT INTO t VALUES (?1, 1)", NOON)
    assert columns(sql, "SELECT at FROM t") == [MOMENT]

    assert sql.exec("INSERT OR ROLLBACK INTO t VALUES (1, 1)")[0] == 13
    assert columns(sql, "SELECT at FROM t") == [NOON]


def test_virtual_tables_and_odd_schemas_do_no_harm(dated: Tables) -> None:
    dated.done("CREATE VIRTUAL TABLE f USING fts5(body); INSERT INTO f VALUES ('a word')")
    dated.done('CREATE TABLE "odd; table" ("a; b" DATE DEFAULT (date(\'now\')), c GENERATED ALWAYS AS (1)) ')
    dated.done("INSERT INTO \"odd; table\" VALUES ('2026-05-01')")

    assert dated.rows("SELECT body FROM f WHERE f MATCH 'word'") == [["a word"]]
    assert columns(dated, 'SELECT "a; b" FROM "odd; table"') == [msgpack.Timestamp(1_777_593_600, 0)]


# The forms of a moment ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds", "nanoseconds"),
    [
        ("2026-05-01 12:00:00 +0000 UTC", 1_777_636_800, 0),
        ("2026-05-01 14:00:00.25 +0200 CEST", 1_777_636_800, 250_000_000),
        ("2026-05-01 12:00:00.000000001 +0000 UTC m=+0.012345", 1_777_636_800, 1),
        ("2026-05-01 17:30:00 +0530 +0530", 1_777_636_800, 0),
        ("2026-05-01", 1_777_593_600, 0),
        ("2026-05-01Z", 1_777_593_600, 0),
        ("2026-05-01 12:00", 1_777_636_800, 0),
        ("2026-05-01T12:00", 1_777_636_800, 0),
        ("2026-05-01T12:00:00", 1_777_636_800, 0),
        ("2026-05-01T12:00:00Z", 1_777_636_800, 0),
        ("2026-05-01T12:00:00.123456789Z", 1_777_636_800, 123_456_789),
        ("2026-05-01T12:00:00.1234567891234", 1_777_636_800, 123_456_789),
        ("2026-05-01 12:00:00.5+02:00", 1_777_636_800 - 2 * HOUR, 500_000_000),
        ("2026-05-01 12:00-01:30", 1_777_636_800 + 3 * HOUR // 2, 0),
        ("0001-01-01 00:00:00 +0000 UTC", -62_135_596_800, 0),
        ("0000-02-29", -62_162_121_600, 0),
        ("9999-12-31 23:59:59", 253_402_300_799, 0),
    ],
)
def test_a_text_is_the_moment(text: str, seconds: int, nanoseconds: int) -> None:
    assert read_moment(text.encode()) == Timestamp(seconds, nanoseconds)


@pytest.mark.parametrize(
    "text",
    [
        *("", "now", "12:00:00", "2026", "2026-5-1", "2026-02-29", "2026-00-10", "2026-05-32", "26-05-01"),
        *("2026-05-01 24:00:00", "2026-05-01 12:60", "2026-05-01 12:00:60", "2026-05-01  12:00", "2026-05-01 12"),
        *("2026-05-01 12:00:00 +0000", "2026-05-01 12:00:00 UTC", "2026-05-01T12:00:00+0200", "2026-05-01 12:00:00."),
        *("2026-05-01 12:00:00+25:00", " 2026-05-01", "2026-05-01 ", "２０２６-05-01", "2026-05-01\n", "-026-05-01"),
    ],
)
def test_a_text_is_no_moment(text: str) -> None:
    assert read_moment(text.encode()) is None


@given(st.integers(-(1 << 40), 1 << 40), st.integers(0, 999_999_999))
def test_what_is_written_is_read_again(seconds: int, nanoseconds: int) -> None:
    moment = Timestamp(seconds, nanoseconds)
    text = moment_text(moment)

    if -62_167_219_200 <= seconds < 253_402_300_800:  # years of four digits
        assert read_moment(text.encode()) == moment
    else:
        assert read_moment(text.encode()) is None


@given(st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31)))
def test_a_moment_is_written_as_the_calendar_says(when: datetime) -> None:
    since = when.replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    moment = Timestamp(since // timedelta(seconds=1), when.microsecond * 1000)

    assert moment_text(moment).startswith(when.strftime("%m-%d %H:%M:%S").join((f"{when.year:04}-", "")))
    assert moment_text(moment).endswith(" +0000 UTC")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (253_402_300_800, "10000-01-01 00:00:00 +0000 UTC"),
        (-62_167_219_201, "-0001-12-31 23:59:59 +0000 UTC"),
        (-62_167_219_200, "0000-01-01 00:00:00 +0000 UTC"),
        ((1 << 63) - 1, "292277026596-12-04 15:30:07 +0000 UTC"),
        (-(1 << 63), "-292277022657-01-27 08:29:52 +0000 UTC"),
    ],
)
def test_a_moment_outside_the_calendar_is_written_too(seconds: int, text: str) -> None:
    assert moment_text(Timestamp(seconds)) == text


# Reading parameters -------------------------------------------------------------------------------------------------


def test_every_nanosecond_of_a_moment_is_kept() -> None:
    data = b"\x92\x05" + Timestamp(1_777_636_800, 123_456_789).encode()

    assert decode_params(data) == [5, Timestamp(1_777_636_800, 123_456_789)]
    assert decode_many(b"\x92" + data + b"\xc0") == [[5, Timestamp(1_777_636_800, 123_456_789)], []]


def test_long_parameters_are_read_too() -> None:
    blob = bytes(3 << 20)

    assert decode_params(b"\x92\x01\xc6" + len(blob).to_bytes(4, "big") + blob) == [1, blob]
