"""Work that a cell starts and asks about later: a bounded queue, so many at once, results kept for a while.

    submit ──▶ queued ──▶ running ──▶ done ──▶ delivered
       │                     │          └─▶ forgotten after a while
       └─ 15, 16, 17         └─ cancelled, or its cell is gone

Ids begin at 100, so that no id is a code (spec/capabilities §1.1). A task belongs to its cell; nobody else learns
whether it exists.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections import Counter, deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, NamedTuple

from pulp_runtime.ext import CellRef, Errno, Guest, HostError, SetupEnv

FIRST_ID: Final = 100
QUEUE_FULL: Final = 15
CELL_FULL: Final = 16
SATURATED: Final = 17

CELL_BYTES: Final = 64 * 1024 * 1024
"""What the results of one cell may hold before it must ask for them."""
TOTAL_BYTES: Final = 512 * 1024 * 1024
"""The same for all cells together."""

PENDING: Final = 0
COMPLETE: Final = 1
FAILED: Final = 2
PANICKED: Final = 3
UNKNOWN: Final = 4


class Outcome(NamedTuple):
    """What came of a task.

    Attributes:
        status: what the cell is answered when it asks: `COMPLETE`, `FAILED` or `PANICKED`.
        data: what is delivered with it.
    """

    status: int
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How much a pool takes on.

    Attributes:
        running: tasks at once. More wait.
        queued: tasks that may wait. Past it `submit` answers 15.
        per_cell: tasks of one cell that wait or run. Past it 16.
        free: tasks that count for none of these. Past it 17.
        results: finished tasks of one cell that it has not asked for. Past it 16.
        cell_bytes: what those may hold. Past it 16.
        total_bytes: the same for all cells together. Past it 17.
        keep_seconds: how long a result is kept.
    """

    running: int
    queued: int
    per_cell: int
    keep_seconds: float
    free: int = 64
    results: int = 256
    cell_bytes: int = CELL_BYTES
    total_bytes: int = TOTAL_BYTES


@dataclass(slots=True, eq=False)
class Task:
    """One piece of work.

    Attributes:
        number: its id.
        cell: whose it is.
        work: makes what came of it.
        is_free: whether it counts for no bound but `Bounds.free`.
        is_kept: whether anybody will ask for its result.
        runs: the task of the loop while it runs.
        is_over: whether nobody wants it any more.
        outcome: what came of it, None before.
    """

    number: int
    cell: CellRef
    work: Callable[[], Coroutine[Any, Any, Outcome]]
    is_free: bool
    is_kept: bool
    runs: asyncio.Task[Outcome] | None = None
    is_over: bool = False
    outcome: Outcome | None = None


@dataclass(slots=True)
class _Kept:
    """Results of one cell that wait to be asked for."""

    count: int = 0
    bytes: int = 0


@dataclass(slots=True)
class _Tables:
    """What is guarded by the pool's lock."""

    tasks: dict[int, Task] = field(default_factory=dict)
    queue: deque[Task] = field(default_factory=deque)
    busy: Counter[str] = field(default_factory=Counter)
    kept: dict[str, _Kept] = field(default_factory=dict)
    kept_bytes: int = 0
    running: int = 0
    free: int = 0


