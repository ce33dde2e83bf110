"""A watch over one cell."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from pulp_runtime._kernel.cell import Cell
from pulp_runtime._kernel.supervisor import Health, Runaway, Snapshot, Supervisor
from pulp_runtime.errors import CellRefused
from pulp_runtime.ext import StepEvent


def test_a_cell_goes_from_new_to_ready_to_stopped(load: Callable[..., Cell]) -> None:
    watch = Supervisor(load("minimal"))
    assert watch.state is Health.NEW
    assert not watch.snapshot().healthy

    watch.start()
    assert watch.ready.is_set()
    assert watch.snapshot().healthy
    assert watch.snapshot().last_ok is not None

    watch.stop()
    assert watch.state is Health.STOPPED


def test_a_cell_whose_init_fails_is_failed_and_says_it_is_over(load: Callable[..., Cell]) -> None:
    watch = Supervisor(load("refuse_init"))

    with pytest.raises(CellRefused):
        watch.start()

    assert watch.ready.is_set()
    assert watch.state is Health.FAILED


def test_two_hundred_healthy_steps_are_no_runaway(load: Callable[..., Cell], event: StepEvent) -> None:
    watch = Supervisor(load("minimal"))
    watch.start()

    for number in range(200):
        watch.guard_step(number, event)

    assert watch.snapshot().runaways == 0
    assert watch.snapshot().healthy


def test_a_runaway_is_ended_near_its_budget_counted_and_reported_once(
    load: Callable[..., Cell], event: StepEvent
) -> None:
    reports: list[tuple[str, float, float]] = []
    cell = load("spin_step", call_timeout_ms=120)
    watch = Supervisor(cell, lambda name, budget, elapsed, _error: reports.append((name, budget, elapsed)))
    watch.start()

    with pytest.raises(Runaway, match="deadline"):
        watch.guard_step(0, event)

    assert watch.state is Health.RUNAWAY
    assert watch.snapshot().runaways == 1
    ((name, budget, elapsed),) = reports
    assert (name, budget) == ("spin_step", 0.12)
    assert 0.1 <= elapsed < 5.0


def test_other_errors_pass_through_and_are_no_runaway(load: Callable[..., Cell]) -> None:
    watch = Supervisor(load("provider_refuses"))
    watch.start()

    with pytest.raises(CellRefused):
        watch.guard_call("f")

    assert watch.state is Health.READY


def test_liveness_is_told_after_each_probe_until_the_cell_stops(load: Callable[..., Cell]) -> None:
    watch = Supervisor(load("minimal"))
    watch.start()
    told: list[Snapshot] = []
    enough = threading.Event()

    def emit(snapshot: Snapshot) -> None:
        told.append(snapshot)
        if len(told) == 3:
            enough.set()

    watch.monitor_liveness(emit, interval_seconds=0.001, until=enough)

    assert [snapshot.healthy for snapshot in told] == [True, True, True]


def test_monitoring_ends_when_the_cell_runs_away(load: Callable[..., Cell]) -> None:
    watch = Supervisor(load("spin_step_idle", call_timeout_ms=50))
    watch.start()
    told: list[Snapshot] = []

    watch.monitor_liveness(told.append, interval_seconds=0.001)

    assert [snapshot.state for snapshot in told] == [Health.RUNAWAY]
