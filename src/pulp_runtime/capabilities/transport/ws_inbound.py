"""`transport.ws.inbound`: WebSockets whose messages become events (spec/capabilities §4).

    loop     _take ── 101 ── ws.open ──▶ mailbox       then every message as ws.frame, the end as ws.close
    worker   ws_send ──┬── direct, when nobody else waits ──▶ socket
                       └── _out ─┐
    loop     _flush ◀────────────┘ once for all that a worker's turn sends

Ids count from 1, over all cells and listeners; one is good for the cell it was given to. See `ws_cell` for what waits
where, and `websocket` for the protocol.
"""

from __future__ import annotations

import itertools
from collections import deque
from typing import Final

from pulp_runtime._net import answers
from pulp_runtime._net.exchange import Request, TakenOver
from pulp_runtime._net.routes import Match, RouteConflict, RouteInvalid
from pulp_runtime._net.websocket import WebSocketConnection
from pulp_runtime._net.websocket_frames import (
    GOING_AWAY,
    NORMAL,
    POLICY,
    REASON_BYTES,
    WebSocketFault,
    check_text,
    may_be_sent,
)
from pulp_runtime._net.websocket_handshake import Handshake, HandshakeRefused, accept
from pulp_runtime.abi.ws import BINARY, TEXT, WSClose, WSSend
from pulp_runtime.capabilities.transport.front import WEBSOCKET, Front
from pulp_runtime.capabilities.transport.routes_kept import KeptRoutes, keep, kept, on_loop, register_again
from pulp_runtime.capabilities.transport.ws_cell import CELL_GONE, CellSockets, WsSettings
from pulp_runtime.ext import (
    Capability,
    CellRef,
    Errno,
    Guest,
    HostError,
    Posted,
    Run,
    SetupEnv,
    host_function,
)

NAME: Final = "transport.ws.inbound"
QUEUE_FULL: Final = 15
"""What `ws_send` answers for a message that was dropped because its client is slow."""


class KeptSockets(KeptRoutes, kw_only=True, frozen=True):
    """See `KeptRoutes`.

    Attributes:
        connections: numbers of those the cell has.
    """

    connections: tuple[int, ...] = ()


