import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulp_runtime._net import answers, response
from pulp_runtime._net.fields import canonical_name
from pulp_runtime._net.response import ResponseInvalid, assemble, render, render_head_fields
from pulp_runtime._net.sniff import content_type


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [784_111_777.0]
    monkeypatch.setattr(response.time, "time", lambda: now[0])
    return now


DATE = b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"


def test_an_answer_has_its_headers_a_date_and_a_length() -> None:
    assert render(200, {"content-type": "a/b", "X-A": "1"}, ["a=1", "b=2"], b"hello") == (
        b"HTTP/1.1 200 OK\r\n"
        b"Content-Type: a/b\r\n"
        b"X-A: 1\r\n"
        b"Set-Cookie: a=1\r\n"
        b"Set-Cookie: b=2\r\n" + DATE + b"Content-Length: 5\r\n"
        b"\r\n"
        b"hello"
    )


def test_the_date_is_made_once_a_second(clock: list[float]) -> None:
    first = response.date_line()
    clock[0] += 0.9
    assert response.date_line() is first
    clock[0] += 0.2
    assert response.date_line() == b"Date: Sun, 06 Nov 1994 08:49:38 GMT\r\n"


def test_rendered_fields_serve_many_bodies() -> None:
    fields = render_head_fields(200, {"Content-Type": "a/b"}, ())
    assert assemble(fields, b"x").endswith(b"Content-Length: 1\r\n\r\nx")
    assert assemble(fields, b"y" * 5_000).endswith(b"Content-Length: 5000\r\n\r\n" + b"y" * 5_000)


@pytest.mark.parametrize(
    ("status", "line"),
    [
        (0, b"HTTP/1.1 200 OK\r\n"),
        (200, b"HTTP/1.1 200 OK\r\n"),
        (418, b"HTTP/1.1 418 I'm a Teapot\r\n"),
        (299, b"HTTP/1.1 299 status code 299\r\n"),
        (999, b"HTTP/1.1 999 status code 999\r\n"),
    ],
)
def test_a_status_is_written_with_its_phrase(status: int, line: bytes) -> None:
    assert render(status, {}, (), b"").startswith(line)


@pytest.mark.parametrize("status", [1, 99, 100, 101, 103, 199, 1_000, 4_294_967_295])
def test_threat_38_a_status_that_is_no_final_answer_is_the_cells_error(status: int) -> None:
    with pytest.raises(ResponseInvalid, match=str(status)):
        render(status, {}, (), b"")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param("X", "a\r\nY: b", id="a value splits the answer"),
        pytest.param("X", "a\nb", id="a value holds LF"),
        pytest.param("X", "a\rb", id="a value holds CR"),
        pytest.param("X", "a\0b", id="a value holds NUL"),
        pytest.param("X", "a\x1bb", id="a value holds ESC"),
        pytest.param("X", "a\x7fb", id="a value holds DEL"),
        pytest.param("X", "\ud800", id="a value holds a lone surrogate"),
        pytest.param("Connection", "close\r\nX: y", id="a header of ours holds CRLF"),
        pytest.param("X\r\nY", "a", id="a name holds CRLF"),
        pytest.param("X:", "a", id="a name holds a colon"),
        pytest.param("X Y", "a", id="a name holds a blank"),
        pytest.param("", "a", id="a name is empty"),
        pytest.param("é", "a", id="a name is not ASCII"),
        pytest.param("X\0", "a", id="a name holds NUL"),
    ],
)
def test_threat_38_a_header_that_would_split_the_answer_is_the_cells_error(name: str, value: str) -> None:
    with pytest.raises(ResponseInvalid):
        render(200, {name: value}, (), b"")


def test_threat_38_a_cookie_that_would_split_the_answer_is_the_cells_error() -> None:
    with pytest.raises(ResponseInvalid, match="Set-Cookie"):
        render(200, {}, ["a=1\r\nX: y"], b"")


def test_a_set_cookie_header_stays_beside_the_cookies() -> None:
    answer = render(200, {"set-cookie": "a=1"}, ["b=2"], b"")
    assert b"Set-Cookie: a=1\r\nSet-Cookie: b=2\r\n" in answer


def test_of_two_spellings_the_later_wins_and_blanks_around_a_value_go() -> None:
    answer = render(200, {"x-a": "1", "X-A": " \t2 "}, (), b"")
    assert b"X-A: 2\r\n" in answer
    assert b"X-A: 1" not in answer


def test_a_value_is_written_as_utf_8() -> None:
    assert "X: é\r\n".encode() in render(200, {"X": "é"}, (), b"")


