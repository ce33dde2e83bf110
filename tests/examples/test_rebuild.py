from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


def load_guests() -> ModuleType:
    spec = importlib.util.spec_from_file_location("guests", ROOT / "scripts" / "guests.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


guests = load_guests()

every_build = pytest.mark.parametrize(
    "build", guests.BUILDS, ids=[one.source.replace("/", " in ") for one in guests.BUILDS]
)


def need(tool: guests.Tool) -> None:
    try:
        tool.find()
    except guests.ToolMissing as missing:
        pytest.skip(f"NOT CHECKED: the committed modules may differ from their sources, because {missing}")


@pytest.mark.slow
@pytest.mark.timeout(300)
@every_build
def test_a_committed_module_is_what_its_source_gives(build: guests.Build, tmp_path: Path) -> None:
    need(build.tool)

    rebuilt = guests.build(build, root=ROOT, into=tmp_path)

    committed = ROOT / "examples" / build.source / build.module
    assert rebuilt.read_bytes() == committed.read_bytes(), f"run: python scripts/guests.py {build.source}"


@pytest.mark.slow
@pytest.mark.timeout(300)
@every_build
def test_a_module_does_not_depend_on_where_it_is_built(build: guests.Build, tmp_path: Path) -> None:
    need(build.tool)
    built = []
    for name in ("here", "somewhere else entirely"):
        root = tmp_path / name
        shutil.copytree(ROOT / "examples" / build.source, root / "examples" / build.source)
        shutil.copytree(ROOT / "sdk" / "c", root / "sdk" / "c")
        built.append(guests.build(build, root=root, into=root / "out").read_bytes())

    assert built[0] == built[1]


@every_build
def test_a_committed_module_names_no_path_of_the_machine_it_was_built_on(build: guests.Build) -> None:
    module = (ROOT / "examples" / build.source / build.module).read_bytes()

    here, home = str(Path(__file__).parents[2]).encode(), str(Path.home()).encode()
    for path in (b"/home/", b"/Users/", b"/tmp/", b"site-packages", here, home):
        assert path not in module


def test_every_committed_module_has_a_build() -> None:
    committed = {path for folder in ("examples", "tests/wasi/guests") for path in (ROOT / folder).rglob("*.wasm")}

    assert committed == {(ROOT / "examples" / one.source / one.module).resolve() for one in guests.BUILDS}
