"""Four programs that use one namespace, step by step in every order that hypothesis comes up with, against a dict."""

# ruff: noqa: PT017  # what an act raises is compared with what the model expects, whether it raises or not

from __future__ import annotations

import contextlib
import errno
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from tests.capabilities.cloud.kv_runs import EXCLUSIVE, UPDATE, WRITE, Cloud, Program, content, put

from pulp_runtime.capabilities.cloud import kv
from pulp_runtime.ext import File
from pulp_runtime.testing import FakeHost

# Few, and some more often than others: what goes wrong goes wrong where several meet.
ACTORS = st.sampled_from([0, 0, 0, 1, 1, 2, 3])
KEYS = st.sampled_from(["a", "a", "a", "f/1", "f/g/3"])
VALUES = st.sampled_from([b"", b"x", b"yy", b"z" * 300])


@dataclass
class Writing:
    """A value that an actor has open for writing."""

    file: File
    key: str
    data: bytes
    changed: bool
    exclusive: bool = False
    held: int | None = None


@dataclass
class Transaction:
    """One that an actor has begun."""

    began: int
    seen: dict[str, bytes]
    touched: set[str] = field(default_factory=set)
    written: dict[str, bytes | None] = field(default_factory=dict)


@dataclass
class Actor:
    """What the model knows of one program."""

    program: Program
    writing: Writing | None = None
    snapshot: tuple[File, bytes] | None = None
    lock: str | None = None
    transaction: Transaction | None = None
    revision: tuple[File, str, int] | None = None


