"""What the operator says: the host's settings first, then the environment."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
from pulp_runtime.ext import ExtensionError

NAME: Final = "spawn.docker"
_SOCKET: Final = "/var/run/docker.sock"
_SCHEME: Final = "unix://"
_TRUE: Final = ("1", "true", "yes", "on")
_MOST_CONTAINERS: Final = 64


class Given(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What `Host(config={"spawn.docker": {...}})` may say; the environment says the rest.

    Attributes:
        host: `DOCKER_HOST`: `unix:///path`; `/var/run/docker.sock` by default.
        bind_roots: `DOCKER_BIND_ROOTS`, separated by `:`: folders of which cells may bind parts; none by default.
        templates_dir: `TEMPLATES_DIR`: the folder whose folders cells may build; none by default.
        scope_disable: `DOCKER_SCOPE_DISABLE`: let cells name, and work on, any container.
        max_containers: `DOCKER_MAX_CONTAINERS`: how many one cell may have at once.
        io_device: `DOCKER_IO_DEVICE`: the device that `disk_io_…_bps` of a container are about, such as `/dev/sda`.
    """

    host: str = ""
    bind_roots: list[str] | None = None
    templates_dir: str = ""
    scope_disable: bool | None = None
    max_containers: Annotated[int, msgspec.Meta(ge=0, le=10_000)] | None = None
    io_device: str = ""


class Settings(msgspec.Struct, frozen=True):
    """A daemon, and what cells may do with it."""

    socket: str
    bind_roots: tuple[Path, ...]
    templates: Path | None
    scoped: bool
    max_containers: int
    io_device: str


def read_settings(config: Mapping[str, Any], environment: Mapping[str, str]) -> Settings:
    """Return the settings.

    Raises:
        ExtensionError: something cannot be used; the text says what to write.
    """
    try:
        given = msgspec.convert(config, Given)
    except msgspec.ValidationError as error:
        raise ExtensionError(f"{NAME}: {error}") from None
    scope_disable = given.scope_disable
    if scope_disable is None:
        scope_disable = environment.get("DOCKER_SCOPE_DISABLE", "").strip().lower() in _TRUE
    roots = given.bind_roots
    if roots is None:
        roots = [root for root in environment.get("DOCKER_BIND_ROOTS", "").split(":") if root.strip()]
    templates = given.templates_dir or environment.get("TEMPLATES_DIR", "").strip()
    most = given.max_containers
    return Settings(
        socket=_socket(given.host or environment.get("DOCKER_HOST", "").strip()),
        bind_roots=tuple(_folder(root.strip(), "DOCKER_BIND_ROOTS") for root in roots),
        templates=_folder(templates, "TEMPLATES_DIR") if templates else None,
        scoped=not scope_disable,
        max_containers=_number(environment.get("DOCKER_MAX_CONTAINERS", "")) if most is None else most,
        io_device=given.io_device or environment.get("DOCKER_IO_DEVICE", "").strip(),
    )


def _socket(host: str) -> str:
    if not host:
        return _SOCKET
    path = host.removeprefix(_SCHEME)
    if not host.startswith(_SCHEME) or not path.startswith("/"):
        # A daemon elsewhere has other folders: which of them may be bound could not be judged from here.
        raise ExtensionError("DOCKER_HOST is not unix:///path; only a daemon on this machine is supported")
    return path


def _folder(path: str, variable: str) -> Path:
    if not path.startswith("/") or Path(path).resolve() == Path("/"):
        raise ExtensionError(f"{variable}: {path!r} is not the absolute path of a folder below /")
    return Path(path).resolve()


def _number(text: str) -> int:
    if not text.strip():
        return _MOST_CONTAINERS
    if not text.strip().isdecimal() or len(text.strip()) > 4:
        raise ExtensionError(f"DOCKER_MAX_CONTAINERS is {text!r}; write a whole number up to 9999")
    return int(text)
