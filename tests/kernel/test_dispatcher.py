from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator

import pytest

from pulp_runtime._kernel.dispatcher import GATHER_ROUNDS, Dispatcher

GENEROUS_SECONDS = 5.0


class FakeLoop:
    """A loop that runs what it was told when asked to."""

    def __init__(self) -> None:
        self.soon: deque[Callable[[], None]] = deque()
        self.woken = 0
        self.closed = False

    def call_soon(self, callback: Callable[[], None], /) -> None:
        self.soon.append(callback)

    def call_soon_threadsafe(self, callback: Callable[[], None], /) -> None:
        if self.closed:
            raise RuntimeError("Event loop is closed")
        self.woken += 1
        self.soon.append(callback)

    def run(self) -> None:
        """Run what is there; what that brings up has to wait for the next time."""
        for _ in range(len(self.soon)):
            self.soon.popleft()()

    def run_out(self) -> None:
        while self.soon:
            self.run()


class Runner:
    """Takes turns on a lane."""

    def __init__(self, dispatcher: Dispatcher, body: Callable[[], None] = lambda: None) -> None:
        self.lane = dispatcher.lane("cell", dedicated=False)
        self.due = self.armed = None
        self.mailbox = ["an event"]
        self.body = body
        self.turns: list[str] = []
        self.done = threading.Event()

    def claim(self) -> bool:
        return True

    def turn(self) -> None:
        self.turns.append(threading.current_thread().name)
        self.body()
        self.done.set()


@pytest.fixture
def loop() -> FakeLoop:
    return FakeLoop()


@pytest.fixture
def dispatcher(loop: FakeLoop) -> Iterator[Dispatcher]:
    dispatcher = Dispatcher(loop, 2)
    yield dispatcher
    assert dispatcher.close(GENEROUS_SECONDS)


def test_cells_that_get_events_while_the_loop_reads_are_put_before_the_workers_afterwards(
    dispatcher: Dispatcher, loop: FakeLoop
) -> None:
    runners = [Runner(dispatcher) for _ in range(3)]
    for runner in runners:
        dispatcher.ready(runner)

    assert len(loop.soon) == 1  # one callback for all of them
    assert not any(runner.turns for runner in runners)
    loop.run_out()

    assert all(runner.done.wait(GENEROUS_SECONDS) for runner in runners)


def test_events_are_gathered_as_long_as_each_iteration_of_the_loop_brings_more(
    dispatcher: Dispatcher, loop: FakeLoop
) -> None:
    runner = Runner(dispatcher)
    dispatcher.ready(runner)
    for _ in range(3):
        runner.mailbox.append("another event")
        loop.run()
        assert not runner.turns

    loop.run()
    assert runner.done.wait(GENEROUS_SECONDS)


def test_events_are_not_gathered_for_ever(dispatcher: Dispatcher, loop: FakeLoop) -> None:
    runner = Runner(dispatcher)
    dispatcher.ready(runner)
    for _ in range(GATHER_ROUNDS + 1):
        runner.mailbox.append("another event")
        loop.run()

    assert not loop.soon
    assert runner.done.wait(GENEROUS_SECONDS)


def test_from_any_other_thread_a_cell_is_put_before_the_workers_at_once(dispatcher: Dispatcher, loop: FakeLoop) -> None:
    runner = Runner(dispatcher)
    thread = threading.Thread(target=dispatcher.ready, args=(runner,))
    thread.start()
    thread.join()

    assert runner.done.wait(GENEROUS_SECONDS)
    assert not loop.soon


def test_what_a_turn_defers_wakes_the_loop_once_when_it_flushes(dispatcher: Dispatcher, loop: FakeLoop) -> None:
    ran: list[int] = []
    before: list[int] = []

    def body() -> None:
        for at in range(5):
            dispatcher.defer(lambda at=at: ran.append(at))
        before.append(loop.woken)
        dispatcher.flush()
        dispatcher.flush()

    runner = Runner(dispatcher, body)
    dispatcher.ready(runner)
    loop.run_out()
    assert runner.done.wait(GENEROUS_SECONDS)

    assert (before, loop.woken) == ([0], 1)
    loop.run()
    assert ran == list(range(5))


def test_what_is_deferred_outside_a_turn_wakes_the_loop_at_once(dispatcher: Dispatcher, loop: FakeLoop) -> None:
    ran: list[int] = []
    dispatcher.defer(lambda: ran.append(1))
    dispatcher.defer(lambda: ran.append(2))

    assert loop.woken == 1
    loop.run()
    assert ran == [1, 2]


def test_what_a_callback_defers_runs_the_next_time(dispatcher: Dispatcher, loop: FakeLoop) -> None:
    ran: list[str] = []
    dispatcher.defer(lambda: dispatcher.defer(lambda: ran.append("second")))

    loop.run()
    assert ran == []
    loop.run()
    assert ran == ["second"]


def test_a_callback_that_raises_does_not_stop_the_others(dispatcher: Dispatcher, loop: FakeLoop, records) -> None:
    ran: list[int] = []
    dispatcher.defer(lambda: 1 / 0)
    dispatcher.defer(lambda: ran.append(1))

    loop.run()

    assert ran == [1]
    assert records.fields("deferred callback failed") == [{"error": "ZeroDivisionError('division by zero')"}]


def test_a_loop_that_has_been_closed_is_not_an_error(dispatcher: Dispatcher, loop: FakeLoop) -> None:
    ran: list[int] = []
    loop.closed = True
    dispatcher.defer(lambda: ran.append(1))

    assert loop.woken == 0
    dispatcher.run_deferred()
    assert ran == [1]


def test_answers_of_a_turn_that_goes_on_are_flushed_when_it_is_tended(dispatcher: Dispatcher, loop: FakeLoop) -> None:
    deferred, let_go = threading.Event(), threading.Event()

    def body() -> None:
        dispatcher.defer(lambda: None)
        deferred.set()
        assert let_go.wait(GENEROUS_SECONDS)

    runner = Runner(dispatcher, body)
    runner.lane.ready(runner)
    assert deferred.wait(GENEROUS_SECONDS)
    assert loop.woken == 0

    dispatcher.tend()

    assert loop.woken == 1
    let_go.set()


def test_a_cell_with_a_thread_of_its_own_gets_a_lane_named_after_it(dispatcher: Dispatcher) -> None:
    runner = Runner(dispatcher)
    runner.lane = dispatcher.lane("echo", dedicated=True)
    runner.lane.ready(runner)

    assert runner.done.wait(GENEROUS_SECONDS)
    assert runner.turns == ["cell:echo"]
    assert runner.lane is not dispatcher.lane("other", dedicated=False)
