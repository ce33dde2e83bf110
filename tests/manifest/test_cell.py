from __future__ import annotations

from collections.abc import Callable
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import pytest

from pulp_runtime.errors import ManifestError
from pulp_runtime.manifest.cell import CellSpec, load_cell
from pulp_runtime.manifest.not_built import NOT_BUILT

Write = Callable[..., Path]
DIGEST = "0123456789abcdef" * 4


def test_a_minimal_manifest_has_every_default(write_cell: Write) -> None:
    path = write_cell()

    assert load_cell(path) == CellSpec(
        manifest_path=path,
        schema_version=1,
        name="echo",
        version="1",
        wasm_path=path.parent / "cell.wasm",
        wasm_sha256=None,
        provides=(),
        consumes=(),
        host_consumes=(),
        depends_on=(),
        capabilities=(),
        shared_memory_groups=(),
        dedicated_thread=False,
        snapshotable=False,
        restart="on_crash",
        max_memory_pages=4096,
        call_timeout_ms=30_000,
        tick_ms=None,
        federated_callers=(),
        federated_consumes=(),
        migratable=False,
        config=None,
    )


def test_a_spec_cannot_be_changed(write_cell: Write) -> None:
    spec = load_cell(write_cell())

    with pytest.raises(FrozenInstanceError):
        spec.name = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("line", "field", "value"),
    [
        pytest.param("schema_version = 1", "schema_version", 1, id="the schema's version"),
        pytest.param("schema_version = 0", "schema_version", 1, id="no schema's version"),
        pytest.param(f'wasm_sha256 = " {DIGEST.upper()} "', "wasm_sha256", DIGEST, id="a digest in capitals"),
        pytest.param('provides = ["a", "", "b", "a", " a"]', "provides", ("a", "b", " a"), id="functions"),
        pytest.param('depends_on = ["db", "db", ""]', "depends_on", ("db",), id="dependencies"),
        pytest.param("depends_on = []", "depends_on", (), id="no dependencies"),
        pytest.param(
            'capabilities = [" Transport.HTTP ", "transport.http", ""]',
            "capabilities",
            ("transport.http",),
            id="capabilities",
        ),
        pytest.param("dedicated_thread = true", "dedicated_thread", True, id="a thread of its own"),
        pytest.param('restart = " never "', "restart", "never", id="no restart"),
        pytest.param('restart = "always"', "restart", "always", id="restart in any case"),
        pytest.param('restart = ""', "restart", "on_crash", id="an empty restart"),
        pytest.param("max_memory_pages = 0", "max_memory_pages", 4096, id="no memory named"),
        pytest.param("max_memory_pages = 65536", "max_memory_pages", 65_536, id="all the memory there is"),
        pytest.param("call_timeout_ms = 0", "call_timeout_ms", 30_000, id="no time named"),
        pytest.param("call_timeout_ms = 4294967295", "call_timeout_ms", 4_294_967_295, id="the longest time"),
        pytest.param("tick_ms = 0", "tick_ms", 0, id="no ticks"),
        pytest.param("tick_ms = 60000", "tick_ms", 60_000, id="the rarest ticks"),
        pytest.param("[config]", "config", {}, id="an empty config"),
        pytest.param(
            "config = {a.'b.c' = {d = [{e = 1}]}}",
            "config",
            {"a": {"b.c": {"d": [{"e": 1}]}}},
            id="a nested config",
        ),
        pytest.param("host_consumes = []", "host_consumes", (), id="no function of another application"),
        pytest.param(
            'host_consumes = ["session.new"]',
            "host_consumes",
            ("session.new",),
            id="a function of another application, which only a host looks for",
        ),
        pytest.param("migratable = false", "migratable", False, id="a flag that is not built, with its default"),
    ],
)
def test_a_field_is_read_and_tidied(write_cell: Write, line: str, field: str, value: Any) -> None:
    assert getattr(load_cell(write_cell(line)), field) == value


def test_name_and_version_are_trimmed(write: Write) -> None:
    spec = load_cell(write('name = " echo "\nversion = " v 1 "\n'))

    assert (spec.name, spec.version) == ("echo", "v 1")


