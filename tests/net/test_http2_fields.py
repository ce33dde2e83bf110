"""Header blocks: what is remembered means what was read, what is written can be read by others."""

from __future__ import annotations

import pytest
from hpack import Decoder, Encoder, HPACKError, OversizedHeaderListError
from hypothesis import given
from hypothesis import strategies as st

from pulp_runtime._net import http2_fields
from pulp_runtime._net.http2_fields import FieldDecoder
from pulp_runtime._net.response import render_head_fields

NAMES = st.sampled_from([b":path", b":method", b"x-a", b"x-b", b"cookie", b"accept", b"content-length", b"set-cookie"])
VALUES = st.sampled_from([b"", b"/", b"GET", b"a", b"b" * 60, b"c" * 2_000])
LISTS = st.lists(st.tuples(NAMES, VALUES), max_size=6)


@pytest.mark.slow
@given(st.lists(st.tuples(LISTS, st.sampled_from([None, 0, 100, 4_096]), st.booleans()), max_size=20))
def test_blocks_that_are_remembered_mean_what_the_library_reads(
    blocks: list[tuple[list[tuple[bytes, bytes]], int | None, bool]],
) -> None:
    encoder, ours, theirs = Encoder(), FieldDecoder(1 << 20), Decoder(1 << 20)
    for pairs, table_size, huffman in blocks:
        if table_size is not None:
            encoder.header_table_size = table_size
        block = encoder.encode(pairs, huffman)
        expected = theirs.decode(block, raw=True)
        assert ours.decode(block) == expected
        if not block.startswith((b"\x3f", b"\x20")) and encoder.header_table.maxsize:
            again = encoder.encode(pairs, huffman)
            expected = theirs.decode(again, raw=True)
            assert ours.decode(again) == expected
            assert ours.decode(again) == theirs.decode(again, raw=True)


def test_a_block_that_changes_nothing_is_read_once() -> None:
    encoder, decoder = Encoder(), FieldDecoder(1_000)
    pairs = [(b":path", b"/x"), (b"x", b"y")]
    decoder.decode(encoder.encode(pairs))
    block = encoder.encode(pairs)

    assert decoder.decode(block) is decoder.decode(block)


def test_an_emptied_table_is_noticed() -> None:
    """The block reads the same as before and names what is no longer there."""
    decoder = FieldDecoder(1_000)
    decoder.decode(b"\x40\x01x\x01y")
    assert decoder.decode(b"\xbe") == [(b"x", b"y")]
    decoder.decode(b"\x20\x3f\xe1\x1f")

    with pytest.raises(HPACKError):
        decoder.decode(b"\xbe")


def test_a_list_past_its_bound_is_refused() -> None:
    decoder = FieldDecoder(1_000)
    decoder.decode(b"\x40\x01x\x7f\x49" + b"y" * 200)

    with pytest.raises(OversizedHeaderListError):
        decoder.decode(b"\xbe" * 5)


def test_what_is_remembered_is_bounded() -> None:
    decoder = FieldDecoder(1 << 20)
    for number in range(1_000):
        decoder.decode(b"\x00\x01a\x04%04d" % number)
    decoder.decode(b"\x00\x01a\x7f\xf1\x06" + b"x" * 1_008)
    decoder.decode(b"\x82" * 200)

    assert len(decoder._known) <= 16
    assert all(len(block) <= 256 and len(fields) <= 40 for block, (_changes, fields) in decoder._known.items())


@given(st.lists(st.tuples(st.one_of(NAMES, st.binary(min_size=1, max_size=300)), st.binary(max_size=300))))
def test_what_is_written_can_be_read(pairs: list[tuple[bytes, bytes]]) -> None:
    decoder = Decoder(1 << 20)

    assert decoder.decode(http2_fields.encode(pairs), raw=True) == pairs
    assert len(decoder.header_table.dynamic_entries) == 0


def test_every_status_can_be_read() -> None:
    for status in range(200, 1_000):
        block = http2_fields.encode_status(status)

        assert Decoder().decode(block, raw=True) == [(b":status", b"%d" % status)]


@pytest.mark.parametrize("size", [0, 9, 10**6, 2**63])
def test_every_length_can_be_read(size: int) -> None:
    assert Decoder().decode(http2_fields.encode_length(size), raw=True) == [(b"content-length", b"%d" % size)]


def test_a_cookie_is_not_to_be_kept_by_anybody_on_the_way() -> None:
    (field,) = Decoder().decode(http2_fields.encode([(b"set-cookie", b"secret")]), raw=True)

    assert field.indexable is False


def test_the_heads_that_are_remembered_are_bounded() -> None:
    for number in range(2_000):
        http2_fields.encode_head(render_head_fields(200, {"X": str(number)}))
    http2_fields.encode_head(render_head_fields(200, {"X": "y" * 5_000}))

    assert len(http2_fields._heads) <= 512
    assert all(len(block) <= 1_024 for block in http2_fields._heads.values())


def test_a_request_for_a_larger_table_changes_nothing() -> None:
    passer = http2_fields.BlockPasser()
    passer.header_table_size = 1 << 30

    assert passer.encode(http2_fields.headers(b"block")) == b"block"
