import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulp_runtime._net.fault import RequestFault
from pulp_runtime._net.head import MEMO_BYTES, MEMO_ENTRIES, HeaderBlock, HeadParser, RequestLine
from pulp_runtime._net.settings import HttpSettings
from pulp_runtime._net.target import clean_path, parse_query


def parse(head: bytes, **settings: int) -> tuple[RequestLine, HeaderBlock]:
    return HeadParser(HttpSettings(**settings)).parse(head)


def line(target: str, method: str = "GET") -> RequestLine:
    return parse(f"{method} {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())[0]


def block(fields: str, version: str = "1.1") -> HeaderBlock:
    return parse(f"POST / HTTP/{version}\r\nHost: a\r\n{fields}\r\n\r\n".encode("latin-1"))[1]


def test_a_head_is_taken_apart() -> None:
    one, two = parse(b"GET /a/b?x=1&y=2 HTTP/1.1\r\nHost: h:8080\r\nx-service-token: t\r\nAccept: */*\r\n\r\n")
    assert (one.method, one.target, one.path, one.query) == (
        "GET",
        "/a/b?x=1&y=2",
        "/a/b",
        {"x": "1", "y": "2"},
    )
    assert (one.minor, one.host, one.redirect) == (1, "", "")
    assert two.fields == {"X-Service-Token": "t", "Accept": "*/*"}
    assert (two.host, two.content_length, two.chunked, two.keep_alive) == ("h:8080", None, False, None)


def test_the_parts_are_packed_once() -> None:
    one, two = parse(b"GET /a?x=1 HTTP/1.1\r\nHost: h\r\nA: b\r\n\r\n")
    assert one.packed_target == b"\xa6method\xa3GET\xa4path\xa2/a\xa6params"
    assert one.packed_query == b"\xa5query\x81\xa1x\xa11\xa7headers"
    assert two.packed_fields == b"\x81\xa1A\xa1b"


def test_threat_36_a_malformed_head_is_a_fault(malformed_head: bytes) -> None:
    end = malformed_head.index(b"\r\n\r\n") + 4 if b"\r\n\r\n" in malformed_head else len(malformed_head)
    with pytest.raises(RequestFault) as fault:
        parse(malformed_head[:end])
    assert fault.value.status == 400


@pytest.mark.parametrize(
    ("target", "path"),
    [
        pytest.param("/a%2Fb", "/a/b", id="an encoded slash becomes a real one"),
        pytest.param("/%c3%a9", "/é", id="an escape is UTF-8"),
        pytest.param("/a+b", "/a+b", id="a plus stays a plus"),
        pytest.param("/a%20b", "/a b", id="an escaped blank is a blank"),
        pytest.param("/%25zz", "/%zz", id="decoding happens once"),
        pytest.param("/.well-known/x", "/.well-known/x", id="a name may begin with a dot"),
        pytest.param("/a...", "/a...", id="dots may end a name"),
        pytest.param("/a;b=1", "/a;b=1", id="a matrix parameter stays"),
        pytest.param("http://other:81/a?b", "/a", id="the absolute form has a path"),
        pytest.param("HTTPS://other?b", "/", id="the absolute form may have none"),
    ],
)
def test_a_target_has_a_decoded_path(target: str, path: str) -> None:
    assert (line(target).path, line(target).redirect) == (path, "")


@pytest.mark.parametrize(
    ("target", "location"),
    [
        ("//", "/"),
        ("//a", "/a"),
        ("/a//b?x=//&y", "/a/b?x=//&y"),
        ("/a/./b", "/a/b"),
        ("/a/.", "/a"),
        ("/a/../b", "/b"),
        ("/a/b/..", "/a"),
        ("/a/b/../", "/a/"),
        ("/../../etc", "/etc"),
        ("/..", "/"),
        ("/a/%2e%2e/b", "/b"),
        ("/a/%2E/b", "/a/b"),
        ("/a%2F..%2Fb", "/b"),
        ("/a%2F%2Fb", "/a/b"),
        ("//evil.example/x", "/evil.example/x"),
        ("/.//evil.example", "/evil.example"),
        ("//%5Cevil.example", "/%5Cevil.example"),
        ("/a//%C3%A9%20%3F%23?q=%20", "/a/%C3%A9%20%3F%23?q=%20"),
        ("http://other//a", "/a"),
    ],
)
def test_threat_37_an_unclean_path_is_redirected_to_the_clean_one(target: str, location: str) -> None:
    assert line(target).redirect == location


@given(st.text(alphabet="/.a", max_size=12).map(lambda text: "/" + text))
def test_a_clean_path_is_stable_and_has_nothing_to_clean(path: str) -> None:
    clean = clean_path(path)
    assert clean_path(clean) == clean
    assert not {".", ".."} & set(clean.split("/"))
    assert "//" not in clean
    assert clean.startswith("/")


@pytest.mark.parametrize(
    ("raw", "query"),
    [
        ("", {}),
        ("a=1&a=2", {"a": "1"}),
        ("a", {"a": ""}),
        ("=1", {"": "1"}),
        ("a=1&&b=2", {"a": "1", "b": "2"}),
        ("a+b=c+d", {"a b": "c d"}),
        ("a%3Db=%26", {"a=b": "&"}),
        ("a=1;b=2&c=3", {"c": "3"}),
        ("a=%zz&b=%4&c=3", {"c": "3"}),
        ("%zz=1&b=2", {"b": "2"}),
        ("a=%ff&b=%c3%a9", {"b": "é"}),
        ("a=b=c", {"a": "b=c"}),
        ("a=%00", {"a": "\0"}),
    ],
)
def test_a_query_has_first_values_and_drops_what_cannot_be_read(raw: str, query: dict[str, str]) -> None:
    assert parse_query(raw) == query


def test_threat_37_a_query_of_too_many_pairs_is_refused() -> None:
    assert len(parse_query("&".join(f"k{n}" for n in range(1_000)))) == 1_000
    with pytest.raises(RequestFault) as fault:
        parse_query("&" * 1_000)
    assert fault.value.status == 400


def test_the_absolute_form_overrules_host() -> None:
    one, two = parse(b"GET http://other:81/a HTTP/1.1\r\nHost: mine\r\n\r\n")
    assert (one.host, two.host) == ("other:81", "mine")


def test_options_asterisk_is_a_request_without_a_path() -> None:
    assert line("*", "OPTIONS").path == "*"


@pytest.mark.parametrize("method", ["TRACE", "PATCH", "DELETE", "HEAD", "OPTIONS"])
def test_other_methods_are_methods_like_any(method: str) -> None:
    assert line("/a", method).method == method


@pytest.mark.parametrize(
    "host", ["a", "a.b:80", "127.0.0.1:8080", "[::1]", "[::1]:8080", "", "xn--e-ls8h.example", "a_b", "a:"]
)
def test_a_good_host_is_taken_as_it_is(host: str) -> None:
    assert parse(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())[1].host == host


def test_http_1_0_needs_no_host() -> None:
    one, two = parse(b"GET / HTTP/1.0\r\n\r\n")
    assert (one.minor, two.host, two.fields) == (0, "", {})


def test_the_first_of_repeated_headers_stays_and_host_and_framing_are_left_out() -> None:
    seen = block("cookie: a=1\r\nCookie: b=2\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\nTE: trailers")
    assert seen.fields == {"Cookie": "a=1", "Te": "trailers"}


def test_content_length_stays_among_the_headers() -> None:
    assert block("Content-Length: 007").fields == {"Content-Length": "007"}
    assert block("Content-Length: 007").content_length == 7


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        ("X: \u00c3\u00a9", "é"),
        ("X: caf\u00e9", "caf\u00e9"),
        ("X: \t a \t b \t", "a \t b"),
        ("X:", ""),
        ("X: :", ":"),
    ],
)
def test_a_value_is_utf_8_or_else_latin_1_without_the_blanks_around_it(raw: str, value: str) -> None:
    assert block(raw).fields["X"] == value