@pytest.mark.parametrize(
    ("wasm", "path"),
    [
        pytest.param("build/x.wasm", "{dir}/build/x.wasm", id="relative to the manifest"),
        pytest.param("../x.wasm", "{dir}/../x.wasm", id="beside the manifest's directory"),
        pytest.param("/lib/x.wasm", "/lib/x.wasm", id="absolute"),
        pytest.param(" x ", "{dir}/ x ", id="not trimmed"),
        pytest.param("", "{dir}/cell.wasm", id="empty, so the default"),
    ],
)
def test_the_module_is_found_from_the_manifest(write_cell: Write, wasm: str, path: str) -> None:
    manifest = write_cell(f'wasm = "{wasm}"')

    assert str(load_cell(manifest).wasm_path) == path.format(dir=manifest.parent)


def test_paths_are_absolute_also_when_the_manifest_was_named_relatively(
    write_cell: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_cell()
    monkeypatch.chdir(path.parent)

    spec = load_cell(Path("pulp.cell.toml"))

    assert (spec.manifest_path, spec.wasm_path) == (path, path.parent / "cell.wasm")


def test_a_directory_stands_for_its_manifest_and_the_newer_name_wins(write: Write, tmp_path: Path) -> None:
    write('name = "old"\nversion = "1"', "pulp.plugin.toml")
    old = load_cell(tmp_path)
    write('name = "new"\nversion = "1"', "pulp.cell.toml")
    new = load_cell(tmp_path)

    assert (old.name, old.wasm_path.name) == ("old", "plugin.wasm")
    assert (new.name, new.wasm_path.name) == ("new", "cell.wasm")


def test_a_manifest_of_any_other_name_describes_cell_wasm(write: Write) -> None:
    assert load_cell(write('name = "x"\nversion = "1"', "x.toml")).wasm_path.name == "cell.wasm"


@pytest.mark.parametrize("name", ["", "missing.toml", "nul\0"])
def test_a_path_without_a_manifest_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ManifestError, match=r"read manifest: |manifest path: "):
        load_cell(tmp_path / name)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param('version = "1"', "validate manifest: name is required", id="no name"),
        pytest.param('name = " "\nversion = "1"', "name is required", id="a blank name"),
        pytest.param('name = "../x"\nversion = "1"', 'name: "../x" contains', id="a name that is a path"),
        pytest.param('name = "pulp"\nversion = "1"', 'name: "pulp" is reserved', id="a reserved name"),
        pytest.param('name = "x"', "validate manifest: version is required", id="no version"),
        pytest.param('name = "x"\nversion = ""', "version is required", id="an empty version"),
        pytest.param("name = 1", "parse manifest: line 1: name: a string is needed", id="a number as the name"),
        pytest.param("name = [", "parse manifest: ", id="text that is not TOML"),
    ],
)
def test_a_cell_must_have_a_proper_name_and_a_version(write: Write, text: str, words: str) -> None:
    with pytest.raises(ManifestError) as caught:
        load_cell(write(text))

    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        pytest.param(
            "schema_version = 2",
            "schema_version 2 is newer than host supports (max 1)",
            id="a schema from the future",
        ),
        pytest.param("schema_version = -1", "schema_version -1 is not a version", id="a negative schema"),
        pytest.param('wasm = "a\\u0000"', "wasm contains a NUL", id="a NUL in the module's path"),
        pytest.param('wasm_sha256 = ""', "wasm_sha256 is required", id="an empty digest"),
        pytest.param(f'wasm_sha256 = "{DIGEST[1:]}"', "wasm_sha256", id="a digest of 63 digits"),
        pytest.param(f'wasm_sha256 = "g{DIGEST[1:]}"', "is not 64 hexadecimal digits", id="a digest with a g"),
        pytest.param('host_consumes = ["a", "a"]', 'duplicate host_consumes "a"', id="a host function twice"),
        pytest.param('host_consumes = [" "]', "non-empty exact provider", id="a blank host function"),
        pytest.param('host_consumes = ["a b"]', "must not contain whitespace", id="a host function with a space"),
        pytest.param('host_consumes = ["a\\u0007"]', "must not contain whitespace", id="a host function with a bell"),
        pytest.param('capabilities = ["stоrage"]', "CYRILLIC SMALL LETTER O", id="a capability that only looks right"),
        pytest.param('capabilities = ["\u212av"]', "KELVIN SIGN", id="a capability that is right in lower case"),
        pytest.param(
            'restart = "Always"',
            'restart "Always" is none of never, on_crash, always',
            id="a restart in capitals",
        ),
        pytest.param(
            "max_memory_pages = 65537",
            "max_memory_pages 65537 is more than 65536",
            id="a page more than there is",
        ),
        pytest.param("tick_ms = 60001", "tick_ms 60001 is more than 60000", id="a tick too rare"),
    ],
)
def test_a_value_that_cannot_be_used_is_refused_by_name(write_cell: Write, line: str, words: str) -> None:
    path = write_cell(line)

    with pytest.raises(ManifestError) as caught:
        load_cell(path)

    assert str(caught.value).startswith(f"{path}: validate manifest: ")
    assert words in str(caught.value)
    assert any(verb in str(caught.value) for verb in (" write ", "; remove ", "; a capability is "))
    assert caught.value.field == line.split()[0]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        pytest.param("config = 1", "config: a table is needed, not an integer", id="a config that is a number"),
        pytest.param("[[config]]", "config: a table is needed, not an array", id="a config that is an array"),
        pytest.param("max_memory_pages = -1", "max_memory_pages: -1 is out of range", id="negative memory"),
        pytest.param("call_timeout_ms = 1.5", "an integer is needed", id="a time with a fraction"),
        pytest.param("tick_ms = true", "an integer is needed", id="true as a tick"),
        pytest.param("provides = 'a'", "an array of strings is needed", id="text as functions"),
        pytest.param("dedicated_thread = 'yes'", "a boolean is needed", id="text as a flag"),
        pytest.param("wasm_sha256 = 1", "a string is needed", id="a number as a digest"),
        pytest.param("federated_callers = 1", "an array of strings is needed", id="a number as callers"),
        pytest.param("migratable = 0", "a boolean is needed", id="a number as a flag"),
    ],
)
def test_a_value_of_another_type_is_refused_with_its_line(write_cell: Write, line: str, words: str) -> None:
    with pytest.raises(ManifestError, match=r"parse manifest: line 3: ") as caught:
        load_cell(write_cell(line))

    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        pytest.param("[bar]\nbaz = 1", "unknown manifest fields: bar, bar.baz; remove", id="a table of its own"),
        pytest.param('capabilites = ["x"]', "write capabilities instead of capabilites", id="a slip of the hand"),
        pytest.param("Restart = 'never'", "write restart instead of Restart", id="another case"),
        pytest.param(
            "manifest_path = 'x'",
            "unknown manifest fields: manifest_path",
            id="a path that only the host knows",
        ),
        pytest.param("wasm_path = 'x'", "write wasm instead of wasm_path", id="the module by the host's word"),
    ],
)
def test_an_unknown_field_is_refused_with_advice(write_cell: Write, line: str, words: str) -> None:
    with pytest.raises(ManifestError) as caught:
        load_cell(write_cell(line))

    assert words in str(caught.value)


