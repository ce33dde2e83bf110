"""Give every import of a module its function, or say which one nobody has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import wasmtime

from pulp_runtime._kernel.crossing import Imports
from pulp_runtime._kernel.registry import Binding, Bindings
from pulp_runtime.errors import LoadError

WASI = "wasi_snapshot_preview1"
_WIDE = {"clock_time_get": (1,)}
"""Parameters of WASI functions of our own that are i64."""
Wrap = Callable[[Binding], Callable[..., int]]


def wanted_words(module: wasmtime.Module) -> Mapping[str, int]:
    """Return the functions a module imports from `pulp`, with their numbers of parameters: `ext.Linker.wanted`."""
    words: dict[str, int] = {}
    for item in module.imports:
        if item.module == "pulp" and isinstance(item.type, wasmtime.FuncType):
            name = item.name or ""
            words[name] = max(words.get(name, 0), len(item.type.params))
    return MappingProxyType(words)


def link(
    cell: str,
    path: object,
    module: wasmtime.Module,
    linker: wasmtime.Linker,
    imports: Imports,
    bindings: Bindings,
    world: Mapping[str, tuple[int, Callable[..., int]]],
    wrap: Wrap,
) -> None:
    """Define in `linker` what `module` imports.

    Args:
        cell: its name, for errors.
        path: its file, for errors.
        module: the compiled module.
        linker: where to; WASI is defined in it by the engine and may be shadowed.
        imports: the instance's guard.
        bindings: the host functions this cell gets.
        world: WASI functions of our own by name: how many words, and the function.
        wrap: makes a binding callable for this instance.

    Raises:
        LoadError: an import that nobody has, or that has another shape here; the message says what to do.
    """
    for wanted in module.imports:
        name = wanted.name or ""
        kind = wanted.type
        if wanted.module == WASI:
            if name in world:
                words, function = world[name]
                imports.define(linker, WASI, name, words, function, _WIDE.get(name, ()))
        elif wanted.module != "pulp":
            raise LoadError(
                cell,
                f"{path}: instantiate wasm: module[{wanted.module}] not instantiated: it imports "
                f"{wanted.module}.{name}, but cells may import only from pulp and {WASI}",
            )
        else:
            binding = _choose(cell, path, name, kind, bindings)
            imports.define(linker, "pulp", name, binding.words, wrap(binding))


def _choose(cell: str, path: object, name: str, kind: object, bindings: Bindings) -> Binding:
    found = bindings.get(name)
    if not found:
        near = bindings.nearest(name)
        hint = f"did you mean {near}?" if near else "install the extension that provides it"
        raise LoadError(cell, f'{path}: instantiate wasm: "{name}" is not exported in module "pulp"; {hint}')
    if not isinstance(kind, wasmtime.FuncType):
        raise LoadError(cell, f"{path}: import pulp.{name} must be a function")
    words = len(kind.params)
    plain = all(str(parameter) == "i32" for parameter in kind.params) and list(map(str, kind.results)) == ["i32"]
    if not plain or words not in found:
        shapes = " or ".join(f"({', '.join(['i32'] * count)}) -> i32" for count in sorted(found))
        given = f"({', '.join(map(str, kind.params))}) -> {', '.join(map(str, kind.results)) or '()'}"
        raise LoadError(cell, f"{path}: import pulp.{name} is {given}; it must be {shapes}")
    return found[words]
