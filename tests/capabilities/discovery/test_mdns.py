"""`discovery.mdns` on the loopback interface, with another responder beside it."""

from __future__ import annotations

import secrets
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
import zeroconf
from tests.capabilities.conftest import Puppets
from tests.capabilities.puppet import Puppet, StubGuest, until
from zeroconf import IPVersion, ServiceBrowser, ServiceInfo, ServiceStateChange, Zeroconf

from pulp_runtime.abi.mdns import MdnsAnnounce, MdnsBrowse
from pulp_runtime.capabilities.discovery import mdns
from pulp_runtime.capabilities.discovery.mdns import (
    NAME,
    Mdns,
    MdnsSettings,
    address,
    capability,
    own_addresses,
    plain_service,
)
from pulp_runtime.errors import Errno, ExtensionError, HostError
from pulp_runtime.testing import HOSTILE_RANGES, CellUnderTest, guest
from pulp_runtime.testing.host import FakeHost

IMPORTS = {"mdns_browse": 4, "mdns_announce": 2}
HERE = {NAME: {"interfaces": ["127.0.0.1"]}}
KIND = "_pulptest._tcp"


class Neighbour:
    """Another machine, as far as packets go."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.zeroconf = Zeroconf(interfaces=["127.0.0.1"], ip_version=IPVersion.V4Only)
        self.there: dict[str, ServiceInfo | None] = {}
        self._browser = ServiceBrowser(self.zeroconf, f"{kind}.local.", handlers=[self._heard])

    def _heard(self, zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        if state_change is ServiceStateChange.Removed:
            self.there.pop(name, None)
        else:
            self.there[name] = None

    def offer(self, instance: str, port: int, *addresses: str, kind: str = "") -> None:
        kind = kind or self.kind
        info = ServiceInfo(
            f"{kind}.local.",
            f"{instance}.{kind}.local.",
            port=port,
            parsed_addresses=list(addresses or ("127.0.0.1",)),
            server=f"host{self.kind[1:10]}-{port}.local.",
        )
        self.zeroconf.register_service(info, cooperating_responders=True)  # no need to ask first

    def ask(self, instance: str) -> ServiceInfo:
        info = ServiceInfo(f"{self.kind}.local.", f"{instance}.{self.kind}.local.")
        assert info.request(self.zeroconf, 3000)
        return info

    def close(self) -> None:
        self.zeroconf.close()


@pytest.fixture(scope="module")
def multicast() -> None:
    """Skip, and say so, where two sockets of one machine cannot hear each other over multicast."""
    group, port = "224.0.0.251", 53_530
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as hears,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as says,
    ):
        try:
            hears.bind(("", port))
            wanted = socket.inet_aton(group) + socket.inet_aton("127.0.0.1")
            hears.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, wanted)
            hears.settimeout(1)
            says.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
            says.sendto(b"x", (group, port))
            hears.recv(1)
        except OSError as error:
            pytest.skip(f"NOT CHECKED: services on the network, because multicast on loopback fails here: {error}")


@pytest.fixture
def kind() -> str:
    """A service that no other test offers meanwhile."""
    return f"_t{secrets.token_hex(4)}._tcp"


@pytest.fixture
def neighbour(multicast: None, kind: str) -> Iterator[Neighbour]:
    one = Neighbour(kind)
    yield one
    one.close()


def complete(cell: Puppet, kind: str) -> list[dict[str, str]]:
    """Return the two services that there are; a busy machine may need more than one look."""

    def look() -> list[dict[str, str]]:
        found: list[dict[str, str]] = cell.ask("mdns_browse", {"service": kind, "timeout_ms": 1500})
        return found if len(found) > 1 else []

    return until(look)


# Found and offered ------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_cell_finds_what_a_neighbour_offers(puppets: Puppets, neighbour: Neighbour, kind: str) -> None:
    (one,) = puppets(NAME, IMPORTS, config=HERE)
    neighbour.offer("Röhre 7.b", 4711)
    neighbour.offer("another", 80, "fd00::7", "fe80::1")
    neighbour.offer("elsewhere", 81, kind="_pulpother._tcp")

    found = complete(one, kind)

    assert found == [
        {"name": "Röhre 7.b", "addr": "http://127.0.0.1:4711"},
        {"name": "another", "addr": "http://[fd00::7]:80"},
    ]


@pytest.mark.slow
def test_a_neighbour_finds_what_a_cell_offers_until_the_cell_goes(
    puppets: Puppets, neighbour: Neighbour, kind: str
) -> None:
    one, two = puppets(NAME, IMPORTS, "one", "two", config=HERE)

    assert one("mdns_announce", {"instance": "from one", "service": kind, "port": 1234}) == (0, b"")
    assert two("mdns_announce", {"instance": "from two", "service": kind, "port": 1235}) == (0, b"")

    info = neighbour.ask("from one")
    assert (info.port, info.parsed_addresses()) == (1234, ["127.0.0.1"])
    until(lambda: len(neighbour.there) == 2)
    found = complete(two, kind)
    assert [item["name"] for item in found] == ["from one", "from two"]
    one.trap()
    until(lambda: list(neighbour.there) == [f"from two.{kind}.local."])
    assert one("mdns_announce", {"instance": "from one", "service": kind, "port": 1236}) == (0, b"")
    until(lambda: len(neighbour.there) == 2)
    puppets.stop()  # type: ignore[attr-defined]
    until(lambda: not neighbour.there)


@pytest.mark.slow
def test_a_name_that_is_taken_is_4(puppets: Puppets, neighbour: Neighbour, kind: str, records) -> None:
    one, two = puppets(NAME, IMPORTS, "one", "two", config=HERE)
    neighbour.offer("taken", 80)
    # Two responders of one machine share a port, so an answer to one of them alone may get lost: hear it beforehand.
    until(lambda: one.ask("mdns_browse", {"service": kind, "timeout_ms": 1200}))

    assert one("mdns_announce", {"instance": "taken", "service": kind, "port": 1})[0] == 4
    assert one("mdns_announce", {"instance": "mine", "service": kind, "port": 1})[0] == 0
    assert two("mdns_announce", {"instance": "mine", "service": kind, "port": 1})[0] == 4
    assert one("mdns_announce", {"instance": "MINE", "service": kind, "port": 1})[0] == 4
    reasons = [str(told["reason"]) for told in records.fields("mdns service not announced")]
    assert "NonUniqueName" in reasons[0]


@pytest.mark.slow
def test_browsing_takes_the_whole_window_and_leaves_time_to_use_the_answer(
    puppets: Puppets, multicast: None, kind: str
) -> None:
    one, two = puppets(NAME, IMPORTS, "one", "two", config=HERE, lines={"two": ("call_timeout_ms = 1000",)})

    began = time.monotonic()
    assert one.ask("mdns_browse", {"service": kind, "timeout_ms": 300}) == []
    assert 0.3 <= time.monotonic() - began < 3
    began = time.monotonic()
    assert two.ask("mdns_browse", {"service": kind, "timeout_ms": 10_000}) == []
    assert time.monotonic() - began < 1


# Codes ------------------------------------------------------------------------------------------------------------


def run(cell: CellUnderTest, name: str, request: object) -> int:
    data = request if isinstance(request, bytes) else msgspec.msgpack.encode(request)
    cell.write(1024, data)
    return cell.run(name, 1024, len(data), *((64, 68) if name == "mdns_browse" else ()))


@pytest.mark.parametrize(
    ("name", "request_", "code"),
    [
        ("mdns_announce", b"", 1),
        ("mdns_browse", b"\xc1", 3),
        ("mdns_announce", {"port": "x"}, 3),
        ("mdns_browse", {"service": "http"}, 4),
        ("mdns_browse", {"service": "_x._tcp.example"}, 4),
        ("mdns_announce", {"instance": "", "port": 1}, 4),
        ("mdns_announce", {"instance": "x" * 64, "port": 1}, 4),
        ("mdns_announce", {"instance": "a\nb", "port": 1}, 4),
        ("mdns_announce", {"instance": "a", "port": 0}, 4),
        ("mdns_announce", {"instance": "a", "port": 65_536}, 4),
        ("mdns_announce", {"instance": "a", "service": "_x", "port": 1}, 4),
        pytest.param("mdns_browse", b"", 10, id="an empty browse is good, but nothing runs yet"),
        pytest.param("mdns_browse", {}, 10, id="so is one with nothing in it"),
        pytest.param("mdns_announce", {"instance": "a", "port": 1}, 10, id="and an announcement"),
    ],
)
def test_a_request(pulp_cell: Callable[..., CellUnderTest], name: str, request_: object, code: int) -> None:
    assert run(pulp_cell(guest(capability()), declares=[NAME]), name, request_) == code


@pytest.mark.parametrize("name", IMPORTS)
@pytest.mark.parametrize("words", HOSTILE_RANGES.values(), ids=HOSTILE_RANGES.keys())
def test_a_request_outside_memory_is_2(
    pulp_cell: Callable[..., CellUnderTest], name: str, words: tuple[int, int]
) -> None:
    cell = pulp_cell(guest(capability()), declares=[NAME])

    assert cell.run(name, *words, *((64, 68) if name == "mdns_browse" else ())) == 2


@pytest.mark.parametrize("name", IMPORTS)
def test_without_the_capability_every_function_is_99(pulp_cell: Callable[..., CellUnderTest], name: str) -> None:
    assert run(pulp_cell(guest(IMPORTS)), name, {}) == 99


@pytest.mark.parametrize(("alloc", "code"), [("refuse", 7), ("outside", 8)])
def test_an_answer_without_a_place(
    pulp_cell: Callable[..., CellUnderTest], monkeypatch: pytest.MonkeyPatch, alloc: str, code: int
) -> None:
    monkeypatch.setattr(mdns.LoopDoor, "run", lambda _door, _make, _seconds: [])
    cell = pulp_cell(guest(capability(), alloc=alloc), declares=[NAME])

    assert run(cell, "mdns_browse", {}) == code


class Ready:
    """The capability with a stub in the place of the loop."""

    def __init__(self, env: FakeHost, answer: Any, config: dict[str, Any], tables: dict[str, Any]) -> None:
        self.mdns = Mdns()
        self.mdns.setup(env(NAME, config=config))
        self.guest = StubGuest(tables={NAME: tables})
        self.mdns.setup_cell(self.guest.cell)
        self.seconds: list[float] = []

        def answered(_make: object, seconds: float) -> Any:
            self.seconds.append(seconds)
            if isinstance(answer, BaseException):
                raise answer
            return answer

        self.mdns._door.run = answered  # type: ignore[method-assign]

    def browse(self, service: str = "", timeout_ms: int = 0) -> int:
        try:
            self.mdns.mdns_browse(self.guest, MdnsBrowse(service=service, timeout_ms=timeout_ms))
        except HostError as error:
            return error.code
        return 0

    def announce(self) -> int:
        try:
            self.mdns.mdns_announce(self.guest, MdnsAnnounce(instance="a", port=1))
        except HostError as error:
            return error.code
        return 0


def test_a_host_without_a_network_is_10(pulp_env: FakeHost) -> None:
    ready = Ready(pulp_env, OSError(19, "No such device"), {}, {})

    assert (ready.browse(), ready.announce()) == (10, 10)
    assert [record.message for record in ready.guest.logged] == ["mdns unavailable"] * 2


def test_what_takes_too_long_is_an_empty_answer_or_4(pulp_env: FakeHost) -> None:
    ready = Ready(pulp_env, TimeoutError(), {}, {})

    assert (ready.browse(), ready.announce()) == (0, 4)


def test_before_it_is_set_up_it_is_10() -> None:
    with pytest.raises(HostError) as refused:
        Mdns().mdns_browse(StubGuest(), None)  # type: ignore[arg-type]

    assert refused.value.code == Errno.UNAVAILABLE


@pytest.mark.parametrize(
    ("operators", "cells", "expected"),
    [
        ([], [], {"_a._tcp": 0, "_b._udp": 0, "": 0}),
        (["_a._tcp"], [], {"_a._tcp": 0, "_A._tcp.local.": 0, "_b._udp": 11, "": 11}),
        ([], ["_b._udp"], {"_a._tcp": 11, "_b._udp": 0}),
        (["_a._tcp"], ["_b._udp"], {"_a._tcp": 11, "_b._udp": 11}),
    ],
)
def test_only_allowed_services_are_asked_for(
    pulp_env: FakeHost, operators: list[str], cells: list[str], expected: dict[str, int]
) -> None:
    ready = Ready(pulp_env, [], {"services": operators}, {"services": cells})

    assert {service: ready.browse(service) for service in expected} == expected


def test_a_cell_offers_16_services_at_most(pulp_env: FakeHost) -> None:
    ready = Ready(pulp_env, HostError(mdns.TOO_MANY, "full"), {}, {})
    assert ready.announce() == 16

    one = Mdns()
    one._announced["one"] = {str(number): object() for number in range(mdns.MOST_ANNOUNCED)}  # type: ignore[misc]
    with pytest.raises(HostError) as refused:
        one._announce(ready.guest.cell, "a", KIND, 1).send(None)
    assert refused.value.code == 16


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"interfaces": ["lo"]}, "interfaces: 'lo' is no address of an interface"),
        ({"services": ["http"]}, "services: 'http' is no service such as _http._tcp"),
        ({"service": ["_http._tcp"]}, "unknown field"),
    ],
)
def test_a_wrong_setting_is_named(pulp_env: FakeHost, config: dict[str, Any], said: str) -> None:
    with pytest.raises(ExtensionError, match=said):
        Mdns().setup(pulp_env(NAME, config=config))


def test_a_wrong_setting_of_a_manifest_is_named() -> None:
    with pytest.raises(ExtensionError, match="'http' is no service"):
        Mdns().setup_cell(StubGuest(tables={NAME: {"services": ["http"]}}).cell)


# Words ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["_http._tcp", "_HTTP._tcp", "_http._tcp.local", "_http._tcp.local."])
def test_a_service_may_be_written_with_its_domain(text: str) -> None:
    assert plain_service(text) == "_http._tcp"


@pytest.mark.parametrize(
    "text",
    [
        *("", "_http", "http._tcp", "_http._sctp", "_-a._tcp", "_a-._tcp", "_a--b._tcp", "_123._tcp", "_._tcp"),
        *("_http._tcp.x", "_abcdefghijklmnop._tcp", "_a b._tcp", "_sub._http._tcp", "_é._tcp", "_http._tcp\n"),
        "_services._dns-sd._udp",
    ],
)
def test_what_is_no_service_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no service"):
        plain_service(text)


@pytest.mark.parametrize(
    ("addresses", "port", "expected"),
    [
        (["192.0.2.1"], 80, "http://192.0.2.1:80"),
        (["2001:db8::1", "192.0.2.1"], 80, "http://192.0.2.1:80"),
        (["fe80::1", "2001:db8::1"], 80, "http://[2001:db8::1]:80"),
        (["fe80::1"], 80, ""),
        ([], 80, ""),
        (["192.0.2.1"], 0, ""),
    ],
)
def test_where_a_service_is(addresses: list[str], port: int, expected: str) -> None:
    info = zeroconf.ServiceInfo(f"{KIND}.local.", f"a.{KIND}.local.", port=port, parsed_addresses=addresses)

    assert address(info) == expected  # type: ignore[arg-type]


def test_a_service_is_where_the_operator_s_interfaces_are() -> None:
    assert list(own_addresses(("192.0.2.1",))) == ["192.0.2.1"]
    assert list(own_addresses(MdnsSettings().interfaces))
    assert "::1" not in own_addresses(())
