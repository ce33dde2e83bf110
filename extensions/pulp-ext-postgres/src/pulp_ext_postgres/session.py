"""One cell's connection: statements, transactions, and errors as the codes of `storage.sqlite`.

One connection is the contract: transactions, temporary tables and settings last across imports and steps, until the
cell is closed (spec/capabilities §8.3).
"""

from __future__ import annotations

import threading
import time
from typing import Final, NamedTuple

from psycopg.pq import DiagnosticField, ExecStatus, TransactionStatus
from psycopg.pq.abc import PGresult
from pulp_runtime.ext import ExtensionError

from pulp_ext_postgres.dialect import Statement
from pulp_ext_postgres.parameters import Bound
from pulp_ext_postgres.rooms import Room
from pulp_ext_postgres.rows import row
from pulp_ext_postgres.wire import Broken, Patience, Stopped, TooLong, Unstopped, Wire

SQL_ERROR: Final = 5
BUSY: Final = 12
CONSTRAINT: Final = 13
READ_ONLY: Final = 14

MOST_RESULT_BYTES: Final = 16 * 1024 * 1024
"""Of the rows of one call, as MessagePack."""
_MOST_ARRIVING_BYTES: Final = 2 * MOST_RESULT_BYTES + 1024 * 1024
"""As they come from the server, where bytes are written as twice as many digits."""
_MOST_ERROR_CHARACTERS: Final = 1_024
_TOO_SLOW: Final = "stopped: the deadline of the call has passed"
_BUSY_STATES: Final = ("40P01", "40001", "55P03")
"""Deadlock, serialization failure, lock not available within its time."""
_COUNTED: Final = (b"INSERT", b"UPDATE", b"DELETE", b"MERGE")
_BEGINS: Final = ("BEGIN", "START")
_ENDS: Final = ("COMMIT", "END", "ROLLBACK", "ABORT")
_COMMITS: Final = ("COMMIT", "END")


class SqlError(Exception):
    """A statement that failed.

    Attributes:
        code: what the import answers.
        text: what the cell is told.
    """

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text[:_MOST_ERROR_CHARACTERS]


class Lost(Exception):
    """There is no connection, and none can be made; the text is for the operator."""


class Outcome(NamedTuple):
    """What a statement did.

    Attributes:
        affected: how many rows it inserted, changed or deleted.
        columns: names of the columns of its rows; None if it is not one that has rows.
        rows: the rows, each as MessagePack.
    """

    affected: int
    columns: list[bytes] | None
    rows: list[bytes]


