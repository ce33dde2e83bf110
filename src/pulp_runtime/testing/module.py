"""From whatever a test has, text, bytes, a file, a manifest, to a cell that can be loaded."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import wasmtime

from pulp_runtime._kernel.engine import Engine, engine_config
from pulp_runtime._kernel.modules import Modules, check_kind
from pulp_runtime.errors import LoadError
from pulp_runtime.manifest.cell import CellSpec, load_cell

_NAME: Final = "guest"
_KEPT_MODULES: Final = 32


def spec_of(source: str | bytes | Path, folder: Path, declares: Iterable[str], fields: dict[str, Any]) -> CellSpec:
    """Return the spec of a cell.

    Args:
        source: WebAssembly text, the bytes of a module, or the path of a `.wat`, a `.wasm`, a manifest or a folder
            that holds one.
        folder: where a module that is not a file yet is put.
        declares: capabilities of a cell without a manifest.
        fields: what to set differently, by the names of `CellSpec`.

    Raises:
        ManifestError: the manifest is wrong.
        ValueError: the text is not WebAssembly.
    """
    if isinstance(source, str) and "(module" not in source:
        source = Path(source)
    if isinstance(source, Path) and source.suffix not in (".wat", ".wasm"):
        return dataclasses.replace(load_cell(source.absolute()), **fields)
    path = source.absolute() if isinstance(source, Path) else folder / "cell.wasm"
    if not isinstance(source, Path) or source.suffix == ".wat":
        path = folder / "cell.wasm"
        path.write_bytes(_translate(source.read_bytes() if isinstance(source, Path) else source))
    spec = CellSpec(
        manifest_path=path.with_name("pulp.cell.toml"),
        name=_NAME,
        version="0",
        wasm_path=path,
        capabilities=tuple(declares),
    )
    return dataclasses.replace(spec, **fields)


def _translate(source: str | bytes) -> bytes:
    if isinstance(source, bytes) and source[:4] == b"\0asm":
        return source
    try:
        return bytes(wasmtime.wat2wasm(source))
    except wasmtime.WasmtimeError as error:
        raise ValueError(f"not WebAssembly: {error}") from None


@functools.lru_cache(maxsize=_KEPT_MODULES)
def _machine_code(data: bytes) -> bytes:
    """Return a module compiled; the same one is compiled once in a test run."""
    return bytes(wasmtime.Module(wasmtime.Engine(engine_config()), data).serialize())


class _HereModules(Modules):
    """Compiles in this process: the guests of a test are trusted, and a child for each would take its time."""

    def __init__(self, engine: wasmtime.Engine) -> None:
        super().__init__(engine, None)
        self._wasm: Final = engine

    def load(self, cell: str, path: Path, data: bytes) -> wasmtime.Module:
        """See `Modules.load`."""
        check_kind(cell, path, data)
        try:
            return wasmtime.Module.deserialize(self._wasm, _machine_code(data))
        except wasmtime.WasmtimeError as error:
            raise LoadError(cell, f"compile wasm: {path}: {' '.join(str(error).split())}") from None


class HereEngine(Engine):
    """An engine that compiles in this process and keeps nothing on disk."""

    def __init__(self) -> None:
        super().__init__()
        self.modules = _HereModules(self.wasm)  # type: ignore[misc]  # the engine's own are not used
