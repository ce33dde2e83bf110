"""What goes wrong in SQLite, as a code and a text for the guest (spec/capabilities §8.2).

UNIQUE constraint failed: t.c      ──▶  13  constraint failed: UNIQUE constraint failed: t.c (2067)
no such table: x                   ──▶   5  SQL logic error: no such table: x (1)
database is locked                 ──▶  12  database is locked (5) (SQLITE_BUSY)
"""

from __future__ import annotations

import sqlite3
from typing import Final

from pulp_runtime.capabilities.storage.sqlite_guard import Guard

SQL: Final = 5
BUSY: Final = 12
CONSTRAINT: Final = 13
READ_ONLY: Final = 14
TOO_LARGE: Final = 19
TOO_MANY: Final = 21

DISK_FULL: Final = "database or disk is full (13)"

_ERROR: Final = 1
_PRIMARY: Final = 0xFF
_WORDS: Final = {
    1: "SQL logic error",
    2: "unknown error",
    3: "access permission denied",
    4: "query aborted",
    5: "database is locked",
    6: "database table is locked",
    7: "out of memory",
    8: "attempt to write a readonly database",
    9: "interrupted",
    10: "disk I/O error",
    11: "database disk image is malformed",
    12: "unknown operation",
    13: "database or disk is full",
    14: "unable to open database file",
    15: "locking protocol",
    17: "database schema has changed",
    18: "string or blob too big",
    19: "constraint failed",
    20: "datatype mismatch",
    21: "bad parameter or other API misuse",
    23: "authorization denied",
    25: "column index out of range",
    26: "file is not a database",
}
"""What SQLite calls each of its primary codes."""

#: SQLITE_CONSTRAINT with CHECK, FOREIGNKEY, NOTNULL, PRIMARYKEY, UNIQUE, ROWID. A trigger's RAISE is none of them.
_CONSTRAINTS: Final = frozenset({275, 787, 1299, 1555, 2067, 2579})
_CODES: Final = {5: BUSY, 6: BUSY, 8: READ_ONLY}


class SqlFailed(Exception):
    """A statement that failed.

    Attributes:
        code: what the import answers.
        text: for the guest.
        refused: what the guard refused, "" if it was something else.
    """

    def __init__(self, code: int, text: str, *, refused: str = "") -> None:
        self.code: Final = code
        self.text: Final = text
        self.refused: Final = refused
        super().__init__(text)


def failure(error: Exception, guard: Guard) -> SqlFailed:
    """Return what the guest is told of an exception of SQLite's module, or of one raised on the way to it."""
    if isinstance(error, SqlFailed):
        return error
    refused, guard.refused = guard.refused, ""
    if isinstance(error, MemoryError):
        return SqlFailed(SQL, "out of memory (7)")
    code = getattr(error, "sqlite_errorcode", None)
    if not isinstance(error, sqlite3.Error) or code is None:
        return SqlFailed(SQL, f"{_WORDS[_ERROR]}: {error} ({_ERROR})")
    if refused:
        return SqlFailed(SQL, f"{_WORDS[23]}: {refused} is not allowed in a cell (23)", refused=refused)
    primary = code & _PRIMARY
    answer = CONSTRAINT if code in _CONSTRAINTS else _CODES.get(primary, SQL)
    return SqlFailed(answer, text_of(code, str(error)))


def text_of(code: int, message: str) -> str:
    """Return SQLite's message for a code, extended or not, with what the code means before and its number behind."""
    words = _WORDS.get(code & _PRIMARY, "unknown error")
    name = " (SQLITE_BUSY)" if code == 5 else ""
    return f"{words} ({code}){name}" if message == words else f"{words}: {message} ({code}){name}"
