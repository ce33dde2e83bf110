"""What happens to a cell after a failure: a pure function, so that every row of its table is a test.

    signal          never      on_crash                 always
    ──────          ─────      ────────                 ──────
    started         ready      ready                    ready
    start failed    failed     failed                   failed
    crashed         down       restarting, or down      restarting, or down     a trap, a deadline, a bad allocator,
                                                                                `proc_exit` with another status than 0
    ended           stopped    stopped                  restarting, or down     `proc_exit(0)`
    restart failed  down       restarting, or down      restarting, or down     load or init failed on the way up
    stop            stopped    stopped                  stopped

A restart waits longer each time: 0, 0.1, 0.2, 0.4, 0.8 s and so on, 30 s at most. The sixth within 30 s is not made,
or whatever the manifest's limits say: the cell is down until someone starts it again.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

from pulp_runtime.manifest.limits import Limits

DEFAULTS: Final = Limits()
FIRST_DELAY_SECONDS: Final = 0.1
LONGEST_DELAY_SECONDS: Final = 30.0


class State(enum.Enum):
    """Where a cell is in its life."""

    LOADING = "loading"
    READY = "ready"
    RESTARTING = "restarting"
    DOWN = "down"
    STOPPED = "stopped"
    FAILED = "failed"


class Signal(enum.Enum):
    """What happened to a cell."""

    STARTED = "started"
    START_FAILED = "start failed"
    CRASHED = "crashed"
    ENDED = "ended"
    RESTART_FAILED = "restart failed"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class Action:
    """What to do about it.

    Attributes:
        state: where the cell is now.
        delay_seconds: when to restart it; None for never.
        history: times of the restarts that still count, this one included.
    """

    state: State
    delay_seconds: float | None = None
    history: tuple[float, ...] = ()


_SETTLED: Final = {
    Signal.STARTED: State.READY,
    Signal.START_FAILED: State.FAILED,
    Signal.STOP: State.STOPPED,
}


def decide(restart: str, signal: Signal, history: tuple[float, ...], now: float, limits: Limits = DEFAULTS) -> Action:
    """Return what follows from `signal`.

    Args:
        restart: the manifest's policy: `never`, `on_crash` or `always`.
        signal: what happened.
        history: times of earlier restarts, oldest first, seconds on the clock of `now`.
        now: the time.
        limits: how many restarts there are, and how long each counts.
    """
    recent = tuple(time for time in history if now - time < limits.restart_window_seconds)
    if signal in _SETTLED:
        return Action(_SETTLED[signal], history=recent)
    if signal is Signal.ENDED and restart != "always":
        return Action(State.STOPPED, history=recent)
    if restart == "never" or len(recent) >= limits.restarts:
        return Action(State.DOWN, history=recent)
    delay = min(FIRST_DELAY_SECONDS * 2 ** min(len(recent) - 1, 20), LONGEST_DELAY_SECONDS) if recent else 0.0
    return Action(State.RESTARTING, delay, (*recent, now))
