"""The WebSocket connections of one cell: their messages on the way to its mailbox, its own on the way out.

loop     connection ── on_message ──▶ post ──▶ mailbox        as long as there is room,
                          └─▶ stalled ── pump ──▶ post        in turn for all that wait, when there is again
worker   finalize ── pump soon
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from typing import Annotated, Final, Literal

import msgspec

from pulp_runtime._net.exchange import Request
from pulp_runtime._net.routes import Match
from pulp_runtime._net.websocket import WebSocketConnection
from pulp_runtime._net.websocket_frames import GOING_AWAY, TOO_BIG
from pulp_runtime._net.websocket_receiver import WebSocketLimits
from pulp_runtime.abi.codec import encode_str_map
from pulp_runtime.abi.ws import encode_ws_close, join_ws_frame, join_ws_open
from pulp_runtime.ext import CellRef, Posted, Run, SetupEnv, StepEvent

ABNORMAL: Final = 1006
"""What a cell is told of a connection that ended without a close frame (RFC 6455 §7.4.1)."""
CELL_GONE: Final = "cell shut down"
QUEUES_BYTES: Final = 256 * 1024 * 1024
"""Bytes that may wait for all clients of one cell together."""
SENT_BYTES: Final = 16 * 1024 * 1024
"""Longest message to a client, unless `queue_bytes` is more."""
_ORIGINS_TOLD: Final = 16
_RETRY_SECONDS: Final = (0.001, 0.05)


class WsSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a cell's manifest may set under `[settings."transport.ws.inbound"]`.

    Attributes:
        message_bytes: longest message of a client. Past it the connection is closed with 1009.
        origins: pages from elsewhere that may connect, `*` for any. Past them 403.
        ping_seconds: how long a client may be silent before it is pinged; 0 for ever.
        idle_seconds: how long there may be no message before the connection is closed with 1001; 0 for ever.
        close_seconds: how long a client may take to answer a close frame.
        queue_bytes: how much may wait for one client. Past it `slow` says what happens.
        slow: `wait` has `ws_send` wait for the client, `drop` drops the message, `close` ends the connection.
        deflate: whether to agree to compressed messages.
        mailbox_frames: events that may be in the cell's mailbox at once; the rest waits in their connections.
    """

    message_bytes: Annotated[int, msgspec.Meta(ge=1, le=1 << 28)] = 32_768
    origins: tuple[str, ...] = ()
    ping_seconds: Annotated[float, msgspec.Meta(ge=0, le=3_600)] = 0.0
    idle_seconds: Annotated[float, msgspec.Meta(ge=0, le=86_400)] = 0.0
    close_seconds: Annotated[float, msgspec.Meta(ge=0.1, le=30)] = 5.0
    queue_bytes: Annotated[int, msgspec.Meta(ge=1_024, le=1 << 28)] = 1024 * 1024
    slow: Literal["wait", "drop", "close"] = "wait"
    deflate: bool = False
    mailbox_frames: Annotated[int, msgspec.Meta(ge=1, le=65_536)] = 48


