"""Connections to servers on behalf of cells: looked up, checked, dialled, and TLS where the URL says so.

The address that the guard has admitted is the one that is dialled, as a number; nobody looks it up again.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import select
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pulp_runtime._net.dial_names import Resolve
from pulp_runtime._net.dial_patience import DialFault, Patience
from pulp_runtime._net.dial_wire import Wire, reason_of
from pulp_runtime._net.egress import EgressGuard
from pulp_runtime._net.fetch_url import Url

if TYPE_CHECKING:
    import ssl

DIAL_SECONDS: Final = 10.0
"""Lookup and connection together."""
TLS_SECONDS: Final = 5.0
ADDRESSES: Final = 8
"""Addresses of one name that are tried, each with its share of the time that is left."""
KEEPALIVE_SECONDS: Final = 30


class Trust:
    """Whom TLS connections believe: the system's certificates, and perhaps more. One for each capability of a host.

    Nothing of one connection is used for the next: no session is resumed, so no two cells share one.

    Args:
        ca_file: PEM certificates to trust beside the system's, "" for none. `$SSL_CERT_FILE` replaces the system's.
    """

    def __init__(self, ca_file: str = "") -> None:
        self._ca_file: Final = ca_file
        self._lock: Final = threading.Lock()
        self._context: ssl.SSLContext | None = None

    def check(self) -> None:
        """Read the file of certificates, if there is one.

        Raises:
            OSError: it cannot be read, or holds no certificates.
        """
        if self._ca_file:
            _ = self.context

    @property
    def context(self) -> ssl.SSLContext:
        """TLS 1.2 or newer, certificate and host name verified; made when first needed.

        Raises:
            OSError: the file cannot be read, or holds no certificates.
        """
        with self._lock:
            if self._context is None:
                import ssl

                context = ssl.create_default_context()
                context.set_alpn_protocols(["http/1.1"])
                if self._ca_file:
                    context.load_verify_locations(Path(self._ca_file))
                self._context = context
            return self._context


class Dialer:
    """Opens the connections of one cell for one capability.

    Args:
        owner: the cell, for the count of its lookups.
        guard: what it may dial.
        resolve: names to addresses.
        trust: for TLS.
    """

    def __init__(self, owner: str, guard: EgressGuard, resolve: Resolve, trust: Trust) -> None:
        self._owner: Final = owner
        self._guard: Final = guard
        self._resolve: Final = resolve
        self._trust: Final = trust

    def dial(self, url: Url, patience: Patience) -> Wire:
        """Return a connection to where `url` points.

        Raises:
            EgressRefused: the guard does not allow it; nothing has been sent anywhere.
            DialFault: there is no such name, nobody answers, or TLS fails.
        """
        self._guard.admit_name(url.host, url.port)
        dialling = patience.within(DIAL_SECONDS, "no connection")
        found = [url.host] if _is_address(url.host) else self._resolve(self._owner, url.host, dialling)
        wire = _connect(self._guard.admit_addresses(url.host, url.port, found), url.port, dialling)
        if url.secure:
            try:
                wire.start_tls(self._trust.context, url.host, patience.within(TLS_SECONDS, "no TLS handshake"))
            except BaseException:
                wire.close()
                raise
        return wire


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _connect(addresses: list[str], port: int, patience: Patience) -> Wire:
    """Return a connection to the first address that takes one."""
    fault = DialFault("no address to dial")
    tried = addresses[:ADDRESSES]
    for number, address in enumerate(tried):
        share = patience.within(DIAL_SECONDS / len(tried), "no connection") if number + 1 < len(tried) else patience
        try:
            return _connect_to(address, port, share)
        except DialFault as error:
            fault = error
            patience.slice()  # the whole is over: do not try the next
    raise fault


def _connect_to(address: str, port: int, patience: Patience) -> Wire:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        sock = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise DialFault(f"connect: {reason_of(error)}") from None
    wire = Wire(sock)
    try:
        sock.setblocking(False)
        _tune(sock)
        failed = sock.connect_ex((address, port))
        if failed == errno.EINPROGRESS:
            wire.wait(patience, select.POLLOUT)
            failed = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if failed:
            raise DialFault(f"connect to {address}: {os.strerror(failed).lower()}")
    except OSError as error:
        wire.close()
        raise DialFault(f"connect to {address}: {reason_of(error)}") from None
    except BaseException:
        wire.close()
        raise
    return wire


def _tune(sock: socket.socket) -> None:
    """Send at once, and find out when the other side is gone for good."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option in ("TCP_KEEPIDLE", "TCP_KEEPINTVL"):
        if hasattr(socket, option):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), KEEPALIVE_SECONDS)
