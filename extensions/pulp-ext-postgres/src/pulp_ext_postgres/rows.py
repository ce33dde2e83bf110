"""Rows as MessagePack (spec/capabilities §8.5): from PostgreSQL's text straight to the bytes a guest reads.

BIGINT, INTEGER, SMALLINT, OID       int64, nine bytes whatever the value
BOOLEAN                              int64, 0 or 1
DOUBLE PRECISION, REAL               float64
NUMERIC                              int64 if it is whole, written without a point, and fits; else float64
BYTEA                                bin; nil for one of length 0
TIMESTAMP, TIMESTAMPTZ, DATE         timestamp (ext -1); str for infinity and for years before 1 or past 9999
everything else                      str, as the server writes it
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import Final

from psycopg.pq import Escaping

NIL: Final = b"\xc0"
_INT64: Final = struct.Struct(">Bq")
_FLOAT64: Final = struct.Struct(">Bd")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MOMENT: Final = re.compile(
    rb"(\d{4})-(\d\d)-(\d\d)(?: (\d\d):(\d\d):(\d\d)(?:\.(\d{1,6}))?(?:([+-])(\d\d)(?::(\d\d))?(?::(\d\d))?)?)?"
)
_WHOLE: Final = re.compile(rb"-?\d{1,18}")


def int64(value: int) -> bytes:
    """Return a signed integer of nine bytes."""
    return _INT64.pack(0xD3, value)


def text(data: bytes) -> bytes:
    """Return a str; bytes that are no UTF-8 are replaced."""
    try:
        data.decode()
    except UnicodeDecodeError:
        data = data.decode(errors="replace").encode()
    return _sized(data, 0xA0, 32, (0xD9, 0xDA, 0xDB))


def array(items: Sequence[bytes]) -> bytes:
    """Return an array of values that are encoded already."""
    size = len(items)
    if size < 16:
        return bytes([0x90 | size]) + b"".join(items)
    head = struct.pack(">BH", 0xDC, size) if size < 0x1_0000 else struct.pack(">BI", 0xDD, size)
    return head + b"".join(items)


def row(values: Sequence[bytes | None], types: Sequence[int]) -> bytes:
    """Return one row as an array.

    Args:
        values: as the server sends them in text format; None is NULL.
        types: the columns' type numbers.
    """
    return array(
        [NIL if value is None else _ENCODERS.get(kind, text)(value) for value, kind in zip(values, types, strict=True)]
    )


def _sized(data: bytes, short: int, most_short: int, heads: tuple[int, int, int]) -> bytes:
    size = len(data)
    if size < most_short:
        return bytes([short | size]) + data
    if size < 0x100:
        return bytes([heads[0], size]) + data
    if size < 0x1_0000:
        return struct.pack(">BH", heads[1], size) + data
    return struct.pack(">BI", heads[2], size) + data


def _integer(value: bytes) -> bytes:
    return int64(int(value))


def _boolean(value: bytes) -> bytes:
    return int64(value == b"t")


def _real(value: bytes) -> bytes:
    return _FLOAT64.pack(0xCB, float(value))


def _numeric(value: bytes) -> bytes:
    return _integer(value) if _WHOLE.fullmatch(value) else _real(value)


def _bytes(value: bytes) -> bytes:
    data = bytes(Escaping().unescape_bytea(value))
    return _sized(data, 0, 0, (0xC4, 0xC5, 0xC6)) if data else NIL


def _moment(value: bytes) -> bytes:
    found = _MOMENT.fullmatch(value)
    if found is None:
        return text(value)
    year, month, day, hour, minute, second = (int(part or 0) for part in found.groups()[:6])
    micros = int((found[7] or b"").ljust(6, b"0"))
    away = timedelta(hours=int(found[9] or 0), minutes=int(found[10] or 0), seconds=int(found[11] or 0))
    try:
        zone = timezone(-away if found[8] == b"-" else away)
        moment = datetime(year, month, day, hour, minute, second, micros, zone)
    except ValueError:  # year 0, or 24:00
        return text(value)
    since = moment - _EPOCH
    return timestamp(since.days * 86_400 + since.seconds, since.microseconds * 1000)


def timestamp(seconds: int, nanos: int) -> bytes:
    """Return a time as extension -1, in the shortest of its three forms."""
    if not nanos and 0 <= seconds < 1 << 32:
        return struct.pack(">BbI", 0xD6, -1, seconds)
    if 0 <= seconds < 1 << 34:
        return struct.pack(">BbQ", 0xD7, -1, nanos << 34 | seconds)
    return struct.pack(">BBbIq", 0xC7, 12, -1, nanos, seconds)


_ENCODERS: Final[dict[int, Callable[[bytes], bytes]]] = {
    16: _boolean,
    17: _bytes,
    20: _integer,
    21: _integer,
    23: _integer,
    26: _integer,
    700: _real,
    701: _real,
    1082: _moment,
    1114: _moment,
    1184: _moment,
    1700: _numeric,
}
