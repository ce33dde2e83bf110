"""Functions: a fresh run for each event, many at once (spec/wasi-cloud §2).

    mailbox ──▶ turn ──▶ as many workers as there are events and free places, each: take ─▶ run ─▶ finalize ─▶ take …

Events wait in the mailbox until a place is free, `max_instances` of them; past the mailbox they are refused.
"""

from __future__ import annotations

import threading
import time
from typing import Any, Final

from pulp_runtime._kernel.cell import Cell
from pulp_runtime._kernel.mailbox import Delivery
from pulp_runtime._kernel.policy import State
from pulp_runtime._kernel.programs.cell import ProgramCell
from pulp_runtime._kernel.runner import PROMPT_SECONDS, TURN_SECONDS, Runner
from pulp_runtime.errors import PulpError
from pulp_runtime.ext import Outcome

_LOOK_SECONDS: Final = 0.005
GOODBYE_SECONDS: Final = 2.0
"""How long what runs may take to come to its end when the function is stopped."""


class FunctionCell(ProgramCell):
    """A function: runs come and go, and what remains is the program."""

    def shutdown(self) -> None:
        """Wait for what runs, then end it."""
        end = time.monotonic() + GOODBYE_SECONDS
        while self.program.running and time.monotonic() < end:
            time.sleep(_LOOK_SECONDS)
        self.program.stop()


class Place:
    """One of the places where a function may run; a turn of its own on the lane.

    Attributes:
        due: see `lane.Turn`; never.
        armed: see `lane.Turn`; never.
    """

    due: float | None = None
    armed: float | None = None

    def __init__(self, runner: FunctionRunner) -> None:
        self._runner: Final = runner

    def claim(self) -> bool:
        """See `lane.Turn.claim`: who has the place, has its turn."""
        return True

    def turn(self) -> None:
        """Run what waits, one after the other, until nothing does or others want the worker."""
        self._runner.run_in(self)


class FunctionRunner(Runner):
    """Runs a function. Its turns hand events to places and do not run them."""

    serves_in_turns = False

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        self._places: Final[list[Place]] = []
        self._made = 0
        self._counting: Final = threading.Lock()
        self._furnish()

    def _furnish(self) -> None:
        """Have as many places as the manifest says; those too many go when they are given back."""
        program = self.spec.program
        with self._counting:
            while program is not None and self._made < program.max_instances:
                self._made += 1
                self._places.append(Place(self))

    @property
    def busy(self) -> bool:
        """Whether it is in a turn, runs, or is about to."""
        return len(self._places) < self._made or super().busy

    def adopt(self, cell: Cell) -> Cell | None:
        """See `Runner.adopt`; what runs in the old version comes to its own end, so nobody has to end it."""
        super().adopt(cell)
        self._furnish()
        return None

    def _serve(self) -> None:
        """Give a place to each event, as far as there are any."""
        for _ in range(min(len(self.mailbox), len(self._places))):
            self.lane.ready(self._places.pop())

    def turn(self) -> None:
        """Do what there is to do for all of it, then for events that came meanwhile."""
        super().turn()
        if self.state is State.READY and len(self.mailbox) and self._places and self.claim():
            self.lane.ready(self)

    def run_in(self, place: Place) -> None:
        """Run events in a place, on a worker, and give the place back."""
        began = flushed = time.monotonic()
        try:
            while self.state is State.READY and (deliveries := self.mailbox.take(1)):
                self._run(deliveries[0])
                now = time.monotonic()
                if now - flushed > PROMPT_SECONDS:
                    self._flush()
                    flushed = now
                if now - began > TURN_SECONDS:
                    break
        finally:
            self._give_back(place)
            self._flush()
        if self.state is State.READY and len(self.mailbox) and self.claim():
            self.lane.ready(self)

    def _give_back(self, place: Place) -> None:
        program = self.spec.program
        with self._counting:
            if program is not None and self._made > program.max_instances:
                self._made -= 1
            else:
                self._places.append(place)

    def _run(self, delivery: Delivery) -> None:
        cell = self._cell
        try:
            if isinstance(cell, ProgramCell):
                with self._counting:
                    self.calls += 1
                program = cell.program
                slot = program.take()
                try:
                    self._tell(slot.run(delivery[0]))
                finally:
                    program.give(slot)
        except PulpError as error:
            self.log.error("run failed", err=str(error))
        finally:
            self._finalize([delivery])

    def _tell(self, outcome: Outcome) -> None:
        if not outcome.clean:
            self.log.error("run failed", err=outcome.error)
