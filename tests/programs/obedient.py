"""A program that makes the calls it is told: a hostile program for every input, in one module.

It reads what stands at `SCRIPT` from standard input: for each call a head, and the bytes to be put into memory first.

    function u32, address u32, length u32, nothing u32, nine words u64 │ bytes │ function u32 …
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from random import Random

from tests.fuzz.preview1_inputs import program, read_program

from pulp_runtime.wasi.preview1 import KINDS

NAMES = tuple(sorted(KINDS))
SCRIPT = 0x80000
SCRIPT_BYTES = 0x40000
HEAD_BYTES = 88
NONE = 0xFFFF
_HEAD = struct.Struct("<IIII9Q")

KNOWN = (
    *(b"request/txt", b"request/json", b"request/method", b"request/body", b"request/headers", b"request/headers/host"),
    *(b"request/params", b"request/query", b"request", b"response/txt", b"response/json", b"response/status"),
    *(b"response/headers/x-a", b"response/headers/content-type", b"response/body", b"response/body", b"response"),
    *(b"response/txt", b"response/status", b"response/headers/set-cookie", b"response/headers", b"tmp/a", b"accept"),
    *(b"accept", b"conn", b"conn/1", b"conn/1/request/path", b"conn/1/response/body", b"conn/1/close", b"conn/2"),
    *(b"conn/1/response/status", b"conn/2/response/txt", b"conn/2/request/body", b"conn/3/response/json", b"."),
)


def obedient() -> str:
    """Return the program as WebAssembly text."""
    imports, cases = [], []
    for at, name in enumerate(NAMES):
        kinds = KINDS[name]
        given = " ".join("i64" if kind == "I" else "i32" for kind in kinds)
        imports.append(f'(import "wasi_snapshot_preview1" "{name}" (func ${name} (param {given}) (result i32)))')
        words = " ".join(
            f"(i64.load offset={16 + 8 * place} (local.get $at))"
            if kind == "I"
            else f"(i32.load offset={16 + 8 * place} (local.get $at))"
            for place, kind in enumerate(kinds)
        )
        cases.append(f"(if (i32.eq (local.get $f) (i32.const {at})) (then (drop (call ${name} {words}))))")
    return f"""(module {" ".join(imports)} (memory (export "memory") 16)
      (func (export "_start") (local $at i32) (local $end i32) (local $f i32) (local $size i32)
        (local.set $end (i32.const {SCRIPT}))
        (block $read (loop $more
          (i32.store (i32.const 0) (local.get $end))
          (i32.store (i32.const 4) (i32.sub (i32.const {SCRIPT + SCRIPT_BYTES}) (local.get $end)))
          (br_if $read (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
          (br_if $read (i32.eqz (i32.load (i32.const 8))))
          (local.set $end (i32.add (local.get $end) (i32.load (i32.const 8))))
          (br $more)))
        (local.set $at (i32.const {SCRIPT}))
        (loop $next
          (if (i32.ge_u (i32.add (local.get $at) (i32.const {HEAD_BYTES})) (local.get $end)) (then (return)))
          (local.set $f (i32.load (local.get $at)))
          (if (i32.eq (local.get $f) (i32.const {NONE})) (then unreachable))
          (local.set $size (i32.load offset=8 (local.get $at)))
          (memory.copy (i32.load offset=4 (local.get $at)) (i32.add (local.get $at) (i32.const {HEAD_BYTES}))
            (local.get $size))
          {" ".join(cases)}
          (local.set $at (i32.add (i32.add (local.get $at) (i32.const {HEAD_BYTES})) (local.get $size)))
          (br $next))))"""


def script(rng: Random, known: Sequence[bytes] = KNOWN) -> bytes:
    """Return calls; one in eight traps at its end."""
    made = []
    for name, words, address, piece in read_program(program(rng, NAMES, KINDS, known)[1:], NAMES, KINDS):
        given = (*words, *[0] * (9 - len(words)))
        made.append(_HEAD.pack(NAMES.index(name), address, len(piece), 0, *given) + piece)
    if rng.random() < 0.125:
        made.append(_HEAD.pack(NONE, 0, 0, 0, *[0] * 9))
    return b"".join(made) + bytes(HEAD_BYTES)
