from __future__ import annotations

import pytest

from pulp_runtime._kernel.policy import Action, Signal, State, decide
from pulp_runtime.manifest.limits import RESTART_WINDOW_SECONDS, RESTARTS, Limits

NOW = 1000.0
FULL = tuple(NOW - 20 + at for at in range(RESTARTS))

TABLE = [
    ("started", State.READY, State.READY, State.READY),
    ("start failed", State.FAILED, State.FAILED, State.FAILED),
    ("crashed", State.DOWN, State.RESTARTING, State.RESTARTING),
    ("ended", State.STOPPED, State.STOPPED, State.RESTARTING),
    ("restart failed", State.DOWN, State.RESTARTING, State.RESTARTING),
    ("stop", State.STOPPED, State.STOPPED, State.STOPPED),
]
ROWS = [
    pytest.param(restart, Signal(signal), state, id=f"{signal} with restart = {restart}")
    for signal, *states in TABLE
    for restart, state in zip(("never", "on_crash", "always"), states, strict=True)
]


@pytest.mark.parametrize(("restart", "signal", "state"), ROWS)
def test_the_first_time_the_table_is_followed(restart: str, signal: Signal, state: State) -> None:
    action = decide(restart, signal, (), NOW)

    assert action.state is state
    assert action.delay_seconds == (0.0 if state is State.RESTARTING else None)


@pytest.mark.parametrize(("restart", "signal", "state"), ROWS)
def test_when_all_restarts_are_used_up_the_cell_is_down_instead(restart: str, signal: Signal, state: State) -> None:
    expected = State.DOWN if state is State.RESTARTING else state

    assert decide(restart, signal, FULL, NOW) == Action(expected, None, FULL)


def test_each_restart_waits_longer_and_the_sixth_is_not_made() -> None:
    history: tuple[float, ...] = ()
    delays = []
    for at in range(6):
        action = decide("on_crash", Signal.CRASHED, history, NOW + at)
        history = action.history
        delays.append(action.delay_seconds)

    assert delays == [0.0, 0.1, 0.2, 0.4, 0.8, None]
    assert action.state is State.DOWN


def test_a_restart_that_fails_counts_like_a_crash() -> None:
    first = decide("on_crash", Signal.CRASHED, (), NOW)
    second = decide("on_crash", Signal.RESTART_FAILED, first.history, NOW)

    assert (second.state, second.delay_seconds, len(second.history)) == (State.RESTARTING, 0.1, 2)


@pytest.mark.parametrize(
    ("age", "state"),
    [
        pytest.param(RESTART_WINDOW_SECONDS - 0.001, State.DOWN, id="counts just before it is over"),
        pytest.param(RESTART_WINDOW_SECONDS, State.RESTARTING, id="does not count when it is over"),
    ],
)
def test_a_restart_counts_for_30_seconds(age: float, state: State) -> None:
    history = (NOW - age, *(NOW - 1,) * (RESTARTS - 1))

    assert decide("always", Signal.CRASHED, history, NOW).state is state


def test_old_restarts_are_forgotten() -> None:
    assert decide("on_crash", Signal.STARTED, (NOW - 31, NOW - 29), NOW).history == (NOW - 29,)
    assert decide("on_crash", Signal.CRASHED, (NOW - 31, NOW - 29), NOW).history == (NOW - 29, NOW)


def test_a_cell_with_limits_of_its_own_is_restarted_as_they_say() -> None:
    limits = Limits(restarts=1, restart_window_seconds=10)

    assert decide("always", Signal.CRASHED, (NOW - 9,), NOW, limits).state is State.DOWN
    assert decide("always", Signal.CRASHED, (NOW - 10,), NOW, limits).state is State.RESTARTING
    assert decide("always", Signal.CRASHED, (), NOW, Limits(restarts=0)).state is State.DOWN
