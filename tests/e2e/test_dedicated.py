"""`dedicated_thread`: a busy cell with a thread of its own does not slow the pool."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pulp_runtime import Host

DEADLINE_SECONDS = 20.0
REQUESTS = 100


class Stage:
    """A host with one worker and two cells: `busy`, whose `/b/s` never ends by itself, and `quick`.

    Attributes:
        served_by: the threads on which the quick cell was stepped.
    """

    def __init__(self, host: Host) -> None:
        self.host = host
        self.address = ("127.0.0.1", int(host.url.rpartition(":")[2]))
        self.served_by: set[str] = set()
        quick = host._runners()["quick"]
        deliver = quick._deliver
        quick._deliver = lambda *args: self.served_by.add(threading.current_thread().name) or deliver(*args)

    @property
    def at_work(self) -> str:
        """The name of the thread that is inside the busy cell, "" if none is."""
        owner = self.host._runners()["busy"].cell._lock._owner
        return next((thread.name for thread in threading.enumerate() if thread.ident == owner), "")

    @property
    def steps(self) -> int:
        """How many of its steps have ended."""
        return self.host.status()["busy"].steps

    @contextmanager
    def held(self) -> Iterator[None]:
        """Have the busy cell compute, on one event, until the host ends it."""
        with socket.create_connection(self.address, DEADLINE_SECONDS) as client:
            client.sendall(b"GET /b/s HTTP/1.1\r\nHost: a\r\n\r\n")
            end = time.monotonic() + DEADLINE_SECONDS
            while not self.at_work:
                assert time.monotonic() < end
            yield

    def ask(self, times: int) -> list[int]:
        """Ask the quick cell, one request after the other."""
        client = http.client.HTTPConnection(*self.address, timeout=DEADLINE_SECONDS)
        found = []
        for _ in range(times):
            client.request("GET", "/q/o")
            answer = client.getresponse()
            answer.read()
            found.append(answer.status)
        client.close()
        return found


@pytest.fixture
def stage(lab: Callable[..., Path], tmp_path: Path) -> Iterator[Callable[..., Stage]]:
    hosts: list[Host] = []

    def stage(*lines: str) -> Stage:
        busy = lab("tick_ms = 0", *lines, name="busy")
        quick = lab("tick_ms = 0", name="quick")
        host = Host([busy, quick], storage_root=tmp_path, http_port="127.0.0.1:0", workers=1, grace_seconds=2.0)
        hosts.append(host)
        host.__enter__()
        return Stage(host)

    yield stage
    for host in hosts:
        host.__exit__(None, None, None)
        assert host.finished


@pytest.mark.slow
def test_while_a_dedicated_cell_computes_the_one_worker_there_is_serves_the_others(stage) -> None:
    there = stage("dedicated_thread = true")
    before = there.steps
    with there.held():
        assert there.ask(REQUESTS) == [200] * REQUESTS
        assert (there.at_work, there.steps) == ("cell:busy", before)  # the same step, all the while
        assert {name.partition(":")[0] for name in there.served_by} == {"worker"}


@pytest.mark.slow
def test_without_a_thread_of_its_own_the_same_cell_holds_the_worker_and_another_stands_in(stage) -> None:
    there = stage()
    with there.held():
        (held,) = {there.at_work}
        assert held.startswith("worker:")
        assert there.ask(REQUESTS) == [200] * REQUESTS
        assert there.at_work == held
        assert there.served_by
        assert held not in there.served_by  # a worker that the pool had to add


@pytest.mark.slow
def test_the_thread_carries_the_cells_name_and_runs_nobody_else(stage) -> None:
    there = stage("dedicated_thread = true")
    assert [thread.name for thread in threading.enumerate()].count("cell:busy") == 1

    there.ask(10)

    assert {name.partition(":")[0] for name in there.served_by} == {"worker"}
    with there.held():
        assert there.at_work == "cell:busy"


@pytest.mark.slow
def test_a_dedicated_cell_is_ended_at_its_deadline_like_any_other(stage) -> None:
    there = stage("dedicated_thread = true", "call_timeout_ms = 200", 'restart = "on_crash"')
    with there.held():
        end = time.monotonic() + DEADLINE_SECONDS
        while there.host.status()["busy"].restarts != 1:
            assert time.monotonic() < end
            time.sleep(0.005)
    assert there.ask(1) == [200]
    assert [thread.name for thread in threading.enumerate()].count("cell:busy") == 1
