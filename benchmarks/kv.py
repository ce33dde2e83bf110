"""`storage.kv` through a C cell, and the store itself called from Python.

    python -m benchmarks.kv [--count 10000] [--rounds 7] [--quick]

put     a value of 100 bytes, one transaction each
get     of keys that are in memory
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from benchmarks.store import Operation, compare, loaded
from pulp_runtime.kv.store import Store

KEYS = 2_000
VALUE = bytes(100)


def store_side(store: Store, count: int) -> dict[str, tuple[Operation, int]]:
    """Return the operations on the store itself."""

    def put() -> None:
        for number in range(min(count, KEYS)):
            store.put(b"%d" % number, VALUE)

    def get() -> None:
        for number in range(min(count, KEYS)):
            store.get(b"%d" % number)

    return {"put": (put, min(count, KEYS)), "get": (get, min(count, KEYS))}


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kv", description="Keys and values through a cell.")
    parser.add_argument("--count", type=int, default=10_000, help="repetitions in one measurement (10,000)")
    parser.add_argument("--rounds", type=int, default=7, help="rounds; figures are medians over them (7)")
    parser.add_argument("--quick", action="store_true", help="one short round: does it work at all?")
    options = parser.parse_args()
    count, rounds = (1_000, 1) if options.quick else (options.count, options.rounds)
    keys = min(count, KEYS)
    with tempfile.TemporaryDirectory() as name, loaded(Path(name)) as run:
        store = Store(Path(name) / "store" / "kv.db")
        cell: dict[str, tuple[Operation, int]] = {
            "put": (lambda: run("put", 0, keys), keys),
            "get": (lambda: [run("get", 0, keys) for _ in range(5)] and None, 5 * keys),
        }
        compare({"cell": cell, "store": store_side(store, count)}, rounds)
        store.close()


if __name__ == "__main__":
    main()
