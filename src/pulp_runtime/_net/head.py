"""A request head: RFC 9112 to the letter, and a memo for heads seen before.

llhttp reads the grammar; in front of it stand the checks for what it tolerates,
because a byte that two programs on the way read differently is how requests are
smuggled. When both disagree about anything, the request is refused.

The two parts of a head, its first line and its header block, are judged one by
one: each is a function of its own bytes (the block also of the minor version),
and llhttp is shown each with a harmless counterpart.

**The memo.** A client sends the same few lines, and nearly the same block, again
and again. Both are remembered by their exact bytes, in two bounded dicts, and a
head made of two known parts is not parsed at all. Kept is only what says nothing
about framing, so that any remembered line with any remembered block is one
complete request without a body:

* a line that is HTTP/1.1, in origin form, with a clean path;
* a block that is fine for HTTP/1.1 and has no Content-Length,
  Transfer-Encoding, Expect, Upgrade, Trailer, TE or Connection, but for the
  `Connection: keep-alive` that changes nothing in HTTP/1.1.

A block holds credentials: the memo is one listener's own, lives in memory only,
is found by whole equality (there is no prefix to guess along) and is never logged.
"""

from __future__ import annotations

import copy
import re
from typing import Final

import httptools

from pulp_runtime._net import fields
from pulp_runtime._net.fault import RequestFault, bad
from pulp_runtime._net.settings import HttpSettings
from pulp_runtime._net.target import is_host, parse_target
from pulp_runtime.abi.codec import encode_str_map
from pulp_runtime.abi.http import pack_query, pack_target

#: Lines, and blocks, that are remembered. Past it all are forgotten.
MEMO_ENTRIES: Final = 512
#: Longest part that is remembered, in bytes.
MEMO_BYTES: Final = 2_048

END_OF_HEAD: Final = b"\r\n\r\n"

_line: Final = re.compile(rb"([A-Z][A-Z\-]*) ([\x21-\x7e]+) HTTP/1\.([01])").fullmatch
_length: Final = re.compile(rb"[0-9]{1,18}").fullmatch  # 18 digits: past any limit, within any integer

#: Bytes that no head may hold, as far as it has come: NUL, CR or LF alone. The
#: last CR of an unfinished head is not yet alone.
stray_byte: Final = re.compile(rb"\0|\r[^\n]|(?<!\r)\n").search

#: Controls no finished block may hold; CR and LF are counted, HTAB is allowed. Deleting and
#: counting read a block four times and are still nine times as fast as a pattern for it.
_CONTROLS: Final = bytes([*range(0x09), 0x0B, 0x0C, *range(0x0E, 0x20), 0x7F])

#: Fields that this floor acts on. But for the first two, they keep a block out of the memo.
_OURS: Final = frozenset(
    {"host", "connection", "content-length", "transfer-encoding", "expect", "upgrade", "trailer", "te"}
)
#: Fields that are for this floor and not for a cell.
_NOT_FOR_CELLS: Final = frozenset({"host", "transfer-encoding", "trailer"})

#: Names seen before, which are tokens; bounded because clients choose them.
_NAMES_KEPT: Final = 1_024
_names: Final[dict[bytes, tuple[str, str]]] = {}

_NO_TOKENS: Final[frozenset[str]] = frozenset()


class RequestLine:
    """The first line of a request, decoded.

    Attributes:
        method: as sent.
        target: as sent.
        path: decoded and clean, "*" for `OPTIONS *`.
        query: first value of each name.
        minor: 1 for HTTP/1.1, 0 for HTTP/1.0.
        host: of the absolute form, else "".
        redirect: where to send the client when its path was not clean, else "".
        packed_target: `method` and `path`, by `abi.http.pack_target`.
        packed_query: `query`, by `abi.http.pack_query`.
        prefix: what a gateway has taken off the path, "" for nothing; a Location of ours begins with it.
    """

    __slots__ = (
        "host",
        "method",
        "minor",
        "packed_query",
        "packed_target",
        "path",
        "prefix",
        "query",
        "redirect",
        "target",
    )

    def __init__(self, method: str, target: str, minor: int) -> None:
        self.method = method
        self.target = target
        self.minor = minor
        self.path, self.query, self.host, self.redirect = parse_target(method, target)
        self.packed_target = pack_target(method, self.path)
        self.packed_query = pack_query(self.query)
        self.prefix = ""


