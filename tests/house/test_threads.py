from __future__ import annotations

import ast
from pathlib import Path

SOURCES = Path(__file__).parents[2] / "src" / "pulp_runtime"

THREADS = {
    "_net/dial_names.py": "lookups of names, which the system cannot be told to give up",
    "_kernel/lane.py": "workers, and cells with a thread of their own",
    "_kernel/ticker.py": "the epoch",
    "_kernel/programs/daemon.py": "a daemon, which runs for as long as it likes",
    "capabilities/workers.py": "requests that wait for the network, at most 32",
    "background.py": "a host's loop beside a program that has none",
}
STARTERS = ("Thread", "Timer", "ThreadPoolExecutor")
SWALLOWS = {
    "_kernel/crossing.py": "kept, and raised when the guest has returned",
    "_kernel/lane.py": "a worker outlives whatever its cell does",
}


def sources() -> list[tuple[str, ast.Module]]:
    return [
        (file.relative_to(SOURCES).as_posix(), ast.parse(file.read_text())) for file in sorted(SOURCES.rglob("*.py"))
    ]


def test_threads_are_started_in_few_places_that_are_known() -> None:
    found = {
        name
        for name, tree in sources()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute | ast.Name)
        and (node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id) in STARTERS
    }

    assert found <= set(THREADS)


def test_what_must_not_be_swallowed_is_caught_only_to_be_raised_again() -> None:
    found = {
        name
        for name, tree in sources()
        for node in ast.walk(tree)
        if isinstance(node, ast.ExceptHandler) and is_everything(node) and not raises_again(node)
    }

    assert found == set(SWALLOWS)


def is_everything(handler: ast.ExceptHandler) -> bool:
    return handler.type is None or (isinstance(handler.type, ast.Name) and handler.type.id == "BaseException")


def raises_again(handler: ast.ExceptHandler) -> bool:
    return any(isinstance(node, ast.Raise) and node.exc is None for node in ast.walk(handler))
