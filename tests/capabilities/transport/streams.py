"""`transport.sse` between real sockets and a test in the place of the host and its cells."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from pulp_runtime.abi.sse import SSEEmitRequest
from pulp_runtime.capabilities.transport.sse import Sse
from pulp_runtime.errors import Errno, HostError
from pulp_runtime.ext import CellRef, Endpoint, Posted, Services, SetupEnv
from pulp_runtime.log import Log

PATIENCE_SECONDS = 10.0
ECHO = CellRef("echo", "echo", Log("pulp", cell="echo"))
OTHER = CellRef("other", "other", Log("pulp", cell="other"))


class Caller:
    """A guest inside a host function: 64 bytes of memory, and its patience."""

    def __init__(self, cell: CellRef = ECHO, memory: bytes = bytes(64), seconds: float = PATIENCE_SECONDS) -> None:
        self.cell = cell
        self.memory = bytearray(memory)
        self.seconds = seconds
        self.waited = 0

    def read(self, address: int, length: int) -> bytes:
        if address + length > len(self.memory):
            raise HostError(Errno.FAULT)
        return bytes(self.memory[address : address + length])

    def write(self, address: int, data: bytes) -> None:
        if address + len(data) > len(self.memory):
            raise HostError(Errno.WRITE)
        self.memory[address : address + len(data)] = data

    def seconds_left(self) -> float:
        return self.seconds

    def blocking(self) -> AbstractContextManager[None]:
        self.waited += 1
        return nullcontext()


class Bench:
    """The capability, set up and served."""

    def __init__(self) -> None:
        self.sse = Sse()
        self.services = Services()
        self.endpoints: list[Endpoint] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.clients: list[Client] = []

    def env(self, http: dict[str, Any] | None = None) -> SetupEnv:
        loop = asyncio.get_running_loop()
        return SetupEnv(
            storage_root=Path("/nonexistent"),
            logger=Log("pulp"),
            post=lambda _event: Posted.ACCEPTED,
            spawn=lambda coroutine: self.tasks.append(loop.create_task(coroutine)),
            defer=loop.call_soon_threadsafe,
            reachable=self.endpoints.append,
            http_port="127.0.0.1:0",
            http_config=http or {},
            services=self.services,
        )

    async def __aenter__(self) -> Bench:
        self.sse.setup(self.env())
        self.load(ECHO)
        self.load(OTHER)
        while not self.endpoints or self.sse._front.loop is None:
            await asyncio.sleep(0)
        return self

    async def __aexit__(self, *_error: object) -> None:
        for client in self.clients:
            client.leave()
        await self.stop()

    async def stop(self) -> None:
        for task in self.tasks:
            task.cancel()
        self.sse.teardown_cell("echo")
        self.sse.teardown_cell("other")
        if self.tasks:
            await asyncio.wait(self.tasks)
            self.tasks.clear()
            self.sse.teardown()

    def load(self, cell: CellRef, **settings: object) -> None:
        """Load a cell whose manifest sets something."""
        self.sse.setup_cell(CellRef(cell.name, cell.id, cell.log, tables={"transport.sse": settings}))

    def register(self, path: str | bytes, cell: CellRef = ECHO) -> int:
        return code_of(lambda: self.sse.sse_register(cell, path.encode() if isinstance(path, str) else path))

    def emit(self, path: str, data: str = "", *, cell: CellRef = ECHO, **fields: str) -> int:
        request = SSEEmitRequest(path=path, data=data, **fields)
        return code_of(lambda: self.sse.sse_emit(Caller(cell), request))

    def count(self, path: str, cell: CellRef = ECHO) -> int:
        caller = Caller(cell, path.encode() + bytes(4))
        self.sse.sse_has_subscribers(caller, 0, len(path.encode()), len(path.encode()))
        return int.from_bytes(caller.memory[-4:], "little")

    async def until_count(self, path: str, count: int, cell: CellRef = ECHO) -> None:
        while self.count(path, cell) != count:
            await asyncio.sleep(0.001)

    async def connect(self, path: str, *lines: str) -> Client:
        """Send a GET; return when the head of its answer is here."""
        host, _, port = self.endpoints[0].address.removeprefix("http://").rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port), limit=1 << 26)
        self.clients.append(client := Client(reader, writer))
        request = "\r\n".join((f"GET {path} HTTP/1.1", "Host: a", *lines, "", ""))
        writer.write(request.encode())
        await client.read_head()
        return client

    async def subscribe(self, path: str, *lines: str) -> Client:
        client = await self.connect(path, *lines)
        assert client.status == 200
        return client


class Client:
    """One client of an event stream."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.status = 0
        self.head = ""
        self._text = bytearray()

    async def read_head(self) -> None:
        self.head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        self.status = int(self.head.split()[1])

    async def body(self) -> str:
        """Return a body that says how long it is."""
        length = int(self.head.lower().partition("content-length: ")[2].partition("\r\n")[0])
        return (await self.reader.readexactly(length)).decode()

    async def chunk(self) -> bytes:
        size = int((await self.reader.readuntil(b"\r\n"))[:-2], 16)
        data = await self.reader.readexactly(size)
        assert await self.reader.readexactly(2) == b"\r\n"
        return data

    async def frame(self) -> str:
        """Return the next frame without the empty line that ends it; "" for the end of the stream."""
        looked = 0
        while (end := self._text.find(b"\n\n", max(0, looked - 1))) < 0:
            looked = len(self._text)
            chunk = await self.chunk()
            if not chunk:
                return ""
            self._text += chunk
        frame = self._text[:end].decode()
        del self._text[: end + 2]
        return frame

    async def frames(self, count: int) -> list[str]:
        return [await self.frame() for _ in range(count)]

    async def silent(self, seconds: float = 0.05) -> bool:
        """Return whether nothing comes."""
        try:
            await asyncio.wait_for(self.reader.readexactly(1), seconds)
        except TimeoutError:
            return not self._text
        return False

    def leave(self) -> None:
        self.writer.transport.abort()


def code_of(call: Callable[[], None]) -> int:
    try:
        call()
    except HostError as error:
        return error.code
    return Errno.OK


def on_a_bench(test: Callable[[Bench], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(PATIENCE_SECONDS * 2), Bench() as bench:
            await test(bench)

    asyncio.run(main())
