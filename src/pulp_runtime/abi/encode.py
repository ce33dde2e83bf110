"""MessagePack, written the way guests expect to read it.

Guests decode some of these bytes into untyped values and branch on the width
they find, so numbers keep their declared width: a config integer takes nine
bytes even when it is 0. Only lengths use the shortest header that fits.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Final

NIL: Final = b"\xc0"
FALSE: Final = b"\xc2"
TRUE: Final = b"\xc3"

_FIXSTR: Final = tuple(bytes([0xA0 | size]) for size in range(32))
_SHORT_ARRAY: Final = tuple(bytes([0x90 | size]) for size in range(16))
_SHORT_MAP: Final = tuple(bytes([0x80 | size]) for size in range(16))
_MARKED_U8: Final = struct.Struct(">BB")
_MARKED_U16: Final = struct.Struct(">BH")
_MARKED_U32: Final = struct.Struct(">BI")
_MARKED_U64: Final = struct.Struct(">BQ")
_MARKED_I64: Final = struct.Struct(">Bq")
_MARKED_F64: Final = struct.Struct(">Bd")


def str_header(size: int) -> bytes:
    """Return the shortest header of a string of `size` bytes."""
    if size < 32:
        return _FIXSTR[size]
    if size < 0x100:
        return _MARKED_U8.pack(0xD9, size)
    if size < 0x1_0000:
        return _MARKED_U16.pack(0xDA, size)
    return _MARKED_U32.pack(0xDB, size)


def bin_header(size: int) -> bytes:
    """Return the shortest header of `size` raw bytes."""
    if size < 0x100:
        return _MARKED_U8.pack(0xC4, size)
    if size < 0x1_0000:
        return _MARKED_U16.pack(0xC5, size)
    return _MARKED_U32.pack(0xC6, size)


def array_header(size: int) -> bytes:
    """Return the shortest header of an array of `size` values."""
    if size < 16:
        return _SHORT_ARRAY[size]
    if size < 0x1_0000:
        return _MARKED_U16.pack(0xDC, size)
    return _MARKED_U32.pack(0xDD, size)


def map_header(size: int) -> bytes:
    """Return the shortest header of a map of `size` pairs."""
    if size < 16:
        return _SHORT_MAP[size]
    if size < 0x1_0000:
        return _MARKED_U16.pack(0xDE, size)
    return _MARKED_U32.pack(0xDF, size)


def encode_str(text: str) -> bytes:
    """Return `text` as a string.

    Raises:
        UnicodeEncodeError: `text` holds a lone surrogate.
    """
    data = text.encode()
    return str_header(len(data)) + data


def encode_bin(data: bytes) -> bytes:
    """Return `data` as raw bytes; nothing at all is `c4 00`, not nil."""
    return bin_header(len(data)) + data


def encode_str_map(mapping: Mapping[str, str]) -> bytes:
    """Return `mapping` as a map of strings, in its own order."""
    parts = [map_header(len(mapping))]
    for key, value in mapping.items():
        parts.append(encode_str(key))
        parts.append(encode_str(value))
    return b"".join(parts)


def encode_bool(value: bool) -> bytes:
    """Return `value` as a boolean."""
    return TRUE if value else FALSE


def encode_u8(value: int) -> bytes:
    """Return `value` as an unsigned integer of two bytes in all; `struct.error` past its range."""
    return _MARKED_U8.pack(0xCC, value)


def encode_u16(value: int) -> bytes:
    """Return `value` as an unsigned integer of three bytes in all; `struct.error` past its range."""
    return _MARKED_U16.pack(0xCD, value)


def encode_u32(value: int) -> bytes:
    """Return `value` as an unsigned integer of five bytes in all; `struct.error` past its range."""
    return _MARKED_U32.pack(0xCE, value)


def encode_u64(value: int) -> bytes:
    """Return `value` as an unsigned integer of nine bytes in all; `struct.error` past its range."""
    return _MARKED_U64.pack(0xCF, value)


def encode_int64(value: int) -> bytes:
    """Return `value` as a signed integer of nine bytes in all; `struct.error` past its range."""
    return _MARKED_I64.pack(0xD3, value)


def encode_float64(value: float) -> bytes:
    """Return `value` as a float of nine bytes in all; NaN keeps the bits it has."""
    return _MARKED_F64.pack(0xCB, value)