class KvMachine(RuleBasedStateMachine):
    """Every rule does one thing to the files and the same to the model."""

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.host = FakeHost(Path(self.folder.name) / "data")
        self.cloud = Cloud(self.host, kv.capability())
        self.cell = self.cloud.cell(granted={"kv": {"local": "rw"}})
        self.actors = [Actor(self._program()) for _ in range(4)]
        self.watcher = self._program()
        self.watch = self.watcher.open(".watch/.all")
        self.values: dict[str, tuple[bytes, int]] = {}
        self.lines: list[str] = []
        self.locks: dict[str, int] = {}

    def _program(self) -> Program:
        return self.cloud.program(self.cell, "/beta/kv/local")

    def teardown(self) -> None:
        if hasattr(self, "cloud"):
            for actor in self.actors:
                actor.program.end(clean=False)
            self.watcher.end()
            self.cloud.close()
            self.host.close()
            self.folder.cleanup()

    # The model ------------------------------------------------------------------------------------------------------

    def _put(self, key: str, value: bytes) -> None:
        self.lines.append(f"put {key} {len(self.lines) + 1}")
        self.values[key] = (value, len(self.lines))

    def _delete(self, key: str) -> None:
        self.lines.append(f"del {key} {len(self.lines) + 1}")
        del self.values[key]

    def _reserved(self, key: str, by: Actor | None = None) -> bool:
        return any(
            one.writing is not None and one.writing.exclusive and one.writing.key == key and one is not by
            for one in self.actors
        )

    # Values ---------------------------------------------------------------------------------------------------------

    @rule(who=ACTORS, key=KEYS, value=VALUES, how=st.sampled_from([WRITE, UPDATE, EXCLUSIVE]))
    def open_to_write(self, who: int, key: str, value: bytes, how) -> None:
        actor = self.actors[who]
        if actor.writing is not None:
            return
        there = self.values.get(key)
        try:
            file = actor.program.open(key, how)
        except OSError as error:
            expected = {
                errno.EEXIST: how.exclusive and (there is not None or self._reserved(key)),
                errno.ENOENT: not how.create and there is None,
            }
            assert expected[error.errno or 0]
            return
        assert how.create or there
        data = there[0] if there and not how.truncate else b""
        held = actor.revision[2] if actor.revision and actor.revision[1] == key else None
        actor.writing = Writing(file, key, data, how.truncate or there is None, how.exclusive, held)
        if value:
            put(file, value)
            actor.writing.data = value + data[len(value) :]
            actor.writing.changed = True

    @rule(who=ACTORS)
    def close(self, who: int) -> None:
        actor = self.actors[who]
        writing, actor.writing = actor.writing, None
        if writing is None:
            return
        there = self.values.get(writing.key)
        held = writing.held
        if held is None and actor.revision and actor.revision[1] == writing.key:
            held = actor.revision[2]
        try:
            actor.program.close(writing.file)
        except OSError as error:
            if error.errno == errno.EBUSY:
                assert there is None
                assert self._reserved(writing.key, actor)
            else:
                assert error.errno == errno.ESTALE
                assert held is not None
                assert held != (there[1] if there else 0)
            return
        if not writing.changed:
            return
        assert there is not None or not self._reserved(writing.key, actor)
        if not writing.exclusive:
            assert held is None or held == (there[1] if there else 0)
        self._put(writing.key, writing.data)
        if actor.revision and actor.revision[1] == writing.key:
            actor.revision = (actor.revision[0], writing.key, len(self.lines))

    @rule(who=ACTORS, key=KEYS, value=VALUES)
    def open_write_and_close(self, who: int, key: str, value: bytes) -> None:
        if self.actors[who].writing is None:
            self.open_to_write(who, key, value, WRITE)
            self.close(who)

    @rule(who=ACTORS, key=KEYS, value=VALUES)
    def hold_a_revision_and_open(self, who: int, key: str, value: bytes) -> None:
        self.hold_a_revision(who, key)
        self.open_to_write(who, key, value, UPDATE)

    @rule(who=ACTORS, key=KEYS, value=VALUES)
    def append(self, who: int, key: str, value: bytes) -> None:
        actor = self.actors[who]
        if actor.revision is not None and actor.revision[1] == key:
            return
        there = self.values.get(key)
        try:
            actor.program.append(key, value)
        except OSError as error:
            assert error.errno == errno.EBUSY
            assert there is None
            assert self._reserved(key)
            return
        if there is None:
            self._put(key, b"")
        if value:
            self._put(key, (there[0] if there else b"") + value)

    @rule(who=ACTORS, key=KEYS)
    def read(self, who: int, key: str) -> None:
        there = self.values.get(key)
        try:
            found = self.actors[who].program.read(key)
        except FileNotFoundError:
            assert there is None
        else:
            assert there is not None
            assert found == there[0]

    @rule(who=ACTORS, key=KEYS)
    def take_a_snapshot(self, who: int, key: str) -> None:
        actor = self.actors[who]
        if actor.snapshot is None and key in self.values:
            actor.snapshot = (actor.program.open(key), self.values[key][0])

    @rule(who=ACTORS, keep=st.booleans())
    def look_at_the_snapshot(self, who: int, keep: bool) -> None:
        actor = self.actors[who]
        if actor.snapshot is not None:
            assert content(actor.snapshot[0]) == actor.snapshot[1]
            if not keep:
                actor.program.close(actor.snapshot[0])
                actor.snapshot = None

    @rule(who=ACTORS, key=KEYS)
    def delete(self, who: int, key: str) -> None:
        actor = self.actors[who]
        if (actor.writing and actor.writing.key == key) or (actor.revision and actor.revision[1] == key):
            return
        try:
            actor.program.unlink(key)
        except FileNotFoundError:
            assert key not in self.values
        else:
            self._delete(key)

    @rule(who=ACTORS, old=KEYS, new=KEYS)
    def rename(self, who: int, old: str, new: str) -> None:
        actor = self.actors[who]
        if actor.writing and actor.writing.key == old:
            return
        try:
            actor.program.rename(old, new)
        except FileNotFoundError:
            assert old not in self.values
        except OSError as error:
            assert error.errno == errno.EBUSY
            assert new not in self.values
            assert self._reserved(new)
        else:
            value = self.values[old][0]
            if old != new:
                self._delete(old)
                self._put(new, value)

    # Locks and revisions --------------------------------------------------------------------------------------------

    @rule(who=ACTORS, key=KEYS)
    def lock(self, who: int, key: str) -> None:
        actor = self.actors[who]
        if actor.lock is not None:
            return
        try:
            actor.program.open(f".lock/{key}", EXCLUSIVE)
        except FileExistsError:
            assert key in self.locks
        else:
            assert key not in self.locks
            self.locks[key] = who
            actor.lock = key

    @rule(who=ACTORS)
    def unlock(self, who: int) -> None:
        actor = self.actors[who]
        if actor.lock is not None:
            actor.program.unlink(f".lock/{actor.lock}")
            del self.locks[actor.lock]
            actor.lock = None

    @rule(who=ACTORS, key=KEYS)
    def hold_a_revision(self, who: int, key: str) -> None:
        actor = self.actors[who]
        if actor.revision is None and key in self.values:
            actor.revision = (actor.program.open(f".rev/{key}"), key, self.values[key][1])

    @rule(who=ACTORS)
    def let_go_of_the_revision(self, who: int) -> None:
        actor = self.actors[who]
        if actor.revision is not None:
            file, _key, revision = actor.revision
            assert content(file) == b"%d" % revision
            actor.program.close(file)
            actor.revision = None

    # Transactions ---------------------------------------------------------------------------------------------------

    @rule(who=ACTORS)
    def begin_transaction(self, who: int) -> None:
        actor = self.actors[who]
        if actor.transaction is None:
            actor.program.mkdir(".tx/t")
            seen = {key: value for key, (value, _revision) in self.values.items()}
            actor.transaction = Transaction(len(self.lines), seen)

    @rule(who=ACTORS, key=KEYS)
    def read_in_transaction(self, who: int, key: str) -> None:
        transaction = self.actors[who].transaction
        if transaction is None:
            return
        expected = transaction.written.get(key, transaction.seen.get(key))
        found = None
        with contextlib.suppress(FileNotFoundError):
            found = self.actors[who].program.read(f".tx/t/{key}")
        assert found == expected
        transaction.touched.add(key)

    @rule(who=ACTORS, key=KEYS, value=VALUES)
    def write_in_transaction(self, who: int, key: str, value: bytes) -> None:
        transaction = self.actors[who].transaction
        if transaction is not None:
            self.actors[who].program.write(f".tx/t/{key}", value)
            transaction.written[key] = value

    @rule(who=ACTORS, key=KEYS)
    def delete_in_transaction(self, who: int, key: str) -> None:
        transaction = self.actors[who].transaction
        if transaction is None:
            return
        there = transaction.written.get(key, transaction.seen.get(key)) is not None
        transaction.touched.add(key)
        try:
            self.actors[who].program.unlink(f".tx/t/{key}")
        except FileNotFoundError:
            assert not there
        else:
            assert there
            transaction.written[key] = None

    @rule(who=ACTORS, commit=st.booleans())
    def end_transaction(self, who: int, commit: bool) -> None:
        actor = self.actors[who]
        transaction, actor.transaction = actor.transaction, None
        if transaction is None:
            return
        if not commit:
            actor.program.rmdir(".tx/t")
            return
        missed = {line.split()[1] for line in self.lines[transaction.began :]}
        # What is not there is looked for among the keys below it, too: nobody may have put one there either.
        certain = missed & (transaction.touched | set(transaction.written))
        in_the_way = [key for key, value in transaction.written.items() if value is not None and self._reserved(key)]
        try:
            actor.program.rename(".tx/t", ".tx/t.commit")
        except OSError as error:
            assert certain or (missed if error.errno == errno.ESTALE else in_the_way)
            return
        assert not certain
        for key in [key for key, value in transaction.written.items() if value is None]:
            if key in self.values:
                self._delete(key)
        for key, value in transaction.written.items():
            if value is not None:
                self._put(key, value)

    @rule(who=ACTORS, other=ACTORS, read=KEYS, written=KEYS, value=VALUES)
    def a_whole_transaction_and_somebody_in_between(
        self, who: int, other: int, read: str, written: str, value: bytes
    ) -> None:
        if self.actors[who].transaction is None:
            self.begin_transaction(who)
            self.read_in_transaction(who, read)
            self.write_in_transaction(who, written, value)
            self.open_write_and_close(other, read, value)
            self.end_transaction(who, commit=True)

    # Ends -----------------------------------------------------------------------------------------------------------

    @rule(who=ACTORS)
    def crash(self, who: int) -> None:
        """End a program by a trap; another begins in its place."""
        actor = self.actors[who]
        actor.program.end(clean=False)
        if actor.lock is not None:
            del self.locks[actor.lock]
        self.actors[who] = Actor(self._program())

    # The invariants -------------------------------------------------------------------------------------------------

    @invariant()
    def everybody_sees_what_the_model_has(self) -> None:
        if not hasattr(self, "cloud"):
            return
        for key, (value, revision) in self.values.items():
            found = self.watcher.stat(key)
            assert (found.size, found.changed_ns) == (len(value), revision)
        assert self.watcher.ls() == sorted({key.partition("/")[0] for key in self.values})
        assert self.watcher.ls(".lock") == sorted({key.partition("/")[0] for key in self.locks})
        with contextlib.suppress(FileNotFoundError):
            assert self.watcher.ls("f") == sorted({key.split("/")[1] for key in self.values if "/" in key})

    @invariant()
    def the_watch_has_told_of_every_change(self) -> None:
        if hasattr(self, "cloud"):
            told = b""
            with contextlib.suppress(BlockingIOError):
                while True:
                    told += self.watch.read(4096)
            count = told.count(b"\n")
            assert told.decode().splitlines() == self.lines[len(self.lines) - count :]
            self.heard = getattr(self, "heard", 0) + count
            assert self.heard == len(self.lines)


KvMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=60, deadline=None)
TestKvMachine = pytest.mark.slow(KvMachine.TestCase)
