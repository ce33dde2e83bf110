"""What a text is taken apart into agrees with what SQLite makes of it."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pulp_runtime.capabilities.storage.sqlite_statement import LONG_TEXT, ParameterMissing, Statement, split

TRIGGER = "CREATE TRIGGER g AFTER INSERT ON t BEGIN SELECT 1; SELECT CASE WHEN 1 THEN 2 END; END"

TEMPORARY = TRIGGER.replace("CREATE", "create temp")


def texts(sql: str) -> list[str]:
    return [statement.text for statement in split(sql)]


@pytest.mark.parametrize(
    ("sql", "statements"),
    [
        ("", []),
        (" ;; ; ", []),
        ("-- only a remark", []),
        ("/* never closed", []),
        ("SELECT 1", ["SELECT 1"]),
        ("SELECT 1;", ["SELECT 1"]),
        (" \ufeff SELECT 1 ; ; SELECT 2 -- two", ["SELECT 1", "SELECT 2"]),
        ("SELECT ';' ; SELECT \";\" ;SELECT `;`; SELECT [;]", ["SELECT ';'", 'SELECT ";"', "SELECT `;`", "SELECT [;]"]),
        ("SELECT 'it''s; one'; SELECT 2", ["SELECT 'it''s; one'", "SELECT 2"]),
        ("SELECT 1 /* ; */ + 2; SELECT -- ;\n 3", ["SELECT 1 /* ; */ + 2", "SELECT -- ;\n 3"]),
        ("SELECT 'never closed; SELECT 2", ["SELECT 'never closed; SELECT 2"]),
        (f"{TRIGGER}; SELECT 3", [TRIGGER, "SELECT 3"]),
        (f"/* first */ {TEMPORARY} ;SELECT 3", [TEMPORARY, "SELECT 3"]),
        (f"EXPLAIN {TRIGGER}; SELECT 3", [f"EXPLAIN {TRIGGER}", "SELECT 3"]),
        ("CREATE TRIGGER g AFTER INSERT ON t BEGIN SELECT 1;", ["CREATE TRIGGER g AFTER INSERT ON t BEGIN SELECT 1;"]),
        ("CREATE TABLE trigger_ (a); BEGIN; END; SELECT 1", ["CREATE TABLE trigger_ (a)", "BEGIN", "END", "SELECT 1"]),
        ("SELECT x'3b'; SELECT 1e5; SELECT .5; SELECT a.b", ["SELECT x'3b'", "SELECT 1e5", "SELECT .5", "SELECT a.b"]),
    ],
)  # fmt: skip
def test_a_text_is_these_statements(sql: str, statements: list[str]) -> None:
    assert texts(sql) == statements


PIECES = [
    *(
        "SELECT 1",
        "SELECT 'a;b'",
        'SELECT ";"',
        "INSERT INTO t VALUES (1)",
        "BEGIN",
        "COMMIT",
        TRIGGER,
        "DROP TRIGGER g",
    ),
    *("DELETE FROM t", "SELECT [;] FROM u", "-- ;\n", "/* ; */", " ", ";", "\n", "SELECT `;` FROM u", "VALUES ('''')"),
]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=8))
def test_each_statement_is_one_for_sqlite_and_together_they_do_what_the_text_does(pieces: Sequence[str]) -> None:
    sql = ";".join(pieces)
    whole, apart = (sqlite3.connect(":memory:", isolation_level=None) for _ in range(2))
    for connection in (whole, apart):
        connection.executescript('CREATE TABLE t (a); CREATE TABLE u (";")')

    failed = False
    try:
        whole.executescript(sql)
    except sqlite3.Error:
        failed = True
    try:
        for statement in texts(sql):
            assert sqlite3.complete_statement(f"{statement};")
            apart.execute(statement).fetchall()
    except sqlite3.Error:
        assert failed
    else:
        assert not failed
    assert list(whole.iterdump()) == list(apart.iterdump())
    whole.close()
    apart.close()


@settings(deadline=None)
@given(st.text(alphabet="SELCT ?1$:@#a'\"`[]();-/*\n\0é🍌", max_size=40))
def test_any_text_is_taken_apart_in_some_way(sql: str) -> None:
    for statement in split(sql):
        assert statement.text in sql or "?" in statement.text
        try:
            statement.bind([1, 2, 3], 0)
        except ParameterMissing:
            pass


def one(sql: str) -> Statement:
    (statement,) = split(sql)
    return statement


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(["?", "?1", "?2", "?3", "?5", "$1", "$2", "$3"]), min_size=1, max_size=6))
def test_parameters_get_the_values_that_sqlite_gives_them(parameters: Sequence[str]) -> None:
    values = [f"v{number}" for number in range(1, 12)]
    statement = one(f"SELECT {', '.join(parameters)}")
    connection = sqlite3.connect(":memory:")
    row = connection.execute(statement.text, statement.bind(values, 0)).fetchone()
    connection.close()

    # The rules of SQLite's documentation, written down once more: what has one number is one parameter.
    highest = 0
    numbers: dict[str, int] = {}
    given_to: dict[int, str] = {}
    row_numbers = []
    for parameter in parameters:
        if parameter[0] == "$":
            number = numbers.setdefault(parameter, highest + 1)
        else:
            number = int(parameter[1:] or highest + 1)
        highest = max(highest, number)
        given_to.setdefault(number, values[int(parameter[1:] or number) - 1])
        row_numbers.append(number)
    assert list(row) == [given_to[number] for number in row_numbers]


@pytest.mark.parametrize(
    ("sql", "keyword", "counts"),
    [
        ("select 1", "SELECT", False),
        ("WITH x AS (SELECT 1) SELECT * FROM x", "WITH", True),
        ("INSERT INTO t VALUES (1) returning a", "INSERT", True),
        ("INSERT INTO t VALUES ('returning')", "INSERT", False),
        ("PRAGMA x", "PRAGMA", False),
        ("(", "(", False),
    ],
)
def test_the_first_word_says_what_a_statement_is(sql: str, keyword: str, counts: bool) -> None:
    assert (one(sql).keyword, one(sql).counts) == (keyword, counts)


def test_a_long_text_without_parameters_is_not_taken_apart() -> None:
    sql = f"-- one\n/* two */ insert INTO t VALUES ({', '.join(['1'] * LONG_TEXT)}); "
    statement = one(sql)

    assert (statement.text, statement.keyword, statement.takes) == (sql, "INSERT", 0)
    assert one(sql.replace("1)", "?)")).takes == 1
    assert len(split(f"{sql} SELECT 1")) == 2


def test_a_long_text_is_taken_apart_in_a_moment() -> None:
    sql = "SELECT " + "((/* x */ 'a''b' || ?) + 1), " * 20_000 + "1"

    assert one(sql).takes == 20_000
