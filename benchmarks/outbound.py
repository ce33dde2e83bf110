"""One small request to a local server: from a cell with `http_fetch`, and from Python with urllib3.

    python -m benchmarks.outbound [--seconds 0.5] [--rounds 7] [--quick]

urllib3     `HTTPConnectionPool.urlopen` on one kept connection, its body read: what a bare program would do
client      what is below the host function: our own client in Python, no cell
cell        a cell that asks with `http_fetch` on one kept connection, in a whole host: the call into it, the guard's
            and the request's checks, the exchange, the response in its memory
crossing    a call of the same cell that fetches nothing: what of `cell` is not the fetch

The server is another process, uvicorn with a bare application. Everything runs in turn on one thread of ours, one
request at a time, so figures are times of one request, much of it the server's and the kernel's. They are medians over
the rounds; ratios are medians of the rounds' own ratios.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from statistics import median

import msgspec
import urllib3
import wasmtime

from benchmarks.measure import Unmeasurable, leave, table
from benchmarks.peers import BODY, running, uvicorn
from pulp_runtime import Host
from pulp_runtime._net.dial import Dialer, Trust
from pulp_runtime._net.dial_names import Names
from pulp_runtime._net.dial_patience import Patience
from pulp_runtime._net.egress import AllowList, EgressGuard
from pulp_runtime._net.fetch import FetchClient
from pulp_runtime._net.fetch_request import prepare

ALLOW = "127.0.0.0/8"
NAME = "transport.http.outbound"

# `fetch` hands its arguments to http_fetch and answers with its code and the length of the response; `none` answers.
CELL = """
(module
  (import "pulp" "http_fetch" (func $fetch (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 16)
  (global $next (mut i32) (i32.const 65536))
  (func (export "pulp_alloc") (param $size i32) (result i32)
    (if (i32.gt_u (global.get $next) (i32.const 524288)) (then (global.set $next (i32.const 65536))))
    (global.set $next (i32.and (i32.add (i32.add (global.get $next) (local.get $size)) (i32.const 7)) (i32.const -8)))
    (i32.sub (global.get $next) (i32.and (i32.add (local.get $size) (i32.const 7)) (i32.const -8))))
  (func (export "pulp_init") (param i32 i32) (result i32) (i32.const 0))
  (func (export "pulp_step") (param i32 i32) (result i32) (i32.const 0))
  (func (export "pulp_shutdown") (result i32) (i32.const 0))
  (func (export "pulp_on_call") (param i32) (param $length i32) (param $args i32) (param $size i32)
    (param $out i32) (param $out_length i32) (result i32)
    (i32.store (local.get $out) (i32.const 1024))
    (i32.store (local.get $out_length) (i32.const 8))
    (if (i32.eq (local.get $length) (i32.const 5)) (then
      (i32.store (i32.const 1024) (call $fetch (local.get $args) (local.get $size) (i32.const 2048) (i32.const 1028)))))
    (i32.const 0)))
"""
MANIFEST = f"""
name = "fetcher"
version = "1"
capabilities = ["{NAME}"]
provides = ["fetch", "none"]
"""

Ask = Callable[[], None]


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.outbound", description="Requests to others.")
    parser.add_argument("--seconds", type=float, default=0.5, help="length of one turn (0.5)")
    parser.add_argument("--rounds", type=int, default=7, help="rounds; figures are medians over them (7)")
    parser.add_argument("--quick", action="store_true", help="one round of a tenth of a second: does it work at all?")
    options = parser.parse_args()
    seconds, rounds = (0.1, 1) if options.quick else (options.seconds, options.rounds)
    try:
        with ExitStack() as stack:
            server = stack.enter_context(running(uvicorn()))
            sides = {
                "urllib3": bare(server.port, stack),
                "client": client(server.url, stack),
                **cell(server.url, stack),
            }
            measured = measure(sides, seconds, rounds)
    except Unmeasurable as problem:
        leave(problem)
    print(report(measured))
    print(
        f"\n{time.strftime('%Y-%m-%d')}, CPython {platform.python_version()}, urllib3 {version('urllib3')}, "
        f"{os.cpu_count()} processors shared with the server; {rounds} rounds of {seconds:g} s each, interleaved."
    )


def bare(port: int, stack: ExitStack) -> Ask:
    """Return a request of urllib3's on a kept connection."""
    pool = stack.enter_context(urllib3.HTTPConnectionPool("127.0.0.1", port, maxsize=1))

    def ask() -> None:
        answer = pool.urlopen("GET", "/echo/hello")
        if answer.data != BODY:
            raise Unmeasurable(f"urllib3 got {answer.data!r}")

    return ask


def client(url: str, stack: ExitStack) -> Ask:
    """Return a request of our client's on a kept connection."""
    guard = EgressGuard(AllowList([ALLOW]))
    ours = FetchClient(Dialer("benchmark", guard, Names().resolve, Trust()))
    stack.callback(ours.close)

    def ask() -> None:
        stream = ours.open(prepare("GET", url, {}, b""), Patience(30.0))
        if stream.read(1 << 20) != BODY:
            raise Unmeasurable("our client got something else")

    return ask


def cell(url: str, stack: ExitStack) -> dict[str, Ask]:
    """Return a request of a cell's, and a call of the same cell without one."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    (folder / "pulp.cell.toml").write_text(MANIFEST)
    (folder / "cell.wasm").write_bytes(wasmtime.wat2wasm(CELL))
    host = stack.enter_context(Host([folder], storage_root=folder, config={NAME: {"allow": [ALLOW]}}))
    request = msgspec.msgpack.encode({"url": url})

    def fetch() -> None:
        answer = host.call("fetcher", "fetch", request)
        if answer[:4] != bytes(4):
            raise Unmeasurable(f"http_fetch answers {int.from_bytes(answer[:4], 'little')}")

    return {"cell": fetch, "crossing": lambda: _ignore(host.call("fetcher", "none", request))}


def _ignore(_answer: bytes) -> None:
    """Take an answer that says nothing."""


def measure(sides: dict[str, Ask], seconds: float, rounds: int) -> list[dict[str, float]]:
    """Return each round's seconds per request by side."""
    for ask in sides.values():
        per_request(ask, seconds / 5)
    measured = []
    names = list(sides)
    for number in range(rounds):
        turn = number % len(names)
        found = {name: per_request(sides[name], seconds) for name in names[turn:] + names[:turn]}
        measured.append(found)
        print(f"round {number + 1} of {rounds} done", file=sys.stderr)
    return measured


def per_request(ask: Ask, seconds: float) -> float:
    """Return the median time of one request."""
    times = []
    end = time.perf_counter() + seconds
    while (began := time.perf_counter()) < end:
        ask()
        times.append(time.perf_counter() - began)
    return median(times)


def report(measured: list[dict[str, float]]) -> str:
    """Return the table as Markdown."""
    rows = []
    for name in measured[0]:
        took = median(found[name] for found in measured)
        ratio = median(found[name] / found["urllib3"] for found in measured)
        rows.append([name, f"{took * 1e6:,.0f}", f"{1 / took:,.0f}", f"{ratio:.2f}"])
    more = median(found["cell"] - found["urllib3"] for found in measured)
    head = ["one request", "µs", "a second", "of urllib3's time"]
    return f"{table(head, rows)}\n\ncell - urllib3: {more * 1e6:+,.0f} µs a request"


if __name__ == "__main__":
    main()
