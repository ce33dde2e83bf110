"""Random and mutated inputs."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from random import Random
from typing import Any

import msgspec
from msgspec import inspect

from pulp_runtime.abi.codec import array_header, bin_header, encode_float64, encode_str, map_header

BYTES = [bytes([at]) for at in range(256)]
NUMBERS = (0, 1, -1, 31, 32, 127, 128, 255, 256, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**63 - 1, -(2**63))
BOMBS = (
    b"\xdd\xff\xff\xff\xff",
    b"\xdf\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff",
    b"\xdb\xff\xff\xff\xff",
    b"\xc9\xff\xff\xff\xff\x01",
    b"\xdc\xff\xff",
    b"\xde\xff\xff",
    b"\xc1",
    b"\x91" * 200,
    b"\x81\xc0" * 200,
    b"\xd6\xff\0\0\0\0",
    b"\xc7\x0c\xff" + b"\xff" * 12,
    b"\xa2\xff\xfe",
    b"\xcb\x7f\xf8\0\0\0\0\0\1",
    b"\xcf" + b"\xff" * 8,
    b"\xd3\x80" + bytes(7),
    b"\xc0",
)


def mutated(rng: Random, data: bytes, dictionary: Sequence[bytes] = BYTES) -> bytes:
    """Return `data` with a few changes; about one in eight comes back as it is."""
    rand = rng.random
    for _ in range(int(rand() * 4)):
        at = int(rand() * (len(data) + 1))
        kind = int(rand() * 8)
        if kind < 2:
            data = data[:at] + BYTES[int(rand() * 256)] + data[at + 1 :]
        elif kind == 2:
            data = data[:at] + dictionary[int(rand() * len(dictionary))] + data[at:]
        elif kind == 3:
            data = data[:at] + dictionary[int(rand() * len(dictionary))] + data[at + 1 :]
        elif kind == 4:
            data = data[:at] + data[at + 1 + int(rand() * 4) :]
        elif kind == 5:
            data = data[:at]
        elif kind == 6:
            end = at + int(rand() * 16)
            data = data[:end] + data[at:end] + data[end:]
        elif at < len(data):
            data = data[:at] + BYTES[data[at] ^ 1 << int(rand() * 8)] + data[at + 1 :]
    return data


def pack_number(rng: Random, number: int) -> bytes:
    """Return an integer in any of the forms that hold it."""
    forms = []
    if -32 <= number < 128:
        forms.append(BYTES[number & 0xFF])
    for code, kind in ((0xCC, "B"), (0xCD, "H"), (0xCE, "I"), (0xCF, "Q")):
        if 0 <= number < 1 << 8 * struct.calcsize(kind):
            forms.append(struct.pack(f">B{kind}", code, number))
    for code, kind in ((0xD0, "b"), (0xD1, "h"), (0xD2, "i"), (0xD3, "q")):
        if abs(2 * number + 1) < 1 << 8 * struct.calcsize(kind):
            forms.append(struct.pack(f">B{kind}", code, number))
    forms.append(encode_float64(float(number)))
    return rng.choice(forms)


def pack_value(rng: Random, depth: int = 0) -> bytes:
    """Return any MessagePack value."""
    kind = int(rng.random() * (9 if depth < 4 else 7))
    if kind == 0:
        return pack_number(rng, rng.choice(NUMBERS))
    if kind == 1:
        return encode_str(text(rng))
    if kind == 2:
        data = rng.randbytes(rng.randrange(20))
        return bin_header(len(data)) + data
    if kind == 3:
        return rng.choice((b"\xc0", b"\xc2", b"\xc3"))
    if kind == 4:
        return encode_float64(rng.uniform(-1e9, 1e9))
    if kind == 5:
        return rng.choice(BOMBS)
    if kind == 6:
        body = rng.randbytes(rng.choice((1, 2, 4, 8, 16)))
        return BYTES[0xD4 + len(body).bit_length() - 1] + BYTES[rng.randrange(256)] + body
    size = rng.randrange(5)
    if kind == 7:
        return array_header(size) + b"".join([pack_value(rng, depth + 1) for _ in range(size)])
    return map_header(size) + b"".join([pack_value(rng, depth + 1) for _ in range(2 * size)])


ALPHABET = 'abz/:*.-AZ09 \0\r\n\t"\\%é€\U0001f600\u202e\u00a0\x7f\x1b=;,'
WORDS = ("GET", "POST", "/", "/a/:b", "/*r", "Content-Length", "close", "chunked", "x" * 300, "a=b; Path=/", "200")


def text(rng: Random) -> str:
    """Return a word that means something, or one that does not."""
    if rng.random() < 0.5:
        return WORDS[int(rng.random() * len(WORDS))]
    return "".join([ALPHABET[int(rng.random() * len(ALPHABET))] for _ in range(int(rng.random() * 8))])


class Packer:
    """Makes messages for one struct: mostly of its shape, sometimes with a field that is not."""

    def __init__(self, shape: type[msgspec.Struct]) -> None:
        about = inspect.type_info(shape)
        assert isinstance(about, inspect.StructType)
        self._fields = about.fields

    def __call__(self, rng: Random) -> bytes:
        """Return a message."""
        parts = []
        as_array = rng.random() < 0.1
        for item in self._fields:
            odds = rng.random()
            if odds < 0.05 and not as_array:
                continue
            value = pack_value(rng) if odds < 0.15 else self._value(rng, item.type)
            parts.append(value if as_array else encode_str(item.encode_name) + value)
        if rng.random() < 0.1:
            parts.append(pack_value(rng) if as_array else encode_str(text(rng)) + pack_value(rng))
        if rng.random() < 0.05:
            rng.shuffle(parts)
        header = array_header if as_array else map_header
        return header(len(parts)) + b"".join(parts)

    def _value(self, rng: Random, kind: Any) -> bytes:
        if isinstance(kind, inspect.UnionType):
            kind = rng.choice(kind.types)
        if isinstance(kind, inspect.NoneType):
            return b"\xc0"
        if isinstance(kind, inspect.IntType):
            return pack_number(rng, rng.choice(NUMBERS) if rng.random() < 0.3 else rng.randrange(700))
        if isinstance(kind, inspect.StrType):
            return encode_str(text(rng))
        if isinstance(kind, inspect.BytesType):
            data = rng.randbytes(rng.randrange(40))
            return bin_header(len(data)) + data
        if isinstance(kind, inspect.BoolType):
            return rng.choice((b"\xc2", b"\xc3"))
        if isinstance(kind, inspect.ListType):
            size = rng.randrange(4)
            return array_header(size) + b"".join([self._value(rng, kind.item_type) for _ in range(size)])
        if isinstance(kind, inspect.DictType):
            size = rng.randrange(4)
            pairs = [self._value(rng, kind.key_type) + self._value(rng, kind.value_type) for _ in range(size)]
            return map_header(size) + b"".join(pairs)
        return pack_value(rng)


class Pool:
    """Inputs of `make` kept and mutated: making one from nothing takes longer than reading it."""

    def __init__(self, make: Any, dictionary: Sequence[bytes] = BYTES, size: int = 256) -> None:
        self._make = make
        self._dictionary = dictionary
        self._size = size
        self._kept: list[bytes] = []

    def __call__(self, rng: Random) -> bytes:
        """Return an input; now and then a new one joins those that are mutated."""
        kept = self._kept
        if len(kept) < self._size:
            kept.append(self._make(rng))
            return kept[-1]
        at = int(rng.random() * self._size)
        if rng.random() < 0.05:
            kept[at] = self._make(rng)
            return kept[at]
        return mutated(rng, kept[at], self._dictionary)
