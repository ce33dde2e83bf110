"""A cell in service: its mailbox, its turns, its restarts.

    loading ──▶ ready ◀──▶ restarting ──▶ down
       │          │
       ▼          ▼
     failed    stopped

Everything that touches the cell happens in a turn, on one worker at a time: loading it, stepping it, replacing it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from pulp_runtime._kernel.cell import Cell
from pulp_runtime._kernel.lane import Lane
from pulp_runtime._kernel.mailbox import Delivery, Mailbox
from pulp_runtime._kernel.policy import Signal, State, decide
from pulp_runtime.errors import CellExit, MessageTooLarge, PulpError
from pulp_runtime.ext import Posted, StepEvent
from pulp_runtime.log import Log
from pulp_runtime.manifest.cell import CellSpec

BATCH: Final = 64
TURN_SECONDS: Final = 0.01
PROMPT_SECONDS: Final = 0.002
FIRST_TICK_SECONDS: Final = 0.001
LONGEST_TICK_SECONDS: Final = 1.0
HEARTBEAT: Final = 10_000


class Runner:
    """Runs one cell.

    Attributes:
        spec: the cell's manifest.
        state: where it is in its life.
        reason: why it is there, "" when nothing is wrong.
        calls: steps so far, idle ones included; the next step's call number.
        restarts: how often it has been restarted.
        due: see `lane.Turn`.
        armed: see `lane.Turn`.
    """

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
    ) -> None:
        self.spec: Final = spec
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
        self._pause = 0.0
        self._message_bytes: Final = spec.limits.message_bytes
        self.mailbox: Final = Mailbox(spec.limits.mailbox_events, lambda: ready(self))

    @property
    def cell(self) -> Cell | None:
        """The loaded cell, None before it is loaded and after it is closed."""
        return self._cell

    # Asked from any thread --------------------------------------------------------------------------------------

    def start(self) -> None:
        """Load the cell in a turn of its own."""
        self._again_at(time.monotonic())

    def post(self, event: StepEvent, finalize: Callable[[int], None]) -> Posted:
        """Put an event into the mailbox; what is accepted is finalized exactly once."""
        if len(event.payload) > self._message_bytes - 256 and self._too_large(event):
            return Posted.TOO_LARGE
        return self.mailbox.post(event, finalize)

    def _too_large(self, event: StepEvent) -> bool:
        cell = self._cell
        return cell is not None and cell.envelope_bytes(event) > self._message_bytes

    @property
    def busy(self) -> bool:
        """Whether it is in a turn, or events wait for it."""
        return self.mailbox.scheduled or (self.state is State.READY and len(self.mailbox) > 0)

    def abandon(self, reason: str) -> None:
        """Give up on a cell that was never started."""
        self._settle(Signal.START_FAILED, reason)

    def claim(self) -> bool:
        """See `lane.Turn.claim`."""
        return self.mailbox.claim()

    def retire(self) -> None:
        """Take no more events and no more turns; finalize what waits."""
        self.due = None
        self._finalize(self.mailbox.close())
        self._settle(Signal.STOP, "")

    # A turn -----------------------------------------------------------------------------------------------------

    def turn(self) -> None:
        """Load, restart or step the cell; then rest, or ask for another turn."""
        if self.state is State.READY:
            self._serve()
        elif self.state in (State.LOADING, State.RESTARTING) and self._is_due():
            self._bring_up()
        if not self.mailbox.rest(serving=self.state is State.READY):
            self.lane.ready(self)
        self.lane.arm(self)
        self._flush()

    def _is_due(self) -> bool:
        return self.due is not None and self.due <= time.monotonic()

    def _serve(self) -> None:
        """Step through a batch of events; when none is left, tick."""
        take, cell = self.mailbox.take, self._cell
        if cell is None:
            return
        began = time.monotonic()
        for _ in range(BATCH):
            delivery = take()
            if delivery is None:
                break
            self._pause = 0.0
            self._deliver(cell, delivery)
            if self.state is not State.READY:
                return
            elapsed = time.monotonic() - began
            if elapsed > PROMPT_SECONDS:
                self._flush()  # an answer does not wait for the slow steps behind it
                if elapsed > TURN_SECONDS:
                    break
        if not len(self.mailbox):
            self._flush()
            self._tick(cell)

    def _deliver(self, cell: Cell, delivery: Delivery) -> None:
        event, finalize = delivery
        number = self._count()
        try:
            cell.step(number, event)
        except MessageTooLarge as error:
            self.log.error("event refused", kind=event.kind, err=str(error))
        except PulpError as error:
            self._step_failed("step failed", number, error)
        try:
            finalize(event.id)
        except Exception as error:  # an extension's mistake is not the cell's
            self.log.error("extension finalize failed", kind=event.kind, error=repr(error), exc_info=error)

    def _count(self) -> int:
        number = self.calls
        self.calls = number + 1
        if not number % HEARTBEAT:
            self.log.info("step heartbeat", call_number=number)
        return number

    def _tick(self, cell: Cell) -> None:
        """Run an idle step if it is time for one, and say when the next one is due."""
        fixed = self.spec.tick_ms
        now = time.monotonic()
        if self.due is None or (self.due > now and (self._pause or fixed)):
            return
        if fixed is None:
            self._pause = min(max(2 * self._pause, FIRST_TICK_SECONDS), LONGEST_TICK_SECONDS)
        number = self._count()
        try:
            cell.idle(number)
        except PulpError as error:
            self._step_failed("step failed (idle)", number, error)
            return
        self.due = now + (self._pause if fixed is None else fixed / 1000)

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
            self._cell = self._load()
        except PulpError as error:
            self._settle(Signal.RESTART_FAILED if restarting else Signal.START_FAILED, str(error))
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
        action = decide(self.spec.restart, signal, self._history, time.monotonic())
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
