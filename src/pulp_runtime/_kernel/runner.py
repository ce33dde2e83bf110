"""A cell in service: its mailbox, its turns, its restarts.

    loading ──▶ ready ◀──▶ restarting ──▶ down
       │          │
       ▼          ▼
     failed    stopped

Everything that touches the cell happens in a turn, on one worker at a time: loading it, stepping it, replacing it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Final

from pulp_runtime._kernel.cell import Cell
from pulp_runtime._kernel.instance import Blocking
from pulp_runtime._kernel.lane import Lane
from pulp_runtime._kernel.mailbox import Delivery, Mailbox
from pulp_runtime._kernel.policy import Signal, State, decide
from pulp_runtime._kernel.seat import Seat
from pulp_runtime.errors import CellClosed, CellExit, MessageTooLarge, PulpError
from pulp_runtime.log import Log
from pulp_runtime.manifest.cell import CellSpec

BATCH: Final = 64
BATCH_SECONDS: Final = 0.001
"""How long a batch should take: as many events as the last one's pace allows, at most `BATCH`."""
TURN_SECONDS: Final = 0.01
PROMPT_SECONDS: Final = 0.002
FIRST_TICK_SECONDS: Final = 0.001
LONGEST_TICK_SECONDS: Final = 1.0
HEARTBEAT: Final = 10_000


