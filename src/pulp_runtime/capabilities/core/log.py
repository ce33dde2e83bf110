"""`core.log`: what a cell has to say, in the host's log. Every cell has it, declared or not.

It shares the cell's rate with standard output and standard error: at most 4,096 bytes of a line, and so many lines
and bytes a second as the manifest allows. What is over is dropped and counted, never an error: logging must not
change what a cell does.
"""

from __future__ import annotations

import logging
from typing import Final

from pulp_runtime.ext import U32, Capability, CellRef, Errno, HostError, host_function

NAME: Final = "core.log"
LEVELS: Final = (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR)
"""By the number a guest gives: 0 debug, 1 info, 2 warn, 3 error, as in `sdk/c/pulp.h`."""


class GuestLog:
    """Lines from guests."""

    @host_function
    def log_write(self, cell: CellRef, level: U32, text: bytes) -> None:
        """Log `text`, one record for each of its lines; a newline at its end begins no other.

        Answers `EMPTY` (1) for a level over 3, `FAULT` (2) for a text outside memory. What is not UTF-8 is replaced.
        """
        if level >= len(LEVELS):
            raise HostError(Errno.EMPTY, f"level {level}")
        cell.write_lines(LEVELS[level], text.removesuffix(b"\n"))


def capability() -> Capability:
    """Return the capability."""
    return Capability.of(NAME, GuestLog())
