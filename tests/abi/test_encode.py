from __future__ import annotations

import struct

import msgpack
import pytest

from pulp_runtime.abi import codec


@pytest.mark.parametrize(
    ("size", "header"),
    [
        pytest.param(31, "bf", id="31 bytes share a byte with the marker"),
        pytest.param(32, "d920", id="32 bytes take a length of one byte"),
        pytest.param(255, "d9ff", id="255 bytes are the most for that"),
        pytest.param(256, "da0100", id="256 bytes take a length of two"),
        pytest.param(65_536, "db00010000", id="65536 bytes take a length of four"),
    ],
)
def test_a_string_has_the_shortest_header(size: int, header: str) -> None:
    assert codec.str_header(size).hex() == header
    assert msgpack.unpackb(codec.encode_str("a" * size)) == "a" * size


@pytest.mark.parametrize(
    ("size", "header"),
    [
        pytest.param(0, "c400", id="nothing is not nil"),
        pytest.param(255, "c4ff", id="255 bytes take a length of one byte"),
        pytest.param(256, "c50100", id="256 bytes take a length of two"),
        pytest.param(65_536, "c600010000", id="65536 bytes take a length of four"),
    ],
)
def test_raw_bytes_have_the_shortest_header(size: int, header: str) -> None:
    assert codec.bin_header(size).hex() == header
    assert msgpack.unpackb(codec.encode_bin(b"\0" * size)) == b"\0" * size


@pytest.mark.parametrize(
    ("size", "array", "table"),
    [
        pytest.param(15, "9f", "8f", id="15 share a byte with the marker"),
        pytest.param(16, "dc0010", "de0010", id="16 take a length of two bytes"),
        pytest.param(65_536, "dd00010000", "df00010000", id="65536 take a length of four"),
    ],
)
def test_arrays_and_maps_have_the_shortest_header(size: int, array: str, table: str) -> None:
    assert codec.array_header(size).hex() == array
    assert codec.map_header(size).hex() == table


def test_a_map_of_strings_keeps_its_order() -> None:
    mapping = {"b": "1", "a": "é"}

    decoded = msgpack.unpackb(codec.encode_str_map(mapping))

    assert list(decoded.items()) == [("b", "1"), ("a", "é")]


@pytest.mark.parametrize(
    ("encoded", "expected"),
    [
        pytest.param(codec.encode_u8(1), "cc01", id="u8"),
        pytest.param(codec.encode_u16(1), "cd0001", id="u16"),
        pytest.param(codec.encode_u32(1), "ce00000001", id="u32"),
        pytest.param(codec.encode_u64(1), "cf0000000000000001", id="u64"),
        pytest.param(codec.encode_int64(-1), "d3ffffffffffffffff", id="int64"),
        pytest.param(codec.encode_float64(1.5), "cb3ff8000000000000", id="float64"),
        pytest.param(codec.encode_bool(True), "c3", id="true"),
        pytest.param(codec.encode_bool(False), "c2", id="false"),
    ],
)
def test_a_value_keeps_its_width(encoded: bytes, expected: str) -> None:
    assert encoded.hex() == expected


def test_a_number_past_its_width_is_refused() -> None:
    with pytest.raises(struct.error):
        codec.encode_u32(1 << 32)
