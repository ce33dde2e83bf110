"""What a capability is given when it is set up."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pulp_runtime.ext.endpoint import Endpoint
from pulp_runtime.ext.event import Posted, StepEvent
from pulp_runtime.ext.scope import Scope, legacy_scope
from pulp_runtime.ext.services import Services
from pulp_runtime.log import Log


@dataclass(frozen=True, slots=True, kw_only=True)
class SetupEnv:
    """The host, as far as a capability may use it.

    Attributes:
        storage_root: folder under which each cell has `{storage_root}/{cell name}/`, unless `storage_namespaces` has
            another name for it; it may not exist yet.
        config: settings the operator gave this capability.
        http_port: port (or `host:port`) of the shared listener; "" means the default.
        http_config: settings of the shared listener.
        logger: writes records that carry `capability=<name>`.
        scope: whom the set-up is for: the whole host, or the application that runs in it.
        storage_namespaces: folder names that stand in for cell names under `storage_root`, by cell id: the addresses
            of cells that run several times in an application, else empty.
        services: what the capabilities of this host share, one object of a kind.
        cell_name: always "": set-up happens once for the host, before any cell is loaded.
        post: `post(event) -> Posted`: hand an event to its cell. From any thread; never blocks. What is not
            accepted has not been kept, and whoever posted it answers its client.
        spawn: `spawn(coroutine)`: run it on the host's event loop. It is cancelled when the host begins to stop:
            the moment to accept nothing new. What it still awaits then may take as long as the grace time.
            A capability starts no thread and no loop of its own.
        reachable: `reachable(endpoint)`: report an address that is now open. An application has one of each role.
        unreachable: `unreachable(endpoint)`: report that it is open no more; when the application stops, the host
            knows by itself.
        defer: `defer(callback)`: run `callback()` on the event loop soon. From any thread. Callbacks deferred
            while a cell is stepped run together, when the worker's turn ends or after a few milliseconds.
    """

    storage_root: Path
    logger: Log
    post: Callable[[StepEvent], Posted]
    spawn: Callable[[Coroutine[Any, Any, None]], None]
    defer: Callable[[Callable[[], None]], None]
    reachable: Callable[[Endpoint], None]
    config: Mapping[str, Any] = field(default_factory=dict)
    http_port: str = ""
    http_config: Mapping[str, Any] = field(default_factory=dict)
    scope: Scope = field(default_factory=lambda: legacy_scope("host"))
    storage_namespaces: Mapping[str, str] = field(default_factory=dict)
    services: Services = field(default_factory=Services)
    cell_name: str = ""
    unreachable: Callable[[Endpoint], None] = lambda _endpoint: None
