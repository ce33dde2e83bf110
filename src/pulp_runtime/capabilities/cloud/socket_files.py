"""One WebSocket of a daemon, as `/conn/<id>`: `request`, `recv`, `send`, `type`, `close` (spec/wasi-cloud §5).

loop     put ──▶ [ messages ] ── read recv ──▶ daemon        64 of them or 256 KiB, then the client is not listened to
daemon   write send ──▶ outlet ──▶ client                    full: the writer waits, or what `slow` says
"""

from __future__ import annotations

import errno
import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

from pulp_runtime.abi.ws import BINARY, TEXT
from pulp_runtime.capabilities.cloud.connections import CloseFile
from pulp_runtime.capabilities.cloud.request import RequestFiles
from pulp_runtime.capabilities.cloud.signal import Signal
from pulp_runtime.capabilities.cloud.write_only import WriteOnly
from pulp_runtime.ext.nodes import Bytes, Folder, Leaf
from pulp_runtime.ext.tree import File, How, Stat, Wake

if TYPE_CHECKING:
    from pulp_runtime.capabilities.cloud.exchange import Asked

MESSAGES: Final = 64
"""Messages of one client that may wait to be read. Past it the client is not listened to."""
MESSAGES_BYTES: Final = 256 * 1024
"""Bytes of them. Past it the client is not listened to; one message may go over."""
_TYPES: Final = {TEXT: b"text", BINARY: b"binary"}
_OPCODES: Final = {name: opcode for opcode, name in _TYPES.items()}


class Outlet(Protocol):
    """The way to one client. Belongs to the daemon's thread.

    Attributes:
        room: fires when more may be sent, or nobody will take it.
    """

    room: Signal

    def send(self, opcode: int, payload: bytes) -> None:
        """Send a message.

        Raises:
            OSError: `EAGAIN` the client is behind, `EPIPE` it is gone, `EINVAL` text that is not UTF-8, `EMSGSIZE` too
                long, `ENOBUFS` dropped because the client is slow and the manifest says so.
        """

    def has_room(self) -> bool:
        """Return whether `send` would not answer `EAGAIN`."""

    def close(self, code: int, reason: str) -> None:
        """Close the connection, behind what was sent.

        Raises:
            OSError: `EINVAL`, the code may not be sent, or the reason is too long.
        """

    def resume(self) -> None:
        """Listen to the client again."""


class SocketConnection:
    """See `accept.Connection`.

    Args:
        asked: the request it began with.
        outlet: the way to its client.
        leave: called when the daemon knows that it has ended.

    Attributes:
        opcode: of the message read last; that of the next one written.
    """

    kind = "ws"

    def __init__(self, asked: Asked, outlet: Outlet, leave: Callable[[], None]) -> None:
        self.number = asked.number
        self.opcode = TEXT
        self._outlet: Final = outlet
        self._leave: Final = leave
        self._lock: Final = threading.Lock()
        self._messages: Final[deque[tuple[int, bytes]]] = deque()
        self._size = 0
        self._rest = b""
        self._paused = self._over = False
        self.arrived: Final = Signal()
        self.files = Folder(
            {
                "request": RequestFiles(asked),
                "recv": _SocketFile(lambda: Received(self), write=False),
                "send": _SocketFile(lambda: Sent(self, outlet), write=True),
                "type": TypeFile(self),
                "close": CloseFile(self._close),
            }
        )

    # On the loop ------------------------------------------------------------------------------------------------

    def put(self, opcode: int, payload: bytes) -> bool:
        """Add a message, in any case; False: no more before `Outlet.resume` is called."""
        with self._lock:
            if payload:  # an empty one could not be told from the end
                self._messages.append((opcode, payload))
                self._size += len(payload)
            self._paused = len(self._messages) >= MESSAGES or self._size >= MESSAGES_BYTES
            room = not self._paused
        self.arrived.fire()
        return room

    def end(self) -> None:
        """Note that no more messages will come."""
        self._over = True
        self.arrived.fire()
        self._outlet.room.fire()

    # On the daemon's thread -------------------------------------------------------------------------------------

    def read(self, size: int) -> bytes:
        """Return a message, or as much of it as is asked for and the rest next time; b"" at the end."""
        if not self._rest:
            self._rest = self._next()
        piece, self._rest = self._rest[:size], self._rest[size:]
        return piece

    def _next(self) -> bytes:
        with self._lock:
            if self._messages:
                self.opcode, message = self._messages.popleft()
                self._size -= len(message)
                resumes = self._paused and len(self._messages) <= MESSAGES // 2 and self._size <= MESSAGES_BYTES // 2
                self._paused = self._paused and not resumes
            elif self._over:
                message, resumes = b"", False
            else:
                raise BlockingIOError(errno.EAGAIN, "no message has come")
        if resumes:
            self._outlet.resume()
        if not message:
            self._leave()
        return message

    @property
    def ready(self) -> int | None:
        """How many bytes `read` would return; None while there are none."""
        if self._rest:
            return len(self._rest)
        with self._lock:
            if self._messages:
                return len(self._messages[0][1])
        return 0 if self._over else None

    @property
    def over(self) -> bool:
        """Whether the client is gone."""
        return self._over

    def gone(self) -> None:
        """Note that the daemon has been told that the client is gone; what came before can still be read."""
        if not self._messages and not self._rest:
            self._leave()

    def _close(self, words: bytes) -> None:
        code, _, reason = words.decode(errors="replace").strip().partition(" ")
        if code and not (code.isascii() and code.isdigit() and len(code) == 4):
            raise OSError(errno.EINVAL, "write: code reason, such as 1000 bye")
        self._outlet.close(int(code or 1000), reason)
        self._leave()

    def dismiss(self, *, accepted: bool) -> None:
        """See `accept.Connection`."""
        try:
            self._outlet.close(1001, "the daemon has ended")
        except OSError:  # it is gone already
            pass


