"""Which version of a cell runs, and which one ran before it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import NamedTuple

from pulp_runtime._kernel.load import read_wasm
from pulp_runtime.manifest.cell import CellSpec


class Version(NamedTuple):
    """A manifest with the module it stood beside when it was read: files may change under a cell that runs.

    Attributes:
        spec: the manifest.
        wasm: the module's bytes.
    """

    spec: CellSpec
    wasm: bytes

    @classmethod
    def read(cls, spec: CellSpec, others: Iterable[Version] = ()) -> Version:
        """Read the module; raise `LoadError` if that cannot be done or it is not the one the manifest pins.

        Bytes that one of the others has too are kept once.
        """
        wasm = read_wasm(spec)
        kept = (other.wasm for other in others if other.spec.wasm_path == spec.wasm_path and other.wasm == wasm)
        return cls(spec, next(kept, wasm))

    @property
    def sha256(self) -> str:
        """The module's digest, in hexadecimal."""
        return hashlib.sha256(self.wasm).hexdigest()


def differences(before: CellSpec, after: CellSpec) -> tuple[str, ...]:
    """Return what a new manifest changes in what a cell may do, a phrase for each: `+ storage.fs`."""
    found = []
    for what in ("capabilities", "provides", "consumes", "depends_on"):
        old, new = set(getattr(before, what)), set(getattr(after, what))
        found += [f"+ {what}: {name}" for name in sorted(new - old)]
        found += [f"- {what}: {name}" for name in sorted(old - new)]
    return tuple(found)
