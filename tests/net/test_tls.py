"""TLS on a listener, on both event loops: handshakes, ends, and what clients do to them."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
import uvloop

from pulp_runtime._net.exchange import BodyPlan, Request
from pulp_runtime._net.listener import Listener
from pulp_runtime._net.response import render_head_fields
from pulp_runtime._net.settings import HttpSettings
from pulp_runtime._net.tls import Certificate, CertificateInvalid

GET = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n"
LAST = b"GET /a HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
TEXT = render_head_fields(200, {"Content-Type": "text/plain"})
MIB = 1 << 20

Run = Callable[[Awaitable[None]], None]


class Authority:
    """Issues certificates into files, and clients that trust them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = trustme.CA()

    def issue(self, name: str = "server") -> tuple[Path, Path]:
        """Return the files of a new pair."""
        chain, key = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        issued = self.ca.issue_cert("localhost", "127.0.0.1")
        chain.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(key)
        return chain, key

    def client(self, *alpn: str) -> ssl.SSLContext:
        context = ssl.create_default_context()
        self.ca.configure_trust(context)
        if alpn:
            context.set_alpn_protocols(list(alpn))
        return context


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def certificate(authority: Authority) -> Certificate:
    return Certificate(*authority.issue())


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
    connection = request.connection
    body = request.body or request.line.path.encode()
    connection.respond(request, connection.render(request, TEXT, body), close=not request.keep_alive)


@asynccontextmanager
async def served(
    certificate: Certificate | None,
    handler: Callable[[Request], None] = echo,
    *,
    bodies: Callable[..., BodyPlan] | None = None,
    http2: bool = False,
    **settings: float,
):
    listener = Listener.bind("127.0.0.1", 0)
    await listener.serve(handler, HttpSettings(**settings), bodies=bodies, certificate=certificate, http2=http2)
    try:
        yield listener
    finally:
        await listener.close(5.0)


def port_of(listener: Listener) -> int:
    return int(listener.addresses[0].rpartition(":")[2])


@asynccontextmanager
async def client(listener: Listener, context: ssl.SSLContext | None, **arguments: Any):
    reader, writer = await asyncio.open_connection(
        "127.0.0.1",
        port_of(listener),
        ssl=context,
        **({"server_hostname": "localhost"} if context else {}),
        **arguments,
    )
    try:
        yield reader, writer
    finally:
        writer.close()
        try:
            await writer.wait_closed()
        except OSError:
            pass  # the other side was faster


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0.005)


# Requests -----------------------------------------------------------------------------------------------------------


def test_requests_are_answered_one_after_the_other(run: Run, authority: Authority, certificate: Certificate) -> None:
    async def main() -> None:
        async with served(certificate) as listener, client(listener, authority.client()) as (reader, writer):
            for _ in range(3):
                writer.write(GET)
                assert (await reader.readuntil(b"\r\n\r\n/a")).startswith(b"HTTP/1.1 200 OK\r\n")
            writer.write(LAST)
            assert (await reader.read()).endswith(b"/a")

    run(main())


def test_a_request_knows_that_it_came_encrypted_and_from_whom(
    run: Run, authority: Authority, certificate: Certificate
) -> None:
    seen: list[tuple[bool, bool, str]] = []

    def look(request: Request) -> None:
        seen.append((request.connection.secure, request.direct, request.connection.remote_addr))
        echo(request)

    async def main() -> None:
        async with served(certificate, look) as listener, client(listener, authority.client()) as (reader, writer):
            writer.write(LAST)
            await reader.read()
            host, port = writer.get_extra_info("sockname")
            assert seen == [(True, False, f"{host}:{port}")]

    run(main())


