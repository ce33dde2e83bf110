"""The pool behind `spawn.process` and `workers`, on a loop whose time the test moves."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.capabilities.puppet import StubGuest

from pulp_runtime.capabilities.pool import COMPLETE, PANICKED, PENDING, UNKNOWN, Bounds, Outcome, TaskPool
from pulp_runtime.errors import Errno, HostError
from pulp_runtime.testing.host import FakeHost

BOUNDS: dict[str, Any] = {"running": 2, "queued": 2, "per_cell": 10, "keep_seconds": 60.0}


class Bench:
    """A pool whose tasks end when the test says so."""

    def __init__(self, env: FakeHost, **bounds: Any) -> None:
        self.env = env
        self.pool = TaskPool(lambda error: Outcome(PANICKED, str(error).encode()))
        self.pool.open(env("test.pool"), Bounds(**{**BOUNDS, **bounds}))
        env("test.pool").spawn(self.pool.serve())
        self.guest = StubGuest("one")
        self.other = StubGuest("two")
        self.begun: list[str] = []
        self.ended: list[str] = []
        self.ends: dict[str, asyncio.Event] = {}

    async def _work(self, name: str, result: bytes | Exception) -> Outcome:
        self.begun.append(name)
        self.ends[name] = asyncio.Event()
        try:
            await self.ends[name].wait()
        finally:
            self.ended.append(name)
        if isinstance(result, Exception):
            raise result
        return Outcome(COMPLETE, result)

    def submit(self, name: str, result: bytes | Exception = b"", guest: StubGuest | None = None, **options: Any) -> int:
        """Return the id, or the code."""
        try:
            number = self.pool.submit((guest or self.guest).cell, lambda: self._work(name, result), **options)
        except HostError as error:
            number = error.code
        self.env.advance(0.001)
        return number

    def end(self, *names: str) -> None:
        for name in names:
            self.ends[name].set()
        self.env.advance(0.001)

    def result(self, number: int, guest: StubGuest | None = None) -> int:
        return self.pool.deliver(guest or self.guest, number, 64, 68)  # type: ignore[arg-type]


@pytest.fixture
def bench(pulp_env: FakeHost) -> Bench:
    return Bench(pulp_env)


def test_a_result_is_delivered_once(bench: Bench) -> None:
    number = bench.submit("a", b"done")
    assert bench.result(number) == PENDING

    bench.end("a")

    assert bench.result(number) == COMPLETE
    assert bench.guest.delivered == [b"done"]
    assert bench.result(number) == UNKNOWN


def test_ids_begin_at_100_and_are_never_the_same(bench: Bench) -> None:
    assert [bench.submit("a"), bench.submit("b"), bench.submit("c")] == [100, 101, 102]


def test_so_many_run_at_once_and_the_others_wait_in_order(bench: Bench) -> None:
    for name in "abcd":
        bench.submit(name)
    assert bench.begun == ["a", "b"]

    bench.end("b")
    assert bench.begun == ["a", "b", "c"]
    bench.end("a", "c")
    assert bench.begun == ["a", "b", "c", "d"]


def test_a_full_queue_is_15(bench: Bench) -> None:
    assert [bench.submit(name) for name in "abcde"] == [100, 101, 102, 103, 15]
    bench.end("a")
    assert bench.submit("f") == 104


def test_a_cell_with_too_many_tasks_is_16(pulp_env: FakeHost) -> None:
    bench = Bench(pulp_env, per_cell=1)

    assert [bench.submit("a"), bench.submit("b")] == [100, 16]
    assert bench.submit("c", guest=bench.other) == 101
    bench.end("a")
    assert bench.submit("d") == 102


def test_a_task_that_is_cancelled_counts_until_it_has_ended(pulp_env: FakeHost) -> None:
    bench = Bench(pulp_env, per_cell=1)

    async def stubborn() -> Outcome:
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            await asyncio.sleep(5)
            raise
        return Outcome(COMPLETE, b"")

    number = bench.pool.submit(bench.guest.cell, stubborn)
    pulp_env.advance(1)
    assert bench.pool.cancel(bench.guest.cell, number)
    pulp_env.advance(1)

    assert bench.pool.pending() == 0
    assert bench.submit("b") == 16
    pulp_env.advance(5)
    assert bench.submit("c") == 101


def test_free_tasks_count_for_no_bound_but_their_own(pulp_env: FakeHost) -> None:
    bench = Bench(pulp_env, running=1, queued=0, per_cell=1, free=2)
    bench.submit("a")

    assert [bench.submit(name, is_free=True) for name in "bcd"] == [101, 102, 17]
    assert bench.begun == ["a", "b", "c"]
    assert bench.submit("e") == 16
    bench.end("b")
    assert bench.submit("f", is_free=True) == 103


def test_a_free_task_passes_those_that_wait(pulp_env: FakeHost) -> None:
    bench = Bench(pulp_env, running=1)
    bench.submit("a")
    bench.submit("b")

    bench.submit("c", is_free=True)

    assert bench.begun == ["a", "c"]


@pytest.mark.parametrize(
    ("bounds", "code"),
    [
        pytest.param({"results": 2}, 16, id="too many are 16"),
        pytest.param({"cell_bytes": 100}, 16, id="too large ones are 16"),
        pytest.param({"total_bytes": 100}, 17, id="too large ones of all cells are 17"),
    ],
)
def test_results_that_nobody_asks_for(pulp_env: FakeHost, bounds: dict[str, int], code: int) -> None:
    bench = Bench(pulp_env, **bounds)
    first = bench.submit("a", bytes(50))
    bench.end("a")
    bench.submit("b", bytes(50))
    bench.end("b")

    assert bench.submit("c") == code
    assert bench.submit("d", is_free=True) == code
    assert bench.submit("e", guest=bench.other) == (17 if code == 17 else 102)
    assert bench.result(first) == COMPLETE
    assert bench.submit("f") >= 100


def test_a_result_is_forgotten_after_a_while(bench: Bench) -> None:
    first = bench.submit("a", b"x")
    bench.end("a")
    bench.env.advance(30)
    second = bench.submit("b", b"x")
    bench.end("b")

    bench.env.advance(31)

    assert bench.result(first) == UNKNOWN
    assert bench.result(second) == COMPLETE
    assert [record.message for record in bench.guest.logged] == ["result forgotten"]
    assert bench.pool._at.kept_bytes == 0


def test_a_result_without_a_place_is_kept(bench: Bench) -> None:
    number = bench.submit("a", b"x")
    bench.end("a")
    bench.guest.refuses = HostError(Errno.ALLOC)

    with pytest.raises(HostError):
        bench.result(number)
    bench.guest.refuses = None

    assert bench.result(number) == COMPLETE


def test_a_task_is_its_cell_s_alone(bench: Bench) -> None:
    number = bench.submit("a", b"secret")

    assert bench.result(number, bench.other) == UNKNOWN
    assert not bench.pool.cancel(bench.other.cell, number)
    bench.end("a")
    assert bench.result(number, bench.other) == UNKNOWN
    assert bench.other.delivered == []
    assert (bench.pool.pending(bench.other.cell), bench.result(number)) == (0, COMPLETE)


def test_a_task_that_runs_is_cancelled(bench: Bench) -> None:
    number = bench.submit("a")

    assert bench.pool.cancel(bench.guest.cell, number)
    bench.env.advance(0.001)

    assert bench.ended == ["a"]
    assert bench.result(number) == UNKNOWN
    assert not bench.pool.cancel(bench.guest.cell, number)


def test_a_task_that_waits_is_cancelled_and_never_begins(bench: Bench) -> None:
    for name in "abc":
        bench.submit(name)

    assert bench.pool.cancel(bench.guest.cell, 102)
    bench.end("a", "b")

    assert bench.begun == ["a", "b"]
    assert bench.submit("d") == 103
    assert bench.begun[-1] == "d"


def test_a_task_that_is_cancelled_before_it_could_begin_leaves_its_place(pulp_env: FakeHost) -> None:
    bench = Bench(pulp_env, running=1, queued=0)
    pulp_env.advance(0.001)

    number = bench.pool.submit(bench.guest.cell, lambda: bench._work("a", b""))
    assert bench.pool.cancel(bench.guest.cell, number)
    pulp_env.advance(0.001)

    assert bench.submit("b") == 101
    assert "b" in bench.begun


def test_a_task_that_is_done_cannot_be_cancelled(bench: Bench) -> None:
    number = bench.submit("a")
    bench.end("a")

    assert not bench.pool.cancel(bench.guest.cell, number)
    assert bench.result(number) == COMPLETE


def test_what_is_not_kept_leaves_nothing(bench: Bench) -> None:
    number = bench.submit("a", b"x", is_kept=False)
    assert bench.result(number) == UNKNOWN
    assert bench.pool.pending() == 1

    bench.end("a")

    assert bench.pool._at.tasks == {}
    assert bench.pool.pending() == 0


def test_what_nobody_foresaw_is_a_result_and_a_record(bench: Bench) -> None:
    number = bench.submit("a", RuntimeError("a bug"))
    bench.end("a")

    assert bench.result(number) == PANICKED
    assert bench.guest.delivered == [b"a bug"]
    assert [record.message for record in bench.guest.logged] == ["task failed"]


def test_a_cell_that_goes_takes_its_tasks_and_results_along(bench: Bench) -> None:
    bench.submit("a", b"x")
    bench.end("a")
    bench.submit("b")
    bench.submit("c", guest=bench.other)
    bench.submit("d")

    bench.pool.drop("one")
    bench.env.advance(0.001)

    assert bench.ended == ["a", "b"]
    assert "d" not in bench.begun
    assert [bench.result(number) for number in (100, 101, 103)] == [UNKNOWN] * 3
    assert bench.result(102, bench.other) == PENDING
    assert bench.pool._at.busy == {"two": 1}


def test_when_the_host_stops_every_task_ends_and_none_begins(bench: Bench) -> None:
    for name in "abc":
        bench.submit(name)

    bench.env.cancel()
    bench.env.finish()

    assert sorted(bench.ended) == ["a", "b"]
    assert bench.begun == ["a", "b"]
    assert bench.submit("d") == 17


def test_before_it_is_set_up_a_pool_takes_nothing() -> None:
    with pytest.raises(HostError) as refused:
        TaskPool(lambda error: Outcome(PANICKED, b"")).submit(StubGuest().cell, lambda: None)  # type: ignore[arg-type,return-value]

    assert refused.value.code == Errno.UNDECLARED
