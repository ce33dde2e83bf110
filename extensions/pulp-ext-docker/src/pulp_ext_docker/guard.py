"""What a container of a cell may be. Whatever is not allowed here is refused before the daemon hears of it.

A container is on the machine, not in a sandbox of Pulp's: who may choose its folders and networks freely is root.
"""

from __future__ import annotations

import ipaddress
import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from pulp_ext_docker.messages import Create, Port
from pulp_ext_docker.settings import Settings

CELL_LABEL: Final = "pulp.cell"
"""Label of a container that names the cell it belongs to. Names alone would not do: `pulp-a-b-c` may be of cell `a` or
of cell `a-b`."""
MOST_ENTRIES: Final = 256
MOST_TEXT: Final = 65_536
"""Bytes of all variables, or of all words of a command."""
_NEVER: Final = ("/run", "/var/run", "/etc", "/proc", "/sys", "/dev", "/boot", "/root", "/var/lib/docker")
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,254}")
_IMAGE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/@+-]{0,254}")
_TAG: Final = re.compile(r"[a-z0-9]+(?:[._/-]+[a-z0-9]+)*(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?")
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,254}")
_PROTOCOLS: Final = ("tcp", "udp", "sctp")
_NETWORKS_OF_OTHERS: Final = ("host", "ns")
_MOST_NUMBER: Final = (1 << 63) - 1


class Refused(ValueError):
    """Not allowed, or not possible; the text says what, for the operator."""


def checked_id(text: str) -> str:
    """Return an id or name of a container as it stands in an address; nothing else may."""
    if not _ID.fullmatch(text):
        raise Refused("the id is no id and no name of a container")
    return text


def own_name(owner: str, name: str) -> str:
    """Return the name a container of a cell gets: `pulp-<cell>-<name>`."""
    prefix = f"pulp-{owner}-"
    whole = name if name.startswith(prefix) else prefix + name
    if not _ID.fullmatch(whole) or len(whole) <= len(prefix):
        raise Refused(f"the name {name[:64]!r} has other characters than letters, digits, _ . and -, or is too long")
    return whole


def owns(owner: str, described: Mapping[str, Any]) -> bool:
    """Tell whether a container, as the daemon describes it, was made for a cell."""
    labels = (described.get("Config") or {}).get("Labels") or {}
    name = str(described.get("Name", "")).removeprefix("/")
    return labels.get(CELL_LABEL) == owner and name.startswith(f"pulp-{owner}-")


def inner_path(path: str) -> str:
    """Return the path of a file inside a container."""
    if not path.startswith("/") or "\0" in path or len(path.encode()) > 4_096 or path.rstrip("/") == "":
        raise Refused("path is not the absolute path of a file")
    return path


def words(command: Sequence[str]) -> list[str]:
    """Return a command of 1 to 256 words, 64 KiB in all."""
    if not 1 <= len(command) <= MOST_ENTRIES or not command[0]:
        raise Refused(f"cmd has no words, or more than {MOST_ENTRIES}")
    if any("\0" in word for word in command) or sum(len(word.encode()) for word in command) > MOST_TEXT:
        raise Refused(f"cmd holds a NUL, or more than {MOST_TEXT:,} bytes")
    return list(command)


def tag(text: str) -> str:
    """Return the name of an image that is to be built."""
    if len(text) > 255 or not _TAG.fullmatch(text):
        raise Refused("image_tag is not name[:tag]")
    return text


def variables(given: Mapping[str, str]) -> dict[str, str]:
    """Return variables, at most 256 and 64 KiB."""
    if len(given) > MOST_ENTRIES or sum(len(name) + len(value.encode()) for name, value in given.items()) > MOST_TEXT:
        raise Refused(f"more than {MOST_ENTRIES} variables, or more than {MOST_TEXT:,} bytes of them")
    for name, value in given.items():
        if not _VARIABLE.fullmatch(name) or "\0" in value:
            raise Refused(f"the variable {name[:64]!r} has a name that is none, or a NUL")
    return dict(given)


def template(build_dir: str, templates: Path) -> Path:
    """Return the folder that is to be built, inside the operator's `templates`."""
    if not build_dir or "\0" in build_dir:
        raise Refused("build_dir is missing")
    folder = (templates / build_dir).resolve()
    if folder != templates and templates not in folder.parents:
        raise Refused(f"build_dir {build_dir[:64]!r} is outside TEMPLATES_DIR")
    return folder


