"""From a manifest to an instance: read, check, compile, bind, start."""

from __future__ import annotations

import hashlib

from pulp_runtime._kernel.contract import check_exports
from pulp_runtime._kernel.engine import Engine
from pulp_runtime._kernel.instance import Blocking, Instance
from pulp_runtime._kernel.lines import LineLog
from pulp_runtime._kernel.link import wanted_words
from pulp_runtime._kernel.modules import MAX_MODULE_BYTES
from pulp_runtime._kernel.registry import Bindings, Registry
from pulp_runtime.errors import LoadError
from pulp_runtime.ext import CellRef
from pulp_runtime.log import Log
from pulp_runtime.manifest.cell import CellSpec
from pulp_runtime.manifest.toml import open_regular


def cell_ref(spec: CellSpec, cell_id: str, log: Log, lines: LineLog) -> CellRef:
    """Return what extensions see of a cell."""
    return CellRef(
        spec.name,
        cell_id,
        log.limited(lines.allows),
        lines.write,
        spec.manifest_path,
        spec.settings,
        spec.disk_quota_mb << 20,
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
        with open_regular(spec.wasm_path) as file:
            data = file.read(MAX_MODULE_BYTES + 1)  # one too many is refused with the rest of what is no module
    except OSError as error:
        reason = error.strerror or str(error)
        raise LoadError(
            spec.name,
            f"read wasm: {spec.wasm_path}: {reason}; build the module, or set wasm in {spec.manifest_path.name}",
        ) from None
    if spec.wasm_sha256 is not None:
        found = hashlib.sha256(data).hexdigest()
        if found != spec.wasm_sha256:
            raise LoadError(
                spec.name,
                f"WASM SHA-256 mismatch: {spec.wasm_path} has {found}, {spec.manifest_path.name} wants "
                f"{spec.wasm_sha256}",
            )
    return data
