"""What one cell may use, with its units, and the numbers that the contract fixes."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final

PAGE: Final = 65_536
MIB: Final = 1024 * 1024

#: All that 32-bit addresses reach: 4 GiB.
MAX_MEMORY_PAGES: Final = 65_536
DEFAULT_MAX_MEMORY_PAGES: Final = 4096
DEFAULT_CALL_TIMEOUT_MS: Final = 30_000
DEFAULT_MAX_MESSAGE_BYTES: Final = 8 * MIB
#: A guest that grew its table without end took 0.8 GB of the host; real modules stay under 10,000.
DEFAULT_TABLE_ELEMENTS: Final = 100_000
MAILBOX_EVENTS: Final = 64
DIAGNOSTIC_BYTES: Final = 4096
MAX_TICK_MS: Final = 60_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one cell may use before the host steps in.

    Attributes:
        memory_pages: ceiling of its linear memory, 1..65,536 pages of 64 KiB.
            At the ceiling `memory.grow` answers -1; nothing is raised.
        table_elements: ceiling of each of its tables. At the ceiling
            `table.grow` answers -1; nothing is raised.
        call_seconds: wall time one call into the guest may take. Past it the
            call traps and `CellTimeout` is raised.
        message_bytes: longest message handed to the guest or taken from it.
            Past it `MessageTooLarge` is raised and the guest does not run.
        mailbox_events: events that may wait. Past it they are refused at once.

    Raises:
        ValueError: a bound is not positive, or memory is beyond 32 bits.
    """

    memory_pages: int = DEFAULT_MAX_MEMORY_PAGES
    table_elements: int = DEFAULT_TABLE_ELEMENTS
    call_seconds: float = DEFAULT_CALL_TIMEOUT_MS / 1000
    message_bytes: int = DEFAULT_MAX_MESSAGE_BYTES
    mailbox_events: int = MAILBOX_EVENTS

    def __post_init__(self) -> None:
        for field in fields(self):
            if getattr(self, field.name) <= 0:
                raise ValueError(f"limits.{field.name} must be positive")
        if self.memory_pages > MAX_MEMORY_PAGES:
            raise ValueError(f"limits.memory_pages must be at most {MAX_MEMORY_PAGES}")

    @property
    def memory_bytes(self) -> int:
        """The ceiling of linear memory in bytes."""
        return self.memory_pages * PAGE
