"""Programs that really run at once, on threads: what they saw is put in an order afterwards, or there is none."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.capabilities.cloud.kv_guests import LANGUAGES, Guests, Session, build
from tests.capabilities.cloud.kv_runs import EXCLUSIVE, WRITE, Cloud, Program, content, put

from pulp_runtime._kernel.engine import Engine
from pulp_runtime.capabilities.cloud import kv
from pulp_runtime.kv.entry import Change
from pulp_runtime.testing import FakeHost

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

LOCAL = "/beta/kv/local"
ACTORS = 4


class Seen(NamedTuple):
    """One act on a key: when it began and ended, what revision it made or found, and what it wrote or read."""

    key: str
    began: float
    ended: float
    revision: int
    value: bytes | None
    wrote: bool


class Actor(threading.Thread):
    """Reads, writes, deletes and crashes at random; notes what it saw."""

    def __init__(self, start: Callable[[], Program], number: int, made: dict[int, list[Change]]) -> None:
        super().__init__()
        self._start_program = start
        self._random = random.Random(number)
        self._number = number
        self._made = made
        self.seen: list[Seen] = []
        self.acts = 0

    def run(self) -> None:
        mine = self._made.setdefault(threading.get_ident(), [])
        program = self._start_program()
        for _ in range(250):
            self.acts += 1
            key = self._random.choice("abc")
            act = self._random.choice([self._get, self._get, self._set, self._set, self._remove, self._end])
            mine.clear()
            began = time.perf_counter()
            if act == self._end:
                put(program.open(key, WRITE), b"never seen")
                program.open(f".lock/{self._number}", EXCLUSIVE)
                program.end(clean=False)
                assert mine == []
                program = self._start_program()
                continue
            with suppress(FileNotFoundError):
                found = act(program, key)
                ended = time.perf_counter()
                if act == self._get:
                    self.seen.append(Seen(key, began, ended, found[0], found[1], wrote=False))
                else:
                    (change,) = mine
                    self.seen.append(Seen(key, began, ended, change.revision, found[1], wrote=True))
        program.end()

    def _get(self, program: Program, key: str) -> tuple[int, bytes | None]:
        file = program.open(key)
        revision, value = file.stat().changed_ns, content(file)
        program.close(file)
        return revision, value

    def _set(self, program: Program, key: str) -> tuple[int, bytes | None]:
        value = b"%d:%d" % (self._number, self.acts)
        program.write(key, value)
        return 0, value

    def _remove(self, program: Program, key: str) -> tuple[int, bytes | None]:
        program.unlink(key)
        return 0, None

    def _end(self, program: Program, key: str) -> tuple[int, bytes | None]:
        raise NotImplementedError


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    with FakeHost(tmp_path / "data") as host:
        cloud = Cloud(host, kv.capability())
        yield cloud
        cloud.close()


def test_four_programs_at_once_see_one_order_of_every_key(cloud: Cloud) -> None:
    cell = cloud.cell(granted={"kv": {"local": "rw"}})
    made: dict[int, list[Change]] = {}
    order: list[Change] = []
    ((_cell_id, opened),) = cloud.capability.mount.__self__.all_kept()  # type: ignore[union-attr]
    keys = opened.scopes[0][1].keys

    def told(change: Change) -> None:  # by the thread that makes the change
        order.append(change)
        made.setdefault(threading.get_ident(), []).append(change)

    keys.watch(b"", told)
    watcher = cloud.program(cell, LOCAL)
    watch = watcher.open(".watch/.all")
    actors = [Actor(lambda: cloud.program(cell, LOCAL), number, made) for number in range(ACTORS)]
    for actor in actors:
        actor.start()
    for actor in actors:
        actor.join()
    seen = [one for actor in actors for one in actor.seen]

    assert {actor.acts for actor in actors} == {250}
    values = {one.revision: one.value for one in seen if one.wrote}
    for one in seen:
        assert one.value == values[one.revision], "a value that nobody put there"
    for key in "abc":
        of_key = sorted((one for one in seen if one.key == key), key=lambda one: one.began)
        latest = 0
        waiting = sorted(of_key, key=lambda one: one.ended)
        for one in of_key:  # whoever began after another had ended comes after it, in revisions too
            while waiting and waiting[0].ended < one.began:
                latest = max(latest, waiting.pop(0).revision)
            assert one.revision >= latest
    lines = [f"{'del' if one.deleted else 'put'} {one.key.decode()} {one.revision}" for one in order]
    assert [one.revision for one in order] == list(range(1, len(order) + 1))
    assert watch.read(1 << 20).decode().splitlines() == lines
    watcher.end()


def add(program: Program, pairs: list[tuple[str, int]]) -> bool:
    """Add to several numbers in one transaction; answer whether it was committed."""
    program.mkdir(".tx/t")
    for key, amount in pairs:
        value = int(program.read(f".tx/t/{key}"))
        program.write(f".tx/t/{key}", b"%d" % (value + amount))
    try:
        program.rename(".tx/t", ".tx/t.commit")
    except OSError:
        return False
    return True


def test_transfers_at_once_lose_nothing_and_no_reader_sees_half_of_one(cloud: Cloud) -> None:
    cell = cloud.cell(granted={"kv": {"local": "rw"}})
    first = cloud.program(cell, LOCAL)
    accounts = [f"account/{number}" for number in range(5)]
    for account in accounts:
        first.write(account, b"100")
    first.write("count", b"0")
    done = [0] * ACTORS
    sums: list[int] = []

    def transfer(who: int) -> None:
        rng = random.Random(who)
        program = cloud.program(cell, LOCAL)
        while done[who] < 40:
            one, other = rng.sample(accounts, 2)
            done[who] += add(program, [(one, -1), (other, 1), ("count", 1)])
            if rng.random() < 0.1:
                program.mkdir(".tx/t")
                program.write(f".tx/t/{one}", b"0")
                program.end(clean=False)
                program = cloud.program(cell, LOCAL)
            if rng.random() < 0.2:
                program.mkdir(".tx/look")
                sums.append(sum(int(program.read(f".tx/look/{account}")) for account in accounts))
                program.rmdir(".tx/look")

    threads = [threading.Thread(target=transfer, args=(who,)) for who in range(ACTORS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert int(first.read("count")) == sum(done) == 40 * ACTORS
    assert sum(int(first.read(account)) for account in accounts) == 500
    assert set(sums) == {500}


def test_two_transactions_that_each_read_what_the_other_writes_do_not_both_commit(cloud: Cloud) -> None:
    cell = cloud.cell(granted={"kv": {"local": "rw"}})
    one, other = cloud.program(cell, LOCAL), cloud.program(cell, LOCAL)
    for name in ("on-call/ann", "on-call/bob"):
        one.write(name, b"")
    for program, name in ((one, "ann"), (other, "bob")):
        program.mkdir(".tx/t")
        assert len(program.ls(".tx/t/on-call")) == 2
        program.unlink(f".tx/t/on-call/{name}")
    one.rename(".tx/t", ".tx/t.commit")

    with pytest.raises(OSError, match="faster"):
        other.rename(".tx/t", ".tx/t.commit")
    assert one.ls("on-call") == ["bob"]


# Real programs ------------------------------------------------------------------------------------------------------


@pytest.fixture(params=LANGUAGES)
def guests(request: pytest.FixtureRequest, cloud: Cloud, tmp_path: Path) -> Iterator[Guests]:
    engine = Engine(tmp_path / "cache")
    cell = cloud.cell(granted={"kv": {"local": "rw"}})
    guests = Guests(build(request.param, tmp_path), cell, cloud.capability, engine)
    yield guests
    guests.close()
    engine.close()


def test_four_real_programs_count_together_by_lock_revision_and_transaction(guests: Guests) -> None:
    first = guests()
    for way in ("lock", "revision", "transaction"):
        assert first(f"put {LOCAL}/by-{way} 0") == "ok"
    failures: list[BaseException] = []
    inside = [0]

    def count(who: int) -> None:
        try:
            guest = guests()
            for turn in range(12):
                by_lock(guest, inside)
                by_revision(guest)
                by_transaction(guest)
                if (turn + who) % 6 == 0:  # end in the middle of all three; begin anew
                    guest(f"mkdir {LOCAL}/.tx/t")
                    guest(f"put {LOCAL}/.tx/t/by-transaction 999")
                    guest(f"open 8 wcx {LOCAL}/.lock/of-{who}")
                    assert guest.end("exit 1").status == 1
                    guest = guests()
        except BaseException as error:  # noqa: BLE001  # raised below, by the test's own thread
            failures.append(error)

    threads = [threading.Thread(target=count, args=(who,)) for who in range(ACTORS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    assert [first(f"get {LOCAL}/by-{way}") for way in ("lock", "revision", "transaction")] == [f"ok {12 * ACTORS}"] * 3
    assert first(f"ls {LOCAL}/.lock") == "ok"


def value_of(answer: str) -> int:
    assert answer.startswith("ok "), answer
    return int(answer[3:])


def by_lock(guest: Session, inside: list[int]) -> None:
    while guest(f"open 1 wcx {LOCAL}/.lock/counter") != "ok":
        time.sleep(0.001)
    inside[0] += 1
    assert inside[0] == 1
    value = value_of(guest(f"get {LOCAL}/by-lock"))
    assert guest(f"put {LOCAL}/by-lock {value + 1}") == "ok"
    inside[0] -= 1
    assert guest("close 1") == "ok"


def by_revision(guest: Session) -> None:
    answer = "err STALE"
    while answer != "ok":
        assert answer == "err STALE"
        assert guest(f"open 1 r {LOCAL}/.rev/by-revision") == "ok"
        value = value_of(guest(f"get {LOCAL}/by-revision"))
        assert guest(f"open 2 wt {LOCAL}/by-revision") == "ok"
        assert guest(f"write 2 {value + 1}") == "ok"
        answer = guest("close 2")
        assert guest("close 1") == "ok"


def by_transaction(guest: Session) -> None:
    answer = "err STALE"
    while answer != "ok":
        assert answer == "err STALE"
        assert guest(f"mkdir {LOCAL}/.tx/t") == "ok"
        value = value_of(guest(f"get {LOCAL}/.tx/t/by-transaction"))
        assert guest(f"put {LOCAL}/.tx/t/by-transaction {value + 1}") == "ok"
        answer = guest(f"mv {LOCAL}/.tx/t {LOCAL}/.tx/t.commit")
