"""HTTP/2 on a connection without a socket: requests and answers, flow control, ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from h2.settings import SettingCodes
from hyperframe.frame import DataFrame, GoAwayFrame, HeadersFrame, RstStreamFrame, WindowUpdateFrame
from tests.net.http2_wire import Client, Wire, head

from pulp_runtime._net import response
from pulp_runtime._net.exchange import BodyPlan
from pulp_runtime._net.fault import RequestFault
from pulp_runtime._net.http2_answer import assemble
from pulp_runtime._net.http2_stream import FULL_BYTES
from pulp_runtime._net.response import render_head_fields
from pulp_runtime._net.upload import UploadBroken

NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, REFUSED_STREAM, CANCEL, CALM = 0x0, 0x1, 0x2, 0x7, 0x8, 0xB
KIB = 1024
TEXT = render_head_fields(200, {"Content-Type": "text/plain"})


@pytest.fixture
def open_wire() -> Iterator[Callable[..., Wire]]:
    wires = []

    def make(**settings: float) -> Wire:
        wires.append(Wire(**settings))
        return wires[-1]

    yield make
    for wire in wires:
        wire.close()


@pytest.fixture
def wire(open_wire: Callable[..., Wire]) -> Wire:
    return open_wire()


@pytest.fixture
def client(wire: Wire) -> Client:
    return Client(wire)


# Requests -----------------------------------------------------------------------------------------------------------


def test_a_request_is_what_it_would_be_in_http1(wire: Wire, client: Client) -> None:
    client.ask(head("GET", "/a%20b?x=1&y=%C3%A9", ("user-agent", "u"), ("accept", "a"), ("accept", "b")))

    (request,) = wire.requests
    assert (request.line.method, request.line.path) == ("GET", "/a b")
    assert request.line.query == {"x": "1", "y": "é"}
    assert request.block.fields == {"User-Agent": "u", "Accept": "a"}
    assert request.block.host == "h"
    assert (request.body, request.upload, request.keep_alive, request.direct) == (b"", None, True, False)
    assert request.connection.remote_addr == "192.0.2.7:4711"


def test_an_answer_has_the_fields_it_would_have_in_http1(wire: Wire, client: Client) -> None:
    stream = client.ask(head())

    assert client.heads[stream].pop(b"date")
    assert client.heads[stream] == {b":status": b"200", b"content-type": b"text/plain", b"content-length": b"2"}
    assert client.bodies[stream] == b"ok"
    assert client.ended == [stream]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("status", [0, 200, 204, 205, 206, 304, 404, 999])
@pytest.mark.parametrize("body", [b"", b"text", b"<html>"])
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Content-Type": "a/b"},
        {"Content-Length": "7"},
        {"X-A": "é", "Connection": "close", "Keep-Alive": "5", "Upgrade": "x"},
    ],
    ids=["no headers", "a type", "a length", "what is ours"],
)
def test_complete_answers_say_the_same_in_both_protocols(
    method: str, status: int, body: bytes, headers: dict[str, str]
) -> None:
    from hpack import Decoder

    fields = render_head_fields(status, headers, ["a=b", "c=d"])
    first, _, rest = response.assemble(fields, body, method).partition(b"\r\n")
    lines, _, text = rest.partition(b"\r\n\r\n")
    expected = {tuple(line.lower().split(b": ", 1)) for line in lines.split(b"\r\n")}
    expected = {(name, value) for name, value in expected if name != b"connection"}

    answer = assemble(fields, body, method)
    (_, number), *pairs = Decoder().decode(answer.head, raw=True)

    assert number == first.split(b" ")[1]
    assert {(name, value.lower()) for name, value in pairs} == expected
    assert answer.body == text


def test_streams_are_answered_in_any_order(wire: Wire, client: Client) -> None:
    wire.hold = True
    streams = [client.ask(head("GET", f"/{number}")) for number in range(10)]
    for request in reversed(wire.requests):
        wire.answer(request, request.line.path.encode())
    client.receive()

    assert client.ended == streams[::-1]
    assert [client.bodies[stream] for stream in streams] == [f"/{number}".encode() for number in range(10)]


def test_a_request_that_is_answered_twice_is_answered_once(wire: Wire, client: Client) -> None:
    wire.hold = True
    stream = client.ask(head())
    wire.answer(wire.requests[0], b"first")
    wire.answer(wire.requests[0], b"second")
    client.receive()

    assert client.bodies[stream] == b"first"
    assert wire.connection.begin(wire.requests[0], TEXT) is None


def test_the_socket_is_never_left_to_another_protocol(wire: Wire, client: Client) -> None:
    wire.hold = True
    client.ask(head())

    assert wire.connection.take_over(wire.requests[0]) is None
    answer = wire.connection.render(wire.requests[0], TEXT, b"ok")
    assert wire.connection.send_direct(wire.requests[0], answer) is answer


@pytest.mark.parametrize("body", [b"", b"x", bytes(100 * KIB), bytes(3 * 1024 * KIB)], ids=len)
def test_a_body_arrives_whole(wire: Wire, client: Client, body: bytes) -> None:
    stream = client.ask(head("POST"), body)

    assert wire.requests[0].body == body
    assert client.bodies[stream] == b"ok"
    assert wire.service.held_bytes == 0


def test_a_client_that_waits_to_be_asked_is_asked(wire: Wire) -> None:
    wire.greet().request(1, head("POST", "/a", ("expect", "100-continue"), ("content-length", "2")), end=False)
    assert wire.statuses() == {1: b"100"}

    wire.feed(_data(1, b"hi"))
    assert wire.requests[0].body == b"hi"
    assert wire.statuses() == {1: b"200"}


def _data(stream: int, data: bytes, *, end: bool = True) -> bytes:
    frame = DataFrame(stream, data)
    if end:
        frame.flags.add("END_STREAM")
    return frame.serialize()


def test_cookies_in_pieces_are_joined(wire: Wire, client: Client) -> None:
    client.ask(head("GET", "/", ("cookie", "a=1"), ("x", "y"), ("cookie", "b=2"), ("cookie", "c=3")))

    assert wire.requests[0].block.fields["Cookie"] == "a=1; b=2; c=3"


def test_a_host_header_stands_in_for_the_authority(wire: Wire) -> None:
    wire.greet().request(1, [(":method", "GET"), (":scheme", "http"), (":path", "/"), ("host", "other:1")])
    wire.request(3, head("GET", "/", ("host", "h")))

    assert [request.block.host for request in wire.requests] == ["other:1", "h"]
    assert all("Host" not in request.block.fields for request in wire.requests)


def test_trailers_are_checked_and_dropped(wire: Wire) -> None:
    wire.greet().request(1, head("POST"), end=False)
    wire.feed(_data(1, b"body", end=False) + wire.headers(1, [("x-trailer", "1")]))

    assert wire.requests[0].body == b"body"
    assert "X-Trailer" not in wire.requests[0].block.fields


@pytest.mark.parametrize(
    "trailers",
    [[(":path", "/")], [("X", "1")], [("x", "a\nb")], [("connection", "close")], [("b ad", "1")]],
    ids=["a pseudo-header field", "upper case", "a line feed", "for the connection", "no token"],
)
def test_malformed_trailers_end_their_stream(wire: Wire, trailers: list[tuple[str, str]]) -> None:
    wire.greet().request(1, head("POST"), end=False)
    wire.feed(_data(1, b"body", end=False) + wire.headers(1, trailers))

    assert wire.resets() == {1: PROTOCOL_ERROR}
    assert not wire.requests
    wire.request(3)
    assert wire.statuses() == {3: b"200"}


def test_too_many_trailers_are_431(wire: Wire) -> None:
    wire.greet().request(1, head("POST"), end=False)
    wire.feed(_data(1, b"body", end=False) + wire.headers(1, [(f"x{number}", "") for number in range(101)]))

    assert wire.statuses() == {1: b"431"}


def test_paths_that_are_not_clean_are_redirected(wire: Wire, client: Client) -> None:
    get = client.ask(head("GET", "/a/../b?c"))
    post = client.ask(head("POST", "//x"), b"some body")
    options = client.ask(head("OPTIONS", "*"))

    assert client.heads[get][b":status"] == b"301"
    assert client.heads[get][b"location"] == b"/b?c"
    assert client.heads[post][b":status"] == b"308"
    assert client.heads[options][b":status"] == b"200"
    assert not wire.requests


MALFORMED = {
    "no method": [(":scheme", "http"), (":authority", "h"), (":path", "/")],
    "no scheme": [(":method", "GET"), (":authority", "h"), (":path", "/")],
    "no path": [(":method", "GET"), (":scheme", "http"), (":authority", "h")],
    "an empty path": head("GET", ""),
    "an absolute path": head("GET", "http://h/"),
    "a path with a space": head("GET", "/a b"),
    "a path with a line feed": head("GET", "/a\nb"),
    "a path with another request in it": head("GET", "/ HTTP/1.1\r\nHost: h\r\n\r\nGET /"),
    "a fragment": head("GET", "/a#b"),
    "an asterisk for GET": head("GET", "*"),
    "a bad escape": head("GET", "/%zz"),
    "a method in lower case": head("get"),
    "a method of two words": head("GET /x"),
    "a method nobody knows": head("FROB"),
    "CONNECT": [(":method", "CONNECT"), (":authority", "h:1")],
    "a scheme that is not HTTP": [(":method", "GET"), (":scheme", "ftp"), (":authority", "h"), (":path", "/")],
    "a pseudo-header field twice": [(":method", "GET"), *head()],
    "a pseudo-header field of answers": [*head()[:4], (":status", "200")],
    "a pseudo-header field nobody knows": [(":protocol", "websocket"), *head()],
    "a pseudo-header field behind others": [*head()[:3], ("x", "y"), (":path", "/")],
    "no authority": [(":method", "GET"), (":scheme", "http"), (":path", "/")],
    "an empty authority": head(authority=""),
    "an authority with a user": head(authority="me@h"),
    "an authority with a path": head(authority="h/x"),
    "another Host": head("GET", "/", ("host", "other")),
    "two Hosts": head("GET", "/", ("host", "h"), ("host", "h")),
    "a name in upper case": head("GET", "/", ("X-A", "b")),
    "a name that is no token": head("GET", "/", ("x a", "b")),
    "a name with a colon": head("GET", "/", ("x:a", "b")),
    "an empty name": head("GET", "/", ("", "b")),
    "a line feed in a value": head("GET", "/", ("x", "a\nb")),
    "a carriage return in a value": head("GET", "/", ("x", "a\rb")),
    "a NUL in a value": head("GET", "/", ("x", "a\0b")),
    "an escape in a value": head("GET", "/", ("x", "a\x1bb")),
    "a blank before a value": head("GET", "/", ("x", " a")),
    "a tab behind a value": head("GET", "/", ("x", "a\t")),
    "Connection": head("GET", "/", ("connection", "close")),
    "Keep-Alive": head("GET", "/", ("keep-alive", "5")),
    "Proxy-Connection": head("GET", "/", ("proxy-connection", "close")),
    "Transfer-Encoding": head("GET", "/", ("transfer-encoding", "chunked")),
    "Upgrade": head("GET", "/", ("upgrade", "websocket")),
    "another TE than trailers": head("GET", "/", ("te", "gzip")),
    "a body that does not come": head("POST", "/", ("content-length", "5")),
}


@pytest.mark.parametrize("pairs", MALFORMED.values(), ids=MALFORMED)
def test_threat_36_a_malformed_request_is_400_and_its_stream_is_reset(wire: Wire, pairs: list) -> None:
    """Both ways it may come: as the first request, by way of the library, and later, which is short of it."""
    for stream in (1, 3):
        if stream == 1:
            wire.greet()
        wire.request(stream, pairs)
        first, *_rest, last = wire.frames()
        assert isinstance(first, HeadersFrame)
        assert first.data.startswith(b"\x8c")  # 400 in the static table
        assert isinstance(last, RstStreamFrame)
        assert last.error_code == PROTOCOL_ERROR
    assert not wire.requests
    wire.request(5)
    assert wire.statuses() == {5: b"200"}


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_refusal_says_why_except_to_head(wire: Wire, method: str) -> None:
    wire.greet().request(1, head(method, "/", ("connection", "x")))

    bodies = [frame.data for frame in wire.frames() if isinstance(frame, DataFrame)]
    assert bodies == ([] if method == "HEAD" else [b"connection-specific header field\n"])


def test_threat_36_a_length_that_is_not_the_bodys_ends_the_connection(wire: Wire) -> None:
    wire.greet().request(1, head("POST", "/", ("content-length", "5")), end=False)
    wire.feed(_data(1, b"too long"))

    assert wire.goodbye().error_code == PROTOCOL_ERROR
    assert not wire.requests


@pytest.mark.parametrize(
    ("pairs", "status"),
    [
        pytest.param(head("GET", "/" + "a" * 8192), b"414", id="a long path"),
        pytest.param(head("GET", "/", *[(f"x{number}", "") for number in range(101)]), b"431", id="many fields"),
        pytest.param(head("GET", "/", ("x", "y" * 65_600)), b"431", id="a long field"),
        pytest.param(head("GET", "/", ("expect", "the unexpected")), b"417", id="an unknown expectation"),
    ],
)
def test_threat_37_a_head_past_a_bound_is_refused_and_the_connection_goes_on(
    wire: Wire, pairs: list, status: bytes
) -> None:
    wire.greet()
    block = wire.encoder.encode(pairs, huffman=False)
    pieces = [block[at : at + 16_384] for at in range(0, len(block), 16_384)]
    wire.feed(_headers_in(1, pieces))

    assert wire.statuses() == {1: status}
    wire.request(3)
    assert wire.statuses() == {3: b"200"}


def _headers_in(stream: int, pieces: list[bytes]) -> bytes:
    """Return a header block in so many frames, with the end of the stream."""
    from hyperframe.frame import ContinuationFrame

    frames = [HeadersFrame(stream, pieces[0]), *(ContinuationFrame(stream, piece) for piece in pieces[1:])]
    frames[0].flags.add("END_STREAM")
    frames[-1].flags.add("END_HEADERS")
    return b"".join(frame.serialize() for frame in frames)


def test_a_handler_that_raises_ends_its_stream_and_no_other(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    wire.greet().hold = True
    wire.request(1)

    def fail(_request: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(wire, "answer", fail)
    wire.hold = False
    wire.request(3)
    monkeypatch.undo()

    assert wire.resets() == {3: INTERNAL_ERROR}
    assert isinstance(wire.errors[0]["exception"], ZeroDivisionError)
    wire.answer(wire.requests[0])
    assert wire.statuses() == {1: b"200"}


# Bodies as they arrive ----------------------------------------------------------------------------------------------


def _streamed(wire: Wire, limit: int = 1 << 30) -> None:
    wire.hold = True
    wire.plan = lambda _line, _block: BodyPlan(limit, streamed=True)


def test_a_body_is_handed_on_as_it_arrives(wire: Wire, client: Client) -> None:
    _streamed(wire)
    stream = client.ask(head("POST"), b"first", end=False)
    upload = wire.requests[0].upload
    assert upload.read(100, 0) == b"first"
    assert not upload.over

    client.upload(stream, b"second")
    assert upload.read(3, 0) == b"sec"
    assert upload.read(100, 0) == b"ond"
    assert upload.read(100, 0) == b""
    wire.answer(wire.requests[0])
    client.receive()
    assert client.ended == [stream]
    assert wire.service.held_bytes == 0


def test_a_client_sends_no_further_ahead_than_the_window(wire: Wire, client: Client) -> None:
    _streamed(wire)
    stream = client.ask(head("POST"), end=False)
    upload = wire.requests[0].upload
    rest = client.upload(stream, bytes(1024 * KIB))
    assert len(rest) == 768 * KIB
    assert upload.waiting == wire.service.held_bytes == 256 * KIB

    wire.turn(lambda: upload.read(100 * KIB, 0))
    client.receive()
    for _ in range(20):
        while upload.waiting:
            wire.turn(lambda: upload.read(100 * KIB, 0))
        client.receive()
        rest = client.upload(stream, rest, end=False)
    assert rest == b""
    assert upload.size == 1024 * KIB


def test_one_body_that_nobody_reads_does_not_hold_up_the_others(wire: Wire, client: Client) -> None:
    _streamed(wire)
    for _ in range(5):
        stream = client.ask(head("POST"), end=False)
        client.upload(stream, bytes(1024 * KIB))
    wire.plan = lambda _line, _block: BodyPlan(1 << 30)
    wire.hold = False
    other = client.ask(head("POST", "/other"), bytes(2048 * KIB))

    assert client.bodies[other] == b"ok"


def test_a_body_that_is_not_needed_is_not_waited_for(wire: Wire, client: Client) -> None:
    _streamed(wire)
    stream = client.ask(head("POST"), b"some", end=False)
    wire.answer(wire.requests[0], b"enough")
    client.receive()

    assert client.bodies[stream] == b"enough"
    assert client.resets == {stream: NO_ERROR}
    assert wire.requests[0].upload.read(10, 0) == b"some"
    with pytest.raises(UploadBroken, match="the request is answered"):
        wire.requests[0].upload.read(10, 0)
    assert wire.service.held_bytes == 0


def test_a_reader_is_told_when_the_client_gives_up(wire: Wire, client: Client) -> None:
    _streamed(wire)
    stream = client.ask(head("POST"), b"some", end=False)
    client.protocol.reset_stream(stream, CANCEL)
    client.exchange()

    upload = wire.requests[0].upload
    assert upload.read(10, 0) == b"some"
    with pytest.raises(UploadBroken, match="the client is gone"):
        upload.read(10, 0)
    assert wire.disconnected == wire.requests


def test_threat_37_a_body_past_its_bound_is_413_whether_it_says_so_or_not(wire: Wire) -> None:
    wire.plan = lambda _line, _block: BodyPlan(10)
    wire.greet().request(1, head("POST", "/", ("content-length", "11")), end=False)
    first, reset = (frame for frame in wire.frames() if not isinstance(frame, DataFrame))
    assert first.data.startswith(b"\x08\x03413")
    assert reset.error_code == NO_ERROR

    wire.request(3, head("POST"), end=False)
    wire.feed(_data(3, bytes(6), end=False))
    assert wire.frames() == []
    wire.feed(_data(3, bytes(6), end=False))
    assert wire.statuses() == {3: b"413"}
    assert wire.service.held_bytes == 0


def test_threat_37_bodies_of_all_connections_together_are_bounded(open_wire: Callable[..., Wire]) -> None:
    wire = open_wire(bodies_bytes=20)
    wire.greet()
    for stream in (1, 3):
        wire.request(stream, head("POST"), end=False)
    wire.feed(_data(1, bytes(15), end=False))
    wire.feed(_data(3, bytes(15), end=False))

    assert wire.statuses() == {3: b"503"}
    wire.feed(_data(1, b""))
    assert wire.statuses() == {1: b"200"}


def test_threat_37_bodies_of_one_connection_are_bounded(
    open_wire: Callable[..., Wire], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a bound, or the longest body if that is more; others keep the rest of what all may hold."""
    monkeypatch.setattr("pulp_runtime._net.http2.CONNECTION_BODIES_BYTES", 100 * KIB)
    wire = open_wire(body_bytes=100 * KIB)
    client = Client(wire)
    streams = []
    for _ in range(3):
        streams.append(client.ask(head("POST"), end=False))
        client.upload(streams[-1], bytes(40 * KIB), end=False)

    assert client.heads[streams[2]][b":status"] == b"503"
    assert wire.service.held_bytes == 80 * KIB


