"""Real guests in hosts of their own behind one gateway: requests, WebSockets, event streams, going and coming back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from pulp_runtime import Host
from pulp_runtime.capabilities.catalog import BUILT_IN
from pulp_runtime.capabilities.transport.gateway import Gateway, GatewayRoute, GatewaySeat
from pulp_runtime.ext import Capability, SetupEnv
from pulp_runtime.log import Log

EXAMPLES = Path(__file__).parents[3] / "examples"
SECONDS = 20.0
ROUTES = (
    GatewayRoute("/", "echo", "one"),
    GatewayRoute("/count", "counter", "one"),
    GatewayRoute("/chat", "ws-echo", "blue"),
    GatewayRoute("/chat/green", "ws-echo", "green"),
)

TRANSPORTS = ("transport.http.inbound", "transport.sse", "transport.ws.inbound")

Start = Callable[[str, str], Awaitable[Host]]


def seated(name: str, seat: GatewaySeat) -> Capability:
    """Return a built-in transport for a host that sits behind a gateway."""
    capability = BUILT_IN[name]()
    built_in = capability.setup
    assert built_in is not None

    def setup(env: SetupEnv) -> None:
        env.services.get(GatewaySeat, lambda: seat)
        built_in(env)

    return replace(capability, setup=setup, provider="seated")


@asynccontextmanager
async def hosts(folder: Path, cache: Path) -> AsyncIterator[tuple[Gateway, dict[str, Host], Start]]:
    """Start an example for each instance, and the gateway; `start` starts one of them anew."""
    gateway = Gateway("127.0.0.1:0", ROUTES, {}, Log("pulp"))
    running: dict[str, Host] = {}

    async def start(application: str, instance: str) -> Host:
        host = Host(
            [EXAMPLES / application / "c"],
            storage_root=folder / application / instance,
            cache=cache,
            http_port="1",  # which nobody may bind
            capabilities=[seated(name, gateway.seat(application, instance)) for name in TRANSPORTS],
            providers=dict.fromkeys(TRANSPORTS, "seated"),
        )
        await host.start()
        running[f"{application}/{instance}"] = host
        return host

    try:
        for route in ROUTES:
            await start(route.application, route.instance)
        await gateway.start()
        yield gateway, running, start
    finally:
        await gateway.close(1)
        for host in running.values():
            await host.stop()


def on_hosts(
    folder: Path,
    cache: Path,
    test: Callable[[Gateway, dict[str, Host], Start, httpx.AsyncClient], Awaitable[None]],
) -> None:
    async def main() -> None:
        async with (
            asyncio.timeout(3 * SECONDS),
            hosts(folder, cache) as (gateway, running, start),
            httpx.AsyncClient(base_url=gateway.url, timeout=SECONDS) as client,
        ):
            await test(gateway, running, start, client)

    asyncio.run(main())


pytestmark = pytest.mark.slow


def test_each_guest_is_asked_what_is_below_its_prefix(tmp_path: Path, puppet_cache: Path) -> None:
    async def test(gateway: Gateway, running: dict[str, Host], _start: Start, client: httpx.AsyncClient) -> None:
        assert (await client.get("/echo/hi%20there")).text == "hi there"
        assert (await client.get("/echo/a%2Fb")).status_code == 404  # its route has one segment
        assert (await client.get("/count")).text.startswith("<!doctype html>")  # a folder of the cell's
        before = (await client.get("/count/count")).json()
        assert (await client.post("/count/count")).status_code == 200
        assert (await client.get("/count/count")).json() != before
        assert (await client.get("/count/echo/hi")).status_code == 404
        assert [running[name].url for name in ("echo/one", "counter/one", "ws-echo/green")] == [
            gateway.url,
            f"{gateway.url}/count",
            f"{gateway.url}/chat/green",
        ]

    on_hosts(tmp_path, puppet_cache, test)


def test_a_websocket_reaches_the_instance_of_its_prefix_and_no_other(tmp_path: Path, puppet_cache: Path) -> None:
    async def test(gateway: Gateway, running: dict[str, Host], _start: Start, _client: httpx.AsyncClient) -> None:
        url = gateway.url.replace("http:", "ws:", 1)
        async with (
            connect(f"{url}/chat/echo", origin=gateway.url) as blue,
            connect(f"{url}/chat/green/echo", proxy=None) as green,
        ):
            for client in (blue, green):
                await client.send("hello")
                assert await client.recv() == "hello"
            await running["ws-echo/green"].stop()
            with pytest.raises(ConnectionClosed) as closed:
                await green.recv()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1001
            await blue.send("still here")
            assert await blue.recv() == "still here"
        for path, status in (("/chat/green/echo", 503), ("/chat/none", 404), ("/echo", 404), ("/chat%2Fecho", 400)):
            with pytest.raises(InvalidStatus) as refused:
                await connect(url + path, proxy=None)
            assert refused.value.response.status_code == status
        with pytest.raises(InvalidStatus) as refused:
            await connect(f"{url}/chat/echo", origin="http://elsewhere.example", proxy=None)
        assert refused.value.response.status_code == 403

    on_hosts(tmp_path, puppet_cache, test)


def test_an_event_stream_follows_its_instance_which_may_go_and_come_back(tmp_path: Path, puppet_cache: Path) -> None:
    async def test(_gateway: Gateway, running: dict[str, Host], start: Start, client: httpx.AsyncClient) -> None:
        async with client.stream("GET", "/count/events") as events:
            lines = events.aiter_lines()
            await client.post("/count/count")
            while not (await anext(lines)).startswith("data:"):
                pass
            await running["counter/one"].stop()
            assert [line async for line in lines if line.startswith("data:")] == []  # a whole end
        answer = await client.get("/count/count")
        assert (answer.status_code, answer.text) == (503, "application upstream unavailable\n")
        assert (await client.get("/echo/hi")).text == "hi"
        host = await start("counter", "one")
        assert host.url.endswith("/count")
        assert (await client.get("/count/count")).status_code == 200

    on_hosts(tmp_path, puppet_cache, test)


def test_stopping_with_open_streams_takes_no_longer_than_the_hosts_do(tmp_path: Path, puppet_cache: Path) -> None:
    async def test(gateway: Gateway, running: dict[str, Host], _start: Start, client: httpx.AsyncClient) -> None:
        url = gateway.url.replace("http:", "ws:", 1)
        async with client.stream("GET", "/count/events") as events, connect(f"{url}/chat/echo", proxy=None) as chat:
            began = time.monotonic()
            closing = asyncio.create_task(gateway.close(SECONDS))
            for host in running.values():
                await host.stop()
            await closing
            assert time.monotonic() - began < SECONDS / 4
            assert not [line async for line in events.aiter_lines() if line.startswith("data:")]
            with pytest.raises(ConnectionClosed):
                await chat.recv()

    on_hosts(tmp_path, puppet_cache, test)


def test_requests_under_load_are_all_answered_while_an_instance_restarts(tmp_path: Path, puppet_cache: Path) -> None:
    async def test(_gateway: Gateway, running: dict[str, Host], start: Start, client: httpx.AsyncClient) -> None:
        seen: list[int] = []
        done = asyncio.Event()

        async def ask() -> None:
            while not done.is_set():
                seen.append((await client.get("/echo/hi")).status_code)

        clients = [asyncio.create_task(ask()) for _ in range(8)]
        await asyncio.sleep(0.1)
        await running["echo/one"].stop()
        await asyncio.sleep(0.1)
        await start("echo", "one")
        while seen[-8:] != [200] * 8:
            await asyncio.sleep(0.01)
        done.set()
        await asyncio.gather(*clients)
        assert set(seen) == {200, 503}

    on_hosts(tmp_path, puppet_cache, test)
