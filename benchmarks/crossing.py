"""One call across the boundary, in process: our crossing, and the engine's public Python API doing the same work.

    python -m benchmarks.crossing [--seconds 0.3] [--rounds 5] [--quick]

call        an export `(i32, i32) -> i32` that does nothing
callback    an export that calls one host function of two words
step        a whole request of the C echo cell: envelope encoded, alloc, write, `pulp_step`, `http_respond` in Python
            with its record decoded, free; for ours also the deadline, the lock and the checks of every address
batched     sixteen of those in one crossing, as a busy host makes them, per step; the public API has nothing like it
            and makes sixteen
idle        a step without an event, in the buffer that is kept for it

Both sides use one engine configuration, deadlines compiled in. Figures are medians over the rounds, sides interleaved.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from statistics import median

import msgspec
import wasmtime

from benchmarks.measure import table
from benchmarks.peers import ROOT
from pulp_runtime._kernel.cell import Cell
from pulp_runtime._kernel.engine import Engine, engine_config
from pulp_runtime._kernel.registry import Registry
from pulp_runtime.abi.envelope import encode_step, idle_envelope
from pulp_runtime.abi.http import HTTPRegister, HTTPResponse, encode_http_request
from pulp_runtime.ext import U32, Capability, CellRef, StepEvent, host_function
from pulp_runtime.manifest.cell import CellSpec, load_cell

ECHO = ROOT / "examples" / "echo" / "c"
BATCH = 16
FAR_AWAY = 1 << 40
"""A deadline, in epochs, that does not come."""

# pulp_step does nothing; pulp_init hands its two words to a host function.
PROBE = """
(module
  (import "pulp" "probe_take" (func $take (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "pulp_alloc") (param i32) (result i32) (i32.const 1024))
  (func (export "pulp_init") (param i32 i32) (result i32) (call $take (local.get 0) (local.get 1)))
  (func (export "pulp_step") (param i32 i32) (result i32) (i32.const 0))
  (func (export "pulp_shutdown") (result i32) (i32.const 0)))
"""

REQUEST = encode_http_request(
    1,
    "GET",
    "/echo/hello",
    params={"msg": "hello"},
    query={},
    headers={"User-Agent": "benchmark", "Accept": "*/*"},
    body=b"",
    remote_addr="127.0.0.1:50000",
)


class Probe:
    """`benchmark.probe`: one import that takes two words."""

    @host_function
    def probe_take(self, first: U32, second: U32) -> U32:
        """Answer something of both."""
        return first ^ second


class Http:
    """`transport.http.inbound` without a network: remembers the last answer."""

    def __init__(self) -> None:
        self.answer: HTTPResponse | None = None

    @host_function
    def http_register(self, route: HTTPRegister) -> None:
        """Take any route."""

    @host_function
    def http_respond(self, _cell: CellRef, answer: HTTPResponse) -> None:
        """Keep the answer; the shape is that of the real one."""
        self.answer = answer


class Ours:
    """The four operations through the kernel."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        wasm = folder / "probe.wasm"
        wasm.write_bytes(wasmtime.wat2wasm(PROBE))
        manifest = folder / "pulp.cell.toml"
        spec = CellSpec(
            manifest_path=manifest, name="probe", version="0", wasm_path=wasm, capabilities=("benchmark.probe",)
        )
        self.http = Http()
        registry = Registry(prefill=False)
        registry.gated(Capability.of("benchmark.probe", Probe()))
        registry.gated(Capability.of("transport.http.inbound", self.http))
        self.probe = Cell.load(spec, registry, engine=engine)
        self.echo = Cell.load(load_cell(ECHO), registry, engine=engine)
        self.echo.init()
        instance = self.probe._instance
        assert instance is not None
        instance.enter()  # the bare exports below run within this one deadline
        self._call = instance.export("pulp_step")
        self._callback = instance.export("pulp_init")
        self._event = StepEvent("http.request", REQUEST, 1, "echo")

    def operations(self) -> dict[str, Callable[[], object]]:
        """Return what is timed."""
        call, callback, cell, event = self._call, self._callback, self.echo, self._event
        batch = [event] * BATCH
        assert call is not None
        assert callback is not None
        return {
            "call": lambda: call.call2(7, 8),
            "callback": lambda: callback.call2(7, 8),
            "step": lambda: cell.deliver(1, event),
            "batched step": lambda: cell.steps(1, batch),
            "idle": lambda: cell.idle(1),
        }


class Public:
    """The same through `wasmtime.Func.__call__`, `Memory.read`, `Memory.write` and `Linker.define_func`."""

    def __init__(self) -> None:
        self.answer: HTTPResponse | None = None
        self._decode = msgspec.msgpack.Decoder(HTTPResponse).decode
        engine = wasmtime.Engine(engine_config())
        self._store = wasmtime.Store(engine)
        self._store.set_epoch_deadline(FAR_AWAY)
        wasi = wasmtime.WasiConfig()
        self._store.set_wasi(wasi)
        i32 = wasmtime.ValType.i32()
        two = wasmtime.FuncType([i32, i32], [i32])
        linker = wasmtime.Linker(engine)
        linker.define_wasi()
        linker.define_func("pulp", "probe_take", two, lambda first, second: first ^ second)
        linker.define_func("pulp", "http_register", two, lambda _address, _length: 0)
        linker.define_func("pulp", "http_respond", two, self._respond, access_caller=True)
        self._probe = self._exports(linker, wasmtime.Module(engine, wasmtime.wat2wasm(PROBE)))
        self._echo = self._exports(linker, wasmtime.Module.from_file(engine, str(ECHO / "echo.wasm")))
        initialize = self._echo.get("_initialize")
        if initialize is not None:
            initialize(self._store)  # type: ignore[operator]
        self._echo["pulp_init"](self._store, 0, 0)  # type: ignore[operator]
        self._kept = self._echo["pulp_alloc"](self._store, 20)  # type: ignore[operator]

    def _exports(self, linker: wasmtime.Linker, module: wasmtime.Module) -> dict[str, wasmtime.AsContext]:
        exports = linker.instantiate(self._store, module).exports(self._store)
        return {name: exports[name] for name in exports}  # type: ignore[misc]

    def _respond(self, caller: wasmtime.Caller, address: int, length: int) -> int:
        memory = caller["memory"]
        self.answer = self._decode(bytes(memory.read(caller, address, address + length)))  # type: ignore[union-attr]
        return 0

    def operations(self) -> dict[str, Callable[[], object]]:
        """Return what is timed."""
        store = self._store
        call, callback = self._probe["pulp_step"], self._probe["pulp_init"]
        names = ("pulp_alloc", "pulp_step", "pulp_free", "memory")
        alloc, step, free, memory = (self._echo[name] for name in names)
        kept = self._kept

        def whole_step() -> None:
            envelope = encode_step(1, time.time_ns(), "http.request", REQUEST)
            address = alloc(store, len(envelope))  # type: ignore[operator]
            memory.write(store, envelope, address)  # type: ignore[attr-defined]
            step(store, address, len(envelope))  # type: ignore[operator]
            free(store, address, len(envelope))  # type: ignore[operator]

        def whole_batch() -> None:
            for _ in range(BATCH):
                whole_step()

        def idle() -> None:
            memory.write(store, idle_envelope(1, time.time_ns()), kept)  # type: ignore[attr-defined]
            step(store, kept, 20)  # type: ignore[operator]

        return {
            "call": lambda: call(store, 7, 8),  # type: ignore[operator]
            "callback": lambda: callback(store, 7, 8),  # type: ignore[operator]
            "step": whole_step,
            "batched step": whole_batch,
            "idle": idle,
        }


def microseconds(operation: Callable[[], object], seconds: float) -> float:
    """Return what one call costs, measured for about `seconds`."""
    clock = time.perf_counter
    times = 1
    while True:
        began = clock()
        for _ in range(times):
            operation()
        took = clock() - began
        if took >= seconds / 2:
            return took / times * 1e6
        times = max(2 * times, int(times * seconds / max(took, 1e-6) * 0.9))


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.crossing", description="Calls into a cell, in process.")
    parser.add_argument("--seconds", type=float, default=0.3, help="length of one measurement (0.3)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds; figures are medians over them (5)")
    parser.add_argument("--quick", action="store_true", help="one short round: does it work at all?")
    options = parser.parse_args()
    seconds, rounds = (0.05, 1) if options.quick else (options.seconds, options.rounds)
    with tempfile.TemporaryDirectory() as folder:
        engine = Engine(Path(folder) / "modules")
        ours, public = Ours(engine, Path(folder)), Public()
        sides = {"pulp": ours.operations(), "public": public.operations()}
        found: dict[tuple[str, str], list[float]] = {}
        for _ in range(rounds):
            for operation in sides["pulp"]:
                for side, operations in sides.items():
                    found.setdefault((side, operation), []).append(microseconds(operations[operation], seconds))
        assert ours.http.answer == public.answer, "both sides must have got the same answer from the cell"
        for cell in (ours.probe, ours.echo):
            cell.close()
        engine.close()
    rows = []
    for operation in sides["pulp"]:
        count = BATCH if operation == "batched step" else 1
        mine, theirs = (median(found[side, operation]) / count for side in ("pulp", "public"))
        rows.append([operation, f"{mine:.2f}", f"{theirs:.1f}", f"{theirs / mine:.0f}"])
    print(table(["operation", "pulp µs", f"wasmtime {version('wasmtime')} public API µs", "ratio"], rows))
    print(f"\nMedian of {rounds} interleaved rounds of about {seconds:g} s each.")


if __name__ == "__main__":
    main()
