"""A short run of every target, the same each time, and the harness that runs them."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest
from tests.fuzz import harness
from tests.fuzz.__main__ import main
from tests.fuzz.catalogue import targets
from tests.fuzz.guests import capabilities
from tests.fuzz.harness import Broken, Pure, Target

CASES = 250
SEED = 20_26
TARGETS = targets()


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_threat_16_to_21_and_36_hostile_inputs_break_no_promise(target: Target) -> None:
    report = harness.run(target, CASES, SEED)

    assert report.finding is None, str(report.finding)
    assert report.cases == CASES


def test_every_import_of_every_built_in_capability_is_a_target() -> None:
    wanted = {f"import-{name}" for capability in capabilities() for name in capability.functions}

    assert wanted
    assert wanted <= {target.name for target in TARGETS}


@pytest.mark.parametrize("target", TARGETS[:4], ids=lambda target: target.name)
def test_a_seed_gives_the_same_inputs_again(target: Target) -> None:
    def inputs() -> list[bytes]:
        session, rng = target.start(), random.Random(1)
        made = [session.make(rng) for _ in range(50)]
        session.close()
        return made

    assert inputs() == inputs()


# The harness ------------------------------------------------------------------------------------------------------


def short(data: bytes) -> None:
    if len(data) > 3:
        raise Broken("too long")


def fragile() -> Target:
    return Target("fragile", "at most three bytes", lambda: Pure(lambda rng: bytes(rng.randrange(6)), short))


def test_a_finding_has_what_it_takes_to_see_it_again() -> None:
    finding = harness.run(fragile(), 100, 7).finding

    assert finding is not None
    assert finding.why == "too long"
    assert finding.data.hex() in str(finding)
    assert "seed 7" in str(finding)
    assert harness.replay(fragile(), finding.data) is not None
    assert harness.replay(fragile(), b"abc") is None


def test_what_a_target_raises_is_a_finding_that_names_its_place() -> None:
    def crash(_data: bytes) -> None:
        raise KeyError("x")

    finding = harness.run(Target("crash", "", lambda: Pure(lambda rng: b"x", crash)), 1, 1).finding

    assert finding is not None
    assert finding.why.startswith("KeyError: 'x' at ")
    assert "test_fuzz.py:" in finding.why


def test_a_case_that_takes_too_long_is_a_finding() -> None:
    def dawdle(_data: bytes) -> None:
        end = time.perf_counter() + 0.02
        while time.perf_counter() < end:
            pass

    slow = Target("slow", "", lambda: Pure(lambda rng: b"x", dawdle), seconds=0.01)

    finding = harness.run(slow, 10, 1).finding
    assert finding is not None
    assert "took 0.0" in finding.why


def test_cases_are_shared_out_and_none_is_left_over() -> None:
    shares = harness.share_out(TARGETS, 1_000_000)

    assert sum(shares) >= 1_000_000
    assert sum(shares) <= 1_000_000 + len(TARGETS)


@pytest.mark.parametrize(
    ("mebibytes", "found"),
    [
        pytest.param([10, 20, 30, 40, 50, 60, 70, 80], True, id="more and more"),
        pytest.param([10, 20, 20, 20, 20, 20, 20, 90], False, id="once, at the end"),
        pytest.param([10, 60, 60, 60, 60, 60, 60, 60], False, id="once, at the start"),
        pytest.param([10, 20, 10, 20, 10, 20, 10, 20], False, id="up and down"),
    ],
)
def test_what_goes_on_growing_is_a_leak_and_what_grows_once_is_not(mebibytes: list[int], found: bool) -> None:
    report = harness.Report("target", memory=[size << 20 for size in mebibytes], threads=[2])

    assert bool(report.leaks) is found
    report.threads.append(3)
    assert report.leaks


def test_the_command_runs_one_target_and_replays_an_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "finding.bin"
    out.write_bytes(b"\x80")

    assert main(["--only", "liberal", "--cases", "100", "--out", str(out)]) == 0
    assert "100 cases, seed 1" in capsys.readouterr().out
    assert main(["--only", "liberal", "--input", str(out)]) == 0
    assert "nothing found" in capsys.readouterr().out
    assert main(["--list"]) == 0
    assert "connection" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["--only", "nothing"])


def test_the_command_keeps_the_input_of_a_finding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "finding.bin"
    monkeypatch.setattr("tests.fuzz.__main__.targets", lambda: [fragile()])

    assert main(["--cases", "100", "--out", str(out)]) == 1
    assert len(out.read_bytes()) > 3
    assert "FINDING in fragile: too long" in capsys.readouterr().out
    assert main(["--only", "fragile", "--input", str(out)]) == 1
