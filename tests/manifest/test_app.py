"""`pulp.app.toml`, rule by rule (spec/core §2.2)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from pulp_runtime.errors import ManifestError
from pulp_runtime.manifest.app import MAX_SCRIPT_BYTES, AppSpec, load_app
from pulp_runtime.manifest.cell import load_cell
from pulp_runtime.manifest.fields import MAX_NAME_CHARACTERS
from pulp_runtime.manifest.placement import MOST_PLACEMENTS, merged

SCRIPT = "return 1 -- é\r\n"
DIGEST = hashlib.sha256(SCRIPT.encode()).hexdigest()
WASM = b"\0asm\x01\0\0\0"
PIN = hashlib.sha256(WASM).hexdigest()
ORCHESTRATOR = f'[orchestrator]\nmanifest = "lead/pulp.cell.toml"\nscript = "main.lua"\nsha256 = "{DIGEST}"\n'


class Folder:
    """A folder in which an application is written, file by file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.manifest = path / "pulp.app.toml"

    def cell(self, name: str, *lines: str, folder: str = "") -> str:
        """Write a cell; return its manifest's path as an application writes it."""
        at = self.path / (folder or name)
        at.mkdir(parents=True, exist_ok=True)
        (at / "pulp.cell.toml").write_text("\n".join((f'name = "{name}"', 'version = "1"', *lines)))
        (at / "cell.wasm").write_bytes(WASM)
        return f"{folder or name}/pulp.cell.toml"

    def script(self, text: str | bytes = SCRIPT) -> None:
        (self.path / "main.lua").write_bytes(text.encode() if isinstance(text, str) else text)

    def load(self, lines: str = "", *, cells: list[str] | None = None, head: str = 'name = "shop"\nversion = "1"\n'):
        if cells is not None:
            head += f"cells = {json.dumps(cells)}\n"
        self.manifest.write_text(head + lines)
        return load_app(self.manifest)

    def refused(self, lines: str = "", **more: object) -> ManifestError:
        with pytest.raises(ManifestError) as caught:
            self.load(lines, **more)
        return caught.value


