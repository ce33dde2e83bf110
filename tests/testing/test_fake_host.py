from __future__ import annotations

import asyncio
import socket
import threading
import time
from pathlib import Path

import pytest

from pulp_runtime.ext import Endpoint, Posted, SetupEnv, StepEvent
from pulp_runtime.testing import FakeHost

EVENT = StepEvent("test.event", b"\xc0", 1)


def test_an_hour_takes_no_time(pulp_env: FakeHost) -> None:
    env, began, rang = pulp_env(), time.monotonic(), []

    async def alarm() -> None:
        for _ in range(60):
            await asyncio.sleep(60)
            rang.append(asyncio.get_running_loop().time())

    env.spawn(alarm())
    pulp_env.advance(3600)

    assert rang == [60.0 * minute for minute in range(1, 61)]
    assert pulp_env.now == 3600
    assert time.monotonic() - began < 5


def test_nothing_runs_before_time_passes(pulp_env: FakeHost) -> None:
    ran = []

    async def task() -> None:
        ran.append("begun")
        await asyncio.sleep(0.5)
        ran.append("ended")

    pulp_env().spawn(task())
    assert ran == []
    pulp_env.turn()
    assert ran == ["begun"]
    pulp_env.advance(0.499)
    assert ran == ["begun"]
    pulp_env.advance(0.001)
    assert ran == ["begun", "ended"]


def test_a_deferred_callback_runs_in_the_next_turn_from_any_thread(pulp_env: FakeHost) -> None:
    env, ran = pulp_env(), []
    env.defer(lambda: ran.append(threading.get_ident()))
    other = threading.Thread(target=env.defer, args=(lambda: ran.append(threading.get_ident()),))
    other.start()
    other.join()

    assert ran == []
    pulp_env.turn()
    assert ran == [threading.get_ident()] * 2


def test_what_is_posted_is_kept_and_answered_as_the_test_likes(pulp_env: FakeHost) -> None:
    env = pulp_env()
    assert env.post(EVENT) is Posted.ACCEPTED
    pulp_env.answer = Posted.FULL
    assert env.post(EVENT) is Posted.FULL

    assert pulp_env.posted == [EVENT, EVENT]


def test_an_env_has_everything_a_set_up_may_use(pulp_env: FakeHost) -> None:
    env = pulp_env("demo.clock", config={"every_ms": 5}, http_port=0)
    env.logger.info("ready", port=1)
    env.reachable(Endpoint("demo.clock", "public", "http://127.0.0.1:1"))

    assert isinstance(env, SetupEnv)
    assert (env.config, env.http_port, env.cell_name) == ({"every_ms": 5}, "0", "")
    assert pulp_env.logged == [(20, "ready", {"capability": "demo.clock", "port": 1})]
    assert pulp_env.endpoints == [("demo.clock", "public", "http://127.0.0.1:1")]


async def fail() -> None:
    raise OSError("a bug")


def test_a_task_that_fails_is_the_test_s_failure(pulp_env: FakeHost) -> None:
    pulp_env().spawn(fail())

    with pytest.raises(OSError, match="a bug"):
        pulp_env.turn()
    pulp_env.turn()


def test_a_callback_that_fails_is_the_test_s_failure_and_stops_no_other(pulp_env: FakeHost) -> None:
    env, ran = pulp_env(), []

    def broken() -> None:
        raise ValueError("a bug")

    env.defer(broken)
    env.defer(lambda: ran.append(1))

    with pytest.raises(ValueError, match="a bug"):
        pulp_env.turn()
    assert ran == [1]


def test_closing_cancels_tasks_and_waits_for_what_they_still_do() -> None:
    notes = []

    async def task() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(5)
            notes.append("released")

    with FakeHost() as host:
        host().spawn(task())
        host.turn()

    assert notes == ["released"]


def test_closing_raises_what_nobody_has_seen_and_removes_the_folder() -> None:
    def broken() -> None:
        raise OSError("a bug")

    host = FakeHost()
    folder = host.storage_root.parent
    host().defer(broken)

    with pytest.raises(OSError, match="a bug"):
        host.close()
    assert not folder.exists()
    host.close()
    with pytest.raises(RuntimeError, match="closed"):
        host.advance(1)


def test_a_failure_of_the_test_is_not_hidden_by_one_of_the_end() -> None:
    def broken() -> None:
        raise OSError("a bug")

    def body() -> None:
        with FakeHost() as host:
            host().defer(broken)
            raise LookupError("the test's own")

    with pytest.raises(LookupError):
        body()


def test_a_storage_root_of_the_test_is_left_alone(tmp_path: Path) -> None:
    with FakeHost(tmp_path) as host:
        assert host().storage_root == tmp_path
    assert tmp_path.exists()


def test_whoever_waits_for_a_socket_has_time(pulp_env: FakeHost) -> None:
    got: list[bytes] = []
    near, far = socket.socketpair()
    near.setblocking(False)

    async def read() -> None:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(20):
            got.append(await loop.sock_recv(near, 10))

    with near, far:
        pulp_env().spawn(read())
        sender = threading.Timer(0.02, far.send, (b"late",))
        sender.start()
        while not got:
            pulp_env.advance(0.01)
        sender.join()
    assert got == [b"late"]
