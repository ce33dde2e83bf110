"""Daemons: one run for as long as it likes, and what becomes of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from pulp_runtime import Host
from pulp_runtime.ext import File, How, Kind, Leaf, Run

from .conftest import Bench, Serve, program

SPIN = "(loop $on (br $on))"
READ = """
  (drop (call $open (i32.const 3) (i32.const 0) (i32.const 64) (i32.const 4) (i32.const 0)
    (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 100)))
  (i32.store (i32.const 104) (i32.const 200)) (i32.store (i32.const 108) (i32.const 50))
  (drop (call $read (i32.load (i32.const 100)) (i32.const 104) (i32.const 1) (i32.const 112)))
  (call $exit (i32.load (i32.const 112)))
"""
WORD = '(data (i32.const 64) "word")'


class Waiting(File):
    """A stream that has nothing until it is told so."""

    kind = Kind.DEVICE

    def __init__(self) -> None:
        self.bytes: bytes | None = None
        self.opened = threading.Event()
        self._wakes: list[Callable[[], None]] = []

    def tell(self, data: bytes) -> None:
        self.bytes = data
        for wake in list(self._wakes):
            wake()

    def read(self, size: int) -> bytes:
        if self.bytes is None:
            raise BlockingIOError
        return self.bytes[:size]

    def ready(self, *, write: bool = False) -> int | None:
        return None if self.bytes is None else len(self.bytes)

    def watch(self, wake: Callable[[], None]) -> Callable[[], None]:
        self._wakes.append(wake)
        self.opened.set()
        return lambda: self._wakes.remove(wake)


class Door(Leaf):
    def __init__(self, stream: Waiting) -> None:
        self._stream = stream

    def open_file(self, how: How) -> File:
        return self._stream


def settled(host: Host, *states: str) -> str:
    end = time.monotonic() + 20
    while (state := host.status()["prog"].state) not in states:
        assert time.monotonic() < end, state
        time.sleep(0.01)
    return state


@pytest.fixture
def stream(bench: Bench) -> Waiting:
    stream = Waiting()

    def mount(run: Run) -> None:
        run.tree.add("/word", Door(stream))
        run.on_stop(lambda: stream.tell(b""))

    bench.on_mount = mount
    return stream


def test_a_daemon_waits_in_a_read_until_there_is_something(serve: Serve, bench: Bench, stream: Waiting) -> None:
    with serve(program(READ, more=WORD), 'restart = "never"', execution="daemon") as host:
        assert stream.opened.wait(20)
        assert host.status()["prog"].state == "ready"
        stream.tell(b"abc")
        bench.wait(lambda: bool(bench.outcomes))

    assert bench.outcomes[0].status == 3


def test_a_daemon_that_waits_ends_when_the_host_does(serve: Serve, bench: Bench, stream: Waiting) -> None:
    with serve(program(READ, more=WORD), execution="daemon") as host:
        assert stream.opened.wait(20)
    assert host.finished
    assert [outcome.status for outcome in bench.outcomes] == [0]


def test_a_daemon_that_waits_lets_the_clock_of_the_host_rest(serve: Serve, bench: Bench, stream: Waiting) -> None:
    with serve(program(READ, more=WORD), execution="daemon") as host:
        assert stream.opened.wait(20)
        ticker = host.operations._fleet._engine.ticker
        end = time.monotonic() + 20
        while not ticker.parked:
            assert time.monotonic() < end
            time.sleep(0.01)


@pytest.mark.parametrize(
    ("restart", "start", "state"),
    [
        ("on_crash", "", "stopped"),
        ("never", "", "stopped"),
        ("never", "unreachable", "down"),
        ("never", "(call $exit (i32.const 3))", "down"),
        ("on_crash", "unreachable", "down"),
        ("always", "", "down"),
    ],
)
def test_the_restart_policy_decides_what_follows_its_end(
    serve: Serve, bench: Bench, restart: str, start: str, state: str
) -> None:
    limits = "[limits]\nrestarts = 2"
    with serve(program(start), f'restart = "{restart}"\n{limits}', execution="daemon") as host:
        assert settled(host, "stopped", "down") == state

    again = restart == "always" or (restart == "on_crash" and bool(start))
    assert len(bench.outcomes) == (3 if again else 1)


def test_a_daemon_that_computes_for_ever_is_ended_with_the_host(serve: Serve, bench: Bench, records: Any) -> None:
    with serve(program(SPIN), execution="daemon") as host:
        bench.wait(lambda: bool(bench.runs))
    assert host.finished
    assert [outcome.status for outcome in bench.outcomes] == [None]


def test_a_daemon_that_computes_for_ever_outlives_every_deadline(serve: Serve, bench: Bench) -> None:
    with serve(program(SPIN), "call_timeout_ms = 10", execution="daemon") as host:
        bench.wait(lambda: bool(bench.runs))
        time.sleep(0.3)
        assert host.status()["prog"].state == "ready"
        assert bench.outcomes == []


def test_an_operator_stops_and_starts_a_daemon(serve: Serve, bench: Bench, stream: Waiting) -> None:
    with serve(program(READ, more=WORD), execution="daemon") as host:
        assert stream.opened.wait(20)
        host._thread.run(host.operations.stop("prog"))
        assert (host.status()["prog"].state, len(bench.outcomes)) == ("stopped", 1)
        stream.bytes = None
        host._thread.run(host.operations.start("prog"))
        bench.wait(lambda: len(bench.runs) == 2)
        assert host.status()["prog"].state == "ready"


def test_a_reloaded_daemon_is_a_new_run_and_the_old_one_is_told(serve: Serve, bench: Bench) -> None:
    streams: list[Waiting] = []

    def mount(run: Run) -> None:
        own = Waiting()
        streams.append(own)
        run.tree.add("/word", Door(own))
        run.on_stop(lambda: own.tell(b""))

    bench.on_mount = mount
    with serve(program(READ, more=WORD), execution="daemon") as host:
        bench.wait(lambda: len(streams) == 1)
        host._thread.run(host.operations.reload("prog"))
        bench.wait(lambda: len(bench.outcomes) == 1)
        assert len(streams) == 2
        assert host.status()["prog"].state == "ready"
