"""Bodies as they arrive, answers in pieces, answers in a later step, listeners of a cell's own."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass

import msgspec
import pytest

from pulp_runtime._net.dial_patience import DialFault
from pulp_runtime.abi.http import HTTPBodyChunk, HTTPClosed, HTTPListen, HTTPRegister, HTTPRespondStream, HTTPResponse
from pulp_runtime.capabilities.transport.pieces import HIGH_BYTES
from pulp_runtime.errors import Errno
from pulp_runtime.ext import CellRef

from .test_http_inbound import ECHO, OTHER, Answer, Bench, code_of, on_a_bench


@dataclass
class Guest:
    """The caller of a blocking function."""

    cell: CellRef
    seconds: float = 10.0

    def seconds_left(self) -> float:
        return self.seconds


def streamed(bench: Bench, method: str = "POST", path: str = "/up") -> int:
    return code_of(lambda: bench.inbound.http_register(ECHO, HTTPRegister(method=method, path=path, stream=True)))


async def read(bench: Bench, number: int, most: int = 1 << 20, seconds: float = 10.0) -> HTTPBodyChunk:
    guest = Guest(ECHO, seconds)
    return await asyncio.to_thread(bench.inbound.http_body_read, guest, number, most)


def begin(bench: Bench, cell: CellRef, number: int, **reply: object) -> int:
    return code_of(lambda: bench.inbound.http_respond_begin(cell, HTTPResponse(id=number, **reply)))


async def write(bench: Bench, number: int, data: bytes, seconds: float = 10.0) -> int:
    guest = Guest(ECHO, seconds)
    return await asyncio.to_thread(lambda: code_of(lambda: bench.inbound.http_respond_write(guest, number, data)))


def end(bench: Bench, number: int) -> int:
    return code_of(lambda: bench.inbound.http_respond_end(ECHO, number))


async def closed(bench: Bench) -> int:
    event = await bench.events.get()
    assert event.kind == "http.closed"
    return msgspec.msgpack.decode(event.payload, type=HTTPClosed).id


# A body as it arrives -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_is_read_while_the_client_still_sends_it(chunked: bool) -> None:
    async def test(bench: Bench) -> None:
        streamed(bench)
        framing = "Transfer-Encoding: chunked" if chunked else "Content-Length: 8"
        answer = await bench.send(f"POST /up HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n".encode())
        request = await bench.request()
        assert request.body == b""
        answer.writer.write(b"4\r\none \r\n" if chunked else b"one ")
        assert (await read(bench, request.id)).bytes == b"one "
        answer.writer.write(b"4\r\ntwo \r\n0\r\n\r\n" if chunked else b"two ")
        assert (await read(bench, request.id, 2)).bytes == b"tw"
        assert (await read(bench, request.id)).bytes == b"o "
        assert await read(bench, request.id) == HTTPBodyChunk(bytes=b"", eof=True)
        assert bench.respond(ECHO, id=request.id, status=200) == Errno.OK
        answer.writer.write(b"GET /none HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert b"404 page not found" in await answer.reader.read()  # the connection went on

    on_a_bench(test)


def test_a_client_is_not_listened_to_while_nobody_reads_its_body() -> None:
    async def test(bench: Bench) -> None:
        streamed(bench)
        answer = await bench.send(b"POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: 30000000\r\n\r\n")
        request = await bench.request()
        sending = asyncio.ensure_future(send_all(answer.writer, b"x" * 30_000_000))
        upload = bench.inbound._uploads[request.id][0].upload
        while not upload.full:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        assert upload.size < 2_000_000
        assert not sending.done()
        total = 0
        while not (chunk := await read(bench, request.id)).eof:
            assert not chunk.err
            total += len(chunk.bytes)
        assert total == 30_000_000
        await sending

    on_a_bench(test)


async def send_all(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(data)
    await writer.drain()


def test_a_body_that_breaks_off_says_so() -> None:
    async def test(bench: Bench) -> None:
        streamed(bench)
        answer = await bench.send(b"POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\nabc")
        request = await bench.request()
        assert (await read(bench, request.id)).bytes == b"abc"
        answer.writer.close()
        broken = await read(bench, request.id)
        assert (broken.bytes, broken.eof) == (b"", False)
        assert broken.err in ("the client is gone", "read body: unexpected EOF")

    on_a_bench(test)


def test_a_body_that_does_not_come_is_waited_for_no_longer_than_the_call_may_take() -> None:
    async def test(bench: Bench) -> None:
        streamed(bench)
        await bench.send(b"POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\n")
        request = await bench.request()
        assert "in time" in (await read(bench, request.id, seconds=0.01)).err

    on_a_bench(test)


def test_an_answer_before_the_body_has_come_ends_the_connection() -> None:
    async def test(bench: Bench) -> None:
        streamed(bench)
        answer = await bench.send(b"POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\nabc")
        request = await bench.request()
        assert bench.respond(ECHO, id=request.id, status=200, body=b"enough") == Errno.OK
        head = await answer.reader.read()
        assert b"Connection: close\r\n" in head
        assert head.endswith(b"enough")

    on_a_bench(test)


@pytest.mark.parametrize(("path", "setting"), [("/up", "stream_body_bytes"), ("/whole", "body_bytes")])
def test_a_body_longer_than_the_manifest_allows_is_413_before_it_is_read(path: str, setting: str) -> None:
    async def test(bench: Bench) -> None:
        bench.set_up(ECHO, **{setting: 10})
        streamed(bench)
        bench.register(ECHO, "POST", "/whole")
        answer = await bench.send(f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n".encode())
        assert (await answer.read())[0] == 413

    on_a_bench(test)


def test_a_header_block_longer_than_the_manifest_allows_is_431() -> None:
    async def test(bench: Bench) -> None:
        bench.set_up(ECHO, head_bytes=256)
        bench.register(ECHO, "GET", "/")
        pad = b"X-Pad: " + b"a" * 300
        answer = await bench.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n" + pad + b"\r\n\r\n")
        assert (await answer.read())[0] == 431

    on_a_bench(test)


def test_a_client_may_be_silent_as_long_as_the_manifest_of_its_last_cell_says() -> None:
    async def test(bench: Bench) -> None:
        bench.set_up(ECHO, idle_timeout_ms=1)
        bench.register(ECHO, "GET", "/")
        answer = await bench.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        bench.respond(ECHO, id=(await bench.request()).id, status=200)
        assert await answer.reader.read()  # ends, within a sweep or two

    on_a_bench(test)


@pytest.mark.parametrize(("cell", "most", "code"), [(ECHO, 0, Errno.EMPTY), (OTHER, 1, Errno.FAILED)])
def test_only_its_own_bodies_can_a_cell_read(cell: CellRef, most: int, code: Errno) -> None:
    async def test(bench: Bench) -> None:
        streamed(bench)
        await bench.send(b"POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\nabc")
        request = await bench.request()
        assert code_of(lambda: bench.inbound.http_body_read(Guest(cell), request.id, most)) == code
        assert code_of(lambda: bench.inbound.http_body_read(Guest(ECHO), 99, 1)) == Errno.FAILED

    on_a_bench(test)


# An answer in pieces --------------------------------------------------------------------------------------------------


def test_an_answer_in_pieces_reaches_the_client_piece_by_piece() -> None:
    async def test(bench: Bench) -> None:
        bench.register(ECHO, "GET", "/")
        answer = await bench.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        number = (await bench.request()).id
        assert begin(bench, ECHO, number, status=201, headers={"Content-Type": "a/b"}, body=b"one") == Errno.OK
        bench.inbound.finalize(number)  # the step is over, the answer is not
        head = await answer.reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 201 Created\r\n")
        assert b"Transfer-Encoding: chunked\r\n" in head
        assert await answer.reader.readexactly(8) == b"3\r\none\r\n"
        assert await write(bench, number, b"two!") == Errno.OK
        assert await answer.reader.readexactly(9) == b"4\r\ntwo!\r\n"
        assert end(bench, number) == Errno.OK
        assert await answer.reader.readexactly(5) == b"0\r\n\r\n"
        assert end(bench, number) == await write(bench, number, b"x") == Errno.FAILED
        answer.writer.write(b"GET /none HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert b"404 page not found" in await answer.reader.read()  # the connection went on

    on_a_bench(test)


def test_an_old_client_gets_pieces_without_chunks_and_the_end_of_the_connection() -> None:
    async def test(bench: Bench) -> None:
        bench.register(ECHO, "GET", "/")
        answer = await bench.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        number = (await bench.request()).id
        begin(bench, ECHO, number, status=200, body=b"one")
        await write(bench, number, b"two")
        end(bench, number)
        head, _, body = (await answer.reader.read()).partition(b"\r\n\r\n")
        assert body == b"onetwo"
        assert b"Connection: close" in head
        assert b"chunked" not in head

    on_a_bench(test)


@pytest.mark.parametrize(("pieces", "body"), [((b"12345", b"678"), b"12345"), ((b"123",), b"123")])
def test_an_announced_length_is_kept_or_the_answer_is_broken_off(pieces: tuple[bytes, ...], body: bytes) -> None:
    async def test(bench: Bench) -> None:
        bench.register(ECHO, "GET", "/")
        answer = await bench.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        number = (await bench.request()).id
        begin(bench, ECHO, number, status=200, headers={"Content-Length": "5"})
        for piece in pieces:
            await write(bench, number, piece)
        head = await answer.reader.readuntil(b"\r\n\r\n")
        assert b"Content-Length: 5\r\n" in head
        assert await answer.reader.readexactly(len(body)) == body
        end(bench, number)
        try:
            assert await answer.reader.read() == b""
        except ConnectionResetError:
            assert len(body) < 5  # broken off: the client can tell

    on_a_bench(test)


def test_head_gets_the_head_of_an_answer_in_pieces_and_nothing_else() -> None:
    async def test(bench: Bench) -> None:
        bench.register(ECHO, "HEAD", "/")
        answer = await bench.send(b"HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        number = (await bench.request()).id
        begin(bench, ECHO, number, status=200, body=b"one")
        assert await write(bench, number, b"two") == Errno.OK
        end(bench, number)
        assert (await answer.reader.read()).endswith(b"\r\n\r\n")

    on_a_bench(test)


def test_a_slow_client_holds_its_writer_back_and_takes_no_memory() -> None:
    async def test(bench: Bench) -> None:
        bench.register(ECHO, "GET", "/")
        host, _, port = bench.endpoints[0].address.removeprefix("http://").rpartition(":")
        with socket.create_connection((host, int(port))) as client:  # never reads
            client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            number = (await bench.request()).id
            begin(bench, ECHO, number, status=200)
            sent = 0
            while await write(bench, number, b"x" * 100_000, 0.2) == Errno.OK:
                sent += 100_000
                assert sent < 64_000_000
            pieces = bench.inbound._pieces[number]
            assert pieces._waiting <= HIGH_BYTES + 100_000
        assert await closed(bench) == number
        assert await write(bench, number, b"x") == Errno.FAILED

    on_a_bench(test)


def test_a_cell_is_told_that_the_client_of_an_answer_in_pieces_has_left() -> None:
    async def test(bench: Bench) -> None:
        bench.register(ECHO, "GET", "/")
        answer = await bench.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        number = (await bench.request()).id
        begin(bench, ECHO, number, status=200, body=b"one")
        await answer.reader.readuntil(b"one\r\n")
        answer.writer.close()
        assert await closed(bench) == number
        assert end(bench, number) == Errno.FAILED

    on_a_bench(test)


def test_an_answer_in_pieces_is_broken_off_when_its_cell_goes() -> None:
    async def test(bench: Bench) -> None:
        bench.register(ECHO, "GET", "/")
        answer = await bench.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        number = (await bench.request()).id
        begin(bench, ECHO, number, status=200, body=b"one")
        await answer.reader.readuntil(b"one\r\n")
        bench.inbound.teardown_cell("echo")
        rest = b""
        try:
            rest = await answer.reader.read()
        except ConnectionResetError:
            pass
        assert not rest.endswith(b"0\r\n\r\n")  # the client can tell

    on_a_bench(test)


def test_threat_20_only_the_owner_can_begin_go_on_and_end_an_answer() -> None:
    async def test(bench: Bench) -> None:
        bench.register(ECHO, "GET", "/")
        await bench.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        number = (await bench.request()).id
        assert begin(bench, OTHER, number, status=200) == Errno.FAILED
        assert begin(bench, ECHO, number, status=99) == Errno.FAILED  # and can still be answered
        assert begin(bench, ECHO, number, status=200) == Errno.OK
        assert begin(bench, ECHO, number, status=200) == bench.respond(ECHO, id=number, status=200) == Errno.FAILED
        assert code_of(lambda: bench.inbound.http_respond_write(Guest(OTHER), number, b"x")) == Errno.FAILED
        assert code_of(lambda: bench.inbound.http_respond_end(OTHER, number)) == Errno.FAILED

    on_a_bench(test)


# An answer in a later step --------------------------------------------------------------------------------------------


def defer(bench: Bench, cell: CellRef, number: int) -> int:
    return code_of(lambda: bench.inbound.http_defer(cell, number))


def test_a_deferred_request_is_answered_in_a_later_step() -> None:
    async def test(bench: Bench) -> None:
        bench.register(ECHO, "GET", "/")
        answer = await bench.get("/")
        number = (await bench.request()).id
        assert defer(bench, OTHER, number) == Errno.FAILED
        assert defer(bench, ECHO, number) == Errno.OK
        bench.inbound.finalize(number)
        assert bench.respond(ECHO, id=number, status=200, body=b"at last") == Errno.OK
        assert await answer.read() == (200, b"at last")
        assert defer(bench, ECHO, number) == Errno.FAILED

    on_a_bench(test)


def test_a_deferred_request_is_504_after_its_time() -> None:
    async def test(bench: Bench) -> None:
        bench.set_up(ECHO, request_timeout_ms=1)
        bench.register(ECHO, "GET", "/")
        answer = await bench.get("/")
        number = (await bench.request()).id
        defer(bench, ECHO, number)
        bench.inbound.finalize(number)
        assert await answer.read() == (504, b"cell timeout\n")

    on_a_bench(test)


def test_a_cell_is_told_that_the_client_of_a_deferred_request_has_left() -> None:
    async def test(bench: Bench) -> None:
        bench.register(ECHO, "GET", "/")
        answer = await bench.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        number = (await bench.request()).id
        defer(bench, ECHO, number)
        bench.inbound.finalize(number)
        answer.writer.transport.abort()
        assert await closed(bench) == number
        assert bench.respond(ECHO, id=number, status=200) == Errno.FAILED

    on_a_bench(test)


def test_a_deferred_request_is_503_when_its_cell_goes() -> None:
    async def test(bench: Bench) -> None:
        bench.register(ECHO, "GET", "/")
        answer = await bench.get("/")
        number = (await bench.request()).id
        defer(bench, ECHO, number)
        bench.inbound.finalize(number)
        bench.inbound.teardown_cell("echo")
        assert await answer.read() == (503, b"cell shut down")

    on_a_bench(test)


# A listener of its own ------------------------------------------------------------------------------------------------


def listen(bench: Bench, cell: CellRef, addr: str) -> int:
    return code_of(lambda: bench.inbound.http_listen(cell, HTTPListen(addr=addr)))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_cell_can_have_its_routes_on_a_listener_of_its_own() -> None:
    async def test(bench: Bench) -> None:
        port = free_port()
        assert listen(bench, ECHO, f"127.0.0.1:{port}") == Errno.OK
        assert listen(bench, ECHO, f"127.0.0.1:{port}") == Errno.OK
        bench.register(ECHO, "GET", "/own")
        assert listen(bench, ECHO, f"127.0.0.1:{port}") == Errno.OK
        assert listen(bench, ECHO, "127.0.0.1:0") == Errno.NOT_FOUND
        assert (await (await bench.get("/own")).read())[0] == 404  # not on the shared one
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /own HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        bench.writers.append(writer)
        bench.respond(ECHO, id=(await bench.request()).id, status=200, body=b"here")
        assert (await reader.read()).endswith(b"here")

    on_a_bench(test)


def test_a_cell_that_has_a_route_cannot_choose_another_listener() -> None:
    async def test(bench: Bench) -> None:
        bench.register(ECHO, "GET", "/")
        assert listen(bench, ECHO, "127.0.0.1:0") == Errno.NOT_FOUND
        bench.inbound.teardown_cell("echo")
        assert listen(bench, ECHO, f"127.0.0.1:{free_port()}") == Errno.OK  # restarted, it may choose again

    on_a_bench(test)


@pytest.mark.parametrize(("addr", "code"), [("", Errno.FAILED), ("nonsense", Errno.ENCODE), ("a:b", Errno.ENCODE)])
def test_an_address_that_is_none_is_refused(addr: str, code: Errno) -> None:
    async def test(bench: Bench) -> None:
        assert listen(bench, ECHO, addr) == code

    on_a_bench(test)


def test_an_address_that_is_taken_is_refused() -> None:
    async def test(bench: Bench) -> None:
        assert listen(bench, ECHO, bench.endpoints[0].address.removeprefix("http://")) == Errno.ENCODE

    on_a_bench(test)


# The response to a fetch ----------------------------------------------------------------------------------------------


class Fetched:
    """A fetch whose other end is a socket of the test's."""

    def __init__(self) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.theirs.setblocking(False)
        self.broken = self.closed = False
        self.total = 0

    def read_now(self, most: int) -> bytes | None:
        if self.broken:
            raise DialFault("the connection was reset")
        try:
            data = self.theirs.recv(most)
        except BlockingIOError:
            return None
        self.total += len(data)
        return data

    def fileno(self) -> int:
        return self.theirs.fileno()

    def close(self) -> None:
        self.closed = True
        self.theirs.close()