@pytest.mark.parametrize(
    "name",
    ["Connection", "keep-alive", "Proxy-Connection", "Transfer-Encoding", "upgrade", "TE", "Trailer", "Date"],
)
def test_threat_38_headers_about_the_connection_are_not_for_a_cell_to_set(name: str) -> None:
    answer = render(200, {name: "x"}, (), b"hi")
    assert answer == b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\n" + DATE + (
        b"Content-Length: 2\r\n\r\nhi"
    )


@pytest.mark.parametrize("length", ["0", "1", "100", "-1", "+5", "x", "", "5, 5", "9" * 40])
def test_threat_38_a_wrong_length_of_a_cell_is_put_right(length: str) -> None:
    answer = render(200, {"Content-Length": length, "Content-Type": "a/b"}, (), b"hello")
    assert answer.count(b"Content-Length") == 1
    assert answer.endswith(b"Content-Length: 5\r\n\r\nhello")


def test_a_cell_may_close_the_connection() -> None:
    fields = render_head_fields(200, {"connection": "Close"}, ())
    assert fields.close
    assert b"Connection: close\r\n" in assemble(fields, b"")


def test_a_cell_may_ask_for_chunks_and_gets_them() -> None:
    headers = {"transfer-encoding": "Chunked", "Content-Length": "3"}
    answer = render(200, headers, (), b"hello")
    assert answer.endswith(b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
    assert b"Content-Length" not in answer
    assert render(200, headers, (), b"").endswith(b"\r\n\r\n0\r\n\r\n")
    assert render(200, headers, (), b"hello", method="HEAD").endswith(b"Transfer-Encoding: chunked\r\n\r\n")
    assert render(200, headers, (), b"hello", http10=True).endswith(b"Content-Length: 5\r\n\r\nhello")


@pytest.mark.parametrize("coding", ["gzip", "chunked, gzip", "gzip, chunked", "xchunked", "identity"])
def test_threat_38_another_coding_of_a_cell_is_ignored(coding: str) -> None:
    assert render(200, {"Transfer-Encoding": coding}, (), b"hello").endswith(b"Content-Length: 5\r\n\r\nhello")


@pytest.mark.parametrize("status", [204, 304])
@pytest.mark.parametrize("headers", [{}, {"Content-Length": "5"}, {"Transfer-Encoding": "chunked"}])
def test_threat_38_an_answer_that_has_no_body_gets_none(status: int, headers: dict[str, str]) -> None:
    answer = render(status, headers, (), b"hello")
    assert answer.endswith(DATE + b"\r\n")
    assert b"Content-" not in answer
    assert b"Transfer-" not in answer


def test_threat_38_a_205_says_that_it_is_empty() -> None:
    assert render(205, {}, (), b"hello").endswith(b"Content-Length: 0\r\n\r\n")


def test_threat_38_head_gets_the_length_of_the_body_and_no_body() -> None:
    answer = render(200, {"Content-Length": "9"}, (), b"hello", method="HEAD")
    assert answer.endswith(b"Content-Length: 5\r\n\r\n")
    assert b"Content-Type: text/plain; charset=utf-8\r\n" in answer


def test_head_keeps_a_length_the_cell_gives_for_a_body_it_left_out() -> None:
    assert render(200, {"Content-Length": "9"}, (), b"", method="HEAD").endswith(b"Content-Length: 9\r\n\r\n")
    assert render(200, {"Content-Length": "x"}, (), b"", method="HEAD").endswith(b"Content-Length: 0\r\n\r\n")


@pytest.mark.parametrize(
    ("keep_alive", "http10", "line"),
    [
        (True, False, b""),
        (False, False, b"Connection: close\r\n"),
        (True, True, b"Connection: keep-alive\r\n"),
        (False, True, b"Connection: close\r\n"),
    ],
)
def test_the_connection_header_says_only_what_is_not_the_default(keep_alive: bool, http10: bool, line: bytes) -> None:
    answer = render(200, {"Content-Type": "a/b"}, (), b"", keep_alive=keep_alive, http10=http10)
    assert answer == b"HTTP/1.1 200 OK\r\nContent-Type: a/b\r\n" + line + DATE + b"Content-Length: 0\r\n\r\n"


def test_the_head_of_an_answer_is_bounded() -> None:
    assert render(200, {f"X-{n}": "1" for n in range(100)}, (), b"")
    with pytest.raises(ResponseInvalid, match="101"):
        render(200, {f"X-{n}": "1" for n in range(100)}, ["a=1"], b"")
    with pytest.raises(ResponseInvalid, match="65536"):
        render(200, {"X": "a" * 65_536}, (), b"")


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"hello", b"text/plain; charset=utf-8"),
        ("é".encode(), b"text/plain; charset=utf-8"),
        (b"\xef\xbb\xbfx", b"text/plain; charset=utf-8"),
        (b"<!DOCTYPE html><p>", b"text/html; charset=utf-8"),
        (b" \n<html>", b"text/html; charset=utf-8"),
        (b"<P >", b"text/html; charset=utf-8"),
        (b"<!-- x", b"text/html; charset=utf-8"),
        (b"<pre>", b"text/plain; charset=utf-8"),
        (b"a<html>", b"text/plain; charset=utf-8"),
        (b'\n<?xml version="1.0"?>', b"text/xml; charset=utf-8"),
        (b'{"a": 1}', b"text/plain; charset=utf-8"),
        (b"%PDF-1.7", b"application/pdf"),
        (b"GIF89a..", b"image/gif"),
        (b"\x89PNG\r\n\x1a\n", b"image/png"),
        (b"\xff\xd8\xff\xe0", b"image/jpeg"),
        (b"RIFF\0\0\0\0WEBPVP8 ", b"image/webp"),
        (b"FORM\0\0\0\0AIFF", b"audio/aiff"),
        (b"\0\0\0\x18ftypmp42", b"video/mp4"),
        (b"PK\x03\x04..", b"application/zip"),
        (b"\x1f\x8b\x08..", b"application/x-gzip"),
        (b"\0asm\x01\0\0\0", b"application/wasm"),
        (b"\0\x01\x02", b"application/octet-stream"),
        (b"ab\x00", b"application/octet-stream"),
        (b"x" * 512 + b"\0", b"text/plain; charset=utf-8"),
    ],
)
def test_a_body_without_a_type_is_sniffed_as_go_does(body: bytes, kind: bytes) -> None:
    assert content_type(body) == kind
    assert b"Content-Type: " + kind + b"\r\n" in render(200, {}, (), body)


