"""`network.udp` in a real host, its packets through real sockets."""

from __future__ import annotations

import re
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from tests.capabilities.conftest import Puppets
from tests.capabilities.puppet import Puppet, until

from pulp_runtime import Host
from pulp_runtime.capabilities.network import udp
from pulp_runtime.testing import HOSTILE_RANGES, CellUnderTest, guest

NAME = "network.udp"
IMPORTS = {"udp_listen": 4, "udp_send": 4, "udp_close": 2}
HERE = {NAME: {"send_allow": ["127.0.0.0/8", "::1/128"]}}
ROOT = Path(__file__).parents[3]


def a_free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.fixture
def peer() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("127.0.0.1", 0))
        one.settimeout(20)
        yield one


def address(sock: socket.socket) -> str:
    return "{}:{}".format(*sock.getsockname())


def listening(cell: Puppet, addr: str = "", **more: int) -> tuple[int, int]:
    """Return the id and the port of a new socket."""
    port = a_free_port()
    return cell.ask("udp_listen", {"addr": addr or f"127.0.0.1:{port}", **more})["socket_id"], port


# Out and in -------------------------------------------------------------------------------------------------------


def test_a_cell_sends_and_is_told_how_much_went(puppets: Puppets, peer: socket.socket) -> None:
    (one,) = puppets(NAME, IMPORTS, config=HERE)
    number, port = listening(one)

    sent = one.ask("udp_send", {"socket_id": number, "dst_addr": address(peer), "payload": b"hello"})

    assert sent == {"bytes_sent": 5}
    assert peer.recvfrom(100) == (b"hello", ("127.0.0.1", port))


def test_a_datagram_is_an_event_with_its_source_and_its_time(puppets: Puppets, peer: socket.socket) -> None:
    (one,) = puppets(NAME, IMPORTS, config=HERE)
    number, port = listening(one)
    before = time.time_ns()

    peer.sendto(b"hi", ("127.0.0.1", port))

    ((kind, payload),) = one.wait_for(lambda events: len(events) == 1)
    assert kind == "udp.packet"
    assert list(payload) == ["socket_id", "src_addr", "payload", "received_at"]
    assert payload["socket_id"] == number
    assert payload["src_addr"] == address(peer)
    assert payload["payload"] == b"hi"
    assert before <= payload["received_at"] <= time.time_ns()


def test_every_datagram_is_an_event_of_its_own_in_order(puppets: Puppets, peer: socket.socket) -> None:
    (one,) = puppets(NAME, IMPORTS, config=HERE)
    _number, port = listening(one)

    for number in range(300):  # more than a mailbox holds
        peer.sendto(struct.pack("<I", number), ("127.0.0.1", port))
        if number % 50 == 49:
            time.sleep(0.002)  # the system's own buffer is small

    events = one.wait_for(lambda events: len(events) >= 300)
    assert [struct.unpack("<I", payload["payload"])[0] for _kind, payload in events] == list(range(300))


@pytest.mark.parametrize("size", [0, 1, 1472, 65_507])
def test_a_datagram_of_any_size_goes_out_and_comes_in(puppets: Puppets, peer: socket.socket, size: int) -> None:
    (one,) = puppets(NAME, IMPORTS, config=HERE)
    number, port = listening(one, buffer_size=1 << 20)
    data = bytes(index % 251 for index in range(size))

    assert one.ask("udp_send", {"socket_id": number, "dst_addr": address(peer), "payload": data})["bytes_sent"] == size
    assert peer.recv(70_000) == data
    peer.sendto(data, ("127.0.0.1", port))

    ((_kind, payload),) = one.wait_for(bool)
    assert payload["payload"] == data


def test_all_interfaces_are_ipv4_and_ipv6(puppets: Puppets, peer: socket.socket) -> None:
    (one,) = puppets(NAME, IMPORTS, config=HERE)
    number, port = listening(one, f":{(port := a_free_port())}")[0], port
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as other:
        other.bind(("::1", 0))
        other.settimeout(20)
        other_port = other.getsockname()[1]

        peer.sendto(b"four", ("127.0.0.1", port))
        other.sendto(b"six", ("::1", port))

        events = one.wait_for(lambda events: len(events) == 2)
        assert {payload["src_addr"]: payload["payload"] for _kind, payload in events} == {
            address(peer): b"four",
            f"[::1]:{other_port}": b"six",
        }
        for dst in (address(peer), f"[::1]:{other_port}"):
            assert one.ask("udp_send", {"socket_id": number, "dst_addr": dst, "payload": b"back"})["bytes_sent"] == 4
        assert (peer.recv(10), other.recv(10)) == (b"back", b"back")