def test_a_value_may_end_with_a_letter_whose_last_byte_looks_like_a_blank() -> None:
    assert block("X: \u00c3\u00a0").fields["X"] == "à"


@pytest.mark.parametrize(
    ("fields", "version", "keep_alive"),
    [
        ("X: 1", "1.1", None),
        ("Connection: close", "1.1", False),
        ("Connection: Keep-Alive", "1.1", True),
        ("Connection: keep-alive, Close", "1.1", False),
        ("Connection: a\r\nConnection: CLOSE", "1.1", False),
        ("Connection: keep-alive", "1.0", True),
    ],
)
def test_connection_tokens_are_read_from_every_line(fields: str, version: str, keep_alive: bool | None) -> None:
    assert block(fields, version).keep_alive is keep_alive


def test_an_upgrade_is_reported() -> None:
    seen = block("Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket")
    assert seen.upgrade == "websocket"
    assert seen.connection == {"keep-alive", "upgrade"}


def test_an_expectation_is_reported_and_an_unknown_one_is_417() -> None:
    assert block("Expect: 100-Continue\r\nContent-Length: 1").expect_continue
    assert not block("Expect: 100-continue\r\nContent-Length: 1", "1.0").expect_continue
    with pytest.raises(RequestFault) as fault:
        block("Expect: the-unexpected")
    assert fault.value.status == 417


