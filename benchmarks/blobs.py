"""Objects through `cloud.blob`, written and read by a program in C, in MB a second.

    python -m benchmarks.blobs [--mib 256] [--rounds 5] [--quick]

write   open, write…, close: hashed, on disk, in the index
read    open, read…: each 1 MiB verified before it is given out, from the system's memory

The rows below are the same in plain Python on the same disk: write and `fsync` without a hash, SHA-256 alone.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from pulp_runtime import Host

SOURCE = Path(__file__).with_name("blobs.c")
STEPS = {"4 KiB": 4096, "64 KiB": 65_536, "1 MiB": 1 << 20}
MIB = 1 << 20
MANIFEST = """
name = "blobs"
version = "1.0.0"
execution = "function"
capabilities = ["transport.http.inbound", "cloud.blob"]
[function]
routes = ["GET /"]
timeout_ms = 60000
[cloud]
blob = { bench = "rw" }
[limits]
disk_quota_mb = 8192
"""


def compiled(folder: Path) -> Path:
    """Return the folder of the cell."""
    cell = folder / "cell"
    cell.mkdir()
    (cell / "pulp.cell.toml").write_text(MANIFEST)
    command = [sys.executable, "-m", "ziglang", "cc", "-target", "wasm32-wasi", "-O2", "-s"]
    subprocess.run([*command, "-o", cell / "cell.wasm", SOURCE], check=True)
    return cell


def rate(mib: int, work: Callable[[], object]) -> float:
    """Return how many MB of `mib` MiB `work` does in a second."""
    began = time.perf_counter()
    work()
    return mib * MIB / 1e6 / (time.perf_counter() - began)


def ask(url: str, mode: str, mib: int, step: int) -> None:
    """Have the program write or read the object."""
    client = http.client.HTTPConnection(url.removeprefix("http://"), timeout=120)
    client.request("GET", f"/?{mode}-{mib}-{step}")
    answer = client.getresponse()
    body = answer.read()
    client.close()
    if (answer.status, body) != (200, b"%d" % mib):
        sys.exit(f"the program answered {answer.status} {body!r}")


def plain(folder: Path, mib: int) -> None:
    """Write as much in plain Python."""
    piece = bytes(MIB)
    with (folder / "plain").open("wb", buffering=0) as file:
        for _ in range(mib):
            file.write(piece)
        os.fsync(file.fileno())


def hashed(mib: int) -> None:
    """Hash as much."""
    piece = bytes(MIB)
    digest = hashlib.sha256()
    for _ in range(mib):
        digest.update(piece)


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.blobs", description="Objects through a program in C.")
    parser.add_argument("--mib", type=int, default=256, help="length of the object in MiB (256)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds; figures are medians over them (5)")
    parser.add_argument("--quick", action="store_true", help="one short round: does it work at all?")
    options = parser.parse_args()
    mib, rounds = (32, 1) if options.quick else (options.mib, options.rounds)
    rows: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with Host([compiled(folder)], storage_root=folder / "data", http_port="127.0.0.1:0") as host:
            for _ in range(rounds):
                for label, step in STEPS.items():
                    for mode, verb in (("w", "write"), ("r", "read")):
                        figure = rate(mib, lambda mode=mode, step=step: ask(host.url, mode, mib, step))
                        rows.setdefault(f"{verb}, {label} at a time", []).append(figure)
                rows.setdefault("plain write and fsync", []).append(rate(mib, lambda: plain(folder, mib)))
                rows.setdefault("SHA-256", []).append(rate(mib, lambda: hashed(mib)))
    print(f"MB a second, {mib} MiB, medians of {rounds}")
    for label, figures in sorted(rows.items()):
        print(f"{label:<28}{statistics.median(figures):>8,.0f}")


if __name__ == "__main__":
    main()
