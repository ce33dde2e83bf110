"""Records of `storage.fs` (spec/capabilities §7.1); paths and contents cross as they are, without MessagePack."""

from __future__ import annotations

import stat
from typing import Annotated, Final

import msgspec

from pulp_runtime.abi.codec import encode_int64, encode_u32

U32 = Annotated[int, msgspec.Meta(ge=0, le=0xFFFF_FFFF)]

_HIGH_BITS: Final = {
    stat.S_IFDIR: 1 << 31,
    stat.S_IFLNK: 1 << 27,
    stat.S_IFBLK: 1 << 26,
    stat.S_IFIFO: 1 << 25,
    stat.S_IFSOCK: 1 << 24,
    stat.S_IFCHR: 1 << 26 | 1 << 21,
    stat.S_IFREG: 0,
}
_IRREGULAR: Final = 1 << 19
_SPECIAL_BITS: Final = ((stat.S_ISUID, 1 << 23), (stat.S_ISGID, 1 << 22), (stat.S_ISVTX, 1 << 20))


class FSWrite(msgspec.Struct, kw_only=True, frozen=True):
    """How a file is written.

    Attributes:
        mode: permission bits of a file that is created; 0 for the default.
    """

    mode: U32 = 0


class FSPath(msgspec.Struct, kw_only=True, frozen=True):
    """A path, asked for or answered.

    Attributes:
        path: relative, its components joined by slashes.
    """

    path: str = ""


class FSRename(msgspec.Struct, kw_only=True, frozen=True):
    """What is to be called otherwise.

    Attributes:
        old: its path.
        new: the path it gets.
    """

    old: str = ""
    new: str = ""


class FSMode(msgspec.Struct, kw_only=True, frozen=True):
    """A path and permission bits.

    Attributes:
        path: relative.
        mode: the low nine bits count.
    """

    path: str = ""
    mode: U32 = 0


class FSTemporary(msgspec.Struct, kw_only=True, frozen=True):
    """Where a temporary file or folder is wanted.

    Attributes:
        dir: the folder, "" for the usual one.
        pattern: its name; a random number takes the place of the last `*`.
    """

    dir: str = ""
    pattern: str = ""


class FSEntry(msgspec.Struct, frozen=True):
    """One entry of a folder.

    Attributes:
        name: its name.
        is_dir: whether it is a folder itself; a link to one is not.
    """

    name: str
    is_dir: bool


class FSStat(msgspec.Struct, frozen=True):
    """What is known of a file or a folder; numbers have the width that guests expect.

    Attributes:
        name: the last component of its path.
        size: i64, bytes.
        mod_time_ns: i64, nanoseconds since 1970.
        mode: u32, see `file_mode`.
        is_dir: whether it is a folder.
    """

    name: str
    size: msgspec.Raw
    mod_time_ns: msgspec.Raw
    mode: msgspec.Raw
    is_dir: bool


def fs_stat(name: str, size: int, mod_time_ns: int, st_mode: int) -> FSStat:
    """Return the record of what `stat` answered."""
    return FSStat(
        name,
        msgspec.Raw(encode_int64(size)),
        msgspec.Raw(encode_int64(mod_time_ns)),
        msgspec.Raw(encode_u32(file_mode(st_mode))),
        stat.S_ISDIR(st_mode),
    )


def file_mode(st_mode: int) -> int:
    """Return permissions and kind the way Go's `FileMode` has them, which is not the system's `st_mode`.

    The nine permission bits are the same; a folder has bit 31, a link 27, a device 26 (and 21 by characters), a named
    pipe 25, a socket 24, set-user-id 23, set-group-id 22, sticky 20, and whatever else there is 19.
    """
    mode = st_mode & 0o777 | _HIGH_BITS.get(stat.S_IFMT(st_mode), _IRREGULAR)
    for bit, high in _SPECIAL_BITS:
        if st_mode & bit:
            mode |= high
    return mode
