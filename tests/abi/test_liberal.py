from __future__ import annotations

import tracemalloc
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulp_runtime.abi.codec import MAX_NESTING, MAX_VALUES, DecodeError, Extension, Timestamp, decode_liberal

WHOLE_NUMBERS = st.integers(-(1 << 63), (1 << 64) - 1)
TEXTS = st.text(max_size=300)
SCALARS = st.none() | st.booleans() | WHOLE_NUMBERS | st.floats(allow_nan=False) | TEXTS | st.binary(max_size=300)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=20) | st.dictionaries(SCALARS, inner), max_leaves=30
)


@pytest.mark.slow
@given(VALUES)
def test_what_a_library_writes_is_read_back(value: object) -> None:
    assert decode_liberal(msgpack.packb(value)) == value


#: Bytes that mostly start something: every marker, followed by small sizes.
MARKERS = st.lists(st.integers(0x80, 0xDF) | st.integers(0, 4), max_size=100).map(bytes)


@given(st.binary(max_size=200) | MARKERS)
def test_hostile_bytes_are_a_value_or_a_decode_error(data: bytes) -> None:
    try:
        decode_liberal(data)
    except DecodeError:
        pass


@pytest.mark.slow
@given(VALUES, st.data())
def test_a_message_cut_short_anywhere_is_refused(value: object, data: Any) -> None:
    whole = msgpack.packb(value)
    cut = data.draw(st.integers(0, len(whole) - 1))

    with pytest.raises(DecodeError):
        decode_liberal(whole[:cut])


@pytest.mark.parametrize(
    ("data", "value"),
    [
        pytest.param("d3ffffffffffffffff", -1, id="a wide negative integer"),
        pytest.param("d0ff", -1, id="a narrow negative integer"),
        pytest.param("d1ffff", -1, id="a negative integer of two bytes"),
        pytest.param("d2ffffffff", -1, id="a negative integer of four bytes"),
        pytest.param("cfffffffffffffffff", (1 << 64) - 1, id="the largest integer"),
        pytest.param("ca3fc00000", 1.5, id="a float of four bytes"),
        pytest.param("d90161", "a", id="text with a longer header than needed"),
        pytest.param("db0000000161", "a", id="text with the longest header"),
        pytest.param("a2fffe", b"\xff\xfe", id="text that is not UTF-8 stays bytes"),
        pytest.param("c70301616263", Extension(1, b"abc"), id="an extension"),
        pytest.param("d4ff00", Extension(-1, b"\0"), id="a timestamp of one byte is an extension"),
        pytest.param("d6ff00000001", Timestamp(1), id="a timestamp"),
        pytest.param("8201a178c0c3", {1: "x", None: True}, id="keys that are not text"),
        pytest.param("81d40500c0", {Extension(5, b"\0"): None}, id="an extension as a key"),
        pytest.param("82a16101a16102", {"a": 2}, id="the last of equal keys wins"),
        pytest.param("dd0000000190", [[]], id="an array with the longest header"),
        pytest.param("df0000000101c2", {1: False}, id="a map with the longest header"),
    ],
)
def test_every_form_of_a_value_is_read(data: str, value: object) -> None:
    assert decode_liberal(bytes.fromhex(data)) == value


@pytest.mark.parametrize(
    ("data", "words"),
    [
        pytest.param("", "1 bytes are needed at 0", id="nothing at all"),
        pytest.param("c1", "0xc1 at 0 starts no value", id="the one byte that means nothing"),
        pytest.param("0100", "1 bytes follow", id="something after the value"),
        pytest.param("ddffffffff", "4294967295 values are announced", id="four billion elements"),
        pytest.param("dfffffffff", "8589934590 values are announced", id="four billion pairs"),
        pytest.param("dbffffffff61", "4294967295 bytes are needed", id="four gigabytes of text"),
        pytest.param("c6ffffffff61", "4294967295 bytes are needed", id="four gigabytes of bytes"),
        pytest.param("c9ffffffff0161", "4294967295 bytes are needed", id="four gigabytes of extension"),
        pytest.param("819001", "itself an array or a map", id="an array as a key"),
        pytest.param("818001", "itself an array or a map", id="a map as a key"),
        pytest.param("91" * 100_000, "levels of nesting", id="a hundred thousand arrays deep"),
        pytest.param("81a161" * 100_000, "levels of nesting", id="a hundred thousand maps deep"),
    ],
)
def test_what_is_not_messagepack_is_refused_with_a_reason(data: str, words: str) -> None:
    with pytest.raises(DecodeError, match=words):
        decode_liberal(bytes.fromhex(data))


def test_the_last_level_of_nesting_is_allowed() -> None:
    assert decode_liberal(b"\x91" * MAX_NESTING + b"\x01")
    with pytest.raises(DecodeError, match="nesting"):
        decode_liberal(b"\x91" * (MAX_NESTING + 1) + b"\x01")


def test_a_header_allocates_nothing_for_what_it_only_announces() -> None:
    """Nested headers, each of which the rest of the message could just about satisfy."""
    size = 1 << 20
    header = b"\xdd" + (size // 2).to_bytes(4, "big")
    hostile = header * 100 + b"\xc1" * size

    tracemalloc.start()
    with pytest.raises(DecodeError):
        decode_liberal(hostile)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 100_000


def test_a_message_of_too_many_values_is_refused_before_they_are_made() -> None:
    count = MAX_VALUES + 1

    with pytest.raises(DecodeError, match="more than 1000000 values"):
        decode_liberal(b"\xdd" + count.to_bytes(4, "big") + b"\x80" * count)
