"""TLS between a socket and the protocol that is spoken on it.

    socket ──▶ TlsPeer ──▶ OpenSSL ──▶ TlsTransport ──▶ HTTP/1 or HTTP/2
    socket ◀──────────────  OpenSSL ◀── TlsTransport ◀──

The event loop could do this too. Here a client has a place among the listener's connections, and a deadline, from its
first byte and not from the end of the handshake; what waits to be sent is counted as a whole; and either side may
shut first, as without TLS.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Any, Final, cast

from pulp_runtime._net import answers
from pulp_runtime._net.exchange import Service
from pulp_runtime._net.peer import SocketPeer

_READ_BYTES: Final = 16 * 1024  # OpenSSL gives one record at a time
_RECORD_BYTES: Final = 16 * 1024
_HANDSHAKE: Final = 0x16  # the type of the first record a client sends (RFC 8446 §5.1)


class TlsTransport(asyncio.Transport):
    """An encrypted connection, as the protocol above sees it."""

    def __init__(self, raw: asyncio.Transport, tls: ssl.SSLObject, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO):
        super().__init__()
        self._raw: Final = raw
        self._tls: Final = tls
        self._incoming: Final = incoming
        self._outgoing: Final = outgoing
        self._protocol: asyncio.Protocol
        self._paused = self._pumping = self._shut = self._closing = self._eof = False
        self._keep = True  # what the protocol answered to `eof_received`

    # -- what the protocol above calls

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """See `asyncio.BaseTransport`."""
        self._protocol = cast(asyncio.Protocol, protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        """See `asyncio.BaseTransport`."""
        return self._protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """See `asyncio.BaseTransport`."""
        if name == "sslcontext":
            return self._tls.context
        return self._tls if name == "ssl_object" else self._raw.get_extra_info(name, default)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """See `asyncio.WriteTransport`."""
        if self._shut or self.is_closing():
            return
        try:
            if len(data) <= _RECORD_BYTES:
                if data:
                    self._tls.write(data)
            else:
                view = memoryview(data)
                at = 0
                while at < len(view):  # one record a time
                    at += self._tls.write(view[at : at + _RECORD_BYTES])
        except ssl.SSLError:
            self.abort()
        else:
            self._raw.write(self._outgoing.read())

    def can_write_eof(self) -> bool:
        """See `asyncio.WriteTransport`."""
        return True

    def write_eof(self) -> None:
        """Say that no more will come; what comes in from here on is thrown away."""
        if not self._shut and not self._closing:
            self._notify()
            self._raw.write_eof()

    def is_closing(self) -> bool:
        """See `asyncio.BaseTransport`."""
        return self._closing or self._raw.is_closing()

    def close(self) -> None:
        """See `asyncio.BaseTransport`. Nobody waits for the client's own goodbye."""
        if not self._closing:
            if not self._shut and not self._raw.is_closing():
                self._notify()
            self._closing = True
            self._raw.close()

    def abort(self) -> None:
        """See `asyncio.WriteTransport`."""
        self._closing = True
        self._raw.abort()

    def pause_reading(self) -> None:
        """See `asyncio.ReadTransport`."""
        self._paused = True
        self._raw.pause_reading()

    def resume_reading(self) -> None:
        """See `asyncio.ReadTransport`."""
        if self._paused:
            self._paused = False
            self._raw.resume_reading()
            if not self._pumping:
                asyncio.get_running_loop().call_soon(self._pump)

    def is_reading(self) -> bool:
        """See `asyncio.ReadTransport`."""
        return not self._paused and self._raw.is_reading()

    def get_write_buffer_size(self) -> int:
        """See `asyncio.WriteTransport`."""
        return self._raw.get_write_buffer_size()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """See `asyncio.WriteTransport`."""
        return self._raw.get_write_buffer_limits()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """See `asyncio.WriteTransport`."""
        self._raw.set_write_buffer_limits(high, low)

    # -- what `TlsPeer` calls

    def receive(self, data: bytes) -> None:
        """Take bytes of the socket."""
        if not self._shut and not self._closing:
            self._incoming.write(data)
            self._pump()

    def end(self) -> bool:
        """Note that the client has shut its side, in TLS or below; return whether ours stays open."""
        if not self._eof:
            self._eof = True
            self._keep = bool(self._protocol.eof_received())
        return self._keep and not self._shut

    def lost(self, error: Exception | None) -> None:
        """Note that the socket is gone."""
        self._closing = True
        self._protocol.connection_lost(error)

    def pace(self, *, paused: bool) -> None:
        """Pass on how fast the client is."""
        if paused:
            self._protocol.pause_writing()
        else:
            self._protocol.resume_writing()

    def _pump(self) -> None:
        """Hand on what can be read."""
        self._pumping = True
        try:
            while not (self._paused or self._shut or self._closing or self._eof):
                data = self._tls.read(_READ_BYTES)
                if not data:
                    if not self.end():
                        self.close()
                    break
                self._protocol.data_received(data)
                if not self._incoming.pending and not self._tls.pending():
                    break
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError:
            self._flush()  # an alert says what is wrong
            self.close()
        finally:
            self._pumping = False
        self._flush()

    def _flush(self) -> None:
        """Send what OpenSSL has to say for itself."""
        if self._outgoing.pending and not self._raw.is_closing():
            self._raw.write(self._outgoing.read())

    def _notify(self) -> None:
        """Say goodbye in TLS's own words: without it the client cannot know that it has everything."""
        self._shut = True
        try:
            self._tls.unwrap()
        except ssl.SSLError:
            pass  # the client's goodbye is not here yet, and need not come
        self._flush()


