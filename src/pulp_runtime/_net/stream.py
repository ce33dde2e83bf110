"""An answer whose body follows its head in pieces."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable


def _nothing() -> None:
    """Stand in for a callback nobody has set."""


class ResponseStream(ABC):
    """The rest of one answer. Everything here belongs to the loop's thread.

    Attributes:
        on_room: called when `full` has become false again.
        on_close: called once, when the client is gone or takes nothing for too long; never after `end` or `abort`.
        closed: no more can be sent: it has ended, or the client is gone.
        full: the client is slower than the writer; what is written now waits in memory.
    """

    def __init__(self) -> None:
        self.on_room: Callable[[], None] = _nothing
        self.on_close: Callable[[], None] = _nothing
        self.closed = False
        self.full = False

    @property
    @abstractmethod
    def waiting(self) -> int:
        """Bytes that the client has not taken yet."""

    @abstractmethod
    def write(self, data: bytes) -> None:
        """Send a piece; nothing happens when the stream is closed or the answer has no body (HEAD, 204, 304)."""

    @abstractmethod
    def end(self) -> None:
        """End the body; the connection goes on if it can."""

    @abstractmethod
    def abort(self) -> None:
        """Break off, so that the client knows the body is not complete."""
