"""WebSocket frames (RFC 6455 §5): bytes in, messages out, one connection's worth of state.

    feed ──▶ [ bytes ] ── take ──▶ (opcode, payload)     a whole message, or a control frame
                            └────▶ None                  not all here yet
                            └────▶ WebSocketFault        the peer broke the protocol

What is kept is bounded: the bytes of one frame that is not all here, and of one message whose last fragment is not,
both together no longer than a message may be.
"""

from __future__ import annotations

import codecs
from struct import Struct
from typing import Final

try:
    from websockets.speedups import apply_mask
except ImportError:  # a wheel without its C part
    from websockets.utils import apply_mask

from pulp_runtime.errors import PulpError

CONTINUATION: Final = 0
TEXT: Final = 1
BINARY: Final = 2
CLOSE: Final = 8
PING: Final = 9
PONG: Final = 10

NORMAL: Final = 1000
GOING_AWAY: Final = 1001
PROTOCOL_ERROR: Final = 1002
NO_STATUS: Final = 1005
INVALID_DATA: Final = 1007
POLICY: Final = 1008
TOO_BIG: Final = 1009
TRY_LATER: Final = 1013

CONTROL_BYTES: Final = 125
"""Longest payload of a control frame."""
REASON_BYTES: Final = CONTROL_BYTES - 2
"""Longest reason of a close frame."""

#: A frame that is part of a message and not its last: nothing to act on.
FRAGMENT: Final = (CONTINUATION, b"")

_MASKED: Final = 0x80
_FIN: Final = 0x80
_RSV: Final = 0x70
_RSV1: Final = 0x40
_SHORT_HEAD: Final = 6
"""Two bytes and the mask, for a payload of up to 125 bytes."""

_u16: Final = Struct(">H")
_u64: Final = Struct(">Q")
_long_head: Final = Struct(">BBH").pack
_huge_head: Final = Struct(">BBQ").pack
_utf8: Final = codecs.getincrementaldecoder("utf-8")


class WebSocketFault(PulpError):
    """A peer broke the protocol, or a limit.

    Attributes:
        code: for the close frame.
        reason: the same in words.
    """

    def __init__(self, code: int, reason: str) -> None:
        self.code = code
        self.reason = reason
        super().__init__(f"{code}: {reason}")


class Inflater:
    """What reads compressed messages; see `websocket_deflate`."""

    def inflate(self, data: bytes, limit: int) -> bytes:
        """Return a message; raise `WebSocketFault` when it is longer than `limit`, or nonsense."""
        raise NotImplementedError


