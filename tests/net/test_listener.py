import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvloop

from pulp_runtime._net import response
from pulp_runtime._net.exchange import Request
from pulp_runtime._net.listener import Listener
from pulp_runtime._net.settings import HttpSettings

GET = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n"
LAST = b"GET /a HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"

Run = Callable[[Awaitable[None]], None]


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """Run a coroutine on either loop; anything a loop would only log fails the test."""

    def runner(main: Any) -> None:
        async def watched() -> None:
            failures: list[dict[str, Any]] = []
            asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
            await main
            assert not failures

        factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop
        with asyncio.Runner(loop_factory=factory) as loop:
            loop.run(watched())

    return runner


def echo(request: Request) -> None:
    """Answer with the body, or with the path if there is none."""
    data = response.render(
        200,
        {"Content-Type": "text/plain"},
        (),
        request.body or request.line.path.encode(),
        method=request.line.method,
        keep_alive=request.keep_alive,
        http10=request.line.minor == 0,
    )
    request.connection.respond(request, data)


@asynccontextmanager
async def served(handler: Callable[[Request], None] = echo, *, grace_seconds: float = 5.0, **settings: float):
    listener = Listener.bind("127.0.0.1", 0)
    gone: list[Request] = []
    await listener.serve(handler, HttpSettings(**settings), on_disconnect=gone.append)
    listener.gone = gone
    try:
        yield listener
    finally:
        await listener.close(grace_seconds)


def port_of(listener: Listener) -> int:
    return int(listener.addresses[0].rpartition(":")[2])


@asynccontextmanager
async def client(listener: Listener):
    reader, writer = await asyncio.open_connection("127.0.0.1", port_of(listener))
    try:
        yield reader, writer
    finally:
        writer.close()
        try:
            await writer.wait_closed()
        except OSError:
            pass  # the other side was faster


async def ask(listener: Listener, data: bytes) -> bytes:
    """Send bytes and return everything that comes until the server closes."""
    async with client(listener) as (reader, writer):
        writer.write(data)
        return await reader.read()


