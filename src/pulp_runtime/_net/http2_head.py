"""A request out of an HTTP/2 header list, held to the same rules as one of HTTP/1 (RFC 9113 §8).

The list is turned into a request line and a header block of HTTP/1.1, which the same code judges: whoever is refused
there is refused here. In front of it stand the rules that only HTTP/2 has. Lines and blocks seen before are remembered
as `head` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pulp_runtime._net.chunked import TRAILER_BYTES, TRAILER_FIELDS
from pulp_runtime._net.fault import RequestFault, bad
from pulp_runtime._net.fields import forbidden_in_value_bytes
from pulp_runtime._net.head import MEMO_BYTES, MEMO_ENTRIES, HeaderBlock, HeadParser, RequestLine
from pulp_runtime._net.settings import HttpSettings

Pair = tuple[bytes, bytes]

PSEUDO: Final = frozenset({b":method", b":scheme", b":authority", b":path"})
_SCHEMES: Final = (b"https", b"http")
_BETWEEN: Final = len(": \r\n")  # what a field takes in HTTP/1 beside name and value

#: Fields that speak of the connection, which HTTP/2 does by other means (RFC 9113 §8.2.2).
_HOP_BY_HOP: Final = frozenset({b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"})


class Http2Heads:
    """Reads header lists for one listener.

    Args:
        lines: the listener's parser of request lines, with its memo.
        settings: how long heads may be.
    """

    __slots__ = ("_blocks", "_lines", "_settings")

    def __init__(self, lines: HeadParser, settings: HttpSettings) -> None:
        self._lines: Final = lines
        self._settings: Final = settings
        self._blocks: Final[dict[tuple[bytes | None, tuple[Pair, ...]], HeaderBlock]] = {}

    def parse(self, pairs: Sequence[Pair]) -> tuple[RequestLine, HeaderBlock]:
        """Read the header list of a request.

        Raises:
            RequestFault: 400 for what RFC 9113 §8 calls malformed, and for what HTTP/1 would refuse; 414 or 431 for
                what is too long, 417 for an unknown Expect.
        """
        first = 0
        while first < len(pairs) and pairs[first][0][:1] == b":":
            first += 1
        pseudo = dict(pairs[:first])
        if len(pseudo) != first or not PSEUDO.issuperset(pseudo):
            raise bad("malformed pseudo-header fields")
        line = self._line(pseudo)
        authority = pseudo.get(b":authority")
        rest = tuple(pairs[first:])
        block = self._blocks.get((authority, rest))
        return line, block if block is not None else self._block(authority, rest)

    def _line(self, pseudo: dict[bytes, bytes]) -> RequestLine:
        """Return the request line that the pseudo-header fields stand for."""
        method = pseudo.get(b":method", b"")
        target = pseudo.get(b":path", b"")
        if pseudo.get(b":scheme") not in _SCHEMES:
            raise bad("malformed :scheme")
        if target[:1] != b"/" and not (target == b"*" and method == b"OPTIONS"):
            raise bad("malformed :path")
        return self._lines.line(b"%b %b HTTP/1.1" % (method, target))

    def _block(self, authority: bytes | None, rest: tuple[Pair, ...]) -> HeaderBlock:
        """Read the fields, and keep the block if any line may precede it."""
        size = sum(len(name) + len(value) + _BETWEEN for name, value in rest)
        if size > self._settings.head_bytes:
            raise RequestFault(431, "request head too long")
        for name, value in rest:
            _check(name, value)
        fields = _joined_cookies(rest)
        if len(fields) > self._settings.head_fields:
            raise RequestFault(431, "too many header fields")
        block = HeaderBlock(_with_host(authority, fields), 1, size)
        if block.neutral and size <= MEMO_BYTES:
            if len(self._blocks) >= MEMO_ENTRIES:
                self._blocks.clear()
            self._blocks[authority, rest] = block
        return block


def check_trailers(pairs: Sequence[Pair]) -> None:
    """Check fields that come behind a body; they are dropped then.

    Raises:
        RequestFault: 400 they break the rules, 431 they are too many.
    """
    if len(pairs) > TRAILER_FIELDS or sum(len(name) + len(value) + _BETWEEN for name, value in pairs) > TRAILER_BYTES:
        raise RequestFault(431, "trailers too large")
    for name, value in pairs:
        if name[:1] == b":":
            raise bad("pseudo-header field in trailers")
        _check(name, value)
    HeaderBlock([(b"host", b"trailers"), *((name, value) for name, value in pairs if name != b"host")], 1)


def _check(name: bytes, value: bytes) -> None:
    """Check what HTTP/1 has no means to send, or sends in another form."""
    if name != name.lower():
        raise bad("header name in upper case")
    if name in _HOP_BY_HOP or (name == b"te" and value.lower() != b"trailers"):
        raise bad("connection-specific header field")
    if forbidden_in_value_bytes(value):
        raise bad("stray control character in header")
    if value[:1] in (b" ", b"\t") or value[-1:] in (b" ", b"\t"):
        raise bad("blank around header value")


def _joined_cookies(rest: Sequence[Pair]) -> list[Pair]:
    """Return the fields with one Cookie line, which clients may cut in pieces (RFC 9113 §8.2.3)."""
    crumbs = [value for name, value in rest if name == b"cookie"]
    if len(crumbs) < 2:
        return list(rest)
    fields = [field for field in rest if field[0] != b"cookie"]
    return [*fields, (b"cookie", b"; ".join(crumbs))]


def _with_host(authority: bytes | None, fields: list[Pair]) -> list[Pair]:
    """Return the fields with the Host that `:authority` stands for (RFC 9113 §8.3.1)."""
    if authority is None:
        return fields  # whether there is a Host is looked at like in HTTP/1
    if not authority:
        raise bad("empty :authority")
    hosts = [value for name, value in fields if name == b"host"]
    if hosts and hosts != [authority]:
        raise bad("Host is not :authority")
    return [(b"host", authority), *(field for field in fields if field[0] != b"host")]
