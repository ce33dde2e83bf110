"""`transport.http.outbound` against servers on loopback that do what a test says."""

from __future__ import annotations

import gzip
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import brotli
import msgspec
import pytest
from tests.capabilities.conftest import Puppets
from tests.capabilities.puppet import Puppet, StubGuest
from tests.capabilities.upstream import Peer, Script, Seen, Upstream, always, dripping, once, response, silent

from pulp_runtime._net.dial_patience import DialFault, Patience
from pulp_runtime._net.fetch import REDIRECTS
from pulp_runtime._net.fetch_pool import IDLE_SECONDS, IDLE_WIRES
from pulp_runtime._net.fetch_streams import STREAMS_OF_A_CELL, FetchStreams
from pulp_runtime.abi.http_fetch import HTTPFetchRequest, encode_chunk, encode_fetch_response, encode_stream_header
from pulp_runtime.capabilities.transport import http_outbound
from pulp_runtime.capabilities.transport.http_outbound import NAME, HttpOutbound
from pulp_runtime.errors import ExtensionError, HostError
from pulp_runtime.testing import HOSTILE_RANGES, CellUnderTest, FakeHost, guest

IMPORTS = {"http_fetch": 4, "http_fetch_begin": 4, "http_fetch_read": 5, "http_fetch_close": 2}
SECOND = 1_000_000_000
LOOPBACK = {"allow": ["127.0.0.0/8"]}


def lookup(_owner: str, name: str, _patience: Patience) -> list[str]:
    """Every name is on loopback."""
    if name.endswith(".invalid"):
        raise DialFault(f"lookup of {name}: no such name")
    return ["127.0.0.1"]


class Bench:
    """The capability set up on loopback, and a guest that calls it."""

    def __init__(self, host: FakeHost, config: dict[str, Any] | None = None) -> None:
        self.outbound = HttpOutbound(lookup)
        self.env = host(NAME, config=LOOPBACK if config is None else config)
        self.outbound.setup(self.env)
        self.guest = StubGuest()
        self._stack = ExitStack()

    def upstream(self, script: Script, **options: Any) -> Upstream:
        return self._stack.enter_context(Upstream(script, **options))

    def fetch(self, url: str = "", *, guest: StubGuest | None = None, seconds: float = 0, **fields: Any) -> Any:
        """Return the response, or the code."""
        request = HTTPFetchRequest(url=url, timeout=round(seconds * SECOND), **fields)
        try:
            return Answer(msgspec.msgpack.decode(self.outbound.http_fetch(guest or self.guest, request)))
        except HostError as error:
            return error.code

    def begin(self, url: str, *, guest: StubGuest | None = None, seconds: float = 0, **fields: Any) -> Any:
        guest = guest or self.guest
        request = HTTPFetchRequest(url=url, timeout=round(seconds * SECOND), **fields)
        try:
            self.outbound.http_fetch_begin(guest, request, 0, 0)
        except HostError as error:
            return error.code
        return Answer(msgspec.msgpack.decode(guest.delivered[-1]))

    def read(self, number: int, most: int = 1 << 20, *, guest: StubGuest | None = None) -> Any:
        guest = guest or self.guest
        try:
            self.outbound.http_fetch_read(guest, number, most, 0, 0)
        except HostError as error:
            return error.code
        return Answer(msgspec.msgpack.decode(guest.delivered[-1]))

    def read_all(self, number: int, most: int = 1 << 20) -> bytes:
        body = b""
        while True:
            chunk = self.read(number, most)
            assert "err" not in chunk, chunk
            body += chunk["bytes"] or b""
            if chunk["eof"]:
                return body

    @property
    def reason(self) -> str:
        """Why the last request failed, as the operator is told."""
        return self.guest.logged[-1].fields["reason"]

    def close(self) -> None:
        self.outbound.teardown()
        self._stack.close()


class Answer(dict[str, Any]):
    def __getattr__(self, name: str) -> Any:
        return self[name]


@pytest.fixture
def bench(pulp_env: FakeHost) -> Iterator[Bench]:
    bench = Bench(pulp_env)
    yield bench
    bench.close()


# The wire ---------------------------------------------------------------------------------------------------------


def test_the_answers_are_what_other_hosts_of_these_cells_write_byte_for_byte() -> None:
    assert encode_fetch_response(200, {"A": "b"}, b"hi") == (
        b"\x84\xa2id\xcf\0\0\0\0\0\0\0\0\xa6status\xce\0\0\0\xc8\xa7headers\x81\xa1A\xa1b\xa4body\xc4\x02hi"
    )
    assert encode_fetch_response(204, {}, b"").endswith(b"\xa7headers\x80\xa4body\xc4\x00")
    assert encode_stream_header(7, 200, {}) == (
        b"\x83\xa2id\xcf\0\0\0\0\0\0\0\x07\xa6status\xce\0\0\0\xc8\xa7headers\x80"
    )
    assert encode_chunk(b"hi") == b"\x82\xa5bytes\xc4\x02hi\xa3eof\xc2"
    assert encode_chunk(b"", eof=True) == b"\x82\xa5bytes\xc0\xa3eof\xc3"
    assert encode_chunk(b"", err="no") == b"\x83\xa5bytes\xc0\xa3eof\xc2\xa3err\xa2no"


# A request --------------------------------------------------------------------------------------------------------


