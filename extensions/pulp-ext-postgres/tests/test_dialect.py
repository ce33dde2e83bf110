"""SQLite's dialect in PostgreSQL's words, without a server."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulp_ext_postgres.dialect import DialectError, translate
from pulp_ext_postgres.lexer import tokens


def one(sql: str) -> str:
    (statement,) = translate(sql)
    return statement.sql


@pytest.mark.parametrize(
    ("sqlite", "postgres"),
    [
        ("SELECT ?, ?", "SELECT $1, $2"),
        ("SELECT ?2, ?, ?1", "SELECT $2, $3, $1"),
        ("SELECT $2, ?", "SELECT $2, $3"),
        ("SELECT '?', \"?\", /* ? */ $$ ? $$, $a$ ? $$ ? $a$ -- ?", None),
        ("SELECT 'it''s ?' || ?", "SELECT 'it''s ?' || $1"),
        (r"SELECT E'a\'?' || ?", r"SELECT E'a\'?' || $1"),
        ("SELECT '\\' || ? || '\\'", "SELECT '\\' || $1 || '\\'"),
        ("SELECT X'00fF', x''", "SELECT decode('00fF', 'hex'), decode('', 'hex')"),
        ("SELECT 'X''00'", None),
        ("CREATE TABLE t (a INTEGER, b blob)", "CREATE TABLE t (a BIGINT, b BYTEA)"),
        ("SELECT CAST(? AS integer)", "SELECT CAST($1 AS BIGINT)"),
        ("SELECT \"INTEGER\", 'BLOB', t.blob, integer.x, integers, e_blob", None),
        (
            "CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, n INTEGER)",
            "CREATE TABLE t (id BIGSERIAL PRIMARY KEY , n BIGINT)",
        ),
        (
            "create table t (n integer, id integer check (id > 0) primary key autoincrement)",
            "create table t (n BIGINT, id BIGSERIAL check (id > 0) primary key )",
        ),
        ("SELECT replace('a', 'b', 'c')", None),
        ("SELECT a::INTEGER, b ->> 'x', c #>> '{a}'", "SELECT a::BIGINT, b ->> 'x', c #>> '{a}'"),
        ("SELECT a$b$c, 1e5, .5, 0x1F", None),
        ("SELECT U&'\\0041', U&\"x\", N'y', B'01'", None),
        ("SELECT /* a /* nested ? */ ? */ ?", "SELECT /* a /* nested ? */ ? */ $1"),
        ("SELECT 'never closed ?", None),
        ("SELECT $$ never closed ?", None),
        ("SELECT /* never closed ?", None),
    ],
)
def test_a_statement_is_translated(sqlite: str, postgres: str | None) -> None:
    assert one(sqlite) == (sqlite if postgres is None else postgres)


@pytest.mark.parametrize(
    ("sql", "statements"),
    [
        ("", []),
        (" ;; -- nothing\n; /* ; */ ", []),
        ("SELECT 1; SELECT 2;", ["SELECT 1", "SELECT 2"]),
        ("SELECT ';'; SELECT $$;$$", ["SELECT ';'", "SELECT $$;$$"]),
        ("SELECT ?; SELECT ?", ["SELECT $1", "SELECT $1"]),
    ],
)
def test_statements_are_told_apart(sql: str, statements: list[str]) -> None:
    assert [statement.sql for statement in translate(sql)] == statements


@pytest.mark.parametrize(
    ("sql", "told"),
    [
        ("PRAGMA foreign_keys = ON", "PRAGMA is refused"),
        (" /* a */ pragma x", "PRAGMA is refused"),
        ("SELECT 1; VACUUM", "VACUUM is refused"),
        ("ATTACH DATABASE 'x' AS y", "ATTACH is refused"),
        ("DETACH y", "DETACH is refused"),
        ("REPLACE INTO t VALUES (1)", "write INSERT ... ON CONFLICT"),
        ("INSERT OR REPLACE INTO t VALUES (1)", "write INSERT ... ON CONFLICT"),
        ("WITH a AS (SELECT 1) INSERT /* */ OR IGNORE INTO t SELECT * FROM a", "write INSERT ... ON CONFLICT"),
        ("COPY t FROM PROGRAM 'id'", "COPY is refused"),
        ("SELECT ?0", "numbers go from 1"),
        ("SELECT $65536", "numbers go from 1"),
        ("SELECT ?999999999", "numbers go from 1"),
        ("CREATE TABLE t (id TEXT AUTOINCREMENT)", "AUTOINCREMENT is refused here"),
        ("CREATE TABLE t (a INTEGER, id TEXT AUTOINCREMENT)", "AUTOINCREMENT is refused here"),
    ],
)
def test_what_cannot_be_translated_is_refused_with_what_to_write(sql: str, told: str) -> None:
    with pytest.raises(DialectError, match=told):
        translate(sql)


@given(st.text(alphabet="aE'\"$?;-/*\\() \n1xX&", max_size=60))
def test_no_character_is_lost_whatever_is_open(sql: str) -> None:
    assert "".join(text for _kind, text in tokens(sql)) == sql


@given(st.text(max_size=40))
def test_a_string_stays_a_string(text: str) -> None:
    literal = "'" + text.replace("'", "''") + "'"

    assert [text for _kind, text in tokens(f"SELECT {literal};")][-2:] == [literal, ";"]


@pytest.mark.slow
@pytest.mark.parametrize("piece", ["'", "/*", "$a$", "(", "a ", "? ", "''", "\\'", "E'\\", "--\n", "U&"])
def test_threat_12_a_megabyte_of_anything_is_read_in_bounded_time(piece: str) -> None:
    began = time.process_time()

    try:
        translate(piece * (1024 * 1024 // len(piece)))
    except DialectError:
        pass  # too many parameters

    assert time.process_time() - began < 4.0
