from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from pulp_runtime.errors import CellTrap, HookFailed
from pulp_runtime.ext import Capability, CellRef, Posted, SetupEnv, StepEvent, host_function
from pulp_runtime.testing import CellUnderTest, guest, load

Make = Callable[..., CellUnderTest]

GUESTS = Path(__file__).parents[1] / "guests"


class Noting:
    """Notes every hook that runs; fails in one of them."""

    def __init__(self, name: str, notes: list[str], fails: str = "") -> None:
        self._name = name
        self._notes = notes
        self._fails = fails
        self.env: SetupEnv

    def _note(self, hook: str) -> None:
        self._notes.append(f"{hook} {self._name}")
        if hook.partition(" ")[0] == self._fails:
            raise OSError("a bug")

    def setup(self, env: SetupEnv) -> None:
        self.env = env
        self._note("setup")

    def teardown(self) -> None:
        self._note("teardown")

    def finalize(self, number: int) -> None:
        self._note(f"finalize {number}")

    def teardown_cell(self, cell_id: str) -> None:
        self._note(f"teardown_cell {cell_id}")


class Source(Noting):
    """Has two events for whoever asks, and a function."""

    def __init__(self, *given: object) -> None:
        super().__init__(*given)  # type: ignore[arg-type]
        self.left = [StepEvent("test.event", b"\xc0", number) for number in (1, 2)]

    def poll(self) -> StepEvent | None:
        return self.left.pop(0) if self.left else None

    @host_function
    def note(self, cell: CellRef) -> None:
        self._note("note")
        assert self.env.post(StepEvent("test.event", b"\xc0", 7, cell.id)) is Posted.ACCEPTED


@pytest.fixture
def notes() -> list[str]:
    return []


def one(name: str, *given: object, kind: type[Noting] = Noting) -> Capability:
    return Capability.of(name, kind(name, *given))


def test_a_life_runs_every_hook_in_the_documented_order(notes: list[str]) -> None:
    with load(GUESTS / "minimal.wat", capabilities=[one("a", notes), one("b", notes)]) as cell:
        cell.init()
        notes.append("-")

    assert notes == [
        *("setup a", "setup b", "-"),
        *("teardown_cell guest b", "teardown_cell guest a", "teardown b", "teardown a"),
    ]


def test_a_restart_drops_what_the_cell_owned_and_nothing_else(pulp_cell: Make, notes: list[str]) -> None:
    cell = pulp_cell(GUESTS / "minimal.wat", capabilities=[one("a", notes), one("b", notes)])
    cell.init()
    notes.clear()

    cell.restart()

    assert notes == ["teardown_cell guest b", "teardown_cell guest a"]


def test_an_event_is_delivered_then_finalized(pulp_cell: Make, notes: list[str]) -> None:
    source = one("a", notes, kind=Source)
    cell = pulp_cell(guest(source), capabilities=[source])
    cell.init()

    assert cell.run("note") == 0
    assert (notes[-1], cell.call_number) == ("note a", 0)
    assert cell.deliver() == 1
    assert (notes[-1], cell.call_number) == ("finalize 7 a", 1)


def test_a_source_that_can_only_be_asked_is_asked(pulp_cell: Make, notes: list[str]) -> None:
    source = one("a", notes, kind=Source)
    cell = pulp_cell(guest(source), capabilities=[source])

    assert (cell.poll(), cell.deliver(), cell.poll()) == (2, 2, 0)
    assert notes == ["setup a", "finalize 1 a", "finalize 2 a"]


def test_an_event_whose_step_fails_is_finalized_all_the_same(pulp_cell: Make, notes: list[str]) -> None:
    source = Source("a", notes)
    cell = pulp_cell(GUESTS / "trap_step.wat", capabilities=[Capability.of("a", source)])
    cell.init()
    source.env.post(StepEvent("test.event", b"\xc0", 5))

    with pytest.raises(CellTrap):
        cell.deliver()
    assert notes[-1] == "finalize 5 a"


def test_closing_delivers_what_waits_and_finalizes_it(notes: list[str]) -> None:
    source = Source("a", notes)
    with load(GUESTS / "minimal.wat", capabilities=[Capability.of("a", source)]) as cell:
        cell.init()
        source.env.post(StepEvent("test.event", b"\xc0", 5))

    assert cell.call_number == 1
    assert notes == ["setup a", "finalize 5 a", "teardown_cell guest a", "teardown a"]
    assert source.env.post(StepEvent("test.event", b"\xc0")) is Posted.CLOSED


