"""Frames on their way in: what passes whole, what is left out, what it costs."""

from __future__ import annotations

import struct
from collections.abc import Iterable

import pytest
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    PushPromiseFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)
from hypothesis import given
from hypothesis import strategies as st

from pulp_runtime._net import http2_gate
from pulp_runtime._net.http2_gate import Excess, FrameFault, Gate, Plain
from pulp_runtime._net.preface import PREFACE

BLOCK = b"\x82\x84\x86"


def unknown(kind: int, stream: int = 0, body: bytes = b"") -> bytes:
    return struct.pack(">HBBBL", 0, len(body), kind, 0xFF, stream) + body


class Clock:
    now = 0.0


def gate(block_bytes: int = 1_000, *, greeted: bool = True, clock: type[Clock] = Clock) -> Gate:
    made = Gate(block_bytes, lambda: clock.now, lambda stream: made.plain.discard(stream))
    if greeted:
        assert list(made.admit(PREFACE)) == [PREFACE]
    return made


def with_flags(frame: Frame, *flags: str) -> bytes:
    for flag in flags:
        frame.flags.add(flag)
    return frame.serialize()


def headers(stream: int, *flags: str, block: bytes = BLOCK) -> bytes:
    return with_flags(HeadersFrame(stream, block), *flags)


WHOLE = ("END_HEADERS", "END_STREAM")
FIRST = headers(1, *WHOLE)


def passed(made: Gate, *pieces: bytes) -> list[bytes | Plain]:
    return [out for piece in pieces for out in made.admit(piece)]


def merged(found: Iterable[bytes | Plain]) -> list[bytes | Plain]:
    """Join neighbours that go to the same place."""
    out: list[bytes | Plain] = []
    for one in found:
        if out and isinstance(one, bytes) and isinstance(out[-1], bytes):
            out[-1] += one
        else:
            out.append(one)
    return out


def test_the_first_request_goes_to_the_library_and_later_ones_need_not() -> None:
    made = gate()

    assert passed(made, FIRST + headers(3, *WHOLE)) == [FIRST, Plain(3, BLOCK)]
    assert made.highest == 3


def test_a_priority_in_front_of_a_request_is_left_out() -> None:
    made = gate()
    frame = HeadersFrame(3, BLOCK, depends_on=1)

    assert passed(made, FIRST, with_flags(frame, "PRIORITY", *WHOLE))[1:] == [Plain(3, BLOCK)]


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(headers(3, "END_HEADERS"), id="a body follows"),
        pytest.param(with_flags(HeadersFrame(3, BLOCK, pad_length=2), "PADDED", *WHOLE), id="it is padded"),
        pytest.param(with_flags(HeadersFrame(3, BLOCK, depends_on=3), "PRIORITY", *WHOLE), id="it depends on itself"),
        pytest.param(headers(1, *WHOLE), id="the stream was there before"),
        pytest.param(headers(4, *WHOLE), id="the number is the server's"),
    ],
)
def test_a_request_that_is_more_than_a_frame_goes_to_the_library(frame: bytes) -> None:
    assert passed(gate(), FIRST, frame) == [FIRST, frame]


def test_nothing_passes_before_it_is_whole() -> None:
    made = gate(greeted=False)
    ping = PingFrame(0, b"12345678").serialize()
    stream = PREFACE + ping
    for at in range(len(stream) - 1):
        out = passed(made, stream[at : at + 1])
        assert out == ([PREFACE] if at == len(PREFACE) - 1 else [])
        assert made.greeted is (at >= len(PREFACE) - 1)

    assert passed(made, stream[-1:]) == [ping]


def test_a_header_block_in_several_frames_passes_as_one() -> None:
    made = gate()
    block = headers(1) + ContinuationFrame(1, b"x").serialize() + with_flags(ContinuationFrame(1, b"y"), "END_HEADERS")

    assert passed(made, block[:14]) == []
    assert made.block_stream == 1
    assert passed(made, block[14:]) == [block]
    assert made.block_stream == 0


def test_unknown_frames_and_goodbyes_do_not_pass() -> None:
    made = gate()
    ping = PingFrame(0, b"12345678").serialize()

    assert merged(passed(made, ping + unknown(0x42, 7, b"abc") + ping)) == [ping + ping]
    assert not made.leaving
    assert passed(made, GoAwayFrame(0).serialize()) == []
    assert made.leaving


@pytest.mark.parametrize(
    ("data", "code"),
    [
        pytest.param(bytes.fromhex("004001000000000001"), 0x6, id="a frame past the agreed length"),
        pytest.param(bytes.fromhex("ffffff420000000000"), 0x6, id="of a kind nobody knows"),
        pytest.param(headers(1) + PingFrame(0).serialize(), 0x1, id="a header block that another frame interrupts"),
        pytest.param(headers(1) + ContinuationFrame(3, b"").serialize(), 0x1, id="that goes on in another stream"),
        pytest.param(headers(1) + headers(3, *WHOLE), 0x1, id="that another one interrupts"),
        pytest.param(RstStreamFrame(5).serialize(), 0x1, id="resetting a stream that is not there"),
        pytest.param(WindowUpdateFrame(5, 1).serialize(), 0x1, id="a window for one that is not there"),
        pytest.param(DataFrame(5, b"x").serialize(), 0x1, id="a body for one that is not there"),
        pytest.param(RstStreamFrame(2).serialize(), 0x1, id="resetting a stream of the server's"),
    ],
)
def test_a_frame_that_breaks_the_protocol_ends_the_connection(data: bytes, code: int) -> None:
    with pytest.raises(FrameFault) as fault:
        passed(gate(), data)

    assert fault.value.code == code


