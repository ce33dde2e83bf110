"""`transport.ws.inbound` in a real host, between cells moved by hand and other people's clients."""

from __future__ import annotations

import logging
import shutil
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest
from tests.capabilities.conftest import Puppets
from tests.capabilities.puppet import Puppet, puppet_cell, until
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from pulp_runtime import Host
from pulp_runtime.capabilities.transport.ws_inbound import QUEUE_FULL
from pulp_runtime.errors import Errno, ExtensionError, OperationFailed
from pulp_runtime.ext import CellRef
from pulp_runtime.log import Log

NAME = "transport.ws.inbound"
IMPORTS = {"ws_register": 2, "ws_send": 2, "ws_close": 2}
SECONDS = 20.0
ECHO = Path(__file__).parents[3] / "examples" / "ws-echo" / "c"
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
HANDSHAKE = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Key": KEY, "Sec-WebSocket-Version": "13"}


def setting(*lines: str) -> tuple[str, ...]:
    """Return lines of a manifest that set something for the capability."""
    return (f'[settings."{NAME}"]', *lines)


class Stage:
    """Cells, and clients that leave when the test is over."""

    def __init__(self, cells: tuple[Puppet, ...], stack: ExitStack) -> None:
        self.cells = cells
        self.cell = cells[0]
        self._stack = stack

    def connect(self, path: str = "/ws", **options: Any) -> ClientConnection:
        url = self.cell.host.url.replace("http:", "ws:", 1) + path
        options = {"compression": None, "proxy": None, "open_timeout": SECONDS, "close_timeout": SECONDS, **options}
        return self._stack.enter_context(connect(url, **options))

    def raw(self, path: str = "/ws", **headers: str) -> socket.socket:
        """Send a handshake, and return the socket behind its answer, which must be 101."""
        client, status, _head = self.shake(path, **headers)
        assert status == 101
        return client

    def shake(
        self, path: str = "/ws", *, first: str = "GET {} HTTP/1.1", **headers: str
    ) -> tuple[socket.socket, int, str]:
        """Send a handshake; return the socket, the status and the head of its answer."""
        address = urlsplit(self.cell.host.url)
        client = socket.create_connection((address.hostname, address.port), SECONDS)
        self._stack.callback(client.close)
        named = {"Host": address.netloc, **HANDSHAKE, **{name.replace("_", "-"): v for name, v in headers.items()}}
        lines = [first.format(path), *(f"{name}: {value}" for name, value in named.items() if value)]
        client.sendall("\r\n".join([*lines, "\r\n"]).encode())
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += client.recv(1)
        return client, int(head.split()[1]), head.decode()

    def opened(self, path: str = "/ws", **options: Any) -> tuple[ClientConnection, int]:
        """Connect; return the client, and the number by which the cell knows it."""
        client = self.connect(path, **options)
        ((kind, event),) = self.cell.wait_for(bool)
        assert kind == "ws.open"
        return client, event["conn_id"]

    def send(self, number: int, payload: bytes | str | None, opcode: int = 1, cell: Puppet | None = None) -> int:
        return (cell or self.cell)("ws_send", {"conn_id": number, "opcode": opcode, "payload": payload})[0]

    def close(self, number: int, code: int = 0, reason: str = "", cell: Puppet | None = None) -> int:
        return (cell or self.cell)("ws_close", {"conn_id": number, "code": code, "reason": reason})[0]

    def closed(self) -> dict[str, Any]:
        """Return the next event, which must be the end of a connection."""
        ((kind, event),) = self.cell.wait_for(bool)
        assert kind == "ws.close"
        return event


Stages = Callable[..., Stage]


@pytest.fixture
def stage(puppets: Puppets) -> Iterator[Stages]:
    """Return `stage(names…, lines={name: (manifest line, …)})`; the first cell has `/ws`."""
    with ExitStack() as stack:

        def start(*names: str, **options: Any) -> Stage:
            cells = puppets(NAME, IMPORTS, *names, http_port="127.0.0.1:0", **options)
            assert cells[0]("ws_register", b"/ws")[0] == 0
            return Stage(cells, stack)

        yield start


def ended(client: ClientConnection) -> tuple[int, str] | None:
    """Return what the close frame said that the client got, None if it got none."""
    with pytest.raises(ConnectionClosed) as caught:
        client.recv(timeout=SECONDS)
    received = caught.value.rcvd
    return None if received is None else (received.code, received.reason)


