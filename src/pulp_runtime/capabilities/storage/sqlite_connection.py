"""The one connection of a cell: statements run on it until the call's deadline, and a transaction may span steps.

A cell is on one thread at a time, so nothing here is locked. Only `tend` comes from another thread: the host's loop
asks now and then whether a statement should be over.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Final

from pulp_runtime.abi.sql import Text, encode_array, encode_columns, encode_row
from pulp_runtime.capabilities.storage.sqlite_declared import Declarations
from pulp_runtime.capabilities.storage.sqlite_failure import DISK_FULL, SQL, TOO_LARGE, SqlFailed, failure
from pulp_runtime.capabilities.storage.sqlite_file import SqliteSettings
from pulp_runtime.capabilities.storage.sqlite_guard import Guard
from pulp_runtime.capabilities.storage.sqlite_room import Room
from pulp_runtime.capabilities.storage.sqlite_rows import Rows
from pulp_runtime.capabilities.storage.sqlite_statement import ParameterMissing, Statement, split
from pulp_runtime.capabilities.storage.sqlite_values import DateColumns, Unbindable, bindable
from pulp_runtime.capabilities.storage.sqlite_watch import Patience, Watch
from pulp_runtime.ext import Guest

BUSY_SECONDS: Final = 5.0
"""How long a statement waits for a lock, if the call's deadline leaves it so long."""
REMEMBERED: Final = 256
"""Texts, and compiled statements, that are kept for the next time."""
REMEMBERED_BYTES: Final = 16_384
"""Longest text that is."""
PROGRESS_STEPS: Final = 10_000
"""How many instructions of SQLite's machine run between two looks at the clock."""
UNPREPARED: Final = 32
"""How many changes of one transaction may be made before it is looked again how much room there is."""

_NO_COLUMNS: Final = encode_columns(())
_COMMITS: Final = frozenset({"COMMIT", "END", "RELEASE", "BEGIN"})
#: `ValueError` is for text with a NUL character, `OverflowError` for integers past 64 bits.
_ERRORS: Final = (
    *(sqlite3.Error, sqlite3.Warning, MemoryError, OverflowError, ValueError),
    *(ParameterMissing, Unbindable, SqlFailed),
)