def test_a_name_is_looked_up(puppets: Puppets, peer: socket.socket) -> None:
    (one,) = puppets(NAME, IMPORTS, config=HERE)
    port = a_free_port()
    number = one.ask("udp_listen", {"addr": f"localhost:{port}"})["socket_id"]
    family = next(item[0] for item in socket.getaddrinfo("localhost", port, type=socket.SOCK_DGRAM))
    with socket.socket(family, socket.SOCK_DGRAM) as named:
        named.bind(("localhost", 0))
        named.settimeout(20)

        one.ask("udp_send", {"socket_id": number, "dst_addr": f"localhost:{named.getsockname()[1]}", "payload": b"x"})

        assert named.recv(10) == b"x"


def test_a_socket_that_is_closed_frees_its_port_at_once(puppets: Puppets, peer: socket.socket) -> None:
    (one,) = puppets(NAME, IMPORTS, config=HERE)
    number, port = listening(one)
    assert one("udp_listen", {"addr": f"127.0.0.1:{port}"})[0] == 4

    assert one("udp_close", {"socket_id": number}) == (0, b"")

    assert one.ask("udp_listen", {"addr": f"127.0.0.1:{port}"}) == {"socket_id": number + 1}
    peer.sendto(b"for the new one", ("127.0.0.1", port))
    assert one.wait_for(bool)[0][1]["socket_id"] == number + 1
    assert one("udp_send", {"socket_id": number, "dst_addr": address(peer), "payload": b""})[0] == 4
    assert one("udp_close", {"socket_id": number})[0] == 4


def test_the_id_is_eight_bytes_wide(puppets: Puppets) -> None:
    (one,) = puppets(NAME, IMPORTS)

    assert one("udp_listen", {"addr": "127.0.0.1:0"}) == (0, b"\x81\xa9socket_id\xcf\0\0\0\0\0\0\0\x01")


