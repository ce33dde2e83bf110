"""`pulp.cell.toml`: what a cell is called, may do and waits for."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Final

from pulp_runtime.errors import ManifestError
from pulp_runtime.manifest.fields import schema_version, sha256, version
from pulp_runtime.manifest.limits import (
    DEFAULT_CALL_TIMEOUT_MS,
    DEFAULT_MAX_MEMORY_PAGES,
    DEFAULT_MAX_MESSAGE_BYTES,
    DEFAULT_TABLE_ELEMENTS,
    DISK_QUOTA_MB,
    LOG_BYTES_PER_SECOND,
    LOG_LINES_PER_SECOND,
    MAILBOX_EVENTS,
    MAX_MEMORY_PAGES,
    MAX_TICK_MS,
    RESTART_WINDOW_SECONDS,
    RESTARTS,
    SETTABLE,
    SHARED_MEMORY_MB,
    Limits,
)
from pulp_runtime.manifest.names import APP_MANIFEST, describe, explain_capability, explain_name, quote
from pulp_runtime.manifest.not_built import NOT_BUILT
from pulp_runtime.manifest.program import KNOWN as PROGRAM_KNOWN
from pulp_runtime.manifest.program import CloudSpec, ProgramSpec, read_cloud, read_program
from pulp_runtime.manifest.snapshot import KEYS as SNAPSHOT_KEYS
from pulp_runtime.manifest.snapshot import SnapshotSpec, read_snapshot
from pulp_runtime.manifest.table import Known, Table, read_table

SCHEMA_VERSION: Final = 1
MAX_SHARED_MEMORY_GROUPS: Final = 16
RESTART_POLICIES: Final = ("never", "on_crash", "always")

#: A manifest's name, looked for in this order, and the module it describes by default.
MANIFEST_NAMES: Final[Mapping[str, str]] = {"pulp.cell.toml": "cell.wasm", "pulp.plugin.toml": "plugin.wasm"}
_DEFAULT_WASM: Final = "cell.wasm"


@dataclass(frozen=True, slots=True, kw_only=True)
class CellSpec:
    """A cell as its manifest describes it. Lists are tuples, empty where the manifest has none.

    Attributes:
        manifest_path: absolute; links are not resolved.
        name: how operators, logs and other cells call it.
        version: for people; nothing depends on it.
        wasm_path: absolute; need not exist yet.
        wasm_sha256: what the module must hash to, in lower case, if it is pinned.
        provides: functions it answers.
        consumes: functions it may call on other cells.
        host_consumes: functions it may call in other applications.
        depends_on: cells that must be initialised before it.
        capabilities: what it may import, in lower case.
        shared_memory_groups: memory it shares with the cells that name the same groups, at most 16.
        dedicated_thread: it gets a thread of its own.
        snapshotable: its state may be saved.
        snapshot: when it is, and what it begins with.
        restart: `never`, `on_crash` or `always`.
        max_memory_pages: 1..65,536 pages of 64 KiB.
        call_timeout_ms: wall time of one call.
        tick_ms: time between idle ticks, 1..60,000; 0 for none; None for ticks
            that start close together and grow rarer while nothing happens.
        federated_callers: functions that other hosts may call.
        federated_consumes: functions it may call on other hosts.
        migratable: it may move to another host.
        table_elements: see `Limits`; under `[limits]` in the manifest, like the
            next eight.
        message_bytes: see `Limits`.
        mailbox_events: see `Limits`.
        log_lines_per_second: see `Limits`.
        log_bytes_per_second: see `Limits`.
        disk_quota_mb: see `Limits`.
        restarts: see `Limits`.
        restart_window_seconds: see `Limits`.
        shared_memory_mb: see `Limits`.
        settings: what `[settings."<capability>"]` says, by capability.
        program: how it is run, for a function or a daemon; None for a cell that is stepped.
        cloud: what of the cloud it may touch.
        config: for `pulp_init`, None where the manifest has none.
        schema_version: of the manifest.
    """

    manifest_path: Path
    name: str
    version: str
    wasm_path: Path
    wasm_sha256: str | None = None
    provides: tuple[str, ...] = ()
    consumes: tuple[str, ...] = ()
    host_consumes: tuple[str, ...] = ()
    depends_on: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = ()
    shared_memory_groups: tuple[str, ...] = ()
    dedicated_thread: bool = False
    snapshotable: bool = False
    snapshot: SnapshotSpec = field(default_factory=SnapshotSpec)
    restart: str = "on_crash"
    max_memory_pages: int = DEFAULT_MAX_MEMORY_PAGES
    call_timeout_ms: int = DEFAULT_CALL_TIMEOUT_MS
    tick_ms: int | None = None
    federated_callers: tuple[str, ...] = ()
    federated_consumes: tuple[str, ...] = ()
    migratable: bool = False
    table_elements: int = DEFAULT_TABLE_ELEMENTS
    message_bytes: int = DEFAULT_MAX_MESSAGE_BYTES
    mailbox_events: int = MAILBOX_EVENTS
    log_lines_per_second: int = LOG_LINES_PER_SECOND
    log_bytes_per_second: int = LOG_BYTES_PER_SECOND
    disk_quota_mb: int = DISK_QUOTA_MB
    restarts: int = RESTARTS
    restart_window_seconds: int = RESTART_WINDOW_SECONDS
    shared_memory_mb: int = SHARED_MEMORY_MB
    settings: Mapping[str, Mapping[str, object]] = field(default_factory=dict, hash=False)
    config: Mapping[str, object] | None = field(default=None, hash=False)
    program: ProgramSpec | None = None
    cloud: CloudSpec = field(default_factory=CloudSpec)
    schema_version: int = SCHEMA_VERSION

    @property
    def limits(self) -> Limits:
        """What the cell may use."""
        return Limits(
            memory_pages=self.max_memory_pages,
            call_seconds=self.call_timeout_ms / 1000,
            **{name: getattr(self, name) for name in SETTABLE},
        )


_NOT_KEYS: Final = frozenset({"manifest_path", "wasm_path", "program", *SETTABLE})
#: Only `[limits]` has a fixed form; nothing is looked for inside the others.
_KNOWN: Final[Known] = {
    **dict.fromkeys([*(item.name for item in fields(CellSpec) if item.name not in _NOT_KEYS), "wasm"]),
    "limits": dict.fromkeys(SETTABLE),
    "snapshot": dict.fromkeys(SNAPSHOT_KEYS),
    **PROGRAM_KNOWN,
}


def load_cell(path: Path) -> CellSpec:
    """Read a cell's manifest, or the one in a directory.

    This host is stricter than others that read the same file. Keys are
    case-sensitive. A `config` that is not a table is an error. Cells' names
    follow the one grammar of `names.py` and may not be reserved; capabilities
    are plain ASCII. More than 65,536 pages of memory are refused. A field whose
    feature does not exist (`not_built.py`) is refused unless it has its default.

    Raises:
        ManifestError: with `manifest path:`, `read manifest:`, `parse
            manifest:`, `unknown manifest fields:` or `validate manifest:`.
    """
    table = read_table(find_manifest(path))
    table.refuse_unknown(_KNOWN, otherwise="remove what is not a setting, or move it under [config]")
    spec = read_cell(table)
    for name, sentence in NOT_BUILT.items():
        if getattr(spec, name):
            raise table.invalid(f"{name} {sentence}; remove {name}", field=name)
    return spec


def find_manifest(path: Path) -> Path:
    """Return `path`, or the manifest inside it when it is a directory.

    Raises:
        ManifestError: a directory without a manifest.
    """
    # Unlike `Path.is_dir`, this never raises: a path that cannot be one is for the reader to refuse.
    if not os.path.isdir(path):
        return path
    for name in MANIFEST_NAMES:
        if os.path.isfile(path / name):
            return path / name
    looked_for = " or ".join(MANIFEST_NAMES)
    if os.path.isfile(path / APP_MANIFEST):
        reason = f"this is no cell but an application, with a {APP_MANIFEST}; start it with -app"
    else:
        reason = f"no {looked_for} in this directory; name the file itself"
    raise ManifestError(path, f"read manifest: {reason}")


def read_cell(table: Table) -> CellSpec:
    """Return what a manifest's document says; raise `ManifestError` for what cannot be accepted."""
    capabilities = _capabilities(table)
    consumes = _distinct(table.texts("consumes"))
    program = read_program(table, capabilities)
    return CellSpec(
        manifest_path=table.path,
        schema_version=schema_version(table, SCHEMA_VERSION),
        name=_name(table),
        version=version(table),
        wasm_path=_wasm_path(table),
        wasm_sha256=sha256(table, "wasm_sha256"),
        provides=_distinct(table.texts("provides")),
        consumes=consumes,
        host_consumes=_host_consumes(table),
        depends_on=_distinct(table.texts("depends_on")),
        capabilities=capabilities,
        shared_memory_groups=_groups(table),
        dedicated_thread=table.flag("dedicated_thread"),
        snapshotable=table.flag("snapshotable"),
        snapshot=read_snapshot(table),
        restart=_restart(table),
        max_memory_pages=_max_memory_pages(table),
        call_timeout_ms=table.uint32("call_timeout_ms") or DEFAULT_CALL_TIMEOUT_MS,
        tick_ms=_tick_ms(table) if program is None else 0,
        federated_callers=_distinct(table.texts("federated_callers")),
        federated_consumes=_distinct(table.texts("federated_consumes")),
        migratable=table.flag("migratable"),
        settings=_settings(table),
        program=program,
        cloud=read_cloud(table, capabilities, consumes, program=program is not None),
        config=_config(table),
        **_limits(table),
    )