def test_megabytes_go_both_ways(run: Run, authority: Authority, certificate: Certificate) -> None:
    body = bytes(range(256)) * 16_384

    async def main() -> None:
        async with served(certificate) as listener, client(listener, authority.client()) as (reader, writer):
            writer.write(b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            await reader.readuntil(b"\r\n\r\n")
            assert await reader.readexactly(len(body)) == body

    run(main())


def test_a_body_that_nobody_reads_holds_the_client_back(
    run: Run, authority: Authority, certificate: Certificate
) -> None:
    requests: list[Request] = []
    streamed = lambda _line, _block: BodyPlan(1 << 30, streamed=True)  # noqa: E731

    async def main() -> None:
        async with (
            served(certificate, requests.append, bodies=streamed) as listener,
            client(listener, authority.client()) as (reader, writer),
        ):
            writer.write(b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % (16 * MIB))
            for _ in range(16):
                writer.write(bytes(MIB))
            await until(lambda: requests and requests[0].upload.full)
            upload = requests[0].upload
            await asyncio.sleep(0.05)
            assert upload.size < 2 * MIB

            read = 0
            while read < 16 * MIB:
                read += len(await asyncio.to_thread(upload.read, MIB, 5.0))
            assert upload.complete
            echo(requests[0])
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")

    run(main())


def test_what_the_client_agreed_to_is_spoken(run: Run, authority: Authority, certificate: Certificate) -> None:
    async def main() -> None:
        async with served(certificate) as listener:
            for offered, chosen, first in (
                (("h2", "http/1.1"), "h2", b"\0"),
                (("http/1.1", "h2"), "h2", b"\0"),
                (("http/1.1",), "http/1.1", b"H"),
                (("spdy/1",), None, b"H"),
                ((), None, b"H"),
            ):
                async with client(listener, authority.client(*offered)) as (reader, writer):
                    assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == chosen
                    if first == b"H":
                        writer.write(LAST)
                    assert await reader.readexactly(1) == first

    run(main())


@pytest.mark.parametrize("http2", [False, True])
def test_a_client_that_speaks_plainly_is_told_to_use_tls(run: Run, certificate: Certificate, http2: bool) -> None:
    async def main() -> None:
        async with served(certificate, http2=http2) as listener, client(listener, None) as (reader, writer):
            writer.write(GET)
            answer = await reader.read()
            assert answer.startswith(b"HTTP/1.1 400 ")
            assert b"https://" in answer

    run(main())


# Ends ---------------------------------------------------------------------------------------------------------------


def test_the_end_is_said_in_tls_too(run: Run, authority: Authority, certificate: Certificate) -> None:
    """Without that a client cannot tell a complete answer from one that somebody on the way has cut."""

    async def main() -> None:
        async with served(certificate) as listener:
            port = port_of(listener)

            def ask() -> bytes:
                with (
                    socket.create_connection(("127.0.0.1", port), 10) as raw,
                    authority.client().wrap_socket(raw, server_hostname="localhost", suppress_ragged_eofs=False) as tls,
                ):
                    tls.sendall(LAST)
                    return b"".join(iter(lambda: tls.recv(65536), b""))

            assert (await asyncio.to_thread(ask)).endswith(b"/a")

    run(main())


def test_a_client_may_shut_its_side_and_is_still_answered(
    run: Run, authority: Authority, certificate: Certificate
) -> None:
    requests: list[Request] = []

    async def main() -> None:
        async with served(certificate, requests.append) as listener:
            port = port_of(listener)
            began = asyncio.Event()
            loop = asyncio.get_running_loop()

            def ask() -> bytes:
                incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
                tls = authority.client().wrap_bio(incoming, outgoing, server_hostname="localhost")
                with socket.create_connection(("127.0.0.1", port), 10) as raw:

                    def carry(act: Callable[[], Any]) -> Any:
                        while True:
                            try:
                                return act()
                            except ssl.SSLWantReadError:
                                if outgoing.pending:
                                    raw.sendall(outgoing.read())
                                incoming.write(raw.recv(65536))

                    carry(tls.do_handshake)
                    tls.write(GET)
                    raw.sendall(outgoing.read())
                    raw.shutdown(socket.SHUT_WR)
                    loop.call_soon_threadsafe(began.set)
                    return carry(lambda: tls.read(65536))

            asked = asyncio.create_task(asyncio.to_thread(ask))
            await began.wait()
            await until(lambda: requests)
            await asyncio.sleep(0.05)
            echo(requests[0])
            assert (await asked).endswith(b"/a")
            await until(lambda: not listener.connections)

    run(main())


def test_a_refused_request_is_answered_though_more_of_it_comes(
    run: Run, authority: Authority, certificate: Certificate
) -> None:
    async def main() -> None:
        async with (
            served(certificate, body_bytes=10) as listener,
            client(listener, authority.client()) as (reader, writer),
        ):
            writer.write(b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n" + bytes(MIB))
            assert (await reader.read()).startswith(b"HTTP/1.1 413 ")

    run(main())


def test_at_the_end_idle_connections_close_and_answers_arrive(
    run: Run, authority: Authority, certificate: Certificate
) -> None:
    requests: list[Request] = []

    async def main() -> None:
        async with (
            served(certificate, requests.append) as listener,
            client(listener, authority.client()) as (idle, _idle_writer),
            client(listener, authority.client()) as (busy, busy_writer),
        ):
            busy_writer.write(GET)
            await until(lambda: requests and listener.connections == 2)
            closing = asyncio.create_task(listener.close(5.0))
            assert await idle.read() == b""
            echo(requests[0])
            assert b"Connection: close" in await busy.read()
            await closing

    run(main())


# Handshakes ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01\x02\x00\x01"], ids=["nothing", "half a greeting"])
def test_threat_37_a_handshake_has_its_time(run: Run, certificate: Certificate, sent: bytes) -> None:
    async def main() -> None:
        async with served(certificate, header_seconds=0.5) as listener, client(listener, None) as (reader, writer):
            writer.write(sent)
            await until(lambda: listener.connections == 1)
            try:
                assert await asyncio.wait_for(reader.read(), 5) == b""
            except ConnectionResetError:
                pass  # also an end
            await until(lambda: not listener.connections)

    run(main())


def test_threat_37_who_shakes_hands_has_a_place_among_the_connections(
    run: Run, authority: Authority, certificate: Certificate
) -> None:
    async def main() -> None:
        async with served(certificate, connections=2) as listener:
            async with client(listener, None), client(listener, None):
                await until(lambda: listener.connections == 2)
                with pytest.raises((ssl.SSLError, OSError)):
                    async with client(listener, authority.client()):
                        pass
            await until(lambda: not listener.connections)
            async with client(listener, authority.client()) as (reader, writer):
                writer.write(LAST)
                assert (await reader.read()).endswith(b"/a")

    run(main())


@pytest.mark.parametrize(
    "garbage",
    [b"\x16\x03\x01\x00\x05hello", b"\x16" + bytes(2_000), b"\x80\x2e\x01\x03\x01", b"\0", b"\x16\x03\x03\xff\xff"],
    ids=["no greeting", "zeroes", "a greeting of SSL 2", "one byte", "a record past its length"],
)
def test_threat_37_garbage_ends_the_handshake_and_nothing_else(
    run: Run, authority: Authority, certificate: Certificate, garbage: bytes
) -> None:
    async def main() -> None:
        async with served(certificate) as listener:
            async with client(listener, None) as (reader, writer):
                writer.write(garbage)
                writer.write_eof()
                try:
                    await asyncio.wait_for(reader.read(), 5)
                except ConnectionResetError:
                    pass
            async with client(listener, authority.client()) as (reader, writer):
                writer.write(LAST)
                assert (await reader.read()).endswith(b"/a")
            await until(lambda: not listener.connections)

    run(main())


def test_threat_37_garbage_behind_the_handshake_ends_that_connection(
    run: Run, authority: Authority, certificate: Certificate
) -> None:
    gone: list[Request] = []

    async def main() -> None:
        async with served(certificate, gone.append) as listener:
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            tls = authority.client().wrap_bio(incoming, outgoing, server_hostname="localhost")
            async with client(listener, None) as (reader, writer):
                while True:
                    try:
                        tls.do_handshake()
                        break
                    except ssl.SSLWantReadError:
                        writer.write(outgoing.read())
                        incoming.write(await reader.read(65536))
                writer.write(outgoing.read())
                tls.write(GET)
                record = bytearray(outgoing.read())
                record[-1] ^= 1
                writer.write(bytes(record))
                try:
                    await asyncio.wait_for(reader.read(), 5)
                except ConnectionResetError:
                    pass
            await until(lambda: not listener.connections)
            assert not gone

    run(main())


@pytest.mark.parametrize(
    "limit",
    [
        lambda context: setattr(context, "maximum_version", ssl.TLSVersion.TLSv1_1),
        lambda context: (
            setattr(context, "maximum_version", ssl.TLSVersion.TLSv1_2),
            context.set_ciphers("AES128-SHA:AES256-GCM-SHA384:@SECLEVEL=0"),
        ),
    ],
    ids=["an old version", "ciphers without forward secrecy"],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_threat_35_what_is_not_safe_is_not_spoken(
    run: Run, authority: Authority, certificate: Certificate, limit: Callable[[ssl.SSLContext], object]
) -> None:
    context = authority.client()
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    limit(context)

    async def main() -> None:
        async with served(certificate) as listener:
            with pytest.raises((ssl.SSLError, OSError)):
                async with client(listener, context):
                    pass

    run(main())


def test_tls_1_2_is_spoken_with_clients_that_know_no_better(
    run: Run, authority: Authority, certificate: Certificate
) -> None:
    context = authority.client()
    context.maximum_version = ssl.TLSVersion.TLSv1_2

    async def main() -> None:
        async with served(certificate) as listener, client(listener, context) as (reader, writer):
            writer.write(LAST)
            assert (await reader.read()).endswith(b"/a")

    run(main())


# Certificates -------------------------------------------------------------------------------------------------------


async def serial_of(listener: Listener, authority: Authority) -> str:
    async with client(listener, authority.client()) as (_reader, writer):
        return writer.get_extra_info("peercert")["serialNumber"]


def test_new_connections_get_the_new_certificate_and_open_ones_go_on(run: Run, authority: Authority) -> None:
    async def main() -> None:
        certificate = Certificate(*authority.issue("changing"))
        async with served(certificate) as listener, client(listener, authority.client()) as (reader, writer):
            before = await serial_of(listener, authority)
            authority.issue("changing")
            assert await serial_of(listener, authority) == before
            certificate.reload()
            assert await serial_of(listener, authority) != before
            writer.write(LAST)
            assert (await reader.read()).endswith(b"/a")

    run(main())


def test_a_bad_new_certificate_changes_nothing(run: Run, authority: Authority) -> None:
    async def main() -> None:
        chain, key = authority.issue("half")
        certificate = Certificate(chain, key)
        async with served(certificate) as listener:
            before = await serial_of(listener, authority)
            chain.write_bytes(authority.issue("other")[0].read_bytes())
            with pytest.raises(CertificateInvalid, match="the key belongs to another certificate"):
                certificate.reload()
            key.unlink()
            with pytest.raises(CertificateInvalid, match=f"key {key} cannot be read: No such file"):
                certificate.reload()
            assert await serial_of(listener, authority) == before

    run(main())


def locked(key: Path) -> bytes:
    from cryptography.hazmat.primitives import serialization

    loaded = serialization.load_pem_private_key(key.read_bytes(), None)
    return loaded.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"secret")
    )


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        pytest.param(lambda chain, _key: chain.unlink(), "certificate {chain} cannot be read: No such", id="no chain"),
        pytest.param(lambda _chain, key: key.unlink(), "key {key} cannot be read: No such file", id="no key"),
        pytest.param(
            lambda chain, _key: chain.write_bytes(b""), "certificate {chain} holds no certificate", id="empty"
        ),
        pytest.param(lambda _chain, key: key.write_bytes(b"x"), "key {key} holds no private key", id="not a key"),
        pytest.param(
            lambda chain, key: chain.write_bytes(key.read_bytes()), "{chain} holds no certificate", id="the wrong file"
        ),
        pytest.param(
            lambda chain, _key: chain.write_bytes(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
            "certificate {chain} with key {key} cannot be used: ",
            id="not a certificate inside",
        ),
        pytest.param(
            lambda _chain, key: key.write_bytes(locked(key)),
            "key {key} has a passphrase; write it without",
            id="locked",
        ),
    ],
)
def test_what_is_wrong_with_a_certificate_is_said(
    authority: Authority, spoil: Callable[[Path, Path], object], message: str
) -> None:
    chain, key = authority.issue("spoiled")
    spoil(chain, key)

    with pytest.raises(CertificateInvalid) as refused:
        Certificate(chain, key)
    assert message.format(chain=chain, key=key) in str(refused.value)


