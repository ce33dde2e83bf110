"""A cell's `[config]` table as the bytes its `pulp_init` receives."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from datetime import date
from datetime import time as clock_time
from typing import Final

from pulp_runtime.abi.codec import (
    MAX_NESTING,
    array_header,
    encode_bool,
    encode_float64,
    encode_int64,
    encode_str,
    map_header,
)
from pulp_runtime.abi.moment import timestamp_of

#: How far this machine's clocks were ahead of UTC when the process started. Read once: a change of
#: daylight saving time must not give a restarted cell another config.
LOCAL_OFFSET_SECONDS: Final = time.localtime().tm_gmtoff

_INT64: Final = range(-(1 << 63), 1 << 63)
#: Guests compare these bits; Python's own NaN has another payload.
_NAN: Final = bytes.fromhex("cb7ff8000000000001")
_NEGATIVE_NAN: Final = bytes.fromhex("cbfff8000000000001")


class EncodeError(ValueError):
    """A value that a config cannot carry; the text names its key."""


def encode_config(config: Mapping[str, object] | None, *, local_offset_seconds: int = LOCAL_OFFSET_SECONDS) -> bytes:
    """Return `config` as one MessagePack map, or no bytes when it is empty or absent.

    Keys keep the order in which the mapping has them, which for a manifest is
    the order in which they were written: equal manifests give equal bytes.
    Integers take nine bytes whatever their value, for guests test for int64.

    Args:
        config: str, int, float, bool, date-times, dates, times, lists and
            mappings of these with string keys.
        local_offset_seconds: how far local clocks are ahead of UTC, for
            date-times without an offset of their own.

    Raises:
        EncodeError: a value of another type, an integer outside int64, a key
            that is no string, or more than `MAX_NESTING` levels.
    """
    if not config:
        return b""
    parts: list[bytes] = []
    _append(parts, config, "config", 0, local_offset_seconds)
    return b"".join(parts)


def _append(parts: list[bytes], value: object, key: str, depth: int, offset: int) -> None:
    if isinstance(value, Mapping | list | tuple) and depth >= MAX_NESTING:
        raise EncodeError(f"{key} is nested more than {MAX_NESTING} levels deep")
    if isinstance(value, Mapping):
        parts.append(map_header(len(value)))
        for name, item in value.items():
            if not isinstance(name, str):
                raise EncodeError(f"{key} has the key {name!r}, which is not a string")
            parts.append(encode_str(name))
            _append(parts, item, f"{key}.{name}", depth + 1, offset)
    elif isinstance(value, list | tuple):
        parts.append(array_header(len(value)))
        for index, item in enumerate(value):
            _append(parts, item, f"{key}[{index}]", depth + 1, offset)
    else:
        parts.append(_scalar(value, key, offset))


def _scalar(value: object, key: str, offset: int) -> bytes:
    if isinstance(value, str):
        return encode_str(value)
    if isinstance(value, bool):  # before int, of which it is a subclass
        return encode_bool(value)
    if isinstance(value, int):
        if value not in _INT64:
            raise EncodeError(f"{key} does not fit a signed 64-bit integer")
        return encode_int64(value)
    if isinstance(value, float):
        if math.isnan(value):
            return _NEGATIVE_NAN if math.copysign(1, value) < 0 else _NAN
        return encode_float64(value)
    if isinstance(value, date | clock_time):
        return timestamp_of(value, offset).encode()
    raise EncodeError(f"{key} is of type {type(value).__name__}, which a config cannot carry")
