from __future__ import annotations

from typing import Annotated, Any

import msgpack
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulp_runtime.abi.codec import DecodeError, decode_struct, struct_decoder


class Inner(msgspec.Struct):
    word: str = ""
    size: Annotated[int, msgspec.Meta(ge=0, le=255)] = 0


class Outer(msgspec.Struct):
    number: int
    text: str
    data: bytes
    flag: bool
    real: float
    words: list[str]
    table: dict[str, str]
    inner: Inner
    maybe: str | None = "unset"
    limit: int = 7


ZERO = Outer(0, "", b"", False, 0.0, [], {}, Inner())
BYTE = st.one_of(st.binary(max_size=200), st.binary(max_size=60).map(lambda tail: b"\x84\xa4text" + tail))
ODD = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.floats() | st.binary() | st.text("é"),
    lambda inner: st.lists(inner) | st.dictionaries(st.text("ab") | st.binary(), inner),
    max_leaves=5,
)


def packed(**fields: object) -> bytes:
    data: bytes = msgpack.packb(fields)
    return data


@given(BYTE)
def test_hostile_bytes_are_a_struct_or_a_decode_error(data: bytes) -> None:
    try:
        decode_struct(data, Outer)
    except DecodeError:
        pass


@pytest.mark.slow
@given(st.dictionaries(st.sampled_from(Outer.__struct_fields__), ODD))
def test_fields_of_any_type_are_coerced_or_refused(fields: dict[str, Any]) -> None:
    try:
        struct = decode_struct(msgpack.packb(fields), Outer)
    except DecodeError:
        return

    assert msgspec.convert(msgspec.to_builtins(struct, builtin_types=(bytes,)), Outer) == struct


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\x80", id="an empty map"),
        pytest.param(b"\xc0", id="nil"),
        pytest.param(b"\x90", id="an empty array"),
        pytest.param(packed(stranger=[{"x": 1}]), id="a map of unknown fields"),
    ],
)
def test_missing_fields_are_zero_or_their_default(data: bytes) -> None:
    assert decode_struct(data, Outer) == ZERO


def test_nil_is_the_zero_value_also_where_there_is_a_default() -> None:
    names = Outer.__struct_fields__

    struct = decode_struct(msgpack.packb(dict.fromkeys(names)), Outer)

    assert struct == msgspec.structs.replace(ZERO, maybe=None, limit=0)


@pytest.mark.parametrize(
    ("field", "wire", "value"),
    [
        pytest.param("text", b"caf\xc3\xa9", "café", id="bytes where text is wanted"),
        pytest.param("text", b"\xff", "\N{REPLACEMENT CHARACTER}", id="bytes that are no text"),
        pytest.param("data", "é", b"\xc3\xa9", id="text where bytes are wanted"),
        pytest.param("number", 3.0, 3, id="a whole float where an integer is wanted"),
        pytest.param("number", (1 << 64) - 1, (1 << 64) - 1, id="the largest integer of the wire"),
        pytest.param("real", 3, 3.0, id="an integer where a float is wanted"),
        pytest.param("words", ["a", b"b", None], ["a", "b", ""], id="an array of all kinds of text"),
        pytest.param("table", {b"k": b"v", "n": None}, {"k": "v", "n": ""}, id="a map of all kinds of text"),
        pytest.param("inner", ["w", 5], Inner("w", 5), id="an array where a struct is wanted"),
        pytest.param("inner", {b"word": b"w", "size": 5.0}, Inner("w", 5), id="a struct bent at every field"),
        pytest.param("maybe", b"x", "x", id="bytes where text or nil is wanted"),
    ],
)
def test_a_value_of_another_type_is_bent_into_shape(field: str, wire: object, value: object) -> None:
    struct = decode_struct(packed(**{field: wire}), Outer)

    assert getattr(struct, field) == value


def test_text_that_is_not_utf_8_is_kept_where_bytes_are_wanted() -> None:
    assert decode_struct(b"\x81\xa4data\xa2\xff\xfe", Outer).data == b"\xff\xfe"


def test_an_array_gives_fields_by_position_and_may_be_short_or_long() -> None:
    assert decode_struct(msgpack.packb([1, "t"]), Outer) == msgspec.structs.replace(ZERO, number=1, text="t")
    assert decode_struct(msgpack.packb(["w", 5, "more", []]), Inner) == Inner("w", 5)


def test_the_last_of_equal_fields_wins_on_both_roads() -> None:
    twice = b"\x82\xa4word\xa1a\xa4word"

    assert decode_struct(twice + b"\xa1b", Inner).word == "b"
    assert decode_struct(twice + b"\xc4\x01b", Inner).word == "b"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        pytest.param(b"", "bytes are needed", id="no bytes"),
        pytest.param(b"\x80\x00", "1 bytes follow", id="bytes after the struct"),
        pytest.param(b"\x01", "expected a map, not int", id="a number instead of a struct"),
        pytest.param(packed(number=1.5), "number: expected an integer, not float", id="half a number"),
        pytest.param(packed(number=float("nan")), "number: expected an integer", id="not a number"),
        pytest.param(packed(number=1e300), "number: 1.000e[+]300 does not fit", id="a float past any integer"),
        pytest.param(packed(number=True), "number: expected an integer, not bool", id="true as a number"),
        pytest.param(packed(real=True), "real: expected a number", id="true as a float"),
        pytest.param(packed(flag=1), "flag: expected a boolean", id="one as a boolean"),
        pytest.param(packed(text=1), "text: expected text", id="a number as text"),
        pytest.param(packed(data=1), "data: expected bytes", id="a number as bytes"),
        pytest.param(packed(words={}), "words: expected an array", id="a map as an array"),
        pytest.param(packed(table=[]), "table: expected a map", id="an array as a map"),
        pytest.param(packed(inner={"size": 256}), "<= 255", id="an integer past its bound"),
        pytest.param(packed(inner=["w", -1]), ">= 0", id="an integer past its bound, by position"),
        pytest.param(packed(inner={"size": 256.0}), "<= 255", id="a float past the integer's bound"),
        pytest.param(b"\x81\xa1z" + b"\x91" * 100_000, "levels of nesting", id="a deep unknown field"),
        pytest.param(b"\x81\xa5words\xdd\xff\xff\xff\xff", "values are announced", id="four billion words"),
    ],
)
def test_what_cannot_be_bent_is_refused_by_field(data: bytes, words: str) -> None:
    with pytest.raises(DecodeError, match=words):
        decode_struct(data, Outer)


def test_a_decoder_is_made_once_for_a_type() -> None:
    assert struct_decoder(Inner) is struct_decoder(Inner)


def test_a_type_that_guests_cannot_send_is_refused_at_once() -> None:
    class Unreadable(msgspec.Struct):
        either: int | str

    with pytest.raises(TypeError, match="cannot have a field"):
        struct_decoder(Unreadable)
