"""One small message back and forth on many WebSockets: our host with an echo cell, beside bare servers.

    python -m benchmarks.websocket [--seconds 2] [--rounds 3] [--quick]

Every server runs the whole time; in each round each gets its turn at 1, 64 and 1,000 connections, in another order
every round. Figures are medians over the rounds, ratios are medians of the rounds' own ratios. The load is made by
`websocket_load`, a process of its own, which shares the machine's processors with the servers.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from statistics import median

from benchmarks.measure import Unmeasurable, cpu_seconds, leave, resident_mib, table
from benchmarks.peers import CACHE, HERE, ROOT, Peer, free_port, pulp, workerd

CONNECTIONS = (1, 64, 1_000)
C_CELL = "pulp, C cell"
BARE = "websockets"
BARE_UVLOOP = "websockets on uvloop"
WORKERD = "workerd"
START_SECONDS = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Echo:
    """What one run of the load saw.

    Attributes:
        messages: back in all.
        messages_per_second: by the load's own clock.
        p50_ms: half of them took no longer.
        p99_ms: all but a hundredth took no longer.
        cpu_us: processor time of the server per message.
    """

    messages: int
    messages_per_second: float
    p50_ms: float
    p99_ms: float
    cpu_us: float


Rounds = list[dict[tuple[str, int], Echo]]


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.websocket", description="Messages on WebSockets.")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of one run of the load (2)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds; figures are medians over them (3)")
    parser.add_argument("--quick", action="store_true", help="one round of one second: does it work at all?")
    options = parser.parse_args()
    seconds, rounds = (1.0, 1) if options.quick else (options.seconds, options.rounds)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # the servers inherit it
    peers, missing = all_peers()
    for problem in missing:
        print(f"!! LEFT OUT: {problem}", file=sys.stderr)
    try:
        with ExitStack() as stack:
            servers = [(peer, *stack.enter_context(running(peer))) for peer in peers]
            measured = measure(servers, seconds, rounds)
            memory = {peer.name: resident_mib(pid) for peer, pid, _port in servers}
    except Unmeasurable as problem:
        leave(problem)
    print(report(peers, measured, memory))
    print(
        f"\n{time.strftime('%Y-%m-%d')}, CPython {platform.python_version()}, {os.cpu_count()} processors shared by "
        f"server and load, {platform.machine()}; 32 bytes, one message on its way per connection, {seconds:g} s, "
        f"median of {rounds} interleaved rounds."
    )
    for problem in missing:
        print(f"Left out: {problem}.")


def all_peers() -> tuple[list[Peer], list[str]]:
    """Return the servers there are, and why others are missing."""
    module = [sys.executable, "-m", "benchmarks.websocket_bare"]
    about = f"websockets {version('websockets')}, an echo in three lines, no compression"
    peers = [
        pulp(C_CELL, "examples/ws-echo/c"),
        Peer(BARE, about, lambda port: [*module, str(port)]),
        Peer(BARE_UVLOOP, f"{about}, uvloop {version('uvloop')}", lambda port: [*module, str(port), "uvloop"]),
    ]
    try:
        http = workerd()
    except Unmeasurable as problem:
        return peers, [str(problem)]
    program = http.command(0)[0]
    config = str(HERE / "workerd" / "websocket.capnp")
    command = [program, "serve", config]
    peers.append(Peer(WORKERD, http.about, lambda port: [*command, f"--socket-addr=http=127.0.0.1:{port}"]))
    return peers, []


@contextmanager
def running(peer: Peer) -> Iterator[tuple[int, int]]:
    """Run a peer while the block lasts; give its process and its port, once it accepts connections."""
    CACHE.mkdir(exist_ok=True)
    port = free_port()
    environment = {name: value for name, value in os.environ.items() if name != "HTTP_PORT"} | dict(peer.environment)
    process = subprocess.Popen(
        peer.command(port), cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    try:
        _await_answer(peer, process, port)
        yield process.pid, port
    finally:
        process.terminate()
        try:
            process.wait(10.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await_answer(peer: Peer, process: subprocess.Popen[bytes], port: int) -> None:
    """Wait until a message comes back."""
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        if process.poll() is not None:
            raise Unmeasurable(f"{peer.name} ended with status {process.returncode}")
        try:
            socket.create_connection(("127.0.0.1", port), 1.0).close()
        except OSError:
            time.sleep(0.02)
            continue
        if subprocess.run(_load(port, 1, 0.01), cwd=ROOT, capture_output=True, check=False).returncode == 0:
            return
    raise Unmeasurable(f"{peer.name} does not echo on port {port} after {START_SECONDS:g} s")


def _load(port: int, connections: int, seconds: float) -> list[str]:
    return [sys.executable, "-m", "benchmarks.websocket_load", str(port), str(connections), str(seconds)]


def measure(servers: Sequence[tuple[Peer, int, int]], seconds: float, rounds: int) -> Rounds:
    """Return each round's figures by server and connections."""
    for _peer, pid, port in servers:
        echo(pid, port, 16, 0.5)
    measured: Rounds = []
    for number in range(rounds):
        turn = number % len(servers)
        found = {}
        for connections in CONNECTIONS:
            for peer, pid, port in [*servers[turn:], *servers[:turn]]:
                found[peer.name, connections] = echo(pid, port, connections, seconds)
        measured.append(found)
        print(f"round {number + 1} of {rounds} done", file=sys.stderr)
    return measured


