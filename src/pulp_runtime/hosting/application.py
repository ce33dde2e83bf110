"""The cells of one application, or of a host without one, and the capabilities they declare.

Life: set up capabilities ─▶ load cells ─▶ open the doors: others may call in, the observer is told
      close the doors ─▶ shut cells down ─▶ tear capabilities down
"""

from __future__ import annotations

import asyncio
import copy
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from pulp_runtime._kernel.fleet import Fleet
from pulp_runtime._kernel.hooks import set_up, tear_down
from pulp_runtime._kernel.machine import Machine
from pulp_runtime._kernel.neighbours import Neighbours
from pulp_runtime._kernel.operations import Operations
from pulp_runtime._kernel.policy import State
from pulp_runtime._kernel.registry import Registry
from pulp_runtime._kernel.seat import Layout
from pulp_runtime._kernel.turnstile import Turnstile
from pulp_runtime.errors import StartError
from pulp_runtime.ext import Capability, Endpoint, Services, SetupEnv
from pulp_runtime.hosting.access import ApplicationIdentity, ProviderAccess
from pulp_runtime.hosting.commands import operator_commands
from pulp_runtime.hosting.endpoints import Endpoints
from pulp_runtime.hosting.lifecycle import LifecycleObserver, notify
from pulp_runtime.hosting.polling import Polling
from pulp_runtime.log import Log
from pulp_runtime.manifest.cell import CellSpec
from pulp_runtime.manifest.graph import start_order


class Premises(NamedTuple):
    """What an operator gives the applications of a host.

    Attributes:
        machine: what their cells run on.
        polling: asks capabilities that can only be asked.
        endpoints: where they can be reached.
        config: settings for capabilities, by name; those of the listeners under `http`.
        http_port: of the shared listener.
        observer: who is told of their life.
        neighbours: who can be called from other applications; None in a host with one.
    """

    machine: Machine
    polling: Polling
    endpoints: Endpoints
    config: Mapping[str, Mapping[str, Any]]
    http_port: str = ""
    observer: LifecycleObserver | None = None
    neighbours: Neighbours | None = None


