"""What cells send and get: MessagePack maps, fields in the order of the wire (spec/capabilities §14)."""

from __future__ import annotations

import struct

import msgspec

UNSET = msgspec.UNSET


def int64(value: int) -> msgspec.Raw:
    """Return `value` as the contract writes a signed integer: nine bytes, whatever it is."""
    least, most = -(1 << 63), (1 << 63) - 1
    return msgspec.Raw(struct.pack(">Bq", 0xD3, min(max(value, least), most)))


class ListQuery(msgspec.Struct, frozen=True):
    """Which containers: Docker's own filters, such as `{"status": "running"}`; none for all."""

    filter: dict[str, str] = {}


class Name(msgspec.Struct, frozen=True):
    """A container by its name."""

    name: str = ""


class Id(msgspec.Struct, frozen=True):
    """A container by its id, or by its name."""

    id: str = ""


class Port(msgspec.Struct, frozen=True):
    """A port of the machine that leads to one of the container.

    Attributes:
        host: 1..65,535; 0 lets the daemon choose.
        container: 1..65,535.
        protocol: `tcp`, `udp` or `sctp`; "" is `tcp`.
        name: for people; it has no effect.
        range: must be 0: ranges are not built.
    """

    host: int = 0
    container: int = 0
    protocol: str = ""
    name: str = ""
    range: int = 0


class Create(msgspec.Struct, frozen=True):
    """A container to be made and started. Numbers of 0 are no limit.

    Attributes:
        image: one that the daemon has.
        name: what follows `pulp-<cell>-`; "" lets the daemon find one.
        environment: variables.
        volumes: folders of the machine, and where they stand in the container (`/data` or `/data:ro`).
        ports: what can be reached from outside.
        network: its name; "" is the daemon's default.
        ip: its address in that network.
        memory_limit: bytes.
        cpu_limit: processors.
        disk_io_read_bps: bytes a second.
        disk_io_write_bps: bytes a second.
        disk_size_limit: bytes of its own layer, where the daemon's storage can limit it.
        pids_limit: processes and threads.
        memory_swap: bytes of memory and swap together; -1 is no limit.
    """

    image: str = ""
    name: str = ""
    environment: dict[str, str] = {}
    volumes: dict[str, str] = {}
    ports: list[Port] = []
    network: str = ""
    ip: str = ""
    memory_limit: int = 0
    cpu_limit: float = 0.0
    disk_io_read_bps: int = 0
    disk_io_write_bps: int = 0
    disk_size_limit: int = 0
    pids_limit: int = 0
    memory_swap: int = 0


class Exec(msgspec.Struct, frozen=True):
    """A command to be run inside."""

    id: str = ""
    cmd: list[str] = []


class Logs(msgspec.Struct, frozen=True):
    """How much of what a container wrote: the last `tail` lines, 200 for 0."""

    id: str = ""
    tail: int = 0


class FilesRead(msgspec.Struct, frozen=True):
    """A file inside."""

    id: str = ""
    path: str = ""


class FilesWrite(msgspec.Struct, frozen=True):
    """A file inside, and what it is to hold."""

    id: str = ""
    path: str = ""
    data: bytes = b""


class FilesDelete(msgspec.Struct, frozen=True):
    """A file inside that is to go."""

    container: str = ""
    path: str = ""


class EventsPoll(msgspec.Struct, frozen=True):
    """Events after a moment, in nanoseconds since 1970; at most `limit`, 100 for 0."""

    since_nanos: int = 0
    limit: int = 0


class Build(msgspec.Struct, frozen=True):
    """An image to be built.

    Attributes:
        build_args: values for the Dockerfile's `ARG`s.
        image_tag: what it is called.
        build_dir: a folder of the operator's templates.
    """

    build_args: dict[str, str] = {}
    image_tag: str = ""
    build_dir: str = ""


class Server(msgspec.Struct, frozen=True):
    """A container.

    Attributes:
        id: the daemon's.
        name: without a leading slash.
        status: `created`, `running`, `paused`, `restarting`, `exited`, `dead`.
        ip: its address in its first network; "" if it has none.
        ports: by `80/tcp`, the port of the machine that leads to it.
        cpu_limit: processors; left out for none.
        memory_limit: bytes, int64; left out for none.
    """

    id: str
    name: str
    status: str
    ip: str
    ports: dict[str, int]
    cpu_limit: float | msgspec.UnsetType = UNSET
    memory_limit: msgspec.Raw | msgspec.UnsetType = UNSET


class Output(msgspec.Struct, frozen=True):
    """What a command wrote, on both streams in the order it came."""

    output: str


class LogText(msgspec.Struct, frozen=True):
    """What a container wrote, on both streams in the order it came."""

    logs: str


class Stats(msgspec.Struct, frozen=True):
    """What a container uses; all but `cpu_percent` are int64, in bytes, `timestamp` in seconds since 1970."""

    container_id: str
    name: str
    cpu_percent: float
    memory_used: msgspec.Raw
    memory_limit: msgspec.Raw
    net_rx_bytes: msgspec.Raw
    net_tx_bytes: msgspec.Raw
    disk_read_bytes: msgspec.Raw
    disk_write_bytes: msgspec.Raw
    timestamp: msgspec.Raw


class Event(msgspec.Struct, frozen=True):
    """Something that happened to a container; `timestamp` in nanoseconds since 1970, int64."""

    timestamp: msgspec.Raw
    container_id: str
    name: str
    action: str


class BuildStatus(msgspec.Struct, frozen=True):
    """Where building is: `last_build_time` in seconds since 1970, int64, 0 for never; `last_error` if it failed."""

    building: bool
    last_build_time: msgspec.Raw
    last_error: str | msgspec.UnsetType = UNSET
