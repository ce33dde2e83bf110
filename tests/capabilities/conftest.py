"""What tests of capabilities share: the fixtures of the plugin, stand-ins for guests, and puppets in a real host."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from tests.capabilities.puppet import Puppet, StubGuest, puppet_cell

from pulp_runtime import Host
from pulp_runtime.testing.pytest_plugin import pulp_cell, pulp_env

__all__ = ["pulp_cell", "pulp_env"]

Puppets = Callable[..., tuple[Puppet, ...]]


@pytest.fixture
def stub_guest() -> Callable[..., StubGuest]:
    """Return `stub_guest(name, tables)`: a guest without memory."""
    return StubGuest


@pytest.fixture(scope="session")
def puppet_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where compiled puppets are kept: each kind is compiled once in a run."""
    return tmp_path_factory.mktemp("puppets")


@pytest.fixture
def puppets(tmp_path: Path, puppet_cache: Path) -> Iterator[Puppets]:
    """Return `puppets(capability, imports, names…, lines={name: (manifest line, …)}, **host options)`.

    The host stops when the test is over, or when `stop()` of the function is called.
    """
    stack = ExitStack()

    def start(
        capability: str,
        imports: Mapping[str, int],
        *names: str,
        lines: Mapping[str, tuple[str, ...]] | None = None,
        **options: Any,
    ) -> tuple[Puppet, ...]:
        cells = [
            puppet_cell(tmp_path, name, imports, (capability,), *(lines or {}).get(name, ()))
            for name in names or ("one",)
        ]
        options = {"storage_root": tmp_path / "data", "cache": puppet_cache, **options}
        host = stack.enter_context(Host(cells, **options))
        return tuple(Puppet(host, name, imports) for name in names or ("one",))

    start.stop = stack.close  # type: ignore[attr-defined]
    yield start
    stack.close()
