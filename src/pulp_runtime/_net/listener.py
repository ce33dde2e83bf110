"""Sockets, and the connections that come in through them.

`bind` is synchronous and comes first: whether an address can be had is known
before anything else is started, and a host that cannot listen says so in one
sentence. `serve` starts accepting. While there are connections, and only then, a
sweep once a second ends those whose deadline has passed.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, cast

from pulp_runtime._net.exchange import BodyPlan, Handler, Service, address_text
from pulp_runtime._net.head import HeaderBlock, RequestLine
from pulp_runtime._net.http1 import Http1Connection
from pulp_runtime._net.settings import HttpSettings
from pulp_runtime.errors import ListenError

if TYPE_CHECKING:
    from pulp_runtime._net.tls import Certificate

SWEEP_SECONDS: Final = 1.0

#: What to do about an address that cannot be bound, by the kernel's reason.
_ADVICE: Final = {
    errno.EADDRINUSE: "another program listens there; stop it or choose another port",
    errno.EACCES: "not permitted; ports below 1024 need privileges, choose a higher one",
    errno.EADDRNOTAVAIL: "this machine does not have that address; use one it has, or none for all",
}


#: The machine lacks the address or its whole family; another of the same name may do.
_ABSENT: Final = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})

#: Connections that may wait from `bind` until `serve` sets the real backlog.
_EARLY_BACKLOG: Final = 128

_Address = tuple[str | int, ...]


class Listener:
    """Bound sockets, and what is served on them.

    Attributes:
        addresses: `ip:port` of each socket, with the port the kernel chose for 0.
    """

    def __init__(self, sockets: list[socket.socket]) -> None:
        """Take over bound sockets; use `bind`."""
        self.addresses: Final = tuple(address_text(bound.getsockname()) for bound in sockets)
        self._sockets: Final = sockets
        self._servers: Final[list[asyncio.Server]] = []
        self._service: Service | None = None
        self._sweep: asyncio.TimerHandle | None = None
        self._empty: asyncio.Event | None = None

    @classmethod
    def bind(cls, host: str, port: int) -> Listener:
        """Bind every address `host` stands for.

        Args:
            host: a name or an address; "" is every address, IPv6 and IPv4.
            port: 0 lets the kernel choose, the same one for every address.

        Raises:
            ListenError: an address cannot be bound; the message names it and
                says what to do.
        """
        sockets: list[socket.socket] = []
        absent: OSError | None = None
        try:
            for family, address in _addresses(host, port):
                if sockets and not port:
                    address = (address[0], sockets[0].getsockname()[1], *address[2:])
                try:
                    sockets.append(_bound(family, address, dual=not host))
                except OSError as error:
                    if error.errno not in _ABSENT:
                        raise
                    absent = error  # `localhost` names ::1 also where there is no IPv6
            if not sockets and absent is not None:
                raise absent
        except OSError as error:
            for bound in sockets:
                bound.close()
            advice = _ADVICE.get(error.errno or 0, error.strerror or str(error))
            raise ListenError(f"cannot listen on {_spoken(host, port)}: {advice}") from None
        return cls(sockets)

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._service.connections) if self._service else 0

    async def serve(
        self,
        handler: Handler,
        settings: HttpSettings | None = None,
        *,
        on_disconnect: Handler | None = None,
        bodies: Callable[[RequestLine, HeaderBlock], BodyPlan] | None = None,
        certificate: Certificate | None = None,
        http2: bool = False,
    ) -> None:
        """Start accepting; returns at once.

        Args:
            handler: called on the loop's thread, once for each well-formed request.
            settings: timeouts and limits.
            on_disconnect: see `Service`.
            bodies: see `Service`.
            certificate: speak TLS with it, and HTTP/2 with clients that ask for it.
            http2: without a certificate, speak HTTP/2 with clients that begin with its preface.
        """
        loop = asyncio.get_running_loop()
        settings = settings or HttpSettings()
        service = Service(
            handler,
            settings,
            time=loop.time,
            on_disconnect=on_disconnect,
            bodies=bodies,
            changed=self._connections_changed,
        )
        self._service = service
        protocol = _protocols(service, certificate, http2=http2)
        for bound in self._sockets:
            server = await loop.create_server(protocol, sock=bound, backlog=settings.backlog)
            self._servers.append(server)

    def sweep(self, now: float) -> None:
        """End the connections whose deadline has passed."""
        if self._service is not None:
            for connection in tuple(self._service.connections):
                if connection.deadline <= now:
                    connection.expire(now)

    async def close(self, grace_seconds: float) -> None:
        """Stop accepting, let requests in flight finish, then abort what is left.

        Idle connections close at once. A second call returns when the first
        has done its work or its own grace is over, whichever comes first.
        """
        for server in self._servers:
            server.close()
        for bound in self._sockets:
            bound.close()
        service = self._service
        if service is None:
            return
        service.closing = True
        if service.connections:
            self._empty = self._empty or asyncio.Event()
            for connection in tuple(service.connections):
                connection.close_when_idle()
            if not await self._emptied(grace_seconds):
                for connection in tuple(service.connections):
                    connection.abort()
                await self._emptied(SWEEP_SECONDS)  # an abort is over within one turn of the loop
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None

    def unbind(self) -> None:
        """Close the bound sockets, for a listener that is not to serve after all."""
        for bound in self._sockets:
            bound.close()

    async def _emptied(self, seconds: float) -> bool:
        """Wait until no connection is left; return False if that took too long."""
        assert self._empty is not None  # noqa: S101 - set by `close`, its only caller
        try:
            await asyncio.wait_for(self._empty.wait(), seconds)
        except TimeoutError:
            return False
        return True

    def _connections_changed(self) -> None:
        """Keep the sweep going while there is something to sweep."""
        assert self._service is not None  # noqa: S101 - connections exist only while serving
        if self._service.connections:
            if self._sweep is None:
                self._schedule_sweep()
        elif self._empty is not None:
            self._empty.set()

    def _schedule_sweep(self) -> None:
        self._sweep = asyncio.get_running_loop().call_later(SWEEP_SECONDS, self._tick)

    def _tick(self) -> None:
        """Sweep, and come back if somebody is left."""
        assert self._service is not None  # noqa: S101 - scheduled by a connection
        self._sweep = None
        self.sweep(self._service.time())
        if self._service.connections and self._sweep is None:
            self._schedule_sweep()


def _protocols(service: Service, certificate: Certificate | None, *, http2: bool) -> Callable[[], asyncio.BaseProtocol]:
    """Return what makes the protocol of a new connection. What only some hosts speak is imported for them alone."""

    def http1() -> Http1Connection:
        return Http1Connection(service)

    if certificate is None and not http2:
        return http1
    from pulp_runtime._net.http2 import Http2Connection
    from pulp_runtime._net.http2_head import Http2Heads

    heads = Http2Heads(service.heads, service.settings)

    def http2_connection() -> Http2Connection:
        return Http2Connection(service, heads)

    if certificate is None:
        from pulp_runtime._net.preface import PrefaceReader

        return lambda: PrefaceReader(service, http1, http2_connection)
    from pulp_runtime._net.tls import HTTP2
    from pulp_runtime._net.tls_peer import TlsPeer

    return lambda: TlsPeer(service, certificate.context, lambda alpn: http2_connection() if alpn == HTTP2 else http1())


def _addresses(host: str, port: int) -> list[tuple[socket.AddressFamily, _Address]]:
    """Return what to bind, without duplicates."""
    if not 0 <= port <= 65_535:
        raise OSError(0, "a port is a number from 0 to 65535")
    if not host:
        if socket.has_dualstack_ipv6():
            return [(socket.AF_INET6, ("::", port))]
        return [(socket.AF_INET, ("0.0.0.0", port))]  # noqa: S104 - "" asks for every address
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError):
        raise OSError(0, "no such host; write a name this machine knows or an address") from None
    return list(dict.fromkeys((family, cast(_Address, address)) for family, _, _, _, address in found))


def _bound(family: socket.AddressFamily, address: _Address, *, dual: bool) -> socket.socket:
    """Return a bound socket; accepted ones inherit its options."""
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if dual else 1)
        bound.bind(address)
        # A second program could still bind the address as long as nobody listens on it.
        bound.listen(_EARLY_BACKLOG)
        bound.setblocking(False)
    except OSError:
        bound.close()
        raise
    return bound


def _spoken(host: str, port: int) -> str:
    """Return an address as an operator would write it."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