class CellSockets:
    """See `websocket.Receiver`; `program_ws.DaemonSockets` is the same for a daemon.

    Args:
        cell: whose they are.
        serial: the id of all its events, by which `finalize` finds it.
        env: the host.
        gone: called on the loop when a connection has ended.

    Attributes:
        cell: see above; of the latest instance.
        settings: of the latest instance.
        origins: `settings.origins` in lower case.
        limits: see `Receiver`.
        serves_program: whether messages go to the files of a daemon.
    """

    serves_program = False

    def __init__(self, cell: CellRef, serial: int, env: SetupEnv, gone: Callable[[WebSocketConnection], None]) -> None:
        self.cell = cell
        self.settings = WsSettings()
        self.origins: frozenset[str] = frozenset()
        self.limits = WebSocketLimits()
        self._serial: Final = serial
        self._env: Final = env
        self._gone: Final = gone
        self._posted = 0  # only the loop changes it
        self._done = 0  # only the worker that has the cell changes it
        self._stalled: Final[deque[WebSocketConnection]] = deque()
        self._lost: Final[deque[int]] = deque()
        self._pumping = False
        self._timer: asyncio.TimerHandle | None = None
        self._pause = _RETRY_SECONDS[0]
        self._queued = 0  # only the cell's thread changes it
        self._passed = 0  # only the loop changes it
        self._waiters = 0
        self._changed: Final = threading.Condition()
        self._told: Final[set[str]] = set()

    def configure(self, cell: CellRef, settings: WsSettings) -> None:
        """Take over what the manifest of a new instance says; it holds for new connections."""
        self.cell = cell
        self.settings = settings
        self.origins = frozenset(origin.lower() for origin in settings.origins)
        self.limits = WebSocketLimits(
            message_bytes=settings.message_bytes,
            ping_seconds=settings.ping_seconds,
            idle_seconds=settings.idle_seconds,
            close_seconds=settings.close_seconds,
        )

    # In, on the loop --------------------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """See `Receiver`."""
        return self._posted != self._done

    def arrive(self, connection: WebSocketConnection, request: Request, match: Match) -> Posted:  # noqa: ARG002 - daemons show it
        """Tell the cell of a connection; see `offer`."""
        line = request.line
        opening = join_ws_open(connection.number, line.path, encode_str_map(line.query), request.block.packed_fields)
        return self.offer(connection, "ws.open", opening)

    def offer(self, connection: WebSocketConnection, kind: str, payload: bytes) -> Posted:
        """Post an event of a connection, behind those of it that wait; `FULL` means that it waits now, too."""
        if not self._stalled:
            posted = self._post(kind, payload)
            if posted is not Posted.FULL:
                return posted
        if connection.waiting is None:
            connection.waiting = [(kind, payload)]
            self._stalled.append(connection)
            if not self.busy:  # nobody's end will tell that there is room
                self._retry()
        else:
            connection.waiting.append((kind, payload))
        return Posted.FULL

    def _post(self, kind: str, payload: bytes) -> Posted:
        if self._posted - self._done >= self.settings.mailbox_frames:
            return Posted.FULL
        self._posted += 1
        posted = self._env.post(StepEvent(kind, payload, self._serial, self.cell.id))
        if posted is not Posted.ACCEPTED:
            self._posted -= 1
        return posted

    def on_message(self, connection: WebSocketConnection, opcode: int, payload: bytes) -> bool:
        """See `Receiver`."""
        posted = self.offer(connection, "ws.frame", join_ws_frame(connection.number, opcode, payload))
        if posted is Posted.ACCEPTED:
            return True
        if posted is Posted.FULL:
            return False
        self._refuse(connection, posted)
        return True

    def on_close(self, connection: WebSocketConnection, code: int, reason: str) -> None:
        """See `Receiver`."""
        self._gone(connection)
        self._notify()
        self.offer(connection, "ws.close", encode_ws_close(connection.number, code, reason))

    def lose(self, number: int) -> None:
        """Tell the cell, which goes on from a snapshot, that a connection it had then is gone."""
        self._lost.append(number)
        if len(self._lost) == 1:
            self._tell_lost()

    def _tell_lost(self) -> None:
        while self._lost:
            posted = self._post("ws.close", encode_ws_close(self._lost[0], ABNORMAL, ""))
            if posted is Posted.FULL:
                asyncio.get_running_loop().call_later(_RETRY_SECONDS[1], self._tell_lost)
                return
            self._lost.popleft()

    def _refuse(self, connection: WebSocketConnection, posted: Posted) -> None:
        """End a connection whose message the cell cannot have; soon, since it is being read."""
        too_big = posted is Posted.TOO_LARGE
        code, why = (TOO_BIG, "message longer than the cell takes") if too_big else (GOING_AWAY, CELL_GONE)
        asyncio.get_running_loop().call_soon(connection.close, code, why, why)

    def finalized(self) -> None:
        """Note that the cell has dealt with one of its events. On the worker that has the cell."""
        self._done += 1
        if self._stalled and not self._pumping:
            self._pumping = True
            self._env.defer(self._pump)

    def _pump(self) -> None:
        """Post what waits, an event of each connection in turn, until there is no more room."""
        self._pumping = False
        stalled = self._stalled
        while stalled:
            connection = stalled[0]
            waiting = connection.waiting
            assert waiting  # noqa: S101 - what being in there means
            posted = self._post(*waiting[0])
            if posted is Posted.FULL:
                if not self.busy:
                    self._retry()
                return
            stalled.popleft()
            kind, _payload = waiting.pop(0)
            if posted is not Posted.ACCEPTED and kind != "ws.close":
                self._refuse(connection, posted)
            if waiting:
                stalled.append(connection)
            else:
                connection.waiting = None
                connection.resume()
        self._pause = _RETRY_SECONDS[0]

    def _retry(self) -> None:
        """Try again soon: the mailbox is full of others' events."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._pause, self._on_timer)
            self._pause = min(2 * self._pause, _RETRY_SECONDS[1])

    def _on_timer(self) -> None:
        self._timer = None
        self._pump()

    def tell_origin(self, origin: str) -> None:
        """Log an origin that was refused; each once, and not without end: clients choose them."""
        if origin not in self._told and len(self._told) < _ORIGINS_TOLD:
            self._told.add(origin)
            self.cell.log.warning("websocket of a foreign origin refused", origin=origin[:200])

    def mount(self, run: Run) -> None:
        """Add to the run of a daemon the files of its connections; cells have none."""

    def leave(self) -> None:
        """Note that the cell is being torn down."""

    def close(self) -> None:
        """Forget what waits."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._stalled.clear()
        self._lost.clear()
        self._notify()

    # Out --------------------------------------------------------------------------------------------------------

    @property
    def alone(self) -> bool:
        """Whether the event in progress is the only one: what it sends need not wait for others. On the worker."""
        return self._posted - self._done <= 1

    @property
    def longest(self) -> int:
        """Bytes that a message to a client may have."""
        return max(self.settings.queue_bytes, SENT_BYTES)

    def has_room(self, connection: WebSocketConnection) -> bool:
        """Return whether more may be queued for a client. On the worker."""
        return connection.unsent <= self.settings.queue_bytes and self._queued - self._passed <= QUEUES_BYTES

    def on_queued(self, size: int) -> None:
        """See `Outlet`."""
        self._queued += size

    def on_passed(self, size: int) -> None:
        """See `Outlet`."""
        self._passed += size
        if self._waiters:
            self._notify()

    def wait_for(self, true: Callable[[], bool], seconds: float) -> bool:
        """Wait until something has come true that a connection does, at most so long; return whether it has."""
        with self._changed:
            self._waiters += 1
            try:
                return self._changed.wait_for(true, max(0.0, seconds))
            finally:
                self._waiters -= 1

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()