class FrameReader:
    """Reads what one client sends.

    Args:
        limit: longest message in bytes, decompressed. Past it `WebSocketFault` 1009, by its header alone.
        inflater: what reads compressed messages; None where compression was not agreed on.
    """

    __slots__ = ("_at", "_compressed", "_data", "_inflater", "_limit", "_need", "_opcode", "_parts", "_text")

    def __init__(self, limit: int, inflater: Inflater | None = None) -> None:
        self._limit: Final = limit
        self._inflater: Final = inflater
        self._data: bytes | bytearray = b""
        self._at = 0  # how much of it is read
        self._need = 0  # nothing can be read before so much of it is here
        self._opcode = CONTINUATION  # of the message whose fragments come in; 0 for none
        self._parts: bytearray | None = None
        self._text: codecs.IncrementalDecoder | None = None
        self._compressed = False

    @property
    def held(self) -> int:
        """Bytes kept for frames and messages that are not complete, and for what has not been asked for."""
        return len(self._data) - self._at + (0 if self._parts is None else len(self._parts))

    def feed(self, data: bytes) -> None:
        """Add bytes behind those that are here."""
        if not self._data:
            self._data = data
            return
        if isinstance(self._data, bytes):
            self._data = bytearray(self._data[self._at :])
        elif self._at:
            del self._data[: self._at]
        self._at = 0
        self._data += data

    def clear(self) -> None:
        """Forget everything."""
        self._data, self._at, self._parts, self._text, self._opcode = b"", 0, None, None, CONTINUATION

    def take_only(self, data: bytes) -> tuple[int, bytes] | None:
        """Return the message if `data` is exactly one short frame and nothing else is here; nearly always it is.

        Raises:
            WebSocketFault: 1007, its text is not UTF-8.
        """
        size = len(data)
        if self._data or self._opcode or size < _SHORT_HEAD or data[1] != size - _SHORT_HEAD | _MASKED:
            return None
        kind = data[0]
        if (kind != _FIN | TEXT and kind != _FIN | BINARY) or size > self._limit + _SHORT_HEAD or size > 131:
            return None
        payload = apply_mask(data[_SHORT_HEAD:], data[2:_SHORT_HEAD])
        if kind == _FIN | TEXT and not payload.isascii():
            check_text(payload)
        return kind & 0x0F, payload

    def take(self) -> tuple[int, bytes] | None:
        """Return the next message or control frame, `FRAGMENT` for a part of one, None if it is not all here.

        Raises:
            WebSocketFault: 1002, 1007 or 1009; the connection is to be closed with it.
        """
        data, at = self._data, self._at
        left = len(data) - at
        if left < 2 or left < self._need:
            return None
        first = data[at]
        size = self._size(at, first)
        if size < 0:
            return None
        short = data[at + 1] & 0x7F
        start = at + (_SHORT_HEAD if short < 126 else 8 if short == 126 else 14)
        end = start + size
        if end > len(data):
            self._need = end - at
            return None
        payload = apply_mask(data[start:end], data[start - 4 : start])
        if end == len(data):
            self._data, self._at = b"", 0
        else:
            self._at = end
        self._need = 0
        if first & 0x08:
            return first & 0x0F, payload
        return self._message(first, payload)

    def _size(self, at: int, first: int) -> int:
        """Return the length of the payload of the frame at `at`, -1 if its header is not all here."""
        data = self._data
        second = data[at + 1]
        self._check_head(first, second)
        size = second & 0x7F
        if size >= 126:
            wide = 2 if size == 126 else 8
            if at + 2 + wide > len(data):
                self._need = 2 + wide
                return -1
            size = (_u16 if wide == 2 else _u64).unpack_from(data, at + 2)[0]
            if size >> 63:
                raise WebSocketFault(PROTOCOL_ERROR, "length beyond 63 bits")
        if not first & 0x08:
            held = 0 if self._parts is None else len(self._parts)
            limit = self._limit
            if self._compressed or first & _RSV1:
                limit += (limit >> 10) + 64  # what does not compress becomes a little longer
            if held + size > limit:
                raise WebSocketFault(TOO_BIG, f"message longer than {self._limit} bytes")
        return size

    def _check_head(self, first: int, second: int) -> None:
        """Refuse a frame by its first two bytes."""
        opcode = first & 0x0F
        rsv = first & _RSV
        if not second & _MASKED:
            raise WebSocketFault(PROTOCOL_ERROR, "frame without a mask")
        if rsv and (rsv != _RSV1 or self._inflater is None or opcode not in (TEXT, BINARY)):
            raise WebSocketFault(PROTOCOL_ERROR, "reserved bit set")
        if opcode >= CLOSE:
            if opcode > PONG:
                raise WebSocketFault(PROTOCOL_ERROR, f"unknown opcode {opcode}")
            if not first & _FIN:
                raise WebSocketFault(PROTOCOL_ERROR, "control frame in fragments")
            if second & 0x7F > CONTROL_BYTES:
                raise WebSocketFault(PROTOCOL_ERROR, f"control frame longer than {CONTROL_BYTES} bytes")
        elif opcode > BINARY:
            raise WebSocketFault(PROTOCOL_ERROR, f"unknown opcode {opcode}")
        elif bool(opcode) == bool(self._opcode):
            raise WebSocketFault(PROTOCOL_ERROR, "fragment of no message" if not opcode else "message in a message")

    def _message(self, first: int, payload: bytes) -> tuple[int, bytes]:
        """Add a data frame to its message; return that if it is complete."""
        opcode = first & 0x0F
        final = first & _FIN
        if opcode and final:
            return self._checked(opcode, payload, bool(first & _RSV1))
        if opcode:
            self._opcode, self._compressed, self._parts = opcode, bool(first & _RSV1), bytearray()
            self._text = _utf8() if opcode == TEXT and not self._compressed else None
        if self._text is not None:  # a fragment that breaks the text is refused before the last one is here
            try:
                self._text.decode(payload, bool(final))
            except UnicodeDecodeError:
                raise WebSocketFault(INVALID_DATA, "text is not UTF-8") from None
        assert self._parts is not None  # noqa: S101 - a continuation without a message was refused by its head
        self._parts += payload
        if not final:
            return FRAGMENT
        opcode, whole, compressed = self._opcode, bytes(self._parts), self._compressed
        self._opcode, self._parts, self._text, self._compressed = CONTINUATION, None, None, False
        return self._checked(opcode, whole, True) if compressed else (opcode, whole)

    def _checked(self, opcode: int, payload: bytes, compressed: bool) -> tuple[int, bytes]:
        """Return a message as it was meant."""
        if compressed:
            assert self._inflater is not None  # noqa: S101 - the bit was refused otherwise
            payload = self._inflater.inflate(payload, self._limit)
        if opcode == TEXT and not payload.isascii():
            check_text(payload)
        return opcode, payload


def check_text(payload: bytes) -> None:
    """Raise `WebSocketFault` 1007 unless these bytes are UTF-8."""
    try:
        payload.decode()
    except UnicodeDecodeError:
        raise WebSocketFault(INVALID_DATA, "text is not UTF-8") from None


def encode_frame(opcode: int, payload: bytes, *, compressed: bool = False) -> bytes:
    """Return a whole, unmasked frame, as servers send it."""
    first = opcode | (_FIN | _RSV1 if compressed else _FIN)
    size = len(payload)
    if size < 126:
        return bytes((first, size)) + payload
    if size < 0x1_0000:
        return _long_head(first, 126, size) + payload
    return _huge_head(first, 127, size) + payload


def encode_close(code: int, reason: str = "") -> bytes:
    """Return a close frame; without a code for `NO_STATUS`. The reason is cut to what fits."""
    if code == NO_STATUS:
        return encode_frame(CLOSE, b"")
    text = reason.encode(errors="replace")[:REASON_BYTES].decode(errors="ignore")
    return encode_frame(CLOSE, _u16.pack(code) + text.encode())


def parse_close(payload: bytes) -> tuple[int, str]:
    """Return code and reason of a close frame; `NO_STATUS` when it has none.

    Raises:
        WebSocketFault: 1002 or 1007, it is malformed.
    """
    if not payload:
        return NO_STATUS, ""
    if len(payload) == 1:
        raise WebSocketFault(PROTOCOL_ERROR, "close frame of one byte")
    code = _u16.unpack_from(payload)[0]
    if not may_be_sent(code):
        raise WebSocketFault(PROTOCOL_ERROR, f"close code {code}")
    check_text(payload[2:])
    return code, payload[2:].decode()


def may_be_sent(code: int) -> bool:
    """Return whether a close frame may carry this code (RFC 6455 §7.4, the registry of close codes)."""
    return 1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999
