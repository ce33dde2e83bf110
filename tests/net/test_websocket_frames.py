from __future__ import annotations

import logging
import struct

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.net.websocket_client import BINARY, CLOSE, PING, PONG, TEXT, closing, frames, masked
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.server import ServerProtocol

from pulp_runtime._net.websocket_frames import (
    FRAGMENT,
    FrameReader,
    WebSocketFault,
    encode_close,
    encode_frame,
    may_be_sent,
    parse_close,
)

LIMIT = 1_000


def read(data: bytes, *, limit: int = LIMIT, cut: int = 1 << 30) -> list[tuple[int, bytes]]:
    """Return what a reader makes of bytes that come `cut` at a time."""
    reader = FrameReader(limit)
    found = []
    for at in range(0, len(data), cut):
        reader.feed(data[at : at + cut])
        while (frame := reader.take()) is not None:
            if frame is not FRAGMENT:
                found.append(frame)
    return found


def code_of(data: bytes, **options: int) -> int:
    with pytest.raises(WebSocketFault) as caught:
        read(data, **options)
    return caught.value.code


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65_535, 65_536])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_a_message_of_any_length_is_read_whole(size: int, opcode: int) -> None:
    payload = b"x" * size

    assert read(masked(opcode, payload), limit=1 << 20) == [(opcode, payload)]
    assert read(masked(opcode, payload), limit=1 << 20, cut=1 if size < 200 else 1_000) == [(opcode, payload)]


def test_fragments_are_put_together_also_around_control_frames() -> None:
    data = (
        masked(TEXT, b"gr", fin=False)
        + masked(PING, b"?")
        + masked(0, b"\xc3", fin=False)
        + masked(PONG)
        + masked(0, b"\xbc\xc3\x9f")
    )

    assert read(data) == [(PING, b"?"), (PONG, b""), (TEXT, "grüß".encode())]
    assert read(data, cut=1) == read(data)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(bytes((0x81, 5)) + b"hello", id="a frame without a mask"),
        pytest.param(masked(TEXT, rsv=4), id="RSV1 where compression was not agreed on"),
        pytest.param(masked(TEXT, rsv=2), id="RSV2"),
        pytest.param(masked(PING, rsv=1), id="RSV3 of a control frame"),
        pytest.param(masked(3), id="an unknown data opcode"),
        pytest.param(masked(11), id="an unknown control opcode"),
        pytest.param(masked(0), id="a continuation of nothing"),
        pytest.param(masked(TEXT, fin=False) + masked(TEXT), id="a message within a message"),
        pytest.param(masked(PING, fin=False), id="a control frame in fragments"),
        pytest.param(masked(PING, b"x" * 126), id="a control frame of 126 bytes"),
        pytest.param(bytes((0x82, 0xFF)) + struct.pack(">Q", 1 << 63), id="a length of 2**63"),
    ],
)
def test_a_breach_of_the_protocol_is_1002(data: bytes) -> None:
    assert code_of(data) == 1002


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(masked(BINARY, b"x" * 1_001), id="in one frame"),
        pytest.param(masked(BINARY, b"x" * 600, fin=False) + masked(0, b"x" * 401), id="in two fragments"),
        pytest.param(bytes((0x82, 0xFF)) + struct.pack(">Q", (1 << 63) - 1), id="by its header alone"),
    ],
)
def test_a_message_past_the_limit_is_1009(data: bytes) -> None:
    assert code_of(data) == 1009
    assert code_of(data[:14] if len(data) == 10 else data, cut=7) == 1009


def test_a_message_at_the_limit_is_read() -> None:
    assert read(masked(BINARY, b"x" * LIMIT)) == [(BINARY, b"x" * LIMIT)]


@pytest.mark.parametrize("text", [b"\xff", b"a\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\xaf"])
def test_text_that_is_not_utf8_is_1007(text: bytes) -> None:
    assert code_of(masked(TEXT, text)) == 1007
    assert code_of(masked(TEXT, text[:1], fin=False) + masked(0, text[1:])) == 1007
    assert read(masked(BINARY, text)) == [(BINARY, text)]


def test_a_fragment_that_breaks_the_text_is_refused_before_the_last_one_comes() -> None:
    assert code_of(masked(TEXT, b"ok", fin=False) + masked(0, b"\xff", fin=False)) == 1007


def test_one_short_frame_alone_takes_the_short_way_and_nothing_else_does() -> None:
    reader = FrameReader(LIMIT)

    assert reader.take_only(masked(TEXT, b"hello")) == (TEXT, b"hello")
    assert reader.take_only(masked(BINARY, b"x" * 125)) == (BINARY, b"x" * 125)
    assert reader.take_only(masked(TEXT, "ü".encode())) == (TEXT, "ü".encode())
    for other in (
        b"",
        masked(BINARY, b"x" * 126),
        masked(BINARY, b"x" * 128),
        masked(PING, b"x"),
        masked(TEXT, b"x", fin=False),
        masked(0, b"x"),
        masked(TEXT, b"x") + masked(TEXT, b"y"),
        masked(TEXT, b"xyz")[:-1],
        bytes((0x81, 3)) + b"abcd" + b"xyz",
    ):
        assert reader.take_only(other) is None
    with pytest.raises(WebSocketFault, match="1007"):
        reader.take_only(masked(TEXT, b"\xff"))
    assert FrameReader(4).take_only(masked(TEXT, b"hello")) is None


def test_the_short_way_is_closed_while_a_message_is_not_complete() -> None:
    reader = FrameReader(LIMIT)
    reader.feed(masked(TEXT, b"a", fin=False))
    assert reader.take() is FRAGMENT

    assert reader.take_only(masked(TEXT, b"b")) is None


