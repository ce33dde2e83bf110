"""What is measured of a server from outside: wrk's figures, processor time, memory; and tables of them."""

from __future__ import annotations

import http.client
import os
import re
import shutil
import ssl
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
MIB = 1024 * 1024

_UNITS_MS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}


class Unmeasurable(Exception):
    """A figure that cannot be had; the message says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What one run of wrk saw.

    Attributes:
        requests: answered in all.
        requests_per_second: by wrk's own clock.
        p50_ms: half of the requests took no longer.
        p99_ms: all but a hundredth took no longer.
        cpu_us: processor time of the server per request.
    """

    requests: int
    requests_per_second: float
    p50_ms: float
    p99_ms: float
    cpu_us: float


def require_wrk() -> None:
    """Raise unless wrk is installed.

    Raises:
        Unmeasurable: it is not.
    """
    if shutil.which("wrk") is None:
        raise Unmeasurable("wrk is not installed; it makes the load: apt-get install wrk")


def load(pid: int, url: str, *, connections: int, seconds: float) -> Load:
    """Run wrk against the server whose first process is `pid`.

    Raises:
        Unmeasurable: an answer was not 2xx, or a socket failed: such a run measures something else.
    """
    command = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--latency", url]
    before = cpu_seconds(pid)
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    spent = cpu_seconds(pid) - before
    out = done.stdout
    problem = re.search(r"Socket errors:.*|Non-2xx.*", out)
    if problem:
        raise Unmeasurable(f"{' '.join(command)}: {problem[0].strip()}")
    requests = int(_found(r"(\d+) requests in", out))
    return Load(
        requests=requests,
        requests_per_second=float(_found(r"Requests/sec:\s+([\d.]+)", out)),
        p50_ms=_milliseconds(_found(r"^\s+50%\s+(\S+)", out)),
        p99_ms=_milliseconds(_found(r"^\s+99%\s+(\S+)", out)),
        cpu_us=spent / max(requests, 1) * 1e6,
    )


def _found(pattern: str, text: str) -> str:
    match = re.search(pattern, text, re.MULTILINE)
    if match is None:
        raise Unmeasurable(f"wrk printed no {pattern!r}:\n{text}")
    return match[1]


def _milliseconds(text: str) -> float:
    number, unit = re.fullmatch(r"([\d.]+)([a-z]+)", text).groups()  # type: ignore[union-attr]
    return float(number) * _UNITS_MS[unit]


def tree(pid: int) -> list[int]:
    """Return a process and its descendants."""
    found = [pid]
    for parent in found:
        try:
            for task in Path(f"/proc/{parent}/task").iterdir():
                found += [int(child) for child in (task / "children").read_text().split()]
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def cpu_seconds(pid: int) -> float:
    """Return the processor time that a process tree has used, user and system, children that have ended included."""
    ticks = 0
    for process in tree(pid):
        try:
            fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        ticks += sum(map(int, fields[11:15]))
    return ticks / TICKS_PER_SECOND


def exact_cpu_seconds(pid: int) -> float:
    """Return the same to the nanosecond, of the threads that live: for servers that do next to nothing."""
    spent = 0
    for process in tree(pid):
        for task in Path(f"/proc/{process}/task").glob("*/schedstat"):
            try:
                spent += int(task.read_text().split()[0])
            except (FileNotFoundError, ProcessLookupError):
                continue
    return spent / 1e9


def resident_mib(pid: int) -> float:
    """Return the resident memory of a process tree; pages that processes share count for each."""
    kib = 0
    for process in tree(pid):
        try:
            status = Path(f"/proc/{process}/status").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        kib += int((re.search(r"VmRSS:\s+(\d+)", status) or [0, 0])[1])
    return kib * 1024 / MIB


def first_answer(
    port: int, path: str, *, seconds: float = 30.0, tls: ssl.SSLContext | None = None
) -> http.client.HTTPResponse:
    """Ask until the server answers; return its answer, read.

    Raises:
        Unmeasurable: it did not within `seconds`.
    """
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if tls is None:
            client = http.client.HTTPConnection("127.0.0.1", port, timeout=seconds)
        else:
            client = http.client.HTTPSConnection("127.0.0.1", port, timeout=seconds, context=tls)
        try:
            client.request("GET", path)
            answer = client.getresponse()
            answer.body = answer.read()  # type: ignore[attr-defined]
            if answer.status == http.HTTPStatus.OK:  # before a cell has registered its route it is 404
                return answer
        except (ConnectionError, http.client.HTTPException):
            pass
        finally:
            client.close()
        time.sleep(0.001)
    raise Unmeasurable(f"nothing answers on port {port} after {seconds:g} s")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table whose columns line up; the first is text, the others are numbers."""
    lines = [list(head), *map(list, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    out = []
    for line in [lines[0], rule, *lines[1:]]:
        cells = [
            line[0].ljust(widths[0]),
            *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)),
        ]
        out.append(f"| {' | '.join(cells)} |")
    return "\n".join(out)


def leave(problem: Exception) -> None:
    """Say why there is no result, and end with status 1."""
    print(f"no result: {problem}", file=sys.stderr)
    sys.exit(1)
