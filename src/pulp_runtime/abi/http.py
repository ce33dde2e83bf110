"""Records of `transport.http.inbound`: a request, a reply, a route."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final

import msgspec

from pulp_runtime.abi.codec import bin_header, encode_str, encode_str_map, encode_u64

U32 = Annotated[int, msgspec.Meta(ge=0, le=0xFFFF_FFFF)]
#: The wire itself ends at 2**64-1, and msgspec takes no bound beyond int64.
U64 = Annotated[int, msgspec.Meta(ge=0)]


class HTTPRequest(msgspec.Struct, kw_only=True, frozen=True):
    """What a cell reads in an `http.request` event.

    Attributes:
        id: names the request in the reply; counts from 1 for each listener.
        method: as the client sent it.
        path: percent-decoded, without the query.
        params: what the route's pattern matched.
        query: first value for each key.
        headers: first value for each header.
        body: everything the client sent.
        remote_addr: `ip:port` of the peer, "" when unknown.
    """

    id: U64 = 0
    method: str = ""
    path: str = ""
    params: dict[str, str] | None = None
    query: dict[str, str] | None = None
    headers: dict[str, str] | None = None
    body: bytes | None = None
    remote_addr: str = ""


class HTTPResponse(msgspec.Struct, kw_only=True, frozen=True):
    """What a cell answers with.

    Guests send nil for a map, a list or bytes that they leave empty; it is kept
    as None so that the common message is read without a detour.

    Attributes:
        id: of the request.
        status: any u32; the transport decides which ones it can send.
        headers: or None.
        cookies: complete `Set-Cookie` values, or None.
        body: or None.
    """

    id: U64 = 0
    status: U32 = 0
    headers: dict[str, str] | None = None
    cookies: list[str] | None = None
    body: bytes | None = None


class HTTPRegister(msgspec.Struct, kw_only=True, frozen=True):
    """A route that a cell asks for.

    Attributes:
        method: of requests to match.
        path: the pattern of their paths.
        stream: their events come when the head is here, without a body, which `http_body_read` then gives.
    """

    method: str = ""
    path: str = ""
    stream: bool = False


class HTTPRespondStream(msgspec.Struct, kw_only=True, frozen=True):
    """An answer whose body is the response to a fetch.

    Attributes:
        id: of the request.
        stream_id: of the fetch.
        status: see `HTTPResponse`, like the next two.
        headers: or None.
        cookies: or None.
    """

    id: U64 = 0
    stream_id: U64 = 0
    status: U32 = 0
    headers: dict[str, str] | None = None
    cookies: list[str] | None = None


class HTTPListen(msgspec.Struct, kw_only=True, frozen=True):
    """A listener that a cell asks for.

    Attributes:
        addr: `host:port`, or `:port` for every address of the machine.
    """

    addr: str = ""


class HTTPBodyChunk(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """Some of a request's body.

    Attributes:
        bytes: what has arrived.
        eof: there is no more.
        err: why the rest will not come, "" while it may.
    """

    bytes: bytes
    eof: bool = False
    err: str = ""


class HTTPClosed(msgspec.Struct, kw_only=True, frozen=True):
    """The payload of an `http.closed` event: a client has left before its answer was complete.

    Attributes:
        id: of the request.
    """

    id: U64 = 0


_START: Final = b"\x87" + encode_str("id")
_START_WITH_ADDR: Final = b"\x88" + encode_str("id")
_METHOD: Final = encode_str("method")
_PATH: Final = encode_str("path")
_PARAMS: Final = encode_str("params")
_QUERY: Final = encode_str("query")
_HEADERS: Final = encode_str("headers")
_BODY: Final = encode_str("body")
_NO_BODY: Final = _BODY + bin_header(0)
_REMOTE_ADDR: Final = encode_str("remote_addr")


def pack_target(method: str, path: str) -> bytes:
    """Return the fields `method` and `path` and the name of the next one."""
    return b"".join((_METHOD, encode_str(method), _PATH, encode_str(path), _PARAMS))


def pack_query(query: Mapping[str, str]) -> bytes:
    """Return the field `query` and the name of the next one."""
    return b"".join((_QUERY, encode_str_map(query), _HEADERS))


def pack_remote_addr(address: str) -> bytes:
    """Return the field `remote_addr`, or no bytes for an unknown address: the field is left out then."""
    return _REMOTE_ADDR + encode_str(address) if address else b""


def join_http_request(
    request_id: int, target: bytes, params: bytes, query: bytes, headers: bytes, body: bytes, remote_addr: bytes
) -> bytes:
    """Return the payload of an `http.request` event from parts that a caller may keep.

    Args:
        request_id: u64.
        target: by `pack_target`.
        params: by `encode_str_map`, like `headers`; never nil.
        query: by `pack_query`.
        headers: see `params`.
        body: raw, not encoded.
        remote_addr: by `pack_remote_addr`.
    """
    start = _START_WITH_ADDR if remote_addr else _START
    number = encode_u64(request_id)
    if not body:
        return b"".join((start, number, target, params, query, headers, _NO_BODY, remote_addr))
    size = bin_header(len(body))
    return b"".join((start, number, target, params, query, headers, _BODY, size, body, remote_addr))


def encode_http_request(
    request_id: int,
    method: str,
    path: str,
    *,
    params: Mapping[str, str],
    query: Mapping[str, str],
    headers: Mapping[str, str],
    body: bytes,
    remote_addr: str,
) -> bytes:
    """Return the payload of an `http.request` event; an empty `remote_addr` is left out."""
    return join_http_request(
        request_id,
        pack_target(method, path),
        encode_str_map(params),
        pack_query(query),
        encode_str_map(headers),
        body,
        pack_remote_addr(remote_addr),
    )
