from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest

from pulp_runtime._kernel import runner as runner_module
from pulp_runtime._kernel.cell import Cell
from pulp_runtime._kernel.engine import Engine
from pulp_runtime._kernel.lane import Lane
from pulp_runtime._kernel.policy import State
from pulp_runtime._kernel.registry import Registry
from pulp_runtime._kernel.runner import Runner
from pulp_runtime.errors import CellClosed, CellTrap, LoadError
from pulp_runtime.ext import Capability, CellRef, Posted, StepEvent, host_function
from pulp_runtime.log import Log
from pulp_runtime.manifest.cell import CellSpec

GENEROUS_SECONDS = 5.0

TELLS = """(module
  (import "pulp" "tell" (func $tell (param i32 i32) (result i32)))
  (memory (export "memory") 20)
  (func (export "pulp_alloc") (param i32) (result i32) (i32.const 1024))
  (func (export "pulp_init") (param i32 i32) (result i32) (i32.const 0))
  (func (export "pulp_step") (param i32 i32) (result i32)
    (if (call $tell (local.get 0) (local.get 1)) (then unreachable)) (i32.const 0))
  (func (export "pulp_shutdown") (result i32) (i32.const 0))
  (func (export "pulp_on_call") (param i32 i32 i32 i32 i32 i32) (result i32) unreachable))"""


class Tell:
    """What a guest was given, and what it should do about it.

    Attributes:
        events: call number and payload of each event.
        ticks: call number of each idle step, with when it came.
        trap: payloads on which the guest traps.
        hold: what the guest waits for in each event, if anything.
    """

    def __init__(self) -> None:
        self.events: list[tuple[int, int]] = []
        self.ticks: list[tuple[int, float]] = []
        self.threads: set[str] = set()
        self.trap: set[int] = set()
        self.trap_in_ticks = False
        self.error: BaseException | None = None
        self.hold: threading.Event | None = None
        self.inside = threading.Semaphore(0)

    @host_function
    def tell(self, cell: CellRef, envelope: bytes) -> None:
        number = int.from_bytes(envelope[:8], "little")
        self.threads.add(threading.current_thread().name)
        if len(envelope) == 20:
            self.ticks.append((number, time.monotonic()))
            if self.trap_in_ticks:
                raise ValueError("a trap is wanted")
            return
        self.events.append((number, envelope[-1]))
        self.inside.release()
        if self.hold is not None:
            assert self.hold.wait(GENEROUS_SECONDS)
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        if envelope[-1] in self.trap:
            raise ValueError("a trap is wanted")


class Served:
    """A runner on a lane, with what became of it."""

    def __init__(self, runner: Runner, tell: Tell) -> None:
        self.runner = runner
        self.tell = tell
        self.finalized: list[int] = []
        self.states: list[State] = []
        self.moved = threading.Condition()

    def finalize(self, event_id: int) -> None:
        with self.moved:
            self.finalized.append(event_id)
            self.moved.notify_all()

    def changed(self, runner: Runner) -> None:
        with self.moved:
            self.states.append(runner.state)
            self.moved.notify_all()

    def post(self, *payloads: int) -> list[Posted]:
        """Post one event for each payload; its id is the payload."""
        return [
            self.runner.mailbox.post(StepEvent("test", bytes([payload]), payload), self.finalize)
            for payload in payloads
        ]

    def until(self, condition: Callable[[], bool]) -> bool:
        pause = threading.Event()
        end = time.monotonic() + GENEROUS_SECONDS
        while not condition():
            if time.monotonic() > end:
                return False
            pause.wait(0.001)
        return True

    def comes_to(self, state: State) -> bool:
        return self.until(lambda: self.runner.state is state)

    def finalizes(self, count: int) -> bool:
        return self.until(lambda: len(self.finalized) >= count)

    @property
    def payloads(self) -> list[int]:
        return [payload for _number, payload in self.tell.events]


@pytest.fixture
def lane() -> Iterator[Lane]:
    lane = Lane("worker", 2, set())
    yield lane
    assert lane.close(GENEROUS_SECONDS)


@pytest.fixture
def tended(lane: Lane) -> Iterator[None]:
    """Tend the lane every few milliseconds, as the host's ticker does."""
    stop = threading.Event()

    def tend() -> None:
        while not stop.wait(0.005):
            lane.tend(time.monotonic())

    thread = threading.Thread(target=tend)
    thread.start()
    yield
    stop.set()
    thread.join()


