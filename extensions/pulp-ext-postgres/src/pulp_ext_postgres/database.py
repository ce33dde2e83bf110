"""The host functions: `storage.sqlite` (spec/capabilities §8), both of its versions.

A module that imports `sqlite_exec` with four words was built against the first version: it expects bare rows from
`sqlite_query`, and code 5 for whatever goes wrong. One with six words gets results, columns and error texts.
"""

from __future__ import annotations

import dataclasses
import os
import threading
import time
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from pulp_runtime.ext import (
    U32,
    Capability,
    CellRef,
    Errno,
    ExtensionError,
    Guest,
    HostError,
    Linker,
    SetupEnv,
    host_function,
)

from pulp_ext_postgres import rows
from pulp_ext_postgres.dialect import MOST_SQL_BYTES, DialectError, translate
from pulp_ext_postgres.parameters import NotParameters, ParameterError, read_parameters
from pulp_ext_postgres.rooms import Room
from pulp_ext_postgres.session import SQL_ERROR, Lost, Outcome, Session, SqlError
from pulp_ext_postgres.settings import NAME, Settings, read_settings
from pulp_ext_postgres.wire import Broken, Patience

LOAD_SECONDS: Final = 10.0
"""How long connecting may take when a cell is loaded."""
_MOST_MARGIN: Final = 0.5
_EXEC: Final = "sqlite_exec"
_OLD_WORDS: Final = 4


class Open(NamedTuple):
    """What one cell has.

    Attributes:
        session: its connection.
        old: whether its module was built against the first version.
    """

    session: Session
    old: bool


class Database:
    """Databases of cells, in PostgreSQL.

    Args:
        environment: where the operator's variables are.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._environment: Final = environment
        self._settings: Settings | None = None
        self._names: Mapping[str, str] = {}
        self._open: Final[dict[str, Open]] = {}
        self._swapped: Final[dict[str, Open]] = {}
        self._lock: Final = threading.Lock()

    # Hooks ------------------------------------------------------------------------------------------------------

    def setup(self, env: SetupEnv) -> None:
        """Read the operator's settings.

        Raises:
            ExtensionError: `DATABASE_URL` is missing, or something cannot be used.
        """
        self._settings = read_settings(env.config, self._environment)
        self._names = env.storage_namespaces

    def admit(self, cell: CellRef, wanted: Mapping[str, int]) -> None:
        """Open the connection of a cell that is being loaded.

        Args:
            cell: the cell.
            wanted: how many words its module gives each function it imports.

        Raises:
            ExtensionError: the server cannot be reached, or does not let the cell in.
        """
        if self._settings is None:
            raise ExtensionError(f"{NAME} has not been set up")
        room = Room(self._settings, self._names.get(cell.id, cell.name))
        try:
            session = Session(room, time.monotonic() + LOAD_SECONDS)
        except Broken as error:
            raise ExtensionError(f"{NAME}: no connection: {error}") from None
        with self._lock:
            before = None if cell.id in self._swapped else self._open.pop(cell.id, None)
            self._open[cell.id] = Open(session, wanted.get(_EXEC) == _OLD_WORDS)
            shared = not self._settings.isolate and len(self._open) > 1
        if before is not None:
            before.session.close()
        if shared:
            cell.log.warning(
                "cells share one schema; STORAGE_POSTGRES_ISOLATE=1 keeps them apart",
                capability=NAME,
                schema=room.schema,
            )

    def teardown_cell(self, cell_id: str) -> None:
        """Close the cell's connection; a transaction that is open is rolled back."""
        with self._lock:
            opened = self._open.pop(cell_id, None)
        if opened is not None:
            opened.session.close()

    def swap_begin(self, cell_id: str) -> None:
        """Keep the cell's connection while another version of it is loaded, with a connection of its own."""
        with self._lock:
            if cell_id in self._open:
                self._swapped[cell_id] = self._open[cell_id]

    def swap_end(self, cell_id: str, adopted: bool) -> None:
        """Close the connection of the version that does not run."""
        with self._lock:
            before, after = self._swapped.pop(cell_id, None), self._open.get(cell_id)
            if not adopted and before is not None:
                self._open[cell_id] = before
        unused = before if adopted else after
        if unused is not None and before is not after:
            unused.session.close()

    def teardown(self) -> None:
        """Close every connection."""
        for cell_id in list(self._open):
            self.teardown_cell(cell_id)

    # Host functions ---------------------------------------------------------------------------------------------

    @host_function(blocking=True)
    def sqlite_exec(self, guest: Guest, query: bytes, params: bytes, res_ptr_out: U32, res_len_out: U32) -> U32:
        """Run statements; deliver `{rows_affected, last_insert_id, error?}` of the last one."""

        def result(outcomes: list[Outcome], error: str) -> bytes:
            affected = outcomes[-1].affected if outcomes else 0
            return _record(("rows_affected", rows.int64(affected)), ("last_insert_id", rows.int64(0)), error=error)

        return self._answer(guest, query, params, (res_ptr_out, res_len_out), result)

    @host_function(blocking=True, name=_EXEC)
    def sqlite_exec_without_result(self, guest: Guest, query: bytes, params: bytes) -> U32:
        """Run statements; the first version of the function, without a result."""
        return self._answer(guest, query, params, None, lambda _outcomes, _error: b"")

    @host_function(blocking=True)
    def sqlite_query(self, guest: Guest, query: bytes, params: bytes, rows_ptr_out: U32, rows_len_out: U32) -> U32:
        """Run statements; deliver `{columns, rows, error?}` of the last one that has rows."""
        out = rows_ptr_out, rows_len_out
        return self._answer(guest, query, params, out, _bare if self._of(guest.cell).old else _table)

    def _answer(
        self,
        guest: Guest,
        query: bytes,
        params: bytes,
        out: tuple[int, int] | None,
        result: Callable[[list[Outcome], str], bytes],
    ) -> int:
        """Run `query` and deliver what `result` makes of it, of its error too; return the code."""
        if not query:
            return Errno.EMPTY
        opened = self._of(guest.cell)
        try:
            outcomes = self._run(guest, opened.session, query, params)
        except SqlError as error:
            if out is not None and not opened.old:
                _offer(guest, result([], error.text), out)
            return SQL_ERROR if opened.old else error.code
        if out is not None:
            guest.deliver(result(outcomes, ""), *out)
        return Errno.OK

    def _run(self, guest: Guest, session: Session, query: bytes, params: bytes) -> list[Outcome]:
        if len(query) > MOST_SQL_BYTES:
            raise SqlError(SQL_ERROR, f"the query has more than {MOST_SQL_BYTES:,} bytes")
        try:
            bound = read_parameters(params)
        except NotParameters as error:
            raise HostError(Errno.DECODE, str(error)) from None
        except ParameterError as error:
            raise SqlError(SQL_ERROR, str(error)) from None
        try:
            statements = translate(_text(query))
            return session.run(statements, bound, _patience(guest.seconds_left()))
        except DialectError as error:
            raise SqlError(SQL_ERROR, str(error)) from None
        except Lost as error:
            guest.cell.log.error("no database", capability=NAME, reason=str(error))
            raise HostError(Errno.NO_HANDLE, str(error)) from None

    def _of(self, cell: CellRef) -> Open:
        with self._lock:
            opened = self._open.get(cell.id)
        if opened is None:
            raise HostError(Errno.NO_HANDLE, "the cell is closed")
        return opened


