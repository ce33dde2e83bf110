"""An HTTP/2 connection without a socket: a client made of frames, a clock that only the test moves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, Event, ResponseReceived, StreamEnded, StreamReset
from hpack import Decoder, Encoder
from hyperframe.frame import Frame, GoAwayFrame, HeadersFrame, RstStreamFrame
from tests.net.conftest import FakeTransport

from pulp_runtime._net.exchange import BodyPlan, Request, Service
from pulp_runtime._net.http2 import Http2Connection
from pulp_runtime._net.http2_head import Http2Heads
from pulp_runtime._net.preface import PREFACE
from pulp_runtime._net.response import render_head_fields
from pulp_runtime._net.settings import HttpSettings

Pairs = list[tuple[str, str]]

EMPTY_SETTINGS = bytes.fromhex("000000040000000000")


def head(method: str = "GET", path: str = "/a", *more: tuple[str, str], authority: str = "h") -> Pairs:
    return [(":method", method), (":scheme", "https"), (":authority", authority), (":path", path), *more]


def frames_of(data: bytes) -> list[Frame]:
    """Return the frames of a byte stream, which must be whole."""
    found = []
    while data:
        frame, length = Frame.parse_frame_header(memoryview(data[:9]))
        frame.parse_body(memoryview(data[9 : 9 + length]))
        found.append(frame)
        data = data[9 + length :]
    return found


def headers_frame(stream: int, block: bytes, *flags: str) -> bytes:
    frame = HeadersFrame(stream, block)
    for flag in flags:
        frame.flags.add(flag)
    return frame.serialize()


class Wire:
    """One connection and its application, which answers `ok` at once unless `hold`."""

    def __init__(self, **settings: float) -> None:
        self.now = 1_000.0
        self.requests: list[Request] = []
        self.disconnected: list[Request] = []
        self.hold = False
        self.plan: Callable[..., BodyPlan] = lambda _line, _block: BodyPlan(self.service.settings.body_bytes)
        self.service = Service(
            self._handle,
            HttpSettings(**settings),
            time=lambda: self.now,
            on_disconnect=self.disconnected.append,
            bodies=lambda line, block: self.plan(line, block),
        )
        self.errors: list[dict[str, Any]] = []
        self.loop = asyncio.new_event_loop()
        self.loop.set_exception_handler(lambda _loop, context: self.errors.append(context))
        self.heads = Http2Heads(self.service.heads, self.service.settings)
        self.connect()

    def connect(self) -> None:
        self.transport = FakeTransport(("192.0.2.7", 4711))
        self.connection = Http2Connection(self.service, self.heads)
        self.encoder = Encoder()
        self._taken = 0
        self.turn(lambda: self.connection.connection_made(self.transport))

    def turn(self, act: Callable[[], object] = lambda: None) -> None:
        """Run something on the loop, and what follows from it."""

        async def turns() -> None:
            act()
            for _ in range(4):
                await asyncio.sleep(0)

        self.loop.run_until_complete(turns())

    def greet(self) -> Wire:
        """Send what every client begins with; forget what the server says to it."""
        self.feed(PREFACE + EMPTY_SETTINGS)
        self.frames()
        return self

    def _handle(self, request: Request) -> None:
        self.requests.append(request)
        if not self.hold:
            self.answer(request)

    def answer(self, request: Request, body: bytes = b"ok", status: int = 200, **headers: str) -> None:
        fields = render_head_fields(status, {"Content-Type": "text/plain", **headers})
        connection = request.connection
        self.turn_or_now(lambda: connection.respond(request, connection.render(request, fields, body)))

    def turn_or_now(self, act: Callable[[], object]) -> None:
        if self.loop.is_running():
            act()
        else:
            self.turn(act)

    def feed(self, data: bytes) -> None:
        self.turn(lambda: self.connection.data_received(data))

    def send(self, *frames: Frame) -> None:
        self.feed(b"".join(frame.serialize() for frame in frames))

    def headers(self, stream: int, pairs: Iterable[tuple[str | bytes, str | bytes]], *, end: bool = True) -> bytes:
        """Return a HEADERS frame with a request."""
        flags = ("END_HEADERS", "END_STREAM") if end else ("END_HEADERS",)
        return headers_frame(stream, self.encoder.encode(list(pairs)), *flags)

    def request(self, stream: int = 3, pairs: Iterable[tuple[str, str]] | None = None, *, end: bool = True) -> None:
        self.feed(self.headers(stream, head() if pairs is None else pairs, end=end))

    def frames(self) -> list[Frame]:
        """Return the frames that were sent since the last call."""
        data = bytes(self.transport.sent[self._taken :])
        self._taken = len(self.transport.sent)
        return frames_of(data)

    def statuses(self) -> dict[int, bytes]:
        """Return the status of each answer sent since the last call, by stream."""
        return {
            frame.stream_id: Decoder().decode(frame.data, raw=True)[0][1]
            for frame in self.frames()
            if isinstance(frame, HeadersFrame)
        }

    def resets(self) -> dict[int, int]:
        """Return the codes of streams that were reset since the last call."""
        return {frame.stream_id: frame.error_code for frame in self.frames() if isinstance(frame, RstStreamFrame)}

    def goodbye(self) -> GoAwayFrame | None:
        """Return the last GOAWAY sent since the last call."""
        found = [frame for frame in self.frames() if isinstance(frame, GoAwayFrame)]
        return found[-1] if found else None

    def pass_time(self, seconds: float) -> None:
        """Let time pass, a second a time, as the listener's sweep sees it."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(self.now + 1.0, end)
            if self.connection.deadline <= self.now and not self.transport.closed:
                self.turn(lambda: self.connection.expire(self.now))

    @property
    def over(self) -> bool:
        """Whether our side is shut."""
        return self.transport.closed or self.transport.eof or self.transport.aborted

    def close(self) -> None:
        self.loop.close()