def test_a_request_goes_out_and_its_response_comes_back(bench: Bench) -> None:
    upstream = bench.upstream(always(response(b"hello", "x-token: t", "Set-Cookie: a=1", "set-cookie: b=2")))

    answer = bench.fetch(f"{upstream.url}/a?b=c", method="post", headers={"x-api-key": "k"}, body=b"in")

    assert answer == {
        "id": 0,
        "status": 200,
        "headers": {"Content-Length": "5", "X-Token": "t", "Set-Cookie": "a=1\nb=2"},
        "body": b"hello",
    }
    seen = upstream.seen[0]
    assert (seen.method, seen.target, seen.body) == ("POST", "/a?b=c", b"in")
    assert seen.fields == {
        "host": [upstream.address],
        "x-api-key": ["k"],
        "user-agent": ["Go-http-client/1.1"],
        "content-length": ["2"],
        "accept-encoding": ["gzip, br"],
    }


@pytest.mark.parametrize(
    ("method", "body", "sent", "length"),
    [
        ("", b"", "GET", None),
        (" get ", b"", "GET", None),
        ("GET", b"x", "GET", "1"),
        ("POST", b"", "POST", "0"),
        ("PUT", b"", "PUT", "0"),
        ("PATCH", b"", "PATCH", "0"),
        ("DELETE", b"", "DELETE", None),
        ("HEAD", b"", "HEAD", None),
        ("PROPFIND", b"x", "PROPFIND", "1"),
    ],
)
def test_a_method_and_its_length(bench: Bench, method: str, body: bytes, sent: str, length: str | None) -> None:
    upstream = bench.upstream(always(lambda seen: response(b"" if seen.method == "HEAD" else b"ok")))

    assert bench.fetch(upstream.url, method=method, body=body).status == 200
    assert upstream.seen[0].method == sent
    assert upstream.seen[0].fields.get("content-length") == ([length] if length else None)


def test_a_status_of_400_and_more_is_a_response_like_any_other(bench: Bench) -> None:
    for status in ("404 Not Found", "500 Oops", "304 Not Modified", "999 ?"):
        upstream = bench.upstream(always(response(b"", status=status)))
        assert bench.fetch(upstream.url).status == int(status[:3])


def test_what_frames_a_request_is_the_host_s(bench: Bench) -> None:
    upstream = bench.upstream(always(response()))
    own = {
        "Host": "evil.example", "content-length": "999", "Transfer-Encoding": "chunked",
        "Connection": "upgrade, x-secret", "Upgrade": "websocket", "TE": "trailers", "Trailer": "x",
        "Keep-Alive": "1", "Proxy-Connection": "x", "Expect": "100-continue", "Accept": " text/plain ",
    }  # fmt: skip

    assert bench.fetch(upstream.url, method="POST", headers=own, body=b"body").status == 200
    assert upstream.seen[0].body == b"body"
    assert upstream.seen[0].fields == {
        "host": [upstream.address],
        "accept": ["text/plain"],
        "user-agent": ["Go-http-client/1.1"],
        "content-length": ["4"],
        "accept-encoding": ["gzip, br"],
    }


def test_a_cell_may_say_who_it_is_or_not_at_all(bench: Bench) -> None:
    upstream = bench.upstream(always(response()))
    for agent in ("me/1", ""):
        bench.fetch(upstream.url, headers={"user-agent": agent})

    assert [seen.fields.get("user-agent") for seen in upstream.seen] == [["me/1"], None]


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"method": "GET /\r\nX: 1"}, id="a line break in the method"),
        pytest.param({"method": "GET\r\n"}, id="a line break after the method"),
        pytest.param({"method": "G T"}, id="a space in the method"),
        pytest.param({"method": "GET\0"}, id="a NUL in the method"),
        pytest.param({"method": "ß"}, id="a method that upper case makes a token"),
        pytest.param({"method": "X" * 33}, id="a long method"),
        pytest.param({"method": "connect"}, id="a tunnel"),
        pytest.param({"headers": {"X": "a\r\nEvil: 1"}}, id="a line break in a value"),
        pytest.param({"headers": {"X": "a\nEvil: 1"}}, id="a line feed in a value"),
        pytest.param({"headers": {"X": "a\0"}}, id="a NUL in a value"),
        pytest.param({"headers": {"X\r\nEvil": "1"}}, id="a line break in a name"),
        pytest.param({"headers": {"X:": "1"}}, id="a colon in a name"),
        pytest.param({"headers": {"X ": "1"}}, id="a space in a name"),
        pytest.param({"headers": {"": "1"}}, id="an empty name"),
        pytest.param({"headers": {"é": "1"}}, id="a letter that is none of a name's"),
        pytest.param({"headers": {f"X-{n}": "1" for n in range(201)}}, id="too many headers"),
        pytest.param({"headers": {"X": "a" * (128 * 1024)}}, id="a header that is too long"),
        pytest.param({"url": "/\r\nX: 1"}, id="a line break in the URL"),
        pytest.param({"url": "/\0"}, id="a NUL in the URL"),
    ],
)
def test_threat_35_a_request_that_would_be_two_is_not_sent(bench: Bench, fields: dict[str, Any]) -> None:
    upstream = bench.upstream(always(response()))

    assert bench.fetch(upstream.url + fields.pop("url", ""), **fields) == 4
    assert upstream.connections == 0
    assert bench.guest.logged[-1].message == "fetch refused"
    assert "Evil" not in str(bench.guest.logged[-1])


@pytest.mark.parametrize(
    "url",
    ["", "   ", "/path", "a.example", "ftp://a.example/", "http://", "http://u:p@a.example/", "http://nobody.invalid/"],
)
def test_a_url_that_leads_nowhere_is_4(bench: Bench, url: str) -> None:
    assert bench.fetch(url) == 4
    assert bench.begin(url) == 4


