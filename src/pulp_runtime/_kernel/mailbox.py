"""The only way into a cell.

A bounded queue with one reader at a time, the worker whose turn it is, and any number of writers. Writers never wait:
a full mailbox says so at once, and the writer, who has a client to answer, decides what that means.

       listener ─┐
       sibling  ─┼─ post ──▶ [ e e e ] ──▶ take ── a worker's turn
       pump     ─┘

A cell is `scheduled` from the moment something waits for it until a turn ends with nothing left; only then is it put
before the workers again, so that no two of them ever hold it at once.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Final

from pulp_runtime.ext import Posted, StepEvent

Delivery = tuple[StepEvent, Callable[[int], None]]
"""An event and what to call with its id when it has been dealt with."""


class Mailbox:
    """Events waiting for one cell, oldest first."""

    __slots__ = ("_capacity", "_closed", "_events", "_lock", "_ready", "_scheduled")

    def __init__(self, capacity: int, ready: Callable[[], None]) -> None:
        self._capacity: Final = capacity
        self._ready: Final = ready
        self._events: Final[deque[Delivery]] = deque()
        self._lock: Final = threading.Lock()
        self._closed = False
        self._scheduled = False

    def __len__(self) -> int:
        return len(self._events)

    def post(self, event: StepEvent, finalize: Callable[[int], None]) -> Posted:
        """Add an event, and put the cell before the workers if it is not there yet."""
        with self._lock:
            if self._closed:
                return Posted.CLOSED
            if len(self._events) >= self._capacity:
                return Posted.FULL
            self._events.append((event, finalize))
            if self._scheduled:
                return Posted.ACCEPTED
            self._scheduled = True
        self._ready()
        return Posted.ACCEPTED

    def take(self) -> Delivery | None:
        """Return the oldest event, None if there is none. Only in a turn."""
        return self._events.popleft() if self._events else None

    def claim(self) -> bool:
        """Schedule the cell for something that is not an event; False if it is scheduled already."""
        with self._lock:
            if self._scheduled:
                return False
            self._scheduled = True
            return True

    def rest(self, *, serving: bool) -> bool:
        """End a turn; answer False if there is more to do and the cell stays scheduled.

        Args:
            serving: whether the cell can take events at all just now.
        """
        with self._lock:
            if self._events and serving:
                return False
            self._scheduled = False
            return True

    @property
    def scheduled(self) -> bool:
        """Whether a worker has the cell, or is about to."""
        return self._scheduled

    def open(self) -> None:
        """Take events again."""
        with self._lock:
            self._closed = False

    def close(self) -> list[Delivery]:
        """Refuse new events; return those that wait, for the caller to finalize."""
        with self._lock:
            self._closed = True
            left = list(self._events)
            self._events.clear()
        return left
