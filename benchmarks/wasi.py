"""What a call of WASI costs: 4 KiB read and written, and a file opened, by a program in C.

    python -m benchmarks.wasi [--calls 200000]

Each figure is microseconds a call, the crossing from the guest and back included, best of three runs; opening counts
together with closing.
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
import tempfile
from pathlib import Path

from pulp_runtime.cli.once import run_once
from pulp_runtime.ext import Node, Run, Text
from pulp_runtime.wasi import MemoryFolder, Pipe, RealFolder

AIM_US = 15.0
FILE_BYTES = 1 << 20
RUNS = 3


def measured(wasm: Path, tree: dict[str, Node], act: str, calls: int, path: str) -> float:
    """Return the microseconds of one call, best of `RUNS`."""
    found = math.inf
    for _ in range(RUNS):
        out = Pipe()

        def prepare(run: Run, out: Pipe = out) -> None:
            run.args[:] = ("wasi", act, str(calls), path)
            run.stdout = out.writer
            run.tree.children.clear()
            for name, node in tree.items():
                run.tree.add(name, node)

        outcome = run_once(wasm, prepare, storage_root=wasm.parent)
        if outcome.status != 0:
            sys.exit(f"{act} {path}: {outcome}")
        found = min(found, float(out.take(64)))
    return found


def main() -> None:
    """Measure, and print a line for each kind of file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=200_000)
    calls = parser.parse_args().calls
    with tempfile.TemporaryDirectory() as folder:
        wasm = Path(folder) / "wasi.wasm"
        zig = [sys.executable, "-m", "ziglang", "cc", "-target", "wasm32-wasi", "-O2", "-s"]
        subprocess.run([*zig, "-o", str(wasm), str(Path(__file__).with_suffix(".c"))], check=True)
        disk = Path(folder) / "disk"
        disk.mkdir()
        (disk / "file").write_bytes(bytes(FILE_BYTES))
        tree: dict[str, Node] = {
            "/disk": RealFolder(disk),
            "/tmp": MemoryFolder(64 << 20),
            "/request/body": Text(bytes(FILE_BYTES)),
        }
        measured(wasm, tree, "write", 512, "/tmp/file")
        print(f"{'file':<16}{'read µs':>10}{'write µs':>10}{'open µs':>10}   (aim: {AIM_US:.0f} for 4 KiB)")
        for path, writable in (("/disk/file", True), ("/tmp/file", True), ("/request/body", False)):
            row = [measured(wasm, tree, "read", calls, path)]
            row.append(measured(wasm, tree, "write", calls, path) if writable else math.nan)
            row.append(measured(wasm, tree, "open", calls // 10, path))
            print(f"{path:<16}" + "".join(f"{figure:>10.2f}" for figure in row))


if __name__ == "__main__":
    main()
