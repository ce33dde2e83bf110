from __future__ import annotations

import sys
import types
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from pulp_runtime._kernel.discovery import GROUP, installed
from pulp_runtime.errors import ExtensionError
from pulp_runtime.ext import Capability

CODE = """
from pulp_runtime.ext import Capability

IMPORTED = True

def capability():
    return Capability(name="demo.greet", register=lambda linker, cell: None)

value = capability()
number = 7

def broken():
    raise ValueError("a bug")
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Install a package with one entry point."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def install(package: str, capability: str, value: str) -> None:
        module = value.partition(":")[0]
        (tmp_path / f"{module}.py").write_text(CODE)
        monkeypatch.delitem(sys.modules, module, raising=False)
        about = tmp_path / f"{package.replace('-', '_')}-1.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1\n")
        (about / "entry_points.txt").write_text(f"[{GROUP}]\n{capability} = {value}\n")

    return install


def test_offers_are_listed_without_importing_them(install: Callable[..., None]) -> None:
    install("pulp-demo", "demo.greet", "pulp_demo_a:capability")

    offers = installed()
    assert "demo.greet" in offers
    assert "pulp_demo_a" not in sys.modules

    assert isinstance(offers["demo.greet"](), Capability)


def test_an_entry_point_may_be_the_capability_itself(install: Callable[..., None]) -> None:
    install("pulp-demo", "demo.greet", "pulp_demo_b:value")

    assert installed()["demo.greet"]().name == "demo.greet"


def test_threat_43_a_built_in_name_cannot_be_taken(install: Callable[..., None], records) -> None:
    install("pulp-demo", "storage.fs", "pulp_demo_c:capability")

    assert "storage.fs" not in installed({"storage.fs"})
    assert records.fields("extension ignored") == [{"capability": "storage.fs", "reason": "the name is built in"}]


def test_two_packages_that_offer_one_name_are_both_named(install: Callable[..., None]) -> None:
    install("pulp-one", "demo.greet", "pulp_demo_d:capability")
    install("pulp-two", "demo.greet", "pulp_demo_e:capability")

    with pytest.raises(ExtensionError) as caught:
        installed()["demo.greet"]()
    assert "pulp_demo_d:capability of pulp-one and pulp_demo_e:capability of pulp-two" in str(caught.value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        pytest.param("pulp_demo_f:broken", "ValueError: a bug", id="that raises"),
        pytest.param("pulp_demo_g:missing", "AttributeError", id="that is not there"),
        pytest.param("pulp_demo_h:number", "TypeError", id="that is a number"),
    ],
)
def test_an_offer_that_cannot_be_had_is_named_with_its_package(
    install: Callable[..., None], value: str, message: str
) -> None:
    install("pulp-demo", "demo.greet", value)

    with pytest.raises(ExtensionError, match=f"demo.greet of pulp-demo cannot be imported: {message}"):
        installed()["demo.greet"]()


def test_an_offer_that_makes_something_else_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pulp_demo_i", types.SimpleNamespace(other=lambda: "not a capability"))
    point = EntryPoint("demo.greet", "pulp_demo_i:other", GROUP)
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: [point])

    with pytest.raises(ExtensionError, match=r"entry point demo.greet = pulp_demo_i:other is not a Capability"):
        installed()["demo.greet"]()
