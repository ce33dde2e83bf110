"""Who waits for a thread, and which threads wait for them.

    put ──▶ [ t t t ] ──▶ get        ready now, oldest first
    arm ──▶ ⟨ heap  ⟩ ──▶ get        wanted later, at their time

Of the threads that wait, the one that came last is woken first: its memory is still warm, and the others sleep on.
One of them keeps the time for those who are due later; the others wait without end.
"""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections import deque
from typing import Final, Protocol

LATE_SECONDS: Final = 0.01
_NEVER: Final = float("inf")


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


class Waiter:
    """One thread that waits. Reused by it for every wait."""

    __slots__ = ("turn", "wake")

    def __init__(self) -> None:
        self.turn: Turn | None = None
        self.wake: Final = threading.Lock()
        self.wake.acquire()


class TurnQueue:
    """Turns that are ready, turns that are due later, and the threads that wait for either. For any thread."""

    def __init__(self) -> None:
        self._lock: Final = threading.Lock()
        self._ready: Final[deque[Turn]] = deque()
        self._later: Final[list[tuple[float, int, Turn]]] = []
        self._idle: Final[list[Waiter]] = []
        self._numbers: Final = itertools.count()
        self._kept_until = _NEVER
        self._closed = False

    def __len__(self) -> int:
        return len(self._ready)

    @property
    def idle(self) -> int:
        """How many threads wait."""
        return len(self._idle)

    def late(self, now: float) -> float:
        """Return for how many seconds someone has been due; 0 or less for nobody."""
        try:
            return now - self._later[0][0]
        except IndexError:
            return 0.0

    def put(self, turn: Turn) -> None:
        """Give `turn` to a thread that waits, or to the next one that comes."""
        with self._lock:
            if not self._idle:
                self._ready.append(turn)
                return
            waiter = self._idle.pop()
            waiter.turn = turn
        waiter.wake.release()

    def arm(self, turn: Turn, *, mine: bool) -> None:
        """Have `turn` taken when it is due.

        Args:
            turn: its `due` is set.
            mine: whether the calling thread will be back for its next turn at once: it keeps the time itself then.
        """
        if turn.due is None or (turn.armed is not None and turn.armed <= turn.due):
            return
        with self._lock:
            turn.armed = turn.due
            heapq.heappush(self._later, (turn.due, next(self._numbers), turn))
            sooner = turn.due < self._kept_until
        if sooner and not mine:
            self.wake_one()

    def wake_one(self) -> None:
        """Have one of the threads that wait look around; it keeps the time from then on."""
        with self._lock:
            waiter = self._idle.pop() if self._idle else None
        if waiter is not None:
            waiter.wake.release()

    def close(self) -> None:
        """Wake every thread, now and whenever one comes to wait."""
        with self._lock:
            self._closed = True
            waiters = list(self._idle)
            self._idle.clear()
        for waiter in waiters:
            waiter.wake.release()

    def get(self, waiter: Waiter, patience: float | None) -> Turn | None:
        """Wait for a turn.

        Args:
            waiter: the calling thread's own.
            patience: seconds it waits at most, None for as long as it takes.

        Returns:
            None when its patience is over, when it was woken to look around, or when the queue is closed.
        """
        with self._lock:
            if self._closed:
                return None
            now = time.monotonic()
            due = self._later[0][0] if self._later else _NEVER
            if self._ready and now - due < LATE_SECONDS:  # events come before ticks, but not for ever
                return self._ready.popleft()
            if due <= now:
                turn = self._pop_due()
            else:
                turn, waiter.turn = None, None
                self._idle.append(waiter)
                keeps = due < self._kept_until
                if keeps:
                    self._kept_until = due
        if due <= now:
            return turn if turn is not None and turn.claim() else None
        return self._wait(waiter, due - now if keeps else _NEVER, patience, due if keeps else None)

    def _wait(self, waiter: Waiter, until_due: float, patience: float | None, keeps: float | None) -> Turn | None:
        timeout = min(until_due, _NEVER if patience is None else patience)
        woken = waiter.wake.acquire(timeout=-1 if timeout == _NEVER else timeout)
        with self._lock:
            if keeps is not None and self._kept_until == keeps:
                self._kept_until = _NEVER
            left = not woken and waiter in self._idle
            if left:
                self._idle.remove(waiter)
        if not woken and not left:
            waiter.wake.acquire()  # someone took it off the stack when its time was just over
        return None if left else waiter.turn

    def _pop_due(self) -> Turn | None:
        """Take the first off the heap, if its entry still counts. Under the lock."""
        when, _number, turn = heapq.heappop(self._later)
        if turn.armed != when:
            return None  # armed anew since, for an earlier time
        turn.armed = None
        if turn.due is not None and turn.due > when:
            turn.armed = turn.due
            heapq.heappush(self._later, (turn.due, next(self._numbers), turn))
            return None
        return turn