@pytest.mark.parametrize("streamed", [False, True])
def test_threat_37_a_body_that_stops_coming_is_given_up(open_wire: Callable[..., Wire], streamed: bool) -> None:
    wire = open_wire(body_stall_seconds=20)
    if streamed:
        _streamed(wire)
    wire.greet().request(1, head("POST"), end=False)
    wire.feed(_data(1, b"some", end=False))
    wire.pass_time(19)
    assert wire.frames() == []
    wire.pass_time(2)

    if streamed:
        assert wire.requests[0].upload.read(10, 0) == b"some"
        with pytest.raises(UploadBroken, match="request timeout"):
            wire.requests[0].upload.read(10, 0)
        wire.answer(wire.requests[0], status=408)
    assert wire.statuses() == {1: b"408"}


def test_threat_37_a_body_that_drips_is_408(open_wire: Callable[..., Wire]) -> None:
    wire = open_wire(body_stall_seconds=5, body_bytes_per_second=100)
    wire.greet().request(1, head("POST"), end=False)
    for _ in range(6):
        wire.pass_time(1)
        wire.feed(_data(1, b"x", end=False))

    assert wire.statuses() == {1: b"408"}


def test_a_body_that_nobody_reads_is_not_the_clients_delay(open_wire: Callable[..., Wire]) -> None:
    wire = open_wire(body_stall_seconds=5)
    _streamed(wire)
    client = Client(wire)
    stream = client.ask(head("POST"), end=False)
    client.upload(stream, bytes(1024 * KIB))
    wire.pass_time(60)

    assert not wire.requests[0].upload.over


