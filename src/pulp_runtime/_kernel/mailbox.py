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

from pulp_runtime.abi.envelope import IDLE_BYTES, event_prefix
from pulp_runtime.ext import Posted, StepEvent
from pulp_runtime.manifest.limits import Limits

Delivery = tuple[StepEvent, Callable[[int], None]]
"""An event and what to call with its id when it has been dealt with."""


_MARGIN: Final = 1024
"""What an envelope has beside its payload is counted exactly only when it could matter; kinds are short words."""


def envelope_bytes(event: StepEvent) -> int:
    """Return how long an event's envelope will be."""
    return IDLE_BYTES + len(event_prefix(event.kind)) + (len(event.payload) or 1)


class Mailbox:
    """Events waiting for one cell, oldest first.

    Args:
        limits: how many may wait, beside the one in progress, and how long an envelope may be.
        ready: puts the cell before the workers.
        progress: how many of the batch that was taken last have been stepped through.
    """

    __slots__ = (
        "_capacity",
        "_closed",
        "_events",
        "_held",
        "_lock",
        "_message_bytes",
        "_progress",
        "_ready",
        "_scheduled",
    )

    def __init__(self, limits: Limits, ready: Callable[[], None], progress: Callable[[], int] = lambda: 0) -> None:
        self._capacity = limits.mailbox_events
        self._message_bytes = limits.message_bytes
        self._ready: Final = ready
        self._progress: Final = progress
        self._events: Final[deque[Delivery]] = deque()
        self._lock: Final = threading.Lock()
        self._closed = False
        self._scheduled = False
        self._held = 0

    def limit(self, limits: Limits) -> None:
        """Hold as much as other limits say; what waits already stays."""
        self._capacity = limits.mailbox_events
        self._message_bytes = limits.message_bytes

    def __len__(self) -> int:
        return len(self._events)

    def post(self, event: StepEvent, finalize: Callable[[int], None]) -> Posted:
        """Add an event, and put the cell before the workers if it is not there yet."""
        if len(event.payload) > self._message_bytes - _MARGIN and envelope_bytes(event) > self._message_bytes:
            return Posted.TOO_LARGE
        with self._lock:
            if self._closed:
                return Posted.CLOSED
            if len(self._events) + self._held >= self._capacity and self._is_full():
                return Posted.FULL
            self._events.append((event, finalize))
            if self._scheduled:
                return Posted.ACCEPTED
            self._scheduled = True
        self._ready()
        return Posted.ACCEPTED

    def _is_full(self) -> bool:
        """Count again, without those of the batch in progress that have been stepped through by now."""
        waiting = max(0, self._held - self._progress())
        return len(self._events) + waiting >= self._capacity

    def take(self, most: int) -> list[Delivery]:
        """Return up to `most` events, oldest first. Only in a turn."""
        events = self._events
        if not events:
            return []
        with self._lock:  # against `close`, so that an event is either taken or left over
            count = min(most, len(events))
            self._held = max(0, count - 1)  # all but the one in progress still take up room
            return [events.popleft() for _ in range(count)]

    def put_back(self, deliveries: list[Delivery]) -> bool:
        """End a batch: put back what was not delivered, before everything else; False if the mailbox has closed."""
        with self._lock:
            self._held = 0
            if not self._closed:
                self._events.extendleft(reversed(deliveries))
            return not self._closed

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
