"""The state of an instance goes into another one, bit for bit, or is refused with a sentence."""

from __future__ import annotations

import gc
import struct
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from pulp_runtime._kernel.cell import Cell
from pulp_runtime._kernel.engine import Engine
from pulp_runtime._kernel.snapshots.saved import Saved, SnapshotRefused, TableState, pack, unpack
from pulp_runtime._kernel.snapshots.sections import PREFIX
from pulp_runtime.errors import CellRefused, CellTrap, LoadError
from pulp_runtime.ext import U32, StepEvent, host_function
from pulp_runtime.manifest.cell import CellSpec

REST = """
  (func (export "pulp_alloc") (param i32) (result i32) (i32.const 1024))
  (func (export "pulp_init") (param i32 i32) (result i32) (global.set $inits (i32.const 1)) (i32.const 0))
  (func (export "pulp_shutdown") (result i32) (i32.const 0))
  (global $inits (mut i32) (i32.const 0))
  (func (export "inits") (result i32) (global.get $inits))
"""
STATE = f"""(module
  (memory (export "memory") 2 8)
  (data (i32.const 65536) "begins with this")
  (global $a (mut i32) (i32.const 1)) (global $b (mut i64) (i64.const 2))
  (global $c (mut f32) (f32.const 3)) (global $d (mut f64) (f64.const 4)) (global $e (mut v128) (v128.const i64x2 5 6))
  (func (export "pulp_step") (param i32 i32) (result i32)
    (global.set $a (i32.const -2))
    (global.set $b (i64.const 0x8000000000000001))
    (global.set $c (f32.reinterpret_i32 (i32.const 0x7fa00001)))  ;; a signalling NaN with a payload
    (global.set $d (f64.reinterpret_i64 (i64.const 0xfff4000000000001)))
    (global.set $e (v128.const i64x2 0x0123456789abcdef 0xfedcba9876543210))
    (drop (memory.grow (i32.const 3)))
    (memory.fill (i32.const 65536) (i32.const 0) (i32.const 65536))
    (i32.store (i32.const 300000) (i32.const 77))
    (i32.const 0))
  (func (export "a") (result i32) (global.get $a))
  {REST})"""
TABLE = f"""(module
  (memory (export "memory") 1)
  (type $number (func (result i32)))
  (table $t 4 20 funcref) (table $u 1 funcref)
  (elem (table $t) (i32.const 0) func $one $two) (elem (table $u) (i32.const 0) func $three)
  (elem declare func $four)
  (global $chosen (mut funcref) (ref.null func))
  (func $one (result i32) (i32.const 1)) (func $two (result i32) (i32.const 2)) (func $three (result i32) (i32.const 3))
  (func $four (result i32) (i32.const 4))
  (func (export "ask") (param i32) (result i32) (call_indirect $t (type $number) (local.get 0)))
  (func (export "size") (result i32) (table.size $t))
  (func (export "pulp_step") (param $at i32) (param i32) (result i32)
    %s
    (i32.const 0))
  {REST})"""


@pytest.fixture
def go_on(engine: Engine) -> Callable[..., Cell]:
    """Return `go_on(cell, saved)`: another instance, with the state of the first one as a file would have it."""

    def go_on(cell: Cell, saved: Saved | None = None, **more: Any) -> Cell:
        data = pack(saved or cell.capture())
        return Cell.load(cell.spec, engine=engine, saved=unpack(data, cell.spec.max_memory_pages), **more)

    return go_on


def globals_of(cell: Cell) -> list[Any]:
    return cell.capture().header.globals


def test_memory_and_every_kind_of_number_are_as_they_were_and_nothing_has_been_started(
    start: Callable[..., Cell], go_on: Callable[..., Cell], poke: Callable[..., int], event: StepEvent
) -> None:
    cell = start(STATE, snapshotable=True)
    cell.deliver(0, event)
    before = cell.capture()
    again = go_on(cell)

    memory, copy = cell._instance.memory, again._instance.memory
    assert copy.size == memory.size == 5 * 65_536
    assert copy.view == memory.view
    assert copy.read(65_536, 16) == bytes(16), "what the module begins with was overwritten with zeroes"
    assert globals_of(again) == before.header.globals
    assert before.header.globals[:5] == [
        struct.pack("<Bi", 0, -2),
        struct.pack("<BQ", 1, 0x8000_0000_0000_0001),
        struct.pack("<BI", 2, 0x7FA0_0001),
        struct.pack("<BQ", 3, 0xFFF4_0000_0000_0001),
        struct.pack("<BQQ", 4, 0x0123456789ABCDEF, 0xFEDCBA9876543210),
    ]
    assert before.header.pages == [(0, 1), (4, 1)], "pages of zeroes are left out"
    assert poke(again, "inits") == 1, "it was set by the first instance, and init has not run again to say otherwise"
    again.close()


def test_the_two_are_two_from_then_on(
    start: Callable[..., Cell], go_on: Callable[..., Cell], poke: Callable[..., int], event: StepEvent
) -> None:
    cell = start(STATE, snapshotable=True)
    again = go_on(cell)
    again.deliver(0, event)

    assert (poke(cell, "a"), poke(again, "a")) == (1, 0xFFFF_FFFE)
    again.close()


