"""Several applications as one host: who starts before whom, and who may call whom (spec/core §2.3, §7.2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pulp_runtime.errors import ManifestError
from pulp_runtime.manifest.cell import CellSpec
from pulp_runtime.manifest.names import quote
from pulp_runtime.manifest.table import Table

DependsOn = Mapping[str, Sequence[str]]
"""By application id, those whose cells its own may call, and which start before it."""


def application_order(table: Table, depends_on: DependsOn) -> list[str]:
    """Return the applications, each after those it depends on; where several could be next, by name.

    Raises:
        ManifestError: one depends on an application that is not there, or on itself, directly or not.
    """
    for name, needed in depends_on.items():
        for other in needed:
            if other not in depends_on:
                reason = f"application {quote(name)} depends_on {quote(other)}, which is none of the applications"
                raise _invalid(table, f"{reason}; name one of {', '.join(depends_on)}")
    order: list[str] = []
    left = set(depends_on)
    while free := [name for name in left if left.isdisjoint(depends_on[name])]:
        order.append(min(free))
        left.discard(order[-1])
    if left:
        circle = " -> ".join(_circle(depends_on, left))
        reason = f"application dependency cycle: {circle}; remove one of these depends_on"
        raise _invalid(table, reason)
    return order


def _invalid(table: Table, reason: str) -> ManifestError:
    return ManifestError(table.path, f"validate manifest: {reason}", field="applications.depends_on")


def _circle(depends_on: DependsOn, left: set[str]) -> list[str]:
    """Return one circle among applications that all wait for another of them."""
    name = next(name for name in depends_on if name in left)
    path: list[str] = []
    while name not in path:
        path.append(name)
        name = next(other for other in depends_on[name] if other in left)
    return [*path[path.index(name) :], name]


def check_host_consumes(cells: Mapping[str, Sequence[CellSpec]], depends_on: DependsOn) -> None:
    """Check that every function a cell consumes from other applications has exactly one provider there.

    Only the applications that its own depends on directly count.

    Args:
        cells: of each application, by its id.
        depends_on: see `DependsOn`.

    Raises:
        ManifestError: nobody provides one, or several do.
    """
    for name, needed in depends_on.items():
        for cell in cells[name]:
            for function in cell.host_consumes:
                found = [f"{other}/{one.name}" for other in needed for one in cells[other] if function in one.provides]
                if len(found) == 1:
                    continue
                what = f"application {quote(name)}: cell {quote(cell.name)} host_consumes {quote(function)}"
                if found:
                    problem = f"but {', '.join(found)} provide it ambiguously; leave it to one of them"
                else:
                    problem = "but no direct dependency application provides it"
                    problem += "; add its application to depends_on, or the function to the provides of a cell there"
                raise ManifestError(cell.manifest_path, f"validate manifest: {what}, {problem}", field="host_consumes")
