"""Worker threads, and the cells that wait for one.

A lane is a queue of ready cells, a heap of cells that want a turn later, and the threads that serve both. The pool
is one lane; a cell with a thread of its own is another. Threads beyond the lane's size come to life while some of
them block in a host function or are held by a long step, so that N slow cells never keep the others waiting, and
leave again when they have had nothing to do for a while.
"""

from __future__ import annotations

import heapq
import itertools
import queue
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Protocol

from pulp_runtime.log import Log

MAX_THREADS: Final = 256
LONG_TURN_SECONDS: Final = 0.01
SURPLUS_SECONDS: Final = 5.0
_NOBODY: Final = float("inf")


class Turn(Protocol):
    """Who takes turns on a lane.

    Attributes:
        due: when it wants its next turn if nothing else happens, on the monotonic clock; None for never.
        armed: when its entry in the heap comes up, None if it has none.
    """

    due: float | None
    armed: float | None

    def turn(self) -> None:
        """Do what there is to do."""

    def claim(self) -> bool:
        """Take the right to the next turn; False if someone else has it."""


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
        self._ready: Final[queue.SimpleQueue[Turn | None]] = queue.SimpleQueue()
        self._later: Final[list[tuple[float, int, Turn]]] = []
        self._lock: Final = threading.Lock()
        self._numbers: Final = itertools.count()
        self._threads: Final[set[threading.Thread]] = set()
        self._idle: Final[set[int]] = set()
        self._turns: Final[dict[int, float]] = {}
        self._blocked: Final[set[int]] = set()
        self._closed = False
        self._short_at = 0.0
        self._kept_until = _NOBODY
        for _ in range(size):
            self._start()

    def ready(self, turn: Turn) -> None:
        """Give `turn` its turn as soon as a thread is free."""
        self._ready.put(turn)

    def arm(self, turn: Turn) -> None:
        """Make sure that `turn` gets its turn when it is `due`."""
        if turn.due is None or (turn.armed is not None and turn.armed <= turn.due):
            return
        turn.armed = turn.due
        with self._lock:
            heapq.heappush(self._later, (turn.due, next(self._numbers), turn))

    @contextmanager
    def blocking(self) -> Iterator[None]:
        """Let another thread serve the lane while this one waits."""
        me = threading.get_ident()
        since = self._turns.pop(me, None)
        if since is not None:
            self._blocked.add(me)
            if not self._idle and len(self._turns) < self._size:
                self._start()
            elif self._later and self._idle:
                self._ready.put(None)  # whoever wakes keeps the time from now on
        try:
            yield
        finally:
            if since is not None:
                self._blocked.discard(me)
                self._turns[me] = time.monotonic()

    def tend(self, now: float) -> None:
        """Look after the lane every few milliseconds while guests run: replace threads that are held up."""
        waiting = self._ready.qsize()
        late = bool(self._later) and now - self._later[0][0] > LONG_TURN_SECONDS
        if late and self._idle:
            self._ready.put(None)
        elif (waiting or late) and not self._idle:
            held = sum(now - since > LONG_TURN_SECONDS for since in list(self._turns.values()))
            if held == len(self._turns):
                self._start()

    def close(self, seconds: float) -> bool:
        """Let the threads end; answer whether they did within `seconds`."""
        with self._lock:
            self._closed = True
            threads = list(self._threads)
        for _ in threads:
            self._ready.put(None)
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
                thread.start()
            except RuntimeError as error:  # the system has no more of them: those there are must do
                self._threads.discard(thread)
                Log("pulp").error("no more worker threads", lane=self._name, reason=str(error))

    def _work(self) -> None:
        me = threading.get_ident()
        while not self._closed:
            turn = self._next(me)
            if turn is None:
                break
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
        with self._lock:
            self._threads.discard(threading.current_thread())

    def _next(self, me: int) -> Turn | None:
        """Wait for the next turn; None when the thread should end."""
        while not self._closed:
            wait = self._wait()
            if wait is not None and wait <= 0:
                turn = self._due()
                if turn is not None:
                    return turn
                continue
            until = self._kept_until
            if not self._ready.empty():
                wait = 0.0
            self._idle.add(me)
            try:
                turn = self._ready.get(timeout=wait)
            except queue.Empty:
                if self._surplus():
                    return None
                continue
            finally:
                self._idle.discard(me)
                if wait is not None and self._kept_until == until:
                    self._kept_until = _NOBODY
            if turn is not None:
                return turn
        return None

    def _wait(self) -> float | None:
        """Return how long to wait: until someone is due, if no other thread keeps the time for that."""
        surplus = SURPLUS_SECONDS if len(self._threads) > self._size else None
        try:
            due = self._later[0][0]
        except IndexError:
            return surplus
        now = time.monotonic()
        if due > now and self._kept_until <= due:
            return surplus
        self._kept_until = due
        wait = due - now
        return wait if surplus is None else min(wait, surplus)

    def _due(self) -> Turn | None:
        """Take whoever is due off the heap."""
        with self._lock:
            if not self._later or self._later[0][0] > time.monotonic():
                return None
            when, _number, turn = heapq.heappop(self._later)
        if turn.armed != when:
            return None  # armed anew since, for an earlier time
        turn.armed = None
        if turn.due is not None and turn.due > when:
            self.arm(turn)
            return None
        return turn if turn.claim() else None

    def _surplus(self) -> bool:
        """Tell whether for a while now the lane's own number of threads would have been enough."""
        return len(self._idle) > self._size and time.monotonic() - self._short_at >= SURPLUS_SECONDS
