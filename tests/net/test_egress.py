"""The egress guard: which addresses, which exemptions, and that what is checked is what is dialled."""

from __future__ import annotations

import ipaddress
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulp_runtime._net.dial_own import OwnListeners
from pulp_runtime._net.egress import (
    REFUSED_PORTS,
    AllowList,
    EgressGuard,
    EgressRefused,
    EntryInvalid,
    refused_range,
)

PUBLIC = ["8.8.8.8", "1.1.1.1", "172.15.255.255", "172.32.0.0", "100.63.255.255", "100.128.0.0", "198.20.0.0",
          "11.0.0.0", "126.255.255.255", "128.0.0.0", "169.253.255.255", "191.255.255.255", "192.0.1.0", "192.169.0.0",
          "223.255.255.255", "2606:4700::1111", "2a00::1", "2001:200::1", "2001:dc0::1", "::ffff:8.8.8.8"]  # fmt: skip

REFUSED = {
    # spec/core §8, what has always been refused
    "127.0.0.1": "loopback", "127.255.255.255": "loopback", "::1": "loopback", "::ffff:127.0.0.1": "loopback",
    "0.0.0.0": "this network", "::": "unspecified",
    "169.254.169.254": "link-local", "fe80::1": "link-local", "febf::1": "link-local",
    "10.0.0.0": "private", "10.255.255.255": "private", "172.16.0.0": "private", "172.31.255.255": "private",
    "192.168.0.1": "private", "fc00::1": "private", "fdff::1": "private", "::ffff:10.1.2.3": "private",
    "224.0.0.1": "multicast", "239.255.255.255": "multicast", "ff02::1": "multicast",
    # what it lists as missing
    "0.1.2.3": "this network", "100.64.0.0": "shared by a carrier", "100.127.255.255": "shared by a carrier",
    "192.0.0.192": "protocol assignments", "192.0.2.1": "documentation", "198.18.0.1": "benchmarking",
    "198.19.255.255": "benchmarking", "203.0.113.7": "documentation", "240.0.0.1": "reserved",
    "255.255.255.255": "reserved", "fec0::1": "site-local", "::127.0.0.1": "IPv4-compatible",
    "64:ff9b::7f00:1": "NAT64", "64:ff9b::808:808": "NAT64", "2002:7f00:1::": "6to4", "2001:db8::1": "documentation",
    # and what belongs to them
    "198.51.100.1": "documentation", "64:ff9b:1::1": "NAT64", "2001::1": "protocol assignments",
    "3fff::1": "documentation", "100::1": "not global unicast", "4000::1": "not global unicast",
}  # fmt: skip


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_may_be_dialled(address: str) -> None:
    assert refused_range(ipaddress.ip_address(address)) == ""
    assert EgressGuard().admit_addresses("a.example", 443, [address]) == [address]


@pytest.mark.parametrize(("address", "what"), REFUSED.items())
def test_an_address_that_is_not_public_is_refused_with_its_kind(address: str, what: str) -> None:
    assert refused_range(ipaddress.ip_address(address)) == what
    with pytest.raises(EgressRefused, match=what):
        EgressGuard().admit_addresses("a.example", 80, [address])


@given(st.integers(0, 2**32 - 1))
def test_no_ipv4_address_is_public_here_and_not_for_the_standard_library(number: int) -> None:
    address = ipaddress.IPv4Address(number)
    assert refused_range(address) or (address.is_global and not address.is_multicast)
    assert refused_range(ipaddress.IPv6Address(f"::ffff:{address}")) == refused_range(address)


@given(st.integers(0, 2**128 - 1))
def test_no_ipv6_address_is_public_here_and_not_for_the_standard_library(number: int) -> None:
    address = ipaddress.IPv6Address(number)
    assert refused_range(address) or (address.is_global and not address.is_multicast)


