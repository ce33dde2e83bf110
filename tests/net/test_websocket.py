"""A WebSocket connection without a socket: what it hands on, what it sends, when it ends."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable

import pytest
from tests.net.websocket_client import BINARY, PING, PONG, TEXT, Wire, closing, masked

from pulp_runtime._net.websocket import FRAMES_AT_ONCE, SHORTCUT_SECONDS
from pulp_runtime._net.websocket_output import SHORTCUTS, Shortcut

LOST = (65_535, "connection lost")


def in_a_loop(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(test())  # type: ignore[arg-type]


# Reading ------------------------------------------------------------------------------------------------------------


def test_messages_are_handed_on_in_order() -> None:
    wire = Wire()
    wire.feed(masked(TEXT, b"one"))
    wire.feed(masked(BINARY, b"two") + masked(TEXT, b"thr", fin=False))
    wire.feed(masked(0, b"ee"))

    assert wire.inbox.messages == [(TEXT, b"one"), (BINARY, b"two"), (TEXT, b"three")]


def test_what_came_behind_the_handshake_is_read() -> None:
    assert Wire(unread=masked(TEXT, b"early") + masked(TEXT, b"bird")).inbox.messages == [
        (TEXT, b"early"),
        (TEXT, b"bird"),
    ]


def test_pings_are_answered_with_what_they_say_and_pongs_are_not() -> None:
    wire = Wire()
    wire.feed(masked(PING, b"one") + masked(PONG, b"unasked") + masked(PING, b"two"))

    assert wire.frames == [(0x8A, b"one"), (0x8A, b"two")]
    assert wire.inbox.messages == []


def test_a_full_receiver_stops_the_reading_and_nothing_is_lost() -> None:
    wire = Wire()
    wire.inbox.room = 2
    wire.feed(masked(TEXT, b"1") + masked(TEXT, b"2") + masked(TEXT, b"3"))
    wire.feed(masked(TEXT, b"4"))

    assert [payload for _, payload in wire.inbox.messages] == [b"1", b"2"]
    assert wire.transport.paused

    wire.inbox.room = 1
    wire.connection.resume()
    assert [payload for _, payload in wire.inbox.messages] == [b"1", b"2", b"3"]
    assert wire.transport.paused

    wire.inbox.room = 10
    wire.connection.resume()
    assert [payload for _, payload in wire.inbox.messages] == [b"1", b"2", b"3", b"4"]
    assert not wire.transport.paused


def test_a_full_receiver_with_nothing_more_to_read_does_not_stop_the_reading() -> None:
    wire = Wire()
    wire.inbox.room = 1
    wire.feed(masked(TEXT, b"1"))

    assert not wire.transport.paused
    wire.connection.resume()
    wire.feed(masked(TEXT, b"2"))
    assert len(wire.inbox.messages) == 2


@pytest.mark.parametrize("how", ["end of input", "reset"])
def test_messages_of_a_client_that_has_left_are_still_handed_on(how: str) -> None:
    wire = Wire()
    wire.inbox.room = 1
    wire.feed(masked(TEXT, b"1") + masked(TEXT, b"2") + masked(TEXT, b"3"))
    if how == "reset":
        wire.lose()
    else:
        assert wire.connection.eof_received() is True
    assert wire.inbox.ends == []

    wire.inbox.room = 10
    wire.connection.resume()
    assert [payload for _, payload in wire.inbox.messages] == [b"1", b"2", b"3"]
    assert wire.inbox.ends == [LOST]


def test_a_close_frame_behind_messages_without_room_is_found_when_there_is() -> None:
    wire = Wire()
    wire.inbox.room = 1
    wire.feed(masked(TEXT, b"1") + masked(TEXT, b"2") + closing(1000, "bye"))
    wire.lose()
    wire.inbox.room = 10
    wire.connection.resume()

    assert wire.inbox.messages == [(TEXT, b"1"), (TEXT, b"2")]
    assert wire.inbox.ends == [(1000, "bye")]


def test_many_frames_in_one_read_let_others_come_in_between() -> None:
    async def test() -> None:
        wire = Wire()
        wire.feed(masked(TEXT, b"x") * (2 * FRAMES_AT_ONCE + 1))
        seen = [len(wire.inbox.messages)]
        assert wire.transport.paused
        while len(wire.inbox.messages) <= 2 * FRAMES_AT_ONCE:
            await asyncio.sleep(0)
            seen.append(len(wire.inbox.messages))
        await asyncio.sleep(0)

        assert seen == [FRAMES_AT_ONCE, 2 * FRAMES_AT_ONCE, 2 * FRAMES_AT_ONCE + 1]
        assert not wire.transport.paused

    in_a_loop(test)


# Ends ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("code", "reason"), [(1000, "bye"), (1001, ""), (4321, "grüß")])
def test_a_close_frame_is_answered_with_its_own_code_and_the_socket_closed(code: int, reason: str) -> None:
    wire = Wire()
    wire.feed(masked(TEXT, b"last") + closing(code, reason) + masked(TEXT, b"too late"))

    assert wire.closes == [(code, reason)]
    assert wire.transport.closed
    assert wire.inbox.messages == [(TEXT, b"last")]
    assert wire.inbox.ends == [(code, reason)]


def test_a_close_frame_without_a_code_is_1005_and_answered_alike() -> None:
    wire = Wire()
    wire.feed(masked(8))

    assert wire.frames == [(0x88, b"")]
    assert wire.inbox.ends == [(1005, "")]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (bytes((0x81, 1)) + b"x", 1002),
        (masked(TEXT, b"\xff"), 1007),
        (masked(TEXT, b"\xff" * 90), 1007),
        (masked(BINARY, b"x" * 101), 1009),
        (masked(8, b"\x03"), 1002),
    ],
)
def test_a_breach_ends_the_connection_with_its_code_and_without_one_for_the_cell(data: bytes, code: int) -> None:
    wire = Wire(message_bytes=100)
    wire.feed(masked(TEXT, b"fine"))
    wire.feed(data + masked(TEXT, b"never read"))
    wire.feed(masked(TEXT, b"nor this"))

    assert [closed for closed, _reason in wire.closes] == [code]
    assert wire.inbox.messages == [(TEXT, b"fine")]
    assert [end for end, _why in wire.inbox.ends] == [65_535]
    assert wire.transport.eof, "our side is shut, and the client may read why"
    assert not wire.transport.closed


def test_a_client_that_broke_the_protocol_and_stays_is_cut_off() -> None:
    wire = Wire()
    wire.feed(b"\xff\xff")
    wire.pass_time(2.0)

    assert wire.transport.aborted
    assert len(wire.inbox.ends) == 1


def test_a_connection_that_ends_without_a_close_frame_is_lost() -> None:
    wire = Wire()
    wire.lose()

    assert wire.inbox.ends == [LOST]
    assert not wire.service.connections


def test_the_end_of_input_within_a_message_is_the_end() -> None:
    wire = Wire()
    wire.feed(masked(TEXT, b"hello")[:-1])
    assert wire.connection.eof_received() is False
    wire.lose()

    assert (wire.inbox.messages, wire.inbox.ends) == ([], [LOST])


def test_a_close_of_ours_waits_for_the_clients() -> None:
    wire = Wire()
    wire.connection.close(1001, "cell shut down", "why")
    assert wire.closes == [(1001, "cell shut down")]
    assert wire.inbox.ends == []
    assert wire.connection.open is False

    wire.feed(masked(TEXT, b"dropped") + masked(PING, b"too") + closing(1001))
    assert wire.inbox.messages == []
    assert len(wire.frames) == 1
    assert wire.inbox.ends == [(65_535, "why")]
    assert wire.connection.shaken is True
    assert wire.transport.closed


def test_a_close_of_ours_finds_the_clients_behind_messages_without_room() -> None:
    wire = Wire()
    wire.inbox.room = 1
    wire.feed(masked(TEXT, b"1") + masked(TEXT, b"2") + closing(1000))
    wire.connection.close(1000, "", "why")

    assert wire.inbox.messages == [(TEXT, b"1")]
    assert wire.connection.shaken is True


@pytest.mark.parametrize(("seconds", "cut"), [(4.0, False), (5.0, True)])
def test_a_client_that_does_not_answer_a_close_is_cut_off(seconds: float, cut: bool) -> None:
    wire = Wire(close_seconds=5.0)
    wire.connection.close(1000, "", "why")
    wire.pass_time(seconds)

    assert wire.transport.aborted is cut
    assert wire.connection.shaken is (False if cut else None)
    assert wire.inbox.ends == ([(65_535, "why")] if cut else [])


def test_a_client_that_leaves_instead_of_answering_a_close_did_not_answer() -> None:
    wire = Wire()
    wire.connection.close(1000, "", "why")
    wire.connection.eof_received()
    wire.lose()

    assert wire.connection.shaken is False
    assert wire.inbox.ends == [(65_535, "why")]


def test_two_closes_are_one() -> None:
    wire = Wire()
    wire.connection.close(1000, "", "first")
    wire.connection.close(1001, "", "second")
    wire.connection.close_when_idle()
    wire.lose()

    assert wire.closes == [(1000, "")]
    assert wire.inbox.ends == [(65_535, "first")]


def test_a_listener_that_closes_says_goodbye() -> None:
    wire = Wire()
    wire.connection.close_when_idle()

    assert wire.closes == [(1001, "host shutting down")]


# Sending ------------------------------------------------------------------------------------------------------------


def test_what_is_sent_arrives_in_order() -> None:
    wire = Wire()
    wire.send(b"one")
    wire.send(b"two" * 100, TEXT)
    wire.connection.flush([wire.connection.encode(BINARY, b"a"), wire.connection.encode(BINARY, b"b")])

    assert wire.frames == [(0x82, b"one"), (0x81, b"two" * 100), (0x82, b"a"), (0x82, b"b")]


def test_while_the_client_is_behind_frames_wait_and_are_counted() -> None:
    wire = Wire()
    wire.connection.pause_writing()
    for _ in range(100):
        wire.send(b"x" * 100)
    assert wire.frames == []
    assert wire.connection.unsent == wire.inbox.unsent == 100 * 102

    wire.connection.resume_writing()
    assert len(wire.frames) == 100
    assert wire.connection.unsent == wire.inbox.unsent == 0


def test_while_the_client_is_behind_only_the_latest_pong_waits() -> None:
    wire = Wire()
    wire.connection.pause_writing()
    wire.send(b"first")
    for number in range(1000):
        wire.feed(masked(PING, b"%d" % number))
    wire.connection.resume_writing()

    assert sorted(wire.frames) == [(0x82, b"first"), (0x8A, b"999")]


def test_a_close_of_ours_goes_behind_what_waits() -> None:
    wire = Wire()
    wire.connection.pause_writing()
    wire.send(b"first")
    wire.connection.close(1000, "bye", "why")
    wire.send(b"never")
    assert wire.frames == []

    wire.connection.resume_writing()
    assert wire.frames == [(0x82, b"first"), (0x88, b"\x03\xe8bye")]
    assert wire.inbox.unsent == 0


def test_a_close_that_drops_goes_at_once() -> None:
    wire = Wire()
    wire.connection.pause_writing()
    wire.send(b"dropped")
    wire.connection.close(1008, "too slow", "too slow", drop=True)

    assert wire.closes == [(1008, "too slow")]
    assert len(wire.frames) == 1
    assert wire.inbox.unsent == 0


def test_who_closes_gets_no_more_of_what_waits_for_him() -> None:
    wire = Wire()
    wire.connection.pause_writing()
    wire.send(b"dropped")
    wire.feed(closing(1000))

    assert wire.closes == [(1000, "")]
    assert len(wire.frames) == 1
    assert wire.inbox.unsent == 0


def test_a_frame_that_comes_after_the_close_frame_is_dropped() -> None:
    wire = Wire()
    wire.connection.close(1000, "", "why")
    wire.send(b"late")

    assert len(wire.frames) == 1
    assert wire.inbox.unsent == 0


def test_what_waits_for_a_client_that_is_gone_is_dropped() -> None:
    wire = Wire()
    wire.connection.pause_writing()
    wire.send(b"dropped")
    wire.lose()

    assert wire.connection.unsent == wire.inbox.unsent == 0


@pytest.mark.parametrize(("taken", "cut"), [(0, True), (1, False)])
def test_a_client_that_takes_not_one_byte_in_half_a_minute_is_cut_off(taken: int, cut: bool) -> None:
    wire = Wire()
    wire.transport.unsent = 100_000
    wire.connection.pause_writing()
    wire.transport.unsent -= taken
    wire.pass_time(30.0)

    assert wire.transport.aborted is cut
    if cut:
        assert wire.inbox.ends == [(65_535, "the client takes nothing")]


# Silence ------------------------------------------------------------------------------------------------------------


def test_by_default_a_silent_client_is_left_alone_for_ever() -> None:
    wire = Wire()
    wire.pass_time(100_000.0)

    assert wire.frames == []
    assert not wire.transport.aborted


def test_a_silent_client_is_pinged_and_cut_off_when_it_does_not_answer() -> None:
    wire = Wire(ping_seconds=20.0)
    wire.pass_time(19.0)
    assert wire.frames == []
    wire.pass_time(6.0)
    assert wire.frames == [(0x89, b"")]
    wire.pass_time(25.0)

    assert wire.transport.aborted
    assert wire.inbox.ends == [(65_535, "the client does not answer pings")]


def test_a_client_that_answers_pings_stays() -> None:
    wire = Wire(ping_seconds=20.0)
    for _ in range(100):
        wire.pass_time(15.0)
        while len(wire.frames) > wire.inbox.room - (1 << 30):
            wire.inbox.room += 1
            wire.feed(masked(PONG))

    assert len(wire.frames) > 30
    assert not wire.transport.aborted


@pytest.mark.parametrize("direction", ["in", "out"])
def test_a_message_either_way_keeps_a_connection_from_being_idle(direction: str) -> None:
    wire = Wire(idle_seconds=60.0)
    for _ in range(10):
        wire.pass_time(50.0)
        if direction == "in":
            wire.feed(masked(TEXT, b"x"))
        else:
            wire.send(b"x")
    assert wire.closes == []
    wire.feed(masked(PING))  # is no message
    wire.pass_time(75.0)

    assert wire.closes == [(1001, "idle")]


# Memory -------------------------------------------------------------------------------------------------------------


def test_unfinished_messages_of_all_connections_together_are_bounded() -> None:
    wire = Wire(message_bytes=1 << 20, bodies_bytes=100_000)
    wire.feed(masked(BINARY, b"x" * 60_000, fin=False))
    assert wire.service.held_bytes == 60_000
    wire.feed(masked(0, b"x" * 60_000, fin=False))

    assert [code for code, _ in wire.closes] == [1013]
    assert wire.service.held_bytes == 0


def test_what_a_connection_held_is_given_back_however_it_ends() -> None:
    for end in (Wire.lose, lambda wire: wire.feed(b"\xff\xff" * 10), lambda wire: wire.feed(closing(1000))):
        wire = Wire()
        wire.feed(masked(BINARY, b"x" * 5_000, fin=False))
        assert wire.service.held_bytes == 5_000
        end(wire)
        assert wire.service.held_bytes == 0


# The shortcut -------------------------------------------------------------------------------------------------------


class Pair:
    """A connection on a real socket of a real loop, with the client's end of it."""

    async def __aenter__(self) -> Pair:
        loop = asyncio.get_running_loop()
        self.client, server = socket.socketpair()
        self.client.setblocking(False)
        self.wire = Wire()
        self.wire.inbox.busy = False
        self.connection = self.wire.connection
        transport, _protocol = await loop.create_connection(lambda: self.connection, sock=server)
        self.connection._transport = transport
        return self

    async def __aexit__(self, *_error: object) -> None:
        self.connection._transport.abort()
        self.client.close()
        while self.connection._shortcut is not None:
            await asyncio.sleep(0)

    async def read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            data += await asyncio.get_running_loop().sock_recv(self.client, size - len(data))
        return data


