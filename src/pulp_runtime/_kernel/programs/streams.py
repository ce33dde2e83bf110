"""What a program reads and writes when nobody said otherwise: nothing, and the cell's log."""

from __future__ import annotations

import logging
from typing import Final

from pulp_runtime._kernel.lines import LINE_BYTES, LineLog
from pulp_runtime.ext import File, Kind


class Nothing(File):
    """A standard input that is at its end."""

    kind = Kind.DEVICE

    def read(self, size: int) -> bytes:
        """See `File.read`."""
        return b""


class LogStream(File):
    """A standard output or error that is logged, line by line.

    Args:
        lines: the cell's; runs that share it have a stream each.
        name: `stdout` or `stderr`.
    """

    kind = Kind.DEVICE

    def __init__(self, lines: LineLog, name: str) -> None:
        self._lines: Final = lines
        self._name: Final = name
        self._rest = b""

    def write(self, data: bytes) -> int:
        """See `File.write`."""
        whole, newline, rest = (self._rest + data).rpartition(b"\n")
        self._rest = rest[: LINE_BYTES + 1]
        if newline:
            self._lines.write(logging.INFO, whole, stream=self._name)
        return len(data)

    def close(self) -> None:
        """Log what has no newline."""
        rest, self._rest = self._rest, b""
        if rest:
            self._lines.write(logging.INFO, rest, stream=self._name)
