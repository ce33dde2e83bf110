from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

#: The least a cell must say about itself.
MINIMAL = 'name = "echo"\nversion = "1"\n'


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write a file of this text (or these bytes) and return its path."""

    def write(text: str | bytes, name: str = "pulp.cell.toml") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return write


@pytest.fixture
def write_cell(write: Callable[..., Path]) -> Callable[..., Path]:
    """Write the manifest of a cell that has a name, a version and these lines besides."""
    return lambda lines="": write(MINIMAL + lines)
