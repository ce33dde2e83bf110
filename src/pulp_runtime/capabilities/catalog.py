"""The capabilities that come with Pulp: names, and where each is made. None is imported before a cell asks for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from typing import Final, cast

from pulp_runtime.ext import Capability


def _make(module: str) -> Capability:
    return cast(Capability, import_module(f"pulp_runtime.capabilities.{module}").capability())


_MODULES: Final = {
    "storage.fs": "storage.fs",
    "storage.kv": "storage.kv",
    "storage.sqlite": "storage.sqlite",
    "transport.http.inbound": "transport.http_inbound",
    "transport.ws.inbound": "transport.ws_inbound",
    "transport.sse": "transport.sse",
    "transport.http.outbound": "transport.http_outbound",
    "transport.ws.outbound": "transport.ws_outbound",
    "network.udp": "network.udp",
    "spawn.process": "spawn.process",
    "spawn.pty": "spawn.pty",
    "cloud.blob": "cloud.blob",
    "cloud.ipc": "cloud.ipc",
    "cloud.queue": "cloud.queue",
    "discovery.mdns": "discovery.mdns",
    "identity.jwt.hs256": "identity.jwt_hs256",
    "cloud.kv": "cloud.kv",
    "cloud.secrets": "cloud.secrets",
    "workers": "workers",
}

BUILT_IN: Final[Mapping[str, Callable[[], Capability]]] = {
    name: partial(_make, module) for name, module in _MODULES.items()
}
"""Those a cell has when its manifest declares them, by name."""

ALWAYS: Final[Mapping[str, Callable[[], Capability]]] = {
    "core.log": partial(_make, "core.log"),
    "entropy.read": partial(_make, "core.entropy"),
}
"""Those that every cell has, whether it declares them or not."""
