import pytest

from pulp_runtime._net import answers

GET = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n"
POST = b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n"
CHUNKED = b"POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"


def test_a_request_reaches_the_application_and_its_answer_the_client(wire) -> None:
    wire.feed(GET)
    (request,) = wire.requests
    assert (request.line.method, request.line.path, request.body) == ("GET", "/a", b"")
    assert (request.keep_alive, request.received) == (True, 1_000.0)
    assert wire.sent.startswith(b"HTTP/1.1 200 OK\r\n")
    assert wire.sent.endswith(b"\r\n\r\nok")
    assert not wire.over


def test_a_connection_is_kept_and_a_known_head_gives_the_same_parts(wire) -> None:
    wire.feed(GET)
    wire.feed(GET)
    assert wire.statuses == [200, 200]
    assert wire.requests[0].line is wire.requests[1].line
    assert wire.requests[0].block is wire.requests[1].block


@pytest.mark.parametrize("head", [GET, POST + b"hello", CHUNKED + b"3\r\nhel\r\n2\r\nlo\r\n0\r\nX: 1\r\n\r\n"])
def test_a_request_may_come_byte_by_byte(wire, head: bytes) -> None:
    for byte in head + GET:
        wire.feed(bytes([byte]))
    assert wire.statuses == [200, 200]
    assert wire.requests[0].body == (b"" if head is GET else b"hello")


def test_a_body_by_length_is_handed_over_whole(wire) -> None:
    wire.feed(POST + b"hel")
    assert not wire.requests
    wire.feed(b"lo" + GET)
    assert [request.body for request in wire.requests] == [b"hello", b""]


def test_a_body_of_a_megabyte_is_handed_over_whole(wire) -> None:
    body = bytes(range(256)) * 4_096
    data = b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    for start in range(0, len(data), 65_536):
        wire.feed(data[start : start + 65_536])
    assert wire.requests[0].body == body
    assert wire.service.held_bytes == 0


def test_a_chunked_body_is_handed_over_decoded_and_what_follows_is_the_next_request(wire) -> None:
    wire.feed(CHUNKED + b"3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n" + GET)
    assert [request.body for request in wire.requests] == [b"hello", b""]


def test_a_length_of_zero_is_no_body(wire) -> None:
    wire.feed(POST.replace(b"5", b"0"))
    assert wire.requests[0].body == b""


def test_threat_36_a_malformed_head_is_answered_400_and_closed(wire, malformed_head: bytes) -> None:
    wire.feed(malformed_head)
    assert wire.statuses == [400]
    assert b"Connection: close\r\n" in wire.sent
    assert wire.over
    assert not wire.requests


def test_threat_36_a_malformed_head_is_answered_400_byte_by_byte(wire, malformed_head: bytes) -> None:
    for byte in malformed_head:
        wire.feed(bytes([byte]))
    assert wire.statuses == [400]
    assert not wire.requests


def test_threat_36_a_malformed_head_after_a_good_one_is_answered_400(wire, malformed_head: bytes) -> None:
    wire.feed(GET)
    wire.feed(GET + malformed_head)
    assert wire.statuses == [200, 200, 400]
    assert wire.over


def test_threat_36_malformed_chunks_are_answered_400_and_closed(wire, malformed_chunks: bytes) -> None:
    wire.feed(CHUNKED + malformed_chunks + GET)
    assert wire.statuses == [400]
    assert wire.over
    assert not wire.requests


def test_threat_36_what_follows_a_refused_request_is_never_read(wire) -> None:
    wire.feed(b"GET / HTTP/1.1\r\nHost : h\r\n\r\n" + GET)
    wire.feed(GET)
    assert wire.statuses == [400]
    assert not wire.requests


def test_a_refusal_says_why_as_go_does(wire) -> None:
    wire.feed(b"GET / HTTP/1.1\r\nX: y\r\n\r\n")
    head, _, body = wire.sent.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n")
    assert b"X-Content-Type-Options: nosniff\r\n" in head
    assert body == b"missing required Host header\n"


def test_threat_36_ten_thousand_pipelined_requests_are_answered_in_order_without_recursion(wire) -> None:
    heads = b"".join(b"GET /%d HTTP/1.1\r\nHost: h\r\n\r\n" % number for number in range(10_000))
    wire.feed(heads)
    assert [request.line.path for request in wire.requests] == [f"/{number}" for number in range(10_000)]
    assert wire.statuses == [200] * 10_000


