"""`cloud.kv` through files, by a C program: `open`, `read` or `write`, `close` of a key.

    python -m benchmarks.kv_files [--count 5000] [--rounds 5] [--quick]

put      a value, in place of the one before; on disk when `close` returns
get      of a key that is in memory
append   100 bytes to each of a thousand short values, a change each
tmp      the same acts in `/tmp`, which is memory: what the layer below costs by itself
mount    what a run pays for a scope that it does not use
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.measure import table
from pulp_runtime._kernel.engine import Engine
from pulp_runtime._kernel.lines import LineLog
from pulp_runtime._kernel.programs.program import Program, unasked
from pulp_runtime._kernel.programs.run import ProgramRun
from pulp_runtime.capabilities.cloud import kv
from pulp_runtime.ext import CellRef, Folder, Grants
from pulp_runtime.kv.store import Store
from pulp_runtime.log import Log
from pulp_runtime.manifest.limits import Limits
from pulp_runtime.testing import FakeHost
from pulp_runtime.wasi import MemoryFolder, Pipe

ACTS = (("put", 100), ("get", 100), ("put", 4096), ("get", 4096), ("put", 65_536), ("get", 65_536), ("append", 100))


class Side:
    """A program and a folder that it works in."""

    def __init__(self, program: Program, root: str, tmp: MemoryFolder) -> None:
        self._program, self._root, self._tmp = program, root, tmp

    def microseconds(self, act: str, count: int, size: int) -> float:
        """Return what one act takes, by the program's own clock."""
        said = Pipe()

        def prepare(run: ProgramRun) -> None:
            run.args[:] = ("kv_files", act, str(count), str(size), self._root)
            run.stdout = said.writer
            run.tree.children["tmp"] = self._tmp

        slot = self._program.take()
        outcome = slot.run(prepare=prepare)
        self._program.give(slot)
        if outcome.status != 0:
            raise RuntimeError(f"{act} in {self._root}: {outcome}")
        return int(said.reader.read(100)) / 1000


class _Mounting:
    """As much of a run as a mount needs."""

    def __init__(self, cell: CellRef) -> None:
        self.cell = cell
        self.tree = Folder()


def mounting(capability: Any, cell: CellRef, count: int) -> float:
    """Return the microseconds of one mount of one scope."""
    runs = [_Mounting(cell) for _ in range(count)]
    began = time.perf_counter()
    for run in runs:
        capability.mount(run)
    return (time.perf_counter() - began) / count * 1e6


def store_alone(folder: Path, count: int, size: int) -> float:
    """Return the microseconds of one put into the store itself."""
    store = Store(folder / "alone.db", folders=True)
    value = bytes(size)
    began = time.perf_counter()
    for number in range(count):
        store.put(b"key/%d" % (number % 1000), value)
    found = (time.perf_counter() - began) / count * 1e6
    store.close()
    return found


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kv_files", description="Keys and values as files.")
    parser.add_argument("--count", type=int, default=5_000, help="acts in one measurement (5,000)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds; figures are medians over them (5)")
    parser.add_argument("--quick", action="store_true", help="one short round: does it work at all?")
    options = parser.parse_args()
    count, rounds = (1_000, 1) if options.quick else (options.count, options.rounds)
    with tempfile.TemporaryDirectory() as name, FakeHost(Path(name) / "data") as host:
        folder = Path(name)
        module = folder / "kv_files.wasm"
        source = Path(__file__).with_suffix(".c")
        zig = [sys.executable, "-m", "ziglang", "cc", "-target", "wasm32-wasi", "-O2", "-s", "-o", str(module)]
        subprocess.run([*zig, str(source)], check=True)
        capability = kv.capability()
        assert capability.setup is not None
        capability.setup(host(capability.name))
        cell = CellRef(name="shop", id="shop", log=Log("pulp"), grants=Grants(kv={"local": "rw"}))
        capability.register(None, cell)  # type: ignore[arg-type]  # it defines no imports
        engine = Engine(folder / "cache")
        limits = Limits(call_seconds=600.0)
        program = Program(
            engine,
            engine.modules.load("kv_files", module, module.read_bytes()),
            module,
            cell,
            (capability,),
            limits,
            LineLog(cell.log, limits),
            blocking=nullcontext,
            ask=unasked,
        )
        tmp = MemoryFolder(256 << 20)
        tmp.make_folder(("key",))
        sides = {"files": Side(program, "/beta/kv/local", tmp), "tmp": Side(program, "/tmp", tmp)}
        rows = []
        for act, size in ACTS:
            times = min(count, 1_000) if act == "append" or size > 4096 else count
            found = {
                side: median(one.microseconds(act, times, size) for _ in range(rounds)) for side, one in sides.items()
            }
            alone = median(store_alone(folder, times, size) for _ in range(rounds)) if act == "put" else None
            rows.append([
                f"{act} {size:,} bytes", f"{found['files']:.1f}", f"{1e6 / found['files']:,.0f}", f"{found['tmp']:.1f}",
                "" if alone is None else f"{alone:.1f}",
            ])  # fmt: skip
        print(table(["act", "files µs", "a second", "tmp µs", "store µs"], rows))
        mounted = median(mounting(capability, cell, 10_000) for _ in range(rounds))
        print(f"\nmount: {mounted:.2f} µs a scope. Median of {rounds} rounds.")
        engine.close()
        if capability.teardown is not None:
            capability.teardown()


if __name__ == "__main__":
    main()