@pytest.fixture
def app(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


@pytest.fixture
def two(app: Folder) -> Callable[..., AppSpec]:
    """Return `two(lines)`: load an application of the cells `lead` and `worker`."""
    cells = [app.cell("lead"), app.cell("worker", "[config]\nsize = 1\n[config.deep]\na = 1\nb = 2\n")]
    return lambda lines="", load=app.load: load(lines, cells=cells)


def addresses(app: AppSpec) -> list[str]:
    return [one.address for one in app.placements]


# What there is to say -----------------------------------------------------------------------------------------------


def test_the_least_an_application_says_is_name_version_and_cells(app: Folder) -> None:
    spec = app.load(cells=[app.cell("one")])

    assert (spec.name, spec.version, spec.schema_version) == ("shop", "1", 1)
    assert (spec.orchestrator, spec.require_wasm_sha256) == (None, False)
    assert [(one.spec, one.instance, one.address) for one in spec.placements] == [(spec.cells[0], "primary", "one")]
    assert spec.manifest_path == app.manifest


def test_a_folder_stands_for_the_manifest_in_it_and_cells_may_be_folders_too(app: Folder) -> None:
    app.cell("one")
    assert load_app(app.load(cells=["one"]).manifest_path.parent).cells[0].name == "one"
    with pytest.raises(ManifestError, match=r"read manifest: no pulp\.app\.toml in this directory"):
        load_app(app.path / "one")


def test_a_cell_is_told_from_an_application(app: Folder) -> None:
    app.load(cells=[app.cell("one")])
    with pytest.raises(ManifestError, match=r"no cell but an application, with a pulp\.app\.toml; start it with -app"):
        load_cell(app.path)


@pytest.mark.parametrize(
    ("head", "words", "field"),
    [
        ('version = "1"', "validate manifest: name is required", "name"),
        ('name = "  "\nversion = "1"', "name is required", "name"),
        ('name = "a"', "version is required", "version"),
        ('name = "a"\nversion = " "', "version is required", "version"),
        ('name = "a"\nversion = "1"', "cells is required", "cells"),
        ('name = "a"\nversion = "1"\ncells = []', "cells is required", "cells"),
        ('name = "a"\nversion = "1"\ncells = [" "]', "cells[0] is required; write a path relative to", "cells"),
        ('name = "a\\u0000b"\nversion = "1"', "has control characters", "name"),
        (f'name = "{"a" * (MAX_NAME_CHARACTERS + 1)}"\nversion = "1"', "more than 128 characters", "name"),
        (f"schema_version = 2\n{'name = 1'}", "validate manifest: app schema_version 2 is newer", "schema_version"),
        ("schema_version = -1", "app schema_version -1 is not a version", "schema_version"),
        ('name = "a"\nversion = "1"\ncells = "x"', "parse manifest: line 3: cells: an array of strings", "cells"),
        ("name = ", "parse manifest: ", ""),
    ],
)
def test_what_must_be_there_is_asked_for_by_name(app: Folder, head: str, words: str, field: str) -> None:
    error = app.refused(head=head)

    assert words in str(error)
    assert error.field == field
    assert error.path == app.manifest


def test_unknown_fields_are_named_all_at_once_with_their_tables(two, app: Folder) -> None:
    error = two(
        'orchestrater = 1\n[[cell_placements]]\ncell = "worker"\ncounts = 2\n[orchestrator]\nscripts = ""\n',
        load=app.refused,
    )

    assert "unknown manifest fields: orchestrater, cell_placements.counts, orchestrator.scripts;" in str(error)
    assert "write count instead of cell_placements.counts" in str(error)


def test_names_are_trimmed_and_a_missing_file_is_told_as_one(app: Folder) -> None:
    assert app.load(head='name = " shop "\nversion = " 2 "\n', cells=[app.cell("one")]).name == "shop"
    with pytest.raises(ManifestError, match="read manifest: No such file"):
        load_app(app.path / "gone.toml")


# Its cells ----------------------------------------------------------------------------------------------------------


def test_cells_come_in_the_order_of_their_dependencies_with_absolute_paths(app: Folder) -> None:
    cells = [app.cell("a", 'depends_on = ["b"]'), app.cell("b"), app.cell("c", folder="deep/../c")]
    spec = app.load(cells=cells)

    assert [one.name for one in spec.cells] == ["b", "c", "a"]
    assert addresses(spec) == ["b", "c", "a"]
    assert all(path.is_absolute() for one in spec.cells for path in (one.manifest_path, one.wasm_path))
    assert spec.cells[1].manifest_path == app.path / "c" / "pulp.cell.toml"


@pytest.mark.parametrize(
    "path", ["/abs/pulp.cell.toml", "C:/abs/pulp.cell.toml", "C:\\abs\\pulp.cell.toml", "\\\\server\\share\\x"]
)
def test_an_absolute_path_is_refused(app: Folder, path: str) -> None:
    error = app.refused(cells=[path])

    assert "must be relative to pulp.app.toml" in str(error)
    assert error.field == "cells"


def test_a_path_may_lead_out_of_the_folder(app: Folder) -> None:
    app.cell("one")
    inner = Folder(app.path / "inner")
    inner.path.mkdir()

    assert inner.load(cells=["../one/pulp.cell.toml"]).cells[0].manifest_path == app.path / "one/pulp.cell.toml"


@pytest.mark.parametrize("again", ["./one/pulp.cell.toml", " one/pulp.cell.toml ", "x/../one/pulp.cell.toml", "one"])
def test_a_cell_listed_twice_is_refused_however_it_is_written(app: Folder, again: str) -> None:
    assert "duplicate cell path" in str(app.refused(cells=[app.cell("one"), again]))


def test_two_cells_of_one_name_are_refused_as_a_set(app: Folder) -> None:
    error = app.refused(cells=[app.cell("one"), app.cell("one", folder="two")])

    assert 'validate app cells: duplicate cell name "one"' in str(error)


def test_what_is_wrong_with_a_cell_is_told_with_its_path_as_written(app: Folder) -> None:
    error = app.refused(cells=[app.cell("one"), "gone/pulp.cell.toml"])
    assert "app cell gone/pulp.cell.toml: read manifest: No such file" in str(error)
    assert error.path == app.path / "gone/pulp.cell.toml"

    error = app.refused(cells=[app.cell("one", "restrat = 1")])
    assert "app cell one/pulp.cell.toml: unknown manifest fields: restrat" in str(error)
    assert error.field == "restrat"

    (app.path / "empty").mkdir()
    assert "app cell empty: read manifest: no pulp.cell.toml" in str(app.refused(cells=["empty"]))


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ('depends_on = ["z"]', 'validate app cells: "one" depends_on "z" but no such cell'),
        ('consumes = ["f"]', "validate app cells: "),
    ],
)
def test_the_cells_are_checked_as_one_set(app: Folder, lines: str, words: str) -> None:
    assert words in str(app.refused(cells=[app.cell("one", lines)]))