# Routes -------------------------------------------------------------------------------------------------------------


def test_a_route_is_the_cells_and_may_be_registered_again(stage: Stages) -> None:
    cell = stage().cell

    assert cell("ws_register", b"/ws")[0] == Errno.OK
    assert cell("ws_register", b"/rooms/:room")[0] == Errno.OK
    assert cell("ws_register", b"/rooms/:other_name")[0] == Errno.OK, "the same shape"


@pytest.mark.parametrize(
    ("path", "code"),
    [
        (b"", Errno.EMPTY),
        (b"ws", Errno.FAILED),
        (b"\xff/ws", Errno.FAILED),
        (b"/\xff", Errno.FAILED),
        (b"/" + b"x" * 5_000, Errno.FAILED),
        (b"/:any", Errno.FAILED),
        (b"/*", Errno.FAILED),
    ],
)
def test_a_route_that_is_none_or_overlaps_one_of_the_cell_is_refused(stage: Stages, path: bytes, code: int) -> None:
    assert stage().cell("ws_register", path)[0] == code


def test_a_route_of_another_cell_is_refused(stage: Stages) -> None:
    other = stage("one", "two").cells[1]

    assert other("ws_register", b"/ws")[0] == Errno.FAILED
    assert other("ws_register", b"/:any")[0] == Errno.FAILED
    assert other("ws_register", b"/elsewhere")[0] == Errno.OK


def test_bytes_outside_memory_are_a_fault(stage: Stages) -> None:
    cell = stage().cell

    for function in IMPORTS:
        assert cell(function, 0xFFFF_FFF0, 100)[0] == Errno.FAULT
        assert cell(function, 0xFFFF_FFFF, 0xFFFF_FFFF)[0] == Errno.FAULT


def test_records_that_are_none_are_refused(stage: Stages) -> None:
    cell = stage().cell

    for function in ("ws_send", "ws_close"):
        assert cell(function, 0, 0)[0] == Errno.EMPTY
        assert cell(function, b"\xc1")[0] == Errno.DECODE
        assert cell(function, {"conn_id": -1})[0] == Errno.DECODE
        assert cell(function, {"conn_id": "one"})[0] == Errno.DECODE
    assert cell("ws_send", {"conn_id": 1, "opcode": 256})[0] == Errno.DECODE
    assert cell("ws_close", {"conn_id": 1, "code": 65_536})[0] == Errno.DECODE


def test_threat_43_without_the_declaration_every_websocket_function_answers_99(puppets: Puppets) -> None:
    (cell,) = puppets("transport.http.inbound", IMPORTS, http_port="127.0.0.1:0")

    assert cell("ws_register", b"/ws")[0] == Errno.UNDECLARED
    assert cell("ws_send", {"conn_id": 1, "opcode": 1, "payload": b""})[0] == Errno.UNDECLARED
    assert cell("ws_close", {"conn_id": 1})[0] == Errno.UNDECLARED


# Events -------------------------------------------------------------------------------------------------------------


def test_a_connection_opens_speaks_and_closes(stage: Stages) -> None:
    there = stage()
    client = there.connect("/ws?name=ada&name=bob&x=a+b", additional_headers={"x-token": "t"})
    client.send("hello")
    client.send(b"\x00\xff")
    client.send(["gr", "üß"])
    client.close(4000, "bye")
    opened, *frames, closed = there.cell.wait_for(lambda seen: len(seen) == 5)

    assert opened[0] == "ws.open"
    assert list(opened[1]) == ["conn_id", "path", "query", "headers"]
    assert (opened[1]["conn_id"], opened[1]["path"]) == (1, "/ws")
    assert opened[1]["query"] == {"name": "ada", "x": "a b"}
    assert opened[1]["headers"]["X-Token"] == "t"
    assert "Host" not in opened[1]["headers"]
    assert frames == [
        ("ws.frame", {"conn_id": 1, "opcode": 1, "payload": b"hello"}),
        ("ws.frame", {"conn_id": 1, "opcode": 2, "payload": b"\x00\xff"}),
        ("ws.frame", {"conn_id": 1, "opcode": 1, "payload": "grüß".encode()}),
    ]
    assert closed == ("ws.close", {"conn_id": 1, "code": 4000, "reason": "bye"})


