"""One HTTP/1 connection: bytes in, requests out, answers back in order.

    IDLE ──▶ HEAD ──▶ BODY ──▶ BUSY ──▶ IDLE          one request at a time
      └────────────────────────▲ │                    a known head in one read goes straight through
                                 ├──▶ DRAINING        the client does not take its answer
                                 └──▶ CLOSED          the answer was the last one
    any fault ──▶ LINGER ──▶ CLOSED                   answered, and thrown away what still comes

Framing is ours, from the first byte to the last: a request ends where *this*
file says it does, and what follows stays in the buffer until the request in
flight is answered.

There are no timers here. A connection has a `deadline`, which the listener
compares with the clock once a second; on the way of a request nobody asks for
the time more than once. A deadline of 0 means "idle since just now": the sweep
sets the real one.
"""

from __future__ import annotations

import asyncio
import sys
from math import inf
from typing import Final, cast

from pulp_runtime._net import response
from pulp_runtime._net.body import BodyReader
from pulp_runtime._net.direct import DirectWriter
from pulp_runtime._net.exchange import Request, Service, address_text
from pulp_runtime._net.fault import RequestFault, bad
from pulp_runtime._net.framing import take_head
from pulp_runtime._net.head import HeaderBlock, RequestLine
from pulp_runtime.abi.http import pack_remote_addr

_IDLE, _HEAD, _BODY, _BUSY, _DRAINING, _LINGER, _CLOSED = range(7)  # in this order: what follows BUSY reads nothing

_DIRECT_SECONDS: Final = 30.0
"""How soon the sweep looks whether an answer was sent directly, when no new request has shown it before."""


