"""A program that is run once, by itself: a host with one daemon, which ends with it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Final

from pulp_runtime.errors import LoadError, StartError
from pulp_runtime.ext import Capability, Outcome, Run
from pulp_runtime.host import Host
from pulp_runtime.manifest.bare import load_bare
from pulp_runtime.manifest.cell import CellSpec
from pulp_runtime.manifest.program import DAEMON, HTTP, ProgramSpec

NAME: Final = "pulp.once"
"""The capability that is given to the program, beside what it is granted."""


class _Once:
    """Hands the run to whoever wants it run, and keeps how it ended."""

    def __init__(self, prepare: Callable[[Run], None]) -> None:
        self._prepare: Final = prepare
        self.outcome = Outcome(None, "it was not run")
        self.over: Final = threading.Event()

    def mount(self, run: Run) -> None:
        run.on_end(self._ended)
        self._prepare(run)

    def _ended(self, outcome: Outcome) -> None:
        self.outcome = outcome
        self.over.set()


def run_once(
    wasm: Path, prepare: Callable[[Run], None], *, grants: Iterable[str] = (), storage_root: str | Path = "data"
) -> Outcome:
    """Run a WASI command to its end; it has no deadline.

    Args:
        wasm: the module's file.
        prepare: is given the run before it begins: for its arguments, streams and folders.
        grants: what of the cloud it may touch, see `load_bare`.
        storage_root: where that is kept.

    Raises:
        ManifestError: a grant is not understood.
        LoadError: the file cannot be read or is no program, or something it is granted cannot be had.
    """
    once = _Once(prepare)
    spec = _spec(load_bare(wasm, grants))
    try:
        with Host([spec], storage_root=storage_root, capabilities=[Capability.of(NAME, once)], workers=1):
            once.over.wait()
    except StartError as error:
        raise LoadError(spec.name, error.reasons.get(spec.name, str(error))) from None
    return once.outcome


def _spec(spec: CellSpec) -> CellSpec:
    granted = (name for name in spec.capabilities if name != HTTP)
    return replace(spec, capabilities=(*granted, NAME), program=ProgramSpec(execution=DAEMON), restart="never")
