"""Worker threads, and the cells that wait for one.

A lane is a queue of ready cells, a heap of cells that want a turn later, and the threads that serve both. The pool
is one lane; a cell with a thread of its own is another. Threads beyond the lane's size come to life while some of
them block in a host function or are held by a long step, so that N slow cells never keep the others waiting, and
leave again when they have had nothing to do for a while.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from pulp_runtime._kernel.turns import LATE_SECONDS, Turn, TurnQueue, Waiter
from pulp_runtime.log import Log

MAX_THREADS: Final = 256
LONG_TURN_SECONDS: Final = 0.01
SURPLUS_SECONDS: Final = 5.0
STACK_BYTES: Final = 32 * 1024 * 1024
"""Of a worker: a chain of calls from cell to cell stands on one. Only what is used takes memory."""
_roomy_stacks: Final = threading.Lock()  # the size is the process's, and must not change under another start


class Lane:
    """Threads that give turns.

    Attributes:
        turning: identifiers of the threads, of all lanes that share the set, that are in a turn.

    Args:
        name: of its threads.
        size: how many threads it keeps.
        turning: see above.
        most: how many it may have while some are held up.
    """

    def __init__(self, name: str, size: int, turning: set[int], *, most: int = MAX_THREADS) -> None:
        self.turning: Final = turning
        self._name: Final = name
        self._size: Final = size
        self._most: Final = most
        self._waiting: Final = TurnQueue()
        self._lock: Final = threading.Lock()
        self._numbers: Final = itertools.count()
        self._threads: Final[set[threading.Thread]] = set()
        self._turns: Final[dict[int, float]] = {}
        self._blocked: Final[set[int]] = set()
        self._closed = False
        self._short_at = 0.0
        for _ in range(size):
            self._start()

    def ready(self, turn: Turn) -> None:
        """Give `turn` its turn as soon as a thread is free."""
        self._waiting.put(turn)

    def arm(self, turn: Turn) -> None:
        """Make sure that `turn` gets its turn when it is `due`."""
        self._waiting.arm(turn, mine=threading.get_ident() in self._turns)

    @contextmanager
    def blocking(self) -> Iterator[None]:
        """Let another thread serve the lane while this one waits."""
        me = threading.get_ident()
        since = self._turns.pop(me, None)
        if since is not None:
            self._blocked.add(me)
            if self._waiting.idle:
                self._waiting.wake_one()  # it keeps the time from now on
            elif len(self._turns) < self._size:
                self._start()
        try:
            yield
        finally:
            if since is not None:
                self._blocked.discard(me)
                self._turns[me] = time.monotonic()

    def tend(self, now: float) -> None:
        """Look after the lane every few milliseconds while guests run: replace threads that are held up."""
        late = self._waiting.late(now) > LATE_SECONDS
        if late and self._waiting.idle:
            self._waiting.wake_one()
        elif (late or len(self._waiting)) and not self._waiting.idle:
            held = sum(now - since > LONG_TURN_SECONDS for since in list(self._turns.values()))
            if held == len(self._turns):
                self._start()

    def close(self, seconds: float) -> bool:
        """Let the threads end; answer whether they did within `seconds`."""
        with self._lock:
            self._closed = True
            threads = list(self._threads)
        self._waiting.close()
        end = time.monotonic() + seconds
        for thread in threads:
            thread.join(max(0.0, end - time.monotonic()))
        return not any(thread.is_alive() for thread in threads)

    def _start(self) -> None:
        with self._lock:
            if self._closed or len(self._threads) >= self._most:
                return
            name = f"{self._name}:{next(self._numbers)}" if self._most > 1 else self._name
            thread = threading.Thread(target=self._work, name=name, daemon=True)
            self._threads.add(thread)
            self._short_at = time.monotonic()
            try:
                with _roomy_stacks:
                    before = threading.stack_size(STACK_BYTES)
                    try:
                        thread.start()
                    finally:
                        threading.stack_size(before)
            except RuntimeError as error:  # the system has no more of them: those there are must do
                self._threads.discard(thread)
                Log("pulp").error("no more worker threads", lane=self._name, reason=str(error))

    def _work(self) -> None:
        me = threading.get_ident()
        waiter = Waiter()
        while not self._closed:
            turn = self._waiting.get(waiter, SURPLUS_SECONDS if len(self._threads) > self._size else None)
            if turn is not None:
                self._give(me, turn)
            elif self._surplus():
                break
        with self._lock:
            self._threads.discard(threading.current_thread())

    def _give(self, me: int, turn: Turn) -> None:
        self._turns[me] = now = time.monotonic()
        if len(self._turns) + len(self._blocked) > self._size:
            self._short_at = now
        self.turning.add(me)
        try:
            turn.turn()
        except BaseException as error:  # noqa: BLE001  # a worker outlives whatever its cell does
            Log("pulp").error("turn failed", error=repr(error), exc_info=error)
        self.turning.discard(me)
        self._turns.pop(me, None)

    def _surplus(self) -> bool:
        """Tell whether for a while now the lane's own number of threads would have been enough."""
        if len(self._threads) <= self._size or self._waiting.idle < self._size:
            return False
        return time.monotonic() - self._short_at >= SURPLUS_SECONDS
