"""Replace a file whole: whoever reads it finds the old bytes or the new ones, also after a crash.

    write a new file beside it ──▶ fsync ──▶ rename over the old one ──▶ fsync the folder ──▶ acknowledge

What dies on the way leaves a file whose name begins with `PREFIX`; `unfinished` tells it from others.
"""

from __future__ import annotations

import os
import secrets
from typing import Final

try:
    from fcntl import F_FULLFSYNC as _FULL_SYNC  # type: ignore[attr-defined,unused-ignore]
except ImportError:
    _FULL_SYNC = None

PREFIX: Final = b".pulp-"
"""Names of the host's own in any folder of a cell."""
UNFINISHED_SECONDS: Final = 900.0
"""Nobody writes one file for as long as this; what is left of one that began earlier is garbage."""

_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW


def replace(
    folder: int, name: bytes, data: bytes, *, mode: int, like: os.stat_result | None = None, durable: bool = True
) -> None:
    """Make `name` in a folder a file of these bytes, in one step.

    Args:
        folder: descriptor of the folder.
        name: one component; if it is a link, the link itself is replaced.
        data: all of it.
        mode: permission bits of a new file, as far as the umask lets them be.
        like: what is known of the file that is replaced: permissions and, where the process may, owners are kept.
        durable: return only when the disk has it, so that it outlives a power failure; without, it outlives the
            process.

    Raises:
        OSError: the old file is as it was; or, when the last step fails, perhaps the new one is there.
    """
    temporary = PREFIX + secrets.token_hex(8).encode()
    file = os.open(temporary, _NEW, mode, dir_fd=folder)
    try:
        try:
            _fill(file, data)
            if like is not None:
                _liken(file, like)
            if durable:
                sync(file)
        finally:
            os.close(file)
        os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        try:
            os.unlink(temporary, dir_fd=folder)
        except OSError:
            pass  # what went wrong first is what matters; a scan finds the rest
        raise
    if durable:
        sync_folder(folder)


def _fill(file: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(file, rest) :]


def _liken(file: int, like: os.stat_result) -> None:
    mine = os.fstat(file)
    if (mine.st_uid, mine.st_gid) != (like.st_uid, like.st_gid):
        try:
            os.fchown(file, like.st_uid, like.st_gid)
        except PermissionError:
            pass  # another user's file that we may write: it becomes ours, as with any editor
    os.fchmod(file, like.st_mode & 0o7777)


def sync(file: int) -> None:
    """Wait until the disk has what an open file holds."""
    if _FULL_SYNC is not None:
        from fcntl import fcntl

        fcntl(file, _FULL_SYNC)  # where fsync stops at the drive's own cache
    else:
        os.fsync(file)


def sync_folder(folder: int) -> None:
    """Wait until the disk has the names in a folder; its descriptor may be one that is good for `dir_fd` only."""
    file = os.open(b".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=folder)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def unfinished(name: bytes, status: os.stat_result, now: float) -> bool:
    """Tell whether a file is what a write left that never came to its end; `now` is in seconds since 1970."""
    return name.startswith(PREFIX) and now - status.st_mtime > UNFINISHED_SECONDS