def test_a_start_section_runs_once_and_never_in_an_instance_that_goes_on(
    load: Callable[..., Cell], go_on: Callable[..., Cell]
) -> None:
    asked: list[int] = []

    class Host:
        @host_function
        def note(self, number: U32) -> None:
            asked.append(number)

    from pulp_runtime._kernel.registry import Registry
    from pulp_runtime.ext import Capability

    guest = f"""(module (import "pulp" "note" (func $note (param i32) (result i32))) (memory (export "memory") 1)
      (func $begin (i32.store (i32.const 0) (i32.add (i32.load (i32.const 0)) (i32.const 1)))
        (drop (call $note (i32.const 5))))
      (start $begin)
      (func (export "pulp_step") (param i32 i32) (result i32) (i32.const 0)) {REST})"""
    cell = load(guest, Host(), snapshotable=True)
    registry = Registry(prefill=False)
    registry.always(Capability.of("test.host", Host()))
    again = go_on(cell, registry=registry)

    assert asked == [5]
    assert again._instance.memory.read(0, 4) == b"\1\0\0\0"
    again.close()


def test_the_monotonic_clock_goes_on_where_it_stood(
    start: Callable[..., Cell], go_on: Callable[..., Cell], event: StepEvent
) -> None:
    cell = start("clock", snapshotable=True)
    cell._instance.state.clock.set(10**18)  # it has been running for thirty years
    cell.deliver(0, event)
    before = int.from_bytes(cell._instance.read(1032, 8), "little")
    again = go_on(cell)
    again.deliver(0, event)
    after = int.from_bytes(again._instance.read(1032, 8), "little")

    assert 10**18 <= before <= after < 10**18 + 60 * 10**9
    again.close()


def test_the_buffer_for_idle_steps_is_the_same_one(start: Callable[..., Cell], go_on: Callable[..., Cell]) -> None:
    cell = start("minimal", snapshotable=True)
    cell.idle(0)
    again = go_on(cell)
    again.idle(1)

    assert cell._instance._idle == again._instance._idle != 0
    again.close()


# Tables -------------------------------------------------------------------------------------------------------------


def table_guest(step: str) -> str:
    return TABLE % step


@pytest.mark.parametrize(
    ("step", "answers"),
    [
        pytest.param("", {0: 1, 1: 2}, id="that are never changed"),
        pytest.param("(table.set $t (i32.const 3) (table.get $t (i32.const 1)))", {3: 2}, id="with a function moved"),
        pytest.param("(table.set $t (i32.const 0) (table.get $u (i32.const 0)))", {0: 3, 1: 2}, id="from another"),
        pytest.param("(table.set $t (i32.const 1) (ref.null func))", {0: 1}, id="with a function removed"),
        pytest.param(
            "(drop (table.grow $t (table.get $u (i32.const 0)) (i32.const 5)))", {8: 3, 1: 2}, id="that have grown"
        ),
    ],
)
def test_tables_are_as_they_were(
    start: Callable[..., Cell],
    go_on: Callable[..., Cell],
    poke: Callable[..., int],
    event: StepEvent,
    step: str,
    answers: dict[int, int],
) -> None:
    cell = start(table_guest(step), snapshotable=True)
    cell.deliver(0, event)
    again = go_on(cell)

    assert poke(again, "size") == poke(cell, "size")
    assert {at: poke(again, "ask", at) for at in answers} == answers
    assert again.capture().header.tables == cell.capture().header.tables
    again.close()


def test_tables_that_nobody_changed_take_no_room(start: Callable[..., Cell]) -> None:
    assert start(table_guest(""), snapshotable=True).capture().header.tables == [TableState(4), TableState(1)]


@pytest.mark.parametrize(
    ("step", "where"),
    [
        pytest.param("(table.set $t (i32.const 2) (ref.func $four))", "element 2 of table 0", id="in a table"),
        pytest.param("(global.set $chosen (ref.func $four))", "global 0", id="in a global"),
    ],
)
def test_a_function_without_a_name_refuses_the_snapshot(
    start: Callable[..., Cell], event: StepEvent, step: str, where: str
) -> None:
    cell = start(table_guest(step), snapshotable=True)
    cell.deliver(0, event)

    with pytest.raises(SnapshotRefused, match=f"{where} holds a function that no table of a new instance has"):
        cell.capture()
    cell.deliver(1, event)  # the cell itself is none the worse


def test_a_function_in_a_global_is_the_same_function(
    start: Callable[..., Cell], go_on: Callable[..., Cell], event: StepEvent
) -> None:
    cell = start(table_guest("(global.set $chosen (table.get $t (i32.const 1)))"), snapshotable=True)
    cell.deliver(0, event)
    again = go_on(cell)

    assert globals_of(again)[0] == globals_of(cell)[0] == (0, 1)
    again.close()


# Refusals -----------------------------------------------------------------------------------------------------------


