"""The module a manifest stands for, and the digest that pins it."""

from __future__ import annotations

import hashlib
from typing import Final

from pulp_runtime.manifest.cell import CellSpec
from pulp_runtime.manifest.limits import MIB
from pulp_runtime.manifest.toml import open_regular

MAX_MODULE_BYTES: Final = 128 * MIB


def read_module(spec: CellSpec) -> bytes:
    """Return the bytes of a cell's module; at most one more than a module may have.

    Raises:
        OSError: it cannot be read.
    """
    with open_regular(spec.wasm_path) as file:
        return file.read(MAX_MODULE_BYTES + 1)


def explain_unread(spec: CellSpec, error: OSError) -> str:
    """Say why there is no module to read."""
    reason = error.strerror or str(error)
    return f"read wasm: {spec.wasm_path}: {reason}; build the module, or set wasm in {spec.manifest_path.name}"


def explain_digest(spec: CellSpec, wasm: bytes) -> str | None:
    """Say that these bytes are not those the manifest pins; None when they are, or none are pinned."""
    if spec.wasm_sha256 is None:
        return None
    found = hashlib.sha256(wasm).hexdigest()
    if found == spec.wasm_sha256:
        return None
    return f"WASM SHA-256 mismatch: {spec.wasm_path} has {found}, {spec.manifest_path.name} wants {spec.wasm_sha256}"
