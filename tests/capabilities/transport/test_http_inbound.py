"""`transport.http.inbound` between a real socket and a mailbox of the test's."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from pulp_runtime.abi.http import HTTPRegister, HTTPRequest, HTTPResponse
from pulp_runtime.capabilities.transport.http_inbound import HttpInbound
from pulp_runtime.errors import Errno, ExtensionError, HostError, ListenError
from pulp_runtime.ext import CellRef, Endpoint, Posted, SetupEnv, StepEvent
from pulp_runtime.log import Log

ECHO = CellRef("echo", "echo", Log("pulp", cell="echo"))
OTHER = CellRef("other", "other", Log("pulp", cell="other"))


class Bench:
    """The capability set up, with the test in the place of the host and its cells."""

    def __init__(self) -> None:
        self.inbound = HttpInbound()
        self.events: asyncio.Queue[StepEvent] = asyncio.Queue()
        self.verdict = Posted.ACCEPTED
        self.endpoints: list[Endpoint] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.writers: list[asyncio.StreamWriter] = []

    def env(self, http_port: str) -> SetupEnv:
        loop = asyncio.get_running_loop()
        return SetupEnv(
            storage_root=Path("/nonexistent"),
            logger=Log("pulp"),
            post=self._post,
            spawn=lambda coroutine: self.tasks.append(loop.create_task(coroutine)),
            defer=loop.call_soon_threadsafe,
            reachable=self.endpoints.append,
            http_port=http_port,
        )

    def _post(self, event: StepEvent) -> Posted:
        self.events.put_nowait(event)
        return self.verdict

    async def __aenter__(self) -> Bench:
        self.inbound.setup(self.env("127.0.0.1:0"))
        while not self.endpoints:
            await asyncio.sleep(0)
        return self

    async def __aexit__(self, *_error: object) -> None:
        for writer in self.writers:
            writer.close()
        for task in self.tasks:
            task.cancel()
        await asyncio.wait(self.tasks)
        self.inbound.teardown()

    def set_up(self, cell: CellRef, **settings: object) -> None:
        """Load a cell whose manifest sets something."""
        tables = {"transport.http.inbound": settings}
        self.inbound.setup_cell(msgspec.structs.replace(cell, tables=tables))

    def register(self, cell: CellRef, method: str, path: str) -> int:
        return code_of(lambda: self.inbound.http_register(cell, HTTPRegister(method=method, path=path)))

    def respond(self, cell: CellRef, **reply: object) -> int:
        return code_of(lambda: self.inbound.http_respond(cell, HTTPResponse(**reply)))

    async def send(self, request: bytes) -> Answer:
        host, _, port = self.endpoints[0].address.removeprefix("http://").rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        self.writers.append(writer)
        writer.write(request)
        return Answer(reader, writer)

    async def get(self, path: str) -> Answer:
        return await self.send(f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())

    async def request(self) -> HTTPRequest:
        return msgspec.msgpack.decode((await self.events.get()).payload, type=HTTPRequest)


class Answer:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def read(self) -> tuple[int, bytes]:
        head, _, body = (await self.reader.read()).partition(b"\r\n\r\n")
        return int(head.split()[1]), body


def code_of(call: Callable[[], None]) -> int:
    try:
        call()
    except HostError as error:
        return error.code
    return Errno.OK


def on_a_bench(test: Callable[[Bench], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(20), Bench() as bench:
            await test(bench)

    asyncio.run(main())


def test_a_request_becomes_an_event_and_a_reply_a_response() -> None:
    async def test(bench: Bench) -> None:
        assert bench.register(ECHO, "get", "/echo/:msg") == Errno.OK
        answer = await bench.send(
            b"GET /echo/h%C3%A9?a=1&a=2&b=x+y HTTP/1.1\r\nHost: h\r\nx-token: t\r\nX-Token: u\r\n"
            b"Connection: close\r\n\r\n"
        )
        event = await bench.events.get()
        request = msgspec.msgpack.decode(event.payload, type=HTTPRequest)

        assert (event.kind, event.cell_id, event.id) == ("http.request", "echo", request.id)
        assert (request.method, request.path, request.params) == ("GET", "/echo/hé", {"msg": "hé"})
        assert request.query == {"a": "1", "b": "x y"}
        assert request.headers == {"X-Token": "t", "Connection": "close"}
        assert request.body == b""
        assert request.remote_addr.startswith("127.0.0.1:")
        assert bench.respond(ECHO, id=request.id, status=201, body=b"made") == Errno.OK
        bench.inbound.finalize(event.id)
        assert await answer.read() == (201, b"made")

    on_a_bench(test)


def test_ids_count_from_1() -> None:
    async def test(bench: Bench) -> None:
        bench.register(ECHO, "GET", "/")
        ids = []
        for _ in range(3):
            answer = await bench.get("/")
            ids.append((await bench.request()).id)
            bench.inbound.finalize(ids[-1])
            await answer.read()
        assert ids == [1, 2, 3]

    on_a_bench(test)


def test_an_event_that_nobody_answers_is_500() -> None:
    async def test(bench: Bench) -> None:
        bench.register(ECHO, "GET", "/")
        answer = await bench.get("/")
        bench.inbound.finalize((await bench.events.get()).id)
        assert await answer.read() == (500, b"cell did not respond")

    on_a_bench(test)


@pytest.mark.parametrize(
    ("verdict", "status", "body"),
    [
        (Posted.FULL, 503, b"queue full\n"),
        (Posted.TOO_LARGE, 413, b"request body too large\n"),
        (Posted.CLOSED, 503, b"cell shut down"),
    ],
    ids=lambda value: value.value if isinstance(value, Posted) else "",
)
def test_an_event_that_is_not_taken_is_answered_at_once(verdict: Posted, status: int, body: bytes) -> None:
    async def test(bench: Bench) -> None:
        bench.register(ECHO, "GET", "/")
        bench.verdict = verdict
        answer = await bench.get("/")
        assert await answer.read() == (status, body)
        assert bench.respond(ECHO, id=(await bench.request()).id, status=200) == Errno.FAILED

    on_a_bench(test)


def test_a_request_that_has_waited_too_long_is_504_and_a_late_reply_is_refused() -> None:
    async def test(bench: Bench) -> None:
        bench.set_up(ECHO, request_timeout_ms=1)
        bench.register(ECHO, "GET", "/")
        answer = await bench.get("/")
        event = await bench.events.get()
        assert await answer.read() == (504, b"cell timeout\n")
        assert bench.respond(ECHO, id=event.id, status=200) == Errno.FAILED
        bench.inbound.finalize(event.id)  # too late as well, and harmless

    on_a_bench(test)


def test_threat_20_only_the_owner_may_answer_and_only_once() -> None:
    async def test(bench: Bench) -> None:
        bench.register(ECHO, "GET", "/")
        answer = await bench.get("/")
        number = (await bench.request()).id
        for guess in (number - 1, number + 1, 0, 2**64 - 1):
            assert bench.respond(ECHO, id=guess, status=200) == Errno.FAILED
        assert bench.respond(OTHER, id=number, status=200, body=b"stolen") == Errno.FAILED
        assert bench.respond(ECHO, id=number, status=200, body=b"mine") == Errno.OK
        assert bench.respond(ECHO, id=number, status=200, body=b"again") == Errno.FAILED
        assert await answer.read() == (200, b"mine")

    on_a_bench(test)


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param({"headers": {"X": "a\r\nEvil: 1"}}, id="a line break in a value"),
        pytest.param({"headers": {"X": "a\0"}}, id="a NUL in a value"),
        pytest.param({"headers": {"X\r\nEvil": "1"}}, id="a line break in a name"),
        pytest.param({"headers": {"": "1"}}, id="an empty name"),
        pytest.param({"cookies": ["a=b\r\nEvil: 1"]}, id="a line break in a cookie"),
        pytest.param({"status": 99}, id="status 99"),
        pytest.param({"status": 100}, id="an informational status"),
        pytest.param({"status": 1000}, id="status 1000"),
        pytest.param({"status": 2**32 - 1}, id="the largest status"),
    ],
)
def test_threat_38_a_reply_that_would_break_the_response_is_refused_and_may_be_corrected(reply: dict) -> None:
    async def test(bench: Bench) -> None:
        bench.register(ECHO, "GET", "/")
        answer = await bench.get("/")
        number = (await bench.request()).id
        assert bench.respond(ECHO, id=number, **{"status": 200, **reply}) == Errno.FAILED
        assert bench.respond(ECHO, id=number, body=b"better") == Errno.OK
        assert await answer.read() == (200, b"better")

    on_a_bench(test)


@pytest.mark.parametrize(
    ("method", "path"),
    [("", "/"), (" ", "/"), ("GET", ""), ("GET", "relative"), ("G E T", "/")],
    ids=["no method", "a blank method", "no path", "a relative path", "a method in words"],
)
def test_a_route_that_is_none_is_refused(method: str, path: str) -> None:
    async def test(bench: Bench) -> None:
        assert bench.register(ECHO, method, path) == Errno.FAILED

    on_a_bench(test)


def test_threat_39_a_route_of_another_cell_is_refused_and_its_own_may_be_repeated() -> None:
    async def test(bench: Bench) -> None:
        assert bench.register(ECHO, "GET", "/a/:b") == Errno.OK
        assert bench.register(ECHO, "GET", "/a/:c") == Errno.OK
        assert bench.register(OTHER, "GET", "/a/fixed") == Errno.FAILED
        assert bench.register(OTHER, "POST", "/a/:b") == Errno.OK

    on_a_bench(test)


def test_the_routes_of_a_cell_that_is_torn_down_are_free_for_another() -> None:
    async def test(bench: Bench) -> None:
        bench.register(ECHO, "GET", "/a")
        bench.inbound.teardown_cell("echo")
        assert bench.register(OTHER, "GET", "/a") == Errno.OK
        answer = await bench.get("/a")
        assert bench.respond(OTHER, id=(await bench.request()).id, body=b"other") == Errno.OK
        assert await answer.read() == (200, b"other")

    on_a_bench(test)


def test_a_request_whose_cell_is_torn_down_is_503_when_it_is_finalized() -> None:
    async def test(bench: Bench) -> None:
        bench.register(ECHO, "GET", "/a")
        answer = await bench.get("/a")
        event = await bench.events.get()
        bench.inbound.teardown_cell("echo")
        bench.inbound.finalize(event.id)
        assert await answer.read() == (503, b"cell shut down")

    on_a_bench(test)


def test_a_request_that_waits_through_a_restart_is_answered_by_the_new_instance() -> None:
    async def test(bench: Bench) -> None:
        bench.register(ECHO, "GET", "/a")
        before = await bench.get("/a")
        first = await bench.events.get()
        bench.inbound.teardown_cell("echo")
        during = await bench.get("/a")
        second = await bench.events.get()
        bench.register(ECHO, "GET", "/a")
        for event, answer in ((first, before), (second, during)):
            assert bench.respond(ECHO, id=event.id, body=b"new") == Errno.OK
            assert await answer.read() == (200, b"new")

    on_a_bench(test)


def test_a_client_that_is_gone_costs_nothing() -> None:
    async def test(bench: Bench) -> None:
        bench.register(ECHO, "GET", "/")
        answer = await bench.get("/")
        event = await bench.events.get()
        answer.writer.transport.abort()
        assert bench.respond(ECHO, id=event.id, body=b"nobody") == Errno.OK
        bench.inbound.finalize(event.id)

    on_a_bench(test)


@pytest.mark.parametrize("port", ["abc", "80x", "-1", "127.0.0.1:", "٨٠٨٠", "1.5"])
def test_a_port_that_is_no_number_is_named(port: str) -> None:
    async def main() -> None:
        with pytest.raises(ExtensionError, match="is not a number"):
            HttpInbound().setup(Bench().env(port))

    asyncio.run(main())


def test_a_port_beyond_65535_is_named() -> None:
    async def main() -> None:
        with pytest.raises(ListenError, match="0 to 65535"):
            HttpInbound().setup(Bench().env("65536"))

    asyncio.run(main())


def test_the_endpoint_is_an_address_that_a_client_can_use() -> None:
    async def main() -> None:
        bench = Bench()
        bench.inbound.setup(bench.env("0"))
        while not bench.endpoints:
            await asyncio.sleep(0)
        assert bench.endpoints[0].address.startswith("http://127.0.0.1:")
        await bench.__aexit__()

    asyncio.run(main())
