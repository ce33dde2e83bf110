"""Compressed messages: permessage-deflate (RFC 7692), without memory between messages.

Each message is compressed by itself (`server_no_context_takeover`, `client_no_context_takeover`), so a connection that
says nothing costs nothing, ten thousand of them neither. What a message becomes when it is read is bounded while it is
read: a kilobyte that stands for a gigabyte is refused at the limit.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Final

from websockets.exceptions import InvalidHeaderFormat
from websockets.headers import parse_extension

from pulp_runtime._net.websocket_frames import INVALID_DATA, TOO_BIG, Inflater, WebSocketFault

NAME: Final = "permessage-deflate"
WINDOW_BITS: Final = 12
"""Largest window we compress with: 4 KiB, and 32 KiB of memory while a message is compressed."""
LEAST_WINDOW_BITS: Final = 9
"""Smallest window zlib compresses with."""
WORTH_BYTES: Final = 64
"""Shortest message that is compressed."""
_MEMORY_LEVEL: Final = 5
_LEVEL: Final = 3
_TAIL: Final = b"\x00\x00\xff\xff"
"""The end of a flushed block, which stays off the wire."""
_VALUES: Final = frozenset(str(bits) for bits in range(8, 16))


class Deflate(Inflater):
    """The extension as it was agreed on; shared by every connection that agreed on the same.

    Args:
        window_bits: for what we send.
    """

    __slots__ = ("_bits",)

    def __init__(self, window_bits: int = WINDOW_BITS) -> None:
        self._bits: Final = window_bits

    def deflate(self, data: bytes) -> bytes:
        """Compress a message. From any thread."""
        packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, -self._bits, _MEMORY_LEVEL)
        return (packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH))[: -len(_TAIL)]

    def inflate(self, data: bytes, limit: int) -> bytes:
        """See `Inflater`."""
        reader = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            message = reader.decompress(data + _TAIL, limit + 1)
        except zlib.error as error:
            raise WebSocketFault(INVALID_DATA, f"cannot decompress: {error}") from None
        if len(message) > limit:
            raise WebSocketFault(TOO_BIG, f"message longer than {limit} bytes")
        return message


_AGREED: Final = {bits: Deflate(bits) for bits in range(LEAST_WINDOW_BITS, WINDOW_BITS + 1)}


def agree(offers: str) -> tuple[Deflate, str] | None:
    """Return the extension by the first offer we can take, and what to answer; None if there is none.

    Args:
        offers: the client's `Sec-WebSocket-Extensions`, "" for none.
    """
    if not offers:
        return None
    try:
        parsed = parse_extension(offers)
    except InvalidHeaderFormat:
        return None
    for name, parameters in parsed:
        bits = _window_bits(parameters) if name == NAME else None
        if bits is not None:
            used = min(bits, WINDOW_BITS)
            told = f"; server_max_window_bits={used}" if bits < zlib.MAX_WBITS else ""
            return _AGREED[used], f"{NAME}; server_no_context_takeover; client_no_context_takeover{told}"
    return None


def _window_bits(parameters: Sequence[tuple[str, str | None]]) -> int | None:
    """Return the window that an offer leaves us, None if we cannot take the offer."""
    bits = zlib.MAX_WBITS
    seen = set()
    for name, value in parameters:
        if name in seen:
            return None
        seen.add(name)
        if name in ("server_no_context_takeover", "client_no_context_takeover"):
            if value is not None:
                return None
        elif name == "client_max_window_bits":
            if value is not None and value not in _VALUES:
                return None
        elif name == "server_max_window_bits" and value in _VALUES:
            bits = int(value)
        else:
            return None
    return bits if bits >= LEAST_WINDOW_BITS else None
