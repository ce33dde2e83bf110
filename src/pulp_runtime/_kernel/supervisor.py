"""A watch over one cell, for programs that drive it themselves (spec/core §4.9).

new ─▶ starting ─▶ ready ─▶ runaway
          │          │
          ▼          ▼
        failed    stopping ─▶ stopped
"""

from __future__ import annotations

import enum
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from pulp_runtime._kernel.cell import Cell
from pulp_runtime.errors import CellTimeout, PulpError
from pulp_runtime.ext import StepEvent
from pulp_runtime.log import Log

T = TypeVar("T")
LIVENESS_SECONDS: Final = 1.0


class Health(enum.Enum):
    """Where a supervised cell is in its life."""

    NEW = "new"
    STARTING = "starting"
    READY = "ready"
    RUNAWAY = "runaway"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A supervised cell at one moment.

    Attributes:
        cell: its name.
        state: see `Health`.
        last_ok: when an entry point last returned, seconds on the monotonic clock; None for never.
        runaways: how often one ran past its budget.
    """

    cell: str
    state: Health
    last_ok: float | None
    runaways: int

    @property
    def healthy(self) -> bool:
        """Whether the cell is ready."""
        return self.state is Health.READY


class Runaway(PulpError):
    """An entry point ran past its budget and was ended; the cell's instance is spent."""


Report = Callable[[str, float, float, BaseException], None]


class Supervisor:
    """Guards the entry points of one loaded cell.

    Args:
        cell: loaded, not yet initialised. Its deadline ends a guest that runs away: the budget is
            `call_timeout_ms` of its manifest.
        report: called with (cell, budget seconds, elapsed seconds, error) for each runaway, on the caller's thread.
    """

    def __init__(self, cell: Cell, report: Report | None = None) -> None:
        self.cell: Final = cell
        self.budget_seconds: Final = cell.spec.limits.call_seconds
        self.ready: Final = threading.Event()
        """Set when `start` is over, whether it succeeded or not."""
        self._report: Final = report
        self._log: Final = Log("pulp", cell=cell.name)
        self._lock: Final = threading.Lock()
        self._state = Health.NEW
        self._last_ok: float | None = None
        self._runaways = 0

    @property
    def state(self) -> Health:
        """Where the cell is in its life."""
        return self._state

    def start(self, config: bytes = b"") -> None:
        """Initialise the cell; `ready` is set either way.

        Raises:
            PulpError: see `Cell.init`; the state is `failed`.
        """
        self._state = Health.STARTING
        try:
            self.cell.init(config)
        except BaseException:
            self._state = Health.FAILED
            raise
        else:
            self._last_ok = time.monotonic()
            self._state = Health.READY
        finally:
            self.ready.set()

    def stop(self) -> None:
        """Shut the cell down and close it.

        Raises:
            PulpError: `pulp_shutdown` failed; the cell is closed all the same.
        """
        self._state = Health.STOPPING
        try:
            self.cell.shutdown()
        finally:
            self.cell.close()
            self._state = Health.STOPPED

    def guard(self, body: Callable[[], T]) -> T:
        """Run one entry point under the budget.

        Raises:
            Runaway: it ran past the budget; counted, reported, and the state is `runaway`.
        """
        began = time.monotonic()
        try:
            answer = body()
        except CellTimeout as error:
            self._ran_away(time.monotonic() - began, error)
            raise Runaway(str(error)) from error
        self._last_ok = time.monotonic()
        return answer

    def guard_step(self, call_number: int, event: StepEvent) -> int:
        """Run `Cell.deliver` under the budget."""
        return self.guard(lambda: self.cell.deliver(call_number, event))

    def guard_call(self, function: str, args: bytes = b"") -> bytes:
        """Run `Cell.call` under the budget."""
        return self.guard(lambda: self.cell.call(function, args))

    def snapshot(self) -> Snapshot:
        """Return the cell's health at this moment."""
        with self._lock:
            return Snapshot(self.cell.name, self._state, self._last_ok, self._runaways)

    def monitor_liveness(
        self,
        emit: Callable[[Snapshot], None],
        *,
        interval_seconds: float = LIVENESS_SECONDS,
        probe: Callable[[], object] | None = None,
        until: threading.Event | None = None,
    ) -> None:
        """Probe the cell again and again; returns when it is no longer ready, or `until` is set.

        Args:
            emit: given a snapshot after each probe.
            interval_seconds: pause between two probes.
            probe: an idle step by default.
            until: ends the monitoring.
        """
        stop = until or threading.Event()
        ask = probe or (lambda: self.cell.idle(0))
        while self._state is Health.READY and not stop.wait(interval_seconds):
            try:
                self.guard(ask)
            except PulpError as error:
                self._log.warning("liveness probe failed", err=str(error))
            emit(self.snapshot())

    def _ran_away(self, elapsed: float, error: BaseException) -> None:
        with self._lock:
            self._runaways += 1
            if self._state is Health.READY:
                self._state = Health.RUNAWAY
        if self._report is not None:
            self._report(self.cell.name, self.budget_seconds, elapsed, error)