def test_what_the_log_says_of_a_failure_holds_no_path_and_no_query(bench: Bench) -> None:
    upstream = bench.upstream(once(b"nonsense\r\n\r\n"))

    assert bench.fetch(f"{upstream.url}/secret?token=hunter2", headers={"Authorization": "hunter2"}) == 4
    logged = bench.guest.logged[-1]
    assert (logged.message, logged.fields["url"]) == ("fetch failed", upstream.url)
    assert "malformed response" in logged.fields["reason"]
    assert "secret" not in str(logged)
    assert "hunter2" not in str(logged)


def test_a_server_that_answers_before_it_has_read_everything_is_heard(bench: Bench) -> None:
    def script(peer: Peer) -> None:
        peer.read_until(b"\r\n\r\n")
        peer.send(response(b"too large", status="413 Content Too Large"))
        peer.wait_for_end()

    upstream = bench.upstream(script)

    answer = bench.fetch(upstream.url, method="POST", body=bytes(32 << 20))
    assert (answer.status, answer.body) == (413, b"too large")


def test_a_long_body_goes_out_and_comes_back(bench: Bench) -> None:
    upstream = bench.upstream(always(lambda seen: response(seen.body)))
    body = bytes(range(256)) * 40_000

    assert bench.fetch(upstream.url, method="POST", body=body).body == body


# Codings and sizes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("coding", "encode"), [("gzip", gzip.compress), ("GZIP", gzip.compress), ("br", brotli.compress)]
)
def test_a_coding_the_cell_did_not_ask_for_is_undone(
    bench: Bench, coding: str, encode: Callable[[bytes], bytes]
) -> None:
    upstream = bench.upstream(always(response(encode(b"hello" * 1000), f"Content-Encoding: {coding}")))

    answer = bench.fetch(upstream.url)
    assert answer.body == b"hello" * 1000
    assert answer.headers == {}


@pytest.mark.parametrize(
    "fields",
    [{"headers": {"accept-encoding": "gzip"}}, {"headers": {"Range": "bytes=0-9"}}],
    ids=["asked for", "a range of it"],
)
def test_a_coding_the_cell_asked_for_is_its_own(bench: Bench, fields: dict[str, Any]) -> None:
    data = gzip.compress(b"hello")
    upstream = bench.upstream(always(response(data, "Content-Encoding: gzip")))

    answer = bench.fetch(upstream.url, **fields)
    assert answer.body == data
    assert answer.headers == {"Content-Encoding": "gzip", "Content-Length": str(len(data))}
    assert upstream.seen[0].fields.get("accept-encoding") == (
        ["gzip"] if "accept-encoding" in fields["headers"] else None
    )