def test_the_example_sends_every_datagram_back(
    tmp_path: Path, peer: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = a_free_port()
    folder = ROOT / "examples" / "udp-echo" / "c"
    manifest = (folder / "pulp.cell.toml").read_text()
    assert 'address = "127.0.0.1:9000"' in manifest
    (tmp_path / "udp_echo.wasm").write_bytes((folder / "udp_echo.wasm").read_bytes())
    (tmp_path / "pulp.cell.toml").write_text(manifest.replace("127.0.0.1:9000", f"127.0.0.1:{port}"))
    monkeypatch.setenv("UDP_SEND_ALLOW", "127.0.0.1/32")

    with Host([tmp_path], storage_root=tmp_path / "data"):
        for data in (b"hello", b"", bytes(1000)):
            peer.sendto(data, ("127.0.0.1", port))
            assert peer.recv(2000) == data


# Whose it is ------------------------------------------------------------------------------------------------------


def test_threat_47_a_socket_of_another_cell_is_refused_and_told(puppets: Puppets, peer: socket.socket) -> None:
    one, two = puppets(NAME, IMPORTS, "one", "two", config=HERE)
    number, port = listening(one)
    peer.setblocking(False)

    assert two("udp_send", {"socket_id": number, "dst_addr": address(peer), "payload": b"x"})[0] == 11
    assert two("udp_close", {"socket_id": number})[0] == 11

    peer.sendto(b"mine", ("127.0.0.1", port))
    assert one.wait_for(bool)[0][1]["payload"] == b"mine"
    assert two.events() == []
    with pytest.raises(BlockingIOError):
        peer.recv(10)


def test_a_cell_that_crashes_loses_its_sockets_and_nobody_else_s(puppets: Puppets, peer: socket.socket) -> None:
    one, two = puppets(NAME, IMPORTS, "one", "two", config=HERE)
    number, port = listening(one)
    other, other_port = listening(two)

    one.trap()

    assert one("udp_send", {"socket_id": number, "dst_addr": address(peer), "payload": b"x"})[0] == 4
    assert one("udp_listen", {"addr": f"127.0.0.1:{port}"})[0] == 0
    peer.sendto(b"still here", ("127.0.0.1", other_port))
    assert two.wait_for(bool)[0][1]["socket_id"] == other


def test_when_the_host_stops_every_port_is_free(puppets: Puppets) -> None:
    (one,) = puppets(NAME, IMPORTS)
    _number, port = listening(one)

    puppets.stop()  # type: ignore[attr-defined]

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as again:
        again.bind(("127.0.0.1", port))


# Codes ------------------------------------------------------------------------------------------------------------

REQUEST, OUTS, OUTSIDE = 0, (64, 68), 65_533


def run(cell: CellUnderTest, name: str, request: object, outs: tuple[int, ...] = OUTS) -> int:
    data = request if isinstance(request, bytes) else msgspec.msgpack.encode(request)
    cell.write(REQUEST, data)
    return cell.run(name, REQUEST, len(data), *(() if name == "udp_close" else outs))


@pytest.mark.parametrize("name", IMPORTS)
@pytest.mark.parametrize(
    ("request_", "code"),
    [
        pytest.param(b"", 1, id="nothing is 1"),
        pytest.param(b"\xc1", 3, id="no messagepack is 3"),
        pytest.param("9000", 3, id="no map is 3"),
        pytest.param({"addr": 5, "socket_id": "x"}, 3, id="a wrong type is 3"),
        pytest.param({"addr": [], "socket_id": -1}, 3, id="a number below zero is 3"),
        pytest.param({}, 4, id="nothing in it is 4"),
    ],
)
def test_a_request_that(pulp_cell, name: str, request_: object, code: int) -> None:
    cell = pulp_cell(guest(udp.capability()), declares=[NAME])

    assert run(cell, name, request_) == code


@pytest.mark.parametrize("name", IMPORTS)
@pytest.mark.parametrize("words", HOSTILE_RANGES.values(), ids=HOSTILE_RANGES.keys())
def test_a_request_outside_memory_is_2(pulp_cell, name: str, words: tuple[int, int]) -> None:
    cell = pulp_cell(guest(udp.capability()), declares=[NAME])

    assert cell.run(name, *words, *(() if name == "udp_close" else OUTS)) == 2


@pytest.mark.parametrize(
    ("alloc", "outs", "code"),
    [
        pytest.param("refuse", OUTS, 7, id="no memory for it is 7"),
        pytest.param("outside", OUTS, 8, id="a buffer outside memory is 8"),
        pytest.param("bump", (OUTSIDE, 68), 8, id="an address that cannot be written is 8"),
        pytest.param("bump", (64, OUTSIDE), 8, id="a length that cannot be written is 8"),
    ],
)
def test_an_answer_without_a_place(pulp_cell, alloc: str, outs: tuple[int, int], code: int) -> None:
    cell = pulp_cell(guest(udp.capability(), alloc=alloc), declares=[NAME])

    assert run(cell, "udp_listen", {"addr": "127.0.0.1:0"}, outs) == code


@pytest.mark.parametrize("name", IMPORTS)
def test_without_the_capability_every_function_is_99(pulp_cell, name: str) -> None:
    assert run(pulp_cell(guest(IMPORTS)), name, {"addr": ":0"}) == 99


@pytest.mark.parametrize(
    "addr",
    ["", "9000", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:65536", "::1:0", "192.0.2.1:0", "nul\0:0", "x" * 300 + ":0"],
)
def test_an_address_that_cannot_be_bound_is_4(puppets: Puppets, addr: str) -> None:
    (one,) = puppets(NAME, IMPORTS)

    assert one("udp_listen", {"addr": addr}) == (4, b"")


@pytest.mark.parametrize("dst", ["", ":9", "127.0.0.1:0", "127.0.0.1", "[::1]:9", "a\0b:9", "x" * 300 + ":9"])
def test_a_destination_that_cannot_be_is_4(puppets: Puppets, dst: str) -> None:
    (one,) = puppets(NAME, IMPORTS, config=HERE)
    number, _port = listening(one)  # IPv4 only

    assert one("udp_send", {"socket_id": number, "dst_addr": dst, "payload": b"x"}) == (4, b"")


def test_a_datagram_that_is_too_long_is_4(puppets: Puppets, peer: socket.socket) -> None:
    (one,) = puppets(NAME, IMPORTS, config=HERE)
    number, _port = listening(one)

    assert one("udp_send", {"socket_id": number, "dst_addr": address(peer), "payload": bytes(65_508)})[0] == 4


# The guard --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "127.1", "0x7f000001", "2130706433", "0177.0.0.1", "localhost", "0.0.0.0"),
        *(
            "[::1]",
            "[::]",
            "[::ffff:127.0.0.1]",
            "[fe80::1]",
            "[ff02::1]",
            "[64:ff9b::7f00:1]",
            "[2001:4860:4860::8888]",
        ),
        *("169.254.169.254", "100.64.0.1", "192.0.0.192", "224.0.0.1", "255.255.255.255", "8.8.8.8", "172.32.0.1"),
    ],
)
def test_threat_32_a_datagram_goes_to_private_networks_only(puppets: Puppets, peer: socket.socket, host: str) -> None:
    (one,) = puppets(NAME, IMPORTS)
    number = one.ask("udp_listen", {"addr": ":0"})["socket_id"]
    canary = peer.getsockname()[1]
    peer.setblocking(False)

    assert one("udp_send", {"socket_id": number, "dst_addr": f"{host}:{canary}", "payload": b"x"}) == (12, b"")
    time.sleep(0.01)
    with pytest.raises(BlockingIOError):
        peer.recv(10)


