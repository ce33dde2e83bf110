"""`transport.ws.outbound` against servers on loopback that write frames by hand."""

from __future__ import annotations

import base64
import hashlib
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trustme
from tests.capabilities.conftest import Puppets
from tests.capabilities.puppet import StubGuest, until
from tests.capabilities.upstream import Peer, Script, Upstream, response, silent

from pulp_runtime._net import dial_websocket
from pulp_runtime._net.dial_patience import Patience
from pulp_runtime._net.dial_websocket import ARRIVED_BYTES, MESSAGE_BYTES, UNSENT_BYTES
from pulp_runtime.abi.wsout import WSOutDial, encode_wsout_connection, encode_wsout_frame
from pulp_runtime.capabilities.transport import ws_outbound
from pulp_runtime.capabilities.transport.ws_outbound import CONNECTIONS, NAME, WsOutbound
from pulp_runtime.errors import ExtensionError, HostError
from pulp_runtime.ext import Posted
from pulp_runtime.testing import HOSTILE_RANGES, CellUnderTest, FakeHost, guest

IMPORTS = {"wsout_dial": 4, "wsout_send": 3, "wsout_close": 1}
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


def lookup(_owner: str, _name: str, _patience: Patience) -> list[str]:
    """Every name is on loopback."""
    return ["127.0.0.1"]