def test_nothing_is_sniffed_where_it_would_be_wrong() -> None:
    assert b"Content-Type" not in render(200, {}, (), b"")
    assert b"Content-Type" not in render(200, {"Content-Encoding": "gzip"}, (), b"\x1f\x8b\x08")


def test_the_hosts_own_errors_are_written_as_go_does() -> None:
    assert assemble(*answers.error(503, "queue full")) == (
        b"HTTP/1.1 503 Service Unavailable\r\n"
        b"Content-Type: text/plain; charset=utf-8\r\n"
        b"X-Content-Type-Options: nosniff\r\n" + DATE + b"Content-Length: 11\r\n\r\nqueue full\n"
    )
    assert assemble(*answers.not_found()) == (
        b"HTTP/1.1 404 Not Found\r\nContent-Type: text/plain\r\n" + DATE + b"Content-Length: 18\r\n\r\n"
        b"404 page not found"
    )
    assert assemble(*answers.plain(500, b"cell did not respond")).endswith(b"\r\n\r\ncell did not respond")


def test_a_redirect_names_the_place_and_escapes_it_in_its_page() -> None:
    answer = assemble(*answers.redirect('/a?"<', "GET"))
    assert answer.startswith(b'HTTP/1.1 301 Moved Permanently\r\nLocation: /a?"<\r\n')
    assert answer.endswith(b'<a href="/a?&quot;&lt;">Moved Permanently</a>.\n\n')
    assert assemble(*answers.redirect("/a", "POST")).startswith(b"HTTP/1.1 308 Permanent Redirect\r\n")


@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        ("x-service-token", "X-Service-Token"),
        ("ETAG", "Etag"),
        ("a_b-c", "A_b-C"),
        ("-a-", "-A-"),
        ("1a", "1a"),
    ],
)
def test_a_name_is_canonical_as_in_go(name: str, canonical: str) -> None:
    assert canonical_name(name) == canonical


@given(
    st.dictionaries(st.text(max_size=8), st.text(max_size=12), max_size=4),
    st.lists(st.text(max_size=12), max_size=2),
    st.binary(max_size=20),
)
def test_threat_38_any_answer_of_a_cell_is_one_answer_or_an_error(
    headers: dict[str, str], cookies: list[str], body: bytes
) -> None:
    try:
        answer = render(200, headers, cookies, body)
    except ResponseInvalid:
        return
    head, _, rest = answer.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert rest == body or b"Transfer-Encoding: chunked" in lines
    assert len(lines) <= 1 + len(headers) + len(cookies) + 3
    assert all(b":" in line and b"\n" not in line and b"\r" not in line for line in lines[1:])
