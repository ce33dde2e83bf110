"""Several cells as one set: who calls whom, and who starts before whom."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pulp_runtime.errors import ManifestError
from pulp_runtime.manifest.cell import CellSpec, load_cell
from pulp_runtime.manifest.names import quote


def load_cells(paths: Iterable[Path]) -> tuple[CellSpec, ...]:
    """Read the manifests of a set and return the cells in the order they start.

    Stopping is the same order backwards.

    Raises:
        ManifestError: as `load_cell` and `start_order` say.
    """
    return start_order([load_cell(path) for path in paths])


def start_order(cells: Sequence[CellSpec]) -> tuple[CellSpec, ...]:
    """Return a valid set so that each cell stands after those it depends on.

    First come the cells that depend on none, as they were declared, then those
    that each of them releases: a(→b), b, c(→b), d start as b, d, a, c.

    Raises:
        ManifestError: there is no cell, two have one name, a dependency is
            missing or the cell itself, dependencies form a circle, or a
            consumed function is not provided exactly once.
    """
    if not cells:
        raise ManifestError(Path("pulp.cell.toml"), "no manifests supplied; name at least one")
    by_name = _by_name(cells)
    providers(cells)
    _check_dependencies(cells, by_name)
    dependents: dict[str, list[CellSpec]] = {name: [] for name in by_name}
    for cell in cells:
        for name in cell.depends_on:
            dependents[name].append(cell)
    waits = {cell.name: len(cell.depends_on) for cell in cells}
    free = deque(cell for cell in cells if not waits[cell.name])
    order: list[CellSpec] = []
    while free:
        cell = free.popleft()
        order.append(cell)
        for dependent in dependents[cell.name]:
            waits[dependent.name] -= 1
            if not waits[dependent.name]:
                free.append(dependent)
    if len(order) < len(cells):
        raise _circle(by_name, {name for name, count in waits.items() if count})
    return tuple(order)


def providers(cells: Iterable[CellSpec]) -> Mapping[str, str]:
    """Return each consumed function and the one cell that provides it.

    Raises:
        ManifestError: none or several provide it.
    """
    cells = tuple(cells)
    offered: dict[str, list[str]] = {}
    for cell in cells:
        for function in cell.provides:
            offered.setdefault(function, []).append(cell.name)
    found: dict[str, str] = {}
    for cell in cells:
        for function in cell.consumes:
            names = offered.get(function, [])
            if not names:
                reason = "but no cell provides that exact provider; add it to the provides of one cell"
                raise _invalid(cell, f"{quote(cell.name)} consumes {quote(function)} {reason}", "consumes")
            if len(names) > 1:
                reason = f"which has ambiguous providers {', '.join(names)}; leave it to one of them"
                raise _invalid(cell, f"{quote(cell.name)} consumes {quote(function)}, {reason}", "consumes")
            found[function] = names[0]
    return found


def _by_name(cells: Iterable[CellSpec]) -> dict[str, CellSpec]:
    found: dict[str, CellSpec] = {}
    for cell in cells:
        first = found.setdefault(cell.name, cell)
        if first is not cell:
            both = f"(in {first.manifest_path} and {cell.manifest_path})"
            raise _invalid(cell, f"duplicate cell name {quote(cell.name)} {both}; rename one of them", "name")
    return found


def _check_dependencies(cells: Iterable[CellSpec], by_name: Mapping[str, CellSpec]) -> None:
    for cell in cells:
        for name in cell.depends_on:
            if name == cell.name:
                raise _invalid(cell, f"{quote(name)} depends_on itself; remove it", "depends_on")
            if name not in by_name:
                raise _invalid(
                    cell,
                    f"{quote(cell.name)} depends_on {quote(name)} but no such cell is in the manifest set; "
                    f"add its manifest, or name one of {', '.join(by_name)}",
                    "depends_on",
                )


def _circle(by_name: Mapping[str, CellSpec], waiting: set[str]) -> ManifestError:
    """Return the error that shows one circle; every waiting cell waits for a waiting one."""
    name = next(name for name in by_name if name in waiting)
    path: list[str] = []
    while name not in path:
        path.append(name)
        name = next(other for other in by_name[name].depends_on if other in waiting)
    circle = [*path[path.index(name) :], name]
    return _invalid(
        by_name[name],
        f"dependency cycle involving: {' -> '.join(circle)}; remove one of these depends_on",
        "depends_on",
    )


def _invalid(cell: CellSpec, reason: str, field: str) -> ManifestError:
    return ManifestError(cell.manifest_path, f"validate manifest: {reason}", field=field)