def test_one_file_may_hold_both(authority: Authority) -> None:
    chain, key = authority.issue("both")
    chain.write_bytes(chain.read_bytes() + key.read_bytes())

    Certificate(chain, chain)


# The preface --------------------------------------------------------------------------------------------------------

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"


def test_a_client_that_begins_in_http2_is_answered_in_it(run: Run) -> None:
    async def main() -> None:
        async with served(None, http2=True) as listener, client(listener, None) as (reader, writer):
            for byte in PREFACE:
                writer.write(bytes((byte,)))
                await asyncio.sleep(0)
            head = await reader.readexactly(9)
            assert head[3] == 4  # SETTINGS

    run(main())


@pytest.mark.parametrize("cut", [1, 2, 5, len(LAST)])
def test_others_are_answered_in_http1(run: Run, cut: int) -> None:
    async def main() -> None:
        async with served(None, http2=True) as listener, client(listener, None) as (reader, writer):
            writer.write(LAST[:cut])
            await asyncio.sleep(0.01)
            writer.write(LAST[cut:])
            assert (await reader.read()).endswith(b"/a")
            await until(lambda: not listener.connections)

    run(main())


@pytest.mark.parametrize("method", [b"PROPFIND", b"PUT", b"PRI"])
def test_a_method_that_begins_alike_is_no_preface(run: Run, method: bytes) -> None:
    async def main() -> None:
        async with served(None, http2=True) as listener, client(listener, None) as (reader, writer):
            writer.write(LAST.replace(b"GET", method))
            assert (await reader.read()).startswith(b"HTTP/1.1 400" if method == b"PRI" else b"HTTP/1.1 200")

    run(main())


