"""Modules that are an attack before a line of them runs, and guests that stall or grow."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from tests.security import modules

from pulp_runtime._kernel.cell import Cell
from pulp_runtime._kernel.contract import MAX_EXPORTS, MAX_IMPORTS
from pulp_runtime._kernel.engine import Engine
from pulp_runtime.errors import CellError, CellTimeout, CellTrap, Errno, LoadError
from pulp_runtime.ext import Capability, StepEvent, host_function

SECONDS = 8.0
EVENT = StepEvent("test", b"\xc0")


class Log2:
    """An import to be had a thousand times, and one that asks for nothing."""

    @host_function
    def log_write_2(self, text: bytes) -> None:
        """Do nothing."""

    @host_function
    def give(self) -> bytes:
        """Give a little."""
        return b"here"


HOST = Capability.of("test.host", Log2())


# 25: many of everything -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "many",
    [
        pytest.param({"exports": MAX_EXPORTS - 5}, id="as many exports as there may be"),
        pytest.param({"imports": 1000}, id="a thousand imports"),
        pytest.param({"globals_": 100_000}, id="a hundred thousand globals"),
        pytest.param({"functions": 20_000}, id="twenty thousand functions"),
        pytest.param({"segments": 50_000}, id="fifty thousand data segments"),
        pytest.param({"data_bytes": 32 << 20, "pages": 512}, id="a data segment of 32 MiB"),
    ],
)
def test_threat_25_a_module_with_many_parts_loads_in_bounded_time(load: Callable[..., Cell], many: Any) -> None:
    began = time.perf_counter()
    cell = load(modules.cell(**many), HOST)
    cell.init()

    assert cell.deliver(0, EVENT) == 0
    assert time.perf_counter() - began < SECONDS


@pytest.mark.parametrize(
    ("many", "words"),
    [
        pytest.param({"exports": 100_000}, "has 100005 exports; the most is 5000", id="exports"),
        pytest.param({"imports": MAX_IMPORTS + 1}, "has 5001 imports; the most is 5000", id="imports"),
        pytest.param({"data_bytes": 1 << 20, "pages": 1}, "out of bounds memory access", id="data beyond memory"),
        pytest.param({"pages": 4097}, "the limit is 4096", id="memory"),
    ],
)
def test_threat_25_a_module_with_too_many_parts_is_refused_at_once(
    load: Callable[..., Cell], many: Any, words: str
) -> None:
    """A hundred thousand exports fit into 900 KB, and took the engine's wrapper three minutes to list."""
    began = time.perf_counter()
    with pytest.raises(CellError, match=words):
        load(modules.cell(**many), HOST)

    assert time.perf_counter() - began < SECONDS


def test_threat_25_memory_that_is_grown_and_touched_in_every_step_ends_at_the_ceiling(
    load: Callable[..., Cell],
) -> None:
    cell = load(
        guest(
            step="(drop (memory.grow (i32.const 4)))"
            "(memory.fill (i32.const 4096) (i32.const 170)"
            " (i32.sub (i32.mul (memory.size) (i32.const 65536)) (i32.const 4096)))"
            "(memory.size)"
        ),
        max_memory_pages=16,
    )
    cell.init()

    assert [cell.deliver(at, EVENT) for at in range(8)][-3:] == [13, 13, 13]
    assert not cell.spent


# 26: slow to compile ----------------------------------------------------------------------------------------------


def test_threat_26_a_maze_of_branches_is_a_module_and_its_size_is_bounded(engine: Engine) -> None:
    """The generator of the bomb whose compiler the tests of the module cache stop: it is valid, and small."""
    import wasmtime

    bomb = modules.cell(body=modules.branch_maze(blocks=60, targets=200))

    wasmtime.Module.validate(engine.wasm, bomb)
    assert len(bomb) < 20_000


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param('(import "pulp" "fs_read" (func (param i32 i32) (result i32)))', "fs_read", id="of nobody"),
        pytest.param('(import "pulp" "log_write_2" (global i32))', "log_write_2", id="of another kind"),
        pytest.param('(import "env" "memory" (memory 1))', "env", id="of another module"),
    ],
)
def test_threat_26_an_undeclared_import_is_named(load: Callable[..., Cell], text: str, words: str) -> None:
    with pytest.raises(LoadError, match=words):
        load(guest(imports=text), HOST)


