"""Runs targets: makes an input, checks what comes of it, and stops at the first finding.

Every input is a bytes object and every check depends on nothing else, so a finding is one line of hexadecimal digits
that fails again whenever it is given back (`--input`). Inputs come from a generator that is seeded with the run's
seed and the target's name; the order of the targets and the number of their cases do not change them.
"""

from __future__ import annotations

import faulthandler
import os
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

SLICES = 40
"""Samples of memory and threads in the run of one target."""
HANG_SECONDS = 30.0
LEAK_BYTES = 4 << 20
"""What a target may gain in the second half of its run, in each quarter alike: an allocator's moods come once."""


class Session(Protocol):
    """A target at work."""

    def make(self, rng: random.Random) -> bytes:
        """Return an input."""

    def check(self, data: bytes) -> None:
        """Judge what comes of an input; raise for anything that must not happen."""

    def close(self) -> None:
        """Release what the session holds."""


@dataclass(frozen=True)
class Target:
    """One thing that reads what it is given by strangers.

    Attributes:
        name: for `--only` and reports.
        about: what must hold, in a few words.
        start: makes a session.
        seconds: most time one case may take, on a busy machine.
        share: how many of the cases it gets, beside the others.
        slack: bytes that it may gain in the second half of its run.
    """

    name: str
    about: str
    start: Callable[[], Session]
    seconds: float = 1.0
    share: int = 10
    slack: int = LEAK_BYTES


class Pure:
    """A session of two functions."""

    def __init__(self, make: Callable[[random.Random], bytes], check: Callable[[bytes], object]) -> None:
        self.make = make
        self._check = check

    def check(self, data: bytes) -> None:
        """Judge what comes of an input."""
        self._check(data)

    def close(self) -> None:
        """Hold nothing."""


class Broken(AssertionError):
    """A promise that an input broke."""


@dataclass(frozen=True)
class Finding:
    """An input after which something was not as it must be."""

    target: str
    seed: int
    case: int
    data: bytes
    why: str

    def __str__(self) -> str:
        return (
            f"FINDING in {self.target}: {self.why}\n  seed {self.seed}, case {self.case}, {len(self.data)} bytes\n"
            f"  input {self.data.hex()}"
        )


