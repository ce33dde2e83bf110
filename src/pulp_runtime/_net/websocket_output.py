"""The sending half of a WebSocket: frames from a cell's thread, control frames from the loop, one socket.

    worker   send ──┬─ direct: nothing waits anywhere, nobody else is being served ──▶ socket
                    └─ queued ──▶ whoever owns the connection gathers ─┐
    loop                                        flush ◀────────────────┘──▶ transport ──▶ socket

Order is kept by two rules. What the worker has queued and the loop has not yet passed on is counted, and while the
count is not 0 nothing is sent directly. Before the loop writes, it takes the gate and declares the shortcut closed; it
is opened again when nothing waits in the transport.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import ClassVar, Final, Protocol

from pulp_runtime._net.direct import DirectWriter
from pulp_runtime._net.exchange import Service
from pulp_runtime._net.peer import SocketPeer
from pulp_runtime._net.websocket_deflate import WORTH_BYTES, Deflate
from pulp_runtime._net.websocket_frames import encode_frame

SHORTCUTS: Final = 256
"""How many connections may have a second descriptor at once."""
_BLOB_BYTES: Final = 4 * 1024
"""Frames that wait are joined up to this length: a thousand small ones must not cost a thousand objects."""


class Shortcut(DirectWriter):
    """A second descriptor of the socket. There are a few at a time: they must not cost clients theirs.

    Attributes:
        gate: whoever writes, holds it; or has made sure before that nobody will.
        number: how many there are in this process.
    """

    __slots__ = ("gate",)

    number: ClassVar[int] = 0

    def __init__(self) -> None:
        super().__init__()
        self.gate: Final = threading.Lock()


class Outlet(Protocol):
    """Whoever counts what waits for clients, all connections together."""

    def on_queued(self, size: int) -> None:
        """Note that so many bytes wait for the loop. On the cell's thread."""

    def on_passed(self, size: int) -> None:
        """Note that so many queued bytes wait no more: sent, or dropped with their connection. On the loop."""