def test_a_plan_that_refuses_is_an_answer(wire: Wire) -> None:
    def refuse(_line: object, _block: object) -> BodyPlan:
        raise RequestFault(413, "not here")

    wire.plan = refuse
    wire.greet().request(1, head("POST"), end=False)

    assert wire.statuses() == {1: b"413"}


# Answers and windows ------------------------------------------------------------------------------------------------


def _windows(client: Client, stream: int, size: int) -> None:
    for number in (0, stream):
        frame = WindowUpdateFrame(number, size)
        client.wire.send(frame)
    client.receive()


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 1024 * KIB])
def test_an_answer_of_any_length_arrives(wire: Wire, client: Client, size: int) -> None:
    wire.hold = True
    for _ in range(2):  # the first stream is the library's from the beginning, the second when it has to be
        stream = client.ask(head())
        wire.answer(wire.requests[-1], bytes(size))
        client.receive()
        client.exchange()
        assert len(client.bodies[stream]) == size
        assert client.ended[-1] == stream


def test_no_more_is_sent_than_the_client_has_room_for(wire: Wire, client: Client) -> None:
    client.acknowledge = False
    wire.hold = True
    client.ask(head())
    stream = client.ask(head())
    for request in wire.requests:
        wire.answer(request, bytes(50_000))
    client.receive()

    assert sum(map(len, client.bodies.values())) == 65_535
    client.protocol.increment_flow_control_window(100_000)
    client.exchange()
    assert [len(body) for body in client.bodies.values()] == [50_000, 50_000]
    assert stream in client.ended


