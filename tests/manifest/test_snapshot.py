"""`snapshotable` and `[snapshot]`: what is written is what holds, and nothing is ignored."""

from __future__ import annotations

from pathlib import Path

import pytest

from pulp_runtime.errors import ManifestError
from pulp_runtime.manifest.cell import CellSpec, load_cell
from pulp_runtime.manifest.snapshot import SnapshotSpec


def load(tmp_path: Path, *lines: str) -> CellSpec:
    path = tmp_path / "pulp.cell.toml"
    path.write_text("\n".join(('name = "cell"', 'version = "1"', *lines)))
    return load_cell(path)


def test_a_cell_is_not_snapshotable_unless_it_says_so(tmp_path: Path) -> None:
    assert not load(tmp_path).snapshotable
    spec = load(tmp_path, "snapshotable = true")
    assert spec.snapshotable
    assert spec.snapshot == SnapshotSpec(every_seconds=0, keep=2, at_shutdown=True, start_from=None)


def test_every_key_is_read(tmp_path: Path) -> None:
    spec = load(
        tmp_path,
        "snapshotable = true",
        "[snapshot]",
        "every_seconds = 86400",
        "keep = 100",
        "at_shutdown = false",
        'from = "first.pulpsnap"',
    )

    assert spec.snapshot == SnapshotSpec(
        every_seconds=86_400, keep=100, at_shutdown=False, start_from=tmp_path / "first.pulpsnap"
    )


@pytest.mark.parametrize(
    ("lines", "field", "why"),
    [
        (("[snapshot]",), "snapshot", "write snapshotable = true"),
        (("snapshotable = false", "[snapshot]", "keep = 1"), "snapshot", "write snapshotable = true"),
        (("snapshotable = true", "[snapshot]", "keep = 0"), "snapshot.keep", "from 1 to 100"),
        (("snapshotable = true", "[snapshot]", "keep = 101"), "snapshot.keep", "from 1 to 100"),
        (("snapshotable = true", "[snapshot]", "every_seconds = -1"), "snapshot.every_seconds", "from 0 to 86400"),
        (("snapshotable = true", "[snapshot]", "every_seconds = 86401"), "snapshot.every_seconds", "from 0 to 86400"),
        (("snapshotable = true", "[snapshot]", 'at_shutdown = "no"'), "snapshot.at_shutdown", "a boolean is needed"),
        (("snapshotable = true", "[snapshot]", 'from = "a\\u0000b"'), "snapshot.from", "NUL"),
        (
            ("snapshotable = true", "[snapshot]", "every = 1"),
            "snapshot.every",
            "unknown manifest fields: snapshot.every",
        ),
        (("snapshotable = true", "snapshot = 60"), "snapshot", "a table is needed"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_field_and_the_fix(
    tmp_path: Path, lines: tuple[str, ...], field: str, why: str
) -> None:
    with pytest.raises(ManifestError, match=why) as raised:
        load(tmp_path, *lines)
    assert raised.value.field == field
