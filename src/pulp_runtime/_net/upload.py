"""A request body that is handed on as it arrives, with the client held back when nobody takes it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Final

from pulp_runtime.errors import PulpError

HIGH_BYTES: Final = 256 * 1024
"""Bytes that may wait to be read. Past it the client is not listened to (HTTP/2: gets no more window)."""


def _nothing() -> None:
    """Stand in for a callback nobody has set."""


class UploadBroken(PulpError):
    """The rest of a body will not come: the client left, was too slow, or broke the rules."""


class Upload:
    """One body. `feed`, `finish` and `fail` belong to the loop's thread, `read` to any other.

    Args:
        drained: called on the reader's thread after bytes were taken out; it has the loop look at `full` again.

    Attributes:
        size: bytes that have arrived.
        complete: the last byte is here.
        on_change: called on the loop's thread after something arrived, or it is known that nothing more will.
    """

    __slots__ = ("_changed", "_drained", "_pieces", "_reason", "_waiting", "complete", "on_change", "size")

    def __init__(self, drained: Callable[[], None]) -> None:
        self._drained: Final = drained
        self._changed: Final = threading.Condition()
        self._pieces: Final[deque[bytes]] = deque()
        self._waiting = 0
        self._reason = ""
        self.size = 0
        self.complete = False
        self.on_change: Callable[[], None] = _nothing

    @property
    def waiting(self) -> int:
        """Bytes that have arrived and were not read."""
        return self._waiting

    @property
    def full(self) -> bool:
        """More waits than should."""
        return self._waiting > HIGH_BYTES

    @property
    def over(self) -> bool:
        """Nothing more will arrive."""
        return self.complete or bool(self._reason)

    def feed(self, data: bytes) -> None:
        """Add what has arrived."""
        if data and not self.over:
            with self._changed:
                self._pieces.append(data)
                self._waiting += len(data)
                self.size += len(data)
                self._changed.notify_all()
            self.on_change()

    def finish(self) -> None:
        """Note that the body is complete."""
        with self._changed:
            self.complete = True
            self._changed.notify_all()
        self.on_change()

    def fail(self, reason: str) -> None:
        """Note that the rest will not come; what is here can still be read."""
        with self._changed:
            if not self.complete:
                self._reason = reason
            self._changed.notify_all()
        self.on_change()

    def read(self, most: int, seconds: float) -> bytes:
        """Return the next bytes, waiting for the first of them.

        Args:
            most: how many at most, at least 1.
            seconds: how long to wait.

        Returns:
            1 to `most` bytes; none at the end of the body.

        Raises:
            UploadBroken: the rest will not come.
            TimeoutError: nothing came in time.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._pieces or self.over, seconds):
                raise TimeoutError("no byte of the body came in time")
            if not self._pieces:
                if self.complete:
                    return b""
                raise UploadBroken(self._reason)
            piece = self._pieces.popleft()
            if len(piece) > most:
                self._pieces.appendleft(piece[most:])
                piece = piece[:most]
            self._waiting -= len(piece)
        self._drained()
        return piece
