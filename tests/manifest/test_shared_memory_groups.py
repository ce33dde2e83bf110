"""`shared_memory_groups`: names of one form, not too many, and not beside `snapshotable`."""

from __future__ import annotations

from pathlib import Path

import pytest

from pulp_runtime.errors import ManifestError
from pulp_runtime.manifest.cell import MAX_SHARED_MEMORY_GROUPS, load_cell


@pytest.fixture
def manifest(tmp_path: Path):
    def manifest(*lines: str) -> Path:
        path = tmp_path / "pulp.cell.toml"
        path.write_text("\n".join(('name = "a"', 'version = "1"', *lines)))
        return path

    return manifest


def test_groups_are_named_like_cells_and_each_counts_once(manifest) -> None:
    spec = load_cell(manifest('shared_memory_groups = ["frames", "", "audio-2", "frames"]'))

    assert spec.shared_memory_groups == ("frames", "audio-2")
    assert spec.limits.shared_memory_mb == 64


@pytest.mark.parametrize(
    ("groups", "told"),
    [
        pytest.param('["Frames"]', '"Frames" contains "F"', id="capitals"),
        pytest.param('["../x"]', '"../x" contains "."', id="a path"),
        pytest.param('["a b"]', 'contains " "', id="a blank"),
        pytest.param('["a\\u0000"]', 'contains "\\u0000"', id="a NUL"),
        pytest.param('["fr\\u0430mes"]', "CYRILLIC SMALL LETTER A", id="a letter that looks like another"),
        pytest.param(f'["{"a" * 64}"]', "is 64 characters long", id="one character too many"),
        pytest.param(f'["{"a" * 500_000}"]', "is 500000 characters long", id="half a megabyte"),
        pytest.param('["host"]', "reserved", id="the host's own name"),
    ],
)
def test_a_name_of_another_form_is_refused(manifest, groups: str, told: str) -> None:
    with pytest.raises(ManifestError) as caught:
        load_cell(manifest(f"shared_memory_groups = {groups}"))

    assert caught.value.field == "shared_memory_groups"
    assert told in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_more_groups_than_the_most_are_refused(manifest) -> None:
    names = [f"g{number}" for number in range(MAX_SHARED_MEMORY_GROUPS)]
    assert len(load_cell(manifest(f"shared_memory_groups = {names}")).shared_memory_groups) == len(names)

    with pytest.raises(ManifestError, match="17 groups are too many; the most is 16"):
        load_cell(manifest(f"shared_memory_groups = {[*names, 'more']}"))


def test_a_cell_that_shares_memory_cannot_be_snapshotable_and_is_told_why(manifest) -> None:
    with pytest.raises(ManifestError, match="cannot be saved by itself; remove it, or remove snapshotable"):
        load_cell(manifest('shared_memory_groups = ["frames"]', "snapshotable = true"))
