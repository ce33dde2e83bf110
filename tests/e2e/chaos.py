"""The chaos run: one host, fifty cells, and everything that can happen to them, in a random order that can be repeated.

test_chaos.py runs it for some seconds; `PULP_CHAOS_SECONDS=600 pytest tests/e2e/test_chaos.py -s` for ten minutes, and
`PULP_CHAOS_SEED` chooses what every thread does, as it was printed.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import resource
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from pulp_runtime.control.client import ControlFailed, ask
from pulp_runtime.control.protocol import CellEntry, Request

from .chaos_clients import CROWD, Anchored, Client, Storm
from .chaos_estate import AT_LAST, RESTLESS, Estate

#: What an operator may be told though nothing is wrong.
TOLD = re.compile(
    r"no host at|closed the connection without an answer|is stopped; cannot reload|already stopped|is \w+ already"
    r"|has run no other version|is in a step that does not end|answered nonsense"
)


class Traces(NamedTuple):
    """What a process holds: open descriptors, threads, and resident memory in KiB."""

    descriptors: int
    threads: int
    resident: int

    @classmethod
    def of(cls, pid: int) -> Traces:
        status = Path(f"/proc/{pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+)", status)
        assert found
        process = Path(f"/proc/{pid}")
        return cls(len(list((process / "fd").iterdir())), len(list((process / "task").iterdir())), int(found[1]))


class Operator(threading.Thread):
    """Reloads, restarts, stops and starts cells, with versions that start and such that do not."""

    def __init__(
        self, storm: Storm, estate: Estate, control: str, number: int, locks: dict[str, threading.Lock]
    ) -> None:
        super().__init__(name=f"operator-{number}", daemon=True)
        self._storm = storm
        self._estate = estate
        self._control = control
        self._random = random.Random(f"{storm.seed} {self.name}")
        self._locks = locks
        self.rests = threading.Event()

    def run(self) -> None:
        deeds = (self.restart, self.stop_and_start, self.reload, self.reload_bad, self.rollback, self.look)
        while not self._storm.over.is_set():
            if self.rests.is_set():
                self._storm.pause(0.1)
                continue
            deed = self._random.choice(deeds)
            cell = self._random.choice(list(self._locks))
            with self._locks[cell]:
                try:
                    deed(cell)
                except Exception as error:  # noqa: BLE001  # the test tells
                    self._storm.problem(f"{self.name} {deed.__name__} {cell}: {error!r}")
            self._storm.pause(self._random.uniform(0, 0.1))

    def tell(self, op: str, cell: str, *, fails: bool = False) -> bool:
        """Ask for an operation; return whether it was done. It must be, or must not be if it `fails`."""
        storm = self._storm
        calm = (storm.deaths, storm.down.is_set(), storm.full.is_set())
        try:
            ask(Request(op=op, cell=cell), self._control)
        except ControlFailed as error:
            storm.count(op, "refused as it should be" if fails else "refused")
            excused = TOLD.search(str(error)) or cell in RESTLESS or cell in AT_LAST
            if not fails and not excused and calm == (storm.deaths, False, False) and not storm.full.is_set():
                storm.problem(f"{op} {cell}: {error}")
            return False
        storm.count(op, "done")
        if fails:
            storm.problem(f"{op} {cell} was done, and should not have been")
        return True

    def restart(self, cell: str) -> None:
        self.tell("restart", cell)

    def stop_and_start(self, cell: str) -> None:
        deaths = self._storm.deaths
        if self.tell("shutdown", cell):
            self._storm.pause(self._random.uniform(0, 0.3))
            for _ in range(30):  # while the disk is full it may not be possible
                if self.tell("start", cell) or cell in AT_LAST or deaths != self._storm.deaths:
                    break
                time.sleep(0.1)

    def reload(self, cell: str) -> None:
        self._estate.write_good(cell)
        self.tell("reload", cell)

    def reload_bad(self, cell: str) -> None:
        with self._estate.lock:
            self._estate.write_bad(cell, self._random.randrange(7))
            try:
                self.tell("reload", cell, fails=True)
            finally:
                self._estate.write_good(cell)

    def rollback(self, cell: str) -> None:
        self.tell("rollback", cell)

    def look(self, cell: str) -> None:
        self.tell("status", "")
        self.tell("metrics", "")
        self.tell("logs", cell)
        if cell == "visits":
            self.tell("snapshot", cell)


class Chaos:
    """One run.

    Attributes:
        storm: what the clients share.
        clients: who takes part.
        before, after: traces of the last host when all clients had been there for a while, and in the end.
        resident: ten times its resident memory in between, in KiB.
        open_before, open_after: what the descriptors lead to, at the same times.
        log: every line of all hosts.
    """

    def __init__(self, estate: Estate, start: Callable[[int], object], control: str, seed: int) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.storm = Storm(port, seed)
        self.estate = estate
        self.hosts: list[object] = []
        self._start = start
        self._control = control
        self._random = random.Random(f"{seed} weather")
        self.clients = [kind(self.storm, number) for kind, many in CROWD.items() for number in range(many)]
        locks = {name: threading.Lock() for name in estate.folders if name not in estate.anchors}
        self._operators = [Operator(self.storm, estate, control, number, locks) for number in range(2)]
        self.before = self.after = Traces(0, 0, 0)
        self.resident: list[int] = []
        self.open_before: dict[str, int] = {}
        self.open_after: dict[str, int] = {}

    @property
    def pid(self) -> int:
        return self.hosts[-1].process.pid

    def run(self, seconds: float, deaths: int) -> None:
        """Let it rage for so long; the host is killed so often in the first half."""
        self._boot()
        for client in self.clients:
            if hasattr(client, "every"):
                client.every = max(0.1, seconds / 100)
        self._everybody_starts()
        for _ in range(deaths):
            self._weather(seconds / 2 / deaths)
            self._die()
        warm = max(2.0, seconds / 10)
        self._weather(warm)
        with self._quiet():
            self.before = self._settled()
            self.open_before = self.open_files()
        for _ in range(10):
            self._weather((seconds / 2 - warm) / 10)
            self.resident.append(Traces.of(self.pid).resident)
        self.storm.over.set()
        for thread in (*self.clients, *self._operators):
            thread.join(60)
            if thread.is_alive():
                self.storm.problem(f"{thread.name} does not come back")
        self.after = self._settled(like=self.before)
        self.open_after = self.open_files()

    def _boot(self) -> None:
        host = self._start(self.storm.port)
        self.hosts.append(host)
        host.wait_for("(cell ready|load failed|init failed|start failed)", count=len(self.estate.folders))

    def _everybody_starts(self) -> None:
        for thread in (*self.clients, *self._operators):
            thread.start()

    def _weather(self, seconds: float) -> None:
        """Let time pass; now and then the disk is full for everybody: no file may grow past 4 KiB."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.storm.pause(min(self._random.uniform(1.0, 4.0), max(0.0, end - time.monotonic())))
            if time.monotonic() < end:
                self.storm.full.set()
                unlimited = resource.prlimit(self.pid, resource.RLIMIT_FSIZE)
                resource.prlimit(self.pid, resource.RLIMIT_FSIZE, (4096, unlimited[1]))
                self.storm.count("the disk was full")
                self.storm.pause(self._random.uniform(0.05, 0.5))
                resource.prlimit(self.pid, resource.RLIMIT_FSIZE, unlimited)
                self.storm.pause(0.5)  # what was begun in the meantime may still fail
                self.storm.full.clear()

    def _die(self) -> None:
        """Kill the host in the middle of everything, and start it again on what it leaves."""
        self.storm.down.set()
        self.storm.deaths += 1
        self.hosts[-1].kill()
        with self.estate.lock:
            self._boot()
        self.storm.deaths += 1
        self.storm.down.clear()

    @contextlib.contextmanager
    def _quiet(self) -> Iterator[None]:
        """Keep every client from working for a while, with its connections closed."""
        for client in self.clients:
            client.rests.set()
        for operator in self._operators:
            operator.rests.set()
        yield
        for thread in (*self.clients, *self._operators):
            thread.rests.clear()

    def _settled(self, like: Traces | None = None) -> Traces:
        """Return the traces when nobody asks anything: the least of some seconds, for threads leave one by one."""
        end = time.monotonic() + (15.0 if like else 4.0)
        found = []
        while time.monotonic() < end:
            time.sleep(0.25)
            found.append(Traces.of(self.pid))
            if like and found[-1].descriptors <= like.descriptors + 4 and found[-1].threads <= like.threads:
                break
        return Traces(*map(min, *found)) if len(found) > 1 else found[0]

    def states(self) -> dict[str, CellEntry]:
        return {cell.name: cell for cell in ask(Request(op="status"), self._control).cells}

    def open_files(self) -> dict[str, int]:
        """Return what the descriptors of the host lead to, and how many lead to each."""
        found: Counter[str] = Counter()
        for link in Path(f"/proc/{self.pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                found[re.sub(r"\[\d+\]|^.*/data/", "", str(link.readlink()))] += 1
        return dict(sorted(found.items()))

    def wrong_states(self) -> dict[str, str]:
        """Return the cells that are not what they should be, once those between two lives are through."""
        end = time.monotonic() + 5
        while True:
            found = {
                name: f"{cell.state}: {cell.reason}"
                for name, cell in self.states().items()
                if cell.state not in AT_LAST.get(name, {"ready"})
                and not (name in RESTLESS and cell.state in ("ready", "restarting"))
            }
            if not found or time.monotonic() > end:
                return found
            time.sleep(0.1)

    def check(self) -> None:
        """Ask everything that keeps something for what it has acknowledged, and every anchor for an answer."""
        for client in self.clients:
            if hasattr(client, "check"):
                client.close()
                client.check()
                client.close()
        probe = Client(self.storm)
        for number in range(len(self.estate.anchors)):
            if probe.ask("GET", f"/n/{number:04}") != (200, b"%04d" % number):
                self.storm.problem(f"anchor {number} does not answer in the end")
        for path in (
            "/echo/x",
            "/gogo/x",
            "/price/tea",
            "/bank/accounts",
            "/a/ok",
            "/f/ok",
            "/",
            "/visits/x",
            "/hits/x",
        ):
            status, _ = probe.ask("GET", path)
            if status != 200:
                self.storm.problem(f"{path}: {status} in the end")
        probe.close()

    @property
    def log(self) -> list[str]:
        return [line for host in self.hosts for line in host.lines]

    def errors(self) -> set[str]:
        """Return the messages of level ERROR."""
        return {found[1] for line in self.log if (found := re.search(r'level=ERROR msg="([^"]*)"', line))}

    def figures(self) -> str:
        """Return what happened, for people."""
        lines = Counter(
            found[1] for line in self.log if (found := re.search(r'level=(?:WARN|ERROR) msg=("[^"]*"|\S+)', line))
        )
        told = {
            "seed": self.storm.seed,
            "slowest answer of an anchor, s": round(Anchored.slowest, 3),
            "before": self.before._asdict(),
            "after": self.after._asdict(),
            "resident in between": self.resident,
            "open before": self.open_before,
            "open after": self.open_after,
            "lines of the log": len(self.log),
            "warnings and errors": dict(lines.most_common()),
            "problems": self.storm.problems,
            "counts": dict(sorted(self.storm.counts.items())),
        }
        return json.dumps(told, indent=1)


def seed_of_this_run() -> int:
    given = os.environ.get("PULP_CHAOS_SEED")
    return int(given) if given else random.SystemRandom().randrange(1 << 32)
