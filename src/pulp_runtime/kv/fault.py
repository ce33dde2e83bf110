"""What a store raises.

KvError
├── KeyInvalid       a key that no store takes
│   └── KeyTooLong   ... because of its length
├── ValueTooLarge    a value past 16 MiB, or more in one transaction than it may hold
├── KeyMissing       there is nothing at the key
├── Conflict         somebody else was faster, or the condition does not hold
├── KeyReserved      somebody is about to create the key
├── KeyInTheWay      the folder of the key is a key itself       in a store of folders only
├── FolderInTheWay   the key is a folder                         in a store of folders only
├── NotANumber       a value that cannot be counted up
├── TooMany          of locks, watches or open transactions
├── StoreFull        the disk has no room
├── StoreBusy        another process has the store open
├── StoreClosed      it is closed
└── StoreFailed      the file cannot be read or written
"""

from __future__ import annotations

from pulp_runtime.errors import PulpError


class KvError(PulpError):
    """The root of what a store raises."""


class KeyInvalid(KvError):
    """A key that is empty, too long, not UTF-8, or has NUL in it."""


class KeyTooLong(KeyInvalid):
    """A key of more than 1,024 bytes."""


class ValueTooLarge(KvError):
    """More bytes than one value, or one transaction, may have."""


class KeyMissing(KvError):
    """There is nothing at the key."""


class Conflict(KvError):
    """A condition that does not hold, or a transaction that lost.

    Attributes:
        revision: of what is at the key now, 0 for nothing, -1 when it is not about one key.
    """

    def __init__(self, message: str, revision: int = -1) -> None:
        self.revision = revision
        super().__init__(message)


class KeyReserved(KvError):
    """A key that somebody else has reserved, and not put yet."""


class KeyInTheWay(KvError):
    """A key below one that has a value: in a store of folders a key is no folder."""


class FolderInTheWay(KvError):
    """A key that is a folder, because there are keys below it: it can have no value, and nothing takes its place."""


class NotANumber(KvError):
    """A value that is no decimal integer of 64 bits, or would not be one any more."""


class TooMany(KvError):
    """More locks, watches or open transactions than a store has."""


class StoreFull(KvError):
    """The disk has no room."""


class StoreBusy(KvError):
    """Another process has the store open."""


class StoreClosed(KvError):
    """The store is closed."""


class StoreFailed(KvError):
    """The file cannot be read or written; the text is SQLite's."""