class Plan:
    """A container that has been checked, in the words of the daemon's client.

    Args:
        create: what the cell asks for.
        settings: what the operator allows.

    Raises:
        Refused: it must not be.
    """

    def __init__(self, create: Create, settings: Settings) -> None:
        if not _IMAGE.fullmatch(create.image):
            raise Refused("image is not the name of an image")
        self.image: Final = create.image
        self.environment: Final = variables(create.environment)
        self.network: Final = _network(create.network)
        self.ip: Final = _address(create.ip, self.network)
        published = [_port(port) for port in _few(create.ports, "ports")]
        self.ports: Final = [(port.container, port.protocol) for port in published]
        self.host: Final[dict[str, Any]] = {
            "binds": [_bind(source, target, settings) for source, target in _few(create.volumes.items(), "volumes")],
            "port_bindings": {f"{port.container}/{port.protocol}": port.host or None for port in published},
            **_limits(create, settings),
        }
        if self.network:
            self.host["network_mode"] = self.network


def _few(items: Any, what: str) -> list[Any]:
    found = list(items)
    if len(found) > MOST_ENTRIES:
        raise Refused(f"more than {MOST_ENTRIES} {what}")
    return found


def _port(port: Port) -> Port:
    protocol = port.protocol.lower() or "tcp"
    if port.range:
        raise Refused("ranges of ports are not built; list each port")
    if protocol not in _PROTOCOLS or not 0 <= port.host <= 65_535 or not 1 <= port.container <= 65_535:
        raise Refused("a port is not 1..65535 of tcp, udp or sctp")
    return Port(port.host, port.container, protocol)


def _network(name: str) -> str:
    """Return the name of a network; not one that is another's: the machine's own, or a container's."""
    if not name:
        return ""
    if not _ID.fullmatch(name) or name.lower() in _NETWORKS_OF_OTHERS:
        raise Refused(f"the network {name[:64]!r} is refused; name one that was made for containers")
    return name


def _address(ip: str, network: str) -> str:
    if not ip:
        return ""
    try:
        ipaddress.ip_address(ip)
    except ValueError:
        raise Refused("ip is no address") from None
    if not network:
        raise Refused("an ip needs a network of its own; name it")
    return ip


def _bind(source: str, target: str, settings: Settings) -> str:
    """Return one bind: a folder below the operator's roots that leads nowhere else, and where it stands inside."""
    where, _, mode = target.partition(":")
    if not where.startswith("/") or mode not in ("", "ro", "rw") or "\0" in where:
        raise Refused(f"the volume's place {target[:64]!r} is not /path, /path:ro or /path:rw")
    if not source.startswith("/") or ":" in source or "\0" in source:
        raise Refused(f"the volume {source[:64]!r} is not an absolute path; volumes by name are not given to cells")
    real = Path(os.path.realpath(source))
    if not any(root == real or root in real.parents for root in settings.bind_roots):
        raise Refused(f"the folder {source[:64]!r} is not below DOCKER_BIND_ROOTS")
    if not real.exists():  # the daemon would make it, as root
        raise Refused(f"the folder {source[:64]!r} does not exist")
    if _forbidden(real, settings):
        raise Refused(f"the folder {source[:64]!r} is never bound")
    return f"{real}:{where}:{mode or 'rw'}"


def _forbidden(real: Path, settings: Settings) -> bool:
    """Tell whether a folder is, is in, or holds one that no container may have, whatever the operator's roots are."""
    sacred = [Path(os.path.realpath(path)) for path in (*_NEVER, settings.socket)]
    return real == Path("/") or any(path == real or path in real.parents or real in path.parents for path in sacred)


def _limits(create: Create, settings: Settings) -> dict[str, Any]:
    numbers = {
        "memory_limit": create.memory_limit,
        "disk_io_read_bps": create.disk_io_read_bps,
        "disk_io_write_bps": create.disk_io_write_bps,
        "disk_size_limit": create.disk_size_limit,
        "pids_limit": create.pids_limit,
    }
    for name, value in numbers.items():
        if not 0 <= value <= _MOST_NUMBER:
            raise Refused(f"{name} is negative or too large")
    if not -1 <= create.memory_swap <= _MOST_NUMBER or not (math.isfinite(create.cpu_limit) and create.cpu_limit >= 0):
        raise Refused("memory_swap or cpu_limit is negative or too large")
    found: dict[str, Any] = {
        "mem_limit": create.memory_limit,
        "memswap_limit": create.memory_swap,
        "nano_cpus": int(min(create.cpu_limit, 1e6) * 1e9),
        "pids_limit": create.pids_limit,
        "storage_opt": {"size": str(create.disk_size_limit)} if create.disk_size_limit else None,
    }
    for option, value in (
        ("device_read_bps", create.disk_io_read_bps),
        ("device_write_bps", create.disk_io_write_bps),
    ):
        if value and not settings.io_device:
            raise Refused("disk_io_…_bps need to know the device; set DOCKER_IO_DEVICE")
        found[option] = [{"Path": settings.io_device, "Rate": value}] if value else None
    return {name: value for name, value in found.items() if value}