def test_ids_count_from_1_over_all_cells(stage: Stages) -> None:
    there = stage("one", "two")
    one, two = there.cells
    assert two("ws_register", b"/two")[0] == 0
    numbers = []
    for path, cell in (("/ws", one), ("/two", two), ("/ws", one)):
        there.connect(path)
        numbers += [event["conn_id"] for _kind, event in cell.wait_for(bool)]

    assert numbers == [1, 2, 3]


def test_a_pattern_takes_every_path_it_matches(stage: Stages) -> None:
    there = stage()
    there.cell("ws_register", b"/rooms/:room/*rest")
    there.connect("/rooms/a%20b/c/d")
    ((_kind, event),) = there.cell.wait_for(bool)

    assert event["path"] == "/rooms/a b/c/d"
    assert "params" not in event


@pytest.mark.parametrize(
    ("last", "code", "reason"),
    [
        (b"\x88\x82\0\0\0\0" + struct.pack(">H", 1001), 1001, ""),
        (b"\x88\x80\0\0\0\0", 1005, ""),
        (b"", 65_535, "connection lost"),
        (b"\x88\x81\0\0\0\0\x03", 65_535, "close frame of one byte"),
    ],
)
def test_the_end_of_a_connection_is_told_with_the_clients_code_if_it_gave_one(
    stage: Stages, last: bytes, code: int, reason: str
) -> None:
    there = stage()
    client = there.raw()
    there.cell.wait_for(bool)
    client.sendall(last)
    client.shutdown(socket.SHUT_WR)

    assert there.closed() == {"conn_id": 1, "code": code, "reason": reason}


def test_a_message_past_the_limit_is_1009_and_told(stage: Stages) -> None:
    there = stage()
    client, number = there.opened()
    client.send(b"x" * 32_768)
    there.cell.wait_for(bool)
    client.send(b"x" * 32_769)

    assert ended(client) == (1009, "message longer than 32768 bytes")
    assert there.closed() == {"conn_id": number, "code": 65_535, "reason": "message longer than 32768 bytes"}


def test_the_limit_can_be_set(stage: Stages) -> None:
    there = stage("one", lines={"one": setting("message_bytes = 100_000")})
    client, _number = there.opened()
    client.send(b"x" * 100_000)
    ((_kind, event),) = there.cell.wait_for(bool)
    assert len(event["payload"]) == 100_000
    client.send(b"x" * 100_001)

    assert ended(client)[0] == 1009


def test_a_message_that_no_envelope_of_the_cell_holds_is_1009(stage: Stages) -> None:
    there = stage("one", lines={"one": ("[limits]", "message_bytes = 10_000", *setting("message_bytes = 100_000"))})
    client, _number = there.opened()
    client.send(b"x" * 20_000)

    assert ended(client) == (1009, "message longer than the cell takes")
    assert there.closed()["code"] == 65_535


# Sending and closing ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("opcode", "payload", "received"),
    [
        (1, b"hello", "hello"),
        (1, "grüß".encode(), "grüß"),
        (1, "a str is fine, too", "a str is fine, too"),
        (2, b"\x00\xff", b"\x00\xff"),
        (2, None, b""),
        (1, None, ""),
        (2, bytes(70_000), bytes(70_000)),
    ],
)
def test_what_a_cell_sends_arrives(stage: Stages, opcode: int, payload: Any, received: Any) -> None:
    there = stage()
    client, number = there.opened()

    assert there.send(number, payload, opcode) == Errno.OK
    assert client.recv(timeout=SECONDS) == received


@pytest.mark.parametrize(
    ("opcode", "payload"),
    [
        (0, b""),
        (3, b""),
        (8, b""),
        (255, b""),
        (1, b"\xff"),
        (2, bytes(16 * 1024 * 1024 + 1)),
    ],
)
def test_what_cannot_be_sent_is_refused_and_the_connection_stays(stage: Stages, opcode: int, payload: bytes) -> None:
    there = stage("one", lines={"one": ("[limits]", f"message_bytes = {64 << 20}")})
    client, number = there.opened()

    assert there.send(number, payload, opcode) == Errno.FAILED
    assert there.send(number, b"fine") == Errno.OK
    assert client.recv(timeout=SECONDS) == "fine"


