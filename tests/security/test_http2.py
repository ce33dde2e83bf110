"""What HTTP/2 has of its own to attack a server with."""

from __future__ import annotations

import struct
import time
import tracemalloc
from collections.abc import Callable, Iterator

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.exceptions import ProtocolError
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    GoAwayFrame,
    PingFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.net.http2_wire import EMPTY_SETTINGS, Client, Wire, frames_of, head, headers_frame

from pulp_runtime._net.exchange import BodyPlan
from pulp_runtime._net.preface import PREFACE
from pulp_runtime._net.response import render_head_fields

NO_ERROR, PROTOCOL_ERROR, FRAME_SIZE_ERROR, REFUSED_STREAM, CANCEL, COMPRESSION_ERROR, CALM = 0, 1, 6, 7, 8, 9, 11
#: GET / of `h`, in fields that no table needs.
BLOCK = b"\x82\x84\x87\x01\x01h"


@pytest.fixture
def open_wire() -> Iterator[Callable[..., Wire]]:
    wires = []

    def make(**limits: float) -> Wire:
        wires.append(Wire(**limits).greet())
        return wires[-1]

    yield make
    for wire in wires:
        wire.close()


@pytest.fixture
def wire(open_wire: Callable[..., Wire]) -> Wire:
    return open_wire()


def get(stream: int) -> bytes:
    return headers_frame(stream, BLOCK, "END_HEADERS", "END_STREAM")


def reset(stream: int) -> bytes:
    return RstStreamFrame(stream, error_code=CANCEL).serialize()


# Streams ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at_once", [1, 50], ids=["a stream a packet", "fifty a packet"])
def test_threat_37_rapid_reset_ends_the_connection_after_some_requests(wire: Wire, at_once: int) -> None:
    wire.hold = True
    for first in range(1, 40_000, 2 * at_once):
        wire.feed(b"".join(get(stream) + reset(stream) for stream in range(first, first + 2 * at_once, 2)))
        if wire.over:
            break

    assert wire.goodbye().error_code == CALM
    assert len(wire.requests) <= 201
    assert wire.connection._exchanges == {}


def test_threat_37_rapid_reset_with_bodies_ends_the_connection_too(wire: Wire) -> None:
    for stream in range(1, 2_000, 2):
        wire.feed(headers_frame(stream, BLOCK, "END_HEADERS") + reset(stream))
        if wire.over:
            break

    assert wire.goodbye().error_code == CALM
    assert not wire.requests
    assert wire.service.held_bytes == 0


@pytest.mark.slow
def test_a_client_may_change_its_mind_now_and_then(wire: Wire) -> None:
    wire.hold = True
    for first in range(1, 3_000, 6):
        wire.feed(get(first) + get(first + 2) + get(first + 4))
        for request in wire.requests[-3:-1]:
            wire.answer(request)
        wire.feed(reset(first + 4))

    assert not wire.over


def test_threat_37_a_stream_too_many_is_refused_and_the_others_go_on(wire: Wire) -> None:
    wire.hold = True
    wire.feed(b"".join(get(stream) for stream in range(1, 211, 2)))
    assert len(wire.requests) == 100
    assert wire.resets() == dict.fromkeys(range(201, 211, 2), REFUSED_STREAM)

    wire.answer(wire.requests[0])
    wire.feed(get(301))
    assert len(wire.requests) == 101


def test_threat_37_streams_far_too_many_end_the_connection(wire: Wire) -> None:
    wire.hold = True
    began = time.perf_counter()
    wire.feed(b"".join(get(stream) for stream in range(1, 50_001, 2)))

    assert wire.goodbye().error_code == CALM
    assert len(wire.requests) == 100
    assert time.perf_counter() - began < 2


@pytest.mark.slow
def test_threat_37_a_connection_does_not_grow_with_its_past(wire: Wire) -> None:
    for first in range(1, 20_001, 200):
        wire.feed(b"".join(get(stream) for stream in range(first, first + 200, 2)))
        wire.requests.clear()
    for stream in range(20_003, 26_003, 2):
        wire.feed(headers_frame(stream, BLOCK, "END_HEADERS") + _data(stream, b""))
        wire.requests.clear()

    connection = wire.connection
    assert not wire.over
    assert not connection._exchanges
    assert not connection._gate.plain
    assert len(connection._h2.streams) + len(connection._h2._closed_streams) < 1_200