def test_a_window_that_is_given_before_the_answer_is_not_lost(wire: Wire) -> None:
    wire.greet().hold = True
    wire.request(1)
    wire.request(3)
    wire.send(WindowUpdateFrame(3, 1_000_000), WindowUpdateFrame(0, 1_000_000))
    wire.answer(wire.requests[1], bytes(500_000))

    frames = [frame for frame in wire.frames() if isinstance(frame, DataFrame)]
    assert sum(len(frame.data) for frame in frames) == 500_000
    assert "END_STREAM" in frames[-1].flags


def test_a_client_may_change_its_window_at_any_time(wire: Wire) -> None:
    client = Client(wire)
    client.acknowledge = False
    client.protocol.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 0})
    client.exchange()
    wire.hold = True
    streams = [client.ask(head()) for _ in range(3)]
    for request in wire.requests:
        wire.answer(request, b"waits")
    client.receive()
    assert set(client.heads) == set(streams)
    assert client.ended == []

    client.protocol.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 3})
    client.exchange()
    assert set(client.bodies.values()) == {b"wai"}
    client.protocol.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 100})
    client.exchange()
    assert set(client.bodies.values()) == {b"waits"}
    assert client.ended == streams


def test_streams_take_turns(wire: Wire) -> None:
    wire.greet().hold = True
    wire.send(WindowUpdateFrame(0, 10_000_000))
    for stream in (1, 3):
        wire.request(stream)
        wire.send(WindowUpdateFrame(stream, 10_000_000))
    wire.frames()
    connection = wire.connection
    answers = [connection.render(request, TEXT, bytes(200_000)) for request in wire.requests]
    wire.turn(lambda: [connection.respond(*one) for one in zip(wire.requests, answers, strict=True)])

    order = [frame.stream_id for frame in wire.frames() if isinstance(frame, DataFrame)]
    assert order[:6] == [1, 3, 1, 3, 1, 3]


