"""Who is inside: lets calls in until it is closed, and knows how many have not left."""

from __future__ import annotations

import threading
from typing import Final


class Turnstile:
    """Counts calls in flight. Safe from any thread; once closed it stays closed."""

    __slots__ = ("_closed", "_inside", "_lock")

    def __init__(self) -> None:
        self._lock: Final = threading.Lock()
        self._inside = 0
        self._closed = False

    def enter(self) -> bool:
        """Let a call in; answer False when it is closed. Whoever got True calls `leave`."""
        with self._lock:
            if self._closed:
                return False
            self._inside += 1
            return True

    def leave(self) -> None:
        """Let a call out."""
        with self._lock:
            self._inside -= 1

    def close(self) -> None:
        """Let nobody in any more."""
        with self._lock:
            self._closed = True

    @property
    def inside(self) -> int:
        """How many calls are in flight; after `close` no new ones come."""
        return self._inside