@pytest.mark.parametrize(
    "frame",
    [RstStreamFrame(3, error_code=8), WindowUpdateFrame(3, 1), DataFrame(3, b"x")],
    ids=lambda frame: type(frame).__name__,
)
def test_a_frame_that_names_a_plain_stream_has_it_introduced(frame: Frame) -> None:
    introduced: list[int] = []
    made = Gate(1_000, lambda: 0.0, introduced.append)
    passed(made, PREFACE + FIRST + headers(3, *WHOLE))
    made.plain.add(3)
    (out,) = passed(made, frame.serialize())

    assert introduced == [3]
    assert out == frame.serialize()


def costs(data: bytes, made: Gate, most: int = 20_000) -> int:
    """Return how often frames may come before it is too much."""
    for times in range(most):
        try:
            passed(made, data)
        except Excess:
            return times
    return most


@pytest.mark.parametrize(
    ("data", "times"),
    [
        pytest.param(PingFrame(0, b"12345678").serialize(), 1_000, id="PING"),
        pytest.param(with_flags(PingFrame(0, b"12345678"), "ACK"), 1_000, id="answers to PINGs nobody sent"),
        pytest.param(SettingsFrame(0).serialize(), 1_000, id="SETTINGS"),
        pytest.param(with_flags(SettingsFrame(0), "ACK"), 1_000, id="acknowledged SETTINGS"),
        pytest.param(PriorityFrame(7, depends_on=1).serialize(), 2_000, id="PRIORITY"),
        pytest.param(WindowUpdateFrame(0, 1).serialize(), 2_000, id="WINDOW_UPDATE"),
        pytest.param(RstStreamFrame(1).serialize(), 200, id="RST_STREAM"),
        pytest.param(DataFrame(1, b"").serialize(), 1_000, id="DATA without data"),
        pytest.param(DataFrame(1, b"x").serialize(), 10_158, id="DATA of one byte"),
        pytest.param(unknown(0x20), 2_000, id="frames nobody knows"),
        pytest.param(GoAwayFrame(0).serialize(), 2_000, id="GOAWAY"),
        pytest.param(headers(1) + with_flags(ContinuationFrame(1, b""), "END_HEADERS"), 40, id="CONTINUATION"),
    ],
)
def test_threat_37_frames_that_move_nothing_forward_are_bounded(data: bytes, times: int) -> None:
    made = gate()
    passed(made, FIRST)

    assert costs(data, made) == times


def test_points_come_back_with_time() -> None:
    class Later(Clock):
        pass

    made = gate(clock=Later)
    ping = PingFrame(0).serialize()
    assert costs(ping, made) == 1_000
    Later.now = 1.0
    assert costs(ping, made) == 49  # 500 points, one of which was owed
    Later.now = 10_000.0
    assert costs(ping, made) == 1_000


def test_a_flood_in_one_read_is_stopped_where_it_is_too_much() -> None:
    made = gate()
    found: list[bytes | Plain] = []
    with pytest.raises(Excess):
        found.extend(made.admit(PingFrame(0).serialize() * 100_000))

    assert sum(map(len, found)) <= 1_000 * 17


def test_data_brings_points() -> None:
    made = gate()
    passed(made, FIRST)
    mixed = (
        DataFrame(1, bytes(16_000)).serialize() + WindowUpdateFrame(0, 1).serialize() * 10 + PingFrame(0).serialize()
    )

    assert costs(mixed, made, 3_000) == 3_000


def test_requests_bring_points() -> None:
    made = gate()
    for _ in range(10_000):
        passed(made, PingFrame(0).serialize())
        made.earn(http2_gate.POINTS_PER_REQUEST)


@pytest.mark.parametrize("size", [333, 1_000])
def test_threat_37_a_header_block_is_bounded_in_bytes_and_frames(size: int) -> None:
    long = headers(1, block=bytes(size)) + ContinuationFrame(1, bytes(size)).serialize() * 20
    with pytest.raises(Excess):
        passed(gate(), long)

    many = headers(1) + ContinuationFrame(1, b"").serialize() * 17
    with pytest.raises(Excess):
        passed(gate(), many)


FRAMES = st.one_of(
    st.just(PingFrame(0, b"12345678").serialize()),
    st.just(SettingsFrame(0, {4: 1_000}).serialize()),
    st.builds(lambda body: unknown(0x33, 1, body), st.binary(max_size=30)),
    st.builds(lambda body: DataFrame(1, body).serialize(), st.binary(max_size=40)),
    st.builds(lambda block: headers(3, *WHOLE, block=block), st.binary(min_size=1, max_size=20)),
    st.builds(
        lambda one, two: headers(1, block=one) + with_flags(ContinuationFrame(1, two), "END_HEADERS"),
        st.binary(max_size=20),
        st.binary(max_size=20),
    ),
    st.just(GoAwayFrame(0).serialize()),
    st.just(PushPromiseFrame(1, promised_stream_id=2).serialize()),
)


@given(st.lists(FRAMES, max_size=12), st.lists(st.integers(1, 60), min_size=1, max_size=40))
def test_how_the_bytes_are_cut_makes_no_difference(frames: list[bytes], cuts: list[int]) -> None:
    data = PREFACE + FIRST + b"".join(frames)
    at_once = merged(passed(gate(greeted=False), data))
    made = gate(greeted=False)
    found, at, number = [], 0, 0
    while at < len(data):
        size = cuts[number % len(cuts)]
        found += passed(made, data[at : at + size])
        at, number = at + size, number + 1

    assert merged(found) == at_once
