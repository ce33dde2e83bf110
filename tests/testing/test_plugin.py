from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TESTS = '''
def test_a_cell(pulp_cell):
    cell = pulp_cell("(module {exports})", name="lab")
    cell.init()
    test_a_cell.cell = cell

def test_it_was_closed():
    assert not test_a_cell.cell.storage_root.parent.exists()

def test_an_env(pulp_env):
    assert pulp_env(config={{"a": 1}}).config == {{"a": 1}}

def test_no_fixture():
    pass
'''.format(
    exports=" ".join(
        [
            '(memory (export \\"memory\\") 1)',
            '(func (export \\"pulp_alloc\\") (param i32) (result i32) (i32.const 8))',
            '(func (export \\"pulp_init\\") (param i32 i32) (result i32) (i32.const 0))',
            '(func (export \\"pulp_step\\") (param i32 i32) (result i32) (i32.const 0))',
            '(func (export \\"pulp_shutdown\\") (result i32) (i32.const 0))',
        ]
    )
)  # fmt: skip


@pytest.mark.slow
def test_a_test_run_of_somebody_else_gets_the_fixtures(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(TESTS)
    (tmp_path / "conftest.py").write_text("from pulp_runtime.testing.pytest_plugin import pulp_cell, pulp_env\n")
    command = ["-W", "error", "-m", "pytest", "-q", "-p", "no:randomly", "-p", "no:cacheprovider", "-n", "0"]

    done = subprocess.run(
        [sys.executable, *command], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=50
    )

    assert done.returncode == 0, done.stdout
    assert "4 passed" in done.stdout


def test_importing_the_plugin_imports_nothing_heavy() -> None:
    script = (
        "import sys, pytest; before = set(sys.modules); import pulp_runtime.testing.pytest_plugin;"
        "print(*sorted(set(sys.modules) - before))"
    )

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout.split() == ["pulp_runtime", "pulp_runtime.testing", "pulp_runtime.testing.pytest_plugin"]


def test_the_public_names_are_these() -> None:
    import pulp_runtime.testing

    assert pulp_runtime.testing.__all__ == [
        "Call",
        "CellUnderTest",
        "Fake",
        "FakeHost",
        "HOSTILE_RANGES",
        "Logged",
        "guest",
        "load",
        "words_guest",
    ]
    for name in pulp_runtime.testing.__all__:
        assert getattr(pulp_runtime.testing, name) is not None
    with pytest.raises(AttributeError, match="nothing"):
        _ = pulp_runtime.testing.nothing
