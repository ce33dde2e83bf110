"""One small request over a socket: our host with an echo cell, beside bare servers that say the same.

    python -m benchmarks.http_echo [--seconds 2] [--rounds 3] [--quick]

Every server runs the whole time; in each round each gets its turn at 1, 16 and 64 connections, in another order
every round, so that what the machine does meanwhile meets them alike. Figures are medians over the rounds, ratios
are medians of the rounds' own ratios. wrk, the servers and this script share the machine's processors.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from benchmarks.measure import Load, Unmeasurable, exact_cpu_seconds, leave, load, require_wrk, resident_mib, table
from benchmarks.peers import Peer, Running, granian, pulp, running, uvicorn, workerd

CONNECTIONS = (1, 16, 64)
IDLE_SECONDS = 5.0
SETTLE_SECONDS = 1.5
"""Time for servers to come to rest before their idle processor time is taken."""

C_CELL = "pulp, C cell"
GO_CELL = "pulp, Go cell"
GRANIAN = "granian RSGI"
UVICORN = "uvicorn ASGI"

Rounds = list[dict[tuple[str, int], Load]]


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.http_echo", description="Requests over a socket.")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of one run of wrk (2)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds; figures are medians over them (3)")
    parser.add_argument("--quick", action="store_true", help="one round of one second: does it work at all?")
    options = parser.parse_args()
    seconds, rounds = (1.0, 1) if options.quick else (options.seconds, options.rounds)
    try:
        require_wrk()
        peers, missing = all_peers()
        for problem in missing:
            print(f"!! LEFT OUT: {problem}", file=sys.stderr)
        starts = measure_starts(peers, 1 if options.quick else 3)
        with ExitStack() as stack:
            servers = [stack.enter_context(running(peer)) for peer in peers]
            measured = measure_load(servers, seconds, rounds)
            memory = {server.peer.name: resident_mib(server.pid) for server in servers}
            idle = measure_idle(servers)
    except Unmeasurable as problem:
        leave(problem)
    print(report(servers, measured, starts, memory, idle))
    print(f"\n{settings(seconds, rounds)}")
    for problem in missing:
        print(f"Left out: {problem}.")


def all_peers() -> tuple[list[Peer], list[str]]:
    """Return the servers there are, and why others are missing."""
    peers = [pulp(C_CELL, "examples/echo/c"), pulp(GO_CELL, "examples/echo/go"), granian(), uvicorn()]
    try:
        return [*peers, workerd()], []
    except Unmeasurable as problem:
        return peers, [str(problem)]


def measure_starts(peers: Sequence[Peer], times: int) -> dict[str, tuple[float | None, float]]:
    """Return seconds to the first answer: with nothing compiled yet (None where nothing is), and otherwise."""
    found: dict[str, tuple[float | None, float]] = {}
    cells = {C_CELL: "examples/echo/c", GO_CELL: "examples/echo/go"}
    for peer in peers:
        cold = None
        if peer.name in cells:
            with tempfile.TemporaryDirectory() as folder:
                cold = start_seconds(pulp(peer.name, cells[peer.name], cache=Path(folder) / "modules"))
        start_seconds(peer)  # fills the cache, and the kernel's
        found[peer.name] = (cold, median(start_seconds(peer) for _ in range(times)))
    return found


def start_seconds(peer: Peer) -> float:
    """Return how long one start takes."""
    with running(peer) as server:
        return server.start_seconds


def measure_load(servers: Sequence[Running], seconds: float, rounds: int) -> Rounds:
    """Return each round's figures by server and connections."""
    for server in servers:
        load(server.pid, server.url, connections=16, seconds=1.0)
    measured: Rounds = []
    for number in range(rounds):
        turn = number % len(servers)
        found = {}
        for connections in CONNECTIONS:
            for server in [*servers[turn:], *servers[:turn]]:
                key = (server.peer.name, connections)
                found[key] = load(server.pid, server.url, connections=connections, seconds=seconds)
        measured.append(found)
        print(f"round {number + 1} of {rounds} done", file=sys.stderr)
    return measured


def measure_idle(servers: Sequence[Running]) -> dict[str, float]:
    """Return the share of one processor each server uses while nobody asks anything."""
    time.sleep(SETTLE_SECONDS)
    before = [exact_cpu_seconds(server.pid) for server in servers]
    time.sleep(IDLE_SECONDS)
    spent = [exact_cpu_seconds(server.pid) - then for server, then in zip(servers, before, strict=True)]
    return {server.peer.name: seconds / IDLE_SECONDS for server, seconds in zip(servers, spent, strict=True)}


def report(
    servers: Sequence[Running],
    measured: Rounds,
    starts: dict[str, tuple[float | None, float]],
    memory: dict[str, float],
    idle: dict[str, float],
) -> str:
    """Return the tables as Markdown."""

    def middle(name: str, connections: int, figure: Callable[[Load], float]) -> float:
        return median(figure(found[name, connections]) for found in measured)

    rows = []
    for server in servers:
        name = server.peer.name
        cold, warm = starts[name]
        row = [name]
        for connections in CONNECTIONS:
            rate = middle(name, connections, lambda one: one.requests_per_second)
            p50 = middle(name, connections, lambda one: one.p50_ms)
            p99 = middle(name, connections, lambda one: one.p99_ms)
            row.append(f"{rate:,.0f} · {p50:.2f} · {p99:.2f}")
        row += [
            f"{middle(name, CONNECTIONS[-1], lambda one: one.cpu_us):.1f}",
            f"{memory[name]:.0f}",
            f"{idle[name]:.2%}",
            "-" if cold is None else f"{cold * 1000:,.0f}",
            f"{warm * 1000:,.0f}",
        ]
        rows.append(row)
    head = ["server", *(f"{count} conn: req/s · p50 · p99 ms" for count in CONNECTIONS)]
    head += ["CPU µs/req at 64", "RSS MiB", "idle CPU", "cold start ms", "start ms"]
    about = "\n".join(
        f"{server.peer.name}: {server.peer.about}; {server.head_bytes} B of headers" for server in servers
    )
    return f"{table(head, rows)}\n\n{ratios(measured)}\n\n{about}"


def ratios(measured: Rounds) -> str:
    """Return the comparisons that the project holds itself to."""

    def between(one: str, other: str, connections: int, figure: Callable[[Load], float]) -> str:
        return (
            f"{median(figure(found[one, connections]) / figure(found[other, connections]) for found in measured):.2f}"
        )

    def rate(one: Load) -> float:
        return one.requests_per_second

    rows = [
        ["req/s, pulp C cell / granian RSGI, 64 connections", between(C_CELL, GRANIAN, 64, rate)],
        ["req/s, pulp C cell / uvicorn, 64 connections", between(C_CELL, UVICORN, 64, rate)],
        ["p50, pulp C cell / uvicorn, 1 connection", between(C_CELL, UVICORN, 1, lambda one: one.p50_ms)],
    ]
    return table(["ratio", ""], rows)


def settings(seconds: float, rounds: int) -> str:
    """Return how and where it was measured."""
    when = time.strftime("%Y-%m-%d")
    return (
        f"{when}, CPython {platform.python_version()}, {os.cpu_count()} processors shared by server and wrk, "
        f"{platform.machine()}; wrk -t1 -cN -d{max(1, round(seconds))}s --latency, "
        f"median of {rounds} interleaved rounds."
    )


if __name__ == "__main__":
    main()
