from __future__ import annotations

import gzip
import os

import brotli
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulp_runtime._net.dial_patience import DialFault
from pulp_runtime._net.fetch_decode import Brotli, Decoder, Gzip, Plain, decoder_for

KINDS = [(Plain, bytes), (Gzip, gzip.compress), (Brotli, lambda data: brotli.compress(data, quality=3))]
MIB = 1 << 20


def decode(decoder: Decoder, data: bytes, step: int, most: int) -> bytes:
    out = b""
    for at in range(0, len(data), step):
        decoder.put(data[at : at + step])
        while piece := decoder.take(most):
            assert len(piece) <= most
            out += piece
    decoder.finish()
    return out


@pytest.mark.parametrize(("kind", "encode"), KINDS)
@given(st.binary(max_size=3000), st.integers(1, 700), st.integers(1, 700))
def test_what_was_encoded_comes_out_in_pieces_of_any_size(kind, encode, data: bytes, step: int, most: int) -> None:
    assert decode(kind(), encode(data * 3), step, most) == data * 3


@pytest.mark.parametrize(("kind", "encode"), KINDS[1:])
def test_threat_34_a_bomb_comes_out_no_faster_than_it_is_asked_for(kind, encode) -> None:
    bomb = encode(bytes(64 * MIB))
    decoder = kind()
    decoder.put(bomb)

    assert len(bomb) < MIB // 10
    sizes = [len(decoder.take(100_000)) for _ in range(20)]
    assert max(sizes) <= 100_000
    assert min(sizes) > 0


@pytest.mark.parametrize(("kind", "encode"), KINDS[1:])
def test_an_encoding_that_ends_in_the_middle_is_a_fault(kind, encode) -> None:
    data = encode(os.urandom(1000))

    with pytest.raises(DialFault, match="ended in the middle"):
        decode(kind(), data[:-5], 100, 1000)


@pytest.mark.parametrize("kind", [Gzip, Brotli])
def test_something_else_is_a_fault(kind) -> None:
    with pytest.raises(DialFault):
        decode(kind(), b"\xff\xfe hello, this is no encoding at all" * 10, 100, 1000)


@pytest.mark.parametrize("kind", [Gzip, Brotli])
def test_nothing_at_all_is_an_empty_body(kind) -> None:
    decoder = kind()
    decoder.finish()

    assert decoder.take(10) == b""


def test_members_of_gzip_follow_one_another() -> None:
    assert decode(Gzip(), gzip.compress(b"one, ") + gzip.compress(b"two"), 7, 100) == b"one, two"


@pytest.mark.parametrize(("kind", "encode"), KINDS[1:])
def test_what_follows_the_end_is_a_fault(kind, encode) -> None:
    with pytest.raises(DialFault):
        decode(kind(), encode(b"hello") + b"trailing", 1000, 1000)


def test_codings_are_known_by_name_and_only_one_at_a_time() -> None:
    assert isinstance(decoder_for(" GZIP "), Gzip)
    assert isinstance(decoder_for("br"), Brotli)
    for coding in ("", "identity", "deflate", "zstd", "gzip, gzip", "gzip, br", "x-gzip"):
        assert decoder_for(coding) is None
