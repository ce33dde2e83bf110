"""`pulp.host.toml`: several applications in one host, who may call whom, and which path leads to which.

read ─▶ applications, each with its cells ─▶ order ─▶ who consumes what ─▶ routes
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from pulp_runtime.errors import ManifestError
from pulp_runtime.manifest.app import AppSpec, load_app
from pulp_runtime.manifest.fields import relative_path, schema_version, title
from pulp_runtime.manifest.host_graph import DependsOn, application_order, check_host_consumes
from pulp_runtime.manifest.names import HOST_MANIFEST, describe, explain_identifier, quote
from pulp_runtime.manifest.table import Known, Table, read_table

HOST_SCHEMA_VERSION: Final = 1
#: Each is at least one cell in memory; a count is quickly mistyped.
MOST_INSTANCES: Final = 256
MOST_ROUTES: Final = 1000
ROUTE_CHARACTERS: Final = 1024
#: What no two readers of a path read differently.
_PLAIN: Final = re.compile(r"[A-Za-z0-9\-._~!$&'()*+,;=:@/]")
#: Cells outside an application have a scope whose first part says so.
_NO_APPLICATION: Final = "legacy"

APPLICATIONS: Final = "applications"
ROUTES: Final = "routes"
_KNOWN: Final[Known] = {
    **dict.fromkeys(["schema_version", "name"]),
    APPLICATIONS: dict.fromkeys(
        ["id", "manifest", "instances", "aliases", "storage_namespace", "event_namespace", "depends_on"]
    ),
    ROUTES: dict.fromkeys(["path", "application", "instance"]),
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HostedApplication:
    """One running instance of an application.

    Attributes:
        id: of the application in this host; its own name need not be the same.
        instance: which of the application's instances it is.
        app: the application's manifest and cells; shared by its instances.
        storage_namespace: folder below the storage root, the application's alone.
        event_namespace: what records of the log name the application by.
        depends_on: ids of the applications that start before it and whose cells its own may call.
        several: whether the application has other instances.
    """

    id: str
    instance: str
    app: AppSpec
    storage_namespace: str
    event_namespace: str
    depends_on: tuple[str, ...] = ()
    several: bool = False

    @property
    def identity(self) -> str:
        """Application and instance: `shop/blue`."""
        return f"{self.id}/{self.instance}"

    @property
    def label(self) -> str:
        """What operators call it: its identity, or the application alone when that has one instance."""
        return self.identity if self.several else self.id

    @property
    def log_name(self) -> str:
        """What records of the log name it by: its event namespace, and the instance if there are several."""
        return f"{self.event_namespace}/{self.instance}" if self.several else self.event_namespace


class HostRoute(NamedTuple):
    """Where requests go whose path is `path`, or begins with it and a slash."""

    path: str
    application: str
    instance: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSpec:
    """A host as its manifest, and those of its applications, describe it.

    Attributes:
        manifest_path: absolute; links are not resolved.
        name: how logs call it.
        applications: every instance, in the order in which they start.
        routes: by path.
        schema_version: of the manifest.
    """

    manifest_path: Path
    name: str
    applications: tuple[HostedApplication, ...]
    routes: tuple[HostRoute, ...] = ()
    schema_version: int = HOST_SCHEMA_VERSION

    @property
    def depends_on(self) -> DependsOn:
        """By application id, those it depends on."""
        return {one.id: one.depends_on for one in self.applications}


def load_host(path: Path) -> HostSpec:
    """Read a host's manifest, or the one in a folder, and everything it names.

    Every file is read anew. `event_namespace` may be left out: it is the
    application's id then. Instances start in the order of their names, as
    applications do that could start at the same time.

    Raises:
        ManifestError: with the words of `load_app`, and `application <id>:` for
            one of the applications.
    """
    table = read_table(find_host(path))
    table.refuse_unknown(_KNOWN, otherwise="remove what is not a setting of a host")
    found = schema_version(table, HOST_SCHEMA_VERSION, "host ")
    name = title(table, "production")
    entries = _read_entries(table)
    depends_on = {one.id: one.depends_on for one in entries}
    order = application_order(table, depends_on)
    check_host_consumes({one.id: one.app.cells for one in entries}, depends_on)
    by_id = {one.id: one for one in entries}
    return HostSpec(
        manifest_path=table.path,
        schema_version=found,
        name=name,
        applications=tuple(hosted for one in order for hosted in by_id[one].expand()),
        routes=_read_routes(table, by_id),
    )


def find_host(path: Path) -> Path:
    """Return `path`, or the host's manifest inside it when it is a directory.

    Raises:
        ManifestError: a directory without one.
    """
    if not os.path.isdir(path):
        return path
    if not os.path.isfile(path / HOST_MANIFEST):
        raise ManifestError(path, f"read manifest: no {HOST_MANIFEST} in this directory; name the file itself")
    return path / HOST_MANIFEST


class _Entry(NamedTuple):
    """One application of the manifest."""

    id: str
    app: AppSpec
    names: tuple[str, ...]
    storage_namespace: str
    event_namespace: str
    depends_on: tuple[str, ...]

    def expand(self) -> list[HostedApplication]:
        return [
            HostedApplication(
                id=self.id,
                instance=name,
                app=self.app,
                storage_namespace=self.storage_namespace,
                event_namespace=self.event_namespace,
                depends_on=self.depends_on,
                several=len(self.names) > 1,
            )
            for name in sorted(self.names)
        ]


def _read_entries(table: Table) -> list[_Entry]:
    tables = table.tables(APPLICATIONS)
    if not tables:
        reason = "applications is required; write [[applications]] with id, manifest and storage_namespace"
        raise table.invalid(reason, field=APPLICATIONS)
    entries: list[_Entry] = []
    taken: dict[tuple[str, str], int] = {}
    for index, one in enumerate(tables):
        entry = _read_entry(one, index)
        for field in ("id", "storage_namespace", "event_namespace"):
            value = getattr(entry, field)
            first = taken.setdefault((field, value), index)
            if first != index:
                reason = f"applications[{index}]: duplicate {field} {quote(value)}, which applications[{first}] has"
                raise one.invalid(f"{reason}; give each its own", field=field)
        entries.append(entry)
    if (count := sum(len(entry.names) for entry in entries)) > MOST_INSTANCES:
        reason = f"{count} application instances are more than {MOST_INSTANCES}; write fewer"
        raise ManifestError(table.path, f"validate manifest: {reason}", field=f"{APPLICATIONS}.instances")
    return entries


def _read_entry(table: Table, index: int) -> _Entry:
    name = _identifier(table, "id", f"applications[{index}].id")
    who = f"application {quote(name)}"
    if name == _NO_APPLICATION:
        raise table.invalid(f"id {quote(name)} is reserved for cells outside an application; write another", field="id")
    path = relative_path(table, table.text("manifest"), f"{who}: manifest", "manifest", HOST_MANIFEST)
    try:
        app = load_app(path)
    except ManifestError as error:
        raise ManifestError(error.path, f"{who}: {error.reason}", field=error.field) from error
    needed = dict.fromkeys(other for other in map(str.strip, table.texts("depends_on")) if other)
    return _Entry(
        id=name,
        app=app,
        names=_instances(table, name),
        storage_namespace=_identifier(table, "storage_namespace", f"{who}: storage_namespace"),
        event_namespace=_identifier(table, "event_namespace", f"{who}: event_namespace", default=name),
        depends_on=tuple(needed),
    )


def _identifier(table: Table, field: str, what: str, *, default: str = "") -> str:
    value = table.text(field, default)
    if not value:
        raise table.invalid(f'{what} is required; write for example {field} = "shop"', field=field)
    if problem := explain_identifier(value):
        raise table.invalid(f"{what} {problem}", field=field)
    return value


def _instances(table: Table, name: str) -> tuple[str, ...]:
    """Return the names of an application's instances: given, and for the others `<id>-<ordinal>`."""
    who = f"application {quote(name)}"
    count = table.integer("instances") or 1
    aliases = [alias.strip() for alias in table.texts("aliases")]
    if count < 1:
        raise table.invalid(f"{who}: instances {count} is less than 1; write how many run", field="instances")
    if count > MOST_INSTANCES:
        reason = f"{who}: instances {count} is more than {MOST_INSTANCES}; write fewer"
        raise table.invalid(reason, field="instances")
    if len(aliases) > count:
        reason = f"{who} has {len(aliases)} aliases and {count} instances; write instances = {len(aliases)}"
        raise table.invalid(reason, field="aliases")
    names = [alias or f"{name}-{ordinal}" for ordinal, alias in enumerate(aliases, 1)]
    names += [f"{name}-{ordinal}" for ordinal in range(len(names) + 1, count + 1)]
    for alias in names:
        if problem := explain_identifier(alias):
            raise table.invalid(f"{who}: alias {problem}", field="aliases")
        if names.count(alias) > 1:
            reason = f"{who}: duplicate alias {quote(alias)}; an instance without alias is called {name}-<ordinal>"
            raise table.invalid(f"{reason}; write another", field="aliases")
    return tuple(names)


