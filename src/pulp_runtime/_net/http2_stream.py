"""One HTTP/2 stream: a request that comes in, an answer that goes out."""

from __future__ import annotations

from collections import deque
from typing import Final, Protocol

from pulp_runtime._net.exchange import Request
from pulp_runtime._net.head import HeaderBlock, RequestLine
from pulp_runtime._net.http2_body import Http2Body
from pulp_runtime._net.stream import ResponseStream

FULL_BYTES: Final = 64 * 1024
"""Bytes of an answer in pieces that may wait before it counts as full."""


class Exchange:
    """The state of one stream.

    Attributes:
        number: of the stream.
        asked: its head, while its body is arriving and wanted whole.
        request: while nobody has answered it.
        method: of the request.
        body: while it is still arriving.
        ended: the client has sent all of its request.
        head: the encoded head of the answer, until it is sent.
        pieces: of the answer's body, that wait to be sent.
        waiting: bytes in them.
        last: no more of them will come.
        queued: it is among those that may send.
        moved: when the client last took something of it, by the loop's clock.
        stream: the application's end of an answer in pieces.
    """

    __slots__ = (
        "asked",
        "body",
        "ended",
        "head",
        "last",
        "method",
        "moved",
        "number",
        "pieces",
        "queued",
        "request",
        "stream",
        "waiting",
    )

    def __init__(self, number: int, method: str, *, ended: bool) -> None:
        self.number: Final = number
        self.method: Final = method
        self.ended = ended
        self.asked: tuple[RequestLine, HeaderBlock] | None = None
        self.request: Request | None = None
        self.body: Http2Body | None = None
        self.head: bytes | None = None
        self.pieces: Final[deque[memoryview]] = deque()
        self.waiting = 0
        self.last = self.queued = False
        self.moved = 0.0
        self.stream: Http2Stream | None = None

    def add(self, data: bytes) -> None:
        """Put a piece of the answer behind those that wait."""
        self.pieces.append(memoryview(data))
        self.waiting += len(data)

    def take(self, most: int) -> memoryview:
        """Take up to `most` bytes from the first piece."""
        piece = self.pieces[0]
        if len(piece) <= most:
            self.pieces.popleft()
        else:
            piece, self.pieces[0] = piece[:most], piece[most:]
        self.waiting -= len(piece)
        return piece


class Sender(Protocol):
    """The connection, as far as `Http2Stream` needs it."""

    def push(self, exchange: Exchange, data: bytes) -> None:
        """Send a piece of an answer."""

    def finish(self, exchange: Exchange) -> None:
        """End an answer behind its last piece."""

    def break_off(self, exchange: Exchange) -> None:
        """Reset a stream whose answer cannot be completed."""


class Http2Stream(ResponseStream):
    """The rest of an answer.

    Args:
        sender: its connection.
        exchange: its stream.
        length: what was announced, None for nothing.
        silent: the answer has no body (HEAD, 204, 304).
    """

    def __init__(self, sender: Sender, exchange: Exchange, length: int | None, *, silent: bool) -> None:
        super().__init__()
        self._sender: Final = sender
        self._exchange: Final = exchange
        self._left = length
        self._silent: Final = silent

    @property
    def waiting(self) -> int:
        """See `ResponseStream`."""
        return self._exchange.waiting

    def write(self, data: bytes) -> None:
        """See `ResponseStream`. Of a body longer than announced the rest is dropped."""
        if self.closed or self._silent:
            return
        if self._left is not None:
            data = data[: self._left]
            self._left -= len(data)
        if data:
            self._sender.push(self._exchange, data)
            self.full = self._exchange.waiting > FULL_BYTES

    def end(self) -> None:
        """See `ResponseStream`. A body shorter than announced breaks the stream off."""
        if self.closed:
            return
        if self._left and not self._silent:
            self.abort()
            return
        self.closed = True
        self._sender.finish(self._exchange)

    def abort(self) -> None:
        """See `ResponseStream`."""
        if not self.closed:
            self.closed = True
            self._sender.break_off(self._exchange)

    def lost(self) -> None:
        """Note that the client is gone, or has given this answer up."""
        if not self.closed:
            self.closed = True
            self.on_close()

    def drained(self) -> None:
        """Note that some of it was sent."""
        if self.full and self._exchange.waiting <= FULL_BYTES // 2:
            self.full = False
            if not self.closed:
                self.on_room()
