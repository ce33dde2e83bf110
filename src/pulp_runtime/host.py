"""The composition root: the one file that names every part.

    with Host(["examples/echo/c"]) as host:          # or: async with, on the loop of a program that has one
        print(host.url)

Life: read manifests ─▶ set up capabilities ─▶ load cells ─▶ serve ─▶ drain ─▶ shut cells down ─▶ tear down.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

from pulp_runtime._kernel.cell import Cell
from pulp_runtime._kernel.discovery import installed
from pulp_runtime._kernel.dispatcher import Dispatcher
from pulp_runtime._kernel.engine import Engine
from pulp_runtime._kernel.events import Events
from pulp_runtime._kernel.hooks import contained, set_up, tear_down
from pulp_runtime._kernel.modules import default_cache
from pulp_runtime._kernel.policy import State
from pulp_runtime._kernel.registry import Registry
from pulp_runtime._kernel.runner import Runner
from pulp_runtime._kernel.selection import select
from pulp_runtime.abi.config import encode_config
from pulp_runtime.background import LoopThread
from pulp_runtime.capabilities.core import entropy
from pulp_runtime.capabilities.core import log as core_log
from pulp_runtime.capabilities.transport import http_inbound
from pulp_runtime.errors import CallRefused, ExtensionError, PulpError
from pulp_runtime.ext import Capability, Endpoint, SetupEnv, StepEvent
from pulp_runtime.ext import all as registered
from pulp_runtime.log import Log
from pulp_runtime.manifest.cell import CellSpec, load_cell
from pulp_runtime.manifest.graph import start_order

BUILT_IN: Final[dict[str, Callable[[], Capability]]] = {
    http_inbound.NAME: http_inbound.capability,
}
"""The capabilities that come with Pulp, by name."""

ALWAYS: Final[dict[str, Callable[[], Capability]]] = {
    core_log.NAME: core_log.capability,
    entropy.NAME: entropy.capability,
}
"""Those that every cell has, whether it declares them or not."""

GRACE_SECONDS: Final = 5.0
_HALT_SECONDS: Final = 1.5
_POLL_SECONDS: Final = (0.0002, 0.02)
"""Shortest and longest pause between two questions to a source that can only be asked."""


def _naming(log: Log, spec: CellSpec, error: PulpError) -> Log:
    """Return the log for a cell that does not start; it names the module, if the error does not."""
    return log if str(spec.wasm_path) in str(error) else log.bind(wasm=spec.wasm_path)


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
    """Runs cells in this process. All methods belong to the event loop it was started on.

    Args:
        cells: manifests, folders that hold one, or specs.
        storage_root: folder for the cells' data.
        http_port: port, or `host:port`, of the shared listener; 0 lets the system choose. `$HTTP_PORT`, else 8080.
        capabilities: more capabilities, beside the built-in and installed ones.
        config: settings for capabilities, by capability name.
        providers: which implementation to use, by capability name, where there are several: its
            `Capability.provider`, or the package that offers it.
        workers: threads that run cells; the number of processors by default.
        cache: folder for compiled modules; None keeps none.
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
        self._runners: Final[dict[str, Runner]] = {}
        self._declared: Final[list[Capability]] = []
        self._tasks: Final[list[asyncio.Task[None]]] = []
        self._endpoints: Final[list[Endpoint]] = []
        self._engine: Engine | None = None
        self._dispatcher: Dispatcher | None = None
        self._moved: asyncio.Event | None = None
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
        self._moved = asyncio.Event()
        self._dispatcher = Dispatcher(asyncio.get_running_loop(), self._workers)
        self._engine = Engine(self._cache, on_tick=self._dispatcher.tend)
        try:
            self._set_up()
            await self._load_cells()
        except PulpError as error:
            await self.stop()
            raise StartError(str(error)) from error
        except BaseException:
            await self.stop()
            raise
        for capability in self._declared:
            if capability.poll is not None:
                self._spawn(self._poll(capability))

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

    def _set_up(self) -> None:
        names = dict.fromkeys(name for spec in self.specs for name in spec.capabilities)
        found = [(name, self._registry.find(name)) for name in names]
        # A name nobody offers fails the cells that declare it, when they are loaded; the others run.
        declared = [capability for _name, capability in found if capability is not None]
        set_up([(capability, self._env(capability)) for capability in declared])
        self._declared.extend(declared)

    def _env(self, capability: Capability) -> SetupEnv:
        assert self._dispatcher is not None  # noqa: S101  # set by start, the only caller
        return SetupEnv(
            storage_root=self._storage_root,
            logger=self.log.bind(capability=capability.name),
            post=Events(capability, self._receivers(capability.name)).post,
            spawn=self._spawn,
            defer=self._dispatcher.defer,
            reachable=self._endpoints.append,
            config=self._config.get(capability.name, {}),
            http_port=self._http_port,
        )

    def _receivers(self, capability: str) -> dict[str, Runner]:
        """Return the cells that declare a capability; they are made here, before anyone can post to them."""
        found = {}
        for spec in self._order:
            if capability in spec.capabilities:
                found[spec.name] = self._runner(spec)
        return found

    def _runner(self, spec: CellSpec) -> Runner:
        runner = self._runners.get(spec.name)
        if runner is None:
            assert self._dispatcher is not None  # noqa: S101  # set by start
            dispatcher = self._dispatcher
            log = Log("pulp", cell=spec.name)
            runner = self._runners[spec.name] = Runner(
                spec,
                lambda: self._load(spec, log),
                dispatcher.lane(spec.name, dedicated=spec.dedicated_thread),
                ready=dispatcher.ready,
                flush=dispatcher.flush,
                changed=lambda _runner: dispatcher.defer(self._wake),
                log=log,
            )
        return runner

    async def _load_cells(self) -> None:
        """Start every cell as soon as those it depends on are ready."""
        waiting = list(self._order)
        for spec in waiting:
            self._runner(spec)
        while True:
            for spec in list(waiting):
                before = [self._runners[name] for name in spec.depends_on]
                failed = [other.spec.name for other in before if other.state is State.FAILED]
                if failed:
                    waiting.remove(spec)
                    self.log.error("cell init aborted — dependency failed", cell=spec.name, failed_dep=failed[0])
                    self._runners[spec.name].abandon(f"depends on {failed[0]}, which failed")
                elif all(other.state is State.READY for other in before):
                    waiting.remove(spec)
                    self._runners[spec.name].start()
            states = [runner.state for runner in self._runners.values()]
            if not waiting and State.LOADING not in states:
                break
            await self._next_change()
        if not any(runner.state is State.READY for runner in self._runners.values()):
            raise StartError("all cells failed to start")

    async def _next_change(self) -> None:
        assert self._moved is not None  # noqa: S101  # set by start
        await self._moved.wait()
        self._moved.clear()

    def _wake(self) -> None:
        if self._moved is not None:
            self._moved.set()

    def _load(self, spec: CellSpec, log: Log) -> Cell:
        """Load and initialise a cell, on a worker; on a restart, drop first what its predecessor owned."""
        assert self._engine is not None  # noqa: S101  # set by start
        assert self._dispatcher is not None  # noqa: S101
        runner = self._runners[spec.name]
        phase = "" if runner.state is State.LOADING else "re-instantiate: "
        if phase:
            self._teardown_cell(spec)
        try:
            cell = Cell.load(spec, self._registry, engine=self._engine, log=log, blocking=runner.lane.blocking)
        except PulpError as error:
            _naming(log, spec, error).error(f"{phase}load failed", err=str(error))
            raise
        try:
            cell.init(encode_config(spec.config))
        except PulpError as error:
            _naming(log, spec, error).error(f"{phase}init failed", err=str(error))
            cell.close()
            self._teardown_cell(spec)
            raise
        log.info("init complete")
        log.info("cell ready", version=spec.version, capabilities=spec.capabilities, depends_on=spec.depends_on)
        return cell

    async def _poll(self, capability: Capability) -> None:
        """Ask a source that can only be asked; pause longer the longer it has nothing."""
        post = Events(capability, self._receivers(capability.name)).post
        shortest, longest = _POLL_SECONDS
        pause = shortest
        while True:
            event = contained(capability, "poll")
            if not isinstance(event, StepEvent):
                await asyncio.sleep(pause)
                pause = min(2 * pause, longest)
                continue
            pause = shortest
            posted = post(event)
            if posted.value != "accepted":
                self.log.warning(
                    "cell event channel full; dropping event",
                    cell=event.cell_id,
                    kind=event.kind,
                    reason=posted.value,
                )
                contained(capability, "finalize", event.id)

    async def stop(self) -> None:
        """Stop gracefully within the grace time: drain, shut down, tear down. May be called in any state."""
        end = time.monotonic() + self._grace
        for task in self._tasks:
            task.cancel()
        if self._engine is not None and self._dispatcher is not None:
            await self._drain(end - _HALT_SECONDS)
            for runner in self._runners.values():
                runner.retire()
            await self._shut_down_cells(end - _HALT_SECONDS / 2, end)
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=max(0.05, end - time.monotonic()))
            tear_down(self._declared)
            self._declared.clear()
            self.finished = self._dispatcher.close(max(0.1, end - time.monotonic()))
            self._dispatcher.run_deferred()
            if self.finished:
                self._engine.close()
            self._engine = self._dispatcher = None
        self._runners.clear()
        self._tasks.clear()
        self._endpoints.clear()

    async def _drain(self, end: float) -> None:
        """Wait until no cell has anything to do; past `end`, end what the guests do.

        Nobody waits for a cell that is still being loaded: it is ended as soon as no other has work.
        """
        assert self._engine is not None  # noqa: S101  # checked by stop
        told = False
        while busy := [runner for runner in self._runners.values() if runner.busy]:
            now = time.monotonic()
            if now >= end or not any(runner.state is State.READY for runner in busy):
                if not told:
                    names = [runner.spec.name for runner in busy]
                    self.log.warning("guests still busy at shutdown; ending them", cells=names)
                told = True
                self._engine.halt()  # again and again: a guest may have been between two calls
            if now >= end + _HALT_SECONDS / 4:
                break
            await asyncio.sleep(0.005)

    async def _shut_down_cells(self, halt_at: float, end: float) -> None:
        """Let the cells say goodbye; past `halt_at`, end those that do not come to it, past `end`, leave them."""
        assert self._engine is not None  # noqa: S101  # checked by stop
        work = asyncio.ensure_future(asyncio.to_thread(self._shut_down))
        while not work.done() and (now := time.monotonic()) < end:
            if now >= halt_at:
                self._engine.halt()
            await asyncio.wait({work}, timeout=0.05 if now >= halt_at else halt_at - now)

    def _shut_down(self) -> None:
        """Run each cell's probes and `pulp_shutdown`, dependents first, and close it."""
        for spec in reversed(self._order):
            runner = self._runners.get(spec.name)
            cell = runner.cell if runner is not None else None
            if cell is not None and runner is not None:
                self._farewell(cell, runner.log)
                self._teardown_cell(spec)

    def _farewell(self, cell: Cell, log: Log) -> None:
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
        runner = self._runners.get(cell)
        if runner is None:
            raise CallRefused(cell, f"no cell {cell!r} here; there are {', '.join(self._runners) or 'none'}")
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
            for name, runner in self._runners.items()
        }

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
    there = [make() for make in BUILT_IN.values()]
    there += [*registered(), *capabilities]
    known = {(capability.name, capability.provider) for capability in there}
    elsewhere = {name for name, provider in pins.items() if (name, provider) not in known}
    there = [capability for capability in there if capability.name not in elsewhere]
    registry = Registry(prefill=False, discover=lambda: installed({**BUILT_IN, **ALWAYS}, pins))
    for make in ALWAYS.values():
        registry.always(make())
    for capability in select(there, {name: pin for name, pin in pins.items() if name not in elsewhere}):
        registry.gated(capability)
    for name in elsewhere:
        if registry.find(name) is None:
            raise ExtensionError(f'pinned capability "{name}": no installed package is or has provider "{pins[name]}"')
    return registry