@pytest.fixture
def serve(engine: Engine, spec: Callable[..., CellSpec], lane: Lane) -> Iterator[Callable[..., Served]]:
    """Return `serve(**fields)`: a cell that tells what it is given, in service; ticks are off unless asked for."""
    all_served: list[Served] = []

    def serve(guest: str = TELLS, *, load: Callable[[], Cell] | None = None, on: Lane | None = None, **fields: Any):
        tell = Tell()
        registry = Registry(prefill=False)
        registry.always(Capability.of("test.tell", tell))
        fields.setdefault("tick_ms", 0)
        fields.setdefault("name", f"cell{len(all_served)}")
        known = spec(guest, **fields)

        def load_it() -> Cell:
            cell = Cell.load(known, registry, engine=engine, blocking=runner.lane.blocking)
            cell.init()
            return cell

        served: Served
        runner = Runner(
            known,
            load or load_it,
            on or lane,
            ready=lambda runner: runner.lane.ready(runner),
            flush=lambda: None,
            changed=lambda runner: served.changed(runner),
            log=Log("pulp", cell=known.name),
        )
        served = Served(runner, tell)
        all_served.append(served)
        runner.start()
        return served

    yield serve
    for served in all_served:
        served.runner.retire()
        if served.tell.hold is not None:
            served.tell.hold.set()
    engine.halt()
    for served in all_served:
        assert served.until(lambda served=served: not served.runner.mailbox.scheduled)
        if served.runner.cell is not None:
            served.runner.cell.close()


# Events -----------------------------------------------------------------------------------------------------------


def test_events_are_stepped_through_in_order_and_each_is_finalized_once(serve: Callable[..., Served]) -> None:
    served = serve()
    assert served.comes_to(State.READY)

    for at in range(200):
        assert served.until(lambda at=at: served.post(at) == [Posted.ACCEPTED])

    assert served.finalizes(200)
    assert served.payloads == list(range(200))
    assert [number for number, _payload in served.tell.events] == list(range(200))
    assert served.finalized == list(range(200))


def test_events_that_come_before_the_cell_is_ready_wait_for_it(serve: Callable[..., Served]) -> None:
    go_on = threading.Event()
    real: list[Callable[[], Cell]] = []

    def load() -> Cell:
        assert go_on.wait(GENEROUS_SECONDS)
        return real[0]()

    served = serve(load=load)
    other = serve()
    assert other.comes_to(State.READY)
    real.append(other.runner._load)
    assert served.post(1, 2, 3) == [Posted.ACCEPTED] * 3
    go_on.set()

    assert served.finalizes(3)
    assert other.payloads == [1, 2, 3]


def test_a_burst_from_idle_keeps_its_order(serve: Callable[..., Served]) -> None:
    served = serve(tick_ms=None)
    for round_of in range(5):
        assert served.until(lambda: not served.runner.mailbox.scheduled)
        first = round_of * 10
        served.post(*range(first, first + 10))
        assert served.finalizes(first + 10)

    assert served.payloads == list(range(50))


def test_64_events_wait_beside_the_one_in_progress(serve: Callable[..., Served]) -> None:
    served = serve()
    served.tell.hold = threading.Event()
    served.post(0)
    assert served.tell.inside.acquire(timeout=GENEROUS_SECONDS)

    posted = served.post(*range(1, 101))

    assert posted == [Posted.ACCEPTED] * 64 + [Posted.FULL] * 36
    served.tell.hold.set()
    assert served.finalizes(65)
    assert served.finalized == list(range(65))


def test_an_event_that_is_too_large_is_refused_and_the_cell_lives_on(serve: Callable[..., Served]) -> None:
    served = serve()
    assert served.comes_to(State.READY)
    huge = StepEvent("test", bytes(9 << 20), 7)

    assert served.runner.mailbox.post(huge, served.finalize) is Posted.TOO_LARGE
    assert served.post(1) == [Posted.ACCEPTED]
    assert served.finalizes(1)
    assert (served.runner.state, served.runner.restarts) == (State.READY, 0)


def test_an_event_that_cannot_be_an_envelope_is_refused_alone(serve: Callable[..., Served], records) -> None:
    served = serve()
    served.tell.hold = threading.Event()
    served.post(0)
    assert served.tell.inside.acquire(timeout=GENEROUS_SECONDS)
    served.post(1, 2)
    served.runner.mailbox.post(StepEvent(7, b"\xc0", 3), served.finalize)  # a kind must be text
    served.post(4, 5)
    served.tell.hold.set()

    assert served.finalizes(6)
    assert served.payloads == [0, 1, 2, 4, 5]
    assert served.finalized == [0, 1, 2, 3, 4, 5]
    assert served.runner.state is State.READY
    assert len(records.fields("event refused")) == 1


