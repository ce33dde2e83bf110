from __future__ import annotations

from collections.abc import Callable

import pytest

from pulp_runtime._kernel.cell import Cell
from pulp_runtime.errors import LoadError

BODIES = {
    "pulp_init": '(func (export "pulp_init") (param i32 i32) (result i32) (i32.const 0))',
    "pulp_step": '(func (export "pulp_step") (param i32 i32) (result i32) (i32.const 0))',
    "pulp_shutdown": '(func (export "pulp_shutdown") (result i32) (i32.const 0))',
    "pulp_alloc": '(func (export "pulp_alloc") (param i32) (result i32) (i32.const 8))',
}


def module(*more: str, without: tuple[str, ...] = (), memory: str = '(memory (export "memory") 1)') -> str:
    kept = [body for name, body in BODIES.items() if name not in without]
    return f"(module {memory} {' '.join(kept)} {' '.join(more)})"


def refusal(load: Callable[..., Cell], guest: str, **fields: object) -> str:
    with pytest.raises(LoadError) as caught:
        load(guest, **fields)
    return str(caught.value).partition(".wasm: ")[2]


@pytest.mark.parametrize("missing", BODIES)
def test_a_missing_export_is_named(load: Callable[..., Cell], missing: str) -> None:
    assert refusal(load, module(without=(missing,))) == f"missing required exports: [{missing}]"


def test_all_missing_exports_are_named_together(load: Callable[..., Cell]) -> None:
    found = refusal(load, '(module (memory (export "memory") 1))')

    assert found == "missing required exports: [pulp_init pulp_step pulp_shutdown pulp_alloc]"


@pytest.mark.parametrize(
    ("guest", "message"),
    [
        pytest.param(
            "wrong_arity_step",
            "export pulp_step is (i32) -> i32; it must be (i32, i32) -> i32",
            id="a parameter too few",
        ),
        pytest.param(
            "wrong_arity_free",
            "export pulp_free is (i32) -> (); it must be (i32, i32) -> ()",
            id="an optional export with a parameter too few",
        ),
        pytest.param(
            "no_result_init",
            "export pulp_init is (i32, i32) -> (); it must be (i32, i32) -> i32",
            id="no result",
        ),
        pytest.param(
            "i64_result_step",
            "export pulp_step is (i32, i32) -> i64; it must be (i32, i32) -> i32",
            id="a result that would be cut in half",
        ),
        pytest.param(
            "step_is_a_global",
            "export pulp_step is not a function; it must be (i32, i32) -> i32",
            id="a global",
        ),
    ],
)
def test_an_export_of_the_wrong_shape_is_named_with_the_right_one(
    load: Callable[..., Cell], guest: str, message: str
) -> None:
    assert refusal(load, guest) == message


@pytest.mark.parametrize(
    ("name", "wrong", "right"),
    [
        ("pulp_on_call", "(param i32) (result i32)", "(i32, i32, i32, i32, i32, i32) -> i32"),
        ("pulp_post_return", "(param i32)", "(i32, i32) -> ()"),
        ("pulp_init_error_ptr", "(result i64)", "() -> i32"),
        ("pulp_init_error_len", "", "() -> i32"),
        ("pulp_on_call_error_ptr", "(param i32) (result i32)", "() -> i32"),
        ("pulp_on_call_error_len", "", "() -> i32"),
        ("probe_last_call", "(result i32)", "() -> i64"),
        ("probe_config_marker", "(result f64)", "() -> i64"),
        ("_initialize", "(param i32)", "() -> ()"),
        ("_start", "(result i32)", "() -> ()"),
    ],
)
def test_an_optional_export_must_have_its_shape_too(
    load: Callable[..., Cell], name: str, wrong: str, right: str
) -> None:
    found = refusal(load, module(f'(func (export "{name}") {wrong} unreachable)'))

    assert found.startswith(f"export {name} is ")
    assert found.endswith(f"it must be {right}")


@pytest.mark.parametrize("guest", ["no_memory", "unexported_memory"])
def test_a_module_must_export_its_memory(load: Callable[..., Cell], guest: str) -> None:
    assert refusal(load, guest).startswith("exports no memory; build it so that its linear memory is exported")


def test_the_memory_may_have_any_name(start: Callable[..., Cell]) -> None:
    cell = start("odd_memory_name", config=b"hello")

    cell.idle(0)


def test_more_memory_than_the_limit_is_refused_with_the_setting_to_raise(load: Callable[..., Cell]) -> None:
    assert refusal(load, "big_min_memory") == (
        "compile wasm: needs 5000 pages of 65536 bytes, the limit is 4096; raise max_memory_pages to at least 5000"
    )


def test_exactly_as_much_memory_as_the_limit_is_accepted(load: Callable[..., Cell]) -> None:
    load("big_min_memory", max_memory_pages=5000)


def test_a_larger_maximum_than_the_limit_is_accepted(load: Callable[..., Cell]) -> None:
    load(module(memory='(memory (export "memory") 1 65536)'), max_memory_pages=2)


@pytest.mark.parametrize(
    "memory",
    [
        pytest.param('(memory (export "memory") 1) (memory (export "second") 1)', id="two memories"),
        pytest.param('(memory (export "memory") i64 1)', id="a memory with 64-bit addresses"),
        pytest.param('(memory (export "memory") 1 1 shared)', id="a shared memory, on which a guest could wait"),
        pytest.param('(memory (export "memory") 1) (table 100001 funcref)', id="a table beyond its limit"),
    ],
)
def test_threat_25_and_28_what_would_escape_a_limit_is_refused(load: Callable[..., Cell], memory: str) -> None:
    with pytest.raises(LoadError):
        load(module(memory=memory))


def test_threat_28_a_guest_cannot_wait_on_an_atomic(load: Callable[..., Cell]) -> None:
    wait = "(func (drop (memory.atomic.wait32 (i32.const 0) (i32.const 0) (i64.const -1))))"

    assert "threads support is not enabled" in refusal_or_kind(load, module(wait))


def refusal_or_kind(load: Callable[..., Cell], guest: str) -> str:
    with pytest.raises(LoadError) as caught:
        load(guest)
    return str(caught.value)
