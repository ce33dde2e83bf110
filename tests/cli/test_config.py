"""`--config FILE`."""

from __future__ import annotations

from pathlib import Path

import pytest

from pulp_runtime.cli.config import read_config
from pulp_runtime.errors import ManifestError


def write(tmp_path: Path, text: str) -> str:
    path = tmp_path / "pulp.config.toml"
    path.write_text(text)
    return str(path)


def test_a_configuration_has_a_table_for_the_listener_and_for_each_capability(tmp_path: Path) -> None:
    text = '[http]\naccess_log = true\n["spawn.process"]\nallow_bins = ["git"]'

    assert read_config(write(tmp_path, text)) == {
        "http": {"access_log": True},
        "spawn.process": {"allow_bins": ["git"]},
    }


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[http", "parse manifest"),
        ("http = 1", "a table is needed"),
        ('["no such name"]', "neither http nor a capability"),
    ],
)
def test_a_file_that_cannot_be_is_refused_by_name(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(ManifestError, match=told) as caught:
        read_config(write(tmp_path, text))
    assert "pulp.config.toml" in str(caught.value)
