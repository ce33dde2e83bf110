"""The cells of one host: brought up in order, looked after, taken down in reverse."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from pulp_runtime._kernel.cell import Cell
from pulp_runtime._kernel.dispatcher import Dispatcher
from pulp_runtime._kernel.engine import Engine
from pulp_runtime._kernel.hooks import contained
from pulp_runtime._kernel.policy import State
from pulp_runtime._kernel.registry import Registry
from pulp_runtime._kernel.runner import Runner
from pulp_runtime._kernel.siblings import Siblings
from pulp_runtime._kernel.versions import Version
from pulp_runtime.abi.config import encode_config
from pulp_runtime.errors import PulpError
from pulp_runtime.ext import Capability
from pulp_runtime.log import Log
from pulp_runtime.manifest.cell import CellSpec

HALT_SECONDS: Final = 1.5
"""How much of the grace time is kept for ending guests that do not come to an end by themselves."""


class Fleet:
    """Runs cells on the dispatcher's workers. Made and awaited on the event loop.

    Attributes:
        order: the cells, each after those it depends on.
        runners: by cell name; all there from the start.
        versions: what was loaded last, by cell name.
        previous: what ran before that, by cell name.
        finished: whether every thread has ended; False only after `close`, when a guest could not be ended.
    """

    def __init__(self, order: Sequence[CellSpec], registry: Registry, *, workers: int, cache: Path | None) -> None:
        self.order: Final = list(order)
        self.finished = True
        self._registry: Final = registry
        self._log: Final = Log("pulp")
        self._moved: Final = asyncio.Event()
        self.dispatcher: Final = Dispatcher(asyncio.get_running_loop(), workers)
        self._engine: Final = Engine(cache, on_tick=self.dispatcher.tend)
        self.runners: Final[Mapping[str, Runner]] = {spec.name: self._runner(spec) for spec in order}
        self._siblings: Final = Siblings(self.runners, self.dispatcher.turning)
        registry.always(self._siblings.capability(), again=True)
        self._receivers: Final[dict[str, dict[str, Runner]]] = {}
        self.versions: Final[dict[str, Version]] = {}
        self.previous: Final[dict[str, Version]] = {}

    def _runner(self, spec: CellSpec) -> Runner:
        log = Log("pulp", cell=spec.name)
        return Runner(
            spec,
            lambda: self._load(spec.name, log),
            self.dispatcher.lane(spec.name, dedicated=spec.dedicated_thread),
            ready=self.dispatcher.ready,
            flush=self.dispatcher.flush,
            changed=lambda _runner: self.dispatcher.defer(self._moved.set),
            log=log,
        )

    def receivers(self, capability: str) -> Mapping[str, Runner]:
        """Return the cells that declare a capability, by event target; a view that follows reloads."""
        if capability not in self._receivers:
            self._receivers[capability] = {}
            self._count_receivers()
        return self._receivers[capability]

    def _count_receivers(self) -> None:
        for capability, cells in self._receivers.items():
            for name, runner in self.runners.items():
                if capability in runner.spec.capabilities:
                    cells[name] = runner
                else:
                    cells.pop(name, None)

    async def start(self) -> bool:
        """Start every cell as soon as those it depends on are ready; answer whether any is, when all have settled."""
        waiting = list(self.order)
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

    def _load(self, name: str, log: Log) -> Cell:
        """Load and initialise a cell, on a worker; on a restart, drop first what its predecessor owned.

        What runs again is the version that ran, also when the files have changed since.
        """
        runner = self.runners[name]
        spec = runner.spec
        phase = "" if runner.state is State.LOADING else "re-instantiate: "
        if phase:
            self._teardown_cell(spec)
        try:
            version = self.versions.get(name) or Version.read(spec)
            cell = self.instance(version, log)
        except PulpError as error:
            self._tell(log, spec, f"{phase}load failed", error)
            raise
        try:
            cell.init(encode_config(spec.config))
        except PulpError as error:
            self._tell(log, spec, f"{phase}init failed", error)
            cell.close()
            self._teardown_cell(spec)
            raise
        self.versions[name] = version
        log.info("init complete")
        log.info("cell ready", version=spec.version, capabilities=spec.capabilities, depends_on=spec.depends_on)
        return cell

    def instance(self, version: Version, log: Log | None = None) -> Cell:
        """Load an instance of a version; raise as `Cell.load` does."""
        blocking = self.runners[version.spec.name].lane.blocking
        return Cell.load(
            version.spec,
            self._registry,
            engine=self._engine,
            log=log or Log("pulp", cell=version.spec.name),
            blocking=blocking,
            wasm=version.wasm,
        )

    def _tell(self, log: Log, spec: CellSpec, message: str, error: PulpError) -> None:
        if self._engine.halted.is_set():
            log.info("start interrupted")  # by us: the host is shutting down
        else:
            _naming(log, spec, error).error(message, err=str(error))

    async def drain(self, end: float) -> None:
        """Wait until no cell has anything to do; past `end`, end what the guests do.

        Nobody waits for a cell that is still being loaded: it is ended as soon as no other has work.
        """
        told = False
        while busy := [runner for runner in self.runners.values() if runner.busy]:
            now = time.monotonic()
            if now >= end or not any(runner.state is State.READY for runner in busy):
                if not told:
                    names = [runner.spec.name for runner in busy]
                    self._log.warning("guests still busy at shutdown; ending them", cells=names)
                told = True
                self._engine.halt()  # again and again: a guest may have been between two calls
            if now >= end + HALT_SECONDS / 4:
                break
            await asyncio.sleep(0.005)

    async def shut_down(self, halt_at: float, end: float) -> None:
        """Let the cells say goodbye; past `halt_at`, end those that do not come to it, past `end`, leave them."""
        for runner in self.runners.values():
            runner.retire()
        work = asyncio.ensure_future(asyncio.to_thread(self._shut_down))
        while not work.done() and (now := time.monotonic()) < end:
            if now >= halt_at:
                self._engine.halt()
            await asyncio.wait({work}, timeout=0.05 if now >= halt_at else halt_at - now)

    def _shut_down(self) -> None:
        """Run each cell's probes and `pulp_shutdown`, dependents first, and close it."""
        for spec in reversed(self.order):
            self.dismiss(self.runners[spec.name])

    def dismiss(self, runner: Runner) -> None:
        """Let a cell that has retired say goodbye; drop what it owns and finalize what waited for it."""
        cell = runner.let_go()
        if cell is not None:
            self.farewell(cell)
            self._teardown_cell(runner.spec)
        runner.finish()

    def compiled(self, spec: CellSpec) -> Version:
        """Read a version and compile its module; loading it takes no time then.

        Raises:
            LoadError: it cannot be read, or is no module.
        """
        version = Version.read(spec)
        self._engine.modules.load(spec.name, spec.wasm_path, version.wasm)
        return version

    def capabilities(self, *specs: CellSpec) -> list[Capability]:
        """Return the capabilities that any of these manifests declares."""
        names = dict.fromkeys(name for spec in specs for name in spec.capabilities)
        return [found for name in names if (found := self._registry.find(name)) is not None]

    def adopted(self, version: Version, old: Version | None) -> None:
        """Note that another version of a cell runs now."""
        name = version.spec.name
        self.versions[name] = version
        if old is not None and old is not version:
            self.previous[name] = old
        self.order[[spec.name for spec in self.order].index(name)] = version.spec
        self._count_receivers()
        self._siblings.forget()

    async def settled(self, runner: Runner) -> State:
        """Wait until a cell that is being started is ready or has failed; return which."""
        while runner.state in (State.LOADING, State.RESTARTING):
            await self._moved.wait()
            self._moved.clear()
        return runner.state

    def farewell(self, cell: Cell) -> None:
        """Run a cell's probes and `pulp_shutdown`, and close it."""
        log = self.runners[cell.name].log
        try:
            if not cell.spent:
                if (last := cell.probe_last_call()) is not None:
                    log.info("probe last envelope", last_call=last)
                if (marker := cell.probe_config_marker()) is not None:
                    log.info("probe config marker", marker=marker)
                cell.shutdown()
                log.info("shutdown complete")
        except PulpError as error:
            log.error("shutdown failed", err=str(error))
        cell.close()

    def _teardown_cell(self, spec: CellSpec) -> None:
        for name in reversed(spec.capabilities):
            capability = self._registry.find(name)
            if capability is not None:
                contained(capability, "teardown_cell", spec.name, cell=spec.name)

    def close(self, end: float) -> None:
        """Let every thread end; `finished` says whether they all did by `end`."""
        self.finished = self.dispatcher.close(max(0.1, end - time.monotonic()))
        self.dispatcher.run_deferred()
        if self.finished:
            self._engine.close()


def _naming(log: Log, spec: CellSpec, error: PulpError) -> Log:
    """Return the log for a cell that does not start; it names the module, if the error does not."""
    return log if str(spec.wasm_path) in str(error) else log.bind(wasm=spec.wasm_path)
