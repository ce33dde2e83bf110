"""Small modules of ours that stand beside a cell and spare the host crossings: `steps.wat` and `ask.wat`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import wasmtime

_NO_FREE: Final = '(module (func (export "pulp_free") (param i32 i32)))'


class Glue:
    """The modules, compiled; the same for every cell of an engine.

    Attributes:
        steps: runs many steps in one crossing; see `batch.py`.
        ask: calls `pulp_on_call` in one crossing; see `pad.py`.
    """

    def __init__(self, engine: wasmtime.Engine) -> None:
        self.steps: Final = wasmtime.Module(engine, _source("steps.wat"))
        self.ask: Final = wasmtime.Module(engine, _source("ask.wat"))


def attach(store: wasmtime.Store, module: wasmtime.Module, cell: Mapping[str, Any], memory: str) -> Mapping[str, Any]:
    """Instantiate glue beside a cell; return its exports.

    Args:
        store: the cell's.
        module: of the glue; it imports from a module called `cell`.
        cell: the cell's exports; a `pulp_free` it does not have does nothing.
        memory: what the cell calls its memory.
    """
    linker = wasmtime.Linker(store.engine)
    for wanted in module.imports:
        name = wanted.name or ""
        item = cell.get(memory if name == "memory" else name)
        if item is not None:
            linker.define(store, "cell", name, item)
    if "pulp_free" not in cell:
        linker.define_instance(store, "cell", wasmtime.Instance(store, wasmtime.Module(store.engine, _NO_FREE), []))
    exports = linker.instantiate(store, module).exports(store)
    linker.close()
    return exports


def _source(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")
