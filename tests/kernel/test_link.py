from __future__ import annotations

from collections.abc import Callable

import pytest

from pulp_runtime._kernel.cell import Cell
from pulp_runtime._kernel.wall import guarded
from pulp_runtime.errors import LoadError
from pulp_runtime.ext import U32, Capability, CellRef, Errno, Guest, Linker, host_function

REST = """
  (memory (export "memory") 1)
  (func (export "pulp_alloc") (param i32) (result i32) (i32.const 8))
  (func (export "pulp_init") (param i32 i32) (result i32) (i32.const 0))
  (func (export "pulp_step") (param i32 i32) (result i32) (i32.const 0))
  (func (export "pulp_shutdown") (result i32) (i32.const 0)))
"""


class Http:
    """Two functions with the published names."""

    def __init__(self) -> None:
        self.registered: list[bytes] = []

    @host_function
    def http_register(self, cell: CellRef, route: bytes) -> None:
        self.registered.append(route)

    @host_function
    def http_respond(self, cell: CellRef, answer: bytes) -> None:
        pass


def refusal(load: Callable[..., Cell], guest: str, owner: object = None) -> str:
    with pytest.raises(LoadError) as caught:
        load(guest, owner)
    return str(caught.value).partition(".wasm: ")[2]


def test_threat_26_an_import_that_nobody_has_is_named_with_the_nearest_one(load: Callable[..., Cell]) -> None:
    assert refusal(load, "near_import", Http()) == (
        'instantiate wasm: "http_registre" is not exported in module "pulp"; did you mean http_register?'
    )


def test_an_import_that_resembles_nothing_says_what_to_do(load: Callable[..., Cell]) -> None:
    assert refusal(load, "unknown_import", Http()) == (
        'instantiate wasm: "nobody_has_this" is not exported in module "pulp"; install the extension that provides it'
    )


def test_a_cell_without_a_registry_has_no_host_functions(load: Callable[..., Cell]) -> None:
    assert '"nobody_has_this" is not exported in module "pulp"' in refusal(load, "unknown_import")


def test_an_import_from_another_module_is_named(load: Callable[..., Cell]) -> None:
    assert refusal(load, "env_import") == (
        "instantiate wasm: module[env] not instantiated: it imports env.foo, but cells may import only from "
        "pulp and wasi_snapshot_preview1"
    )


def test_an_import_with_a_parameter_too_many_is_shown_both_shapes(load: Callable[..., Cell]) -> None:
    assert refusal(load, "wrong_arity_import", Http()) == (
        "import pulp.http_register is (i32, i32, i32) -> i32; it must be (i32, i32) -> i32"
    )


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("(param i64 i32) (result i32)", id="a 64-bit parameter"),
        pytest.param("(param i32 i32) (result i64)", id="a 64-bit result"),
        pytest.param("(param i32 i32)", id="no result"),
        pytest.param("(param f32 f32) (result i32)", id="floats"),
    ],
)
def test_only_words_cross(load: Callable[..., Cell], kind: str) -> None:
    guest = f'(module (import "pulp" "http_register" (func {kind})) {REST}'

    assert refusal(load, guest, Http()).endswith("it must be (i32, i32) -> i32")


def test_an_import_that_is_no_function_is_refused(load: Callable[..., Cell]) -> None:
    guest = f'(module (import "pulp" "http_register" (global i32)) {REST}'

    assert refusal(load, guest, Http()) == "import pulp.http_register must be a function"


def test_a_memory_cannot_be_imported(load: Callable[..., Cell]) -> None:
    guest = f'(module (import "env" "memory" (memory 1)) {REST}'.replace('(memory (export "memory") 1)', "", 1)

    with pytest.raises(LoadError):
        load(guest)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        pytest.param("nope", "", id="that does not exist"),
        pytest.param("fd_write", "(param i32) (result i32)", id="with too few parameters, one of ours"),
        pytest.param("fd_read", "(param i32) (result i32)", id="with too few parameters, one of the engine's"),
    ],
)
def test_a_wasi_import_is_refused_as_one_that_cannot_be_loaded(load: Callable[..., Cell], name: str, kind: str) -> None:
    guest = f'(module (import "wasi_snapshot_preview1" "{name}" (func {kind})) {REST}'

    assert name in refusal(load, guest)


