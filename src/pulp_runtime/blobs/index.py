"""The index: which name means which content, and the digests of it.

    object    id (its inode), bucket, name, content, revision, modified_ns, type, fields (JSON)
    content   id, sha256, size, chunks (SHA-256 of each 1 MiB, one after the other)
    bucket    name, bytes: all objects of it together

SQLite in write-ahead mode; each change waits for the disk, as the bytes it is about did before.
"""

from __future__ import annotations

import errno
import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from pulp_runtime.blobs.bucket import TYPE, Info, Version, changed_fields
from pulp_runtime.kv.entry import after_prefix

APPLICATION_ID: Final = 0x50756C62
LAYOUT: Final = 1
LOG_BYTES: Final = 16 * 1024 * 1024

_LAYOUT_1: Final = """
BEGIN;
CREATE TABLE content (id INTEGER PRIMARY KEY, sha256 BLOB NOT NULL UNIQUE, size INTEGER NOT NULL, chunks BLOB NOT NULL);
CREATE TABLE object (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    bucket TEXT NOT NULL,
    name BLOB NOT NULL,
    content INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    modified_ns INTEGER NOT NULL,
    type TEXT NOT NULL,
    fields TEXT NOT NULL,
    UNIQUE (bucket, name)
);
CREATE INDEX object_content ON object (content);
CREATE TABLE bucket (name TEXT PRIMARY KEY, bytes INTEGER NOT NULL);
PRAGMA user_version = 1;
COMMIT;
"""

_COLUMNS: Final = "object.id, revision, modified_ns, type, fields, size, sha256"
_FIND: Final = f"SELECT {_COLUMNS} FROM object JOIN content ON content = content.id WHERE bucket = ? AND name = ?"  # noqa: S608
_NEXT: Final = "SELECT name FROM object WHERE bucket = ? AND name >= ? AND name < ? ORDER BY name LIMIT ?"
_ADD_BYTES: Final = "INSERT INTO bucket VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET bytes = bytes + excluded.bytes"
_STRIDE: Final = 64


class Content(NamedTuple):
    """The bytes of an object, as the index knows them."""

    sha256: bytes
    size: int
    chunks: bytes


