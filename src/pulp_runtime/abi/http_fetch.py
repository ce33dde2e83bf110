"""Records of `transport.http.outbound`: a request, a response, and pieces of one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final

import msgspec

from pulp_runtime.abi.codec import (
    NIL,
    bin_header,
    encode_bin,
    encode_bool,
    encode_str,
    encode_str_map,
    encode_u32,
    encode_u64,
    map_header,
)

I64 = Annotated[int, msgspec.Meta(ge=-(1 << 63), le=(1 << 63) - 1)]


class HTTPFetchRequest(msgspec.Struct, kw_only=True, frozen=True):
    """What a cell asks for.

    Attributes:
        method: blank is GET.
        url: absolute.
        headers: or None.
        body: or None.
        timeout: nanoseconds for the whole exchange; 0 and less is the default.
    """

    method: str = ""
    url: str = ""
    headers: dict[str, str] | None = None
    body: bytes | None = None
    timeout: I64 = 0


_ID: Final = encode_str("id")
_STATUS: Final = encode_str("status")
_HEADERS: Final = encode_str("headers")
_BODY: Final = encode_str("body")
_BYTES: Final = encode_str("bytes")
_EOF: Final = encode_str("eof")
_ERR: Final = encode_str("err")


def encode_fetch_response(status: int, headers: Mapping[str, str], body: bytes | bytearray) -> bytes:
    """Return the answer of `http_fetch`: an HTTPResponse with id 0."""
    head = (map_header(4), _ID, encode_u64(0), _STATUS, encode_u32(status), _HEADERS, encode_str_map(headers))
    return b"".join((*head, _BODY, bin_header(len(body)), body))


def encode_stream_header(stream_id: int, status: int, headers: Mapping[str, str]) -> bytes:
    """Return the answer of `http_fetch_begin`."""
    return b"".join(
        (map_header(3), _ID, encode_u64(stream_id), _STATUS, encode_u32(status), _HEADERS, encode_str_map(headers))
    )


def encode_chunk(data: bytes, *, eof: bool = False, err: str = "") -> bytes:
    """Return the answer of `http_fetch_read`; no bytes are nil, and no error is left out."""
    parts = [map_header(3 if err else 2), _BYTES, encode_bin(data) if data else NIL, _EOF, encode_bool(eof)]
    if err:
        parts += [_ERR, encode_str(err)]
    return b"".join(parts)
