"""The daemon's description of a container as the contract's `Server`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from pulp_ext_docker.messages import UNSET, Server, int64

MOST_LISTED: Final = 1_000
_NANO: Final = 1e9


def inspected(described: Mapping[str, Any]) -> Server:
    """Return what `GET /containers/{id}/json` says."""
    network = described.get("NetworkSettings") or {}
    host = described.get("HostConfig") or {}
    cpus, memory = host.get("NanoCpus") or 0, host.get("Memory") or 0
    ports = {
        name: int(bindings[0].get("HostPort") or 0)
        for name, bindings in (network.get("Ports") or {}).items()
        if bindings
    }
    return Server(
        id=str(described.get("Id", "")),
        name=str(described.get("Name", "")).removeprefix("/"),
        status=str((described.get("State") or {}).get("Status", "")),
        ip=_first_address(network.get("Networks")),
        ports=ports,
        cpu_limit=cpus / _NANO if cpus else UNSET,
        memory_limit=int64(memory) if memory else UNSET,
    )


def listed(described: Iterable[Mapping[str, Any]]) -> list[Server]:
    """Return what `GET /containers/json` says, at most 1,000; it does not say limits."""
    found = []
    for one in list(described)[:MOST_LISTED]:
        names = one.get("Names") or [""]
        ports = {
            f"{port['PrivatePort']}/{port.get('Type', 'tcp')}": int(port["PublicPort"])
            for port in one.get("Ports") or ()
            if port.get("PublicPort")
        }
        address = _first_address((one.get("NetworkSettings") or {}).get("Networks"))
        found.append(
            Server(str(one.get("Id", "")), str(names[0]).removeprefix("/"), str(one.get("State", "")), address, ports)
        )
    return found


def _first_address(networks: Mapping[str, Any] | None) -> str:
    addresses = (str((network or {}).get("IPAddress") or "") for network in (networks or {}).values())
    return next(filter(None, addresses), "")
