"""The egress guard: where the host may connect to on behalf of a cell (spec/core §8).

Every outbound capability asks it twice for each connection: before a name is looked up, and when it has become
addresses. What it is asked about in the end is exactly what is dialled; between its answer and the connection
nothing is looked up again, so a name that changes its mind gains nothing.

    URL ─▶ admit_name ─▶ lookup ─▶ admit_addresses ─▶ connect to one of these very addresses
           port, name              each of them

Public addresses may be dialled; all others only if an allow list says so.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from typing import Final

from pulp_runtime._net.dial_own import Address, OwnListeners, unmapped
from pulp_runtime._net.fetch_url import UrlInvalid, canonical_host
from pulp_runtime.errors import PulpError

Network = IPv4Network | IPv6Network

_REFUSED_4: Final = tuple(
    (IPv4Network(network), what)
    for network, what in (
        ("0.0.0.0/8", "this network"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "shared by a carrier"),
        ("127.0.0.0/8", "loopback"),
        ("169.254.0.0/16", "link-local"),
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "protocol assignments"),
        ("192.0.2.0/24", "documentation"),
        ("192.168.0.0/16", "private"),
        ("198.18.0.0/15", "benchmarking"),
        ("198.51.100.0/24", "documentation"),
        ("203.0.113.0/24", "documentation"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
    )
)
"""IANA's registry of special-purpose addresses, but for those that are globally reachable."""

_REFUSED_6: Final = tuple(
    (IPv6Network(network), what)
    for network, what in (
        ("::/128", "unspecified"),
        ("::1/128", "loopback"),
        ("::/96", "IPv4-compatible"),
        ("64:ff9b::/96", "NAT64"),
        ("64:ff9b:1::/48", "NAT64"),
        ("2001::/23", "protocol assignments"),
        ("2001:db8::/32", "documentation"),
        ("2002::/16", "6to4"),
        ("3fff::/20", "documentation"),
        ("fc00::/7", "private"),
        ("fe80::/10", "link-local"),
        ("fec0::/10", "site-local"),
        ("ff00::/8", "multicast"),
    )
)
_GLOBAL_6: Final = IPv6Network("2000::/3")
"""All that has been given out for global unicast; whatever lies outside is nobody's to dial."""

REFUSED_PORTS: Final = frozenset({
    1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101, 102, 103, 104,
    109, 110, 111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427, 465, 512, 513, 514, 515,
    526, 530, 531, 532, 540, 548, 554, 556, 563, 587, 601, 636, 989, 990, 993, 995, 1719, 1720, 1723, 2049,
    3659, 4045, 4190, 5060, 5061, 6000, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080,
})  # fmt: skip
"""Ports whose protocols can be spoken to by accident: what browsers refuse too (WHATWG Fetch, "port blocking")."""


class EgressRefused(PulpError):
    """A connection that the guard does not allow; the text names host, port, address and reason."""


def refused_range(address: Address) -> str:
    """Return what kind of address it is that a cell may not dial, "" for a public one."""
    plain = unmapped(address)
    if isinstance(plain, IPv4Address):
        return next((what for network, what in _REFUSED_4 if plain in network), "")
    known = next((what for network, what in _REFUSED_6 if plain in network), "")
    return known or ("" if plain in _GLOBAL_6 else "not global unicast")


class EntryInvalid(PulpError):
    """An entry of an allow list that means nothing."""


