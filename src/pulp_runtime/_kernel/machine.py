"""What all cells of a host run on: one engine, one set of workers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection
from pathlib import Path
from typing import Final

from pulp_runtime._kernel.dispatcher import Dispatcher
from pulp_runtime._kernel.engine import Engine
from pulp_runtime._kernel.policy import State
from pulp_runtime._kernel.runner import Runner
from pulp_runtime.log import Log

HALT_SECONDS: Final = 1.5
"""How much of the grace time is kept for ending guests that do not come to an end by themselves."""


class Machine:
    """Shared by the fleets of a host. Made and awaited on the event loop.

    Args:
        workers: how many threads.
        cache: folder of compiled modules.

    Attributes:
        dispatcher: gives cells to workers.
        engine: compiles and runs modules.
        finished: whether every thread has ended; False only after `close`, when a guest could not be ended.
    """

    def __init__(self, *, workers: int, cache: Path | None) -> None:
        self.finished = True
        self.dispatcher: Final = Dispatcher(asyncio.get_running_loop(), workers)
        self.engine: Final = Engine(cache, on_tick=self.dispatcher.tend)

    async def drain(self, runners: Collection[Runner], end: float) -> None:
        """Wait until none of these cells has anything to do; past `end`, end what the guests do.

        Nobody waits for a cell that is still being loaded: it is ended as soon as no other has work.
        """
        told = False
        while busy := [runner for runner in runners if runner.busy]:
            now = time.monotonic()
            if now >= end or not any(runner.state is State.READY for runner in busy):
                if not told:
                    names = [runner.seat.label for runner in busy]
                    Log("pulp").warning("guests still busy at shutdown; ending them", cells=names)
                told = True
                self.engine.halt()  # again and again: a guest may have been between two calls
            if now >= end + HALT_SECONDS / 4:
                break
            await asyncio.sleep(0.005)

    def close(self, end: float) -> None:
        """Let every thread end; `finished` says whether they all did by `end`."""
        self.finished = self.dispatcher.close(max(0.1, end - time.monotonic()))
        self.dispatcher.run_deferred()
        if self.finished:
            self.engine.close()
