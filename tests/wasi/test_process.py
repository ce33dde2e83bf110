"""Arguments, environment, clocks, randomness and waiting, by a real guest."""

from __future__ import annotations

import struct
import threading
import time

import pytest
from tests.wasi.puppet import PLACES, Puppet, Start

from pulp_runtime.ext.nodes import Text
from pulp_runtime.wasi import Pipe
from pulp_runtime.wasi.errno import WasiErrno as E
from pulp_runtime.wasi.polling import MAX_SUBSCRIPTIONS

CLOCK, READ, WRITE = range(3)
REALTIME, MONOTONIC, PROCESS, THREAD = range(4)
MS = 1_000_000
NOWHERE = 0xFFFF_FFF0


def on_clock(user: int, clock: int, timeout: int, flags: int = 0) -> bytes:
    return struct.pack("<QB7xI4xQQH6x", user, CLOCK, clock, timeout, 0, flags)


def on_file(user: int, kind: int, fd: int) -> bytes:
    return struct.pack("<QB7xI28x", user, kind, fd)


def poll(puppet: Puppet, *subscriptions: bytes) -> tuple[E, list[tuple[int, E, int, int]]]:
    """Return the answer and the events: user data, error, kind, bytes."""
    out, count = puppet.room(32 * len(subscriptions)), puppet.room(4)
    answer = puppet.poll_oneoff(puppet.poke(b"".join(subscriptions)), out, len(subscriptions), count)
    if answer is not E.SUCCESS:
        return answer, []
    raw = puppet.peek(out, 32 * puppet.word(count))
    return answer, [
        (user, E(error), kind, size) for user, error, kind, size, _ in struct.iter_unpack("<QHB5xQH6x", raw)
    ]


def strings(puppet: Puppet, what: str) -> list[bytes]:
    count, size = puppet.room(4), puppet.room(4)
    assert getattr(puppet, f"{what}_sizes_get")(count, size) is E.SUCCESS
    pointers, buffer = puppet.room(4 * puppet.word(count) + 4), puppet.room(puppet.word(size) + 4)
    assert getattr(puppet, f"{what}_get")(pointers, buffer) is E.SUCCESS
    assert puppet.word(count) == 0 or puppet.word(pointers) == buffer
    return puppet.peek(buffer, puppet.word(size)).split(b"\0")[:-1]


def test_arguments_and_environment_are_what_was_given(start: Start) -> None:
    puppet = start(args=("prog", "one two", "", "\u00e9"), environ={"A": "1", "B": "x=y"})

    assert strings(puppet, "args") == [b"prog", b"one two", b"", "\u00e9".encode()]
    assert strings(puppet, "environ") == [b"A=1", b"B=x=y"]
    assert puppet.args_get(NOWHERE, puppet.room(64)) is E.FAULT
    assert puppet.args_get(puppet.room(64), NOWHERE) is E.FAULT
    assert puppet.args_sizes_get(NOWHERE, NOWHERE) is E.FAULT
    assert puppet.environ_get(NOWHERE, NOWHERE) is E.FAULT
    assert puppet.environ_sizes_get(puppet.room(4), NOWHERE) is E.FAULT


def test_clocks_tell_the_time(start: Start) -> None:
    puppet = start()
    out = puppet.room(8)

    for clock, now in ((REALTIME, time.time_ns), (MONOTONIC, time.monotonic_ns)):
        before = now()
        assert puppet.clock_time_get(clock, 0, out) is E.SUCCESS
        assert before <= puppet.long(out) <= now()
        assert puppet.clock_res_get(clock, out) is E.SUCCESS
        assert 0 < puppet.long(out) <= MS
    for clock in (PROCESS, THREAD):
        assert puppet.clock_time_get(clock, 0, out) is E.SUCCESS
        assert puppet.long(out) < 60_000 * MS
    assert puppet.clock_time_get(4, 0, out) is E.INVAL
    assert puppet.clock_res_get(99, out) is E.INVAL
    assert puppet.clock_time_get(0, 0, NOWHERE) is E.FAULT


def test_random_bytes_are_drawn_only_into_memory(start: Start) -> None:
    puppet = start()
    into = puppet.room(64)

    assert puppet.random_get(into, 64) is E.SUCCESS
    assert len(set(puppet.peek(into, 64))) > 16
    assert puppet.random_get(into, 0) is E.SUCCESS
    before = puppet.peek(into, 64)
    assert puppet.random_get(into, 0xFFFF_FFFF) is E.FAULT
    assert puppet.peek(into, 64) == before


def test_there_are_no_signals(start: Start) -> None:
    puppet = start()

    assert (puppet.proc_raise(6), puppet.proc_raise(99)) == (E.NOTSUP, E.INVAL)
    assert puppet.sched_yield() is E.SUCCESS


@pytest.mark.parametrize("clock", [REALTIME, MONOTONIC])
@pytest.mark.parametrize("absolute", [False, True])
def test_a_sleep_takes_as_long_as_it_should(start: Start, clock: int, absolute: bool) -> None:
    puppet = start()
    out = puppet.room(8)
    puppet.clock_time_get(clock, 0, out)
    until = puppet.long(out) + 30 * MS if absolute else 30 * MS

    began = time.monotonic()
    assert poll(puppet, on_clock(7, clock, until, int(absolute))) == (E.SUCCESS, [(7, E.SUCCESS, CLOCK, 0)])
    assert 0.02 < time.monotonic() - began < 5


