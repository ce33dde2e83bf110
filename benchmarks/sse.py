"""One event to many browsers: our host with the counter cell, and a thousand clients of its event stream.

    python -m benchmarks.sse [--subscribers 1000] [--rounds 50] [--quick]

fan-out     from the first byte of a request that has the cell emit, to the last client having the whole frame
emits       as many requests as the host takes, one behind the other on one connection: events a second while every
            client gets each of them

The clients are sockets of this process, read with epoll and counted, nothing more. They share the machine's processors
with the host: what they need is part of the figures.
"""

from __future__ import annotations

import argparse
import os
import resource
import select
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median

from benchmarks.measure import Unmeasurable, cpu_seconds, first_answer, leave, resident_mib, table
from benchmarks.peers import CACHE, ROOT, free_port, pulp

FRAME = b"event: count\n"
"""What each frame has once."""
SUBSCRIBE = b"GET /events HTTP/1.1\r\nHost: bench\r\n\r\n"
EMIT = b"POST /count HTTP/1.1\r\nHost: bench\r\nContent-Length: 0\r\n\r\n"
PATIENCE_SECONDS = 30.0


class Audience:
    """Clients of an event stream: how many frames they have got."""

    def __init__(self, port: int, count: int) -> None:
        """Connect, and wait for every answer to have begun."""
        self._poll = select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        self.frames: dict[int, int] = {}
        heads = 0
        for _ in range(count):
            client = socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS)
            client.sendall(SUBSCRIBE)
            head = b""
            while b"\r\n\r\n" not in head:
                head += client.recv(4096)
            heads += head.startswith(b"HTTP/1.1 200 ")
            client.setblocking(False)
            self._sockets[client.fileno()] = client
            self.frames[client.fileno()] = 0
            self._poll.register(client, select.EPOLLIN)
        if heads != count:
            raise Unmeasurable(f"{count - heads} of {count} streams were refused")

    def read_until(self, total: int) -> float:
        """Read until all have so many frames together; return when that was."""
        frames, sockets = self.frames, self._sockets
        left = total - sum(frames.values())
        end = time.perf_counter() + PATIENCE_SECONDS
        while left > 0:
            ready = self._poll.poll(1.0, maxevents=1024)
            for number, _what in ready:
                found = sockets[number].recv(1 << 20).count(FRAME)
                frames[number] += found
                left -= found
            if time.perf_counter() > end:
                raise Unmeasurable(f"{left} frames of {total} did not come within {PATIENCE_SECONDS:g} s")
        return time.perf_counter()

    def close(self) -> None:
        """Leave."""
        for client in self._sockets.values():
            client.close()
        self._poll.close()


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sse", description="Events to many clients.")
    parser.add_argument("--subscribers", type=int, default=1000, help="clients of the stream (1000)")
    parser.add_argument("--rounds", type=int, default=50, help="single events; the figures are over them (50)")
    parser.add_argument("--quick", action="store_true", help="ten rounds: does it work at all?")
    options = parser.parse_args()
    rounds = 10 if options.quick else options.rounds
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # for us, and for the host, which inherits it
    try:
        print(report(options.subscribers, rounds, options.quick))
    except (Unmeasurable, OSError) as problem:
        leave(problem)


def report(count: int, rounds: int, quick: bool) -> str:
    """Run the host, measure, and return the table."""
    rows = []
    for name, cell in (("C cell", "examples/counter/c"), ("Go cell", "examples/counter/go")):
        with serving(name, cell) as (pid, port):
            before = resident_mib(pid)
            audience = Audience(port, count)
            held = (resident_mib(pid) - before) * 1024 / count
            with socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS) as client:
                times = [fan_out(client, audience, count) for _ in range(rounds)]
                rate, cpu = flood(client, audience, count, pid, 200 if quick else 1000)
            audience.close()
        times.sort()
        late = times[min(len(times) - 1, round(0.95 * len(times)))]
        rows.append(
            [name, f"{median(times) * 1e3:.1f}", f"{late * 1e3:.1f}", f"{times[-1] * 1e3:.1f}", f"{rate:,.0f}",
             f"{rate * count:,.0f}", f"{cpu * 1e6:.1f}", f"{held:.1f}"]
        )  # fmt: skip
    head = [f"one event to {count:,}", "median ms", "95 % ms", "worst ms", "events/s", "frames/s", "µs CPU/frame",
            "KiB/client"]  # fmt: skip
    return f"{table(head, rows)}\n\n{os.cpu_count()} processors, shared by host and clients; {rounds} rounds."


@contextmanager
def serving(name: str, cell: str) -> Iterator[tuple[int, int]]:
    """Run our host with a counter cell while the block lasts; give its process and its port."""
    peer, port = pulp(name, cell), free_port()
    CACHE.mkdir(exist_ok=True)
    environment = {**os.environ, **peer.environment}
    process = subprocess.Popen(peer.command(port), cwd=ROOT, env=environment, stdin=subprocess.DEVNULL)
    try:
        first_answer(port, "/count")
        yield process.pid, port
    finally:
        process.terminate()
        try:
            process.wait(10.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def fan_out(client: socket.socket, audience: Audience, count: int) -> float:
    """Have one event emitted; return the seconds until everybody has it."""
    total = sum(audience.frames.values()) + count
    began = time.perf_counter()
    client.sendall(EMIT)
    ended = audience.read_until(total)
    client.recv(4096)
    return ended - began


def flood(client: socket.socket, audience: Audience, count: int, pid: int, events: int) -> tuple[float, float]:
    """Have many events emitted, each by its own request; return events a second and processor time a frame."""
    batch = 16  # fewer than may wait for a client that is behind: none is lost
    spent = cpu_seconds(pid)
    began = time.perf_counter()
    for _ in range(events // batch):
        total = sum(audience.frames.values()) + batch * count
        client.sendall(EMIT * batch)
        audience.read_until(total)
        answers = b""
        while answers.count(b"\r\n\r\n") < batch:
            answers += client.recv(65_536)
    seconds = time.perf_counter() - began
    sent = events // batch * batch
    return sent / seconds, (cpu_seconds(pid) - spent) / (sent * count)


if __name__ == "__main__":
    main()
