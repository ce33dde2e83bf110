"""Calls from the host's own program into one application instance (spec/core §5.7)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final, NamedTuple

from pulp_runtime._kernel.policy import State
from pulp_runtime._kernel.runner import Runner
from pulp_runtime._kernel.turnstile import Turnstile
from pulp_runtime.errors import CallRefused


class ApplicationIdentity(NamedTuple):
    """Which application, and which instance of it; printed `shop/blue`."""

    application: str
    instance: str

    def __str__(self) -> str:
        return f"{self.application}/{self.instance}"


class ProviderAccess:
    """Asks the cells of one application instance for what they provide, until it stops. Safe from any thread.

    Calls to one cell wait for each other; those to several do not.

    Attributes:
        identity: whose cells they are.
    """

    def __init__(self, identity: ApplicationIdentity, runners: Mapping[str, Runner]) -> None:
        self.identity: Final = identity
        self._runners: Final = runners
        self._turnstile: Final = Turnstile()

    def call(self, cell: str, function: str, args: bytes = b"", *, seconds: float | None = None) -> bytes:
        """Ask a cell for one of the functions it provides; return its response. From any thread but the host's loop.

        Args:
            cell: its address in the application: `cell`, or `cell@instance`.
            function: one that its manifest lists under `provides`.
            args: opaque bytes, MessagePack by convention.
            seconds: how long to wait for the cell to be free; its call deadline by default.

        Raises:
            CallRefused: the access is revoked, the cell is unavailable, or does not provide that function.
            CellError: see `Cell.call`.
        """
        if not self._turnstile.enter():
            raise CallRefused(cell, f"provider access is revoked: application {self.identity} stops")
        try:
            runner = self._runners.get(cell)
            if runner is None or runner.state is not State.READY:
                why = "there is no such cell" if runner is None else f"it is {runner.state.value}"
                raise CallRefused(cell, f'provider cell "{cell}" is unavailable: {why}')
            if function not in runner.spec.provides:
                raise CallRefused(cell, f'cell "{cell}" does not provide "{function}"; add it to provides')
            return runner.call(function, args, seconds)
        finally:
            self._turnstile.leave()

    async def call_async(self, cell: str, function: str, args: bytes = b"", *, seconds: float | None = None) -> bytes:
        """Do what `call` does, for coroutines."""
        return await asyncio.to_thread(self.call, cell, function, args, seconds=seconds)

    def close(self) -> Turnstile:
        """Revoke the access: let no call in any more; return the turnstile of those in flight."""
        self._turnstile.close()
        return self._turnstile
