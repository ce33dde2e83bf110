"""One bucket as one run of a program sees it."""

from __future__ import annotations

import errno
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from pulp_runtime.blobs.bucket import Bucket, Caller, Damaged, Info
from pulp_runtime.ext.run import Run
from pulp_runtime.ext.tree import Kind, Parts, Stat
from pulp_runtime.files.quota import DiskQuota

FOLDERS: Final = 1024
"""Most empty folders that are remembered for a run."""


class View:
    """A bucket, who uses it, and what only this run knows of it.

    Attributes:
        bucket: the bucket.
        name: of the bucket.
        caller: the run, as backends see it.
        writes: whether it may change anything.
        folders: empty folders that the run has made; gone with it.
    """

    __slots__ = ("_run", "bucket", "caller", "device", "folders", "name", "writes")

    def __init__(self, run: Run, name: str, bucket: Bucket, quota: DiskQuota, *, writes: bool) -> None:
        self._run: Final = run
        self.name: Final = name
        self.bucket: Final = bucket
        self.caller: Final = Caller(run.seconds_left, quota)
        self.writes: Final = writes
        self.folders: Final[set[str]] = set()
        self.device: Final = zlib.crc32(name.encode())

    @contextmanager
    def asking(self, *, slow: bool = False) -> Iterator[Caller]:
        """Give out the caller for one thing that is asked of the bucket; others run meanwhile if that may take long.

        What the operator has to know is logged.
        """
        try:
            if slow or self.bucket.remote:
                with self._run.blocking():
                    yield self.caller
            else:
                yield self.caller
        except OSError as error:
            self.told(error)
            raise

    def told(self, error: OSError) -> None:
        """Log an error if it is one that the operator has to know."""
        if isinstance(error, Damaged):
            self._run.cell.log.error("blob is damaged", bucket=self.name, reason=error.strerror)
        elif error.errno in _TOLD:
            self._run.cell.log.warning("blob refused", bucket=self.name, reason=error.strerror or repr(error))

    def may_change(self) -> None:
        """Return if it may be changed; raise `EROFS` otherwise."""
        if not self.writes:
            raise OSError(errno.EROFS, f"the bucket {self.name} is granted read-only")

    def find(self, name: str) -> Info | None:
        """Return what is known of an object; None for names that none can have."""
        try:
            with self.asking() as caller:
                return self.bucket.find(caller, name)
        except OSError as error:
            if error.errno == errno.EINVAL:
                return None
            raise

    def is_folder(self, name: str) -> bool:
        """Tell whether there is a folder of this name."""
        if not name or name in self.folders or any(made.startswith(name + "/") for made in self.folders):
            return True
        try:
            with self.asking() as caller:
                return self.bucket.has_folder(caller, name)
        except OSError as error:
            if error.errno == errno.EINVAL:
                return False
            raise

    def stat(self, info: Info) -> Stat:
        """Return an object's `Stat`."""
        at = info.modified_ns
        return Stat(
            Kind.FILE,
            size=info.size,
            inode=info.inode,
            device=self.device,
            accessed_ns=at,
            modified_ns=at,
            changed_ns=at,
        )

    def folder_stat(self, name: str) -> Stat:
        """Return a folder's `Stat`."""
        return Stat(Kind.FOLDER, inode=1 << 32 | zlib.crc32(name.encode()), device=self.device)


_TOLD: Final = (errno.EDQUOT, errno.ENOSPC, errno.EIO, errno.EMFILE)


def joined(parts: Parts) -> str:
    """Return the name that a path means."""
    return "/".join(parts)


def missing() -> OSError:
    """Return that something is not there."""
    return FileNotFoundError(errno.ENOENT, "no such object")