def test_a_cell_that_runs_twice_is_one_provider(app: Folder) -> None:
    cells = [app.cell("a", 'consumes = ["f"]'), app.cell("b", 'provides = ["f"]')]
    spec = app.load('[[cell_placements]]\ncell = "b"\ncount = 2\n', cells=cells)

    assert addresses(spec) == ["a", "b@1", "b@2"]


def test_the_number_of_cells_is_bounded(app: Folder) -> None:
    error = app.refused(cells=[f"{number}/pulp.cell.toml" for number in range(MOST_PLACEMENTS + 1)])

    assert f"cells has {MOST_PLACEMENTS + 1} entries; the most is {MOST_PLACEMENTS}" in str(error)


# Digests of modules -------------------------------------------------------------------------------------------------


def test_a_pinned_module_is_accepted_and_a_changed_one_refused(app: Folder) -> None:
    cells = [app.cell("one", f'wasm_sha256 = " {PIN.upper()} "')]
    assert app.load(cells=cells).cells[0].wasm_sha256 == PIN

    (app.path / "one/cell.wasm").write_bytes(WASM + b"\0")
    error = app.refused(cells=cells)
    assert "app cell one/pulp.cell.toml: WASM SHA-256 mismatch: " in str(error)
    assert error.field == "wasm_sha256"

    (app.path / "one/cell.wasm").unlink()
    assert "read wasm: " in str(app.refused(cells=cells))


def test_every_cell_must_pin_its_module_where_the_application_says_so(app: Folder) -> None:
    cells = [app.cell("one", f'wasm_sha256 = "{PIN}"'), app.cell("two")]
    assert not app.load("require_wasm_sha256 = false\n", cells=cells).require_wasm_sha256
    error = app.refused("require_wasm_sha256 = true\n", cells=cells)

    assert "app cell two/pulp.cell.toml: validate manifest: wasm_sha256 is required by require_wasm_sha256" in str(
        error
    )
    assert error.path == app.path / "two/pulp.cell.toml"
    assert app.load("require_wasm_sha256 = true\n", cells=cells[:1]).require_wasm_sha256


def test_a_module_that_is_not_pinned_need_not_be_there_yet(app: Folder) -> None:
    cells = [app.cell("one")]
    (app.path / "one/cell.wasm").unlink()

    assert app.load(cells=cells).cells[0].name == "one"


# The orchestrator ---------------------------------------------------------------------------------------------------


def test_the_orchestrator_is_given_its_script_byte_for_byte_beside_its_other_config(app: Folder) -> None:
    app.script()
    cells = [app.cell("worker"), app.cell("lead", '[config]\nscript = "inline"\nother = 7\n')]
    spec = app.load(ORCHESTRATOR, cells=cells)

    assert spec.cells[1].config == {"script": SCRIPT, "other": 7}
    assert spec.cells[0].config is None
    assert spec.placements[1].spec == spec.cells[1]
    assert spec.orchestrator is not None
    assert (spec.orchestrator.cell, spec.orchestrator.sha256) == ("lead", DIGEST)
    assert spec.orchestrator.script_path == app.path / "main.lua"
    assert spec.orchestrator.manifest_path == app.path / "lead/pulp.cell.toml"


