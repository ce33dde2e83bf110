"""`transport.ws.outbound`: WebSockets to servers (spec/capabilities §17).

    wsout_dial ─▶ guard, connection, handshake ─▶ Session ─▶ loop reads ─▶ wsout.frame
    wsout_send ─────────────────────────────────▶ Session ─▶ server

What arrives is a stream of bytes to the cell: messages that come while an event is under way are joined in the next
one, and one that is longer than the cell's events may be comes in several. There is one event of a connection at a
time; while the cell does not keep up, the server is not read.
"""

from __future__ import annotations

import asyncio
import threading
from typing import Final

from pulp_runtime._net.dial_names import Resolve
from pulp_runtime._net.dial_patience import DialFault, Patience, before_deadline
from pulp_runtime._net.dial_websocket import Ended, WebSocketWire, shake_hands
from pulp_runtime._net.egress import EgressRefused
from pulp_runtime._net.fetch_request import RequestInvalid, check_fields
from pulp_runtime._net.fetch_url import WEBSOCKET, Url, UrlInvalid, parse_url
from pulp_runtime.abi.wsout import WSOutDial, encode_wsout_connection, encode_wsout_frame
from pulp_runtime.capabilities.transport.outbound import WayOut
from pulp_runtime.ext import (
    U32,
    Capability,
    CellRef,
    Errno,
    Guest,
    HostError,
    Posted,
    SetupEnv,
    StepEvent,
    host_function,
)

NAME: Final = "transport.ws.outbound"
DIAL_SECONDS: Final = 20.0
"""Lookup, connection, TLS and handshake together."""
CONNECTIONS: Final = 32
"""Open connections of one cell."""
EVENT_BYTES: Final = 256 * 1024
"""Most bytes of one event; fewer where the cell's message limit asks for it."""
LAST_ID: Final = 0xFFFF_FFFF
_AGAIN_SECONDS: Final = (0.005, 0.25)
"""Shortest and longest pause before a full mailbox is asked again."""


class Session:
    """One connection of one cell, and the event that is under way.

    Attributes:
        number: its `conn_id`, and the id of its events.
        owner: id of the cell.
        socket: set once the handshake is done.
    """

    def __init__(self, number: int, owner: str) -> None:
        self.number: Final = number
        self.owner: Final = owner
        self.socket: WebSocketWire | None = None
        self.under_way = False
        self.asking = False
        self.pause = _AGAIN_SECONDS[0]
        self.piece = EVENT_BYTES


