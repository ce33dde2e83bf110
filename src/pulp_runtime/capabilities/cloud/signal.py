"""Whoever waits for something to change, told from whichever thread changes it."""

from __future__ import annotations

from typing import Final

from pulp_runtime.ext.tree import Wake


class Signal:
    """Wakes everybody who waits. Safe from any thread."""

    __slots__ = ("_wakes",)

    def __init__(self) -> None:
        self._wakes: Final[dict[object, Wake]] = {}

    def watch(self, wake: Wake) -> Wake:
        """Have `wake()` called from now on at every `fire`; return what ends that."""
        key = object()
        self._wakes[key] = wake

        def unwatch() -> None:
            self._wakes.pop(key, None)

        return unwatch

    def fire(self) -> None:
        """Wake everybody."""
        if self._wakes:
            for wake in list(self._wakes.values()):
                wake()
