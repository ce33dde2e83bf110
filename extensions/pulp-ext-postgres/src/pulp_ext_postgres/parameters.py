"""MessagePack values as parameters (spec/capabilities §8.4).

Numbers, text, booleans and times are sent as text without a type, so that each takes the type of the place it stands
in: 1 is a BIGINT for one column and true for a BOOLEAN. Bytes are BYTEA.
"""

from __future__ import annotations

import struct
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

import msgspec

from pulp_ext_postgres.dialect import MOST_PARAMETERS

MOST_BYTES: Final = 16 * 1024 * 1024
"""Of all parameters of one call."""
_BYTEA: Final = 17
_TIMESTAMP: Final = -1
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LEAST, _MOST = -(1 << 63), (1 << 63) - 1
_decode: Final = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode


class ParameterError(ValueError):
    """A value that cannot be bound; the text says which and why."""


class NotParameters(ValueError):
    """Bytes that are no MessagePack array."""


class Bound(NamedTuple):
    """One parameter.

    Attributes:
        value: its bytes; None is NULL.
        type: its type's number; 0 leaves it to the place it stands in.
        format: 0 text, 1 binary.
    """

    value: bytes | None
    type: int = 0
    format: int = 0


def read_parameters(data: bytes) -> list[Bound]:
    """Return the parameters of a call; none for no bytes, and for nil.

    Raises:
        NotParameters: not an array.
        ParameterError: an array or a map in it, an extension other than a time, an integer of 2**63 or more, text
            with a NUL; or too many, or too long.
    """
    if not data or data == b"\xc0":
        return []
    if len(data) > MOST_BYTES:
        raise ParameterError(f"the parameters have more than {MOST_BYTES:,} bytes")
    if _announced(data) > MOST_PARAMETERS:
        raise ParameterError(f"there are more than {MOST_PARAMETERS:,} parameters")
    try:
        values = _decode(data)
    except (msgspec.DecodeError, RecursionError) as error:
        raise NotParameters(str(error)) from None
    return [_bound(bytes(value), number) for number, value in enumerate(values, 1)]


def _announced(data: bytes) -> int:
    """Return how many values the array at the start of `data` says it has."""
    if 0x90 <= data[0] <= 0x9F:
        return data[0] & 0x0F
    if data[0] in (0xDC, 0xDD):
        return int.from_bytes(data[1 : 3 if data[0] == 0xDC else 5], "big")
    raise NotParameters("not an array")


def _bound(raw: bytes, number: int) -> Bound:
    marker = raw[0]
    if marker == 0xC0:
        return Bound(None)
    if marker in (0xC2, 0xC3):
        return Bound(b"1" if marker == 0xC3 else b"0")
    if marker < 0x80 or marker >= 0xE0 or 0xCC <= marker <= 0xD3:
        return Bound(_integer(raw, number))
    if marker in (0xCA, 0xCB):
        return Bound(_real(struct.unpack(">f" if marker == 0xCA else ">d", raw[1:])[0]))
    if 0xA0 <= marker <= 0xBF or 0xD9 <= marker <= 0xDB:
        text = raw[1 + (0 if marker <= 0xBF else 1 << marker - 0xD9) :]
        if b"\0" in text:
            raise ParameterError(f"parameter {number} holds a NUL character, which PostgreSQL's text cannot")
        return Bound(text)
    if 0xC4 <= marker <= 0xC6:
        return Bound(raw[1 + (1 << marker - 0xC4) :], _BYTEA, 1)
    moment = _moment(raw)
    if moment is None:
        raise ParameterError(f"parameter {number} is an array, a map or an extension; bind a plain value")
    return Bound(moment)


def _integer(raw: bytes, number: int) -> bytes:
    value = int(msgspec.msgpack.decode(raw, type=int))
    if not _LEAST <= value <= _MOST:
        raise ParameterError(f"parameter {number} is {value}, which does not fit 64 bits with a sign")
    return b"%d" % value


def _real(value: float) -> bytes:
    if value in (float("inf"), float("-inf")):
        return b"Infinity" if value > 0 else b"-Infinity"
    return repr(value).encode()  # the shortest text that reads back as the same number; "nan" is NaN there too


def _moment(raw: bytes) -> bytes | None:
    """Return a time as text, in UTC and to the microsecond; None for anything else."""
    body = raw[2:] if raw[0] in (0xD6, 0xD7) else raw[3:] if raw[0] == 0xC7 else b""
    kind = raw[1:2] if raw[0] in (0xD6, 0xD7) else raw[2:3]
    if len(body) not in (4, 8, 12) or kind != b"\xff":
        return None
    if len(body) == 4:
        seconds, nanos = int.from_bytes(body, "big"), 0
    elif len(body) == 8:
        whole = int.from_bytes(body, "big")
        seconds, nanos = whole & (1 << 34) - 1, whole >> 34
    else:
        nanos, seconds = struct.unpack(">Iq", body)
    try:
        moment = _EPOCH + timedelta(seconds=seconds, microseconds=nanos // 1000)
    except OverflowError:
        raise ParameterError("a time outside the years 1 to 9999") from None
    return moment.isoformat(" ").encode()
