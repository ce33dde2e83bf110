"""Responses as servers send them, well-formed, odd and hostile; in one piece and byte by byte."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulp_runtime._net.dial_patience import DialFault
from pulp_runtime._net.fetch_reply import FRAMING_BYTES, HEAD_BYTES, HEAD_FIELDS, INTERIM_REPLIES, ReplyReader

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
HI = b"Content-Length: 2\r\n\r\nhi"


def read(data: bytes, *, method: str = "GET", step: int = 1 << 30, end: bool = False) -> tuple[ReplyReader, bytes]:
    """Feed a response as a connection would: nothing more once it is complete."""
    reply = ReplyReader(method)
    body = b""
    for at in range(0, len(data), step):
        if reply.complete:
            break
        reply.feed(data[at : at + step])
        while piece := reply.take():
            body += piece
    if end:
        reply.feed_end()
    return reply, body


@pytest.mark.parametrize("step", [1 << 30, 1, 3])
@pytest.mark.parametrize(
    ("data", "status", "body", "reusable"),
    [
        pytest.param(OK + b"Content-Length: 2\r\n\r\nhi", 200, b"hi", True, id="with a length"),
        pytest.param(OK + b"Content-Length: 0\r\n\r\n", 200, b"", True, id="with nothing"),
        pytest.param(OK + CHUNKED + b"1\r\nh\r\n1;x=y\r\ni\r\n0\r\nT: 1\r\n\r\n", 200, b"hi", True, id="chunked"),
        pytest.param(OK + b"Transfer-Encoding: Chunked\r\n\r\n0\r\n\r\n", 200, b"", True, id="chunked with nothing"),
        pytest.param(b"HTTP/1.1 204 No Content\r\n\r\n", 204, b"", True, id="204"),
        pytest.param(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", 304, b"", True, id="304 with a length"),
        pytest.param(OK + b"Connection: close\r\n" + HI, 200, b"hi", False, id="that is the last"),
        pytest.param(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", 200, b"hi", False, id="of HTTP/1.0"),
        pytest.param(
            b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n" + HI, 200, b"hi", True, id="of 1.0, kept"
        ),
        pytest.param(b"HTTP/1.1 999 ?\r\nContent-Length: 2\r\n\r\nhi", 999, b"hi", True, id="of an odd status"),
        pytest.param(b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nhi", 200, b"hi", True, id="without a reason"),
        pytest.param(
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nLink: x\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\nhi",
            200,
            b"hi",
            True,
            id="after interim ones",
        ),
    ],
)  # fmt: skip
def test_a_response(data: bytes, status: int, body: bytes, reusable: bool, step: int) -> None:
    reply, found = read(data, step=step)

    assert (reply.status, found, reply.complete, reply.reusable) == (status, body, True, reusable)
    assert "Link" not in reply.fields
    assert "T" not in reply.fields


def test_a_body_without_a_length_ends_with_the_connection() -> None:
    reply, body = read(OK + b"\r\nhello")
    assert (body, reply.complete) == (b"hello", False)

    reply.feed_end()
    assert reply.complete
    assert not reply.reusable


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="before it began"),
        pytest.param(OK, id="in the head"),
        pytest.param(OK + b"Content-Length: 3\r\n\r\nhi", id="in the body"),
        pytest.param(OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n", id="between chunks"),
        pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n", id="after an interim response"),
    ],
)
def test_a_connection_that_ends_too_early_is_a_fault(data: bytes) -> None:
    with pytest.raises(DialFault, match="server closed"):
        read(data, end=True)


def test_the_answer_to_head_has_no_body_whatever_its_length() -> None:
    reply, body = read(OK + b"Content-Length: 1000000\r\n\r\n", method="HEAD")

    assert (reply.complete, body, reply.reusable) == (True, b"", True)
    assert reply.fields["Content-Length"] == "1000000"


@pytest.mark.parametrize(
    ("data", "method"),
    [
        pytest.param(OK + b"Content-Length: 2\r\n\r\nhiHTTP/1.1 200 OK\r\n", "GET", id="another response"),
        pytest.param(OK + b"Content-Length: 2\r\n\r\nhi!", "GET", id="one byte"),
        pytest.param(OK + b"Content-Length: 2\r\n\r\nhi", "HEAD", id="a body after HEAD"),
        pytest.param(b"HTTP/1.1 204 OK\r\nContent-Length: 2\r\n\r\nhi", "GET", id="a body after 204"),
        pytest.param(OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nx", "GET", id="something after the last chunk"),
    ],
)
def test_what_follows_a_response_is_nobody_s_and_ends_the_connection(data: bytes, method: str) -> None:
    reply, _body = read(data, method=method)

    assert reply.complete
    assert not reply.reusable


def test_names_are_canonical_values_are_trimmed_and_the_first_counts() -> None:
    reply, _body = read(
        OK + b"x-service-TOKEN:  a \t\r\nX-Service-Token: b\r\nset-cookie: a=1\r\nSet-Cookie: b=2\r\nEmpty:\r\n"
        b"Latin: \xe9\r\nUtf: \xc3\xa9\r\nTransfer-Encoding: chunked\r\nTrailer: T\r\n\r\n0\r\n\r\n"
    )

    assert reply.fields == {
        "X-Service-Token": "a",
        "Set-Cookie": "a=1\nb=2",
        "Empty": "",
        "Latin": "é",
        "Utf": "é",
    }


@pytest.mark.parametrize("step", [1 << 30, 1])
@pytest.mark.parametrize(
    "data",
    [
        pytest.param(OK + b"Content-Length: +2\r\n\r\nhi", id="a signed length"),
        pytest.param(OK + b"Content-Length: 2, 2\r\n\r\nhi", id="a list of lengths"),
        pytest.param(OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nhi", id="two lengths"),
        pytest.param(OK + b"Content-Length: -1\r\n\r\n", id="a negative length"),
        pytest.param(OK + b"Content-Length: 99999999999999999999999\r\n\r\n", id="a length past every integer"),
        pytest.param(
            OK + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", id="a length and chunks"
        ),
        pytest.param(OK + b"Transfer-Encoding: gzip\r\n\r\nx", id="another coding"),
        pytest.param(OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", id="two codings"),
        pytest.param(OK + b"Transfer-Encoding: xchunked\r\n\r\nx", id="a coding like chunked"),
        pytest.param(
            OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", id="chunked twice"
        ),
        pytest.param(OK + b"Transfer-Encoding: chunked\r\n\r\n0x2\r\nhi\r\n0\r\n\r\n", id="a chunk size in C"),
        pytest.param(OK + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n", id="a negative chunk"),
        pytest.param(OK + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n", id="a chunk past every integer"),
        pytest.param(OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi!!0\r\n\r\n", id="a chunk that does not end"),
        pytest.param(OK + b"A: b\r\n c\r\n\r\n", id="a folded line"),
        pytest.param(b"HTTP/1.1 200 OK\nA: b\n\n", id="bare line feeds"),
        pytest.param(OK + b"A: b\rEvil: 1\r\n\r\n", id="a bare carriage return"),
        pytest.param(OK + b"A: b\0c\r\n\r\n", id="a NUL"),
        pytest.param(OK + b"A : b\r\n\r\n", id="a space before the colon"),
        pytest.param(OK + b": b\r\n\r\n", id="no name"),
        pytest.param(OK + b"no colon\r\n\r\n", id="no colon"),
        pytest.param(b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n", id="version 2.0"),
        pytest.param(b"HTTP/0.9 200 OK\r\nContent-Length: 0\r\n\r\n", id="version 0.9"),
        pytest.param(b"HTTP/1.2 200 OK\r\n\r\n", id="version 1.2"),
        pytest.param(b"HTTP/1.1 99 ?\r\nContent-Length: 0\r\n\r\n", id="a status of two digits"),
        pytest.param(b"HTTP/1.1 099 ?\r\nContent-Length: 0\r\n\r\n", id="status 99"),
        pytest.param(b"HTTP/1.1 2000 ?\r\n\r\n", id="a status of four digits"),
        pytest.param(b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n", id="an upgrade"),
        pytest.param(b"HTTP/1.1 101 Switching\r\n\r\n", id="status 101 alone"),
        pytest.param(b"ICY 200 OK\r\n\r\n", id="another protocol"),
        pytest.param(b"SSH-2.0-OpenSSH_9.6\r\n", id="an ssh server"),
        pytest.param(b"220 mail.example ESMTP\r\n", id="a mail server"),
        pytest.param(b"<html>hello</html>", id="a body alone"),
    ],
)
def test_threat_34_what_two_readers_could_read_differently_is_a_fault(data: bytes, step: int) -> None:
    with pytest.raises(DialFault):
        read(data, step=step)


def flood(piece: bytes, total: int) -> bytes:
    return piece * (total // len(piece) + 1)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        pytest.param(OK + flood(b"A: b\r\n", 7 * HEAD_FIELDS), "header fields", id="many header fields"),
        pytest.param(OK + b"A: " + b"x" * (HEAD_BYTES + 1), "head over", id="one header without end"),
        pytest.param(b"HTTP/1.1 200 " + b"x" * (HEAD_BYTES + 1), "head over", id="a reason without end"),
        pytest.param(flood(b"HTTP/1.1 100 Continue\r\n\r\n", 25 * INTERIM_REPLIES), "interim", id="interim responses"),
        pytest.param(
            flood(b"HTTP/1.1 103 Hints\r\nLink: " + b"x" * 30_000 + b"\r\n\r\n", HEAD_BYTES + 1),
            "head over|interim",
            id="long interim responses",
        ),
        pytest.param(
            OK + b"Transfer-Encoding: chunked\r\n\r\n" + flood(b"1;" + b"x" * 5000 + b"\r\na\r\n", 4 * FRAMING_BYTES),
            "framing",
            id="chunk extensions",
        ),
        pytest.param(
            OK + b"Transfer-Encoding: chunked\r\n\r\n1;" + b"x" * 4 * FRAMING_BYTES, "framing", id="one chunk extension"
        ),
        pytest.param(
            OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + flood(b"T: x\r\n", 4 * FRAMING_BYTES),
            "framing",
            id="trailers",
        ),
    ],
)
@pytest.mark.parametrize("step", [1 << 30, 16 * 1024, 997])
def test_threat_34_a_flood_before_between_or_after_the_body_ends_at_its_bound(
    data: bytes, words: str, step: int
) -> None:
    with pytest.raises(DialFault, match=words):
        read(data, step=step)


def test_a_long_body_of_small_chunks_is_a_body() -> None:
    reply, body = read(OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\na\r\n" * 100_000 + b"0\r\n\r\n", step=65536)

    assert len(body) == 100_000
    assert reply.reusable


@given(st.binary(max_size=300), st.integers(1, 50), st.sampled_from(["GET", "HEAD"]))
def test_any_bytes_are_a_response_or_a_fault(data: bytes, step: int, method: str) -> None:
    for start in (b"", OK, OK + b"Transfer-Encoding: chunked\r\n\r\n"):
        try:
            read(start + data, method=method, step=step, end=True)
        except DialFault:
            pass