def stream(bench: Bench, cell: CellRef, **reply: object) -> int:
    return code_of(lambda: bench.inbound.http_respond_stream(cell, HTTPRespondStream(**reply)))


async def streaming(bench: Bench) -> tuple[Fetched, Answer]:
    """Return a fetch whose response a client is getting."""
    bench.register(ECHO, "GET", "/")
    fetched = Fetched()
    bench.writers.append(fetched.ours)
    number = bench.inbound._streams.add("echo", fetched)  # type: ignore[arg-type]
    answer = await bench.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    request = await bench.request()
    assert stream(bench, ECHO, id=request.id, stream_id=number, status=200, headers={"X-A": "1"}) == Errno.OK
    bench.inbound.finalize(request.id)
    assert b"X-A: 1\r\n" in await answer.reader.readuntil(b"\r\n\r\n")
    assert stream(bench, ECHO, id=request.id, stream_id=number) == Errno.FAILED  # it has left the table
    return fetched, answer


def test_a_fetched_response_is_passed_on_as_it_comes() -> None:
    async def test(bench: Bench) -> None:
        fetched, answer = await streaming(bench)
        for piece in (b"one", b"two!"):
            fetched.ours.send(piece)
            assert await answer.reader.readexactly(len(piece) + 5) == b"%x\r\n%s\r\n" % (len(piece), piece)
        fetched.ours.close()
        assert await answer.reader.read() == b"0\r\n\r\n"
        assert fetched.closed

    on_a_bench(test)


