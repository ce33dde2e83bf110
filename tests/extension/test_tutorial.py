"""The tutorial, followed to the letter from an empty folder."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "examples" / "extension" / "pulp-ext-clock"
TUTORIAL = ROOT / "docs" / "tutorial" / "first-capability.md"
PLUGIN = "pulp_runtime.testing.pytest_plugin"
INSTALLED = any(point.value == PLUGIN for point in entry_points(group="pytest11"))

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
FILE = re.compile(r"`([\w./-]+)`:\s*\Z")
NOT_IN_IT = {"README.md", "cell/clock.wasm"}


def run_tests(folder: Path) -> None:
    command = [sys.executable, "-P", "-W", "error", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull]
    command += ["--rootdir", ".", "tests", *([] if INSTALLED else ["-p", PLUGIN])]
    environment = {**os.environ, "PYTHONPATH": "src", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=50)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_following_it_makes_the_example_package_and_every_test_passes_on_the_way(tmp_path: Path) -> None:
    text = TUTORIAL.read_text()
    runs = 0
    for block in BLOCK.finditer(text):
        named = FILE.search(text[: block.start()])
        if named is not None:
            file = tmp_path / named[1]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block[2])
        elif "ziglang" in block[2]:  # another test builds it, where there is a compiler
            shutil.copy(PACKAGE / "cell" / "clock.wasm", tmp_path / "cell")
        elif block[2] == "pytest\n":
            run_tests(tmp_path)
            runs += 1

    assert runs == 2
    expected = {
        path.relative_to(PACKAGE).as_posix(): path.read_text()
        for path in PACKAGE.rglob("*")
        if path.is_file() and path.suffix in (".py", ".toml", ".c")
    }
    made = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert {name: (tmp_path / name).read_text() for name in expected} == expected
    assert made - NOT_IN_IT == set(expected)
