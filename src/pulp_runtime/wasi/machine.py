"""What preview 1 needs of the instance that calls it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol


class Machine(Protocol):
    """One instance. All of it is called on the thread that runs the guest."""

    def view(self, address: int, length: int) -> memoryview:
        """Return a piece of the guest's memory, of format `B`, to be read and written; good until the guest runs again.

        Args:
            address: unsigned 32-bit number.
            length: bytes, an unsigned 32-bit number.

        Raises:
            HostError: `FAULT`, not all of it is inside memory as it is now.
        """

    def seconds_left(self) -> float:
        """Return the seconds until the run's deadline, 0 or less when it has passed; `inf` if there is none."""

    def blocking(self) -> AbstractContextManager[None]:
        """Return what lets other cells have the worker while the guest waits inside it."""

    @property
    def stopping(self) -> bool:
        """Whether the host wants the run to end."""
