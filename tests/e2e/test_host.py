"""The host as a library."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pulp_runtime.errors import ManifestError
from pulp_runtime.ext import Capability, SetupEnv
from pulp_runtime.host import Host, StartError

MakeHost = Callable[..., Host]


@pytest.fixture
def make(cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> MakeHost:
    """Return `make(cells, **arguments)`: a host on a free port of loopback."""
    monkeypatch.delenv("HTTP_PORT", raising=False)

    def make(*cells: Path, **arguments: object) -> Host:
        settings = {"http_port": "127.0.0.1:0", "storage_root": tmp_path / "data", "cache": cache, **arguments}
        return Host(cells, **settings)

    return make


async def get(url: str) -> bytes:
    def fetch() -> bytes:
        with urllib.request.urlopen(url, timeout=20) as answer:
            return answer.read()

    return await asyncio.to_thread(fetch)


async def status_of(url: str) -> tuple[int, bytes]:
    """Return an answer whatever its status."""

    def fetch() -> tuple[int, bytes]:
        try:
            with urllib.request.urlopen(url, timeout=20) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    return await asyncio.to_thread(fetch)


def test_a_host_serves_between_entering_and_leaving(make: MakeHost, echo: Path) -> None:
    async def main() -> None:
        async with make(echo) as host:
            assert await get(f"{host.url}/echo/hi") == b"hi"
        assert host.url == ""
        assert host.finished

    asyncio.run(main())


def test_port_0_is_any_port_and_the_url_is_one_a_client_can_use(make: MakeHost, echo: Path) -> None:
    async def main() -> None:
        async with make(echo, http_port=0) as host:
            assert host.url.startswith("http://127.0.0.1:")
            assert await get(f"{host.url}/echo/any") == b"any"

    asyncio.run(main())


def test_the_environment_names_the_port_when_the_caller_does_not(
    make: MakeHost, echo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PORT", "127.0.0.1:0")

    async def main() -> None:
        async with make(echo, http_port=None) as host:
            assert await get(f"{host.url}/echo/env") == b"env"

    asyncio.run(main())


def test_two_hosts_live_in_one_process(make: MakeHost, echo: Path) -> None:
    async def main() -> None:
        async with make(echo) as one, make(echo) as two:
            assert one.url != two.url
            assert await asyncio.gather(get(f"{one.url}/echo/1"), get(f"{two.url}/echo/2")) == [b"1", b"2"]

    asyncio.run(main())


def test_a_host_without_http_has_no_url(make: MakeHost, heartbeat: Path) -> None:
    async def main() -> None:
        async with make(heartbeat) as host:
            assert host.url == ""

    asyncio.run(main())


def test_a_stop_of_idle_cells_is_never_taken_for_a_crash(make: MakeHost, heartbeat: Path, records) -> None:
    """25 times: what ends an idle tick, or a cell that sleeps, is no reason to start it again."""

    async def main() -> None:
        for number in range(25):
            async with make(heartbeat) as host:
                await asyncio.sleep(0.001 * (number % 5))
                assert host.status()["heartbeat"].restarts == 0

    asyncio.run(main())
    assert records.messages.count("shutdown complete") == 25
    assert [one.getMessage() for one in records.all if one.levelname in ("WARNING", "ERROR")] == []


def test_twenty_lives_leave_nothing_behind(make: MakeHost, echo: Path, heartbeat: Path) -> None:
    """No thread, no file descriptor, no task."""

    async def main() -> None:
        async def live() -> None:
            async with make(echo, heartbeat) as host:
                assert await get(f"{host.url}/echo/x") == b"x"

        await live()
        await settle()
        before = traces()
        for _ in range(20):
            await live()
        await settle()
        assert traces() == before

    async def settle() -> None:
        gc.collect()
        await asyncio.sleep(0)

    def traces() -> tuple[list[str], int, int]:
        threads = sorted(thread.name for thread in threading.enumerate() if not thread.name.startswith("asyncio_"))
        return threads, len(os.listdir("/proc/self/fd")), len(asyncio.all_tasks())

    asyncio.run(main())


def test_a_host_that_was_not_started_can_be_stopped_twice(make: MakeHost, echo: Path) -> None:
    async def main() -> None:
        host = make(echo)
        await host.stop()
        await host.stop()

    asyncio.run(main())


def test_a_manifest_is_read_when_the_host_is_made(make: MakeHost, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"no pulp\.cell\.toml"):
        make(tmp_path)


class Step:
    """A capability that notes what is asked of it."""

    def __init__(self, name: str, notes: list[str], *, fails: bool = False) -> None:
        self.name = name
        self.notes = notes
        self.fails = fails

    def setup(self, env: SetupEnv) -> None:
        if self.fails:
            raise OSError("no such device")
        self.notes.append(f"setup {self.name}")

    def teardown(self) -> None:
        self.notes.append(f"teardown {self.name}")


@pytest.fixture
def notes() -> Iterator[list[str]]:
    return []


def test_a_set_up_that_fails_rolls_back_in_reverse(make: MakeHost, cell: Callable[..., Path], notes: list[str]) -> None:
    names = ["test.one", "test.two", "test.three", "test.four"]
    capabilities = [Capability.of(name, Step(name, notes, fails=name == "test.three")) for name in names]
    folder = cell("minimal", f"capabilities = {names}")
    host = make(folder, capabilities=capabilities)

    with pytest.raises(StartError, match=r"test\.three: setup failed: OSError: no such device"):
        asyncio.run(host.start())

    assert notes == ["setup test.one", "setup test.two", "teardown test.two", "teardown test.one"]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(("worker", "epoch"))]


def test_tear_down_is_in_reverse_of_set_up_when_all_cells_fail(
    make: MakeHost, cell: Callable[..., Path], notes: list[str]
) -> None:
    names = ["test.one", "test.two"]
    host = make(
        cell("trap_init", f"capabilities = {names}"),
        capabilities=[Capability.of(name, Step(name, notes)) for name in names],
    )

    with pytest.raises(StartError, match="all cells failed to start"):
        asyncio.run(host.start())

    assert notes == ["setup test.one", "setup test.two", "teardown test.two", "teardown test.one"]


def test_a_host_that_cannot_listen_holds_no_port(make: MakeHost, cell: Callable[..., Path], echo: Path) -> None:
    """The listener is set up first; what fails after it gives the port back."""

    async def main() -> None:
        async with make(echo) as first:
            port = first.url.rpartition(":")[2]
        bad = cell("trap_init", 'capabilities = ["transport.http.inbound"]')
        with pytest.raises(StartError):
            await make(bad, http_port=f"127.0.0.1:{port}").start()
        async with make(echo, http_port=f"127.0.0.1:{port}") as second:
            assert await get(f"{second.url}/echo/again") == b"again"

    asyncio.run(main())


def test_a_set_up_that_fails_after_the_listener_s_gives_the_port_back(
    make: MakeHost, cell: Callable[..., Path], notes: list[str], records
) -> None:
    bad = cell("minimal", 'capabilities = ["transport.http.inbound", "test.bad"]')
    host = make(bad, capabilities=[Capability.of("test.bad", Step("test.bad", notes, fails=True))])

    with pytest.raises(StartError):
        asyncio.run(host.start())

    (started,) = records.fields("http server started")
    address, _, port = started["addr"].rpartition(":")
    socket.create_server((address, int(port))).close()


def test_a_start_that_is_cancelled_leaves_no_thread(make: MakeHost, cell: Callable[..., Path]) -> None:
    async def main() -> None:
        host = make(cell("spin_init"))
        start = asyncio.ensure_future(host.start())
        while not any(thread.name.startswith("worker") for thread in threading.enumerate()):
            await asyncio.sleep(0.001)
        start.cancel()
        with pytest.raises(asyncio.CancelledError):
            await start
        assert host.finished

    asyncio.run(main())
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(("worker", "epoch"))]


def test_a_dependent_starts_although_its_dependency_crashed_after_its_own_start(
    make: MakeHost, cell: Callable[..., Path], records
) -> None:
    async def main() -> None:
        first = cell("trap_step_idle", 'restart = "never"')
        async with asyncio.timeout(10), make(first, cell("minimal", 'depends_on = ["trap-step-idle"]')):
            assert {"cell": "minimal"}.items() <= records.fields("cell ready")[-1].items()

    asyncio.run(main())


def test_a_request_that_waits_too_long_is_504_and_its_late_answer_is_refused(
    make: MakeHost, lab: Callable[..., Path]
) -> None:
    settings = '[settings."transport.http.inbound"]\nrequest_timeout_ms = 300'

    async def main() -> None:
        async with make(lab("call_timeout_ms = 2500", settings)) as host:
            assert await status_of(f"{host.url}/l/spin") == (504, b"cell timeout\n")
            while host.status()["lab"].state != "ready" or not host.status()["lab"].restarts:
                await asyncio.sleep(0.01)
            assert await status_of(f"{host.url}/l/late") == (200, b"c4")

    asyncio.run(main())