class WsOutbound:
    """WebSockets of cells.

    Args:
        resolve: names to addresses; the system's resolver by default.
    """

    def __init__(self, resolve: Resolve | None = None) -> None:
        self._way_out: Final = WayOut(NAME, "WSOUT_ALLOW", exclusive=True, resolve=resolve)
        self._env: SetupEnv | None = None
        self._sessions: Final[dict[int, Session]] = {}
        self._sockets: Final[set[WebSocketWire]] = set()
        self._last = 0
        self._lock: Final = threading.Lock()

    # What cells call --------------------------------------------------------------------------------------------

    @host_function(blocking=True)
    def wsout_dial(self, guest: Guest, request: WSOutDial, conn_ptr_out: U32, conn_len_out: U32) -> None:
        """Open a connection, and deliver its number.

        Answers `FAILED` (4) for a URL or header that is not sent, for a target the cell may not dial, when the
        connection or the handshake fails, and when the cell has 32 connections; the log says which.
        """
        cell = guest.cell
        session = self._open(cell)
        try:
            session.socket = self._dial(guest, request, session)
            guest.deliver(encode_wsout_connection(session.number), conn_ptr_out, conn_len_out)
        except BaseException:
            self._forget(session)
            raise
        self._sockets.add(session.socket)
        if session.number not in self._sessions:
            session.socket.close(1001)
        self._env.defer(session.socket.start)  # type: ignore[union-attr]  # it was needed to dial

    @host_function(blocking=True)
    def wsout_send(self, guest: Guest, conn_id: U32, data: bytes) -> None:
        """Send one binary message; wait while the server is far behind.

        Answers `EMPTY` (1) for no bytes, `NOT_FOUND` (6) when the cell has no such connection any more, `FAILED` (4)
        for a message over 8 MiB, and when the server has taken nothing until the end of the step.
        """
        if not data:
            raise HostError(Errno.EMPTY, "data")
        cell = guest.cell
        socket = self._socket(cell, conn_id)
        try:
            socket.send(data, Patience(step=before_deadline(guest.seconds_left), gone=lambda: bool(socket.ended)))
        except Ended as error:
            raise HostError(Errno.NOT_FOUND, str(error)) from None
        except DialFault as error:
            cell.log.info("websocket send failed", conn_id=conn_id, reason=str(error))
            raise HostError(Errno.FAILED, str(error)) from None

    @host_function
    def wsout_close(self, cell: CellRef, conn_id: U32) -> None:
        """Close a connection; what has arrived and was not delivered is dropped.

        Answers `NOT_FOUND` (6) when the cell has no such connection any more.
        """
        self._socket(cell, conn_id).close()
        self._sessions.pop(conn_id, None)

    # Connections ------------------------------------------------------------------------------------------------

    def _open(self, cell: CellRef) -> Session:
        """Return a new session; the cell has it before it is connected, so that no cell has too many."""
        with self._lock:
            if sum(session.owner == cell.id for session in list(self._sessions.values())) >= CONNECTIONS:
                cell.log.warning("websocket refused", reason=f"{CONNECTIONS} connections are open")
                raise HostError(Errno.FAILED, "too many connections")
            while True:
                self._last = self._last % LAST_ID + 1
                if self._last not in self._sessions:
                    break
            session = self._sessions[self._last] = Session(self._last, cell.id)
            return session

    def _dial(self, guest: Guest, request: WSOutDial, session: Session) -> WebSocketWire:
        cell = guest.cell
        url: Url | None = None
        env = self._env
        if env is None:
            raise HostError(Errno.UNDECLARED, "not set up")
        try:
            url = parse_url(request.url, WEBSOCKET)
            fields = check_fields(request.headers or {})
            patience = Patience(
                DIAL_SECONDS,
                step=before_deadline(guest.seconds_left),
                gone=lambda: session.number not in self._sessions,
            )
            wire = self._way_out.dialer(cell).dial(url, patience)
            try:
                protocol = shake_hands(wire, url, fields, patience)
            except BaseException:
                wire.close()
                raise
            return WebSocketWire(wire, protocol, lambda: self._heard(session), env.defer)
        except (EgressRefused, UrlInvalid, RequestInvalid) as error:
            cell.log.warning("websocket refused", url=url.origin if url else "", reason=str(error))
            raise HostError(Errno.FAILED, str(error)) from None
        except DialFault as error:
            cell.log.info("websocket failed", url=url.origin if url else "", reason=str(error))
            raise HostError(Errno.FAILED, str(error)) from None

    def _socket(self, cell: CellRef, number: int) -> WebSocketWire:
        session = self._sessions.get(number)
        socket = session.socket if session is not None and session.owner == cell.id else None
        if socket is None or socket.ended:
            raise HostError(Errno.NOT_FOUND, "no such connection")
        return socket

    def _forget(self, session: Session) -> None:
        self._sessions.pop(session.number, None)
        if session.socket is not None:
            session.socket.drop("the cell does not know it")

    # Events, on the loop ----------------------------------------------------------------------------------------

    def _heard(self, session: Session) -> None:
        """Post what has arrived, unless an event of this connection is under way."""
        socket, env = session.socket, self._env
        if socket is None or env is None or session.under_way or session.asking:
            return
        if session.number not in self._sessions or not socket.waiting:
            if socket.ended:
                self._sessions.pop(session.number, None)
                self._sockets.discard(socket)
            return
        data = socket.peek(session.piece)
        session.under_way = True
        event = StepEvent("wsout.frame", encode_wsout_frame(session.number, data), session.number, session.owner)
        posted = env.post(event)
        if posted is Posted.ACCEPTED:
            session.pause = _AGAIN_SECONDS[0]
            socket.take(len(data))
            return
        session.under_way = False
        if posted is Posted.TOO_LARGE and len(data) > 1:
            session.piece = len(data) // 2
            self._heard(session)
        elif posted is Posted.FULL:
            session.asking = True
            asyncio.get_running_loop().call_later(session.pause, self._ask_again, session)
            session.pause = min(2 * session.pause, _AGAIN_SECONDS[1])
        else:
            self._sessions.pop(session.number, None)
            socket.drop("the cell takes nothing")

    def _ask_again(self, session: Session) -> None:
        session.asking = False
        self._heard(session)

    def finalize(self, number: int) -> None:
        """Note that the event has been dealt with; what has arrived meanwhile is the next one."""
        session = self._sessions.get(number)
        if session is not None:
            session.under_way = False
            if self._env is not None:
                self._env.defer(lambda: self._heard(session))

    # Hooks ------------------------------------------------------------------------------------------------------

    def setup(self, env: SetupEnv) -> None:
        """Read what the operator allows."""
        self._way_out.open(env)
        self._env = env

    def setup_cell(self, cell: CellRef) -> None:
        """Refuse a cell whose settings mean nothing."""
        self._way_out.allowed(cell)

    def teardown_cell(self, cell_id: str) -> None:
        """Say goodbye on each of the cell's connections."""
        for session in [session for session in list(self._sessions.values()) if session.owner == cell_id]:
            self._sessions.pop(session.number, None)
            if session.socket is not None:
                session.socket.close(1001)

    def teardown(self) -> None:
        """End what is left, at once."""
        self._sessions.clear()
        for socket in list(self._sockets):
            socket.drop("the host stops")
        self._sockets.clear()


def capability() -> Capability:
    """Return the capability; the entry point."""
    return Capability.of(NAME, WsOutbound())
