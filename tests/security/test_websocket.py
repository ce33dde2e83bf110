"""Hostile WebSocket clients against a host with the echo cell, and what others notice of them."""

from __future__ import annotations

import os
import re
import select
import shutil
import socket
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests.net.websocket_client import BINARY, PING, TEXT, frames, masked

from pulp_runtime.host import Host

ECHO = Path(__file__).parents[2] / "examples" / "ws-echo" / "c"
SECONDS = 20.0
MIB = 1024 * 1024
SHAKE = (
    "GET /echo HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{more}\r\n"
)


class Site:
    """A host with the echo cell, and clients byte by byte."""

    def __init__(self, host: Host, stack: ExitStack) -> None:
        self.host = host
        self._stack = stack
        address = urlsplit(host.url)
        self.address = (address.hostname or "", address.port or 0)

    def client(self, more: str = "") -> socket.socket:
        """Return a socket behind its handshake."""
        client = socket.create_connection(self.address, SECONDS)
        self._stack.callback(client.close)
        client.sendall(SHAKE.format(host=f"{self.address[0]}:{self.address[1]}", more=more).encode())
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += client.recv(1)
        assert head.startswith(b"HTTP/1.1 101 "), head
        return client

    def echo_seconds(self, client: socket.socket) -> float:
        """Say something and hear it; return how long that took."""
        began = time.monotonic()
        client.sendall(masked(TEXT, b"are you there?"))
        heard = b""
        while len(heard) < 16:
            heard += client.recv(16)
        assert heard == b"\x81\x0eare you there?"
        return time.monotonic() - began


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Callable[..., Site]]:
    """Return `site(manifest line, …, http={listener settings})`."""
    with ExitStack() as stack:

        def start(*lines: str, http: dict[str, object] | None = None) -> Site:
            cell = tmp_path / "cell"
            shutil.copytree(ECHO, cell)
            manifest = cell / "pulp.cell.toml"
            manifest.write_text("\n".join((manifest.read_text(), '[settings."transport.ws.inbound"]', *lines)))
            host = Host([cell], http_port="127.0.0.1:0", storage_root=tmp_path / "data", config={"http": http or {}})
            return Site(stack.enter_context(host), stack)

        yield start


def resident() -> int:
    """Return the memory of this process, which the host runs in."""
    found = re.search(r"VmRSS:\s+(\d+)", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) * 1024


def pour(client: socket.socket, block: bytes, count: int, *, stalled: float = 1.0) -> int:
    """Send a block so often; return how many bytes went before nobody took any for a while."""
    client.setblocking(False)
    left = memoryview(block * 1)
    sent = done = 0
    while done < count and select.select([], [client], [], stalled)[1]:
        try:
            size = client.send(left)
        except BlockingIOError:
            continue
        except (BrokenPipeError, ConnectionResetError):
            break
        sent += size
        left = left[size:]
        if not left:
            left = memoryview(block)
            done += 1
    client.setblocking(True)
    client.settimeout(SECONDS)
    return sent


def until_closed(client: socket.socket) -> bytes:
    """Return everything a client is sent until the host ends the connection."""
    data = b""
    try:
        while piece := client.recv(1 << 16):
            data += piece
    except ConnectionResetError:
        pass
    return data


HOSTILE = [
    pytest.param(b"\x81\x05hello", 1002, id="a frame without a mask"),
    pytest.param(masked(PING, b"x" * 126), 1002, id="a control frame of 126 bytes"),
    pytest.param(masked(PING, fin=False), 1002, id="a ping in fragments"),
    pytest.param(masked(TEXT, b"x", rsv=4), 1002, id="compressed, which was not agreed on"),
    pytest.param(b"\x82\xff" + struct.pack(">Q", 1 << 63) + bytes(4), 1002, id="a length of 2**63"),
    pytest.param(b"\x82\xff" + struct.pack(">Q", (1 << 63) - 1) + bytes(4), 1009, id="a length of 2**63 - 1"),
    pytest.param(masked(TEXT, b"\xc3("), 1007, id="text that is not UTF-8"),
    pytest.param(masked(TEXT, b"\xed\xa0\x80"), 1007, id="half of a surrogate pair"),
    pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 1002, id="HTTP again"),
    pytest.param(bytes(range(256)) * 4, 1002, id="nonsense"),
]


@pytest.mark.parametrize(("data", "code"), HOSTILE)
def test_threat_40_a_breach_of_the_protocol_ends_that_connection_alone(
    site: Callable[..., Site], data: bytes, code: int
) -> None:
    there = site()
    neighbour, client = there.client(), there.client()
    client.sendall(data)
    ((kind, payload),) = frames(until_closed(client))

    assert (kind, struct.unpack(">H", payload[:2])[0]) == (0x88, code)
    there.echo_seconds(neighbour)
    assert there.host.status()["ws-echo"].restarts == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(masked(PING), id="pings, whose answers are not read"),
        pytest.param(masked(0, fin=False), id="fragments of one message, without content"),
        pytest.param(masked(10), id="pongs that nobody asked for"),
    ],
)
def test_threat_40_a_million_tiny_frames_cost_no_memory_and_others_are_served_meanwhile(
    site: Callable[..., Site], frame: bytes
) -> None:
    there = site()
    neighbour, client = there.client(), there.client()
    there.echo_seconds(neighbour)
    client.sendall(masked(BINARY, fin=False) if frame[0] == 0 else frame)
    before, slowest = resident(), 0.0
    for _ in range(20):
        pour(client, frame * 1_000, 50, stalled=0.2)
        slowest = max(slowest, there.echo_seconds(neighbour))

    assert resident() - before < 32 * MIB
    assert slowest < 2.0


