"""A stream of bytes in memory: one end is written, the other read, by any thread."""

from __future__ import annotations

import errno
import threading
from typing import Final

from pulp_runtime.ext.tree import File, Kind, Wake


class Pipe:
    """Bytes on their way.

    Args:
        limit_bytes: how many may wait to be read; then a writer has no room.

    Attributes:
        reader: the end to read from; at its end when the writer is closed and all was read.
        writer: the end to write to; `EPIPE` once the reader is closed.
    """

    def __init__(self, limit_bytes: int = 65_536) -> None:
        self._limit: Final = limit_bytes
        self._lock: Final = threading.Lock()
        self._data = bytearray()
        self._wakes: Final[dict[object, Wake]] = {}
        self._ended = self._left = False
        self.reader: Final = _Reader(self)
        self.writer: Final = _Writer(self)

    def take(self, size: int) -> bytes:
        """Return the next bytes, b"" at the end."""
        with self._lock:
            if not self._data and not self._ended:
                raise BlockingIOError
            piece = bytes(self._data[:size])
            del self._data[:size]
        self._wake()
        return piece

    def give(self, data: bytes) -> int:
        """Take as many bytes as there is room for."""
        with self._lock:
            if self._left:
                raise BrokenPipeError(errno.EPIPE, "nobody reads")
            piece = data[: self._limit - len(self._data)]
            if not piece:
                raise BlockingIOError
            self._data += piece
        self._wake()
        return len(piece)

    def waiting(self) -> int | None:
        """Return how many bytes can be read; None if a reader would wait."""
        with self._lock:
            return len(self._data) if self._data or self._ended else None

    def room(self) -> int | None:
        """Return how many bytes can be written; None if a writer would wait."""
        with self._lock:
            room = self._limit - len(self._data)
            return room if room > 0 or self._left else None

    def end(self) -> None:
        """Say that there is no more to come."""
        with self._lock:
            self._ended = True
        self._wake()

    def leave(self) -> None:
        """Say that nobody reads any more."""
        with self._lock:
            self._left = True
            self._data.clear()
        self._wake()

    def watch(self, wake: Wake) -> Wake:
        """Have `wake` called whenever something changed; return what ends that."""
        key = object()
        with self._lock:
            self._wakes[key] = wake

        def end() -> None:
            with self._lock:
                self._wakes.pop(key, None)

        return end

    def _wake(self) -> None:
        with self._lock:
            wakes = list(self._wakes.values())
        for wake in wakes:
            wake()


class _Reader(File):
    kind = Kind.UNKNOWN

    def __init__(self, pipe: Pipe) -> None:
        self._pipe: Final = pipe

    def read(self, size: int) -> bytes:
        """See `File.read`."""
        return self._pipe.take(size)

    def ready(self, *, write: bool = False) -> int | None:
        """See `File.ready`."""
        return 0 if write else self._pipe.waiting()

    def watch(self, wake: Wake) -> Wake:
        """See `File.watch`."""
        return self._pipe.watch(wake)

    def close(self) -> None:
        """See `File.close`."""
        self._pipe.leave()


class _Writer(File):
    kind = Kind.UNKNOWN

    def __init__(self, pipe: Pipe) -> None:
        self._pipe: Final = pipe

    def write(self, data: bytes) -> int:
        """See `File.write`."""
        return self._pipe.give(data)

    def ready(self, *, write: bool = False) -> int | None:
        """See `File.ready`."""
        return self._pipe.room() if write else 0

    def watch(self, wake: Wake) -> Wake:
        """See `File.watch`."""
        return self._pipe.watch(wake)

    def close(self) -> None:
        """See `File.close`."""
        self._pipe.end()
