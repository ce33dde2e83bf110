"""What `[limits]` in a manifest may say."""

from pathlib import Path

import pytest

from pulp_runtime.errors import ManifestError
from pulp_runtime.manifest.cell import load_cell
from pulp_runtime.manifest.limits import SETTABLE, Limits


def write(folder: Path, limits: str) -> Path:
    path = folder / "pulp.cell.toml"
    path.write_text(f'name = "a"\nversion = "1"\n[limits]\n{limits}\n')
    return path


def test_a_manifest_without_limits_has_the_defaults(tmp_path: Path) -> None:
    assert load_cell(write(tmp_path, "")).limits == Limits()


@pytest.mark.parametrize("name", SETTABLE)
def test_each_limit_can_be_set_to_its_least_and_its_most(tmp_path: Path, name: str) -> None:
    for bound in SETTABLE[name]:
        assert getattr(load_cell(write(tmp_path, f"{name} = {bound}")).limits, name) == bound


@pytest.mark.parametrize("name", SETTABLE)
@pytest.mark.parametrize("end", [0, 1], ids=["one below the least", "one above the most"])
def test_a_limit_out_of_range_is_refused_with_its_range(tmp_path: Path, name: str, end: int) -> None:
    beyond = SETTABLE[name][end] + (1 if end else -1)
    least, most = SETTABLE[name]

    with pytest.raises(ManifestError, match=f"limits.{name} {beyond} is out of range; write a number from") as caught:
        load_cell(write(tmp_path, f"{name} = {beyond}"))

    assert f"from {least} to {most}" in str(caught.value)
    assert caught.value.field == f"limits.{name}"


def test_an_unknown_limit_is_refused_with_the_nearest_one(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"unknown manifest fields: limits.mailbox; .*mailbox_events"):
        load_cell(write(tmp_path, "mailbox = 1"))


def test_a_limit_that_is_no_integer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"parse manifest: .*limits.restarts"):
        load_cell(write(tmp_path, 'restarts = "many"'))


def test_limits_that_are_no_table_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "pulp.cell.toml"
    path.write_text('name = "a"\nversion = "1"\nlimits = 3\n')

    with pytest.raises(ManifestError, match="limits: a table is needed"):
        load_cell(path)