def test_nothing_is_written_while_the_socket_is_full(wire: Wire, client: Client) -> None:
    wire.hold = True
    stream = client.ask(head())
    wire.connection.pause_writing()
    wire.answer(wire.requests[0], b"later")
    client.receive()
    assert stream not in client.heads

    wire.turn(wire.connection.resume_writing)
    client.receive()
    assert client.bodies[stream] == b"later"


def test_a_long_head_goes_in_several_frames(wire: Wire, client: Client) -> None:
    wire.hold = True
    for _ in range(2):
        stream = client.ask(head())
        wire.answer(wire.requests[-1], b"", 200, **{f"X-{number}": "v" * 2_000 for number in range(30)})
        client.receive()
        assert client.heads[stream][b"x-29"] == b"v" * 2_000


def test_an_answer_may_come_in_pieces(wire: Wire, client: Client) -> None:
    wire.hold = True
    client.ask(head())
    stream = client.ask(head())
    out = wire.connection.begin(wire.requests[1], TEXT)
    wire.turn()
    client.receive()
    assert b"content-length" not in client.heads[stream]
    wire.turn(lambda: (out.write(b"a"), out.write(b""), out.write(b"b")))
    client.receive()
    assert client.bodies[stream] == b"ab"
    assert client.ended == []
    wire.turn(lambda: (out.write(b"c"), out.end(), out.end(), out.write(b"no")))
    client.receive()
    assert client.bodies[stream] == b"abc"
    assert client.ended == [stream]
    assert out.closed


