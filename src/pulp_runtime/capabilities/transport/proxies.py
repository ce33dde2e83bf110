"""Who a client is behind proxies: the addresses that proxies report, believed as far as their writers are trusted.

    X-Forwarded-For: 203.0.113.9, 198.51.100.7, 10.0.0.2     peer 10.0.0.3
                     anybody's    ◀── the client  trusted ◀── trusted

Read from the right: each address was written by the hop behind it. The first one that is not a trusted proxy is the
client; what stands before it was in its own request and proves nothing.
"""

from __future__ import annotations

from typing import Final

from pulp_runtime._net.head import HeaderBlock
from pulp_runtime.capabilities.network.addresses import Address, Networks, literal, unmapped

FORWARDED_FOR: Final = "x-forwarded-for"
FORWARDED: Final = "forwarded"

HOPS: Final = 32
"""Addresses that are looked at; further ones are nobody's."""
HEADER_CHARACTERS: Final = 8 * 1024
"""Longest list of addresses; of a longer one nothing is believed."""
_PEERS: Final = 1_024
"""Peers whose standing is remembered."""


class Proxies:
    """Proxies that are trusted, and the one header they report in.

    Args:
        networks: where they are.
        header: `x-forwarded-for` or `forwarded` (RFC 7239). The other one is not believed: a proxy passes it on
            as its client wrote it.

    Raises:
        ValueError: an entry of `networks` is no network.
    """

    def __init__(self, networks: tuple[str, ...], header: str) -> None:
        self._networks: Final = Networks(networks)
        self._name: Final = "Forwarded" if header == FORWARDED else "X-Forwarded-For"
        self._peers: Final[dict[str, bool]] = {}

    def trusts(self, remote_addr: str) -> bool:
        """Return whether a peer, `ip:port`, is one of them."""
        host = remote_addr.rpartition(":")[0].strip("[]")
        known = self._peers.get(host)
        if known is None:
            address = literal(host)
            known = address is not None and address in self._networks
            if len(self._peers) >= _PEERS:
                self._peers.clear()
            self._peers[host] = known
        return known

    def client(self, block: HeaderBlock, remote_addr: str) -> str:
        """Return the client's address as a trusted peer reports it, `ip:port` with port 0 if that is not known.

        "" when the peer says that it is unknown or hidden; the peer's own when it says nothing.
        """
        values = [block.fields[self._name], *block.repeated.get(self._name, ())] if self._name in block.fields else []
        if not values:
            return remote_addr
        text = ", ".join(values)
        if len(text) > HEADER_CHARACTERS:
            return ""
        hops = text.split(",") if self._name != "Forwarded" else _elements(text)
        if hops is None:
            return ""
        client = remote_addr
        for hop in reversed(hops[-HOPS:]):
            found = _hop(hop.strip() if self._name != "Forwarded" else _for(hop))
            if found is None:
                return "" if client == remote_addr else client
            client = _shown(*found)
            if found[0] not in self._networks:
                break
        return client

    def cleaned(self, block: HeaderBlock, *, trusted: bool) -> dict[str, str]:
        """Return the fields for a cell: what anybody but a trusted peer says about forwarding is left out."""
        if not trusted:
            return {name: value for name, value in block.fields.items() if not _about_forwarding(name)}
        other = "X-Forwarded-For" if self._name == "Forwarded" else "Forwarded"
        fields = {name: value for name, value in block.fields.items() if name != other}
        if self._name in block.repeated:
            fields[self._name] = ", ".join((block.fields[self._name], *block.repeated[self._name]))
        return fields


def _about_forwarding(name: str) -> bool:
    return name.startswith("X-Forwarded-") or name in ("Forwarded", "X-Real-Ip")


def _hop(text: str) -> tuple[Address, int] | None:
    """Return address and port of `ip`, `ip:port`, `[v6]` or `[v6]:port`; None for what is none of these."""
    host, port = text, ""
    if text.startswith("["):
        host, _, port = text[1:].partition("]")
        if port and not port.startswith(":"):
            return None
        port = port[1:]
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    address = literal(host)
    if address is None:
        return None
    known = port.isascii() and port.isdigit() and len(port) <= 5 and int(port) <= 0xFFFF
    return unmapped(address), int(port) if known else 0


def _shown(address: Address, port: int) -> str:
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"


def _elements(text: str) -> list[str] | None:
    """Split a Forwarded header at the commas outside quotes; None if a quote does not end."""
    if '"' not in text:
        return text.split(",")
    found, start, quoted, escaped = [], 0, False, False
    for at, character in enumerate(text):
        if escaped:
            escaped = False
        elif quoted and character == "\\":
            escaped = True
        elif character == '"':
            quoted = not quoted
        elif character == "," and not quoted:
            found.append(text[start:at])
            start = at + 1
    return None if quoted else [*found, text[start:]]


def _for(element: str) -> str:
    """Return what an element of a Forwarded header says about its client, without quotes; "" for nothing."""
    for pair in element.split(";"):
        name, _, value = pair.strip().partition("=")
        if name.strip().lower() == "for":
            return value.strip().strip('"')
    return ""
