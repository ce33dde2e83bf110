"""What becomes of packets when a cell does not keep up; the mailbox is the test's."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any

import msgspec
import pytest
from tests.capabilities.puppet import StubGuest

from pulp_runtime._net.dial_patience import DialFault
from pulp_runtime.abi.udp import UdpClose, UdpListen, UdpSend
from pulp_runtime.capabilities.network import udp_policy, udp_socket
from pulp_runtime.capabilities.network.udp import Udp, _set_buffer
from pulp_runtime.capabilities.network.udp_policy import Asker, Found, Policy, UdpSettings, destination, find
from pulp_runtime.capabilities.network.udp_socket import Held, Socket
from pulp_runtime.errors import Errno, HostError
from pulp_runtime.ext import Posted
from pulp_runtime.testing.host import FakeHost

HERE = {"send_allow": ["127.0.0.0/8"]}


class Bench:
    """The capability on a loop that the test moves, and a client's socket."""

    def __init__(self, env: FakeHost) -> None:
        self.env = env
        self.udp = Udp()
        self.udp.setup(env("network.udp", config=HERE))
        self.guest = StubGuest()
        self.udp.setup_cell(self.guest.cell)
        self.client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        env.advance(0.001)

    def listen(self, guest: StubGuest | None = None) -> tuple[int, tuple[str, int]]:
        answer = msgspec.msgpack.decode(self.udp.udp_listen(guest or self.guest, UdpListen(addr="127.0.0.1:0")))
        number = answer["socket_id"]
        return number, self.udp._sockets[number].sock.getsockname()

    def send(self, where: tuple[str, int], *packets: bytes) -> None:
        """Send, a few at a time, so that the system drops none."""
        for at in range(0, len(packets), 50):
            for packet in packets[at : at + 50]:
                self.client.sendto(packet, where)
            self.env.advance(0.001)

    @property
    def seen(self) -> list[bytes]:
        return [msgspec.msgpack.decode(event.payload)["payload"] for event in self.env.posted]

    def go_on(self) -> None:
        """Let the mailbox take everything from now on, and forget what it refused."""
        self.env.posted.clear()
        self.env.answer = Posted.ACCEPTED

    def dropped(self) -> list[tuple[int, str]]:
        told = [record for record in self.guest.logged if record.message == "udp packets dropped"]
        return [(record.fields["count"], record.fields["reason"]) for record in told]


@pytest.fixture
def bench(pulp_env: FakeHost) -> Iterator[Bench]:
    bench = Bench(pulp_env)
    yield bench
    pulp_env.close()
    bench.udp.teardown()
    bench.client.close()


def numbered(count: int) -> list[bytes]:
    return [str(number).encode() for number in range(count)]