def test_threat_34_a_body_over_the_limit_is_4_declared_or_not_and_after_decoding(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_outbound, "BODY_BYTES", 100_000)
    exact = bench.upstream(always(response(bytes(100_000))))
    assert len(bench.fetch(exact.url).body) == 100_000
    for script in (
        always(response(bytes(100_001))),
        once(b"HTTP/1.1 200 OK\r\n\r\n" + bytes(100_001)),
        once(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + 2 * (b"ffff\r\n" + bytes(0xFFFF) + b"\r\n")),
        always(response(gzip.compress(bytes(64 << 20)), "Content-Encoding: gzip")),
        always(response(brotli.compress(bytes(64 << 20), quality=3), "Content-Encoding: br")),
        once(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n"),
    ):  # fmt: skip
        assert bench.fetch(bench.upstream(script).url) == 4
        assert "body over 100,000 bytes" in bench.reason


@pytest.mark.slow
def test_the_limit_of_a_body_is_50_mebibytes(bench: Bench) -> None:
    upstream = bench.upstream(always(lambda seen: response(bytes(int(seen.target[1:])))))

    assert len(bench.fetch(f"{upstream.url}/{50 << 20}").body) == 50 << 20
    assert bench.fetch(f"{upstream.url}/{(50 << 20) + 1}") == 4


def test_threat_34_nested_codings_are_left_to_the_cell(bench: Bench) -> None:
    twice = gzip.compress(gzip.compress(bytes(1 << 20)))
    upstream = bench.upstream(always(response(twice, "Content-Encoding: gzip, gzip")))

    assert bench.fetch(upstream.url).body == twice


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(response(b"hello", "Content-Encoding: gzip"), id="no gzip"),
        pytest.param(response(gzip.compress(b"hello")[:-3], "Content-Encoding: gzip"), id="half a gzip"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello", id="a length that is too long"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", id="no last chunk"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX: a\rEvil: 1\r\n\r\n", id="a line break in a header"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_threat_34_a_response_that_is_not_whole_is_4(bench: Bench, data: bytes) -> None:
    assert bench.fetch(bench.upstream(once(data)).url) == 4


# Redirects --------------------------------------------------------------------------------------------------------


def moving(status: int, location: str, *fields: str) -> Script:
    """Return a script that sends the first request elsewhere and answers the next."""

    def answer(seen: Seen) -> bytes:
        if seen.target == "/from":
            return response(b"moved", f"Location: {location}", *fields, status=f"{status} Moved")
        return response(seen.method.encode())

    return always(answer)


@pytest.mark.parametrize(
    ("status", "method", "then", "body"),
    [
        (301, "GET", "GET", b""), (302, "GET", "GET", b""), (303, "GET", "GET", b""), (307, "GET", "GET", b""),
        (308, "GET", "GET", b""),
        (301, "POST", "GET", b""), (302, "POST", "GET", b""), (303, "PUT", "GET", b""), (301, "DELETE", "GET", b""),
        (307, "POST", "POST", b"in"), (308, "PUT", "PUT", b"in"), (307, "DELETE", "DELETE", b"in"),
        (303, "HEAD", "HEAD", b""),
    ],
)  # fmt: skip
def test_a_redirect_is_followed_by_the_rules_of_its_status(
    bench: Bench, status: int, method: str, then: str, body: bytes
) -> None:
    upstream = bench.upstream(moving(status, "/to"))
    given = b"in" if method not in ("GET", "HEAD") else b""

    answer = bench.fetch(f"{upstream.url}/from", method=method, body=given, headers={"Content-Type": "text/plain"})

    assert answer.status == 200
    assert [(seen.method, seen.target, seen.body) for seen in upstream.seen] == [
        (method, "/from", given),
        (then, "/to", body),
    ]
    assert ("content-type" in upstream.seen[1].fields) == (status in (307, 308))


@pytest.mark.parametrize("status", [300, 304, 305, 306, 309])
def test_other_statuses_of_300_are_answers(bench: Bench, status: int) -> None:
    upstream = bench.upstream(moving(status, "/to"))

    assert bench.fetch(f"{upstream.url}/from").status == status


@pytest.mark.parametrize("status", [301, 307])
def test_a_redirect_to_nowhere_is_the_answer(bench: Bench, status: int) -> None:
    upstream = bench.upstream(always(response(b"here", status=f"{status} Moved")))

    assert bench.fetch(upstream.url).body == b"here"


def test_redirects_end_after_20(bench: Bench) -> None:
    def answer(seen: Seen) -> bytes:
        left = int(seen.target[1:])
        return response(b"there") if not left else response(b"", f"Location: /{left - 1}", status="302 Found")

    upstream = bench.upstream(always(answer))
    assert REDIRECTS == 20
    assert bench.fetch(f"{upstream.url}/20").body == b"there"
    assert bench.fetch(f"{upstream.url}/21") == 4
    assert bench.fetch(bench.upstream(moving(302, "/from")).url + "/from") == 4


SECRETS = {"Authorization": "a", "cookie": "b", "Proxy-Authorization": "c", "X-Other": "d"}


@pytest.mark.parametrize(
    ("first", "second", "kept"),
    [
        ("a.example", "a.example", True),
        ("a.example", "www.a.example", True),
        ("www.a.example", "a.example", False),
        ("a.example", "b.example", False),
        ("a.example", "xa.example", False),
        ("a.example", "127.0.0.1", False),
    ],
)
def test_secrets_stay_behind_when_a_redirect_leaves_the_host(bench: Bench, first: str, second: str, kept: bool) -> None:
    target = bench.upstream(always(response()))
    upstream = bench.upstream(moving(302, f"http://{second}:{target.port}/to"))

    assert bench.fetch(f"http://{first}:{upstream.port}/from", headers=SECRETS).status == 200
    sent = {name: value for name, value in target.seen[0].fields.items() if name in {key.lower() for key in SECRETS}}
    assert sent == (
        {"authorization": ["a"], "cookie": ["b"], "proxy-authorization": ["c"], "x-other": ["d"]}
        if kept
        else {"x-other": ["d"]}
    )


def test_secrets_do_not_come_back_with_a_redirect_to_the_first_host(bench: Bench) -> None:
    home = bench.upstream(lambda peer: None)
    home.close()
    other = bench.upstream(
        always(lambda seen: response(b"", f"Location: http://a.example:{back.port}/end", status="302 Found"))
    )
    back = bench.upstream(moving(302, f"http://b.example:{other.port}/"))

    assert bench.fetch(f"http://a.example:{back.port}/from", headers=SECRETS).status == 200
    assert [seen.target for seen in back.seen] == ["/from", "/end"]
    assert "authorization" not in back.seen[1].fields


def test_a_redirect_is_judged_like_any_other_target(bench: Bench) -> None:
    for location in (
        "http://10.0.0.1/",
        "http://[::1]/",
        "file:///etc/passwd",
        "http://user@a.example/",
        "http://a.example:25/",
    ):
        upstream = bench.upstream(moving(302, location))
        assert bench.fetch(f"{upstream.url}/from") == 4
        assert len(upstream.seen) == 1


# Time -------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 1000, id="in the head"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b"x" * 1000, id="in the body"),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 1000, id="in a body without end"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 300, id="in chunks"),
        pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n" * 40, id="in interim responses"),
    ],
)
def test_threat_34_a_drip_of_single_bytes_ends_at_the_deadline_of_the_whole(bench: Bench, data: bytes) -> None:
    stop = threading.Event()
    upstream = bench.upstream(dripping(data, stop))
    began = time.monotonic()

    assert bench.fetch(upstream.url, seconds=0.3) == 4
    assert 0.3 <= time.monotonic() - began < 2
    assert "timeout after 0.3 s" in bench.reason
    stop.set()


@pytest.mark.slow
def test_the_deadline_covers_redirects_together(bench: Bench) -> None:
    def slow(peer: Peer) -> None:
        while peer.request() is not None:
            time.sleep(0.15)
            peer.send(response(b"", "Location: /again", status="302 Found"))

    began = time.monotonic()
    assert bench.fetch(bench.upstream(slow).url, seconds=0.4) == 4
    assert time.monotonic() - began < 2