class Http1Connection(asyncio.Protocol):
    """One client.

    Attributes:
        deadline: when the sweep has to look, by the loop's clock.
        remote_addr: `ip:port` of the TCP peer, IPv6 in brackets; no header changes it.
        packed_remote_addr: the same, by `abi.http.pack_remote_addr`.
    """

    # fmt: off
    __slots__ = (
        "_advancing", "_blocks", "_body", "_buffer", "_closing", "_direct", "_eof", "_head", "_lines",
        "_reading_paused", "_request", "_scanned", "_service", "_state", "_transport", "_unsent",
        "_write_paused", "deadline", "packed_remote_addr", "remote_addr",
    )
    # fmt: on

    _transport: asyncio.Transport
    _head: tuple[RequestLine, HeaderBlock]

    def __init__(self, service: Service) -> None:
        self._service: Final = service
        self._lines: Final = service.heads.lines
        self._blocks: Final = service.heads.blocks
        self._state = _IDLE
        self.deadline = 0.0
        self.remote_addr = ""
        self.packed_remote_addr = b""
        self._request: Request | None = None
        self._direct: Final = DirectWriter()
        self._buffer: Final = bytearray()
        self._scanned = 0  # bytes of an unfinished head that were looked at
        self._body: BodyReader | None = None
        self._unsent = 0  # bytes waiting for the client when the deadline was set
        self._advancing = self._closing = self._eof = False
        self._reading_paused = self._write_paused = False

    # -- what the loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a place, or answer 503 if there is none."""
        self._transport = transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name
        service = self._service
        full = len(service.connections) >= service.settings.connections
        if full:
            transport.write(response.simple(503, "too many connections", keep_alive=False))
        if full or service.closing:
            self._close()
            return
        self.remote_addr = address_text(transport.get_extra_info("peername"))
        self.packed_remote_addr = pack_remote_addr(self.remote_addr)
        service.connections.add(self)
        service.changed()

    def data_received(self, data: bytes) -> None:
        """Take bytes; a head seen before, alone in one read, goes straight to the handler."""
        state = self._state
        if state == _BUSY and self._request.sent:  # type: ignore[union-attr]  # BUSY means there is one
            state = self._state = _IDLE
        if state == _IDLE:
            first, _, rest = data.partition(b"\r\n")
            line = self._lines.get(first)
            if line is not None:
                block = self._blocks.get(rest)
                if block is not None:
                    self._dispatch(line, block, b"")
                    return
        elif state >= _LINGER:
            return
        self._buffer.extend(data)
        self._advance()

    def eof_received(self) -> bool:
        """Answer what is in flight, then close; a client may shut its side down early."""
        self._eof = True
        self.settle()
        if self._state < _BUSY:
            self._advance()
        elif self._state == _LINGER:
            self._close()
        return self._transport.can_write_eof()  # TLS has no half-close; there the transport ends it

    def connection_lost(self, _exc: Exception | None) -> None:
        """Give up the place; tell the application if somebody still works for this client."""
        service = self._service
        self.settle()
        request, self._request = self._request, None
        self._state = _CLOSED
        self._direct.close()
        self.deadline = inf
        self._release_body()
        self._buffer.clear()
        service.connections.discard(self)
        service.changed()
        if request is not None and service.on_disconnect is not None:
            service.on_disconnect(request)

    def pause_writing(self) -> None:
        """Note that the client is slower than its answers."""
        self._write_paused = True

    def resume_writing(self) -> None:
        """Go on with the next request, which waited for room."""
        self._write_paused = False
        if self._state == _DRAINING:
            self._await_next()

    # -- what the application calls

    def respond(self, request: Request, data: bytes, *, close: bool = False) -> None:
        """Send a complete answer and go on with the next request.

        Call it on the loop's thread. Nothing happens when the request is
        answered already or its connection is gone.

        Args:
            request: which one.
            data: the complete answer.
            close: end the connection, whatever the client asked for.
        """
        if request is not self._request:
            return
        self._request = None
        self._send(data, keep_alive=request.keep_alive and not close)

    def send_direct(self, request: Request, data: bytes) -> bytes | None:
        """Send a complete answer, that leaves the connection open, from any thread.

        Returns:
            None when that was all; otherwise what is left of `data`, maybe nothing, for `respond` on the loop.
        """
        if request is not self._request or not request.direct:
            return data
        written = self._direct.write(data)
        if written < len(data):
            return data[written:]
        request.sent = True
        # Bytes that come after this line find `sent`; for those that came before it, the loop must be told.
        return b"" if self._buffer or self._eof or self._closing else None

    def settle(self) -> None:
        """Notice an answer that was sent directly."""
        if self._state == _BUSY and self._request is not None and self._request.sent:
            self._request = None
            self._state = _IDLE
            self.deadline = 0.0

    def close_when_idle(self) -> None:
        """Close now if nothing is in flight, else after the answer, which says so."""
        self._closing = True
        self.settle()
        if self._request is not None:
            self._request.keep_alive = False
        elif self._state in (_IDLE, _DRAINING):
            self._close()

    def abort(self) -> None:
        """Close without waiting for anything."""
        self._transport.abort()

    def expire(self, now: float) -> None:
        """Act on a deadline that has passed; called by the sweep."""
        self.settle()
        if self._state == _BUSY:
            self.deadline = now + _DIRECT_SECONDS
            return
        settings = self._service.settings
        unsent = self._transport.get_write_buffer_size()
        if self._state == _IDLE and not self.deadline:
            self._direct.close()  # an idle client costs one descriptor
            self.deadline = now + settings.idle_seconds
        elif self._state in (_HEAD, _BODY):
            self._refuse(RequestFault(408, "request timeout"))
        elif self._state >= _DRAINING and 0 < unsent < self._unsent:
            self._unsent = unsent
            self.deadline = now + settings.write_stall_seconds
        elif self._state in (_IDLE, _LINGER) and not unsent:
            self._close()
        else:
            self._transport.abort()

    # -- reading

    def _advance(self) -> None:
        """Read requests out of the buffer until one is in flight or more bytes are needed."""
        if self._advancing:  # the handler answered at once; the loop below goes on
            return
        self._advancing = True
        try:
            while self._buffer and self._state < _BUSY:
                if not (self._read_body() if self._state == _BODY else self._read_head()):
                    break
            if self._eof and self._state < _BUSY:
                self._end_of_input()
        except RequestFault as fault:
            self._refuse(fault)
        finally:
            self._advancing = False
        waiting = self._state in (_BUSY, _DRAINING) and len(self._buffer) > self._service.settings.pipeline_bytes
        if waiting != self._reading_paused and not self._transport.is_closing():
            self._reading_paused = waiting
            if waiting:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    def _read_head(self) -> bool:
        """Read a head; return False if it is not all here."""
        buffer = self._buffer
        if self._state == _IDLE:
            self._state = _HEAD
            self._scanned = 0
            self.deadline = self._service.time() + self._service.settings.header_seconds
        head = take_head(buffer, self._scanned, self._service.settings)
        if head is None:
            self._scanned = len(buffer)
            return False
        line, block = self._head = self._service.heads.parse(head)
        has_body = block.chunked or bool(block.content_length)
        if line.redirect or line.path == "*":
            keep_alive = self._keeps_alive(line, block) and not has_body
            self._send(response.unrouted(line.redirect, line.method, keep_alive, not line.minor), keep_alive=keep_alive)
        elif has_body:
            self._start_body(block)
        else:
            self._dispatch(line, block, b"")
        return True

    def _start_body(self, block: HeaderBlock) -> None:
        """Get ready for a body; ask for it if the client waits to be asked."""
        self._body = BodyReader(block, self._service)
        self._state = _BODY
        self.deadline = self._service.time() + self._service.settings.body_stall_seconds
        if block.expect_continue and not self._buffer:
            self._transport.write(response.CONTINUE)

    def _read_body(self) -> bool:
        """Read a body; return False if it is not all here."""
        assert self._body is not None  # noqa: S101 - what the state BODY means, said to the type checker
        body = self._body.read(self._buffer)
        if body is None:
            self.deadline = self._service.time() + self._service.settings.body_stall_seconds
            return False
        self._release_body()
        self._dispatch(*self._head, body)
        return True

    def _release_body(self) -> None:
        """Forget the body that is being read, if there is one."""
        if self._body is not None:
            self._body.release()
            self._body = None

    def _end_of_input(self) -> None:
        """Act on the client's last byte being behind us."""
        if self._state == _BODY:
            raise bad("read body: unexpected EOF")
        if self._state == _HEAD:
            raise bad("unexpected EOF")
        self._close()

    # -- answering

    def _keeps_alive(self, line: RequestLine, block: HeaderBlock) -> bool:
        """Return whether the connection outlives this request (RFC 9112 §9.3)."""
        if self._closing:
            return False
        return block.keep_alive is not False if line.minor else block.keep_alive is True

    def _dispatch(self, line: RequestLine, block: HeaderBlock, body: bytes) -> None:
        """Hand a request to the application."""
        service = self._service
        self._state = _BUSY
        now = service.time()
        keep_alive = self._keeps_alive(line, block)
        self._request = request = Request(self, line, block, body, keep_alive, now)
        if (
            keep_alive
            and not self._buffer
            and not self._transport.get_write_buffer_size()
            and self._direct.open(self._transport)
        ):
            request.direct = True
            self.deadline = now + _DIRECT_SECONDS
        else:
            self.deadline = inf
        try:
            service.handler(request)
        except Exception as error:  # noqa: BLE001 - a bug in the application ends this connection and no other
            self._state = _CLOSED
            self._transport.abort()
            asyncio.get_running_loop().call_exception_handler(
                {"message": "the HTTP handler raised", "exception": error, "protocol": self}
            )

    def _send(self, data: bytes, *, keep_alive: bool) -> None:
        """Write an answer and decide what comes after it."""
        transport = self._transport
        if transport.is_closing():  # its end is known, `connection_lost` is on its way
            self._state = _CLOSED
            return
        transport.write(data)
        if not keep_alive:
            self._finish()
        elif self._write_paused:
            self._state = _DRAINING
            self._watch_unsent(self._service.settings.write_stall_seconds)
        else:
            self._await_next()

    def _await_next(self) -> None:
        """Become idle, and read what came in the meantime."""
        self._state = _IDLE
        self.deadline = 0.0
        if self._buffer or self._eof:
            self._advance()

    def _refuse(self, fault: RequestFault) -> None:
        """Answer a request that cannot be read, and end the connection."""
        self._release_body()
        self._buffer.clear()
        if not self._transport.is_closing():
            self._transport.write(response.simple(fault.status, fault.reason, keep_alive=False))
            self._linger()

    def _finish(self) -> None:
        """End the connection after its last answer."""
        if self._buffer:
            self._buffer.clear()
            self._linger()
        else:
            self._close()

    def _linger(self) -> None:
        """Shut our side and throw away what comes.

        Closing at once would have the kernel answer the bytes in flight with a
        reset, and the client would lose the answer (RFC 9112 §9.6).
        """
        if self._eof or not self._transport.can_write_eof():
            self._close()
            return
        self._state = _LINGER
        self._transport.write_eof()
        if self._reading_paused:
            self._reading_paused = False
            self._transport.resume_reading()
        self._watch_unsent(self._service.settings.linger_seconds)
        self._unsent = sys.maxsize  # a long answer gets the time of any long answer from then on

    def _close(self) -> None:
        """Close once everything is sent; the sweep sees that this does not take for ever."""
        self._state = _CLOSED
        self._transport.close()
        self._watch_unsent(self._service.settings.write_stall_seconds)

    def _watch_unsent(self, seconds: float) -> None:
        """Have the sweep look whether the client takes what is written for it."""
        self._unsent = self._transport.get_write_buffer_size()
        self.deadline = self._service.time() + seconds
