"""Who runs what, where: lanes for the cells, and the way back to the event loop.

Events that arrive while the loop reads its sockets are only queued; when it has read them all, the cells that got
any are put before the workers. Stepping a cell while requests are still being parsed would make the two working sets
evict each other. On the way back it is the same: what a worker's turn produces is deferred, and wakes the loop once.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Protocol

from pulp_runtime._kernel.lane import Lane
from pulp_runtime._kernel.runner import Runner
from pulp_runtime.log import Log

GATHER_ROUNDS: Final = 8
"""How many iterations of the loop events may be gathered in, as long as each brings more."""


class Loop(Protocol):
    """As much of an event loop as is needed here."""

    def call_soon(self, callback: Callable[[], None], /) -> Any:
        """Run `callback` in the loop's next iteration. Only from its own thread."""

    def call_soon_threadsafe(self, callback: Callable[[], None], /) -> Any:
        """Do the same from any thread."""


class Dispatcher:
    """Gives cells to workers and their answers to the loop. Made on the loop's thread.

    Attributes:
        turning: identifiers of the workers that are in a turn.
    """

    def __init__(self, loop: Loop, workers: int) -> None:
        self._loop: Final = loop
        self._home: Final = threading.get_ident()
        self.turning: Final[set[int]] = set()
        self._pool: Final = Lane("worker", workers, self.turning)
        self._lanes: Final = [self._pool]
        self._kicked: Final[deque[Runner]] = deque()
        self._deferred: Final[deque[Callable[[], None]]] = deque()
        self._woken = False
        self._rounds = self._waiting = 0

    def lane(self, name: str, *, dedicated: bool) -> Lane:
        """Return the pool, or a lane with one thread of its own."""
        if not dedicated:
            return self._pool
        lane = Lane(f"cell:{name}", 1, self.turning, most=1)
        self._lanes.append(lane)
        return lane

    def ready(self, runner: Runner) -> None:
        """Put a cell before its workers: at once, or after this iteration of the loop."""
        if threading.get_ident() != self._home:
            runner.lane.ready(runner)
            return
        self._kicked.append(runner)
        if len(self._kicked) == 1:
            self._waiting = len(runner.mailbox)
            self._loop.call_soon(self._kick)

    def _kick(self) -> None:
        """Put the cells before their workers, once the loop has nothing more to read for them."""
        waiting = sum(len(runner.mailbox) for runner in self._kicked)
        if waiting > self._waiting and self._rounds < GATHER_ROUNDS:
            self._rounds += 1
            self._waiting = waiting
            self._loop.call_soon(self._kick)
            return
        self._rounds = self._waiting = 0
        while self._kicked:
            runner = self._kicked.popleft()
            runner.lane.ready(runner)

    def defer(self, callback: Callable[[], None]) -> None:
        """Run `callback` on the loop soon; from a turn, when the turn flushes."""
        self._deferred.append(callback)
        if threading.get_ident() not in self.turning:
            self.flush()

    def flush(self) -> None:
        """Wake the loop if anything is deferred."""
        if self._deferred and not self._woken:
            self._woken = True
            try:
                self._loop.call_soon_threadsafe(self.run_deferred)
            except RuntimeError:  # the loop is closed: nobody is left to tell
                self._woken = False

    def run_deferred(self) -> None:
        """Run what has been deferred so far. Only on the loop's thread."""
        self._woken = False
        for _ in range(len(self._deferred)):
            callback = self._deferred.popleft()
            try:
                callback()
            except Exception as error:  # noqa: BLE001  # one extension's callback must not stop the others
                Log("pulp").error("deferred callback failed", error=repr(error), exc_info=error)

    def tend(self) -> None:
        """Look after lanes and answers every few milliseconds while guests run."""
        now = time.monotonic()
        for lane in self._lanes:
            lane.tend(now)
        self.flush()

    def close(self, seconds: float) -> bool:
        """Let every worker end; answer whether they all did within `seconds`."""
        end = time.monotonic() + seconds
        ended = [lane.close(max(0.0, end - time.monotonic())) for lane in self._lanes]
        return all(ended)
