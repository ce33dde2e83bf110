"""A result that is read in pieces, for those that do not fit into a cell's memory."""

from __future__ import annotations

import sqlite3
from typing import Final

from pulp_runtime.abi.sql import encode_array, encode_row
from pulp_runtime.capabilities.storage.sqlite_failure import TOO_LARGE, SqlFailed
from pulp_runtime.capabilities.storage.sqlite_statement import Statement
from pulp_runtime.capabilities.storage.sqlite_values import DateColumns

OPEN_RESULTS: Final = 16
"""Results that a cell may read at one time."""
_ARRAY_HEADER: Final = 5


class Rows:
    """A statement that stands on one of its rows.

    Attributes:
        statement: the statement.
        cursor: where it stands.
    """

    def __init__(self, statement: Statement, cursor: sqlite3.Cursor) -> None:
        self.statement: Final = statement
        self.cursor: Final = cursor
        self.names: Final = [column[0] for column in cursor.description]
        self._converted: Final = DateColumns(statement.dated) if statement.dated else None
        self._held: bytes | None = None

    def take(self, most: int) -> bytes:
        """Return as many of the next rows as fit into `most` bytes, encoded; no bytes after the last.

        Raises:
            SqlFailed: 19, the next row alone does not fit; it stays the next.
            sqlite3.Error: the statement failed.
        """
        found: list[bytes] = []
        left = most - _ARRAY_HEADER
        while (row := self._next()) is not None:
            if len(row) > left:
                self._held = row
                break
            found.append(row)
            left -= len(row)
        if not found and self._held is not None:
            raise SqlFailed(TOO_LARGE, f"the next row takes {len(self._held) + _ARRAY_HEADER} bytes, not {most}")
        return encode_array(len(found), found) if found else b""

    def _next(self) -> bytes | None:
        held, self._held = self._held, None
        if held is not None:
            return held
        row = self.cursor.fetchone()
        return None if row is None else encode_row(row, self._converted)

    def close(self) -> None:
        """Forget the rest."""
        self.cursor.close()