class Runner:
    """Runs one cell.

    Attributes:
        seat: where it runs, also when the manifest is another.
        spec: the cell's manifest.
        state: where it is in its life.
        reason: why it is there, "" when nothing is wrong.
        calls: steps so far, idle ones included; the next step's call number.
        restarts: how often it has been restarted.
        due: see `lane.Turn`.
        armed: see `lane.Turn`.
        serves_in_turns: whether events are dealt with in its own turns.
    """

    serves_in_turns = True

    def __init__(
        self,
        spec: CellSpec,
        load: Callable[[], Cell],
        lane: Lane,
        *,
        ready: Callable[[Runner], None],
        flush: Callable[[], None],
        changed: Callable[[Runner], None],
        log: Log,
        seat: Seat | None = None,
    ) -> None:
        self.spec = spec
        self.seat: Final = seat or Seat.alone(spec)
        self.log: Final = log
        self.lane: Final = lane
        self.state = State.LOADING
        self.reason = ""
        self.calls = 0
        self.restarts = 0
        self.due: float | None = None
        self.armed: float | None = None
        self._load: Final = load
        self._flush: Final = flush
        self._changed: Final = changed
        self._cell: Cell | None = None
        self._history: tuple[float, ...] = ()
        self._limits = spec.limits
        self._jobs: Final[deque[Callable[[], None]]] = deque()
        self._left: list[Delivery] = []
        self._pause = 0.0
        self._batch = 1
        self.mailbox: Final = Mailbox(self._limits, lambda: ready(self), self._progress)

    @property
    def cell(self) -> Cell | None:
        """The loaded cell, None before it is loaded and after it is closed."""
        return self._cell

    # Asked from any thread --------------------------------------------------------------------------------------

    def start(self) -> None:
        """Load the cell in a turn of its own."""
        self._again_at(time.monotonic())

    def call(self, function: str, args: bytes, seconds: float | None = None) -> bytes:
        """Ask the cell on the caller's thread; see `Cell.call`. A trap counts as a crash here too."""
        while True:
            cell = self._ready_cell()
            try:
                return cell.call(function, args, seconds=seconds)
            except CellClosed:
                if self._cell is cell or self.state is not State.READY:
                    raise  # else it was replaced while we waited for it
            finally:
                if cell.spent and self._cell is cell:
                    self.look()

    def ask(
        self,
        name: bytes,
        args: memoryview,
        seconds: float,
        take: Callable[[memoryview], None],
        waiting: Blocking,
    ) -> None:
        """Ask the cell on the caller's thread, for another cell; see `Cell.answer`. A trap counts as a crash."""
        while True:
            cell = self._ready_cell()
            try:
                return cell.answer(name, args, seconds, seconds, take, waiting, nested=True)
            except CellClosed:
                if self._cell is cell or self.state is not State.READY:
                    raise  # else it was replaced while we waited for it
            finally:
                if cell.spent and self._cell is cell:
                    self.look()

    def _ready_cell(self) -> Cell:
        cell = self._cell
        if cell is None or self.state is not State.READY:
            raise CellClosed(
                self.spec.name, f"cell {self.seat.address} is {self.state.value}: {self.reason or 'no reason'}"
            )
        return cell

    def look(self) -> None:
        """Have a spent instance replaced in a turn."""
        if self.claim():
            self.lane.ready(self)

    @property
    def busy(self) -> bool:
        """Whether it is in a turn, or events wait for it."""
        return self.mailbox.scheduled or (self.state is State.READY and len(self.mailbox) > 0)

    def _progress(self) -> int:
        cell = self._cell
        return 0 if cell is None else cell.progress

    def between(self, job: Callable[[], None]) -> None:
        """Run `job`, which must not raise, on a worker of the cell between two events, whatever its state."""
        self._jobs.append(job)
        self.look()

    def adopt(self, cell: Cell) -> Cell | None:
        """Go on with another instance, maybe of another version; return the old one. Only in a job."""
        old, self._cell = self._cell, cell
        self.spec = cell.spec
        self._limits = cell.spec.limits
        self.mailbox.limit(self._limits)
        self.calls = 0
        self._pause = 0.0
        self.due = None if self.spec.tick_ms == 0 else time.monotonic()
        self._history = ()
        self.mailbox.open()
        self.state, self.reason = State.READY, ""
        self._changed(self)
        return old

    def give_up(self, reason: str) -> Cell | None:
        """Have no instance any more, and be `failed`; return the one there was. Only in a job."""
        old, self._cell = self._cell, None
        self._settle(Signal.START_FAILED, reason)
        return old

    def abandon(self, reason: str) -> None:
        """Give up on a cell that was never started."""
        self._settle(Signal.START_FAILED, reason)

    def claim(self) -> bool:
        """See `lane.Turn.claim`."""
        return self.mailbox.claim()

    def retire(self) -> None:
        """Take no more events and no more turns; what waits is finalized by `finish`."""
        self.due = None
        self._left = self.mailbox.close()
        self._settle(Signal.STOP, "")

    def let_go(self) -> Cell | None:
        """Return the instance, which is the caller's to close from now on."""
        cell, self._cell = self._cell, None
        return cell

    def revive(self) -> None:
        """Load the cell again, after it was stopped, went down or failed."""
        self.state, self.reason = State.LOADING, ""
        self._history = ()
        self.mailbox.open()
        self.start()

    def finish(self) -> None:
        """Finalize what was left when the cell retired."""
        left, self._left = self._left, []
        self._finalize(left)

    # A turn -----------------------------------------------------------------------------------------------------

    def turn(self) -> None:
        """Load, restart or step the cell; then rest, or ask for another turn."""
        try:
            while self._jobs:
                self._jobs.popleft()()
            if self.state is State.READY:
                self._serve()
            elif self.state not in (State.LOADING, State.RESTARTING):
                self.due = None
            elif self._is_due():
                self._bring_up()
        finally:  # whatever a host function raised: the next turn must come
            resting = self.mailbox.rest(serving=self.serves_in_turns and self.state is State.READY)
            if not resting or (self._jobs and self.claim()):
                self.lane.ready(self)
            self.lane.arm(self)
            self._flush()

    def _is_due(self) -> bool:
        return self.due is not None and self.due <= time.monotonic()

    def _serve(self) -> None:
        """Step through what waits, a batch at a time; when nothing is left, tick."""
        cell = self._cell
        if cell is None:
            return
        if cell.spent:  # a call ended it, between two steps
            self._settle(Signal.CRASHED, cell.spent)
            return
        began = now = time.monotonic()
        while deliveries := self.mailbox.take(self._batch):
            self._pause = 0.0
            stepped = self._deliver(cell, deliveries)
            if self.state is not State.READY:
                return
            before, now = now, time.monotonic()
            self._batch = max(1, min(BATCH, int(BATCH_SECONDS * stepped / max(now - before, 1e-9))))
            if now - began > PROMPT_SECONDS:
                self._flush()  # an answer does not wait for the slow steps behind it
                if now - began > TURN_SECONDS:
                    break
        if not len(self.mailbox):
            self._flush()
            self._tick(cell)

    def _deliver(self, cell: Cell, deliveries: list[Delivery]) -> int:
        """Step through a batch; finalize what was stepped through, put back the rest. Return how many were."""
        stepped = len(deliveries)  # all of them, should a host function end the turn
        try:
            stepped = self._step(cell, deliveries)
        finally:
            self._finalize(deliveries[:stepped])
            rest = deliveries[stepped:]
            if not self.mailbox.put_back(rest):
                self._finalize(rest)
        return stepped

    def _step(self, cell: Cell, deliveries: list[Delivery]) -> int:
        number = self.calls
        try:
            made, error = cell.steps(number, [event for event, _finalize in deliveries])
        except Exception as bug:  # noqa: BLE001  # one of them cannot be an envelope; alone, it shows which
            if len(deliveries) > 1:
                return 0
            self.log.error("event refused", kind=deliveries[0][0].kind, err=repr(bug))
            return 1
        stepped = made + (error is not None)
        self._count(stepped)
        if isinstance(error, MessageTooLarge):
            self.log.error("event refused", kind=deliveries[made][0].kind, err=str(error))
        elif error is not None:
            self._step_failed("step failed", number + made, error)
        return stepped

    def _count(self, steps: int) -> int:
        """Count steps; return the number of the first."""
        number = self.calls
        self.calls = number + steps
        if (number - 1) // HEARTBEAT != (self.calls - 1) // HEARTBEAT:
            self.log.info("step heartbeat", call_number=(self.calls - 1) // HEARTBEAT * HEARTBEAT)
        return number

    def _tick(self, cell: Cell) -> None:
        """Run an idle step if it is time for one, and say when the next one is due."""
        fixed = self.spec.tick_ms
        now = time.monotonic()
        if self.due is None or (self.due > now and (self._pause or fixed)):
            return
        if fixed is None:
            self._pause = min(max(2 * self._pause, FIRST_TICK_SECONDS), LONGEST_TICK_SECONDS)
        self.due = now + (self._pause if fixed is None else fixed / 1000)
        number = self._count(1)
        try:
            cell.idle(number)
        except PulpError as error:
            self._step_failed("step failed (idle)", number, error)

    def _step_failed(self, message: str, number: int, error: PulpError) -> None:
        self.log.error(message, call_number=number, err=str(error))
        ended = isinstance(error, CellExit) and error.status == 0
        self._settle(Signal.ENDED if ended else Signal.CRASHED, str(error))

    # Life -------------------------------------------------------------------------------------------------------

    def _bring_up(self) -> None:
        """Load the cell, or a new one in place of the old."""
        restarting = self.state is State.RESTARTING
        self.due = None
        old, self._cell = self._cell, None
        if old is not None:
            old.close()
        try:
            with self.lane.blocking():  # compiling takes seconds; the lane goes on meanwhile
                self._cell = self._load()
        except Exception as error:  # noqa: BLE001  # also what nobody foresaw: the host waits for an answer
            reason = str(error) if isinstance(error, PulpError) else repr(error)
            self._settle(Signal.RESTART_FAILED if restarting else Signal.START_FAILED, reason)
            return
        if restarting:
            self.restarts += 1
            self.log.warning("cell RE-INSTANTIATED after trap", call_number=self.calls, restart_count=self.restarts)
        self._pause = 0.0
        self.due = None if self.spec.tick_ms == 0 else time.monotonic()
        self._settle(Signal.STARTED, "")

    def _settle(self, signal: Signal, reason: str) -> None:
        """Carry out what the policy says."""
        if self.state is State.STOPPED:
            return
        action = decide(self.spec.restart, signal, self._history, time.monotonic(), self._limits)
        self.state, self.reason, self._history = action.state, reason, action.history
        if action.delay_seconds is not None:
            self.due = time.monotonic() + action.delay_seconds
        elif action.state is not State.READY:
            self.due = None
            self._finalize(self.mailbox.close())
        if action.state is State.DOWN:
            self.log.error("cell is down: no more restarts", restarts=self.restarts, reason=reason)
        self._changed(self)

    def _again_at(self, when: float) -> None:
        self.due = when
        if self.claim():
            self.lane.ready(self)

    def _finalize(self, deliveries: list[Delivery]) -> None:
        for event, finalize in deliveries:
            try:
                finalize(event.id)
            except Exception as error:  # the rest must still be finalized
                self.log.error("extension finalize failed", kind=event.kind, error=repr(error), exc_info=error)