@pytest.mark.parametrize("field", sorted(NOT_BUILT))
def test_a_field_whose_feature_does_not_exist_is_refused_with_a_sentence(write_cell: Write, field: str) -> None:
    value = "true" if field in ("snapshotable", "migratable") else '["a"]'

    with pytest.raises(ManifestError) as caught:
        load_cell(write_cell(f"{field} = {value}"))

    assert f"validate manifest: {field} {NOT_BUILT[field]}; remove {field}" in str(caught.value)


def test_limits_come_from_the_manifest(write_cell: Write) -> None:
    limits = load_cell(write_cell("max_memory_pages = 16\ncall_timeout_ms = 250")).limits

    assert (limits.memory_pages, limits.memory_bytes, limits.call_seconds) == (16, 1024 * 1024, 0.25)
    assert (limits.message_bytes, limits.mailbox_events, limits.table_elements) == (8_388_608, 64, 100_000)


def test_settings_for_a_capability_are_kept_as_the_manifest_has_them(write_cell: Write) -> None:
    spec = load_cell(write_cell('capabilities = ["Demo.Fetch"]\n[settings."demo.fetch"]\nallow = ["a"]'))

    assert spec.settings == {"demo.fetch": {"allow": ["a"]}}


def test_settings_for_a_capability_that_is_not_declared_are_refused(write_cell: Write) -> None:
    with pytest.raises(ManifestError, match=r'settings\."demo.fetch" is for a capability the cell does not declare'):
        load_cell(write_cell('[settings."demo.fetch"]\nallow = ["a"]'))


def test_settings_that_are_no_table_are_refused(write_cell: Write) -> None:
    with pytest.raises(ManifestError, match=r"settings\.demo: a table is needed"):
        load_cell(write_cell('capabilities = ["demo"]\n[settings]\ndemo = 1'))
