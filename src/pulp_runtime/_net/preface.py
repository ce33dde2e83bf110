"""HTTP/2 without TLS: a client that knows beforehand says so in its first 24 bytes (RFC 9113 §3.3, §3.4).

Where the operator allows it, the beginning of each connection is looked at here before it is anybody's: no request of
HTTP/1 begins like that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from pulp_runtime._net.exchange import Service
from pulp_runtime._net.peer import SocketPeer

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


class PrefaceReader(SocketPeer):
    """A connection nobody has said anything on yet.

    Args:
        service: the listener's.
        http1: makes the protocol for clients that begin otherwise.
        http2: makes the one for those that begin with the preface.
    """

    __slots__ = ("_http1", "_http2", "_seen")

    def __init__(
        self, service: Service, http1: Callable[[], asyncio.Protocol], http2: Callable[[], asyncio.Protocol]
    ) -> None:
        super().__init__(service)
        self._http1: Final = http1
        self._http2: Final = http2
        self._seen = b""

    def data_received(self, data: bytes) -> None:
        """Hand the connection on as soon as it is clear to whom."""
        self._seen = seen = self._seen + data
        if seen.startswith(PREFACE):
            self._hand_over(self._http2())
        elif not PREFACE.startswith(seen):
            self._hand_over(self._http1())
        elif seen == data:
            self.deadline = self._service.time() + self._service.settings.header_seconds

    def _hand_over(self, protocol: asyncio.Protocol) -> None:
        self._leave()
        self._transport.set_protocol(protocol)
        protocol.connection_made(self._transport)
        protocol.data_received(self._seen)

    def eof_received(self) -> bool:
        """End: no request can come any more."""
        return False

    def connection_lost(self, _exc: Exception | None) -> None:
        """Give up the place."""
        self._leave()

    def expire(self, now: float) -> None:
        """Begin to count what the client may be silent, or end it."""
        if self.deadline:
            self._transport.abort()
        else:
            self.deadline = now + self.idle_seconds

    def close_when_idle(self) -> None:
        """End: no request has been heard."""
        self._close()