def echo(pid: int, port: int, connections: int, seconds: float) -> Echo:
    """Run the load once.

    Raises:
        Unmeasurable: something else came back, or nothing.
    """
    before = cpu_seconds(pid)
    done = subprocess.run(_load(port, connections, seconds), cwd=ROOT, capture_output=True, text=True, check=False)
    spent = cpu_seconds(pid) - before
    if done.returncode:
        raise Unmeasurable(f"port {port}, {connections} connections: {done.stderr.strip()[-300:]}")
    seen = json.loads(done.stdout)
    return Echo(**seen, cpu_us=spent / max(seen["messages"], 1) * 1e6)


def report(peers: Sequence[Peer], measured: Rounds, memory: dict[str, float]) -> str:
    """Return the tables as Markdown."""

    def middle(name: str, connections: int, figure: Callable[[Echo], float]) -> float:
        return median(figure(found[name, connections]) for found in measured)

    rows = []
    for peer in peers:
        row = [peer.name]
        for connections in CONNECTIONS:
            rate = middle(peer.name, connections, lambda one: one.messages_per_second)
            p50 = middle(peer.name, connections, lambda one: one.p50_ms)
            p99 = middle(peer.name, connections, lambda one: one.p99_ms)
            row.append(f"{rate:,.0f} · {p50:.2f} · {p99:.2f}")
        row += [f"{middle(peer.name, 64, lambda one: one.cpu_us):.1f}", f"{memory[peer.name]:.0f}"]
        rows.append(row)
    head = ["server", *(f"{count:,} conn: messages/s · p50 · p99 ms" for count in CONNECTIONS)]
    head += ["CPU µs/message at 64", "RSS MiB"]
    about = "\n".join(f"{peer.name}: {peer.about}" for peer in peers)
    return f"{table(head, rows)}\n\n{ratios(measured)}\n\n{about}"


def ratios(measured: Rounds) -> str:
    """Return the comparisons that the project holds itself to."""

    def between(one: str, other: str, connections: int) -> str:
        rates = (
            found[one, connections].messages_per_second / found[other, connections].messages_per_second
            for found in measured
        )
        return f"{median(rates):.2f}"

    rows = [
        [f"messages/s, {C_CELL} / {other}, {count:,} connections", between(C_CELL, other, count)]
        for other in (BARE, BARE_UVLOOP)
        for count in CONNECTIONS
    ]
    return table(["ratio", ""], rows)


if __name__ == "__main__":
    main()
