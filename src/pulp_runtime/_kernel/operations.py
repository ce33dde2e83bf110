"""What an operator does to one cell of a running host: stop, start, restart, reload, roll back. On the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Final

from pulp_runtime._kernel.fleet import Fleet
from pulp_runtime._kernel.policy import State
from pulp_runtime._kernel.runner import Runner
from pulp_runtime._kernel.seat import Seat
from pulp_runtime._kernel.snapshots.keeper import Passage
from pulp_runtime._kernel.swap import Swap
from pulp_runtime._kernel.versions import Version, differences
from pulp_runtime.errors import OperationFailed, PulpError
from pulp_runtime.manifest.cell import CellSpec
from pulp_runtime.manifest.graph import start_order

RETIRE_SECONDS: Final = 5.0
"""How long stopping a cell waits for the step it is in; past it the step is left to end by itself."""


class Operations:
    """The operations of one host. One at a time for each cell; cells do not wait for each other.

    Args:
        fleet: its cells.
        prepare: `prepare(capabilities)`: sets up those a new manifest declares and no cell has declared so far.
        read: `read(seat)`: reads the manifest of a cell again; raises `PulpError`.
        check: `check(specs)`: raises `PulpError` where the cells, one with a new manifest, do not go together.
    """

    def __init__(
        self,
        fleet: Fleet,
        prepare: Callable[[Iterable[str]], None],
        read: Callable[[Seat], CellSpec],
        check: Callable[[list[CellSpec]], object] = start_order,
    ) -> None:
        self._fleet: Final = fleet
        self._prepare: Final = prepare
        self._read: Final = read
        self._check: Final = check
        self._stopped: Final[set[str]] = set()
        self._locks: Final = {name: asyncio.Lock() for name in fleet.runners}

    @property
    def all_stopped(self) -> bool:
        """Whether an operator has stopped every cell that had not failed."""
        states = {name: runner.state for name, runner in self._fleet.runners.items()}
        left = [name for name, state in states.items() if state is not State.FAILED and name not in self._stopped]
        return bool(self._stopped) and not left

    def _runner(self, name: str) -> Runner:
        runner = self._fleet.runners.get(name)
        if runner is not None:
            return runner
        if not name:
            raise OperationFailed("cell name required")
        placements = [address for address, one in self._fleet.runners.items() if one.spec.name == name]
        hint = f"; it runs as {', '.join(placements)}" if placements else ""
        raise OperationFailed(f'unknown cell: "{name}"{hint}')

    async def reload(self, name: str) -> tuple[str, ...]:
        """Put the version that is on disk now in the place of the one that runs; see `swap.py`.

        Returns:
            What the new manifest changes in what the cell may do, a phrase for each.

        Raises:
            OperationFailed: the new version cannot be had or does not start; the old one goes on.
        """
        runner = self._runner(name)
        async with self._locks[name]:
            if runner.state is State.STOPPED:
                raise OperationFailed(f'cell "{runner.seat.label}" is stopped; cannot reload')
            try:
                spec = await asyncio.to_thread(self._read, runner.seat)
                if spec.name != runner.spec.name:
                    raise OperationFailed(f'its manifest says name = "{spec.name}" now; names last as long as the host')
                self._check(self._with(spec))
                version = await asyncio.to_thread(self._fleet.compiled, spec)
                self._prepare(spec.capabilities)
            except PulpError as error:
                raise OperationFailed(f'reload "{runner.seat.label}": {error}') from error
            changes = differences(runner.spec, spec)
            await self._swap(runner, version, keep_state=True)
            runner.log.info("cell reloaded", version=spec.version, sha256=version.sha256, changes=changes)
            return changes

    def _with(self, spec: CellSpec) -> list[CellSpec]:
        """Return the set as it would be with another version of a cell: placements of one cell count once."""
        found = {runner.spec.name: runner.spec for runner in self._fleet.runners.values()}
        found[spec.name] = spec
        return list(found.values())

    async def rollback(self, name: str) -> tuple[str, ...]:
        """Put the version that ran before back in its place; doing it again undoes it.

        Raises:
            OperationFailed: there is none, or it does not start any more; the present one goes on.
        """
        runner = self._runner(name)
        async with self._locks[name]:
            previous = self._fleet.previous.get(name)
            if previous is None:
                raise OperationFailed(f'cell "{runner.seat.label}" has run no other version since the host started')
            changes = differences(runner.spec, previous.spec)
            await self._swap(runner, previous, keep_state=True)
            runner.log.info("cell rolled back", version=previous.spec.version, sha256=previous.sha256)
            return changes

    async def restart(self, name: str) -> None:
        """Begin anew with a fresh instance of the same version; start the cell if it does not run.

        Raises:
            OperationFailed: it does not start; an instance that ran goes on.
        """
        runner = self._runner(name)
        version = self._fleet.versions.get(name)
        if version is None or runner.state is not State.READY:
            self._fleet.keeper.set_aside(runner)
            await self.start(name)
            return
        async with self._locks[name]:
            await self._swap(runner, version)
            runner.log.info("cell restarted")

    async def start(self, name: str) -> None:
        """Start a cell that is stopped, down or failed.

        Raises:
            OperationFailed: it runs, or does not start.
        """
        runner = self._runner(name)
        async with self._locks[name]:
            if runner.state not in (State.STOPPED, State.DOWN, State.FAILED):
                raise OperationFailed(f'cell "{runner.seat.label}" is {runner.state.value} already')
            self._stopped.discard(name)
            runner.revive()
            if await self._fleet.settled(runner) is not State.READY:
                raise OperationFailed(f'start "{runner.seat.label}": {runner.reason}')

    async def stop(self, name: str) -> None:
        """Let a cell say goodbye and close it; events that wait for it are finalized.

        Raises:
            OperationFailed: it is stopped already.
        """
        runner = self._runner(name)
        async with self._locks[name]:
            if runner.state is State.STOPPED:
                raise OperationFailed(f'cell "{runner.seat.label}" already stopped')
            runner.log.info("control: shutting down cell")
            self._stopped.add(name)
            runner.retire()
            await self._between(runner, partial(self._fleet.dismiss, runner), RETIRE_SECONDS)
            runner.log.info("control: cell stopped")

    async def snapshot(self, name: str, to: str = "") -> str:
        """Save a cell between two events, into its own folder or to a file; return what was written, for people.

        Raises:
            OperationFailed: it is not snapshotable, cannot be saved now, or the file cannot be written.
        """
        runner = self._runner(name)
        seconds = runner.spec.call_timeout_ms / 1000 + RETIRE_SECONDS
        async with self._locks[name]:
            try:
                taking = self._fleet.keeper.take(runner, Path(to) if to else None)
                path, size = await asyncio.wait_for(taking, seconds)
            except TimeoutError:
                raise OperationFailed(f'snapshot "{runner.seat.label}": not done after {seconds:g} s') from None
            except PulpError as error:
                raise OperationFailed(f'snapshot "{runner.seat.label}": {error}') from error
        return f"{path} ({size} bytes)"

    async def _swap(self, runner: Runner, version: Version, *, keep_state: bool = False) -> None:
        fleet = self._fleet
        name = runner.seat.address
        old = fleet.versions.get(name)
        capabilities = fleet.capabilities(runner.spec, version.spec)
        passage = Passage(fleet.keeper, runner, old, version) if keep_state else None
        swap = Swap(runner, old, version, capabilities, partial(fleet.instance, runner), fleet.farewell, passage)
        await self._between(runner, swap.run, runner.spec.call_timeout_ms / 1000 + version.spec.call_timeout_ms / 1000)
        if swap.error is not None:
            raise OperationFailed(f'reload "{runner.seat.label}": {swap.error}') from swap.error
        fleet.adopted(runner, version, old)
        if passage is None or not passage.taken:
            fleet.keeper.set_aside(runner)

    async def _between(self, runner: Runner, job: Callable[[], object], seconds: float) -> None:
        """Run a job between two events of a cell, and wait for it."""
        loop = asyncio.get_running_loop()
        done = loop.create_future()

        def run() -> None:
            job()
            loop.call_soon_threadsafe(done.set_result, None)

        runner.between(run)
        try:
            await asyncio.wait_for(asyncio.shield(done), seconds)
        except TimeoutError:
            name = runner.seat.label
            raise OperationFailed(f'cell "{name}" is in a step that does not end; it will be done after it') from None
