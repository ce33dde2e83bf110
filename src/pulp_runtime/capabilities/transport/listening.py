"""What listens for a host: settings, certificate and access log of its listeners, and how one of them is served.

A `Front` has one of its own, or that of the gateway it is behind: see `gateway`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from pulp_runtime._net.exchange import BodyPlan, Handler
from pulp_runtime._net.head import HeaderBlock, RequestLine
from pulp_runtime._net.listener import Listener
from pulp_runtime.capabilities.transport.listener_settings import ListenerSettings
from pulp_runtime.errors import PulpError
from pulp_runtime.log import Log

if TYPE_CHECKING:
    from pulp_runtime._net.tls import Certificate
    from pulp_runtime.capabilities.transport.access import Access

GRACE_SECONDS: Final = 5.0


class Listening:
    """How a host listens.

    Args:
        settings: the operator's.

    Attributes:
        limits: timeouts and limits of every listener.
        http2: whether HTTP/2 is spoken without TLS.
        certificate: of the shared listener, None for no TLS.
        access: what is done to every request, None for nothing.
        proxies: whether the operator says which proxies are trusted; then `access` clears what others say.

    Raises:
        CertificateInvalid: the certificate cannot be used.
        ExtensionError: a trusted proxy is no network.
    """

    def __init__(self, settings: ListenerSettings) -> None:
        self.limits: Final = settings.limits
        self.http2: Final = settings.http2
        self.certificate: Final[Certificate | None] = settings.certificate()
        self.access: Final[Access | None] = settings.access()
        self.proxies: Final = settings.trusted_proxies is not None

    @property
    def scheme(self) -> str:
        """`http` or `https`, for the shared listener."""
        return "http" if self.certificate is None else "https"

    def url(self, bound: str) -> str:
        """Return where a client on this machine reaches the shared listener; a wildcard means loopback."""
        host, _, port = bound.rpartition(":")
        reachable = f"127.0.0.1:{port}" if host in ("0.0.0.0", "[::]") else bound  # noqa: S104  # compared, not bound
        return f"{self.scheme}://{reachable}"

    async def serve(
        self,
        listener: Listener,
        take: Handler,
        left: Handler,
        bodies: Callable[[RequestLine, HeaderBlock], BodyPlan],
        *,
        shared: bool,
    ) -> None:
        """Begin to accept; returns at once.

        Args:
            listener: bound sockets.
            take: called for each request, on the loop.
            left: called for each unanswered request whose client has left, on the loop.
            bodies: says how the body of a request is wanted.
            shared: the operator's listener: the one with TLS, if there is a certificate.
        """
        access = self.access
        await listener.serve(
            take if access is None else access.before(take),
            self.limits,
            on_disconnect=left if access is None else access.behind(left),
            bodies=bodies,
            certificate=self.certificate if shared else None,
            http2=self.http2,
        )

    def reload_certificate(self, log: Log) -> bool:
        """Read the certificate again, for connections to come; False when there is none, or it cannot be used."""
        certificate = self.certificate
        if certificate is None:
            return False
        try:
            certificate.reload()
        except PulpError as error:
            log.error("certificate not loaded; the one before it stays", err=str(error))
            return False
        log.info("certificate loaded again", cert=str(certificate.chain))
        return True


def split_address(address: str) -> tuple[str, int] | None:
    """Return host and port of `host:port`, `:port` or `port`; the host is "" where none is said, None for neither."""
    host, _, port = address.rpartition(":")
    return (host.strip("[]"), int(port)) if port.isascii() and port.isdigit() else None
