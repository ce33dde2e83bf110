"""Connections that may carry another request. A pool belongs to one cell: no other cell's request ever meets them."""

from __future__ import annotations

import threading
import time
from typing import Final, NamedTuple

from pulp_runtime._net.dial_wire import Wire
from pulp_runtime._net.fetch_url import Url

IDLE_SECONDS: Final = 90.0
IDLE_WIRES: Final = 16
"""Idle connections of one cell. Past it the oldest is closed."""

Key = tuple[bool, str, int]


class _Idle(NamedTuple):
    key: Key
    wire: Wire
    since: float


class WirePool:
    """The idle connections of one cell. Safe from any thread.

    Attributes:
        closed: nothing is kept any more.
    """

    def __init__(self) -> None:
        self.closed = False
        self._idle: list[_Idle] = []  # oldest first
        self._lock: Final = threading.Lock()

    def take(self, url: Url) -> Wire | None:
        """Return a connection to where `url` points that is still good, the one used last; None if there is none."""
        key = _key(url)
        while True:
            with self._lock:
                at = next((at for at in reversed(range(len(self._idle))) if self._idle[at].key == key), None)
                if at is None:
                    return None
                idle = self._idle.pop(at)
            if time.monotonic() - idle.since < IDLE_SECONDS and idle.wire.quiet:
                return idle.wire
            idle.wire.close()

    def give(self, url: Url, wire: Wire) -> None:
        """Keep a connection for the next request, or close it."""
        with self._lock:
            self._idle.append(_Idle(_key(url), wire, time.monotonic()))
            surplus = None
            if len(self._idle) > (0 if self.closed else IDLE_WIRES):
                surplus = self._idle.pop(0)
        if surplus is not None:
            surplus.wire.close()

    def sweep(self, now: float) -> None:
        """Close what has been idle for too long."""
        with self._lock:
            old = [idle for idle in self._idle if now - idle.since >= IDLE_SECONDS]
            self._idle = self._idle[len(old) :]
        for idle in old:
            idle.wire.close()

    def close(self) -> None:
        """Close every connection, and those that are given back from now on."""
        with self._lock:
            self.closed = True
            rest, self._idle = self._idle, []
        for idle in rest:
            idle.wire.close()

    def __len__(self) -> int:
        return len(self._idle)


def _key(url: Url) -> Key:
    return url.secure, url.host, url.port
