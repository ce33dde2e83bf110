"""Several applications as one host, from `pulp.host.toml` (spec/core §7).

    with Composition("pulp.host.toml", http_port=8080) as host:
        print(host.url, host.status())

    gateway ──▶ shop/blue ─┐
            ──▶ shop/green ┼─▶ one engine, one set of workers
                billing  ──┘

Each application instance has cells, capabilities, storage and events of its own. They start one after the other, all
or none, each after those it depends on, and stop in reverse.
"""

from __future__ import annotations

import asyncio
import enum
import os
import time
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pulp_runtime._kernel.machine import HALT_SECONDS, Machine
from pulp_runtime._kernel.modules import default_cache
from pulp_runtime._kernel.neighbours import Neighbours
from pulp_runtime._kernel.registry import Registry
from pulp_runtime._kernel.runner import Runner
from pulp_runtime._kernel.seat import Layout
from pulp_runtime._net.dial_own import OwnListeners
from pulp_runtime.capabilities.storage.grounds import Grounds
from pulp_runtime.errors import PulpError, StartError
from pulp_runtime.ext import Capability
from pulp_runtime.ext import all as registered
from pulp_runtime.hosting.application import Application, Premises
from pulp_runtime.hosting.direction import Direction
from pulp_runtime.hosting.endpoints import Endpoints
from pulp_runtime.hosting.lifecycle import LifecycleObserver, registered_observer
from pulp_runtime.hosting.offers import check_config, make_registry
from pulp_runtime.hosting.polling import Polling
from pulp_runtime.hosting.running import Running
from pulp_runtime.hosting.sharing import Sharing, check_capabilities, check_listeners
from pulp_runtime.log import Log
from pulp_runtime.manifest.cell import CellSpec
from pulp_runtime.manifest.graph import start_order
from pulp_runtime.manifest.host import HostedApplication, HostSpec, load_host
from pulp_runtime.manifest.host_graph import check_host_consumes

if TYPE_CHECKING:
    from pulp_runtime.capabilities.transport.gateway import Gateway

GRACE_SECONDS: Final = 5.0


class _State(enum.Enum):
    NEW = "new"
    RUNNING = "running"
    STOPPED = "stopped"