@pytest.mark.slow
def test_a_server_that_says_nothing_is_given_up_before_the_step_ends(bench: Bench) -> None:
    """The guest gets the last tenth of its step to say so."""
    upstream = bench.upstream(silent)
    began = time.monotonic()
    bench.guest.seconds_left = lambda: 0.5 - (time.monotonic() - began)  # type: ignore[method-assign]

    assert bench.fetch(upstream.url) == 4
    assert 0.4 < time.monotonic() - began < 0.5
    assert "step" in bench.reason


def test_the_default_is_30_seconds_and_nothing_and_less_mean_it(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    assert http_outbound.FETCH_SECONDS == 30.0
    monkeypatch.setattr(http_outbound, "FETCH_SECONDS", 0.05)
    upstream = bench.upstream(silent)
    for seconds in (0, -5):
        assert bench.fetch(upstream.url, seconds=seconds) == 4
        assert "timeout after 0.05 s" in bench.reason


# Connections ------------------------------------------------------------------------------------------------------


def test_a_connection_carries_one_request_after_another(bench: Bench) -> None:
    upstream = bench.upstream(always(response()))
    for _ in range(5):
        assert bench.fetch(upstream.url).body == b"ok"

    assert upstream.connections == 1


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(always(response(b"ok", "Connection: close")), id="the server says it is the last"),
        pytest.param(once(b"HTTP/1.1 200 OK\r\n\r\nok"), id="the body ends with it"),
        pytest.param(always(response() + b"x"), id="something follows"),
        pytest.param(once(response()), id="the server closes it"),
    ],
)
def test_a_connection_that_is_not_good_any_more_is_not_used(bench: Bench, script: Script) -> None:
    upstream = bench.upstream(script)
    for number in range(3):
        assert bench.fetch(upstream.url).body == b"ok"
        time.sleep(0.02 if number < 2 else 0)  # for the server's end of it

    assert upstream.connections == 3


def test_threat_47_no_connection_is_shared_between_cells(bench: Bench) -> None:
    """What one cell says on a connection, say its credentials, another's requests never follow."""
    upstream = bench.upstream(always(response()))
    one, two = StubGuest("one"), StubGuest("two")
    for who in (one, two, one, two):
        assert bench.fetch(upstream.url, guest=who).status == 200

    assert [seen.connection for seen in upstream.seen] == [1, 2, 1, 2]


def broken_at_second(peer: Peer) -> None:
    """Answer one request; at the next, close without a word."""
    peer.request()
    peer.send(response())
    if peer.number == 1:
        peer.request()
    else:
        always(response())(peer)


@pytest.mark.parametrize(("method", "again"), [("GET", True), ("HEAD", True), ("POST", False), ("DELETE", False)])
def test_a_request_is_sent_again_only_if_that_does_no_harm(bench: Bench, method: str, again: bool) -> None:
    upstream = bench.upstream(broken_at_second)
    bench.fetch(upstream.url)

    answer = bench.fetch(upstream.url, method=method)
    assert answer == 4 if not again else answer.status == 200
    assert [seen.method for seen in upstream.seen] == ["GET", method, *([method] if again else [])]


def test_idle_connections_are_bounded_and_close_after_a_while(bench: Bench) -> None:
    upstreams = [bench.upstream(always(response())) for _ in range(IDLE_WIRES + 3)]
    for upstream in upstreams:
        bench.fetch(upstream.url)
    pool = bench.outbound._client(bench.guest.cell).pool

    assert len(pool) == IDLE_WIRES
    pool.sweep(time.monotonic() + IDLE_SECONDS / 2)
    assert len(pool) == IDLE_WIRES
    pool.sweep(time.monotonic() + IDLE_SECONDS + 1)
    assert len(pool) == 0
    bench.fetch(upstreams[-1].url)
    assert upstreams[-1].connections == 2


def test_the_host_looks_after_idle_connections_by_itself(
    bench: Bench, pulp_env: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pulp_runtime._net.fetch_pool.IDLE_SECONDS", 0.0)
    upstream = bench.upstream(always(response()))
    bench.fetch(upstream.url)
    pool = bench.outbound._client(bench.guest.cell).pool
    assert len(pool) == 1

    pulp_env.advance(20)
    assert len(pool) == 0


def test_a_cell_that_is_gone_leaves_no_socket_behind(bench: Bench) -> None:
    def script(peer: Peer) -> None:
        if peer.number == 1:
            always(response())(peer)
        else:
            peer.request()
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nsome")
        peer.wait_for_end()

    idle, streaming = bench.upstream(script), bench.upstream(script)
    bench.fetch(idle.url)
    streaming.connections = 1
    bench.begin(streaming.url)
    bench.outbound.teardown_cell("one")

    assert idle.ended.wait(5)
    assert streaming.ended.wait(5)
    assert bench.read(1).err == "no such stream"


@pytest.mark.slow
def test_a_request_in_progress_gives_up_when_its_cell_is_gone(bench: Bench) -> None:
    upstream = bench.upstream(silent)
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(bench.fetch(upstream.url)))
    thread.start()
    while not upstream.seen:
        time.sleep(0.005)
    bench.outbound.teardown_cell("one")
    thread.join(5)

    assert answers == [4]
    assert "closed" in bench.reason
    assert upstream.ended.wait(5)


# Streams ----------------------------------------------------------------------------------------------------------