class AllowList:
    """What somebody exempts: names, names with a port, networks.

    A name exempts dials to exactly that host, however it resolves; with a port only dials to that port. A network
    exempts addresses. Names are compared without regard to case; a final dot counts.

    Args:
        entries: `host`, `host:port`, `[v6]:port` or CIDR each.

    Raises:
        EntryInvalid: an entry is none of these.
    """

    def __init__(self, entries: Iterable[str] = ()) -> None:
        self._names: Final[set[tuple[str, int]]] = set()
        self._networks: Final[list[Network]] = []
        for entry in entries:
            self._add(entry.strip().lower())

    @classmethod
    def lenient(cls, entries: Iterable[str], told: Callable[[str, str], None]) -> AllowList:
        """Return a list of the entries that mean something; `told(entry, why)` hears of the others."""
        good = []
        for entry in entries:
            try:
                cls([entry])
                good.append(entry)
            except EntryInvalid as error:
                told(entry, str(error))
        return cls(good)

    def _add(self, entry: str) -> None:
        if "/" in entry:
            try:
                self._networks.append(ipaddress.ip_network(entry, strict=False))
            except ValueError:
                raise EntryInvalid(
                    f"{entry!r} is no network such as 10.0.0.0/8; write a host without scheme and path"
                ) from None
            return
        host, colon, port = entry.rpartition(":")
        if not colon or (":" in host and not host.endswith("]")):  # no port: a name, or a bare IPv6 address
            host, port = entry, ""
        if port and (not port.isascii() or not port.isdigit() or not 0 < int(port[:6]) <= 0xFFFF):
            raise EntryInvalid(f"{entry!r}: the port is not in 1..65535")
        try:
            self._names.add((canonical_host(host), int(port or 0)))
        except UrlInvalid as error:
            raise EntryInvalid(f"{entry!r}: {error}; write host, host:port or a network") from None

    def exempts(self, host: str, port: int, address: Address) -> bool:
        """Whether it exempts dials to this host, or one of its networks holds the address, IPv4-mapped or not."""
        if (host, port) in self._names or (host, 0) in self._names:
            return True
        return any(form in network for network in self._networks for form in {address, unmapped(address)})

    def names_port(self, host: str, port: int) -> bool:
        """Whether it exempts dials to this host, and says the port too."""
        return (host, port) in self._names

    def __bool__(self) -> bool:
        return bool(self._names or self._networks)


class EgressGuard:
    """The rules for one cell and one capability.

    Args:
        allow: exemptions, the operator's and the cell's own; one of them is enough.
        only: if it has entries, nothing else may be dialled, whatever the exemptions say.
        own: this host's listeners.
    """

    def __init__(self, *allow: AllowList, only: AllowList | None = None, own: OwnListeners | None = None) -> None:
        self._only: Final = only or AllowList()
        self._allow: Final = allow
        self._own: Final = own or OwnListeners()

    def admit_name(self, host: str, port: int) -> None:
        """Check what can be checked before anything is looked up.

        Args:
            host: as `Url.host`.
            port: 1..65535.

        Raises:
            EgressRefused: the port is not for cells.
        """
        if port in REFUSED_PORTS and not self._names_port(host, port):
            raise EgressRefused(f"{_place(host, port)}: this port is none that cells may dial")

    def admit_addresses(self, host: str, port: int, addresses: Sequence[str]) -> list[str]:
        """Check what a name has become; return the addresses that may be dialled, which are all of them.

        One address that is refused refuses the name: whoever answers a public and a private one is up to something.

        Args:
            host: as `Url.host`.
            port: 1..65535.
            addresses: every answer of the lookup, or the address itself.

        Raises:
            EgressRefused: one of them may not be dialled, or there is none.
        """
        if not addresses:
            raise EgressRefused(f"{_place(host, port)}: the name has no address")
        return [self._admit(host, port, text) for text in addresses]

    def _admit(self, host: str, port: int, text: str) -> str:
        where = _place(host, port)
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            raise EgressRefused(f"{where}: {text!r} is no address") from None
        if getattr(address, "scope_id", None) is not None:
            raise EgressRefused(f"{where}: {text} has a zone")
        if self._own.have(address, port) and not self._names_port(host, port):
            raise EgressRefused(f"{where}: {text} is this host's own listener; name it with its port to allow it")
        if self._only and not self._only.exempts(host, port, address):
            raise EgressRefused(f"{where}: {text} is not in the list of what may be dialled")
        if any(exemptions.exempts(host, port, address) for exemptions in self._allow):
            return text
        if reason := refused_range(address):
            raise EgressRefused(f"{where}: {text} is {reason}")
        return text

    def _names_port(self, host: str, port: int) -> bool:
        return any(names.names_port(host, port) for names in self._allow)


def _place(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