def test_pipelined_requests_wait_for_the_one_in_flight(wire) -> None:
    wire.hold = True
    wire.feed(GET * 3)
    assert len(wire.requests) == 1
    wire.answer(wire.requests[0])
    assert len(wire.requests) == 2
    wire.hold = False
    wire.answer(wire.requests[1])
    assert wire.statuses == [200, 200, 200]


def test_an_answer_counts_once_and_only_for_the_request_in_flight(wire) -> None:
    wire.hold = True
    wire.feed(GET)
    wire.answer(wire.requests[0])
    wire.answer(wire.requests[0])
    wire.feed(GET)
    wire.answer(wire.requests[0])
    assert wire.statuses == [200]
    wire.answer(wire.requests[1])
    assert wire.statuses == [200, 200]


def test_an_answer_for_a_lost_connection_is_ignored_and_the_application_was_told(wire) -> None:
    wire.hold = True
    wire.feed(GET)
    wire.connection.connection_lost(ConnectionResetError())
    assert wire.disconnected == wire.requests
    wire.answer(wire.requests[0])
    assert not wire.sent
    assert not wire.service.connections


def test_an_answer_for_a_closing_transport_is_ignored(wire) -> None:
    wire.hold = True
    wire.feed(GET)
    wire.transport.abort()
    wire.answer(wire.requests[0])
    assert not wire.sent


def test_a_lost_idle_connection_tells_nobody(wire) -> None:
    wire.feed(GET)
    wire.connection.connection_lost(None)
    assert not wire.disconnected


def test_a_lost_connection_gives_back_its_unfinished_body(wire) -> None:
    wire.feed(POST + b"he")
    assert wire.service.held_bytes == 2
    wire.connection.connection_lost(None)
    assert wire.service.held_bytes == 0


def test_an_application_may_close_after_an_answer(wire) -> None:
    wire.hold = True
    wire.feed(GET)
    wire.connection.respond(wire.requests[0], answers.last_words(200, "bye"), close=True)
    assert wire.transport.closed


