from __future__ import annotations

import pytest

from pulp_runtime._kernel.registry import Registry
from pulp_runtime.errors import ExtensionError, HookFailed, LoadError
from pulp_runtime.ext import Capability, CellRef, host_function
from pulp_runtime.log import Log

CELL = CellRef("guest", "guest", Log("pulp", cell="guest"))


class Demo:
    @host_function
    def demo_greet(self, cell: CellRef, name: str) -> None:
        """Greet."""


def demo(name: str = "demo.greet", provider: str = "demo") -> Capability:
    return Capability.of(name, Demo(), provider=provider)


@pytest.fixture
def registry() -> Registry:
    return Registry(prefill=False)


def test_a_declared_capability_is_bound(registry: Registry) -> None:
    registry.gated(demo())

    (binding,) = registry.bind(CELL, ["demo.greet"]).get("demo_greet").values()
    assert (binding.capability, binding.words, binding.stub) == ("demo.greet", 2, False)


def test_an_undeclared_capability_is_a_stub_that_answers_99(registry: Registry) -> None:
    registry.gated(demo())

    (binding,) = registry.bind(CELL, []).get("demo_greet").values()
    assert binding.stub
    assert binding.function(None, 1, 2) == 99


def test_what_is_always_bound_needs_no_declaration(registry: Registry) -> None:
    registry.always(demo())

    (binding,) = registry.bind(CELL, []).get("demo_greet").values()
    assert not binding.stub
    assert registry.granted([]) == {"demo.greet"}


def test_a_cell_is_granted_what_it_declares_and_what_is_always_bound(registry: Registry) -> None:
    registry.always(Capability(name="core.log", register=lambda _linker, _cell: None))
    registry.gated(demo())

    assert registry.granted(["demo.greet"]) == {"core.log", "demo.greet"}
    assert registry.granted([]) == {"core.log"}


def test_threat_42_an_unknown_capability_is_named_with_the_nearest(registry: Registry) -> None:
    registry.gated(demo())

    with pytest.raises(LoadError) as caught:
        registry.bind(CELL, ["demo.greets"])
    assert str(caught.value) == 'cell "guest" declares unknown capability "demo.greets"; did you mean demo.greet?'


def test_a_capability_that_resembles_nothing_says_what_to_do(registry: Registry) -> None:
    with pytest.raises(LoadError, match="install the package that provides it, or remove it"):
        registry.bind(CELL, ["storage.quantum"])


@pytest.mark.parametrize("first", ["always", "gated"])
@pytest.mark.parametrize("second", ["always", "gated"])
def test_threat_43_two_providers_of_one_name_are_an_error_that_names_both(
    registry: Registry, first: str, second: str
) -> None:
    getattr(registry, first)(demo(provider="one"))

    with pytest.raises(ExtensionError, match=r"demo.greet is offered by one and by two; keep one of them"):
        getattr(registry, second)(demo(provider="two"))


@pytest.mark.parametrize("declared", ["demo.greet", "demo.other"])
def test_a_stub_gives_way_to_the_capability_that_the_cell_declares(registry: Registry, declared: str) -> None:
    registry.gated(demo("demo.greet"))
    registry.gated(demo("demo.other"))

    (binding,) = registry.bind(CELL, [declared]).get("demo_greet").values()
    assert (binding.capability, binding.stub) == (declared, False)


def test_two_declared_capabilities_cannot_share_a_name(registry: Registry) -> None:
    registry.gated(demo("demo.greet"))
    registry.gated(demo("demo.other"))

    with pytest.raises(HookFailed, match=r"demo_greet is defined by demo.greet and again by demo.other"):
        registry.bind(CELL, ["demo.greet", "demo.other"])


@pytest.mark.parametrize("words", [-1, 13])
def test_a_function_has_at_most_twelve_words(registry: Registry, words: int) -> None:
    registry.gated(
        Capability(name="demo.wide", register=lambda linker, _cell: linker.define("wide", words, lambda *_: 0))
    )

    with pytest.raises(HookFailed, match=r"wide has -?\d+ words; 0..12 are possible"):
        registry.bind(CELL, ["demo.wide"])


def test_an_extension_that_cannot_bind_is_named_with_its_hook_and_the_cell(registry: Registry) -> None:
    registry.gated(Capability(name="demo.broken", register=lambda _linker, _cell: 1 / 0))

    with pytest.raises(HookFailed) as caught:
        registry.bind(CELL, ["demo.broken"])
    assert str(caught.value) == "demo.broken: register for cell guest failed: ZeroDivisionError: division by zero"
    assert (caught.value.extension, caught.value.hook, caught.value.cell) == ("demo.broken", "register", "guest")


def test_no_offer_is_loaded_that_nobody_asks_for() -> None:
    loaded: list[str] = []

    def offer(name: str):
        return lambda: (loaded.append(name), demo(name))[1]

    registry = Registry(prefill=False, discover=lambda: {"demo.greet": offer("demo.greet"), "other": offer("other")})

    registry.bind(CELL, ["demo.greet"])
    assert loaded == ["demo.greet"]


def test_an_import_that_nobody_here_has_is_looked_for_in_installed_packages() -> None:
    registry = Registry(prefill=False, discover=lambda: {"demo.greet": demo})

    (binding,) = registry.bind(CELL, []).get("demo_greet").values()
    assert binding.stub


def test_a_broken_package_that_the_cell_did_not_declare_is_logged_and_left_out(records) -> None:
    def broken() -> Capability:
        raise ExtensionError("capability a.broken of a-broken cannot be imported")

    def unbindable() -> Capability:
        return Capability(name="b.unbindable", register=lambda *_: None, stub=lambda *_: 1 / 0)

    offers = {"a.broken": broken, "b.unbindable": unbindable, "demo.greet": demo}
    registry = Registry(prefill=False, discover=lambda: offers)

    assert registry.bind(CELL, []).get("demo_greet")
    ignored = [fields["capability"] for fields in records.fields("extension ignored")]
    assert ignored == ["a.broken", "b.unbindable"]


def test_a_broken_package_that_the_cell_declared_fails_its_load() -> None:
    def broken() -> Capability:
        raise ExtensionError("capability a.broken of a-broken cannot be imported")

    with pytest.raises(ExtensionError, match="cannot be imported"):
        Registry(prefill=False, discover=lambda: {"a.broken": broken}).bind(CELL, ["a.broken"])


def test_an_offer_under_another_name_than_its_own_is_refused() -> None:
    registry = Registry(prefill=False, discover=lambda: {"demo.other": demo})

    with pytest.raises(ExtensionError, match=r"the entry point demo.other offers a capability called demo.greet"):
        registry.find("demo.other")


def test_a_name_that_nobody_offers_is_not_found(registry: Registry) -> None:
    assert registry.find("nobody") is None
