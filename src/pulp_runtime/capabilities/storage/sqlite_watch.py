"""When a statement must end, and how long it may wait for a lock.

It ends at the deadline of the call it is for, or when it has written more than there is room for.

SQLite asks `late` every few thousand instructions. An instruction can take long, a function over a large blob for
example; so the host's loop looks too, and interrupts. SQLite then stops at the next instruction that may jump.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from typing import Final

from pulp_runtime.ext import Guest

OVERDUE_TIMES: Final = 20
"""How often a statement is interrupted in vain before that is told."""


class Watch:
    """One connection's statement in progress.

    Attributes:
        guest: whom it is for, None while there is none; set by the connection, like the next.
        runs: counts statements, so that one is told from the next.
        full: whether the last one that `tend` looked at had written too much.

    Args:
        interrupt: ends it, from any thread.
        most: how many bytes it may write.
    """

    def __init__(self, interrupt: Callable[[], None], most: Callable[[], int]) -> None:
        self.guest: Guest | None = None
        self.runs = 0
        self.full = False
        self._interrupt: Final = interrupt
        self._most: Final = most
        self._thread = 0
        self._seen: tuple[int, int] | None = None
        self._overdue: tuple[int, int] = (0, 0)

    def late(self) -> bool:
        """Tell whether the deadline has passed; SQLite's callback, on the thread that runs the statement."""
        guest = self.guest
        if guest is None:
            return False
        self._thread = threading.get_native_id()
        return guest.seconds_left() <= 0

    def tend(self) -> bool:
        """Interrupt the statement in progress if it must end; answer whether it has not ended for a while; any thread.

        Nothing ends one function that takes long. The answer is True once for a statement.
        """
        guest = self.guest
        if guest is None:
            return False
        self.full = self._overflows()
        if self.full or guest.seconds_left() <= 0:
            try:
                self._interrupt()
            except sqlite3.ProgrammingError:
                return False  # the connection has just been closed
            run, times = self._overdue
            self._overdue = (self.runs, times + 1 if run == self.runs else 1)
        return self._overdue == (self.runs, OVERDUE_TIMES)

    def _overflows(self) -> bool:
        """Tell whether the statement has written more than fits, temporary files and all, since it was first seen."""
        if not self._thread:
            return False
        written = _written(self._thread)
        if self._seen is None or self._seen[0] != self.runs:
            self._seen = (self.runs, written)
        return written - self._seen[1] > self._most()


class Patience:
    """How long SQLite waits for a lock: as long as was asked for, not past the deadline. Nothing interrupts it then.

    Attributes:
        wanted: seconds, the host's default or what the guest has set since.
        set: seconds that are set now.

    Args:
        seconds: the default.
        own: runs a statement of the host's.
    """

    def __init__(self, seconds: float, own: Callable[[str], list[tuple[int, ...]]]) -> None:
        self.wanted = self.set = seconds
        self._own: Final = own

    def within(self, left: float) -> None:
        """Wait no longer than `left` seconds from now on."""
        seconds = min(left, self.wanted)
        if seconds != self.set:
            self.set = seconds
            self._own(f"PRAGMA busy_timeout = {int(seconds * 1000)}")

    def look(self) -> None:
        """Notice a guest's own `busy_timeout`."""
        milliseconds = self._own("PRAGMA busy_timeout")[0][0]
        if milliseconds != int(self.set * 1000):
            self.wanted = self.set = milliseconds / 1000


def _written(thread: int) -> int:
    """Return how many bytes a thread has given to the system in its life; 0 where the system does not count."""
    try:
        with open(f"/proc/self/task/{thread}/io", "rb") as counts:
            return int(counts.read().partition(b"wchar: ")[2].split(maxsplit=1)[0])
    except (OSError, IndexError, ValueError):
        return 0