def test_a_lone_answer_is_written_without_the_loop() -> None:
    async def test() -> None:
        async with Pair() as pair:
            pair.connection.data_received(masked(TEXT, b"x"))
            assert pair.connection.send(pair.connection.encode(TEXT, b"now"), alone=True) is None

            assert pair.client.recv(100) == b"\x81\x03now"

    in_a_loop(test)


def test_behind_something_queued_nothing_is_written_without_the_loop() -> None:
    async def test() -> None:
        async with Pair() as pair:
            pair.connection.data_received(masked(TEXT, b"x"))
            first = pair.connection.send(b"\x81\x011", alone=False)
            second = pair.connection.send(b"\x81\x012", alone=True)
            assert (first, second) == (b"\x81\x011", b"\x81\x012")
            pair.connection.flush([first, second])

            assert await pair.read(6) == b"\x81\x011\x81\x012"

    in_a_loop(test)


def test_a_frame_of_which_only_a_part_went_is_finished_before_anything_else_goes() -> None:
    async def test() -> None:
        async with Pair() as pair:
            connection = pair.connection
            pair.connection._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)
            connection.data_received(masked(TEXT, b"x"))
            frame = connection.encode(BINARY, os.urandom(1 << 20))
            left = connection.send(frame, alone=True)
            assert left == b""
            assert 0 < connection.unsent < len(frame)
            connection.data_received(masked(PING, b"?"))  # answered before the loop hears of the frame
            connection.flush([left])

            assert await pair.read(len(frame) + 3) == frame + b"\x8a\x01?"
            assert connection.unsent == 0

    in_a_loop(test)


def test_a_silent_connection_gives_its_second_descriptor_back() -> None:
    async def test() -> None:
        async with Pair() as pair:
            before = Shortcut.number
            pair.connection.data_received(masked(TEXT, b"x"))
            assert Shortcut.number == before + 1
            pair.wire.pass_time(2 * SHORTCUT_SECONDS + 1)

            assert Shortcut.number == before
            pair.connection.data_received(masked(TEXT, b"x"))
            assert Shortcut.number == before + 1

    in_a_loop(test)


def test_second_descriptors_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with Pair() as pair:
            monkeypatch.setattr(Shortcut, "number", SHORTCUTS)
            pair.connection.data_received(masked(TEXT, b"x"))

            assert pair.connection.send(b"\x81\x011", alone=True) == b"\x81\x011"
            monkeypatch.undo()

    in_a_loop(test)