@pytest.mark.parametrize("number", [0, 2, 1 << 63, (1 << 64) - 1])
def test_a_connection_that_never_was_is_refused(stage: Stages, number: int) -> None:
    there = stage()
    there.opened()

    assert there.send(number, b"x") == Errno.FAILED
    assert there.close(number) == Errno.FAILED


def test_a_connection_that_has_ended_is_refused(stage: Stages) -> None:
    there = stage()
    client, number = there.opened()
    client.close()
    there.closed()

    assert there.send(number, b"x") == Errno.FAILED
    assert there.close(number) == Errno.FAILED


def test_threat_20_a_connection_of_another_cell_is_refused_and_told(stage: Stages, records: Any) -> None:
    there = stage("one", "two")
    other = there.cells[1]
    client, number = there.opened()

    assert there.send(number, b"not yours", cell=other) == Errno.FAILED
    assert there.close(number, cell=other) == Errno.FAILED
    assert there.send(number, b"mine") == Errno.OK
    assert client.recv(timeout=SECONDS) == "mine"
    assert records.fields("websocket of another cell refused") == [{"cell": "two", "conn_id": number}] * 2


@pytest.mark.parametrize(("asked", "code"), [(0, 1000), (1000, 1000), (4999, 4999)])
def test_a_cell_closes_with_a_code_and_a_reason_and_is_told(stage: Stages, asked: int, code: int) -> None:
    there = stage()
    client, number = there.opened()
    got: list[Any] = []
    reader = threading.Thread(target=lambda: got.append(ended(client)))
    reader.start()

    assert there.close(number, asked, "enough") == Errno.OK
    reader.join()
    assert got == [(code, "enough")]
    assert there.closed() == {"conn_id": number, "code": 65_535, "reason": "closed by the cell"}


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (999, ""),
        (1004, ""),
        (1005, ""),
        (1006, ""),
        (1015, ""),
        (2999, ""),
        (5000, ""),
        (1000, "x" * 124),
        (0, "ü" * 62),
    ],
)
def test_a_close_that_may_not_be_sent_is_refused_and_the_connection_stays(
    stage: Stages, code: int, reason: str
) -> None:
    there = stage()
    client, number = there.opened()

    assert there.close(number, code, reason) == Errno.FAILED
    assert there.send(number, b"still here") == Errno.OK
    assert client.recv(timeout=SECONDS) == "still here"


def test_what_was_sent_before_a_close_arrives_before_it(stage: Stages) -> None:
    there = stage()
    client = there.raw()
    there.cell.wait_for(bool)
    for word in (b"one", b"two"):
        assert there.send(1, word) == Errno.OK
    closer = threading.Thread(target=there.close, args=(1, 1000, "bye"))
    closer.start()
    expected = b"\x81\x03one\x81\x03two\x88\x05\x03\xe8bye"
    data = b""
    while len(data) < len(expected):
        data += client.recv(100)
    client.close()
    closer.join()

    assert data == expected


@pytest.mark.slow
def test_a_client_that_does_not_answer_a_close_is_waited_for_and_cut_off(stage: Stages) -> None:
    there = stage("one", lines={"one": setting("close_seconds = 0.5")})
    client = there.raw()
    there.cell.wait_for(bool)
    began = time.monotonic()

    assert there.close(1) == Errno.FAILED
    assert time.monotonic() - began < 5.0
    assert there.closed() == {"conn_id": 1, "code": 65_535, "reason": "closed by the cell"}
    while client.recv(100):
        pass


# Room ---------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_frames_that_find_no_room_wait_and_none_is_lost(stage: Stages) -> None:
    there = stage("one", lines={"one": ("[limits]", "mailbox_events = 2")})
    clients = [there.connect() for _ in range(4)]
    for number in range(750):
        for client in clients:
            client.send(str(number))
    seen = there.cell.wait_for(lambda events: len(events) == 4 + 4 * 750)

    assert [kind for kind, _ in seen].count("ws.open") == 4
    for number in range(1, 5):
        own = [event["payload"] for kind, event in seen if kind == "ws.frame" and event["conn_id"] == number]
        assert own == [str(which).encode() for which in range(750)]


@pytest.mark.slow
def test_opens_and_closes_are_told_however_full_the_mailbox_is(stage: Stages) -> None:
    there = stage("one", lines={"one": ("[limits]", "mailbox_events = 1")})
    for _ in range(100):
        there.connect().close()
    seen = there.cell.wait_for(lambda events: len(events) == 200)

    for number in range(1, 101):
        assert [kind for kind, event in seen if event["conn_id"] == number] == ["ws.open", "ws.close"]