def _patience(seconds: float) -> Patience:
    """Return how long a call may take that has `seconds` left: the cell is to hear of it before its own deadline."""
    now, margin = time.monotonic(), min(_MOST_MARGIN, seconds / 4)
    return Patience(now + seconds - margin, now + seconds - margin / 4)


def _text(query: bytes) -> str:
    try:
        text = query.decode()
    except UnicodeDecodeError:
        raise SqlError(SQL_ERROR, "the query is not UTF-8") from None
    if "\0" in text:
        raise SqlError(SQL_ERROR, "the query holds a NUL character")
    return text


def _table(outcomes: list[Outcome], error: str) -> bytes:
    """Return `{columns, rows, error?}`."""
    found = _last_rows(outcomes)
    columns = rows.NIL if error else rows.array([rows.text(name) for name in found.columns or ()])
    return _record(("columns", columns), ("rows", _rows(found)), error=error)


def _bare(outcomes: list[Outcome], _error: str) -> bytes:
    """Return the rows alone, as the first version of the function did."""
    return _rows(_last_rows(outcomes))


def _last_rows(outcomes: list[Outcome]) -> Outcome:
    with_rows = [outcome for outcome in outcomes if outcome.columns is not None]
    return with_rows[-1] if with_rows else Outcome(0, None, [])


def _rows(outcome: Outcome) -> bytes:
    return rows.array(outcome.rows) if outcome.rows else rows.NIL


def _record(*fields: tuple[str, bytes], error: str) -> bytes:
    parts = [bytes([0x80 | len(fields) + bool(error)])]
    for name, value in fields:
        parts += [rows.text(name.encode()), value]
    if error:
        parts += [rows.text(b"error"), rows.text(error.encode())]
    return b"".join(parts)


def _offer(guest: Guest, data: bytes, out: tuple[int, int]) -> None:
    """Deliver an error's text; the code is what matters, and it is answered also when there is no room for the text."""
    try:
        guest.deliver(data, *out)
    except HostError:
        pass


def capability() -> Capability:
    """Return the capability; the entry point."""
    return make(Database())


def make(database: Database) -> Capability:
    """Return a capability of `database`."""
    whole = Capability.of(NAME, database, provider="pulp_ext_postgres")

    def register(linker: Linker, cell: CellRef) -> None:
        database.admit(cell, linker.wanted)
        whole.register(linker, cell)

    return dataclasses.replace(whole, register=register)