def test_the_digest_may_be_written_in_any_case_with_blanks_around_it(two, app: Folder) -> None:
    app.script()

    assert two(ORCHESTRATOR.replace(DIGEST, f" {DIGEST.upper()} ")).orchestrator.sha256 == DIGEST


@pytest.mark.parametrize(
    ("old", "new", "words", "field"),
    [
        (DIGEST, "0" * 64, f"orchestrator script SHA-256 mismatch: got {DIGEST}, want {'0' * 64}", "sha256"),
        (DIGEST, "0" * 63, "is not 64 hexadecimal digits", "sha256"),
        (DIGEST, "", "sha256 is required", "sha256"),
        (f'sha256 = "{DIGEST}"', "", "orchestrator.sha256 is required", "sha256"),
        ("lead/pulp.cell.toml", "gone/pulp.cell.toml", "is not listed in app cells; name one of lead/", "manifest"),
        ('manifest = "lead/pulp.cell.toml"', "", "orchestrator.manifest is required", "manifest"),
        ("lead/pulp.cell.toml", "/lead/pulp.cell.toml", "must be relative to pulp.app.toml", "manifest"),
        ('script = "main.lua"', "", "orchestrator.script is required", "script"),
        ("main.lua", "/main.lua", "must be relative to pulp.app.toml", "script"),
        ("main.lua", "C:/main.lua", "must be relative to pulp.app.toml", "script"),
        ("main.lua", "a\\u0000", "contains a NUL character", "script"),
        ("main.lua", "gone.lua", "No such file or directory; check the path", "script"),
        ("main.lua", "lead", "Is a directory; check", "script"),
    ],
)
def test_an_orchestrator_that_cannot_be_is_refused(
    two, app: Folder, old: str, new: str, words: str, field: str
) -> None:
    app.script()
    error = two(ORCHESTRATOR.replace(old, new), load=app.refused)

    assert words in str(error)
    assert error.field == f"orchestrator.{field}"


def test_a_script_is_text_of_a_bounded_length(two, app: Folder) -> None:
    latin = "é".encode("latin-1")
    app.script(latin)
    assert "is not UTF-8" in str(two(ORCHESTRATOR.replace(DIGEST, hashlib.sha256(latin).hexdigest()), load=app.refused))
    app.script(b" " * (MAX_SCRIPT_BYTES + 1))
    assert f"more than {MAX_SCRIPT_BYTES} bytes" in str(two(ORCHESTRATOR, load=app.refused))


def test_the_orchestrators_manifest_may_be_written_in_another_way_than_in_cells(two, app: Folder) -> None:
    app.script()

    assert two(ORCHESTRATOR.replace("lead/pulp", "./lead/pulp")).orchestrator.cell == "lead"
    assert two(ORCHESTRATOR.replace("lead/pulp.cell.toml", "lead")).orchestrator.cell == "lead"


def test_the_orchestrator_has_exactly_one_placement(two, app: Folder) -> None:
    app.script()
    entry = '[[cell_placements]]\ncell = "lead"\ncount = {}\n'

    assert addresses(two(entry.format(1) + ORCHESTRATOR)) == ["lead", "worker"]
    error = two(entry.format(2) + ORCHESTRATOR, load=app.refused)
    assert 'orchestrator "lead" must have exactly one placement, and has 2' in str(error)


def test_threat_42_no_placement_can_put_another_script_in_the_place_of_the_pinned_one(two, app: Folder) -> None:
    app.script()
    entry = '[[cell_placements]]\ncell = "{}"\ncount = 1\nconfig = {{ script = "mine" }}\n'
    error = two(entry.format("lead") + ORCHESTRATOR, load=app.refused)

    assert 'script of the orchestrator "lead" is the pinned script' in str(error)
    assert two(entry.format("worker") + ORCHESTRATOR).placements[1].spec.config["script"] == "mine"


