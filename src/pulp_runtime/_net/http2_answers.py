"""The answering half of an HTTP/2 connection: what an application calls, and how much the client takes at a time.

    respond, Http2Stream ──▶ Exchange.pieces ──▶ ready ── _pump ──▶ h2 ──▶ transport
                                                    ▲        │ no window
                                        window ─────┘◀── blocked

Streams take turns, a frame each. What the windows, the client's or the socket's, have no room for waits here, and
where an application writes in pieces it is told.
"""

from __future__ import annotations

import asyncio
import struct
import sys
from collections import deque
from typing import Any, Final

from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError

from pulp_runtime._net import http2_fields
from pulp_runtime._net.exchange import Request, Service, TakenOver
from pulp_runtime._net.http2_answer import Http2Answer, assemble, assemble_head
from pulp_runtime._net.http2_gate import (
    BYTES_PER_POINT,
    DATA,
    END_HEADERS,
    END_STREAM,
    FRAME_BYTES,
    GOAWAY,
    HEADERS,
    POINTS_PER_REQUEST,
    Gate,
)
from pulp_runtime._net.http2_protocol import Protocol, frame_head
from pulp_runtime._net.http2_stream import Exchange, Http2Stream
from pulp_runtime._net.peer import SocketPeer
from pulp_runtime._net.response import RenderedFields

UNSENT_BYTES: Final = 256 * 1024 * 1024
"""Bytes of answers that may wait for one client. Past it the next answer is dropped and its stream reset."""
_WRITE_BYTES: Final = 64 * 1024
_TURN_BYTES: Final = 1024 * 1024
"""Sent to one client before others have their turn."""


