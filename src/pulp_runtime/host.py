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
from pulp_runtime._kernel.events import Events
from pulp_runtime._kernel.fleet import HALT_SECONDS, Fleet
from pulp_runtime._kernel.hooks import contained, set_up, tear_down
from pulp_runtime._kernel.modules import default_cache
from pulp_runtime._kernel.operations import Operations
from pulp_runtime._kernel.registry import Registry
from pulp_runtime._kernel.runner import Runner
from pulp_runtime._kernel.selection import select
from pulp_runtime.background import LoopThread
from pulp_runtime.capabilities.catalog import ALWAYS, BUILT_IN
from pulp_runtime.control.protocol import CellEntry
from pulp_runtime.errors import CallRefused, ExtensionError, PulpError
from pulp_runtime.ext import Capability, Endpoint, Posted, Services, SetupEnv, StepEvent
from pulp_runtime.ext import all as registered
from pulp_runtime.log import Log
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
        storage_root: folder for the cells' data.
        http_port: port, or `host:port`, of the shared listener; 0 lets the system choose. `$HTTP_PORT`, else 8080.
        capabilities: more capabilities, beside the built-in and installed ones.
        config: settings for capabilities, by capability name; those of the shared listener under `http`.
        providers: which implementation to use, by capability name, where there are several: its
            `Capability.provider`, or the package that offers it.
        workers: threads that run cells; the number of processors by default.
        cache: folder for compiled modules; `$PULP_CACHE_DIR` or the user's cache folder by default.
        grace_seconds: how long stopping may take.
    """

    def __init__(
        self,
        cells: Iterable[str | Path | CellSpec],
        *,
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
        self.specs: Final[Sequence[CellSpec]] = [
            cell if isinstance(cell, CellSpec) else load_cell(Path(cell)) for cell in cells
        ]
        self._order: Final = start_order(self.specs)
        self._storage_root: Final = Path(storage_root).absolute()
        self._http_port: Final = os.environ.get("HTTP_PORT", "") if http_port is None else str(http_port)
        self._config: Final = config or {}
        self._workers: Final = workers or os.cpu_count() or 1
        self._cache: Final = cache or default_cache()
        self._grace: Final = grace_seconds
        self._registry: Final = _registry(tuple(capabilities), dict(providers or {}))
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

    # Life -------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Set up capabilities and load the cells; return when each is ready or has failed.

        Raises:
            StartError: a capability cannot be set up, or no cell could be started. Nothing is left behind.
        """
        for spec in self.specs:
            self._announce(spec)
        self._fleet = fleet = Fleet(self._order, self._registry, workers=self._workers, cache=self._cache)
        self._operations = Operations(fleet, lambda names: self._set_up(fleet, names))
        try:
            self._set_up(fleet, (name for spec in self.specs for name in spec.capabilities))
            if not await fleet.start():
                raise StartError("all cells failed to start")
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

    def _poll_all(self, capabilities: Iterable[Capability], fleet: Fleet) -> None:
        for capability in capabilities:
            if capability.poll is not None:
                self._spawn(self._poll(capability, fleet))

    def _announce(self, spec: CellSpec) -> None:
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
            post=Events(capability, fleet.receivers(capability.name)).post,
            spawn=self._spawn,
            defer=fleet.dispatcher.defer,
            reachable=self._endpoints.append,
            config=self._config.get(capability.name, {}),
            http_port=self._http_port,
            http_config=self._config.get("http", {}),
            services=self._services,
        )

    async def _poll(self, capability: Capability, fleet: Fleet) -> None:
        """Ask a source that can only be asked; pause longer the longer it has nothing."""
        post = Events(capability, fleet.receivers(capability.name)).post
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
            tear_down(self._declared)
            self._declared.clear()
            fleet.close(end)
            self.finished = fleet.finished
        self._tasks.clear()
        self._endpoints.clear()

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        task.add_done_callback(self._task_done)
        self._tasks.append(task)

    def _task_done(self, task: asyncio.Task[None]) -> None:
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
            cell: its name.
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
