"""WebSockets of a daemon: from the connection to the files of `/conn/<id>`, and back."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Final

from pulp_runtime._net.exchange import Request
from pulp_runtime._net.routes import Match, RouteConflict, RouteInvalid
from pulp_runtime._net.websocket import WebSocketConnection
from pulp_runtime._net.websocket_frames import POLICY, REASON_BYTES, WebSocketFault, check_text, may_be_sent
from pulp_runtime.abi.ws import TEXT
from pulp_runtime.capabilities.cloud.accept import Door, Doors
from pulp_runtime.capabilities.cloud.exchange import Asked
from pulp_runtime.capabilities.cloud.request_body import RequestBody
from pulp_runtime.capabilities.cloud.signal import Signal
from pulp_runtime.capabilities.cloud.socket_files import SocketConnection
from pulp_runtime.capabilities.transport.front import WEBSOCKET, Front
from pulp_runtime.capabilities.transport.ws_cell import CellSockets, WsSettings
from pulp_runtime.errors import ExtensionError
from pulp_runtime.ext import CellRef, Posted, Run, SetupEnv
from pulp_runtime.ext.program import DAEMON

NAME: Final = "transport.ws.inbound"
Close = Callable[..., None]


def register(front: Front, cell: CellRef) -> None:
    """Give a daemon the paths that its manifest names under `[daemon] websockets`.

    Raises:
        ExtensionError: one cannot be used; the message names manifest, field and fix.
    """
    if "mailbox_frames" in cell.tables.get(NAME, {}):
        raise ExtensionError(
            f'{cell.manifest}: [settings."{NAME}"] mailbox_frames: a program has no mailbox; remove it'
        )
    for path in () if cell.program is None else cell.program.websockets:
        try:
            front.register(WEBSOCKET, cell.id, "GET", path, strict=True)
        except (RouteInvalid, RouteConflict) as error:
            raise ExtensionError(
                f"{cell.manifest}: [daemon] websockets: {path!r}: {error}; write another path"
            ) from None


class DaemonSockets(CellSockets):
    """See `CellSockets`: the same for a daemon, whose messages wait in files instead of a mailbox.

    Args:
        cell: whose they are.
        env: the host.
        gone: called on the loop when a connection has ended.
        queue: `queue(connection, frame)`: have the loop send a frame.
        close: `close(connections, code, reason, why, drop=)`: close connections, on the loop.

    Attributes:
        room: fires when there may be room for messages to clients.
        door: of the daemon.
        queue: see above.
        shut: `close`, see above.
    """

    def __init__(
        self,
        cell: CellRef,
        env: SetupEnv,
        gone: Callable[[WebSocketConnection], None],
        queue: Callable[[WebSocketConnection, bytes], None],
        close: Close,
    ) -> None:
        super().__init__(cell, 0, env, gone)
        self.room: Final = Signal()
        self.door: Final[Door] = env.services.get(Doors, Doors).of(cell.id)
        self.queue: Final = queue
        self.shut: Final[Close] = close
        self._numbers: Final = env.services.get(Doors, Doors).numbers
        self._open: Final[dict[int, SocketConnection]] = {}

    serves_program = True

    def configure(self, cell: CellRef, settings: WsSettings) -> None:
        """See `CellSockets.configure`."""
        super().configure(cell, settings)
        self.door.open()

    def mount(self, run: Run) -> None:
        """See `CellSockets.mount`."""
        if self.cell.program is not None and self.cell.program.execution == DAEMON:
            self.door.mount(run)

    def leave(self) -> None:
        """See `CellSockets.leave`."""
        self.door.close()

    @property
    def busy(self) -> bool:
        """See `Receiver`: what a daemon sends always goes by the loop."""
        return True

    def arrive(self, connection: WebSocketConnection, request: Request, match: Match) -> Posted:
        """Put a connection behind those that wait to be accepted."""
        number = next(self._numbers)
        files = SocketConnection(
            Asked(number, request, match, RequestBody(b"")), _Outlet(self, connection), lambda: self.door.leave(number)
        )
        self._open[connection.number] = files
        if self.door.admit(files):
            return Posted.ACCEPTED
        del self._open[connection.number]
        return Posted.CLOSED

    def on_message(self, connection: WebSocketConnection, opcode: int, payload: bytes) -> bool:
        """See `Receiver`."""
        files = self._open.get(connection.number)
        return files is None or files.put(opcode, payload)

    def on_close(self, connection: WebSocketConnection, code: int, reason: str) -> None:  # noqa: ARG002 - only cells are told
        """See `Receiver`."""
        self._gone(connection)
        files = self._open.pop(connection.number, None)
        if files is not None:
            files.end()

    def on_passed(self, size: int) -> None:
        """See `Outlet`."""
        super().on_passed(size)
        self.room.fire()

    def resume(self, connection: WebSocketConnection) -> None:
        """Have the loop listen to a client again."""
        self._env.defer(connection.resume)


class _Outlet:
    """See `socket_files.Outlet`."""

    def __init__(self, sockets: DaemonSockets, connection: WebSocketConnection) -> None:
        self._sockets: Final = sockets
        self._connection: Final = connection
        self.room = sockets.room

    def has_room(self) -> bool:
        """See `socket_files.Outlet`."""
        sockets = self._sockets
        return sockets.settings.slow != "wait" or not self._connection.open or sockets.has_room(self._connection)

    def send(self, opcode: int, payload: bytes) -> None:
        """See `socket_files.Outlet`."""
        sockets, connection = self._sockets, self._connection
        if not connection.open:
            raise BrokenPipeError(errno.EPIPE, "the client is gone")
        if len(payload) > sockets.longest:
            raise OSError(errno.EMSGSIZE, f"a message has at most {sockets.longest} bytes")
        if opcode == TEXT and not payload.isascii():
            try:
                check_text(payload)
            except WebSocketFault as fault:
                raise OSError(errno.EINVAL, fault.reason) from None
        if not sockets.has_room(connection):
            self._no_room()
        left = connection.send(connection.encode(opcode, payload), alone=False)
        if left is not None:
            sockets.queue(connection, left)

    def _no_room(self) -> None:
        """Do what the manifest says about a client that is slow."""
        slow = self._sockets.settings.slow
        if slow == "drop":
            raise OSError(errno.ENOBUFS, "dropped: the client is slow")
        if slow == "close":
            self._sockets.cell.log.info("slow websocket closed", conn_id=self._connection.number)
            self._sockets.shut([self._connection], POLICY, "too slow", "too slow", drop=True)
            raise BrokenPipeError(errno.EPIPE, "the client was too slow")
        raise BlockingIOError(errno.EAGAIN, "the client is behind")

    def close(self, code: int, reason: str) -> None:
        """See `socket_files.Outlet`."""
        if not may_be_sent(code) or len(reason.encode()) > REASON_BYTES:
            raise OSError(
                errno.EINVAL, f"close code {code} may not be sent, or the reason is over {REASON_BYTES} bytes"
            )
        self._sockets.shut([self._connection], code, reason, "closed by the daemon")

    def resume(self) -> None:
        """See `socket_files.Outlet`."""
        self._sockets.resume(self._connection)
