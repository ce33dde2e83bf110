"""`demo.clock`: the time when a cell asks for it, and a tick every so often."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import msgspec

from pulp_runtime.ext import Capability, ExtensionError, Posted, SetupEnv, StepEvent, host_function

EVERY_MS = 1000
"""Milliseconds between two ticks, unless the operator says otherwise."""


class Now(msgspec.Struct):
    """The time.

    Attributes:
        unix_ms: milliseconds since 1970.
        ticks: how many ticks there have been.
    """

    unix_ms: int
    ticks: int


class Clock:
    """Ticks, and tells the time."""

    def __init__(self, unix_seconds: Callable[[], float] = time.time) -> None:
        self._unix_seconds = unix_seconds
        self._ticks = 0

    @host_function
    def clock_now(self) -> Now:
        """Deliver the time."""
        return self._now()

    def setup(self, env: SetupEnv) -> None:
        """Begin to tick."""
        every_ms = env.config.get("every_ms", EVERY_MS)
        if not isinstance(every_ms, int) or every_ms < 1:
            raise ExtensionError(f"every_ms is {every_ms!r}; use a whole number of milliseconds, at least 1")
        env.spawn(self._tick(env, every_ms / 1000))

    async def _tick(self, env: SetupEnv, seconds: float) -> None:
        while True:
            await asyncio.sleep(seconds)
            self._ticks += 1
            posted = env.post(StepEvent("clock.tick", msgspec.msgpack.encode(self._now())))
            if posted is Posted.FULL:
                env.logger.warning("tick dropped", tick=self._ticks)

    def _now(self) -> Now:
        return Now(int(self._unix_seconds() * 1000), self._ticks)


def capability() -> Capability:
    """Return the capability; the entry point."""
    return Capability.of("demo.clock", Clock())
