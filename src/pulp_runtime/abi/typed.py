"""MessagePack from guests, read into typed structs.

Well-formed messages, nearly all of them, are read by msgspec in one go. What it
refuses is read again liberally and bent into shape by the contract's rules:
text and bytes stand in for each other, nil is the zero value, a missing field
is its default or zero, unknown fields are skipped, an array gives a struct's
fields by position, and any number that is a whole one may be an integer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar, cast

import msgspec
from msgspec import inspect

from pulp_runtime.abi.liberal import DecodeError, decode_liberal

StructT = TypeVar("StructT", bound=msgspec.Struct)
Coerce = Callable[[object], object]

#: Longest message that is read in one go. The liberal reader counts values, msgspec does not: it
#: makes five gigabytes of strings out of 256 megabytes.
ONE_GO_BYTES: Final = 1024 * 1024

_decoders: Final[dict[type[msgspec.Struct], Callable[[bytes], Any]]] = {}


def struct_decoder(shape: type[StructT]) -> Callable[[bytes], StructT]:
    """Return the function that reads `shape` from bytes; made once per type.

    Args:
        shape: a struct whose fields are int, str, bytes, bool, float, list,
            dict, another struct, or one of these or None. Integer bounds are
            `Annotated` with `msgspec.Meta` and hold on both roads.

    Raises:
        TypeError: a field has a type that guests cannot send.
    """
    known = _decoders.get(shape)
    if known is None:
        known = _decoders[shape] = _make_decoder(shape)
    return cast("Callable[[bytes], StructT]", known)


def decode_struct(data: bytes, shape: type[StructT]) -> StructT:
    """Read `shape` from the bytes of a guest.

    Raises:
        DecodeError: the bytes are no MessagePack, or not of this shape.
    """
    return struct_decoder(shape)(data)


def _make_decoder(shape: type[StructT]) -> Callable[[bytes], StructT]:
    decode = msgspec.msgpack.Decoder(shape).decode
    coerce = _coercion(inspect.type_info(shape))

    def read(data: bytes) -> StructT:
        try:
            if len(data) <= ONE_GO_BYTES:
                return decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            pass  # not strictly of this shape; the liberal reader decides
        bent = coerce(decode_liberal(data))
        try:
            return msgspec.convert(bent, shape)
        except msgspec.ValidationError as error:
            raise DecodeError(str(error)) from None

    return read


def _coercion(wanted: inspect.Type) -> Coerce:
    """Return what bends a liberally read value into `wanted`."""
    if isinstance(wanted, inspect.StructType):
        return _struct_coercion(wanted)
    if isinstance(wanted, inspect.ListType):
        return _list_coercion(_coercion(wanted.item_type))
    if isinstance(wanted, inspect.DictType):
        return _dict_coercion(_coercion(wanted.key_type), _coercion(wanted.value_type))
    if isinstance(wanted, inspect.UnionType):
        some = [kind for kind in wanted.types if not isinstance(kind, inspect.NoneType)]
        if len(some) == 1:
            return _optional_coercion(_coercion(some[0]))
    scalar = _SCALARS.get(type(wanted))
    if scalar is None:
        raise TypeError(f"a struct read from a guest cannot have a field of type {wanted}")
    return scalar


def _struct_coercion(wanted: inspect.StructType) -> Coerce:
    names = [field.encode_name for field in wanted.fields]
    fields = {field.encode_name: _coercion(field.type) for field in wanted.fields}
    required = [field.encode_name for field in wanted.fields if field.required]

    def coerce(value: object) -> object:
        if value is None:
            value = {}
        elif isinstance(value, list):
            value = dict(zip(names, value, strict=False))
        if not isinstance(value, dict):
            raise _mismatch("a map", value)
        bent = {}
        for key, item in value.items():
            name = _text(key) if isinstance(key, bytes) else key
            if name not in fields:
                continue
            try:
                bent[name] = fields[name](item)
            except DecodeError as error:
                raise DecodeError(f"{name}: {error}") from None
        for name in required:
            if name not in bent:
                bent[name] = fields[name](None)
        return bent

    return coerce


def _list_coercion(item: Coerce) -> Coerce:
    def coerce(value: object) -> object:
        if value is None:
            return []
        if not isinstance(value, list):
            raise _mismatch("an array", value)
        return [item(element) for element in value]

    return coerce


def _dict_coercion(key: Coerce, item: Coerce) -> Coerce:
    def coerce(value: object) -> object:
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise _mismatch("a map", value)
        return {key(name): item(element) for name, element in value.items()}

    return coerce


def _optional_coercion(some: Coerce) -> Coerce:
    return lambda value: None if value is None else some(value)


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, str):
        return value
    raise _mismatch("text", value)


def _bytes(value: object) -> bytes:
    if value is None:
        return b""
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, bytes):
        return value
    raise _mismatch("bytes", value)


def _integer(value: object) -> int:
    if value is None:
        return 0
    if isinstance(value, float) and value.is_integer():
        # A float may be far wider than any integer on the wire; only those that fit one are meant.
        value = int(value)
        if not -(1 << 63) <= value < 1 << 64:
            raise DecodeError(f"{value:.3e} does not fit an integer")
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise _mismatch("an integer", value)


def _real(value: object) -> float:
    if value is None:
        return 0.0
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    raise _mismatch("a number", value)


def _flag(value: object) -> bool:
    if value is None:
        return False
    if isinstance(value, bool):
        return value
    raise _mismatch("a boolean", value)


def _mismatch(wanted: str, value: object) -> DecodeError:
    return DecodeError(f"expected {wanted}, not {'nil' if value is None else type(value).__name__}")


_SCALARS: Final[Mapping[type[inspect.Type], Coerce]] = {
    inspect.StrType: _text,
    inspect.BytesType: _bytes,
    inspect.IntType: _integer,
    inspect.FloatType: _real,
    inspect.BoolType: _flag,
}
