"""Cells of guests, without manifests, hosts or compiling children."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pulp_runtime._kernel.cell import Cell
from pulp_runtime._kernel.engine import Engine
from pulp_runtime._kernel.modules import Modules
from pulp_runtime._kernel.registry import Registry
from pulp_runtime.errors import LoadError
from pulp_runtime.ext import Capability, StepEvent
from pulp_runtime.manifest.cell import CellSpec

EVENT = StepEvent("test.event", b"\xc0", 1)


@pytest.fixture(autouse=True)
def _compile_here(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compile in this process: a child for each guest would take longer than all the tests together."""
    if "real_compiler" in request.fixturenames:
        return
    import wasmtime

    def compile_here(self: Modules, cell: str, path: Path, data: bytes, result: Path) -> None:
        try:
            result.write_bytes(wasmtime.Module(self._engine, data).serialize())
        except wasmtime.WasmtimeError as error:
            raise LoadError(cell, f"compile wasm: {path}: {' '.join(str(error).split())}") from None

    monkeypatch.setattr(Modules, "_run_compiler", compile_here)


@pytest.fixture
def real_compiler() -> None:
    """Ask for the child that compiles."""


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = Engine()
    yield engine
    engine.close()


@pytest.fixture
def spec(tmp_path: Path, wasm: Callable[[str], bytes]) -> Callable[..., CellSpec]:
    """Return `spec(guest, **fields)`: a cell of a guest by name, or of WebAssembly text."""

    def spec(guest: str, **fields: Any) -> CellSpec:
        name = fields.setdefault("name", "guest" if "(module" in guest else guest)
        path = tmp_path / f"{name}.wasm"
        path.write_bytes(wasm(guest))
        known = CellSpec(manifest_path=tmp_path / "pulp.cell.toml", name=name, version="1", wasm_path=path)
        return dataclasses.replace(known, **fields)

    return spec


@pytest.fixture
def load(engine: Engine, spec: Callable[..., CellSpec]) -> Iterator[Callable[..., Cell]]:
    """Return `load(guest, owner, **fields)`: a loaded cell, closed when the test is over.

    `owner` holds the host functions it may import, if it needs any.
    """
    loaded: list[Cell] = []

    def load(guest: str, owner: object = None, **fields: Any) -> Cell:
        registry = None
        if owner is not None:
            registry = Registry(prefill=False)
            registry.always(owner if isinstance(owner, Capability) else Capability.of("test.host", owner))
        cell = Cell.load(spec(guest, **fields), registry, engine=engine)
        loaded.append(cell)
        return cell

    yield load
    for cell in loaded:
        cell.close()


@pytest.fixture
def start(load: Callable[..., Cell]) -> Callable[..., Cell]:
    """Do the same as `load`, and run `pulp_init`."""

    def start(guest: str, owner: object = None, *, config: bytes = b"", **fields: Any) -> Cell:
        cell = load(guest, owner, **fields)
        cell.init(config)
        return cell

    return start


@pytest.fixture
def poke() -> Callable[..., int]:
    """Return `poke(cell, export, *words)`: call any export of a guest, through the engine's public door."""

    def poke(cell: Cell, export: str, *words: int) -> int:
        instance = cell._instance
        instance.enter()
        try:
            signed = [word - (1 << 32) if word >> 31 else word for word in words]
            result = instance._exports[export](instance._store, *signed)
        finally:
            instance.leave()
        return result & (1 << 64) - 1 if result is not None and export.endswith("64") else (result or 0) & 0xFFFF_FFFF

    return poke


@pytest.fixture
def event() -> StepEvent:
    return EVENT
