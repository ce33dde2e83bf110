"""Responses that cells are still reading, by number; one table for each host.

http_fetch_begin ──▶ add ──▶ number ──▶ http_fetch_read: get
                               └──────▶ http_respond_stream: take, and it is the client's from then on
"""

from __future__ import annotations

import threading
from typing import Final

from pulp_runtime._net.fetch import FetchStream
from pulp_runtime.errors import PulpError

STREAMS_OF_A_CELL: Final = 64


class TooManyStreams(PulpError):
    """A cell has as many open streams as it may have."""


class FetchStreams:
    """The open streams of every cell of a host. Safe from any thread.

    A number means something only together with the cell it was given to; numbers are not used again.
    """

    def __init__(self) -> None:
        self._last = 0
        self._streams: Final[dict[str, dict[int, FetchStream]]] = {}
        self._lock: Final = threading.Lock()

    def add(self, cell_id: str, stream: FetchStream) -> int:
        """Keep a stream for a cell; return its number, 1..2**64-1.

        Raises:
            TooManyStreams: the cell has 64; the stream is the caller's to close.
        """
        with self._lock:
            own = self._streams.setdefault(cell_id, {})
            if len(own) >= STREAMS_OF_A_CELL:
                raise TooManyStreams(f"{STREAMS_OF_A_CELL} streams are open; close some")
            self._last += 1
            own[self._last] = stream
            return self._last

    def full(self, cell_id: str) -> bool:
        """Whether `add` would refuse."""
        return len(self._streams.get(cell_id, ())) >= STREAMS_OF_A_CELL

    def get(self, cell_id: str, number: int) -> FetchStream | None:
        """Return a stream of this cell."""
        return self._streams.get(cell_id, {}).get(number)

    def take(self, cell_id: str, number: int) -> FetchStream | None:
        """Return a stream of this cell and forget it: it is the caller's to read to its end, and to close."""
        with self._lock:
            own = self._streams.get(cell_id, {})
            stream = own.pop(number, None)
            if not own:
                self._streams.pop(cell_id, None)
            return stream

    def drop(self, cell_id: str) -> None:
        """Close every stream of a cell."""
        with self._lock:
            own = self._streams.pop(cell_id, {})
        for stream in own.values():
            stream.close()

    def clear(self) -> None:
        """Close every stream."""
        for cell_id in list(self._streams):
            self.drop(cell_id)
