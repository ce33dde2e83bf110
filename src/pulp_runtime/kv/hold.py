"""One process at a time: what is kept in memory is only true as long as nobody else writes."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Final

from pulp_runtime.kv.fault import StoreBusy, StoreFailed

SUFFIX: Final = ".lock"
"""Ending of the file whose lock stands for the store. It stays when the store is closed, and means nothing then."""


class Hold:
    """The lock of a store. The system releases it when the process ends, however it ends.

    Args:
        path: of the store; its folder is created.

    Raises:
        StoreBusy: another process, or another store object of this one, has it.
        StoreFailed: the folder cannot be used.
    """

    def __init__(self, path: Path) -> None:
        import fcntl

        try:
            path.parent.mkdir(0o700, parents=True, exist_ok=True)
            self._file = os.open(f"{path}{SUFFIX}", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreFailed(f"{path.parent}: {error.strerror}") from None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._file)
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise StoreBusy(f"{path} is in use by another process") from None
            raise StoreFailed(f"{path}{SUFFIX}: {error.strerror}") from None

    def release(self) -> None:
        """Let others have the store. May be called again."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
