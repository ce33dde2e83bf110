"""How much a cell may keep on disk: files, database and temporary files together.

Nobody is asked to keep the books: a scan of the folder says what is there, whoever wrote it. Between two scans those
who write through the host note what they add (`charge`). A scan is good for a second, and for twenty times as long as
it took: a cell with a hundred thousand files, whose scan takes a fifth of a second, is scanned every four seconds, and
never spends more than a twentieth of its time on it. Meanwhile somebody who writes without saying so can go over the
limit by what he writes in that time; from the next scan on nobody may add anything.

What one entry counts for, `disk_bytes`, is the larger of its length and its blocks, in whole blocks and one at least:
a file that is all holes counts in full, and a million empty files count for four gigabytes.
"""

from __future__ import annotations

import errno
import os
import threading
import time
import weakref
from pathlib import Path
from time import monotonic
from typing import Final

from pulp_runtime.files.atomic import unfinished
from pulp_runtime.files.tree import Found, walk

BLOCK: Final = 4096
"""What an entry counts for at least: an inode and its name take room too."""
FRESH_SECONDS: Final = 1.0
"""How long the result of a quick scan is good."""
REST: Final = 20.0
"""How many times as long as it took the result of a slow scan is good."""

_SECTOR: Final = 512  # what st_blocks counts, whatever the file system's own blocks are


class QuotaExceeded(OSError):
    """A write that does not fit into the cell's share of the disk; `errno` is `EDQUOT`."""

    def __init__(self, size: int, room: int, limit: int) -> None:
        super().__init__(errno.EDQUOT, f"disk quota: {size} bytes asked for, {room} of {limit} are left")


def disk_bytes(size: int, blocks: int = 0) -> int:
    """Return what an entry of this length, with so many sectors of 512 bytes, counts for."""
    return max(BLOCK, -(-max(size, blocks * _SECTOR) // BLOCK) * BLOCK)


def counted(status: os.stat_result) -> int:
    """Return what an entry counts for. A file with several names counts for each of them."""
    return disk_bytes(status.st_size, status.st_blocks)


class DiskQuota:
    """The bound on everything below one folder. Safe from any thread; instances for one folder know of each other.

    Args:
        folder: whose content counts; it need not be there yet.
        limit_bytes: how much there may be.
    """

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self._limit: Final = limit_bytes
        self._ledger: Final = _ledger(os.path.realpath(folder), limit_bytes)

    def room(self) -> int:
        """Return how many bytes may still be written, 0 or more."""
        self._ledger.refresh(FRESH_SECONDS)
        return self._left()

    def charge(self, size: int) -> None:
        """Note that the folder has grown by so many bytes; negative when something was removed."""
        self._ledger.charge(size)

    def check(self, size: int) -> None:
        """Return if that many bytes may be written; note them with `charge` when they are.

        When it seems that they may not, the folder is looked at again first, but for the rest a slow scan needs.

        Raises:
            QuotaExceeded: they may not.
        """
        if size <= self.room():
            return
        self._ledger.refresh(0.0)
        left = self._left()
        if size > left:
            raise QuotaExceeded(size, left, self._limit)

    def _left(self) -> int:
        return min(self._limit, max(0, self._limit - self._ledger.used))


class _Ledger:
    """What is known of one folder."""

    def __init__(self, folder: str, enough: int) -> None:
        self._folder: Final = folder
        self._enough: Final = enough
        self._scanning: Final = threading.Lock()
        self._lock: Final = threading.Lock()
        self._scanned = 0
        self._charged = 0
        self._meanwhile = 0
        self._at: float | None = None
        self._took = 0.0

    @property
    def used(self) -> int:
        with self._lock:
            return self._scanned + self._charged

    def charge(self, size: int) -> None:
        with self._lock:
            self._charged += size
            self._meanwhile += max(0, size)

    def refresh(self, fresh: float) -> None:
        """Scan, unless the last scan is fresh enough, or another thread is at it and there is an older result."""
        if self._good(fresh) or not self._scanning.acquire(blocking=self._at is None):
            return
        try:
            if self._good(fresh):
                return  # somebody else has scanned while we waited
            with self._lock:
                self._meanwhile = 0
            began = monotonic()
            found, whole = self._scan()
            with self._lock:
                # A scan that was cut short knows less than before; what was written during one may not be in it.
                self._scanned = found if whole else max(found, self._scanned + self._charged)
                self._charged = self._meanwhile
            self._at = monotonic()
            self._took = self._at - began
        finally:
            self._scanning.release()

    def _good(self, fresh: float) -> bool:
        return self._at is not None and monotonic() - self._at < max(fresh, REST * self._took)

    def _scan(self) -> tuple[int, bool]:
        """Return what is there, and whether all of it was seen. More than enough is not looked at to its end."""
        try:
            top = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            return 0, True
        except OSError:
            return 0, False
        total = 0
        now = time.time()
        try:
            for found in walk(top):
                status = found.status()
                if status is None or (unfinished(found.name, status, now) and _unlinked(found)):
                    continue
                total += counted(status)
                if total > self._enough:
                    break
        except OSError:
            return total, False
        finally:
            os.close(top)
        return total, True


def _unlinked(found: Found) -> bool:
    try:
        os.unlink(found.name, dir_fd=found.folder)
    except OSError:
        return False
    return True


_ledgers: Final[weakref.WeakValueDictionary[tuple[str, int], _Ledger]] = weakref.WeakValueDictionary()
_ledgers_lock: Final = threading.Lock()


def _ledger(folder: str, limit: int) -> _Ledger:
    with _ledgers_lock:
        known = _ledgers.get((folder, limit))
        if known is None:
            known = _ledgers[folder, limit] = _Ledger(folder, limit)
        return known
