"""Records of `transport.ws.outbound`: a connection asked for, and what it brings."""

from __future__ import annotations

from typing import Final

import msgspec

from pulp_runtime.abi.codec import bin_header, encode_str, encode_u32, map_header


class WSOutDial(msgspec.Struct, kw_only=True, frozen=True):
    """A connection that a cell asks for.

    Attributes:
        url: absolute, `ws` or `wss`.
        headers: for the handshake, or None.
    """

    url: str = ""
    headers: dict[str, str] | None = None


_CONN_ID: Final = encode_str("conn_id")
_DATA: Final = encode_str("data")


def encode_wsout_connection(conn_id: int) -> bytes:
    """Return the answer of `wsout_dial`."""
    return b"".join((map_header(1), _CONN_ID, encode_u32(conn_id)))


def encode_wsout_frame(conn_id: int, data: bytes) -> bytes:
    """Return the payload of a `wsout.frame` event."""
    return b"".join((map_header(2), _CONN_ID, encode_u32(conn_id), _DATA, bin_header(len(data)), data))