def _name(table: Table) -> str:
    name = table.text("name").strip()
    if not name:
        raise table.invalid('name is required; write for example name = "my-cell"', field="name")
    problem = explain_name(name)
    if problem:
        raise table.invalid(f"name: {problem}", field="name")
    return name


def _wasm_path(table: Table) -> Path:
    default = MANIFEST_NAMES.get(table.path.name, _DEFAULT_WASM)
    wasm = table.text("wasm") or default
    if "\0" in wasm:
        raise table.invalid(f'wasm contains a NUL character; write wasm = "{default}"', field="wasm")
    return table.path.parent / wasm


def _host_consumes(table: Table) -> tuple[str, ...]:
    """Return the field once its syntax is right; unlike other lists it is not tidied up."""
    names: dict[str, None] = {}
    for index, name in enumerate(table.texts("host_consumes")):
        odd = next((char for char in name if char.isspace() or not char.isprintable()), None)
        if not name.strip():
            reason = f"host_consumes[{index}] must be a non-empty exact provider function; remove it"
        elif odd is not None:
            reason = f"host_consumes {quote(name)} must not contain whitespace or control characters"
            reason += f", and has {describe(odd)}; write the function's exact name"
        elif name in names:
            reason = f"duplicate host_consumes {quote(name)}; write it once"
        else:
            names[name] = None
            continue
        raise table.invalid(reason, field="host_consumes")
    return tuple(names)