def _data(stream: int, data: bytes, *, end: bool = True) -> bytes:
    frame = DataFrame(stream, data)
    if end:
        frame.flags.add("END_STREAM")
    return frame.serialize()


# Headers ------------------------------------------------------------------------------------------------------------


def _continued(times: int, size: int = 0, *, end: bool = False) -> bytes:
    frames = [ContinuationFrame(1, bytes(size)) for _ in range(times)]
    if end:
        frames[-1].flags.add("END_HEADERS")
    return headers_frame(1, BLOCK) + b"".join(frame.serialize() for frame in frames)


@pytest.mark.parametrize(
    "flood",
    [_continued(100_000), _continued(1_000, 16_000), _continued(17, 1, end=True)],
    ids=["of nothing", "of megabytes", "one frame too many"],
)
def test_threat_37_a_continuation_flood_ends_the_connection(wire: Wire, flood: bytes) -> None:
    for at in range(0, len(flood), 65_536):
        wire.feed(flood[at : at + 65_536])
        held = len(wire.connection._gate._held)
        assert held < 200_000

    assert wire.goodbye().error_code == CALM
    assert not wire.requests


def test_threat_37_the_library_bounds_continuations_by_itself_too() -> None:
    server = H2Connection(H2Configuration(client_side=False))
    server.initiate_connection()
    server.receive_data(PREFACE + EMPTY_SETTINGS)

    with pytest.raises(ProtocolError):
        server.receive_data(_continued(65))


def test_threat_37_a_header_block_that_never_ends_has_its_time(open_wire: Callable[..., Wire]) -> None:
    wire = open_wire(header_seconds=10)
    wire.feed(headers_frame(1, BLOCK))
    for _ in range(9):
        wire.pass_time(1)
        wire.feed(ContinuationFrame(1, b"").serialize())
    assert not wire.over
    wire.pass_time(3)

    assert wire.goodbye().error_code == CALM


def test_a_block_that_ends_and_another_one_are_not_one_that_takes_long(open_wire: Callable[..., Wire]) -> None:
    wire = open_wire(header_seconds=3)
    for stream in range(1, 21, 2):
        wire.feed(headers_frame(stream, BLOCK, "END_STREAM"))
        wire.pass_time(1)
        end = ContinuationFrame(stream, b"")
        end.flags.add("END_HEADERS")
        wire.feed(end.serialize())

    assert not wire.over
    assert len(wire.requests) == 10


@pytest.mark.parametrize("sent", [b"", PREFACE[:20]], ids=["says nothing", "stops in its preface"])
def test_threat_37_a_client_that_does_not_begin_is_ended(sent: bytes) -> None:
    wire = Wire(header_seconds=10)
    if sent:
        wire.feed(sent)
    wire.pass_time(12)

    assert wire.over
    wire.close()


def test_threat_37_a_small_block_that_stands_for_megabytes_ends_the_connection(wire: Wire) -> None:
    """A field of 4,000 bytes in the client's table, named ten thousand times."""
    wire.feed(headers_frame(1, BLOCK + b"\x40\x01x\x7f\xa1\x1e" + b"y" * 4_000, "END_HEADERS", "END_STREAM"))
    tracemalloc.start()
    wire.feed(headers_frame(3, BLOCK + b"\xbe" * 10_000, "END_HEADERS", "END_STREAM"))
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert wire.goodbye().error_code == CALM
    assert len(wire.requests) == 1
    assert most < 4_000_000


def test_threat_37_blocks_of_thousands_of_fields_are_soon_too_much(wire: Wire) -> None:
    block = BLOCK + b"\x00\x01a\x00" * 3_900
    began = time.process_time()
    for stream in range(1, 2_001, 2):
        wire.feed(headers_frame(stream, block, "END_HEADERS", "END_STREAM"))
        if wire.over:
            break

    assert stream < 9
    assert time.process_time() - began < 2


@pytest.mark.parametrize("block", [b"\xff", b"\x40", b"\xfe", b"\x00\x85x", b"\x3f\xff\xff\xff\xff\x07", b"\x82\x20"])
def test_threat_37_a_block_that_cannot_be_read_ends_the_connection(wire: Wire, block: bytes) -> None:
    wire.feed(get(1))
    wire.frames()
    wire.feed(headers_frame(3, block, "END_HEADERS", "END_STREAM"))

    assert wire.goodbye().error_code in (COMPRESSION_ERROR, PROTOCOL_ERROR)
    assert len(wire.requests) == 1


