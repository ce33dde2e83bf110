"""The opening handshake of a WebSocket, from the server's side (RFC 6455 §4.2)."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Container
from typing import Final, NamedTuple

from pulp_runtime._net.answers import Answer, error
from pulp_runtime._net.exchange import Request
from pulp_runtime._net.response import RenderedFields, render_head_fields
from pulp_runtime._net.websocket_deflate import Deflate, agree
from pulp_runtime.errors import PulpError

VERSION: Final = "13"
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY_BYTES: Final = 16
ANY_ORIGIN: Final = "*"


class HandshakeRefused(PulpError):
    """A request that becomes no WebSocket.

    Attributes:
        status: 400, 403, 405 or 426.
        reason: why.
    """

    def __init__(self, status: int, reason: str) -> None:
        self.status = status
        self.reason = reason
        super().__init__(f"{status}: {reason}")

    @property
    def answer(self) -> Answer:
        """What the client is told."""
        fields, body = error(self.status, self.reason)
        if self.status == 405:
            return Answer(_with(fields, "Allow: GET"), body)
        if self.status in (400, 426):  # RFC 6455 §4.2.2, RFC 9110 §15.5.22
            fields = _with(fields, f"Sec-WebSocket-Version: {VERSION}")
        return Answer(_with(fields, "Upgrade: websocket") if self.status == 426 else fields, body)


class Handshake(NamedTuple):
    """A handshake that was accepted.

    Attributes:
        answer: the bytes of the 101.
        deflate: the compression both sides agreed on, None for none.
    """

    answer: bytes
    deflate: Deflate | None


def accept(request: Request, *, origins: Container[str] = (), deflate: bool = False) -> Handshake:
    """Check a handshake, and make its answer. No subprotocol is ever selected.

    Args:
        request: what asks for the upgrade.
        origins: pages from elsewhere that may connect, in lower case (`https://app.example`), or `*` for any. A page
            of the host that is asked, and a program that names no origin, always may.
        deflate: whether to agree to compression.

    Raises:
        HandshakeRefused: it is not a handshake, or not allowed.
    """
    block = request.block
    if request.line.method != "GET":
        raise HandshakeRefused(405, "a WebSocket handshake is a GET")
    if not request.line.minor or block.upgrade != "websocket" or "upgrade" not in block.connection:
        raise HandshakeRefused(426, "this path speaks WebSocket")
    if block.content_length or block.chunked or request.body:
        raise HandshakeRefused(400, "a WebSocket handshake has no body")
    if block.fields.get("Sec-Websocket-Version", "") != VERSION:
        raise HandshakeRefused(400, "unsupported WebSocket version")
    key = block.fields.get("Sec-Websocket-Key", "")
    if not _is_key(key):
        raise HandshakeRefused(400, "invalid Sec-WebSocket-Key")
    origin = block.fields.get("Origin")
    if origin is not None and not _may_connect(origin, request.line.host or block.host, origins):
        raise HandshakeRefused(403, "this origin may not connect")
    agreed = agree(block.fields.get("Sec-Websocket-Extensions", "")) if deflate else None
    lines = [
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Accept: {accept_key(key)}",
        *([] if agreed is None else [f"Sec-WebSocket-Extensions: {agreed[1]}"]),
        "\r\n",
    ]
    return Handshake("\r\n".join(lines).encode(), None if agreed is None else agreed[0])


def accept_key(key: str) -> str:
    """Return what proves that the handshake was understood."""
    digest = hashlib.sha1(key.encode() + _GUID, usedforsecurity=False).digest()
    return base64.b64encode(digest).decode()


def _is_key(key: str) -> bool:
    try:
        return len(base64.b64decode(key.encode(), validate=True)) == _KEY_BYTES
    except (binascii.Error, ValueError):
        return False


def _may_connect(origin: str, host: str, origins: Container[str]) -> bool:
    """Return whether a page of `origin` may talk to `host`: a browser lets it, and sends its user's cookies along."""
    origin = origin.lower()
    scheme, mark, place = origin.partition("://")
    own = bool(scheme and mark and place) and place == host.lower()
    return own or ANY_ORIGIN in origins or origin in origins


def _with(fields: RenderedFields, line: str) -> RenderedFields:
    """Return fields with a line more, also one that is not a cell's to say."""
    plain = render_head_fields(fields.status, {})
    plain.head, plain.typed, plain.plain = fields.head + line.encode() + b"\r\n", fields.typed, fields.plain
    return plain
