"""One version of a cell in the place of another, between two events.

    compile ─▶ ( in a turn: swap_begin ─▶ load ─▶ init ─▶ adopt ─▶ swap_end ─▶ the old one says goodbye )

Where the cell is snapshotable and the module is the same, the new instance goes on with the state of the old one:
then there is no init, and no goodbye.

The new version is loaded and initialised first; when that fails the old one goes on as if nothing had been. What the
cell owns passes from one to the other where the capability can do that: its connections survive. A capability that
cannot drops what the cell owns before the new version asks for it; should that one then fail, the old version is
started afresh.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Final

from pulp_runtime._kernel.cell import Cell
from pulp_runtime._kernel.hooks import contained
from pulp_runtime._kernel.runner import Runner
from pulp_runtime._kernel.snapshots.keeper import Passage
from pulp_runtime._kernel.snapshots.saved import Saved
from pulp_runtime._kernel.versions import Version
from pulp_runtime.abi.config import encode_config
from pulp_runtime.errors import PulpError
from pulp_runtime.ext import Capability


class Swap:
    """The swap of one cell. `run` is a job for `Runner.between`; it never raises.

    Args:
        runner: the cell.
        old: what runs, None when nothing ever did.
        new: what is to run.
        capabilities: those that either of them declares.
        load: makes an instance of a version.
        farewell: shuts an instance down and closes it.
        passage: what hands the state over; None if it is not wanted.

    Attributes:
        error: why the new version was not adopted, None when it was.
    """

    def __init__(
        self,
        runner: Runner,
        old: Version | None,
        new: Version,
        capabilities: Sequence[Capability],
        load: Callable[..., Cell],
        farewell: Callable[[Cell], object],
        passage: Passage | None = None,
    ) -> None:
        self.error: Exception | None = None
        self._runner: Final = runner
        self._old: Final = old
        self._new: Final = new
        self._keeping: Final = [one for one in capabilities if one.swap_begin is not None]
        self._dropping: Final = [
            one for one in capabilities if one.swap_begin is None and one.teardown_cell is not None
        ]
        self._load: Final = load
        self._farewell: Final = farewell
        self._passage: Final = passage

    def run(self) -> None:
        """Swap, or leave things as they were and say why; who asks the cell meanwhile waits for who is there then."""
        there = self._runner.cell
        with nullcontext() if there is None else there.alone():
            self._swap()

    def _swap(self) -> None:
        saved = None if self._passage is None else self._passage.take()
        self._each(self._keeping, "swap_begin")
        self._each(self._dropping, "teardown_cell")
        try:
            cell = self._go_on(saved) or self._start(self._new)
        except Exception as error:  # noqa: BLE001  # whoever asked for the reload is told
            self.error = error
            self._each(self._keeping, "swap_end", False)
            if self._dropping:
                self._start_old_afresh()
            return
        goes_on, calls = self._passage is not None and self._passage.taken, self._runner.calls
        old = self._runner.adopt(cell)
        self._each(self._keeping, "swap_end", True)
        if goes_on:
            self._runner.calls = calls
            self._runner.log.info("state kept", call_number=calls)
        if old is not None:
            old.close() if goes_on else self._farewell(old)

    def _go_on(self, saved: Saved | None) -> Cell | None:
        """Return an instance of the new version in the state of the old one; None if it is to begin afresh."""
        if saved is None or self._passage is None:
            return None
        try:
            cell = self._load(self._new, saved)
            self._passage.wake(cell, saved.header)
        except PulpError as error:
            self._runner.log.warning("state not kept; the cell begins afresh", reason=str(error))
            self._each(self._keeping, "swap_end", False)  # what it had asked for goes
            self._each(self._keeping, "swap_begin")
            self._each(self._dropping, "teardown_cell")
            return None
        return cell

    def _start(self, version: Version) -> Cell:
        cell = self._load(version)
        try:
            cell.init(encode_config(version.spec.config))
        except BaseException:
            cell.close()
            raise
        return cell

    def _start_old_afresh(self) -> None:
        """Bring the old version up again: what it owned was dropped for the new one."""
        self._each(self._dropping, "teardown_cell")
        try:
            if self._old is None:
                raise PulpError("there is no version before")
            cell = self._start(self._old)
        except Exception as error:  # noqa: BLE001  # the operator is told; the cell is failed
            old = self._runner.give_up(f"neither the new version nor the old one starts: {error}")
        else:
            old = self._runner.adopt(cell)
        if old is not None:
            old.close()

    def _each(self, capabilities: Sequence[Capability], hook: str, *args: bool) -> None:
        seat = self._runner.seat
        for capability in capabilities:
            contained(capability, hook, seat.id, *args, cell=seat.address)
