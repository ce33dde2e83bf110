"""What passes through the gateway in pieces, and the limits, deadlines and protocols of its listener."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import trustme

from pulp_runtime.abi.http import HTTPBodyChunk, HTTPResponse
from pulp_runtime.abi.sse import SSEEmitRequest
from pulp_runtime.ext import CellRef

from .gateways import Answer, Instance, Stage, on_a_stage
from .streams import Caller
from .test_http_inbound import code_of

MIB = 1 << 20


@dataclass
class Guest:
    """The caller of a blocking function."""

    cell: CellRef
    seconds: float = 10.0

    def seconds_left(self) -> float:
        return self.seconds


class Authority:
    """Issues one certificate, and clients that trust it."""

    def __init__(self, folder: Path) -> None:
        self.ca = trustme.CA()
        self.chain, self.key = folder / "server.pem", folder / "server.key"
        self.issue()

    def issue(self) -> None:
        issued = self.ca.issue_cert("localhost", "127.0.0.1")
        self.chain.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(self.key)

    def client(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        self.ca.configure_trust(context)
        return context


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


async def read(instance: Instance, number: int, most: int = MIB) -> HTTPBodyChunk:
    return await asyncio.to_thread(instance.inbound.http_body_read, Guest(instance.cell), number, most)


async def write(instance: Instance, number: int, data: bytes) -> int:
    guest = Guest(instance.cell)
    return await asyncio.to_thread(lambda: code_of(lambda: instance.inbound.http_respond_write(guest, number, data)))


# Both directions ------------------------------------------------------------------------------------------------------


def test_a_body_is_read_while_it_arrives_and_its_sender_waits_for_the_reader() -> None:
    async def test(stage: Stage) -> None:
        blue = stage["shop/blue"]
        assert blue.register("POST", "/up", stream=True) == 0
        blue.answers = False
        head = f"POST /p/up HTTP/1.1\r\nHost: a\r\nContent-Length: {8 * MIB}\r\nConnection: close\r\n\r\n"
        reader, writer = await stage.connect(head.encode())
        request = await blue.requests.get()
        assert (request.path, request.body) == ("/up", b"")
        writer.write(b"first")
        assert (await read(blue, request.id)).bytes == b"first"
        writer.write(bytes(8 * MIB - 5))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(writer.drain(), 0.1)  # nobody reads
        size = 5
        while not (piece := await read(blue, request.id)).eof:
            size += len(piece.bytes)
        assert size == 8 * MIB
        blue.respond(request.id, body=b"all of it")
        assert Answer(await reader.read()).body == b"all of it"

    on_a_stage(test)


def test_whoever_still_sends_to_an_instance_that_goes_down_is_answered() -> None:
    async def test(stage: Stage) -> None:
        blue = stage["shop/blue"]
        blue.register("POST", "/up", stream=True)
        blue.answers = False
        reader, writer = await stage.connect(
            f"POST /p/up HTTP/1.1\r\nHost: a\r\nContent-Length: {8 * MIB}\r\n\r\n".encode()
        )
        request = await blue.requests.get()
        writer.write(bytes(4 * MIB))  # more than waits for the cell
        await read(blue, request.id)
        await blue.down(cells=False)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 503 ")
        assert b"Connection: close" in head

    on_a_stage(test)


def test_an_answer_in_pieces_arrives_as_it_is_written() -> None:
    async def test(stage: Stage) -> None:
        blue = stage["shop/blue"]
        blue.answers = False
        reader, _writer = await stage.connect(b"GET /p/a HTTP/1.1\r\nHost: a\r\n\r\n")
        request = await blue.requests.get()
        assert code_of(lambda: blue.inbound.http_respond_begin(blue.cell, HTTPResponse(id=request.id, status=200))) == 0
        blue.inbound.finalize(request.id)
        for word in (b"one", b"two"):
            assert await write(blue, request.id, word) == 0
            assert (await reader.readuntil(word)).endswith(word)
        assert code_of(lambda: blue.inbound.http_respond_end(blue.cell, request.id)) == 0
        assert await reader.readuntil(b"0\r\n\r\n")

    on_a_stage(test)


def test_an_answer_in_pieces_is_broken_off_when_its_instance_goes_down() -> None:
    async def test(stage: Stage) -> None:
        blue = stage["shop/blue"]
        blue.answers = False
        reader, _writer = await stage.connect(b"GET /p/a HTTP/1.1\r\nHost: a\r\n\r\n")
        request = await blue.requests.get()
        blue.inbound.http_respond_begin(blue.cell, HTTPResponse(id=request.id, status=200))
        blue.inbound.finalize(request.id)
        await write(blue, request.id, b"one")
        await blue.down()
        try:
            data = await reader.read()
        except ConnectionError:
            data = b""
        assert not data.endswith(b"0\r\n\r\n")

    on_a_stage(test)


def test_requests_of_one_connection_go_to_different_instances_and_are_answered_in_order() -> None:
    targets = ("/p/a", "/none/of/that/kind", "/p%2Fa", "/p/deep/a", "/a")

    async def test(stage: Stage) -> None:
        stage["shop/blue"].answers = False
        ahead = "".join(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n" for target in targets)
        reader, writer = await stage.connect(
            ahead.encode() + b"GET /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        )
        request = await stage["shop/blue"].requests.get()
        await asyncio.sleep(0.01)
        assert not stage["root/one"].events  # one after the other
        stage["shop/blue"].respond(request.id, body=b"the slow one")
        stage["shop/blue"].inbound.finalize(request.id)
        data = await reader.read()
        places = [data.index(word) for word in (b"the slow one", b" 404 ", b" 400 ", b"deep/one", b"root/one")]
        assert places == sorted(places)
        assert data.count(b"HTTP/1.1 200 OK") == 4
        writer.close()

    on_a_stage(test)


def test_a_client_that_leaves_is_told_to_the_instance_that_worked_for_it() -> None:
    async def test(stage: Stage) -> None:
        blue, root = stage["shop/blue"], stage["root/one"]
        blue.answers = False
        _reader, writer = await stage.connect(b"GET /p/a HTTP/1.1\r\nHost: a\r\n\r\n")
        request = await blue.requests.get()
        blue.inbound.http_defer(blue.cell, request.id)
        blue.inbound.finalize(request.id)
        writer.close()
        while blue.events[-1].kind != "http.closed":
            await asyncio.sleep(0.001)
        assert not root.events

    on_a_stage(test)


def test_an_event_stream_passes_and_ends_with_its_instance_while_its_connection_stays() -> None:
    async def test(stage: Stage) -> None:
        blue = stage["shop/blue"]
        assert code_of(lambda: blue.sse.sse_register(blue.cell, b"/events")) == 0
        reader, writer = await stage.connect(b"GET /p/events HTTP/1.1\r\nHost: a\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        assert b"Content-Type: text/event-stream" in head
        for word in ("one", "two"):
            event = SSEEmitRequest(path="/events", data=word)
            assert code_of(lambda: blue.sse.sse_emit(Caller(blue.cell), event)) == 0  # noqa: B023  # called at once
            assert f"data: {word}".encode() in await reader.readuntil(b"\n\n\r\n")
        await blue.down()
        assert await reader.readuntil(b"0\r\n\r\n")
        writer.write(b"GET /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert Answer(await reader.read()).seen["by"] == "root/one"

    on_a_stage(test)


def test_closing_does_not_wait_for_event_streams_when_the_instances_stop_meanwhile() -> None:
    async def test(stage: Stage) -> None:
        blue = stage["shop/blue"]
        blue.sse.sse_register(blue.cell, b"/events")
        reader, _writer = await stage.connect(b"GET /p/events HTTP/1.1\r\nHost: a\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        closing = asyncio.create_task(stage.gateway.close(60))
        await asyncio.sleep(0.01)
        assert not closing.done()
        await blue.down()
        assert await reader.read() == b"0\r\n\r\n"
        await closing

    on_a_stage(test)


# Limits and deadlines -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "lines", "status"),
    [
        pytest.param({"body_bytes": 4}, ("POST /p/a HTTP/1.1", "Host: a", "Content-Length: 5"), 413, id="a body"),
        pytest.param({"body_bytes": 4}, ("POST /x/y/z HTTP/1.1", "Host: a", "Content-Length: 5"), 413, id="for nobody"),
        pytest.param({"head_bytes": 300}, ("GET /p/a HTTP/1.1", "Host: a", "X: " + "x" * 400), 431, id="a head"),
        pytest.param({"head_fields": 2}, ("GET /p/a HTTP/1.1", "Host: a", "X: x", "Y: y"), 431, id="fields"),
        pytest.param({"line_bytes": 64}, (f"GET /p/{'a' * 64} HTTP/1.1", "Host: a"), 414, id="a line"),
        pytest.param(
            {},
            ("POST /p/a HTTP/1.1", "Host: a", "Content-Length: 1", "Transfer-Encoding: chunked"),
            400,
            id="two framings",
        ),
        pytest.param({}, ("GET /p/a HTTP/1.1\nHost: a", "X: x"), 400, id="a bare line feed"),
        pytest.param({}, ("CONNECT /p/a HTTP/1.1", "Host: a"), 400, id="a tunnel"),
    ],
)
def test_threat_36_the_listeners_limits_are_the_gateways(
    config: dict[str, int], lines: tuple[str, ...], status: int
) -> None:
    async def test(stage: Stage) -> None:
        assert (await stage.send("\r\n".join((*lines, "", "")).encode())).status == status
        assert not stage["shop/blue"].events

    on_a_stage(test, **config)


def test_a_limit_of_the_cell_counts_behind_the_gateway_too() -> None:
    async def test(stage: Stage) -> None:
        await stage["shop/blue"].down()
        stage["shop/blue"].up(body_bytes=4)
        for path, size, status in (("/p/a", 4, 200), ("/p/a", 5, 413), ("/a", 5, 200)):
            assert (await stage.ask(path, method="POST", body=bytes(size))).status == status

    on_a_stage(test)


def test_connections_past_the_limit_are_turned_away() -> None:
    async def test(stage: Stage) -> None:
        await stage.connect()
        await asyncio.sleep(0.01)
        assert (await stage.send(b"GET /p/a HTTP/1.1\r\nHost: a\r\n\r\n")).status == 503

    on_a_stage(test, connections=1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "data", "status"),
    [
        ({"header_seconds": 0.1}, b"GET /p/a HTTP/1.1\r\nHo", 408),
        ({"body_stall_seconds": 0.1}, b"POST /p/a HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nx", 408),
    ],
    ids=["a head", "a body"],
)
def test_threat_37_a_client_that_dawdles_is_not_waited_for(config: dict[str, float], data: bytes, status: int) -> None:
    async def test(stage: Stage) -> None:
        assert (await stage.send(data)).status == status
        assert not stage["shop/blue"].events

    on_a_stage(test, **config)


@pytest.mark.slow
def test_an_idle_client_is_let_go() -> None:
    async def test(stage: Stage) -> None:
        reader, _writer = await stage.connect()
        assert not await reader.read()

    on_a_stage(test, idle_seconds=0.1)


# TLS and HTTP/2 -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_tls_and_http2_are_spoken_at_the_gateway(authority: Authority) -> None:
    async def test(stage: Stage) -> None:
        assert stage.gateway.url.startswith("https://127.0.0.1:")
        async with httpx.AsyncClient(http2=True, verify=authority.client(), base_url=stage.gateway.url) as client:
            for target, by in (("/p/a?x=1", "shop/blue"), ("/a", "root/one"), ("/p/deep/a", "deep/one")):
                answer = await client.post(target, content=bytes(MIB), headers={"x-forwarded-prefix": "/spoofed"})
                assert (answer.status_code, answer.http_version) == (200, "HTTP/2")
                seen = answer.json()
                assert (seen["by"], seen["path"], seen["body"]) == (by, "/a", MIB)
                assert seen["headers"]["X-Forwarded-Proto"] == "https"
                assert seen["headers"]["X-Forwarded-Host"] == stage.gateway.url.removeprefix("https://")
                assert seen["headers"]["X-Forwarded-Prefix"] != "/spoofed"
            assert (await client.get("/p%2Fa")).status_code == 400
            assert (await client.post("/p%2Fa", content=b"x")).status_code == 400
            await stage["shop/blue"].down()
            assert (await client.get("/p/a")).status_code == 503
        async with httpx.AsyncClient(http1=True, verify=authority.client(), base_url=stage.gateway.url) as client:
            assert (await client.get("/a")).json()["headers"]["X-Forwarded-Proto"] == "https"

    on_a_stage(test, cert=str(authority.chain), key=str(authority.key))


def test_a_renewed_certificate_is_the_gateways_to_reload(authority: Authority) -> None:
    async def test(stage: Stage) -> None:
        async def serial() -> object:
            _reader, writer = await stage.connect(ssl=authority.client())
            return writer.get_extra_info("peercert")["serialNumber"]

        before = await serial()
        authority.issue()
        assert await serial() == before
        assert not stage["root/one"].inbound._front.reload_certificate()
        assert stage.gateway.reload_certificate()
        assert await serial() != before

    on_a_stage(test, cert=str(authority.chain), key=str(authority.key))


def test_http2_without_tls_is_spoken_where_the_operator_says_so() -> None:
    async def test(stage: Stage) -> None:
        async with httpx.AsyncClient(http1=False, http2=True, base_url=stage.gateway.url) as client:
            answers = await asyncio.gather(*(client.get("/p/a") for _ in range(20)))
            assert {(answer.json()["by"], answer.http_version) for answer in answers} == {("shop/blue", "HTTP/2")}

    on_a_stage(test, http2=True)
