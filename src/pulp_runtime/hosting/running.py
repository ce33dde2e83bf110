"""What a program does with a host that it has inside: start it, ask it, stop it."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import TracebackType
from typing import NamedTuple, Self

from pulp_runtime._kernel.runner import Runner
from pulp_runtime.background import LoopThread
from pulp_runtime.control.protocol import CellEntry
from pulp_runtime.errors import CallRefused


class CellStatus(NamedTuple):
    """A cell at one moment.

    Attributes:
        state: `loading`, `ready`, `restarting`, `down`, `stopped` or `failed`.
        reason: why, "" when nothing is wrong.
        steps: how often it has been stepped.
        restarts: how often it has been restarted.
    """

    state: str
    reason: str
    steps: int
    restarts: int


class Running(ABC):
    """A host: `start` and `stop` belong to one event loop, the rest to any thread.

    As a context manager it runs on an event loop of its own, in a thread; as an asynchronous one on the caller's.
    """

    _thread: LoopThread | None = None

    @abstractmethod
    async def start(self) -> None:
        """Start everything, or nothing."""

    @abstractmethod
    async def stop(self) -> None:
        """Stop gracefully within the grace time; may be called in any state."""

    @abstractmethod
    def _runners(self) -> Mapping[str, Runner]:
        """Return the cells, as operators call them."""

    def _named(self, cell: str) -> str:
        """Return what operators call the cell that somebody means by `cell`."""
        return cell

    def call(self, cell: str, function: str, args: bytes = b"", *, seconds: float | None = None) -> bytes:
        """Ask a cell for one of the functions it provides; return its response. From any thread but the loop's.

        Args:
            cell: its name, or address, as `status` has it.
            function: one that its manifest lists under `provides`.
            args: opaque bytes, MessagePack by convention.
            seconds: how long to wait for the cell to be free; its call deadline by default.

        Raises:
            CallRefused: there is no such cell, or it does not provide that function.
            CellError: see `Cell.call`.
        """
        runner = self._runners().get(self._named(cell))
        if runner is None:
            raise CallRefused(cell, f"no cell {cell!r} here; there are {', '.join(self._runners()) or 'none'}")
        if function not in runner.spec.provides:
            raise CallRefused(cell, f"cell {cell} does not provide {function!r}; add it to provides in its manifest")
        return runner.call(function, args, seconds)

    async def call_async(self, cell: str, function: str, args: bytes = b"", *, seconds: float | None = None) -> bytes:
        """Do what `call` does, for coroutines."""
        return await asyncio.to_thread(self.call, cell, function, args, seconds=seconds)

    def status(self) -> dict[str, CellStatus]:
        """Return where each cell is in its life, and why. From any thread."""
        return {
            name: CellStatus(runner.state.value, runner.reason, runner.calls, runner.restarts)
            for name, runner in self._runners().items()
        }

    def cells(self) -> tuple[CellEntry, ...]:
        """Return what the control socket tells of each cell. From any thread."""
        return tuple(
            CellEntry(
                name=name,
                state=runner.state.value,
                steps=runner.calls,
                reason=runner.reason,
                restarts=runner.restarts,
                version=runner.spec.version,
                waiting=len(runner.mailbox),
            )
            for name, runner in self._runners().items()
        )

    def __enter__(self) -> Self:
        """Start on an event loop of its own, in a thread, for programs that have none."""
        self._thread = LoopThread("pulp")
        try:
            self._thread.run(self.start())
        except BaseException:
            self._thread.close()
            raise
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _stack: TracebackType | None
    ) -> None:
        if self._thread is not None:
            self._thread.run(self.stop())
            self._thread.close()
            self._thread = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _stack: TracebackType | None
    ) -> None:
        await self.stop()