def test_a_fetch_that_breaks_off_breaks_the_answer_off() -> None:
    async def test(bench: Bench) -> None:
        fetched, answer = await streaming(bench)
        fetched.broken = True
        fetched.ours.send(b"x")
        try:
            assert not (await answer.reader.read()).endswith(b"0\r\n\r\n")
        except ConnectionResetError:
            pass
        assert fetched.closed

    on_a_bench(test)


def test_a_client_that_leaves_ends_the_fetch() -> None:
    async def test(bench: Bench) -> None:
        fetched, answer = await streaming(bench)
        answer.writer.close()
        while not fetched.closed:
            await asyncio.sleep(0.001)

    on_a_bench(test)


def test_a_slow_client_holds_the_other_end_back() -> None:
    async def test(bench: Bench) -> None:
        fetched, answer = await streaming(bench)
        answer.reader._transport.pause_reading()  # type: ignore[union-attr]
        fetched.ours.setblocking(False)
        sent = 0
        stuck = 0
        while stuck < 50:
            try:
                sent += fetched.ours.send(b"x" * 65_536)
                stuck = 0
            except BlockingIOError:
                stuck += 1
                await asyncio.sleep(0.005)
        assert sent < 64_000_000
        assert not fetched.closed
        answer.writer.transport.abort()
        while not fetched.closed:
            await asyncio.sleep(0.001)

    on_a_bench(test)


def test_a_stream_for_a_request_that_does_not_wait_is_closed() -> None:
    async def test(bench: Bench) -> None:
        fetched = Fetched()
        bench.writers.append(fetched.ours)
        number = bench.inbound._streams.add("echo", fetched)  # type: ignore[arg-type]
        assert stream(bench, OTHER, id=1, stream_id=number) == Errno.FAILED  # another cell's stream
        assert not fetched.closed
        assert stream(bench, ECHO, id=1, stream_id=number, status=200) == Errno.ENCODE
        assert fetched.closed

    on_a_bench(test)
