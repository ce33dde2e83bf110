"""The answering half of an HTTP/1 connection: what an application calls, and what comes after an answer."""

from __future__ import annotations

import sys
from typing import Final

from pulp_runtime._net.body import UploadReader
from pulp_runtime._net.direct import DirectWriter
from pulp_runtime._net.exchange import Request, Service, TakenOver
from pulp_runtime._net.http1_stream import Http1Stream
from pulp_runtime._net.peer import SocketPeer
from pulp_runtime._net.response import RenderedFields, assemble, assemble_head

IDLE, HEAD, BODY, BUSY, DRAINING, LINGER, CLOSED, GONE = range(8)
"""States, in this order: what follows BUSY reads nothing. The drawing is in `http1`."""


class Http1Answers(SocketPeer):
    """See `exchange.Connection`; `http1.Http1Connection` is the rest."""

    __slots__ = ("_buffer", "_closing", "_direct", "_reading_paused", "_request", "_state", "_stream", "_upload")

    def __init__(self, service: Service) -> None:
        super().__init__(service)
        self._state = IDLE
        self._request: Request | None = None
        self._direct: Final = DirectWriter()
        self._buffer: Final = bytearray()  # what the client has sent and nobody has read
        self._upload: UploadReader | None = None
        self._stream: Http1Stream | None = None
        self._closing = self._reading_paused = False

    def pause_writing(self) -> None:
        """Note that the client is slower than its answers."""
        self._write_paused = True
        if self._stream is not None:
            self._stream.set_full(True)

    def resume_writing(self) -> None:
        """Go on with the next request, or the next piece, which waited for room."""
        self._write_paused = False
        if self._state == DRAINING:
            self._await_next()
        elif self._stream is not None:
            self._stream.set_full(False)

    # -- what the application calls

    def render(self, request: Request, fields: RenderedFields, body: bytes) -> bytes:
        """See `exchange.Connection`."""
        line = request.line
        keep_alive = request.keep_alive
        if request.upload is not None and not request.upload.complete:
            keep_alive = False  # the rest of the body is in the way of another request
        return assemble(fields, body, line.method, keep_alive, not line.minor)

    def respond(self, request: Request, answer: bytes, *, close: bool = False) -> None:
        """See `exchange.Connection`."""
        if request is not self._request:
            return
        self._request = None
        self._send(answer, keep_alive=request.keep_alive and not close)

    def begin(self, request: Request, fields: RenderedFields) -> Http1Stream | None:
        """See `exchange.Connection`."""
        transport = self._transport
        if request is not self._request or request.sent or transport.is_closing():
            return None
        self._request = None
        line = request.line
        keep_alive = request.keep_alive and not fields.close
        head, framing = assemble_head(fields, line.method, keep_alive, not line.minor)
        self._stream = stream = Http1Stream(
            transport, framing, fields.content_length or 0, lambda intact: self._stream_ended(keep_alive and intact)
        )
        self._direct.close()
        transport.write(head)
        stream.full = self._write_paused
        self._watch_unsent(self._service.settings.write_stall_seconds)
        return stream

    def take_over(self, request: Request) -> TakenOver | None:
        """See `exchange.Connection`."""
        if request is not self._request or self._upload is not None or self._transport.is_closing():
            return None
        self._request = None
        self._state = GONE
        self._direct.close()
        unread = bytes(self._buffer)
        self._buffer.clear()
        if self._reading_paused:
            self._reading_paused = False
            self._transport.resume_reading()
        self._leave()
        return TakenOver(self._transport, unread, self._service)

    def send_direct(self, request: Request, answer: bytes) -> bytes | None:
        """See `exchange.Connection`. What is left may be nothing: then only the loop has to be told."""
        if request is not self._request or not request.direct:
            return answer
        written = self._direct.write(answer)
        if written < len(answer):
            return answer[written:]
        request.sent = True
        # Bytes that come after this line find `sent`; for those that came before it, the loop must be told.
        return b"" if self._buffer or self._eof or self._closing else None

    def settle(self) -> None:
        """Notice an answer that was sent directly."""
        if self._state == BUSY and self._request is not None and self._request.sent:
            self._request = None
            self._state = IDLE
            self.deadline = 0.0

    # -- after an answer

    def _send(self, data: bytes, *, keep_alive: bool) -> None:
        """Write an answer and decide what comes after it."""
        transport = self._transport
        if transport.is_closing():  # its end is known, `connection_lost` is on its way
            self._state = CLOSED
            return
        transport.write(data)
        self._answered(keep_alive)

    def _stream_ended(self, keep_alive: bool) -> None:
        """Go on after an answer in pieces."""
        self._stream = None
        self._answered(keep_alive and not self._closing)

    def _answered(self, keep_alive: bool) -> None:
        """Decide what comes after an answer."""
        if self._upload is not None:  # the rest of the body is of no use, and would be in the way
            self._end_upload("the request is answered")
            self._buffer.clear()
            self._linger()
        elif not keep_alive:
            self._finish()
        elif self._write_paused:
            self._state = DRAINING
            self._watch_unsent(self._service.settings.write_stall_seconds)
        else:
            self._await_next()

    def _await_next(self) -> None:
        """Go on with the next request."""
        raise NotImplementedError

    def _end_upload(self, reason: str) -> None:
        """Have no more of a body that is handed on, if there is one."""
        if self._upload is not None:
            self._upload.upload.fail(reason)
            self._upload.release()
            self._upload = None

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
        self._state = LINGER
        self._transport.write_eof()
        if self._reading_paused:
            self._reading_paused = False
            self._transport.resume_reading()
        self._watch_unsent(self._service.settings.linger_seconds)
        self._unsent = sys.maxsize  # a long answer gets the time of any long answer from then on

    def _close(self) -> None:
        """See `SocketPeer`."""
        self._state = CLOSED
        super()._close()