def test_a_finalize_that_raises_is_logged_and_the_rest_goes_on(serve: Callable[..., Served], records) -> None:
    served = serve()

    def fail(_event_id: int) -> None:
        raise ValueError("a bug")

    served.runner.mailbox.post(StepEvent("test", b"\x01", 1), fail)
    served.post(2)

    assert served.finalizes(1)
    assert served.payloads == [1, 2]
    (fields,) = records.fields("extension finalize failed")
    assert (fields["kind"], fields["error"]) == ("test", "ValueError('a bug')")


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_what_a_host_function_raises_to_end_the_thread_ends_neither_worker_nor_cell(
    serve: Callable[..., Served], error: type[BaseException]
) -> None:
    served = serve()
    assert served.comes_to(State.READY)
    served.tell.error = error()
    served.post(1)
    assert served.finalizes(1)

    served.post(2, 3)

    assert served.finalizes(3)
    assert served.finalized == [1, 2, 3]
    assert served.payloads[-2:] == [2, 3]


def test_a_heartbeat_is_logged_every_ten_thousand_steps(serve: Callable[..., Served], records) -> None:
    served = serve()
    assert served.comes_to(State.READY)
    served.post(1)
    assert served.finalizes(1)
    served.runner.calls = 9_999
    served.post(2, 3)
    assert served.finalizes(3)

    assert [fields["call_number"] for fields in records.fields("step heartbeat")] == [0, 10_000]


# Restarts ---------------------------------------------------------------------------------------------------------


def test_after_a_trap_the_cell_is_restarted_and_keeps_its_mail_its_order_and_its_numbers(
    serve: Callable[..., Served], records
) -> None:
    served = serve()
    served.tell.trap = {2}
    served.tell.hold = threading.Event()
    served.post(0)
    assert served.tell.inside.acquire(timeout=GENEROUS_SECONDS)
    served.post(1, 2, 3, 4)
    served.tell.hold.set()

    assert served.finalizes(5)
    assert served.tell.events == [(0, 0), (1, 1), (2, 2), (3, 3), (4, 4)]
    assert sorted(served.finalized) == [0, 1, 2, 3, 4]
    assert served.comes_to(State.READY)
    assert served.runner.restarts == 1
    assert served.states == [State.READY, State.RESTARTING, State.READY]
    assert records.fields("cell RE-INSTANTIATED after trap") == [
        {"cell": "cell0", "call_number": 3, "restart_count": 1}
    ]


def test_a_trap_is_logged_with_its_number_and_reason(serve: Callable[..., Served], records) -> None:
    served = serve()
    served.tell.trap = {1}
    served.post(1)
    assert served.finalizes(1)

    (fields,) = records.fields("step failed")
    assert fields["call_number"] == 0
    assert "unreachable" in fields["err"]


def test_restarts_wait_longer_each_time_and_the_sixth_is_not_made(
    serve: Callable[..., Served], monkeypatch: pytest.MonkeyPatch, records
) -> None:
    monkeypatch.setattr("pulp_runtime._kernel.policy.FIRST_DELAY_SECONDS", 0.001)
    served = serve()
    served.tell.trap = {9}
    when: list[float] = []
    for crash in range(6):
        assert served.comes_to(State.READY)
        served.post(9)
        assert served.finalizes(crash + 1)
        when.append(time.monotonic())

    assert served.comes_to(State.DOWN)
    assert served.runner.restarts == 5
    assert "unreachable" in served.runner.reason
    assert served.post(1) == [Posted.CLOSED]
    assert "cell is down: no more restarts" in records.messages
    assert served.states.count(State.RESTARTING) == 5


def test_what_waits_for_a_cell_that_goes_down_is_finalized_once(serve: Callable[..., Served]) -> None:
    served = serve(restart="never")
    served.tell.trap = {0}
    served.tell.hold = threading.Event()
    served.post(0)
    assert served.tell.inside.acquire(timeout=GENEROUS_SECONDS)
    served.post(1, 2, 3)
    served.tell.hold.set()

    assert served.finalizes(4)
    assert served.comes_to(State.DOWN)
    assert sorted(served.finalized) == [0, 1, 2, 3]
    assert served.payloads == [0]


