"""From a manifest to an instance: read, check, compile, bind, start."""

from __future__ import annotations

from dataclasses import fields, replace

import wasmtime

from pulp_runtime._kernel.contract import check_exports
from pulp_runtime._kernel.engine import Engine
from pulp_runtime._kernel.instance import Blocking, Instance
from pulp_runtime._kernel.lines import LineLog
from pulp_runtime._kernel.link import wanted_words
from pulp_runtime._kernel.modules import check_kind
from pulp_runtime._kernel.registry import Bindings, Registry
from pulp_runtime._kernel.shared_memory import check_system
from pulp_runtime._kernel.snapshots.saved import Saved, SnapshotRefused
from pulp_runtime._kernel.snapshots.sections import Hidden, expose
from pulp_runtime._kernel.snapshots.state import State
from pulp_runtime.errors import LoadError
from pulp_runtime.ext import CellRef, Grants, Program, Scope
from pulp_runtime.log import Log
from pulp_runtime.manifest.cell import CellSpec
from pulp_runtime.manifest.module import explain_digest, explain_unread, read_module


def cell_ref(
    spec: CellSpec, cell_id: str, log: Log, lines: LineLog, scope: Scope | None = None, address: str = ""
) -> CellRef:
    """Return what extensions see of a cell."""
    return CellRef(
        spec.name,
        cell_id,
        log.limited(lines.allows),
        lines.write,
        spec.manifest_path,
        spec.settings,
        spec.disk_quota_mb << 20,
        scope,
        label=address,
        program=_program(spec),
        grants=Grants(**{field.name: getattr(spec.cloud, field.name) for field in fields(spec.cloud)}),
    )


def _program(spec: CellSpec) -> Program | None:
    how = spec.program
    if how is None:
        return None
    return Program(how.execution, how.routes, how.websockets, how.max_instances, how.timeout_ms / 1000, how.environ)


def instantiate(
    spec: CellSpec,
    registry: Registry | None,
    engine: Engine,
    ref: CellRef,
    blocking: Blocking,
    lines: LineLog | None,
    wasm: bytes | None = None,
    saved: Saved | None = None,
) -> Instance:
    """Return a started instance of a cell's module; see `Cell.load` for arguments and errors."""
    check_system(spec)
    module, hidden = compiled(spec, engine, read_wasm(spec) if wasm is None else wasm)
    if hidden is None and saved is not None:
        raise SnapshotRefused("the cell is not snapshotable")
    memory = check_exports(spec.name, spec.wasm_path, module, spec.max_memory_pages)
    wanted = wanted_words(module)
    bindings = registry.bind(ref, spec.capabilities, wanted) if registry is not None else Bindings(wanted=wanted)
    granted = registry.granted(spec.capabilities) if registry is not None else frozenset()
    return Instance(
        engine,
        module,
        spec.wasm_path,
        ref,
        bindings,
        granted,
        memory,
        spec.limits,
        blocking=blocking,
        lines=lines,
        groups=spec.shared_memory_groups,
        state=None if hidden is None else State(hidden, saved),
    )


def compiled(spec: CellSpec, engine: Engine, wasm: bytes) -> tuple[wasmtime.Module, Hidden | None]:
    """Return a cell's module, compiled; and how to reach its state, if that may be saved.

    Raises:
        LoadError: it is not a module, or not a valid one, or too much work, or its state cannot be reached.
    """
    if not spec.snapshotable:
        return engine.modules.load(spec.name, spec.wasm_path, wasm), None
    check_kind(spec.name, spec.wasm_path, wasm)
    hidden = expose(spec.name, spec.wasm_path, wasm)
    module = engine.modules.load(spec.name, spec.wasm_path, hidden.wasm)
    return module, replace(hidden, wasm=b"")  # an instance needs the names alone, and would keep the bytes


def read_wasm(spec: CellSpec) -> bytes:
    """Return the module's bytes, which are the ones that were checked against the manifest's digest.

    Raises:
        LoadError: the file cannot be read, or hashes to something else than the manifest says.
    """
    try:
        data = read_module(spec)  # one byte too many is refused with the rest of what is no module
    except OSError as error:
        raise LoadError(spec.name, explain_unread(spec, error)) from None
    if (problem := explain_digest(spec, data)) is not None:
        raise LoadError(spec.name, problem)
    return data
