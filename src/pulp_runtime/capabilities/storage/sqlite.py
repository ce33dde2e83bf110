"""`storage.sqlite`: a database of the cell's own (spec/capabilities §8).

    guest ── SQL, parameters ──▶ Statement ──▶ one connection ──▶ {storage root}/{cell}/data.db
                                                    │
                                    authorizer, limits, deadline, quota

The connection lasts as long as the instance: a transaction may span steps, and ends with the instance if it is still
open then. A module that imports `sqlite_exec` with four words was built for the first version of this capability: its
queries answer bare rows, and every failure of SQL is 5.
"""

from __future__ import annotations

import asyncio
import inspect
import sqlite3
from collections.abc import Callable
from typing import Annotated, Any, Final

import msgspec

from pulp_runtime.abi.codec import NIL, DecodeError
from pulp_runtime.abi.sql import (
    decode_many,
    decode_params,
    encode_exec,
    encode_exec_error,
    encode_opened,
    encode_query_error,
    encode_results,
)
from pulp_runtime.capabilities.operator import operator_settings
from pulp_runtime.capabilities.storage.place import cell_folder
from pulp_runtime.capabilities.storage.sqlite_connection import Database
from pulp_runtime.capabilities.storage.sqlite_failure import SQL, TOO_MANY, SqlFailed
from pulp_runtime.capabilities.storage.sqlite_file import FILE, SqliteSettings, refuse_planted
from pulp_runtime.capabilities.storage.sqlite_guard import HEAP_MB, limit_heap
from pulp_runtime.capabilities.storage.sqlite_room import Room
from pulp_runtime.capabilities.storage.sqlite_rows import OPEN_RESULTS, Rows
from pulp_runtime.ext import (
    Capability,
    CellRef,
    Errno,
    ExtensionError,
    Guest,
    HostError,
    HostFunction,
    Linker,
    PerCell,
    SetupEnv,
)
from pulp_runtime.files.quota import DiskQuota

NAME: Final = "storage.sqlite"
WATCH_SECONDS: Final = 0.05
"""How often statements in progress are looked at."""
IDLE_WATCH_SECONDS: Final = 0.25
"""How often it is looked whether there are any."""

_FIRST_EXEC_WORDS: Final = 4


class OperatorSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What an operator may set.

    Attributes:
        heap_mb: memory of SQLite for the whole process, databases of the embedding program included; 0 for no bound.
    """

    heap_mb: Annotated[int, msgspec.Meta(ge=0, le=1_048_576)] = HEAP_MB


class _Cell:
    """What one cell has open.

    Attributes:
        database: its connection.
        results: those it reads row by row, by handle.
        first: whether it was built for the first version.
    """

    def __init__(self, database: Database, *, first: bool) -> None:
        self.database: Final = database
        self.results: Final[dict[int, Rows]] = {}
        self.first: Final = first
        self._last_handle = 0

    def keep(self, rows: Rows) -> int:
        """Keep a result; return its handle, which no other result of this instance has had."""
        self._last_handle += 1
        self.results[self._last_handle] = rows
        return self._last_handle

    def close(self) -> None:
        """Close the results, then the database."""
        for rows in self.results.values():
            rows.close()
        self.results.clear()
        self.database.close()


class Sqlite(PerCell[_Cell]):
    """A database for each cell."""

    def __init__(self) -> None:
        super().__init__()
        self._env: SetupEnv | None = None

    # What cells call --------------------------------------------------------------------------------------------

    def sqlite_exec(
        self, guest: Guest, sql: int, sql_bytes: int, params: int, params_bytes: int, address_out: int, length_out: int
    ) -> int:
        """Run every statement of a text; deliver `{rows_affected, last_insert_id}` of the connection.

        Answers 5, 12, 13 or 14 when a statement fails, with `{rows_affected, last_insert_id, error}`.
        """
        cell, text, values = self._read(guest, sql, sql_bytes, params, params_bytes)
        try:
            changed, last_id = cell.database.exec(text, values, guest)
        except SqlFailed as failed:
            return self._refuse(guest, failed, encode_exec_error, address_out, length_out)
        guest.deliver(encode_exec(changed, last_id), address_out, length_out)
        return 0

    def sqlite_exec_first(self, guest: Guest, sql: int, sql_bytes: int, params: int, params_bytes: int) -> int:
        """Run every statement of a text and deliver nothing, as modules of the first version ask for it."""
        cell, text, values = self._read(guest, sql, sql_bytes, params, params_bytes)
        try:
            cell.database.exec(text, values, guest)
        except SqlFailed as failed:
            return self._refuse(guest, failed, None, 0, 0)
        return 0

    def sqlite_exec_many(
        self, guest: Guest, sql: int, sql_bytes: int, runs: int, runs_bytes: int, address_out: int, length_out: int
    ) -> int:
        """Run one statement with many sets of parameters; deliver `{rows_affected, last_insert_id}`, of all of them.

        Answers 5, 12, 13 or 14 when it fails, with `{rows_affected, last_insert_id, error}`; what it has done for the
        sets before stays, unless a transaction is rolled back.
        """
        cell, text, values = self._read(guest, sql, sql_bytes, runs, runs_bytes, decode_many)
        try:
            changed, last_id = cell.database.exec_many(text, values, guest)
        except SqlFailed as failed:
            return self._refuse(guest, failed, encode_exec_error, address_out, length_out)
        guest.deliver(encode_exec(changed, last_id), address_out, length_out)
        return 0

    def sqlite_query_many(
        self, guest: Guest, sql: int, sql_bytes: int, runs: int, runs_bytes: int, address_out: int, length_out: int
    ) -> int:
        """Run one statement with many sets of parameters; deliver `{columns, results}`, the rows for each set.

        Answers 5, 12, 13 or 14 when it fails, 19 when the results together are longer than `result_bytes`, with
        `{columns, rows, error}`.
        """
        cell, text, values = self._read(guest, sql, sql_bytes, runs, runs_bytes, decode_many)
        try:
            header, results = cell.database.query_many(text, values, guest)
        except SqlFailed as failed:
            return self._refuse(guest, failed, encode_query_error, address_out, length_out)
        guest.deliver(encode_results(header, results), address_out, length_out)
        return 0

    def sqlite_query(
        self, guest: Guest, sql: int, sql_bytes: int, params: int, params_bytes: int, address_out: int, length_out: int
    ) -> int:
        """Run every statement of a text; deliver `{columns, rows}` of the last that has a row.

        Answers 5, 12, 13 or 14 when a statement fails, 19 when the result is longer than `result_bytes`, with
        `{columns, rows, error}`. A module of the first version is delivered the rows alone, and 5 with nothing.
        """
        cell, text, values = self._read(guest, sql, sql_bytes, params, params_bytes)
        try:
            header, rows = cell.database.query(text, values, guest)
        except SqlFailed as failed:
            return self._refuse(guest, failed, encode_query_error, address_out, length_out)
        rows = rows or NIL
        guest.deliver(rows if cell.first else header + rows, address_out, length_out)
        return 0

    def sqlite_rows_open(
        self, guest: Guest, sql: int, sql_bytes: int, params: int, params_bytes: int, address_out: int, length_out: int
    ) -> int:
        """Begin a statement whose rows are read in pieces; deliver `{handle, columns}`.

        Answers 5, 12, 13 or 14 when it fails, 21 when the cell reads 16 results already, with
        `{columns, rows, error}`.
        """
        cell, text, values = self._read(guest, sql, sql_bytes, params, params_bytes)
        try:
            if len(cell.results) >= OPEN_RESULTS:
                raise SqlFailed(TOO_MANY, f"{OPEN_RESULTS} results are open; close one")
            rows = cell.database.open_rows(text, values, guest)
        except SqlFailed as failed:
            return self._refuse(guest, failed, encode_query_error, address_out, length_out)
        handle = cell.keep(rows)
        try:
            guest.deliver(encode_opened(handle, rows.names), address_out, length_out)
        except HostError:
            del cell.results[handle]  # nobody knows its name
            rows.close()
            raise
        return 0

    def sqlite_rows_next(self, guest: Guest, handle: int, most: int, address_out: int, length_out: int) -> int:
        """Deliver the next rows of a result, as many as fit into `most` bytes; nothing when there are no more.

        Answers 6 for an unknown handle, 5, 12, 13 or 14 when the statement fails, which closes the result, and 19
        when the next row alone is longer than `most`, with `{columns, rows, error}`.
        """
        cell = self._cell(guest)
        rows = cell.results.get(handle)
        if rows is None:
            raise HostError(Errno.NOT_FOUND, f"no result {handle}")
        try:
            found = cell.database.next_rows(rows, most, guest)
        except SqlFailed as failed:
            if failed.code in (SQL, *range(12, 15)):
                self._forget(cell, handle)
            return self._refuse(guest, failed, encode_query_error, address_out, length_out)
        if not found:
            self._forget(cell, handle)
        guest.deliver(found, address_out, length_out)
        return 0

    def sqlite_rows_close(self, guest: Guest, handle: int) -> int:
        """Forget the rest of a result; 6 for an unknown handle, or one that has been read to its end."""
        cell = self._cell(guest)
        if handle not in cell.results:
            raise HostError(Errno.NOT_FOUND, f"no result {handle}")
        self._forget(cell, handle)
        return 0

    def _read(
        self,
        guest: Guest,
        sql: int,
        sql_bytes: int,
        params: int,
        params_bytes: int,
        decode: Callable[[bytes], list[Any]] = decode_params,
    ) -> tuple[_Cell, bytes, list[Any]]:
        if not sql_bytes:
            raise HostError(Errno.EMPTY, "no SQL")
        text = guest.read(sql, sql_bytes)
        try:
            values = decode(guest.read(params, params_bytes)) if params_bytes else []
        except DecodeError as error:
            raise HostError(Errno.DECODE, str(error)) from None
        return self._cell(guest), text, values

    def _cell(self, guest: Guest) -> _Cell:
        cell = self.kept(guest.cell.id)
        if cell is None:
            raise HostError(Errno.NO_HANDLE, "no database is open for the cell")
        return cell

    def _forget(self, cell: _Cell, handle: int) -> None:
        cell.results.pop(handle).close()

    def _refuse(
        self,
        guest: Guest,
        failed: SqlFailed,
        encode: Callable[[str], bytes] | None,
        address_out: int,
        length_out: int,
    ) -> int:
        """Tell the guest, and the operator if it was refused rather than wrong."""
        if failed.refused:
            guest.cell.log.warning("statement refused", reason=failed.refused)
        first = self._cell(guest).first
        if encode is not None:
            try:
                guest.deliver(b"" if first else encode(failed.text), address_out, length_out)
            except HostError:
                pass  # the code alone must do
        return SQL if first else failed.code

    # Hooks ------------------------------------------------------------------------------------------------------

    def setup(self, env: SetupEnv) -> None:
        """Remember where databases are, and bound the memory SQLite may take.

        Raises:
            ExtensionError: the operator's settings are wrong.
        """
        settings = operator_settings(env, OperatorSettings, {})
        if settings.heap_mb:
            connection = sqlite3.connect(":memory:")
            limit_heap(connection, settings.heap_mb)
            connection.close()
        self._env = env
        env.spawn(self._watch())

    async def _watch(self) -> None:
        """End statements that nothing else can end in time."""
        while True:
            running = [each for each in self.all_kept() if each[1].database.watch.guest is not None]
            for cell_id, cell in running:
                if cell.database.watch.tend():
                    self._env.logger.warning("statement does not end at its deadline", cell=cell_id)  # type: ignore[union-attr]
            await asyncio.sleep(WATCH_SECONDS if running else IDLE_WATCH_SECONDS)

    def open_cell(self, cell: CellRef, *, first: bool) -> None:
        """Open a cell's database, which is created if it is not there.

        Raises:
            ExtensionError: naming the file and what to do.
        """
        if self._env is None:
            return
        settings = cell.settings(NAME, SqliteSettings)
        path = cell_folder(self._env, cell) / FILE
        try:
            path.parent.mkdir(0o755, parents=True, exist_ok=True)
            refuse_planted(path)
            database = Database(path, settings, Room(path, DiskQuota(path.parent, cell.disk_bytes)))
        except (OSError, sqlite3.Error) as error:
            raise ExtensionError(
                f"{NAME}: {path}: {error}; put it right, restore a backup, or move the file away to begin anew"
            ) from None
        self.keep(cell.id, _Cell(database, first=first))

    def release(self, value: _Cell) -> None:
        """See `PerCell.release`; a transaction that is still open is rolled back."""
        value.close()


def capability() -> Capability:
    """Return the capability; the entry point."""
    owner = Sqlite()
    statement = "cell: CellRef, query: str, params: SqlParams"
    functions = {
        "sqlite_exec": _function("sqlite_exec", 6, owner.sqlite_exec, f"({statement}) -> SqlExec"),
        "sqlite_exec/4": _function("sqlite_exec", 4, owner.sqlite_exec_first, f"({statement}) -> None"),
        "sqlite_exec_many": _function("sqlite_exec_many", 6, owner.sqlite_exec_many, f"({statement}) -> SqlExec"),
        "sqlite_query_many": _function("sqlite_query_many", 6, owner.sqlite_query_many, f"({statement}) -> SqlResults"),
        "sqlite_query": _function("sqlite_query", 6, owner.sqlite_query, f"({statement}) -> SqlRows"),
        "sqlite_rows_open": _function("sqlite_rows_open", 6, owner.sqlite_rows_open, f"({statement}) -> SqlOpened"),
        "sqlite_rows_next": _function(
            "sqlite_rows_next", 4, owner.sqlite_rows_next, "(cell: CellRef, handle: U32, most: U32) -> SqlRows"
        ),
        "sqlite_rows_close": _function(
            "sqlite_rows_close", 1, owner.sqlite_rows_close, "(cell: CellRef, handle: U32) -> None"
        ),
    }

    def register(linker: Linker, cell: CellRef) -> None:
        owner.open_cell(cell, first=linker.wanted.get("sqlite_exec") == _FIRST_EXEC_WORDS)
        for each in functions.values():
            linker.define(each.name, each.words, each.invoke, blocking=each.blocking)

    return Capability(
        name=NAME,
        register=register,
        setup=owner.setup,
        teardown=owner.teardown,
        teardown_cell=owner.teardown_cell,
        swap_begin=owner.swap_begin,
        swap_end=owner.swap_end,
        provider=__name__,
        functions=functions,
    )


def _function(name: str, words: int, invoke: Callable[..., int], signature: str) -> HostFunction:
    return HostFunction(name, words, invoke, False, signature, inspect.getdoc(invoke) or "")