@pytest.mark.parametrize(
    ("head", "status"),
    [
        pytest.param(b"GET /" + b"a" * 8_192 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414, id="the line is too long"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 65_536 + b"\r\n\r\n", 431, id="the head is too long"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: 1\r\n" * 100 + b"\r\n", 431, id="there are 101 fields"),
    ],
)
def test_threat_37_a_head_past_a_limit_has_its_own_status(head: bytes, status: int) -> None:
    with pytest.raises(RequestFault) as fault:
        parse(head)
    assert fault.value.status == status


def test_a_head_at_its_limits_is_read() -> None:
    assert len(parse(b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: 1\r\n" * 99 + b"\r\n")[1].fields) == 1
    assert parse(b"GET /" + b"a" * (8_192 - 14) + b" HTTP/1.1\r\nHost: a\r\n\r\n")[0].path


def test_threat_37_a_value_of_blanks_costs_no_more_than_its_length() -> None:
    assert block("X: a" + " " * 60_000 + "b").fields["X"].endswith("b")


def test_a_head_seen_before_is_not_read_again() -> None:
    parser = HeadParser(HttpSettings())
    one = parser.parse(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n")
    two = parser.parse(b"GET /b HTTP/1.1\r\nHost: a\r\nX: 1\r\n\r\n")
    assert parser.parse(b"GET /b HTTP/1.1\r\nHost: a\r\n\r\n") == (two[0], one[1])
    assert parser.parse(b"GET /a HTTP/1.1\r\nHost: a\r\nX: 1\r\n\r\n") == (one[0], two[1])


@pytest.mark.parametrize(
    "head",
    [
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, upgrade\r\n\r\n",
        b"GET / HTTP/1.0\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * MEMO_BYTES + b"\r\n\r\n",
    ],
)
def test_threat_36_a_block_that_frames_or_closes_is_never_remembered(head: bytes) -> None:
    parser = HeadParser(HttpSettings())
    parser.parse(head)
    assert not parser.blocks


@pytest.mark.parametrize(
    "first",
    [
        b"GET / HTTP/1.0",
        b"GET //a HTTP/1.1",
        b"GET http://b/ HTTP/1.1",
        b"OPTIONS * HTTP/1.1",
        b"GET /" + b"x" * MEMO_BYTES + b" HTTP/1.1",
    ],
)
def test_threat_36_a_line_that_depends_on_its_block_is_never_remembered(first: bytes) -> None:
    parser = HeadParser(HttpSettings())
    parser.parse(first + b"\r\nHost: a\r\n\r\n")
    assert not parser.lines


def test_threat_36_what_was_refused_once_is_refused_again() -> None:
    parser = HeadParser(HttpSettings())
    parser.parse(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    for _ in range(2):
        with pytest.raises(RequestFault):
            parser.parse(b"GET / HTTP/1.1\r\nHost : a\r\n\r\n")
        with pytest.raises(RequestFault):
            parser.parse(b"GET / HTTP/1.2\r\nHost: a\r\n\r\n")


def test_a_browser_that_says_keep_alive_is_remembered() -> None:
    parser = HeadParser(HttpSettings())
    parser.parse(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\n\r\n")
    assert len(parser.blocks) == 1


def test_threat_37_the_memo_stays_bounded() -> None:
    parser = HeadParser(HttpSettings())
    for number in range(2 * MEMO_ENTRIES + 10):
        parser.parse(f"GET /{number} HTTP/1.1\r\nHost: a\r\nX: {number}\r\n\r\n".encode())
    assert len(parser.lines) <= MEMO_ENTRIES
    assert len(parser.blocks) <= MEMO_ENTRIES


@given(st.binary(max_size=80), st.binary(max_size=80))
def test_threat_36_any_bytes_give_a_request_or_a_fault(first: bytes, fields: bytes) -> None:
    head = b"GET /" + first + b" HTTP/1.1\r\nHost: a\r\n" + fields + b"\r\n\r\n"
    try:
        one, two = parse(head[: head.index(b"\r\n\r\n") + 4])
    except RequestFault:
        return
    assert "\0" not in one.path
    assert all(value == value.strip() for value in two.fields.values())