def test_what_is_held_is_what_is_not_complete() -> None:
    reader = FrameReader(LIMIT)
    reader.feed(masked(BINARY, b"x" * 10, fin=False) + masked(0, b"y" * 10)[:8])
    while reader.take() is not None:
        pass

    assert reader.held == 10 + 8
    reader.clear()
    assert reader.held == 0


@pytest.mark.parametrize("size", [0, 125, 126, 65_535, 65_536])
def test_what_is_sent_is_one_whole_frame_without_a_mask(size: int) -> None:
    assert frames(encode_frame(BINARY, b"x" * size)) == [(0x82, b"x" * size)]


@pytest.mark.parametrize(
    ("data", "meaning"),
    [
        (b"", (1005, "")),
        (b"\x03\xe8", (1000, "")),
        (b"\x0f\xa0bye", (4000, "bye")),
    ],
)
def test_a_close_frame_says_a_code_and_a_reason(data: bytes, meaning: tuple[int, str]) -> None:
    assert parse_close(data) == meaning


@pytest.mark.parametrize(
    "data", [b"\x03", b"\x00\x00", b"\x03\xec", b"\x03\xed", b"\x03\xf7", b"\x07\xd0", b"\xff\xff"]
)
def test_a_malformed_close_frame_is_1002(data: bytes) -> None:
    with pytest.raises(WebSocketFault, match="1002"):
        parse_close(data)


def test_a_close_reason_that_is_not_utf8_is_1007() -> None:
    with pytest.raises(WebSocketFault, match="1007"):
        parse_close(b"\x03\xe8\xff")


def test_a_reason_is_cut_where_a_character_ends() -> None:
    payload = frames(encode_close(1000, "ü" * 100))[0][1]

    assert payload == b"\x03\xe8" + ("ü" * 61).encode()
    assert frames(encode_close(1005, "unheard")) == [(0x88, b"")]


def test_which_codes_may_be_sent() -> None:
    assert [code for code in range(5_100) if may_be_sent(code)] == [
        *range(1000, 1004),
        *range(1007, 1015),
        *range(3000, 5000),
    ]


# Beside another implementation -------------------------------------------------------------------------------------

some_frames = st.lists(
    st.builds(
        masked,
        st.sampled_from((0, 0, TEXT, BINARY, CLOSE, PING, PONG, 3, 12)),
        st.one_of(st.binary(max_size=200), st.text(max_size=60).map(str.encode)),
        fin=st.booleans(),
        rsv=st.sampled_from((0, 0, 0, 0, 4)),
        mask=st.binary(min_size=4, max_size=4),
    ),
    max_size=8,
)


def as_others_read(data: bytes) -> tuple[list[tuple[int, bytes]], int]:
    """Return messages and control frames as `websockets` reads them, and the code it fails with, 0 for none."""
    protocol = ServerProtocol(state=State.OPEN, max_size=LIMIT, logger=logging.getLogger("test.silent"))
    protocol.receive_data(data)
    found: list[tuple[int, bytes]] = []
    kind, parts = 0, b""
    for frame in protocol.events_received():
        assert isinstance(frame, Frame)
        if frame.opcode in (Opcode.PING, Opcode.PONG, Opcode.CLOSE):
            found.append((int(frame.opcode), bytes(frame.data)))
            continue
        if frame.opcode is not Opcode.CONT:
            kind, parts = int(frame.opcode), b""
        parts += frame.data
        if frame.fin:
            found.append((kind, parts))
    failed = protocol.parser_exc is not None and protocol.close_sent is not None
    return found, protocol.close_sent.code if failed else 0


def as_we_read(data: bytes, cut: int) -> tuple[list[tuple[int, bytes]], int]:
    reader = FrameReader(LIMIT)
    found: list[tuple[int, bytes]] = []
    try:
        for at in range(0, len(data), cut):
            reader.feed(data[at : at + cut])
            while (frame := reader.take()) is not None:
                if frame is FRAGMENT:
                    continue
                if frame[0] == CLOSE:
                    parse_close(frame[1])
                    return [*found, frame], 0
                found.append(frame)
    except WebSocketFault as fault:
        return found, fault.code
    return found, 0


@given(some_frames, st.integers(1, 300))
@settings(max_examples=400, deadline=None)
@example([closing(1000, "bye"), masked(TEXT, b"late")], 3)
def test_threat_40_any_frames_in_any_pieces_are_read_as_others_read_them(sent: list[bytes], cut: int) -> None:
    data = b"".join(sent)
    ours, code = as_we_read(data, cut)
    theirs, their_code = as_others_read(data)
    if code == 1007:  # they leave the text to whoever asks for it, and read on
        assert theirs[: len(ours)] == ours
        texts = [payload for kind, payload in [*theirs, *unfinished(data)] if kind == TEXT]
        assert their_code or not all(map(is_text, texts))
        return

    assert ours == theirs
    assert bool(code) == bool(their_code)
    assert code == their_code or {code, their_code} == {1002, 1007}  # a close frame can break two rules at once


def is_text(payload: bytes) -> bool:
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True


def unfinished(data: bytes) -> list[tuple[int, bytes]]:
    """Return the text whose last fragment never came, with an end that no text has if it may still go on."""
    protocol = ServerProtocol(state=State.OPEN, max_size=LIMIT, logger=logging.getLogger("test.silent"))
    protocol.receive_data(data)
    parts: bytes | None = None
    for frame in protocol.events_received():
        if frame.opcode is Opcode.TEXT and not frame.fin:
            parts = bytes(frame.data)
        elif frame.opcode is Opcode.CONT and parts is not None:
            parts += frame.data
            if frame.fin:
                parts = None
    return [] if parts is None else [(TEXT, parts)]
