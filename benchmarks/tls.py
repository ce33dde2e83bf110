"""The small request of `http_echo`, encrypted: over HTTP/1.1 and over HTTP/2, and over HTTP/2 in the clear.

    python -m benchmarks.tls [--seconds 2] [--rounds 3] [--quick]

Our host with the C echo cell beside Granian with the bare application, both with the same certificate (ECDSA, P-256).
Every server runs the whole time and they take turns, in another order every round; figures are medians over the
rounds, ratios medians of the rounds' own ratios. wrk makes the load of HTTP/1.1 and h2load that of HTTP/2.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import platform
import re
import shutil
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import trustme
from cryptography.hazmat.primitives import serialization

from benchmarks.measure import Unmeasurable, cpu_seconds, leave, load, require_wrk, resident_mib, table
from benchmarks.peers import Peer, Running, granian, pulp, running

PULP, PULP_CLEAR = "pulp, C cell", "pulp, C cell, in the clear"
GRANIAN, GRANIAN_CLEAR = "granian RSGI", "granian RSGI, in the clear"
WARM_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Shape:
    """A way to ask.

    Attributes:
        name: in the tables.
        connections: open at once.
        streams: requests in flight on each; 0 for HTTP/1.1.
    """

    name: str
    connections: int
    streams: int


HTTP1 = (Shape("HTTP/1.1: 1 conn", 1, 0), Shape("64 conn", 64, 0))
HTTP2 = (  # what waits for a cell is bounded, so no more than 64 at a time
    Shape("HTTP/2: 1 × 1", 1, 1),
    Shape("1 × 64", 1, 64),
    Shape("8 × 8", 8, 8),
)


@dataclass(frozen=True, slots=True)
class Rate:
    """What one run saw.

    Attributes:
        per_second: requests answered.
        ms: how long one took: the median for HTTP/1.1, the mean for HTTP/2.
        cpu_us: processor time of the server for one.
    """

    per_second: float
    ms: float
    cpu_us: float


Rounds = list[dict[tuple[str, str], Rate]]


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tls", description="TLS and HTTP/2.")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of one run (2)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds; figures are medians over them (3)")
    parser.add_argument("--quick", action="store_true", help="one round of one second: does it work at all?")
    options = parser.parse_args()
    seconds, rounds = (1.0, 1) if options.quick else (options.seconds, options.rounds)
    try:
        require_wrk()
        if shutil.which("h2load") is None:
            raise Unmeasurable("h2load is not installed; it makes the load of HTTP/2: apt-get install nghttp2-client")
        with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
            servers = [stack.enter_context(running(peer)) for peer in peers(Path(folder))]
            measured = measure(servers, seconds, rounds)
            memory = {server.peer.name: resident_mib(server.pid) for server in servers}
    except Unmeasurable as problem:
        leave(problem)
    print(report(servers, measured, memory))
    print(
        f"\n{time.strftime('%Y-%m-%d')}, CPython {platform.python_version()}, {os.cpu_count()} processors shared by "
        f"server and load, {platform.machine()}, {ssl.OPENSSL_VERSION}; {max(1, round(seconds))} s a run, "
        f"median of {rounds} interleaved rounds."
    )


def peers(folder: Path) -> list[Peer]:
    """Return the servers, with a certificate in `folder`."""
    authority = trustme.CA()
    issued = authority.issue_cert("localhost", "127.0.0.1", key_type=trustme.KeyType.ECDSA)
    chain, key = folder / "server.pem", folder / "server.key"
    chain.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    loaded = serialization.load_pem_private_key(issued.private_key_pem.bytes(), None)
    key.write_bytes(  # the one form that Granian reads
        loaded.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    ours, clear, theirs = pulp(PULP, "examples/echo/c"), pulp(PULP_CLEAR, "examples/echo/c"), granian()
    files = [str(chain), "--http-key", str(key)]
    return [
        dataclasses.replace(ours, command=lambda port: [*ours.command(port), "--http-cert", *files], tls=trust),
        dataclasses.replace(clear, command=lambda port: [*clear.command(port), "--http2"]),
        dataclasses.replace(
            theirs,
            command=lambda port: [
                *theirs.command(port), "--ssl-certificate", str(chain), "--ssl-keyfile", str(key)
            ],
            tls=trust,
        ),
        dataclasses.replace(theirs, name=GRANIAN_CLEAR),
    ]  # fmt: skip


def shapes_of(server: Running) -> tuple[Shape, ...]:
    """Return how a server is asked; HTTP/1.1 in the clear is `http_echo`'s."""
    return (*HTTP1, *HTTP2) if server.peer.tls else HTTP2


