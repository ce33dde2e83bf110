"""A gateway on a real socket, and instances of applications behind it whose cells are the test."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec

from pulp_runtime.abi.http import HTTPRegister, HTTPRequest, HTTPResponse
from pulp_runtime.capabilities.transport.gateway import Gateway, GatewayRoute, GatewaySeat
from pulp_runtime.capabilities.transport.http_inbound import HttpInbound
from pulp_runtime.capabilities.transport.sse import Sse
from pulp_runtime.errors import Errno
from pulp_runtime.ext import CellRef, Endpoint, Posted, Services, SetupEnv, StepEvent
from pulp_runtime.log import Log

from .test_http_inbound import code_of

PATIENCE_SECONDS = 20.0
ROUTES = (GatewayRoute("/", "root", "one"), GatewayRoute("/p", "shop", "blue"), GatewayRoute("/p/deep", "deep", "one"))


class Instance:
    """One instance of an application: `transport.http.inbound` and `transport.sse` set up, one cell, which mirrors.

    Attributes:
        answers: False when the test answers itself; the requests are in `requests` then.
    """

    def __init__(self, gateway: Gateway, application: str, instance: str) -> None:
        self.name = f"{application}/{instance}"
        self.seat = gateway.seat(application, instance)
        self.cell = CellRef("cell", f"{self.name}/cell", Log("pulp", cell="cell"))
        self.answers = True
        self.requests: asyncio.Queue[HTTPRequest] = asyncio.Queue()
        self.events: list[StepEvent] = []
        self.endpoints: list[Endpoint] = []
        self.services = Services()
        self.tasks: list[asyncio.Task[None]] = []
        self.inbound, self.sse = HttpInbound(), Sse()

    def env(self, seated: bool = True) -> SetupEnv:
        loop = asyncio.get_running_loop()
        if seated:
            self.services.get(GatewaySeat, lambda: self.seat)
        return SetupEnv(
            storage_root=Path("/nonexistent"),
            logger=Log("pulp"),
            post=self._post,
            spawn=lambda coroutine: self.tasks.append(loop.create_task(coroutine)),
            defer=loop.call_soon_threadsafe,
            reachable=self.endpoints.append,
            http_port="127.0.0.1:0",
            services=self.services,
        )

    def set_up(self, **settings: object) -> None:
        """Do what a host does before it loads cells, and begin to load one."""
        for capability in (self.inbound, self.sse):
            capability.setup(self.env())
            capability.setup_cell(msgspec.structs.replace(self.cell, tables={"transport.http.inbound": settings}))

    def up(self, *routes: str, **settings: object) -> None:
        """Set up, with a cell that has these routes: any path by default."""
        self.set_up(**settings)
        for method in ("GET", "POST"):
            for path in routes or ("/", "/:a", "/:a/:b", "/:a/:b/:c"):
                assert self.register(method, path) == Errno.OK

    def register(self, method: str, path: str, **more: Any) -> int:
        return code_of(lambda: self.inbound.http_register(self.cell, HTTPRegister(method=method, path=path, **more)))

    def begin_to_stop(self) -> None:
        """Stop, as a host does, as far as its tasks."""
        for task in self.tasks:
            task.cancel()

    async def down(self, *, cells: bool = True) -> None:
        """Stop, as a host does: begin with the tasks, end with the capabilities; also when its cells do not stop."""
        self.begin_to_stop()
        for capability in (self.inbound, self.sse) if cells else ():
            capability.teardown_cell(self.cell.id)
        if self.tasks:
            await asyncio.wait(self.tasks)
            self.tasks.clear()
            for capability in (self.inbound, self.sse):
                capability.teardown()
        self.services, self.inbound, self.sse = Services(), HttpInbound(), Sse()

    def _post(self, event: StepEvent) -> Posted:
        self.events.append(event)
        if event.kind == "http.request":
            request = msgspec.msgpack.decode(event.payload, type=HTTPRequest)
            if self.answers:
                asyncio.get_running_loop().call_soon(self._mirror, request)
            else:
                self.requests.put_nowait(request)
        return Posted.ACCEPTED

    def _mirror(self, request: HTTPRequest) -> None:
        body = json.dumps(
            {
                "by": self.name,
                "method": request.method,
                "path": request.path,
                "query": request.query,
                "headers": request.headers,
                "body": len(request.body or b""),
                "remote": request.remote_addr,
            }
        )
        self.respond(request.id, status=200, body=body.encode())
        self.inbound.finalize(request.id)

    def respond(self, number: int, **reply: object) -> int:
        return code_of(lambda: self.inbound.http_respond(self.cell, HTTPResponse(id=number, **reply)))


class Answer:
    """What a client got.

    Attributes:
        seen: what the cell that mirrored the request saw of it; empty for other answers.
    """

    def __init__(self, data: bytes) -> None:
        head, _, self.body = data.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        self.status = int(first.split()[1])
        self.fields = dict(line.split(": ", 1) for line in lines)
        self.seen: dict[str, Any] = json.loads(self.body) if self.body.startswith(b"{") else {}


class Stage:
    """A gateway, and its instances; the first of them is `root/one`."""

    def __init__(self, routes: Sequence[GatewayRoute] = ROUTES, **config: Any) -> None:
        self.gateway = Gateway("127.0.0.1:0", routes, config, Log("pulp"))
        whose = dict.fromkeys((route.application, route.instance) for route in routes)
        self.instances = {f"{app}/{name}": Instance(self.gateway, app, name) for app, name in whose}
        self.writers: list[asyncio.StreamWriter] = []

    def __getitem__(self, name: str) -> Instance:
        return self.instances[name]

    async def __aenter__(self) -> Stage:
        for instance in self.instances.values():
            instance.up()
        await self.gateway.start()
        return self

    async def __aexit__(self, *_error: object) -> None:
        for writer in self.writers:
            writer.close()
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self.gateway.close, 0.1)
            for instance in self.instances.values():
                stack.push_async_callback(instance.down)

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.gateway.url.rpartition("/")[2].rpartition(":")
        return host, int(port)

    async def connect(self, data: bytes = b"", **options: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(*self.address, **options)
        self.writers.append(writer)
        writer.write(data)
        return reader, writer

    async def send(self, data: bytes, **options: Any) -> Answer:
        """Send bytes; return the answer, which says how long it is."""
        reader, writer = await self.connect(data, **options)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        answer = Answer(head + await reader.readexactly(length))
        writer.close()
        return answer

    async def ask(self, target: str, *lines: str, method: str = "GET", body: bytes = b"") -> Answer:
        """Send a request; it says nothing about its connection, so that it is remembered like any other."""
        length = (f"Content-Length: {len(body)}",) if body else ()
        head = (f"{method} {target} HTTP/1.1", "Host: public.example", *length, *lines, "", "")
        return await self.send("\r\n".join(head).encode() + body)


def on_a_stage(
    test: Callable[[Stage], Awaitable[None]], routes: Sequence[GatewayRoute] = ROUTES, **config: Any
) -> None:
    async def main() -> None:
        async with asyncio.timeout(PATIENCE_SECONDS), Stage(routes, **config) as stage:
            await test(stage)

    asyncio.run(main())
