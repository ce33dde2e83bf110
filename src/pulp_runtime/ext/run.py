"""One run of a program: what a capability's `mount` hook adds to."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from pulp_runtime.ext.cell import CellRef
from pulp_runtime.ext.event import StepEvent
from pulp_runtime.ext.nodes import Folder
from pulp_runtime.ext.tree import File


class Outcome(NamedTuple):
    """How a run ended.

    Attributes:
        status: what the program exited with, 0 when it returned; None when it was ended by a trap or its deadline.
        error: why it was ended, "" if it ended by itself.
        timed_out: whether that was its deadline.
    """

    status: int | None
    error: str = ""
    timed_out: bool = False

    @property
    def clean(self) -> bool:
        """Whether it ended by itself, whatever its status."""
        return self.status is not None


class Run(Protocol):
    """One run of a program: of a function for one request, of a daemon for as long as it likes, or of a command.

    Attributes:
        cell: whose program it is.
        event: what a function runs for; None for everything else.
        tree: its files; add mounts with `tree.add("/beta/it", node)`.
        environ: its environment variables.
        args: its arguments, its own name first.
        preopens: names in the root that it is given as open folders; only the root itself, "/", by default.
        stdin: what it reads as standard input; at its end by default.
        stdout: where standard output goes; the cell's log by default.
        stderr: where standard error goes; the cell's log by default.
    """

    cell: CellRef
    event: StepEvent | None
    tree: Folder
    environ: dict[str, str]
    args: list[str]
    preopens: list[str]
    stdin: File
    stdout: File
    stderr: File

    def on_end(self, callback: Callable[[Outcome], None]) -> None:
        """Have `callback(outcome)` called once when the run is over and its files are closed, on the run's thread."""

    def on_stop(self, callback: Callable[[], None]) -> None:
        """Have `callback()` called, from any thread, when the host wants the program to end: reads then end too."""

    def seconds_left(self) -> float:
        """Seconds until its deadline; `inf` for a daemon."""

    def ask(self, cell: str, function: str, args: bytes) -> bytes:
        """Ask a sibling, as `pulp_call` does; return its response.

        Raises:
            HostError: with the codes of `pulp_call` (spec/core §5.1), and in its words what went wrong.
        """

    def blocking(self) -> AbstractContextManager[None]:
        """Let other programs have the worker inside: for what takes long and cannot be asked again later."""
