"""One HTTP/2 connection: frames in, requests out, as many at a time as there are streams.

    data_received ──▶ Gate ──▶ h2 ──▶ events ──▶ Http2Heads ──▶ Request ──▶ handler
                       │                 └─▶ Http2Body                          │
                       └─ too much: GOAWAY                  Http2Answers ◀──────┘

`h2` keeps the state of the connection and its streams and knows what may come when; ours is what it costs, what a
request is, and when a client has had its time. A fault in a request ends its stream, a fault in the framing the
connection.

Deadlines are looked at by the listener's sweep, once a second.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Final

from h2 import events
from h2.errors import ErrorCodes
from h2.exceptions import ProtocolError
from hpack import HPACKError, OversizedHeaderListError

from pulp_runtime._net import answers, http2_fields
from pulp_runtime._net.exchange import Request, Service
from pulp_runtime._net.fault import RequestFault, bad
from pulp_runtime._net.head import HeaderBlock, RequestLine
from pulp_runtime._net.http2_answer import assemble
from pulp_runtime._net.http2_body import CONNECTION_BODIES_BYTES, Http2Body
from pulp_runtime._net.http2_ends import Http2Ends
from pulp_runtime._net.http2_gate import RESET_POINTS, Excess, FrameFault, Plain
from pulp_runtime._net.http2_head import Http2Heads, Pair, check_trailers
from pulp_runtime._net.http2_protocol import CONNECTION_WINDOW, STREAMS
from pulp_runtime._net.http2_stream import Exchange
from pulp_runtime._net.upload import Upload

AHEAD_BYTES: Final = 1024 * 1024
"""Bytes of answers that may wait for a client whose next request is handed over."""
CONTROL_BYTES: Final = 1024 * 1024
"""What may wait for a client that reads nothing and still sends: our answers to its pings and the like."""


class Http2Connection(Http2Ends):
    """One client; see `exchange.Connection` and `SocketPeer`.

    Args:
        service: the listener's.
        heads: the listener's.
    """

    __slots__ = ("_heads", "_late", "_unacknowledged")

    def __init__(self, service: Service, heads: Http2Heads) -> None:
        super().__init__(service)
        self._heads: Final = heads
        self._late: Final[deque[Request]] = deque()  # requests whose client has yet to take other answers
        self._unacknowledged = 0  # bytes the client has sent, and has not got back as window

    # -- what the loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a place, and say what we grant."""
        self._loop = asyncio.get_running_loop()
        super().connection_made(transport)
        if self._transport.is_closing():
            self._ended = True
            return
        self._moved = self._service.time()
        self._block = (0, self._moved)
        self._write()

    def data_received(self, data: bytes) -> None:
        """Take frames; what they cause goes out together."""
        if self._ended:
            return
        self._flushing = True
        try:
            for piece in self._gate.admit(data):
                if isinstance(piece, Plain):
                    self._on_plain(*piece)
                else:
                    self._handle(self._h2.receive_data(piece))
                if self._ended:
                    return
        except Excess as excess:
            self._fail(ErrorCodes.ENHANCE_YOUR_CALM, str(excess))
        except FrameFault as fault:
            self._fail(fault.code, str(fault))
        except ProtocolError:
            self._fail(None)
        else:
            if self._gate.leaving:
                self._closing = self._said = True
            if self._write_paused and self._transport.get_write_buffer_size() > CONTROL_BYTES:
                self._transport.abort()
            self._flush()

    def eof_received(self) -> bool:
        """Answer what is in flight, then close; a client may shut its side down early."""
        if self._ended:
            return False
        self._eof = self._closing = self._said = True
        for exchange in list(self._exchanges.values()):
            if exchange.body is not None and not exchange.ended:
                self._break_body(exchange, bad("read body: unexpected EOF"))
        if any(exchange.stream is not None for exchange in self._exchanges.values()):
            self._close()  # who shuts its side waits for no more pieces
        self._flush_soon()
        return True

    def connection_lost(self, _exc: Exception | None) -> None:
        """Give up the place; tell the application if somebody still works for this client."""
        self._ended = True
        self._drop_all()
        self._leave()

    # -- frames

    def _handle(self, happened: Sequence[events.Event]) -> None:
        """Act on what frames mean; a stream that is opened and reset in one go was never there."""
        gone = {event.stream_id for event in happened if type(event) is events.StreamReset} if len(happened) > 1 else ()
        for event in happened:
            kind = type(event)
            if gone and kind is not events.StreamReset and getattr(event, "stream_id", 0) in gone:
                if kind is events.DataReceived:
                    self._acknowledge(event.flow_controlled_length)  # type: ignore[attr-defined]
                continue
            act = self._acts.get(kind)
            if act is not None:
                act(self, event)
                if self._ended:
                    return

    def _on_plain(self, number: int, block: bytes) -> None:
        try:
            pairs = self._h2.decoder.decode(block)
        except OversizedHeaderListError:
            raise Excess("a header list is too long") from None
        except (HPACKError, IndexError):
            raise FrameFault(ErrorCodes.COMPRESSION_ERROR, "a header block cannot be read") from None
        self._h2.skip(number)
        self._gate.plain.add(number)
        self._take(number, pairs, ended=True)

    def _on_request(self, event: events.RequestReceived) -> None:
        self._take(event.stream_id, event.headers, ended=event.stream_ended is not None)

    def _take(self, number: int, pairs: Sequence[Pair], *, ended: bool) -> None:
        """Read a request's head."""
        exchanges = self._exchanges
        if self._closing or len(exchanges) >= STREAMS:
            exchange = exchanges[number] = Exchange(number, "", ended=ended)
            self._reset(exchange, ErrorCodes.REFUSED_STREAM)
            self._gate.charge(RESET_POINTS)
            return
        try:
            line, block = self._heads.parse(pairs)
            if ended and block.content_length:
                raise bad("the body is shorter than its Content-Length")
        except RequestFault as fault:
            exchange = exchanges[number] = Exchange(number, _method(pairs), ended=ended)
            self._refuse(exchange, fault)
            self._gate.charge(RESET_POINTS + len(pairs))
            return
        exchange = exchanges[number] = Exchange(number, line.method, ended=ended)
        if line.redirect or line.path == "*":
            self._answer(exchange, assemble(*answers.unrouted(line.redirect, line.method), line.method))
        elif ended:
            self._dispatch(exchange, line, block, b"")
        else:
            self._start_body(exchange, line, block)

    def _start_body(self, exchange: Exchange, line: RequestLine, block: HeaderBlock) -> None:
        """Get ready for a body; ask for it if the client waits to be asked."""
        try:
            plan = self._service.bodies(line, block)
            upload = Upload(self._upload_drained(exchange)) if plan.streamed else None
            exchange.body = Http2Body(block, self._service, plan, upload)
        except RequestFault as fault:
            self._refuse(exchange, fault)
            return
        if block.expect_continue:
            self._h2.send_headers(exchange.number, http2_fields.headers(_CONTINUE, informational=True))
        if upload is not None:
            self._dispatch(exchange, line, block, b"")
        else:
            exchange.asked = (line, block)

    def _on_data(self, event: events.DataReceived) -> None:
        self._acknowledge(event.flow_controlled_length)
        exchange = self._exchanges.get(event.stream_id)
        if exchange is None or exchange.body is None:
            return
        body = exchange.body
        try:
            body.feed(event.data, event.flow_controlled_length)
            self._check_bodies(body)
        except RequestFault as fault:
            self._break_body(exchange, fault)
        else:
            if event.stream_ended is None:
                self._grant(exchange)

    def _acknowledge(self, window_bytes: int) -> None:
        """Let the client send more on the whole; what holds a body back is its stream's own window."""
        self._unacknowledged += window_bytes
        if self._unacknowledged >= CONNECTION_WINDOW // 2:
            self._h2.increment_flow_control_window(self._unacknowledged)
            self._unacknowledged = 0

    def _check_bodies(self, body: Http2Body) -> None:
        """Refuse a body that takes more room than one connection may have."""
        most = max(CONNECTION_BODIES_BYTES, self._service.settings.body_bytes)
        if body.upload is None and body.held >= most // STREAMS:
            held = sum(other.body.held for other in self._exchanges.values() if other.body is not None)
            if held > most:
                raise RequestFault(503, "too many request bodies")

    def _grant(self, exchange: Exchange) -> None:
        """Let the client send more of a body."""
        if exchange.body is not None and not exchange.ended and (more := exchange.body.window()):
            self._h2.increment_flow_control_window(more, exchange.number)

    def _on_end(self, event: events.StreamEnded) -> None:
        exchange = self._exchanges.get(event.stream_id)
        if exchange is None or exchange.ended:
            return
        exchange.ended = True
        body = exchange.body
        if body is not None:
            data = body.finish()
            if exchange.asked is not None:
                self._dispatch(exchange, *exchange.asked, data)
            else:
                body.release()
                exchange.body = None

    def _on_trailers(self, event: events.TrailersReceived) -> None:
        exchange = self._exchanges.get(event.stream_id)
        if exchange is not None and exchange.body is not None:
            try:
                check_trailers(event.headers)
            except RequestFault as fault:
                self._gate.charge(RESET_POINTS + len(event.headers))
                self._break_body(exchange, fault)

    def _on_reset(self, event: events.StreamReset) -> None:
        exchange = self._exchanges.get(event.stream_id)
        if exchange is not None:
            self._drop(exchange, "the client is gone")

    def _on_window(self, event: events.WindowUpdated) -> None:
        self._unblock(event.stream_id)

    def _on_settings(self, _event: events.RemoteSettingsChanged) -> None:
        self._window = self._h2.remote_settings.initial_window_size
        self._unblock(0)

    _acts: ClassVar[dict[type[events.Event], Callable[[Any, Any], None]]] = {
        events.RequestReceived: _on_request,
        events.DataReceived: _on_data,
        events.StreamEnded: _on_end,
        events.TrailersReceived: _on_trailers,
        events.StreamReset: _on_reset,
        events.WindowUpdated: _on_window,
        events.RemoteSettingsChanged: _on_settings,
    }

    # -- requests

    def _dispatch(self, exchange: Exchange, line: RequestLine, block: HeaderBlock, body: bytes) -> None:
        """Hand a request to the application, unless its client has enough answers to take already."""
        exchange.request = request = Request(self, line, block, body, True, self._service.time())
        request.stream = exchange.number
        if exchange.body is not None:
            request.upload = exchange.body.upload
        if self._waiting > AHEAD_BYTES:
            self._late.append(request)
        else:
            self._hand_over(exchange, request)

    def _hand_over(self, exchange: Exchange, request: Request) -> None:
        if exchange.body is not None and request.upload is None:
            exchange.body.release()
            exchange.body = None
        try:
            self._service.handler(request)
        except Exception as error:  # noqa: BLE001 - a bug in the application ends this stream and no other
            self._reset(exchange, ErrorCodes.INTERNAL_ERROR)
            self._loop.call_exception_handler(
                {"message": "the HTTP handler raised", "exception": error, "protocol": self}
            )

    def _flush(self) -> None:
        """Send what can be sent, and hand over what waited for that."""
        super()._flush()
        while self._late and self._waiting <= AHEAD_BYTES:
            request = self._late.popleft()
            exchange = self._exchanges.get(request.stream)
            if exchange is not None and exchange.request is request:
                self._hand_over(exchange, request)

    def _refuse(self, exchange: Exchange, fault: RequestFault) -> None:
        """Answer a request that cannot be read; one that breaks the protocol's rules also has its stream reset."""
        exchange.request = None
        if exchange.body is not None:
            exchange.body.release(fault.reason)
            exchange.body = None
        answer = assemble(*answers.error(fault.status, fault.reason), exchange.method)
        if fault.status != 400:
            self._answer(exchange, answer)
            return
        number = exchange.number
        self._introduce(number)
        self._h2.send_headers(number, http2_fields.headers(answer.head))
        if 0 < len(answer.body) <= self._h2.local_flow_control_window(number):
            self._h2.send_data(number, answer.body)
        self._reset(exchange, ErrorCodes.PROTOCOL_ERROR)

    def _break_body(self, exchange: Exchange, fault: RequestFault) -> None:
        """Tell whoever waits for a body that the rest will not come."""
        body = exchange.body
        if body is None or body.upload is None:
            self._refuse(exchange, fault)
            return
        body.release(fault.reason)
        exchange.body = None
        if exchange.stream is not None:
            exchange.stream.lost()
            self._reset(exchange, ErrorCodes.CANCEL)

    def _upload_drained(self, exchange: Exchange) -> Callable[[], None]:
        """Return what a reader of a body calls, on its thread, when it has taken some."""

        def grant() -> None:
            if exchange.body is not None and not self._ended:
                exchange.body.count()
                self._grant(exchange)
                self._flush_soon()

        def drained() -> None:
            try:
                self._loop.call_soon_threadsafe(grant)
            except RuntimeError:  # the loop is closed; nobody waits for more
                pass

        return drained


def _method(pairs: Sequence[Pair]) -> str:
    """Return whether a request that cannot be read is one that gets no body."""
    return "HEAD" if (b":method", b"HEAD") in pairs else ""


_CONTINUE: Final = http2_fields.encode_status(100)