class TaskPool:
    """The tasks of all cells for one capability. `submit`, `deliver`, `cancel` and `pending` from any thread.

    Args:
        panicked: `panicked(error)`: what came of a task whose work raised what nobody foresaw.
    """

    def __init__(self, panicked: Callable[[BaseException], Outcome]) -> None:
        self._panicked: Final = panicked
        self._lock: Final = threading.Lock()
        self._numbers: Final = itertools.count(FIRST_ID)
        self._at: Final = _Tables()
        self._env: SetupEnv | None = None
        self._bounds = Bounds(running=0, queued=0, per_cell=0, keep_seconds=0)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._expiring: Final[deque[tuple[float, int]]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._is_stopping = False
        self._alive: Final[set[asyncio.Task[Outcome]]] = set()

    def open(self, env: SetupEnv, bounds: Bounds) -> None:
        """Take tasks from now on; `serve` must be spawned to run them."""
        self._env, self._bounds = env, bounds

    # For host functions -----------------------------------------------------------------------------------------

    def submit(
        self,
        cell: CellRef,
        work: Callable[[], Coroutine[Any, Any, Outcome]],
        *,
        is_free: bool = False,
        is_kept: bool = True,
    ) -> int:
        """Take on a task; return its id.

        Raises:
            HostError: 15 when too many wait, 16 when the cell has too many, 17 when the host has, or stops.
        """
        if self._env is None:
            raise HostError(Errno.UNDECLARED, "it is not set up")
        with self._lock:
            refused = self._refuses(cell.id, is_free)
            if refused is None:
                task = Task(next(self._numbers), cell, work, is_free, is_kept)
                self._at.tasks[task.number] = task
                self._at.queue.append(task)
                if is_free:
                    self._at.free += 1
                else:
                    self._at.busy[cell.id] += 1
        if refused is not None:
            cell.log.warning("task refused", reason=refused.detail, code=refused.code)
            raise refused
        self._env.defer(self._fill)
        return task.number

    def _refuses(self, cell_id: str, is_free: bool) -> HostError | None:
        at, bounds = self._at, self._bounds
        kept = at.kept.get(cell_id, _Kept())
        if self._is_stopping:
            return HostError(SATURATED, "the host stops")
        if kept.count >= bounds.results or kept.bytes >= bounds.cell_bytes:
            return HostError(CELL_FULL, f"{kept.count} results of {kept.bytes} bytes wait to be asked for")
        if at.kept_bytes >= bounds.total_bytes:
            return HostError(SATURATED, f"results of {at.kept_bytes} bytes wait to be asked for")
        if is_free:
            return HostError(SATURATED, f"{at.free} tasks without a limit") if at.free >= bounds.free else None
        if at.busy[cell_id] >= bounds.per_cell:
            return HostError(CELL_FULL, f"the cell has {at.busy[cell_id]} tasks")
        if at.busy.total() >= bounds.running + bounds.queued:
            return HostError(QUEUE_FULL, f"{bounds.queued} tasks wait")
        return None

    def deliver(self, guest: Guest, number: int, address_out: int, length_out: int) -> int:
        """Hand a result over, once; return its status, `PENDING`, or `UNKNOWN`.

        Raises:
            HostError: 7 or 8 when the guest has no place for it; the result is kept.
        """
        with self._lock:
            task = self._at.tasks.get(number)
        if task is None or task.cell.id != guest.cell.id or not task.is_kept:
            return UNKNOWN
        if task.outcome is None:
            return PENDING
        guest.deliver(task.outcome.data, address_out, length_out)
        with self._lock:
            self._forget(task)
        return task.outcome.status

    def cancel(self, cell: CellRef, number: int) -> bool:
        """End a task that is not done; False if there is none."""
        with self._lock:
            task = self._at.tasks.get(number)
            if task is None or task.cell.id != cell.id or task.outcome is not None:
                return False
        self._end(task)
        return True

    def pending(self, cell: CellRef | None = None) -> int:
        """Return how many tasks wait or run, of all cells or of one."""
        with self._lock:
            tasks = list(self._at.tasks.values())
        return sum(task.outcome is None and (cell is None or task.cell.id == cell.id) for task in tasks)

    def drop(self, cell_id: str) -> None:
        """End the tasks of a cell, and forget their results."""
        with self._lock:
            tasks = [task for task in self._at.tasks.values() if task.cell.id == cell_id]
        for task in tasks:
            self._end(task)

    def _end(self, task: Task) -> None:
        with self._lock:
            task.is_over = True
            self._forget(task)
        if self._env is not None:
            self._env.defer(lambda: self._stop(task))

    def _forget(self, task: Task) -> None:
        """Take a task off the tables. Under the lock."""
        if self._at.tasks.pop(task.number, None) is None or task.outcome is None:
            return
        kept = self._at.kept[task.cell.id]
        kept.count -= 1
        kept.bytes -= len(task.outcome.data)
        self._at.kept_bytes -= len(task.outcome.data)
        if not kept.count:
            del self._at.kept[task.cell.id]

    # On the loop ------------------------------------------------------------------------------------------------

    async def serve(self) -> None:
        """Run tasks until the host begins to stop; then end them and wait for that."""
        self._loop = asyncio.get_running_loop()
        self._fill()
        try:
            await self._loop.create_future()
        finally:
            self._is_stopping = True
            with self._lock:
                tasks = list(self._at.tasks.values())
            for task in tasks:
                self._end(task)
            for runs in self._alive:
                runs.cancel()
            await asyncio.gather(*self._alive, return_exceptions=True)
            if self._timer is not None:
                self._timer.cancel()
            self._loop = None

    def _fill(self) -> None:
        """Start what there is room for."""
        loop = self._loop
        while loop is not None:
            with self._lock:
                task = self._next()
            if task is None:
                return
            task.runs = loop.create_task(task.work())
            self._alive.add(task.runs)
            task.runs.add_done_callback(partial(self._done, task))

    def _next(self) -> Task | None:
        """Take the next task off the queue that may run. Under the lock."""
        at = self._at
        for task in at.queue:
            if not task.is_over and (task.is_free or at.running < self._bounds.running):
                at.queue.remove(task)
                at.running += not task.is_free
                return task
        return None

    def _stop(self, task: Task) -> None:
        """End a task's work, or keep it from beginning."""
        if task.runs is not None:
            task.runs.cancel()
            return
        with self._lock:
            if task in self._at.queue:
                self._at.queue.remove(task)
                self._leave(task)

    def _leave(self, task: Task) -> None:
        """Count a task no longer. Under the lock."""
        if task.is_free:
            self._at.free -= 1
        else:
            self._at.busy[task.cell.id] -= 1
            if not self._at.busy[task.cell.id]:
                del self._at.busy[task.cell.id]

    def _done(self, task: Task, runs: asyncio.Task[Outcome]) -> None:
        self._alive.discard(runs)
        outcome = None if runs.cancelled() else self._outcome(task, runs)
        with self._lock:
            self._at.running -= not task.is_free
            self._leave(task)
            if outcome is None or task.is_over or not task.is_kept:
                self._at.tasks.pop(task.number, None)
            else:
                self._keep(task, outcome)
        self._fill()

    def _outcome(self, task: Task, runs: asyncio.Task[Outcome]) -> Outcome:
        error = runs.exception()
        if error is None:
            return runs.result()
        task.cell.log.error("task failed", id=task.number, error=repr(error), exc_info=error)
        return self._panicked(error)

    def _keep(self, task: Task, outcome: Outcome) -> None:
        """Keep a result for a while. Under the lock."""
        task.outcome = outcome
        kept = self._at.kept.setdefault(task.cell.id, _Kept())
        kept.count += 1
        kept.bytes += len(outcome.data)
        self._at.kept_bytes += len(outcome.data)
        if self._loop is not None:
            self._expiring.append((self._loop.time() + self._bounds.keep_seconds, task.number))
            self._arm(self._loop)

    def _arm(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._timer is None and self._expiring:
            self._timer = loop.call_at(self._expiring[0][0], self._expire)

    def _expire(self) -> None:
        """Forget results that nobody asked for."""
        loop, self._timer = self._loop, None
        if loop is None:
            return
        with self._lock:
            while self._expiring and self._expiring[0][0] <= loop.time():
                task = self._at.tasks.get(self._expiring.popleft()[1])
                if task is not None:
                    task.cell.log.info("result forgotten", id=task.number, reason="nobody asked for it")
                    self._forget(task)
        self._arm(loop)
