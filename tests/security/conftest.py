"""Hostile cells, alone and beside a good one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pulp_runtime._kernel.cell import Cell
from pulp_runtime._kernel.engine import Engine
from pulp_runtime._kernel.instance import Instance
from pulp_runtime._kernel.modules import Modules
from pulp_runtime._kernel.registry import Registry
from pulp_runtime.errors import LoadError
from pulp_runtime.ext import Capability
from pulp_runtime.manifest.cell import CellSpec

ECHO = Path(__file__).parents[2] / "examples" / "echo" / "c"


def inside(cell: Cell) -> Instance:
    """Return the instance of a loaded cell."""
    assert cell._instance is not None
    return cell._instance


@pytest.fixture(autouse=True)
def _compile_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compile in this process: the child has tests of its own."""
    import wasmtime

    def compile_here(self: Modules, cell: str, path: Path, data: bytes, result: Path) -> None:
        try:
            result.write_bytes(wasmtime.Module(self._engine, data).serialize())
        except wasmtime.WasmtimeError as error:
            raise LoadError(cell, f"compile wasm: {path}: {' '.join(str(error).split())}") from None

    monkeypatch.setattr(Modules, "_run_compiler", compile_here)


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = Engine()
    yield engine
    engine.close()


@pytest.fixture
def spec(tmp_path: Path, wasm: Callable[[str], bytes]) -> Callable[..., CellSpec]:
    """Return `spec(guest, **fields)`: a cell of bytes, of WebAssembly text, or of a guest by name."""

    def spec(guest: str | bytes, **fields: Any) -> CellSpec:
        name = fields.setdefault("name", "guest")
        path = tmp_path / f"{name}.wasm"
        path.write_bytes(guest if isinstance(guest, bytes) else wasm(guest))
        known = CellSpec(manifest_path=tmp_path / "pulp.cell.toml", name=name, version="1", wasm_path=path)
        return dataclasses.replace(known, **fields)

    return spec


@pytest.fixture
def load(engine: Engine, spec: Callable[..., CellSpec]) -> Iterator[Callable[..., Cell]]:
    """Return `load(guest, *capabilities, **fields)`: a loaded cell, closed when the test is over."""
    loaded: list[Cell] = []

    def load(guest: str | bytes | CellSpec, *capabilities: Capability, **fields: Any) -> Cell:
        registry = Registry(prefill=False)
        for capability in capabilities:
            registry.always(capability)
        of = guest if isinstance(guest, CellSpec) else spec(guest, **fields)
        cell = Cell.load(of, registry, engine=engine)
        loaded.append(cell)
        return cell

    yield load
    for cell in loaded:
        cell.close()