@pytest.mark.parametrize(
    ("head", "kept", "said"),
    [
        (b"GET / HTTP/1.0\r\n\r\n", False, b"Connection: close\r\n"),
        (b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", True, b"Connection: keep-alive\r\n"),
        (b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", False, b"Connection: close\r\n"),
    ],
)
def test_version_and_headers_decide_whether_a_connection_is_kept(wire, head: bytes, kept: bool, said: bytes) -> None:
    wire.feed(head)
    assert wire.transport.closed is not kept
    assert said in wire.sent


def test_bytes_after_the_last_answer_are_thrown_away_before_the_connection_closes(wire) -> None:
    wire.feed(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n" + GET)
    assert wire.statuses == [200]
    assert wire.transport.eof
    assert not wire.transport.closed
    wire.feed(GET)
    wire.pass_time(2.1)
    assert wire.transport.closed
    assert wire.statuses == [200]


@pytest.mark.parametrize(
    ("target", "method", "status"),
    [("/a//b", "GET", 301), ("/a//b", "HEAD", 301), ("/a//b", "POST", 308), ("/a/../b", "DELETE", 308)],
)
def test_an_unclean_path_is_redirected_before_any_route(wire, target: str, method: str, status: int) -> None:
    wire.feed(f"{method} {target}?q=1 HTTP/1.1\r\nHost: h\r\n\r\n".encode())
    assert wire.statuses == [status]
    assert b"?q=1\r\n" in wire.sent
    assert not wire.requests
    wire.feed(GET)
    assert len(wire.requests) == 1


def test_a_redirected_request_with_a_body_ends_the_connection(wire) -> None:
    wire.feed(POST.replace(b"/a", b"//a") + b"hello")
    assert wire.statuses == [308]
    assert b"Connection: close\r\n" in wire.sent
    assert wire.over


def test_options_asterisk_is_answered_by_the_host(wire) -> None:
    wire.feed(b"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n" + GET)
    assert wire.statuses == [200, 200]
    assert len(wire.requests) == 1


def test_one_empty_line_before_a_request_is_forgiven(wire) -> None:
    wire.feed(GET)
    wire.feed(b"\r\n" + GET)
    assert wire.statuses == [200, 200]


def test_expect_is_answered_when_the_body_is_awaited(wire) -> None:
    wire.feed(POST.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"))
    assert wire.sent == b"HTTP/1.1 100 Continue\r\n\r\n"
    wire.feed(b"hello")
    assert wire.statuses == [100, 200]


def test_a_client_that_shuts_its_side_down_still_gets_its_answer(wire) -> None:
    wire.hold = True
    wire.feed(GET)
    assert wire.connection.eof_received() is True
    assert not wire.over
    wire.answer(wire.requests[0])
    assert wire.statuses == [200]
    assert wire.transport.closed


def test_half_close_leaves_pipelined_requests_to_be_answered(wire) -> None:
    wire.hold = True
    wire.feed(GET * 2)
    wire.connection.eof_received()
    wire.answer(wire.requests[0])
    wire.answer(wire.requests[1])
    assert wire.statuses == [200, 200]
    assert wire.transport.closed


def test_half_close_of_an_idle_connection_closes_it(wire) -> None:
    wire.feed(GET)
    wire.connection.eof_received()
    assert wire.transport.closed


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (POST + b"he", b"read body: unexpected EOF\n"),
        (POST, b"read body: unexpected EOF\n"),
        (b"GET /", b"unexpected EOF\n"),
    ],
)
def test_half_close_within_a_request_is_400(wire, data: bytes, reason: bytes) -> None:
    wire.feed(data)
    wire.connection.eof_received()
    assert wire.statuses == [400]
    assert wire.sent.endswith(reason)
    assert wire.transport.closed


def test_half_close_with_half_a_pipelined_request_is_400_after_the_answer(wire) -> None:
    wire.hold = True
    wire.feed(GET + b"GET /")
    wire.connection.eof_received()
    wire.answer(wire.requests[0])
    assert wire.statuses == [200, 400]
    assert wire.transport.closed


def test_half_close_after_a_refusal_closes_at_once(wire) -> None:
    wire.feed(b"BAD\r\n\r\n")
    assert not wire.transport.closed
    wire.connection.eof_received()
    assert wire.transport.closed


def test_a_graceful_close_ends_an_idle_connection_at_once(wire) -> None:
    wire.connection.close_when_idle()
    assert wire.transport.closed


def test_a_graceful_close_lets_the_request_in_flight_finish_and_says_so(wire) -> None:
    wire.hold = True
    wire.feed(GET * 2)
    wire.connection.close_when_idle()
    assert not wire.over
    wire.answer(wire.requests[0])
    assert wire.statuses == [200]
    assert b"Connection: close\r\n" in wire.sent
    assert wire.over
    assert len(wire.requests) == 1


def test_a_graceful_close_lets_a_begun_request_finish(wire) -> None:
    wire.feed(POST + b"he")
    wire.connection.close_when_idle()
    wire.feed(b"llo")
    assert wire.statuses == [200]
    assert wire.transport.closed


@pytest.mark.parametrize(
    ("peer", "text"),
    [
        (("192.0.2.7", 80), "192.0.2.7:80"),
        (("2001:db8::1", 80, 0, 0), "[2001:db8::1]:80"),
        (("::ffff:192.0.2.7", 80, 0, 0), "192.0.2.7:80"),
        (("::1", 80, 0, 0), "[::1]:80"),
        ((), ""),
    ],
)
def test_the_remote_address_is_written_as_go_does(open_wire, peer: tuple[object, ...], text: str) -> None:
    wire = open_wire(peer)
    assert wire.connection.remote_addr == text
    packed = b"\xabremote_addr" + bytes([0xA0 + len(text)]) + text.encode()
    assert wire.connection.packed_remote_addr == (packed if text else b"")


def test_threat_38_a_forwarding_header_never_changes_the_remote_address(wire) -> None:
    spoofed = b"X-Forwarded-For: 10.0.0.1\r\nForwarded: for=10.0.0.1\r\nX-Real-Ip: 10.0.0.1\r\n"
    wire.feed(b"GET / HTTP/1.1\r\nHost: h\r\n" + spoofed + b"\r\n")
    assert wire.requests[0].connection.remote_addr == "192.0.2.7:4711"
