"""The file: one table, and every statement that is run on it.

    message   id, topic, state (0 ready, 1 in flight, 2 dead), deliveries, most, published_ns, due_ns, body
    topic     name, messages, bytes

SQLite in write-ahead mode: what a commit has written survives the process; with `power_safe` a power failure too.
"""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pulp_runtime.queues.message import Counts, Message

APPLICATION_ID: Final = 0x50756C71
LAYOUT: Final = 1
LOG_BYTES: Final = 16 * 1024 * 1024
READY: Final = 0
IN_FLIGHT: Final = 1
DEAD: Final = 2

_LAYOUT_1: Final = """
BEGIN;
CREATE TABLE message (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    topic TEXT NOT NULL,
    state INTEGER NOT NULL,
    deliveries INTEGER NOT NULL,
    most INTEGER NOT NULL,
    published_ns INTEGER NOT NULL,
    due_ns INTEGER NOT NULL,
    body BLOB NOT NULL
);
CREATE INDEX message_order ON message (topic, state, id);
CREATE INDEX message_due ON message (due_ns) WHERE state = 1;
CREATE TABLE topic (name TEXT PRIMARY KEY, messages INTEGER NOT NULL, bytes INTEGER NOT NULL);
PRAGMA user_version = 1;
COMMIT;
"""

_PUBLISH: Final = (
    "INSERT INTO message (topic, state, deliveries, most, published_ns, due_ns, body) VALUES (?, 0, 0, 0, ?, 0, ?)"
)
_COUNT: Final = (
    "INSERT INTO topic VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE "
    "SET messages = messages + excluded.messages, bytes = bytes + excluded.bytes"
)
_OLDEST: Final = (
    "SELECT id, body, deliveries, published_ns FROM message WHERE topic = ? AND state = 0 ORDER BY id LIMIT 1"
)
_OVERDUE: Final = "SELECT id, topic FROM message WHERE state = 1 AND due_ns <= ? ORDER BY due_ns, id LIMIT 1000"
_FIND: Final = "SELECT state, deliveries, length(body) FROM message WHERE id = ? AND topic = ?"
_IDS: Final = "SELECT id FROM message WHERE topic = ? AND state = ? AND id > ? ORDER BY id LIMIT ?"
_BODY: Final = "SELECT id, body, deliveries, published_ns FROM message WHERE id = ? AND topic = ? AND state = ?"
_GIVE_BACK: Final = "UPDATE message SET due_ns = 0, state = CASE WHEN deliveries >= most THEN 2 ELSE 0 END"
_STATES: Final = "SELECT state, count(*) FROM message WHERE topic = ? GROUP BY state"