@pytest.mark.slow
def test_threat_40_a_flood_of_messages_waits_at_its_client_and_none_is_lost(site: Callable[..., Site]) -> None:
    there = site('slow = "wait"')
    client = there.client()
    before = resident()
    count = 100_000
    sent = heard = 0
    block = masked(TEXT, b"x") * 100
    client.setblocking(False)
    while heard < 3 * count:
        readable, writable, _ = select.select([client], [client] if sent < count else [], [], SECONDS)
        assert readable or writable, f"nothing moves after {sent} sent and {heard} bytes heard"
        if writable:
            size = client.send(block)
            if size < len(block):
                client.setblocking(True)
                client.sendall(block[size:])
                client.setblocking(False)
            sent += 100
        if readable:
            data = client.recv(1 << 16)
            assert not data.strip(b"\x81\x01x")
            heard += len(data)

    assert heard == 3 * count
    assert resident() - before < 32 * MIB


@pytest.mark.slow
def test_threat_40_who_sends_and_never_reads_is_stopped_by_his_own_queue(site: Callable[..., Site]) -> None:
    there = site("queue_bytes = 100_000")
    client = there.client()
    before = resident()
    sent = pour(client, masked(BINARY, bytes(30_000)), 10_000)

    assert sent < 64 * MIB, "the host stops to read him"
    assert resident() - before < 32 * MIB


@pytest.mark.slow
def test_threat_40_a_slow_reader_that_is_closed_holds_nobody_up(site: Callable[..., Site]) -> None:
    there = site("queue_bytes = 100_000", 'slow = "close"', "close_seconds = 0.5")
    neighbour, client = there.client(), there.client()
    pour(client, masked(BINARY, bytes(30_000)), 10_000)

    assert there.echo_seconds(neighbour) < 2.0
    until_closed(client)


def test_threat_40_a_compressed_bomb_is_refused_at_the_limit(site: Callable[..., Site]) -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    data = b"".join(packer.compress(bytes(MIB)) for _ in range(16)) + packer.flush(zlib.Z_SYNC_FLUSH)
    assert len(data) < 32_768
    there = site("deflate = true")
    neighbour = there.client()
    client = there.client("Sec-WebSocket-Extensions: permessage-deflate\r\n")
    before = resident()
    client.sendall(masked(BINARY, data[:-4], rsv=4))
    ((kind, payload),) = frames(until_closed(client))

    assert (kind, payload[:2]) == (0x88, struct.pack(">H", 1009))
    assert resident() - before < 8 * MIB
    there.echo_seconds(neighbour)


@pytest.mark.slow
def test_threat_40_a_storm_of_closes_leaves_nothing_behind(site: Callable[..., Site]) -> None:
    there = site()
    there.echo_seconds(there.client())
    before = len(os.listdir("/proc/self/fd"))
    ends = (
        b"\x88\x80\0\0\0\0",
        b"\x88\x82\0\0\0\0\x03\xe8" * 100,
        b"\x88\x81\0\0\0\0\x03",
        b"",
        masked(TEXT, b"bye") + b"\x88\x80\0\0\0\0",
    )
    for number in range(500):
        client = there.client()
        client.sendall(ends[number % len(ends)])
        if number % 2:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset
        client.close()
    end = time.monotonic() + SECONDS
    while len(os.listdir("/proc/self/fd")) > before:
        assert time.monotonic() < end, "descriptors are left"
        time.sleep(0.01)

    there.echo_seconds(there.client())


def test_threat_40_a_handshake_with_a_body_is_refused(site: Callable[..., Site]) -> None:
    there = site()
    client = socket.create_connection(there.address, SECONDS)
    client.sendall(SHAKE.format(host="a", more="Content-Length: 6\r\n").encode() + masked(PING))
    answer = client.recv(1 << 16)
    client.close()

    assert answer.startswith(b"HTTP/1.1 400 ")


def test_threat_40_messages_that_are_never_finished_are_bounded_for_all_clients_together(
    site: Callable[..., Site],
) -> None:
    there = site(f"message_bytes = {64 * MIB}", http={"bodies_bytes": 2 * MIB})
    head = b"\x02\xff" + struct.pack(">Q", 63 * MIB) + bytes(4)
    before = resident()
    clients = [there.client() for _ in range(3)]
    for client in clients:
        client.sendall(head + bytes(900_000))
    ready, _, _ = select.select(clients, [], [], SECONDS)
    ((kind, payload),) = frames(until_closed(ready[0]))

    assert (kind, payload[:2]) == (0x88, struct.pack(">H", 1013))
    assert len(ready) == 1
    assert resident() - before < 16 * MIB, "what is promised by a header takes no memory"
    there.echo_seconds(there.client())
