"""From the manifest of a function or a daemon to what stands in a cell's place; see `_kernel/load.py`."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import replace

from pulp_runtime._kernel.engine import Engine
from pulp_runtime._kernel.instance import Blocking
from pulp_runtime._kernel.lines import LineLog
from pulp_runtime._kernel.load import cell_ref
from pulp_runtime._kernel.programs.cell import ProgramCell
from pulp_runtime._kernel.programs.daemon import DaemonCell, DaemonRunner
from pulp_runtime._kernel.programs.function import FunctionCell, FunctionRunner
from pulp_runtime._kernel.programs.program import Ask, Program, forwarded
from pulp_runtime._kernel.registry import Registry
from pulp_runtime._kernel.runner import Runner
from pulp_runtime.ext import Scope
from pulp_runtime.log import Log
from pulp_runtime.manifest.cell import CellSpec
from pulp_runtime.manifest.program import DAEMON


def runner_of(spec: CellSpec) -> type[Runner]:
    """Return what runs a cell of this kind."""
    if spec.program is None:
        return Runner
    return DaemonRunner if spec.program.execution == DAEMON else FunctionRunner


def load_program(
    spec: CellSpec,
    registry: Registry,
    *,
    engine: Engine,
    cell_id: str,
    log: Log,
    blocking: Blocking,
    wasm: bytes,
    scope: Scope | None,
    address: str,
    ask: Ask,
    ended: Callable[[], None],
) -> ProgramCell:
    """Compile, check and bind a program; arguments and errors are those of `Cell.load`.

    `ask` is how its runs ask siblings, and `ended` is called when a daemon's run is over and nobody wanted it to be.
    """
    how = spec.program
    assert how is not None  # noqa: S101 - who calls has looked
    lines = LineLog(log, spec.limits)
    ref = cell_ref(spec, cell_id, log, lines, scope, address)
    module = engine.modules.load(spec.name, spec.wasm_path, wasm)
    seconds = math.inf if how.execution == DAEMON else how.timeout_ms / 1000
    registry.bind(ref, spec.capabilities)
    program = Program(
        engine,
        module,
        spec.wasm_path,
        ref,
        [found for name in spec.capabilities if (found := registry.find(name)) is not None],
        replace(spec.limits, call_seconds=seconds),
        lines,
        blocking=blocking,
        ask=ask,
        environ=forwarded(how.environ, os.environ),
    )
    return DaemonCell(spec, program, ended) if how.execution == DAEMON else FunctionCell(spec, program)
