"""From a manifest to an instance: read, check, compile, bind, start."""

from __future__ import annotations

from pulp_runtime._kernel.contract import check_exports
from pulp_runtime._kernel.engine import Engine
from pulp_runtime._kernel.instance import Blocking, Instance
from pulp_runtime._kernel.lines import LineLog
from pulp_runtime._kernel.link import wanted_words
from pulp_runtime._kernel.registry import Bindings, Registry
from pulp_runtime.errors import LoadError
from pulp_runtime.ext import CellRef, Scope
from pulp_runtime.log import Log
from pulp_runtime.manifest.cell import CellSpec
from pulp_runtime.manifest.module import explain_digest, explain_unread, read_module


def cell_ref(spec: CellSpec, cell_id: str, log: Log, lines: LineLog, scope: Scope | None = None) -> CellRef:
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
    )


def instantiate(
    spec: CellSpec,
    registry: Registry | None,
    engine: Engine,
    ref: CellRef,
    blocking: Blocking,
    lines: LineLog | None,
    wasm: bytes | None = None,
) -> Instance:
    """Return a started instance of a cell's module; see `Cell.load` for arguments and errors."""
    module = engine.modules.load(spec.name, spec.wasm_path, read_wasm(spec) if wasm is None else wasm)
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
    )


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