class Client:
    """A client of the `h2` library on a `Wire`: one that follows the rules."""

    def __init__(self, wire: Wire, **settings: int) -> None:
        self.wire = wire
        self.protocol = H2Connection(H2Configuration(client_side=True, header_encoding=None))
        self.protocol.local_settings.update(settings)  # type: ignore[arg-type]
        self.protocol.initiate_connection()
        self.heads: dict[int, dict[bytes, bytes]] = {}
        self.bodies: dict[int, bytes] = {}
        self.ended: list[int] = []
        self.resets: dict[int, int] = {}
        self.acknowledge = True
        self.exchange()

    def exchange(self) -> None:
        """Pass bytes both ways until nobody has any."""
        while data := self.protocol.data_to_send():
            self.wire.feed(data)
            self.receive()

    def receive(self) -> None:
        data = bytes(self.wire.transport.sent[self.wire._taken :])
        self.wire._taken += len(data)
        for event in self.protocol.receive_data(data):
            self._note(event)

    def _note(self, event: Event) -> None:
        if isinstance(event, ResponseReceived):
            self.heads[event.stream_id] = dict(event.headers)  # type: ignore[arg-type]
            self.bodies[event.stream_id] = b""
        elif isinstance(event, DataReceived):
            self.bodies[event.stream_id] += event.data
            if self.acknowledge:
                self.protocol.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, StreamEnded):
            self.ended.append(event.stream_id)
        elif isinstance(event, StreamReset):
            self.resets[event.stream_id] = int(event.error_code)

    def ask(self, pairs: Pairs, body: bytes | None = None, *, end: bool = True) -> int:
        """Send a request; return its stream."""
        stream = self.protocol.get_next_available_stream_id()
        self.protocol.send_headers(stream, pairs, end_stream=body is None and end)
        self.exchange()
        if body is not None:
            self.upload(stream, body, end=end)
        return stream

    def upload(self, stream: int, body: bytes, *, end: bool = True) -> bytes:
        """Send as much of a body as the windows have room for; return the rest."""
        while (body or end) and stream not in self.resets:
            room = min(self.protocol.local_flow_control_window(stream), self.protocol.max_outbound_frame_size)
            if body and not room:
                break
            piece, body = body[:room], body[room:]
            self.protocol.send_data(stream, piece, end_stream=end and not body)
            self.exchange()
            if not body:
                break
        return body
