"""`pulp.app.toml`: which cells make up an application, and how often each of them runs.

read ─▶ cells' paths ─▶ script and its digest ─▶ each cell and its module's digest ─▶ the set ─▶ placements
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, NamedTuple

from pulp_runtime.errors import ManifestError
from pulp_runtime.manifest.cell import CellSpec, find_manifest, load_cell
from pulp_runtime.manifest.fields import relative_path, schema_version, sha256, title, version
from pulp_runtime.manifest.graph import start_order
from pulp_runtime.manifest.limits import MIB
from pulp_runtime.manifest.module import explain_digest, explain_unread, read_module
from pulp_runtime.manifest.names import APP_MANIFEST, quote
from pulp_runtime.manifest.placement import FIELD, MOST_PLACEMENTS, Entry, Placement, place_all, read_entries
from pulp_runtime.manifest.table import Known, Table, read_table
from pulp_runtime.manifest.toml import open_regular

APP_SCHEMA_VERSION: Final = 1
#: The key of the orchestrator's config under which its cell finds the script.
SCRIPT: Final = "script"
MAX_SCRIPT_BYTES: Final = 8 * MIB

_KNOWN: Final[Known] = {
    **dict.fromkeys(["schema_version", "name", "version", "cells", "require_wasm_sha256"]),
    FIELD: dict.fromkeys(["cell", "instances", "aliases", "count", "config"]),
    "orchestrator": dict.fromkeys(["manifest", "script", "sha256"]),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Orchestrator:
    """The cell that is given a script.

    Attributes:
        cell: its name.
        manifest_path: absolute.
        script_path: absolute.
        sha256: of the script, in lower case.
    """

    cell: str
    manifest_path: Path
    script_path: Path
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AppSpec:
    """An application as its manifest, and those of its cells, describe it.

    Attributes:
        manifest_path: absolute; links are not resolved.
        name: how logs call it, and the first part of its cells' scopes.
        version: for people; nothing depends on it.
        cells: each after those it depends on; the orchestrator with its script, none with what placements add.
        placements: what runs, in the order in which it starts.
        orchestrator: None where there is none.
        require_wasm_sha256: every cell must pin its module.
        schema_version: of the manifest.
    """

    manifest_path: Path
    name: str
    version: str
    cells: tuple[CellSpec, ...]
    placements: tuple[Placement, ...]
    orchestrator: Orchestrator | None = None
    require_wasm_sha256: bool = False
    schema_version: int = APP_SCHEMA_VERSION

    def reread(self, address: str) -> CellSpec:
        """Read the cell of one placement again, with what the application's manifest says of it now.

        Names of cells and placements last as long as the application runs.

        Raises:
            ManifestError: as `load_app`, for what concerns this cell; or the placement is no longer there.
        """
        before = next(one for one in self.placements if one.address == address)
        plan = _Plan.read(self.manifest_path)
        if plan.name != self.name:
            raise plan.table.invalid(f"name is {quote(plan.name)} now; names last as long as the host", field="name")
        if before.spec.manifest_path not in plan.paths:
            raise plan.table.invalid(
                f"cell {quote(before.spec.name)} is no longer in cells; stop it, or list it again", field="cells"
            )
        spec = plan.cell(before.spec.manifest_path)
        there = plan.entries.get(before.spec.name, Entry()).place(spec)
        now = next((one for one in there if one.instance == before.instance), None)
        if now is None or (len(there) > 1) != (address != before.spec.name):
            names = ", ".join(one.address for one in there)
            raise plan.table.invalid(
                f"the placements of cell {quote(before.spec.name)} are {names} now; they last as long as the host",
                field=FIELD,
            )
        return now.spec


def load_app(path: Path) -> AppSpec:
    """Read an application's manifest, or the one in a folder, and everything it names.

    Every file is read anew. This host is stricter than others that read the same
    file: names of instances follow one grammar (`names.py`), `instances` and
    `aliases` are not both taken, and nothing but the orchestrator's script may
    be called `script` in what a placement adds to its config. It is more liberal
    in three ways: there need be no orchestrator, tables inside a placement's
    `config` are merged, and `cells` may name folders.

    Raises:
        ManifestError: with the words of `load_cell`, and `app cell <path>:` for
            one of the cells, `validate app cells:` for all of them together,
            `validate app cell placements:`.
    """
    plan = _Plan.read(find_app(path))
    cells = [plan.cell(path) for path in plan.paths]
    try:
        order = start_order(cells)
    except ManifestError as error:
        reason = error.reason.removeprefix("validate manifest: ")
        raise ManifestError(error.path, f"validate app cells: {reason}", field=error.field) from error
    placements = place_all(plan.table, order, plan.entries)
    return AppSpec(
        manifest_path=plan.table.path,
        schema_version=plan.schema_version,
        name=plan.name,
        version=plan.version,
        cells=order,
        placements=placements,
        orchestrator=_orchestrator(plan, placements),
        require_wasm_sha256=plan.pinned,
    )


def find_app(path: Path) -> Path:
    """Return `path`, or the application's manifest inside it when it is a directory.

    Raises:
        ManifestError: a directory without one.
    """
    if not os.path.isdir(path):
        return path
    if not os.path.isfile(path / APP_MANIFEST):
        raise ManifestError(path, f"read manifest: no {APP_MANIFEST} in this directory; name the file itself")
    return path / APP_MANIFEST


class _Script(NamedTuple):
    """The orchestrator's script, whose bytes have the digest that the manifest pins."""

    manifest_path: Path
    path: Path
    sha256: str
    text: str