@pytest.mark.parametrize("text", ["", "a.example", "127.1", "0x7f000001", "fe80::1%eth0", "1.2.3.4/32", "[::1]"])
def test_what_is_no_plain_address_is_refused(text: str) -> None:
    with pytest.raises(EgressRefused):
        EgressGuard().admit_addresses("a.example", 80, [text])


def test_one_private_answer_among_public_ones_refuses_the_name() -> None:
    for answers in (["8.8.8.8", "10.0.0.1"], ["10.0.0.1", "8.8.8.8"], ["8.8.8.8", "::1"]):
        with pytest.raises(EgressRefused, match=r"private|loopback"):
            EgressGuard().admit_addresses("a.example", 80, answers)


def test_a_name_without_addresses_is_refused() -> None:
    with pytest.raises(EgressRefused, match="no address"):
        EgressGuard().admit_addresses("a.example", 80, [])


# Exemptions -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "host", "port", "permitted"),
    [
        ("db.internal", "db.internal", 80, True),
        ("db.internal", "db.internal", 81, True),
        ("DB.Internal ", "db.internal", 80, True),
        ("db.internal:80", "db.internal", 80, True),
        ("db.internal:80", "db.internal", 81, False),
        ("db.internal", "db.internal.", 80, False),
        ("db.internal.", "db.internal.", 80, True),
        ("db.internal", "x.db.internal", 80, False),
        ("internal", "db.internal", 80, False),
        ("10.0.0.5", "10.0.0.5", 80, True),
        ("10.0.0.5", "db.internal", 80, False),
        ("10.0.0.0/8", "db.internal", 80, True),
        ("10.0.0.5/8", "db.internal", 80, True),
        ("10.0.0.5/32", "db.internal", 9999, True),
        ("10.0.0.6/32", "db.internal", 80, False),
        ("::ffff:10.0.0.0/104", "db.internal", 80, False),
    ],
)
def test_an_entry_exempts_exactly_what_it_says(entry: str, host: str, port: int, permitted: bool) -> None:
    guard = EgressGuard(AllowList([entry]))

    if permitted:
        assert guard.admit_addresses(host, port, ["10.0.0.5"]) == ["10.0.0.5"]
    else:
        with pytest.raises(EgressRefused, match="private"):
            guard.admit_addresses(host, port, ["10.0.0.5"])


@pytest.mark.parametrize("entry", ["::1", "[::1]", "[::1]:8080", "::1/128", "0:0:0:0:0:0:0:1"])
def test_an_ipv6_address_may_be_written_bare_or_in_brackets(entry: str) -> None:
    assert EgressGuard(AllowList([entry])).admit_addresses("::1", 8080, ["::1"]) == ["::1"]


def test_a_network_covers_a_mapped_address_by_the_address_inside() -> None:
    guard = EgressGuard(AllowList(["10.0.0.0/8"]))

    assert guard.admit_addresses("a.example", 80, ["::ffff:10.0.0.1"]) == ["::ffff:10.0.0.1"]


def test_either_list_is_enough_and_neither_takes_away() -> None:
    guard = EgressGuard(AllowList(["a.internal"]), AllowList(["10.0.0.0/8"]))

    assert guard.admit_addresses("a.internal", 80, ["192.168.0.1"])
    assert guard.admit_addresses("b.internal", 80, ["10.0.0.1"])
    assert guard.admit_addresses("c.example", 80, ["8.8.8.8"])
    with pytest.raises(EgressRefused):
        guard.admit_addresses("b.internal", 80, ["192.168.0.1"])


def test_an_exclusive_list_leaves_nothing_else_whatever_the_exemptions_say() -> None:
    only = AllowList(["hub.internal:9000", "203.0.113.0/24"])
    guard = EgressGuard(only, AllowList(["10.0.0.0/8"]), only=only)

    assert guard.admit_addresses("hub.internal", 9000, ["10.9.9.9"])
    assert guard.admit_addresses("x.example", 80, ["203.0.113.9"])
    for host, port, address in (
        ("hub.internal", 9001, "10.9.9.9"),
        ("x.example", 80, "8.8.8.8"),
        ("y", 80, "10.0.0.1"),
    ):
        with pytest.raises(EgressRefused, match="not in the list"):
            guard.admit_addresses(host, port, [address])


