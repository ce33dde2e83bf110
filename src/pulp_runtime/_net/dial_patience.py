"""How long somebody waits for the network, and what ends it early."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from pulp_runtime.errors import PulpError

SLICE_SECONDS: Final = 0.1
"""Longest single wait: so late does a wait notice that its step, its cell or the host is at an end."""


class DialFault(PulpError):
    """Something went wrong between here and a server; the text is for the operator and holds no path and no header."""


class OutOfTime(DialFault):
    """It took too long, or there is nobody left to wait for it."""


class StepNearItsEnd(OutOfTime):
    """The guest must be back; in another step it may wait again."""


class Patience:
    """A deadline, and others' that may come earlier.

    Args:
        seconds: from now; None for no deadline of its own.
        why: what passing it means.
        step: seconds until the guest must be back.
        gone: whether the cell or the host has ended meanwhile.
    """

    __slots__ = ("_end", "_gone", "_step", "_why")

    def __init__(
        self,
        seconds: float | None = None,
        why: str = "timeout",
        *,
        step: Callable[[], float] | None = None,
        gone: Callable[[], bool] | None = None,
    ) -> None:
        self._end = None if seconds is None else time.monotonic() + seconds
        self._why = f"{why} after {seconds:g} s" if seconds is not None else why
        self._step = step
        self._gone = gone

    def within(self, seconds: float, why: str) -> Patience:
        """Return a shorter patience with the same others, for one part of the work."""
        part = Patience(seconds, why, step=self._step, gone=self._gone)
        if self._end is not None and self._end <= part._end:  # type: ignore[operator]  # it has a deadline
            part._end, part._why = self._end, self._why
        return part

    def of(self, step: Callable[[], float], gone: Callable[[], bool]) -> Patience:
        """Return the same deadline for somebody who is waiting on behalf of a guest."""
        other = Patience(step=step, gone=gone)
        other._end, other._why = self._end, self._why
        return other

    @property
    def seconds_left(self) -> float | None:
        """Seconds until its own deadline, None without one."""
        return None if self._end is None else max(0.0, self._end - time.monotonic())

    def slice(self) -> float:
        """Return how long the next wait may be, at most `SLICE_SECONDS`.

        Raises:
            OutOfTime: not at all.
        """
        if self._gone is not None and self._gone():
            raise OutOfTime("the cell is closed")
        left = SLICE_SECONDS
        if self._end is not None:
            left = min(left, self._end - time.monotonic())
            if left <= 0:
                raise OutOfTime(self._why)
        if self._step is not None:
            left = min(left, self._step())
            if left <= 0:
                raise StepNearItsEnd("the step's own deadline is near")
        return left


def before_deadline(seconds_left: Callable[[], float]) -> Callable[[], float]:
    """Return the time a guest's step can spend waiting: the last tenth, at most half a second, is the guest's own.

    A guest that waited until its very deadline would be stopped the moment it is told that it waited in vain.
    """
    margin = min(0.5, seconds_left() / 10)
    return lambda: seconds_left() - margin
