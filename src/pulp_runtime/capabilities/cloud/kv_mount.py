"""One scope as one run of a program sees it: what it holds there, and how much."""

from __future__ import annotations

import errno
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Final

from pulp_runtime.capabilities.cloud.kv_backend import Keyspace
from pulp_runtime.ext import Run
from pulp_runtime.files.quota import DiskQuota, QuotaExceeded
from pulp_runtime.kv.entry import KEY_BYTES
from pulp_runtime.kv.fault import (
    Conflict,
    FolderInTheWay,
    KeyInTheWay,
    KeyInvalid,
    KeyMissing,
    KeyReserved,
    KeyTooLong,
    KvError,
    StoreFull,
    TooMany,
    ValueTooLarge,
)
from pulp_runtime.log import Log

if TYPE_CHECKING:
    from pulp_runtime.capabilities.cloud.kv_area import Area

OPEN_BYTES: Final = 64 * 1024 * 1024
"""Most bytes of values that one run has open in one scope."""
LONG_BYTES: Final = 64 * 1024
"""A change of so many bytes lets others have the worker meanwhile."""
OVERHEAD_BYTES: Final = 8192
"""What a change may add to the file beside key and value."""

_CODES: Final[dict[type[KvError], int]] = {
    KeyInvalid: errno.EINVAL,
    KeyTooLong: errno.ENAMETOOLONG,
    KeyMissing: errno.ENOENT,
    KeyReserved: errno.EBUSY,
    KeyInTheWay: errno.ENOTDIR,
    FolderInTheWay: errno.EISDIR,
    ValueTooLarge: errno.EFBIG,
    Conflict: errno.ESTALE,
    TooMany: errno.EBUSY,
    StoreFull: errno.ENOSPC,
}


class Answering:
    """A context manager that raises what a keyspace raises as `OSError`; what the operator can mend is told to him."""

    __slots__ = ("_log", "_scope")

    def __init__(self, log: Log, scope: str) -> None:
        self._log: Final = log
        self._scope: Final = scope

    def __enter__(self) -> None: ...

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _stack: TracebackType | None
    ) -> None:
        if isinstance(error, KvError):
            code = _CODES.get(type(error), errno.EIO)
            if code in (errno.EIO, errno.ENOSPC):
                self._log.warning("key-value store failed", scope=self._scope, reason=str(error))
            raise OSError(code, str(error)) from None


@dataclass(frozen=True, slots=True)
class Granted:
    """One scope of one cell.

    Attributes:
        scope: `local`, `region` or `global`.
        keys: of its namespace.
        read_only: whether nothing may be changed.
        waits: see `Opened`.
        quota: of what it writes; None for no bound.
        log: the cell's.
        answering: see `Answering`.
        device: tells the scopes apart in `stat`.
    """

    scope: str
    keys: Keyspace
    read_only: bool
    waits: bool
    quota: DiskQuota | None
    log: Log
    answering: Answering
    device: int


class Held:
    """A revision that a program holds open.

    Attributes:
        revision: which.
    """

    __slots__ = ("revision",)

    def __init__(self, revision: int) -> None:
        self.revision = revision


class Mount:
    """What one run has in one scope. Making one opens nothing.

    Attributes:
        granted: the scope.
        keys: its keys.
        answering: see `Answering`.
        held: revisions held open, by key.
        areas: what stands under the mount, by first name: "" for the keys.
    """

    __slots__ = ("_open_bytes", "answering", "areas", "granted", "held", "keys", "run")

    def __init__(self, run: Run, granted: Granted) -> None:
        self.run: Final = run
        self.granted: Final = granted
        self.keys: Final = granted.keys
        self.answering: Final = granted.answering
        self.held: Final[dict[bytes, list[Held]]] = {}
        self.areas: Final[dict[str, Area]] = {}
        self._open_bytes = 0

    def take(self, size: int) -> None:
        """Let the run have so many bytes more of values open; `EDQUOT` past 64 MiB. Give them back with -`size`."""
        if size > 0 and self._open_bytes + size > OPEN_BYTES:
            self._refused("open values", f"{OPEN_BYTES} bytes of values are open already")
            raise OSError(errno.EDQUOT, "too many bytes of values are open")
        self._open_bytes += size

    def room(self, size: int, *, charge: bool = True) -> None:
        """Return if the disk has room for a change of `size` bytes; `EDQUOT` if not.

        It takes twice as much: in the log of the store, and in its file. What a change replaces is not taken off; the
        quota finds that out when it looks at the folder again, a second later.
        """
        quota = self.granted.quota
        if quota is None:
            return
        try:
            quota.check(2 * size + OVERHEAD_BYTES)
        except QuotaExceeded as error:
            self._refused("disk quota", str(error))
            raise
        if charge:
            quota.charge(2 * size)

    def _refused(self, what: str, reason: str) -> None:
        granted = self.granted
        granted.log.warning("key-value change refused", scope=granted.scope, bound=what, reason=reason)

    def waiting(self, size: int) -> AbstractContextManager[None]:
        """Return a context for a change of `size` bytes."""
        if self.granted.waits or size >= LONG_BYTES:
            return self.run.blocking()
        return _AT_ONCE


_AT_ONCE: Final = nullcontext()


def key_of(parts: tuple[str, ...]) -> bytes:
    """Return the key that a path is; `EINVAL` or `ENAMETOOLONG` if it is none."""
    for name in parts:
        if name.startswith(".") or not name:
            raise OSError(errno.EINVAL, "names that begin with a dot are reserved")
    try:
        key = "/".join(parts).encode()
    except UnicodeEncodeError:
        raise OSError(errno.EINVAL, "a key is UTF-8") from None
    if len(key) > KEY_BYTES:
        raise OSError(errno.ENAMETOOLONG, f"a key has at most {KEY_BYTES} bytes")
    if b"\0" in key:
        raise OSError(errno.EINVAL, "a key has no NUL in it")
    return key