class TlsPeer(SocketPeer):
    """A socket with TLS; before the handshake is done it is a `Peer` by itself.

    Args:
        service: the listener's.
        context: of this connection.
        choose: `choose(alpn)` makes the protocol to speak, by the name the client agreed to or None.
    """

    __slots__ = ("_above", "_choose", "_context", "_greeted", "_incoming", "_outgoing", "_tls")

    def __init__(
        self, service: Service, context: ssl.SSLContext, choose: Callable[[str | None], asyncio.Protocol]
    ) -> None:
        super().__init__(service)
        self._context: Final = context
        self._choose: Final = choose
        self._incoming: Final = ssl.MemoryBIO()
        self._outgoing: Final = ssl.MemoryBIO()
        self._tls: Final = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._above: TlsTransport | None = None
        self._greeted = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a place; a client that gets none is not told why, it would take a handshake."""
        service = self._service
        self._transport = cast(asyncio.Transport, transport)
        if service.closing or len(service.connections) >= service.settings.connections:
            self._transport.abort()
            return
        self._enter(self._transport)
        self.deadline = service.time() + service.settings.header_seconds

    def data_received(self, data: bytes) -> None:
        """Pass bytes on, or have them carry the handshake on."""
        if self._above is not None:
            self._above.receive(data)
        else:
            self._shake_hands(data)

    def _shake_hands(self, data: bytes) -> None:
        transport = self._transport
        if not self._greeted:
            self._greeted = True
            if data[0] != _HANDSHAKE:
                if data[:1].isalpha():
                    transport.write(answers.last_words(400, "this port speaks TLS; write https:// before its address"))
                self._close()
                return
        self._incoming.write(data)
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            transport.write(self._outgoing.read())
            return
        except ssl.SSLError:
            transport.write(self._outgoing.read())  # an alert says what is wrong
            self._close()
            return
        transport.write(self._outgoing.read())
        self._leave()
        self._above = above = TlsTransport(transport, self._tls, self._incoming, self._outgoing)
        protocol = self._choose(self._tls.selected_alpn_protocol())
        above.set_protocol(protocol)
        protocol.connection_made(above)
        above.receive(b"")  # a first request may have come with the last of the handshake

    def eof_received(self) -> bool:
        """Pass it on; before the handshake is done there is nobody to keep the socket for."""
        return self._above.end() if self._above is not None else False

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass it on, or give up the place."""
        if self._above is not None:
            self._above.lost(exc)
        else:
            self._leave()

    def pause_writing(self) -> None:
        """Pass it on."""
        if self._above is not None:
            self._above.pace(paused=True)

    def resume_writing(self) -> None:
        """Pass it on."""
        if self._above is not None:
            self._above.pace(paused=False)

    def expire(self, now: float) -> None:  # noqa: ARG002 - there is one deadline, and it has passed
        """End a handshake that takes too long."""
        self._transport.abort()

    def close_when_idle(self) -> None:
        """End: no request has been heard."""
        self._transport.abort()