class WsInbound:
    """The WebSocket connections of all cells."""

    def __init__(self) -> None:
        self._env: SetupEnv | None = None
        self._front = Front()
        self._ids = itertools.count(1)
        self._serials: Final = itertools.count(1)
        self._cells: Final[dict[str, CellSockets]] = {}
        self._by_serial: Final[dict[int, CellSockets]] = {}
        self._connections: Final[dict[int, WebSocketConnection]] = {}
        self._before: Final[dict[str, tuple[CellRef, WsSettings]]] = {}
        self._out: Final[deque[tuple[WebSocketConnection, bytes]]] = deque()
        self._flushing = False

    # What cells call --------------------------------------------------------------------------------------------

    @host_function
    def ws_register(self, cell: CellRef, path: bytes) -> None:
        """Send WebSockets on this path pattern to the calling cell.

        Answers `EMPTY` (1) for no path, `FAILED` (4) for an invalid pattern, or one that overlaps another, also one of
        this cell; the same one again is fine.
        """
        if not path:
            raise HostError(Errno.EMPTY, "path")
        try:
            self._front.register(WEBSOCKET, cell.id, "GET", path.decode(), strict=True)
        except (RouteInvalid, RouteConflict, UnicodeDecodeError) as error:
            cell.log.warning("websocket route refused", reason=str(error))
            raise HostError(Errno.FAILED, str(error)) from None

    @host_function
    def ws_send(self, guest: Guest, message: WSSend) -> None:
        """Send a message; wait while the client is far behind, or do what the manifest says.

        Answers `FAILED` (4) when this cell has no such connection, for an opcode other than 1 and 2, for text that is
        not UTF-8, for a message that is too long, and when the client takes nothing until the call's
        deadline; 15 when the message was dropped.
        """
        connection, sockets = self._own(guest.cell, message.conn_id)
        payload = message.payload or b""
        self._check_message(message.opcode, payload)
        if len(payload) > sockets.longest:
            raise HostError(Errno.FAILED, f"a message has at most {sockets.longest} bytes")
        if not sockets.has_room(connection):
            self._make_room(guest, sockets, connection)
        left = connection.send(connection.encode(message.opcode, payload), alone=sockets.alone)
        if left is not None:
            self._queue(connection, left)

    def _queue(self, connection: WebSocketConnection, frame: bytes) -> None:
        """Have the loop send a frame, together with others."""
        self._out.append((connection, frame))
        if not self._flushing:
            self._flushing = True
            self._env.defer(self._flush)  # type: ignore[union-attr]  # connections come while it is set up

    @host_function(blocking=True)
    def ws_close(self, guest: Guest, request: WSClose) -> None:
        """Close a connection, and wait for the client to agree.

        Answers `FAILED` (4) when this cell has no such connection, for a code that may not be sent or a reason of more
        than 123 bytes, and when the client does not answer in time; the connection has ended then all the same.
        """
        connection, sockets = self._own(guest.cell, request.conn_id)
        code = request.code or NORMAL
        if not may_be_sent(code):
            raise HostError(Errno.FAILED, f"close code {code} may not be sent")
        if len(request.reason.encode(errors="replace")) > REASON_BYTES:
            raise HostError(Errno.FAILED, f"a close reason has at most {REASON_BYTES} bytes")
        self._close_soon([connection], code, request.reason, "closed by the cell")
        sockets.wait_for(lambda: connection.shaken is not None, guest.seconds_left())
        if not connection.shaken:
            raise HostError(Errno.FAILED, "the client did not answer the close")

    def _own(self, cell: CellRef, number: int) -> tuple[WebSocketConnection, CellSockets]:
        """Return an open connection of a cell."""
        connection = self._connections.get(number)
        if connection is None or not connection.open:
            raise HostError(Errno.FAILED, "no such connection")
        sockets = self._cells.get(cell.id)
        if sockets is None or connection.receiver is not sockets:
            cell.log.warning("websocket of another cell refused", conn_id=number)
            raise HostError(Errno.FAILED, "no such connection")
        return connection, sockets

    @staticmethod
    def _check_message(opcode: int, payload: bytes) -> None:
        if opcode == TEXT:
            if not payload.isascii():
                try:
                    check_text(payload)
                except WebSocketFault as fault:
                    raise HostError(Errno.FAILED, fault.reason) from None
        elif opcode != BINARY:
            raise HostError(Errno.FAILED, f"opcode {opcode} is neither text nor binary")

    def _make_room(self, guest: Guest, sockets: CellSockets, connection: WebSocketConnection) -> None:
        """Do what the manifest says about a client that is slow."""
        slow = sockets.settings.slow
        if slow == "drop":
            raise HostError(QUEUE_FULL, "dropped: the client is slow")
        if slow == "close":
            sockets.cell.log.info("slow websocket closed", conn_id=connection.number)
            self._close_soon([connection], POLICY, "too slow", "too slow", drop=True)
            raise HostError(Errno.FAILED, "the client is too slow")
        with guest.blocking():
            sockets.wait_for(lambda: sockets.has_room(connection) or not connection.open, guest.seconds_left())
        if not connection.open or not sockets.has_room(connection):
            raise HostError(Errno.FAILED, "the client takes nothing")

    # Connections, on the loop -----------------------------------------------------------------------------------

    def _take(self, request: Request, match: Match) -> None:
        sockets = self._cells.get(match.owner)
        if sockets is None:
            self._front.answer(request, answers.plain(503, CELL_GONE.encode()))
            return
        try:
            shaken = accept(request, origins=sockets.origins, deflate=sockets.settings.deflate)
        except HandshakeRefused as refused:
            if refused.status == 403:
                sockets.tell_origin(request.block.fields["Origin"])
            self._front.answer(request, refused.answer)
            return
        taken = request.connection.take_over(request)
        if taken is None:  # it is gone, or carries other requests too
            self._front.answer(request, HandshakeRefused(426, "WebSocket needs a connection of HTTP/1.1").answer)
        else:
            self._open(request, match, sockets, shaken, taken)

    def _open(self, request: Request, match: Match, sockets: CellSockets, shaken: Handshake, taken: TakenOver) -> None:
        number = next(self._ids)
        connection = WebSocketConnection(taken.service, sockets, shaken.deflate, number)
        self._connections[number] = connection  # before the cell hears of it
        posted = sockets.arrive(connection, request, match)
        if posted is Posted.CLOSED or posted is Posted.TOO_LARGE:
            del self._connections[number]
            taken.transport.write(answers.last_words(503, CELL_GONE))
            taken.transport.close()
            return
        connection.begin(taken, shaken.answer)

    def _gone(self, connection: WebSocketConnection) -> None:
        self._connections.pop(connection.number, None)

    def _flush(self) -> None:
        """Write what has been sent since the last time, a connection's messages together."""
        self._flushing = False
        out = self._out
        if len(out) == 1:
            connection, frame = out.popleft()
            connection.flush([frame])
            return
        batch: dict[WebSocketConnection, list[bytes]] = {}
        while out:
            connection, frame = out.popleft()
            frames = batch.get(connection)
            if frames is None:
                batch[connection] = [frame]
            else:
                frames.append(frame)
        for connection, frames in batch.items():
            connection.flush(frames)

    def _close_soon(
        self, connections: list[WebSocketConnection], code: int, reason: str, why: str, *, drop: bool = False
    ) -> None:
        """Close connections on the loop, behind what has been sent. From any thread."""

        def close() -> None:
            self._flush()
            for connection in connections:
                connection.close(code, reason, why, drop=drop)

        loop = self._front.loop
        if loop is not None:
            try:
                loop.call_soon_threadsafe(close)  # whoever called may be about to wait for it
            except RuntimeError:  # the loop is closed, and with it every connection
                pass

    # Hooks ------------------------------------------------------------------------------------------------------

    def setup(self, env: SetupEnv) -> None:
        """Open the shared front; a port that is taken stops the host before any cell is loaded."""
        self._env = env
        self._front = env.services.get(Front, Front)
        self._front.open(env, WEBSOCKET, self._take)

    def setup_cell(self, cell: CellRef) -> None:
        """Read what the cell's manifest sets."""
        settings = cell.settings(NAME, WsSettings)
        sockets = self._cells.get(cell.id)
        if sockets is None or sockets.serves_program != (cell.program is not None):
            sockets = self._cells[cell.id] = self._sockets(cell)
        sockets.configure(cell, settings)
        if cell.program is not None:
            from pulp_runtime.capabilities.transport.program_ws import register

            register(self._front, cell)

    def _sockets(self, cell: CellRef) -> CellSockets:
        """Return what has the connections of a cell, or of a daemon."""
        assert self._env is not None  # noqa: S101 - cells are loaded after the set-up
        if cell.program is not None:
            from pulp_runtime.capabilities.transport.program_ws import DaemonSockets  # seldom, and long to import

            return DaemonSockets(cell, self._env, self._gone, self._queue, self._close_soon)
        serial = next(self._serials)
        sockets = self._by_serial[serial] = CellSockets(cell, serial, self._env, self._gone)
        return sockets

    def mount(self, run: Run) -> None:
        """Add `/accept` and `/conn` to the run of a daemon that has WebSockets."""
        sockets = self._cells.get(run.cell.id)
        if sockets is not None:
            sockets.mount(run)

    def finalize(self, serial: int) -> None:
        """Note that there is room in a mailbox."""
        sockets = self._by_serial.get(serial)
        if sockets is not None:
            sockets.finalized()

    def swap_begin(self, cell_id: str) -> None:
        """Keep what the cell's present version set, for the case that the next one is not adopted."""
        sockets = self._cells.get(cell_id)
        if sockets is not None:
            self._before[cell_id] = (sockets.cell, sockets.settings)
        self._front.swap_begin(WEBSOCKET, cell_id)

    def swap_end(self, cell_id: str, adopted: bool) -> None:
        """Leave the routes and settings of the version that runs; connections stay, if it wants any."""
        before = self._before.pop(cell_id, None)
        if before is not None and not adopted:
            self._cells[cell_id].configure(*before)
        self._front.swap_end(WEBSOCKET, cell_id, adopted=adopted)
        if not self._front.owns(WEBSOCKET, cell_id):
            self._dismiss(cell_id)

    def snapshot(self, cell_id: str) -> bytes:
        """Return the cell's routes and the connections it has."""
        listen, routes = self._front.routes_of(WEBSOCKET, cell_id)
        sockets = self._cells.get(cell_id)
        own = tuple(number for number, one in list(self._connections.items()) if one.receiver is sockets)
        return keep(KeptSockets(listen=listen, routes=routes, connections=own)) if routes or own else b""

    def restore(self, cell_id: str, data: bytes) -> None:
        """Register the cell's routes again; tell it which of its connections are gone.

        No connection gets a number that the cell knows from before.
        """
        known = kept(data, KeptSockets)
        if known.connections:
            on_loop(self._front, lambda: self._lose(cell_id, known.connections))
        register_again(self._front, WEBSOCKET, cell_id, known, strict=True)

    def _lose(self, cell_id: str, numbers: tuple[int, ...]) -> None:
        sockets = self._cells[cell_id]
        for number in numbers:
            one = self._connections.get(number)
            if one is None or one.receiver is not sockets:  # else the host has been running all the time
                sockets.lose(number)
        self._ids = itertools.count(max(next(self._ids), max(numbers) + 1))

    def teardown_cell(self, cell_id: str) -> None:
        """Drop a cell's routes, and say goodbye to its clients."""
        self._front.drop(WEBSOCKET, cell_id)
        self._dismiss(cell_id)
        if cell_id in self._cells:
            self._cells[cell_id].leave()

    def _dismiss(self, cell_id: str) -> None:
        """Say goodbye to the clients a cell has just now."""
        sockets = self._cells.get(cell_id)
        own = [one for one in list(self._connections.values()) if one.receiver is sockets]
        self._close_soon(own, GOING_AWAY, CELL_GONE, CELL_GONE)

    def teardown(self) -> None:
        """Forget everything; the listeners ended with their tasks, and their connections with them."""
        self._front.close(WEBSOCKET)
        for sockets in self._cells.values():
            sockets.close()
        self._cells.clear()
        self._by_serial.clear()
        self._connections.clear()
        self._out.clear()
        self._env = None


def capability() -> Capability:
    """Return the capability."""
    return Capability.of(NAME, WsInbound())
