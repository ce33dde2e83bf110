"""Frames from one cell to another through shared memory: `examples/frames`.

    python -m benchmarks.frames [--seconds 2] [--rounds 7] [--quick]

Every frame is written by the producer and read by the consumer, all 64 KiB of it, where it lies: it adds up the
words and checks the sum. Figures are the payload the consumer has seen; the host is asked for four fences a batch of
up to 64 frames, and for nothing a frame.

in turn      the producer fills the ring, then the consumer empties it, on one thread: as with a call for each batch
at once      each on a thread of its own; whoever finds nothing to do rests for 20 µs
"""

from __future__ import annotations

import argparse
import struct
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from benchmarks.measure import table
from benchmarks.peers import ROOT
from pulp_runtime._kernel.cell import Cell
from pulp_runtime._kernel.engine import Engine
from pulp_runtime._kernel.registry import Registry
from pulp_runtime._kernel.shared_memory import SharedMemory
from pulp_runtime.ext import Capability

CELLS = ("producer", "consumer")
REST_SECONDS = 0.00002
Produce = Callable[[], bool]
Consume = Callable[[], tuple[int, int]]


@contextmanager
def loaded(folder: Path) -> Iterator[tuple[Produce, Consume]]:
    """Load both cells; yield what runs each once: whether it wrote any frame; frames and bytes seen so far."""
    registry, engine = Registry(prefill=False), Engine(folder)
    registry.always(SharedMemory().capability())
    registry.always(Capability(name="quiet", register=lambda linker, _: linker.define("log_write", 3, lambda *_: 0)))
    producer, consumer = (Cell.load(ROOT / "examples" / "frames" / name, registry, engine=engine) for name in CELLS)
    producer.init()
    consumer.init()

    def consume() -> tuple[int, int]:
        frames, seen, faulty = struct.unpack("<3Q", consumer.call("frames.consume", b""))
        if faulty:
            raise RuntimeError(f"{faulty} of {frames} frames are not what the producer wrote")
        return frames, seen

    try:
        yield lambda: any(producer.call("frames.produce", b"")), consume
    finally:
        producer.close()
        consumer.close()
        engine.close()


def in_turn(produce: Produce, consume: Consume, seconds: float) -> tuple[float, float]:
    """Return bytes a second, and frames a batch."""
    first, batches, began = consume(), 0, time.perf_counter()
    last = first
    while (took := time.perf_counter() - began) < seconds:
        produce()
        last = consume()
        batches += 1
    return (last[1] - first[1]) / took, (last[0] - first[0]) / batches


def at_once(produce: Produce, consume: Consume, seconds: float) -> tuple[float, float]:
    """Do the same with a thread for each."""
    over = threading.Event()

    def work() -> None:
        while not over.is_set():
            if not produce():
                time.sleep(REST_SECONDS)

    thread = threading.Thread(target=work)
    first, batches, began = consume(), 0, time.perf_counter()
    last = first
    thread.start()
    while (took := time.perf_counter() - began) < seconds:
        now = consume()
        if now == last:
            time.sleep(REST_SECONDS)
        batches += now != last
        last = now
    over.set()
    thread.join()
    return (last[1] - first[1]) / took, (last[0] - first[0]) / max(batches, 1)


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.frames", description="Frames through shared memory.")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of one measurement (2)")
    parser.add_argument("--rounds", type=int, default=7, help="rounds; figures are medians over them (7)")
    parser.add_argument("--quick", action="store_true", help="one short round: does it work at all?")
    options = parser.parse_args()
    seconds, rounds = (0.3, 1) if options.quick else (options.seconds, options.rounds)
    rows = []
    with tempfile.TemporaryDirectory() as name, loaded(Path(name)) as (produce, consume):
        for label, way in (("in turn", in_turn), ("at once", at_once)):
            found = [way(produce, consume, seconds) for _ in range(rounds)]
            rates = sorted(rate / 1e9 for rate, _ in found)
            spread = f"{rates[0]:.1f} to {rates[-1]:.1f}"
            rows.append((label, f"{median(rates):.1f}", spread, f"{median(batch for _, batch in found):.1f}"))
    print(table(("frames of 64 KiB", "GB/s seen", "rounds", "frames a batch"), rows))


if __name__ == "__main__":
    main()
