"""Targets: what a guest can do to the host: its imports with hostile words, and exports that misbehave.

The guest is real and runs in the real engine: what it calls goes through the same guard, the same memory checks and
the same functions as in service.
"""

from __future__ import annotations

import contextlib
import logging
import re
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import wasmtime
from tests.fuzz.decoders import structs
from tests.fuzz.harness import LEAK_BYTES, Broken, Target
from tests.fuzz.inputs import BOMBS, BYTES, Packer, Pool, mutated, pack_value

from pulp_runtime._kernel.cell import Cell
from pulp_runtime._kernel.crossing import EngineFault, Export
from pulp_runtime._kernel.engine import Engine
from pulp_runtime._kernel.lines import LineLog
from pulp_runtime._kernel.modules import Modules
from pulp_runtime._kernel.registry import Registry
from pulp_runtime._kernel.world import world
from pulp_runtime.capabilities.catalog import ALWAYS, BUILT_IN
from pulp_runtime.errors import CallFailed, CellClosed, CellError
from pulp_runtime.ext import Capability, Posted, SetupEnv, StepEvent
from pulp_runtime.log import Log
from pulp_runtime.manifest.cell import CellSpec

PAGE = 65_536
TASKS = ("process_run", "workers_submit")
TASK_IDS = range(1 << 31)
"""What those answer: an id of a task, from 100 on, or a code."""
SMALL_CODES = range(100)
OURS = {name: words for name, (words, _function) in world(None, LineLog(Log("pulp"))).items()}  # type: ignore[arg-type]
"""WASI functions of our own, with how many words they take."""
ENGINES = {
    **{"random_get": 2, "args_get": 2, "args_sizes_get": 2, "environ_get": 2, "environ_sizes_get": 2},
    **{"fd_close": 1, "fd_prestat_get": 2, "fd_prestat_dir_name": 3, "fd_fdstat_get": 2, "fd_read": 4},
    **{"clock_res_get": 2, "sched_yield": 0},
}
"""Functions of the engine's own WASI that take nothing but i32."""


def capabilities() -> list[Capability]:
    """Return every capability that comes with Pulp."""
    made = {**ALWAYS, **BUILT_IN}
    return [make() for make in made.values()]


# A cell without a host --------------------------------------------------------------------------------------------


class Bugs(logging.Handler):
    """Notes when a host function raised what it must not: the guest would not know, the operator would."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.last = ""

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage() == "host function failed":
            self.last = str(getattr(record, "fields", {}))


class Stage:
    """An engine, the capabilities set up without sockets' clients, and cells of WebAssembly text.

    The engine is halted, so that no guest sleeps.
    """

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="pulp-fuzz-")
        self.folder = Path(self._folder.name)
        self.engine = Engine(None)
        self.engine.halted.set()
        self.registry = Registry(prefill=False)
        self.capabilities = capabilities()
        self.bugs = Bugs()
        self._logger = logging.getLogger("pulp")
        self._before = (self._logger.level, self._logger.propagate)
        self._logger.setLevel(logging.ERROR)
        self._logger.propagate = False
        self._logger.addHandler(self.bugs)
        for capability in self.capabilities:
            if capability.setup is not None:
                capability.setup(self._env(capability))
            self.registry.always(capability)

    def _env(self, capability: Capability) -> SetupEnv:
        return SetupEnv(
            storage_root=self.folder,
            logger=Log("pulp").bind(capability=capability.name),
            post=lambda _event: Posted.ACCEPTED,
            spawn=_forget,
            defer=lambda _callback: None,
            reachable=lambda _endpoint: None,
            http_port="127.0.0.1:0",
        )

    def cell(self, text: str, **fields: Any) -> Cell:
        """Return a loaded cell."""
        path = self.folder / "fuzz.wasm"
        if not path.exists() or (self.folder / "fuzz.wat").read_text() != text:
            (self.folder / "fuzz.wat").write_text(text)
            path.write_bytes(wasmtime.wat2wasm(text))
        spec = CellSpec(
            manifest_path=self.folder / "pulp.cell.toml", name="fuzz", version="1", wasm_path=path, **fields
        )
        with compiling_here():
            return Cell.load(spec, self.registry, engine=self.engine)

    def check(self) -> None:
        """Raise if a host function failed."""
        if self.bugs.last:
            last, self.bugs.last = self.bugs.last, ""
            raise Broken(f"a host function failed: {last}")

    def close(self) -> None:
        """Undo everything."""
        for capability in reversed(self.capabilities):
            if capability.teardown is not None:
                capability.teardown()
            listener = getattr(getattr(capability.teardown, "__self__", None), "_listener", None)
            for sock in getattr(listener, "_sockets", ()):
                sock.close()
        self.engine.close()
        self._logger.removeHandler(self.bugs)
        self._logger.setLevel(self._before[0])
        self._logger.propagate = self._before[1]
        self._folder.cleanup()


def _forget(coroutine: Coroutine[Any, Any, None]) -> None:
    coroutine.close()


@contextlib.contextmanager
def compiling_here() -> Iterator[None]:
    """Compile in this process: a child for each guest would take longer than all its cases."""
    before = Modules._run_compiler

    def compile_here(self: Modules, _cell: str, _path: Path, data: bytes, result: Path) -> None:
        result.write_bytes(wasmtime.Module(self._engine, data).serialize())

    Modules._run_compiler = compile_here  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        Modules._run_compiler = before  # type: ignore[method-assign]


# Imports ----------------------------------------------------------------------------------------------------------

HEAP = 0xC000
"""Where the guest's allocator starts, each case anew; what lies above is for answers."""