def _capabilities(table: Table) -> tuple[str, ...]:
    trimmed = [name.strip() for name in table.texts("capabilities")]
    for name in trimmed:
        problem = explain_capability(name) if name else None
        if problem:
            raise table.invalid(f"capabilities: {problem}", field="capabilities")
    return _distinct(name.lower() for name in trimmed)


def _groups(table: Table) -> tuple[str, ...]:
    groups = _distinct(table.texts("shared_memory_groups"))
    problem = next((problem for problem in map(explain_name, groups) if problem), None)
    if problem is None and len(groups) > MAX_SHARED_MEMORY_GROUPS:
        problem = f"{len(groups)} groups are too many; the most is {MAX_SHARED_MEMORY_GROUPS}"
    elif problem is None and groups and table.flag("snapshotable"):
        problem = "a cell that shares memory cannot be saved by itself; remove it, or remove snapshotable"
    if problem is not None:
        raise table.invalid(f"shared_memory_groups: {problem}", field="shared_memory_groups")
    return groups


def _restart(table: Table) -> str:
    restart = table.text("restart").strip() or "on_crash"
    if restart not in RESTART_POLICIES:
        raise table.invalid(
            f"restart {quote(restart)} is none of {', '.join(RESTART_POLICIES)}; write one", field="restart"
        )
    return restart


def _max_memory_pages(table: Table) -> int:
    pages = table.uint32("max_memory_pages") or DEFAULT_MAX_MEMORY_PAGES
    if pages > MAX_MEMORY_PAGES:
        raise table.invalid(
            f"max_memory_pages {pages} is more than {MAX_MEMORY_PAGES} pages (4 GiB); write a smaller number",
            field="max_memory_pages",
        )
    return pages


def _limits(table: Table) -> Mapping[str, int]:
    """Return what `[limits]` says, checked against least and most."""
    limits = table.table("limits")
    if limits is None:
        return {}
    found = {}
    for name in limits.values:
        least, most = SETTABLE[name]
        found[name] = limits.integer(name)
        if not least <= found[name] <= most:
            reason = f"limits.{name} {found[name]} is out of range; write a number from {least} to {most}"
            raise limits.invalid(reason, field=name)
    return found


def _tick_ms(table: Table) -> int | None:
    if "tick_ms" not in table.values:
        return None
    tick_ms = table.uint32("tick_ms")
    if tick_ms > MAX_TICK_MS:
        raise table.invalid(
            f"tick_ms {tick_ms} is more than {MAX_TICK_MS}; write 1 to {MAX_TICK_MS}, or 0 for no ticks",
            field="tick_ms",
        )
    return tick_ms


def _settings(table: Table) -> Mapping[str, Mapping[str, object]]:
    """Return the tables under `[settings]`; what is inside each is for its capability to judge."""
    settings = table.table("settings")
    if settings is None:
        return {}
    declared = _capabilities(table)
    found = {}
    for name in settings.values:
        if name not in declared:
            reason = f"settings.{quote(name)} is for a capability the cell does not declare"
            raise table.invalid(f"{reason}; add it to capabilities, or remove the table", field="settings")
        found[name] = settings.table(name).values  # type: ignore[union-attr]  # the name is one of its keys
    return found


def _config(table: Table) -> Mapping[str, object] | None:
    config = table.table("config")
    return None if config is None else config.values


def _distinct(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for name in names if name))
