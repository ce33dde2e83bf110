"""What an application and a connection hand each other."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from pulp_runtime._net.head import HeaderBlock, HeadParser, RequestLine
from pulp_runtime._net.settings import HttpSettings

if TYPE_CHECKING:
    from pulp_runtime._net.http1 import Http1Connection


class Request:
    """One well-formed request.

    Attributes:
        connection: where it came from and where its answer goes.
        line: method, path, query.
        block: header fields.
        body: all of it.
        keep_alive: whether the connection stays open after the answer, by
            version, headers and shutdown. Read it when the answer is rendered.
        received: `loop.time()` when its last byte was here.
        direct: whether its answer may be sent from another thread.
        sent: it has been, and the loop has not noticed yet.
    """

    __slots__ = ("block", "body", "connection", "direct", "keep_alive", "line", "received", "sent")

    def __init__(
        self,
        connection: Http1Connection,
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


Handler = Callable[[Request], None]


class Service:
    """What the connections of one listener share.

    Attributes:
        handler: called on the loop's thread, once for each well-formed request.
        settings: timeouts and limits.
        time: the loop's clock.
        on_disconnect: called when the connection of an unanswered request is lost.
        changed: called after a connection came or went.
        heads: the parser, with its memo.
        connections: those that are open.
        held_bytes: of unfinished bodies, all connections together.
        closing: no more connections are wanted.
    """

    __slots__ = (
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
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self.handler: Final = handler
        self.settings: Final = settings
        self.time: Final = time
        self.on_disconnect: Final = on_disconnect
        self.changed: Final = changed
        self.heads: Final = HeadParser(settings)
        self.connections: Final[set[Http1Connection]] = set()
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
