"""An answer as bytes: what a cell said, made safe.

A cell may name any status, any header and any body; what goes on the wire is
one well-formed HTTP/1 response whose framing is ours. The work is cut in two:

    render_head_fields(status, headers, cookies)   checks and encodes; its result
                                                   depends on nothing else, so a
                                                   caller may keep it
    assemble(fields, body, ...)                    adds Date, framing and body;
                                                   a few concatenations

Which statuses a cell may use: 0 means 200; otherwise 200 to 999. Informational
ones are refused, because they would announce a second answer that never comes.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterable, Mapping
from enum import Enum
from http import HTTPStatus
from typing import Final

from pulp_runtime._net.fields import canonical_name, forbidden_in_value, is_token
from pulp_runtime._net.sniff import content_type
from pulp_runtime.errors import PulpError

#: Most header lines of an answer, cookies included. Past it `ResponseInvalid`.
HEADER_FIELDS: Final = 100
#: Longest head of an answer. Past it `ResponseInvalid`.
HEAD_BYTES: Final = 64 * 1024

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"

#: What a cell says about framing and the connection is for us to know, never for the wire.
_OURS: Final = frozenset(
    {
        "Connection",
        "Content-Length",
        "Date",
        "Keep-Alive",
        "Proxy-Connection",
        "Te",
        "Trailer",
        "Transfer-Encoding",
        "Upgrade",
    }
)

_REASONS: Final = {status.value: status.phrase for status in HTTPStatus}
_LENGTHS: Final = tuple(b"Content-Length: %d\r\n\r\n" % size for size in range(2_048))
_CLOSE: Final = b"Connection: close\r\n"
_KEEP: Final = b"Connection: keep-alive\r\n"


class ResponseInvalid(PulpError):
    """An answer of a cell that cannot be sent; its client is answered 500."""


class RenderedFields:
    """The part of an answer that does not depend on its body.

    Attributes:
        status: 200 to 999.
        head: status line and header lines, each with CRLF.
        typed: a Content-Type is there, or sniffing one would be wrong.
        close: the cell asked for the connection to be closed; pass it to `respond`.
        chunked: the cell asked for the chunked coding.
        content_length: what the cell said, if it is a number; counts for HEAD only.
        plain: nothing of all this asks for more than a length and a body.
    """

    __slots__ = ("_pairs", "chunked", "close", "content_length", "head", "plain", "status", "typed")

    def __init__(self, status: int, head: bytes, ours: Mapping[str, str], *, typed: bool) -> None:
        self.status = status
        self.head = head
        self.close = "close" in _tokens(ours.get("Connection", ""))
        self.chunked = _tokens(ours.get("Transfer-Encoding", "")) == ["chunked"]
        self.typed = typed or self.chunked
        self.plain = self.typed and not self.close and not self.chunked and status not in (204, 205, 304)
        length = ours.get("Content-Length", "")
        usable = length.isascii() and length.isdigit() and len(length) <= 18
        self.content_length = int(length) if usable else None
        self._pairs: tuple[tuple[bytes, bytes], ...] | None = None

    @property
    def pairs(self) -> tuple[tuple[bytes, bytes], ...]:
        """Header names, in lower case, and values, as HTTP/2 wants them (RFC 9113 §8.2.1)."""
        if self._pairs is None:
            lines = (line.partition(b": ") for line in self.head.split(b"\r\n")[1:-1])
            self._pairs = tuple((name.lower(), value) for name, _, value in lines)
        return self._pairs

    def with_line(self, name: bytes, value: bytes) -> RenderedFields:
        """Return the same with a header line of ours, in the place of any of that name; both are known to be fine."""
        other = copy.copy(self)
        lines = self.head.split(b"\r\n")[:-1]
        kept = [line for line in lines if not line.startswith(name + b": ")]
        other.head = b"".join(line + b"\r\n" for line in (*kept, name + b": " + value))
        other._pairs = None
        return other

    @property
    def bodiless(self) -> bool:
        """Whether an answer of this status has no body."""
        return self.status in (204, 205, 304)


def render_head_fields(status: int, headers: Mapping[str, str], cookies: Iterable[str] = ()) -> RenderedFields:
    """Check and encode status, headers and cookies.

    Of two spellings of one name the later wins; a `Set-Cookie` in `headers`
    stays beside the cookies.

    Raises:
        ResponseInvalid: a status outside 200..999, a name that is no token, a
            control character in a value, or more than the bounds allow.
    """
    status = status or 200
    if not 200 <= status <= 999:
        raise ResponseInvalid(f"status {status} is not between 200 and 999")
    ours: dict[str, str] = {}
    sent: dict[str, str] = {}
    for name, value in headers.items():
        if not is_token(name):
            raise ResponseInvalid(f"header name {name[:80]!r} is not a token")
        canonical = canonical_name(name)
        (ours if canonical in _OURS else sent)[canonical] = _checked(canonical, value)
    lines = [f"{name}: {value}\r\n" for name, value in sent.items()]
    lines += [f"Set-Cookie: {_checked('Set-Cookie', cookie)}\r\n" for cookie in cookies]
    if len(lines) > HEADER_FIELDS:
        raise ResponseInvalid(f"{len(lines)} header lines are more than {HEADER_FIELDS}")
    text = f"HTTP/1.1 {status} {_REASONS.get(status, f'status code {status}')}\r\n" + "".join(lines)
    try:
        head = text.encode()
    except UnicodeEncodeError:
        raise ResponseInvalid("a header value holds a lone surrogate") from None
    if len(head) > HEAD_BYTES:
        raise ResponseInvalid(f"a response head of {len(head)} bytes is more than {HEAD_BYTES}")
    return RenderedFields(status, head, ours, typed="Content-Type" in sent or bool(sent.get("Content-Encoding")))


def assemble(
    fields: RenderedFields,
    body: bytes,
    method: str = "GET",
    keep_alive: bool = True,
    http10: bool = False,
) -> bytes:
    """Return the complete answer.

    Args:
        fields: from `render_head_fields`.
        body: left out for HEAD, 204, 205 and 304.
        method: of the request; HEAD is told the length of the body it does not get.
        keep_alive: whether the connection stays open, as `Request.keep_alive`
            says; `fields.close` overrules it.
        http10: the client speaks HTTP/1.0, which knows no chunks and closes
            unless told otherwise.
    """
    size = len(body)
    if fields.plain and keep_alive and not http10 and method != "HEAD":  # nearly all of them
        length = _LENGTHS[size] if size < 2_048 else b"Content-Length: %d\r\n\r\n" % size
        return b"".join((fields.head, date_line(), length, body))
    connection = _CLOSE
    if keep_alive and not fields.close:
        connection = _KEEP if http10 else b""
    status = fields.status
    if method == "HEAD" or status in (204, 205, 304) or fields.chunked:
        return _assemble_unusual(fields, body, connection, method, http10)
    kind = b"" if fields.typed or not size else b"Content-Type: " + content_type(body) + b"\r\n"
    length = _LENGTHS[size] if size < 2_048 else b"Content-Length: %d\r\n\r\n" % size
    return b"".join((fields.head, kind, connection, date_line(), length, body))


def _assemble_unusual(fields: RenderedFields, body: bytes, connection: bytes, method: str, http10: bool) -> bytes:
    """Assemble an answer whose body is missing or in chunks."""
    start = fields.head
    if body and not fields.typed and fields.status not in (204, 205, 304):
        start += b"Content-Type: " + content_type(body) + b"\r\n"
    start += connection + date_line()
    if fields.status in (204, 304):
        return start + b"\r\n"
    if fields.status == 205:
        return start + _LENGTHS[0]
    if fields.chunked and not http10:
        start += b"Transfer-Encoding: chunked\r\n\r\n"
        if method == "HEAD":
            return start
        return start + (b"%x\r\n%s\r\n" % (len(body), body) if body else b"") + b"0\r\n\r\n"
    size = len(body)
    if method == "HEAD":
        if not body and fields.content_length is not None:
            size = fields.content_length
        body = b""
    return start + b"Content-Length: %d\r\n\r\n" % size + body


class Framing(Enum):
    """How the end of a body in pieces is told."""

    NONE = "there is no body"
    LENGTH = "by its length"
    CHUNKED = "by a last chunk"
    CLOSE = "by the end of the connection"


def assemble_head(fields: RenderedFields, method: str, keep_alive: bool, http10: bool) -> tuple[bytes, Framing]:
    """Return the head of an answer whose body follows in pieces, and how its end will be told.

    A length that the cell named is kept; without one the body is chunked, or ends with the connection (HTTP/1.0).
    """
    if method == "HEAD" or fields.bodiless:
        head = _assemble_unusual(fields, b"", _CLOSE if not keep_alive or fields.close else b"", method, http10)
        return head, Framing.NONE
    if fields.content_length is not None and not fields.chunked:
        framing, lines = Framing.LENGTH, b"Content-Length: %d\r\n" % fields.content_length
    elif http10:
        framing, lines, keep_alive = Framing.CLOSE, b"", False
    else:
        framing, lines = Framing.CHUNKED, b"Transfer-Encoding: chunked\r\n"
    connection = _CLOSE
    if keep_alive and not fields.close:
        connection = _KEEP if http10 else b""
    return b"".join((fields.head, connection, date_line(), lines, b"\r\n")), framing


def render(
    status: int,
    headers: Mapping[str, str],
    cookies: Iterable[str],
    body: bytes,
    *,
    method: str = "GET",
    keep_alive: bool = True,
    http10: bool = False,
) -> bytes:
    """Check, encode and assemble an answer in one go.

    Raises:
        ResponseInvalid: see `render_head_fields`.
    """
    fields = render_head_fields(status, headers, cookies)
    return assemble(fields, body, method=method, keep_alive=keep_alive, http10=http10)


def date_line() -> bytes:
    """Return the Date header line of this second."""
    global _date
    second, line = _date
    now = int(time.time())
    if now != second:
        from email.utils import formatdate  # long to import, and not needed before the first answer

        line = b"Date: " + formatdate(now, usegmt=True).encode() + b"\r\n"
        _date = (now, line)  # one assignment: a reader sees the old pair or the new one
    return line


def _checked(name: str, value: str) -> str:
    """Return a header value without the blanks around it, if it is one."""
    if forbidden_in_value(value):
        raise ResponseInvalid(f"the value of {name} holds a control character")
    return value.strip(" \t")


def _tokens(value: str) -> list[str]:
    """Split a comma-separated list into lower-case tokens."""
    return [token.strip().lower() for token in value.split(",")] if value else []


_date: tuple[int, bytes] = (0, b"")
