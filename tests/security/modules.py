"""WebAssembly modules made of bytes, where text would take longer to translate than the test itself."""

from __future__ import annotations

from collections.abc import Sequence

I32 = b"\x7f"


def leb(number: int) -> bytes:
    """Return an unsigned number as WebAssembly writes it."""
    out = bytearray()
    while True:
        low, number = number & 0x7F, number >> 7
        if not number:
            out.append(low)
            return bytes(out)
        out.append(low | 0x80)


def vector(items: Sequence[bytes]) -> bytes:
    """Return a list as WebAssembly writes it."""
    return leb(len(items)) + b"".join(items)


def _name(text: str) -> bytes:
    return leb(len(text)) + text.encode()


def _section(number: int, body: bytes) -> bytes:
    return bytes([number]) + leb(len(body)) + body


def cell(
    *,
    imports: int = 0,
    functions: int = 0,
    globals_: int = 0,
    exports: int = 0,
    segments: int = 0,
    data_bytes: int = 0,
    body: bytes | None = None,
    pages: int = 16,
) -> bytes:
    """Return a cell that has as many of something as it is told, or a function with this body."""
    types = [
        b"\x60" + vector([I32] * takes) + vector([I32] * gives) for takes, gives in ((2, 1), (0, 1), (1, 1), (0, 0))
    ]
    kinds = [0, 0, 1, 2] + [3] * functions
    bodies = [b"\x00\x41\x00\x0b"] * 3 + [b"\x00\x41\x80\x08\x0b"] + [b"\x00\x0b"] * functions
    if body is not None:
        kinds.append(3)
        bodies.append(body)
    names = ("pulp_init", "pulp_step", "pulp_shutdown", "pulp_alloc")
    out = [_name(name) + b"\x00" + leb(imports + at) for at, name in enumerate(names)]
    out.append(_name("memory") + b"\x02\x00")
    out += [_name(f"e{at}") + b"\x00" + leb(imports) for at in range(exports)]
    data = [b"\x00\x41\x00\x0b\x01x"] * segments
    if data_bytes:
        data.append(b"\x00\x41\x00\x0b" + leb(data_bytes) + bytes(data_bytes))
    sections = [
        _section(1, vector(types)),
        _section(2, vector([_name("pulp") + _name("log_write_2") + b"\x00\x00"] * imports)) if imports else b"",
        _section(3, vector([leb(kind) for kind in kinds])),
        _section(5, vector([b"\x00" + leb(pages)])),
        _section(6, vector([I32 + b"\x01\x41\x00\x0b"] * globals_)) if globals_ else b"",
        _section(7, vector(out)),
        _section(10, vector([leb(len(code)) + code for code in bodies])),
        _section(11, vector(data)) if data else b"",
    ]
    return b"\0asm\x01\0\0\0" + b"".join(sections)


def branch_maze(blocks: int, targets: int) -> bytes:
    """Return the body of a function: nested blocks, in each a `br_table` to any of them. Compilers hate it."""
    tables = [
        b"\x41\x00\x0e" + vector([leb(at % depth) for at in range(targets)]) + b"\x00\x0b"
        for depth in range(blocks, 0, -1)
    ]
    return b"\x00" + b"\x02\x40" * blocks + b"".join(tables) + b"\x0b"