class Application:
    """One start of an application. On the loop; `runners` from any thread.

    Args:
        layout: who runs where.
        registry: where its capabilities come from; its own.
        premises: what it is given.
        storage_root: folder for its cells' data.
        vet: `vet(capability)`: raises `PulpError` for one that must not be set up here.
        check: see `Operations`.

    Attributes:
        fleet: its cells.
        operations: what an operator does to one of them.
        services: what its capabilities share.
        unclean: what went wrong while it stopped, a sentence for each.
        finished: whether everybody who was told came back; False only after `shut_down`.
    """

    def __init__(
        self,
        layout: Layout,
        registry: Registry,
        premises: Premises,
        storage_root: Path,
        *,
        vet: Callable[[Capability], None] = lambda _capability: None,
        check: Callable[[list[CellSpec]], object] = start_order,
    ) -> None:
        self._layout: Final = layout
        self._registry: Final = registry
        self._premises: Final = premises
        self._storage_root: Final = storage_root
        self._vet: Final = vet
        self._log: Final = Log("pulp", **layout.log_fields)
        self._declared: Final[list[Capability]] = []
        self._tasks: Final[list[asyncio.Task[None]]] = []
        self._access: ProviderAccess | None = None
        self._was_told = False
        self.identity: Final = ApplicationIdentity(*layout.scope[:2])
        self.services: Final = Services()
        self.unclean: Final[list[str]] = []
        self.finished = True
        self.fleet: Final = Fleet(layout, registry, premises.machine, premises.neighbours, storage_root)
        self.operations: Final = Operations(self.fleet, self._set_up, layout.read, check)

    # Start ------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Set up capabilities and load the cells; return when each is ready or has failed.

        Raises:
            StartError: no cell could be started, or of an application: one could not.
            PulpError: a capability cannot be set up, or the observer raised. In any case `shut_down` is to be called.
        """
        self._set_up(name for seat in self._layout.seats for name in seat.spec.capabilities)
        if not await self.fleet.start():
            reasons = {address: one.reason for address, one in self.fleet.runners.items() if one.reason}
            raise StartError("all cells failed to start" if self._layout.app is None else self._why_failed(), reasons)
        if self._layout.app is not None:
            await self._open_doors()

    def _why_failed(self) -> str:
        """Say which cell of the application failed, and why."""
        failed = next(one for one in self.fleet.runners.values() if one.state is State.FAILED)
        return f'cell "{failed.seat.label}" failed to start: {failed.reason}'

    def _set_up(self, names: Iterable[str]) -> None:
        """Set up the capabilities with these names that are not set up yet."""
        there = {capability.name for capability in self._declared}
        found = [self._registry.find(name) for name in dict.fromkeys(names) if name not in there]
        # A name nobody offers fails the cells that declare it, when they are loaded; the others run.
        declared = [capability for capability in found if capability is not None]
        for capability in declared:
            self._vet(capability)
        set_up([(capability, self._env(capability)) for capability in declared])
        self._declared.extend(declared)
        for capability in declared:
            self._premises.polling.add(capability, self.fleet.events(capability))

    def _env(self, capability: Capability) -> SetupEnv:
        config, dispatcher = self._premises.config, self._premises.machine.dispatcher
        return SetupEnv(
            storage_root=self._storage_root,
            logger=self._log.bind(capability=capability.name),
            post=self.fleet.events(capability).post,
            spawn=self._spawn,
            defer=dispatcher.defer,
            reachable=self._reachable,
            unreachable=self._unreachable,
            config=copy.deepcopy(config.get(capability.name, {})),
            http_port=self._premises.http_port,
            http_config=config.get("http", {}),
            services=self.services,
            scope=self._layout.scope,
            storage_namespaces=self._layout.folders,
        )

    def _reachable(self, endpoint: Endpoint) -> None:
        self._premises.endpoints.ready(self._layout.scope, endpoint)

    def _unreachable(self, endpoint: Endpoint) -> None:
        self._premises.endpoints.gone(self._layout.scope, endpoint)

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        task.add_done_callback(self._task_done)
        self._tasks.append(task)

    def _task_done(self, task: asyncio.Task[None]) -> None:
        if task in self._tasks:
            self._tasks.remove(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.error("extension task failed", error=repr(error), exc_info=error)

    async def _open_doors(self) -> None:
        """Let the program, operators and other applications in, and tell the observer."""
        self._access = access = ProviderAccess(self.identity, self.fleet.runners)
        operator_commands.bind(access)
        if self._premises.neighbours is not None:
            self._premises.neighbours.admit(*self.identity, self.fleet.runners)
        if (observer := self._premises.observer) is not None:
            try:
                await notify(observer.after_application_start, self.identity, access)
            except Exception as error:
                raise StartError(f"lifecycle observer: {type(error).__name__}: {error}") from error
            self._was_told = True

    # Stop -------------------------------------------------------------------------------------------------------

    def leave(self) -> None:
        """Accept nothing new from outside."""
        for task in self._tasks:
            task.cancel()

    async def close_doors(self, end: float) -> None:
        """Let nobody in any more, and tell the observer; wait for calls in flight, until `end` at most."""
        neighbours, observer = self._premises.neighbours, self._premises.observer
        if neighbours is not None:
            await self._emptied(neighbours.withdraw(*self.identity), end)
        if observer is not None and self._was_told:
            self._was_told = False
            try:
                async with asyncio.timeout_at(asyncio.get_running_loop().time() + max(0.05, end - time.monotonic())):
                    await notify(observer.before_application_shutdown, self.identity)
            except TimeoutError:
                self.finished = False
                self.unclean.append("lifecycle observer: it did not come back in time")
            except Exception as error:  # noqa: BLE001  # the application stops whatever it raises
                self.unclean.append(f"lifecycle observer: {type(error).__name__}: {error}")
        if self._access is not None:
            operator_commands.unbind(self._access)
            await self._emptied(self._access.close(), end)

    async def _emptied(self, turnstile: Turnstile | None, end: float) -> None:
        """Wait until every call that was let in has ended."""
        while turnstile is not None and turnstile.inside:
            if time.monotonic() >= end:
                self._log.warning("calls still in flight at shutdown; ending them", application=str(self.identity))
                return
            await asyncio.sleep(0.002)

    async def shut_down(self, halt_at: float, end: float) -> None:
        """Let the cells say goodbye and tear the capabilities down; past `halt_at` guests are ended."""
        await self.fleet.shut_down(halt_at, end)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=max(0.05, end - time.monotonic()))
        tear_down(self._declared, self._layout.scope)
        self._declared.clear()
        self._tasks.clear()
        self._premises.endpoints.remove_application(*self.identity)
        self.unclean.extend(self.fleet.unclean)