class Index:
    """One connection to the index. One thread at a time.

    Raises:
        OSError: `EIO` the file is another program's, or cannot be read.
    """

    def __init__(self, path: Path) -> None:
        with translated():
            self._connection: Final = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            try:
                self._prepare()
            except BaseException:
                self._connection.close()
                raise

    def _prepare(self) -> None:
        execute = self._connection.execute
        for pragma in (
            "trusted_schema = OFF",
            "journal_mode = WAL",
            "synchronous = FULL",
            f"journal_size_limit = {LOG_BYTES}",
        ):
            execute(f"PRAGMA {pragma}").fetchall()
        found = execute("PRAGMA application_id").fetchone()[0], execute("PRAGMA user_version").fetchone()[0]
        if found == (0, 0) and not execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            execute(f"PRAGMA application_id = {APPLICATION_ID}")
            self._connection.executescript(_LAYOUT_1)
        elif found != (APPLICATION_ID, LAYOUT):
            raise OSError(errno.EIO, "the index is another program's, or of a later version of this one")

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Do what is inside together, or nothing of it."""
        with translated():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    # Looking ----------------------------------------------------------------------------------------------------

    def find(self, bucket: str, name: bytes) -> Info | None:
        """Return what is known of an object."""
        with translated():
            row = self._connection.execute(_FIND, (bucket, name)).fetchone()
        if row is None:
            return None
        inode, revision, modified_ns, kind, fields, size, sha256 = row
        return Info(
            name.decode(),
            size,
            modified_ns,
            inode,
            (inode, revision),
            sha256,
            kind,
            json.loads(fields) if fields else {},
        )

    def content(self, sha256: bytes) -> Content | None:
        """Return what is known of content."""
        with translated():
            row = self._connection.execute("SELECT sha256, size, chunks FROM content WHERE sha256 = ?", (sha256,))
            return next((Content(*found) for found in row), None)

    def contents(self) -> set[bytes]:
        """Return the hashes of all content."""
        with translated():
            return {sha256 for (sha256,) in self._connection.execute("SELECT sha256 FROM content")}

    def bytes_of(self, bucket: str) -> int:
        """Return how many bytes the objects of a bucket have together."""
        with translated():
            row = self._connection.execute("SELECT bytes FROM bucket WHERE name = ?", (bucket,)).fetchone()
        return int(row[0]) if row else 0

    def has_room(self) -> bool:
        """Tell whether there is room for a name without the file growing: what removed ones have left."""
        return bool(self._connection.execute("PRAGMA freelist_count").fetchone()[0])

    def shrink(self) -> None:
        """Give back what the log takes on disk; for when there is no room."""
        with translated():
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def has_folder(self, bucket: str, folder: bytes) -> bool:
        """Tell whether there is an object below a folder, `a/b`."""
        return bool(self._page(bucket, folder + b"/", b"", 1))

    def check_place(self, bucket: str, name: bytes) -> None:
        """Return if nothing on the way to a name is an object, and nothing is below it."""
        parts = name.split(b"/")
        for depth in range(1, len(parts)):
            way = b"/".join(parts[:depth])
            if self._connection.execute("SELECT 1 FROM object WHERE bucket = ? AND name = ?", (bucket, way)).fetchone():
                raise OSError(errno.ENOTDIR, f"{way.decode()} is an object")
        if self.has_folder(bucket, name):
            raise OSError(errno.EISDIR, "there are objects below that name")

    def names(self, bucket: str, folder: bytes, after: bytes, limit: int) -> list[tuple[str, bool]]:
        """Return a page of the names in a folder; see `Bucket.names`."""
        prefix = folder + b"/" if folder else b""
        found: list[tuple[str, bool]] = []
        last = prefix + after + (b"\xff" if after.endswith(b"/") else b"")
        while len(found) < limit and (part := self._page(bucket, prefix, last, _STRIDE)):
            for name in part[: limit - len(found)]:
                first, below, _rest = name[len(prefix) :].partition(b"/")
                found.append((first.decode(), bool(below)))
                last = name
                if below:
                    last = prefix + first + b"/\xff"  # behind all in it: no name has this byte
                    break
        return found

    def _page(self, bucket: str, prefix: bytes, after: bytes, limit: int) -> list[bytes]:
        least = max(prefix, after + b"\0")  # nothing lies between a name and that name with NUL behind it
        with translated():
            rows = self._connection.execute(_NEXT, (bucket, least, after_prefix(prefix), limit))
            return [name for (name,) in rows]

    # Changing, inside `changing` --------------------------------------------------------------------------------

    def put(
        self, bucket: str, name: bytes, content: Content, *, base: Version | None, fresh: bool, most: int, now_ns: int
    ) -> tuple[Info, bytes | None]:
        """Store an object; return what is known of it, and the hash of content that nobody needs any more.

        Args:
            bucket: where.
            name: under which name; content type and fields of what is there stay.
            content: the bytes.
            base: what must be there, None for no matter what.
            fresh: nothing must be there.
            most: bytes the bucket may have, 0 for any.
            now_ns: the time.

        Raises:
            OSError: `ESTALE`, `EISDIR`, `ENOTDIR`, `EDQUOT`.
        """
        there = self.find(bucket, name)
        if (base is not None and (there is None or there.version != base)) or (fresh and there is not None):
            raise OSError(errno.ESTALE, "somebody else has put or removed the object meanwhile")
        if there is None:
            self.check_place(bucket, name)
        more = content.size - (there.size if there else 0)
        if most and more > 0 and self.bytes_of(bucket) + more > most:
            raise OSError(
                errno.EDQUOT, f"the bucket {bucket} may have {most} bytes; remove something, or raise max_bytes"
            )
        execute = self._connection.execute
        execute("INSERT INTO content (sha256, size, chunks) VALUES (?, ?, ?) ON CONFLICT DO NOTHING", content)
        row = execute("SELECT id FROM content WHERE sha256 = ?", (content.sha256,)).fetchone()
        execute(
            "INSERT INTO object (bucket, name, content, revision, modified_ns, type, fields) "
            "VALUES (?, ?, ?, 1, ?, ?, '') ON CONFLICT (bucket, name) DO UPDATE SET "
            "content = excluded.content, revision = revision + 1, modified_ns = excluded.modified_ns",
            (bucket, name, row[0], now_ns, TYPE),
        )
        execute(_ADD_BYTES, (bucket, more))
        info = self.find(bucket, name)
        assert info is not None  # noqa: S101  # it has just been put
        return info, self._unneeded(there.sha256) if there else None

    def remove(self, bucket: str, name: bytes) -> bytes | None:
        """Remove an object; return the hash of content that nobody needs any more."""
        there = self._known(bucket, name)
        self._connection.execute("DELETE FROM object WHERE id = ?", (there.inode,))
        self._connection.execute(_ADD_BYTES, (bucket, -there.size))
        return self._unneeded(there.sha256)

    def rename(self, bucket: str, old: bytes, new: bytes) -> bytes | None:
        """Give an object another name; return the hash of content that nobody needs any more."""
        there = self._known(bucket, old)
        if old == new:
            return None
        replaced = self.find(bucket, new)
        gone = self.remove(bucket, new) if replaced is not None else None
        self._connection.execute("UPDATE object SET name = ? WHERE id = ?", (new, there.inode))
        if replaced is None:
            self.check_place(bucket, new)
        return gone

    def describe(self, bucket: str, name: bytes, content_type: str | None, fields: Mapping[str, str | None]) -> None:
        """Set content type and fields."""
        there = self._known(bucket, name)
        after = changed_fields(there.fields, fields)
        self._connection.execute(
            "UPDATE object SET type = ?, fields = ? WHERE id = ?",
            (content_type or there.content_type, json.dumps(after) if after else "", there.inode),
        )

    def _known(self, bucket: str, name: bytes) -> Info:
        there = self.find(bucket, name)
        if there is None:
            raise OSError(errno.ENOENT, "no such object")
        return there

    def _unneeded(self, sha256: bytes) -> bytes | None:
        row = self._connection.execute(
            "DELETE FROM content WHERE sha256 = ? "
            "AND NOT EXISTS (SELECT 1 FROM object WHERE object.content = content.id)",
            (sha256,),
        )
        return sha256 if row.rowcount else None

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


@contextmanager
def translated() -> Iterator[None]:
    """Raise what SQLite raises as `OSError`."""
    try:
        yield
    except sqlite3.Error as error:
        full = getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL
        raise OSError(errno.ENOSPC if full else errno.EIO, f"the index: {error}") from None
