"""Which addresses a cell may bind and send to, and how those it names are found."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Annotated, Any, Final

import msgspec

from pulp_runtime._net.dial_patience import DialFault
from pulp_runtime.capabilities.network.addresses import Address, Networks, is_loopback, literal, split_host_port
from pulp_runtime.capabilities.operator import Variable
from pulp_runtime.ext import Errno, ExtensionError, HostError

REFUSED: Final = 12
"""The guard says no."""

PRIVATE: Final = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")
"""RFC 1918 and RFC 4193: what a cell may send to unless the operator says otherwise."""

ANY_V4: Final = IPv4Address(0)
ANY_V6: Final = IPv6Address(0)

Asker = Callable[[str], list[str]]
"""Answers the addresses of a name, or raises `DialFault`."""

Count = Annotated[int, msgspec.Meta(ge=0, le=65_536)]


class UdpSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an operator may set.

    Attributes:
        send_allow: networks that cells may send to.
        bind_allow: addresses that cells may bind; loopback and port 0 are always allowed.
        max_sockets_per_cell: past it `udp_listen` answers 4.
        max_sockets_total: the same, for all cells together.
    """

    send_allow: tuple[str, ...] = PRIVATE
    bind_allow: tuple[str, ...] = (str(ANY_V4), str(ANY_V6))
    max_sockets_per_cell: Count = 1024
    max_sockets_total: Count = 4096


VARIABLES: Final = {
    "send_allow": Variable("UDP_SEND_ALLOW"),
    "bind_allow": Variable("UDP_BIND_ALLOW"),
    "max_sockets_per_cell": Variable("UDP_MAX_SOCKETS_PER_CELL"),
    "max_sockets_total": Variable("UDP_MAX_SOCKETS_TOTAL"),
}


class UdpCellSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a cell's manifest may set: less than the operator allows, never more.

    Attributes:
        send_allow: of what the operator allows, only this.
        bind_allow: the same; here loopback and port 0 are no exceptions.
    """

    send_allow: tuple[str, ...] | None = None
    bind_allow: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """An address that a name or a literal stands for.

    Attributes:
        address: it.
        scope: the interface of a link-local one, else 0.
    """

    address: Address
    scope: int = 0


@dataclass(frozen=True, slots=True)
class Policy:
    """What one cell may do.

    Attributes:
        send: networks it may send to, all of them at once.
        bind: what the operator lets cells bind.
        own_bind: what the cell's manifest says, None for nothing.
    """

    send: tuple[Networks, ...]
    bind: Networks
    own_bind: Networks | None = None

    @classmethod
    def of(cls, settings: UdpSettings, own: UdpCellSettings = UdpCellSettings()) -> Policy:  # noqa: B008  # frozen
        """Return the policy that both settings make.

        Raises:
            ExtensionError: an entry of a list is no network.
        """
        try:
            send = (settings.send_allow,) if own.send_allow is None else (settings.send_allow, own.send_allow)
            return cls(
                tuple(map(Networks, send)),
                Networks(settings.bind_allow),
                None if own.bind_allow is None else Networks(own.bind_allow),
            )
        except ValueError as error:
            raise ExtensionError(f"network.udp: {error}") from None

    def may_send(self, address: Address) -> bool:
        """Whether a datagram may go there."""
        return all(address in networks for networks in self.send)

    def may_bind(self, address: Address, port: int) -> bool:
        """Whether a socket may be bound there."""
        free = port == 0 or is_loopback(address) or address in self.bind
        return free and (self.own_bind is None or address in self.own_bind)


def bound(policy: Policy, addr: str, asker: Asker) -> socket.socket:
    """Return a bound, non-blocking socket for what a cell asks to listen on.

    Raises:
        HostError: `FAILED` when it cannot be resolved or bound, 12 when the policy refuses every address it names.
    """
    host, port = split(addr)
    candidates = find(host, asker) if host else [Found(ANY_V6), Found(ANY_V4)]
    problem = HostError(Errno.FAILED, f"{addr}: nothing to bind")
    for found in candidates:
        if not policy.may_bind(found.address, port):
            problem = HostError(REFUSED, f"bind {found.address}: not in bind_allow")
            continue
        try:
            return _bind(policy, found, port)
        except OSError as error:
            problem = HostError(Errno.FAILED, f"bind {addr}: {error}")
    raise problem


def _bind(policy: Policy, found: Found, port: int) -> socket.socket:
    is_v6 = found.address.version == 6
    sock = socket.socket(socket.AF_INET6 if is_v6 else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)  # whether one may be sent is for the guard to say
        if is_v6:
            dual = found.address.is_unspecified and policy.may_bind(ANY_V4, port)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not dual)
            sock.bind((_plain(found.address), port, 0, found.scope))
        else:
            sock.bind((_plain(found.address), port))
    except BaseException:
        sock.close()
        raise
    return sock


def destination(policy: Policy, sock: socket.socket, host: str, port: int, asker: Asker) -> tuple[Any, ...]:
    """Return the socket address that `host` stands for: the one that was checked is the one that is used.

    Raises:
        HostError: `FAILED` when there is none for this socket, 12 when none of them is allowed.
    """
    if not host or not port:
        raise HostError(Errno.FAILED, "a destination has a host and a port other than 0")
    problem = HostError(Errno.FAILED, f"{host}: no address of the socket's family")
    for found in find(host, asker):
        if not policy.may_send(found.address):
            problem = HostError(REFUSED, f"send to {found.address}: not in send_allow")
            continue
        if sock.family == socket.AF_INET6 and found.address.version == 6:
            return _plain(found.address), port, 0, found.scope
        if sock.family == socket.AF_INET6 and not sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY):
            return f"::ffff:{found.address}", port, 0, 0
        if sock.family == socket.AF_INET and found.address.version == 4:
            return str(found.address), port
    raise problem


def find(host: str, asker: Asker) -> list[Found]:
    """Return the addresses of `host`, a literal's without asking anybody.

    Raises:
        HostError: `FAILED` when it has none, or the name service takes too long.
    """
    known = literal(host)
    if known is not None:
        return [Found(known, _scope(known))]
    try:
        host.encode("ascii")
        answers = asker(host)
    except (DialFault, UnicodeError) as error:
        raise HostError(Errno.FAILED, f"{host}: {error}") from None
    addresses = (literal(answer.partition("%")[0]) for answer in answers)
    return [Found(address) for address in addresses if address is not None]


def _scope(address: Address) -> int:
    """Return the number of the interface that a link-local literal names; 0 when it names none."""
    zone = getattr(address, "scope_id", None)
    if not zone:
        return 0
    try:
        return int(zone) if zone.isdigit() else socket.if_nametoindex(zone)
    except OSError:
        raise HostError(Errno.FAILED, f"{address}: no such interface") from None


def split(addr: str) -> tuple[str, int]:
    """Return host and port; raise `HostError` `FAILED` for what has none."""
    try:
        return split_host_port(addr)
    except ValueError as error:
        raise HostError(Errno.FAILED, str(error)) from None


def _plain(address: Address) -> str:
    return str(address).partition("%")[0]
