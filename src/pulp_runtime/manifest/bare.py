"""A program without a manifest: `hello.wasm` alone is a function that answers every request (spec/wasi-cloud §2)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from pulp_runtime.errors import ManifestError
from pulp_runtime.manifest.cell import CellSpec, load_cell, read_cell
from pulp_runtime.manifest.names import nearest_name
from pulp_runtime.manifest.program import FUNCTION, HTTP, MODES
from pulp_runtime.manifest.table import Table
from pulp_runtime.manifest.toml import Source

SUFFIX: Final = ".wasm"
_SECRETS: Final = "secrets"
_WRITTEN: Final = "write kv.local=rw, blob.photos=ro, queue.orders=w or secrets.stripe_key"


def load_bare(wasm: Path, grants: Iterable[str] = ()) -> CellSpec:
    """Return what a manifest would say of a module that has none: a function on every path, with these grants.

    Args:
        wasm: the module's file; its name without the suffix becomes the cell's.
        grants: what it may touch, each as `kv.local=rw` or, for a secret, `secrets.name`.

    Raises:
        ManifestError: a grant is not understood, naming it.
    """
    path = wasm.absolute()
    cloud: dict[str, Any] = {}
    for grant in grants:
        kind, name, mode = _split(path, grant)
        if kind == _SECRETS:
            cloud.setdefault(kind, []).append(name)
        else:
            cloud.setdefault(kind, {})[name] = mode
    values = {
        "name": nearest_name(wasm.stem),
        "version": "0",
        "wasm": wasm.name,
        "execution": FUNCTION,
        "capabilities": [HTTP, *(f"cloud.{kind}" for kind in cloud)],
        FUNCTION: {"routes": ["ANY /*path"]},
        **({"cloud": cloud} if cloud else {}),
    }
    return read_cell(Table(Source(path, ""), values))


def load_spec(path: Path) -> CellSpec:
    """Read a cell's manifest, the one in a directory, or for a module what there would be in one.

    Raises:
        ManifestError: see `load_cell`.
    """
    return load_bare(path) if path.suffix == SUFFIX else load_cell(path)


def _split(path: Path, grant: str) -> tuple[str, str, str]:
    """Return the kind, the name and the mode of a grant."""
    what, _, mode = grant.partition("=")
    kind, _, name = what.partition(".")
    if not name or (kind not in MODES and kind != _SECRETS) or (kind == _SECRETS and mode):
        raise ManifestError(path, f"grant {grant!r} is not understood; {_WRITTEN}", field="grant")
    return kind, name, mode or next(iter(MODES.get(kind, ("",))))