CALLER = """(module
{imports}
  (memory (export "memory") 1 1)
  (global $heap (export "heap") (mut i32) (i32.const {heap}))
  (global $asked (export "asked") (mut i32) (i32.const 0))
  (func (export "pulp_alloc") (param $size i32) (result i32)
    (global.set $asked (i32.add (global.get $asked) (local.get $size)))
    (if (i32.gt_u (local.get $size) (i32.sub (i32.const {page}) (global.get $heap))) (then (return (i32.const 0))))
    (global.get $heap)
    (global.set $heap (i32.add (global.get $heap) (local.get $size))))
  (func (export "reset") (global.set $heap (i32.const {heap})) (global.set $asked (i32.const 0)))
  (func (export "pulp_init") (param i32 i32) (result i32) (i32.const 0))
  (func (export "pulp_step") (param i32 i32) (result i32) (i32.const 0))
  (func (export "pulp_shutdown") (result i32) (i32.const 0))
{calls})"""


def caller(module: str, functions: dict[str, int]) -> str:
    """Return a guest with an export for each import, which hands its words on."""
    imports, calls = [], []
    for name, words in functions.items():
        kind = "(param" + " i32" * words + ")" if words else ""
        imports.append(f'  (import "{module}" "{name}" (func ${name} {kind} (result i32)))')
        given = " ".join(f"(local.get {at})" for at in range(words))
        calls.append(f'  (func (export "call {name}") {kind} (result i32) (call ${name} {given}))')
    return CALLER.format(imports="\n".join(imports), calls="\n".join(calls), heap=HEAP, page=PAGE)