def test_a_function_may_be_had_with_two_numbers_of_words(load: Callable[..., Cell], poke: Callable[..., int]) -> None:
    def register(linker, cell) -> None:
        linker.define("sum", 2, lambda _guest, a, b: a + b)
        linker.define("sum", 3, lambda _guest, a, b, c: a + b + c)

    both = Capability(name="test.sum", register=register)
    two = f"""(module (import "pulp" "sum" (func $sum (param i32 i32) (result i32)))
      (func (export "go") (result i32) (call $sum (i32.const 1) (i32.const 2))) {REST}"""
    three = f"""(module (import "pulp" "sum" (func $sum (param i32 i32 i32) (result i32)))
      (func (export "go") (result i32) (call $sum (i32.const 1) (i32.const 2) (i32.const 3))) {REST}"""

    assert poke(load(two, both), "go") == 3
    assert poke(load(three, both, name="other"), "go") == 6
    wrong = f'(module (import "pulp" "sum" (func (param i32) (result i32))) {REST}'
    assert refusal(load, wrong, both).endswith("it must be (i32, i32) -> i32 or (i32, i32, i32) -> i32")


@pytest.mark.parametrize("words", range(13))
def test_every_number_of_words_from_none_to_twelve_arrives_in_order(
    load: Callable[..., Cell], poke: Callable[..., int], words: int
) -> None:
    got: list[tuple[int, ...]] = []

    def remember(_guest: object, *given: int) -> int:
        got.append(given)
        return 0xFFFF_FFFF

    capability = Capability(name="test.words", register=lambda linker, _cell: linker.define("take", words, remember))
    values = [0xFFFF_FFFF - at for at in range(words)]
    kind = f"(param{' i32' * words})" if words else ""
    guest = f"""(module (import "pulp" "take" (func $take {kind} (result i32)))
      (func (export "go") (result i32) (call $take {" ".join(f"(i32.const {value})" for value in values)})) {REST}"""

    assert poke(load(guest, capability), "go") == 0xFFFF_FFFF
    assert got == [tuple(values)]


def test_threat_43_a_function_of_a_capability_that_was_not_granted_answers_99_also_when_it_is_bound(
    load: Callable[..., Cell], poke: Callable[..., int]
) -> None:
    class Answer:
        @host_function
        def answer(self, cell: CellRef) -> U32:
            return 42

    guest = f"""(module (import "pulp" "answer" (func $answer (result i32)))
      (func (export "go") (result i32) (call $answer)) {REST}"""
    cell = load(guest, Answer())
    granted = cell._instance.granted

    assert granted == {"test.host"}
    assert poke(cell, "go") == 42
    ungranted = load(guest, Answer(), name="other")
    instance = ungranted._instance
    binding = next(iter(_bindings(ungranted, Answer()).get("answer").values()))
    instance.granted = frozenset()
    assert guarded(binding, instance)() == Errno.UNDECLARED


# What a module wants -----------------------------------------------------------------------------------------------


def test_a_capability_is_told_what_the_module_imports_and_with_how_many_words(load: Callable[..., Cell]) -> None:
    seen: list[dict[str, int]] = []

    def register(linker: Linker, _cell: CellRef) -> None:
        seen.append(dict(linker.wanted))
        for name, words in (("http_register", 2), ("http_respond", 0)):
            linker.define(name, words, lambda _guest, *_words: 0)

    imports = """
      (import "pulp" "http_register" (func (param i32 i32) (result i32)))
      (import "pulp" "http_respond" (func (result i32)))
      (import "wasi_snapshot_preview1" "sched_yield" (func (result i32)))"""
    load(f"(module {imports} {REST}", Capability(name="test.host", register=register))

    assert seen == [{"http_register": 2, "http_respond": 0}]


def test_a_capability_can_choose_a_version_of_all_its_functions_by_the_words_of_one(
    load: Callable[..., Cell], poke: Callable[..., int]
) -> None:
    def register(linker: Linker, _cell: CellRef) -> None:
        answer = 4 if linker.wanted.get("fs_write") == 4 else 6
        for words in (4, 6):
            linker.define("fs_write", words, lambda _guest, *_words: 0)

        def fs_delete(_guest: Guest, _first: int, _second: int) -> int:
            return answer

        linker.define("fs_delete", 2, fs_delete)

    capability = Capability(name="test.host", register=register)
    for words, answer in ((4, 4), (6, 6), (None, 6)):
        write = f'(import "pulp" "fs_write" (func (param {"i32 " * (words or 0)}) (result i32)))' if words else ""
        guest = f"""(module {write}
          (import "pulp" "fs_delete" (func $delete (param i32 i32) (result i32)))
          (func (export "go") (result i32) (call $delete (i32.const 0) (i32.const 0))) {REST}"""

        assert poke(load(guest, capability, name=f"cell{words}"), "go") == answer


def _bindings(cell: Cell, owner: object):
    from pulp_runtime._kernel.registry import Bindings

    bindings = Bindings()
    bindings.collect(Capability.of("test.host", owner), cell.ref, declared=True)
    return bindings
