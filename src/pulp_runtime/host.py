"""The composition root: the one file that names every part.

    with Host(["examples/echo/c"]) as host:          # or: async with, on the loop of a program that has one
        print(host.url)

Life: read manifests ─▶ set up capabilities ─▶ load cells ─▶ serve ─▶ drain ─▶ shut cells down ─▶ tear down.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from pulp_runtime._kernel.machine import HALT_SECONDS, Machine
from pulp_runtime._kernel.modules import default_cache
from pulp_runtime._kernel.operations import Operations
from pulp_runtime._kernel.runner import Runner
from pulp_runtime._kernel.seat import ONLY_INSTANCE, Layout
from pulp_runtime.errors import ManifestError, PulpError
from pulp_runtime.errors import StartError as StartError
from pulp_runtime.ext import Capability
from pulp_runtime.hosting.application import Application, Premises
from pulp_runtime.hosting.endpoints import Endpoints
from pulp_runtime.hosting.lifecycle import LifecycleObserver, registered_observer
from pulp_runtime.hosting.offers import check_config, make_registry
from pulp_runtime.hosting.polling import Polling
from pulp_runtime.hosting.running import CellStatus as CellStatus
from pulp_runtime.hosting.running import Running
from pulp_runtime.log import Log
from pulp_runtime.manifest.app import AppSpec, load_app
from pulp_runtime.manifest.bare import load_spec
from pulp_runtime.manifest.cell import CellSpec
from pulp_runtime.manifest.graph import start_order

GRACE_SECONDS: Final = 5.0


class Host(Running):
    """Runs cells in this process. `start` and `stop` belong to one event loop, `call` and `status` to any thread.

    Args:
        cells: manifests, folders that hold one, modules (`.wasm`) that are programs and have none, or specs.
        app: an application instead: its manifest, a folder that holds one, or a spec. Its cells start one after the
            other, all or none, and are named by address: `cell`, or `cell@instance` for one of several placements.
        instance: which instance of the application this is; part of its cells' scopes.
        storage_root: folder for the cells' data.
        http_port: port, or `host:port`, of the shared listener; 0 lets the system choose. `$HTTP_PORT`, else 8080.
        capabilities: more capabilities, beside the built-in and installed ones.
        config: settings for capabilities, by capability name; those of the listeners under `http`. What is not there
            may be in `$HTTP_CERT` and `$HTTP_KEY`.
        providers: which implementation to use, by capability name, where there are several: its
            `Capability.provider`, or the package that offers it.
        observer: who is told when the application has started and before it stops, in the place of the one that
            `observe` was given. Cells outside an application have none.
        workers: threads that run cells; the number of processors by default.
        cache: folder for compiled modules; `$PULP_CACHE_DIR` or the user's cache folder by default.
        grace_seconds: how long stopping may take.
    """

    def __init__(
        self,
        cells: Iterable[str | Path | CellSpec] = (),
        *,
        app: str | Path | AppSpec | None = None,
        instance: str = ONLY_INSTANCE,
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
        specs = [cell if isinstance(cell, CellSpec) else load_spec(Path(cell)) for cell in cells]
        self.app: Final = load_app(Path(app)) if isinstance(app, str | Path) else app
        if self.app is not None and specs:
            raise ManifestError(self.app.manifest_path, "an application runs alone; give either cells or app")
        self.specs: Final[Sequence[CellSpec]] = specs if self.app is None else self.app.cells
        if self.app is None:
            self._layout = Layout.of_cells(start_order(specs))
        else:
            self._layout = Layout.of_app(self.app, instance)
        self._storage_root: Final = Path(storage_root).absolute()
        self._http_port: Final = os.environ.get("HTTP_PORT", "") if http_port is None else str(http_port)
        self._config: Final = config or {}
        self._observer: Final = observer or registered_observer()
        self._workers: Final = workers or os.cpu_count() or 1
        self._cache: Final = cache or default_cache()
        self._grace: Final = grace_seconds
        self._registry: Final = make_registry(tuple(capabilities), dict(providers or {}))
        check_config(self._config, self._registry)
        self._endpoints: Final = Endpoints()
        self._polling: Final = Polling()
        self._machine: Machine | None = None
        self._application: Application | None = None
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
        self._machine = machine = Machine(workers=self._workers, cache=self._cache)
        premises = Premises(
            machine, self._polling, self._endpoints, self._config, self._http_port, observer=self._observer
        )
        self._application = application = Application(self._layout, self._registry, premises, self._storage_root)
        try:
            await application.start()
        except StartError:
            await self.stop()
            raise
        except PulpError as error:
            await self.stop()
            raise StartError(str(error)) from error
        except BaseException:
            await self.stop()
            raise
        self._polling.start()
        if self.app is not None:
            self.log.info("pulp application ready", name=self.app.name, placements=len(self.app.placements))

    def _announce(self) -> None:
        if self.app is not None:
            app, script = self.app, self.app.orchestrator
            more = {} if script is None else {"orchestrator": script.cell, "script_sha256": script.sha256}
            self.log.info("pulp application", name=app.name, version=app.version, manifest=app.manifest_path, **more)
        for spec in self.specs:
            if spec.host_consumes:
                self.log.warning(
                    "no other application runs here; calls to one are answered with 4",
                    cell=spec.name,
                    host_consumes=spec.host_consumes,
                )
            if self.app is None:
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

    async def stop(self) -> None:
        """Stop gracefully within the grace time: drain, shut down, tear down. May be called in any state."""
        end = time.monotonic() + self._grace
        application, self._application = self._application, None
        if application is None or self._machine is None:
            return
        application.leave()
        await self._polling.stop()
        await self._machine.drain(application.fleet.runners.values(), end - HALT_SECONDS)
        await application.close_doors(end - HALT_SECONDS / 2)
        await application.shut_down(end - HALT_SECONDS / 2, end)
        self._machine.close(end)
        self.finished = self._machine.finished and application.finished
        self.unclean = tuple(application.unclean)

    # Use --------------------------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """Where the shared listener answers, e.g. `http://127.0.0.1:8080`; "" when no cell has one."""
        return self._endpoints.first

    def _runners(self) -> Mapping[str, Runner]:
        return {} if self._application is None else self._application.fleet.runners

    def reload_certificate(self) -> bool:
        """Read the certificate of the shared listener again; open connections keep theirs. From any thread.

        Returns:
            False when there is none, or it cannot be used: then the one before it stays, and the log says why.
        """
        from pulp_runtime.capabilities.transport.front import Front  # not every host has one

        return self._application is not None and self._application.services.get(Front, Front).reload_certificate()

    @property
    def operations(self) -> Operations:
        """Stop, start, restart, reload and roll back single cells. Its coroutines belong to the host's loop.

        Raises:
            StartError: the host does not run.
        """
        if self._application is None:
            raise StartError("the host does not run")
        return self._application.operations
