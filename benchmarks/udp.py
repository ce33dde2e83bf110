"""Datagrams back and forth: our host with an echo cell, beside bare asyncio servers that say the same.

    python -m benchmarks.udp [--seconds 2] [--rounds 5] [--quick]

Every server runs the whole time; in each round each gets its turn, in another order every round. `p50` is one datagram
at a time; packets a second are with 32 on their way. Figures are medians over the rounds, ratios are medians of the
rounds' own ratios. The client is one Python process and shares the machine's processors.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.measure import Unmeasurable, cpu_seconds, leave, table
from benchmarks.peers import BIN, CACHE, ROOT

PAYLOAD = b"hello, this is a datagram of sixty-four bytes, give or take one."
IN_FLIGHT = 32
LOST_SECONDS = 0.25
"""When a datagram is taken for lost: on loopback that means that a buffer was full."""

PULP = "pulp, C cell"
ASYNCIO = "asyncio"
UVLOOP = "asyncio on uvloop"

BARE = """
import asyncio, sys

class Echo(asyncio.DatagramProtocol):
    def connection_made(self, transport):
        self.send = transport.sendto

    def datagram_received(self, data, source):
        self.send(data, source)

async def main():
    await asyncio.get_running_loop().create_datagram_endpoint(Echo, ("127.0.0.1", int(sys.argv[1])))
    await asyncio.Event().wait()

if sys.argv[2] == "uvloop":
    import uvloop
    uvloop.run(main())
else:
    asyncio.run(main())
"""


@dataclass(frozen=True, slots=True)
class Echo:
    """What the client saw in one turn.

    Attributes:
        p50_us: one datagram there and back, half of them took no longer.
        p99_us: all but a hundredth took no longer.
        packets_per_second: with many on their way.
        cpu_us: processor time of the server for each of those.
        lost: datagrams that did not come back.
    """

    p50_us: float
    p99_us: float
    packets_per_second: float
    cpu_us: float
    lost: int


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.udp", description="Datagrams back and forth.")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of each of the two parts of a turn (2)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds; figures are medians over them (5)")
    parser.add_argument("--quick", action="store_true", help="one round of half a second: does it work at all?")
    options = parser.parse_args()
    seconds, rounds = (0.5, 1) if options.quick else (options.seconds, options.rounds)
    try:
        with ExitStack() as stack:
            servers = {
                PULP: stack.enter_context(pulp()),
                ASYNCIO: stack.enter_context(bare("asyncio")),
                UVLOOP: stack.enter_context(bare("uvloop")),
            }
            measured = measure(servers, seconds, rounds)
    except Unmeasurable as problem:
        leave(problem)
    print(report(measured))
    print(
        f"\n{time.strftime('%Y-%m-%d')}, CPython {platform.python_version()}, {os.cpu_count()} processors shared by "
        f"server and client, {platform.machine()}; {len(PAYLOAD)} bytes, {IN_FLIGHT} on their way, "
        f"median of {rounds} interleaved rounds of {seconds:g} s."
    )


@contextmanager
def pulp() -> Iterator[tuple[int, int]]:
    """Run our host with the echo cell on a free port; yield its process and the port."""
    with tempfile.TemporaryDirectory() as folder:
        port, cell = free_port(), Path(folder)
        source = ROOT / "examples" / "udp-echo" / "c"
        shutil.copy(source / "udp_echo.wasm", cell)
        manifest = (source / "pulp.cell.toml").read_text().replace("127.0.0.1:9000", f"127.0.0.1:{port}")
        (cell / "pulp.cell.toml").write_text(manifest)
        command = [str(BIN / "pulp"), "run", folder, "--log-level", "warning", "--storage-root", str(CACHE / "data")]
        environment = {"UDP_SEND_ALLOW": "127.0.0.1/32", "PULP_CACHE_DIR": str(CACHE / "modules")}
        with running(command, environment, port) as pid:
            yield pid, port


@contextmanager
def bare(loop: str) -> Iterator[tuple[int, int]]:
    """Run the server that does nothing else."""
    port = free_port()
    with running([sys.executable, "-c", BARE, str(port), loop], {}, port) as pid:
        yield pid, port


@contextmanager
def running(command: list[str], environment: dict[str, str], port: int) -> Iterator[int]:
    """Run a server while the block lasts, from its first answer on."""
    CACHE.mkdir(exist_ok=True)
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, **environment}, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        try:
            wait_for(process, port)
            yield process.pid
        except Unmeasurable as problem:
            log.seek(0)
            raise Unmeasurable(f"{problem}: {log.read().decode(errors='replace')[-2000:]}") from None
        finally:
            process.terminate()
            process.wait(10)


def free_port() -> int:
    """Return a port that nobody has just now."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def client(port: int) -> socket.socket:
    """Return a socket that talks to one server."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.connect(("127.0.0.1", port))
    sock.settimeout(LOST_SECONDS)
    return sock


def wait_for(process: subprocess.Popen[bytes], port: int) -> None:
    """Return at the first answer.

    Raises:
        Unmeasurable: the server ends, or does not answer.
    """
    end = time.monotonic() + 30
    with client(port) as sock:
        while time.monotonic() < end and process.poll() is None:
            try:
                sock.send(PAYLOAD)
                if sock.recv(2048) == PAYLOAD:
                    return
            except (TimeoutError, ConnectionRefusedError):
                time.sleep(0.01)
    raise Unmeasurable(f"nothing answers on port {port}")


def measure(servers: dict[str, tuple[int, int]], seconds: float, rounds: int) -> list[dict[str, Echo]]:
    """Return each round's figures by server."""
    for pid, port in servers.values():
        turn(pid, port, 0.3)
    measured = []
    names = list(servers)
    for number in range(rounds):
        first = number % len(names)
        measured.append({name: turn(*servers[name], seconds) for name in [*names[first:], *names[:first]]})
        print(f"round {number + 1} of {rounds} done", file=sys.stderr)
    return measured


