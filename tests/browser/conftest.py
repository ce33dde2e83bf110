"""One browser for a whole module of tests; each test opens tabs of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.browser.devtools import Browser, find_chromium


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if find_chromium() is None:
        pytest.skip("chromium is not installed: apt-get install chromium")
    with Browser() as running:
        yield running
