"""One version of a cell in the place of another, between two events.

    compile ─▶ ( in a turn: swap_begin ─▶ load ─▶ init ─▶ adopt ─▶ swap_end ─▶ the old one says goodbye )

The new version is loaded and initialised first; when that fails the old one goes on as if nothing had been. What the
cell owns passes from one to the other where the capability can do that: its connections survive. A capability that
cannot drops what the cell owns before the new version asks for it; should that one then fail, the old version is
started afresh.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from pulp_runtime._kernel.cell import Cell
from pulp_runtime._kernel.hooks import contained
from pulp_runtime._kernel.runner import Runner
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

    Attributes:
        error: why the new version was not adopted, None when it was.
    """

    def __init__(
        self,
        runner: Runner,
        old: Version | None,
        new: Version,
        capabilities: Sequence[Capability],
        load: Callable[[Version], Cell],
        farewell: Callable[[Cell], object],
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

    def run(self) -> None:
        """Swap, or leave things as they were and say why."""
        self._each(self._keeping, "swap_begin")
        self._each(self._dropping, "teardown_cell")
        try:
            cell = self._start(self._new)
        except Exception as error:  # noqa: BLE001  # whoever asked for the reload is told
            self.error = error
            self._each(self._keeping, "swap_end", False)
            if self._dropping:
                self._start_old_afresh()
            return
        old = self._runner.adopt(cell)
        self._each(self._keeping, "swap_end", True)
        if old is not None:
            self._farewell(old)

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