class Database:
    """An open database.

    Attributes:
        settings: the cell's.
        guard: its authorizer.
        watch: knows which call a statement is in progress for.

    Args:
        path: the file; created when it is not there.
        settings: see above.
        room: how much more it may keep.

    Raises:
        sqlite3.Error: the file cannot be opened, or is no database.
    """

    def __init__(self, path: Path, settings: SqliteSettings, room: Room) -> None:
        self.settings: Final = settings
        self.guard: Final = Guard()
        self._mark: Final = f"/*{secrets.token_hex(8)}*/"  # a compiled statement of ours must not be found by a guest
        self._generation = 0
        self._declared: Final = Declarations(self.own)
        self._uncommitted_schema = False
        self._scripts: Final[dict[bytes, tuple[Statement, ...]]] = {}
        self._changes = self._last_id = 0
        self._since_prepared = 0
        self._room: Final = room
        self._connection: Final = sqlite3.connect(
            path, BUSY_SECONDS, isolation_level=None, check_same_thread=False, cached_statements=REMEMBERED
        )
        self.watch: Final = Watch(self._connection.interrupt, room.written_bytes)
        try:
            self._open()
        except BaseException:
            self._connection.close()
            raise
        self._cursor = self._connection.cursor()

    def _open(self) -> None:
        connection = self._connection
        self.guard.limit(connection, self.settings.value_bytes)
        for pragma in ("journal_mode = WAL", "foreign_keys = ON", "wal_autocheckpoint = 1", "synchronous = NORMAL"):
            connection.execute(f"{self._mark}PRAGMA {pragma}").fetchall()
        connection.set_progress_handler(self.watch.late, PROGRESS_STEPS)
        self._patience = Patience(BUSY_SECONDS, self.own)
        self._room.opened(self.own)
        self.guard.open = False

    # Statements -------------------------------------------------------------------------------------------------

    def exec(self, sql: bytes, values: list[object], guest: Guest) -> tuple[int, int]:
        """Run every statement of `sql`; return the rows affected and the last inserted id, as the connection has them.

        Raises:
            SqlFailed: one of them failed; those before it have been run.
        """
        script = self._scripts.get(sql) or self._parse(sql)
        self._enter(guest)
        try:
            values = bindable(values)
            used = 0
            for statement in script:
                cursor = self._execute(statement, values, used)
                used += statement.takes
                if cursor.description is not None:
                    for _row in cursor:
                        pass
                if statement.counted and cursor.rowcount >= 0 and self._connection.in_transaction:
                    # What else `_note` does is for other statements.
                    self._changes, self._last_id = cursor.rowcount, cursor.lastrowid or 0
                else:
                    self._note(statement, cursor)
        except _ERRORS as error:
            raise self._failed(error) from None
        finally:
            self.watch.guest = None
        return self._changes, self._last_id

    def exec_many(self, sql: bytes, runs: Sequence[list[object]], guest: Guest) -> tuple[int, int]:
        """Run one statement with each of `runs` for its parameters; return the rows affected by all, and the last id.

        Raises:
            SqlFailed: it failed for one of them, having been run for those before; or it is not one statement that
                changes something and gives no rows.
        """
        statement = self._only(sql)
        self._enter(guest)
        try:
            bound = [statement.bind(bindable(values), 0) for values in runs]
            self._prepare(statement)
            with self._waiting():
                self._cursor.executemany(statement.text, bound)
            affected = max(0, self._cursor.rowcount)
            self._changes, self._last_id = self.own("SELECT changes(), last_insert_rowid()")[0]
            self._note(statement, None)
        except _ERRORS as error:
            raise self._failed(error) from None
        finally:
            self.watch.guest = None
        return affected, self._last_id

    def query(self, sql: bytes, values: list[object], guest: Guest) -> tuple[bytes, bytes]:
        """Run every statement of `sql`; return columns and rows, encoded, of the last that has a row.

        If none has, the columns are those of the last that could have had one.

        Raises:
            SqlFailed: one of them failed; those before it have been run.
        """
        script = self._scripts.get(sql) or self._parse(sql)
        if len(script) == 1 and script[0].reads:
            return self._select(script[0], values, guest)
        self._enter(guest)
        header, rows = _NO_COLUMNS, b""
        try:
            values = bindable(values)
            used = 0
            for statement in script:
                cursor = self._execute(statement, values, used)
                if cursor.description is not None:
                    described = self._describe(statement, cursor)
                    found = self._fetch(statement, cursor, values, used)
                    if found or not rows:
                        header, rows = described, encode_array(len(found), found) if found else b""
                if not statement.reads:
                    self._note(statement, cursor)
                used += statement.takes
        except _ERRORS as error:
            raise self._failed(error) from None
        finally:
            self.watch.guest = None
        return header, rows

    def _select(self, statement: Statement, values: list[object], guest: Guest) -> tuple[bytes, bytes]:
        """Do what `query` does for a single SELECT: it is called more often than all others."""
        self._enter(guest)
        try:
            values = bindable(values)
            cursor = self._execute(statement, values, 0)
            header = self._describe(statement, cursor)
            rows = self._fetch(statement, cursor, values, 0)
        except _ERRORS as error:
            raise self._failed(error) from None
        finally:
            self.watch.guest = None
        return header, encode_array(len(rows), rows) if rows else b""

    def query_many(self, sql: bytes, runs: Sequence[list[object]], guest: Guest) -> tuple[bytes, list[bytes]]:
        """Run one statement with each of `runs` for its parameters; return the columns and the rows of each.

        Raises:
            SqlFailed: it failed for one of them, having been run for those before; or it is not one statement.
        """
        statement = self._only(sql)
        self._enter(guest)
        header, results = _NO_COLUMNS, []
        left = self.settings.result_bytes
        try:
            for values in runs:
                values = bindable(values)
                cursor = self._execute(statement, values, 0)
                if cursor.description is None:
                    raise SqlFailed(SQL, "SQL logic error: the statement has no rows (1)")
                header = self._describe(statement, cursor)
                rows = self._fetch(statement, cursor, values, 0)
                if not statement.reads:
                    self._note(statement, cursor)
                results.append(encode_array(len(rows), rows))
                left -= len(results[-1])
                if left < 0:
                    raise self._too_long()
        except _ERRORS as error:
            raise self._failed(error) from None
        finally:
            self.watch.guest = None
        return header, results

    def open_rows(self, sql: bytes, values: list[object], guest: Guest) -> Rows:
        """Begin a statement whose rows are read one after the other.

        Raises:
            SqlFailed: it failed, it is not one statement, or it has no rows to give.
        """
        statement = self._only(sql)
        self._enter(guest)
        cursor = self._connection.cursor()
        try:
            self._prepare(statement)
            cursor.execute(statement.text, statement.bind(bindable(values), 0))
            if cursor.description is None:
                self._note(statement, cursor)
                raise SqlFailed(SQL, "SQL logic error: the statement has no rows (1)")
            self._describe(statement, cursor)
            return Rows(statement, cursor)
        except _ERRORS as error:
            cursor.close()
            raise self._failed(error) from None
        finally:
            self.watch.guest = None

    def next_rows(self, rows: Rows, most: int, guest: Guest) -> bytes:
        """Return as many of the next rows as fit into `most` bytes, encoded as an array; no bytes after the last.

        Raises:
            SqlFailed: the statement failed on the way, or the next row alone is longer; that row is not lost.
        """
        self._enter(guest)
        self._connection.text_factory = Text
        try:
            found = rows.take(most)
            if not found:
                self._note(rows.statement, rows.cursor)
            return found
        except _ERRORS as error:
            raise self._failed(error) from None
        finally:
            self._connection.text_factory = str
            self.watch.guest = None

    # Parts of it ------------------------------------------------------------------------------------------------

    def _parse(self, sql: bytes) -> tuple[Statement, ...]:
        try:
            script = split(sql.decode())
        except UnicodeDecodeError:
            raise SqlFailed(SQL, "SQL logic error: the text is not UTF-8 (1)") from None
        if len(sql) <= REMEMBERED_BYTES:
            if len(self._scripts) >= REMEMBERED:
                self._scripts.clear()
            self._scripts[sql] = script
        return script

    def _only(self, sql: bytes) -> Statement:
        script = self._scripts.get(sql) or self._parse(sql)
        if len(script) != 1:
            raise SqlFailed(SQL, f"SQL logic error: this takes one statement, these are {len(script)} (1)")
        return script[0]

    def _prepare(self, statement: Statement) -> None:
        self._since_prepared = 0
        self.guard.vacuuming = statement.keyword == "VACUUM"
        self._room.before(statement)

    def _execute(self, statement: Statement, values: list[object], used: int) -> sqlite3.Cursor:
        bound = values if statement.plain and len(values) == statement.takes else statement.bind(values, used)
        if statement.reads:
            return self._cursor.execute(statement.text, bound)
        if statement.counted and self._connection.in_transaction:
            self._since_prepared += 1
            if self._since_prepared > UNPREPARED:
                self._prepare(statement)
            return self._cursor.execute(statement.text, bound)
        self._prepare(statement)
        if statement.keyword not in _COMMITS and self._connection.in_transaction:
            return self._cursor.execute(statement.text, bound)
        with self._waiting():
            return self._cursor.execute(statement.text, bound)

    def _waiting(self) -> AbstractContextManager[None]:
        """Let another cell have the worker while this one waits for the disk, or for a lock."""
        guest = self.watch.guest
        return nullcontext() if guest is None else guest.blocking()

    def _note(self, statement: Statement, cursor: sqlite3.Cursor | None) -> None:
        """Remember what a statement that has been run to its end has changed."""
        if statement.counts:
            self._changes, self._last_id = self.own("SELECT changes(), last_insert_rowid()")[0]
        elif cursor is not None and cursor.rowcount >= 0:
            self._changes, self._last_id = cursor.rowcount, cursor.lastrowid or 0
        elif statement.keyword == "PRAGMA":
            self._patience.look()
        if statement.changes_schema:
            self._generation += 1
            self._uncommitted_schema = self._connection.in_transaction
        self._room.after(statement, self._connection)

    def _fetch(self, statement: Statement, cursor: sqlite3.Cursor, values: list[object], used: int) -> list[bytes]:
        """Read a result row by row, as long as it fits into one answer."""
        if statement.reads:
            try:
                return self._rows(statement, cursor)
            except sqlite3.OperationalError as error:
                if getattr(error, "sqlite_errorcode", None) is not None:
                    raise
            self._execute(statement, values, used)  # a text is not UTF-8: once more, with bytes
        self._connection.text_factory = Text
        try:
            return self._rows(statement, cursor)
        finally:
            self._connection.text_factory = str

    def _rows(self, statement: Statement, cursor: sqlite3.Cursor) -> list[bytes]:
        converted = DateColumns(statement.dated) if statement.dated else None
        left = self.settings.result_bytes
        rows: list[bytes] = []
        for row in cursor:
            data = encode_row(row, converted)
            left -= len(data)
            if left < 0:
                self._cursor = self._connection.cursor()
                cursor.close()
                raise self._too_long()
            rows.append(data)
        return rows

    def _too_long(self) -> SqlFailed:
        most = self.settings.result_bytes
        return SqlFailed(TOO_LARGE, f"the result is longer than {most} bytes; read it with sqlite_rows_open")

    def _describe(self, statement: Statement, cursor: sqlite3.Cursor) -> bytes:
        """Return a result's columns, encoded; note which of them are dates."""
        if statement.generation != self._generation or statement.columns != len(cursor.description):
            statement.generation = self._generation
            statement.columns = len(cursor.description)
            statement.header = encode_columns([column[0] for column in cursor.description])
            statement.dated = self._declared.dates(statement.text, statement.columns, self._generation)
        return statement.header

    def own(self, sql: str) -> list[tuple[int, ...]]:
        """Run a statement of the host's own; nothing is refused."""
        guard = self.guard
        before, guard.open = guard.open, True
        try:
            return self._connection.execute(self._mark + sql).fetchall()
        finally:
            guard.open = before

    def _failed(self, error: Exception) -> SqlFailed:
        if self._uncommitted_schema and not self._connection.in_transaction:
            self._uncommitted_schema = False
            self._generation += 1  # some errors roll back
        full, self.watch.full = self.watch.full, False
        if full and getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_INTERRUPT:
            return SqlFailed(SQL, DISK_FULL)
        return failure(error, self.guard)

    # Time -------------------------------------------------------------------------------------------------------

    def _enter(self, guest: Guest) -> None:
        watch = self.watch
        watch.guest = guest
        watch.runs += 1
        left = guest.seconds_left()
        patience = self._patience
        if left < patience.wanted or patience.set < patience.wanted:
            patience.within(left)

    def close(self) -> None:
        """Roll back what is open and close the file. May be called again."""
        self._declared.close()
        self._cursor.close()  # one whose statement failed would keep the file open for as long as it is there itself
        self._connection.close()