class Caller:
    """Calls one import with words and bytes of the input's choosing.

    An input is the words, four bytes each, and then what is put into memory at the first of them that can be an
    address, or at 0.
    """

    _faults: tuple[type[Exception], ...] = ()

    def __init__(self, module: str, name: str, words: int, message: Callable[[Random], bytes], codes: range) -> None:
        self._words = words
        self._codes = codes
        self._name = name
        self._stage = Stage()
        self._cell = self._stage.cell(caller(module, {name: words}))
        self._cell.init()
        self._instance = instance = self._cell._instance
        assert instance is not None
        exports, store, imports = instance._exports, instance._store, instance._imports
        self._call = Export(store, exports[f"call {name}"], imports, words)
        self._reset = Export(store, exports["reset"], imports, 0)
        self._heap: Any = exports["heap"]
        self._message = Pool(message, [*BYTES, *BOMBS])
        self._memory = instance.memory
        self._memory.refresh()
        self._base = bytes(range(1, 256)) * 258
        self._base = self._base[:PAGE]
        self._memory.write(0, self._base)

    def make(self, rng: Random) -> bytes:
        """Return words, half of them sensible, and a message."""
        message = self._message(rng)
        size = len(message)
        address = rng.choice((0, 64, 1024, PAGE - size, 3)) & 0xFFFF_FFFF
        sensible = (address, size, 2048, 2052, address, size, 2056, 2060, 1, 0, 2, 3)
        words = [sensible[at] if rng.random() < 0.8 else _hostile_word(rng, address, size) for at in range(self._words)]
        return b"".join([word.to_bytes(4, "little") for word in words]) + message

    def check(self, data: bytes) -> None:
        """Call; look at the answer, the memory and the host."""
        words, message = self._split(data)
        instance, memory = self._instance, self._memory
        assert instance is not None
        self._place(words, message)
        before = memory.view.tobytes()
        instance.enter()
        try:
            self._reset()
            code = self._call(*words)
        except EngineFault as fault:
            if not isinstance(fault.cause, self._faults):
                raise
            code = 0
        finally:
            instance.leave()
        self._stage.check()
        if code not in self._codes:
            raise Broken(f"{self._name}{tuple(words)} answers {code}")
        if memory.size != PAGE or self._cell.spent:
            raise Broken("the guest is not as it was")
        self._check_memory(words, before, memory.view.tobytes(), code)
        memory.write(0, self._base)

    def _split(self, data: bytes) -> tuple[list[int], bytes]:
        width = 4 * self._words
        head = data[:width].ljust(width, b"\0")
        return [int.from_bytes(head[at : at + 4], "little") for at in range(0, width, 4)], data[width:]

    def _place(self, words: list[int], message: bytes) -> None:
        room = (word for word in words if word + len(message) <= HEAP)
        at = next((word for word in words[:1] if word + len(message) <= PAGE), None)
        self._memory.write(next(room, 0) if at is None else at, message[:HEAP])

    def _check_memory(self, words: list[int], before: bytes, after: bytes, code: int) -> None:
        """What changed must lie where an answer may be put: above the heap's start, or at a word that is an address."""
        if before == after:
            return
        writable = bytearray(before)
        allowed = [(HEAP, PAGE)] + [(word, min(PAGE, word + 4)) for word in words if word < PAGE]
        for start, end in allowed:
            writable[start:end] = after[start:end]
        if writable != after:
            raise Broken(f"{self._name}{tuple(words)} = {code} wrote where nothing may be written")

    def close(self) -> None:
        """Release the cell and the stage."""
        self._cell.close()
        self._stage.close()


class WasiCaller(Caller):
    """The same for WASI, whose functions may write whatever their words describe; only the host is looked at."""

    _faults: tuple[type[Exception], ...] = (TimeoutError,)  # a sleep past the deadline ends the step

    def _check_memory(self, words: list[int], before: bytes, after: bytes, code: int) -> None:
        """Leave memory to the guest."""


class EngineWasiCaller(WasiCaller):
    """The same for the engine's own functions, which end the guest for words that ours answer with an errno."""

    _faults = (TimeoutError, wasmtime.Trap, wasmtime.WasmtimeError)


def _hostile_word(rng: Random, address: int, size: int) -> int:
    odds = int(rng.random() * 4)
    if odds == 0:
        return (rng.choice((0, PAGE, PAGE, 1 << 31, 1 << 32)) + rng.randrange(-9, 10)) & 0xFFFF_FFFF
    if odds == 1:
        return (rng.choice((address, address + size, size, PAGE - size)) + rng.randrange(-4, 5)) & 0xFFFF_FFFF
    if odds == 2:
        return rng.randrange(PAGE)
    return rng.getrandbits(32)


def _subscriptions(rng: Random) -> bytes:
    """Return tables as WASI reads them: vectors, subscriptions."""
    rows = []
    for _ in range(rng.randrange(1, 5)):
        if rng.random() < 0.5:
            rows.append(
                rng.randrange(PAGE).to_bytes(4, "little") + rng.choice((0, 5, PAGE, 1 << 31)).to_bytes(4, "little")
            )
        else:
            rows.append(rng.randbytes(8) + bytes([rng.randrange(4)]) + bytes(7) + rng.randbytes(32))
    return b"".join(rows)