class Session:
    """A connection that belongs to one cell; one call at a time.

    Args:
        room: where it works.
        deadline: when connecting is given up, by `time.monotonic`.

    Raises:
        Broken, ExtensionError: see `Room.enter`.
    """

    def __init__(self, room: Room, deadline: float) -> None:
        self._room: Final = room
        self._turn: Final = threading.Lock()
        self._wire: Wire | None = room.enter(deadline)
        self._in_transaction = False

    def run(self, statements: tuple[Statement, ...], parameters: list[Bound], patience: Patience) -> list[Outcome]:
        """Run statements one after the other; each takes its parameters from what the ones before have left.

        Raises:
            SqlError: one of them failed; those before it have been carried out.
            Lost: there is no connection.
        """
        # Two versions of a cell have one connection while they are exchanged, and may both be at work.
        if not self._turn.acquire(timeout=max(0.0, patience.stop - time.monotonic())):
            raise SqlError(BUSY, "another statement of this cell runs")
        try:
            return self._run(statements, parameters, patience)
        finally:
            self._turn.release()

    def _run(self, statements: tuple[Statement, ...], parameters: list[Bound], patience: Patience) -> list[Outcome]:
        wire = self._ready(patience.stop)
        outcomes: list[Outcome] = []
        room = MOST_RESULT_BYTES
        for statement in statements:
            if statement.parameters > len(parameters):
                raise SqlError(
                    SQL_ERROR, f"the statement takes {statement.parameters} parameters, there are {len(parameters)}"
                )
            mine, parameters = parameters[: statement.parameters], parameters[statement.parameters :]
            self._check(wire, statement)
            outcome = self._one(wire, statement, mine, patience, room)
            room -= sum(map(len, outcome.rows))
            outcomes.append(outcome)
        return outcomes

    def _ready(self, deadline: float) -> Wire:
        if self._wire is not None and self._wire.alive:
            return self._wire
        self.close()
        try:
            self._wire = self._room.enter(deadline)
        except (Broken, ExtensionError) as error:
            raise Lost(str(error)) from None
        if self._in_transaction:
            self._in_transaction = False
            raise SqlError(SQL_ERROR, "the connection was lost, and with it the transaction; begin again")
        return self._wire

    def _check(self, wire: Wire, statement: Statement) -> None:
        """Refuse what PostgreSQL only warns of and SQLite refuses: a cell must not take it for done."""
        idle = wire.state == TransactionStatus.IDLE
        if statement.verb in _ENDS and not statement.partial and idle:
            raise SqlError(SQL_ERROR, f"cannot {statement.verb.lower()}: no transaction is active")
        if statement.verb in _BEGINS and not idle:
            raise SqlError(SQL_ERROR, "cannot start a transaction within a transaction")

    def _one(self, wire: Wire, statement: Statement, parameters: list[Bound], patience: Patience, room: int) -> Outcome:
        rows = _Rows(room)
        try:
            result = wire.run(
                statement.sql.encode(), parameters, patience, rows=rows.take, most_bytes=_MOST_ARRIVING_BYTES
            )
        except Stopped as stopped:
            if isinstance(stopped.cause, _TooMuch):
                raise SqlError(SQL_ERROR, _too_long()) from None
            if stopped.cause is not None:
                raise stopped.cause from None
            raise SqlError(SQL_ERROR, _TOO_SLOW) from None
        except (TooLong, Unstopped) as closed:
            self.close()
            why = _TOO_SLOW if isinstance(closed, Unstopped) else _too_long()
            raise SqlError(SQL_ERROR, f"{why}; the connection was closed, begin again") from None
        except Broken:
            self.close()
            raise SqlError(SQL_ERROR, "the connection to the database was lost") from None
        finally:
            self._in_transaction = wire.state not in (TransactionStatus.IDLE, TransactionStatus.UNKNOWN)
        return _outcome(statement, result, rows)

    def close(self) -> None:
        """Close the connection; the server rolls back what is open."""
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.close()


class _TooMuch(Exception):
    """More rows than a call may have."""


class _Rows:
    """Rows as they come, up to a bound."""

    def __init__(self, most_bytes: int) -> None:
        self.columns: list[bytes] | None = None
        self.encoded: Final[list[bytes]] = []
        self._left = most_bytes

    def take(self, result: PGresult) -> None:
        """Keep the rows of `result`."""
        columns = range(result.nfields)
        types = [result.ftype(column) for column in columns]
        for at in range(result.ntuples):
            one = row([result.get_value(at, column) for column in columns], types)
            self._left -= len(one)
            if self._left < 0:
                raise _TooMuch
            self.encoded.append(one)


def _outcome(statement: Statement, result: PGresult, rows: _Rows) -> Outcome:
    if result.status not in (ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK, ExecStatus.EMPTY_QUERY):
        raise _sql_error(result)
    tag = result.command_status or b""
    if statement.verb in _COMMITS and tag == b"ROLLBACK":
        raise SqlError(SQL_ERROR, "the transaction had failed before, and has been rolled back")
    affected = (result.command_tuples or 0) if tag.startswith(_COUNTED) else 0
    has_rows = result.status == ExecStatus.TUPLES_OK
    columns = [result.fname(at) or b"" for at in range(result.nfields)] if has_rows else None
    return Outcome(affected, columns, rows.encoded)


def _sql_error(result: PGresult) -> SqlError:
    state = (result.error_field(DiagnosticField.SQLSTATE) or b"").decode()
    words = (result.error_field(DiagnosticField.MESSAGE_PRIMARY) or b"").decode(errors="replace")
    code = SQL_ERROR
    if state in _BUSY_STATES:
        code = BUSY
    elif state.startswith("23"):
        code = CONSTRAINT
    elif state == "25006":
        code = READ_ONLY
    return SqlError(code, f"ERROR: {words} (SQLSTATE {state})")


def _too_long() -> str:
    return f"the rows have more than {MOST_RESULT_BYTES:,} bytes; ask for fewer with LIMIT, or for shorter ones"