def test_a_cell_that_is_not_snapshotable_is_not_touched_and_cannot_be_saved(start: Callable[..., Cell]) -> None:
    cell = start(STATE)

    assert cell._instance.state is None
    assert not any(name.startswith(PREFIX) for name in cell._instance._exports)
    with pytest.raises(SnapshotRefused, match="write snapshotable = true in its manifest"):
        cell.capture()


def test_an_instance_that_has_trapped_cannot_be_saved(start: Callable[..., Cell], event: StepEvent) -> None:
    cell = start("trap_step", snapshotable=True)
    with pytest.raises(CellTrap):
        cell.deliver(0, event)

    with pytest.raises(SnapshotRefused, match="the instance is spent"):
        cell.capture()


def restored(body: str) -> str:
    return f"""(module (memory (export "memory") 1)
      (func (export "pulp_restored") {body})
      (func (export "pulp_step") (param i32 i32) (result i32) (i32.const 0)) {REST})"""


def test_a_cell_may_refuse_to_go_on(start: Callable[..., Cell], go_on: Callable[..., Cell]) -> None:
    again = go_on(start(restored("(result i32) (i32.const -3)"), snapshotable=True))

    with pytest.raises(CellRefused, match="pulp_restored returned -3"):
        again.restored()
    again.close()


def test_a_cell_that_traps_when_it_goes_on_has_failed(start: Callable[..., Cell], go_on: Callable[..., Cell]) -> None:
    again = go_on(start(restored("(result i32) unreachable"), snapshotable=True))

    with pytest.raises(CellTrap, match="pulp_restored"):
        again.restored()
    again.close()


def test_pulp_restored_of_another_shape_is_refused_when_the_cell_is_loaded(load: Callable[..., Cell]) -> None:
    with pytest.raises(LoadError, match=r"export pulp_restored is \(i32\) -> i32; it must be \(\) -> i32"):
        load(restored("(param i32) (result i32) (i32.const 0)"))


def change(saved: Saved, **fields: Any) -> Saved:
    import msgspec

    return Saved(msgspec.structs.replace(saved.header, **fields), saved.pages)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        pytest.param({"globals": []}, "other globals and tables", id="without globals"),
        pytest.param({"tables": [TableState(1)] * 3}, "other globals and tables", id="with a table too many"),
        pytest.param({"globals": [b"\0\1\0\0\0", b"\0\1\0\0\0"]}, "other globals", id="a number for a function"),
        pytest.param({"globals": [(0, 0), (0, 0)]}, "other globals", id="a function for a number"),
        pytest.param({"globals": [None, b"\0\1"]}, "other globals", id="a number that is too short"),
        pytest.param({"globals": [(7, 0), b"\0\1\0\0\0"]}, "names a function", id="a table that is not there"),
        pytest.param({"globals": [(0, 99), b"\0\1\0\0\0"]}, "names a function", id="a place that is not there"),
        pytest.param({"tables": [TableState(1), TableState(1)]}, "begins with 4", id="a table that has shrunk"),
        pytest.param({"tables": [TableState(21), TableState(1)]}, "engine refuses", id="a table beyond its maximum"),
        pytest.param(
            {"tables": [TableState(4, [(9, None)]), TableState(1)]}, "engine refuses", id="an element past the end"
        ),
        pytest.param({"memory_pages": 0, "pages": []}, "the module begins with 1", id="memory that has shrunk"),
        pytest.param({"memory_pages": 4_000}, "engine refuses", id="more memory than the cell may have"),
    ],
)
def test_what_does_not_fit_the_module_is_refused(
    start: Callable[..., Cell], engine: Engine, fields: dict[str, Any], why: str
) -> None:
    cell = start(table_guest(""), snapshotable=True, max_memory_pages=16)
    saved = change(cell.capture(), **fields)

    with pytest.raises(SnapshotRefused, match=why):
        Cell.load(cell.spec, engine=engine, saved=saved)


def test_a_module_that_cannot_be_read_is_refused_only_where_its_state_is_wanted(
    load: Callable[..., Cell], spec: Callable[..., CellSpec]
) -> None:
    guest = STATE.replace('(export "a")', f'(export "{PREFIX}x")')
    load(guest)

    with pytest.raises(LoadError, match="cannot be made snapshotable: it exports a name"):
        load(guest, snapshotable=True)


def test_a_closed_instance_keeps_neither_its_module_nor_the_tables_it_began_with(start: Callable[..., Cell]) -> None:
    """It is part of a circle, so it may be there until the collector comes by: a host restarts cells more often."""
    functions = " ".join(["$f"] * 5_000)
    module = f"""(module
      (memory (export "memory") 10)
      (data (i32.const 65536) "{"x" * 400_000}")
      (table 5000 funcref) (elem (i32.const 0) func {functions})
      (func $f)
      (func (export "pulp_step") (param i32 i32) (result i32) (i32.const 0))
      {REST})"""
    start(module, snapshotable=True).close()
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        for _ in range(5):
            start(module, snapshotable=True).close()
        grown, _peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        gc.enable()

    assert grown < 200_000  # one module has 400 kB, the elements of its table another 300 kB
