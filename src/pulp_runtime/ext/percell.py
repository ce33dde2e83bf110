"""What a capability keeps for each of its cells, over reloads."""

from __future__ import annotations

import threading
from typing import Final, Generic, TypeVar

T = TypeVar("T")


class PerCell(Generic[T]):
    """Base of a capability that keeps something for each cell, with the hooks that follow from that.

    Derive from it, `keep` what a cell gets in `setup_cell`, and find it with `kept`. While a new version of a cell is
    loaded, what the old one has is put aside; when it is known which of them goes on, the other's is let go of.
    Override `release` if that takes more than forgetting it. Safe from any thread.
    """

    def __init__(self) -> None:
        self._kept: Final[dict[str, T]] = {}
        self._aside: Final[dict[str, T | None]] = {}
        self._keeping: Final = threading.Lock()

    def release(self, value: T) -> None:
        """Let go of what a cell had; nobody finds it any more."""

    def keep(self, cell_id: str, value: T) -> None:
        """Set what a cell has, and let go of what it had."""
        with self._keeping:
            before = self._kept.get(cell_id)
            self._kept[cell_id] = value
        if before is not None:
            self.release(before)

    def kept(self, cell_id: str) -> T | None:
        """Return what a cell has, None for nothing."""
        return self._kept.get(cell_id)

    def in_use(self, cell_id: str) -> T | None:
        """Return what the version has that runs: while another is being loaded, what was put aside.

        For `mount`: runs of a program begin also in the meantime.
        """
        with self._keeping:
            return self._aside.get(cell_id) or self._kept.get(cell_id)

    def all_kept(self) -> list[tuple[str, T]]:
        """Return what each cell has, by its id."""
        with self._keeping:
            return list(self._kept.items())

    def teardown_cell(self, cell_id: str) -> None:
        """Let go of what a cell has."""
        with self._keeping:
            value = self._kept.pop(cell_id, None)
        if value is not None:
            self.release(value)

    def swap_begin(self, cell_id: str) -> None:
        """Put aside what the old version has."""
        with self._keeping:
            self._aside[cell_id] = self._kept.pop(cell_id, None)

    def swap_end(self, cell_id: str, adopted: bool) -> None:
        """Let go of what the version has that does not go on."""
        with self._keeping:
            before, after = self._aside.pop(cell_id, None), self._kept.pop(cell_id, None)
            goes_on, goes = (after, before) if adopted else (before, after)
            if goes_on is not None:
                self._kept[cell_id] = goes_on
        if goes is not None:
            self.release(goes)

    def teardown(self) -> None:
        """Let go of everything."""
        with self._keeping:
            values = [value for value in (*self._aside.values(), *self._kept.values()) if value is not None]
            self._aside.clear()
            self._kept.clear()
        for value in values:
            self.release(value)