def test_of_two_clocks_the_first_is_told(start: Start) -> None:
    puppet = start()

    assert poll(puppet, on_clock(1, MONOTONIC, 10**15), on_clock(2, MONOTONIC, MS))[1] == [(2, E.SUCCESS, CLOCK, 0)]
    past = poll(puppet, on_clock(3, REALTIME, 5, 1), on_clock(4, MONOTONIC, 0))
    assert [event[0] for event in past[1]] == [3, 4]


def test_what_is_ready_is_told_at_once_and_how_much(start: Start) -> None:
    pipe = Pipe(10)
    puppet = start({"/text": Text(b"12345")}, stderr=pipe.writer)
    fd = puppet.open("text")
    puppet.read(fd, 2)

    events = poll(puppet, on_file(1, READ, fd), on_file(2, WRITE, 2), on_clock(3, MONOTONIC, 10**15))[1]
    assert sorted(events) == [(1, E.SUCCESS, READ, 3), (2, E.SUCCESS, WRITE, 10)]


def test_what_cannot_be_waited_for_is_an_event_with_an_error(start: Start) -> None:
    puppet = start({"/text": Text(b"")})
    fd = puppet.open("text")

    events = poll(
        puppet,
        on_file(1, READ, 99),
        on_file(2, WRITE, fd),
        on_file(3, READ, 3),
        on_clock(4, 9, 0),
        on_clock(5, PROCESS, 0),
        on_file(6, 7, fd),
        on_clock(7, MONOTONIC, 10**15),
        on_clock(8, MONOTONIC, 0, 2),
    )[1]
    assert {user: error for user, error, _, _ in events} == {
        1: E.BADF, 2: E.BADF, 3: E.ISDIR, 4: E.INVAL, 5: E.NOTSUP, 6: E.INVAL, 8: E.INVAL,
    }  # fmt: skip


def test_threat_29_polls_are_bounded_and_checked(start: Start) -> None:
    puppet = start()
    out, subscription = puppet.room(32), puppet.poke(on_clock(1, MONOTONIC, 0))

    assert puppet.poll_oneoff(subscription, out, 0, out) is E.INVAL
    assert puppet.poll_oneoff(subscription, out, MAX_SUBSCRIPTIONS + 1, out) is E.INVAL
    assert puppet.poll_oneoff(subscription, out, 1_000_000_000, out) is E.INVAL
    assert puppet.poll_oneoff(NOWHERE, out, 1, out) is E.FAULT
    assert puppet.poll_oneoff(subscription, NOWHERE, 1, out) is E.FAULT
    assert puppet.poll_oneoff(subscription, out, 1, NOWHERE) is E.FAULT
    many = [on_clock(at, MONOTONIC, 0) for at in range(MAX_SUBSCRIPTIONS)]
    assert len(poll(puppet, *many)[1]) == MAX_SUBSCRIPTIONS


@pytest.mark.slow
def test_threat_29_the_longest_sleep_ends_at_the_deadline(start: Start) -> None:
    puppet = start(seconds=0.3)

    began = time.monotonic()
    puppet.tell(PLACES["poll_oneoff"], puppet.poke(on_clock(1, MONOTONIC, 1 << 63)), puppet.room(32), 1, puppet.room(4))
    outcome = puppet.end()
    assert time.monotonic() - began < 3
    assert outcome.timed_out


def test_a_reader_waits_until_there_is_something(start: Start) -> None:
    pipe = Pipe()
    puppet = start(stderr=pipe.writer)
    assert puppet.write(2, b"x" * 65536) == 65536
    threading.Timer(0.05, pipe.take, (10,)).start()

    began = time.monotonic()
    assert puppet.write(2, b"y" * 20) == 10
    assert 0.03 < time.monotonic() - began < 5


def test_a_poll_is_woken_by_the_file_and_not_by_the_clock(start: Start) -> None:
    pipe = Pipe(4)
    puppet = start(stderr=pipe.writer)
    puppet.write(2, b"full")
    threading.Timer(0.05, pipe.take, (4,)).start()

    assert poll(puppet, on_file(1, WRITE, 2), on_clock(2, MONOTONIC, 10**13))[1] == [(1, E.SUCCESS, WRITE, 4)]
    puppet.write(2, b"full")
    assert poll(puppet, on_file(1, WRITE, 2), on_clock(2, MONOTONIC, MS))[1] == [(2, E.SUCCESS, CLOCK, 0)]


def test_a_sleep_ends_when_the_host_wants_the_program_to(start: Start) -> None:
    puppet = start()
    threading.Timer(0.05, puppet.slot.stop).start()

    began = time.monotonic()
    assert poll(puppet, on_clock(1, MONOTONIC, 10**13))[0] is E.SUCCESS
    assert time.monotonic() - began < 5


@pytest.mark.slow
def test_whoever_waits_for_a_file_at_the_deadline_is_told_so(start: Start) -> None:
    pipe = Pipe(4)
    puppet = start(stderr=pipe.writer, seconds=1.0)
    puppet.write(2, b"full")

    began = time.monotonic()
    puppet.tell(PLACES["fd_write"], 2, *puppet.vectors((puppet.room(4), 4)), puppet.room(4))
    outcome = puppet.end()  # ended by the deadline, or by itself because it was told
    assert time.monotonic() - began < 4
    assert outcome.timed_out or E(struct.unpack("<Q", puppet.hear(8))[0]) is E.TIMEDOUT
