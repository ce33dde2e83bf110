"""What a module must look like to be a cell (spec/core §3.3), checked before a byte of it runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import wasmtime

from pulp_runtime.errors import LoadError
from pulp_runtime.manifest.limits import PAGE

Shape = tuple[tuple[str, ...], tuple[str, ...]]

REQUIRED: Final[Mapping[str, Shape]] = {
    "pulp_init": (("i32", "i32"), ("i32",)),
    "pulp_step": (("i32", "i32"), ("i32",)),
    "pulp_shutdown": ((), ("i32",)),
    "pulp_alloc": (("i32",), ("i32",)),
}
OPTIONAL: Final[Mapping[str, Shape]] = {
    "pulp_free": (("i32", "i32"), ()),
    "pulp_on_call": (("i32",) * 6, ("i32",)),
    "pulp_post_return": (("i32", "i32"), ()),
    "pulp_init_error_ptr": ((), ("i32",)),
    "pulp_init_error_len": ((), ("i32",)),
    "pulp_on_call_error_ptr": ((), ("i32",)),
    "pulp_on_call_error_len": ((), ("i32",)),
    "pulp_restored": ((), ("i32",)),
    "probe_last_call": ((), ("i64",)),
    "probe_config_marker": ((), ("i64",)),
    "_initialize": ((), ()),
    "_start": ((), ()),
}


MAX_EXPORTS: Final = 5_000
"""Most exports a cell may have: finding them takes time that grows with their square, half a second for these."""
MAX_IMPORTS: Final = 5_000
"""Most imports; each is bound on its own."""


def check_exports(cell: str, path: object, module: wasmtime.Module, memory_pages: int) -> str:
    """Check a module's exports; return the name of its memory.

    Raises:
        LoadError: naming everything that is missing, or the first export of the wrong shape and the right one.
    """
    for what, found, most in (("exports", module.exports, MAX_EXPORTS), ("imports", module.imports, MAX_IMPORTS)):
        if len(found) > most:
            raise LoadError(cell, f"{path}: has {len(found)} {what}; the most is {most}; build it with fewer")
    exports = {export.name: export.type for export in module.exports}
    missing = [name for name in REQUIRED if name not in exports]
    if missing:
        raise LoadError(cell, f"{path}: missing required exports: [{' '.join(missing)}]")
    for name, shape in {**REQUIRED, **OPTIONAL}.items():
        if name in exports:
            _check_shape(cell, path, name, exports[name], shape)
    memories = {name: kind for name, kind in exports.items() if isinstance(kind, wasmtime.MemoryType)}
    if not memories:
        raise LoadError(cell, f"{path}: exports no memory; build it so that its linear memory is exported as memory")
    chosen = "memory" if "memory" in memories else next(iter(memories))
    least = memories[chosen].limits.min
    if least > memory_pages:
        raise LoadError(
            cell,
            f"{path}: compile wasm: needs {least} pages of {PAGE} bytes, the limit is {memory_pages}; "
            f"raise max_memory_pages to at least {least}",
        )
    return chosen


def _check_shape(cell: str, path: object, name: str, found: object, shape: Shape) -> None:
    if not isinstance(found, wasmtime.FuncType):
        raise LoadError(cell, f"{path}: export {name} is not a function; it must be {_write(shape)}")
    actual = (tuple(map(str, found.params)), tuple(map(str, found.results)))
    if actual != shape:
        raise LoadError(cell, f"{path}: export {name} is {_write(actual)}; it must be {_write(shape)}")


def _write(shape: Shape) -> str:
    parameters, results = shape
    return f"({', '.join(parameters)}) -> {', '.join(results) if results else '()'}"
