"""One HTTP/1 connection: bytes in, requests out, answers back in order.

    IDLE ──▶ HEAD ──▶ BODY ──▶ BUSY ──▶ IDLE          one request at a time
      └────────────────────────▲ │                    a known head in one read goes straight through
                                 ├──▶ DRAINING        the client does not take its answer
                                 └──▶ CLOSED          the answer was the last one
    any fault ──▶ LINGER ──▶ CLOSED                   answered, and thrown away what still comes

Framing is ours, from the first byte to the last: a request ends where *this*
file says it does, and what follows stays in the buffer until the request in
flight is answered.

A deadline of 0 means "idle since just now": the sweep sets the real one.

BUSY also covers an answer in pieces, and a body that is handed on as it arrives:
then the next request begins when both have ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import inf
from typing import Final

from pulp_runtime._net import answers
from pulp_runtime._net.body import BodyReader, UploadReader
from pulp_runtime._net.exchange import Request, Service
from pulp_runtime._net.fault import RequestFault, bad
from pulp_runtime._net.framing import take_head
from pulp_runtime._net.head import HeaderBlock, RequestLine
from pulp_runtime._net.http1_answers import BODY, BUSY, CLOSED, DRAINING, GONE, HEAD, IDLE, LINGER, Http1Answers
from pulp_runtime._net.response import CONTINUE, assemble
from pulp_runtime._net.upload import Upload

_BUSY_SECONDS: Final = 30.0
"""How soon the sweep looks after a request in flight: its answer may have been sent without the loop."""


class Http1Connection(Http1Answers):
    """One client; see `exchange.Connection` and `SocketPeer`."""

    __slots__ = ("_advancing", "_blocks", "_body", "_head", "_lines", "_scanned")

    _head: tuple[RequestLine, HeaderBlock]

    def __init__(self, service: Service) -> None:
        super().__init__(service)
        self._lines: Final = service.heads.lines
        self._blocks: Final = service.heads.blocks
        self._scanned = 0  # bytes of an unfinished head that were looked at
        self._body: BodyReader | None = None
        self._advancing = False

    # -- what the loop calls

    def data_received(self, data: bytes) -> None:
        """Take bytes; a head seen before, alone in one read, goes straight to the handler."""
        state = self._state
        if state == BUSY and self._request is not None and self._request.sent:
            state = self._state = IDLE
        if state == IDLE:
            first, _, rest = data.partition(b"\r\n")
            line = self._lines.get(first)
            if line is not None:
                block = self._blocks.get(rest)
                if block is not None:
                    self._dispatch(line, block, b"")
                    return
        elif state >= LINGER:
            return
        self._buffer.extend(data)
        self._advance()

    def eof_received(self) -> bool:
        """Answer what is in flight, then close; a client may shut its side down early."""
        self._eof = True
        self.settle()
        if self._state < BUSY or self._upload is not None:
            self._advance()
        elif self._state == LINGER or self._stream is not None:  # who shuts its side waits for no more pieces
            self._close()
        elif self._request is not None and self._service.on_disconnect is not None:
            self._service.on_disconnect(self._request)
        return self._transport.can_write_eof()

    def connection_lost(self, _exc: Exception | None) -> None:
        """Give up the place; tell the application if somebody still works for this client."""
        if self._state == GONE:
            return
        self.settle()
        request, self._request = self._request, None
        self._state = CLOSED
        self._direct.close()
        self._release_body()
        self._end_upload("the client is gone")
        self._buffer.clear()
        self._leave()
        if self._stream is not None:
            self._stream.lost()
        if request is not None and self._service.on_disconnect is not None:
            self._service.on_disconnect(request)

    def close_when_idle(self) -> None:
        """Close now if nothing is in flight, else after the answer, which says so."""
        self._closing = True
        self.settle()
        if self._request is not None:
            self._request.keep_alive = False
        elif self._state in (IDLE, DRAINING):
            self._close()

    def expire(self, now: float) -> None:
        """Act on a deadline that has passed; called by the sweep."""
        self.settle()
        if self._state == BUSY:
            self._expire_busy(now)
        elif self._state == IDLE and not self.deadline:
            self._direct.close()  # an idle client costs one descriptor
            self.deadline = now + self.idle_seconds
        elif self._state in (HEAD, BODY):
            self._refuse(RequestFault(408, "request timeout"))
        elif self._state >= DRAINING and self._takes(now):
            pass
        elif self._state in (IDLE, LINGER) and not self._transport.get_write_buffer_size():
            self._close()
        else:
            self._transport.abort()

    def _expire_busy(self, now: float) -> None:
        """Look after a request in flight: its body may be stuck, and so may its answer."""
        if self._upload is not None and not self._upload.upload.full:
            self._break_upload(RequestFault(408, "request timeout"))
        elif self._stream is not None and self._transport.get_write_buffer_size() and not self._takes(now):
            if self._unsent:
                self._transport.abort()  # `connection_lost` tells the stream
            else:
                self._watch_unsent(self._service.settings.write_stall_seconds)
        elif self.deadline <= now:
            self.deadline = now + min(_BUSY_SECONDS, self.idle_seconds)

    # -- reading

    def _advance(self) -> None:
        """Read requests out of the buffer until one is in flight or more bytes are needed."""
        if self._advancing:  # the handler answered at once; the loop below goes on
            return
        self._advancing = True
        try:
            while self._buffer and (self._state < BUSY or self._upload is not None):
                if not self._read_some():
                    break
            if self._eof and (self._state < BUSY or self._upload is not None):
                self._end_of_input()
        except RequestFault as fault:
            if self._upload is not None:
                self._break_upload(fault)
            else:
                self._refuse(fault)
        finally:
            self._advancing = False
        self._pace_reading()

    def _read_some(self) -> bool:
        """Read what comes next; return False if it is not all here."""
        if self._upload is not None:
            return self._read_upload()
        return self._read_body() if self._state == BODY else self._read_head()

    def _pace_reading(self) -> None:
        """Listen to the client unless it is ahead of its answers, or of whoever takes its body."""
        if self._upload is not None:
            waiting = self._upload.upload.full
        else:
            waiting = self._state in (BUSY, DRAINING) and len(self._buffer) > self._service.settings.pipeline_bytes
        if waiting != self._reading_paused and not self._transport.is_closing():
            self._reading_paused = waiting
            if waiting:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    def _read_head(self) -> bool:
        """Read a head; return False if it is not all here."""
        buffer = self._buffer
        if self._state == IDLE:
            self._state = HEAD
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
            fields, body = answers.unrouted(line.redirect, line.method)
            self._send(assemble(fields, body, line.method, keep_alive, not line.minor), keep_alive=keep_alive)
        elif has_body:
            self._start_body(line, block)
        else:
            self._dispatch(line, block, b"")
        return True

    def _start_body(self, line: RequestLine, block: HeaderBlock) -> None:
        """Get ready for a body; ask for it if the client waits to be asked."""
        limit, streamed = self._service.bodies(line, block)
        if streamed:
            self._upload = UploadReader(block, self._service, Upload(self._upload_drained()), limit)
            self._dispatch(line, block, b"")
        else:
            self._body = BodyReader(block, self._service, limit)
            self._state = BODY
        self.deadline = self._service.time() + self._service.settings.body_stall_seconds
        if block.expect_continue and not self._buffer and not self._transport.is_closing():
            self._transport.write(CONTINUE)

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

    def _read_upload(self) -> bool:
        """Hand on what is here of a body; return False if it is not all here."""
        assert self._upload is not None  # noqa: S101 - the caller looked
        self._upload.read(self._buffer)
        if not self._upload.upload.complete:
            self.deadline = self._service.time() + self._service.settings.body_stall_seconds
            return False
        self._end_upload("")
        self.deadline = self._service.time() + _BUSY_SECONDS
        return False

    def _upload_drained(self) -> Callable[[], None]:
        """Return what a reader of the body calls, on its thread, when it has taken some."""
        loop = asyncio.get_running_loop()

        def drained() -> None:
            try:
                loop.call_soon_threadsafe(self._resume_upload)
            except RuntimeError:  # the loop is closed; nobody waits for more
                pass

        return drained

    def _resume_upload(self) -> None:
        """Listen to the client again, if the reader of its body has caught up."""
        if self._upload is not None:
            self._upload.count()
            if self._reading_paused and not self._upload.upload.full:
                self.deadline = self._service.time() + self._service.settings.body_stall_seconds
            self._pace_reading()

    def _break_upload(self, fault: RequestFault) -> None:
        """Tell the reader of a body that the rest will not come, and the client why if nobody has answered it."""
        self._end_upload(fault.reason)
        request = self._request
        if request is not None:
            request.keep_alive = False
            self._buffer.clear()
            self.deadline = inf
        elif self._stream is not None:
            self._stream.lost()
            self._transport.abort()

    def _release_body(self) -> None:
        """Forget the body that is being read, if there is one."""
        if self._body is not None:
            self._body.release()
            self._body = None

    def _end_of_input(self) -> None:
        """Act on the client's last byte being behind us."""
        if self._state == BODY or self._upload is not None:
            raise bad("read body: unexpected EOF")
        if self._state == HEAD:
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
        self._state = BUSY
        now = service.time()
        keep_alive = self._keeps_alive(line, block)
        self._request = request = Request(self, line, block, body, keep_alive, now)
        if self._upload is not None:
            request.upload = self._upload.upload
        elif (
            keep_alive
            and not self._buffer
            and not self._transport.get_write_buffer_size()
            and self._direct.open(self._transport)
        ):
            request.direct = True
            self.deadline = now + min(_BUSY_SECONDS, self.idle_seconds)
        else:
            self.deadline = inf
        try:
            service.handler(request)
        except Exception as error:  # noqa: BLE001 - a bug in the application ends this connection and no other
            self._state = CLOSED
            self._transport.abort()
            asyncio.get_running_loop().call_exception_handler(
                {"message": "the HTTP handler raised", "exception": error, "protocol": self}
            )

    def _await_next(self) -> None:
        """Become idle, and read what came in the meantime."""
        self._state = IDLE
        self.deadline = 0.0
        if self._buffer or self._eof:
            self._advance()

    def _refuse(self, fault: RequestFault) -> None:
        """Answer a request that cannot be read, and end the connection."""
        self._release_body()
        self._buffer.clear()
        if not self._transport.is_closing():
            self._transport.write(answers.last_words(fault.status, fault.reason))
            self._linger()
