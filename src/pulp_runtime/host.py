"""The composition root: the one file that names every part.

    with Host(["examples/echo/c"]) as host:          # or: async with, on the loop of a program that has one
        print(host.url)

Life: read manifests ─▶ set up capabilities ─▶ load cells ─▶ serve ─▶ drain ─▶ shut cells down ─▶ tear down.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

from pulp_runtime._kernel.discovery import installed
from pulp_runtime._kernel.fleet import HALT_SECONDS, Fleet
from pulp_runtime._kernel.hooks import contained, set_up, tear_down
from pulp_runtime._kernel.modules import default_cache
from pulp_runtime._kernel.operations import Operations
from pulp_runtime._kernel.registry import Registry
from pulp_runtime._kernel.runner import Runner
from pulp_runtime._kernel.seat import Layout
from pulp_runtime._kernel.selection import select
from pulp_runtime.background import LoopThread
from pulp_runtime.capabilities.catalog import ALWAYS, BUILT_IN
from pulp_runtime.control.protocol import CellEntry
from pulp_runtime.errors import CallRefused, ExtensionError, ManifestError, PulpError
from pulp_runtime.ext import Capability, Endpoint, Posted, Services, SetupEnv, StepEvent
from pulp_runtime.ext import all as registered
from pulp_runtime.log import Log
from pulp_runtime.manifest.app import AppSpec, load_app
from pulp_runtime.manifest.cell import CellSpec, load_cell
from pulp_runtime.manifest.graph import start_order

GRACE_SECONDS: Final = 5.0
_POLL_SECONDS: Final = (0.0002, 0.02)
"""Shortest and longest pause between two questions to a source that can only be asked."""


class StartError(PulpError):
    """The host cannot start; everything that had been acquired is released again."""


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


class Host:
    """Runs cells in this process. `start` and `stop` belong to one event loop, `call` and `status` to any thread.

    Args:
        cells: manifests, folders that hold one, or specs.
        app: an application instead: its manifest, a folder that holds one, or a spec. Its cells start one after the
            other, all or none, and are named by address: `cell`, or `cell@instance` for one of several placements.
        storage_root: folder for the cells' data.
        http_port: port, or `host:port`, of the shared listener; 0 lets the system choose. `$HTTP_PORT`, else 8080.
        capabilities: more capabilities, beside the built-in and installed ones.
        config: settings for capabilities, by capability name; those of the listeners under `http`. What is not there
            may be in `$HTTP_CERT` and `$HTTP_KEY`.
        providers: which implementation to use, by capability name, where there are several: its
            `Capability.provider`, or the package that offers it.
        workers: threads that run cells; the number of processors by default.
        cache: folder for compiled modules; `$PULP_CACHE_DIR` or the user's cache folder by default.
        grace_seconds: how long stopping may take.
    """

    def __init__(
        self,
        cells: Iterable[str | Path | CellSpec] = (),
        *,
        app: str | Path | AppSpec | None = None,
        storage_root: str | Path = "data",
        http_port: str | int | None = None,
        capabilities: Iterable[Capability] = (),
        config: dict[str, dict[str, Any]] | None = None,
        providers: Mapping[str, str] | None = None,
        workers: int | None = None,
        cache: Path | None = None,
        grace_seconds: float = GRACE_SECONDS,
    ) -> None:
        self.log: Final = Log("pulp")
        specs = [cell if isinstance(cell, CellSpec) else load_cell(Path(cell)) for cell in cells]
        self.app: Final = load_app(Path(app)) if isinstance(app, str | Path) else app
        if self.app is not None and specs:
            raise ManifestError(self.app.manifest_path, "an application runs alone; give either cells or app")
        self.specs: Final[Sequence[CellSpec]] = specs if self.app is None else self.app.cells
        self._layout: Final = Layout.of_cells(start_order(specs)) if self.app is None else Layout.of_app(self.app)
        self._storage_root: Final = Path(storage_root).absolute()
        self._http_port: Final = os.environ.get("HTTP_PORT", "") if http_port is None else str(http_port)
        self._config: Final = config or {}
        self._workers: Final = workers or os.cpu_count() or 1
        self._cache: Final = cache or default_cache()
        self._grace: Final = grace_seconds
        self._registry: Final = _registry(tuple(capabilities), dict(providers or {}))
        for name in self._config:
            if name != "http" and self._registry.find(name) is None:
                raise ExtensionError(f"config: nobody offers a capability {name!r}; write http, or a capability's name")
        self._declared: Final[list[Capability]] = []
        self._services: Final = Services()
        self._tasks: Final[list[asyncio.Task[None]]] = []
        self._endpoints: Final[list[Endpoint]] = []
        self._fleet: Fleet | None = None
        self._operations: Operations | None = None
        self._started = False
        self._thread: LoopThread | None = None
        self.finished = True
        """Whether every thread has ended; False only after `stop`, when a guest could not be stopped in time."""
        self.unclean: Sequence[str] = ()
        """After `stop`: the cells whose `pulp_shutdown` trapped or answered with a code, a sentence for each."""

    # Life -------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Set up capabilities and load the cells; return when each is ready or has failed.

        Raises:
            StartError: a capability cannot be set up, or no cell could be started, or for an application: one could
                not. Nothing is left behind.
        """
        self._announce()
        self._fleet = fleet = Fleet(self._layout, self._registry, workers=self._workers, cache=self._cache)
        self._operations = Operations(fleet, lambda names: self._set_up(fleet, names), self._layout.read)
        try:
            self._set_up(fleet, (name for spec in self.specs for name in spec.capabilities))
            if not await fleet.start():
                raise StartError("all cells failed to start" if self.app is None else self._why_failed())
        except StartError:
            await self.stop()
            raise
        except PulpError as error:
            await self.stop()
            raise StartError(str(error)) from error
        except BaseException:
            await self.stop()
            raise
        self._started = True
        self._poll_all(self._declared, fleet)
        if self.app is not None:
            self.log.info("pulp application ready", name=self.app.name, placements=len(self.app.placements))

    def _why_failed(self) -> str:
        """Say which cell of the application failed, and why."""
        failed = next((name, cell.reason) for name, cell in self.status().items() if cell.state == "failed")
        return f'cell "{failed[0]}" failed to start: {failed[1]}'

    def _poll_all(self, capabilities: Iterable[Capability], fleet: Fleet) -> None:
        for capability in capabilities:
            if capability.poll is not None:
                self._spawn(self._poll(capability, fleet))

    def _announce(self) -> None:
        if self.app is not None:
            app, script = self.app, self.app.orchestrator
            more = {} if script is None else {"orchestrator": script.cell, "script_sha256": script.sha256}
            self.log.info("pulp application", name=app.name, version=app.version, manifest=app.manifest_path, **more)
            return
        for spec in self.specs:
            self.log.info(
                "pulp boot",
                cell=spec.name,
                version=spec.version,
                manifest=spec.manifest_path,
                wasm=spec.wasm_path,
                capabilities=spec.capabilities,
                provides=spec.provides,
                consumes=spec.consumes,
            )

    def _set_up(self, fleet: Fleet, names: Iterable[str]) -> None:
        """Set up the capabilities with these names that are not set up yet."""
        there = {capability.name for capability in self._declared}
        found = [self._registry.find(name) for name in dict.fromkeys(names) if name not in there]
        # A name nobody offers fails the cells that declare it, when they are loaded; the others run.
        declared = [capability for capability in found if capability is not None]
        set_up([(capability, self._env(capability, fleet)) for capability in declared])
        self._declared.extend(declared)
        if self._started:
            self._poll_all(declared, fleet)

    def _env(self, capability: Capability, fleet: Fleet) -> SetupEnv:
        return SetupEnv(
            storage_root=self._storage_root,
            logger=self.log.bind(capability=capability.name),
            post=fleet.events(capability).post,
            spawn=self._spawn,
            defer=fleet.dispatcher.defer,
            reachable=self._endpoints.append,
            config=self._config.get(capability.name, {}),
            http_port=self._http_port,
            http_config=self._config.get("http", {}),
            services=self._services,
            scope=self._layout.scope,
            storage_namespaces=self._layout.folders,
        )

    async def _poll(self, capability: Capability, fleet: Fleet) -> None:
        """Ask a source that can only be asked; pause longer the longer it has nothing."""
        post = fleet.events(capability).post
        shortest, longest = _POLL_SECONDS
        pause = shortest
        while True:
            event = contained(capability, "poll")
            if not isinstance(event, StepEvent):
                await asyncio.sleep(pause)
                pause = min(2 * pause, longest)
                continue
            posted = post(event)
            if posted is Posted.ACCEPTED:
                pause = shortest
                await asyncio.sleep(0)  # a source that always has an event must not hold the loop
                continue
            self.log.warning(
                "cell event channel full; dropping event",
                cell=event.cell_id,
                kind=event.kind,
                reason=posted.value,
            )
            contained(capability, "finalize", event.id)
            await asyncio.sleep(longest)

    async def stop(self) -> None:
        """Stop gracefully within the grace time: drain, shut down, tear down. May be called in any state."""
        end = time.monotonic() + self._grace
        for task in self._tasks:
            task.cancel()
        self._started = False
        fleet, self._fleet = self._fleet, None
        if fleet is not None:
            await fleet.drain(end - HALT_SECONDS)
            await fleet.shut_down(end - HALT_SECONDS / 2, end)
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=max(0.05, end - time.monotonic()))
            tear_down(self._declared, self._layout.scope)
            self._declared.clear()
            fleet.close(end)
            self.finished = fleet.finished
            self.unclean = tuple(fleet.unclean)
        self._tasks.clear()
        self._endpoints.clear()

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        task.add_done_callback(self._task_done)
        self._tasks.append(task)

    def _task_done(self, task: asyncio.Task[None]) -> None:
        if task in self._tasks:
            self._tasks.remove(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.log.error("extension task failed", error=repr(error), exc_info=error)

    # Use --------------------------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """Where the shared listener answers, e.g. `http://127.0.0.1:8080`; "" when no cell has one."""
        return next((endpoint.address for endpoint in self._endpoints), "")

    def _runners(self) -> Mapping[str, Runner]:
        return {} if self._fleet is None else self._fleet.runners

    def call(self, cell: str, function: str, args: bytes = b"", *, seconds: float | None = None) -> bytes:
        """Ask a cell for one of the functions it provides; return its response. From any thread but the loop's.

        Args:
            cell: its name, or address.
            function: one that its manifest lists under `provides`.
            args: opaque bytes, MessagePack by convention.
            seconds: how long to wait for the cell to be free; its call deadline by default.

        Raises:
            CallRefused: there is no such cell, or it does not provide that function.
            CellError: see `Cell.call`.
        """
        runner = self._runners().get(cell)
        if runner is None:
            raise CallRefused(cell, f"no cell {cell!r} here; there are {', '.join(self._runners()) or 'none'}")
        if function not in runner.spec.provides:
            raise CallRefused(cell, f"cell {cell} does not provide {function!r}; add it to provides in its manifest")
        return runner.call(function, args, seconds)

    async def call_async(self, cell: str, function: str, args: bytes = b"", *, seconds: float | None = None) -> bytes:
        """Do what `call` does, for coroutines."""
        return await asyncio.to_thread(self.call, cell, function, args, seconds=seconds)

    def reload_certificate(self) -> bool:
        """Read the certificate of the shared listener again; open connections keep theirs. From any thread.

        Returns:
            False when there is none, or it cannot be used: then the one before it stays, and the log says why.
        """
        from pulp_runtime.capabilities.transport.front import Front  # not every host has one

        return self._services.get(Front, Front).reload_certificate()

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

    @property
    def operations(self) -> Operations:
        """Stop, start, restart, reload and roll back single cells. Its coroutines belong to the host's loop.

        Raises:
            StartError: the host does not run.
        """
        if self._operations is None or self._fleet is None:
            raise StartError("the host does not run")
        return self._operations

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


def _registry(capabilities: Sequence[Capability], pins: Mapping[str, str]) -> Registry:
    """Return the capabilities of a host: built in, registered by code, given, and what packages offer."""
    there = [*registered(), *capabilities]
    rivals = {capability.name for capability in there} | set(pins)
    there += [make() for name, make in BUILT_IN.items() if name in rivals]
    known = {(capability.name, capability.provider) for capability in there}
    elsewhere = {name for name, provider in pins.items() if (name, provider) not in known}
    there = [capability for capability in there if capability.name not in elsewhere]
    own = {name: make for name, make in BUILT_IN.items() if name not in rivals}
    registry = Registry(prefill=False, built_in=own, discover=lambda: installed({**BUILT_IN, **ALWAYS}, pins))
    for make in ALWAYS.values():
        registry.always(make())
    for capability in select(there, {name: pin for name, pin in pins.items() if name not in elsewhere}):
        registry.gated(capability)
    for name in elsewhere:
        if registry.find(name) is None:
            raise ExtensionError(f'pinned capability "{name}": no installed package is or has provider "{pins[name]}"')
    return registry