def test_a_body_can_be_read_piece_by_piece(bench: Bench) -> None:
    upstream = bench.upstream(always(response(b"hello world", "x-a: b")))

    head = bench.begin(upstream.url)
    assert head == {"id": 1, "status": 200, "headers": {"Content-Length": "11", "X-A": "b"}}
    assert bench.read(1, 4) == {"bytes": b"hell", "eof": False}
    assert bench.read(1, 4) == {"bytes": b"o wo", "eof": False}
    assert bench.read(1, 4) == {"bytes": b"rld", "eof": True}
    assert bench.read(1, 4) == {"bytes": None, "eof": True}
    bench.outbound.http_fetch_close(bench.guest.cell, 1)
    assert bench.read(1, 4) == {"bytes": None, "eof": False, "err": "no such stream"}


def test_a_stream_that_was_read_to_its_end_gives_its_connection_back(bench: Bench) -> None:
    upstream = bench.upstream(always(response(b"hello")))
    for _ in range(3):
        assert bench.read_all(bench.begin(upstream.url).id) == b"hello"

    assert upstream.connections == 1


@pytest.mark.parametrize(
    ("coding", "encode"), [("gzip", gzip.compress), ("br", lambda data: brotli.compress(data, quality=3))]
)
def test_a_stream_is_decoded_as_it_is_read(bench: Bench, coding: str, encode: Callable[[bytes], bytes]) -> None:
    body = bytes(range(256)) * 10_000
    upstream = bench.upstream(always(response(encode(body), f"Content-Encoding: {coding}")))

    head = bench.begin(upstream.url)
    assert head.headers == {}
    assert bench.read_all(head.id, 10_000) == body


def test_a_stream_hands_on_what_has_come_without_waiting_for_more(bench: Bench) -> None:
    more = threading.Event()

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        more.wait(10)
        peer.send(b"3\r\nend\r\n0\r\n\r\n")

    number = bench.begin(bench.upstream(script).url).id
    assert bench.read(number) == {"bytes": b"hello", "eof": False}
    more.set()
    assert bench.read_all(number) == b"end"


@pytest.mark.slow
def test_a_read_that_has_nothing_to_give_before_the_step_ends_says_try_again(bench: Bench) -> None:
    go = threading.Event()

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
        go.wait(10)
        peer.send(b"hello")

    number = bench.begin(bench.upstream(script).url).id
    bench.guest.seconds = 0.0
    assert bench.read(number) == {"bytes": None, "eof": False}
    bench.guest.seconds = 5.0
    go.set()
    assert bench.read_all(number) == b"hello"


@pytest.mark.slow
def test_a_timeout_covers_the_whole_life_of_a_stream(bench: Bench) -> None:
    stop = threading.Event()
    upstream = bench.upstream(dripping(b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n" + b"x" * 999, stop, 0.002))
    began = time.monotonic()
    number = bench.begin(upstream.url, seconds=0.3).id
    while "err" not in (chunk := bench.read(number)):
        assert time.monotonic() - began < 5
    stop.set()

    assert chunk == {"bytes": None, "eof": False, "err": "timeout after 0.3 s"}
    assert "err" in bench.read(number)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello", "in the middle"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz", "malformed"),
    ],
)
def test_a_stream_that_breaks_says_so_after_what_had_come(bench: Bench, data: bytes, words: str) -> None:
    number = bench.begin(bench.upstream(once(data)).url).id
    read = b""
    while "err" not in (chunk := bench.read(number)):
        read += chunk["bytes"]

    assert b"hello".startswith(read)
    assert words in chunk.err
    assert chunk.eof is False
    assert "err" in bench.read(number)


def test_one_read_is_at_most_4_mebibytes(bench: Bench) -> None:
    upstream = bench.upstream(always(response(bytes(9 << 20))))
    number = bench.begin(upstream.url).id

    sizes = []
    while not (chunk := bench.read(number, 0xFFFF_FFFF)).eof:
        sizes.append(len(chunk.bytes))
    assert max(sizes) <= 4 << 20


def test_threat_34_a_bomb_in_a_stream_is_no_larger_than_what_is_read(bench: Bench) -> None:
    upstream = bench.upstream(always(response(gzip.compress(bytes(64 << 20)), "Content-Encoding: gzip")))
    number = bench.begin(upstream.url).id

    assert 0 < len(bench.read(number, 1000).bytes) <= 1000
    assert 0 < len(bench.read(number, 0xFFFF_FFFF).bytes) <= 4 << 20


def test_no_bytes_is_1(bench: Bench) -> None:
    assert bench.read(1, 0) == 1


def test_threat_20_a_stream_belongs_to_the_cell_that_opened_it(bench: Bench) -> None:
    upstream = bench.upstream(always(response(b"mine")))
    other = StubGuest("other")
    number = bench.begin(upstream.url).id

    assert bench.read(number, guest=other) == {"bytes": None, "eof": False, "err": "no such stream"}
    bench.outbound.http_fetch_close(other.cell, number)
    assert bench.read_all(number) == b"mine"


def test_a_cell_has_at_most_64_streams(bench: Bench) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
        peer.wait_for_end()

    upstream = bench.upstream(script)
    numbers = [bench.begin(upstream.url).id for _ in range(STREAMS_OF_A_CELL)]

    assert len(set(numbers)) == 64
    assert bench.begin(upstream.url) == 4
    assert bench.reason == "64 streams are open; close some"
    assert bench.begin(upstream.url, guest=StubGuest("other")).status == 200
    bench.outbound.http_fetch_close(bench.guest.cell, numbers[0])
    assert bench.begin(upstream.url).status == 200


def test_a_stream_that_cannot_be_delivered_is_closed_again(bench: Bench) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
        peer.wait_for_end()

    upstream = bench.upstream(script)
    for code in (7, 8):
        bench.guest.refuses = HostError(code)
        assert bench.begin(upstream.url) == code
        assert upstream.ended.wait(5)
        upstream.ended.clear()
    bench.guest.refuses = None
    assert bench.read(1).err == "no such stream"