# Placements ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ('instances = ["b1", "b2"]', ["worker@b1", "worker@b2"]),
        ('aliases = [" b1 ", "b2"]\ncount = 2', ["worker@b1", "worker@b2"]),
        ("count = 3", ["worker@1", "worker@2", "worker@3"]),
        ("count = 1", ["worker"]),
        ('instances = ["main"]', ["worker"]),
        ('instances = []\naliases = ["z", "a"]', ["worker@z", "worker@a"]),
    ],
)
def test_an_address_is_the_name_alone_or_with_its_instance(two, lines: str, expected: list[str]) -> None:
    spec = two(f'[[cell_placements]]\ncell = " worker "\n{lines}\n')

    assert addresses(spec) == ["lead", *expected]


def test_a_single_placement_keeps_the_name_of_its_instance(two) -> None:
    spec = two('[[cell_placements]]\ncell = "worker"\ninstances = ["main"]\n')

    assert [one.instance for one in spec.placements] == ["primary", "main"]


@pytest.mark.parametrize(
    ("entry", "words", "field"),
    [
        ("count = 2", "cell is required", "cell"),
        ('cell = "nobody"\ncount = 2', 'cell "nobody" is none of the cells; name one of lead, worker', "cell"),
        ('cell = "worker"', "requires instances or count", "instances"),
        ('cell = "worker"\ncount = 0', "requires instances or count", "instances"),
        ('cell = "worker"\ncount = -1', "count -1 is negative", "count"),
        ('cell = "worker"\ncount = 3\ninstances = ["a", "b"]', "count 3 does not match its 2 instances", "count"),
        ('cell = "worker"\ncount = 3\naliases = ["a"]', "count 3 does not match its 1 aliases", "count"),
        ('cell = "worker"\ninstances = ["a", " a "]', 'duplicate instance "a"', "instances"),
        ('cell = "worker"\naliases = ["a", " "]', "aliases[1] is empty", "aliases"),
        ('cell = "worker"\ninstances = ["a@b"]', 'may not contain "@"', "instances"),
        ('cell = "worker"\ninstances = ["A"]', "first a letter or a digit", "instances"),
        ('cell = "worker"\ninstances = ["a"]\naliases = ["b"]', "has both instances and aliases", "aliases"),
        ('cell = "worker"\ncount = 1001', f"1001 placements are more than {MOST_PLACEMENTS}", "count"),
    ],
)
def test_placements_that_make_no_sense_are_refused(two, app: Folder, entry: str, words: str, field: str) -> None:
    error = two(f"[[cell_placements]]\n{entry}\n", load=app.refused)

    assert "validate app cell placements: " in str(error)
    assert words in str(error)
    assert error.field == f"cell_placements.{field}"


def test_a_cell_has_one_entry(two, app: Folder) -> None:
    entry = '[[cell_placements]]\ncell = "worker"\ncount = 2\n'

    assert 'duplicate entry for cell "worker"' in str(two(entry + entry, load=app.refused))


def test_all_placements_together_are_bounded(two, app: Folder) -> None:
    entries = f'[[cell_placements]]\ncell = "worker"\ncount = {MOST_PLACEMENTS}\n'

    assert f"{MOST_PLACEMENTS + 1} placements are more than {MOST_PLACEMENTS}" in str(two(entries, load=app.refused))


@pytest.mark.parametrize("name", ["../x", "a/b", "a\\\\b", "..", ".", "-a", "a\\u0000", "a b", "é", "a" * 64, "con:"])
def test_threat_42_the_name_of_an_instance_is_safe_as_a_folder_and_in_a_log(two, app: Folder, name: str) -> None:
    error = two(f'[[cell_placements]]\ncell = "worker"\ninstances = ["{name}"]\n', load=app.refused)

    assert error.field == "cell_placements.instances"
    assert "the name of an instance has 1 to 63 characters" in str(error)


# Config -------------------------------------------------------------------------------------------------------------