class Tables:
    """One connection to the file. One thread at a time.

    Raises:
        OSError: `EIO` the file is another program's, or cannot be read.
    """

    def __init__(self, path: Path, *, power_safe: bool) -> None:
        with translated():
            self._connection: Final = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            try:
                self._prepare("FULL" if power_safe else "NORMAL")
            except BaseException:
                self._connection.close()
                raise

        self._page_bytes: Final = int(self._connection.execute("PRAGMA page_size").fetchone()[0])

    def _prepare(self, synchronous: str) -> None:
        execute = self._connection.execute
        for pragma in (
            "trusted_schema = OFF",
            "journal_mode = WAL",
            f"synchronous = {synchronous}",
            f"journal_size_limit = {LOG_BYTES}",
        ):
            execute(f"PRAGMA {pragma}").fetchall()
        found = execute("PRAGMA application_id").fetchone()[0], execute("PRAGMA user_version").fetchone()[0]
        if found == (0, 0) and not execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            execute(f"PRAGMA application_id = {APPLICATION_ID}")
            self._connection.executescript(_LAYOUT_1)
        elif found != (APPLICATION_ID, LAYOUT):
            raise OSError(errno.EIO, "the queue's file is another program's, or of a later version of this one")

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

    def oldest(self, topic: str) -> Message | None:
        """Return the message that is next, with the deliveries so far."""
        row = self._connection.execute(_OLDEST, (topic,)).fetchone()
        return None if row is None else Message._make(row)

    def find(self, topic: str, number: int) -> tuple[int, int, int] | None:
        """Return state, deliveries and size of a message."""
        row: tuple[int, int, int] | None = self._connection.execute(_FIND, (number, topic)).fetchone()
        return row

    def message(self, topic: str, number: int, state: int) -> Message | None:
        """Return a message in this state."""
        row = self._connection.execute(_BODY, (number, topic, state)).fetchone()
        return None if row is None else Message._make(row)

    def body(self, number: int) -> bytes:
        """Return the bytes of a message that is there."""
        return bytes(self._connection.execute("SELECT body FROM message WHERE id = ?", (number,)).fetchone()[0])

    def ids(self, topic: str, state: int, after: int, limit: int) -> list[int]:
        """Return a page of ids, in order."""
        return [number for (number,) in self._connection.execute(_IDS, (topic, state, after, limit))]

    def overdue(self, now_ns: int) -> list[tuple[int, str]]:
        """Return messages that their takers have no more, at most 1,000, with their topics."""
        return list(self._connection.execute(_OVERDUE, (now_ns,)))

    def next_due_ns(self) -> int:
        """Return when the next message comes back, 0 for never."""
        row = self._connection.execute("SELECT min(due_ns) FROM message WHERE state = 1").fetchone()
        return int(row[0] or 0)

    def totals(self, topic: str) -> tuple[int, int]:
        """Return how many messages a topic has, and how many bytes, without counting."""
        row = self._connection.execute("SELECT messages, bytes FROM topic WHERE name = ?", (topic,)).fetchone()
        return (row[0], row[1]) if row else (0, 0)

    def counts(self, topic: str) -> Counts:
        """Count the messages of a topic."""
        states = dict(self._connection.execute(_STATES, (topic,)))
        return Counts(states.get(READY, 0), states.get(IN_FLIGHT, 0), states.get(DEAD, 0), self.totals(topic)[1])

    def free_bytes(self) -> int:
        """Return the size of the pages that nothing is in."""
        (pages,) = self._connection.execute("PRAGMA freelist_count").fetchone()
        return int(pages) * self._page_bytes

    def shrink(self) -> None:
        """Write the log into the file, and cut it to nothing."""
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    # Changing, inside `changing` --------------------------------------------------------------------------------

    def publish(self, topic: str, body: bytes, now_ns: int) -> int:
        """Add a message; return its id."""
        number = self._connection.execute(_PUBLISH, (topic, now_ns, body)).lastrowid
        self._connection.execute(_COUNT, (topic, 1, len(body)))
        return number or 0

    def give(self, number: int, deliveries: int, most: int, due_ns: int) -> None:
        """Note that a message is in flight, how often that was so, and how often it may be."""
        self._connection.execute(
            "UPDATE message SET state = 1, deliveries = ?, most = ?, due_ns = ? WHERE id = ?",
            (deliveries, most, due_ns, number),
        )

    def renew(self, number: int, due_ns: int) -> None:
        """Set when a message in flight comes back; one that has come back is in flight again."""
        self._connection.execute("UPDATE message SET state = 1, due_ns = ? WHERE id = ?", (due_ns, number))

    def give_back(self, number: int) -> int:
        """Make a message ready again, or dead if that was the last time; return its state."""
        row = self._connection.execute(f"{_GIVE_BACK} WHERE id = ? RETURNING state", (number,)).fetchone()
        return int(row[0])

    def bury(self, number: int) -> None:
        """Make a message dead."""
        self._connection.execute("UPDATE message SET state = 2, due_ns = 0 WHERE id = ?", (number,))

    def revive(self, number: int) -> None:
        """Make a message as if it had just been published."""
        self._connection.execute("UPDATE message SET state = 0, due_ns = 0, deliveries = 0 WHERE id = ?", (number,))

    def recall(self) -> None:
        """Do with everything in flight what `give_back` does."""
        self._connection.execute(f"{_GIVE_BACK} WHERE state = 1")

    def remove(self, topic: str, number: int, size: int) -> None:
        """Remove a message."""
        self._connection.execute("DELETE FROM message WHERE id = ?", (number,))
        self._connection.execute(_COUNT, (topic, -1, -size))

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
        raise OSError(errno.ENOSPC if full else errno.EIO, f"the queue's file: {error}") from None
