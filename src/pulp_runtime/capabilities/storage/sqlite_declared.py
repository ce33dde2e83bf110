"""The declared types of a statement's columns, which SQLite's Python module does not tell.

What it offers for them, converters by declared type, belongs to the whole process, matches `TIMESTAMP(3)` too, and
cannot tell the integer 5 from the text "5". So SQLite is asked in another way: in an empty copy of the schema, in
memory, a view is made of the statement, and `table_info` of the view says what each column was declared as. Only
statements of databases that declare a date anywhere come here, and each of them once for each state of the schema.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any, Final

from pulp_runtime.capabilities.storage.sqlite_guard import Guard
from pulp_runtime.capabilities.storage.sqlite_statement import Token, tokens
from pulp_runtime.capabilities.storage.sqlite_values import DATE_WORDS, DATES

_VIEW: Final = '"pulp result"'
_CHANGES: Final = frozenset({"INSERT", "REPLACE", "UPDATE", "DELETE"})
_BEFORE_TABLE: Final = frozenset({"INTO", "FROM", "UPDATE"})
_VALUE_BYTES: Final = 1_048_576


class Declarations:
    """What the tables of a database declare, as of the last time somebody asked.

    Args:
        ask: runs a statement of the host's on the database.
    """

    def __init__(self, ask: Callable[[str], list[tuple[Any, ...]]]) -> None:
        self._ask: Final = ask
        self._copy: Schema | None = None
        self._generation = -1

    def dates(self, statement: str, columns: int, generation: int) -> tuple[int, ...]:
        """Return which of a statement's `columns` are declared as a date, by number.

        Args:
            statement: one statement.
            columns: how many its result has.
            generation: another number whenever the schema may have changed.
        """
        if self._copy is None or self._generation != generation:
            self.close()
            self._copy = Schema(self._created_in("sqlite_master"), self._created_in("sqlite_temp_master"))
            self._generation = generation
        return self._copy.dates(statement, columns)

    def _created_in(self, schema: str) -> list[str]:
        rows = self._ask(f"SELECT sql FROM {schema} WHERE type IN ('table', 'view') AND sql IS NOT NULL ORDER BY rowid")  # noqa: S608  # one of two names
        return [str(row[0]) for row in rows]

    def close(self) -> None:
        """Forget it."""
        if self._copy is not None:
            self._copy.close()
            self._copy = None


class Schema:
    """An empty copy of a schema.

    Args:
        tables: what created its tables and views, in order.
        temporary: the same for temporary ones.
    """

    def __init__(self, tables: Sequence[str], temporary: Sequence[str]) -> None:
        self._connection: sqlite3.Connection | None = None
        if not any(DATE_WORDS.search(sql) for sql in (*tables, *temporary)):
            return
        self._connection = connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        guard = Guard()
        guard.limit(connection, _VALUE_BYTES)
        for sql in tables:
            self._create(sql)
        for sql in temporary:
            self._create(f"CREATE TEMP{sql.removeprefix('CREATE')}")
        guard.open = False

    def _create(self, sql: str) -> None:
        try:
            self._connection.execute(sql)  # type: ignore[union-attr]
        except sqlite3.Error:
            pass  # a virtual table's own tables are there with it; what is missing has no dates

    def dates(self, statement: str, columns: int) -> tuple[int, ...]:
        """Return which of a statement's `columns` are declared as a date, by number."""
        if self._connection is None:
            return ()
        select = _select(statement)
        if not select:
            return ()
        try:
            self._connection.execute(f"CREATE TEMP VIEW {_VIEW} AS {select}")
        except sqlite3.Error:
            return ()
        try:
            types = [row[2] for row in self._connection.execute(f"PRAGMA temp.table_info({_VIEW})")]
        except sqlite3.Error:
            return ()
        finally:
            self._connection.execute(f"DROP VIEW temp.{_VIEW}")
        if len(types) != columns:
            return ()
        return tuple(at for at, declared in enumerate(types) if (declared or "").upper() in DATES)

    def close(self) -> None:
        """Free it."""
        if self._connection is not None:
            self._connection.close()


def _select(statement: str) -> str:
    """Return a query with the columns of `statement`, its parameters NULL; "" if it has none a table declares."""
    found = list(tokens(statement))
    outer = _outermost(found)
    change = next((at for at in outer if found[at].text.upper() in _CHANGES), None)
    if found[0].text.upper() in ("SELECT", "VALUES") or (found[0].text.upper() == "WITH" and change is None):
        return _text(statement, found)
    returning = next((at for at in reversed(outer) if found[at].text.upper() == "RETURNING"), None)
    if change is None or returning is None:
        return ""
    table = _table(found[change:returning])
    columns = _text(statement, found[returning + 1 :])
    return f"SELECT {columns} FROM {table}" if table else ""  # noqa: S608  # the cell's own SQL, in a copy of its own


def _outermost(found: Sequence[Token]) -> list[int]:
    """Return where the words outside every parenthesis are."""
    depth = 0
    outer = []
    for at, token in enumerate(found):
        depth += {"(": 1, ")": -1}.get(token.text, 0)
        if not depth and token.kind == "word":
            outer.append(at)
    return outer


def _table(change: Sequence[Token]) -> str:
    """Return the table, with its schema, that an INSERT, UPDATE or DELETE changes."""
    at = next((at for at, token in enumerate(change) if token.text.upper() in _BEFORE_TABLE), None)
    if at is None:
        return ""
    if change[at + 1].text.upper() == "OR":
        at += 2
    name = [change[at + 1].text]
    if len(change) > at + 3 and change[at + 2].text == ".":
        name += [".", change[at + 3].text]
    return "".join(name)


def _text(statement: str, found: Sequence[Token]) -> str:
    """Return the text of some tokens, with NULL in place of parameters."""
    pieces = []
    at = found[0].at if found else 0
    for token in found:
        if token.kind == "parameter":
            pieces.append(f"{statement[at : token.at]}NULL")
            at = token.at + len(token.text)
    return "".join(pieces) + statement[at:]
