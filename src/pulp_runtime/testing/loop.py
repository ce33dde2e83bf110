"""An event loop on which a second takes no time.

When nothing is left to do but to wait, the clock jumps to the next timer. While someone waits for a socket or a pipe,
time passes as it does elsewhere: then it is not ours to hurry.
"""

from __future__ import annotations

import asyncio
import selectors
import time
from typing import Final

_OWN_FILES: Final = 1
"""The loop itself watches one pipe, by which threads wake it."""


class _Selector(selectors.DefaultSelector):
    """Moves its own clock instead of waiting."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """See `selectors.BaseSelector.select`."""
        if timeout is None or len(self.get_map()) > _OWN_FILES:
            began = time.monotonic()
            ready = super().select(timeout)
            self.now += time.monotonic() - began
            return ready
        ready = super().select(0)
        if not ready and timeout > 0:
            self.now += timeout
        return ready


class JumpingLoop(asyncio.SelectorEventLoop):
    """An event loop whose time begins at 0 and jumps."""

    def __init__(self) -> None:
        self._jumping: Final = _Selector()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Return seconds since the loop was made, on its own clock."""
        return self._jumping.now
