"""What the code has is in the docs, by its exact name; what the docs point to is there."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import click
import pytest

import pulp_runtime.ext
from pulp_runtime._kernel.contract import OPTIONAL, REQUIRED
from pulp_runtime._kernel.siblings import DEPTH, FOREIGN_DEPTH
from pulp_runtime._net.settings import HttpSettings
from pulp_runtime.capabilities.catalog import ALWAYS, BUILT_IN
from pulp_runtime.capabilities.transport.http_inbound import HttpInbound
from pulp_runtime.cli import command
from pulp_runtime.errors import Errno
from pulp_runtime.ext import Capability, HostFunction
from pulp_runtime.ext.capability import HOOKS
from pulp_runtime.ext.setup import SetupEnv
from pulp_runtime.hosting.commands import MOST_REQUEST_BYTES, NAME_BYTES
from pulp_runtime.manifest import app, host
from pulp_runtime.manifest.cell import MAX_SHARED_MEMORY_GROUPS, CellSpec
from pulp_runtime.manifest.fields import MAX_NAME_CHARACTERS
from pulp_runtime.manifest.limits import SETTABLE, Limits
from pulp_runtime.manifest.names import NAME_CHARACTERS
from pulp_runtime.manifest.not_built import NOT_BUILT
from pulp_runtime.manifest.placement import MOST_PLACEMENTS

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
REFERENCE = DOCS / "reference"
PAGES = [*sorted(DOCS.rglob("*.md")), *sorted(ROOT.glob("*.md")), ROOT / "benchmarks" / "README.md"]
FIELDS = [
    *(
        field.name
        for field in fields(CellSpec)
        if field.name not in ("manifest_path", "wasm_path", "program", *SETTABLE)
    ),
    *("wasm", "limits", "execution", "function", "daemon"),
]
UNITS = {"KiB": 1024, "MiB": 1024 * 1024}


def read(*parts: str) -> str:
    return REFERENCE.joinpath(*parts).read_text()


def rows(text: str) -> dict[str, list[str]]:
    """Return the rows of all tables by the first cell's code words: the other cells."""
    found = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1]]
        for name in re.findall(r"`(?:--)?([A-Za-z_][\w.-]*)", cells[0]) if cells else ():
            found.setdefault(name, cells[1:])
    return found


def capabilities() -> Iterator[Capability]:
    return (make() for make in {**BUILT_IN, **ALWAYS}.values())


def host_functions() -> list[tuple[str, HostFunction]]:
    return [(capability.name, one) for capability in capabilities() for one in capability.functions.values()]


def is_public(name: str) -> bool:
    return not name.startswith("_") and not inspect.ismodule(getattr(pulp_runtime.ext, name))


def options() -> set[str]:
    return {
        name.lstrip("-")
        for one in (command._host, *command._verbs.commands.values())
        for option in one.params
        if isinstance(option, click.Option)
        for name in option.opts
    }


# The manifest -------------------------------------------------------------------------------------------------------


def test_every_field_of_a_manifest_is_documented_and_no_other() -> None:
    table = read("manifest.md").partition("## Fields")[2].partition("\n## ")[0]

    assert set(rows(table)) == set(FIELDS)


@pytest.mark.parametrize("name", SETTABLE)
def test_every_limit_a_manifest_can_set_is_documented_with_range_and_default(name: str) -> None:
    least, most = SETTABLE[name]
    _type, written, default, _past = rows(read("manifest.md").partition("## `[limits]`")[2])[name]

    assert written.startswith(f"{least:,} to {most:,}")
    assert default.startswith(f"{getattr(Limits(), name):,}")
    assert f"`limits.{name}`" in (DOCS / "how-to" / "limits.md").read_text()


@pytest.mark.parametrize("name", FIELDS)
def test_the_state_of_a_field_is_what_the_loader_does(name: str) -> None:
    state = rows(read("manifest.md"))[name][-1]

    assert state == ("refused" if name in NOT_BUILT else "works")


@pytest.mark.parametrize("name", ["max_memory_pages", "call_timeout_ms"])
def test_the_default_of_a_number_is_the_codes(name: str) -> None:
    default = next(field.default for field in fields(CellSpec) if field.name == name)

    assert rows(read("manifest.md"))[name][2].startswith(f"{default:,}")


@pytest.mark.parametrize("name", [field.name for field in fields(Limits)])
def test_every_limit_of_a_cell_is_in_the_table_of_limits(name: str) -> None:
    limits = Limits()
    written = {
        "memory_pages": f"{limits.memory_pages:,} pages",
        "table_elements": f"{limits.table_elements:,}",
        "call_seconds": f"{limits.call_seconds:g} s",
        "message_bytes": f"{limits.message_bytes // UNITS['MiB']} MiB",
        "mailbox_events": f"{limits.mailbox_events} events",
        "log_lines_per_second": f"{limits.log_lines_per_second} a second",
        "log_bytes_per_second": f"{limits.log_bytes_per_second // UNITS['KiB']} KiB a second",
        "disk_quota_mb": f"{limits.disk_quota_mb // 1024} GiB",
        "restarts": f"{limits.restarts} in {limits.restart_window_seconds} s",
        "shared_memory_mb": f"{limits.shared_memory_mb} MiB; {MAX_SHARED_MEMORY_GROUPS} groups",
        "restart_window_seconds": f"{limits.restarts} in {limits.restart_window_seconds} s",
    }

    assert written[name] in (DOCS / "how-to" / "limits.md").read_text()