class _SocketFile(Leaf):
    """A file that is opened one way only."""

    def __init__(self, make: Callable[[], File], *, write: bool) -> None:
        self._make: Final = make
        self._write: Final = write

    def open_file(self, how: How) -> File:
        """See `Leaf.open_file`."""
        if self._write:
            WriteOnly.admit(how)
        elif how.changes:
            raise PermissionError(errno.EACCES, "read only")
        return self._make()


class Received(File):
    """`recv`: at most one message a read."""

    def __init__(self, connection: SocketConnection) -> None:
        self._connection: Final = connection

    def read(self, size: int) -> bytes:
        """See `File.read`."""
        return self._connection.read(size)

    def ready(self, *, write: bool = False) -> int | None:
        """See `File.ready`."""
        return 0 if write else self._connection.ready

    def watch(self, wake: Wake) -> Wake:
        """See `File.watch`."""
        return self._connection.arrived.watch(wake)


class Sent(File):
    """`send`: a message a write."""

    def __init__(self, connection: SocketConnection, outlet: Outlet) -> None:
        self._connection: Final = connection
        self._outlet: Final = outlet

    def write(self, data: bytes) -> int:
        """See `File.write`."""
        if self._connection.over:
            self._connection.gone()
            raise BrokenPipeError(errno.EPIPE, "the client is gone")
        self._outlet.send(self._connection.opcode, data)
        return len(data)

    def ready(self, *, write: bool = False) -> int | None:
        """See `File.ready`."""
        return 0 if not write or self._connection.over or self._outlet.has_room() else None

    def watch(self, wake: Wake) -> Wake:
        """See `File.watch`."""
        return self._outlet.room.watch(wake)


class TypeFile(Leaf):
    """`type`: `text` or `binary`."""

    def __init__(self, connection: SocketConnection) -> None:
        self._connection: Final = connection

    def open_file(self, how: How) -> File:
        """See `Leaf.open_file`."""
        return _TypeOut(self._connection) if how.write else Bytes(_TYPES[self._connection.opcode])

    def stat_file(self) -> Stat:
        """See `Leaf.stat_file`."""
        return super().stat_file()._replace(size=len(_TYPES[self._connection.opcode]))


class _TypeOut(File):
    def __init__(self, connection: SocketConnection) -> None:
        self._connection: Final = connection

    def write(self, data: bytes) -> int:
        """See `File.write`."""
        opcode = _OPCODES.get(data.strip())
        if opcode is None:
            raise OSError(errno.EINVAL, "a message is text or binary")
        self._connection.opcode = opcode
        return len(data)