def turn(pid: int, port: int, seconds: float) -> Echo:
    """Return what one server does."""
    with client(port) as sock:
        times = one_at_a_time(sock, seconds)
        before, began = cpu_seconds(pid), time.perf_counter()
        answered, lost = many_at_a_time(sock, seconds)
        took, spent = time.perf_counter() - began, cpu_seconds(pid) - before
    return Echo(
        p50_us=median(times) * 1e6,
        p99_us=times[len(times) * 99 // 100] * 1e6,
        packets_per_second=answered / took,
        cpu_us=spent / max(answered, 1) * 1e6,
        lost=lost,
    )


def one_at_a_time(sock: socket.socket, seconds: float) -> list[float]:
    """Return how long each datagram took there and back, shortest first."""
    times = []
    end = time.perf_counter() + seconds
    while (began := time.perf_counter()) < end:
        sock.send(PAYLOAD)
        try:
            sock.recv(2048)
        except TimeoutError:  # the machine is busy; the time it took counts
            pass
        times.append(time.perf_counter() - began)
    return sorted(times)


def many_at_a_time(sock: socket.socket, seconds: float) -> tuple[int, int]:
    """Return how many datagrams came back, and how many were lost."""
    answered = lost = 0
    out = 0
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        while out < IN_FLIGHT:
            sock.send(PAYLOAD)
            out += 1
        try:
            sock.recv(2048)
            answered += 1
            out -= 1
        except TimeoutError:
            lost, out = lost + out, 0
    try:
        while out:
            sock.recv(2048)
            out -= 1
    except TimeoutError:
        lost += out
    return answered, lost


def report(measured: Sequence[dict[str, Echo]]) -> str:
    """Return the tables as Markdown."""
    rows = []
    for name in measured[0]:
        found = [one[name] for one in measured]
        rows.append(
            [
                name,
                f"{median(one.p50_us for one in found):.0f}",
                f"{median(one.p99_us for one in found):.0f}",
                f"{median(one.packets_per_second for one in found):,.0f}",
                f"{median(one.cpu_us for one in found):.1f}",
                f"{sum(one.lost for one in found)}",
            ]
        )
    head = ["server", "p50 µs", "p99 µs", f"packets/s, {IN_FLIGHT} on their way", "CPU µs/packet", "lost"]
    ratios = [
        [
            f"{what}, {PULP} / {other}",
            f"{median(getattr(one[PULP], figure) / getattr(one[other], figure) for one in measured):.2f}",
        ]
        for what, figure in (("packets/s", "packets_per_second"), ("p50", "p50_us"))
        for other in (ASYNCIO, UVLOOP)
    ]
    return f"{table(head, rows)}\n\n{table(['ratio', ''], ratios)}"


if __name__ == "__main__":
    main()