# Misbehaviour -----------------------------------------------------------------------------------------------------

MOODS = {
    "sound": "(call $bump (local.get $size))",
    "nothing": "(i32.const 0)",
    "end": "(i32.mul (memory.size) (i32.const 65536))",
    "straddles": "(i32.sub (i32.mul (memory.size) (i32.const 65536)) (i32.const 8))",
    "last of all": "(i32.const -8)",
    "overlaps the script": "(i32.const 16)",
    "the same again": "(i32.const 8192)",
    "grows": "(i32.mul (memory.grow (i32.const 1)) (i32.const 65536))",
    "traps": "(unreachable)",
    "exits": "(call $exit (i32.const 3)) (i32.const 8192)",
    "logs": "(drop (call $log (i32.const 1) (i32.const 0) (i32.const 40))) (call $bump (local.get $size))",
    "asks": "(drop (call $entropy (i32.const 64) (i32.const 4) (i32.const 80) (i32.const 84)))"
    " (call $bump (local.get $size))",
}
STEPS = {
    "returns": "(i32.const 0)",
    "returns a code": "(i32.const -1)",
    "traps": "(unreachable)",
    "exits": "(call $exit (i32.const 0)) (i32.const 0)",
    "asks": "(call $entropy (i32.const 64) (i32.const 4) (i32.const 80) (i32.const 84))",
    "logs": "(call $log (i32.const 9) (i32.const -1) (i32.const 40))",
    "divides": "(i32.div_u (i32.const 1) (i32.load (i32.const 4)))",
    "grows": "(memory.grow (i32.const 2))",
}
SCRIPT_BYTES = 40
"""The script lies at 16: for each allocation a mood, for each step a way, taken in turn."""


def misbehaving() -> str:
    """Return a guest whose allocator and steps do what a script in its memory says."""

    def cases(choices: dict[str, str], result: str) -> str:
        rows = []
        for at, body in enumerate(choices.values()):
            rows.append(f"(if (i32.eq (local.get $mood) (i32.const {at})) (then (return {body})))")
        return "\n    ".join(rows) + f"\n    {result}"

    return f"""(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (import "pulp" "log_write" (func $log (param i32 i32 i32) (result i32)))
  (import "pulp" "entropy_read" (func $entropy (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1 16)
  (data (i32.const 64) "\\81\\a1n\\05")
  (global $heap (mut i32) (i32.const 4096))
  (global $at (mut i32) (i32.const 0))
  (global $steps (export "steps") (mut i32) (i32.const 0))
  (global $returned (export "returned") (mut i32) (i32.const 0))
  (func $bump (param $size i32) (result i32)
    (if (i32.gt_u (i32.add (global.get $heap) (local.get $size)) (i32.const 57344))
      (then (global.set $heap (i32.const 4096))))
    (global.get $heap)
    (global.set $heap (i32.add (global.get $heap) (local.get $size))))
  (func $next (result i32)
    (i32.load8_u (i32.add (i32.const 16) (i32.rem_u (global.get $at) (i32.const {SCRIPT_BYTES}))))
    (global.set $at (i32.add (global.get $at) (i32.const 1))))
  (func (export "pulp_alloc") (param $size i32) (result i32) (local $mood i32)
    (local.set $mood (call $next))
    {cases(MOODS, "(call $bump (local.get $size))")})
  (func $way (result i32) (local $mood i32)
    (local.set $mood (call $next))
    {cases(STEPS, "(i32.const 0)")})
  (func (export "pulp_step") (param i32 i32) (result i32)
    (global.set $steps (i32.add (global.get $steps) (i32.const 1)))
    (call $way)
    (global.set $returned (i32.add (global.get $returned) (i32.const 1))))
  (func (export "pulp_free") (param i32 i32)
    (if (i32.eq (call $next) (i32.const 255)) (then (unreachable))))
  (func (export "pulp_init") (param i32 i32) (result i32) (i32.const 0))
  (func (export "pulp_shutdown") (result i32) (i32.const 0)))"""