@pytest.mark.parametrize("restart", ["on_crash", "always"])
def test_a_trap_in_an_idle_step_is_a_crash_too(serve: Callable[..., Served], restart: str) -> None:
    served = serve(tick_ms=1, restart=restart)
    served.tell.trap_in_ticks = True

    assert served.until(lambda: served.runner.restarts >= 1)
    served.tell.trap_in_ticks = False
    assert served.comes_to(State.READY)


def test_a_trap_in_a_call_is_a_crash_too(serve: Callable[..., Served]) -> None:
    served = serve()
    assert served.comes_to(State.READY)

    with pytest.raises(CellTrap):
        served.runner.call("echo.reverse", b"")

    assert served.until(lambda: served.runner.restarts == 1)
    assert served.comes_to(State.READY)
    served.post(1)
    assert served.finalizes(1)


EXITS = """(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (func (export "pulp_alloc") (param i32) (result i32) (i32.const 1024))
  (func (export "pulp_init") (param i32 i32) (result i32) (i32.const 0))
  (func (export "pulp_step") (param i32 i32) (result i32)
    (call $exit (i32.load8_u (i32.add (local.get 0) (i32.sub (local.get 1) (i32.const 1))))) (i32.const 0))
  (func (export "pulp_shutdown") (result i32) (i32.const 0)))"""


@pytest.mark.parametrize(
    ("status", "restart", "state"),
    [
        pytest.param(0, "on_crash", State.STOPPED, id="with 0 is the end"),
        pytest.param(0, "never", State.STOPPED, id="with 0 is the end when it is never restarted"),
        pytest.param(0, "always", State.READY, id="with 0 is a restart when it always should run"),
        pytest.param(3, "on_crash", State.READY, id="with another status is a crash"),
        pytest.param(3, "never", State.DOWN, id="with another status is the end when it is never restarted"),
    ],
)
def test_an_exit(serve: Callable[..., Served], status: int, restart: str, state: State) -> None:
    served = serve(EXITS, restart=restart)
    assert served.comes_to(State.READY)
    served.post(status)
    assert served.finalizes(1)

    assert served.comes_to(state)
    assert served.runner.restarts == (1 if state is State.READY else 0)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        pytest.param(LoadError("cell0", "no such file"), "no such file", id="that was foreseen"),
        pytest.param(OSError(28, "No space left"), "OSError(28, 'No space left')", id="that nobody foresaw"),
    ],
)
def test_a_cell_that_cannot_be_loaded_has_failed_and_says_why(
    serve: Callable[..., Served], error: Exception, reason: str
) -> None:
    def load() -> Cell:
        raise error

    served = serve(load=load)

    assert served.comes_to(State.FAILED)
    assert served.runner.reason == reason
    assert served.post(1) == [Posted.CLOSED]


