"""A part of the Autobahn|Testsuite that fits into a minute; `make autobahn` runs all of it."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "autobahn.py"
PAGE = Path(__file__).parents[2] / "docs" / "reference" / "autobahn.md"

#: Everything but the long ones: big messages in small parts, and a thousand compressed messages of each size.
CASES = (
    "1.*",
    "2.*",
    "3.*",
    "4.*",
    "5.*",
    "6.*",
    "7.*",
    "9.1.*",
    "9.2.*",
    "9.7.*",
    "10.*",
    "12.1.1",
    "12.2.2",
    "13.1.1",
)


@pytest.fixture(scope="module")
def autobahn() -> ModuleType:
    spec = importlib.util.spec_from_file_location("autobahn_script", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["autobahn_script"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.conformance
@pytest.mark.slow
@pytest.mark.timeout(300)  # the first time the suite is installed
def test_threat_40_no_case_of_the_suite_fails(autobahn: ModuleType) -> None:
    try:
        python2 = autobahn.find_python2()
        autobahn.install(python2)
    except autobahn.SuiteMissing as missing:
        pytest.skip(str(missing))
    results = autobahn.run(CASES, python2=python2, seconds=200)

    assert len(results) > 260
    assert autobahn.failures(results) == []


def test_the_page_says_that_every_case_was_run_and_none_failed() -> None:
    page = PAGE.read_text()

    assert "| **all** | 517 |" in page
    assert "FAILED" not in page
