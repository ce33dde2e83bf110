"""From an extension to the mailboxes: who gets an event, and when it is finalized."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Final

from pulp_runtime._kernel.runner import Runner
from pulp_runtime.ext import Capability, Posted, StepEvent


class Events:
    """The way of one capability's events. `post` is safe from any thread and never blocks.

    Args:
        capability: whose events.
        runners: the cells that declare it, by event target; looked at for every event.
    """

    def __init__(self, capability: Capability, runners: Mapping[str, Runner]) -> None:
        self._runners: Final = runners
        self._finalize: Final = capability.finalize or _nothing

    def reaches(self, target: str) -> bool:
        """Return whether one of the cells that declare the capability is the target."""
        return target in self._runners

    def post(self, event: StepEvent) -> Posted:
        """Hand an event to its cell, or to every cell that declares the capability when it names none."""
        if event.cell_id:
            runner = self._runners.get(event.cell_id)
            return Posted.CLOSED if runner is None else runner.mailbox.post(event, self._finalize)
        return self._broadcast(event)

    def _broadcast(self, event: StepEvent) -> Posted:
        """Post to all; finalize once, after the last receiver. Who has no room is left out."""
        runners = list(self._runners.values())
        last = _Last(len(runners), self._finalize)
        taken = 0
        refused = Posted.CLOSED
        for runner in runners:
            posted = runner.mailbox.post(event, last.one)
            if posted is Posted.ACCEPTED:
                taken += 1
            else:
                refused = posted
                runner.log.warning("event dropped", kind=event.kind, reason=posted.value)
        if not taken:
            return refused
        for _ in range(len(runners) - taken):
            last.one(event.id)
        return Posted.ACCEPTED


class _Last:
    """Calls `finalize` when `count` receivers are done."""

    def __init__(self, count: int, finalize: Callable[[int], None]) -> None:
        self._left = count
        self._lock: Final = threading.Lock()
        self._finalize: Final = finalize

    def one(self, event_id: int) -> None:
        with self._lock:
            self._left -= 1
            last = not self._left
        if last:
            self._finalize(event_id)


def _nothing(_event_id: int) -> None:
    """Stand in for a capability without `finalize`."""