@pytest.mark.parametrize(
    ("event", "posted"),
    [
        pytest.param(StepEvent("k", b"\xc0"), Posted.ACCEPTED, id="for every cell"),
        pytest.param(StepEvent("k", b"\xc0", 0, "guest"), Posted.ACCEPTED, id="for the cell by name"),
        pytest.param(StepEvent("k", b"\xc0", 0, "other"), Posted.CLOSED, id="for a cell that is not there"),
        pytest.param(StepEvent("k", bytes(8 << 20)), Posted.TOO_LARGE, id="longer than a message"),
    ],
)
def test_an_event_is_taken_as_a_mailbox_would(
    pulp_cell: Make, notes: list[str], event: StepEvent, posted: Posted
) -> None:
    source = Source("a", notes)
    pulp_cell(GUESTS / "minimal.wat", capabilities=[Capability.of("a", source)])

    assert source.env.post(event) is posted


def test_a_mailbox_is_full_after_64(pulp_cell: Make, notes: list[str]) -> None:
    source = Source("a", notes)
    cell = pulp_cell(GUESTS / "minimal.wat", capabilities=[Capability.of("a", source)])

    answers = [source.env.post(StepEvent("k", b"\xc0")) for _ in range(65)]

    assert answers == [Posted.ACCEPTED] * 64 + [Posted.FULL]
    assert cell.deliver() == 64


def test_what_tasks_post_is_delivered_while_time_passes(pulp_cell: Make, notes: list[str]) -> None:
    class Ticking(Noting):
        def setup(self, env: SetupEnv) -> None:
            env.spawn(self._tick(env))

        async def _tick(self, env: SetupEnv) -> None:
            for number in range(200):
                await asyncio.sleep(0.001)
                assert env.post(StepEvent("tick", b"\xc0", number)) is Posted.ACCEPTED

    cell = pulp_cell(GUESTS / "minimal.wat", capabilities=[one("a", notes, kind=Ticking)])
    cell.init()

    cell.advance(1.0)

    assert cell.call_number == 200
    assert notes[-1] == "finalize 199 a"


def test_a_set_up_that_fails_is_raised_and_rolls_back(notes: list[str]) -> None:
    capabilities = [one("a", notes), one("b", notes), one("c", notes, "setup")]

    with pytest.raises(HookFailed, match="c: setup failed: OSError: a bug"):
        load(GUESTS / "minimal.wat", capabilities=capabilities)
    assert notes == ["setup a", "setup b", "setup c", "teardown b", "teardown a"]


def test_a_cell_that_cannot_be_loaded_leaves_nothing_set_up(notes: list[str]) -> None:
    with pytest.raises(CellTrap):
        load(
            "(module (start 0) (func unreachable) " + (GUESTS / "minimal.wat").read_text().partition("(module")[2],
            capabilities=[one("a", notes)],
        )
    assert notes == ["setup a", "teardown a"]


@pytest.mark.parametrize("hook", ["finalize", "teardown_cell", "teardown"])
def test_a_hook_that_fails_is_raised_and_the_others_run(notes: list[str], hook: str) -> None:
    faulty = Source("b", notes, hook)
    cell = load(GUESTS / "minimal.wat", capabilities=[one("a", notes), Capability.of("b", faulty), one("c", notes)])
    cell.init()
    faulty.env.post(StepEvent("k", b"\xc0", 1))
    notes.clear()

    with pytest.raises(HookFailed, match=rf"b: {hook} .*OSError: a bug"):
        cell.close()
    assert notes == [
        "finalize 1 b",
        *(f"teardown_cell guest {name}" for name in "cba"),
        *(f"teardown {name}" for name in "cba"),
    ]
    assert not cell.storage_root.parent.exists()


def test_settings_reach_the_capability_they_are_for(pulp_cell: Make, notes: list[str]) -> None:
    first, second = Noting("a", notes), Noting("b", notes)
    pulp_cell(
        GUESTS / "minimal.wat",
        capabilities=[Capability.of("a", first), Capability.of("b", second)],
        settings={"b": {"every_ms": 5}},
    )

    assert (first.env.config, second.env.config) == ({}, {"every_ms": 5})