def test_a_piece_that_cannot_be_delivered_is_not_lost(bench: Bench) -> None:
    number = bench.begin(bench.upstream(always(response(b"hello"))).url).id
    bench.guest.refuses = HostError(7)
    assert bench.read(number, 5) == 7
    bench.guest.refuses = None

    assert bench.read(number, 3) == {"bytes": b"hel", "eof": False}
    assert bench.read_all(number) == b"lo"


def test_closing_what_is_not_open_is_no_error(bench: Bench) -> None:
    for number in (0, 1, 2**64 - 1):
        bench.outbound.http_fetch_close(bench.guest.cell, number)


# What transport.http.inbound takes over ---------------------------------------------------------------------------


def test_a_stream_can_be_taken_over_and_outlives_its_cell(bench: Bench) -> None:
    upstream = bench.upstream(always(response(b"hello world")))
    number = bench.begin(upstream.url).id
    streams = bench.env.services.get(FetchStreams, FetchStreams)

    assert streams.take("other", number) is None
    stream = streams.take("one", number)
    assert stream is not None
    assert streams.take("one", number) is None
    assert bench.read(number).err == "no such stream"
    bench.outbound.teardown_cell("one")
    assert (stream.status, stream.read(5), stream.read(100), stream.read(5)) == (200, b"hello", b" world", b"")
    stream.close()


def test_a_stream_that_was_taken_over_can_be_read_without_waiting(bench: Bench) -> None:
    go = threading.Event()

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
        go.wait(10)
        peer.send(b"hello")

    number = bench.begin(bench.upstream(script).url).id
    stream = bench.env.services.get(FetchStreams, FetchStreams).take("one", number)
    assert stream is not None
    assert stream.read_now(10) is None
    assert stream.fileno() >= 0
    assert stream.seconds_left is None
    go.set()
    while (data := stream.read_now(10)) is None:
        time.sleep(0.005)
    assert data == b"hello"
    assert stream.read_now(10) == b""
    assert stream.fileno() == -1


@pytest.mark.slow
def test_a_stream_that_is_closed_under_its_reader_wakes_it(bench: Bench) -> None:
    def script(peer: Peer) -> None:
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
        peer.wait_for_end()

    number = bench.begin(bench.upstream(script).url).id
    stream = bench.env.services.get(FetchStreams, FetchStreams).take("one", number)
    assert stream is not None
    caught: list[Exception] = []

    def read() -> None:
        try:
            stream.read(10)
        except DialFault as error:
            caught.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    time.sleep(0.05)
    stream.close()
    thread.join(5)
    assert not thread.is_alive()
    assert "closed" in str(caught[0])
    stream.close()


# What may be dialled ----------------------------------------------------------------------------------------------


def test_nothing_private_may_be_dialled_unless_somebody_says_so(pulp_env: FakeHost) -> None:
    bench = Bench(pulp_env, config={})
    upstream = bench.upstream(always(response()))

    assert bench.fetch(upstream.url) == 4
    assert (upstream.connections, bench.guest.logged[-1].message) == (0, "fetch refused")
    assert "127.0.0.1 is loopback" in bench.reason
    bench.close()


def test_the_operator_s_list_is_for_every_cell_and_a_manifest_s_for_its_own(
    pulp_env: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_FETCH_ALLOW", " a.example , 10.0.0.0/99,")
    bench = Bench(pulp_env, config={})
    upstream = bench.upstream(always(response()))
    plain, own = StubGuest("plain"), StubGuest("own", {NAME: {"allow": ["b.example"]}})
    a, b = (f"http://{name}.example:{upstream.port}/" for name in "ab")

    assert [bench.fetch(a, guest=plain).status, bench.fetch(b, guest=plain)] == [200, 4]
    assert [bench.fetch(a, guest=own).status, bench.fetch(b, guest=own).status] == [200, 200]
    ignored = next(line for line in pulp_env.logged if line.message == "entry of the allow list ignored")
    assert ignored.fields["entry"] == "10.0.0.0/99"
    bench.close()


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"allow": ["10.0.0.0/99"]}, "10.0.0.0/99"),
        ({"allow": ["http://a.example"]}, "host"),
        ({"allow": "a.example"}, "allow"),
        ({"alow": []}, "alow"),
    ],
)
def test_a_manifest_that_allows_nothing_sensible_is_refused(bench: Bench, table: dict[str, Any], words: str) -> None:
    with pytest.raises(ExtensionError, match=words):
        bench.outbound.setup_cell(StubGuest("own", {NAME: table}).cell)


@pytest.mark.parametrize(
    ("config", "words"),
    [({"ca_file": "/nonexistent/ca.pem"}, "ca_file"), ({"unknown": 1}, "unknown"), ({"allow": 5}, "allow")],
)
def test_an_operator_s_setting_that_cannot_be_stops_the_host(
    pulp_env: FakeHost, config: dict[str, Any], words: str
) -> None:
    with pytest.raises(ExtensionError, match=words):
        HttpOutbound(lookup).setup(pulp_env(NAME, config=config))


# With a guest -----------------------------------------------------------------------------------------------------


@pytest.fixture
def cell(pulp_cell: Callable[..., CellUnderTest]) -> CellUnderTest:
    return pulp_cell(guest(IMPORTS), declares=[NAME], settings={NAME: LOOPBACK})


