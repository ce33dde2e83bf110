"""What one client may take from the others: bytes, time, connections."""

import pytest

GET = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n"
POST = b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n"
CHUNKED = b"POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"


def test_threat_37_reading_stops_when_a_client_sends_far_ahead(open_wire) -> None:
    wire = open_wire(pipeline_bytes=1_000)
    wire.hold = True
    wire.feed(GET)
    wire.feed(GET * 20)
    assert not wire.transport.paused
    wire.feed(GET * 20)
    assert wire.transport.paused
    wire.hold = False
    wire.answer(wire.requests[0])
    assert not wire.transport.paused
    assert wire.statuses == [200] * 41


def test_reading_goes_on_for_a_body_that_begins_in_a_full_buffer(open_wire) -> None:
    wire = open_wire(pipeline_bytes=10)
    wire.hold = True
    wire.feed(GET + POST + b"he")
    assert wire.transport.paused
    wire.answer(wire.requests[0])
    assert not wire.transport.paused
    wire.feed(b"llo")
    assert wire.requests[1].body == b"hello"


@pytest.mark.parametrize(
    ("data", "statuses"),
    [
        pytest.param(
            b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhe",
            [],
            id="the body is on its way",
        ),
        pytest.param(b"POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n\r\n", [200], id="there is no body"),
        pytest.param(
            b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\nExpect: 100-continue\r\n\r\n",
            [200],
            id="the body is empty",
        ),
        pytest.param(
            b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 52428801\r\nExpect: 100-continue\r\n\r\n",
            [413],
            id="the body is too large",
        ),
        pytest.param(
            b"POST / HTTP/1.0\r\nHost: h\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n",
            [],
            id="HTTP/1.0 does not know it",
        ),
    ],
)
def test_threat_37_expect_is_not_answered_when_nothing_is_awaited(wire, data: bytes, statuses: list[int]) -> None:
    wire.feed(data)
    assert wire.statuses == statuses