class WebSocketOutput(SocketPeer):
    """See `websocket.WebSocketConnection`, which is the rest.

    Attributes:
        open: whether messages can still be sent. From any thread.
    """

    __slots__ = (
        "_backlog",
        "_clear",
        "_deflate",
        "_last_frame",
        "_moved",
        "_outlet",
        "_passed",
        "_pong",
        "_queued",
        "_shortcut",
        "_torn",
        "open",
    )

    def __init__(self, service: Service, outlet: Outlet, deflate: Deflate | None) -> None:
        super().__init__(service)
        self.open = True
        self._outlet: Final = outlet
        self._deflate: Final = deflate
        self._shortcut: Shortcut | None = None
        self._moved = False  # a message went or came; from any thread
        self._clear = False  # the shortcut may be used: nothing waits in the transport
        self._torn = b""  # the rest of a frame of which the shortcut took a part: it goes before anything else
        self._queued = 0  # bytes ever queued; only the cell's thread changes it
        self._passed = 0  # ... and handed to the transport, or dropped; only the loop changes it
        self._backlog: deque[bytes] | None = None  # of those, what the transport was too full for: whole frames
        self._pong = b""  # the latest that could not be written
        self._last_frame = b""  # a close frame that waits behind the backlog

    # From the cell's thread -------------------------------------------------------------------------------------

    @property
    def unsent(self) -> int:
        """Bytes that wait for the loop, or for the client. From any thread."""
        return self._queued - self._passed

    def encode(self, opcode: int, payload: bytes) -> bytes:
        """Return a message as the frame that goes on the wire."""
        if self._deflate is not None and len(payload) >= WORTH_BYTES:
            return encode_frame(opcode, self._deflate.deflate(payload), compressed=True)
        return encode_frame(opcode, payload)

    def send(self, frame: bytes, *, alone: bool) -> bytes | None:
        """Send a frame, or count it as queued. Only from the thread of the one cell that owns the connection.

        Args:
            frame: by `encode`.
            alone: whether nobody else's frames are about to be written. Then it is written right here, if it can.

        Returns:
            What the caller has to bring to `flush`, also when it is empty; None when the frame is sent.
        """
        self._moved = True
        shortcut = self._shortcut
        if alone and shortcut is not None:
            with shortcut.gate:
                if self._clear and self._queued == self._passed:
                    written = shortcut.write(frame)
                    if written == len(frame):
                        return None
                    if written:
                        self._torn = frame[written:]
                        self._queue(len(self._torn))
                        return b""
        self._queue(len(frame))
        return frame

    def _queue(self, size: int) -> None:
        self._queued += size
        self._outlet.on_queued(size)

    # On the loop ------------------------------------------------------------------------------------------------

    def pause_writing(self) -> None:
        """Let frames wait here: the client is behind."""
        self._write_paused = True
        self._watch_unsent(self._service.settings.write_stall_seconds)

    def resume_writing(self) -> None:
        """Write what has waited."""
        self._write_paused = False
        self._write_backlog()

    def flush(self, frames: list[bytes]) -> None:
        """Write what `send` left, in order; keep it while the client is behind, drop it behind a close frame."""
        data = frames[0] if len(frames) == 1 else b"".join(frames)
        if self._torn:
            self._write(b"")
        if not data:
            return
        if not self.open or self._transport.is_closing():
            self._count(len(data))
        elif self._backlog is not None:
            if len(self._backlog[-1]) < _BLOB_BYTES:
                self._backlog[-1] += data
            else:
                self._backlog.append(data)
        elif self._write_paused:
            self._backlog = deque((data,))
        else:
            self._write(data)
            self._count(len(data))

    def _count(self, size: int) -> None:
        self._passed += size
        self._outlet.on_passed(size)

    def _write(self, data: bytes) -> None:
        """Write through the transport, unless it closes."""
        if self._clear:
            shortcut = self._shortcut
            assert shortcut is not None  # noqa: S101 - what `_clear` means
            with shortcut.gate:
                self._clear = False
        if self._torn:
            torn, self._torn = self._torn, b""
            data = torn + data
            self._count(len(torn))
        if not self._transport.is_closing():
            self._transport.write(data)

    def _write_pongs(self, pongs: list[bytes]) -> None:
        """Answer pings; while the client takes nothing, only the latest (RFC 6455 §5.5.3)."""
        if self._write_paused:
            self._pong = pongs[-1]
        else:
            self._write(b"".join(pongs))

    def _write_last(self, frame: bytes) -> None:
        """Write our close frame, behind what is queued."""
        if self._backlog is not None:
            self._last_frame = frame
        else:
            self._write(frame)

    def _write_now(self, frame: bytes) -> None:
        """Write our close frame, if it was not yet, in place of everything that waits."""
        self._drop_backlog()
        frame, self._last_frame = self._last_frame or frame, b""
        if frame:
            self._write(frame)

    def _write_backlog(self) -> None:
        """Write what waited for the client, as long as it takes it."""
        pong, self._pong = self._pong, b""
        if pong:
            self._write(pong)
        while self._backlog is not None and not self._write_paused:
            frames = self._backlog.popleft()
            if not self._backlog:
                self._backlog = None
            self._write(frames)
            self._count(len(frames))
        if self._backlog is None and self._last_frame:
            self._write_now(b"")

    def _drop_backlog(self) -> None:
        """Forget what waits for the client."""
        backlog, self._backlog = self._backlog, None
        if backlog:
            self._count(sum(map(len, backlog)))

    def _drop_everything(self) -> None:
        """Forget what waits: nobody is there any more."""
        self._close_shortcut()
        self._drop_backlog()
        torn, self._torn = self._torn, b""
        self._count(len(torn))

    def _open_shortcut(self) -> bool:
        """Let the cell's thread write by itself, if nothing waits in the transport; return whether that is new."""
        if self.secure or self._backlog is not None or self._transport.get_write_buffer_size():
            return False
        new = self._shortcut is None
        if new:
            if Shortcut.number >= SHORTCUTS:
                return False
            shortcut = Shortcut()
            if not shortcut.open(self._transport):
                return False
            self._shortcut = shortcut
            Shortcut.number += 1
        self._clear = True
        return new

    def _close_shortcut(self) -> None:
        """Give its descriptor back."""
        shortcut = self._shortcut
        if shortcut is not None:
            with shortcut.gate:
                self._clear = False
            self._shortcut = None
            Shortcut.number -= 1
            shortcut.close()
