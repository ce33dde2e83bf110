"""Records of `storage.sqlite`: parameters, the two shapes of a result, an error (spec/capabilities §8).

    parameters   [value, …]
    exec         {"rows_affected": i64, "last_insert_id": i64}                  with an error: both 0, "error": str
    query        {"columns": [str, …], "rows": [[value, …], …] | nil}           with an error: both nil, "error": str
    query, E0    [[value, …], …] | nil
    query_many   {"columns": [str, …], "results": [[[value, …], …] | nil, …]}   with an error: as query

Integers of a result take nine bytes whatever their value: guests test for int64.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Final, cast

import msgspec

from pulp_runtime.abi.codec import (
    NIL,
    DecodeError,
    array_header,
    decode_liberal,
    encode_bin,
    encode_int64,
    encode_str,
    encode_u32,
    map_header,
    str_header,
)

MAX_ERROR_BYTES: Final = 4096
"""Longest error text a guest is given; the rest is cut off."""

Value = int | float | str | bytes | bool | None
"""What is bound to a parameter, once extensions have been dealt with."""

#: As in `typed.py`: past it the liberal reader counts values, which msgspec does not.
_ONE_GO_BYTES: Final = 1024 * 1024

_ROWS_AFFECTED: Final = map_header(2) + encode_str("rows_affected")
_LAST_INSERT_ID: Final = encode_str("last_insert_id")
_EXEC: Final = struct.Struct(f">{len(_ROWS_AFFECTED)}sBq{len(_LAST_INSERT_ID)}sBq")
_COLUMNS: Final = map_header(2) + encode_str("columns")
_ROWS: Final = encode_str("rows")
_RESULTS: Final = encode_str("results")
_ERROR: Final = encode_str("error")
_HANDLE: Final = map_header(2) + encode_str("handle")
_FIXSTR: Final = tuple(str_header(size) for size in range(32))
_INT64: Final = struct.Struct(">Bq").pack
_FLOAT64: Final = struct.Struct(">Bd").pack

_decode_one: Final = msgspec.msgpack.Decoder().decode


class Text(bytes):
    """Text of SQLite that need not be UTF-8; what is, is an ordinary `str` where it is known to be."""

    __slots__ = ()


def decode_params(data: bytes) -> list[object]:
    """Read the parameters of a statement; none for no bytes, or for nil.

    Values are int, float, str, bytes, bool, None; a moment is a `Timestamp`; arrays, maps and other extensions come
    as they are and are for the caller to refuse. Text that is not UTF-8 is bytes.

    Raises:
        DecodeError: the bytes are not one MessagePack array.
    """
    if not data:
        return []
    values: object = _UNREAD
    if len(data) <= _ONE_GO_BYTES:
        try:
            values = _decode_one(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            pass  # the liberal reader decides
    if values is _UNREAD or (_MOMENT in data and isinstance(values, list) and _has_moment(values)):
        values = decode_liberal(data)  # which keeps every nanosecond too
    if values is None:
        return []
    if not isinstance(values, list):
        raise DecodeError(f"parameters are an array, not {type(values).__name__}")
    return values


_UNREAD: Final = object()
_MOMENT: Final = b"\xff"  # the extension's type, as a byte


def _has_moment(values: list[object]) -> bool:
    """Tell whether a moment is among them, or in an array that is among them."""
    return any(
        type(value) is datetime or (type(value) is list and any(type(inner) is datetime for inner in value))
        for value in values
    )


def decode_many(data: bytes) -> list[list[object]]:
    """Read the parameters of many runs of one statement, an array of arrays; nil for one of them is no parameters.

    Raises:
        DecodeError: the bytes are not that.
    """
    runs = decode_params(data)
    for at, values in enumerate(runs):
        if values is None:
            runs[at] = []
        elif not isinstance(values, list):
            raise DecodeError(f"run {at + 1} has {type(values).__name__} for its parameters, not an array")
    return cast("list[list[object]]", runs)


def encode_exec(rows_affected: int, last_insert_id: int) -> bytes:
    """Return the result of `sqlite_exec`."""
    return _EXEC.pack(_ROWS_AFFECTED, 0xD3, rows_affected, _LAST_INSERT_ID, 0xD3, last_insert_id)


def encode_exec_error(text: str) -> bytes:
    """Return the result of a failed `sqlite_exec`."""
    return b"".join((_with_error(_ROWS_AFFECTED), encode_int64(0), _LAST_INSERT_ID, encode_int64(0), _error(text)))


def encode_columns(names: Sequence[str]) -> bytes:
    """Return a result of `sqlite_query` up to its rows."""
    return b"".join((_COLUMNS, _names(names), _ROWS))


def encode_results(header: bytes, results: Sequence[bytes]) -> bytes:
    """Return a result of `sqlite_query_many` from the columns, as a query's result has them, and encoded arrays."""
    return b"".join((header[: -len(_ROWS)], _RESULTS, array_header(len(results)), *results))


def encode_query_error(text: str) -> bytes:
    """Return the result of a failed `sqlite_query`."""
    return b"".join((_with_error(_COLUMNS), NIL, _ROWS, NIL, _error(text)))


def encode_opened(handle: int, names: Sequence[str]) -> bytes:
    """Return the result of `sqlite_rows_open`."""
    return b"".join((_HANDLE, encode_u32(handle), encode_str("columns"), _names(names)))


def encode_row(row: Sequence[object], converted: Callable[[int, bytes], bytes | None] | None = None) -> bytes:
    """Return one row of a result as an array.

    Args:
        row: int, float, None, str, bytes; `Text` is text too.
        converted: `converted(column, text)` may return other bytes for a text, None for the text itself.
    """
    parts = [array_header(len(row))]
    add = parts.append
    for value in row:
        kind = type(value)
        if kind is int:
            add(_INT64(0xD3, value))
        elif kind is str or kind is Text:
            text: bytes = value.encode() if kind is str else value  # type: ignore[attr-defined,assignment]
            other = None if converted is None else converted(len(parts) - 1, text)
            size = len(text)
            if other is not None:
                add(other)
            elif size < 32:
                add(_FIXSTR[size] + text)
            else:
                add(str_header(size) + text)
        elif value is None:
            add(NIL)
        elif kind is float:
            add(_FLOAT64(0xCB, value))
        elif value:
            add(encode_bin(value))  # type: ignore[arg-type]
        else:
            add(NIL)  # a blob of no bytes (spec/capabilities §8.5)
    return b"".join(parts)


def encode_array(count: int, rows: Iterable[bytes]) -> bytes:
    """Return `count` encoded rows as an array; nil when there is none."""
    return b"".join((array_header(count), *rows)) if count else NIL


def _names(names: Sequence[str]) -> bytes:
    return b"".join((array_header(len(names)), *(encode_str(name) for name in names)))


def _with_error(head: bytes) -> bytes:
    return map_header(3) + head[1:]


def _error(text: str) -> bytes:
    data = text.encode(errors="replace")[:MAX_ERROR_BYTES]
    return _ERROR + encode_str(data.decode(errors="ignore"))