def test_a_ring_keeps_the_newest_1024_packets_and_tells_what_it_dropped(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(udp_socket, "_TELL_SECONDS", 0)
    _number, where = bench.listen()
    bench.env.answer = Posted.FULL

    bench.send(where, *numbered(1030))
    bench.go_on()
    bench.env.advance(0.1)

    assert bench.seen == numbered(1030)[6:]
    assert sum(count for count, _reason in bench.dropped()) == 6
    assert {reason for _count, reason in bench.dropped()} == {"the cell does not keep up"}


def test_drops_are_told_once_a_second(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(udp_socket, "RING_PACKETS", 10)
    _number, where = bench.listen()
    bench.env.answer = Posted.FULL

    bench.send(where, *numbered(400))

    assert len(bench.dropped()) == 1


def test_the_rings_of_a_cell_are_bounded_in_bytes_too(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(udp_socket, "RING_BYTES", 1000)
    _one, first = bench.listen()
    _two, second = bench.listen()
    bench.env.answer = Posted.FULL

    bench.send(first, b"a" * 400, b"b" * 400, b"c" * 400)
    bench.send(second, b"d" * 300, b"e" * 200)  # there is room for neither beside the other ring, then for one
    bench.go_on()
    bench.env.advance(0.1)

    assert sorted(packet[:1] for packet in bench.seen) == [b"b", b"c", b"e"]
    assert bench.udp._policies["one"][1].bytes == 0


def test_the_sockets_have_their_turns(bench: Bench) -> None:
    _one, first = bench.listen()
    _two, second = bench.listen()
    bench.env.answer = Posted.FULL

    bench.send(first, b"a1", b"a2", b"a3")
    bench.send(second, b"b1", b"b2")
    bench.go_on()
    bench.env.advance(0.1)

    assert bench.seen == [b"a1", b"b1", b"a2", b"b2", b"a3"]


def test_a_full_mailbox_of_one_cell_holds_up_no_other(bench: Bench) -> None:
    other = StubGuest("two")
    bench.udp.setup_cell(other.cell)
    _one, first = bench.listen()
    _two, second = bench.listen(other)
    taken: list[str] = []

    def post(event: Any) -> Posted:
        if event.cell_id == "one":
            return Posted.FULL
        taken.append(event.cell_id)
        return Posted.ACCEPTED

    object.__setattr__(bench.udp._env, "post", post)
    bench.send(first, b"a1", b"a2")
    bench.send(second, b"b1", b"b2")

    assert taken == ["two", "two"]


def test_a_packet_the_mailbox_had_no_room_for_comes_when_an_event_is_dealt_with(bench: Bench) -> None:
    number, where = bench.listen()
    bench.env.answer = Posted.FULL
    bench.send(where, b"x")
    bench.udp._timer.cancel()  # type: ignore[union-attr]  # not by itself
    bench.go_on()
    bench.env.advance(0.2)
    assert bench.seen == []

    bench.udp.finalize(number)
    bench.env.advance(0.001)

    assert bench.seen == [b"x"]
    assert bench.env.posted[0].id == number


def test_an_event_too_large_for_the_cell_is_dropped_and_told(bench: Bench) -> None:
    _number, where = bench.listen()
    bench.env.answer = Posted.TOO_LARGE

    bench.send(where, b"x")
    bench.go_on()
    bench.send(where, b"y")

    assert bench.seen == [b"y"]
    assert bench.dropped() == [(1, "too large")]


def test_packets_for_a_cell_that_is_down_are_dropped(bench: Bench) -> None:
    _number, where = bench.listen()
    bench.env.answer = Posted.CLOSED

    bench.send(where, b"x")

    assert bench.dropped() == [(1, "closed")]


def test_what_waits_in_a_socket_that_is_closed_is_dropped(bench: Bench) -> None:
    number, where = bench.listen()
    bench.env.answer = Posted.FULL
    bench.send(where, b"x", b"y")

    bench.udp.udp_close(bench.guest.cell, UdpClose(socket_id=number))
    bench.go_on()
    bench.env.advance(0.1)

    assert bench.seen == []
    assert bench.udp._policies["one"][1].bytes == 0


def test_many_peers_and_destinations_are_forgotten_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(udp_socket, "_KNOWN", 2)
    number, where = bench.listen()

    for index in range(1, 6):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            peer.bind((f"127.0.0.{index}", 0))
            peer.sendto(b"x", where)
            bench.env.advance(0.001)
            request = UdpSend(socket_id=number, dst_addr=f"127.0.0.{index}:{peer.getsockname()[1]}")
            assert bench.udp.udp_send(bench.guest, request).bytes_sent == 0

    one = bench.udp._sockets[number]
    assert len(bench.seen) == 5
    assert max(len(one._peers), len(one._destinations)) <= 2


# Sending ----------------------------------------------------------------------------------------------------------


class Slow:
    """A socket whose buffer is full for a while."""

    family = socket.AF_INET

    def __init__(self, refusals: int) -> None:
        self.refusals = refusals
        self.sent: list[bytes] = []
        self._ready = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)  # can always be written to
        self.fileno = self._ready.fileno
        self.close = self._ready.close

    def sendto(self, payload: bytes, _where: tuple[Any, ...]) -> int:
        if self.refusals:
            self.refusals -= 1
            raise BlockingIOError
        self.sent.append(payload)
        return len(payload)


def slow(bench: Bench, refusals: int) -> tuple[Slow, int]:
    sock = Slow(refusals)
    bench.udp._sockets[99] = Socket(99, bench.guest.cell, sock, Policy.of(UdpSettings(**HERE)), Held())  # type: ignore[arg-type]
    return sock, 99


def test_a_send_waits_for_room_and_lets_others_work_meanwhile(bench: Bench) -> None:
    sock, number = slow(bench, 3)

    sent = bench.udp.udp_send(bench.guest, UdpSend(socket_id=number, dst_addr="127.0.0.1:9", payload=b"abc"))

    assert sent.bytes_sent == 3
    assert sock.sent == [b"abc"]
    assert bench.guest.waits == 1
    del bench.udp._sockets[99]
    sock.close()


def test_a_send_waits_no_longer_than_the_call_may_take(bench: Bench) -> None:
    sock, number = slow(bench, 1 << 60)
    bench.guest.seconds = 0.01

    with pytest.raises(HostError, match="stays full") as refused:
        bench.udp.udp_send(bench.guest, UdpSend(socket_id=number, dst_addr="127.0.0.1:9", payload=b"abc"))

    assert refused.value.code == Errno.FAILED
    del bench.udp._sockets[99]
    sock.close()


def test_a_send_that_needs_not_wait_keeps_its_worker(bench: Bench) -> None:
    number, where = bench.listen()

    bench.udp.udp_send(bench.guest, UdpSend(socket_id=number, dst_addr=f"127.0.0.1:{where[1]}", payload=b"x"))

    assert bench.guest.waits == 0


# Names ------------------------------------------------------------------------------------------------------------


def answering(*answers: str) -> Asker:
    """Return what answers every question about a name with these addresses."""
    return lambda _name: list(answers)


@pytest.fixture
def four() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        yield sock


def test_threat_32_the_address_that_was_checked_is_the_one_that_is_used(four: socket.socket) -> None:
    policy = Policy.of(UdpSettings())

    where = destination(policy, four, "flips.example", 9, answering("127.0.0.1", "fd00::1", "10.0.0.7", "10.0.0.8"))

    assert where == ("10.0.0.7", 9)


def test_a_name_none_of_whose_addresses_may_be_sent_to_is_12(four: socket.socket) -> None:
    with pytest.raises(HostError) as refused:
        destination(Policy.of(UdpSettings()), four, "public.example", 9, answering("192.0.2.1", "::1"))

    assert refused.value.code == udp_policy.REFUSED


def test_a_name_that_cannot_be_found_is_4(four: socket.socket) -> None:
    def nobody(_name: str) -> list[str]:
        raise DialFault("lookup: no such name")

    for name, asker in (
        ("nobody.example", nobody),
        ("nobody.example", answering()),
        ("ünï.example", answering("10.0.0.1")),
    ):
        with pytest.raises(HostError) as refused:
            destination(Policy.of(UdpSettings()), four, name, 9, asker)
        assert refused.value.code == Errno.FAILED


def test_a_link_local_address_has_the_interface_that_it_names() -> None:
    number = socket.if_nametoindex("lo")

    for zone in ("lo", str(number)):
        assert find(f"fe80::1%{zone}", answering()) == [Found(ip_address(f"fe80::1%{zone}"), number)]
    with pytest.raises(HostError, match="no such interface"):
        find("fe80::1%nowhere", answering())


# Set-up -----------------------------------------------------------------------------------------------------------


def test_before_it_is_set_up_every_function_is_10() -> None:
    udp, guest = Udp(), StubGuest()
    calls = [
        lambda: udp.udp_listen(guest, UdpListen(addr=":0")),  # type: ignore[arg-type]
        lambda: udp.udp_send(guest, UdpSend()),  # type: ignore[arg-type]
        lambda: udp.udp_close(guest.cell, UdpClose()),
    ]

    for call in calls:
        with pytest.raises(HostError) as refused:
            call()
        assert refused.value.code == Errno.UNAVAILABLE


@pytest.mark.parametrize(("asked", "least"), [(0, 262_144), (-1, 262_144), (8192, 8192), (1 << 62, 262_144)])
def test_the_receive_buffer_is_what_was_asked_for(four: socket.socket, asked: int, least: int) -> None:
    _set_buffer(StubGuest().cell, four, asked)

    assert four.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) >= least


def test_a_receive_buffer_that_cannot_be_set_is_only_logged() -> None:
    guest = StubGuest()

    class Stubborn:
        def setsockopt(self, *_arguments: int) -> None:
            raise OSError("no")

    _set_buffer(guest.cell, Stubborn(), 100)  # type: ignore[arg-type]

    assert [record.message for record in guest.logged] == ["udp receive buffer not set"]
