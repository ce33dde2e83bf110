"""The client's side of a WebSocket, byte by byte, and a connection without a socket to try it on."""

from __future__ import annotations

import asyncio
import struct
from typing import Any

from pulp_runtime._net.exchange import Service, TakenOver
from pulp_runtime._net.settings import HttpSettings
from pulp_runtime._net.websocket import WebSocketConnection
from pulp_runtime._net.websocket_deflate import Deflate
from pulp_runtime._net.websocket_receiver import WebSocketLimits

MASK = b"\x11\x22\x33\x44"
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
ANSWER = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"


def masked(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, mask: bytes = MASK) -> bytes:
    """Return a frame as clients send it."""
    first = (0x80 if fin else 0) | rsv << 4 | opcode
    size = len(payload)
    if size < 126:
        head = bytes((first, 0x80 | size))
    elif size < 0x1_0000:
        head = struct.pack(">BBH", first, 0x80 | 126, size)
    else:
        head = struct.pack(">BBQ", first, 0x80 | 127, size)
    return head + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))


def closing(code: int, reason: str = "") -> bytes:
    """Return a client's close frame."""
    return masked(CLOSE, struct.pack(">H", code) + reason.encode())


def frames(data: bytes) -> list[tuple[int, bytes]]:
    """Return what a server has sent, as (first byte, payload); everything must be whole frames without a mask."""
    found = []
    while data:
        first, second = data[0], data[1]
        assert second < 0x80, "a server must not mask"
        start = 2
        if second == 126:
            second, start = struct.unpack(">H", data[2:4])[0], 4
        elif second == 127:
            second, start = struct.unpack(">Q", data[2:10])[0], 10
        assert len(data) >= start + second, "the last frame is not whole"
        found.append((first, data[start : start + second]))
        data = data[start + second :]
    return found


class FakeTransport(asyncio.Transport):
    """Remembers what it was told; `full` plays a client that does not read."""

    def __init__(self) -> None:
        super().__init__({"peername": ("192.0.2.7", 4711)})
        self.sent = bytearray()
        self.unsent = 0
        self.closed = self.aborted = self.eof = self.paused = False
        self.protocol: WebSocketConnection | None = None

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def write(self, data: Any) -> None:
        assert not self.closed, "written after close"
        self.sent += data

    def is_closing(self) -> bool:
        return self.closed or self.aborted

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = True

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.eof = True

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def pause_reading(self) -> None:
        assert not self.paused
        self.paused = True

    def resume_reading(self) -> None:
        assert self.paused
        self.paused = False


class Inbox:
    """A receiver that has room for as much as the test says."""

    busy = True  # so that everything goes through the transport

    def __init__(self, limits: WebSocketLimits) -> None:
        self.limits = limits
        self.messages: list[tuple[int, bytes]] = []
        self.ends: list[tuple[int, str]] = []
        self.room = 1 << 30
        self.unsent = 0

    def on_message(self, _connection: WebSocketConnection, opcode: int, payload: bytes) -> bool:
        assert not self.ends, "a message after the end"
        self.messages.append((opcode, payload))
        self.room -= 1
        return self.room > 0

    def on_close(self, _connection: WebSocketConnection, code: int, reason: str) -> None:
        self.ends.append((code, reason))

    def on_queued(self, size: int) -> None:
        self.unsent += size

    def on_passed(self, size: int) -> None:
        self.unsent -= size


class Wire:
    """One open WebSocket, and a clock that only the test moves."""

    def __init__(
        self, *, deflate: bool = False, unread: bytes = b"", bodies_bytes: int = 1 << 20, **limits: Any
    ) -> None:
        self.now = 1_000.0
        self.inbox = Inbox(WebSocketLimits(**limits))
        settings = HttpSettings(bodies_bytes=bodies_bytes)
        self.service = Service(lambda _request: None, settings, time=lambda: self.now)
        self.transport = FakeTransport()
        self.connection = WebSocketConnection(self.service, self.inbox, Deflate() if deflate else None, 1)
        self.connection.begin(TakenOver(self.transport, unread, self.service), ANSWER)

    def feed(self, data: bytes) -> None:
        self.connection.data_received(data)

    def send(self, payload: bytes, opcode: int = BINARY) -> None:
        """Send as a cell does, and as the loop does a little later."""
        left = self.connection.send(self.connection.encode(opcode, payload), alone=False)
        if left is not None:
            self.connection.flush([left])

    def lose(self) -> None:
        self.connection.connection_lost(None)

    def pass_time(self, seconds: float) -> None:
        """Let time pass as the listener's sweep sees it, second by second."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + 1.0)
            if self.connection.deadline <= self.now:
                self.connection.expire(self.now)
                if self.transport.aborted and self.connection in self.service.connections:
                    self.lose()

    @property
    def frames(self) -> list[tuple[int, bytes]]:
        """What the client got behind the handshake."""
        assert self.transport.sent.startswith(ANSWER)
        return frames(bytes(self.transport.sent[len(ANSWER) :]))

    @property
    def closes(self) -> list[tuple[int, str]]:
        """Code and reason of the close frames the client got."""
        found = [payload for first, payload in self.frames if first == 0x80 | CLOSE]
        return [(struct.unpack(">H", one[:2])[0], one[2:].decode()) if one else (1005, "") for one in found]
