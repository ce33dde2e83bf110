"""What every suite may want: guests as bytes, and what was logged."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

GUESTS = Path(__file__).parent / "guests"


@functools.cache
def _translate(text: str) -> bytes:
    import wasmtime

    return bytes(wasmtime.wat2wasm(text))


@pytest.fixture(scope="session")
def wasm() -> Callable[[str], bytes]:
    """Return a guest's module, by its name in `tests/guests` or from WebAssembly text."""

    def wasm(guest: str) -> bytes:
        return _translate(guest if "(module" in guest else (GUESTS / f"{guest}.wat").read_text())

    return wasm


class Records(logging.Handler):
    """Everything the logger `pulp` was told, oldest first."""

    def __init__(self) -> None:
        super().__init__()
        self.all: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.all.append(record)

    @property
    def messages(self) -> list[str]:
        return [record.getMessage() for record in self.all]

    def fields(self, message: str) -> list[dict[str, object]]:
        """Return the fields of each record with this message."""
        return [record.fields for record in self.all if record.getMessage() == message]


@pytest.fixture
def records() -> Iterator[Records]:
    logger, handler = logging.getLogger("pulp"), Records()
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(before)