class HeaderBlock:
    """The header fields of a request.

    Attributes:
        fields: canonical name to first value; without Host, Transfer-Encoding
            and Trailer. A value is UTF-8, or Latin-1 if it is not.
        packed_fields: `fields` as a MessagePack map.
        host: the Host header, "" if an HTTP/1.0 client sent none. When
            `RequestLine.host` is not empty, that one counts.
        content_length: bytes of body to come, None if not given.
        chunked: the body comes in chunks.
        expect_continue: the client waits for 100 before it sends the body.
        keep_alive: False for `Connection: close`, True for `keep-alive`, None
            for neither.
        connection: the tokens of Connection, in lower case.
        upgrade: the Upgrade header in lower case, "" if there is none.
        size: bytes of the block as it came.
        repeated: further values of names that came more than once, in order.
        neutral: the block says nothing about framing, protocol or the
            connection's end, so that it means the same after any line.
    """

    __slots__ = (
        "chunked",
        "connection",
        "content_length",
        "expect_continue",
        "fields",
        "host",
        "keep_alive",
        "neutral",
        "packed_fields",
        "repeated",
        "size",
        "upgrade",
    )

    def __init__(self, pairs: list[tuple[bytes, bytes]], minor: int, size: int = 0) -> None:
        """Make sense of raw names and values.

        Raises:
            RequestFault: 400 or 417, a field breaks the rules of HTTP/1.`minor`.
        """
        self.size = size
        self.fields: dict[str, str] = {}
        self.repeated: dict[str, list[str]] = {}
        ours: dict[str, list[bytes]] = {}
        for raw_name, raw_value in pairs:
            our_name, name = _names.get(raw_name) or _learn(raw_name)
            value = raw_value.strip(b" \t")
            text = value.decode("ascii") if value.isascii() else _text(value)
            if name and self.fields.setdefault(name, text) is not text:
                self.repeated.setdefault(name, []).append(text)
            if our_name:
                ours.setdefault(our_name, []).append(value)
        self.packed_fields = encode_str_map(self.fields)
        self.host = _host(ours.pop("host", []), minor)
        self.content_length, self.chunked = _framing(ours, minor)
        self.expect_continue = minor == 1 and _expects_continue(ours.get("expect"))
        self.connection = tokens = _connection_tokens(ours.pop("connection", None))
        self.keep_alive = False if "close" in tokens else True if "keep-alive" in tokens else None
        self.upgrade = b", ".join(ours.get("upgrade", ())).decode("latin-1").lower()
        self.neutral = not ours and tokens <= {"keep-alive"}

    def with_fields(self, fields: dict[str, str]) -> HeaderBlock:
        """Return a block that says the same about framing, with other fields for the application."""
        other = copy.copy(self)
        other.fields, other.repeated = fields, {}
        other.packed_fields = encode_str_map(fields)
        return other


class HeadParser:
    """Reads heads for one listener, and remembers their parts.

    Attributes:
        lines: request lines by their bytes, without CRLF.
        blocks: header blocks by their bytes, with the CRLFCRLF that ends them.
    """

    __slots__ = ("_settings", "blocks", "lines")

    def __init__(self, settings: HttpSettings) -> None:
        self._settings: Final = settings
        self.lines: Final[dict[bytes, RequestLine]] = {}
        self.blocks: Final[dict[bytes, HeaderBlock]] = {}

    def parse(self, head: bytes) -> tuple[RequestLine, HeaderBlock]:
        """Read a head, from its first byte to the CRLFCRLF that ends it.

        Raises:
            RequestFault: 400 for anything RFC 9112 does not allow, 414 or 431
                for what is too long, 417 for an unknown Expect.
        """
        first, _, rest = head.partition(b"\r\n")
        line = self.line(first)
        block = self.blocks.get(rest)
        if block is None:
            block = self._new_block(rest, len(first) + 2, line.minor)
        return line, block

    def line(self, first: bytes) -> RequestLine:
        """Read a request line, without its CRLF.

        Raises:
            RequestFault: 400 or 414.
        """
        line = self.lines.get(first)
        return line if line is not None else self._new_line(first)

    def _new_line(self, first: bytes) -> RequestLine:
        """Read a request line, and keep it if any block may follow it."""
        if len(first) > self._settings.line_bytes:
            raise RequestFault(414, "request line too long")
        line = RequestLine(*_split_line(first))
        plain = line.minor == 1 and not line.host and not line.redirect and line.path != "*"
        if plain and len(first) <= MEMO_BYTES:
            if len(self.lines) >= MEMO_ENTRIES:
                self.lines.clear()
            self.lines[first] = line
        return line

    def _new_block(self, rest: bytes, before: int, minor: int) -> HeaderBlock:
        """Read a header block, and keep it if any line may precede it."""
        if before + len(rest) > self._settings.head_bytes:
            raise RequestFault(431, "request head too long")
        if rest.count(b"\n") - 1 > self._settings.head_fields:
            raise RequestFault(431, "too many header fields")
        block = HeaderBlock(_split_block(rest, minor), minor, len(rest))
        if minor == 1 and block.neutral and len(rest) <= MEMO_BYTES:
            if len(self.blocks) >= MEMO_ENTRIES:
                self.blocks.clear()
            self.blocks[rest] = block
        return block