@pytest.mark.slow
def test_a_cell_that_is_busy_gets_everything_later(stage: Stages) -> None:
    there = stage("one", lines={"one": setting("close_seconds = 0.5")})
    silent = there.raw()
    there.cell.wait_for(bool)
    waiting = threading.Thread(target=there.close, args=(1,))  # the cell is in `ws_close` for a while
    waiting.start()
    client = there.connect()
    for number in range(300):
        client.send(str(number))
    client.close()
    waiting.join()
    seen = there.cell.wait_for(lambda events: len(events) == 303)
    silent.close()

    own = [(kind, event) for kind, event in seen if event["conn_id"] == 2]
    assert [kind for kind, _ in own] == ["ws.open", *["ws.frame"] * 300, "ws.close"]
    assert [event["payload"] for _, event in own[1:-1]] == [str(which).encode() for which in range(300)]


def fill(there: Stage, number: int) -> int:
    """Send to a client that does not read until the answer is not 0 any more; return it."""
    for _ in range(2_000):
        code = there.send(number, bytes(60_000), 2)
        if code:
            return code
    raise AssertionError("there is no end to what may wait")


@pytest.mark.slow
def test_a_slow_client_is_waited_for_until_the_deadline_of_the_call(stage: Stages) -> None:
    lines = ("call_timeout_ms = 1000", *setting("queue_bytes = 100_000"))
    there = stage("one", lines={"one": lines})
    client = there.raw()
    there.cell.wait_for(bool)

    assert fill(there, 1) == Errno.FAILED
    assert there.cell.host.status()["one"].restarts == 0
    client.settimeout(0.1)

    def there_is_room() -> bool:
        try:
            while client.recv(1 << 20):
                pass
        except TimeoutError:
            pass
        return there.send(1, b"room again") == Errno.OK

    until(there_is_room)


def test_messages_to_a_slow_client_can_be_dropped(stage: Stages) -> None:
    there = stage("one", lines={"one": setting("queue_bytes = 100_000", 'slow = "drop"')})
    there.raw()
    there.cell.wait_for(bool)

    assert fill(there, 1) == QUEUE_FULL == 15
    assert there.send(1, b"x") == QUEUE_FULL


@pytest.mark.slow
def test_a_slow_client_can_be_closed(stage: Stages) -> None:
    there = stage("one", lines={"one": setting("queue_bytes = 100_000", 'slow = "close"', "close_seconds = 0.5")})
    there.raw()
    there.cell.wait_for(bool)

    assert fill(there, 1) == Errno.FAILED
    assert there.send(1, b"x") == Errno.FAILED
    assert there.closed() == {"conn_id": 1, "code": 65_535, "reason": "too slow"}


# Handshakes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec_WebSocket_Version": "8"}, 400),
        ({"Sec_WebSocket_Key": "short"}, 400),
        ({"Content_Length": "0"}, 101),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": ""}, 101),
        ({"Upgrade": "WebSocket", "Connection": "keep-alive, UPGRADE"}, 101),
        ({"Upgrade": "h2c"}, 404),
        ({"Connection": "close"}, 404),
    ],
)
def test_what_a_handshake_is_answered(stage: Stages, headers: dict[str, str], status: int) -> None:
    _client, answered, head = stage().shake(**headers)

    assert answered == status, head


@pytest.mark.parametrize(
    ("first", "status"),
    [("POST {} HTTP/1.1", 404), ("GET {} HTTP/1.0", 426), ("GET {}/other HTTP/1.1", 404)],
)
def test_another_method_or_path_is_no_websocket(stage: Stages, first: str, status: int) -> None:
    assert stage().shake(first=first)[1] == status


def test_a_foreign_origin_can_be_allowed(stage: Stages, records: Any) -> None:
    there = stage("one", lines={"one": setting('origins = ["https://App.example"]')})

    assert there.shake(Origin="https://app.example")[1] == 101
    for _ in range(3):
        assert there.shake(Origin="https://evil.example")[1] == 403
    assert len(records.fields("websocket of a foreign origin refused")) == 1


