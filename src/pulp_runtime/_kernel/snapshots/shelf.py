"""The snapshots of one cell on disk: `{storage root}/{cell}/.pulp-snapshots/{number}.pulpsnap`, newest last.

`storage.fs` neither shows nor opens what begins with `.pulp-`. A file comes into being whole or not at all, so that
whoever ends the host in the middle of a snapshot leaves the one before.
"""

from __future__ import annotations

import os
import re
import stat
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from pulp_runtime._kernel.snapshots.saved import HEADER_BYTES, SnapshotRefused
from pulp_runtime.files.atomic import PREFIX, replace
from pulp_runtime.files.quota import DiskQuota, QuotaExceeded
from pulp_runtime.manifest.limits import PAGE

FOLDER: Final = ".pulp-snapshots"
SUFFIX: Final = ".pulpsnap"
_ASIDE: Final = ".aside"
_NAME: Final = re.compile(r"\d{20}\.pulpsnap")
_OLD_NAME: Final = re.compile(r"\d{20}\.aside")
_MODE: Final = 0o600


class Shelf:
    """See above. Safe from any thread.

    Args:
        folder: the cell's own; it need not be there yet.
        quota_bytes: how much the cell may keep on disk, snapshots included.
    """

    def __init__(self, folder: Path, quota_bytes: int) -> None:
        self._cell: Final = folder
        self._folder: Final = folder / FOLDER
        self._quota: Final = quota_bytes
        self._lock: Final = threading.Lock()
        self.era = 0
        """Counts how often the cell has begun anew: what was taken before then is not to be written any more."""

    def newest_first(self) -> list[Path]:
        """Return the snapshots that may be used."""
        return sorted(self._find(_NAME), reverse=True)

    def _find(self, pattern: re.Pattern[str]) -> list[Path]:
        try:
            return [self._folder / name for name in os.listdir(self._folder) if pattern.fullmatch(name)]
        except OSError:
            return []

    def put(self, data: bytes, keep: int, era: int) -> Path:
        """Write a snapshot; remove all but the newest `keep`.

        Raises:
            SnapshotRefused: it has been overtaken, does not fit into the cell's quota, or the system refuses.
        """
        with self._lock:
            if era != self.era:
                raise SnapshotRefused("the cell has begun anew since it was taken")
            try:
                DiskQuota(self._cell, self._quota).check(len(data))
                self._make()
                newest = self.newest_first()[:1]
                number = max(time.time_ns(), *(int(path.stem) + 1 for path in newest), 0)
                path = self._folder / f"{number:020d}{SUFFIX}"
                write(path, data)
            except QuotaExceeded as error:
                raise SnapshotRefused(f"{error.strerror}; raise limits.disk_quota_mb") from None
            except OSError as error:
                raise SnapshotRefused(f"{self._folder}: {error.strerror}") from None
            self._prune(keep)
            return path

    def _make(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        about = self._folder.lstat()
        if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.geteuid():
            raise PermissionError(1, "it is not a folder of the host's user")
        if about.st_mode & 0o077:
            self._folder.chmod(0o700)

    def _prune(self, keep: int) -> None:
        begun = [self._folder / name for name in os.listdir(self._folder) if os.fsencode(name).startswith(PREFIX)]
        for path in [*self.newest_first()[keep:], *sorted(self._find(_OLD_NAME))[:-keep], *begun]:
            try:
                path.unlink()
            except OSError:
                continue  # the next one tries again

    def outdate(self) -> None:
        """Have no snapshot written any more that was taken before now."""
        with self._lock:
            self.era += 1

    def set_aside(self, paths: Sequence[Path]) -> None:
        """Have these not used any more; they stay for an operator, as many as of the others."""
        with self._lock:
            for path in paths:
                path.rename(path.with_suffix(_ASIDE))


def write(path: Path, data: bytes) -> None:
    """Write a snapshot's file in one step, for the host's user alone; raise `OSError` if that cannot be done."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        replace(folder, os.fsencode(path.name), data, mode=_MODE)
    finally:
        os.close(folder)


def read(path: Path, memory_pages: int) -> bytes:
    """Return a snapshot's file.

    Raises:
        SnapshotRefused: it cannot be read, somebody else may have written it, or it is longer than one can be.
    """
    most = HEADER_BYTES + memory_pages * (PAGE + 64) + 4096  # what cannot be compressed grows by a little
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise SnapshotRefused(f"it cannot be read: {error.strerror}") from None
    with open(file, "rb") as stream:
        about = os.fstat(file)
        if not stat.S_ISREG(about.st_mode):
            raise SnapshotRefused("it is not a file")
        if about.st_uid not in (os.geteuid(), 0) or about.st_mode & 0o022:
            raise SnapshotRefused("others than the host's user may write it; give it that owner and mode 0600")
        if about.st_size > most:
            raise SnapshotRefused(f"it has {about.st_size} bytes; the most is {most}")
        try:
            return stream.read()
        except OSError as error:
            raise SnapshotRefused(f"it cannot be read: {error.strerror}") from None
