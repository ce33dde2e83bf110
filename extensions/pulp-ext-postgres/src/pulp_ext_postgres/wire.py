"""One connection to the server, on which every wait ends at a deadline.

libpq is driven without blocking: connecting, sending, reading and cancelling are steps between waits on a socket, and
the waits are ours. A row that is too long for the caller is noticed while it arrives.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from psycopg.errors import Error as PsycopgError
from psycopg.pq import ConnStatus, ExecStatus, PGconn, PollingStatus, TransactionStatus
from psycopg.pq.abc import PGcancelConn, PGresult

from pulp_ext_postgres.parameters import Bound
from pulp_ext_postgres.valve import Valve, wait

_ROWS_AT_ONCE: Final = 100
_COPYING: Final = (ExecStatus.COPY_IN, ExecStatus.COPY_OUT, ExecStatus.COPY_BOTH)
_READY: Final = (PollingStatus.READING, PollingStatus.WRITING)


class Broken(Exception):
    """There is no connection, or it ended; the text is for the operator."""


class Stopped(Exception):
    """The statement was cancelled: its deadline passed, or whoever reads its rows wants no more.

    Attributes:
        cause: what the reader of the rows raised, None for the deadline.
    """

    def __init__(self, cause: Exception | None = None) -> None:
        super().__init__()
        self.cause = cause


class Patience(NamedTuple):
    """How long a statement may take, by `time.monotonic`.

    Attributes:
        stop: when it is cancelled.
        leave: when the connection is given up, if the server has not stopped by then.
    """

    stop: float
    leave: float


class TooLong(Broken):
    """One row is longer than the caller takes; to be rid of it, the connection had to be closed."""


class Unstopped(Broken):
    """A statement was cancelled and went on; the connection was closed."""


class Wire:
    """A connection.

    Args:
        conninfo: in libpq's own form.
        deadline: when connecting is given up, by `time.monotonic`.

    Raises:
        Broken: no connection could be made; the text names host and reason, never the password.
    """

    def __init__(self, conninfo: bytes, deadline: float) -> None:
        self._pg: Final = PGconn.connect_start(conninfo)
        try:
            while (polled := self._pg.connect_poll()) in _READY:
                if not wait(self._pg.socket, deadline, writing=polled == PollingStatus.WRITING):
                    raise Broken("the server did not answer in time")
            if polled != PollingStatus.OK:
                raise Broken(" ".join(self._pg.get_error_message().split()))
            self._pg.nonblocking = 1
            self._valve: Final = Valve(self._pg.socket)
        except PsycopgError as error:
            self._pg.finish()
            raise Broken(" ".join(str(error).split())) from None
        except BaseException:
            self._pg.finish()
            raise

    @property
    def alive(self) -> bool:
        """Whether the connection is open, as far as is known; looks at what the server sent meanwhile."""
        try:
            while self._pg.status == ConnStatus.OK and self._valve.speaks:
                self._take()  # a server that goes says so first, and then closes
        except (PsycopgError, OSError, ValueError):
            return False
        return self._pg.status == ConnStatus.OK

    @property
    def state(self) -> TransactionStatus:
        """Whether a transaction is open, and whether it has failed."""
        return TransactionStatus(self._pg.transaction_status)

    @property
    def password(self) -> bytes:
        """The password it was opened with, wherever libpq found it; b"" if there was none."""
        return self._pg.password or b""

    @property
    def database(self) -> bytes:
        """The name of the database."""
        return self._pg.db

    def verifier(self, password: bytes, role: bytes) -> bytes:
        """Return what the server stores in place of `password`."""
        return self._pg.encrypt_password(password, role, b"scram-sha-256")

    def run(
        self,
        sql: bytes,
        parameters: list[Bound],
        patience: Patience,
        *,
        rows: Callable[[PGresult], None] | None = None,
        most_bytes: int = 0,
    ) -> PGresult:
        """Run one statement; return its last result, good or bad.

        Args:
            sql: the statement.
            parameters: its values.
            patience: how long it may take.
            rows: called with some rows at a time as they come; what it raises stops the statement. Without it rows
                are thrown away.
            most_bytes: of rows that are still arriving, 100 at most.

        Raises:
            Stopped: it was cancelled; the connection is as usable as before.
            TooLong: more than `most_bytes` are arriving; the connection is closed.
            Broken: the connection ended; whether the statement was carried out is not known.
        """
        try:
            self._send(sql, parameters)
            return self._results(patience, rows, most_bytes)
        except PsycopgError as error:
            self.close()
            raise Broken(" ".join(str(error).split())) from None
        except Broken:
            self.close()
            raise

    def _send(self, sql: bytes, parameters: list[Bound]) -> None:
        self._pg.send_query_params(
            sql,
            [one.value for one in parameters],
            [one.type for one in parameters],
            [one.format for one in parameters],
        )
        try:
            self._pg.set_chunked_rows_mode(_ROWS_AT_ONCE)
        except PsycopgError:  # libpq before 17
            self._pg.set_single_row_mode()

    def _results(self, patience: Patience, rows: Callable[[PGresult], None] | None, most_bytes: int) -> PGresult:
        last: PGresult | None = None
        stopped: Stopped | None = None
        while True:
            if not self._arrived(patience.stop if stopped is None else patience.leave, most_bytes):
                if stopped is not None:
                    raise Unstopped("the server did not stop a statement when it was told to")
                stopped = self._stop(None, patience)
                continue
            result = self._pg.get_result()
            if result is None:
                break
            last = result
            if result.status in _COPYING:
                raise Broken("a statement began a COPY")
            if result.ntuples and rows is not None and stopped is None:
                try:
                    rows(result)
                except Exception as error:  # noqa: BLE001  # carried to the caller, when the connection is quiet
                    stopped = self._stop(error, patience)
        while self._pg.notifies() is not None:
            pass  # nobody listens to them, and they would be kept
        if self._pg.status != ConnStatus.OK or last is None:
            raise Broken("the server closed the connection")
        if stopped is not None:
            raise stopped
        return last

    def _stop(self, cause: Exception | None, patience: Patience) -> Stopped:
        """Cancel the statement; return what to raise when it has stopped."""
        self._cancel(patience.leave)
        return Stopped(cause)

    def _arrived(self, deadline: float, most_bytes: int) -> bool:
        """Wait until a result, or some rows, are complete; return False if the deadline comes first.

        Raises:
            TooLong: more than `most_bytes` have come, and still they are not complete.
        """
        passed = 0
        while True:
            while (unsent := self._pg.flush()) and self._valve.push():
                pass  # what has been passed on made room for more
            self._valve.push()
            if not unsent and not self._pg.is_busy():
                return True
            if not self._valve.wait(deadline):
                return False
            passed += self._take()
            if most_bytes and passed > most_bytes and self._pg.is_busy():
                raise TooLong

    def _take(self) -> int:
        """Read some of what has come; return how much."""
        size = self._valve.pull()
        if self._valve.closed:
            self._pg.consume_input()
        # libpq reads as much as it has room for. When it has dropped the connection, its socket is another's.
        while self._pg.status == ConnStatus.OK and self._valve.unread:
            self._pg.consume_input()
        return size

    def _cancel(self, deadline: float) -> None:
        """Tell the server, on a connection of its own, to stop what it is doing."""
        cancel: PGcancelConn = self._pg.cancel_conn()
        try:
            cancel.start()
            while (polled := cancel.poll()) in _READY:
                if not wait(cancel.socket, deadline, writing=polled == PollingStatus.WRITING):
                    return
        except PsycopgError:
            return  # then the statement runs on, and the connection is given up
        finally:
            cancel.finish()

    def _drop_notifications(self) -> None:
        while self._pg.notifies() is not None:
            pass

    def close(self) -> None:
        """Close the connection; the server rolls back what is open."""
        self._pg.finish()
        self._valve.close()