def test_a_declared_body_past_the_limit_is_413_at_once(wire) -> None:
    wire.feed(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 52428801\r\n\r\n")
    assert wire.statuses == [413]
    assert wire.sent.endswith(b"request body too large\n")
    assert wire.over


def test_a_chunked_body_past_the_limit_is_413(open_wire) -> None:
    wire = open_wire(body_bytes=10)
    wire.feed(CHUNKED + b"a\r\n0123456789\r\n")
    assert not wire.sent
    wire.feed(b"1\r\n")
    assert wire.statuses == [413]
    assert wire.service.held_bytes == 0


def test_threat_37_bodies_of_all_connections_together_are_bounded(open_wire) -> None:
    wire = open_wire(bodies_bytes=10)
    wire.feed(POST.replace(b"5", b"20") + b"0123456")
    first = wire.transport
    wire.connect()
    wire.feed(POST + b"0123")
    assert wire.statuses == [503]
    assert wire.over
    assert not first.sent
    assert wire.service.held_bytes == 7


@pytest.mark.parametrize(
    ("data", "status"),
    [
        pytest.param(b"GET /" + b"a" * 9_000, 414, id="a request line never ends"),
        pytest.param(b"GET / HTTP/1.1\r\nX: " + b"a" * 70_000, 431, id="a header never ends"),
        pytest.param(b"GET / HTTP/1.1\r\n" + b"X: 1\r\n" * 12_000, 431, id="headers never end"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: h\r\n" + b"X: 1\r\n" * 100 + b"\r\n", 431, id="fields are many"),
        pytest.param(b"GET /?" + b"&" * 1_000 + b" HTTP/1.1\r\nHost: h\r\n\r\n", 400, id="parameters are many"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, id="TLS is spoken"),
    ],
)
def test_threat_37_a_head_past_its_bounds_is_refused_while_it_comes(wire, data: bytes, status: int) -> None:
    for start in range(0, len(data), 1_000):
        wire.feed(data[start : start + 1_000])
    assert wire.statuses == [status]
    assert wire.over


def test_threat_37_a_head_that_takes_too_long_is_408(wire) -> None:
    wire.feed(b"G")
    for _ in range(9):
        wire.pass_time(1.0)
        wire.feed(b"E")
    assert not wire.over
    wire.pass_time(1.1)
    assert wire.statuses == [408]
    assert wire.over


def test_threat_37_a_body_that_falls_silent_is_408(wire) -> None:
    wire.feed(POST + b"he")
    wire.pass_time(19.9)
    assert not wire.over
    wire.pass_time(0.2)
    assert wire.statuses == [408]


def test_threat_37_a_body_that_drips_is_408(wire) -> None:
    wire.feed(POST.replace(b"5", b"100000"))
    for _ in range(4):
        wire.pass_time(5.0)
        wire.feed(b"x" * 100)
    assert not wire.over
    wire.pass_time(1.0)
    wire.feed(b"x")
    assert wire.statuses == [408]
    assert wire.service.held_bytes == 0


def test_a_body_that_comes_steadily_may_take_its_time(wire) -> None:
    wire.feed(POST.replace(b"5", b"100000"))
    for _ in range(40):
        wire.pass_time(5.0)
        wire.feed(b"x" * 2_500)
    assert wire.statuses == [200]


def test_threat_37_an_idle_connection_is_closed_without_a_word(wire) -> None:
    wire.pass_time(0.5)
    wire.feed(GET)
    sent = wire.sent
    wire.pass_time(0.5)
    wire.pass_time(74.9)
    assert not wire.over
    wire.pass_time(0.2)
    assert wire.transport.closed
    assert wire.sent == sent


def test_a_request_in_flight_has_no_deadline_here(wire) -> None:
    wire.hold = True
    wire.feed(GET)
    wire.pass_time(100_000.0)
    assert not wire.over


def test_threat_37_a_client_that_does_not_read_gets_no_further_request_served(wire) -> None:
    wire.hold = True
    wire.feed(GET * 2)
    wire.connection.pause_writing()
    wire.transport.unsent = 100_000
    wire.answer(wire.requests[0])
    assert len(wire.requests) == 1
    wire.pass_time(29.0)
    assert not wire.over
    wire.transport.unsent = 50_000
    wire.pass_time(2.0)
    assert not wire.over
    wire.connection.resume_writing()
    assert len(wire.requests) == 2


def test_threat_37_a_client_that_takes_not_one_byte_is_aborted(wire) -> None:
    wire.hold = True
    wire.feed(GET)
    wire.connection.pause_writing()
    wire.transport.unsent = 100_000
    wire.answer(wire.requests[0])
    wire.pass_time(30.1)
    assert wire.transport.aborted


def test_threat_37_an_idle_client_that_left_its_answer_unread_is_aborted(wire) -> None:
    wire.feed(GET)
    wire.transport.unsent = 100
    wire.pass_time(1.0)
    wire.pass_time(75.1)
    assert wire.transport.aborted


def test_threat_37_a_closed_connection_whose_answer_is_not_taken_is_aborted(wire) -> None:
    wire.transport.unsent = 100_000
    wire.feed(b"GET / HTTP/1.0\r\n\r\n")
    assert wire.transport.closed
    wire.pass_time(30.1)
    assert wire.transport.aborted


def test_a_slow_reader_of_a_last_answer_gets_it_all(wire) -> None:
    wire.transport.unsent = 100_000
    wire.feed(b"GET / HTTP/1.0\r\n\r\n" + GET)
    wire.pass_time(2.1)
    assert not wire.transport.aborted
    for _ in range(5):
        wire.transport.unsent -= 10_000
        wire.pass_time(30.1)
    assert not wire.transport.aborted
    wire.pass_time(30.1)
    assert wire.transport.aborted


def test_a_connection_past_the_limit_is_answered_503_and_closed(open_wire) -> None:
    wire = open_wire(connections=1)
    wire.connect()
    assert wire.statuses == [503]
    assert wire.transport.closed
    assert len(wire.service.connections) == 1
    wire.feed(GET)
    wire.connection.connection_lost(None)
    assert len(wire.service.connections) == 1
    assert not wire.requests


def test_threat_37_what_comes_after_the_end_is_not_kept(wire) -> None:
    wire.feed(b"BAD\r\n\r\n")
    for _ in range(10):
        wire.feed(b"x" * 10_000)
    assert not wire.connection._buffer
    assert wire.statuses == [400]


def test_what_was_held_back_is_read_and_thrown_away_at_the_end(open_wire) -> None:
    wire = open_wire(pipeline_bytes=10)
    wire.hold = True
    wire.feed(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n" + GET)
    assert wire.transport.paused
    wire.answer(wire.requests[0])
    assert wire.transport.eof
    assert not wire.transport.paused


def test_a_body_in_pieces_is_counted_once(wire) -> None:
    wire.feed(POST)
    for held in range(1, 5):
        wire.feed(b"x")
        assert wire.service.held_bytes == held
    wire.feed(b"x")
    assert wire.service.held_bytes == 0


def test_a_connection_that_comes_while_the_listener_closes_is_closed(wire) -> None:
    wire.service.closing = True
    wire.connect()
    assert wire.transport.closed
    assert len(wire.service.connections) == 1