def test_the_operator_says_where_to_in_the_environment(
    puppets: Puppets, peer: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UDP_SEND_ALLOW", " 10.0.0.0/8, 127.0.0.1/32 ,")
    (one,) = puppets(NAME, IMPORTS)
    number, _port = listening(one)

    assert one("udp_send", {"socket_id": number, "dst_addr": address(peer), "payload": b"x"})[0] == 0
    assert one("udp_send", {"socket_id": number, "dst_addr": "127.0.0.2:9", "payload": b"x"})[0] == 12


def test_a_manifest_leaves_a_cell_less_than_the_operator_allows_and_never_more(
    puppets: Puppets, peer: socket.socket
) -> None:
    lines = {
        "less": ('[settings."network.udp"]', 'send_allow = ["127.0.0.2/32"]', 'bind_allow = ["127.0.0.1"]'),
        "more": ('[settings."network.udp"]', 'send_allow = ["0.0.0.0/0"]', 'bind_allow = ["0.0.0.0/0", "::/0"]'),
    }
    less, more = puppets(NAME, IMPORTS, "less", "more", lines=lines, config=HERE)
    here, _port = listening(less)

    assert less("udp_send", {"socket_id": here, "dst_addr": address(peer), "payload": b"x"})[0] == 12
    assert less("udp_listen", {"addr": "127.0.0.2:0"})[0] == 12
    there, _port = listening(more)
    assert more("udp_send", {"socket_id": there, "dst_addr": "192.168.0.1:9", "payload": b"x"})[0] == 12
    assert more("udp_listen", {"addr": "192.0.2.1:9"})[0] == 12


@pytest.mark.parametrize(
    ("allow", "addr", "code"),
    [
        pytest.param(None, "127.0.0.2:0", 0, id="loopback may always be bound"),
        pytest.param(None, "192.0.2.1:9", 12, id="a specific address may not"),
        pytest.param(None, "[::ffff:192.0.2.1]:9", 12, id="also when it is mapped"),
        pytest.param("192.0.2.0/24", "192.0.2.1:9", 4, id="it may when the operator says so, if it is there"),
        pytest.param("192.0.2.0/24", "0.0.0.0:{port}", 12, id="then all interfaces may not"),
        pytest.param("192.0.2.0/24", ":{port}", 12, id="neither with nothing before the colon"),
        pytest.param("192.0.2.0/24", "0.0.0.0:0", 0, id="but with port 0"),
        pytest.param(None, "0.0.0.0:{port}", 0, id="all interfaces may be bound"),
        pytest.param(None, "[::]:{port}", 0, id="those of IPv6 too"),
    ],
)
def test_what_may_be_bound(
    puppets: Puppets, monkeypatch: pytest.MonkeyPatch, allow: str | None, addr: str, code: int
) -> None:
    if allow:
        monkeypatch.setenv("UDP_BIND_ALLOW", allow)
    (one,) = puppets(NAME, IMPORTS)

    assert one("udp_listen", {"addr": addr.format(port=a_free_port())})[0] == code


@pytest.mark.parametrize("allow", ["0.0.0.0", "::"])
def test_where_only_one_family_may_be_bound_all_interfaces_are_of_that_family(
    puppets: Puppets, monkeypatch: pytest.MonkeyPatch, peer: socket.socket, allow: str
) -> None:
    monkeypatch.setenv("UDP_BIND_ALLOW", allow)
    (one,) = puppets(NAME, IMPORTS, config=HERE)
    port = a_free_port()
    one.ask("udp_listen", {"addr": f":{port}"})

    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as other:
        peer.sendto(b"four", ("127.0.0.1", port))
        other.sendto(b"six", ("::1", port))
        peer.sendto(b"four", ("127.0.0.1", port))
        other.sendto(b"six", ("::1", port))
        events = one.wait_for(lambda events: len(events) == 2)

    assert {payload["payload"] for _kind, payload in events} == {b"four" if allow == "0.0.0.0" else b"six"}


def test_sockets_are_counted_by_cell_and_in_all(puppets: Puppets) -> None:
    limits = {NAME: {"max_sockets_per_cell": 2, "max_sockets_total": 3}}
    one, two = puppets(NAME, IMPORTS, "one", "two", config=limits)

    assert [one("udp_listen", {"addr": ":0"})[0] for _ in range(3)] == [0, 0, 4]
    assert [two("udp_listen", {"addr": ":0"})[0] for _ in range(2)] == [0, 4]
    assert one("udp_close", {"socket_id": 1})[0] == 0
    assert two("udp_listen", {"addr": ":0"})[0] == 0
    assert one("udp_listen", {"addr": ":0"})[0] == 4


def test_a_refusal_is_told_to_the_operator(puppets: Puppets, records) -> None:
    (one,) = puppets(NAME, IMPORTS)
    number, _port = listening(one)

    one("udp_send", {"socket_id": number, "dst_addr": "127.0.0.1:9", "payload": b"x"})
    one("udp_listen", {"addr": "192.0.2.1:9"})

    (sent,) = records.fields("udp datagram refused")
    assert sent["cell"] == "one"
    assert re.search(r"127\.0\.0\.1: not in send_allow", str(sent["reason"]))
    (bound,) = records.fields("udp socket refused")
    assert bound["addr"] == "192.0.2.1:9"


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"send_allow": ["everywhere"]}, "'everywhere' is no address and no network such as 10.0.0.0/8"),
        ({"bind_allow": ["localhost"]}, "'localhost' is no address"),
        ({"max_sockets_total": -1}, "max_sockets_total"),
        ({"sockets": 1}, "unknown field `sockets`"),
    ],
)
def test_a_wrong_setting_of_the_operator_stops_the_host(puppets: Puppets, config: dict[str, object], said: str) -> None:
    with pytest.raises(Exception, match=r"network\.udp") as raised:
        puppets(NAME, IMPORTS, config={NAME: config})

    assert said in str(raised.value)


def test_a_wrong_variable_is_named(puppets: Puppets, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UDP_MAX_SOCKETS_PER_CELL", "many")

    with pytest.raises(Exception, match=r"\$UDP_MAX_SOCKETS_PER_CELL: Expected `int`"):
        puppets(NAME, IMPORTS)


@pytest.mark.parametrize("line", ['send_allow = ["x"]', "send_allow = 1", "ports = [9]"])
def test_a_wrong_setting_of_a_manifest_fails_that_cell_alone(puppets: Puppets, line: str) -> None:
    one, _bad = puppets(NAME, IMPORTS, "one", "bad", lines={"bad": ('[settings."network.udp"]', line)})

    status = one.host.status()
    assert status["bad"].state == "failed"
    assert "network.udp" in status["bad"].reason
    assert status["one"].state == "ready"
    assert until(lambda: one("udp_listen", {"addr": ":0"})[0] == 0)
