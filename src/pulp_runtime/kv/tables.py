"""The file: its tables, and every statement that is run on them.

    entry    inode (the creating revision), key, revision, modified_ns, expires_ns (0: never), value
    meta     one row: the last revision given out

Times are nanoseconds since 1970. The file is SQLite's, in write-ahead mode: what a commit has written survives the
process; with `power_safe` it survives a power failure too, for one wait for the disk per commit.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pulp_runtime.kv.entry import Entry, Listed, after_prefix
from pulp_runtime.kv.fault import KvError, StoreBusy, StoreClosed, StoreFailed, StoreFull

APPLICATION_ID: Final = 0x50756C70
"""`Pulp`, in SQLite's header."""
LAYOUT: Final = 1
"""Version of the tables, in SQLite's `user_version`."""
LOG_BYTES: Final = 16 * 1024 * 1024
"""To how much SQLite's log is cut back when it was longer."""

_LAYOUT_1: Final = """
BEGIN;
CREATE TABLE entry (
    inode INTEGER PRIMARY KEY,
    key BLOB NOT NULL UNIQUE,
    revision INTEGER NOT NULL,
    modified_ns INTEGER NOT NULL,
    expires_ns INTEGER NOT NULL,
    value BLOB NOT NULL
);
CREATE INDEX entry_expires ON entry (expires_ns) WHERE expires_ns > 0;
CREATE TABLE meta (revision INTEGER NOT NULL);
INSERT INTO meta VALUES (0);
PRAGMA user_version = 1;
COMMIT;
"""

_FIND: Final = "SELECT value, revision, modified_ns, expires_ns, inode FROM entry WHERE key = ?"
_KNOW: Final = "SELECT x'', revision, modified_ns, expires_ns, inode FROM entry WHERE key = ?"
_STATUS: Final = "SELECT key, length(value), revision, modified_ns, expires_ns, inode FROM entry WHERE key = ?"
_INSERT: Final = "INSERT INTO entry (inode, key, revision, modified_ns, expires_ns, value) VALUES (?, ?, ?, ?, ?, ?)"
_UPDATE: Final = "UPDATE entry SET revision = ?, modified_ns = ?, expires_ns = ?, value = ? WHERE key = ?"
_RENAME: Final = "UPDATE entry SET key = ?, revision = ? WHERE key = ?"
_EXPIRE: Final = "UPDATE entry SET expires_ns = ? WHERE key = ?"
_DELETE: Final = "DELETE FROM entry WHERE key = ?"
_LIST: Final = (
    "SELECT key, length(value), revision, modified_ns, expires_ns, inode FROM entry "
    "WHERE key >= ? AND key < ? AND (expires_ns = 0 OR expires_ns > ?) ORDER BY key LIMIT ?"
)
_DUE: Final = "SELECT key FROM entry WHERE expires_ns > 0 AND expires_ns <= ? ORDER BY expires_ns LIMIT ?"
_NEXT_DUE: Final = "SELECT min(expires_ns) FROM entry WHERE expires_ns > 0"


