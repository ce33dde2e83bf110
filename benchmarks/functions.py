"""Functions: a fresh WebAssembly instance for each request, beside a process for each request, and beside workerd.

    python -m benchmarks.functions [--seconds 2] [--rounds 3] [--quick]

pulp, print        the C program prints its answer, as CGI programs do
pulp, files        another reads /request/path and writes /response/body
CGI, native        the first, compiled for this machine; a server of the standard library starts it for each request
workerd            a service worker, which keeps its isolate from request to request

All answer `GET /echo/hello` with `hello`; whether they do is checked. Figures are medians over interleaved rounds.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from benchmarks.measure import Load, Unmeasurable, leave, load, require_wrk, table
from benchmarks.peers import CACHE, HERE, Peer, Running, pulp, running, workerd

CONNECTIONS = (1, 16)
SOURCES = HERE / "functions_c"
BUILT = CACHE / "functions"
MANIFEST = """\
name = "{name}"
version = "0.1.0"
wasm = "{name}.wasm"
execution = "function"
capabilities = ["transport.http.inbound"]

[function]
routes = ["GET /echo/:word"]
"""


def compiled(name: str, target: str, suffix: str) -> Path:
    """Compile a C program; return the result.

    Raises:
        Unmeasurable: there is no compiler.
    """
    folder = BUILT / name
    folder.mkdir(parents=True, exist_ok=True)
    output = folder / f"{name}{suffix}"
    command = [sys.executable, "-m", "ziglang", "cc", "-O2", "-s", *(["-target", target] if target else [])]
    done = subprocess.run(
        [*command, "-o", str(output), str(SOURCES / f"{name}.c")], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise Unmeasurable(f"{name}.c: ziglang could not compile it: {done.stderr.strip()[-300:]}")
    return output


def function(name: str) -> Peer:
    """Return our host with one function."""
    module = compiled(name, "wasm32-wasi", ".wasm")
    (module.parent / "pulp.cell.toml").write_text(MANIFEST.format(name=name))
    return pulp(f"pulp, {name}", str(module.parent))


def cgi() -> Peer:
    """Return a server that starts the native program for each request."""
    program = compiled("print", "", "")
    return Peer(
        "CGI, native",
        "http.server of the standard library, threads, subprocess",
        lambda port: [sys.executable, "-m", "benchmarks.cgi_server", str(port), str(program)],
    )


def all_peers() -> tuple[list[Peer], list[str]]:
    """Return the servers there are, and why others are missing."""
    peers = [function("print"), function("files"), cgi()]
    try:
        return [*peers, workerd()], []
    except Unmeasurable as problem:
        return peers, [str(problem)]


def keep_apart(servers: Sequence[Running]) -> None:
    """Give the servers one processor, and the load the others.

    Raises:
        Unmeasurable: there is only one, or the system does not say.
    """
    allowed = sorted(getattr(os, "sched_getaffinity", lambda _pid: ())(0))
    if len(allowed) < 2:
        raise Unmeasurable("--one-core needs two processors, and a system that can bind processes to them")
    for server in servers:
        for thread in os.listdir(f"/proc/{server.pid}/task"):
            os.sched_setaffinity(int(thread), allowed[:1])
    os.sched_setaffinity(0, allowed[1:])


def measure(servers: Sequence[Running], seconds: float, rounds: int) -> dict[tuple[str, int], list[Load]]:
    """Return what each round found, by server and connections."""
    found: dict[tuple[str, int], list[Load]] = {}
    for server in servers:
        load(server.pid, server.url, connections=16, seconds=1.0)
    for number in range(rounds):
        turn = number % len(servers)
        for connections in CONNECTIONS:
            for server in [*servers[turn:], *servers[:turn]]:
                one = load(server.pid, server.url, connections=connections, seconds=seconds)
                found.setdefault((server.peer.name, connections), []).append(one)
    return found


def report(servers: Sequence[Running], found: dict[tuple[str, int], list[Load]]) -> str:
    """Return the table as Markdown."""
    rows = []
    for server in servers:
        row = [server.peer.name]
        for connections in CONNECTIONS:
            loads = found[server.peer.name, connections]
            row.append(
                f"{median(one.requests_per_second for one in loads):,.0f}"
                f" · {median(one.p50_ms for one in loads):.2f} · {median(one.p99_ms for one in loads):.2f}"
            )
        spent = median(one.cpu_us for one in found[server.peer.name, CONNECTIONS[-1]])
        rows.append([*row, f"{spent:.0f}", f"{1e6 / spent:,.0f}"])
    head = ["server", *(f"{count} conn: req/s · p50 · p99 ms" for count in CONNECTIONS)]
    about = "\n".join(f"{server.peer.name}: {server.peer.about}" for server in servers)
    return f"{table([*head, 'CPU µs/req', 'req per CPU second'], rows)}\n\n{about}"


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.functions", description="A program for each request.")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of one run of wrk (2)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds; figures are medians over them (3)")
    parser.add_argument("--quick", action="store_true", help="one round of one second: does it work at all?")
    parser.add_argument("--one-core", action="store_true", help="bind the servers to one processor, the load to others")
    options = parser.parse_args()
    seconds, rounds = (1.0, 1) if options.quick else (options.seconds, options.rounds)
    try:
        require_wrk()
        peers, missing = all_peers()
        with ExitStack() as stack:
            servers = [stack.enter_context(running(peer)) for peer in peers]
            if options.one_core:
                keep_apart(servers)
            found = measure(servers, seconds, rounds)
    except Unmeasurable as problem:
        leave(problem)
    print(report(servers, found))
    where = (
        "each server on one processor, wrk on another" if options.one_core else "servers and wrk share the machine's"
    )
    print(f"\n{time.strftime('%Y-%m-%d')}; {where}.")
    for problem in missing:
        print(f"Left out: {problem}.")


if __name__ == "__main__":
    main()