@pytest.mark.parametrize(
    "entry",
    ["", "*", "*.example", "http://a.example", "a.example/24", "10.0.0.0/33", "a b", "a.example:0", "a.example:65536",
     "a.example:x", "a.example:-1", "user@host", "127.1", "[::1", "fe80::1%eth0", "a.example:99999999999999999999"],
)  # fmt: skip
def test_an_entry_that_means_nothing_is_an_error(entry: str) -> None:
    with pytest.raises(EntryInvalid):
        AllowList([entry])


def test_a_lenient_list_tells_of_what_it_leaves_out() -> None:
    told: list[str] = []
    known = AllowList.lenient(["10.0.0.0/99", "a.internal", "*"], lambda entry, _why: told.append(entry))

    assert told == ["10.0.0.0/99", "*"]
    assert known.exempts("a.internal", 80, ipaddress.ip_address("10.0.0.1"))


# Ports, and ourselves ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("port", [22, 25, 53, 110, 143, 465, 587, 993, 6000, 6667, 10080])
def test_a_port_of_another_protocol_is_refused_before_anything_is_looked_up(port: int) -> None:
    with pytest.raises(EgressRefused, match="port"):
        EgressGuard(AllowList(["a.example", "0.0.0.0/0"])).admit_name("a.example", port)


@pytest.mark.parametrize("port", [80, 443, 3000, 5432, 6379, 8000, 8080, 8443, 9200, 65535])
def test_other_ports_are_not(port: int) -> None:
    assert port not in REFUSED_PORTS
    EgressGuard().admit_name("a.example", port)


def test_an_entry_with_the_port_opens_it_for_that_host_alone() -> None:
    guard = EgressGuard(AllowList(["mail.example:25"]))

    guard.admit_name("mail.example", 25)
    with pytest.raises(EgressRefused):
        guard.admit_name("other.example", 25)


def test_this_host_s_own_listener_is_refused_even_where_loopback_is_exempt() -> None:
    own = OwnListeners()
    own.add_address("127.0.0.1:8080")
    guard = EgressGuard(AllowList(["127.0.0.0/8", "localhost", "::1"]), own=own)

    for host, address in (("127.0.0.1", "127.0.0.1"), ("localhost", "127.0.0.1"), ("x", "127.9.9.9"), ("::1", "::1")):
        with pytest.raises(EgressRefused, match="own listener"):
            guard.admit_addresses(host, 8080, [address])
    assert guard.admit_addresses("localhost", 8081, ["127.0.0.1"]) == ["127.0.0.1"]
    assert EgressGuard(own=own).admit_addresses("a.example", 8080, ["8.8.8.8"]) == ["8.8.8.8"]


def test_an_entry_with_its_port_opens_our_own_listener() -> None:
    own = OwnListeners()
    own.add(8080)

    assert EgressGuard(AllowList(["localhost:8080"]), own=own).admit_addresses("localhost", 8080, ["127.0.0.1"])


def test_every_address_of_this_machine_is_ourselves() -> None:
    own = OwnListeners()
    own.add(8080)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        assert own.have(ipaddress.ip_address("::ffff:127.0.0.1"), 8080)
    assert not own.have(ipaddress.ip_address("127.0.0.1"), 8081)
    assert not own.have(ipaddress.ip_address("8.8.8.8"), 8080)


@pytest.mark.parametrize("address", ["", "localhost", "x:y", "0", "127.0.0.1:0"])
def test_an_address_without_a_port_is_no_listener_of_ours(address: str) -> None:
    own = OwnListeners()
    own.add_address(address)

    assert not own.have(ipaddress.ip_address("127.0.0.1"), 80)