def put(cell: CellUnderTest, request: dict[str, Any]) -> tuple[int, int]:
    data = msgspec.msgpack.encode(request)
    cell.write(0, data)
    return 0, len(data)


@pytest.mark.parametrize("function", ["http_fetch", "http_fetch_begin"])
def test_what_is_no_request_is_a_code(cell: CellUnderTest, function: str) -> None:
    cell.write(0, b"\xc1")
    assert cell.run(function, 0, 0, 8000, 8004) == 1
    assert cell.run(function, 0, 1, 8000, 8004) == 3
    for words in HOSTILE_RANGES.values():
        assert cell.run(function, *words, 8000, 8004) == 2
    assert cell.run(function, *put(cell, {"url": 5}), 8000, 8004) == 3
    assert cell.run(function, *put(cell, {"url": "http://a/", "timeout": 2**63}), 8000, 8004) == 3
    assert cell.run(function, *put(cell, {}), 8000, 8004) == 4


@pytest.mark.parametrize(
    ("alloc", "outs", "code"), [("refuse", (8000, 8004), 7), ("outside", (8000, 8004), 8), ("bump", (65533, 8), 8)]
)
def test_what_cannot_be_delivered_is_a_code(
    pulp_cell: Callable[..., CellUnderTest], alloc: Any, outs: tuple[int, int], code: int
) -> None:
    cell = pulp_cell(guest(IMPORTS, alloc=alloc), declares=[NAME], settings={NAME: LOOPBACK})
    with Upstream(always(response())) as upstream:
        given = put(cell, {"url": upstream.url})
        assert cell.run("http_fetch", *given, *outs) == code
        assert cell.run("http_fetch_begin", *given, *outs) == code
        assert cell.run("http_fetch_read", 1, 0, 10, *outs) == code


def test_a_cell_that_does_not_declare_it_gets_99(pulp_cell: Callable[..., CellUnderTest]) -> None:
    cell = pulp_cell(guest(IMPORTS), declares=[])

    assert [cell.run(name, *[0] * words) for name, words in IMPORTS.items()] == [99] * 4


# In a host --------------------------------------------------------------------------------------------------------


def test_a_cell_in_a_host_fetches_and_reads(puppets: Puppets) -> None:
    with Upstream(always(response(b"hello"))) as upstream:
        (cell,) = puppets(NAME, IMPORTS, config={NAME: LOOPBACK})
        assert cell.ask("http_fetch", {"url": upstream.url})["body"] == b"hello"
        number = cell.ask("http_fetch_begin", {"url": upstream.url})["id"]
        assert cell.ask("http_fetch_read", number, 0, 100) == {"bytes": b"hello", "eof": True}
        assert cell("http_fetch_close", number, 0) == (0, b"")
        assert cell.ask("http_fetch_read", number, 0, 100)["err"] == "no such stream"
        assert cell.ask("http_fetch_read", number, 1, 100)["err"] == "no such stream"


def test_threat_20_a_stream_of_before_a_restart_means_nothing_after_it(puppets: Puppets) -> None:
    with Upstream(always(response(b"hello"))) as upstream:
        (cell,) = puppets(NAME, IMPORTS, config={NAME: LOOPBACK})
        number = cell.ask("http_fetch_begin", {"url": upstream.url})["id"]
        cell.trap()
        assert cell.ask("http_fetch_read", number, 0, 100)["err"] == "no such stream"


@pytest.mark.slow
def test_a_cell_that_waits_for_a_server_keeps_no_other_waiting(puppets: Puppets) -> None:
    with Upstream(silent) as stuck, Upstream(always(response())) as upstream:
        blocked, free = puppets(NAME, IMPORTS, "blocked", "free", config={NAME: LOOPBACK}, workers=1)
        answers: list[tuple[int, bytes]] = []
        request = {"url": stuck.url, "timeout": SECOND}
        thread = threading.Thread(target=lambda: answers.append(blocked("http_fetch", request)))
        thread.start()
        while not stuck.seen:
            time.sleep(0.005)
        began = time.monotonic()
        for _ in range(20):
            assert free.ask("http_fetch", {"url": upstream.url})["status"] == 200
        assert time.monotonic() - began < 0.9
        assert not answers
        thread.join(10)
        assert answers == [(4, b"")]


@pytest.mark.slow
def test_a_host_that_stops_does_not_wait_for_a_server(puppets: Puppets) -> None:
    with Upstream(silent) as stuck:
        (cell,) = puppets(NAME, IMPORTS, config={NAME: LOOPBACK}, grace_seconds=2.0)
        thread = threading.Thread(target=lambda: _quietly(cell, {"url": stuck.url}))
        thread.start()
        while not stuck.seen:
            time.sleep(0.005)
        began = time.monotonic()
        puppets.stop()  # type: ignore[attr-defined]
        assert time.monotonic() - began < 4
        thread.join(5)
        assert stuck.ended.wait(5)


def _quietly(cell: Puppet, request: dict[str, Any]) -> None:
    try:
        cell("http_fetch", request)
    except Exception:  # noqa: BLE001  # the host is going away under it
        pass


@pytest.mark.slow
def test_a_deadline_that_is_shorter_than_the_wait_is_a_code_and_no_trap(puppets: Puppets) -> None:
    with Upstream(silent) as stuck:
        (cell,) = puppets(NAME, IMPORTS, config={NAME: LOOPBACK}, lines={"one": ("call_timeout_ms = 400",)})
        assert cell("http_fetch", {"url": stuck.url}) == (4, b"")
        assert cell.host.status()["one"].restarts == 0