# The application ----------------------------------------------------------------------------------------------------


def test_every_field_of_an_application_is_documented_and_no_other() -> None:
    table = read("app.md").partition("## Fields")[2].partition("\n## ")[0]
    inside = {f"{name}.{key}" for name, keys in app._KNOWN.items() if keys for key in keys}

    assert set(rows(table)) == set(app._KNOWN) | inside


def test_every_limit_of_an_application_is_documented_with_its_value() -> None:
    limits = read("app.md").partition("\n## Limits")[2]

    assert f"| {MOST_PLACEMENTS:,}; {MOST_PLACEMENTS:,} together |" in limits
    assert f"| {MAX_NAME_CHARACTERS}; {NAME_CHARACTERS} |" in limits
    assert f"| the script | {app.MAX_SCRIPT_BYTES // UNITS['MiB']} MiB |" in limits


# The host -----------------------------------------------------------------------------------------------------------


def test_every_field_of_a_host_is_documented_and_no_other() -> None:
    table = read("hosts.md").partition("## Fields")[2].partition("\n## ")[0]
    inside = {f"{name}.{key}" for name, keys in host._KNOWN.items() if keys for key in keys}

    assert set(rows(table)) == set(host._KNOWN) | inside


def test_every_limit_of_a_host_is_documented_with_its_value() -> None:
    limits = read("hosts.md").partition("\n## Limits")[2]

    assert f"| {host.MOST_INSTANCES} |" in limits
    assert f"| {host.MOST_ROUTES:,}; {host.ROUTE_CHARACTERS:,} |" in limits
    assert f"| {MAX_NAME_CHARACTERS}; {NAME_CHARACTERS} |" in limits
    assert f"| {NAME_BYTES} bytes; {MOST_REQUEST_BYTES // UNITS['MiB']} MiB |" in limits
    assert f"| {DEPTH}; {FOREIGN_DEPTH} when it began" in limits


# The boundary -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("export", [*REQUIRED, *OPTIONAL])
def test_every_export_the_host_looks_for_is_documented(export: str) -> None:
    assert f"`{export}`" in read("abi.md")


@pytest.mark.parametrize("errno", Errno, ids=lambda errno: errno.name)
def test_every_code_is_documented_with_its_number(errno: Errno) -> None:
    assert re.search(rf"^\| {int(errno)} \| `{errno.name}` \|", read("errno.md"), re.MULTILINE)


def test_no_code_is_documented_that_does_not_exist() -> None:
    documented = re.findall(r"^\| (\d+) \| `(\w+)` \|", read("errno.md"), re.MULTILINE)

    assert documented == [(str(int(errno)), errno.name) for errno in Errno]


@pytest.mark.parametrize("name", sorted([*BUILT_IN, *ALWAYS]))
def test_every_capability_has_a_page_in_the_fixed_form(name: str) -> None:
    page = read("capabilities", f"{name}.md")
    headings = ["## Declare it", "## Settings", "## Host functions", "## In C", "## In Go", "## Events", "## Limits"]

    assert page.startswith(f"# `{name}`\n")
    assert [line for line in page.splitlines() if line in headings] == headings
    assert f"({name}.md)" in (DOCS / "index.md").read_text().replace("reference/capabilities/", "")


@pytest.mark.parametrize(("capability", "function"), host_functions(), ids=lambda value: getattr(value, "name", value))
def test_every_host_function_is_documented_in_four_parts(capability: str, function: HostFunction) -> None:
    section = read("capabilities", f"{capability}.md").partition(f"### `{function.name}`\n")[2].partition("\n##")[0]
    signatures = re.findall(rf"^    {function.name}\(([^)]*)\) -> i32$", section, re.MULTILINE)
    given = [[word.strip() for word in signature.split(",") if word.strip()] for signature in signatures]
    versions = {len(words): words for words in given}

    assert function.words in versions, "its signature, indented, on a line of its own, one for each version"
    words = versions[function.words]
    assert section.strip().partition("\n")[0].endswith("."), "first a sentence"
    assert all(f"`{word}`" in section for word in words), "then each parameter"
    assert all(f"\n| {code} |" in section for code in (0, 99)), "then the codes"
    pointers = [word for word in words if word.endswith("_ptr")]
    assert all(word in section.partition("guest memory")[2] for word in pointers), "then a drawing of memory"


@pytest.mark.parametrize("field", [field.name for field in fields(HttpSettings)])
def test_every_setting_of_a_listener_is_documented_with_its_value(field: str) -> None:
    value = getattr(HttpSettings(), field)
    unit = next((unit for unit in reversed(UNITS) if field.endswith("bytes") and not value % UNITS[unit]), "")
    written = f"{value // UNITS[unit]:,} {unit}" if unit else f"{value:,.0f}"

    limits = read("capabilities", "transport.http.inbound.md").partition("## Limits")[2]
    assert rows(limits)[field][0].startswith(written)