class _Plan(NamedTuple):
    """An application's manifest, before its cells are read.

    Attributes:
        paths: the cells' manifests, and how each is written.
        pinned: every cell must pin its module.
    """

    table: Table
    schema_version: int
    name: str
    version: str
    paths: Mapping[Path, str]
    pinned: bool
    entries: Mapping[str, Entry]
    script: _Script | None

    @classmethod
    def read(cls, path: Path) -> _Plan:
        """Read and check everything but the cells."""
        table = read_table(path)
        table.refuse_unknown(_KNOWN, otherwise="remove what is not a setting of an application")
        found = schema_version(table, APP_SCHEMA_VERSION, "app ")
        name, for_people = title(table, "shop"), version(table)
        paths = _cell_paths(table)
        pinned = table.flag("require_wasm_sha256")
        return cls(table, found, name, for_people, paths, pinned, read_entries(table), _read_script(table, paths))

    def cell(self, path: Path) -> CellSpec:
        """Read one of the cells; check its module; give it the script if it is the orchestrator."""
        try:
            spec = load_cell(path)
        except ManifestError as error:
            raise self._wrong(path, error.path, error.reason, error.field) from error
        self._check_module(path, spec)
        if self.script is None or self.script.manifest_path != path:
            return spec
        own = self.entries.get(spec.name, Entry()).config or {}
        if SCRIPT in own:
            reason = f"{SCRIPT} of the orchestrator {quote(spec.name)} is the pinned script; remove it from config"
            raise self.table.invalid(reason, field=FIELD)
        return replace(spec, config={**(spec.config or {}), SCRIPT: self.script.text})

    def _check_module(self, path: Path, spec: CellSpec) -> None:
        """Refuse a module that is not the pinned one; the bytes that will run are checked again when they are read."""
        if spec.wasm_sha256 is None:
            if self.pinned:
                reason = "wasm_sha256 is required by require_wasm_sha256; write the output of sha256sum for its module"
                raise self._wrong(path, spec.manifest_path, f"validate manifest: {reason}", "wasm_sha256")
            return
        try:
            problem = explain_digest(spec, read_module(spec))
        except OSError as error:
            raise self._wrong(path, spec.manifest_path, explain_unread(spec, error), "wasm") from None
        if problem is not None:
            raise self._wrong(path, spec.manifest_path, f"{problem}; pin the module that is meant", "wasm_sha256")

    def _wrong(self, path: Path, file: Path, reason: str, field: str) -> ManifestError:
        return ManifestError(file, f"app cell {self.paths[path]}: {reason}", field=field)


