"""A database's share of the cell's disk quota.

SQLite refuses to grow a file past `max_page_count`, which is kept at what the quota leaves. A page that is added takes
room twice: in the write-ahead log, where a transaction waits until it is moved into the database, and there. The log
keeps the length of the longest transaction of late.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from pulp_runtime.capabilities.storage.sqlite_failure import DISK_FULL, SQL, SqlFailed
from pulp_runtime.capabilities.storage.sqlite_statement import Statement
from pulp_runtime.files.quota import DiskQuota, disk_bytes

LOG_BYTES: Final = 4 * 1024 * 1024
"""To how much the log is cut back when it was longer."""
SLACK_PAGES: Final = 256
"""By how much the bound may be off, while there is room for four times as much."""

_FRAME_HEADER: Final = 24
_READS: Final = frozenset({"SELECT", "VALUES", "EXPLAIN", "PRAGMA"})
_BRACKETS: Final = frozenset({"BEGIN", "SAVEPOINT", "COMMIT", "END", "RELEASE", "ROLLBACK"})

Own = Callable[[str], list[tuple[Any, ...]]]


class Room:
    """What one database may still take.

    Args:
        path: of the database.
        quota: of the folder it is in.
    """

    def __init__(self, path: Path, quota: DiskQuota) -> None:
        self._path: Final = os.fspath(path)
        self._quota: Final = quota
        self._own: Own = _nothing
        self._page = 4096
        self._sizes = (0, 0)
        self._most = 0

    def opened(self, own: Own) -> None:
        """Set the first bound; `own` runs statements of the host's."""
        self._own = own
        self._page = own("PRAGMA page_size")[0][0]
        own(f"PRAGMA journal_size_limit = {LOG_BYTES}")
        self._sizes = self._measure()
        self._bound(self._quota.room())

    def before(self, statement: Statement) -> None:
        """Bring the bound up to date before a statement that may write.

        Raises:
            SqlFailed: it is a VACUUM, and there is no room for the copy it makes.
        """
        if statement.keyword in _READS or statement.keyword in _BRACKETS:
            return
        room = self._quota.room()
        if statement.keyword == "VACUUM" and self._copy_bytes() > room + self._sizes[1]:
            raise SqlFailed(SQL, DISK_FULL)
        self._bound(room)

    def _bound(self, room: int) -> None:
        pages = self._sizes[0] // self._page
        left = self._pages_left(room)
        if self._most and abs(pages + left - self._most) <= min(SLACK_PAGES, left // 4):
            return
        self._most = pages + left
        self._own(f"PRAGMA main.max_page_count = {max(1, self._most)}")
        self._own(f"PRAGMA temp.max_page_count = {max(1, left)}")

    def _copy_bytes(self) -> int:
        """Return how much a VACUUM writes into the log: every page that is in use."""
        pages = int(self._own("PRAGMA page_count")[0][0]) - int(self._own("PRAGMA freelist_count")[0][0])
        return pages * (self._page + _FRAME_HEADER)

    def _pages_left(self, room: int) -> int:
        """Return how many pages may be added; the log's own length is there to be used again."""
        log = self._sizes[1]
        frame = self._page + _FRAME_HEADER
        alone = room // self._page
        return alone if alone * frame <= log else (room + log) // (self._page + frame)

    def after(self, statement: Statement, connection: sqlite3.Connection) -> None:
        """Tell the quota what a statement has added, once it is in the files."""
        if statement.keyword in _READS or connection.in_transaction:
            return
        before, self._sizes = self._sizes, self._measure()
        if self._sizes != before:
            self._quota.charge(sum(map(disk_bytes, self._sizes)) - sum(map(disk_bytes, before)))

    def written_bytes(self) -> int:
        """Return how much one statement may write in all, temporary files included."""
        return self._quota.room() + self._sizes[1] + LOG_BYTES

    def _measure(self) -> tuple[int, int]:
        return _size(self._path), _size(f"{self._path}-wal")


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def _nothing(_sql: str) -> list[tuple[Any, ...]]:
    return []
