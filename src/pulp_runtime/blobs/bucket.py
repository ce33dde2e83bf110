"""What a bucket of any backend can do, and the bounds that all of them keep.

Every method may raise `OSError`; `errno` says what is wrong:

    EINVAL        a name, a content type or a field that no bucket takes
    ENAMETOOLONG  a name past 1,024 bytes
    ENOENT        no such object
    EEXIST        there is one, or somebody is about to put it
    EISDIR        there are objects below that name
    ENOTDIR       a name on the way is an object
    EFBIG         more than an object, or what is said about it, may have
    EDQUOT        the bucket or the disk quota is full
    ENOSPC        the disk is full
    ESTALE        somebody else was faster
    EMFILE        too many objects are being written
    ETIMEDOUT     it would take longer than the caller has
    ENOTSUP       this backend cannot do that
    EIO           the backend failed, or what it keeps is damaged (`Damaged`)
"""

from __future__ import annotations

import errno
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple, TypeAlias

from pulp_runtime.files.quota import DiskQuota

MIB: Final = 1024 * 1024
NAME_BYTES: Final = 1024
"""Longest name, in bytes of UTF-8."""
OBJECT_BYTES: Final = 64 * 1024 * MIB
"""Longest object."""
TYPE: Final = "application/octet-stream"
"""Content type of an object of which nobody has said one."""
TYPE_BYTES: Final = 255
FIELDS_BYTES: Final = 2048
"""Most that fields of an object's own may have together, names and values."""

_TYPE: Final = re.compile(r"[A-Za-z0-9!#$&^_.+-]{1,127}/[A-Za-z0-9!#$&^_.+-]{1,127}( *;[ -~]*)?")
_FIELD: Final = re.compile(r"x-[a-z0-9][a-z0-9-]{0,61}")
_VALUE: Final = re.compile(r"[ -~]*")

Version: TypeAlias = tuple[int, int] | str
"""Tells what is at a name from whatever was or will be there."""


class Damaged(OSError):
    """Bytes that are not those that were put; `errno` is `EIO`."""

    def __init__(self, why: str) -> None:
        super().__init__(errno.EIO, why)


class Info(NamedTuple):
    """An object without its bytes.

    Attributes:
        name: of the object.
        size: bytes.
        modified_ns: when it was put, nanoseconds since 1970.
        inode: stays the same while the name does.
        version: of its bytes.
        sha256: of all of it; b"" where a backend does not know.
        content_type: such as `image/png`.
        fields: what programs have said about it, each name begins with `x-`.
    """

    name: str
    size: int
    modified_ns: int
    inode: int
    version: Version
    sha256: bytes = b""
    content_type: str = TYPE
    fields: Mapping[str, str] = MappingProxyType({})


class Caller(NamedTuple):
    """For whom something is done.

    Attributes:
        seconds_left: how long it may take from now on.
        quota: what counts the bytes it adds to this machine's disk; None for no bound.
    """

    seconds_left: Callable[[], float] = lambda: math.inf
    quota: DiskQuota | None = None

    def hurry(self) -> None:
        """Return if there is time left.

        Raises:
            OSError: `ETIMEDOUT`.
        """
        if self.seconds_left() <= 0:
            raise OSError(errno.ETIMEDOUT, "the deadline has passed")


class Reader(ABC):
    """An object as it was when it was opened. One thread at a time.

    Attributes:
        info: of the object.
    """

    info: Info

    @abstractmethod
    def read_at(self, caller: Caller, offset: int, into: memoryview) -> int:
        """Fill `into` with verified bytes; return how many there were, less than asked for only at the end.

        Raises:
            Damaged: nothing of a damaged piece is given out.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of it. May be called again."""


class Writer(ABC):
    """An object that is being put; nobody sees it before `commit`. One thread at a time.

    Attributes:
        size: bytes so far.
    """

    size: int

    @abstractmethod
    def write_at(self, caller: Caller, offset: int, data: memoryview) -> int:
        """Write; return how many bytes were taken."""

    @abstractmethod
    def read_at(self, caller: Caller, offset: int, into: memoryview) -> int:
        """Read what has been written."""

    @abstractmethod
    def truncate(self, caller: Caller, size: int) -> None:
        """Cut it, or fill it up with zeros."""

    @abstractmethod
    def commit(self, caller: Caller) -> Info:
        """Put it, in one step; it is on disk when this returns. The writer is closed, also when it fails."""

    @abstractmethod
    def abandon(self) -> None:
        """Forget it. May be called again, and after `commit`."""