def _cell_paths(table: Table) -> dict[Path, str]:
    """Return the cells' manifests and how each is written."""
    written = table.texts("cells")
    if not written:
        raise table.invalid('cells is required; write for example cells = ["hello/pulp.cell.toml"]', field="cells")
    if len(written) > MOST_PLACEMENTS:
        raise table.invalid(f"cells has {len(written)} entries; the most is {MOST_PLACEMENTS}", field="cells")
    found: dict[Path, str] = {}
    for index, text in enumerate(written):
        path = _cell_path(table, text, f"cells[{index}]", "cells")
        if path in found:
            reason = f"duplicate cell path: {quote(text)} is {quote(found[path])} again; list each manifest once"
            raise table.invalid(reason, field="cells")
        found[path] = quote(text.strip())[1:-1]
    return found


def _cell_path(table: Table, text: str, what: str, field: str) -> Path:
    """Return where a cell's manifest is, also when the path leads to its folder."""
    path = relative_path(table, text, what, field, APP_MANIFEST)
    try:
        return find_manifest(path)
    except ManifestError as error:
        shown = quote(text.strip())[1:-1]
        raise ManifestError(error.path, f"app cell {shown}: {error.reason}", field=field) from error


def _read_script(table: Table, paths: Mapping[Path, str]) -> _Script | None:
    """Return the orchestrator's script, None where there is no orchestrator."""
    section = table.table("orchestrator")
    if section is None:
        return None
    manifest = _cell_path(section, section.text("manifest"), "orchestrator.manifest", "manifest")
    if manifest not in paths:
        named = quote(section.text("manifest").strip())
        reason = f"orchestrator.manifest {named} is not listed in app cells; name one of {', '.join(paths.values())}"
        raise section.invalid(reason, field="manifest")
    path = relative_path(section, section.text("script"), "orchestrator.script", "script", APP_MANIFEST)
    wanted = sha256(section, "sha256")
    if wanted is None:
        raise section.invalid("orchestrator.sha256 is required; write the output of sha256sum", field="sha256")
    return _Script(manifest, path, wanted, _checked_script(section, path, wanted))


def _checked_script(section: Table, path: Path, wanted: str) -> str:
    """Read a script; return it as it is, byte for byte, once those bytes are the pinned ones."""
    try:
        with open_regular(path) as file:
            data = file.read(MAX_SCRIPT_BYTES + 1)
    except OSError as error:
        reason = f"orchestrator script: {path}: {error.strerror or error}; check the path and its permissions"
        raise section.invalid(reason, field="script") from error
    if len(data) > MAX_SCRIPT_BYTES:
        raise section.invalid(
            f"orchestrator script {path} has more than {MAX_SCRIPT_BYTES} bytes; write a shorter one", field="script"
        )
    found = hashlib.sha256(data).hexdigest()
    if found != wanted:
        reason = f"orchestrator script SHA-256 mismatch: got {found}, want {wanted}; pin the script that is meant"
        raise section.invalid(reason, field="sha256")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise section.invalid(f"orchestrator script {path} is not UTF-8; save it as UTF-8", field="script") from None


def _orchestrator(plan: _Plan, placements: Sequence[Placement]) -> Orchestrator | None:
    """Return the orchestrator, once it is clear that it runs exactly once."""
    script = plan.script
    if script is None:
        return None
    its = [one for one in placements if one.spec.manifest_path == script.manifest_path]
    cell = its[0].spec.name
    if len(its) != 1:
        reason = f"orchestrator {quote(cell)} must have exactly one placement, and has {len(its)}"
        raise plan.table.invalid(f"{reason}; remove its entry under {FIELD}", field=FIELD)
    return Orchestrator(cell=cell, manifest_path=script.manifest_path, script_path=script.path, sha256=script.sha256)
