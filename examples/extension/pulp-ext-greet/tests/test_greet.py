from __future__ import annotations

from pathlib import Path

import pytest
from pulp_ext_greet import capability

from pulp_runtime.ext import Errno
from pulp_runtime.testing import HOSTILE_RANGES, guest, load


def test_a_cell_greets_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    with load(guest(capability()), capabilities=[capability()], name="hall") as cell:
        cell.write(16, "Zoë".encode())

        assert cell.run("demo_greet", 16, 4) == 0
        assert cell.transcript == ["==> demo_greet('Zoë')", "<== 0"]
    assert capsys.readouterr().out == "hall says hello to Zoë\n"


def test_nobody_is_not_greeted(capsys: pytest.CaptureFixture[str]) -> None:
    with load(guest(capability()), capabilities=[capability()]) as cell:
        assert cell.run("demo_greet", 16, 0) == Errno.EMPTY
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("words", HOSTILE_RANGES.values(), ids=HOSTILE_RANGES.keys())
def test_a_name_outside_memory_is_a_fault(words: tuple[int, int]) -> None:
    with load(guest(capability()), capabilities=[capability()]) as cell:
        assert cell.run("demo_greet", *words) == Errno.FAULT


def test_bytes_that_are_no_text_are_not_decoded() -> None:
    with load(guest(capability()), capabilities=[capability()]) as cell:
        cell.write(16, b"\xff\xfe")

        assert cell.run("demo_greet", 16, 2) == Errno.DECODE


def test_a_cell_that_does_not_declare_it_is_told_so() -> None:
    with load(guest(capability()), capabilities=[capability()], declares=[]) as cell:
        assert cell.run("demo_greet", 16, 1) == Errno.UNDECLARED


CELL = Path(__file__).parents[2] / "greet-cell"


@pytest.mark.parametrize(
    ("config", "greeted"),
    [
        pytest.param({"name": "Ada"}, "Ada", id="by the name in its config"),
        pytest.param({}, "world", id="the world when its config has no name"),
    ],
)
def test_the_greet_cell_greets(config: dict[str, object], greeted: str) -> None:
    with load(CELL, capabilities=[capability()]) as cell:
        cell.init(config)

        assert cell.transcript == [f"==> demo_greet({greeted!r})", "<== 0"]