def test_config_goes_on_top_of_the_cells_own_in_every_instance_also_inside_tables(two) -> None:
    spec = two(
        '[[cell_placements]]\ncell = "worker"\ncount = 2\n'
        "[cell_placements.config]\nnew = [1]\n[cell_placements.config.deep]\nb = 3\nc = { d = 4 }\n"
    )
    expected = {"size": 1, "deep": {"a": 1, "b": 3, "c": {"d": 4}}, "new": [1]}

    assert [one.spec.config for one in spec.placements[1:]] == [expected, expected]
    assert spec.cells[1].config == {"size": 1, "deep": {"a": 1, "b": 2}}
    assert spec.placements[0].spec.config is None


@pytest.mark.parametrize(
    ("below", "above", "expected"),
    [
        ({}, {"a": 1}, {"a": 1}),
        ({"a": 1}, {}, {"a": 1}),
        ({"a": {"b": 1}}, {"a": 2}, {"a": 2}),
        ({"a": 2}, {"a": {"b": 1}}, {"a": {"b": 1}}),
        ({"a": [1, 2]}, {"a": [3]}, {"a": [3]}),
        ({"a": [{"b": 1}]}, {"a": [{"c": 1}]}, {"a": [{"c": 1}]}),
        ({"a": {"b": {"c": 1}}}, {"a": {"b": {"d": 2}}}, {"a": {"b": {"c": 1, "d": 2}}}),
    ],
)
def test_tables_are_merged_and_everything_else_is_replaced(below: dict, above: dict, expected: dict) -> None:
    before = json.dumps([below, above])

    assert merged(below, above) == expected
    assert json.dumps([below, above]) == before


def test_config_that_is_no_table_is_refused(two, app: Folder) -> None:
    error = two('[[cell_placements]]\ncell = "worker"\ncount = 2\nconfig = 1\n', load=app.refused)

    assert "cell_placements.config: a table is needed, not an integer" in str(error)


# Reading one cell again ---------------------------------------------------------------------------------------------


def test_reading_a_placement_again_takes_what_both_manifests_say_now(app: Folder) -> None:
    app.script()
    entry = '[[cell_placements]]\ncell = "worker"\ncount = 2\nconfig = { size = 5 }\n'
    cells = [app.cell("lead"), app.cell("worker")]
    spec = app.load(entry + ORCHESTRATOR, cells=cells)
    app.cell("worker", 'provides = ["f"]', "[config]", "own = 1")
    app.cell("lead", "[config]", "own = 2")
    app.load(entry.replace("size = 5", "size = 6") + ORCHESTRATOR, cells=cells)

    assert spec.reread("worker@2").config == {"own": 1, "size": 6}
    assert spec.reread("worker@2").provides == ("f",)
    assert spec.reread("lead").config == {"own": 2, "script": SCRIPT}


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("count = 2", "count = 1", 'the placements of cell "worker" are worker now'),
        ("count = 2", 'instances = ["a", "b"]', 'the placements of cell "worker" are worker@a, worker@b now'),
        ('"shop"', '"stop"', 'name is "stop" now; names last as long as the host'),
        (', "worker/pulp.cell.toml"', "", 'cell "worker" is no longer in cells'),
    ],
)
def test_a_placement_that_is_no_longer_there_cannot_be_read_again(app: Folder, old: str, new: str, words: str) -> None:
    entry = '[[cell_placements]]\ncell = "worker"\ncount = 2\n'
    spec = app.load(entry, cells=[app.cell("lead"), app.cell("worker")])
    app.manifest.write_text(app.manifest.read_text().replace(old, new))

    with pytest.raises(ManifestError) as caught:
        spec.reread("worker@1")
    assert words in str(caught.value)


def test_reading_again_asks_for_the_digests_again(app: Folder) -> None:
    cells = [app.cell("one", f'wasm_sha256 = "{PIN}"')]
    spec = app.load("require_wasm_sha256 = true\n", cells=cells)
    app.cell("one")

    with pytest.raises(ManifestError, match="wasm_sha256 is required by require_wasm_sha256"):
        spec.reread("one")