class Http2Answers(SocketPeer):
    """See `exchange.Connection`; `http2.Http2Connection` is the rest."""

    __slots__ = (
        "_blocked",
        "_closing",
        "_ended",
        "_exchanges",
        "_flushing",
        "_gate",
        "_h2",
        "_idle_since",
        "_loop",
        "_moved",
        "_out",
        "_ready",
        "_said",
        "_sent",
        "_waiting",
        "_window",
    )

    _loop: asyncio.AbstractEventLoop

    def __init__(self, service: Service) -> None:
        super().__init__(service)
        head_bytes = service.settings.head_bytes
        self._h2: Final = Protocol(head_bytes)
        self._gate: Final = Gate(head_bytes + FRAME_BYTES, service.time, self._introduce)
        self._out: Final = bytearray()  # frames of answers that `h2` does not see
        self._window = 65_535  # of a new stream, as the client grants it
        self._exchanges: Final[dict[int, Exchange]] = {}
        self._ready: Final[deque[Exchange]] = deque()
        self._blocked: Final[dict[int, Exchange]] = {}
        self._waiting = 0  # bytes of answers that wait
        self._moved = 0.0  # when the socket last took something
        self._sent = 0.0  # when the connection's window last let something pass
        self._idle_since = 0.0
        self._closing = False  # no new streams
        self._said = False  # the client knows that
        self._ended = False  # nothing at all any more
        self._flushing = False

    def pause_writing(self) -> None:
        """Note that the client is slower than its answers."""
        self._write_paused = True

    def resume_writing(self) -> None:
        """Go on with what waited for room."""
        self._write_paused = False
        self._moved = self._service.time()
        self._flush()

    # -- what the application calls

    def render(self, request: Request, fields: RenderedFields, body: bytes) -> Http2Answer:
        """See `exchange.Connection`."""
        return assemble(fields, body, request.line.method)

    def respond(self, request: Request, answer: Http2Answer, *, close: bool = False) -> None:
        """See `exchange.Connection`."""
        exchange = self._exchanges.get(request.stream)
        if exchange is None or exchange.request is not request:
            return
        exchange.request = None
        self._answer(exchange, answer)
        if close:
            self.close_when_idle()

    def send_direct(self, request: Request, answer: Any) -> Any:  # noqa: ARG002 - nothing of it can be sent
        """See `exchange.Connection`. Streams share windows and tables, so everything passes through the loop."""
        return answer

    def begin(self, request: Request, fields: RenderedFields) -> Http2Stream | None:
        """See `exchange.Connection`."""
        exchange = self._exchanges.get(request.stream)
        if exchange is None or exchange.request is not request:
            return None
        exchange.request = None
        silent = exchange.method == "HEAD" or fields.bodiless
        length = None if fields.chunked else fields.content_length
        exchange.head = assemble_head(fields, length)
        exchange.stream = stream = Http2Stream(self, exchange, length, silent=silent)
        self._queue(exchange)
        if fields.close:
            self.close_when_idle()
        return stream

    def take_over(self, request: Request) -> TakenOver | None:  # noqa: ARG002 - whichever it is
        """See `exchange.Connection`. Others use the socket too."""
        return None

    # -- what its streams call

    def push(self, exchange: Exchange, data: bytes) -> None:
        """See `Sender`."""
        self._add(exchange, data)
        self._queue(exchange)

    def finish(self, exchange: Exchange) -> None:
        """See `Sender`."""
        exchange.last = True
        self._queue(exchange)

    def break_off(self, exchange: Exchange) -> None:
        """See `Sender`."""
        self._reset(exchange, ErrorCodes.INTERNAL_ERROR)

    # -- sending

    def _answer(self, exchange: Exchange, answer: Http2Answer) -> None:
        """Send a complete answer; drop it when too much waits already."""
        if self._waiting > UNSENT_BYTES:
            self._reset(exchange, ErrorCodes.ENHANCE_YOUR_CALM)
            return
        exchange.head = answer.head
        if answer.body:
            self._add(exchange, answer.body)
        exchange.last = True
        self._queue(exchange)

    def _add(self, exchange: Exchange, data: bytes) -> None:
        exchange.add(data)
        self._waiting += len(data)

    def _queue(self, exchange: Exchange) -> None:
        """Have a stream send what it can."""
        if not exchange.queued:
            exchange.queued = True
            if exchange.number not in self._blocked:
                exchange.moved = self._service.time()
            self._blocked.pop(exchange.number, None)
            self._ready.append(exchange)
        self._flush_soon()

    def _unblock(self, number: int) -> None:
        """Have a stream that waited for a window send again; all of them for 0."""
        found = list(self._blocked.values()) if not number else [self._blocked.get(number)]
        for exchange in found:
            if exchange is not None:
                self._queue(exchange)

    def _flush_soon(self) -> None:
        """Send what can be sent, together with what else happens in this turn of the loop."""
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        """Send what can be sent."""
        self._flushing = False
        if self._ended or self._transport.is_closing():
            return
        try:
            self._send_turn()
        except ProtocolError as error:  # a mistake of ours: better no connection than one that hangs
            self._transport.abort()
            self._loop.call_exception_handler({"message": "HTTP/2 answer", "exception": error, "protocol": self})
            return
        if self._ready and not self._write_paused:
            self._flush_soon()
        if self._closing and not self._exchanges:
            self._say_goodbye()
            self._linger()

    def _send_turn(self) -> None:
        left = _TURN_BYTES
        while self._ready and not self._write_paused and left > 0:
            unwritten = 0
            while self._ready and unwritten < _WRITE_BYTES:
                unwritten += self._send_some(self._ready.popleft())
            self._write()
            left -= unwritten
        self._write()

    def _write(self) -> None:
        data = self._h2.data_to_send()
        if self._out:
            data = bytes(self._out) + data
            self._out.clear()
        if data:
            self._transport.write(data)

    def _send_some(self, exchange: Exchange) -> int:
        """Send one frame of a stream, beside its head; return about how many bytes that was."""
        exchange.queued = False
        number = exchange.number
        if self._exchanges.get(number) is not exchange:
            return 0
        if number in self._gate.plain:
            if sent := self._send_plain(exchange):
                return sent
            self._introduce(number)
        h2 = self._h2
        sent = 0
        head, exchange.head = exchange.head, None
        if head is not None:
            sent = len(head)
            h2.send_headers(number, http2_fields.headers(head), exchange.last and not exchange.pieces)
        if exchange.pieces:
            window = min(h2.local_flow_control_window(number), FRAME_BYTES)
            if window <= 0:
                self._blocked[number] = exchange
                return sent
            piece = exchange.take(window)
            sent += len(piece)
            self._waiting -= len(piece)
            self._gate.earn(len(piece) / BYTES_PER_POINT)
            h2.send_data(number, piece, exchange.last and not exchange.pieces)
            exchange.moved = self._sent = self._service.time()
        elif exchange.last and head is None:
            h2.send_data(number, b"", end_stream=True)
        if exchange.pieces:
            exchange.queued = True
            self._ready.append(exchange)
        elif exchange.last:
            self._complete(exchange)
        if exchange.stream is not None:
            exchange.stream.drained()
        return sent

    def _send_plain(self, exchange: Exchange) -> int:
        """Send a complete answer to a plain request in one go; return its length, 0 when it does not fit."""
        head = exchange.head
        size = exchange.waiting
        h2 = self._h2
        if not exchange.last or head is None or len(head) > FRAME_BYTES:
            return 0
        if size > FRAME_BYTES or size > self._window or size > h2.outbound_flow_control_window:
            return 0
        number = exchange.number
        out = self._out
        if size:
            out += frame_head(len(head), HEADERS, END_HEADERS, number)
            out += head
            out += frame_head(size, DATA, END_STREAM, number)
            out += b"".join(exchange.pieces)
            h2.outbound_flow_control_window -= size
            self._sent = self._service.time()
        else:
            out += frame_head(len(head), HEADERS, END_HEADERS | END_STREAM, number)
            out += head
        self._gate.earn(size / BYTES_PER_POINT)
        self._complete(exchange)
        return len(head) + size + 1

    def _introduce(self, number: int) -> None:
        """Have `h2` know a stream, if it does not: from now on it is one like any other."""
        if number in self._gate.plain:
            self._gate.plain.discard(number)
            self._h2.introduce(number)

    def _complete(self, exchange: Exchange) -> None:
        """Forget a stream whose answer has been sent; the rest of its body, if there is one, is of no use."""
        if not exchange.ended:
            self._h2.reset_stream(exchange.number, ErrorCodes.NO_ERROR)
        self._gate.earn(POINTS_PER_REQUEST)
        self._forget(exchange, "the request is answered")

    def _reset(self, exchange: Exchange, code: ErrorCodes) -> None:
        """Break a stream off, and tell the client; its application is not told."""
        if self._exchanges.get(exchange.number) is exchange:
            self._introduce(exchange.number)
            try:
                self._h2.reset_stream(exchange.number, code)
            except ProtocolError:
                pass  # the client was faster
            self._forget(exchange, "the request is broken off")
            self._flush_soon()

    def _forget(self, exchange: Exchange, reason: str) -> None:
        """Give up a stream, and all that was kept for it."""
        self._exchanges.pop(exchange.number, None)
        self._blocked.pop(exchange.number, None)
        self._gate.plain.discard(exchange.number)
        self._waiting -= exchange.waiting
        exchange.waiting = 0
        exchange.pieces.clear()
        if exchange.body is not None:
            exchange.body.release(reason)
            exchange.body = None
        if not self._exchanges:
            self._idle_since = 0.0

    def _go_away(self, code: int, reason: bytes = b"") -> None:
        """Say that no more streams are wanted.

        Not by way of the library: it would let nothing in flight be answered any more (RFC 9113 §6.8).
        """
        self._write()
        last = self._gate.highest
        self._transport.write(frame_head(8 + len(reason), GOAWAY, 0, 0) + struct.pack(">LL", last, code) + reason)

    def _say_goodbye(self) -> None:
        """Tell the client that no more requests are taken, unless it knows."""
        if not self._said and not self._transport.is_closing():
            self._said = True
            self._go_away(ErrorCodes.NO_ERROR)

    def close_when_idle(self) -> None:
        """Take no new requests; close when none is in flight.

        While one is, the client is told a second or two later: some drop all they wait for when they are told. What
        they ask meanwhile is refused in a way that lets them ask elsewhere.
        """
        if not self._closing and not self._ended:
            self._closing = True
            if not self._exchanges:
                self._say_goodbye()
                self._close()

    def _linger(self) -> None:
        """Shut our side, and throw away what comes: closing at once could have the kernel lose our last words."""
        transport = self._transport
        if self._eof or transport.is_closing() or not transport.can_write_eof():
            self._close()
            return
        self._ended = True
        transport.write_eof()
        self._watch_unsent(self._service.settings.linger_seconds)
        self._unsent = sys.maxsize  # a long answer gets the time of any long answer from then on

    def _close(self) -> None:
        """See `SocketPeer`."""
        self._ended = True
        super()._close()
