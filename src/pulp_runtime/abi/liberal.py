"""MessagePack from guests, read as tolerantly as the contract promises and never past a bound.

Pure Python on purpose. Both C decoders at hand are stricter than the contract
(one refuses text that is not UTF-8, the other cannot tell it from bytes) and
one of them sets aside a list for each array header it meets, a thousand of
them nested, before it has seen an element. Here nothing is made before its
bytes have been. Typed structs take a faster road first (`typed.py`).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from pulp_runtime.abi.moment import TIMESTAMP_EXT, Timestamp

#: Containers inside containers. Real messages stay under ten; a recursive reader needs some end.
MAX_NESTING: Final = 128
#: Values in one message. An empty map costs its sender one byte and the host sixty-four, so the
#: largest message the host accepts would otherwise become half a gigabyte of nothing.
MAX_VALUES: Final = 1_000_000

_NUMBERS: Final = {
    marker: struct.Struct(layout)
    for marker, layout in {
        0xCA: ">f",
        0xCB: ">d",
        0xCC: ">B",
        0xCD: ">H",
        0xCE: ">I",
        0xCF: ">Q",
        0xD0: ">b",
        0xD1: ">h",
        0xD2: ">i",
        0xD3: ">q",
    }.items()
}


class DecodeError(ValueError):
    """Bytes that are not the MessagePack that was asked for; the text says what and where."""


@dataclass(frozen=True, slots=True)
class Extension:
    """A MessagePack extension that the contract gives no meaning.

    Attributes:
        code: its type, -128..127.
        data: its bytes.
    """

    code: int
    data: bytes


class _Reader:
    """A position in a message, and what may still be read."""

    __slots__ = ("_at", "_data", "_values")

    def __init__(self, data: bytes) -> None:
        self._data: Final = data
        self._at = 0
        self._values = MAX_VALUES

    def whole(self) -> object:
        """Read one value and make sure that nothing follows."""
        value = self._value(0)
        if self._at != len(self._data):
            raise DecodeError(f"{len(self._data) - self._at} bytes follow the value, which ends at {self._at}")
        return value

    def _value(self, depth: int) -> object:
        marker = self._take(1)[0]
        if marker < 0x80:
            return marker
        if marker >= 0xE0:
            return marker - 0x100
        if marker < 0x90:
            return self._map(marker & 0x0F, depth)
        if marker < 0xA0:
            return self._array(marker & 0x0F, depth)
        if marker < 0xC0:
            return self._text(marker & 0x1F)
        number = _NUMBERS.get(marker)
        if number is not None:
            return number.unpack(self._take(number.size))[0]
        return self._marked(marker, depth)

    def _marked(self, marker: int, depth: int) -> object:
        if marker == 0xC0:
            return None
        if marker in (0xC2, 0xC3):
            return marker == 0xC3
        if 0xC4 <= marker <= 0xC6:
            return self._take(self._size(1 << marker - 0xC4))
        if 0xC7 <= marker <= 0xC9:
            return self._extension(self._size(1 << marker - 0xC7))
        if 0xD4 <= marker <= 0xD8:
            return self._extension(1 << marker - 0xD4)
        if 0xD9 <= marker <= 0xDB:
            return self._text(self._size(1 << marker - 0xD9))
        if marker in (0xDC, 0xDD):
            return self._array(self._size(2 << marker - 0xDC), depth)
        if marker in (0xDE, 0xDF):
            return self._map(self._size(2 << marker - 0xDE), depth)
        raise DecodeError(f"byte {marker:#04x} at {self._at - 1} starts no value")

    def _take(self, size: int) -> bytes:
        end = self._at + size
        if end > len(self._data):
            raise DecodeError(f"{size} bytes are needed at {self._at}, {len(self._data) - self._at} are left")
        taken = self._data[self._at : end]
        self._at = end
        return taken

    def _size(self, width: int) -> int:
        return int.from_bytes(self._take(width), "big")

    def _text(self, size: int) -> str | bytes:
        data = self._take(size)
        try:
            return data.decode()
        except UnicodeDecodeError:
            # Encoders from before `bin` existed send bytes as text: keep every one of them.
            return data

    def _extension(self, size: int) -> object:
        code = self._take(1)[0]
        code = code - 0x100 if code > 0x7F else code
        body = self._take(size)
        moment = Timestamp.decode(body) if code == TIMESTAMP_EXT else None
        return Extension(code, body) if moment is None else moment

    def _enter(self, values: int, depth: int) -> None:
        if depth >= MAX_NESTING:
            raise DecodeError(f"more than {MAX_NESTING} levels of nesting at {self._at}")
        if values > len(self._data) - self._at:
            raise DecodeError(f"{values} values are announced at {self._at}, the message is too short for them")
        self._values -= values
        if self._values < 0:
            raise DecodeError(f"more than {MAX_VALUES} values")

    def _array(self, size: int, depth: int) -> list[object]:
        self._enter(size, depth)
        return [self._value(depth + 1) for _ in range(size)]

    def _map(self, size: int, depth: int) -> dict[object, object]:
        self._enter(2 * size, depth)
        found: dict[object, object] = {}
        for _ in range(size):
            key = self._value(depth + 1)
            if isinstance(key, list | dict):
                raise DecodeError(f"a map key that ends at {self._at} is itself an array or a map")
            found[key] = self._value(depth + 1)
        return found


def decode_liberal(data: bytes) -> object:
    """Read one MessagePack value of a guest.

    Integers and floats of any width are `int` and `float`, str is `str`, or
    `bytes` when it is not UTF-8, bin is `bytes`, arrays and maps are `list` and
    `dict`, extension -1 is a `Timestamp` and any other extension (or a
    malformed -1) an `Extension`. Map keys may be anything but arrays
    and maps; of equal keys the last one wins.

    Raises:
        DecodeError: the bytes are cut short, go on after the value, or pass
            `MAX_NESTING` or `MAX_VALUES`. Nothing else is ever raised.
    """
    return _Reader(data).whole()
