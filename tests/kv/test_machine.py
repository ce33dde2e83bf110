"""A store against a dict, in every order that hypothesis comes up with."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from pulp_runtime.kv.entry import SECOND_NS, Change, Delete, Put
from pulp_runtime.kv.fault import Conflict, KeyMissing, NotANumber
from pulp_runtime.kv.store import Store
from pulp_runtime.kv.transaction import Transaction

KEYS = st.sampled_from([b"a", b"a/1", b"a/2", b"b", b"b/c/d", "é".encode(), b"~"])
VALUES = st.sampled_from([b"", b"7", b"-3", b"x", b"y" * 400])
TTLS = st.sampled_from([0, 0, 0, 1, 3])


@dataclass(frozen=True)
class Known:
    """What the model knows of a key."""

    value: bytes
    revision: int
    modified_ns: int
    expires_ns: int
    inode: int


class StoreMachine(RuleBasedStateMachine):
    """Every rule does one thing to the store and the same to a dict; the invariants compare them."""

    @initialize(cache=st.sampled_from([0, 2_000, 1 << 20]))
    def open(self, cache: int) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.now = 1_000 * SECOND_NS
        self.cache = cache
        self.model: dict[bytes, Known] = {}
        self.revision = 0
        self.told: list[Change] = []
        self.expected: list[Change] = []
        self.transaction: Transaction | None = None
        self.seen: dict[bytes, Known] = {}
        self.touched: set[bytes] = set()
        self.written: dict[bytes, bytes | None] = {}
        self._open()

    def _open(self) -> None:
        path = Path(self.folder.name) / "kv.db"
        self.store = Store(path, cache_bytes=self.cache, now_ns=lambda: self.now)
        self.store.watch(b"", self.told.append)

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
            self.folder.cleanup()

    # The model ------------------------------------------------------------------------------------------------------

    def _live(self, key: bytes) -> Known | None:
        known = self.model.get(key)
        return None if known is None or 0 < known.expires_ns <= self.now else known

    def _note(self, key: bytes, *, deleted: bool) -> int:
        self.revision += 1
        self.expected.append(Change(key, self.revision, deleted))
        return self.revision

    def _purge(self, key: bytes) -> Known | None:
        """Delete a key whose time is over, as the store does when it changes it."""
        if key in self.model and self._live(key) is None:
            del self.model[key]
            self._note(key, deleted=True)
        return self.model.get(key)

    def _put(self, key: bytes, value: bytes, expires_ns: int) -> None:
        there = self._purge(key)
        revision = self._note(key, deleted=False)
        self.model[key] = Known(value, revision, self.now, expires_ns, there.inode if there else revision)

    def _expect(self, key: bytes, kind: str) -> tuple[int | None, bool]:
        """Return a revision to expect, and whether it is the right one."""
        there = self._live(key)
        current = there.revision if there else 0
        expect = {"any": None, "right": current, "wrong": current + 1_000, "absent": 0}[kind]
        return expect, expect is None or expect == current

    def _at(self, ttl: int) -> int:
        return self.now + ttl * SECOND_NS if ttl else 0

    # The rules ------------------------------------------------------------------------------------------------------

    @rule(key=KEYS, value=VALUES, ttl=TTLS, kind=st.sampled_from(["any", "any", "right", "wrong", "absent"]))
    def put(self, key: bytes, value: bytes, ttl: int, kind: str) -> None:
        expect, right = self._expect(key, kind)
        try:
            revision = self.store.put(key, value, expect=expect, ttl_seconds=ttl)
        except Conflict:
            assert not right
            return
        assert right
        self._put(key, value, self._at(ttl))
        assert revision == self.revision

    @rule(key=KEYS, kind=st.sampled_from(["any", "right", "wrong"]))
    def delete(self, key: bytes, kind: str) -> None:
        expect, right = self._expect(key, kind)
        there = self._live(key)
        try:
            self.store.delete(key, expect=expect)
        except KeyMissing:
            assert there is None
        except Conflict:
            assert not right
        else:
            assert right
            assert there is not None
            del self.model[key]
            self._note(key, deleted=True)

    @rule(key=KEYS, data=VALUES)
    def append(self, key: bytes, data: bytes) -> None:
        there = self._live(key)
        self.store.append(key, data)
        self._put(key, (there.value if there else b"") + data, there.expires_ns if there else 0)

    @rule(key=KEYS, by=st.integers(-5, 5))
    def increment(self, key: bytes, by: int) -> None:
        there = self._live(key)
        value = there.value if there else b"0"
        try:
            number, _revision = self.store.increment(key, by)
        except NotANumber:
            assert not value.lstrip(b"-").isdigit() or len(value) > 19
            return
        assert number == int(value) + by
        self._put(key, b"%d" % number, there.expires_ns if there else 0)

    @rule(old=KEYS, new=KEYS)
    def rename(self, old: bytes, new: bytes) -> None:
        there = self._live(old)
        try:
            self.store.rename(old, new)
        except KeyMissing:
            assert there is None
            return
        assert there is not None
        if old == new:
            return
        self._purge(new)
        self._note(old, deleted=True)
        revision = self._note(new, deleted=False)
        del self.model[old]
        self.model[new] = replace(there, revision=revision)

    @rule(key=KEYS, ttl=TTLS)
    def expire(self, key: bytes, ttl: int) -> None:
        there = self._live(key)
        try:
            self.store.expire(key, ttl)
        except KeyMissing:
            assert there is None
        else:
            assert there is not None
            self.model[key] = replace(there, expires_ns=self._at(ttl))

    @rule(
        changes=st.lists(
            st.one_of(st.builds(Put, KEYS, VALUES, st.none(), TTLS), st.builds(Delete, KEYS, st.none())), max_size=6
        ),
        spoil=st.booleans(),
    )
    def apply(self, changes: list[Put | Delete], spoil: bool) -> None:
        if spoil:
            changes = [*changes, Put(b"a", b"", expect=1 << 40)]
        try:
            self.store.apply(changes)
        except Conflict:
            assert spoil
            return
        assert not spoil
        for change in changes:
            if isinstance(change, Put):
                self._put(change.key, change.value, self._at(change.ttl_seconds))
            elif self._purge(change.key) is not None:
                del self.model[change.key]
                self._note(change.key, deleted=True)

    @rule(seconds=st.sampled_from([0, 1, 2, 5]))
    def advance(self, seconds: int) -> None:
        self.now += seconds * SECOND_NS

    @rule()
    def sweep(self) -> None:
        due = sorted((known.expires_ns, key) for key, known in self.model.items() if self._live(key) is None)
        assert self.store.sweep() == len(due)
        told = {change.key for change in self.told[len(self.expected) :]}
        assert told == {key for _when, key in due}
        for change in self.told[len(self.expected) :]:
            self._purge(change.key)

    @rule(cache=st.sampled_from([0, 2_000, 1 << 20]))
    def reopen(self, cache: int) -> None:
        self.store.close()
        self.transaction = None
        self.cache = cache
        self._open()

    # A transaction --------------------------------------------------------------------------------------------------

    @rule()
    def begin(self) -> None:
        if self.transaction is None:
            self.transaction = self.store.begin()
            self.seen = {key: known for key in self.model if (known := self._live(key)) is not None}
            self.written = {}
            self.touched = set()
            self.began = len(self.expected)

    @rule(key=KEYS)
    def read_in_transaction(self, key: bytes) -> None:
        if self.transaction is not None:
            there = self.seen.get(key)
            value = self.written.get(key, there.value if there else None)
            assert self.transaction.get(key) == value
            self.touched.add(key)

    @rule()
    def list_in_transaction(self) -> None:
        if self.transaction is not None:
            keys = {*self.seen, *(key for key, value in self.written.items() if value is not None)}
            keys -= {key for key, value in self.written.items() if value is None}
            assert self.transaction.page() == sorted(keys)
            self.touched |= {b"everything"}

    @rule(key=KEYS, value=VALUES)
    def write_in_transaction(self, key: bytes, value: bytes) -> None:
        if self.transaction is not None:
            self.transaction.put(key, value)
            self.written[key] = value

    @rule(key=KEYS)
    def delete_in_transaction(self, key: bytes) -> None:
        if self.transaction is not None:
            there = self.written[key] if key in self.written else self.seen.get(key)
            assert self.transaction.delete(key) == (there is not None)
            self.written[key] = None

    @rule(commit=st.booleans())
    def end_transaction(self, commit: bool) -> None:
        transaction, self.transaction = self.transaction, None
        if transaction is None:
            return
        if not commit:
            transaction.rollback()
            return
        missed = {change.key for change in self.expected[self.began :]}
        lost = bool(missed & (self.touched | set(self.written)) or (missed and b"everything" in self.touched))
        try:
            transaction.commit()
        except Conflict:
            assert lost
            return
        assert not lost
        for key, value in self.written.items():
            if value is not None:
                self._put(key, value, 0)
            elif self._purge(key) is not None:
                del self.model[key]
                self._note(key, deleted=True)

    # The invariants -------------------------------------------------------------------------------------------------

    @invariant()
    def the_store_is_what_the_model_says(self) -> None:
        if not hasattr(self, "store"):
            return
        live = {key: known for key in self.model if (known := self._live(key)) is not None}
        listed = self.store.page()
        assert [one.key for one in listed] == sorted(live)
        for one in listed:
            known = live[one.key]
            assert one == (
                one.key, len(known.value), known.revision, known.modified_ns, known.expires_ns, known.inode
            )  # fmt: skip
            entry = self.store.get(one.key)
            assert entry == (known.value, known.revision, known.modified_ns, known.expires_ns, known.inode)
        for key in (b"a", b"a/1", b"~"):
            assert (self.store.get(key) is None) == (key not in live)
        assert self.store.revision == self.revision

    @invariant()
    def every_change_has_been_told_once_and_in_order(self) -> None:
        if hasattr(self, "store"):
            assert self.told == self.expected


StoreMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestStoreMachine = pytest.mark.slow(StoreMachine.TestCase)