class _Reading:
    """What llhttp reports of one head."""

    __slots__ = ("complete", "pairs", "url")

    def __init__(self, head: bytes) -> None:
        """Have llhttp read a head.

        Raises:
            RequestFault: 400, it is malformed or goes on.
        """
        self.url = b""
        self.pairs: list[tuple[bytes, bytes]] = []
        self.complete = False
        try:
            httptools.HttpRequestParser(self).feed_data(head)
        except httptools.HttpParserUpgrade:
            pass  # llhttp stops here because others would change protocol; the head is read
        except httptools.HttpParserError:
            raise bad("malformed request") from None
        if not self.complete:
            raise bad("malformed request")

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.pairs.append((name, value))

    def on_headers_complete(self) -> None:
        self.complete = True


def _split_line(first: bytes) -> tuple[str, str, int]:
    """Return method, target and minor version of a request line that we and llhttp read alike."""
    line = _line(first)
    if line is None:
        raise bad("malformed request line")
    method, target, minor = line.groups()
    if method == b"CONNECT":
        raise bad("CONNECT is not served")
    if _Reading(first + b"\r\nHost: a\r\n\r\n").url != target:
        raise bad("malformed request line")
    return method.decode(), target.decode(), int(minor)


def _split_block(rest: bytes, minor: int) -> list[tuple[bytes, bytes]]:
    """Return the fields of a header block that we and llhttp split alike."""
    lines = rest.count(b"\r\n")
    if not rest.count(b"\r") == rest.count(b"\n") == lines or len(rest.translate(None, _CONTROLS)) < len(rest):
        raise bad("stray control character in header")
    pairs = _Reading(b"GET / HTTP/1.%d\r\n%b" % (minor, rest)).pairs
    # A folded line, or a field that llhttp joined or skipped, would change the count.
    if len(pairs) != lines - 1:
        raise bad("malformed header")
    return pairs


def _learn(raw: bytes) -> tuple[str, str]:
    """Return a name as we look for it ("" if we do not) and as cells see it ("" if they do not)."""
    if not fields.is_token_bytes(raw):
        raise bad("invalid header name")
    name = raw.decode().lower()
    known = (name if name in _OURS else "", "" if name in _NOT_FOR_CELLS else fields.canonical_name(name))
    if len(raw) <= 64:
        if len(_names) >= _NAMES_KEPT:
            _names.clear()
        _names[raw] = known
    return known


def _text(value: bytes) -> str:
    """Decode a value beyond ASCII; refuse blanks around it that only some readers strip."""
    try:
        text = value.decode()
    except UnicodeDecodeError:
        text = value.decode("latin-1")
    if text != text.strip():  # a no-break space, for one
        raise bad("blank around header value")
    return text


def _host(hosts: list[bytes], minor: int) -> str:
    """Return the Host header (RFC 9112 §3.2)."""
    if len(hosts) > 1:
        raise bad("more than one Host header")
    if not hosts:
        if minor == 1:
            raise bad("missing required Host header")
        return ""
    host = hosts[0].decode("latin-1")
    if not is_host(host):
        raise bad("malformed Host header")
    return host


def _framing(ours: dict[str, list[bytes]], minor: int) -> tuple[int | None, bool]:
    """Return how long the body is, or that it is chunked; refuse every doubt (RFC 9112 §6)."""
    codings = ours.get("transfer-encoding")
    lengths = ours.get("content-length")
    if codings is not None:
        if minor == 0 or lengths is not None:
            raise bad("Transfer-Encoding is not allowed here")
        if len(codings) != 1 or codings[0].lower() != b"chunked":
            raise bad("unsupported transfer encoding")
        return None, True
    if lengths is None:
        return None, False
    if len(lengths) != 1 or not _length(lengths[0]):
        raise bad("invalid Content-Length")
    return int(lengths[0]), False


def _connection_tokens(values: list[bytes] | None) -> frozenset[str]:
    """Return the options of every Connection line, in lower case."""
    if values is None:
        return _NO_TOKENS
    tokens = b",".join(values).lower().decode("latin-1").split(",")
    return frozenset(token.strip(" \t") for token in tokens) - {""}


def _expects_continue(expectations: list[bytes] | None) -> bool:
    """Return whether the client waits for 100 (RFC 9110 §10.1.1)."""
    if expectations is None:
        return False
    if len(expectations) != 1 or expectations[0].lower() != b"100-continue":
        raise RequestFault(417, "unknown expectation")
    return True
