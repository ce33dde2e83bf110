"""From words back to values: what a host function's Python signature says its words mean."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from pulp_runtime.abi.codec import DecodeError, decode_liberal
from pulp_runtime.errors import HostError
from pulp_runtime.ext import Guest, HostFunction

_HOST: Final = ("CellRef", "Guest")
_WIDTHS: Final = {"U32": 1, "U64": 2}


class Outside(NamedTuple):
    """An argument that is not inside the guest's memory.

    Attributes:
        address: where it would begin.
        length: how long it would be.
    """

    address: int
    length: int

    def __repr__(self) -> str:
        return f"<{self.length} bytes at {self.address:#x}, outside memory>"


@dataclass(frozen=True, slots=True)
class Shape:
    """A signature.

    Attributes:
        parameters: name, kind and the first word of each parameter that crosses. A kind is `str`, `bytes`, `U32`,
            `U64` or `record`, which is MessagePack.
        result: kind of what is delivered, "" for nothing.
    """

    parameters: tuple[tuple[str, str, int], ...]
    result: str

    def arguments(self, guest: Guest, words: tuple[int, ...]) -> dict[str, Any]:
        """Return what the words mean, read from the guest's memory as it is now."""
        return {name: _value(guest, kind, words, at) for name, kind, at in self.parameters}

    def answer(self, guest: Guest, words: tuple[int, ...]) -> Any:
        """Return what has been delivered at the out-addresses, None for a function that delivers nothing."""
        if not self.result:
            return None
        address, length = (int.from_bytes(guest.read(word, 4), "little") for word in words[-2:])
        return _decoded(self.result, guest.read(address, length))


def shape_of(function: HostFunction) -> Shape | None:
    """Return a host function's shape; None if its signature does not account for its words."""
    source = f"def function{function.signature.replace('<locals>', 'locals')}: ..."
    try:
        defined = ast.parse(source).body[0]
    except SyntaxError:
        return None
    if not function.signature or not isinstance(defined, ast.FunctionDef):
        return None
    parameters = []
    at = 0
    for argument in defined.args.args:
        kind = _kind(argument.annotation)
        if kind not in _HOST:
            parameters.append((argument.arg, kind, at))
            at += _WIDTHS.get(kind, 2)
    result = _kind(defined.returns)
    result = "" if result in ("None", "U32") else result
    return Shape(tuple(parameters), result) if at + (2 if result else 0) == function.words else None


def _kind(annotation: ast.expr | None) -> str:
    """Return an annotation in one word; it may be written as a string, or in full."""
    if annotation is None:
        return ""
    written = annotation.value if isinstance(annotation, ast.Constant) else ast.unparse(annotation)
    text = str(written)
    for marked, kind in (("'u32'", "U32"), ("'u64'", "U64")):
        if marked in text:
            return kind
    last = text.rpartition(".")[2]
    return last if last in (*_HOST, *_WIDTHS, "str", "bytes", "None") else "record"


def _value(guest: Guest, kind: str, words: tuple[int, ...], at: int) -> Any:
    if kind == "U32":
        return words[at]
    if kind == "U64":
        return words[at] | words[at + 1] << 32
    if kind == "record" and not words[at + 1]:
        return None
    try:
        return _decoded(kind, guest.read(words[at], words[at + 1]))
    except HostError:
        return Outside(words[at], words[at + 1])


def _decoded(kind: str, data: bytes) -> Any:
    """Return the value `data` stands for, or the bytes themselves if they are not what they should be."""
    try:
        if kind == "str":
            return data.decode()
        return data if kind == "bytes" or not data else decode_liberal(data)
    except (UnicodeDecodeError, DecodeError):
        return data