def test_without_the_operators_leave_there_is_no_http2_in_the_clear(run: Run) -> None:
    async def main() -> None:
        async with served(None) as listener, client(listener, None) as (reader, writer):
            writer.write(PREFACE)
            assert (await reader.read()).startswith(b"HTTP/1.1 400 ")

    run(main())


@pytest.mark.slow
def test_threat_37_a_client_that_does_not_say_what_it_speaks_is_ended(run: Run) -> None:
    async def main() -> None:
        async with served(None, http2=True, header_seconds=0.5, idle_seconds=0.5) as listener:
            for sent in (b"", b"PRI * H"):
                async with client(listener, None) as (reader, writer):
                    writer.write(sent)
                    try:
                        assert await asyncio.wait_for(reader.read(), 5) == b""
                    except ConnectionResetError:
                        pass
            await until(lambda: not listener.connections)

    run(main())


def test_at_the_end_nobody_waits_for_a_client_that_has_said_nothing(run: Run, certificate: Certificate) -> None:
    async def main() -> None:
        for pair, http2 in ((certificate, False), (None, True)):
            async with served(pair, http2=http2) as listener, client(listener, None) as (reader, _writer):
                await until(lambda listener=listener: listener.connections == 1)
                async with asyncio.timeout(1):
                    await listener.close(5.0)
                    try:
                        assert await reader.read() == b""
                    except ConnectionResetError:
                        pass

    run(main())


