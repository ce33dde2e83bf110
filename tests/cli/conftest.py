"""The command line without a host behind it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import pytest

from pulp_runtime.cli import command
from pulp_runtime.cli.serve import HostOptions


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., HostOptions]:
    """Return `parsed(*arguments)`: what the command line asks a host for."""
    asked: list[HostOptions] = []
    monkeypatch.setattr(command, "serve", asked.append)

    def parse(*arguments: str) -> HostOptions:
        with pytest.raises(SystemExit) as ended:
            command.run(list(arguments))
        assert ended.value.code == 0
        return asked.pop()

    return parse


@pytest.fixture
def plain_logger() -> Iterator[None]:
    """Put the logger back as it was; `serve` configures it."""
    logger = logging.getLogger("pulp")
    before = logger.handlers[:], logger.level, logger.propagate
    yield
    logger.handlers[:], logger.level, logger.propagate = before
