"""The error numbers of preview 1, and which of them a host's error becomes."""

from __future__ import annotations

import enum
import errno
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from pulp_runtime.files.descent import LeadsOutside


class WasiErrno(enum.IntEnum):
    """`errno` of `wasi_snapshot_preview1`: what every function of it answers."""

    SUCCESS = 0
    TOO_BIG = 1
    ACCES = 2
    ADDRINUSE = 3
    ADDRNOTAVAIL = 4
    AFNOSUPPORT = 5
    AGAIN = 6
    ALREADY = 7
    BADF = 8
    BADMSG = 9
    BUSY = 10
    CANCELED = 11
    CHILD = 12
    CONNABORTED = 13
    CONNREFUSED = 14
    CONNRESET = 15
    DEADLK = 16
    DESTADDRREQ = 17
    DOM = 18
    DQUOT = 19
    EXIST = 20
    FAULT = 21
    FBIG = 22
    HOSTUNREACH = 23
    IDRM = 24
    ILSEQ = 25
    INPROGRESS = 26
    INTR = 27
    INVAL = 28
    IO = 29
    ISCONN = 30
    ISDIR = 31
    LOOP = 32
    MFILE = 33
    MLINK = 34
    MSGSIZE = 35
    MULTIHOP = 36
    NAMETOOLONG = 37
    NETDOWN = 38
    NETRESET = 39
    NETUNREACH = 40
    NFILE = 41
    NOBUFS = 42
    NODEV = 43
    NOENT = 44
    NOEXEC = 45
    NOLCK = 46
    NOLINK = 47
    NOMEM = 48
    NOMSG = 49
    NOPROTOOPT = 50
    NOSPC = 51
    NOSYS = 52
    NOTCONN = 53
    NOTDIR = 54
    NOTEMPTY = 55
    NOTRECOVERABLE = 56
    NOTSOCK = 57
    NOTSUP = 58
    NOTTY = 59
    NXIO = 60
    OVERFLOW = 61
    OWNERDEAD = 62
    PERM = 63
    PIPE = 64
    PROTO = 65
    PROTONOSUPPORT = 66
    PROTOTYPE = 67
    RANGE = 68
    ROFS = 69
    SPIPE = 70
    SRCH = 71
    STALE = 72
    TIMEDOUT = 73
    TXTBSY = 74
    XDEV = 75
    NOTCAPABLE = 76


class Refused(OSError):
    """What preview 1 itself refuses, with a number of its own."""

    def __init__(self, number: WasiErrno, why: str = "") -> None:
        self.number = number
        super().__init__(None, why or number.name)


_OTHER_NAMES: Final = {"E2BIG": WasiErrno.TOO_BIG, "EOPNOTSUPP": WasiErrno.NOTSUP, "EWOULDBLOCK": WasiErrno.AGAIN}

BY_HOST: Final[Mapping[int, WasiErrno]] = MappingProxyType(
    {
        getattr(errno, name): number
        for name, number in (
            *((f"E{number.name}", number) for number in WasiErrno if number is not WasiErrno.SUCCESS),
            *_OTHER_NAMES.items(),
        )
        if hasattr(errno, name)
    }
)
"""Every number of the host that has one of the same name in preview 1; all others become `IO`, and a log line."""


def wasi_errno(error: OSError) -> WasiErrno | None:
    """Return the number a program is answered with; None if the host's has no counterpart."""
    if isinstance(error, Refused):
        return error.number
    if isinstance(error, LeadsOutside):
        return WasiErrno.NOTCAPABLE
    if isinstance(error, BlockingIOError):
        return WasiErrno.AGAIN
    if error.errno is None:
        return WasiErrno.TIMEDOUT if isinstance(error, TimeoutError) else None
    return BY_HOST.get(error.errno)