def test_nothing_is_compressed_unless_the_manifest_says_so(stage: Stages) -> None:
    there = stage("one", "two", lines={"two": setting("deflate = true")})
    there.cells[1]("ws_register", b"/two")

    assert there.connect("/ws", compression="deflate").protocol.extensions == []
    client = there.connect("/two", compression="deflate")
    assert [extension.name for extension in client.protocol.extensions] == ["permessage-deflate"]
    client.send("again and " * 1_000)
    (_open, (_kind, event)) = there.cells[1].wait_for(lambda seen: len(seen) == 2)
    assert event["payload"] == b"again and " * 1_000
    assert there.send(event["conn_id"], b"and again " * 1_000, cell=there.cells[1]) == Errno.OK
    assert client.recv(timeout=SECONDS) == "and again " * 1_000
    assert there.send(event["conn_id"], b"short", cell=there.cells[1]) == Errno.OK
    assert client.recv(timeout=SECONDS) == "short"


def test_a_subprotocol_is_never_selected(stage: Stages) -> None:
    assert stage().connect(subprotocols=["chat"]).subprotocol is None


# Settings -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_silent_client_is_pinged_when_the_manifest_says_so(stage: Stages) -> None:
    client = stage("one", lines={"one": setting("ping_seconds = 0.5")}).raw()

    assert client.recv(2) == b"\x89\x00"
    while client.recv(2) == b"\x89\x00":  # it does not answer, and is cut off
        pass


@pytest.mark.slow
def test_an_idle_connection_is_closed_when_the_manifest_says_so(stage: Stages) -> None:
    there = stage("one", lines={"one": setting("idle_seconds = 0.5")})
    client, number = there.opened()

    assert ended(client) == (1001, "idle")
    assert there.closed() == {"conn_id": number, "code": 65_535, "reason": "idle"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("message_bytes", 0),
        ("message_bytes", (1 << 28) + 1),
        ("origins", "*"),
        ("ping_seconds", -1),
        ("idle_seconds", 86_401),
        ("close_seconds", 0),
        ("queue_bytes", 1_023),
        ("slow", "never"),
        ("deflate", "yes"),
        ("mailbox_frames", 0),
        ("unknown", 1),
    ],
)
def test_a_setting_that_is_none_is_named(name: str, value: object) -> None:
    from pulp_runtime.capabilities.transport.ws_inbound import WsInbound

    cell = CellRef("one", "one", Log("pulp"), manifest=Path("cell.toml"), tables={NAME: {name: value}})
    with pytest.raises(ExtensionError, match=name):
        WsInbound().setup_cell(cell)


# Life ---------------------------------------------------------------------------------------------------------------


def test_threat_47_connections_of_a_spent_instance_are_closed_and_their_ids_are_worth_nothing(stage: Stages) -> None:
    there = stage()
    client, number = there.opened()
    there.cell.trap()

    assert ended(client) == (1001, "cell shut down")
    assert there.cell("ws_register", b"/ws")[0] == Errno.OK
    until(lambda: ("ws.close", {"conn_id": number, "code": 65_535, "reason": "cell shut down"}) in there.cell.events())
    assert there.send(number, b"x") == Errno.FAILED
    again, new = there.opened()
    assert new == number + 1
    assert there.send(new, b"hello") == Errno.OK
    assert again.recv(timeout=SECONDS) == "hello"


def test_a_host_that_stops_says_goodbye(stage: Stages, puppets: Any) -> None:
    there = stage()
    client, _number = there.opened()
    stopping = threading.Thread(target=puppets.stop)
    stopping.start()

    assert ended(client) == (1001, "host shutting down")
    stopping.join()


def operate(host: Host, operation: str, cell: str) -> Any:
    assert host._thread is not None
    return host._thread.run(getattr(host.operations, operation)(cell))


