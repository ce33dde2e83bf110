from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from pulp_runtime.errors import ExtensionError
from pulp_runtime.ext import Capability, CellRef, host_function, register
from pulp_runtime.ext import all as registered
from pulp_runtime.log import Log

CELL = CellRef("guest", "guest", Log("pulp"))


class Linker:
    """Remembers what is defined."""

    def __init__(self) -> None:
        self.defined: dict[str, tuple[int, bool]] = {}
        self.functions: dict[str, Callable[..., int]] = {}

    def define(self, name: str, words: int, function: Callable[..., int], *, blocking: bool = False) -> None:
        self.defined[name] = (words, blocking)
        self.functions[name] = function


class Greeter:
    @host_function
    def demo_greet(self, cell: CellRef, name: str) -> None: ...

    @host_function(blocking=True)
    def demo_wait(self, cell: CellRef) -> bytes: ...

    def teardown_cell(self, cell_id: str) -> None: ...


def nothing(_linker: Any, _cell: Any) -> None:
    pass


@pytest.fixture
def linker() -> Linker:
    return Linker()


def test_an_object_becomes_a_capability_with_its_functions_and_hooks(linker: Linker) -> None:
    capability = Capability.of("demo.greet", Greeter())

    capability.register(linker, CELL)

    assert linker.defined == {"demo_greet": (2, False), "demo_wait": (2, True)}
    assert capability.teardown_cell is not None
    assert (capability.setup, capability.poll, capability.finalize) == (None, None, None)
    assert capability.provider == __name__


def test_the_stub_of_every_function_answers_99(linker: Linker) -> None:
    Capability.of("demo.greet", Greeter()).bind_stub(linker, CELL)

    assert linker.defined == {"demo_greet": (2, False), "demo_wait": (2, False)}
    assert [function(None, *range(12)) for function in linker.functions.values()] == [99, 99]


def test_a_stub_of_ones_own_is_used_instead(linker: Linker) -> None:
    def stub(linker: Linker, _cell: CellRef) -> None:
        linker.define("demo_greet", 2, lambda *_: 4)

    capability = dataclasses.replace(Capability.of("demo.greet", Greeter()), stub=stub)
    capability.bind_stub(linker, CELL)

    assert list(linker.defined) == ["demo_greet"]
    assert linker.functions["demo_greet"](None) == 4


def test_a_capability_made_by_hand_needs_a_name_and_register_only(linker: Linker) -> None:
    capability = Capability(name="demo.hand", register=lambda linker, _cell: linker.define("hand", 0, lambda _: 0))

    capability.register(linker, CELL)
    capability.bind_stub(Linker(), CELL)

    assert linker.defined == {"hand": (0, False)}


@pytest.mark.parametrize("hook", ["setup", "teardown", "poll", "finalize", "teardown_cell", "teardown_scope"])
def test_each_hook_is_found_by_its_name(hook: str) -> None:
    owner = type("Owner", (), {hook: lambda self, *_: None})()

    capability = Capability.of("demo.hooks", owner)

    assert [
        one
        for one in ("setup", "teardown", "poll", "finalize", "teardown_cell", "teardown_scope")
        if getattr(capability, one) is not None
    ] == [hook]


def test_an_object_with_neither_function_nor_hook_is_refused() -> None:
    with pytest.raises(ExtensionError, match=r"demo.empty: object has no @host_function and no hook"):
        Capability.of("demo.empty", object())


@pytest.mark.parametrize("name", ["demo", "demo.greet", "storage.kv2", "demo.greet-loud", "a_b.c", "7"])
def test_a_name_is_words_joined_by_dots(name: str) -> None:
    assert Capability(name=name, register=nothing).name == name


@pytest.mark.parametrize(
    "name",
    ["", "Demo", "demo.", ".demo", "demo..greet", "demo greet", "demo/greet", "démo", "storage.fѕ", "demo\n", "a--b"],
)
def test_threat_42_a_name_that_is_something_else_is_refused(name: str) -> None:
    with pytest.raises(ExtensionError, match=r"use lower-case words joined by dots, such as demo.greet"):
        Capability(name=name, register=nothing)


@pytest.fixture
def nothing_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pulp_runtime.ext.registered._registered", [])


def test_what_is_registered_is_listed_oldest_first(nothing_registered: None) -> None:
    first, second = (Capability(name=name, register=nothing) for name in ("demo.one", "demo.two"))

    register(first)
    register(second)

    assert registered() == (first, second)


def test_two_of_one_name_may_be_registered_but_not_the_very_same_twice(nothing_registered: None) -> None:
    one = Capability(name="demo.one", register=nothing)
    register(one)
    register(Capability(name="demo.one", register=nothing))

    with pytest.raises(ExtensionError, match=r"demo.one is registered already"):
        register(one)
    assert len(registered()) == 2


def test_only_a_capability_can_be_registered(nothing_registered: None) -> None:
    with pytest.raises(ExtensionError, match="register takes a Capability, not str"):
        register("demo.one")  # type: ignore[arg-type]


def test_a_registry_starts_with_what_is_registered(nothing_registered: None) -> None:
    from pulp_runtime._kernel.registry import Registry

    register(Capability(name="demo.one", register=nothing))

    assert [one.name for one in Registry().capabilities] == ["demo.one"]
    assert Registry(prefill=False).capabilities == ()


def test_what_is_registered_later_is_not_of_a_registry_that_is_there(nothing_registered: None) -> None:
    from pulp_runtime._kernel.registry import Registry

    before = Registry()
    register(Capability(name="demo.one", register=nothing))

    assert before.capabilities == ()