def test_threat_37_a_client_cannot_have_a_table_kept_for_it(wire: Wire) -> None:
    wire.feed(SettingsFrame(0, {1: 0xFFFF_FFFF}).serialize())
    wire.hold = True
    tracemalloc.start()
    for stream in range(1, 401, 2):
        wire.feed(get(stream))
        wire.answer(wire.requests.pop(), b"", 200, **{f"X-{stream}": "v" * 2_000})
        wire.transport.sent.clear()
    kept = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()

    assert kept < 300_000


# Frames that move nothing forward -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(PingFrame(0, b"12345678"), id="PING"),
        pytest.param(SettingsFrame(0, {4: 1}), id="SETTINGS"),
        pytest.param(PriorityFrame(5, depends_on=3), id="PRIORITY"),
        pytest.param(WindowUpdateFrame(0, 1), id="WINDOW_UPDATE"),
        pytest.param(DataFrame(1, b""), id="empty DATA"),
    ],
)
def test_threat_37_a_flood_of_frames_ends_the_connection(wire: Wire, frame: object) -> None:
    wire.feed(headers_frame(1, BLOCK, "END_HEADERS"))
    flood = frame.serialize() * 100_000
    began = time.perf_counter()
    wire.feed(flood)

    assert wire.goodbye().error_code == CALM
    assert len(wire.transport.sent) < 100_000
    assert time.perf_counter() - began < 2


def test_a_goodbye_says_why(wire: Wire) -> None:
    wire.feed(PingFrame(0).serialize() * 2_000)

    assert b"too many frames" in wire.goodbye().additional_data


def test_threat_37_a_client_that_only_pings_is_idle(open_wire: Callable[..., Wire]) -> None:
    wire = open_wire(idle_seconds=10)
    for _ in range(12):
        wire.feed(PingFrame(0).serialize())
        wire.pass_time(1)

    assert wire.over


def test_threat_37_a_client_that_does_not_read_cannot_have_us_write(wire: Wire) -> None:
    wire.connection.pause_writing()
    wire.transport.unsent = 500_000
    wire.feed(PingFrame(0).serialize())
    assert not wire.transport.aborted
    wire.transport.unsent = 1_100_000
    wire.feed(PingFrame(0).serialize())

    assert wire.transport.aborted


@pytest.mark.parametrize("size", [16_385, 0xFF_FFFF])
def test_threat_37_a_frame_that_is_too_long_is_refused_by_its_head(wire: Wire, size: int) -> None:
    wire.feed(struct.pack(">HBBBL", size >> 8, size & 0xFF, 0, 0, 1))

    assert wire.goodbye().error_code == FRAME_SIZE_ERROR
    assert wire.over


# Windows ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pieces", [False, True])
@pytest.mark.parametrize("whose", ["stream", "connection"])
def test_threat_37_a_client_that_gives_no_window_loses_its_stream(
    open_wire: Callable[..., Wire], whose: str, pieces: bool
) -> None:
    wire = open_wire(write_stall_seconds=30)
    if whose == "stream":
        wire.feed(SettingsFrame(0, {4: 0}).serialize())
    wire.hold = True
    wire.feed(get(1))
    told = []
    if pieces:
        out = wire.connection.begin(wire.requests[0], render_head_fields(200, {}))
        out.on_close = lambda: told.append(True)
        wire.turn(lambda: out.write(bytes(100_000)))
    else:
        wire.answer(wire.requests[0], bytes(100_000))
    wire.pass_time(28)
    assert wire.resets() == {}
    wire.pass_time(5)

    assert wire.resets() == {1: CANCEL}
    assert wire.connection._waiting == 0
    assert told == [True] * pieces
    wire.feed(get(3))
    assert len(wire.requests) == 2


def test_a_client_that_takes_a_little_keeps_its_stream(open_wire: Callable[..., Wire]) -> None:
    wire = open_wire(write_stall_seconds=10)
    wire.hold = True
    wire.feed(get(1) + get(3))
    for request in wire.requests:
        wire.answer(request, bytes(65_536))
    for _ in range(10):
        wire.pass_time(8)
        wire.feed(WindowUpdateFrame(0, 1_000).serialize())

    assert wire.resets() == {}


