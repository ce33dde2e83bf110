"""The cells of one host: brought up in order, looked after, taken down in reverse."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final, cast

from pulp_runtime._kernel.cell import Cell
from pulp_runtime._kernel.events import Events
from pulp_runtime._kernel.hooks import contained
from pulp_runtime._kernel.load import compiled
from pulp_runtime._kernel.machine import Machine
from pulp_runtime._kernel.neighbours import Neighbours
from pulp_runtime._kernel.policy import State
from pulp_runtime._kernel.registry import Registry
from pulp_runtime._kernel.runner import Runner
from pulp_runtime._kernel.seat import Layout, Seat
from pulp_runtime._kernel.shared_memory import SharedMemory
from pulp_runtime._kernel.siblings import Siblings
from pulp_runtime._kernel.snapshots.keeper import Keeper
from pulp_runtime._kernel.snapshots.saved import Saved
from pulp_runtime._kernel.targets import TargetedEvents
from pulp_runtime._kernel.versions import Version
from pulp_runtime.abi.config import encode_config
from pulp_runtime.errors import PulpError
from pulp_runtime.ext import Capability
from pulp_runtime.log import Log
from pulp_runtime.manifest.cell import CellSpec


class Fleet:
    """Runs cells on the dispatcher's workers. Made and awaited on the event loop.

    Args:
        layout: who runs where. An application starts cell by cell or not at all, and its events go to one cell each.
        registry: where the cells' capabilities come from.
        machine: what they run on.
        neighbours: the other applications of the host; None where there is none.
        storage_root: folder of the cells' data, for snapshots; None for a fleet that keeps none.

    Attributes:
        keeper: takes the cells' snapshots.
        runners: by address, each after those it depends on; all there from the start.
        versions: what was loaded last, by address.
        previous: what ran before that, by address.
        unclean: what became of the cells that did not shut down cleanly, a sentence for each.
    """

    def __init__(
        self,
        layout: Layout,
        registry: Registry,
        machine: Machine,
        neighbours: Neighbours | None = None,
        storage_root: Path | None = None,
    ) -> None:
        self.unclean: Final[list[str]] = []
        self._as_one: Final = layout.app is not None
        self._registry: Final = registry
        self._log_fields: Final = layout.log_fields
        self._log: Final = Log("pulp", **layout.log_fields)
        self._moved: Final = asyncio.Event()
        self._is_hosted: Final = layout.hosted is not None
        self.dispatcher: Final = machine.dispatcher
        self._engine: Final = machine.engine
        self.versions: Final[dict[str, Version]] = {}
        halted = machine.engine.halted.is_set
        self.keeper: Final = Keeper(storage_root, layout.folders, self.capabilities, self.versions, halted)
        self.runners: Final[Mapping[str, Runner]] = {seat.address: self._runner(seat) for seat in layout.seats}
        self._by_id: Final = {runner.seat.id: runner for runner in self.runners.values()}
        self._siblings: Final = Siblings(self.runners, self._by_id, self.dispatcher.turning, neighbours)
        registry.always(self._siblings.capability(), again=True)
        registry.always(SharedMemory().capability(), again=True)
        self._receivers: Final[dict[str, dict[str, Runner]]] = {}
        self.previous: Final[dict[str, Version]] = {}

    def _runner(self, seat: Seat) -> Runner:
        kind: type[Runner] = Runner
        if seat.spec.program is not None:
            from pulp_runtime._kernel.programs.load import runner_of  # not every host has one

            kind = runner_of(seat.spec)
        return kind(
            seat.spec,
            lambda: self._load(seat.address),
            self.dispatcher.lane(seat.label, dedicated=seat.spec.dedicated_thread),
            ready=self.dispatcher.ready,
            flush=self.dispatcher.flush,
            changed=self._changed,
            log=Log("pulp", cell=seat.label, **self._log_fields),
            seat=seat,
        )

    def _changed(self, runner: Runner) -> None:
        self.keeper.crashed(runner)
        self.dispatcher.defer(self._moved.set)

    def events(self, capability: Capability) -> Events:
        """Return the way of a capability's events to these cells."""
        receivers = self._receivers_of(capability.name)
        if self._as_one:
            return TargetedEvents(capability, receivers, self.runners.values(), exact=self._is_hosted)
        return Events(capability, receivers)

    def _receivers_of(self, capability: str) -> Mapping[str, Runner]:
        """Return the cells that declare a capability, by event target; a view that follows reloads."""
        if capability not in self._receivers:
            self._receivers[capability] = {}
            self._count_receivers()
        return self._receivers[capability]

    def _count_receivers(self) -> None:
        for capability, cells in self._receivers.items():
            for target, runner in self._by_id.items():
                if capability in runner.spec.capabilities:
                    cells[target] = runner
                else:
                    cells.pop(target, None)

    async def start(self) -> bool:
        """Start every cell as soon as those it depends on are ready; answer whether any is, when all have settled.

        The cells of an application start one after the other, and the answer is whether all of them are ready.
        """
        self.keeper.start(self.runners.values())
        if self._as_one:
            return await self._start_in_order()
        waiting = [runner.spec for runner in self.runners.values()]
        while True:
            for spec in list(waiting):
                before = [self.runners[name] for name in spec.depends_on]
                failed = [other.spec.name for other in before if other.state is State.FAILED]
                if failed:
                    waiting.remove(spec)
                    self._log.error("cell init aborted — dependency failed", cell=spec.name, failed_dep=failed[0])
                    self.runners[spec.name].abandon(f"depends on {failed[0]}, which failed")
                elif all(other.state is not State.LOADING for other in before):
                    waiting.remove(spec)
                    self.runners[spec.name].start()
            states = {runner.state for runner in self.runners.values()}
            if not waiting and State.LOADING not in states:
                return states != {State.FAILED}  # what became of a cell after its start is another matter
            await self._moved.wait()
            self._moved.clear()

    async def _start_in_order(self) -> bool:
        """Start cell after cell; answer False at the first that fails."""
        for runner in self.runners.values():
            runner.start()
            if await self._settled(runner, State.LOADING) is State.FAILED:
                return False
        return True

    def _load(self, address: str) -> Cell:
        """Load and initialise a cell, on a worker; on a restart, drop first what its predecessor owned.

        What runs again is the version that ran, also when the files have changed since.
        """
        runner = self.runners[address]
        spec, log = runner.spec, runner.log
        phase = "" if runner.state is State.LOADING else "re-instantiate: "
        if phase:
            self._teardown_cell(runner)
        try:
            version = self.versions.get(address) or Version.read(spec, list(self.versions.values()))
            goes_on = None if phase else self._gone_on(runner, version)
            cell = goes_on or self.instance(runner, version)
        except PulpError as error:
            self._tell(log, spec, f"{phase}load failed", error)
            self._teardown_cell(runner)  # some of its capabilities may have prepared for it
            raise
        try:
            if goes_on is None:
                cell.init(encode_config(spec.config))
                self.keeper.began_afresh(runner)
                log.info("init complete")
        except PulpError as error:
            self._tell(log, spec, f"{phase}init failed", error)
            cell.close()
            self._teardown_cell(runner)
            raise
        self.versions[address] = version
        log.info("cell ready", version=spec.version, capabilities=spec.capabilities, depends_on=spec.depends_on)
        return cell

    def _gone_on(self, runner: Runner, version: Version) -> Cell | None:
        """Return an instance that goes on from a snapshot; None where there is none to go on from."""
        return self.keeper.begin(
            runner, version, partial(self.instance, runner, version), partial(self._teardown_cell, runner)
        )

    def instance(self, runner: Runner, version: Version, saved: Saved | None = None) -> Cell:
        """Load an instance of a version for a cell; raise as `Cell.load` does."""
        spec, registry = version.spec, self._registry
        load: Callable[..., object] = Cell.load
        if spec.program is not None:
            from pulp_runtime._kernel.programs.load import load_program

            load = partial(load_program, ask=self._siblings.ask, ended=runner.look)
        here = partial(
            load,
            engine=self._engine,
            cell_id=runner.seat.id,
            log=runner.log,
            blocking=runner.lane.blocking,
            wasm=version.wasm,
            scope=runner.seat.scope if self._as_one else None,
            address=runner.seat.label,
        )
        here = here if saved is None else partial(here, saved=saved)
        return cast(Cell, here(spec, registry))  # a program stands in a cell's place, with a runner of its own

    def _tell(self, log: Log, spec: CellSpec, message: str, error: PulpError) -> None:
        if self._engine.halted.is_set():
            log.info("start interrupted")  # by us: the host is shutting down
        else:
            _naming(log, spec, error).error(message, err=str(error))

    async def shut_down(self, halt_at: float, end: float) -> None:
        """Let the cells say goodbye; past `halt_at`, end those that do not come to it, past `end`, leave them."""
        for runner in self.runners.values():
            runner.retire()
        self.keeper.stop()
        work = asyncio.ensure_future(asyncio.to_thread(self._shut_down))
        while not work.done() and (now := time.monotonic()) < end:
            if now >= halt_at:
                self._engine.halt()
            await asyncio.wait({work}, timeout=0.05 if now >= halt_at else halt_at - now)

    def _shut_down(self) -> None:
        """Run each cell's probes and `pulp_shutdown`, dependents first, and close it."""
        for runner in reversed(list(self.runners.values())):
            if problem := self.dismiss(runner):
                self.unclean.append(f"cell {runner.seat.label}: {problem}")

    def dismiss(self, runner: Runner) -> str:
        """Let a cell that has retired say goodbye; drop what it owns and finalize what waited for it.

        Returns:
            What was wrong with its goodbye, "" for nothing.
        """
        problem = ""
        cell = runner.let_go()
        if cell is not None:
            problem = "" if self.keeper.put_to_sleep(runner, cell) else self.farewell(cell)
            self._teardown_cell(runner)
        runner.finish()
        return problem

    def compiled(self, spec: CellSpec) -> Version:
        """Read a version and compile its module; loading it takes no time then.

        Raises:
            LoadError: it cannot be read, or is no module.
        """
        version = Version.read(spec, list(self.versions.values()))
        compiled(spec, self._engine, version.wasm)
        return version

    def capabilities(self, *specs: CellSpec) -> list[Capability]:
        """Return the capabilities that any of these manifests declares."""
        names = dict.fromkeys(name for spec in specs for name in spec.capabilities)
        return [found for name in names if (found := self._registry.find(name)) is not None]

    def adopted(self, runner: Runner, version: Version, old: Version | None) -> None:
        """Note that another version of a cell runs now."""
        address = runner.seat.address
        self.versions[address] = version
        if old is not None and old is not version:
            self.previous[address] = old
        self._count_receivers()
        self._siblings.forget()
        self.keeper.start(self.runners.values())

    async def settled(self, runner: Runner) -> State:
        """Wait until a cell that is being started is ready or has failed; return which."""
        return await self._settled(runner, State.LOADING, State.RESTARTING)

    async def _settled(self, runner: Runner, *passing: State) -> State:
        while runner.state in passing:
            await self._moved.wait()
            self._moved.clear()
        return runner.state

    def farewell(self, cell: Cell) -> str:
        """Run a cell's probes and `pulp_shutdown`, and close it; answer what was wrong with that, "" for nothing."""
        log = self._by_id[cell.ref.id].log
        problem = ""
        try:
            if not cell.spent:
                if (last := cell.probe_last_call()) is not None:
                    log.info("probe last envelope", last_call=last)
                if (marker := cell.probe_config_marker()) is not None:
                    log.info("probe config marker", marker=marker)
                cell.shutdown()
                log.info("shutdown complete")
        except PulpError as error:
            problem = str(error)
            log.error("shutdown failed", err=problem)
        cell.close()
        return problem

    def _teardown_cell(self, runner: Runner) -> None:
        for name in reversed(runner.spec.capabilities):
            capability = self._registry.find(name)
            if capability is not None:
                contained(capability, "teardown_cell", runner.seat.id, cell=runner.seat.label)


def _naming(log: Log, spec: CellSpec, error: PulpError) -> Log:
    """Return the log for a cell that does not start; it names the module, if the error does not."""
    return log if str(spec.wasm_path) in str(error) else log.bind(wasm=spec.wasm_path)
