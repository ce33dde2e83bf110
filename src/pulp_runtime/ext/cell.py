"""What an extension sees of a cell, and of the guest inside a host function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec

from pulp_runtime.log import Log


def _drop(_level: int, _text: bytes) -> None:
    """Stand in for the lines of a cell that has none."""


class CellRef(msgspec.Struct, frozen=True, gc=False):
    """A loaded cell, as far as an extension may know it.

    Attributes:
        name: its manifest name, `[a-z][a-z0-9_-]{0,62}`: safe as a file name.
        id: its event target. Events carry it in `StepEvent.cell_id`; ownership tables use it as a key.
        log: the cell's own log: what it writes carries `cell=<name>`.
        write_lines: `write_lines(level, text)`: log what the guest itself said, a record for each line, at a level
            of `logging`: escaped, cut at 4,096 bytes, counted against the cell's rate. Lines over it are dropped,
            and the log will say how many were.
    """

    name: str
    id: str
    log: Log
    write_lines: Callable[[int, bytes], None] = _drop


class Guest(Protocol):
    """The calling cell's memory, valid only until the host function returns.

    Every address and length is unsigned 32-bit and checked against the memory as it is now.
    """

    @property
    def cell(self) -> CellRef:
        """The cell that called."""

    def read(self, address: int, length: int) -> bytes:
        """Copy bytes out; raise `HostError(Errno.FAULT)` if the range is not inside memory."""

    def write(self, address: int, data: bytes) -> None:
        """Copy bytes in; raise `HostError(Errno.WRITE)` if the range is not inside memory."""

    def deliver(self, data: bytes, address_out: int, length_out: int) -> None:
        """Hand `data` over in a buffer from the guest's own `pulp_alloc`, which the guest then owns.

        The address and the length are stored as u32 little-endian at the two out-addresses
        (spec/capabilities §1.2). No bytes means address 0, length 0 and no allocation.

        Raises:
            HostError: `ALLOC` when the guest's allocator refuses, `WRITE` when an address is outside memory.
        """

    def seconds_left(self) -> float:
        """Seconds until the current call's deadline; a blocking host function waits no longer."""
