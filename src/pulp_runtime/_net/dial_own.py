"""Where this host listens itself, so that no cell is sent there by accident."""

from __future__ import annotations

import socket
import threading
from ipaddress import IPv4Address, IPv6Address
from typing import Final

Address = IPv4Address | IPv6Address


def unmapped(address: Address) -> Address:
    """Return the IPv4 address inside an IPv4-mapped IPv6 one, any other as it is."""
    return getattr(address, "ipv4_mapped", None) or address


class OwnListeners:
    """Ports on which this host listens itself; one for each host. Safe from any thread."""

    def __init__(self) -> None:
        self._ports: Final[set[int]] = set()
        self._lock: Final = threading.Lock()

    def add(self, port: int) -> None:
        """Note a listener; 0 is none."""
        if port:
            with self._lock:
                self._ports.add(port)

    def add_address(self, address: str) -> None:
        """Note a listener by its `host:port` or `port`; what is neither is none."""
        port = address.rpartition(":")[2]
        self.add(int(port) if port.isascii() and port.isdigit() else 0)

    def have(self, address: Address, port: int) -> bool:
        """Whether dialling this address would reach one of them."""
        with self._lock:
            known = port in self._ports
        return known and _is_here(unmapped(address))


def _is_here(address: Address) -> bool:
    """Whether the address is one of this machine's: only then can a socket be bound to it."""
    family = socket.AF_INET if isinstance(address, IPv4Address) else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError:
        return False
    return True
