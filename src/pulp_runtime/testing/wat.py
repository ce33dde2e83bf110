"""Small guests, made on the spot: one export for each import you want to call."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Literal

from pulp_runtime.ext import Capability
from pulp_runtime.testing.fake import Fake

MEMORY_BYTES: Final = 65_536
"""Memory of a guest made here. The lower half is the test's to write to; what the host allocates is in the upper."""

HOSTILE_RANGES: Final[Mapping[str, tuple[int, int]]] = {
    "ends one byte past memory": (MEMORY_BYTES - 1, 2),
    "starts past memory": (MEMORY_BYTES, 1),
    "is four gigabytes long": (0, 0xFFFF_FFFF),
    "starts at the last address of all": (0xFFFF_FFFF, 2),
    "wraps around to the start": (0xFFFF_FFF0, 0x20),
}
"""Addresses and lengths that are not inside such a guest's memory, by what is wrong with each."""

_ALLOCATORS: Final = {
    "bump": """
    (local $at i32)
    (local.set $at (global.get $next))
    (global.set $next (i32.and (i32.add (i32.add (local.get $at) (local.get $size)) (i32.const 7)) (i32.const -8)))
    (if (result i32) (i32.gt_u (global.get $next) (i32.const 65536))
      (then (i32.const 0)) (else (local.get $at)))""",
    "refuse": "(i32.const 0)",
    "outside": "(i32.const 65536)",
}


def guest(*imports: Capability | Fake | Mapping[str, int], alloc: Literal["bump", "refuse", "outside"] = "bump") -> str:
    """Return a guest, as WebAssembly text, that exports every import given: `cell.run(name, word, …)` calls it.

    It has one page of memory, 65,536 bytes, for `cell.write` and `cell.read`; `pulp_alloc` hands out the upper half.

    Args:
        imports: capabilities whose functions it imports, or names with their number of words.
        alloc: what `pulp_alloc` does: hand out memory, answer 0, or answer an address just past the end.
    """
    words = dict(pair for item in imports for pair in _functions(item))
    bodies = [
        f'(func (export "{name}") {_parameters(count)} (result i32) '
        f"(call ${name} {' '.join(f'(local.get {at})' for at in range(count))}))"
        for name, count in words.items()
    ]
    return _module(words, bodies, alloc)


def words_guest(import_name: str, words: Iterable[int]) -> str:
    """Return a guest, as WebAssembly text, whose export `code` calls one import with these words.

    Args:
        import_name: the import, of module `pulp`.
        words: what it is given, each -2**31..2**32-1.
    """
    given = list(words)
    call = f"(call ${import_name} {' '.join(f'(i32.const {word & 0xFFFF_FFFF})' for word in given)})"
    return _module({import_name: len(given)}, [f'(func (export "code") (result i32) {call})'], "bump")


def _functions(item: Capability | Fake | Mapping[str, int]) -> Iterable[tuple[str, int]]:
    if isinstance(item, Fake):
        item = item.capability
    if not isinstance(item, Capability):
        return item.items()
    if not item.functions:
        raise ValueError(f"{item.name} does not say which functions it has; give their names and words instead")
    return [(function.name, function.words) for function in item.functions.values()]


def _parameters(count: int) -> str:
    return f"(param {' '.join(['i32'] * count)})" if count else ""


def _module(imports: Mapping[str, int], bodies: list[str], alloc: str) -> str:
    lines = [
        f'(import "pulp" "{name}" (func ${name} {_parameters(count)} (result i32)))' for name, count in imports.items()
    ]
    lines += [
        '(memory (export "memory") 1 1)',
        "(global $next (mut i32) (i32.const 32768))",
        f'(func (export "pulp_alloc") (param $size i32) (result i32) {_ALLOCATORS[alloc]})',
        '(func (export "pulp_init") (param i32 i32) (result i32) (i32.const 0))',
        '(func (export "pulp_step") (param i32 i32) (result i32) (i32.const 0))',
        '(func (export "pulp_shutdown") (result i32) (i32.const 0))',
        *bodies,
    ]
    return "(module\n  " + "\n  ".join(lines) + ")\n"
