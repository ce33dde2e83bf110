"""The last lines of the log, and those that follow, for whoever asks through the control socket."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import Final

from pulp_runtime.log import KeyValue

KEPT_LINES: Final = 2_000
BEHIND_LINES: Final = 1_000
"""Lines that may wait for a follower. Past it the oldest are dropped."""


class Tail(logging.Handler):
    """Keeps records of the logger `pulp` as lines. `follow` on the loop it was made on."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(KeyValue())
        self._loop: Final = asyncio.get_running_loop()
        self._kept: Final[deque[tuple[str, str]]] = deque(maxlen=KEPT_LINES)
        self._followers: Final[set[Follower]] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record; from any thread."""
        cell = str(getattr(record, "fields", {}).get("cell", ""))
        line = self.format(record)
        self._kept.append((cell, line))
        if self._followers:
            try:
                self._loop.call_soon_threadsafe(self._tell, cell, line)
            except RuntimeError:  # the loop is closed
                pass

    def _tell(self, cell: str, line: str) -> None:
        for follower in self._followers:
            follower.tell(cell, line)

    def last(self, count: int, cell: str = "") -> tuple[str, ...]:
        """Return up to `count` lines, oldest first; of one cell, or of the cells of one application, if it is named."""
        lines = [line for owner, line in list(self._kept) if _is_of(owner, cell)]
        return tuple(lines[len(lines) - min(count, len(lines)) :])

    def follow(self, cell: str = "") -> Follower:
        """Return a follower, who is told every line from now on until it is closed."""
        follower = Follower(cell, self._followers)
        self._followers.add(follower)
        return follower


class Follower:
    """One who wants to be told. On the loop."""

    def __init__(self, cell: str, among: set[Follower]) -> None:
        self._cell: Final = cell
        self._among: Final = among
        self._lines: Final[deque[str]] = deque(maxlen=BEHIND_LINES)
        self._more: Final = asyncio.Event()

    def tell(self, cell: str, line: str) -> None:
        """Add a line, if it is one of those that are wanted."""
        if _is_of(cell, self._cell):
            self._lines.append(line)
            self._more.set()

    async def lines(self) -> tuple[str, ...]:
        """Wait for lines; return all there are."""
        await self._more.wait()
        self._more.clear()
        lines = tuple(self._lines)
        self._lines.clear()
        return lines

    def close(self) -> None:
        """Hear no more."""
        self._among.discard(self)


def _is_of(owner: str, wanted: str) -> bool:
    """Tell whether a line of cell `owner` is one of those of `wanted`: all, a cell, or an application."""
    return wanted in ("", owner) or owner.startswith(f"{wanted}/")
