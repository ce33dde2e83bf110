from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from pulp_runtime.background import LoopThread
from pulp_runtime.capabilities.waiting import LoopDoor
from pulp_runtime.errors import Errno, HostError


@pytest.fixture
def loop() -> Iterator[LoopThread]:
    loop = LoopThread("test")
    yield loop
    loop.close()


def test_a_coroutine_runs_on_the_loop_while_a_worker_waits(loop: LoopThread) -> None:
    door = LoopDoor()

    async def where() -> str:
        return threading.current_thread().name

    async def work() -> str:
        with door.opened():
            return await asyncio.to_thread(door.run, where, 5)

    assert loop.run(work()) == "test"


def test_when_time_is_up_the_coroutine_is_cancelled(loop: LoopThread) -> None:
    door, cancelled = LoopDoor(), threading.Event()

    async def never() -> None:
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async def work() -> None:
        with door.opened():
            await asyncio.to_thread(door.run, never, 0.01)

    with pytest.raises(TimeoutError):
        loop.run(work())
    assert cancelled.wait(5)


def test_what_the_coroutine_raises_is_raised_to_the_worker(loop: LoopThread) -> None:
    door = LoopDoor()

    async def fails() -> None:
        raise OSError("no network")

    async def work() -> None:
        with door.opened():
            await asyncio.to_thread(door.run, fails, 5)

    with pytest.raises(OSError, match="no network"):
        loop.run(work())


def test_a_closed_door_is_10(loop: LoopThread) -> None:
    door = LoopDoor()

    async def open_and_close() -> None:
        with door.opened():
            pass

    loop.run(open_and_close())

    with pytest.raises(HostError) as refused:
        door.run(lambda: asyncio.sleep(0), 1)
    assert refused.value.code == Errno.UNAVAILABLE
