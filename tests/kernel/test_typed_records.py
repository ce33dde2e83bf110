"""Typed calls whose response is a whole catalogue: lists in lists, and a map that is absent (canonical ABI, wasm32)."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest

from pulp_runtime._kernel.cell import Cell
from pulp_runtime.ext import Guest

RECORD_BYTES = 52
SKU_BYTES = 48

# "catalog" answers a record of 52 bytes that it allocates, and every slot leads to fixed data; anything else answers
# the MessagePack map {"html": "x"}, allocated too. probe_live: bytes that have not been given back.
CATALOGUE = r"""(module
  (memory (export "memory") 1)
  (global $top (mut i32) (i32.const 4096))
  (global $live (mut i32) (i32.const 0))
  (func $alloc (export "pulp_alloc") (param $size i32) (result i32)
    (global.set $live (i32.add (global.get $live) (local.get $size)))
    (global.get $top)
    (global.set $top (i32.add (global.get $top) (local.get $size))))
  (func (export "pulp_free") (param i32) (param $size i32)
    (global.set $live (i32.sub (global.get $live) (local.get $size))))
  (func (export "pulp_post_return") (param i32) (param $size i32)
    (global.set $live (i32.sub (global.get $live) (local.get $size))))
  (func (export "pulp_init") (param i32 i32) (result i32) (i32.const 0))
  (func (export "pulp_step") (param i32 i32) (result i32) (i32.const 0))
  (func (export "pulp_shutdown") (result i32) (i32.const 0))
  (func (export "pulp_on_call") (param $name i32) (param i32 i32 i32) (param $at i32) (param $len i32) (result i32)
    (local $from i32) (local $size i32) (local $to i32)
    (local.set $from (i32.const 1024))
    (local.set $size (i32.const 52))
    (if (i32.ne (i32.load8_u (local.get $name)) (i32.const 99)) (then
      (local.set $from (i32.const 2000))
      (local.set $size (i32.const 8))))
    (local.set $to (call $alloc (local.get $size)))
    (memory.copy (local.get $to) (local.get $from) (local.get $size))
    (i32.store (local.get $at) (local.get $to))
    (i32.store (local.get $len) (local.get $size))
    (i32.const 0))
  (func (export "probe_live") (result i32) (global.get $live))
  (data (i32.const 1024)
    "\00\00\00\00" "\d0\07\00\00\04\00\00\00" "\d4\07\00\00\03\00\00\00"  ;; ok, name, version
    "\00\05\00\00\02\00\00\00" "\00\00\00\00\00\00\00\00"                 ;; skus: two; routes: none
    "\00\00\00\00\00\00\00\00" "\80\06\00\00\02\00\00\00")                ;; tabs: none; templates: two
  (data (i32.const 1280)                                                  ;; two skus of 48 bytes
    "\d0\07\00\00\01\00\00\00" "\d0\07\00\00\04\00\00\00" "\00\00\00\00\00\00\00\00"
    "\ff\ff\ff\ff\ff\ff\ff\ff" "\d4\07\00\00\01\00\00\00" "\40\06\00\00\01\00\00\00"
    "\d1\07\00\00\01\00\00\00" "\00\00\00\00\00\00\00\00" "\00\00\00\00\00\00\00\00"
    "\63\00\00\00\00\00\00\00" "\d4\07\00\00\01\00\00\00" "\00\00\00\00\00\00\00\00")
  (data (i32.const 1600) "\d0\07\00\00\01\00\00\00" "\d4\07\00\00\03\00\00\00")  ;; the one entry of the map
  (data (i32.const 1664) "\d0\07\00\00\01\00\00\00" "\d1\07\00\00\01\00\00\00")  ;; the two templates
  (data (i32.const 2000) "gene1.2\00"))"""

LIFTED = {
    "name": "gene",
    "version": "1.2",
    "skus": [
        {"id": "g", "name": "gene", "price": -1, "metadata": {"g": "1.2"}},
        {"id": "e", "name": "", "price": 99, "metadata": {}},
    ],
    "routes": 0,
    "templates": ["g", "e"],
}


def text(guest: Guest, slot: int) -> str:
    at, size = struct.unpack("<II", guest.read(slot, 8))
    return guest.read(at, size).decode() if size else ""


def slots(guest: Guest, slot: int, size: int) -> list[int]:
    """Return where the entries of a list lie; the address of an empty one is 0 and is never followed."""
    at, count = struct.unpack("<II", guest.read(slot, 8))
    return [at + size * number for number in range(count)]


def lift(guest: Guest, at: int, length: int) -> dict[str, Any]:
    assert length == RECORD_BYTES
    assert guest.read(at, 1) == b"\0"
    return {
        "name": text(guest, at + 4),
        "version": text(guest, at + 12),
        "skus": [
            {
                "id": text(guest, sku),
                "name": text(guest, sku + 8),
                "price": struct.unpack("<q", guest.read(sku + 24, 8))[0],
                "metadata": {text(guest, one): text(guest, one + 8) for one in slots(guest, sku + 40, 16)},
            }
            for sku in slots(guest, at + 20, SKU_BYTES)
        ],
        "routes": len(slots(guest, at + 28, 16)),
        "templates": [text(guest, one) for one in slots(guest, at + 44, 8)],
    }


@pytest.fixture
def cell(start: Callable[..., Cell]) -> Cell:
    return start(CATALOGUE)


def test_lists_in_lists_and_a_map_that_is_absent_are_lifted_and_nothing_stays_allocated(
    cell: Cell, poke: Callable[..., int]
) -> None:
    for _ in range(3):
        before = poke(cell, "probe_live")
        assert cell.call_typed("catalog", b"", lift) == LIFTED
        assert poke(cell, "probe_live") == before


def test_an_opaque_call_of_the_same_cell_goes_on_as_it_was(cell: Cell, poke: Callable[..., int]) -> None:
    before = poke(cell, "probe_live")
    assert cell.call("admin.fragment") == b"gene1.2\0"
    assert cell.call_typed("catalog", b"", lift) == LIFTED
    assert cell.call("admin.fragment") == b"gene1.2\0"
    assert poke(cell, "probe_live") == before
