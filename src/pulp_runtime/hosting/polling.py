"""Sources of events that can only be asked: one that several applications share is asked once."""

from __future__ import annotations

import asyncio
from typing import Final

from pulp_runtime._kernel.events import Events
from pulp_runtime._kernel.hooks import contained
from pulp_runtime.ext import Capability, Posted, StepEvent
from pulp_runtime.log import Log

POLL_SECONDS: Final = (0.0002, 0.02)
"""Shortest and longest pause between two questions."""


class Polling:
    """Asks capabilities for events from `start` to `stop`. On the loop."""

    def __init__(self) -> None:
        self._ways: Final[dict[int, tuple[Capability, list[Events]]]] = {}
        self._tasks: Final[dict[int, asyncio.Task[None]]] = {}
        self._started = False

    def add(self, capability: Capability, events: Events) -> None:
        """Have a capability asked, and what it has go to these cells, if they are meant."""
        if capability.poll is None:
            return
        _, ways = self._ways.setdefault(id(capability), (capability, []))
        ways.append(events)
        if self._started:
            self._ask(capability, ways)

    def start(self) -> None:
        """Begin to ask."""
        self._started = True
        for capability, ways in self._ways.values():
            self._ask(capability, ways)

    def _ask(self, capability: Capability, ways: list[Events]) -> None:
        if id(capability) not in self._tasks:
            self._tasks[id(capability)] = asyncio.get_running_loop().create_task(_poll(capability, ways))

    async def stop(self) -> None:
        """Ask no more; forget everything."""
        self._started = False
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        self._tasks.clear()
        self._ways.clear()


async def _poll(capability: Capability, ways: list[Events]) -> None:
    """Ask; pause longer the longer there is nothing."""
    log = Log("pulp", capability=capability.name)
    shortest, longest = POLL_SECONDS
    pause = shortest
    while True:
        event = contained(capability, "poll")
        if not isinstance(event, StepEvent):
            await asyncio.sleep(pause)
            pause = min(2 * pause, longest)
            continue
        way = next((one for one in ways if one.reaches(event.cell_id)), ways[0])
        posted = way.post(event)
        if posted is Posted.ACCEPTED:
            pause = shortest
            await asyncio.sleep(0)  # a source that always has an event must not hold the loop
            continue
        log.warning("cell event channel full; dropping event", cell=event.cell_id, kind=event.kind, reason=posted.value)
        contained(capability, "finalize", event.id)
        await asyncio.sleep(longest)