# HTTP/2 on a socket -------------------------------------------------------------------------------------------------


async def speak_http2(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: bytes) -> bytes:
    """Send a request with a body by the library's rules; return what comes back."""
    from h2.config import H2Configuration
    from h2.connection import H2Connection
    from h2.events import DataReceived, StreamEnded

    protocol = H2Connection(H2Configuration(client_side=True))
    protocol.initiate_connection()
    protocol.send_headers(1, [(":method", "POST"), (":scheme", "https"), (":authority", "h"), (":path", "/a")])
    back = b""
    while True:
        while body and (room := min(protocol.local_flow_control_window(1), protocol.max_outbound_frame_size)):
            piece, body = body[:room], body[room:]
            protocol.send_data(1, piece, end_stream=not body)
        writer.write(protocol.data_to_send())
        await writer.drain()
        for event in protocol.receive_data(await reader.read(65536)):
            if isinstance(event, DataReceived):
                back += event.data
                protocol.acknowledge_received_data(event.flow_controlled_length, 1)
            elif isinstance(event, StreamEnded):
                return back


@pytest.mark.parametrize("encrypted", [True, False])
def test_megabytes_go_both_ways_in_http2(
    run: Run, authority: Authority, certificate: Certificate, encrypted: bool
) -> None:
    body = bytes(range(256)) * 4 * 1024
    context = authority.client("h2") if encrypted else None

    async def main() -> None:
        async with (
            served(certificate if encrypted else None, http2=True) as listener,
            client(listener, context) as (reader, writer),
        ):
            assert await speak_http2(reader, writer, body) == body

    run(main())