def test_the_snippets_of_the_capability_page_are_cut_from_the_examples() -> None:
    page = read("capabilities", "transport.http.inbound.md")
    c = (ROOT / "examples" / "echo" / "c" / "echo.c").read_text()
    go = (ROOT / "examples" / "echo" / "go" / "main.go").read_text()

    for language, source in (("c", c), ("go", go)):
        for snippet in re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL):
            assert all(piece.strip("\n") in source for piece in snippet.split("\n\n"))


# The extension API --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(name for name in vars(pulp_runtime.ext) if is_public(name)))
def test_every_name_of_the_extension_api_is_documented(name: str) -> None:
    assert f"`{name}`" in read("ext.md")


@pytest.mark.parametrize("hook", ["register", "stub", *HOOKS])
def test_every_hook_says_when_and_on_which_thread_it_runs(hook: str) -> None:
    assert len(rows(read("ext.md").partition("## Hooks")[2])[hook]) == 4


@pytest.mark.parametrize("attribute", [field.name for field in fields(SetupEnv)])
def test_every_attribute_of_the_set_up_environment_is_documented(attribute: str) -> None:
    assert attribute in rows(read("ext.md").partition("## `SetupEnv`")[2])


def test_the_built_in_transport_is_the_worked_example() -> None:
    assert Capability.of("transport.http.inbound", HttpInbound()).functions.keys() == {
        "http_body_read",
        "http_defer",
        "http_listen",
        "http_register",
        "http_respond",
        "http_respond_begin",
        "http_respond_end",
        "http_respond_stream",
        "http_respond_write",
    }


# The command --------------------------------------------------------------------------------------------------------


def test_every_option_is_documented_and_no_other() -> None:
    documented = set(re.findall(r"^\| `--([\w-]+)` \|", read("cli.md"), re.MULTILINE))

    assert documented == {name for name in options() if name not in ("version",)} | {"help"}


@pytest.mark.parametrize("verb", sorted(command._verbs.commands))
def test_every_verb_is_documented(verb: str) -> None:
    assert re.search(rf"^    pulp {verb} ", read("cli.md"), re.MULTILINE)


# Promises -----------------------------------------------------------------------------------------------------------


def cases() -> dict[int, set[str]]:
    """Return the tests named after a threat, by its number."""
    found: dict[int, set[str]] = {}
    for file in (ROOT / "tests").rglob("test_*.py"):
        for name in re.findall(r"def (test_threat_\d+\w*)", file.read_text()):
            for number in re.findall(r"_(\d+)(?=_)", re.match(r"test_threat(?:_\d+(?:_and)?)+_", name)[0]):  # type: ignore[index]
                found.setdefault(int(number), set()).add(name)
    return found


def test_every_test_that_the_security_table_names_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "SECURITY.md").read_text()))
    there = {name for names in cases().values() for name in names}

    assert named, "the table names tests"
    assert named <= there


def test_every_threat_that_has_a_test_is_in_the_security_table() -> None:
    table = (ROOT / "SECURITY.md").read_text()
    listed = {int(number) for number in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)}

    assert listed == set(cases())


# The pages ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, anchor = target.partition("#")
        if re.match(r"[a-z]+:", path):
            continue
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        if anchor:
            assert anchor in anchors(file), target


def anchors(file: Path) -> set[str]:
    titles = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_every_page_can_be_reached_from_the_index() -> None:
    seen, todo = set(), [DOCS / "index.md"]
    while todo:
        page = todo.pop()
        if page in seen:
            continue
        seen.add(page)
        links = re.findall(r"\]\(([^)#\s]+\.md)", page.read_text())
        todo += [(page.parent / link).resolve() for link in links if not re.match(r"[a-z]+:", link)]

    assert set(DOCS.rglob("*.md")) <= seen


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_of_ours_that_a_page_names_is_there(page: Path) -> None:
    named = re.findall(r"`((?:_kernel|_net|abi|cli|ext|manifest|capabilities)/[\w/.]+\.\w+)", page.read_text())
    named += re.findall(r"`((?:src|examples|sdk|scripts|tests|benchmarks|docs)/[\w/.-]+\.\w+)", page.read_text())

    for name in named:
        assert (ROOT / name).exists() or (ROOT / "src" / "pulp_runtime" / name).exists(), name


def test_the_program_of_the_readme_is_the_one_of_the_tutorial_and_of_the_sdk() -> None:
    pages = (ROOT / "README.md", DOCS / "tutorial" / "first-cell.md", ROOT / "sdk" / "c" / "README.md")
    programs = [re.search(r'(#include "pulp.h"\n.*?\n)(?:```|EOF)', page.read_text(), re.DOTALL) for page in pages]

    assert all(programs)
    assert len({program[1] for program in programs if program}) == 1