def test_a_writer_in_pieces_is_told_to_wait_and_to_go_on(wire: Wire, client: Client) -> None:
    client.acknowledge = False
    wire.hold = True
    stream = client.ask(head())
    out = wire.connection.begin(wire.requests[0], TEXT)
    told = []
    out.on_room = lambda: told.append(out.waiting)
    wire.turn(lambda: out.write(bytes(65_535)))
    assert (out.full, out.waiting) == (False, 0)
    wire.turn(lambda: out.write(bytes(FULL_BYTES + 1)))
    assert (out.full, out.waiting) == (True, FULL_BYTES + 1)
    assert told == []
    assert told == []

    client.receive()
    client.protocol.increment_flow_control_window(100_000)
    client.protocol.increment_flow_control_window(100_000, stream)
    client.exchange()
    assert not out.full
    assert len(told) == 1


@pytest.mark.parametrize(
    ("announced", "written", "arrives", "resets"),
    [
        pytest.param("3", b"abc", b"abc", [], id="kept"),
        pytest.param("3", b"abcdef", b"abc", [], id="overstepped"),
        pytest.param("5", b"abc", b"abc", [INTERNAL_ERROR], id="not reached"),
    ],
)
def test_an_announced_length_is(
    wire: Wire, client: Client, announced: str, written: bytes, arrives: bytes, resets: list[int]
) -> None:
    wire.hold = True
    stream = client.ask(head())
    out = wire.connection.begin(wire.requests[0], render_head_fields(200, {"Content-Length": announced}))
    wire.turn(lambda: out.write(written))
    wire.turn(out.end)
    client.receive()

    assert client.heads[stream][b"content-length"] == announced.encode()
    assert client.bodies[stream] == arrives
    assert list(client.resets.values()) == resets


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
def test_an_answer_without_a_body_has_none_in_pieces_either(
    wire: Wire, client: Client, method: str, status: int
) -> None:
    wire.hold = True
    stream = client.ask(head(method))
    out = wire.connection.begin(wire.requests[0], render_head_fields(status, {"Content-Length": "3"}))
    wire.turn(lambda: (out.write(b"abc"), out.end()))
    client.receive()

    assert client.bodies[stream] == b""
    assert client.ended == [stream]
    assert (b"content-length" in client.heads[stream]) is (method == "HEAD")


def test_an_answer_that_is_broken_off_is_seen_to_be(wire: Wire, client: Client) -> None:
    wire.hold = True
    stream = client.ask(head())
    out = wire.connection.begin(wire.requests[0], TEXT)
    told = []
    out.on_close = lambda: told.append(True)
    wire.turn(lambda: out.write(b"some"))
    wire.turn(out.abort)
    client.receive()

    assert client.resets == {stream: INTERNAL_ERROR}
    assert told == []


