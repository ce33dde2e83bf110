from __future__ import annotations

from pathlib import Path

import pytest
import wasmtime

HERE = Path(__file__).parent
GUESTS = sorted(HERE.glob("*.wat"))


@pytest.fixture(scope="module")
def engine() -> wasmtime.Engine:
    return wasmtime.Engine()


def what_it_shows(guest: Path) -> str:
    first = guest.read_text().splitlines()[0]
    assert first.startswith(";; ")
    return first.removeprefix(";; ")


@pytest.mark.parametrize("guest", GUESTS, ids=lambda guest: guest.stem)
def test_a_guest_is_valid_wasm(engine: wasmtime.Engine, guest: Path) -> None:
    wasmtime.Module.validate(engine, wasmtime.wat2wasm(guest.read_text()))


def test_the_readme_lists_every_guest_with_its_own_words() -> None:
    rows = [line for line in (HERE / "README.md").read_text().splitlines() if line.startswith("| `")]

    assert rows == [f"| `{guest.stem}` | {what_it_shows(guest)} |" for guest in GUESTS]
