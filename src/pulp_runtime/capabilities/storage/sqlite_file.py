"""A cell's database as a file: its name, what a manifest says of it, and what may lie in wait beside it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Final

import msgspec

FILE: Final = "data.db"
COMPANIONS: Final = ("-wal", "-shm", "-journal")
"""Endings of the files that SQLite keeps beside a database."""

#: The last bytes of a rollback journal that names another file, which SQLite would delete (its file format, §2.7).
_JOURNAL_MAGIC: Final = bytes.fromhex("d9d505f920a163d7")
_MIB: Final = 1024 * 1024


class SqliteSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a cell's manifest may set.

    Attributes:
        value_bytes: longest text or blob, stored or on the way; more fails with `string or blob too big`.
        result_bytes: longest result of one call; more is answered 19.
    """

    value_bytes: Annotated[int, msgspec.Meta(ge=65_536, le=1_000_000_000)] = 16 * _MIB
    result_bytes: Annotated[int, msgspec.Meta(ge=65_536, le=1_000_000_000)] = 64 * _MIB


def refuse_planted(path: Path) -> None:
    """Refuse files beside the database, or in its place, that would lead SQLite out of the cell's folder.

    A cell may write files there, with `storage.fs` or another host's version of it.

    Raises:
        OSError: the text says which file.
    """
    for suffix in ("", *COMPANIONS):
        file = f"{path}{suffix}"
        if os.path.islink(file) or (os.path.lexists(file) and not os.path.isfile(file)):
            raise OSError(f"{file} is no regular file")
    try:
        with open(f"{path}-journal", "rb") as journal:
            journal.seek(max(0, journal.seek(0, os.SEEK_END) - len(_JOURNAL_MAGIC)))
            names_another = journal.read() == _JOURNAL_MAGIC
    except FileNotFoundError:
        return
    if names_another:
        raise OSError(f"{path}-journal names a file that SQLite would delete")