class Tables:
    """One connection to the file. Not for two threads at once. Raises what SQLite's module raises; see `translated`.

    Args:
        path: of the file.
        power_safe: see the module.
        snapshot: only read, as things are at the first reading.

    Raises:
        StoreFailed: the file is no store.
    """

    def __init__(self, path: Path, *, power_safe: bool = False, snapshot: bool = False) -> None:
        self._connection: Final = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            if not snapshot:
                self._prepare(power_safe=power_safe)
            self._cursor: Final = self._connection.cursor()
            if snapshot:
                self._cursor.execute("BEGIN")
        except BaseException:
            self._connection.close()
            raise

    def _prepare(self, *, power_safe: bool) -> None:
        connection = self._connection
        for pragma in (
            "trusted_schema = OFF",
            "journal_mode = WAL",
            f"synchronous = {'FULL' if power_safe else 'NORMAL'}",
            f"journal_size_limit = {LOG_BYTES}",
        ):
            connection.execute(f"PRAGMA {pragma}").fetchall()
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (layout,) = connection.execute("PRAGMA user_version").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if not tables and not layout:
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.executescript(_LAYOUT_1)
        elif (application, layout) != (APPLICATION_ID, LAYOUT):
            raise StoreFailed("the file is another program's, or of a later version of this one")

    @property
    def revision(self) -> int:
        """The last revision given out."""
        return int(self._cursor.execute("SELECT revision FROM meta").fetchone()[0])

    def find(self, key: bytes) -> Entry | None:
        """Return what is at a key, expired or not."""
        return self._entry(_FIND, key)

    def know(self, key: bytes) -> Entry | None:
        """Return the same without the value."""
        return self._entry(_KNOW, key)

    def _entry(self, sql: str, key: bytes) -> Entry | None:
        row = self._cursor.execute(sql, (key,)).fetchone()
        return None if row is None else Entry._make(row)

    def status(self, key: bytes) -> Listed | None:
        """Return the same with the size in place of the value."""
        row = self._cursor.execute(_STATUS, (key,)).fetchone()
        return None if row is None else Listed._make(row)

    def page(self, prefix: bytes, after: bytes, now_ns: int, limit: int) -> list[Listed]:
        """Return keys that begin with `prefix` and come after `after`, in byte order, without those expired."""
        least = max(prefix, after + b"\0")  # nothing lies between a key and that key with NUL behind it
        rows = self._cursor.execute(_LIST, (least, after_prefix(prefix), now_ns, limit))
        return [Listed._make(row) for row in rows]

    def due(self, now_ns: int, limit: int) -> list[bytes]:
        """Return keys that have expired, the oldest first."""
        return [row[0] for row in self._cursor.execute(_DUE, (now_ns, limit)).fetchall()]

    def next_due_ns(self) -> int:
        """Return when the next key expires, 0 for never."""
        return int(self._cursor.execute(_NEXT_DUE).fetchone()[0] or 0)

    # Changes, between `begin` and `commit` ----------------------------------------------------------------------

    def begin(self) -> None:
        """Begin a change of several keys."""
        self._cursor.execute("BEGIN IMMEDIATE")

    def commit(self, revision: int) -> None:
        """Make it last, with the last revision it gave out."""
        self._cursor.execute("UPDATE meta SET revision = ?", (revision,))
        self._cursor.execute("COMMIT")

    def rollback(self) -> None:
        """Forget it. May be called when there is nothing to forget."""
        if self._connection.in_transaction:
            self._cursor.execute("ROLLBACK")

    def put(self, key: bytes, entry: Entry) -> None:
        """Store an entry; one whose inode is its revision is new, else it takes the place of what is there."""
        value, revision, modified_ns, expires_ns, inode = entry
        if inode == revision:
            self._cursor.execute(_INSERT, (inode, key, revision, modified_ns, expires_ns, value))
        else:
            self._cursor.execute(_UPDATE, (revision, modified_ns, expires_ns, value, key))

    def delete(self, key: bytes) -> None:
        """Delete a key."""
        self._cursor.execute(_DELETE, (key,))

    def rename(self, old: bytes, new: bytes, revision: int) -> None:
        """Move an entry to another key, which is free."""
        self._cursor.execute(_RENAME, (new, revision, old))

    def expire(self, key: bytes, expires_ns: int) -> None:
        """Set when an entry disappears."""
        self._cursor.execute(_EXPIRE, (expires_ns, key))

    def close(self) -> None:
        """Close the file; a change that is not committed is forgotten."""
        self._connection.close()


@contextmanager
def translated() -> Iterator[None]:
    """Raise what SQLite raises as one of ours."""
    try:
        yield
    except sqlite3.ProgrammingError as error:
        raise StoreClosed(str(error)) from None
    except sqlite3.Error as error:
        raise fault(error) from None


def fault(error: sqlite3.Error) -> KvError:
    """Return what an error of SQLite means for a store."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_FULL:
        return StoreFull(str(error))
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StoreBusy(str(error))
    return StoreFailed(str(error))
