"""Export what a module hides of its state, so that it can be read and set from outside.

Linear memory is exported anyway. What is missing are the mutable globals and the tables; they get names in the export
section. The start section becomes an export too, for a restored instance must not run it. Nothing else is changed, and
only as much is parsed as that takes; whether the rest is valid is the engine's to say.

    id u8 │ size leb128 │ payload        sections, each at most once but for custom ones (core spec, §5.5)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from pulp_runtime._kernel.contract import MAX_IMPORTS
from pulp_runtime.errors import LoadError

PREFIX: Final = "pulp:state:"
"""What the names of our exports begin with; a module that uses it is refused."""
START: Final = f"{PREFIX}start"
MOST_GLOBALS: Final = 100_000
"""Globals a module may have, and how many of them may be mutable: toolchains need a dozen."""
MOST_MUTABLE: Final = 1_000
MOST_TABLES: Final = 16

_CUSTOM, _IMPORT, _TABLE, _GLOBAL, _EXPORT, _START = 0, 2, 4, 6, 7, 8
_READ: Final = (_IMPORT, _TABLE, _GLOBAL, _EXPORT, _START)
_AS_FUNCTION, _AS_TABLE, _AS_GLOBAL = 0, 1, 3
_NUMBERS: Final = frozenset({0x7F, 0x7E, 0x7D, 0x7C, 0x7B, 0x70, 0x6F})  # i32 i64 f32 f64 v128 funcref externref
_FIXED: Final = {0x43: 4, 0x44: 8}  # f32.const, f64.const
_LEB: Final = frozenset({0x41, 0x42, 0x23, 0xD0, 0xD2})  # i32.const i64.const global.get ref.null ref.func
_ARITHMETIC: Final = frozenset({0x6A, 0x6B, 0x6C, 0x7C, 0x7D, 0x7E})  # add, sub and mul of i32 and i64
_SIMD, _V128_CONST, _END = 0xFD, 12, 0x0B
_HEADER_BYTES: Final = 8
_LEB_BYTES: Final = 10  # of a 64-bit number


@dataclass(frozen=True, slots=True)
class Hidden:
    """A module whose state can be reached, and by which names.

    Attributes:
        wasm: its bytes, with the exports.
        globals: names of its mutable globals, in the order of their indices.
        tables: names of its tables, in the order of their indices.
        start: whether its start section is the export `START` now.
    """

    wasm: bytes
    globals: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    start: bool = False


class _Broken(Exception):
    """The module cannot be read; says why."""


class _Reader:
    """Reads one section. Nothing is read past its end."""

    def __init__(self, data: bytes, at: int = 0, end: int | None = None) -> None:
        self.data: Final = data
        self.at = at
        self.end: Final = len(data) if end is None else end

    def byte(self) -> int:
        if self.at >= self.end:
            raise _Broken("a section ends in the middle")
        self.at += 1
        return self.data[self.at - 1]

    def skip(self, count: int) -> None:
        if count > self.end - self.at:
            raise _Broken("a section ends in the middle")
        self.at += count

    def skip_leb(self) -> None:
        for _ in range(_LEB_BYTES):
            if self.byte() < 0x80:
                return
        raise _Broken("a number is too long")

    def u32(self) -> int:
        value = 0
        for shift in range(0, 35, 7):
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if value > 0xFFFF_FFFF:
                    break
                return value
        raise _Broken("a number is too long")

    def finish(self) -> None:
        if self.at != self.end:
            raise _Broken("a section is longer than what it holds")


def expose(cell: str, path: object, wasm: bytes) -> Hidden:
    """Return a module with its state exported.

    Args:
        cell: its name, for errors.
        path: its file, for errors.
        wasm: begins with the magic and version of a core module.

    Raises:
        LoadError: it cannot be read as far as this needs, or has too much of something.
    """
    try:
        return _expose(wasm)
    except _Broken as error:
        raise LoadError(
            cell, f"{path}: cannot be made snapshotable: {error}; build it again, or remove snapshotable"
        ) from None


def _expose(wasm: bytes) -> Hidden:
    sections = _sections(wasm)
    if _EXPORT not in sections:
        return Hidden(wasm)  # it is no cell; the contract says what is missing
    _check_imports(sections.get(_IMPORT))
    tables, mutable = _count_tables(sections.get(_TABLE)), _mutable_globals(sections.get(_GLOBAL))
    hidden = Hidden(
        wasm,
        tuple(f"{PREFIX}g{index}" for index in mutable),
        tuple(f"{PREFIX}t{index}" for index in range(tables)),
        _START in sections,
    )
    more = [_export(name, _AS_GLOBAL, index) for name, index in zip(hidden.globals, mutable, strict=True)]
    more += [_export(name, _AS_TABLE, index) for index, name in enumerate(hidden.tables)]
    if hidden.start:
        start = sections[_START][1]
        index = start.u32()
        start.finish()
        more.append(_export(START, _AS_FUNCTION, index))
    return replace(hidden, wasm=_with_exports(wasm, sections, more)) if more else hidden


def _sections(wasm: bytes) -> dict[int, tuple[int, _Reader]]:
    """Return where each section that concerns us begins, and its payload."""
    found: dict[int, tuple[int, _Reader]] = {}
    whole = _Reader(wasm, _HEADER_BYTES)
    while whole.at < whole.end:
        begin = whole.at
        kind, size = whole.byte(), whole.u32()
        payload = whole.at
        whole.skip(size)
        if kind in found:
            raise _Broken(f"section {kind} is there twice")
        if kind in _READ:
            found[kind] = (begin, _Reader(wasm, payload, payload + size))
    return found


def _check_imports(section: tuple[int, _Reader] | None) -> None:
    """Make sure that nothing but functions is imported, so that the indices of the others begin at 0."""
    if section is None:
        return
    reader = section[1]
    count = reader.u32()
    if count > MAX_IMPORTS:
        raise _Broken(f"it has {count} imports; the most is {MAX_IMPORTS}")
    for _ in range(count):
        reader.skip(reader.u32())
        reader.skip(reader.u32())
        if reader.byte() != _AS_FUNCTION:
            raise _Broken("it imports something else than functions")
        reader.skip_leb()
    reader.finish()


def _count_tables(section: tuple[int, _Reader] | None) -> int:
    if section is None:
        return 0
    count = section[1].u32()
    if count > MOST_TABLES:
        raise _Broken(f"it has {count} tables; the most is {MOST_TABLES}")
    return count


def _mutable_globals(section: tuple[int, _Reader] | None) -> list[int]:
    """Return the indices of the mutable globals."""
    if section is None:
        return []
    reader = section[1]
    count = reader.u32()
    if count > MOST_GLOBALS:
        raise _Broken(f"it has {count} globals; the most is {MOST_GLOBALS}")
    mutable = []
    for index in range(count):
        if (kind := reader.byte()) not in _NUMBERS:
            raise _Broken(f"global {index} is of a type ({kind:#x}) that cells cannot have")
        if reader.byte():
            mutable.append(index)
        _skip_expression(reader)
    reader.finish()
    if len(mutable) > MOST_MUTABLE:
        raise _Broken(f"it has {len(mutable)} mutable globals; the most is {MOST_MUTABLE}")
    return mutable


def _skip_expression(reader: _Reader) -> None:
    """Skip a constant expression, its end included."""
    while (code := reader.byte()) != _END:
        if code in _LEB:
            reader.skip_leb()
        elif code in _FIXED:
            reader.skip(_FIXED[code])
        elif code == _SIMD and reader.u32() == _V128_CONST:
            reader.skip(16)
        elif code not in _ARITHMETIC:
            raise _Broken(f"a global begins with an instruction ({code:#x}) that is not constant")


def _export(name: str, kind: int, index: int) -> bytes:
    return _leb(len(name)) + name.encode() + bytes((kind,)) + _leb(index)


def _with_exports(wasm: bytes, sections: dict[int, tuple[int, _Reader]], more: list[bytes]) -> bytes:
    """Return the module with more exports, and without its start section."""
    begin, exports = sections[_EXPORT]
    if wasm.find(PREFIX.encode(), exports.at, exports.end) >= 0:
        raise _Broken(f"it exports a name with {PREFIX} in it, which is the host's own")
    count = exports.u32()
    old = memoryview(wasm)[exports.at : exports.end]
    size = _leb(count + len(more))
    whole = len(size) + len(old) + sum(map(len, more))
    changed: dict[int, tuple[int, list[bytes | memoryview]]] = {
        begin: (exports.end, [bytes((_EXPORT,)), _leb(whole), size, old, *more])
    }
    if _START in sections:
        changed[sections[_START][0]] = (sections[_START][1].end, [])
    pieces: list[bytes | memoryview] = []
    at = 0
    for place in sorted(changed):
        end, instead = changed[place]
        pieces += [memoryview(wasm)[at:place], *instead]
        at = end
    return b"".join([*pieces, memoryview(wasm)[at:]])


def _leb(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
