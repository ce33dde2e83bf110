"""Changes on their way to a cell: in order, none left out in silence, however slow the cell is.

    store ── change ──▶ queue ── at most 8 at a time ──▶ mailbox ──▶ step ──▶ finalize ──▶ the next

A cell's mailbox has room for few events, and requests of clients want some of it. So what a watch has to say waits
here. When too much waits, what waits for that watch is forgotten, and the cell is told so and up to which revision.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Final

import msgspec

from pulp_runtime.abi.kv import CHANGE, KvEvent
from pulp_runtime.ext import Posted, StepEvent
from pulp_runtime.kv.entry import Change
from pulp_runtime.kv.watch import Watch

IN_FLIGHT: Final = 8
"""Most events of one cell's watches in its mailbox at one time."""
HALF: Final = 32
"""Bits of an event's id below its feed's number."""
WAITING: Final = 10_000
"""Most changes that wait for one cell."""

_encode: Final = msgspec.msgpack.Encoder().encode


class Feed:
    """What one cell's watches have to say. Safe from any thread.

    Attributes:
        watches: those of the store, by number.

    Args:
        cell_id: whom it is for.
        number: of the feed; the ids of its events have it in their upper half.
        post: hands an event to its cell.
    """

    def __init__(self, cell_id: str, number: int, post: Callable[[StepEvent], Posted]) -> None:
        self.watches: Final[dict[int, Watch]] = {}
        self._cell_id: Final = cell_id
        self._post: Final = post
        self._event_id: Final = number << HALF
        self._queue: Final[deque[KvEvent]] = deque()
        self._in_flight = 0
        self._closed = False
        self._lock: Final = threading.Lock()

    def listener(self, watch: int) -> Callable[[Change], None]:
        """Return what a store calls for each change that watch number `watch` is told of."""

        def listen(change: Change) -> None:
            kind = "del" if change.deleted else "put"
            self.push(KvEvent(watch=watch, kind=kind, key=change.key.decode(), revision=change.revision))

        return listen

    def push(self, event: KvEvent) -> None:
        """Let an event wait for its turn."""
        with self._lock:
            if len(self._queue) >= WAITING:
                self._give_up(event)
            else:
                self._queue.append(event)
            self._deliver()

    def _give_up(self, event: KvEvent) -> None:
        """Forget what waits for a watch; say so in its place."""
        kept = [other for other in self._queue if other.watch != event.watch]
        self._queue.clear()
        self._queue.extend(kept)
        self._queue.append(KvEvent(watch=event.watch, kind="lost", key="", revision=event.revision))

    def done(self) -> None:
        """Go on: one event has been dealt with."""
        with self._lock:
            self._in_flight -= 1
            self._deliver()

    def retry(self) -> None:
        """Try again what the mailbox had no room for."""
        with self._lock:
            self._deliver()

    @property
    def stuck(self) -> bool:
        """Whether something waits and nothing of it is in the mailbox, so that nobody but `retry` goes on."""
        return bool(self._queue) and not self._in_flight

    def _deliver(self) -> None:
        while self._queue and self._in_flight < IN_FLIGHT and not self._closed:
            event = self._queue[0]
            posted = self._post(StepEvent(CHANGE, _encode(event), self._event_id, self._cell_id))
            if posted is Posted.FULL:
                return
            self._queue.popleft()
            if posted is Posted.ACCEPTED:
                self._in_flight += 1
            elif posted is Posted.TOO_LARGE and event.kind != "lost":
                self._queue.appendleft(KvEvent(watch=event.watch, kind="lost", key="", revision=event.revision))

    def close(self) -> None:
        """Tell the cell no more."""
        for watch in list(self.watches.values()):
            watch.close()
        with self._lock:
            self._closed = True
            self._queue.clear()
            self.watches.clear()