def test_a_restart_that_fails_is_tried_again(serve: Callable[..., Served], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pulp_runtime._kernel.policy.FIRST_DELAY_SECONDS", 0.001)
    served = serve()
    assert served.comes_to(State.READY)
    real, tries = served.runner._load, iter([True, True])

    def load() -> Cell:
        if next(tries, False):
            raise LoadError("cell0", "not yet")
        return real()

    served.runner._load = load  # type: ignore[misc]
    served.tell.trap = {0}
    served.post(0)

    assert served.until(lambda: served.runner.restarts == 1)
    assert served.states.count(State.RESTARTING) == 3


def test_a_cell_that_is_not_ready_refuses_calls_and_says_why(serve: Callable[..., Served]) -> None:
    served = serve(restart="never")
    served.tell.trap = {0}
    served.post(0)
    assert served.comes_to(State.DOWN)

    with pytest.raises(CellClosed, match=r"cell cell0 is down: .*unreachable"):
        served.runner.call("echo.reverse", b"")


# The end ----------------------------------------------------------------------------------------------------------


def test_retiring_finalizes_what_waits_and_lets_the_step_in_progress_end(serve: Callable[..., Served]) -> None:
    served = serve()
    served.tell.hold = threading.Event()
    served.post(0)
    assert served.tell.inside.acquire(timeout=GENEROUS_SECONDS)
    served.post(1, 2)

    served.runner.retire()
    served.runner.finish()
    assert served.finalized == [1, 2]
    assert served.runner.state is State.STOPPED
    assert served.post(3) == [Posted.CLOSED]
    served.tell.hold.set()

    assert served.finalizes(3)
    assert sorted(served.finalized) == [0, 1, 2]
    served.runner.retire()
    assert len(served.finalized) == 3


def test_a_retired_cell_takes_no_more_turns(serve: Callable[..., Served], monkeypatch: pytest.MonkeyPatch) -> None:
    served = serve(tick_ms=1)
    assert served.until(lambda: len(served.tell.ticks) > 3)
    served.runner.retire()
    served.runner.due = time.monotonic()  # as a tick that was in progress leaves it
    served.runner.lane.arm(served.runner)
    turns: list[int] = []
    turn = served.runner.turn
    monkeypatch.setattr(Runner, "turn", lambda self: (turns.append(1), turn())[1])
    served.runner.lane.ready(served.runner)

    assert served.until(lambda: served.runner.due is None and served.runner.armed is None)
    assert len(turns) <= 3


def test_a_cell_that_was_never_started_can_be_given_up(serve: Callable[..., Served]) -> None:
    served = serve(load=lambda: (_ for _ in ()).throw(LoadError("cell0", "not used")))
    assert served.comes_to(State.FAILED)

    served.runner.abandon("depends on other, which failed")

    assert (served.runner.state, served.runner.reason) == (State.FAILED, "depends on other, which failed")


# Ticks ------------------------------------------------------------------------------------------------------------


class ByHand:
    """A runner whose turns are taken by hand, on a clock that moves when it is told to. It is the cell and the lane."""

    def __init__(self, known: CellSpec, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.seen: list[tuple[str, float]] = []
        self.spent, self.progress, self.trap = "", 0, False
        monkeypatch.setattr(runner_module, "time", self)
        self.runner = Runner(
            known,
            lambda: self,
            self,
            ready=lambda _runner: None,
            flush=lambda: None,
            changed=lambda _runner: None,
            log=Log("pulp"),
        )
        self.runner.start()
        self.runner.turn()

    def monotonic(self) -> float:
        return self.now

    def blocking(self) -> AbstractContextManager[None]:
        return nullcontext()

    def ready(self, _turn: Runner) -> None: ...
    def arm(self, _turn: Runner) -> None: ...
    def close(self) -> None: ...

    def steps(self, number: int, events: list[StepEvent]) -> tuple[int, CellTrap | None]:
        self.seen.append((f"event {number}", self.now))
        return (0, CellTrap("guest", "a trap is wanted")) if self.trap else (len(events), None)

    def idle(self, number: int) -> None:
        self.seen.append((f"tick {number}", self.now))

    def wait_for_the_next_turn(self) -> None:
        """Let time pass until the runner is due, and give it its turn."""
        assert self.runner.due is not None
        self.now = max(self.now, self.runner.due)
        assert self.runner.claim()
        self.runner.turn()

    def post(self) -> None:
        """Post one event, and give the runner its turn."""
        assert self.runner.mailbox.post(StepEvent("test", b"\xc0"), lambda _id: None) is Posted.ACCEPTED
        self.runner.turn()


@pytest.fixture
def by_hand(spec: Callable[..., CellSpec], monkeypatch: pytest.MonkeyPatch) -> Callable[..., ByHand]:
    return lambda **fields: ByHand(spec("minimal", **fields), monkeypatch)


def test_without_events_a_cell_is_ticked_at_once_and_then_less_and_less_often(by_hand: Callable[..., ByHand]) -> None:
    cell = by_hand()
    for _ in range(14):
        cell.wait_for_the_next_turn()

    pauses = [after - before for (_, before), (_, after) in itertools.pairwise(cell.seen)]
    assert cell.seen[0] == ("tick 0", 1000.0)
    assert pauses == pytest.approx([min(0.001 * 2**at, 1.0) for at in range(13)])
    assert [what for what, _ in cell.seen] == [f"tick {at}" for at in range(14)]


def test_after_an_event_one_tick_comes_at_once_and_the_pauses_begin_anew(by_hand: Callable[..., ByHand]) -> None:
    cell = by_hand()
    for _ in range(8):
        cell.wait_for_the_next_turn()
    cell.seen.clear()
    began = cell.now

    cell.post()
    cell.wait_for_the_next_turn()

    assert cell.seen == [("event 8", began), ("tick 9", began), ("tick 10", pytest.approx(began + 0.001))]


def test_with_a_fixed_tick_events_change_nothing(by_hand: Callable[..., ByHand]) -> None:
    cell = by_hand(tick_ms=20)
    cell.wait_for_the_next_turn()
    for at in range(4):
        cell.now += 0.005
        if at < 3:
            cell.post()
    cell.wait_for_the_next_turn()
    cell.wait_for_the_next_turn()

    ticks = [when - 1000.0 for what, when in cell.seen if what.startswith("tick")]
    assert ticks == pytest.approx([0.0, 0.02, 0.04])
    assert len(cell.seen) == 6


def test_restarts_wait_0_then_100_200_400_and_800_milliseconds_and_the_sixth_is_not_made(
    by_hand: Callable[..., ByHand],
) -> None:
    cell = by_hand(tick_ms=0)
    cell.trap = True
    waited = []
    for _ in range(5):
        cell.post()
        assert cell.runner.state is State.RESTARTING
        waited.append(cell.runner.due - cell.now)
        cell.wait_for_the_next_turn()
        assert cell.runner.state is State.READY
    cell.post()

    assert waited == pytest.approx([0.0, 0.1, 0.2, 0.4, 0.8])
    assert (cell.runner.state, cell.runner.restarts, cell.runner.due) == (State.DOWN, 5, None)


def test_a_cell_that_waits_for_its_restart_is_not_woken_by_events(by_hand: Callable[..., ByHand]) -> None:
    cell = by_hand(tick_ms=0)
    cell.trap = True
    cell.post()
    cell.wait_for_the_next_turn()
    cell.post()
    cell.trap = False
    cell.seen.clear()

    cell.post()
    assert (cell.runner.state, cell.seen) == (State.RESTARTING, [])

    cell.wait_for_the_next_turn()
    cell.runner.turn()  # it did not rest: there was mail
    assert [what for what, _ in cell.seen] == ["event 2"]


def test_with_tick_ms_0_a_cell_is_never_ticked(serve: Callable[..., Served]) -> None:
    served = serve(tick_ms=0)
    served.post(1, 2, 3)
    assert served.finalizes(3)
    assert served.until(lambda: not served.runner.mailbox.scheduled)

    assert served.runner.due is None
    assert served.tell.ticks == []


# Threads ----------------------------------------------------------------------------------------------------------


def test_a_cell_with_a_thread_of_its_own_is_only_ever_on_that_one(serve: Callable[..., Served]) -> None:
    own = Lane("cell:own", 1, set(), most=1)
    served = serve(on=own, dedicated_thread=True, tick_ms=1)
    for payload in range(20):
        served.post(payload)
        own.tend(time.monotonic() + 1.0)
    assert served.finalizes(20)

    assert served.tell.threads == {"cell:own"}
    served.runner.retire()
    assert own.close(GENEROUS_SECONDS)


def test_threat_22_cells_that_are_held_do_not_hold_up_another(serve: Callable[..., Served], tended: None) -> None:
    held = [serve() for _ in range(4)]
    let_go = threading.Event()
    for served in held:
        served.tell.hold = let_go
        served.post(1)
    quick = serve()
    assert quick.comes_to(State.READY)

    quick.post(*range(10))

    assert quick.finalizes(10)
    assert not any(served.finalized for served in held)
    let_go.set()
    assert all(served.finalizes(1) for served in held)


@pytest.mark.slow
def test_threat_22_a_looping_guest_does_not_hold_up_another(serve: Callable[..., Served], tended: None) -> None:
    looping = [serve("spin_step", name=f"loop{at}", call_timeout_ms=500, restart="never") for at in range(2)]
    quick = serve()
    for served in (*looping, quick):
        assert served.comes_to(State.READY)
    for served in looping:
        served.post(1)

    quick.post(*range(10))

    assert quick.finalizes(10)
    assert not any(served.finalized for served in looping)
    assert all(served.comes_to(State.DOWN) for served in looping)
    assert all("deadline" in served.runner.reason for served in looping)


def test_events_from_many_threads_are_each_finalized_once(serve: Callable[..., Served]) -> None:
    served = serve(tick_ms=None)
    served.tell.trap = {13}
    accepted: list[int] = []
    together = threading.Barrier(4)

    def post(first: int) -> None:
        together.wait()
        payloads = range(first, first + 60)
        accepted.extend(payload for payload in payloads if served.post(payload) == [Posted.ACCEPTED])

    threads = [threading.Thread(target=post, args=(first,)) for first in (0, 60, 120, 180)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert served.finalizes(len(accepted))
    assert sorted(served.finalized) == sorted(accepted)
