"""Targets: what reads HTTP from strangers and writes it for cells."""

from __future__ import annotations

import asyncio
import tomllib
from functools import cache
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import httptools
import msgspec
from tests.fuzz.harness import Broken, Pure, Target
from tests.fuzz.inputs import BYTES, Pool

from pulp_runtime._net import response
from pulp_runtime._net.chunked import ChunkedDecoder
from pulp_runtime._net.exchange import Request, Service
from pulp_runtime._net.fault import RequestFault
from pulp_runtime._net.head import HeadParser
from pulp_runtime._net.http1 import Http1Connection
from pulp_runtime._net.response import ResponseInvalid
from pulp_runtime._net.routes import RouteConflict, RouteInvalid, RouteTable
from pulp_runtime._net.settings import HttpSettings
from pulp_runtime._net.target import parse_target
from pulp_runtime.abi.codec import DecodeError, decode_struct
from pulp_runtime.abi.http import HTTPResponse

CORPUS = Path(__file__).parents[1] / "net" / "corpus"

LINES = (
    *(b"GET / HTTP/1.1", b"POST /a HTTP/1.1", b"HEAD /x?y=1 HTTP/1.1", b"GET /a//b HTTP/1.1", b"GET / HTTP/1.0"),
    *(
        b"OPTIONS * HTTP/1.1",
        b"GET http://h/p HTTP/1.1",
        b"PUT /%2e%2e/%41%zz HTTP/1.1",
        b"GET /a%2Fb;c?d=%ff HTTP/1.1",
    ),
)
FIELDS = (
    *(b"Accept: */*", b"X-B: 1", b"Content-Length: 3", b"Transfer-Encoding: chunked", b"Connection: close"),
    *(b"Connection: keep-alive", b"Expect: 100-continue", b"Content-Length: 0", b"Upgrade: h2c", b"X-A: \xc3\xa9"),
    *(b"Transfer-Encoding: identity", b"Trailer: X", b"TE: trailers", b"Content-Length: 5", b"X: \xff", b"Cookie: a=b"),
)
BODIES = (
    *(b"", b"", b"abc", b"abcde", b"3\r\nabc\r\n0\r\n\r\n", b"0\r\n\r\n", b"5;a=b\r\nabcde\r\n0\r\nX: y\r\n\r\n"),
    *(b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n", b"a\r\n0123456789\r\n1\r\n!\r\n0\r\n\r\n"),
)
PIECES = [
    *BYTES,
    *LINES,
    *FIELDS,
    *(b"\r\n", b"\r\n", b"\r\n\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b"\x0b", b"\xa0", b"0x", b"_", b"+", b","),
    *(
        b"chunked",
        b"identity",
        b"gzip",
        b"HTTP/1.2",
        b"HTTP/2.0",
        b"\r\n ",
        b";",
        b'"',
        b"0\r\n\r\n",
        b"%2e%2e/",
        b"/..",
    ),
    *(b"Content-Length", b"Transfer-Encoding", b"Host", b"X" * 400, b"A: b\r\n" * 60, b"0" * 20, b"ffffffffffffffff"),
]


@cache
def _corpus(name: str) -> list[bytes]:
    cases = tomllib.loads((CORPUS / name).read_text(encoding="utf-8"))
    return [text.encode("latin-1") for text in cases.values()]


# Heads and targets ------------------------------------------------------------------------------------------------


def write_head(rng: Random) -> bytes:
    """Return a head, more or less."""
    if rng.random() < 0.08:
        return rng.choice(_corpus("heads.toml"))
    fields = [rng.choice(FIELDS) for _ in range(rng.choice((0, 0, 1, 1, 2, 3)))]
    return b"\r\n".join([rng.choice(LINES), b"Host: h", *fields]) + b"\r\n\r\n"


class HeadReader:
    """Holds the parser to its word: a clean head or a fault, and a memo that never changes an answer."""

    def __init__(self) -> None:
        self._settings = HttpSettings()
        self._parser = HeadParser(self._settings)
        pool = Pool(write_head, PIECES)
        self.make = lambda rng: pool(rng).partition(b"\r\n\r\n")[0] + b"\r\n\r\n"

    def check(self, data: bytes) -> None:
        """Read `data` with a parser that remembers, and with one that does not."""
        seen = _read_head(self._parser, data)
        if seen != _read_head(HeadParser(self._settings), data):
            raise Broken("what was remembered changes what is read")

    def close(self) -> None:
        """Hold nothing."""


def _read_head(parser: HeadParser, data: bytes) -> object:
    try:
        line, block = parser.parse(data)
    except RequestFault as fault:
        return fault.status
    if not line.path.startswith("/") and (line.path, line.method) != ("*", "OPTIONS"):
        raise Broken(f"path {line.path!r}")
    if "\0" in line.path or any(part in (".", "..") for part in line.path.split("/")):
        raise Broken(f"path {line.path!r} is not clean")
    if block.chunked and block.content_length is not None:
        raise Broken("two framings")
    for name, value in block.fields.items():
        if any(char < " " and char != "\t" for char in name + value):
            raise Broken(f"a control character in {name!r}")
    msgspec.msgpack.decode(block.packed_fields)
    msgspec.msgpack.decode(b"\x85" + line.packed_target + b"\xc0" + line.packed_query + b"\xc0")
    return (
        *(line.method, line.target, line.path, line.query, line.minor, line.host, line.redirect),
        *(block.fields, block.host, block.content_length, block.chunked, block.keep_alive, block.connection),
        *(block.expect_continue, block.upgrade),
    )


TARGET_PARTS = [
    "/",
    "..",
    ".",
    "%2e",
    "%2F",
    "%00",
    "%c3%a9",
    "%ff",
    "%",
    "a",
    "?",
    "&",
    "=",
    ";",
    "+",
    "//",
    "*",
    "\\",
]
TARGET_PARTS += ["\\", "http://h", "https://u@h", "http://[::1]:1/", "#", "%5c", "%0d%0a", "~", "a" * 50, "x=1&x=2"]


def write_target(rng: Random) -> bytes:
    """Return a request target, more or less."""
    parts = [TARGET_PARTS[int(rng.random() * len(TARGET_PARTS))] for _ in range(int(rng.random() * 9))]
    return ("/" if rng.random() < 0.9 else "").encode() + "".join(parts).encode()


def read_target(data: bytes) -> None:
    """Hold the target's parser to its word: a clean path or a fault."""
    try:
        target = parse_target("OPTIONS", data.decode())
    except RequestFault:
        return
    if target.path == "*":
        return
    parts = target.path.split("/")
    if parts[0] or "" in parts[1:-1] or "." in parts or ".." in parts or "\0" in target.path:
        raise Broken(f"path {target.path!r} is not clean")
    if target.redirect:
        if not target.redirect.startswith("/") or target.redirect[1:2] in ("/", "\\"):
            raise Broken(f"a redirect to {target.redirect!r}")
        if parse_target("GET", target.redirect).path != target.path:
            raise Broken(f"a redirect that does not lead to {target.path!r}")


# Chunks -----------------------------------------------------------------------------------------------------------

CHUNK_LIMIT = 4096


def write_chunks(rng: Random) -> bytes:
    """Return a chunked body, more or less."""
    if rng.random() < 0.2:
        return rng.choice(_corpus("chunks.toml"))
    parts = []
    for _ in range(rng.randrange(4)):
        piece = rng.randbytes(rng.choice((1, 2, 9, 10, 15, 16, 17, 300)))
        extension = rng.choice((b"", b"", b";a", b';a="\\""', b";a=b;c"))
        size = f"{len(piece):{rng.choice(('x', 'X', '04x'))}}".encode()
        parts.append(size + extension + b"\r\n" + piece + b"\r\n")
    trailer = rng.choice((b"", b"", b"X: y\r\n", b"Content-Length: 1\r\n"))
    return b"".join(parts) + b"0\r\n" + trailer + b"\r\n" + rng.choice((b"", b"GET / HTTP/1.1\r\n"))


def read_chunks(data: bytes) -> None:
    """Hold the decoder to its word: a body or a fault, the same however the bytes arrive."""
    whole = _dechunk([data])
    # Where the pieces are cut is a function of the bytes, so that the input says everything.
    rng = Random(data)
    cuts = sorted(rng.randrange(len(data) + 1) for _ in range(3)) if data else []
    pieces = [data[start:end] for start, end in pairwise([0, *cuts, len(data)])]
    if _dechunk(pieces) != whole:
        raise Broken(f"{whole!r} in one piece, {_dechunk(pieces)!r} in {[len(piece) for piece in pieces]}")


def _dechunk(pieces: list[bytes]) -> object:
    decoder = ChunkedDecoder(CHUNK_LIMIT)
    try:
        for at, piece in enumerate(pieces):
            rest = decoder.feed(piece)
            if len(decoder.body) > CHUNK_LIMIT:
                raise Broken("a body past its limit")
            if rest is not None:
                return bytes(decoder.body), rest + b"".join(pieces[at + 1 :])
    except RequestFault:
        return "fault"
    return bytes(decoder.body)


# Routes -----------------------------------------------------------------------------------------------------------

SEGMENTS = ("", "a", "b", "A", ":x", ":", ":y", "*r", "*", "é", "a*", "..", "%41")


def write_routes(rng: Random) -> bytes:
    """Return lines: patterns each with its owner, then a path."""
    lines = []
    for _ in range(1 + int(rng.random() * 5)):
        parts = [SEGMENTS[int(rng.random() * len(SEGMENTS))] for _ in range(1 + int(rng.random() * 4))]
        lines.append(f"{'xy'[rng.random() < 0.2]}/" + "/".join(parts))
    parts = [SEGMENTS[int(rng.random() * len(SEGMENTS))] for _ in range(1 + int(rng.random() * 5))]
    return "\n".join([*lines, "/" + "/".join(parts)]).encode()


def read_routes(data: bytes) -> None:
    """Compare the table with a reader of the rules that knows no index."""
    *lines, path = data.decode().split("\n")
    table = RouteTable()
    kept: list[tuple[str, str]] = []
    for line in lines:
        owner, pattern = line[:1], line[1:]
        refused = any(owner != other and _overlap(pattern, held) for other, held in kept)
        try:
            after = table.add(" get\t", pattern, owner)
        except RouteConflict:
            if not refused:
                raise Broken(f"{pattern} of {owner} is refused") from None
            continue
        except RouteInvalid:
            raise Broken(f"{pattern} is invalid") from None
        if refused:
            raise Broken(f"{pattern} of {owner} is not refused")
        known = any(owner == other and _shape(pattern) == _shape(held) for other, held in kept)
        if known != (after is table):
            raise Broken(f"{pattern} of {owner} {'is added again' if known else 'is not added'}")
        table = after
        if not known:
            kept.append((owner, pattern))
    best: tuple[Any, ...] | None = None
    for at, (owner, pattern) in enumerate(kept):
        params = _naive_match(pattern, path)
        if params is not None:
            found = (_ranks(pattern), -at, owner, params)
            best = found if best is None or found[:2] > best[:2] else best
    match = table.match("GET", path)
    got = match and (match.owner, match.params)
    if got != (best and best[2:]) or table.match("GET", path) is not match:
        raise Broken(f"{kept} and {path!r}: {got}, by the rules {best and best[2:]}")


def _split(pattern: str) -> list[str]:
    parts = []
    for part in pattern.removeprefix("/").split("/"):
        parts.append("" if part == ":" else part)
        if part.startswith("*"):
            break
    return parts


def _naive_match(pattern: str, path: str) -> dict[str, str] | None:
    """Match as spec/capabilities §2.4 words it."""
    left = path.removeprefix("/").split("/")
    params = {}
    for part in _split(pattern):
        if part.startswith("*"):
            params[part[1:]] = "/".join(left)
            return params
        if not left:
            return None
        value = left.pop(0)
        if part.startswith(":"):
            params[part[1:]] = value
        elif part != value:
            return None
    return None if left else params


def _ranks(pattern: str) -> tuple[int, ...]:
    ranks = [0 if part.startswith("*") else 1 if part.startswith(":") or not part else 2 for part in _split(pattern)]
    return (*ranks, 3)


def _shape(pattern: str) -> list[str]:
    return [part[0] if part[:1] in ("*", ":") else f"={part}" for part in _split(pattern)]


def _overlap(one: str, other: str) -> bool:
    mine, theirs = _split(one), _split(other)
    for at in range(max(len(mine), len(theirs))):
        if at >= len(mine) or at >= len(theirs):
            longer = theirs if at >= len(mine) else mine
            return longer[at].startswith("*")
        if mine[at].startswith("*") or theirs[at].startswith("*"):
            return True
        literals = [part for part in (mine[at], theirs[at]) if part and not part.startswith(":")]
        if len(literals) == 2 and literals[0] != literals[1]:
            return False
    return True


# Responses --------------------------------------------------------------------------------------------------------

HEADER_NAMES = (
    "Content-Length",
    "transfer-encoding",
    "Connection",
    "Set-Cookie",
    "X-A",
    "x-a",
    "Date",
    "a b",
    "a\r\nb",
)
HEADER_VALUES = ("", "0", "5", "chunked", "close", "a\r\nb: c", "a\tb", " é ", "x" * 100, "gzip", "text/html", "\u0085")
STATUSES = (0, 200, 201, 204, 205, 206, 301, 304, 404, 500, 599, 999, 100, 199, 1000, -1)


def write_reply(rng: Random) -> bytes:
    """Return a reply, more or less."""
    reply = {
        "id": 1,
        "status": rng.choice(STATUSES),
        "headers": {rng.choice(HEADER_NAMES): rng.choice(HEADER_VALUES) for _ in range(rng.choice((0, 1, 1, 2, 3)))},
        "cookies": [rng.choice(HEADER_VALUES) for _ in range(rng.choice((0, 0, 1, 2)))],
        "body": rng.randbytes(rng.choice((0, 0, 1, 5, 300))),
    }
    return msgspec.msgpack.encode(reply)


class ResponseReader:
    """Holds the renderer to its word: one well-formed answer with this body, or `ResponseInvalid`."""

    def __init__(self) -> None:
        self.make = Pool(write_reply, [*BYTES, *map(str.encode, HEADER_NAMES), b"\r\n", b"\r\n\r\nHTTP/1.1 "])

    def check(self, data: bytes) -> None:
        """Render the reply in `data`, if it is one, for some method and version."""
        try:
            reply = decode_struct(data, HTTPResponse)
        except DecodeError:
            return
        method = ("GET", "HEAD", "POST")[len(data) % 3]
        keep_alive, http10 = bool(len(data) & 4), bool(len(data) & 8)
        headers, cookies, body = reply.headers or {}, reply.cookies or (), reply.body or b""
        try:
            fields = response.render_head_fields(reply.status, headers, cookies)
        except ResponseInvalid:
            return
        answer = response.assemble(fields, body, method, keep_alive, http10)
        if method == "HEAD" or fields.status in (204, 205, 304):
            body = b""
        lines = 1 + len(headers) + len(cookies) + 4
        check_answer(answer, fields.status, body, head_only=method == "HEAD", lines=lines)

    def close(self) -> None:
        """Hold nothing."""


class Answer:
    """What llhttp reads of an answer."""

    def __init__(self) -> None:
        self.body = b""
        self.complete = 0
        self.headers: list[tuple[bytes, bytes]] = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.complete += 1


def check_answer(data: bytes, status: int | None, body: bytes | None, *, head_only: bool, lines: int = 999) -> int:
    """Read `data` as exactly one answer; return its status."""
    head, mark, rest = data.partition(b"\r\n\r\n")
    if not mark or b"\0" in head:
        raise Broken(f"no head: {data[:200]!r}")
    rows = head.split(b"\r\n")
    if any(b"\r" in row or b"\n" in row for row in rows) or len(rows) > lines:
        raise Broken(f"a line too many: {head!r}")
    framings = [row.lower() for row in rows if row.lower().startswith((b"content-length:", b"transfer-encoding:"))]
    if len(framings) > 1:
        raise Broken(f"two framings: {framings}")
    found = int(head[9:12])
    if status is not None and found != status:
        raise Broken(f"status {found} for {status}")
    if head_only or found in (204, 304):
        if rest:
            raise Broken("a body where there is none")
        return found
    reader = Answer()
    parser = httptools.HttpResponseParser(reader)
    parser.feed_data(data)
    if reader.complete != 1 or (body is not None and reader.body != body):
        raise Broken(f"read back as {reader.complete} answers with {reader.body!r} for {body!r}")
    return found


# A connection -----------------------------------------------------------------------------------------------------


class FakeTransport(asyncio.Transport):
    """Keeps what is written, and in how many writes."""

    def __init__(self) -> None:
        super().__init__({"peername": ("192.0.2.7", 4711)})
        self.writes: list[bytes] = []
        self.over = False
        self.lost = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self.over:
            raise Broken("written after the end")
        self.writes.append(bytes(data))

    def is_closing(self) -> bool:
        return self.lost

    def close(self) -> None:
        self.over = self.lost = True

    def abort(self) -> None:
        self.over = self.lost = True

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.over = True

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        """Do what only a socket would notice."""

    def resume_reading(self) -> None:
        """Do what only a socket would notice."""


class Client:
    """One connection, fed until it ends."""

    def __init__(self, settings: HttpSettings, parser: HeadParser, *, late: bool) -> None:
        self.requests: list[tuple[object, ...]] = []
        self.methods: list[str] = []
        self._late = late
        self._held: Request | None = None
        self.service = Service(self._handle, settings, time=lambda: 1000.0)
        self.service.heads = parser  # type: ignore[misc]  # its memo is shared by all connections of a listener
        self.transport = FakeTransport()
        self.connection = Http1Connection(self.service)
        self.connection.connection_made(self.transport)

    def _handle(self, request: Request) -> None:
        if self._held is not None:
            raise Broken("a second request before the first is answered")
        line = request.line
        self.requests.append((line.method, line.target, line.minor, request.block.fields, request.body))
        self._held = request
        if not self._late:
            self.answer()

    def answer(self) -> None:
        """Answer what is held, twice: the second must not be sent."""
        request, self._held = self._held, None
        if request is None:
            return
        line = request.line
        data = response.render(
            200, {}, (), b"ok", method=line.method, keep_alive=request.keep_alive, http10=not line.minor
        )
        before = len(self.transport.writes)
        request.connection.respond(request, data)
        request.connection.respond(request, data)
        if self.transport.writes[before : before + 1] not in ([data], []) or self.transport.writes.count(data) > len(
            self.requests
        ):
            raise Broken("another answer than the one that was given")

    def feed(self, data: bytes) -> None:
        """Hand over one read's bytes."""
        if not self.transport.lost:
            self.connection.data_received(data)
            if self._late:
                self.answer()

    def end(self) -> None:
        """Shut the client's side; then nothing may stay open."""
        if not self.transport.lost:
            self.connection.eof_received()
        while self._held is not None:
            self.answer()
        if not self.transport.over:
            raise Broken("neither an answer, nor a wait, nor an end")
        self.connection.connection_lost(None)
        if self.service.held_bytes or self.service.connections:
            raise Broken("something is held after the end")


def write_conversation(rng: Random) -> bytes:
    """Return the requests of one connection, more or less."""
    parts = []
    for _ in range(1 + int(rng.random() * 3)):
        parts.append(write_head(rng))
        parts.append(BODIES[int(rng.random() * len(BODIES))])
    return b"".join(parts)


class Conversation:
    """Holds a connection to its word: one answer for each request, the same however the bytes arrive."""

    def __init__(self) -> None:
        self.make = Pool(write_conversation, PIECES)
        self._settings = HttpSettings(head_fields=50, body_bytes=65_536)
        self._parser = HeadParser(self._settings)

    def check(self, data: bytes) -> None:
        """Send `data` in one piece, then in several."""
        whole = self._converse([data], late=False)
        rng = Random(data)
        cuts = sorted(int(rng.random() * (len(data) + 1)) for _ in range(int(rng.random() * 6)))
        pieces = [data[start:end] for start, end in pairwise([0, *cuts, len(data)])]
        apart = self._converse([piece for piece in pieces if piece], late=bool(len(data) & 1))
        if whole != apart:
            raise Broken(f"in one piece {whole}, in {[len(piece) for piece in pieces]} {apart}")

    def _converse(self, pieces: list[bytes], *, late: bool) -> object:
        client = Client(self._settings, self._parser, late=late)
        for piece in pieces:
            client.feed(piece)
        client.end()
        answers = [write for write in client.transport.writes if write != response.CONTINUE]
        statuses = [check_answer(answer, None, None, head_only=answer.endswith(b"\r\n\r\n")) for answer in answers]
        answered = sum(status == 200 for status in statuses)
        faults = [status for status in statuses if status in (400, 408, 413, 414, 417, 431, 503)]
        if len(faults) > 1 or (faults and statuses[-1] != faults[0]):
            raise Broken(f"an answer after a fault: {statuses}")
        if answered < len(client.requests):
            raise Broken(f"{len(client.requests)} requests, answers {statuses}")
        return client.requests, answered

    def close(self) -> None:
        """Hold nothing."""


def _chunks() -> Pure:
    return Pure(Pool(write_chunks, PIECES), read_chunks)


def targets() -> list[Target]:
    """Return the targets of this file."""
    return [
        Target("head", "a clean head or a fault; the memo changes nothing", HeadReader, share=15),
        Target("target", "a clean path or a fault", lambda: Pure(write_target, read_target), share=10),
        Target(
            "chunked", "a body or a fault, however it arrives", lambda: Pure(Pool(write_chunks, PIECES), read_chunks)
        ),
        Target("routes", "as the rules say, read naively", lambda: Pure(write_routes, read_routes), share=8),
        Target("response", "one well-formed answer or ResponseInvalid", ResponseReader, share=10),
        Target("connection", "one answer for each request, however it arrives", Conversation, share=12),
    ]
