"""What the benchmarks of storage share: a C cell, built on the spot, and the loop that measures it."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from benchmarks.measure import table
from benchmarks.peers import ROOT
from pulp_runtime._kernel.registry import Registry
from pulp_runtime.capabilities.storage import kv, sqlite
from pulp_runtime.manifest.cell import CellSpec
from pulp_runtime.testing import FakeHost
from pulp_runtime.testing.module import HereEngine
from pulp_runtime.testing.opened import OpenedCell

Operation = Callable[[], None]


def build(folder: Path) -> Path:
    """Compile `storage.c`; return the module. Needs the package `ziglang`."""
    module = folder / "storage.wasm"
    source = Path(__file__).with_name("storage.c")
    command = [sys.executable, "-m", "ziglang", "cc", "-target", "wasm32-wasi", "-mexec-model=reactor", "-std=c99"]
    command += ["-O2", "-s", "-I", str(ROOT / "sdk" / "c"), "-o", str(module), str(source)]
    subprocess.run(command, check=True)
    return module


@contextmanager
def loaded(folder: Path) -> Iterator[Callable[..., None]]:
    """Load the cell with both capabilities; yield `run(export, word, …)`, which raises if the guest answers a code."""
    capabilities = (sqlite.capability(), kv.capability())
    registry = Registry(prefill=False)
    engine = HereEngine()
    with FakeHost(folder / "data") as host:
        for capability in capabilities:
            if capability.setup is not None:
                capability.setup(host(capability.name))
            registry.gated(capability)
        spec = CellSpec(
            manifest_path=folder / "pulp.cell.toml",
            name="store",
            version="0",
            wasm_path=build(folder),
            capabilities=tuple(capability.name for capability in capabilities),
        )
        cell = OpenedCell.load(spec, registry, engine=engine)
        cell.init()

        def run(export: str, *words: int) -> None:
            code = cell.run(export, words)
            if code:
                raise RuntimeError(f"{export} answers {code}")

        yield run
        cell.close()
        for capability in capabilities:
            if capability.teardown is not None:
                capability.teardown()
        engine.close()


def compare(sides: Mapping[str, Mapping[str, tuple[Operation, int]]], rounds: int) -> None:
    """Run every operation of every side, interleaved; print medians of microseconds for one of its repetitions.

    Args:
        sides: by name, the operations by name: what to run, and how often it does its work.
        rounds: how often each is run.
    """
    first, second = sides
    found: dict[tuple[str, str], list[float]] = {}
    for _ in range(rounds):
        for name in sides[first]:
            for side, operations in sides.items():
                operation, count = operations[name]
                began = time.perf_counter()
                operation()
                found.setdefault((side, name), []).append((time.perf_counter() - began) / count * 1e6)
    rows = []
    for name in sides[first]:
        mine, theirs = (median(found[side, name]) for side in (first, second))
        rows.append([name, f"{mine:.2f}", f"{theirs:.2f}", f"{1e6 / mine:,.0f}", f"{100 * theirs / mine:.0f} %"])
    print(table(["operation", f"{first} µs", f"{second} µs", f"{first} a second", f"of {second}"], rows))
    print(f"\nMedian of {rounds} interleaved rounds.")