def test_at_the_end_a_request_of_http2_is_answered_and_its_connection_closed(
    run: Run, authority: Authority, certificate: Certificate
) -> None:
    requests: list[Request] = []

    async def main() -> None:
        async with (
            served(certificate, requests.append) as listener,
            client(listener, authority.client("h2")) as (reader, writer),
        ):
            asked = asyncio.create_task(speak_http2(reader, writer, b"body"))
            await until(lambda: requests)
            closing = asyncio.create_task(listener.close(5.0))
            await asyncio.sleep(0.01)
            echo(requests[0])
            assert await asked == b"body"
            async with asyncio.timeout(1):
                await reader.read()  # to the end
            writer.close()
            await closing

    run(main())


# What the protocols above may do ------------------------------------------------------------------------------------


class Shout(asyncio.Protocol):
    """Another protocol on the same connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data.upper())

    def connection_lost(self, _exc: Exception | None) -> None:
        self.lost = True


def test_a_connection_may_be_left_to_another_protocol(run: Run, authority: Authority, certificate: Certificate) -> None:
    shouts: list[Shout] = []

    def leave(request: Request) -> None:
        taken = request.connection.take_over(request)
        shouts.append(Shout())
        taken.transport.set_protocol(shouts[0])
        shouts[0].connection_made(taken.transport)
        shouts[0].data_received(taken.unread + b"begun ")

    async def main() -> None:
        async with served(certificate, leave) as listener:
            async with client(listener, authority.client()) as (reader, writer):
                writer.write(GET)
                assert await reader.readexactly(6) == b"BEGUN "
                transport = shouts[0].transport
                assert transport.get_protocol() is shouts[0]
                assert transport.is_reading()
                transport.set_write_buffer_limits(high=1_000, low=10)
                assert transport.get_write_buffer_limits() == (10, 1_000)
                transport.pause_reading()
                assert not transport.is_reading()
                writer.write(b"more")
                await asyncio.sleep(0.01)
                transport.resume_reading()
                assert await reader.readexactly(4) == b"MORE"
                transport.write(b"")
                transport.close()
                transport.write(b"too late")
                assert await reader.read() == b""
            await until(lambda: shouts[0].lost)

    run(main())


def test_what_does_not_end_in_time_is_aborted(run: Run, authority: Authority, certificate: Certificate) -> None:
    requests: list[Request] = []

    async def main() -> None:
        async with (
            served(certificate, requests.append) as listener,
            client(listener, authority.client()) as (reader, writer),
        ):
            writer.write(GET)
            await until(lambda: requests)
            await listener.close(0.01)
            assert listener.connections == 0
            try:
                assert await reader.read() == b""
            except ConnectionResetError:
                pass

    run(main())
