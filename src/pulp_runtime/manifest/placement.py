"""How often a cell runs in an application, and with which configuration each time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from pulp_runtime.errors import ManifestError
from pulp_runtime.manifest.cell import CellSpec
from pulp_runtime.manifest.names import explain_instance, quote
from pulp_runtime.manifest.table import Table

#: The instance of a cell that has no entry under `cell_placements`.
PRIMARY: Final = "primary"
#: Each is a copy of its cell in memory; a count is quickly mistyped.
MOST_PLACEMENTS: Final = 1000

FIELD: Final = "cell_placements"


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """One running copy of a cell in an application.

    Attributes:
        spec: the cell, its `config` with the application's on top.
        instance: which of the cell's copies it is.
        address: what other cells and operators call it: the cell's name if it has this copy only, else
            `name@instance`.
    """

    spec: CellSpec
    instance: str
    address: str


class Entry(NamedTuple):
    """What the application's manifest says of one cell's placements.

    Attributes:
        names: of its instances, at least one.
        config: what goes on top of the cell's own, None for nothing.
    """

    names: tuple[str, ...] = (PRIMARY,)
    config: Mapping[str, object] | None = None

    def place(self, spec: CellSpec) -> list[Placement]:
        """Return the placements of a cell, in the order of their names."""
        if self.config:
            spec = replace(spec, config=merged(spec.config or {}, self.config))
        several = len(self.names) > 1
        return [
            Placement(spec=spec, instance=name, address=f"{spec.name}@{name}" if several else spec.name)
            for name in self.names
        ]


def merged(below: Mapping[str, object], above: Mapping[str, object]) -> dict[str, object]:
    """Return one table with another on top: tables become one, at every depth; anything else is replaced."""
    found = dict(below)
    for key, value in above.items():
        old = found.get(key)
        found[key] = merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return found


def read_entries(table: Table) -> dict[str, Entry]:
    """Return the entries under `cell_placements`, by cell.

    Raises:
        ManifestError: a value has the wrong type, a cell has two entries, or its instances make no sense.
    """
    found: dict[str, Entry] = {}
    for entry in table.tables(FIELD):
        cell = entry.text("cell").strip()
        if not cell:
            raise _invalid(entry, 'cell is required; write the name of one of the cells, as in cell = "worker"', "cell")
        if cell in found:
            raise _invalid(entry, f"duplicate entry for cell {quote(cell)}; write one entry with all instances", "cell")
        config = entry.table("config")
        found[cell] = Entry(_instances(entry, cell), None if config is None else config.values)
    return found


def place_all(table: Table, cells: Sequence[CellSpec], entries: Mapping[str, Entry]) -> tuple[Placement, ...]:
    """Return the placements of all cells, in the cells' order.

    Raises:
        ManifestError: an entry is for no cell of the application, or there are too many placements.
    """
    names = [spec.name for spec in cells]
    for cell in entries:
        if cell not in names:
            reason = f"cell {quote(cell)} is none of the cells; name one of {', '.join(names)}, or list its manifest"
            raise _invalid(table, reason, "cell")
    placements = [one for spec in cells for one in entries.get(spec.name, Entry()).place(spec)]
    if len(placements) > MOST_PLACEMENTS:
        raise _too_many(table, len(placements))
    return tuple(placements)


def _instances(entry: Table, cell: str) -> tuple[str, ...]:
    """Return the names of a cell's instances: given, or made from `count`."""
    instances, aliases, count = entry.texts("instances"), entry.texts("aliases"), entry.integer("count")
    who = f"cell {quote(cell)}"
    if instances and aliases:
        raise _invalid(entry, f"{who} has both instances and aliases, two names for one list; keep one", "aliases")
    if count < 0:
        raise _invalid(entry, f"{who}: count {count} is negative; write how many run, or their instances", "count")
    given, field = (instances, "instances") if instances else (aliases, "aliases")
    if not given and not count:
        reason = f'{who} requires instances or count; write for example count = 2, or instances = ["a", "b"]'
        raise _invalid(entry, reason, "instances")
    if max(count, len(given)) > MOST_PLACEMENTS:
        raise _too_many(entry, max(count, len(given)))
    if not given:
        return tuple(str(number + 1) for number in range(count))
    names = [name.strip() for name in given]
    _check_names(entry, who, names, field)
    if count and count != len(names):
        reason = f"{who}: count {count} does not match its {len(names)} {field}; write {len(names)}, or leave it out"
        raise _invalid(entry, reason, "count")
    return tuple(names)


def _check_names(entry: Table, who: str, names: Iterable[str], field: str) -> None:
    seen: set[str] = set()
    for index, name in enumerate(names):
        if not name:
            raise _invalid(entry, f"{who}: {field}[{index}] is empty; write a name, or remove it", field)
        if name in seen:
            raise _invalid(entry, f"{who}: duplicate instance {quote(name)}; write it once", field)
        if problem := explain_instance(name):
            raise _invalid(entry, f"{who}: {field}: {problem}", field)
        seen.add(name)


def _too_many(table: Table, count: int) -> ManifestError:
    return _invalid(table, f"{count} placements are more than {MOST_PLACEMENTS}; write fewer", "count")


def _invalid(table: Table, reason: str, field: str) -> ManifestError:
    return ManifestError(table.path, f"validate app cell placements: {reason}", field=f"{FIELD}.{field}")
