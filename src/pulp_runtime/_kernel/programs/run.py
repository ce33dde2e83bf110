"""One run of a program, as capabilities see it: implements `ext.Run`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from pulp_runtime._kernel.programs.streams import LogStream, Nothing
from pulp_runtime.ext import File, Folder, Outcome, StepEvent
from pulp_runtime.wasi import MemoryFolder

if TYPE_CHECKING:
    from pulp_runtime._kernel.programs.slot import Slot


class ProgramRun:
    """See `ext.Run`.

    Attributes:
        ends: what `on_end` was given.
        stops: what `on_stop` was given.
    """

    __slots__ = (
        *("_slot", "args", "cell", "ends", "environ", "event", "preopens", "stderr", "stdin", "stdout", "stops"),
        "tree",
    )

    def __init__(self, slot: Slot, event: StepEvent | None) -> None:
        program = slot.program
        self._slot = slot
        self.cell = program.ref
        self.event = event
        self.tree = Folder({"tmp": MemoryFolder(program.memory_bytes, slot.leave_room)})
        self.environ = dict(program.environ)
        self.args = [program.ref.name]
        self.preopens = ["/"]
        self.stdin: File = Nothing()
        self.stdout: File = LogStream(program.lines, "stdout")
        self.stderr: File = LogStream(program.lines, "stderr")
        self.ends: list[Callable[[Outcome], None]] = []
        self.stops: list[Callable[[], None]] = []

    def on_end(self, callback: Callable[[Outcome], None]) -> None:
        """See `ext.Run.on_end`."""
        self.ends.append(callback)

    def on_stop(self, callback: Callable[[], None]) -> None:
        """See `ext.Run.on_stop`."""
        self.stops.append(callback)
        if self._slot.stopping:
            callback()

    def forget(self) -> None:
        """Let go of what refers back to the run: it may hold a lot, and the collector comes when it likes."""
        self.ends.clear()
        self.stops.clear()
        self.tree.children.clear()

    def seconds_left(self) -> float:
        """See `ext.Run.seconds_left`."""
        return self._slot.seconds_left()

    def ask(self, cell: str, function: str, args: bytes) -> bytes:
        """See `ext.Run.ask`."""
        slot = self._slot
        return slot.program.ask(self.cell, cell, function, args, slot.seconds_left(), slot.blocking)

    def blocking(self) -> AbstractContextManager[None]:
        """See `ext.Run.blocking`."""
        return self._slot.blocking()