class Server:
    """The server's side of one WebSocket."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer

    def accept(self, *fields: str) -> bool:
        seen = self.peer.request()
        if seen is None:
            return False
        key = seen.fields["sec-websocket-key"][0] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        proof = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
        lines = [
            "HTTP/1.1 101 Switching Protocols",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Accept: {proof}",
        ]
        self.peer.send("\r\n".join((*lines, *fields, "", "")).encode())
        return True

    def send(self, data: bytes, opcode: int = BINARY, *, fin: bool = True) -> None:
        self.peer.send(frame(data, opcode, fin=fin))

    def receive(self) -> tuple[int, bytes]:
        """Return opcode and content of the next frame, which must be masked."""
        head = self.peer.read(2)
        if len(head) < 2:
            raise ConnectionError("the client is gone")
        first, second = head
        assert second & 0x80, "a client masks"
        size = second & 0x7F
        if size == 126:
            size = int.from_bytes(self.peer.read(2), "big")
        elif size == 127:
            size = int.from_bytes(self.peer.read(8), "big")
        mask = self.peer.read(4)
        data = self.peer.read(size)
        return first & 0x0F, bytes(byte ^ mask[at % 4] for at, byte in enumerate(data)) if size < 4096 else data


def frame(data: bytes, opcode: int = BINARY, *, fin: bool = True) -> bytes:
    head = bytes(((0x80 if fin else 0) | opcode,))
    if len(data) < 126:
        return head + bytes((len(data),)) + data
    if len(data) < 65536:
        return head + b"\x7e" + struct.pack(">H", len(data)) + data
    return head + b"\x7f" + struct.pack(">Q", len(data)) + data


def serving(script: Callable[[Server], None], *fields: str) -> Script:
    """Return a script that accepts the handshake and then runs `script`."""

    def run(peer: Peer) -> None:
        server = Server(peer)
        if server.accept(*fields):
            script(server)

    return run


def echo(server: Server) -> None:
    """Say back what comes; answer a close."""
    while True:
        opcode, data = server.receive()
        if opcode == CLOSE:
            server.send(data, CLOSE)
            server.peer.upstream.ended.set()
            return
        server.send(data, opcode)


def listening(server: Server) -> None:
    """Say nothing until the client leaves."""
    server.peer.wait_for_end()


class Bench:
    """The capability set up on loopback, a guest that calls it, and the events it would get."""

    def __init__(self, host: FakeHost, config: dict[str, Any] | None = None) -> None:
        self.host = host
        self.outbound = WsOutbound(lookup)
        self.outbound.setup(host(NAME, config={"allow": ["127.0.0.0/8"]} if config is None else config))
        self.guest = StubGuest()
        self.finalized = 0
        self.stack = ExitStack()

    def upstream(self, script: Callable[[Server], None], *fields: str, **options: Any) -> Upstream:
        return self.raw(serving(script, *fields), **options)

    def raw(self, script: Script, **options: Any) -> Upstream:
        return self.stack.enter_context(Upstream(script, **options))

    def dial(self, upstream: Upstream | str, *, guest: StubGuest | None = None, **fields: Any) -> int:
        """Return the number of the connection; -code when there is none."""
        url = upstream if isinstance(upstream, str) else f"{upstream.url.replace('http', 'ws', 1)}/chat"
        guest = guest or self.guest
        try:
            self.outbound.wsout_dial(guest, WSOutDial(url=url, **fields), 0, 0)
        except HostError as error:
            return -error.code
        answer = msgspec.msgpack.decode(guest.delivered[-1])
        assert list(answer) == ["conn_id"]
        return answer["conn_id"]

    def send(self, number: int, data: bytes, *, guest: StubGuest | None = None) -> int:
        return self.code(lambda: self.outbound.wsout_send(guest or self.guest, number, data))

    def shut(self, number: int, *, guest: StubGuest | None = None) -> int:
        return self.code(lambda: self.outbound.wsout_close((guest or self.guest).cell, number))

    @staticmethod
    def code(call: Callable[[], None]) -> int:
        try:
            call()
        except HostError as error:
            return error.code
        return 0

    def run(self, until: Callable[[], Any], *, finalize: bool = True) -> None:
        """Let the loop turn, and deal with events, until something is true."""
        end = time.monotonic() + 20
        while not until():
            assert time.monotonic() < end, f"it never came true; posted: {len(self.host.posted)}"
            if finalize:
                for event in self.host.posted[self.finalized :]:
                    self.outbound.finalize(event.id)
                self.finalized = len(self.host.posted)
            self.host.advance(0.005)

    def frames(self) -> list[dict[str, Any]]:
        return [msgspec.msgpack.decode(event.payload) for event in self.host.posted]

    def data(self, number: int) -> bytes:
        return b"".join(frame["data"] for frame in self.frames() if frame["conn_id"] == number)

    @property
    def reason(self) -> str:
        return self.guest.logged[-1].fields["reason"]

    def close(self) -> None:
        self.outbound.teardown()
        self.host.turn()
        self.stack.close()


@pytest.fixture
def bench(pulp_env: FakeHost) -> Iterator[Bench]:
    bench = Bench(pulp_env)
    yield bench
    bench.close()


# The wire ---------------------------------------------------------------------------------------------------------


def test_the_records_are_what_other_hosts_of_these_cells_write_byte_for_byte() -> None:
    assert encode_wsout_connection(7) == b"\x81\xa7conn_id\xce\0\0\0\x07"
    assert encode_wsout_frame(7, b"hi") == b"\x82\xa7conn_id\xce\0\0\0\x07\xa4data\xc4\x02hi"


# Dialling ---------------------------------------------------------------------------------------------------------


def test_a_connection_is_opened_and_speaks_both_ways(bench: Bench) -> None:
    upstream = bench.upstream(echo)

    number = bench.dial(upstream, headers={"authorization": "Bearer t"})
    assert number == 1
    assert bench.send(number, b"hello") == 0
    bench.run(lambda: bench.data(number) == b"hello")
    event = bench.host.posted[0]
    assert (event.kind, event.cell_id) == ("wsout.frame", "one")
    seen = upstream.seen[0]
    assert (seen.method, seen.target) == ("GET", "/chat")
    assert seen.fields["host"] == [upstream.address]
    assert seen.fields["authorization"] == ["Bearer t"]
    assert seen.fields["user-agent"] == ["Go-http-client/1.1"]
    assert "sec-websocket-extensions" not in seen.fields


def test_what_the_server_says_with_its_handshake_is_heard(bench: Bench) -> None:
    def eager(peer: Peer) -> None:
        seen = peer.request()
        assert seen is not None
        key = seen.fields["sec-websocket-key"][0] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        proof = base64.b64encode(hashlib.sha1(key.encode()).digest())
        peer.send(
            b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
            + proof + b"\r\n\r\n" + frame(b"first") + frame(b"second", TEXT)
        )  # fmt: skip
        peer.wait_for_end()

    number = bench.dial(bench.raw(eager))
    bench.run(lambda: bench.data(number) == b"firstsecond")


def test_headers_of_the_handshake_are_the_host_s(bench: Bench) -> None:
    upstream = bench.upstream(listening)
    own = {
        "Host": "evil", "Upgrade": "h2c", "Connection": "x", "Sec-WebSocket-Key": "x", "sec-websocket-version": "8",
        "Sec-WebSocket-Extensions": "permessage-deflate", "Origin": "https://a.example", "User-Agent": "me",
    }  # fmt: skip

    assert bench.dial(upstream, headers=own) == 1
    fields = upstream.seen[0].fields
    assert (fields["host"], fields["upgrade"], fields["connection"]) == ([upstream.address], ["websocket"], ["Upgrade"])
    assert (fields["sec-websocket-version"], len(fields["sec-websocket-key"][0])) == (["13"], 24)
    assert (fields["origin"], fields["user-agent"]) == (["https://a.example"], ["me"])
    assert "sec-websocket-extensions" not in fields


def test_a_cell_may_ask_for_a_subprotocol(bench: Bench) -> None:
    upstream = bench.upstream(listening, "Sec-WebSocket-Protocol: chat")

    assert bench.dial(upstream, headers={"Sec-WebSocket-Protocol": "superchat, chat"}) == 1
    assert bench.dial(upstream) == -4  # nobody asked for one
    assert "handshake" in bench.reason


def saying(data: bytes) -> Script:
    """Return a script that answers the handshake with these bytes."""

    def script(peer: Peer) -> None:
        if peer.request() is not None:
            peer.send(data)
            if data.startswith(b"HTTP/1.1 200 X"):
                peer.wait_for_end()

    return script


SWITCHING = b"HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: "


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(saying(response()), id="200"),
        pytest.param(saying(response(status="401 No")), id="401"),
        pytest.param(saying(response(b"", "Location: ws://127.0.0.1/", status="302 Found")), id="a redirect"),
        pytest.param(saying(SWITCHING + b"websocket\r\nSec-WebSocket-Accept: bm8=\r\n\r\n"), id="a wrong proof"),
        pytest.param(saying(SWITCHING + b"websocket\r\n\r\n"), id="no proof"),
        pytest.param(saying(SWITCHING + b"h2c\r\n\r\n"), id="another protocol"),
        pytest.param(
            lambda peer: Server(peer).accept("Sec-WebSocket-Extensions: permessage-deflate"), id="an extension"
        ),
        pytest.param(saying(b"SSH-2.0-x\r\n"), id="another server"),
        pytest.param(saying(b""), id="nothing"),
        pytest.param(saying(b"HTTP/1.1 200 X\r\n" + b"A: b\r\n" * 1000), id="a flood"),
        pytest.param(saying(b"HTTP/1.1 200 X\r\nContent-Length: 900000\r\n\r\n" + bytes(400_000)), id="a long refusal"),
    ],
)
def test_a_server_that_does_not_agree_is_4(bench: Bench, script: Script) -> None:
    upstream = bench.raw(script)

    assert bench.dial(upstream) == -4
    assert bench.guest.logged[-1].message == "websocket failed"
    assert bench.send(1, b"x") == 6


@pytest.mark.parametrize(
    "url",
    [
        "",
        "/x",
        "http://a.example/",
        "wss://",
        "ws://u@a.example/",
        "ws://a.example\\b/",
        "ws://a.example:25/",
        "ws://a/\r\nX: 1",
    ],
)
def test_a_url_that_is_not_dialled_is_4(bench: Bench, url: str) -> None:
    assert bench.dial(url) == -4
    assert bench.guest.logged[-1].message == "websocket refused"


@pytest.mark.parametrize("headers", [{"X": "a\r\nEvil: 1"}, {"X\r\n": "a"}, {"X": "a\0"}, {"": "a"}])
def test_threat_35_a_handshake_that_would_be_two_is_not_sent(bench: Bench, headers: dict[str, str]) -> None:
    upstream = bench.upstream(listening)

    assert bench.dial(upstream, headers=headers) == -4
    assert upstream.connections == 0


@pytest.mark.slow
def test_a_server_that_never_agrees_is_given_up(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ws_outbound, "DIAL_SECONDS", 0.3)
    upstream = bench.raw(silent)

    assert bench.dial(upstream) == -4
    assert upstream.ended.wait(5)
    bench.guest.seconds = 0.0
    assert bench.dial(upstream) == -4


def test_wss_is_verified(pulp_env: FakeHost, tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("a.example").configure_cert(context)
    bench = Bench(pulp_env, config={"allow": ["127.0.0.0/8"], "ca_file": str(tmp_path / "ca.pem")})
    upstream = bench.upstream(echo, tls=context)

    assert bench.dial(f"wss://b.example:{upstream.port}/") == -4
    assert "mismatch" in bench.reason
    number = bench.dial(f"wss://a.example:{upstream.port}/")
    blob = bytes(range(256)) * 1000
    assert bench.send(number, blob) == 0
    bench.run(lambda: len(bench.data(number)) == len(blob))
    bench.close()


def test_a_cell_has_at_most_32_connections(bench: Bench) -> None:
    upstream = bench.upstream(listening)
    numbers = [bench.dial(upstream) for _ in range(CONNECTIONS)]

    assert numbers == list(range(1, 33))
    assert bench.dial(upstream) == -4
    assert bench.dial(upstream, guest=StubGuest("other")) > 0
    assert bench.shut(numbers[0]) == 0
    assert bench.dial(upstream) > 0


def test_a_connection_that_cannot_be_delivered_is_closed_again(bench: Bench) -> None:
    upstream = bench.upstream(listening)
    for code in (7, 8):
        bench.guest.refuses = HostError(code)
        assert bench.dial(upstream) == -code
        assert upstream.ended.wait(5)
        upstream.ended.clear()
    assert bench.outbound._sessions == {}


# Receiving --------------------------------------------------------------------------------------------------------


def test_messages_that_come_while_an_event_is_under_way_are_joined_in_the_next(bench: Bench) -> None:
    go, sent = threading.Event(), threading.Event()

    def script(server: Server) -> None:
        server.send(b"first")
        go.wait(10)
        for word in (b"se", b"co", b"nd"):
            server.send(word)
        sent.set()
        server.peer.wait_for_end()

    number = bench.dial(bench.upstream(script))
    bench.run(lambda: bench.frames(), finalize=False)
    assert bench.frames() == [{"conn_id": number, "data": b"first"}]
    go.set()
    sent.wait(10)
    bench.host.advance(0.05)
    assert len(bench.frames()) == 1
    bench.outbound.finalize(number)
    bench.run(lambda: len(bench.frames()) == 2, finalize=False)
    assert bench.frames()[1] == {"conn_id": number, "data": b"second"}


def test_text_fragments_and_pings_are_what_they_should_be(bench: Bench) -> None:
    heard: list[tuple[int, bytes]] = []

    def script(server: Server) -> None:
        server.send(b"a", TEXT)
        server.send(b"b", BINARY, fin=False)
        server.send(b"p", PING)
        server.send(b"c", 0, fin=False)
        server.send(b"", 0)
        server.send(b"")
        server.send(b"q", PONG)
        server.send(b"d")
        heard.append(server.receive())
        server.peer.wait_for_end()

    number = bench.dial(bench.upstream(script))
    bench.run(lambda: bench.data(number) == b"abcd")
    bench.run(lambda: heard)
    assert heard == [(PONG, b"p")]


def test_an_event_that_would_be_too_large_comes_in_pieces(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    blob = bytes(range(256)) * 40
    posted = bench.host.posted

    def post(event: Any) -> Posted:
        if len(event.payload) > 3000:
            return Posted.TOO_LARGE
        posted.append(event)
        return Posted.ACCEPTED

    monkeypatch.setattr(bench.host, "_post", post)
    bench.outbound.setup(bench.host(NAME, config={"allow": ["127.0.0.0/8"]}))
    number = bench.dial(bench.upstream(lambda server: (server.send(blob), server.peer.wait_for_end())))

    bench.run(lambda: bench.data(number) == blob)
    assert len(posted) > 3


@pytest.mark.slow
def test_a_full_mailbox_is_asked_again_and_nothing_is_lost(bench: Bench) -> None:
    bench.host.answer = Posted.FULL
    number = bench.dial(bench.upstream(lambda server: (server.send(b"hello"), server.peer.wait_for_end())))
    bench.run(lambda: len(bench.host.posted) >= 5, finalize=False)
    bench.host.answer = Posted.ACCEPTED
    refused = len(bench.host.posted)
    bench.run(lambda: len(bench.host.posted) > refused, finalize=False)

    assert bench.frames()[-1] == {"conn_id": number, "data": b"hello"}
    bench.host.advance(0.4)
    assert len(bench.host.posted) == refused + 1


def test_a_cell_that_takes_nothing_any_more_loses_the_connection(bench: Bench) -> None:
    bench.host.answer = Posted.CLOSED
    upstream = bench.upstream(lambda server: (server.send(b"hello"), server.peer.wait_for_end()))
    number = bench.dial(upstream)

    bench.run(upstream.ended.is_set, finalize=False)
    assert bench.send(number, b"x") == 6


@pytest.mark.slow
def test_a_server_is_not_read_while_the_cell_does_not_keep_up(bench: Bench) -> None:
    sent = 0

    def script(server: Server) -> None:
        nonlocal sent
        server.peer.sock.settimeout(None)
        for _ in range(500):
            server.send(bytes(100_000))
            sent += 100_000
        server.peer.wait_for_end()

    number = bench.dial(bench.upstream(script))
    last = -1
    while sent != last:  # until the server cannot send any more
        last = sent
        bench.host.advance(0.1)
        time.sleep(0.1)
    socket = bench.outbound._sessions[number].socket
    assert socket is not None
    assert sent < 50_000_000
    assert len(socket._arrived) <= ARRIVED_BYTES + 100_000
    bench.run(lambda: sum(len(event.payload) for event in bench.host.posted) >= 50_000_000)


def test_a_message_over_8_mebibytes_ends_the_connection_with_1009(bench: Bench) -> None:
    codes: list[int] = []

    def script(server: Server) -> None:
        server.peer.send(b"\x82\x7f" + struct.pack(">Q", MESSAGE_BYTES + 1))
        opcode, data = server.receive()
        assert opcode == CLOSE
        codes.append(int.from_bytes(data[:2], "big"))

    number = bench.dial(bench.upstream(script))
    bench.run(lambda: codes)
    assert codes == [1009]
    bench.run(lambda: bench.send(number, b"x") == 6)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        pytest.param(b"\x83\x00", 1002, id="an unknown opcode"),
        pytest.param(b"\xc2\x00", 1002, id="a reserved bit"),
        pytest.param(b"\x82\x80\0\0\0\0", 1002, id="a mask"),
        pytest.param(b"\x80\x00", 1002, id="a continuation of nothing"),
        pytest.param(b"\x09\x00", 1002, id="a ping in pieces"),
        pytest.param(b"\x89\x7e\x00\x7e" + bytes(126), 1002, id="a long ping"),
        pytest.param(b"\x82\x7f" + b"\xff" * 8, 1009, id="a length past every integer"),
        pytest.param(b"\x88\x01\x00", 1002, id="half a close code"),
    ],
)
def test_a_frame_that_is_none_ends_the_connection_with_its_code(bench: Bench, data: bytes, code: int) -> None:
    codes: list[int] = []

    def script(server: Server) -> None:
        server.peer.send(data)
        codes.append(int.from_bytes(server.receive()[1][:2], "big"))

    number = bench.dial(bench.upstream(script))
    bench.run(lambda: codes)
    assert codes == [code]
    bench.run(lambda: bench.send(number, b"x") == 6)


@pytest.mark.slow
def test_a_flood_of_pings_nobody_reads_the_answers_of_takes_no_memory(bench: Bench) -> None:
    sent = 0

    def script(server: Server) -> None:
        nonlocal sent
        pings = frame(bytes(125), PING) * 1000
        for _ in range(1000):
            server.peer.send(pings)
            sent += len(pings)
        server.peer.wait_for_end()

    number = bench.dial(bench.upstream(script))
    last = -1
    while sent != last:
        last = sent
        bench.host.advance(0.1)
        time.sleep(0.1)
    socket = bench.outbound._sessions[number].socket
    assert socket is not None
    assert len(socket._unsent) < UNSENT_BYTES + 200_000
    assert sent < 120_000_000


# Sending ----------------------------------------------------------------------------------------------------------


def test_what_is_sent_is_a_binary_message(bench: Bench) -> None:
    heard: list[tuple[int, bytes]] = []

    def script(server: Server) -> None:
        heard.extend(server.receive() for _ in range(2))
        server.peer.wait_for_end()

    number = bench.dial(bench.upstream(script))
    assert bench.send(number, b"one") == 0
    assert bench.send(number, b"\0\xff") == 0
    until(lambda: len(heard) == 2)
    assert heard == [(BINARY, b"one"), (BINARY, b"\0\xff")]


def test_a_message_is_1_byte_to_8_mebibytes(bench: Bench) -> None:
    upstream = bench.upstream(echo)
    number = bench.dial(upstream)
    assert bench.send(number, b"") == 1
    assert bench.send(number, bytes(MESSAGE_BYTES + 1)) == 4
    assert bench.send(number, bytes(MESSAGE_BYTES)) == 0
    bench.run(lambda: sum(len(event.payload) for event in bench.host.posted) > MESSAGE_BYTES)


@pytest.mark.slow
def test_a_server_that_does_not_read_makes_the_cell_wait_and_then_4(bench: Bench) -> None:
    go = threading.Event()
    number = bench.dial(bench.upstream(lambda server: go.wait(20)))
    end = time.monotonic() + 1.0
    bench.guest.seconds_left = lambda: end - time.monotonic()  # type: ignore[method-assign]

    codes = []
    while not codes or codes[-1] == 0:
        codes.append(bench.send(number, bytes(1 << 20)))
        assert len(codes) < 100
    assert codes[-1] == 4
    assert "step" in bench.reason
    socket = bench.outbound._sessions[number].socket
    assert socket is not None
    assert len(socket._unsent) < UNSENT_BYTES + (2 << 20)
    go.set()


def test_threat_20_a_connection_belongs_to_the_cell_that_opened_it(bench: Bench) -> None:
    number = bench.dial(bench.upstream(echo))
    other = StubGuest("other")

    assert bench.send(number, b"x", guest=other) == 6
    assert bench.shut(number, guest=other) == 6
    assert bench.send(number, b"mine") == 0
    bench.run(lambda: bench.data(number) == b"mine")


@pytest.mark.parametrize("number", [0, 1, 0xFFFF_FFFF])
def test_a_connection_that_is_none_is_6(bench: Bench, number: int) -> None:
    assert bench.send(number, b"x") == 6
    assert bench.shut(number) == 6


# The end ----------------------------------------------------------------------------------------------------------


def test_a_cell_closes_with_1000_and_its_number_means_nothing_any_more(bench: Bench) -> None:
    heard: list[tuple[int, bytes]] = []

    def script(server: Server) -> None:
        heard.append(server.receive())
        server.send(heard[0][1], CLOSE)
        server.peer.wait_for_end()

    upstream = bench.upstream(script)
    number = bench.dial(upstream)
    assert bench.shut(number) == 0
    assert bench.shut(number) == 6
    assert bench.send(number, b"x") == 6
    bench.run(upstream.ended.is_set)
    assert heard == [(CLOSE, b"\x03\xe8")]


def test_a_close_of_the_server_is_answered_and_what_came_before_it_is_delivered(bench: Bench) -> None:
    heard: list[tuple[int, bytes]] = []

    def script(server: Server) -> None:
        server.send(b"last words")
        server.send(b"\x03\xe9", CLOSE)
        heard.append(server.receive())

    number = bench.dial(bench.upstream(script))
    bench.run(lambda: bench.data(number) == b"last words")
    bench.run(lambda: heard)
    assert heard == [(CLOSE, b"\x03\xe9")]
    bench.run(lambda: not bench.outbound._sessions)
    assert bench.send(number, b"x") == 6
    assert len(bench.host.posted) == 1  # there is no event for the end


def test_a_server_that_vanishes_ends_the_connection(bench: Bench) -> None:
    number = bench.dial(bench.upstream(lambda server: server.send(b"bye")))

    bench.run(lambda: bench.send(number, b"x") == 6)
    bench.run(lambda: bench.data(number) == b"bye")


@pytest.mark.slow
def test_a_server_that_does_not_answer_a_close_is_left(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dial_websocket, "CLOSE_SECONDS", 0.2)
    upstream = bench.upstream(listening)
    assert bench.shut(bench.dial(upstream)) == 0

    bench.run(upstream.ended.is_set)


def test_a_cell_that_is_gone_says_goodbye_and_leaves_nothing_behind(bench: Bench) -> None:
    upstream = bench.upstream(echo)
    numbers = [bench.dial(upstream) for _ in range(3)]
    bench.outbound.teardown_cell("one")

    assert [bench.send(number, b"x") for number in numbers] == [6, 6, 6]
    bench.run(upstream.ended.is_set)
    bench.run(lambda: not bench.outbound._sockets)


def test_a_host_that_stops_leaves_no_socket_behind(pulp_env: FakeHost) -> None:
    bench = Bench(pulp_env)
    upstream = bench.upstream(listening)
    bench.dial(upstream)
    bench.host.advance(0.01)
    bench.outbound.teardown()

    assert upstream.ended.wait(5)
    bench.close()


# What may be dialled ----------------------------------------------------------------------------------------------


def test_nothing_private_may_be_dialled_unless_somebody_says_so(pulp_env: FakeHost) -> None:
    bench = Bench(pulp_env, config={})
    upstream = bench.upstream(listening)

    assert bench.dial(upstream) == -4
    assert (upstream.connections, bench.guest.logged[-1].message) == (0, "websocket refused")
    own = StubGuest("own", {NAME: {"allow": [upstream.address]}})
    assert bench.dial(upstream, guest=own) > 0
    bench.close()


def test_the_operator_s_list_leaves_nothing_else(pulp_env: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WSOUT_ALLOW", "hub.example, relay.example:1")
    bench = Bench(pulp_env, config={})
    upstream = bench.upstream(listening)
    own = StubGuest("own", {NAME: {"allow": ["127.0.0.0/8"]}})

    assert bench.dial(f"ws://hub.example:{upstream.port}/") > 0
    assert bench.dial(f"ws://other.example:{upstream.port}/", guest=own) == -4
    assert "not in the list" in own.logged[-1].fields["reason"]
    assert bench.dial(f"ws://relay.example:{upstream.port}/") == -4
    bench.close()


def test_an_operator_s_list_that_names_nothing_stops_the_host(
    pulp_env: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Left out entry by entry, it would become the list that allows everything."""
    monkeypatch.setenv("WSOUT_ALLOW", "*.example, 10.0.0.0/99")
    with pytest.raises(ExtensionError, match="WSOUT_ALLOW"):
        WsOutbound(lookup).setup(pulp_env(NAME))


