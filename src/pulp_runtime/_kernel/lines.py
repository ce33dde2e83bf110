"""What a cell writes to standard output, standard error or its log, as log records: bounded and escaped."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

from pulp_runtime.log import Log, escape
from pulp_runtime.manifest.limits import Limits

LINE_BYTES: Final = 4096
"""Longest line kept; the rest of it is dropped and said so."""


class LineLog:
    """One cell's lines. Past its rate, lines are dropped and counted; the count is logged with the next line."""

    __slots__ = (
        "_budget_bytes",
        "_budget_lines",
        "_bytes_per_second",
        "_clock",
        "_dropped",
        "_lines_per_second",
        "_log",
        "_partial",
        "_since",
    )

    def __init__(self, log: Log, limits: Limits | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        limits = limits or Limits()
        self._log: Final = log
        self._lines_per_second: Final = limits.log_lines_per_second
        self._bytes_per_second: Final = limits.log_bytes_per_second
        self._clock: Final = clock
        self._partial: Final[dict[str, bytes]] = {}
        self._since = clock()
        self._budget_lines = self._lines_per_second
        self._budget_bytes = self._bytes_per_second
        self._dropped = 0

    def feed(self, stream: str, data: bytes) -> None:
        """Take bytes a guest wrote to `stream` ("stdout" or "stderr"); log each line that is complete."""
        whole, newline, rest = (self._partial.get(stream, b"") + data).rpartition(b"\n")
        self._partial[stream] = rest[: LINE_BYTES + 1]
        if newline:
            self.write(logging.INFO, whole, stream=stream)

    def write(self, level: int, text: bytes, **fields: str) -> None:
        """Log each line of `text`."""
        start = 0
        while True:
            end = text.find(b"\n", start)
            if not self.line(level, text[start:] if end < 0 else text[start:end], **fields):
                self._dropped += text.count(b"\n", start)  # a million lines cost no more than the first refused
                return
            if end < 0:
                return
            start = end + 1

    def flush(self) -> None:
        """Log what has no newline yet, and how much was dropped."""
        for stream, rest in self._partial.items():
            if rest:
                self.line(logging.INFO, rest, stream=stream)
        self._partial.clear()
        self._tell_dropped()

    def line(self, level: int, data: bytes, **fields: str) -> bool:
        """Log one line at `level`; answer False, and drop it, when the cell has used up its second."""
        if not self.allows(len(data)):
            return False
        kept = escape(data[:LINE_BYTES].decode(errors="replace").rstrip("\r"))
        self._log.record(level, kept, {**fields, "truncated": True} if len(data) > LINE_BYTES else {**fields})
        return True

    def allows(self, size: int) -> bool:
        """Take one line of `size` bytes from the budget; answer False, and count it, when there is none left."""
        now = self._clock()
        if now - self._since >= 1.0:
            self._since = now
            self._budget_lines = self._lines_per_second
            self._budget_bytes = self._bytes_per_second
            self._tell_dropped()
        if self._budget_lines <= 0 or self._budget_bytes <= 0:
            self._dropped += 1
            return False
        self._budget_lines -= 1
        self._budget_bytes -= min(size, LINE_BYTES)
        return True

    def _tell_dropped(self) -> None:
        if self._dropped:
            dropped, self._dropped = self._dropped, 0
            self._log.warning("cell log over its rate", dropped=dropped)
