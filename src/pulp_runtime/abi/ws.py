"""Records of `transport.ws.inbound`: a message out, a close, and what a cell is told."""

from __future__ import annotations

from struct import Struct
from typing import Annotated, Final

import msgspec

from pulp_runtime.abi.codec import bin_header, encode_str, encode_u16, encode_u64, map_header

U64 = Annotated[int, msgspec.Meta(ge=0)]
U16 = Annotated[int, msgspec.Meta(ge=0, le=0xFFFF)]
U8 = Annotated[int, msgspec.Meta(ge=0, le=0xFF)]

TEXT: Final = 1
BINARY: Final = 2


class WSSend(msgspec.Struct, kw_only=True, frozen=True):
    """A message to send.

    Attributes:
        conn_id: of the `ws.open` event.
        opcode: 1 text, 2 binary.
        payload: or None for an empty message.
    """

    conn_id: U64 = 0
    opcode: U8 = 0
    payload: bytes | None = None


class WSClose(msgspec.Struct, kw_only=True, frozen=True):
    """A connection to close.

    Attributes:
        conn_id: of the `ws.open` event.
        code: of the close frame; 0 means 1000.
        reason: at most 123 bytes of UTF-8.
    """

    conn_id: U64 = 0
    code: U16 = 0
    reason: str = ""


_PATH: Final = encode_str("path")
_QUERY: Final = encode_str("query")
_HEADERS: Final = encode_str("headers")
_CODE: Final = encode_str("code")
_REASON: Final = encode_str("reason")
_CONN_ID: Final = encode_str("conn_id")
_FRAME_HEAD: Final = map_header(3) + _CONN_ID + b"\xcf"
_pack_id: Final = Struct(">Q").pack
#: From behind the id to the payload's own header, by opcode.
_FRAME_KIND: Final = tuple(
    encode_str("opcode") + bytes((0xCC, opcode)) + encode_str("payload") for opcode in (0, TEXT, BINARY)
)


def join_ws_open(conn_id: int, path: str, query: bytes, headers: bytes) -> bytes:
    """Return the payload of a `ws.open` event.

    Args:
        conn_id: u64.
        path: decoded.
        query: a map of strings, by `abi.codec.encode_str_map`.
        headers: see `query`.
    """
    return b"".join(
        (map_header(4), _CONN_ID, encode_u64(conn_id), _PATH, encode_str(path), _QUERY, query, _HEADERS, headers)
    )


def join_ws_frame(conn_id: int, opcode: int, payload: bytes) -> bytes:
    """Return the payload of a `ws.frame` event; `opcode` is 1 or 2."""
    return b"".join((_FRAME_HEAD, _pack_id(conn_id), _FRAME_KIND[opcode], bin_header(len(payload)), payload))


def encode_ws_close(conn_id: int, code: int, reason: str) -> bytes:
    """Return the payload of a `ws.close` event."""
    return b"".join(
        (map_header(3), _CONN_ID, encode_u64(conn_id), _CODE, encode_u16(code), _REASON, encode_str(reason))
    )
