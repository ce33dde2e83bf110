"""Files through a cell, and the same work in plain Python: microseconds an operation.

    python -m benchmarks.files [--seconds 0.3] [--rounds 5] [--quick]

read        a whole file, as one value
stat        what is known of it
write       the file replaced: whole or not at all, on the disk when it returns
write, not durable      the same without waiting for the disk (`durable = false`)

The cell is C and does each many times in one call, so what is measured is one import with all that it does: the
crossing, the path found component by component, the quota, the copies. Plain Python opens by path and, for the writes,
either truncates and writes, as most programs do, or does what the cell's host does: a new file, fsync, rename, fsync.
"""

from __future__ import annotations

import argparse
import os
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median

from benchmarks.crossing import microseconds
from benchmarks.measure import table
from benchmarks.peers import ROOT
from pulp_runtime import Host

SIZES = {"4 KiB": 4096, "1 MiB": 1 << 20}
TIMES = 20
"""Operations in one call."""


def build(into: Path) -> Path:
    """Compile the cell."""
    module = into / "files.wasm"
    source = ROOT / "benchmarks" / "files.c"
    flags = ["-target", "wasm32-wasi", "-mexec-model=reactor", "-O2", "-s", "-I", str(ROOT / "sdk" / "c")]
    subprocess.run([sys.executable, "-m", "ziglang", "cc", *flags, "-o", str(module), str(source)], check=True)
    return module


def cell(folder: Path, name: str, module: Path, durable: bool) -> Path:
    """Write the cell's folder."""
    here = folder / name
    here.mkdir()
    (here / "cell.wasm").write_bytes(module.read_bytes())
    (here / "pulp.cell.toml").write_text(
        f'name = "{name}"\nversion = "1"\ncapabilities = ["storage.fs"]\nprovides = ["read", "write", "stat"]\n'
        f'[settings."storage.fs"]\ndurable = {str(durable).lower()}\n'
    )
    return here


def through_cells(host: Host, size: int) -> dict[str, Callable[[], object]]:
    """Return what is timed, each `TIMES` times."""
    args = struct.pack("<II", TIMES, size)
    return {
        "read": lambda: host.call("durable", "read", args),
        "stat": lambda: host.call("durable", "stat", args),
        "write": lambda: host.call("durable", "write", args),
        "write, not durable": lambda: host.call("quick", "write", args),
    }


def in_python(folder: Path, size: int) -> dict[str, Callable[[], object]]:
    """Return the same and its cheaper sisters."""
    path, temporary = folder / f"python-{size}", folder / f"python-{size}.tmp"
    data = b"x" * size

    def read() -> None:
        with open(path, "rb") as file:
            file.read()

    def write(*, sync: bool) -> None:
        with open(path, "wb") as file:
            file.write(data)
            if sync:
                file.flush()
                os.fsync(file.fileno())

    def replace(*, sync: bool) -> None:
        with open(temporary, "wb") as file:
            file.write(data)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
        if sync:
            at = os.open(folder, os.O_RDONLY)
            os.fsync(at)
            os.close(at)

    write(sync=False)
    return {
        "read": read,
        "stat": lambda: os.stat(path),
        "write": lambda: replace(sync=True),
        "write, not durable": lambda: replace(sync=False),
        "truncate and write": lambda: write(sync=False),
        "truncate, write, fsync": lambda: write(sync=True),
    }


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.files", description="Files through a cell.")
    parser.add_argument("--seconds", type=float, default=0.3, help="length of one measurement (0.3)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds; figures are medians over them (5)")
    parser.add_argument("--quick", action="store_true", help="one short round: does it work at all?")
    options = parser.parse_args()
    seconds, rounds = (0.05, 1) if options.quick else (options.seconds, options.rounds)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        module = build(folder)
        cells = [cell(folder, "durable", module, True), cell(folder, "quick", module, False)]
        found: dict[tuple[str, str, str], list[float]] = {}
        with Host(cells, storage_root=folder / "data", cache=folder / "cache") as host:
            for size in SIZES.values():
                through_cells(host, size)["write"]()
            for _ in range(rounds):
                for label, size in SIZES.items():
                    for operation, run in through_cells(host, size).items():
                        spent = microseconds(run, seconds) / TIMES
                        found.setdefault((label, "pulp", operation), []).append(spent)
                    for operation, run in in_python(folder, size).items():
                        found.setdefault((label, "python", operation), []).append(microseconds(run, seconds))
    rows = []
    for label in SIZES:
        for operation in _operations(found, label):
            mine, plain = (found.get((label, side, operation)) for side in ("pulp", "python"))
            rows.append([label, operation, *(f"{median(each):.1f}" if each else "" for each in (mine, plain))])
    print(table(["size", "operation", "pulp, C cell µs", "plain Python µs"], rows))
    print(f"\nMedian of {rounds} interleaved rounds of about {seconds:g} s each, on {tempfile.gettempdir()}.")


def _operations(found: dict[tuple[str, str, str], list[float]], label: str) -> list[str]:
    return list(dict.fromkeys(operation for size, _side, operation in found if size == label))


if __name__ == "__main__":
    main()
