"""The last events: at most 1,000, and none older than five minutes."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from pulp_ext_docker.messages import Event, int64

MOST_EVENTS: Final = 1_000
MOST_SECONDS: Final = 300
_NANO: Final = 10**9


class Happened(NamedTuple):
    """One event."""

    nanos: int
    container_id: str
    name: str
    action: str


class Ring:
    """Events, oldest first. From any thread.

    Args:
        now: the time, seconds since 1970.

    Attributes:
        listening: whether events come; what happens meanwhile is lost otherwise.
    """

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now: Final = now
        self._events: Final[deque[Happened]] = deque(maxlen=MOST_EVENTS)
        self._lock: Final = threading.Lock()
        self.listening = False

    def add(self, told: Mapping[str, Any]) -> None:
        """Keep what the daemon tells, if it is about a container."""
        if told.get("Type") != "container":
            return
        actor = told.get("Actor") or {}
        name = str((actor.get("Attributes") or {}).get("name", ""))
        nanos = int(told.get("timeNano") or int(told.get("time") or 0) * _NANO)
        action = str(told.get("Action") or told.get("status") or "")
        with self._lock:
            self._events.append(Happened(nanos, str(actor.get("ID", "")), name, action[:256]))

    def since(self, nanos: int, most: int) -> list[Event]:
        """Return the first `most` events after a moment, nanoseconds since 1970."""
        oldest = int((self._now() - MOST_SECONDS) * _NANO)
        with self._lock:
            while self._events and self._events[0].nanos < oldest:
                self._events.popleft()
            found = [event for event in self._events if event.nanos > nanos]
        return [Event(int64(event.nanos), event.container_id, event.name, event.action) for event in found[:most]]
