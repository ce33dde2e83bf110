"""What one cell may use, with its units, and the numbers that the contract fixes."""

from __future__ import annotations

from collections.abc import Mapping
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
LOG_LINES_PER_SECOND: Final = 200
LOG_BYTES_PER_SECOND: Final = 262_144
DISK_QUOTA_MB: Final = 1024
RESTARTS: Final = 5
RESTART_WINDOW_SECONDS: Final = 30
SHARED_MEMORY_MB: Final = 64

#: What a manifest may say under `[limits]`: least and most of each.
SETTABLE: Final[Mapping[str, tuple[int, int]]] = {
    "table_elements": (1, 10_000_000),
    "message_bytes": (1024, 256 * MIB),
    "mailbox_events": (1, 65_536),
    "log_lines_per_second": (1, 100_000),
    "log_bytes_per_second": (1024, 100 * MIB),
    "disk_quota_mb": (1, 1_048_576),
    "restarts": (0, 1000),
    "restart_window_seconds": (1, 86_400),
    "shared_memory_mb": (1, 1024),
}
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
        log_lines_per_second: lines it may write to its log. Past it they are
            dropped, and their number is logged.
        log_bytes_per_second: bytes of those lines. Past it the same.
        disk_quota_mb: MiB it may keep on disk: files, database and temporary
            files together. Past it a write fails with a code.
        restarts: how often it is restarted within the window, 0 for never.
            Past it the cell is down until someone starts it.
        restart_window_seconds: how long a restart counts.
        shared_memory_mb: MiB of shared memory it may have attached, all its groups
            together. Past it `shm_attach` answers a code.

    Raises:
        ValueError: a bound is not positive, or memory is beyond 32 bits.
    """

    memory_pages: int = DEFAULT_MAX_MEMORY_PAGES
    table_elements: int = DEFAULT_TABLE_ELEMENTS
    call_seconds: float = DEFAULT_CALL_TIMEOUT_MS / 1000
    message_bytes: int = DEFAULT_MAX_MESSAGE_BYTES
    mailbox_events: int = MAILBOX_EVENTS
    log_lines_per_second: int = LOG_LINES_PER_SECOND
    log_bytes_per_second: int = LOG_BYTES_PER_SECOND
    disk_quota_mb: int = DISK_QUOTA_MB
    restarts: int = RESTARTS
    restart_window_seconds: int = RESTART_WINDOW_SECONDS
    shared_memory_mb: int = SHARED_MEMORY_MB

    def __post_init__(self) -> None:
        for field in fields(self):
            if getattr(self, field.name) <= 0 and field.name != "restarts":
                raise ValueError(f"limits.{field.name} must be positive")
        if self.memory_pages > MAX_MEMORY_PAGES:
            raise ValueError(f"limits.memory_pages must be at most {MAX_MEMORY_PAGES}")

    @property
    def memory_bytes(self) -> int:
        """The ceiling of linear memory in bytes."""
        return self.memory_pages * PAGE
