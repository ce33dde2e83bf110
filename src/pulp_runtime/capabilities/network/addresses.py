"""Addresses as guests write them, and which of them a cell may use."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any, Final

Address = IPv4Address | IPv6Address


def split_host_port(text: str) -> tuple[str, int]:
    """Return host and port of `host:port`, `[v6]:port` or `:port`; the host may be "".

    Raises:
        ValueError: it is none of these, or the port is not a decimal number in 0..65535.
    """
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or len(port) > 5 or int(port) > 0xFFFF:
        raise ValueError(f"{text!r} has no port in 0..65535")
    if host.startswith("[") and host.endswith("]"):
        return host[1:-1], int(port)
    if ":" in host or "[" in host or "]" in host or "\0" in host:
        raise ValueError(f"{text!r}: an IPv6 address stands in brackets")
    return host, int(port)


def literal(host: str) -> Address | None:
    """Return the address that `host` spells out, None for a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def unmapped(address: Address) -> Address:
    """Return the IPv4 address inside an IPv4-mapped IPv6 one, any other as it is."""
    return getattr(address, "ipv4_mapped", None) or address


def is_loopback(address: Address) -> bool:
    """Whether it is this machine's own, mapped or not."""
    return unmapped(address).is_loopback


def shown(sockaddr: tuple[Any, ...]) -> str:
    """Return a peer's address as `ip:port`, IPv6 in brackets with its zone, a mapped IPv4 one as IPv4."""
    host, port = sockaddr[0], sockaddr[1]
    if len(sockaddr) == 2:
        return f"{host}:{port}"
    if host.startswith("::ffff:") and "." in host:
        return f"{host[7:]}:{port}"
    return f"[{host}{_zone(sockaddr[3])}]:{port}"


def _zone(scope: int) -> str:
    if not scope:
        return ""
    try:
        return f"%{socket.if_indextoname(scope)}"
    except OSError:
        return f"%{scope}"


class Networks:
    """A list of addresses and networks.

    Args:
        entries: such as `192.168.0.0/16`, `fc00::/7` or `0.0.0.0`; a lone address means itself.

    Raises:
        ValueError: naming an entry that is neither.
    """

    def __init__(self, entries: Iterable[str]) -> None:
        found: list[IPv4Network | IPv6Network] = []
        for entry in entries:
            try:
                found.append(ipaddress.ip_network(entry.strip()))
            except ValueError as error:
                raise ValueError(f"{entry!r} is no address and no network such as 10.0.0.0/8: {error}") from None
        self._networks: Final = tuple(found)

    def __contains__(self, address: Address) -> bool:
        plain = unmapped(address)
        return any(plain in network for network in self._networks if network.version == plain.version)