async def answer_of(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
    return head, await reader.readexactly(length)


async def until(condition: Callable[[], bool]) -> None:
    """Give the loop turns until something is so."""
    while not condition():
        await asyncio.sleep(0)


def test_requests_on_one_connection_are_answered_in_turn(run: Run) -> None:
    async def main() -> None:
        async with served() as listener, client(listener) as (reader, writer):
            for number in range(3):
                writer.write(b"GET /%d HTTP/1.1\r\nHost: h\r\n\r\n" % number)
                assert (await answer_of(reader))[1] == b"/%d" % number

    run(main())


def test_ten_thousand_pipelined_requests_are_answered_in_order(run: Run) -> None:
    async def main() -> None:
        async with served() as listener:
            asked = b"".join(b"GET /%d HTTP/1.1\r\nHost: h\r\n\r\n" % number for number in range(9_999)) + LAST
            answers = await ask(listener, asked)
            bodies = [part.partition(b"\r\n\r\n")[2] for part in answers.split(b"HTTP/1.1 200 OK")[1:]]
            assert bodies == [*(b"/%d" % number for number in range(9_999)), b"/a"]

    run(main())


def test_a_client_that_half_closes_gets_its_answer(run: Run) -> None:
    held: list[Request] = []

    async def main() -> None:
        async with served(held.append) as listener, client(listener) as (reader, writer):
            writer.write(GET)
            writer.write_eof()
            await until(lambda: bool(held))
            for _ in range(5):
                await asyncio.sleep(0)
            echo(held[0])
            assert (await reader.read()).endswith(b"\r\n\r\n/a")

    run(main())


def test_a_megabyte_goes_in_and_out_by_length_and_in_chunks(run: Run) -> None:
    body = bytes(range(256)) * 4_096
    pieces = [body[start : start + 10_000] for start in range(0, len(body), 10_000)]
    chunked = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    head = b"POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n"

    async def main() -> None:
        async with served() as listener:
            by_length = await ask(listener, head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            in_chunks = await ask(listener, head + b"Transfer-Encoding: chunked\r\n\r\n" + chunked)
            assert by_length.partition(b"\r\n\r\n")[2] == body
            assert in_chunks.partition(b"\r\n\r\n")[2] == body

    run(main())


def test_a_client_that_sends_too_much_still_reads_its_413(run: Run) -> None:
    async def main() -> None:
        async with served(body_bytes=1_000) as listener, client(listener) as (reader, writer):
            writer.write(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 8000000\r\n\r\n" + b"x" * 8_000_000)
            assert (await reader.read()).startswith(b"HTTP/1.1 413 ")

    run(main())


def test_threat_36_a_malformed_head_is_answered_400_and_the_connection_ends(run: Run) -> None:
    async def main() -> None:
        async with served() as listener:
            answer = await ask(listener, GET + b"GET / HTTP/1.1\r\nHost : h\r\n\r\n" + GET)
            assert [part[:3] for part in answer.split(b"HTTP/1.1 ")[1:]] == [b"200", b"400"]

    run(main())


def test_expect_is_answered_before_the_body_comes(run: Run) -> None:
    async def main() -> None:
        async with served() as listener, client(listener) as (reader, writer):
            writer.write(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(b"hi")
            assert (await answer_of(reader))[1] == b"hi"

    run(main())


def test_http_1_0_gets_its_answer_and_the_end(run: Run) -> None:
    async def main() -> None:
        async with served() as listener:
            answer = await ask(listener, b"GET /a HTTP/1.0\r\n\r\n")
            assert b"Connection: close\r\n" in answer
            assert answer.endswith(b"\r\n\r\n/a")

    run(main())


def test_a_lost_client_is_reported_while_its_request_is_in_flight(run: Run) -> None:
    held: list[Request] = []

    async def main() -> None:
        async with served(held.append) as listener, client(listener) as (_, writer):
            writer.write(GET)
            await until(lambda: bool(held))
            reset = struct.pack("ii", 1, 0)  # close with RST, as a killed client does
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
            writer.transport.abort()
            await until(lambda: bool(listener.gone))
            assert listener.gone == held
            echo(held[0])

    run(main())


def test_threat_37_a_storm_of_resets_leaves_nothing_behind(run: Run) -> None:
    held: list[Request] = []

    async def main() -> None:
        async with served(held.append) as listener:
            for _ in range(100):
                with socket.create_connection(("127.0.0.1", port_of(listener))) as rude:
                    rude.sendall(GET)
                    rude.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            await until(lambda: len(listener.gone) == len(held) and listener.connections == 0)

    run(main())


def test_a_handler_that_raises_ends_its_connection_and_no_other() -> None:
    logged: list[dict[str, Any]] = []

    def broken(request: Request) -> None:
        if request.line.path == "/broken":
            raise RuntimeError("a bug")
        echo(request)

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: logged.append(context))
        async with served(broken) as listener, client(listener) as (reader, writer):
            async with client(listener) as (other, its_writer):
                its_writer.write(b"GET /broken HTTP/1.1\r\nHost: h\r\n\r\n")
                assert await other.read() == b""
            writer.write(GET)
            assert (await answer_of(reader))[1] == b"/a"

    asyncio.run(main())
    assert [str(context["exception"]) for context in logged] == ["a bug"]


def test_nothing_more_is_asked_of_a_handler_on_a_connection_it_broke() -> None:
    asked: list[str] = []

    def broken(request: Request) -> None:
        asked.append(request.line.path)
        echo(request)
        raise RuntimeError("a bug after the answer")

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        async with served(broken) as listener:
            await ask(listener, GET * 3)

    asyncio.run(main())
    assert asked == ["/a"]


def test_threat_37_connections_past_the_limit_are_answered_503(run: Run) -> None:
    async def main() -> None:
        async with served(connections=1) as listener, client(listener) as (reader, writer):
            writer.write(GET)
            await answer_of(reader)
            assert (await ask(listener, b"")).startswith(b"HTTP/1.1 503 ")
            writer.write(GET)
            assert (await answer_of(reader))[1] == b"/a"

    run(main())


def test_threat_37_the_sweep_ends_slow_clients_by_the_clock_it_is_given(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with (
            served() as listener,
            client(listener) as (slow, slow_writer),
            client(listener) as (idle, _),
        ):
            slow_writer.write(b"GET / HT")
            await until(lambda: listener.connections == 2)
            for _ in range(5):
                await asyncio.sleep(0)
            listener.sweep(loop.time() + 11.0)
            assert (await slow.read()).startswith(b"HTTP/1.1 408 ")
            listener.sweep(loop.time() + 11.0 + 76.0)
            assert await idle.read() == b""

    run(main())


def test_threat_37_many_idle_connections_cost_one_comparison_each(run: Run) -> None:
    async def main() -> None:
        async with served() as listener:
            idle = [socket.create_connection(("127.0.0.1", port_of(listener))) for _ in range(200)]
            await until(lambda: listener.connections == 200)
            now = asyncio.get_running_loop().time()
            listener.sweep(now)
            listener.sweep(now + 74.0)
            assert listener.connections == 200
            listener.sweep(now + 75.1)
            await until(lambda: listener.connections == 0)
            for one in idle:
                one.close()

    run(main())


def test_close_lets_a_request_in_flight_finish_and_ends_idle_connections(run: Run) -> None:
    held: list[Request] = []

    async def main() -> None:
        async with (
            served(held.append) as listener,
            client(listener) as (idle, _),
            client(listener) as (reader, writer),
        ):
            writer.write(GET)
            await until(lambda: bool(held) and listener.connections == 2)
            closing = asyncio.create_task(listener.close(5.0))
            assert await idle.read() == b""
            assert held[0].connection._service.closing
            assert not closing.done()
            echo(held[0])
            answer = await reader.read()
            assert b"Connection: close\r\n" in answer
            await closing
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", port_of(listener))

    run(main())


def test_close_aborts_what_is_left_when_the_grace_is_over(run: Run) -> None:
    held: list[Request] = []

    async def main() -> None:
        async with served(held.append) as listener, client(listener) as (reader, writer):
            writer.write(GET)
            await until(lambda: bool(held))
            await listener.close(0.0)
            assert listener.connections == 0
            assert listener.gone == held
            assert await reader.read() == b""

    run(main())


def test_a_listener_that_never_served_closes(run: Run) -> None:
    listener = Listener.bind("127.0.0.1", 0)
    run(listener.close(1.0))
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port_of(listener)))


def test_accepted_sockets_do_not_wait_to_fill_packets() -> None:
    nodelay: list[int] = []

    def look(request: Request) -> None:
        accepted = request.connection._transport.get_extra_info("socket")
        nodelay.append(accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        echo(request)

    async def main() -> None:
        async with served(look) as listener:
            await ask(listener, LAST)

    asyncio.run(main())
    assert nodelay == [1]
