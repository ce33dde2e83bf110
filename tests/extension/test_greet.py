"""The smallest extension, installed as its users install it."""

from __future__ import annotations

import shutil
import signal
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples" / "extension"


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_package_that_is_installed_beside_pulp_is_all_a_cell_needs(fresh, tmp_path: Path) -> None:
    fresh.install(ROOT, EXAMPLES / "pulp-ext-greet")
    command = [fresh.python.with_name("pulp"), "run", EXAMPLES / "greet-cell", "--log-format", "text"]

    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path, env=fresh.environment) as pulp:
        lines = []
        for line in pulp.stdout:
            lines.append(line.rstrip("\n"))
            if 'msg="cell ready"' in line:
                pulp.send_signal(signal.SIGINT)

    assert "greet says hello to Ada" in lines
    assert pulp.returncode == 0, lines


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_its_own_tests_pass_where_only_it_and_pulp_are_installed(fresh, tmp_path: Path) -> None:
    fresh.install(ROOT, EXAMPLES / "pulp-ext-greet")
    for name in ("pulp-ext-greet/tests", "greet-cell"):
        shutil.copytree(EXAMPLES / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))

    done = fresh.run("-W", "error", "-m", "pytest", "-q", "pulp-ext-greet/tests")

    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_without_the_package_the_cell_is_told_which_one_it_wants(fresh) -> None:
    fresh.install(ROOT)

    done = subprocess.run(
        [fresh.python.with_name("pulp"), "run", EXAMPLES / "greet-cell", "--log-format", "text"],
        capture_output=True,
        text=True,
        cwd=fresh.folder,
        env=fresh.environment,
        check=False,
        timeout=50,
    )

    assert done.returncode == 1
    assert 'declares unknown capability \\"demo.greet\\"; install the package that provides it' in done.stdout
