from __future__ import annotations

import ast
from pathlib import Path

import pytest

SOURCES = Path(__file__).parents[2] / "src" / "pulp_runtime"
FILES = sorted(SOURCES.rglob("*.py"))
MOST_LINES_OF_A_FILE = 400
MOST_LINES_OF_A_FUNCTION = 50

BY_NAME = pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(SOURCES)))


@BY_NAME
def test_no_file_is_too_long_to_read_at_once(file: Path) -> None:
    assert len(file.read_text().splitlines()) <= MOST_LINES_OF_A_FILE


@BY_NAME
def test_no_function_is_too_long_to_see_at_once(file: Path) -> None:
    too_long = [
        f"{node.name} has {node.end_lineno - node.lineno + 1} lines"
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and own_lines(node) > MOST_LINES_OF_A_FUNCTION
    ]

    assert too_long == []


def own_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Count lines without the docstring, which may be as long as what it explains."""
    lines = function.end_lineno - function.lineno + 1
    first = function.body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        lines -= first.end_lineno - first.lineno + 1
    return lines