# 28: threads ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        pytest.param("(drop (memory.atomic.wait64 (i32.const 0) (i64.const 0) (i64.const -1)))", id="wait64"),
        pytest.param("(drop (memory.atomic.notify (i32.const 0) (i32.const 1)))", id="notify"),
        pytest.param("(drop (i32.atomic.rmw.add (i32.const 0) (i32.const 1)))", id="add"),
        pytest.param("(atomic.fence)", id="a fence"),
    ],
)
def test_threat_28_no_atomic_instruction_is_accepted(load: Callable[..., Cell], body: str) -> None:
    with pytest.raises(LoadError, match="threads support is not enabled"):
        load(guest(step=f"{body} (i32.const 0)"))


# 21, 23, 24: what a guest does while it is called -----------------------------------------------------------------


def guest(*, step: str = "(i32.const 0)", imports: str = "", more: str = "") -> str:
    """Return a cell whose step is this."""
    return f"""(module
      {imports}
      (memory (export "memory") 1)
      (table $table 1000 100000 funcref)
      (global $heap (mut i32) (i32.const 1024))
      (func (export "pulp_alloc") (param i32) (result i32) (i32.const 1024))
      (func (export "pulp_init") (param i32 i32) (result i32) (i32.const 0))
      (func (export "pulp_step") (param i32 i32) (result i32) {step})
      (func (export "pulp_shutdown") (result i32) (i32.const 0))
      {more})"""


BULK = {
    "memory.fill": "(memory.fill (i32.const 0) (i32.const 1) (i32.const 65536))",
    "memory.copy": "(memory.copy (i32.const 0) (i32.const 1) (i32.const 65535))",
    "table.fill": "(table.fill $table (i32.const 0) (ref.null func) (i32.const 1000))",
    "table.copy": "(table.copy (i32.const 0) (i32.const 1) (i32.const 999))",
    "memory.grow": "(drop (memory.grow (i32.const 65536)))",
    "table.grow": "(drop (table.grow $table (ref.null func) (i32.const 65536)))",
}


@pytest.mark.parametrize("bulk", BULK)
def test_threat_23_bulk_instructions_in_a_loop_end_at_the_deadline(load: Callable[..., Cell], bulk: str) -> None:
    cell = load(guest(step=f"(loop $again {BULK[bulk]} (br $again)) (unreachable)"), call_timeout_ms=100)
    cell.init()

    began = time.perf_counter()
    with pytest.raises(CellTimeout):
        cell.deliver(0, EVENT)
    assert time.perf_counter() - began < SECONDS


def test_threat_24_recursion_through_a_table_is_a_trap(load: Callable[..., Cell]) -> None:
    deep = guest(
        step="(call_indirect (type $again) (i32.const 0))",
        more="(type $again (func (result i32))) (elem (i32.const 0) $down)"
        " (func $down (result i32) (i32.add (i32.const 1) (call_indirect (type $again) (i32.const 0))))",
    )
    cell = load(deep)
    cell.init()

    with pytest.raises(CellTrap, match="stack"):
        cell.deliver(0, EVENT)


def test_threat_24_recursion_between_the_allocator_and_a_host_function_is_refused_with_a_code(
    load: Callable[..., Cell],
) -> None:
    """Its allocator asks for something that has to be allocated."""
    cell = load(
        """(module
          (import "pulp" "give" (func $give (param i32 i32) (result i32)))
          (memory (export "memory") 1)
          (global $deepest (export "deepest") (mut i32) (i32.const 0))
          (func (export "pulp_alloc") (param i32) (result i32)
            (global.set $deepest (i32.add (global.get $deepest) (i32.const 1)))
            (i32.store (i32.const 8) (call $give (i32.const 16) (i32.const 20)))
            (i32.const 1024))
          (func (export "pulp_init") (param i32 i32) (result i32) (i32.const 0))
          (func (export "pulp_step") (param i32 i32) (result i32) (call $give (i32.const 16) (i32.const 20)))
          (func (export "pulp_shutdown") (result i32) (i32.const 0)))""",
        HOST,
    )
    cell.init()

    assert cell.deliver(0, EVENT) in (0, Errno.ALLOC)
    assert not cell.spent


def test_threat_21_a_result_for_a_start_section_is_a_code_and_no_bug(load: Callable[..., Cell], records: Any) -> None:
    """There is no allocator yet; nor is there memory in which its answer could be put."""
    cell = load(
        guest(
            imports='(import "pulp" "give" (func $give (param i32 i32) (result i32)))',
            step="(global.get $code)",
            more="(global $code (mut i32) (i32.const -1))"
            " (func $early (global.set $code (call $give (i32.const 16) (i32.const 20)))) (start $early)",
        ),
        HOST,
    )
    cell.init()

    assert cell.deliver(0, EVENT) in (Errno.ALLOC, Errno.WRITE)
    assert "host function failed" not in records.messages
