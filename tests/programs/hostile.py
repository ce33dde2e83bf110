"""Hostile guests by themselves: no host around them, so that a hundred thousand calls take a second and not ten."""

from __future__ import annotations

import contextlib
import gc
import math
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import wasmtime

from pulp_runtime._kernel.engine import Engine
from pulp_runtime._kernel.lines import LineLog
from pulp_runtime._kernel.programs.program import Program, unasked
from pulp_runtime.ext import Capability, CellRef, Outcome, Run
from pulp_runtime.log import Log
from pulp_runtime.manifest.limits import Limits
from pulp_runtime.wasi.preview1 import KINDS

PAGE = 65_536
ROOT = 3


def guest(start: str, *calls: str, more: str = "", memory: str = '(memory (export "memory") 2)') -> str:
    """Return a command that imports these functions of preview 1, each as `$name`, and `proc_exit` as `$exit`."""
    imports = ['(import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))']
    for name in calls:
        kinds = " ".join("i64" if kind == "I" else "i32" for kind in KINDS[name])
        imports.append(f'(import "wasi_snapshot_preview1" "{name}" (func ${name} (param {kinds}) (result i32)))')
    return f"""(module {" ".join(imports)} {memory} {more}
      (global $n (mut i32) (i32.const 0)) (global $sum (mut i32) (i32.const 0)) (global $code (mut i32) (i32.const 0))
      (func $start (export "_start") {start}))"""


def times(count: int, body: str) -> str:
    """Return a loop."""
    return f"""(global.set $n (i32.const 0)) (loop $again {body}
      (global.set $n (i32.add (global.get $n) (i32.const 1)))
      (br_if $again (i32.lt_u (global.get $n) (i32.const {count}))))"""


def must(code: int, call: str) -> str:
    """Return a call that must answer this; else the program exits with 100 and what it answered."""
    return f"""(global.set $code {call})
      (if (i32.ne (global.get $code) (i32.const {code})) (then (call $exit (i32.add (global.get $code)
      (i32.const 100)))))"""


def opening(path: str, *, at: int = 64, oflags: int = 0, rights: int = 2, fd: str = "(i32.const 3)") -> str:
    """Return a call that opens a path, which is at an address; the descriptor is put at 32."""
    return f"""(call $path_open {fd} (i32.const 1) (i32.const {at}) (i32.const {len(path)}) (i32.const {oflags})
      (i64.const {rights}) (i64.const -1) (i32.const 0) (i32.const 32))"""


def text(path: str, at: int = 64) -> str:
    """Return the data segment of a path."""
    return f'(data (i32.const {at}) "{path}")'


class Alone:
    """An engine, and programs in it with a capability of the test's."""

    def __init__(self, blocking: Callable[[], AbstractContextManager[None]] = nullcontext) -> None:
        self.engine = Engine(None)
        self._blocking = blocking

    def program(
        self,
        text: str,
        mount: Callable[[Run], None] = lambda _run: None,
        *,
        seconds: float = 60.0,
        environ: Mapping[str, str] | None = None,
        **limits: Any,
    ) -> Program:
        """Return a program; it has no deadline if `seconds` is infinite."""
        log = Log("pulp", cell="hostile")
        given = Limits(**{"memory_pages": 256, **limits, "call_seconds": seconds})
        lines = LineLog(log, given)
        capability = Capability(name="test.bench", register=lambda _linker, _cell: None, mount=mount)
        return Program(
            self.engine,
            wasmtime.Module(self.engine.wasm, text),
            "hostile.wasm",
            CellRef("hostile", "hostile", log, lines.write),
            [capability],
            given,
            lines,
            blocking=self._blocking,
            ask=unasked,
            environ=environ or {},
        )

    def run(self, text: str, mount: Callable[[Run], None] = lambda _run: None, **options: Any) -> Outcome:
        """Run it once."""
        program = self.program(text, mount, **options)
        slot = program.take()
        try:
            return slot.run()
        finally:
            program.give(slot)

    def close(self) -> None:
        self.engine.close()


class Host:
    """What a process has now."""

    def __init__(self) -> None:
        gc.collect()  # what tests before left
        self.handles = sum(1 for _ in _handles())
        self.threads = threading.active_count()

    def has_no_more_than(self, other: Host) -> bool:
        """Compare; what a test before left may have gone meanwhile."""
        return self.handles <= other.handles and self.threads <= other.threads

    def __repr__(self) -> str:
        return f"{self.handles} descriptors, {self.threads} threads"


def _handles() -> Iterator[str]:
    """Name what is open, but for the images that modules keep of their memory."""
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the listing's own
            name = os.readlink(f"/proc/self/fd/{number}")
            if not name.startswith("/memfd:"):
                yield name


def resident_bytes() -> int:
    """Return how much memory this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


FOREVER = math.inf