def test_a_writer_in_pieces_is_told_that_the_client_gave_up(wire: Wire, client: Client) -> None:
    wire.hold = True
    stream = client.ask(head())
    out = wire.connection.begin(wire.requests[0], TEXT)
    told = []
    out.on_close = lambda: told.append(True)
    wire.turn(lambda: out.write(b"some"))
    client.receive()
    client.protocol.reset_stream(stream, CANCEL)
    client.exchange()

    assert told == [True]
    assert out.closed
    wire.turn(lambda: (out.write(b"x"), out.end(), out.abort()))
    assert wire.disconnected == []


def test_the_applications_are_told_when_the_connection_is_lost(wire: Wire, client: Client) -> None:
    wire.hold = True
    for _ in range(3):
        client.ask(head())
    out = wire.connection.begin(wire.requests[0], TEXT)
    told = []
    out.on_close = lambda: told.append(True)
    wire.turn(lambda: wire.connection.connection_lost(None))

    assert wire.disconnected == wire.requests[1:]
    assert told == [True]
    assert wire.service.connections == set()
    wire.answer(wire.requests[1])  # too late, and harmless


def test_a_request_waits_while_its_client_takes_no_answers(wire: Wire, client: Client) -> None:
    client.acknowledge = False
    wire.hold = True
    client.ask(head())
    wire.answer(wire.requests[0], bytes(2 * 1024 * KIB))
    client.receive()
    late = client.ask(head("POST", "/late"), b"body")
    assert len(wire.requests) == 1

    wire.hold = False
    client.protocol.increment_flow_control_window(4 * 1024 * KIB)
    client.protocol.increment_flow_control_window(4 * 1024 * KIB, 1)
    client.exchange()
    assert client.bodies[late] == b"ok"
    assert wire.requests[1].body == b"body"
    assert wire.service.held_bytes == 0


