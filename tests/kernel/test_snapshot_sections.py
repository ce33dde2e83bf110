"""What a module hides is exported, nothing else changes, and whatever is no module is refused in time."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import wasmtime
from hypothesis import given, settings
from hypothesis import strategies as st

from pulp_runtime._kernel.snapshots.sections import (
    MOST_GLOBALS,
    MOST_MUTABLE,
    MOST_TABLES,
    PREFIX,
    START,
    expose,
)
from pulp_runtime.errors import LoadError

HEADER = b"\0asm\x01\0\0\0"
MANY = """(module
  (import "pulp" "kv_get" (func (param i32) (result i32)))
  (memory (export "memory") 1)
  (global i32 (i32.const -5))
  (global (mut i32) (i32.const 1))
  (global (mut i64) (i64.add (i64.const 1) (i64.const 2)))
  (global f64 (f64.const 1.5))
  (global (mut f32) (f32.const nan:0x200001))
  (global (mut f64) (f64.const -0.0))
  (global (mut v128) (v128.const i32x4 1 2 3 4))
  (global (mut funcref) (ref.func $one))
  (global (mut externref) (ref.null extern))
  (global (mut i32) (global.get 0))
  (table 3 funcref) (table 2 5 externref)
  (elem (i32.const 1) $one)
  (func $one (export "one") (result i32) (i32.const 1))
  (func $begin (i32.store (i32.const 0) (i32.const 7)))
  (start $begin))"""


def leb(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def section(kind: int, payload: bytes) -> bytes:
    return bytes([kind]) + leb(len(payload)) + payload


def exports_of(wasm: bytes) -> dict[str, str]:
    module = wasmtime.Module(wasmtime.Engine(), wasm)
    return {export.name or "": type(export.type).__name__ for export in module.exports}


def refused(wasm: bytes) -> str:
    with pytest.raises(LoadError) as raised:
        expose("cell", "cell.wasm", wasm)
    assert str(raised.value).startswith("cell.wasm: cannot be made snapshotable: ")
    return str(raised.value)


def test_every_mutable_global_and_every_table_gets_a_name_and_the_start_section_too(
    wasm: Callable[[str], bytes],
) -> None:
    hidden = expose("cell", "cell.wasm", wasm(MANY))

    assert hidden.globals == tuple(f"{PREFIX}g{index}" for index in (1, 2, 4, 5, 6, 7, 8, 9))
    assert hidden.tables == (f"{PREFIX}t0", f"{PREFIX}t1")
    assert hidden.start
    assert exports_of(hidden.wasm) == {
        "memory": "MemoryType",
        "one": "FuncType",
        **dict.fromkeys(hidden.globals, "GlobalType"),
        **dict.fromkeys(hidden.tables, "TableType"),
        START: "FuncType",
    }


def test_a_module_without_hidden_state_is_left_as_it_is(wasm: Callable[[str], bytes]) -> None:
    plain = wasm('(module (memory (export "memory") 1) (global i32 (i32.const 1)))')

    assert expose("cell", "cell.wasm", plain).wasm is plain


def test_all_but_the_exports_and_the_start_is_the_same_bytes(wasm: Callable[[str], bytes]) -> None:
    before = wasm(MANY)
    after = expose("cell", "cell.wasm", before).wasm

    def others(module: bytes) -> list[bytes]:
        found, at = [], len(HEADER)
        while at < len(module):
            kind, at, size, shift = module[at], at + 1, 0, 0
            while True:
                size |= (module[at] & 0x7F) << shift
                shift, at = shift + 7, at + 1
                if module[at - 1] < 0x80:
                    break
            if kind not in (7, 8):
                found.append(bytes([kind]) + module[at : at + size])
            at += size
        return found

    assert others(after) == others(before)


@pytest.mark.parametrize(
    ("wasm", "why"),
    [
        pytest.param(HEADER + b"\x07", "ends in the middle", id="cut behind a section's number"),
        pytest.param(HEADER + b"\x07\x05\0", "ends in the middle", id="a section longer than the module"),
        pytest.param(HEADER + b"\x07\xff\xff\xff\xff\xff\xff", "too long", id="a size without end"),
        pytest.param(HEADER + b"\x07\xff\xff\xff\xff\x1f", "too long", id="a size of more than 32 bits"),
        pytest.param(HEADER + 2 * section(7, b"\0"), "section 7 is there twice", id="two export sections"),
        pytest.param(
            HEADER + section(2, b"\x01\x01a\x01b\x03\x7f\x01") + section(7, b"\0"),
            "something else than functions",
            id="an imported global",
        ),
        pytest.param(
            HEADER + section(2, leb(5_001)) + section(7, b"\0"), "it has 5001 imports", id="more imports than may be"
        ),
        pytest.param(
            HEADER + section(4, leb(MOST_TABLES + 1)) + section(7, b"\0"), "the most is 16", id="a table too many"
        ),
        pytest.param(
            HEADER + section(6, leb(MOST_GLOBALS + 1)) + section(7, b"\0"), "the most is 100000", id="globals too many"
        ),
        pytest.param(
            HEADER + section(6, leb(MOST_MUTABLE + 1) + (MOST_MUTABLE + 1) * b"\x7f\x01\x41\0\x0b") + section(7, b"\0"),
            "the most is 1000",
            id="mutable globals too many",
        ),
        pytest.param(
            HEADER + section(6, b"\x01\x7f\x01\x41\0\x0b\0") + section(7, b"\0"),
            "longer than what it holds",
            id="bytes behind the last global",
        ),
        pytest.param(
            HEADER + section(6, b"\x01\x64\x70\x01\xd2\0\x0b") + section(7, b"\0"),
            "of a type (0x64)",
            id="a global of a type that cells cannot have",
        ),
        pytest.param(
            HEADER + section(6, b"\x01\x7f\x01\x10\0\x0b") + section(7, b"\0"),
            "an instruction (0x10) that is not constant",
            id="a global that begins with a call",
        ),
        pytest.param(HEADER + section(6, b"\x01\x7f\x01\x41\0") + section(7, b"\0"), "middle", id="no end"),
    ],
)
def test_what_cannot_be_read_is_refused_with_a_sentence(wasm: bytes, why: str) -> None:
    assert why in refused(wasm)


def test_a_module_that_uses_the_hosts_names_is_refused(wasm: Callable[[str], bytes]) -> None:
    hostile = wasm(f'(module (global (export "{PREFIX}g0") (mut i32) (i32.const 0)) (memory (export "memory") 1))')

    assert "which is the host's own" in refused(hostile)


@given(st.binary(max_size=200), st.integers(0, 12))
@settings(max_examples=100, deadline=None)
def test_no_bytes_do_more_than_refuse(payload: bytes, kind: int) -> None:
    for wasm in (HEADER + payload, HEADER + section(kind, payload) + section(7, b"\0")):
        try:
            expose("cell", "cell.wasm", wasm)
        except LoadError:
            continue


def test_threat_25_a_module_made_to_keep_the_rewriter_busy_is_refused_at_once() -> None:
    long = HEADER + section(6, leb(0xFFFF_FFFF) + 1_000_000 * b"\x7f\0\x41\0\x0b") + section(7, b"\0")
    began = time.monotonic()

    refused(long)

    assert time.monotonic() - began < 1.0