def test_a_manifest_that_allows_nothing_sensible_is_refused(bench: Bench) -> None:
    with pytest.raises(ExtensionError, match=r"10\.0\.0\.0/99"):
        bench.outbound.setup_cell(StubGuest("own", {NAME: {"allow": ["10.0.0.0/99"]}}).cell)


# With a guest -----------------------------------------------------------------------------------------------------


def test_what_is_no_request_is_a_code(pulp_cell: Callable[..., CellUnderTest]) -> None:
    cell = pulp_cell(guest(IMPORTS), declares=[NAME])
    cell.write(0, b"\xc1")
    assert cell.run("wsout_dial", 0, 0, 8000, 8004) == 1
    assert cell.run("wsout_dial", 0, 1, 8000, 8004) == 3
    for words in HOSTILE_RANGES.values():
        assert cell.run("wsout_dial", *words, 8000, 8004) == 2
        assert cell.run("wsout_send", 1, *words) == 2


def test_a_cell_that_does_not_declare_it_gets_99(pulp_cell: Callable[..., CellUnderTest]) -> None:
    cell = pulp_cell(guest(IMPORTS), declares=[])

    assert [cell.run(name, *[0] * words) for name, words in IMPORTS.items()] == [99] * 3


def test_a_cell_in_a_host_hears_what_it_says(puppets: Puppets) -> None:
    with Upstream(serving(echo)) as upstream:
        (cell,) = puppets(NAME, IMPORTS, config={NAME: {"allow": ["127.0.0.1"]}})
        number = cell.ask("wsout_dial", {"url": f"ws://{upstream.address}/"})["conn_id"]
        for word in (b"one", b"two", b"three"):
            assert cell("wsout_send", number, word) == (0, b"")
        heard = cell.wait_for(lambda events: sum(len(payload["data"]) for _kind, payload in events) == 11)
        assert b"".join(payload["data"] for _kind, payload in heard) == b"onetwothree"
        assert {kind for kind, _payload in heard} == {"wsout.frame"}
        assert cell("wsout_close", number) == (0, b"")
        assert cell("wsout_send", number, b"x") == (6, b"")
        assert upstream.ended.wait(5)


def test_threat_20_a_connection_of_before_a_restart_means_nothing_after_it(puppets: Puppets) -> None:
    with Upstream(serving(echo)) as upstream:
        (cell,) = puppets(NAME, IMPORTS, config={NAME: {"allow": ["127.0.0.1"]}})
        number = cell.ask("wsout_dial", {"url": f"ws://{upstream.address}/"})["conn_id"]
        cell.trap()
        assert cell("wsout_send", number, b"x") == (6, b"")
        assert upstream.ended.wait(5)