class Composition(Running):
    """Runs several applications in this process. Cells are called `application/cell`, or `application/instance/cell`.

    Args:
        host: the manifest, a folder that holds one, or a spec.
        storage_root: folder for the applications' data: `{storage_namespace}/{instance}/{cell}/` below it.
        http_port: port, or `host:port`, of the gateway; 0 lets the system choose. `$HTTP_PORT` by default. A host with
            routes needs one; in a host without, the only application that answers HTTP listens at 8080 by default.
        capabilities: more capabilities, beside the built-in and installed ones; all instances get the same object.
        config: see `Host`; every application gets the same.
        providers: see `Host`.
        observer: who is told when an application has started and before it stops, in the place of the one that
            `observe` was given.
        workers: see `Host`.
        cache: see `Host`.
        grace_seconds: how long stopping may take.

    Attributes:
        spec: what its manifest says.
        endpoints: where the applications can be reached.
        finished: whether every thread has ended; False only after `stop`, when a guest could not be stopped in time.
        unclean: after `stop`: what went wrong meanwhile, a sentence for each.

    Raises:
        ManifestError: see `load_host`.
    """

    def __init__(
        self,
        host: str | Path | HostSpec,
        *,
        storage_root: str | Path = "data",
        http_port: str | int | None = None,
        capabilities: Iterable[Capability] = (),
        config: dict[str, dict[str, Any]] | None = None,
        providers: Mapping[str, str] | None = None,
        observer: LifecycleObserver | None = None,
        workers: int | None = None,
        cache: Path | None = None,
        grace_seconds: float = GRACE_SECONDS,
    ) -> None:
        self.log: Final = Log("pulp")
        self.spec: Final = host if isinstance(host, HostSpec) else load_host(Path(host))
        self.endpoints: Final = Endpoints()
        self.finished = True
        self.unclean: tuple[str, ...] = ()
        self._storage_root: Final = Path(storage_root).absolute()
        self._http_port: Final = os.environ.get("HTTP_PORT", "") if http_port is None else str(http_port).strip()
        self._capabilities: Final = tuple(capabilities)
        self._config: Final = config or {}
        self._providers: Final = dict(providers or {})
        self._observer: Final = observer or registered_observer()
        self._workers: Final = workers or os.cpu_count() or 1
        self._cache: Final = cache or default_cache()
        self._grace: Final = grace_seconds
        self._lock: Final = asyncio.Lock()
        self._state = _State.NEW
        self._polling: Final = Polling()
        self._own_listeners: Final = OwnListeners()
        self._grounds: Final = Grounds(self._storage_root)
        self._applications: Final[dict[HostedApplication, Application]] = {}
        self._machine: Machine | None = None
        self._gateway: Gateway | None = None
        self._cells: dict[str, Runner] = {}

    # Life -------------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Check what can be checked without starting anything: capabilities are there, routes lead somewhere.

        Raises:
            ManifestError, ExtensionError: what is wrong, and what to write instead.
        """
        self._prepare()

    def _prepare(self) -> tuple[dict[HostedApplication, Registry], Sharing]:
        check_listeners(self.spec)
        hosted = self.spec.applications
        sharing = Sharing([*registered(), *self._capabilities], len(hosted))
        registries = {one: make_registry(self._capabilities, self._providers) for one in hosted}
        for one, registry in registries.items():
            check_config(self._config, registry)
            check_capabilities(one, registry, sharing)
        return registries, sharing

    async def start(self) -> None:
        """Start every application, and then the gateway.

        Raises:
            StartError: it runs, or has been stopped; or something could not be started. Then everything has been
                stopped again, and `start` may be called again.
        """
        async with self._lock:
            if self._state is _State.RUNNING:
                raise StartError("multi-application host is already running")
            if self._state is _State.STOPPED:
                raise StartError("multi-application host has been stopped")
            try:
                await self._start()
            except PulpError as error:
                problems = await self._shut_down()
                more = "".join(f"; rollback application host: {problem}" for problem in problems)
                raise StartError(f"{error}{more}") from error
            except BaseException:
                await self._shut_down()
                raise
            self._state = _State.RUNNING
        self.log.info("pulp multi-application host ready", host=self.spec.manifest_path, name=self.spec.name)

    async def _start(self) -> None:
        if self.spec.routes and not self._http_port:
            raise StartError("-host with routes requires -http-port for the host gateway; write -http-port 8080")
        registries, sharing = self._prepare()
        self._machine = Machine(workers=self._workers, cache=self._cache)
        premises = Premises(
            self._machine,
            self._polling,
            self.endpoints,
            self._config,
            self._http_port,
            self._observer,
            Neighbours(self.spec.depends_on),
        )
        self._gateway = self._make_gateway()
        for hosted in self.spec.applications:
            self._applications[hosted] = application = self._application(hosted, registries[hosted], premises, sharing)
            try:
                await application.start()
            except PulpError as error:
                raise StartError(f"start application {hosted.identity}: {error}") from error
            self._cells = {**self._cells, **{one.seat.label: one for one in application.fleet.runners.values()}}
            self.log.info("pulp application ready", name=hosted.identity, placements=len(hosted.app.placements))
        self._polling.start()
        if self._gateway is not None:
            await self._gateway.start()

    def _application(
        self, hosted: HostedApplication, registry: Registry, premises: Premises, sharing: Sharing
    ) -> Application:
        application = Application(
            Layout.of_hosted(hosted),
            registry,
            premises,
            self._storage_root / hosted.storage_namespace / hosted.instance,
            vet=partial(sharing.vet, identity=hosted.identity),
            check=partial(self._check_reload, hosted.id),
        )
        # No cell of one application is sent to a listener of another by accident, nor given a folder of one.
        application.services.put(OwnListeners, self._own_listeners)
        application.services.put(Grounds, self._grounds)
        if self._gateway is not None:
            from pulp_runtime.capabilities.transport.gateway_seat import GatewaySeat

            application.services.put(GatewaySeat, self._gateway.seat(hosted.id, hosted.instance))
        return application

    def _make_gateway(self) -> Gateway | None:
        if not self.spec.routes:
            return None
        from pulp_runtime.capabilities.transport.gateway import Gateway, GatewayRoute

        routes = [GatewayRoute(*route) for route in self.spec.routes]
        return Gateway(self._http_port, routes, self._config.get("http", {}), self.log)

    def _check_reload(self, name: str, specs: list[CellSpec]) -> None:
        """Refuse a new manifest with which the applications would not go together any more."""
        start_order(specs)
        cells: dict[str, list[CellSpec]] = {}
        for hosted, application in self._applications.items():
            cells.setdefault(hosted.id, [runner.spec for runner in application.fleet.runners.values()])
        check_host_consumes({**cells, name: specs}, self.spec.depends_on)

    async def stop(self) -> None:
        """Stop the gateway and then every application, the one that started last first; never to be started again."""
        async with self._lock:
            if self._state is _State.RUNNING:
                self._state = _State.STOPPED
                self.unclean = tuple(await self._shut_down())

    async def _shut_down(self) -> list[str]:
        """Stop what has been started; return what went wrong, a sentence for each."""
        end = time.monotonic() + self._grace
        problems: list[str] = []
        gateway, self._gateway = self._gateway, None
        machine, self._machine = self._machine, None
        closing = None if gateway is None else asyncio.ensure_future(gateway.close(self._grace - HALT_SECONDS / 2))
        for application in self._applications.values():
            application.leave()
        await self._polling.stop()
        if machine is not None:
            runners = [one for application in self._applications.values() for one in application.fleet.runners.values()]
            await machine.drain(runners, end - HALT_SECONDS)
        self._cells = {}
        while self._applications:
            # Each has its share of what is left, so that one that hangs leaves the others time for a goodbye.
            now = time.monotonic()
            share = max(0.1, (end - now) / len(self._applications))
            hosted, application = self._applications.popitem()
            await application.close_doors(now + share / 2)
            await application.shut_down(now + share / 2, now + share)
            problems += [f"shutdown application {hosted.identity}: {problem}" for problem in application.unclean]
            self.finished = self.finished and application.finished
        if closing is not None:
            await closing
        if machine is not None:
            machine.close(end)
            self.finished = self.finished and machine.finished
        return problems

    # Use --------------------------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """Where the gateway answers, or the only application that does; "" when none does."""
        return self._gateway.url if self._gateway is not None else self.endpoints.first

    def _runners(self) -> Mapping[str, Runner]:
        return self._cells

    def _named(self, cell: str) -> str:
        """Return what operators call a cell; an instance that is the only one may be named or not."""
        application, _, rest = cell.partition("/")
        instance, slash, address = rest.partition("/")
        for one in self.spec.applications:
            if slash and (one.id, one.instance) == (application, instance):
                return f"{one.label}/{address}"
        return cell

    def reload_certificate(self) -> bool:
        """See `Host.reload_certificate`."""
        if self._gateway is not None:
            return self._gateway.reload_certificate()
        from pulp_runtime.capabilities.transport.front import Front

        fronts = [one for app in self._applications.values() if (one := app.services.find(Front)) is not None]
        return any(front.reload_certificate() for front in fronts)

    @property
    def operations(self) -> Direction:
        """Stop, start, restart, reload and roll back single cells. Its coroutines belong to the host's loop.

        Raises:
            StartError: the host does not run.
        """
        if self._state is not _State.RUNNING:
            raise StartError("the host does not run")
        return Direction(self._applications, self._named)