def measure(servers: Sequence[Running], seconds: float, rounds: int) -> Rounds:
    """Return each round's figures by server and shape."""
    for server in servers:
        ask(server, HTTP2[2], WARM_SECONDS)
    measured: Rounds = []
    for number in range(rounds):
        turn = number % len(servers)
        found = {}
        for shape in (*HTTP1, *HTTP2):
            for server in [*servers[turn:], *servers[:turn]]:
                if shape in shapes_of(server):
                    found[server.peer.name, shape.name] = ask(server, shape, seconds)
        measured.append(found)
        print(f"round {number + 1} of {rounds} done", file=sys.stderr)
    return measured


def ask(server: Running, shape: Shape, seconds: float) -> Rate:
    """Run the load of one shape.

    Raises:
        Unmeasurable: an answer was not 2xx, or a connection failed.
    """
    if not shape.streams:
        seen = load(server.pid, server.url, connections=shape.connections, seconds=seconds)
        return Rate(seen.requests_per_second, seen.p50_ms, seen.cpu_us)
    whole = max(1, round(seconds))
    command = ["h2load", f"-D{whole}", f"-c{shape.connections}", f"-m{shape.streams}", server.url]
    before = cpu_seconds(server.pid)
    began = time.monotonic()
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    spent, took = cpu_seconds(server.pid) - before, time.monotonic() - began
    counts = re.search(r"(\d+) total, \d+ started, (\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored", out)
    mean = re.search(r"time for request:\s+\S+\s+\S+\s+([\d.]+)(us|ms|s)", out)
    if counts is None or mean is None or int(counts[4]) or int(counts[5]) or not int(counts[3]):
        raise Unmeasurable(f"{' '.join(command)} after {took:.1f} s:\n{out}")
    answered = int(counts[3])
    milliseconds = float(mean[1]) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[mean[2]]
    return Rate(answered / whole, milliseconds, spent / answered * 1e6)


def report(servers: Sequence[Running], measured: Rounds, memory: dict[str, float]) -> str:
    """Return the tables as Markdown."""

    def middle(name: str, shape: Shape, figure: Callable[[Rate], float]) -> float:
        return median(figure(found[name, shape.name]) for found in measured)

    def cell(server: Running, shape: Shape) -> str:
        if shape not in shapes_of(server):
            return "-"
        name = server.peer.name
        rate, ms = (middle(name, shape, figure) for figure in (lambda one: one.per_second, lambda one: one.ms))
        return f"{rate:,.0f} · {ms:.2f} · {middle(name, shape, lambda one: one.cpu_us):.0f}"

    shapes = (*HTTP1, *HTTP2)
    rows = [
        [server.peer.name, *(cell(server, shape) for shape in shapes), f"{memory[server.peer.name]:.0f}"]
        for server in servers
    ]
    head = ["req/s · ms · CPU µs/req", *(shape.name for shape in shapes), "RSS MiB"]
    about = "\n".join(f"* {server.peer.name}: {server.peer.about}" for server in servers)
    return "\n\n".join((table(head, rows), ratios(measured), about))


def ratios(measured: Rounds) -> str:
    """Return the comparisons that matter."""

    def between(one: str, other: str, shape: Shape) -> str:
        ratio = median(found[one, shape.name].per_second / found[other, shape.name].per_second for found in measured)
        return f"{ratio:.2f}"

    rows = [
        [f"req/s, pulp C cell / granian RSGI, TLS, {shape.name}", between(PULP, GRANIAN, shape)]
        for shape in (HTTP1[1], HTTP2[1], HTTP2[2])
    ]
    rows.append(["... in the clear, HTTP/2, 8 × 8", between(PULP_CLEAR, GRANIAN_CLEAR, HTTP2[2])])
    return table(["ratio", ""], rows)


if __name__ == "__main__":
    main()