def _read_routes(table: Table, applications: Mapping[str, _Entry]) -> tuple[HostRoute, ...]:
    found: dict[str, HostRoute] = {}
    tables = table.tables(ROUTES)
    if len(tables) > MOST_ROUTES:
        raise table.invalid(f"{len(tables)} routes are more than {MOST_ROUTES}; write fewer", field=ROUTES)
    for one in tables:
        path = one.text("path")
        if problem := _explain_path(path):
            raise one.invalid(f"route path {quote(path)} {problem}", field="path")
        if path in found:
            raise one.invalid(f"duplicate route path {quote(path)}; write it once", field="path")
        found[path] = _read_route(one, path, applications)
    return tuple(found[path] for path in sorted(found))


def _read_route(table: Table, path: str, applications: Mapping[str, _Entry]) -> HostRoute:
    who, application, instance = f"route {quote(path)}", table.text("application").strip(), table.text("instance")
    entry = applications.get(application)
    if entry is None:
        reason = f"{who}: unknown application {quote(application)}; name one of {', '.join(applications)}"
        raise table.invalid(reason, field="application")
    names: Sequence[str] = entry.names
    instance = instance.strip() or (names[0] if len(names) == 1 else "")
    if not instance:
        reason = f"{who}: instance is required, for application {quote(application)} has {len(names)}"
        raise table.invalid(f"{reason}; name one of {', '.join(names)}", field="instance")
    if instance not in names:
        reason = f"{who}: unknown instance {quote(instance)} of application {quote(application)}"
        raise table.invalid(f"{reason}; name one of {', '.join(names)}", field="instance")
    return HostRoute(path, application, instance)


def _explain_path(path: str) -> str:
    """Say what is wrong with the path of a route; "" if nothing is."""
    if not path.startswith("/"):
        return "must start with /; write for example /shop"
    if odd := next((char for char in path if not _PLAIN.fullmatch(char)), ""):
        return f"must not contain {describe(odd)}; write letters, digits and -._~!$&'()*+,;=:@ between slashes"
    if len(path) > ROUTE_CHARACTERS:
        return f"is longer than {ROUTE_CHARACTERS} characters; write a shorter one"
    if path != (clean := posixpath.normpath(path).replace("//", "/")):
        return f"is not canonical; write {clean}"
    return ""
