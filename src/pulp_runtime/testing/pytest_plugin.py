"""Fixtures for tests of cells and capabilities; pytest finds them by itself.

Nothing of Pulp is imported before a test asks for a fixture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pulp_runtime.testing.cell import CellUnderTest
    from pulp_runtime.testing.host import FakeHost


@pytest.fixture
def pulp_cell() -> Iterator[Callable[..., CellUnderTest]]:
    """Return `load` of `pulp_runtime.testing`; what it loaded is closed, newest first, when the test is over."""
    from pulp_runtime.testing.cell import load

    with ExitStack() as cells:
        yield lambda source, **options: cells.enter_context(load(source, **options))


@pytest.fixture
def pulp_env() -> Iterator[FakeHost]:
    """Return a `FakeHost`: `pulp_env(config={...})` is a `SetupEnv`, `pulp_env.posted` what was posted through it."""
    from pulp_runtime.testing.host import FakeHost

    with FakeHost() as host:
        yield host