def test_threat_37_a_client_whose_socket_takes_nothing_is_aborted(open_wire: Callable[..., Wire]) -> None:
    wire = open_wire(write_stall_seconds=30)
    wire.hold = True
    wire.feed(get(1))
    wire.connection.pause_writing()
    wire.transport.unsent = 100_000
    wire.pass_time(29)
    wire.transport.unsent = 90_000
    wire.pass_time(29)
    assert not wire.transport.aborted
    wire.pass_time(4)

    assert wire.transport.aborted


def test_threat_37_a_window_too_large_ends_what_it_is_for(wire: Wire) -> None:
    wire.hold = True
    wire.feed(get(1) + WindowUpdateFrame(1, 2**31 - 1).serialize())
    assert wire.resets() == {1: 3}
    wire.feed(WindowUpdateFrame(0, 2**31 - 1).serialize())

    assert wire.goodbye().error_code == 3


def test_threat_37_a_body_past_its_window_ends_the_connection(wire: Wire) -> None:
    wire.plan = lambda _line, _block: BodyPlan(1 << 30, streamed=True)
    wire.hold = True
    wire.feed(headers_frame(1, BLOCK, "END_HEADERS"))
    for _ in range(17):
        wire.feed(_data(1, bytes(16_384), end=False))

    assert wire.over
    assert wire.service.held_bytes == 0


# What a request may say ---------------------------------------------------------------------------------------------


def test_threat_38_a_forwarding_header_never_changes_the_remote_address(wire: Wire) -> None:
    wire.request(1, head("GET", "/", ("x-forwarded-for", "6.6.6.6"), ("forwarded", "for=6.6.6.6")))

    assert wire.requests[0].connection.remote_addr == "192.0.2.7:4711"


def test_threat_38_what_a_cell_says_of_the_connection_does_not_reach_an_http2_client(wire: Wire) -> None:
    client = Client(Wire())
    client.wire.hold = True
    stream = client.ask(head())
    names = ("Connection", "Keep-Alive", "Transfer-Encoding", "Upgrade", "Proxy-Connection", "TE", "Trailer")
    client.wire.answer(client.wire.requests[0], b"ok", 200, **dict.fromkeys(names, "x"))
    client.receive()

    assert set(client.heads[stream]) == {b":status", b"content-type", b"content-length", b"date"}
    client.wire.close()


# Anything -----------------------------------------------------------------------------------------------------------

FLAGS = st.sampled_from([0x0, 0x1, 0x4, 0x5, 0x8, 0x9, 0x20, 0x25, 0x2D, 0xFF])
STREAMS = st.sampled_from([0, 1, 1, 2, 3, 3, 5, 7, 9, 0x7FFF_FFFF, 0x8000_0001])
PAYLOADS = st.one_of(
    st.just(BLOCK),
    st.just(b""),
    st.binary(max_size=40),
    st.just(bytes(4)),
    st.just(b"\0\0\0\x01"),
    st.just(bytes(8)),
    st.just(b"\0\4\0\0\0\0"),
    st.just(BLOCK + b"\x0f\x0d\x015"),
    st.just(b"\0\0\0\0\x0f" + BLOCK),
)
FRAMES = st.builds(
    lambda kind, flags, stream, payload: struct.pack(">HBBBL", 0, len(payload), kind, flags, stream) + payload,
    st.integers(0, 12),
    FLAGS,
    STREAMS,
    PAYLOADS,
)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(st.lists(FRAMES, max_size=15), st.booleans(), st.booleans())
def test_threat_37_any_frames_are_answered_or_end_the_connection(
    frames: list[bytes], hold: bool, streamed: bool
) -> None:
    wire = Wire()
    try:
        wire.feed(PREFACE + EMPTY_SETTINGS + get(1))
        wire.hold = hold
        wire.plan = lambda _line, _block: BodyPlan(100, streamed=streamed)
        for frame in frames:
            wire.feed(frame)
        for request in wire.requests:
            wire.answer(request)
        wire.pass_time(100)
        if not wire.over:
            stream = wire.connection._gate.highest + 2 | 1
            if stream < 2**31:
                wire.hold = False
                wire.feed(get(stream))
                assert wire.over or wire.requests[-1].stream == stream
        sent = frames_of(bytes(wire.transport.sent))
        assert not wire.errors
        assert not wire.over or wire.transport.aborted or isinstance(sent[-1], GoAwayFrame) or wire.connection._closing
        wire.turn(lambda: wire.connection.connection_lost(None))
        assert wire.service.held_bytes == 0
        assert wire.service.connections == set()
    finally:
        wire.close()
