"""Where a cell keeps what it has."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from pulp_runtime.ext import CellRef, ExtensionError, SetupEnv

KV_FOLDER: Final = ".pulp-kv"
"""Where stores are, in a cell's folder or in the storage root; `storage.fs` does not show it, no cell has that name."""
KV_FILE: Final = "kv.db"


def cell_folder(env: SetupEnv, cell: CellRef) -> Path:
    """Return a cell's folder below the storage root; it need not be there yet.

    Raises:
        ExtensionError: the name that stands for the cell there is no name of one folder.
    """
    name = env.storage_namespaces.get(cell.id, cell.name)
    if name in ("", ".", "..") or any(character in name for character in "/\\:\0"):
        raise ExtensionError(f"{name!r} is no name for a folder; rename the cell")
    return env.storage_root.absolute() / name


def store_path(storage_root: Path, cell: str, namespace: str = "") -> Path:
    """Return where the store of `storage.kv` is: that of a cell, by its folder's name, or that of a namespace."""
    if namespace:
        return storage_root / KV_FOLDER / namespace / KV_FILE
    return storage_root / cell / KV_FOLDER / KV_FILE
