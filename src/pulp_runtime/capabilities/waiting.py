"""Coroutines of the host's loop, for host functions that wait for them on a worker."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from typing import Any, TypeVar

from pulp_runtime.ext import Errno, HostError

T = TypeVar("T")


class LoopDoor:
    """The way from a worker to the loop. `opened` on the loop, `run` anywhere else."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The loop while the door is open; for its own thread."""
        return self._loop

    @contextlib.contextmanager
    def opened(self) -> Iterator[asyncio.AbstractEventLoop]:
        """Let coroutines in for as long as a task of the loop is inside."""
        self._loop = asyncio.get_running_loop()
        try:
            yield self._loop
        finally:
            self._loop = None

    def run(self, make: Callable[[], Coroutine[Any, Any, T]], seconds: float) -> T:
        """Run `make()` on the loop and wait for its result; at the end of `seconds` it is cancelled.

        Raises:
            HostError: `UNAVAILABLE` when the loop does not run, before the host is up and while it stops.
            TimeoutError: it took too long.
        """
        loop = self._loop
        if loop is None or not loop.is_running():
            raise HostError(Errno.UNAVAILABLE, "the host's loop does not run")
        future: Future[T] = asyncio.run_coroutine_threadsafe(make(), loop)
        try:
            return future.result(max(0.0, seconds))
        except BaseException:
            future.cancel()
            raise
