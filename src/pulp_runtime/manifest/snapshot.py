"""`snapshotable` and `[snapshot]`: whether a cell's state is saved, and when."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pulp_runtime.manifest.table import Table

KEYS: Final = ("every_seconds", "keep", "at_shutdown", "from")
KEEP: Final = 2
MOST_KEPT: Final = 100
LONGEST_SECONDS: Final = 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotSpec:
    """When a snapshotable cell is saved, and what it begins with.

    Attributes:
        every_seconds: how often while it runs, 1..86,400; 0 for never.
        keep: how many snapshots stay on disk, 1..100.
        at_shutdown: whether it is saved when the host or the cell is stopped, instead of `pulp_shutdown`.
        start_from: `from`: the snapshot it begins with as long as it has none of its own, absolute; None for none.
    """

    every_seconds: int = 0
    keep: int = KEEP
    at_shutdown: bool = True
    start_from: Path | None = None


def read_snapshot(table: Table) -> SnapshotSpec:
    """Return what `[snapshot]` says.

    Raises:
        ManifestError: a number out of range, or the table without `snapshotable = true`.
    """
    inside = table.table("snapshot")
    if inside is None:
        return SnapshotSpec()
    if not table.flag("snapshotable"):
        reason = "snapshot is for a cell that is snapshotable; write snapshotable = true, or remove the table"
        raise table.invalid(reason, field="snapshot")
    start_from = inside.text("from")
    if "\0" in start_from:
        raise inside.invalid("snapshot.from contains a NUL character; write the path of a file", field="from")
    return SnapshotSpec(
        every_seconds=_number(inside, "every_seconds", 0, LONGEST_SECONDS, 0),
        keep=_number(inside, "keep", 1, MOST_KEPT, KEEP),
        at_shutdown=inside.flag("at_shutdown") if "at_shutdown" in inside.values else True,
        start_from=table.path.parent / start_from if start_from else None,
    )


def _number(table: Table, name: str, least: int, most: int, default: int) -> int:
    value = table.integer(name, default)
    if not least <= value <= most:
        reason = f"snapshot.{name} {value} is out of range; write a number from {least} to {most}"
        raise table.invalid(reason, field=name)
    return value
