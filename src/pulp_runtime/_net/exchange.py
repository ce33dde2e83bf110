"""What an application and a connection hand each other: requests, answers, and what follows neither shape.

handler(request)            on the loop, once for each well-formed request
connection.render           an answer made ready, on any thread
connection.respond          ... and sent: a complete answer
connection.begin            an answer in pieces (ResponseStream)
connection.take_over        another protocol from here on (WebSocket)
request.upload              a body that is still arriving (Upload)
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from pulp_runtime._net.head import HeaderBlock, HeadParser, RequestLine
from pulp_runtime._net.settings import HttpSettings

if TYPE_CHECKING:
    from pulp_runtime._net.response import RenderedFields
    from pulp_runtime._net.stream import ResponseStream
    from pulp_runtime._net.upload import Upload


class Request:
    """One well-formed request.

    Attributes:
        connection: where it came from and where its answer goes.
        line: method, path, query.
        block: header fields.
        body: all of it; empty while there is an `upload`.
        upload: its body as it arrives, where `Service.bodies` wants it so; None for any other.
        keep_alive: whether the connection stays open after the answer, by
            version, headers and shutdown. Read it when the answer is rendered.
        received: `loop.time()` when its last byte was here; its head's last byte, if there is an `upload`.
        direct: whether its answer may be sent from another thread.
        sent: it has been, and the loop has not noticed yet.
        stream: the HTTP/2 stream it came by, 0 for HTTP/1.
    """

    __slots__ = ("block", "body", "connection", "direct", "keep_alive", "line", "received", "sent", "stream", "upload")

    def __init__(
        self,
        connection: Connection,
        line: RequestLine,
        block: HeaderBlock,
        body: bytes,
        keep_alive: bool,
        received: float,
    ) -> None:
        self.connection = connection
        self.line = line
        self.block = block
        self.body = body
        self.keep_alive = keep_alive
        self.received = received
        self.direct = False
        self.sent = False
        self.stream = 0
        self.upload: Upload | None = None


class Connection(Protocol):
    """A client's connection, as far as an application may use it; HTTP/1 and HTTP/2 each have one.

    Attributes:
        remote_addr: `ip:port` of the TCP peer, IPv6 in brackets; no header changes it.
        packed_remote_addr: the same, by `abi.http.pack_remote_addr`.
        secure: whether it is encrypted.
    """

    remote_addr: str
    packed_remote_addr: bytes
    secure: bool

    def limit_idle(self, seconds: float) -> None:
        """Have the client be silent no longer than this after its answers. On the loop."""

    def render(self, request: Request, fields: RenderedFields, body: bytes) -> Any:
        """Make a complete answer ready for `respond`. From any thread; changes nothing."""

    def respond(self, request: Request, answer: Any, *, close: bool = False) -> None:
        """Send a complete answer, which `render` made. On the loop.

        Nothing happens when the request is answered already or its connection is gone.

        Args:
            request: which one.
            answer: from `render`.
            close: end the connection, whatever the client asked for.
        """

    def send_direct(self, request: Request, answer: Any) -> Any | None:
        """Send a complete answer, that leaves the connection open, from any thread.

        Returns:
            None when that was all; otherwise what is left of it for `respond`.
        """

    def begin(self, request: Request, fields: RenderedFields) -> ResponseStream | None:
        """Send a head, and let the body follow in pieces. On the loop.

        Returns:
            None when the request is answered already or its connection is gone.
        """

    def take_over(self, request: Request) -> TakenOver | None:
        """Leave the socket to another protocol, which has yet to answer the request. On the loop.

        Returns:
            None when the connection cannot be left: it is gone, or carries other requests too (HTTP/2).
        """


class BodyPlan(NamedTuple):
    """How the body of one request is wanted.

    Attributes:
        limit: how long it may be, in bytes. Past it 413.
        streamed: as it arrives, in `Request.upload`; otherwise whole, in `Request.body`.
    """

    limit: int
    streamed: bool = False


class TakenOver(NamedTuple):
    """A socket that another protocol continues with.

    Attributes:
        transport: call `set_protocol` on it.
        unread: bytes that came behind the request.
        service: the listener's; the new protocol is a `Peer` in its `connections` until it is lost.
    """

    transport: asyncio.Transport
    unread: bytes
    service: Service


class Peer(Protocol):
    """Whatever holds a socket of a listener: the sweep and the shutdown ask this of it.

    Attributes:
        deadline: when `expire` is to be called, by the loop's clock; looked at once a second.
    """

    deadline: float

    def expire(self, now: float) -> None:
        """Act on a deadline that has passed."""

    def close_when_idle(self) -> None:
        """Begin to end: the listener is closing."""

    def abort(self) -> None:
        """Close without waiting for anything."""


Handler = Callable[[Request], None]


class Service:
    """What the connections of one listener share.

    Attributes:
        handler: called on the loop's thread, once for each well-formed request.
        settings: timeouts and limits.
        time: the loop's clock.
        on_disconnect: called when the client of an unanswered request is gone, or has shut its side: it may still
            read then, but many that do so have left.
        bodies: says by a request's head how its body is wanted; it may raise `RequestFault`.
        changed: called after a connection came or went.
        heads: the parser, with its memo.
        connections: those that are open.
        held_bytes: of unfinished bodies, all connections together.
        closing: no more connections are wanted.
    """

    __slots__ = (
        "bodies",
        "changed",
        "closing",
        "connections",
        "handler",
        "heads",
        "held_bytes",
        "on_disconnect",
        "settings",
        "time",
    )

    def __init__(
        self,
        handler: Handler,
        settings: HttpSettings,
        *,
        time: Callable[[], float],
        on_disconnect: Handler | None = None,
        bodies: Callable[[RequestLine, HeaderBlock], BodyPlan] | None = None,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self.handler: Final = handler
        self.settings: Final = settings
        self.time: Final = time
        self.on_disconnect: Final = on_disconnect
        self.bodies: Final = bodies or (lambda _line, _block: BodyPlan(settings.body_bytes))
        self.changed: Final = changed
        self.heads: Final = HeadParser(settings)
        self.connections: Final[set[Peer]] = set()
        self.held_bytes = 0
        self.closing = False


def address_text(peer: object) -> str:
    """Return a peer's address as `ip:port`, an IPv6 one in brackets, a mapped IPv4 one as IPv4."""
    if not isinstance(peer, tuple) or len(peer) < 2:
        return ""
    host, port = str(peer[0]), peer[1]
    if host.startswith("::ffff:") and "." in host:
        host = host.removeprefix("::ffff:")
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
