"""The lock of a cell: first come, first served, and no wait that could never end.

Whoever holds a lock may wait for another one: a cell that calls a cell. The locks and the threads that wait for them
form a graph. An edge that would close a circle in it is refused at once: the thread holds the lock itself (a cell
that calls itself, A→B→A), or waits, through others, for what only it can give back (two chains that meet).
"""

from __future__ import annotations

import threading
from collections import deque
from types import TracebackType
from typing import Final

from pulp_runtime.errors import PulpError

_graph: Final = threading.Lock()
"""Guards every queue and `_waits`; taken only by those who have to wait, and by those who let them in."""
_waits: Final[dict[int, FairLock]] = {}
"""What each waiting thread waits for."""


class WouldDeadlock(PulpError):
    """Waiting for this lock could never end."""


class FairLock:
    """A lock for one thread at a time; waiting threads get it in the order they came."""

    __slots__ = ("_again", "_owner", "_queue", "_raw")

    def __init__(self) -> None:
        self._raw: Final = threading.Lock()
        self._queue: Final[deque[tuple[int, threading.Lock]]] = deque()
        self._owner = self._again = 0

    def acquire(self, seconds: float = -1) -> bool:
        """Take the lock.

        Args:
            seconds: how long to wait, 0 for not at all, negative for as long as it takes.

        Returns:
            Whether it was taken.

        Raises:
            WouldDeadlock: it would have to wait, and nobody could ever let it in.
        """
        if not self._queue and self._raw.acquire(False):
            self._owner = threading.get_ident()
            return True
        return seconds != 0 and self._wait(seconds)

    def _wait(self, seconds: float) -> bool:
        me = threading.get_ident()
        ticket = threading.Lock()
        ticket.acquire()
        with _graph:
            if not self._queue and self._raw.acquire(False):
                self._owner = me
                return True
            if self._leads_to(me):
                raise WouldDeadlock("it holds, or waits for, what this call holds")
            self._queue.append((me, ticket))
            _waits[me] = self
        taken = ticket.acquire(timeout=seconds if seconds > 0 else -1)
        with _graph:
            _waits.pop(me, None)
            if not taken and (me, ticket) in self._queue:
                self._queue.remove((me, ticket))
                return False
        return True  # also when it was let in just as its time was over

    def _leads_to(self, thread: int) -> bool:
        """Return whether whoever holds this lock waits, through others, for `thread`."""
        lock: FairLock | None = self
        seen: set[int] = set()
        while lock is not None:
            owner = lock._owner
            if owner == thread:
                return True
            if not owner or owner in seen:
                return False
            seen.add(owner)
            lock = _waits.get(owner)
        return False

    def release(self) -> None:
        """Give the lock to whoever has waited longest."""
        self._owner = 0
        self._raw.release()
        if self._queue:
            with _graph:
                if self._queue and self._raw.acquire(False):
                    self._owner, ticket = self._queue.popleft()
                    _waits.pop(self._owner, None)
                    ticket.release()

    @property
    def wanted(self) -> bool:
        """Whether somebody waits for it."""
        return bool(self._queue)

    def __enter__(self) -> None:
        """Take the lock, or keep it if this thread has it: the host may do several things under it, a guest may not."""
        if self._owner == threading.get_ident():
            self._again += 1
        else:
            self.acquire()

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _stack: TracebackType | None
    ) -> None:
        if self._again:
            self._again -= 1
        else:
            self.release()
