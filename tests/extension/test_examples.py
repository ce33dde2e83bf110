"""The tests of the example packages, as their authors run them."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples" / "extension"
PACKAGES = sorted(path.parent.name for path in EXAMPLES.glob("*/pyproject.toml"))
PLUGIN = "pulp_runtime.testing.pytest_plugin"
INSTALLED = any(point.value == PLUGIN for point in entry_points(group="pytest11"))


@pytest.mark.slow
@pytest.mark.parametrize("package", PACKAGES)
def test_an_example_package_passes_its_own_tests(package: str) -> None:
    command = [sys.executable, "-P", "-W", "error", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull]
    command += ["--rootdir", ".", "tests", *([] if INSTALLED else ["-p", PLUGIN])]
    environment = {**os.environ, "PYTHONPATH": "src", "PYTHONDONTWRITEBYTECODE": "1"}

    done = subprocess.run(
        command, cwd=EXAMPLES / package, env=environment, capture_output=True, text=True, check=False, timeout=50
    )

    assert done.returncode == 0, done.stdout + done.stderr


def test_there_are_packages_to_test() -> None:
    assert PACKAGES == ["pulp-ext-clock", "pulp-ext-greet"]
