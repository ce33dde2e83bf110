"""What each operation of the control socket does."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Protocol

from pulp_runtime.control.protocol import CellEntry, Reply, Request
from pulp_runtime.control.tail import Tail
from pulp_runtime.errors import OperationFailed, PulpError


class Operations(Protocol):
    """What can be done to one cell; each raises `OperationFailed` and then has changed nothing."""

    async def stop(self, name: str) -> None:
        """Close it."""

    async def start(self, name: str) -> None:
        """Load it again."""

    async def restart(self, name: str) -> None:
        """Begin anew."""

    async def reload(self, name: str) -> tuple[str, ...]:
        """Put the version on disk in its place."""

    async def rollback(self, name: str) -> tuple[str, ...]:
        """Put the version before in its place."""

    async def snapshot(self, name: str, to: str = "") -> str:
        """Save its state, to a file if one is named."""


class Controlled(Protocol):
    """The host, as far as an operator may use it."""

    @property
    def operations(self) -> Operations:
        """What can be done to one cell."""

    def cells(self) -> tuple[CellEntry, ...]:
        """Return what there is to tell of each."""

    async def call_async(self, cell: str, function: str, args: bytes = b"") -> bytes:
        """Ask a cell for a function it provides."""


class Verbs:
    """The operations by name. `run` never raises for what an operator can get wrong."""

    def __init__(self, host: Controlled, tail: Tail) -> None:
        self._host: Final = host
        self._tail: Final = tail
        self._began: Final = time.monotonic()
        self._verbs: Final[Mapping[str, Callable[[Request], Awaitable[Reply]]]] = {
            "status": self._status,
            "shutdown": self._shutdown,
            "shutdown_all": self._shutdown_all,
            "start": self._start,
            "restart": self._restart,
            "reload": self._reload,
            "rollback": self._rollback,
            "snapshot": self._snapshot,
            "call": self._call,
            "logs": self._logs,
            "metrics": self._metrics,
        }

    async def run(self, request: Request) -> Reply:
        """Carry out a request."""
        verb = self._verbs.get(request.op)
        if verb is None:
            return Reply(error=f"unknown op: {request.op[:80]}")
        try:
            return await verb(request)
        except PulpError as error:
            return Reply(error=str(error))

    async def _status(self, _request: Request) -> Reply:
        return Reply(ok=True, cells=self._host.cells())

    async def _shutdown(self, request: Request) -> Reply:
        await self._host.operations.stop(request.cell)
        return Reply(ok=True)

    async def _shutdown_all(self, _request: Request) -> Reply:
        for cell in self._host.cells():
            if cell.state != "stopped":
                try:
                    await self._host.operations.stop(cell.name)
                except OperationFailed:  # the others are to be stopped all the same
                    continue
        return Reply(ok=True)

    async def _start(self, request: Request) -> Reply:
        await self._host.operations.start(request.cell)
        return Reply(ok=True)

    async def _restart(self, request: Request) -> Reply:
        await self._host.operations.restart(request.cell)
        return Reply(ok=True)

    async def _reload(self, request: Request) -> Reply:
        return Reply(ok=True, changes=await self._host.operations.reload(request.cell))

    async def _rollback(self, request: Request) -> Reply:
        return Reply(ok=True, changes=await self._host.operations.rollback(request.cell))

    async def _snapshot(self, request: Request) -> Reply:
        written = await self._host.operations.snapshot(request.cell, os.fsdecode(request.args))
        return Reply(ok=True, lines=(written,))

    async def _call(self, request: Request) -> Reply:
        return Reply(ok=True, result=await self._host.call_async(request.cell, request.function, request.args))

    async def _logs(self, request: Request) -> Reply:
        return Reply(ok=True, lines=self._tail.last(request.lines, request.cell))

    async def _metrics(self, _request: Request) -> Reply:
        cells: dict[str, Any] = {
            cell.name: {"state": cell.state, "steps": cell.steps, "restarts": cell.restarts, "waiting": cell.waiting}
            for cell in self._host.cells()
        }
        return Reply(ok=True, metrics={"cells": cells, **_process(self._began)})


def _process(began: float) -> dict[str, Any]:
    """Return what the process uses; the last two only where the system tells (Linux)."""
    times = os.times()
    found: dict[str, Any] = {
        "uptime_seconds": round(time.monotonic() - began, 3),
        "cpu_seconds": round(times.user + times.system, 3),
        "threads": threading.active_count(),
    }
    try:
        with open("/proc/self/statm") as file:
            found["resident_bytes"] = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        found["descriptors"] = len(os.listdir("/proc/self/fd"))
    except OSError:
        pass
    return found