def test_connections_survive_a_reload_and_a_version_that_does_not_start(tmp_path: Path, puppet_cache: Path) -> None:
    folder = tmp_path / "echo"
    shutil.copytree(ECHO, folder)
    manifest = folder / "pulp.cell.toml"
    text = manifest.read_text()
    with Host([folder], http_port="127.0.0.1:0", storage_root=tmp_path, cache=puppet_cache) as host:
        url = host.url.replace("http:", "ws:", 1) + "/echo"
        with connect(url, proxy=None) as client:
            for change, adopted in ((["message_bytes = 4"], True), (["message_bytes = -1"], False), ([], True)):
                manifest.write_text("\n".join((text, *(setting(*change) if change else ()))))
                if adopted:
                    operate(host, "reload", "ws-echo")
                else:
                    with pytest.raises(OperationFailed, match="message_bytes"):
                        operate(host, "reload", "ws-echo")
                client.send("still here")
                assert client.recv(timeout=SECONDS) == "still here"
                with connect(url, proxy=None) as other:  # settings are for new connections
                    other.send("four+")
                    if change:
                        assert ended(other)[0] == 1009
                    else:
                        assert other.recv(timeout=SECONDS) == "four+"
        assert host.status()["ws-echo"].restarts == 0


def test_a_version_without_routes_and_a_cell_that_is_stopped_say_goodbye(stage: Stages) -> None:
    there = stage()
    for operation in ("reload", "stop"):
        client, _number = there.opened()
        goodbye: list[Any] = []
        reader = threading.Thread(target=lambda: goodbye.append(ended(client)))  # noqa: B023  # joined below
        reader.start()
        operate(there.cell.host, operation, "one")
        reader.join()
        assert goodbye == [(1001, "cell shut down")]
        if operation == "reload":
            there.closed()
            assert there.cell("ws_register", b"/ws")[0] == Errno.OK


def test_a_cell_that_is_down_is_503(tmp_path: Path, puppet_cache: Path) -> None:
    cell = puppet_cell(tmp_path, "one", IMPORTS, (NAME,), 'restart = "never"')
    with Host([cell], http_port="127.0.0.1:0", storage_root=tmp_path, cache=puppet_cache) as host, ExitStack() as stack:
        puppet = Puppet(host, "one", IMPORTS)
        puppet("ws_register", b"/ws")
        there = Stage((puppet,), stack)
        client, _number = there.opened()
        with pytest.raises(Exception, match=r"trap|unreachable"):
            host.call("one", "trap")
        until(lambda: host.status()["one"].state != "ready")

        with pytest.raises(InvalidStatus, match="503"):
            there.connect()
        client.send("anybody there?")
        assert ended(client) == (1001, "cell shut down")


def test_routes_are_on_the_listener_that_the_cell_chose(tmp_path: Path, puppet_cache: Path) -> None:
    imports = {**IMPORTS, "http_listen": 2}
    cell = puppet_cell(tmp_path, "one", imports, (NAME, "transport.http.inbound"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with Host([cell], http_port="127.0.0.1:0", storage_root=tmp_path, cache=puppet_cache) as host, ExitStack() as stack:
        puppet = Puppet(host, "one", imports)
        puppet.ask("http_listen", {"addr": f"127.0.0.1:{port}"})
        assert puppet("ws_register", b"/ws")[0] == 0
        assert puppet("http_listen", {"addr": ":1"})[0] == Errno.NOT_FOUND, "it is too late"
        there = Stage((puppet,), stack)

        assert there.shake()[1] == 404
        stack.enter_context(connect(f"ws://127.0.0.1:{port}/ws", proxy=None))


def test_the_record_of_a_frame_is_what_the_guest_decodes(stage: Stages) -> None:
    there = stage()
    client, number = there.opened()
    client.send("x")
    ((_kind, event),) = there.cell.wait_for(bool)

    assert msgspec.msgpack.encode(event) == msgspec.msgpack.encode({"conn_id": number, "opcode": 1, "payload": b"x"})


def test_a_page_and_a_websocket_share_a_path(tmp_path: Path, puppet_cache: Path) -> None:
    imports = {**IMPORTS, "http_register": 2}
    cell = puppet_cell(tmp_path, "one", imports, (NAME, "transport.http.inbound"))
    with Host([cell], http_port="127.0.0.1:0", storage_root=tmp_path, cache=puppet_cache) as host, ExitStack() as stack:
        puppet = Puppet(host, "one", imports)
        puppet.ask("http_register", {"method": "GET", "path": "/ws"})
        assert puppet("ws_register", b"/ws")[0] == 0
        there = Stage((puppet,), stack)
        there.connect()
        assert there.shake(Upgrade="", Connection="")[1] == 500, "the puppet leaves requests unanswered"

        assert [kind for kind, _ in puppet.wait_for(lambda seen: len(seen) == 2)] == ["ws.open", "http.request"]


logging.getLogger("websockets").setLevel(logging.CRITICAL)
