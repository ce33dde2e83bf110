from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from pulp_ext_clock import Clock, Now

from pulp_runtime.ext import Capability, Errno, ExtensionError, Posted
from pulp_runtime.testing import CellUnderTest, FakeHost, guest

CELL = Path(__file__).parents[1] / "cell"


def noon() -> float:
    return 43_200.0


@pytest.fixture
def clock() -> Capability:
    return Capability.of("demo.clock", Clock(noon))


def test_a_cell_reads_the_time(pulp_cell: Callable[..., CellUnderTest], clock: Capability) -> None:
    cell = pulp_cell(guest(clock), capabilities=[clock])

    assert cell.run("clock_now", 8, 12) == 0
    assert cell.transcript == ["==> clock_now()", "<== 0 {'unix_ms': 43200000, 'ticks': 0}"]


@pytest.mark.parametrize(
    ("out", "alloc", "code"),
    [
        pytest.param((65_533, 8), "bump", Errno.WRITE, id="the address does not fit into memory"),
        pytest.param((8, 65_533), "bump", Errno.WRITE, id="the length does not fit into memory"),
        pytest.param((8, 12), "refuse", Errno.ALLOC, id="the guest has no memory left"),
        pytest.param((8, 12), "outside", Errno.WRITE, id="the guest offers memory it does not have"),
    ],
)
def test_the_time_is_not_delivered_when(
    pulp_cell: Callable[..., CellUnderTest], clock: Capability, out: tuple[int, int], alloc: str, code: int
) -> None:
    cell = pulp_cell(guest(clock, alloc=alloc), capabilities=[clock])

    assert cell.run("clock_now", *out) == code


def test_it_ticks_as_often_as_the_operator_says(pulp_env: FakeHost) -> None:
    Clock(noon).setup(pulp_env(config={"every_ms": 250}))

    pulp_env.advance(1.0)

    assert [event.kind for event in pulp_env.posted] == ["clock.tick"] * 4
    assert msgspec.msgpack.decode(pulp_env.posted[-1].payload, type=Now) == Now(43_200_000, 4)


def test_a_tick_nobody_has_room_for_is_dropped(pulp_env: FakeHost) -> None:
    pulp_env.answer = Posted.FULL
    Clock(noon).setup(pulp_env())

    pulp_env.advance(1.0)

    assert [(record.message, record.fields["tick"]) for record in pulp_env.logged] == [("tick dropped", 1)]


@pytest.mark.parametrize("every_ms", [0, -5, 1.5, "often"])
def test_a_pace_that_is_none_is_refused(pulp_env: FakeHost, every_ms: object) -> None:
    with pytest.raises(ExtensionError, match="every_ms"):
        Clock().setup(pulp_env(config={"every_ms": every_ms}))


def test_the_clock_cell_counts_ticks(pulp_cell: Callable[..., CellUnderTest], clock: Capability) -> None:
    cell = pulp_cell(CELL, capabilities=[clock], settings={"demo.clock": {"every_ms": 10}})
    cell.init()

    cell.advance(0.05)

    assert cell.run("probe_ticks") == 5
    assert [record.message for record in cell.logged if record.message.startswith("tick")] == [
        f"tick {tick}" for tick in range(1, 6)
    ]