@dataclass
class Report:
    """What the run of one target took.

    Attributes:
        memory: resident bytes at each slice's end.
        threads: how many there were at each slice's end.
        slack: see `Target`.
    """

    target: str
    cases: int = 0
    seconds: float = 0.0
    slowest: float = 0.0
    memory: list[int] = field(default_factory=list)
    threads: list[int] = field(default_factory=list)
    finding: Finding | None = None
    slack: int = LEAK_BYTES

    @property
    def rate(self) -> float:
        """Cases per second."""
        return self.cases / self.seconds if self.seconds else 0.0

    @property
    def gained(self) -> int:
        """Bytes gained in the second half of the run: twice what the better of its quarters gained."""
        if len(self.memory) < 4:
            return 0
        middle, later = self.memory[len(self.memory) // 2], self.memory[len(self.memory) * 3 // 4]
        return 2 * min(later - middle, self.memory[-1] - later)

    @property
    def leaks(self) -> str:
        """What it gained and did not give back, "" for nothing."""
        if self.gained > self.slack:
            return f"{self.target} gained {self.gained >> 10} KiB in the second half of its run"
        if self.threads and self.threads[-1] > self.threads[0]:
            return f"{self.target} began with {self.threads[0]} threads and ended with {self.threads[-1]}"
        return ""

    def __str__(self) -> str:
        return (
            f"{self.target:<28} {self.cases:>9,} cases {self.seconds:>7.1f} s {self.rate:>9,.0f}/s  "
            f"slowest {self.slowest * 1000:>6.1f} ms  memory {self.memory[-1] >> 20 if self.memory else 0:>4} MiB "
            f"{self.gained / 1024:>+7.0f} KiB  threads {max(self.threads, default=0)}"
        )


class Watchdog:
    """Ends the process, with the input at hand, when one case never comes back."""

    def __init__(self, out: Path | None) -> None:
        self._out = out
        self._now: tuple[Target, int, int, bytes] | None = None
        self._last: object = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def __enter__(self) -> Watchdog:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop.set()
        self._thread.join()

    def at(self, target: Target, seed: int, case: int, data: bytes) -> None:
        """Note where the run is."""
        self._now = (target, seed, case, data)

    def _watch(self) -> None:
        while not self._stop.wait(HANG_SECONDS):
            now = self._now
            if now is not None and now is self._last:
                target, seed, case, data = now
                finding = Finding(target.name, seed, case, data, f"no end after {HANG_SECONDS:g} s")
                say(finding)
                save(finding, self._out)
                faulthandler.dump_traceback()
                os._exit(1)
            self._last = now


def run(
    target: Target,
    cases: int,
    seed: int,
    *,
    seconds: float | None = None,
    watchdog: Watchdog | None = None,
) -> Report:
    """Run one target until its cases, or its seconds, are over, or something is found."""
    report = Report(target.name, slack=target.slack)
    rng = random.Random(f"{seed} {target.name}")
    session = target.start()
    began = time.perf_counter()
    try:
        for size in _slices(cases):
            report.finding = _slice(target, session, rng, seed, report, size, watchdog)
            report.seconds = time.perf_counter() - began
            report.memory.append(resident_bytes())
            report.threads.append(threading.active_count())
            if report.finding is not None or (seconds is not None and report.seconds >= seconds):
                break
    finally:
        session.close()
    return report


def _slice(
    target: Target,
    session: Session,
    rng: random.Random,
    seed: int,
    report: Report,
    size: int,
    watchdog: Watchdog | None,
) -> Finding | None:
    make, check, clock, slowest = session.make, session.check, time.perf_counter, report.slowest
    for case in range(report.cases, report.cases + size):
        data = make(rng)
        if watchdog is not None:
            watchdog.at(target, seed, case, data)
        start = clock()
        try:
            check(data)
        except Exception as error:  # noqa: BLE001  # whatever it is, it is what was looked for
            return Finding(target.name, seed, case, data, _why(error))
        taken = clock() - start
        if taken > slowest:
            slowest = taken
            if taken > target.seconds:
                return Finding(target.name, seed, case, data, f"took {taken:.2f} s, the most is {target.seconds} s")
    report.cases += size
    report.slowest = slowest
    return None


def replay(target: Target, data: bytes) -> Finding | None:
    """Judge one input."""
    session = target.start()
    began = time.perf_counter()
    try:
        session.check(data)
    except Exception as error:  # noqa: BLE001  # whatever it is, it is what was looked for
        return Finding(target.name, 0, 0, data, _why(error))
    finally:
        session.close()
    taken = time.perf_counter() - began
    return Finding(target.name, 0, 0, data, f"took {taken:.2f} s") if taken > target.seconds else None


def share_out(targets: Sequence[Target], cases: int) -> list[int]:
    """Return how many cases each target gets; together at least `cases`."""
    whole = sum(target.share for target in targets)
    return [-(-cases * target.share // whole) for target in targets]


def say(what: object) -> None:
    """Print a line at once: the run may take minutes."""
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


def save(finding: Finding, out: Path | None) -> None:
    """Keep the input of a finding, to be given back with `--input`."""
    if out is not None:
        out.write_bytes(finding.data)


def resident_bytes() -> int:
    """Return how much memory this process has; 0 where that cannot be known."""
    if sys.platform != "linux":
        return 0
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _slices(cases: int) -> Iterator[int]:
    size = max(1, -(-cases // SLICES))
    while cases > 0:
        yield min(size, cases)
        cases -= size


def _why(error: BaseException) -> str:
    if isinstance(error, Broken):
        return str(error)
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where: Any = f" at {trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace is not None else ""
    return f"{type(error).__name__}: {error}{where}"
