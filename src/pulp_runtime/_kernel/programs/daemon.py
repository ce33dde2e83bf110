"""Daemons: one run, for as long as it likes, on a thread of its own (spec/wasi-cloud §2, §5).

When it returns or traps, the cell's restart policy decides. To stop it, what it waits for comes to an end first; if
that does not help, it is ended.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from pulp_runtime._kernel.policy import Signal, State
from pulp_runtime._kernel.programs.cell import ProgramCell
from pulp_runtime._kernel.programs.program import Program
from pulp_runtime._kernel.runner import Runner
from pulp_runtime.ext import Outcome
from pulp_runtime.manifest.cell import CellSpec

GOODBYE_SECONDS: Final = 2.0
"""How long a daemon may take to end by itself once it is told to."""
KILLED_SECONDS: Final = 0.5
"""How long it then has until nobody waits for its thread any more."""


class DaemonCell(ProgramCell):
    """A daemon.

    Args:
        spec: its manifest.
        program: what is run.
        ended: called, on its thread, when its run is over and nobody wanted it to be.

    Attributes:
        outcome: how its run ended; None while it lasts.
    """

    def __init__(self, spec: CellSpec, program: Program, ended: Callable[[], None]) -> None:
        super().__init__(spec, program)
        self.outcome: Outcome | None = None
        self._ended: Final = ended
        self._leaving = False
        self._thread: Final = threading.Thread(target=self._work, name=f"cell:{spec.name}", daemon=True)

    def init(self, config: bytes = b"") -> None:
        """Start the run."""
        self._thread.start()

    def _work(self) -> None:
        outcome = Outcome(None, "its thread was ended")
        try:
            slot = self.program.take()
            outcome = slot.run()
            self.program.give(slot)
        except Exception as error:  # noqa: BLE001  # no slot: it must not seem to run for ever
            outcome = Outcome(None, repr(error))
        finally:
            self._over(outcome)

    def _over(self, outcome: Outcome) -> None:
        """Note how the run ended, and have that looked at."""
        self.outcome = outcome
        self.spent = outcome.error or f"it exited with status {outcome.status}"
        if not self._leaving:
            self._ended()

    def shutdown(self) -> None:
        """Tell it to end, and end it if it does not."""
        self._leaving = True
        self.program.stop()
        self._thread.join(GOODBYE_SECONDS)
        if self._thread.is_alive():
            self.program.ref.log.warning("daemon does not end; ending it", seconds=GOODBYE_SECONDS)

    def close(self) -> None:
        """End it, whatever it does."""
        self._leaving = True
        if self._thread.is_alive():
            self.program.kill()
            self._thread.join(KILLED_SECONDS)
        super().close()


class DaemonRunner(Runner):
    """Runs a daemon: there is nothing to step, only an end to notice."""

    def retire(self) -> None:
        """See `Runner.retire`; every daemon of a host is told at once, before any is waited for."""
        cell = self._cell
        if isinstance(cell, DaemonCell):
            cell.program.stop()
        super().retire()

    def turn(self) -> None:
        """Do what there is to do; a run that ended before the turn did is looked at in another."""
        super().turn()
        if self.state is State.READY and self._outcome() is not None:
            self.look()

    def _outcome(self) -> Outcome | None:
        cell = self._cell
        return cell.outcome if isinstance(cell, DaemonCell) else None

    def _serve(self) -> None:
        outcome = self._outcome()
        if outcome is None:
            return
        if outcome.status == 0:
            self.log.info("daemon ended")
        else:
            self.log.error("daemon ended", status=outcome.status, err=outcome.error)
        reason = outcome.error or f"it exited with status {outcome.status}"
        self._settle(Signal.ENDED if outcome.status == 0 else Signal.CRASHED, reason)