def test_an_answer_is_dropped_when_too_much_waits(wire: Wire, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pulp_runtime._net.http2_answers.UNSENT_BYTES", 100_000)
    client.acknowledge = False
    wire.hold = True
    for _ in range(3):
        client.ask(head())
    for request in wire.requests:
        wire.answer(request, bytes(200_000))
    client.receive()

    assert client.resets == {3: CALM, 5: CALM}


# Ends ---------------------------------------------------------------------------------------------------------------


def test_at_the_end_what_is_in_flight_is_answered_and_nothing_new(wire: Wire) -> None:
    wire.greet().hold = True
    wire.request(1)
    wire.turn(wire.connection.close_when_idle)
    assert not wire.over

    wire.request(3)
    assert wire.resets() == {3: REFUSED_STREAM}
    wire.answer(wire.requests[0])
    *answer, goodbye = wire.frames()
    assert [frame.stream_id for frame in answer] == [1, 1]
    assert (goodbye.error_code, goodbye.last_stream_id) == (NO_ERROR, 3)
    assert wire.over


def test_at_the_end_a_client_with_a_long_request_is_told_soon(wire: Wire) -> None:
    wire.greet().hold = True
    wire.request(1)
    wire.turn(wire.connection.close_when_idle)
    wire.pass_time(1)
    assert wire.goodbye() is None
    wire.pass_time(1)
    assert wire.goodbye().last_stream_id == 1
    wire.pass_time(5)
    wire.answer(wire.requests[0])

    assert len(wire.frames()) == 2
    assert wire.over


def test_at_the_end_an_idle_connection_closes(wire: Wire) -> None:
    wire.greet().turn(wire.connection.close_when_idle)

    assert wire.goodbye().error_code == NO_ERROR
    assert wire.transport.closed


def test_a_cell_that_wants_the_connection_closed_gets_that(wire: Wire, client: Client) -> None:
    wire.hold = True
    stream = client.ask(head())
    answer = wire.connection.render(wire.requests[0], TEXT, b"last")
    wire.turn(lambda: wire.connection.respond(wire.requests[0], answer, close=True))
    sent = wire.frames()

    assert sum(isinstance(frame, GoAwayFrame) for frame in sent) == 1
    assert [frame.data for frame in sent if isinstance(frame, DataFrame)] == [b"last"]
    assert stream == 1
    assert wire.over


def test_a_client_that_says_goodbye_gets_its_answers(wire: Wire) -> None:
    wire.greet().hold = True
    wire.request(1)
    wire.request(3)
    wire.send(GoAwayFrame(0, last_stream_id=0))
    for request in wire.requests:
        assert not wire.over
        wire.answer(request)

    assert wire.statuses() == {1: b"200", 3: b"200"}
    assert wire.over


def test_a_client_may_shut_its_side_first(wire: Wire) -> None:
    wire.greet().hold = True
    wire.request(1)
    wire.turn(wire.connection.eof_received)
    assert not wire.over
    wire.answer(wire.requests[0])

    assert wire.statuses() == {1: b"200"}
    assert wire.over


def test_a_body_that_the_client_cannot_complete_is_given_up(wire: Wire) -> None:
    wire.greet().request(1, head("POST"), end=False)
    wire.turn(wire.connection.eof_received)

    assert wire.statuses() == {1: b"400"}
    assert wire.over


def test_an_idle_client_is_told_to_go(open_wire: Callable[..., Wire]) -> None:
    wire = open_wire(idle_seconds=75)
    wire.greet().request(1)
    wire.frames()
    wire.pass_time(75)
    assert not wire.over
    wire.pass_time(2)

    assert wire.goodbye().error_code == NO_ERROR
    assert wire.over


def test_a_client_whose_request_takes_long_is_not_idle(open_wire: Callable[..., Wire]) -> None:
    wire = open_wire(idle_seconds=5)
    wire.greet().hold = True
    wire.request(1)
    wire.pass_time(300)
    wire.answer(wire.requests[0])

    assert wire.statuses() == {1: b"200"}


def test_a_cell_may_set_how_long_its_client_is_idle(wire: Wire, client: Client) -> None:
    client.ask(head())
    wire.requests[0].connection.idle_seconds = 3.0
    wire.pass_time(5)

    assert wire.over


def test_nothing_is_read_of_a_connection_that_has_ended(wire: Wire) -> None:
    wire.greet().turn(wire.connection.close_when_idle)
    wire.request(1)

    assert not wire.requests


def test_a_connection_of_a_listener_that_ends_is_not_begun(wire: Wire) -> None:
    wire.service.closing = True
    wire.connect()
    wire.feed(b"PRI * HTTP/2.0")

    assert wire.transport.closed
    assert wire.frames() == []


def test_a_client_that_shuts_its_side_waits_for_no_more_pieces(wire: Wire, client: Client) -> None:
    wire.hold = True
    client.ask(head())
    out = wire.connection.begin(wire.requests[0], TEXT)
    wire.turn(lambda: out.write(b"some"))
    wire.turn(wire.connection.eof_received)

    assert wire.transport.closed


def test_an_answer_in_pieces_may_be_the_last_of_its_connection(wire: Wire, client: Client) -> None:
    wire.hold = True
    stream = client.ask(head())
    out = wire.connection.begin(wire.requests[0], render_head_fields(200, {"Connection": "close"}))
    wire.turn(lambda: out.write(b"all"))
    assert not wire.over
    wire.turn(out.end)
    frames = wire.frames()

    assert [frame.data for frame in frames if isinstance(frame, DataFrame)] == [b"all", b""]
    assert isinstance(frames[-1], GoAwayFrame)
    assert stream == 1
    assert wire.over


def test_what_waits_to_be_sent_is_forgotten_with_its_stream(wire: Wire, client: Client) -> None:
    wire.hold = True
    stream = client.ask(head())
    wire.connection.pause_writing()
    wire.answer(wire.requests[0], bytes(1_000))
    client.protocol.reset_stream(stream, CANCEL)
    client.exchange()
    wire.turn(wire.connection.resume_writing)

    assert not any(isinstance(frame, HeadersFrame | DataFrame) for frame in wire.frames())
    assert wire.connection._waiting == 0


def test_what_came_for_a_stream_that_is_reset_in_one_go_is_window_given_back(wire: Wire) -> None:
    wire.greet()
    for stream in range(1, 81, 2):
        body = _data(stream, bytes(16_384), end=False)
        wire.feed(
            wire.headers(stream, head("POST"), end=False) + body + RstStreamFrame(stream, error_code=8).serialize()
        )

    given = sum(frame.window_increment for frame in wire.frames() if isinstance(frame, WindowUpdateFrame))
    assert given == 512 * KIB
    assert not wire.requests
    assert not wire.over


def test_an_answer_that_is_begun_ends_when_the_body_stops_coming(open_wire: Callable[..., Wire]) -> None:
    wire = open_wire(body_stall_seconds=5)
    _streamed(wire)
    wire.greet().request(1, head("POST"), end=False)
    out = wire.connection.begin(wire.requests[0], TEXT)
    told = []
    out.on_close = lambda: told.append(True)
    wire.pass_time(7)

    assert told == [True]
    assert wire.resets() == {1: CANCEL}


def test_the_header_blocks_that_are_remembered_are_bounded(wire: Wire, client: Client) -> None:
    for number in range(600):
        client.ask(head("GET", "/a", ("x", str(number))))
    client.ask(head("GET", "/a", ("x", "y" * 3_000)))

    assert len(wire.heads._blocks) <= 512
    assert all(len(str(rest)) < 3_000 for _authority, rest in wire.heads._blocks)


def test_a_mistake_of_ours_ends_the_connection_and_is_reported(wire: Wire, client: Client) -> None:
    wire.hold = True
    client.ask(head())
    wire.connection._h2.reset_stream(1)
    wire.answer(wire.requests[0])

    assert wire.transport.aborted
    assert len(wire.errors) == 1
