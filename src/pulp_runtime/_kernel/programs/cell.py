"""A program in the place where a cell is expected: what the life of both has in common."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final, NoReturn

from pulp_runtime._kernel.programs.program import Program
from pulp_runtime.errors import CallRefused
from pulp_runtime.ext import CellRef
from pulp_runtime.manifest.cell import CellSpec


class ProgramCell:
    """A loaded program. What only a cell that is stepped can do is refused.

    Attributes:
        spec: its manifest.
        ref: what extensions see of it.
        program: what is run.
        spent: why it must be replaced before it can be used again; "" while it is sound.
        progress: see `Cell.progress`; there are no batches.
    """

    progress = 0

    def __init__(self, spec: CellSpec, program: Program) -> None:
        self.spec: Final = spec
        self.program: Final = program
        self.ref: Final[CellRef] = program.ref
        self.spent = ""

    def init(self, config: bytes = b"") -> None:
        """Begin; a program's configuration is its environment."""

    def alone(self) -> AbstractContextManager[None]:
        """See `Cell.alone`; nobody asks a program."""
        return nullcontext()

    def call(self, function: str, args: bytes, *, seconds: float | None = None) -> bytes:
        """Refuse: programs provide nothing."""
        self._refuse(function)

    def answer(
        self,
        name: bytes,
        args: memoryview,
        seconds: float,
        patience: float,
        take: Callable[[memoryview], Any],
        waiting: Callable[[], AbstractContextManager[None]],
        *,
        nested: bool,
    ) -> None:
        """Refuse: programs provide nothing."""
        self._refuse(name.decode(errors="replace"))

    def _refuse(self, function: str) -> NoReturn:
        execution = "program" if self.spec.program is None else self.spec.program.execution
        raise CallRefused(self.spec.name, f"cell {self.spec.name} is a {execution} and does not provide {function!r}")

    def probe_last_call(self) -> int | None:
        """Return None: there is no such probe."""
        return None

    def probe_config_marker(self) -> int | None:
        """Return None: there is no such probe."""
        return None

    def shutdown(self) -> None:
        """Bring what runs to its end."""
        self.program.stop()

    def close(self) -> None:
        """Let go of everything that no run has."""
        self.spent = self.spent or "it is closed"
