"""`execution`, `[function]`, `[daemon]` and `[cloud]`: programs that bring their own `_start` (spec/wasi-cloud §1)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from pulp_runtime.manifest.names import explain_name, quote
from pulp_runtime.manifest.table import Known, Table

CELL: Final = "cell"
FUNCTION: Final = "function"
DAEMON: Final = "daemon"
EXECUTIONS: Final = (CELL, FUNCTION, DAEMON)

MAX_INSTANCES: Final = 32
MOST_INSTANCES: Final = 250  # each run has a thread, and a host has 256 of them for cells
TIMEOUT_MS: Final = 10_000
LONGEST_TIMEOUT_MS: Final = 3_600_000
ROUTES: Final = 1_000
GRANTS: Final = 256
ENVIRON_BYTES: Final = 65_536

SCOPES: Final = ("local", "region", "global")
#: What a grant under `[cloud]` may say, by the field; the capability of a field is `cloud.<field>`.
MODES: Final[Mapping[str, tuple[str, ...]]] = {
    "kv": ("ro", "rw"),
    "blob": ("ro", "rw"),
    "queue": ("r", "w", "rw"),
}
HTTP: Final = "transport.http.inbound"
WEBSOCKETS: Final = "transport.ws.inbound"

#: What these tables may hold; the grants are judged one by one.
KNOWN: Final[Known] = {
    "execution": None,
    "function": dict.fromkeys(("routes", "max_instances", "timeout_ms")),
    "daemon": dict.fromkeys(("routes", "websockets")),
    "cloud": dict.fromkeys(("namespace", "kv", "blob", "secrets", "ipc", "queue", "env")),
}

_ROUTE: Final = re.compile(r"[A-Z]{1,32} /[^\s?#]{0,2047}")
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_NAME_RULE: Final = "use letters, digits, _, - and dots, 128 at most, and no dot to begin with"
_VARIABLE: Final = re.compile(r"[^=\0]{1,256}")
#: What a cell that is stepped has, and a program has not.
_OF_CELLS: Final = ("provides", "host_consumes", "shared_memory_groups", "snapshotable", "dedicated_thread", "tick_ms")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramSpec:
    """How a program is run.

    Attributes:
        execution: `function` or `daemon`.
        routes: what it answers, each `METHOD /path`; `ANY` is every method.
        websockets: paths where a daemon takes WebSocket connections.
        max_instances: most runs of a function at once, 1..250.
        timeout_ms: the most one run of a function may take, 1..3,600,000.
        environ: its environment variables, 64 KiB together.
    """

    execution: str
    routes: tuple[str, ...] = ()
    websockets: tuple[str, ...] = ()
    max_instances: int = MAX_INSTANCES
    timeout_ms: int = TIMEOUT_MS
    environ: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), hash=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudSpec:
    """What of the cloud a program may touch; what is not named here is not there.

    Attributes:
        namespace: who shares: every program of the host with the same one; "" is the cell's name.
        kv: `ro` or `rw` by scope.
        blob: `ro` or `rw` by bucket.
        secrets: names.
        ipc: functions of siblings, each `cell.function`.
        queue: `r`, `w` or `rw` by topic.
    """

    namespace: str = ""
    kv: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), hash=False)
    blob: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), hash=False)
    secrets: tuple[str, ...] = ()
    ipc: tuple[str, ...] = ()
    queue: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), hash=False)


def read_program(table: Table, capabilities: Iterable[str]) -> ProgramSpec | None:
    """Return how the program is run, None for a cell that is stepped.

    Raises:
        ManifestError: naming the field and the fix.
    """
    execution = table.text("execution") or CELL
    if execution not in EXECUTIONS:
        reason = f"execution {quote(execution)} is none of {', '.join(EXECUTIONS)}; write one"
        raise table.invalid(reason, field="execution")
    for kind in (FUNCTION, DAEMON):
        if kind in table.values and kind != execution:
            raise table.invalid(f'[{kind}] needs execution = "{kind}"; write that, or remove the table', field=kind)
    if execution == CELL:
        return None
    for name in _OF_CELLS:
        if table.values.get(name):
            reason = f"{name} is for cells that are stepped, and this is a {execution}; remove {name}"
            raise table.invalid(reason, field=name)
    own = table.table(execution) or Table(table.source, {}, execution)
    routes, websockets = _routes(own), _websockets(own)
    for found, needed in ((routes, HTTP), (websockets, WEBSOCKETS)):
        if found and needed not in capabilities:
            reason = f'{execution} has routes and does not declare "{needed}"; add it to capabilities'
            raise table.invalid(reason, field="capabilities")
    if execution == FUNCTION and not routes:
        raise own.invalid('a function runs for requests; write for example routes = ["GET /"]', field="routes")
    return ProgramSpec(
        execution=execution,
        routes=routes,
        websockets=websockets,
        max_instances=_bounded(own, "max_instances", MAX_INSTANCES, MOST_INSTANCES),
        timeout_ms=_bounded(own, "timeout_ms", TIMEOUT_MS, LONGEST_TIMEOUT_MS),
        environ=_environ(table),
    )


def _routes(table: Table) -> tuple[str, ...]:
    found = table.texts("routes")
    if len(found) > ROUTES:
        raise table.invalid(f"routes has {len(found)} entries; the most is {ROUTES}", field="routes")
    for route in found:
        if not _ROUTE.fullmatch(route):
            reason = f'{quote(route)} is no method and path; write for example "GET /hello/:name" or "ANY /*rest"'
            raise table.invalid(f"routes: {reason}", field="routes")
    return tuple(dict.fromkeys(found))


def _websockets(table: Table) -> tuple[str, ...]:
    found = table.texts("websockets")
    for path in found:
        if not _ROUTE.fullmatch(f"GET {path}"):
            raise table.invalid(f'websockets: {quote(path)} is no path; write for example "/chat"', field="websockets")
    return tuple(dict.fromkeys(found))


def _bounded(table: Table, name: str, default: int, most: int) -> int:
    found = table.integer(name, default)
    if not 1 <= found <= most:
        raise table.invalid(f"{name} {found} is out of range; write a number from 1 to {most}", field=name)
    return found


def _environ(table: Table) -> Mapping[str, str]:
    """Return `[cloud.env]`."""
    cloud = table.table("cloud")
    environ = None if cloud is None else cloud.table("env")
    if environ is None:
        return MappingProxyType({})
    found = {}
    for name in environ.values:
        value = environ.text(name)
        if not _VARIABLE.fullmatch(name) or "\0" in value:
            raise environ.invalid(f"{quote(name)} cannot be an environment variable; rename it", field=name)
        found[name] = value
    size = sum(len(name.encode()) + len(value.encode()) + 2 for name, value in found.items())
    if size > ENVIRON_BYTES:
        raise environ.invalid(f"env has {size} bytes; the most is {ENVIRON_BYTES}", field="env")
    return MappingProxyType(found)


def read_cloud(table: Table, capabilities: Iterable[str], consumes: Iterable[str], *, program: bool) -> CloudSpec:
    """Return what is granted under `[cloud]`.

    Raises:
        ManifestError: naming the field and the fix.
    """
    cloud = table.table("cloud")
    if cloud is None:
        return CloudSpec()
    if not program:
        raise table.invalid('[cloud] is for functions and daemons; write execution = "function"', field="cloud")
    for name in ("kv", "blob", "secrets", "ipc", "queue"):
        if name in cloud.values and f"cloud.{name}" not in capabilities:
            reason = f'cloud.{name} is granted and not declared; add "cloud.{name}" to capabilities'
            raise table.invalid(reason, field="capabilities")
    return CloudSpec(
        namespace=_namespace(cloud),
        kv=_grants(cloud, "kv", SCOPES),
        blob=_grants(cloud, "blob"),
        secrets=_names(cloud, "secrets"),
        ipc=_ipc(cloud, consumes),
        queue=_grants(cloud, "queue"),
    )


def _namespace(table: Table) -> str:
    name = table.text("namespace").strip()
    if name and (problem := explain_name(name)):
        raise table.invalid(f"namespace: {problem}", field="namespace")
    return name


def _grants(table: Table, key: str, only: tuple[str, ...] = ()) -> Mapping[str, str]:
    """Return names with what may be done to each."""
    grants = table.table(key)
    if grants is None:
        return MappingProxyType({})
    modes = MODES[key]
    found = {}
    for name in grants.values:
        mode = grants.text(name)
        if mode not in modes:
            reason = f"{quote(mode)} is none of {', '.join(modes)}; write one"
        elif only and name not in only:
            reason = f"{quote(name)} is none of {', '.join(only)}; write one"
        elif not _NAME.fullmatch(name):
            reason = f"{quote(name)} is no name; {_NAME_RULE}"
        else:
            found[name] = mode
            continue
        raise grants.invalid(reason, field=name)
    _few(table, key, found)
    return MappingProxyType(found)


def _names(table: Table, key: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(table.texts(key)))
    for name in names:
        if not _NAME.fullmatch(name):
            reason = f"{quote(name)} is no name; {_NAME_RULE}"
            raise table.invalid(f"{key}: {reason}", field=key)
    _few(table, key, names)
    return names


def _ipc(table: Table, consumes: Iterable[str]) -> tuple[str, ...]:
    granted = tuple(dict.fromkeys(table.texts("ipc")))
    for name in granted:
        cell, dot, function = name.partition(".")
        if not dot or not function or "/" in function or function in (".", "..") or explain_name(cell) is not None:
            reason = f'ipc: {quote(name)} is no function of a cell; write for example "billing.charge"'
        elif function not in consumes:
            reason = f"ipc: {quote(name)} needs {quote(function)} in consumes; add it there"
        else:
            continue
        raise table.invalid(reason, field="ipc")
    _few(table, "ipc", granted)
    return granted


def _few(table: Table, key: str, found: Iterable[str]) -> None:
    count = len(list(found))
    if count > GRANTS:
        raise table.invalid(f"{key} has {count} entries; the most is {GRANTS}", field=key)
