"""A cell that leads an application: it asks two others one after the other and remembers how often it did."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from pulp_runtime import Host

COMMON = r"""
  (memory (export "memory") 1)
  (global $top (mut i32) (i32.const 4096))
  (func $alloc (export "pulp_alloc") (param $size i32) (result i32)
    (global.get $top)
    (global.set $top (i32.add (global.get $top) (local.get $size))))
  (func (export "pulp_free") (param i32 i32))
  (func (export "pulp_init") (param i32 i32) (result i32) (i32.const 0))
  (func (export "pulp_step") (param i32 i32) (result i32) (i32.const 0))
  (func (export "pulp_shutdown") (result i32) (i32.const 0))
"""
# Twice the number in its one byte.
DOUBLE = rf"""(module {COMMON}
  (func (export "pulp_on_call") (param i32 i32) (param $args i32) (param i32) (param $at i32) (param $len i32)
                                (result i32)
    (i32.store8 (i32.const 1024) (i32.shl (i32.load8_u (local.get $args)) (i32.const 1)))
    (i32.store (local.get $at) (i32.const 1024))
    (i32.store (local.get $len) (i32.const 1))
    (i32.const 0)))"""
# "answer:" and the two digits of the number in its one byte.
LABEL = rf"""(module {COMMON}
  (data (i32.const 1024) "answer:??")
  (func (export "pulp_on_call") (param i32 i32) (param $args i32) (param i32) (param $at i32) (param $len i32)
                                (result i32)
    (local $number i32)
    (local.set $number (i32.load8_u (local.get $args)))
    (i32.store8 (i32.const 1031) (i32.add (i32.const 48) (i32.div_u (local.get $number) (i32.const 10))))
    (i32.store8 (i32.const 1032) (i32.add (i32.const 48) (i32.rem_u (local.get $number) (i32.const 10))))
    (i32.store (local.get $at) (i32.const 1024))
    (i32.store (local.get $len) (i32.const 9))
    (i32.const 0)))"""
# Doubles its argument, labels that, and puts the digit of the run behind it.
LEAD = rf"""(module
  (import "pulp" "pulp_call" (func $call (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  {COMMON}
  (global $runs (mut i32) (i32.const 48))
  (data (i32.const 1024) "math-engine" "math.double" "text-engine" "text.label")
  (func (export "pulp_on_call") (param i32 i32) (param $args i32) (param $size i32) (param $at i32) (param $len i32)
                                (result i32)
    (local $code i32)
    (local.set $code (call $call (i32.const 1024) (i32.const 11) (i32.const 1035) (i32.const 11)
      (local.get $args) (local.get $size) (i32.const 8) (i32.const 12)))
    (if (local.get $code) (then (return (local.get $code))))
    (local.set $code (call $call (i32.const 1046) (i32.const 11) (i32.const 1057) (i32.const 10)
      (i32.load (i32.const 8)) (i32.load (i32.const 12)) (i32.const 8) (i32.const 12)))
    (if (local.get $code) (then (return (local.get $code))))
    (global.set $runs (i32.add (global.get $runs) (i32.const 1)))
    (memory.copy (i32.const 2048) (i32.load (i32.const 8)) (i32.load (i32.const 12)))
    (i32.store8 (i32.add (i32.const 2048) (i32.load (i32.const 12))) (global.get $runs))
    (i32.store (local.get $at) (i32.const 2048))
    (i32.store (local.get $len) (i32.add (i32.load (i32.const 12)) (i32.const 1)))
    (i32.const 0)))"""


@pytest.fixture
def application(cell: Callable[..., Path], wasm: Callable[[str], bytes], tmp_path: Path) -> Path:
    cell(wasm(DOUBLE), 'provides = ["math.double"]', name="math-engine")
    cell(wasm(LABEL), 'provides = ["text.label"]', name="text-engine")
    functions = 'provides = ["run"]\nconsumes = ["math.double", "text.label"]'
    cell(wasm(LEAD), functions, 'depends_on = ["math-engine", "text-engine"]', name="lead")
    (tmp_path / "main.lua").write_text("return text.label(math.double(21))\n")
    digest = hashlib.sha256((tmp_path / "main.lua").read_bytes()).hexdigest()
    (tmp_path / "pulp.app.toml").write_text(
        'name = "flow"\nversion = "1"\ncells = ["lead", "math-engine", "text-engine"]\n'
        f'[orchestrator]\nmanifest = "lead"\nscript = "main.lua"\nsha256 = "{digest}"\n'
    )
    return tmp_path


def test_the_orchestrator_asks_two_siblings_and_keeps_its_state_from_one_run_to_the_next(
    application: Path, tmp_path: Path
) -> None:
    with Host(app=application, storage_root=tmp_path / "data") as host:
        assert host.call("lead", "run", bytes([21])) == b"answer:421"
        assert host.call("lead", "run", bytes([21])) == b"answer:422"
