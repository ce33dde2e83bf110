from __future__ import annotations

import socket
from ipaddress import ip_address

import pytest

from pulp_runtime.capabilities.network.addresses import Networks, is_loopback, literal, shown, split_host_port


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:53", ("127.0.0.1", 53)),
        (":9000", ("", 9000)),
        ("[::1]:65535", ("::1", 65535)),
        ("[fe80::1%eth0]:0", ("fe80::1%eth0", 0)),
        ("name.example:1", ("name.example", 1)),
    ],
)
def test_host_and_port_are_told_apart(text: str, expected: tuple[str, int]) -> None:
    assert split_host_port(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "127.0.0.1",
        "a:",
        "a:-1",
        "a:65536",
        "a:0x1",
        "a: 1",
        "a:١",
        "a:000001",
        "::1:53",
        "[::1:53",
        "a]:1",
        "a\0:1",
    ],
)
def test_what_is_no_host_and_port_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"port|brackets"):
        split_host_port(text)


@pytest.mark.parametrize(
    ("sockaddr", "expected"),
    [
        (("192.0.2.1", 5), "192.0.2.1:5"),
        (("::1", 5, 0, 0), "[::1]:5"),
        (("::ffff:192.0.2.1", 5, 0, 0), "192.0.2.1:5"),
        (("fe80::1", 5, 0, socket.if_nametoindex("lo")), "[fe80::1%lo]:5"),
        (("fe80::1", 5, 0, 4_000_000), "[fe80::1%4000000]:5"),
    ],
)
def test_a_peer_is_shown_as_the_contract_writes_it(sockaddr: tuple[object, ...], expected: str) -> None:
    assert shown(sockaddr) == expected


def test_networks_hold_what_is_in_them_mapped_or_not() -> None:
    networks = Networks(["10.0.0.0/8", "fc00::/7", " 192.0.2.7 "])

    for inside in ("10.255.0.1", "::ffff:10.0.0.1", "fdff::1", "192.0.2.7"):
        assert ip_address(inside) in networks
    for outside in ("11.0.0.1", "::ffff:11.0.0.1", "::10.0.0.1", "fe80::1", "192.0.2.8"):
        assert ip_address(outside) not in networks
    assert ip_address("10.0.0.1") not in Networks([])


@pytest.mark.parametrize("entry", ["", "everywhere", "10.0.0.1/8", "10.0.0.0/33", "localhost"])
def test_an_entry_that_is_no_network_is_named(entry: str) -> None:
    with pytest.raises(ValueError, match=f"'{entry}' is no address and no network such as 10.0.0.0/8"):
        Networks([entry])


def test_loopback_is_loopback_also_when_mapped() -> None:
    assert is_loopback(ip_address("::ffff:127.1.2.3"))
    assert not is_loopback(ip_address("::ffff:10.1.2.3"))


def test_only_what_spells_an_address_out_is_a_literal() -> None:
    assert literal("::1") == ip_address("::1")
    for name in ("localhost", "127.1", "0x7f000001", "2130706433", "", "127.0.0.1.", "0177.0.0.1"):
        assert literal(name) is None