class Bucket(ABC):
    """Objects by name. Safe from any thread.

    A name is a path: `/` in it makes folders, which exist as long as something is below them.

    Attributes:
        remote: whether every method may wait for a network.
    """

    remote: bool = False

    @abstractmethod
    def find(self, caller: Caller, name: str) -> Info | None:
        """Return what is known of an object, None if there is none."""

    @abstractmethod
    def has_folder(self, caller: Caller, folder: str) -> bool:
        """Tell whether there is an object below a folder, `a/b` without a slash at its end."""

    @abstractmethod
    def names(self, caller: Caller, folder: str, after: str, limit: int) -> list[tuple[str, bool]]:
        """Return a page of the names in a folder, "" for all, in the order of their bytes, each once.

        Args:
            caller: see `Caller`.
            folder: `a/b` without a slash at its end.
            after: the last name of the page before; of a folder, with `/` at its end.
            limit: most names; fewer mean that there are no more.

        Returns:
            Each name and whether it is a folder. What is both, an object of another program's making, is there twice.
        """

    @abstractmethod
    def read(self, caller: Caller, name: str) -> Reader | None:
        """Open an object, None if there is none."""

    @abstractmethod
    def write(self, caller: Caller, name: str, *, exclusive: bool = False, base: Version | None = None) -> Writer:
        """Begin an object.

        Args:
            caller: see `Caller`.
            name: checked with `check_name`.
            exclusive: there must be none; the name is reserved until the writer is closed.
            base: putting it is conditional on this being there still.
        """

    @abstractmethod
    def remove(self, caller: Caller, name: str) -> None:
        """Remove an object."""

    @abstractmethod
    def rename(self, caller: Caller, old: str, new: str) -> None:
        """Give an object another name, in place of what is there."""

    @abstractmethod
    def describe(self, caller: Caller, name: str, content_type: str | None, fields: Mapping[str, str | None]) -> None:
        """Set the content type (None leaves it), and fields (None removes one)."""

    @abstractmethod
    def close(self) -> None:
        """Let go of what the bucket holds. May be called again."""


def check_name(name: str) -> bytes:
    """Return the bytes of a name that a bucket takes.

    Raises:
        OSError: `EINVAL` it is empty, no text, has NUL, or a component that is empty or begins with a dot;
            `ENAMETOOLONG` past 1,024 bytes.
    """
    try:
        encoded = name.encode()
    except UnicodeEncodeError:
        raise OSError(errno.EINVAL, "a name is UTF-8") from None
    if len(encoded) > NAME_BYTES:
        raise OSError(errno.ENAMETOOLONG, f"a name has at most {NAME_BYTES} bytes")
    if "\0" in name or any(not part or part.startswith(".") for part in name.split("/")):
        raise OSError(errno.EINVAL, "no component of a name is empty, begins with a dot or has NUL in it")
    return encoded


def check_type(content_type: str) -> None:
    """Return if it can be a content type; raise `EINVAL` otherwise."""
    if len(content_type) > TYPE_BYTES or not _TYPE.fullmatch(content_type):
        raise OSError(errno.EINVAL, "a content type is written like image/png")


def check_field(name: str, value: str) -> None:
    """Return if it can be a field: `x-` and lower-case letters, digits or `-`; a value of printable ASCII."""
    if not _FIELD.fullmatch(name):
        raise OSError(errno.EINVAL, "a field is named x- and lower-case letters, digits or -, 64 characters at most")
    if not _VALUE.fullmatch(value):
        raise OSError(errno.EINVAL, "the value of a field is printable ASCII")


def changed_fields(fields: Mapping[str, str], changes: Mapping[str, str | None]) -> dict[str, str]:
    """Return fields after some were set or removed.

    Raises:
        OSError: `EINVAL` see `check_field`; `EFBIG` past 2,048 bytes together.
    """
    found = dict(fields)
    for name, value in changes.items():
        if value is None:
            found.pop(name, None)
        else:
            check_field(name, value)
            found[name] = value
    if sum(len(name) + len(value) for name, value in found.items()) > FIELDS_BYTES:
        raise OSError(errno.EFBIG, f"the fields of an object have at most {FIELDS_BYTES} bytes together")
    return found
