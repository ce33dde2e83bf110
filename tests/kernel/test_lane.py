from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from pulp_runtime._kernel import lane as lane_module
from pulp_runtime._kernel.lane import Lane

GENEROUS_SECONDS = 5.0


class Turn:
    """Someone who takes turns: does what it is told, and remembers where."""

    def __init__(self, body: Callable[[], None] = lambda: None) -> None:
        self.due: float | None = None
        self.armed: float | None = None
        self.body = body
        self.threads: list[str] = []
        self.taken = threading.Semaphore(0)
        self.free = True

    def turn(self) -> None:
        self.threads.append(threading.current_thread().name)
        try:
            self.body()
        finally:
            self.taken.release()

    def claim(self) -> bool:
        return self.free

    def was_taken(self) -> bool:
        return self.taken.acquire(timeout=GENEROUS_SECONDS)


@pytest.fixture
def make() -> Iterator[Callable[..., Lane]]:
    lanes: list[Lane] = []

    def make(size: int = 1, **more: int) -> Lane:
        lanes.append(Lane("worker", size, set(), **more))
        return lanes[-1]

    yield make
    for lane in lanes:
        lane.close(GENEROUS_SECONDS)


def threads_of(lane: Lane) -> int:
    return len(lane._threads)


def eventually(condition: Callable[[], bool]) -> bool:
    pause = threading.Event()
    end = time.monotonic() + GENEROUS_SECONDS
    while not condition():
        if time.monotonic() > end:
            return False
        pause.wait(0.001)
    return True


def test_who_is_ready_gets_a_turn_on_a_thread_named_after_the_lane(make: Callable[..., Lane]) -> None:
    lane, turn = make(2), Turn()

    lane.ready(turn)

    assert turn.was_taken()
    assert turn.threads[0] in {"worker:0", "worker:1"}


def test_turns_are_taken_in_order(make: Callable[..., Lane]) -> None:
    order: list[int] = []
    turns = [Turn(lambda at=at: order.append(at)) for at in range(20)]
    lane = make(1)

    for turn in turns:
        lane.ready(turn)

    assert all(turn.was_taken() for turn in turns)
    assert order == list(range(20))


def test_who_is_due_later_gets_its_turn_then_and_not_before(make: Callable[..., Lane]) -> None:
    when: list[float] = []
    turn = Turn(lambda: when.append(time.monotonic()))
    lane = make()
    turn.due = time.monotonic() + 0.05
    lane.arm(turn)
    lane.ready(Turn())  # the thread looks at its heap when it has something to do, as it does after a cell's turn

    assert turn.was_taken()
    assert when[0] >= turn.due
    assert turn.armed is None


def test_who_is_due_earlier_than_it_was_armed_is_armed_anew(make: Callable[..., Lane]) -> None:
    turn, lane = Turn(), make()
    turn.due = time.monotonic() + 60
    lane.arm(turn)
    turn.due = time.monotonic()
    lane.arm(turn)
    lane.ready(Turn())

    assert turn.was_taken()


def test_who_is_due_later_than_it_was_armed_waits_on(make: Callable[..., Lane]) -> None:
    turn, lane = Turn(), make()
    turn.due = time.monotonic() + 0.01
    lane.arm(turn)
    turn.due = late = time.monotonic() + 0.1
    lane.ready(Turn())

    assert turn.was_taken()
    assert time.monotonic() >= late


def test_who_is_not_due_any_more_is_only_asked_whether_it_is_free(make: Callable[..., Lane]) -> None:
    turn, other, lane = Turn(), Turn(), make()
    turn.due = time.monotonic()
    turn.free = False
    lane.arm(turn)
    lane.ready(other)

    assert other.was_taken()
    assert eventually(lambda: turn.armed is None)
    assert turn.threads == []


def test_who_is_never_due_is_not_armed(make: Callable[..., Lane]) -> None:
    turn, lane = Turn(), make()

    lane.arm(turn)

    assert turn.armed is None


@pytest.mark.parametrize("error", [ValueError("a bug"), KeyboardInterrupt(), SystemExit()], ids=repr)
def test_a_worker_outlives_whatever_a_turn_raises(make: Callable[..., Lane], error: BaseException, records) -> None:
    def fail() -> None:
        raise error

    lane, bad, good = make(1), Turn(fail), Turn()

    lane.ready(bad)
    lane.ready(good)

    assert good.was_taken()
    assert records.fields("turn failed") == [{"error": repr(error)}]
    assert lane.turning == set() or eventually(lambda: lane.turning == set())


