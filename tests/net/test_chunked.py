from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulp_runtime._net.chunked import FREE_CHUNKS, ChunkedDecoder
from pulp_runtime._net.fault import RequestFault

MIB = 1024 * 1024


def decode(data: bytes, limit: int = MIB) -> tuple[bytes, bytes | None]:
    decoder = ChunkedDecoder(limit)
    rest = decoder.feed(data)
    return bytes(decoder.body), rest


def encode(chunks: list[bytes], trailer: bytes = b"") -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks if chunk) + b"0\r\n" + trailer + b"\r\n"


@given(
    chunks=st.lists(st.binary(max_size=40), max_size=8),
    trailer=st.sampled_from([b"", b"X: 1\r\n", b"A-B:\r\nC: d e\r\n"]),
    rest=st.binary(max_size=10),
    cuts=st.lists(st.integers(min_value=0, max_value=400), max_size=12),
)
def test_any_chunking_cut_anywhere_gives_the_body_and_what_follows_it(
    chunks: list[bytes], trailer: bytes, rest: bytes, cuts: list[int]
) -> None:
    message = encode(chunks, trailer)
    data = message + rest
    edges = sorted({0, len(message), *(cut for cut in cuts if cut < len(message))})
    pieces = [data[a:b] for a, b in pairwise(edges)]
    pieces[-1] += rest
    decoder = ChunkedDecoder(MIB)
    answers = [decoder.feed(piece) for piece in pieces]
    assert answers[:-1] == [None] * (len(answers) - 1)
    assert answers[-1] == rest
    assert bytes(decoder.body) == b"".join(chunks)


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_threat_36_any_bytes_in_any_two_pieces_end_alike(one: bytes, two: bytes) -> None:
    def outcome(pieces: list[bytes]) -> object:
        decoder = ChunkedDecoder(1_000)
        rest: bytes | None = None
        try:
            for piece in pieces:
                rest = decoder.feed(piece) if rest is None else rest + piece
        except RequestFault as fault:
            return fault.status
        return bytes(decoder.body), rest

    assert outcome([one + two]) == outcome([one, two])


def test_threat_36_malformed_chunks_are_a_fault(malformed_chunks: bytes) -> None:
    with pytest.raises(RequestFault) as fault:
        decode(malformed_chunks)
    assert fault.value.status == 400


def test_threat_36_malformed_chunks_are_a_fault_byte_by_byte(malformed_chunks: bytes) -> None:
    decoder = ChunkedDecoder(MIB)

    def feed_all() -> None:
        for byte in malformed_chunks:
            assert decoder.feed(bytes([byte])) is None

    with pytest.raises(RequestFault):
        feed_all()


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"A\r\n0123456789\r\n0\r\n\r\n", id="the size is upper case"),
        pytest.param(b"000a\r\n0123456789\r\n000\r\n\r\n", id="the size has zeros in front"),
        pytest.param(b'a;x;y=1;z="a;\\"b"\r\n0123456789\r\n0;e\r\n\r\n', id="there are extensions"),
        pytest.param(b"a\r\n0123456789\r\n0\r\nX: 1\r\nY:\r\n\r\n", id="there are trailers"),
    ],
)
def test_what_the_grammar_allows_is_read(data: bytes) -> None:
    assert decode(data) == (b"0123456789", b"")


def test_a_body_at_the_limit_is_read_and_one_byte_more_is_413_before_it_comes() -> None:
    assert decode(encode([b"x" * 10]), limit=10) == (b"x" * 10, b"")
    with pytest.raises(RequestFault) as fault:
        decode(b"5\r\nabcde\r\n6\r\n", limit=10)
    assert fault.value.status == 413
    with pytest.raises(RequestFault) as fault:
        decode(b"ffffffffffffffff\r\n")
    assert fault.value.status == 413


@pytest.mark.parametrize(
    ("data", "status"),
    [
        pytest.param(b"1;" + b"a" * 4_096 + b"\r\nx\r\n", 400, id="one extension is too long"),
        pytest.param((b"1;" + b"a" * 100 + b"\r\nx\r\n") * 41, 400, id="all extensions are too long"),
        pytest.param(b"1;" + b"a" * 5_000, 400, id="an extension never ends"),
        pytest.param(b"0\r\n" + b"X: " + b"a" * 8_190 + b"\r\n\r\n", 431, id="one trailer is too long"),
        pytest.param(b"0\r\n" + b"X: " + b"a" * 9_000, 431, id="a trailer never ends"),
        pytest.param(b"0\r\n" + b"X: 1\r\n" * 101 + b"\r\n", 431, id="there are too many trailers"),
    ],
)
def test_threat_36_what_surrounds_the_data_is_bounded(data: bytes, status: int) -> None:
    with pytest.raises(RequestFault) as fault:
        decode(data)
    assert fault.value.status == status


def test_threat_37_a_body_of_nothing_but_tiny_chunks_is_refused() -> None:
    with pytest.raises(RequestFault) as fault:
        decode(b"1\r\nx\r\n" * (2 * FREE_CHUNKS))
    assert fault.value.status == 400


def test_a_long_body_of_small_chunks_is_read() -> None:
    chunks = [b"x" * 80] * 20_000
    assert decode(encode(chunks), limit=2 * MIB) == (b"".join(chunks), b"")
