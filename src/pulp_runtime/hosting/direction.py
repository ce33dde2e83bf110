"""What an operator does to one cell of several applications: finds the application, and lets it do it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from pulp_runtime._kernel.operations import Operations
from pulp_runtime.errors import OperationFailed
from pulp_runtime.hosting.application import Application
from pulp_runtime.manifest.host import HostedApplication


class Direction:
    """The operations of a host of several applications; see `Operations` for what they do and raise.

    Args:
        applications: all that run.
        named: what operators call the cell that somebody means.
    """

    def __init__(self, applications: Mapping[HostedApplication, Application], named: Callable[[str], str]) -> None:
        self._applications: Final = applications
        self._named: Final = named

    @property
    def all_stopped(self) -> bool:
        """Whether an operator has stopped every cell that had not failed."""
        return bool(self._applications) and all(one.operations.all_stopped for one in self._applications.values())

    def _at(self, name: str) -> tuple[Operations, str]:
        """Return who can do something to a cell, and what they call it."""
        label = self._named(name)
        for application in self._applications.values():
            for address, runner in application.fleet.runners.items():
                if runner.seat.label == label:
                    return application.operations, address
        if not name:
            raise OperationFailed("cell name required")
        raise OperationFailed(f'unknown cell: "{name}"{self._hint(name)}')

    def _hint(self, name: str) -> str:
        """Say what a cell is called that somebody may have meant."""
        word = name.rpartition("/")[2]
        labels = [
            runner.seat.label
            for application in self._applications.values()
            for runner in application.fleet.runners.values()
            if word in (runner.spec.name, runner.seat.address)
        ]
        return f"; there is {', '.join(labels)}" if labels else ""

    async def stop(self, name: str) -> None:
        """Let a cell say goodbye and close it."""
        operations, address = self._at(name)
        await operations.stop(address)

    async def start(self, name: str) -> None:
        """Start a cell that is stopped, down or failed."""
        operations, address = self._at(name)
        await operations.start(address)

    async def restart(self, name: str) -> None:
        """Begin anew with a fresh instance of the same version."""
        operations, address = self._at(name)
        await operations.restart(address)

    async def reload(self, name: str) -> tuple[str, ...]:
        """Put the version that is on disk now in the place of the one that runs."""
        operations, address = self._at(name)
        return await operations.reload(address)

    async def rollback(self, name: str) -> tuple[str, ...]:
        """Put the version that ran before back in its place."""
        operations, address = self._at(name)
        return await operations.rollback(address)

    async def snapshot(self, name: str, to: str = "") -> str:
        """Save the whole state of a cell."""
        operations, address = self._at(name)
        return await operations.snapshot(address, to)