def test_threads_that_block_are_replaced_so_that_the_rest_go_on(make: Callable[..., Lane]) -> None:
    lane = make(2)
    let_go = threading.Event()
    blocked = threading.Barrier(9)

    def block() -> None:
        with lane.blocking():
            blocked.wait(GENEROUS_SECONDS)
            assert let_go.wait(GENEROUS_SECONDS)

    slow = [Turn(block) for _ in range(8)]
    for turn in slow:
        lane.ready(turn)
    blocked.wait(GENEROUS_SECONDS)  # all eight block at once, on a lane of two
    quick = Turn()
    lane.ready(quick)

    assert quick.was_taken()
    let_go.set()
    assert all(turn.was_taken() for turn in slow)


def test_a_thread_held_by_a_long_turn_is_replaced_when_the_lane_is_tended(make: Callable[..., Lane]) -> None:
    lane = make(1)
    inside, let_go = threading.Event(), threading.Event()
    long = Turn(lambda: (inside.set(), let_go.wait(GENEROUS_SECONDS)))
    quick = Turn()
    lane.ready(long)
    assert inside.wait(GENEROUS_SECONDS)
    lane.ready(quick)
    now = time.monotonic()

    lane.tend(now)
    assert threads_of(lane) == 1  # it is not long yet
    lane.tend(now + 1.0)

    assert quick.was_taken()
    let_go.set()
    assert long.was_taken()


def test_who_is_due_while_all_threads_are_held_gets_a_turn_when_the_lane_is_tended(make: Callable[..., Lane]) -> None:
    lane = make(1)
    inside, let_go = threading.Event(), threading.Event()
    lane.ready(Turn(lambda: (inside.set(), let_go.wait(GENEROUS_SECONDS))))
    assert inside.wait(GENEROUS_SECONDS)
    turn = Turn()
    turn.due = time.monotonic()
    lane.arm(turn)

    lane.tend(time.monotonic() + 1.0)

    assert turn.was_taken()
    let_go.set()


def test_a_lane_has_no_more_threads_than_it_may(make: Callable[..., Lane]) -> None:
    lane = make(1, most=3)
    let_go = threading.Event()

    def block() -> None:
        with lane.blocking():
            assert let_go.wait(GENEROUS_SECONDS)

    turns = [Turn(block) for _ in range(8)]
    for turn in turns:
        lane.ready(turn)
    for step in range(8):
        lane.tend(time.monotonic() + step)

    assert threads_of(lane) <= 3
    let_go.set()
    assert all(turn.was_taken() for turn in turns)


def test_a_thread_of_ones_own_is_always_the_same_one(make: Callable[..., Lane]) -> None:
    lane = make(1, most=1)

    def block() -> None:
        with lane.blocking():
            lane.tend(time.monotonic() + 1.0)

    turns = [Turn(block) for _ in range(5)]
    for turn in turns:
        lane.ready(turn)

    assert all(turn.was_taken() for turn in turns)
    assert {name for turn in turns for name in turn.threads} == {"worker"}
    assert threads_of(lane) == 1


def test_threads_that_are_not_needed_any_more_leave_also_while_cells_tick(
    make: Callable[..., Lane], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane_module, "SURPLUS_SECONDS", 0.05)
    lane = make(2)
    together = threading.Barrier(6)

    def block() -> None:
        with lane.blocking():
            together.wait(GENEROUS_SECONDS)

    for turn in [Turn(block) for _ in range(6)]:
        lane.ready(turn)
    assert eventually(lambda: threads_of(lane) >= 6)

    def tick() -> None:
        ticking.due = time.monotonic() + 0.005
        lane.arm(ticking)

    ticking = Turn(tick)
    lane.ready(ticking)

    assert eventually(lambda: threads_of(lane) == 2)
    ticking.body = lambda: setattr(ticking, "due", None)


def test_a_lane_goes_on_when_the_system_has_no_more_threads(
    make: Callable[..., Lane], monkeypatch: pytest.MonkeyPatch, records
) -> None:
    lane = make(1)
    let_go, inside = threading.Event(), threading.Event()
    long = Turn(lambda: (inside.set(), let_go.wait(GENEROUS_SECONDS)))
    lane.ready(long)
    assert inside.wait(GENEROUS_SECONDS)
    quick = Turn()
    lane.ready(quick)

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    lane.tend(time.monotonic() + 1.0)
    monkeypatch.undo()

    assert records.fields("no more worker threads") == [{"lane": "worker", "reason": "can't start new thread"}]
    let_go.set()
    assert quick.was_taken()


def test_closing_lets_threads_end_and_says_whether_they_did(make: Callable[..., Lane]) -> None:
    lane = make(2)
    inside, let_go = threading.Event(), threading.Event()
    lane.ready(Turn(lambda: (inside.set(), let_go.wait(GENEROUS_SECONDS))))
    assert inside.wait(GENEROUS_SECONDS)

    assert not lane.close(0.01)
    let_go.set()
    assert lane.close(GENEROUS_SECONDS)
    lane.tend(time.monotonic() + 1.0)
    assert threads_of(lane) == 0