class Misbehaving:
    """Steps a guest whose every export may go wrong, several events at a time.

    An input is a script, then sizes of events, one for each byte.
    """

    def __init__(self) -> None:
        self._stage = Stage()
        self._text = misbehaving()
        self._cell: Cell | None = None
        self._number = 0

    def make(self, rng: Random) -> bytes:
        """Return a script, mostly sound, and sizes."""
        odds = rng.choice((0.01, 0.1, 0.5))
        script = [
            rng.choice((1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 255)) if rng.random() < odds else 0
            for _ in range(SCRIPT_BYTES)
        ]
        return bytes(script) + rng.randbytes(rng.randrange(1, 12))

    def check(self, data: bytes) -> None:
        """Step; compare what the host believes with what the guest counted."""
        script, sizes = data[:SCRIPT_BYTES].ljust(SCRIPT_BYTES, b"\0"), data[SCRIPT_BYTES:] or b"\1"
        cell = self._fresh()
        instance = cell._instance
        assert instance is not None
        store, exports = instance._store, instance._exports
        steps, returned = exports["steps"], exports["returned"]
        instance.memory.write(16, script)
        events = [
            StepEvent("fuzz", bytes([0xC6]) + (size * 97).to_bytes(4, "big") + bytes(size * 97)) for size in sizes
        ]
        before = steps.value(store), returned.value(store)
        made, error = cell.steps(self._number, events)
        self._number += 1
        self._stage.check()
        ran, back = steps.value(store) - before[0], returned.value(store) - before[1]
        if not 0 <= made <= len(events) or (not made and error is None):
            raise Broken(f"{made} steps of {len(events)} and {error!r}")
        if error is not None and not isinstance(error, CellError):
            raise Broken(f"a {type(error).__name__}")
        if not made <= back <= ran <= made + 1:
            raise Broken(f"{made} steps made, {ran} begun, {back} came back: {error!r}")
        if isinstance(error, CallFailed):
            if cell.spent or ran != made:
                raise Broken(f"a bad address spends the cell: {error}")
        elif bool(error) != bool(cell.spent):
            raise Broken(f"{error!r}, and the cell is {cell.spent or 'sound'}")
        if cell.spent and not isinstance(cell.steps(self._number, events)[1], CellClosed):
            raise Broken("a spent cell runs")

    def _fresh(self) -> Cell:
        if self._cell is None or self._cell.spent:
            if self._cell is not None:
                self._cell.close()
            self._cell = self._stage.cell(self._text, max_memory_pages=16)
            self._cell.init()
        return self._cell

    def close(self) -> None:
        """Release everything."""
        if self._cell is not None:
            self._cell.close()
        self._stage.close()


def targets() -> list[Target]:
    """Return the targets of this file."""
    found = []
    shapes = structs()
    for capability in capabilities():
        for name, function in capability.functions.items():
            shape = next((shapes[word] for word in re.findall(r"\w+", function.signature) if word in shapes), None)
            message = Packer(shape) if shape is not None else _lines
            codes = TASK_IDS if function.name in TASKS else SMALL_CODES
            found.append(
                Target(
                    f"import-{name}",
                    "a small code; memory and host as they were",
                    partial(Caller, "pulp", function.name, function.words, message, codes),
                    share=8,
                )
            )
    for session, functions in ((WasiCaller, OURS), (EngineWasiCaller, ENGINES)):
        for name, words in functions.items():
            found.append(
                Target(
                    f"wasi-{name}",
                    "an errno; the host as it was",
                    partial(session, "wasi_snapshot_preview1", name, words, _subscriptions, SMALL_CODES),
                    share=4 if name in OURS else 1,
                    # The engine makes random bytes in a buffer of its own before it looks where they are to go.
                    slack=64 << 20 if name == "random_get" else LEAK_BYTES,
                )
            )
    found.append(
        Target("misbehaving", "the host counts what the guest counts; a spent cell rests", Misbehaving, share=4)
    )
    return found


def _lines(rng: Random) -> bytes:
    """Return text for a log, or anything."""
    if rng.random() < 0.5:
        return mutated(rng, b"a line\nand another\x1b[31m\r\n" * rng.randrange(4))
    return pack_value(rng)
