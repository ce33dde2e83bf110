"""The packages in `extensions`: their own tests, what they import, their pages, and each as its users install it."""

from __future__ import annotations

import ast
import importlib
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from pulp_runtime.ext import Capability, HostFunction
from pulp_runtime.testing import guest, load

ROOT = Path(__file__).parents[2]
EXTENSIONS = ROOT / "extensions"
PAGES = ROOT / "docs" / "reference" / "extensions"
PACKAGES = sorted(path.parent.name for path in EXTENSIONS.glob("*/pyproject.toml"))
SOURCES = sorted(EXTENSIONS.glob("*/src/**/*.py"))
PLUGIN = "pulp_runtime.testing.pytest_plugin"
INSTALLED = any(point.value == PLUGIN for point in entry_points(group="pytest11"))
CAPABILITIES = {
    "pulp-ext-docker": "spawn.docker",
    "pulp-ext-postgres": "storage.sqlite",
    "pulp-ext-s3": "storage.s3",
    "pulp-ext-stripe": "payment.stripe",
}
LIBRARIES = {
    "pulp-ext-docker": {"docker", "requests"},  # requests is what the docker library raises
    "pulp-ext-postgres": {"psycopg"},
    "pulp-ext-s3": {"boto3", "botocore"},
    "pulp-ext-stripe": {"stripe"},
}
HEADINGS = ["## Declare it", "## Settings", "## Host functions", "## In C", "## In Go", "## Events", "## Limits"]


def module_of(package: str) -> ModuleType:
    """Import a package of `extensions`; it is not installed here."""
    source = str(EXTENSIONS / package / "src")
    sys.path.insert(0, source)
    try:
        return importlib.import_module(package.replace("-", "_"))
    finally:
        sys.path.remove(source)


def entry_points_of(package: str) -> dict[str, str]:
    about = tomllib.loads((EXTENSIONS / package / "pyproject.toml").read_text())["project"]
    points: dict[str, str] = about["entry-points"]["pulp.capabilities"]
    return points


def made_by(package: str) -> Iterator[Capability]:
    """Give out every capability that a package offers."""
    root = module_of(package)
    for name, target in entry_points_of(package).items():
        module, _, function = target.partition(":")
        made = getattr(root if module == root.__name__ else importlib.import_module(module), function)()
        assert made.name == name
        yield made


def test_there_is_a_package_for_each() -> None:
    assert sorted(CAPABILITIES) == PACKAGES


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_passes_its_own_tests(package: str) -> None:
    command = [sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    command += ["-c", "pyproject.toml", "--rootdir", ".", *([] if INSTALLED else ["-p", PLUGIN])]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}

    done = subprocess.run(
        command,
        cwd=EXTENSIONS / package,
        env={**environment, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )

    sys.stdout.write("".join(line for line in done.stdout.splitlines(keepends=True) if "SKIPPED" in line))
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr


# What they are made of ----------------------------------------------------------------------------------------------


def imported(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: str(file.relative_to(EXTENSIONS)))
def test_a_package_imports_what_is_public_its_library_and_nothing_else(file: Path) -> None:
    package = file.relative_to(EXTENSIONS).parts[0]
    allowed = {package.replace("-", "_"), "msgspec", *LIBRARIES[package], *sys.stdlib_module_names}

    for name in imported(file):
        assert name in ("pulp_runtime.ext", "pulp_runtime.ext.blob") or name.partition(".")[0] in allowed, name


@pytest.mark.parametrize("package", PACKAGES)
def test_its_tests_see_nothing_of_pulp_that_is_not_public(package: str) -> None:
    public = {"pulp_runtime", "pulp_runtime.ext", "pulp_runtime.ext.blob", "pulp_runtime.testing"}

    for file in (EXTENSIONS / package / "tests").glob("*.py"):
        assert {name for name in imported(file) if name.startswith("pulp_runtime")} <= public, file


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: str(file.relative_to(EXTENSIONS)))
def test_a_file_can_be_read_at_once_and_starts_no_thread(file: Path) -> None:
    tree = ast.parse(file.read_text())
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    called = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]

    assert len(file.read_text().splitlines()) <= 400
    assert [one.name for one in functions if own_lines(one) > 50] == []
    names = {one.attr if isinstance(one, ast.Attribute) else getattr(one, "id", "") for one in called}
    assert names.isdisjoint({"Thread", "Timer", "ThreadPoolExecutor", "Popen"})


def own_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Count lines without the docstring."""
    return sum((node.end_lineno or 0) - node.lineno + 1 for node in function.body if not is_text(node))


def is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_says_what_it_is(package: str) -> None:
    about = tomllib.loads((EXTENSIONS / package / "pyproject.toml").read_text())["project"]
    source = EXTENSIONS / package / "src" / package.replace("-", "_")

    assert (about["name"], "pulp-runtime" in about["dependencies"]) == (package, True)
    assert CAPABILITIES[package] in entry_points_of(package)
    assert (source / "py.typed").exists()
    readme = (EXTENSIONS / package / "README.md").read_text()
    assert f"docs/reference/extensions/{CAPABILITIES[package]}.md" in readme
    for target in re.findall(r"\]\(([^)]+)\)", readme):
        assert (EXTENSIONS / package / target).exists(), target
    for named in re.findall(r"`((?:src|tests)/[\w/.]+)`", readme):
        assert (EXTENSIONS / package / named).exists(), named


# Their pages --------------------------------------------------------------------------------------------------------


def functions() -> list[tuple[str, HostFunction]]:
    return [
        (CAPABILITIES[package], one)
        for package in PACKAGES
        for made in made_by(package)
        if made.name == CAPABILITIES[package]
        for one in made.functions.values()
    ]


@pytest.mark.parametrize("name", CAPABILITIES.values())
def test_every_capability_has_a_page_in_the_fixed_form(name: str) -> None:
    page = (PAGES / f"{name}.md").read_text()

    assert page.startswith(f"# `{name}`")
    assert [line for line in page.splitlines() if line in HEADINGS] == HEADINGS
    assert f"(reference/extensions/{name}.md)" in (ROOT / "docs" / "index.md").read_text()


@pytest.mark.parametrize(("capability", "function"), functions(), ids=lambda value: getattr(value, "name", value))
def test_every_host_function_is_documented_in_four_parts(capability: str, function: HostFunction) -> None:
    page = (PAGES / f"{capability}.md").read_text()
    section = page.partition(f"### `{function.name}`\n")[2].partition("\n##")[0]
    signatures = re.findall(rf"^    {function.name}\(([^)]*)\) -> i32$", section, re.MULTILINE)
    given = {len(words): words for words in ([word.strip() for word in one.split(",")] for one in signatures)}

    assert function.words in given, "its signature, indented, on a line of its own"
    assert section.strip().partition("\n")[0].endswith("."), "first a sentence"
    assert all(f"`{word}`" in section for word in given[function.words]), "then each parameter"
    assert all(f"\n| {code} |" in section for code in (0, 99)), "then the codes"
    pointers = [word for word in given[function.words] if word.endswith("_ptr")]
    assert all(word in section.partition("guest memory")[2] for word in pointers), "then a drawing of memory"


@pytest.mark.parametrize("package", PACKAGES)
def test_every_variable_an_operator_can_set_is_documented(package: str) -> None:
    source = (EXTENSIONS / package / "src" / package.replace("-", "_") / "settings.py").read_text()
    page = (PAGES / f"{CAPABILITIES[package]}.md").read_text()
    named = re.findall(r'"((?:S3|R2|DOCKER|STRIPE|STORAGE|DATABASE|TEMPLATES)_\w*[A-Z])"', source)

    assert named or package == "pulp-ext-s3", "whose names are put together"
    assert [name for name in named if f"`{name}`" not in page] == []


# Two walls ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("package", PACKAGES)
def test_threat_43_no_function_of_an_extension_works_for_a_cell_that_does_not_declare_it(package: str) -> None:
    for made in made_by(package):
        words = {function.name: function.words for function in made.functions.values()}
        with load(guest(words), capabilities=[made], declares=[]) as cell:
            assert {cell.run(name, *[0] * count) for name, count in words.items()} == {99}


# As users install them ----------------------------------------------------------------------------------------------

FORWARDER = """
(module
  {imports}
  (memory (export "memory") 16 16)
  (global $next (mut i32) (i32.const 65536))
  (func (export "pulp_alloc") (param $size i32) (result i32)
    (local $at i32)
    (local.set $at (global.get $next))
    (global.set $next (i32.and (i32.add (i32.add (local.get $at) (local.get $size)) (i32.const 7)) (i32.const -8)))
    (local.get $at))
  (func (export "pulp_init") (param i32 i32) (result i32) (i32.const 0))
  (func (export "pulp_step") (param i32 i32) (result i32) (i32.const 0))
  (func (export "pulp_shutdown") (result i32) (i32.const 0))
  (func (export "pulp_on_call")
    (param $name i32) (param $name_len i32) (param $args i32) (param $len i32) (param $out i32) (param $out_len i32)
    (result i32)
    {bodies}
    (i32.const 98)))
"""
SCRIPT = """
import json, logging, sys
from concurrent.futures import ThreadPoolExecutor
from pulp_runtime import Host
from pulp_runtime.log import configure
from pulp_runtime.errors import CellRefused

asked = json.loads(sys.stdin.read())
logging.basicConfig(level=logging.DEBUG)  # what libraries log
configure("text", level="debug", stream=sys.stderr)

def call(host, cell, function, args):
    try:
        return [0, host.call(cell, function, bytes.fromhex(args)).hex()]
    except CellRefused as refused:
        return [refused.code, ""]

def all_of(host, cell):
    return [call(host, cell, function, args) for function, args in asked["calls"]]

with Host(asked["cells"], http_port=0, providers=asked["providers"], storage_root=asked["data"]) as host:
    with ThreadPoolExecutor(8) as pool:  # cells at once, on the same capability
        answers = list(pool.map(lambda cell: all_of(host, cell), host.status()))
    print(json.dumps({"answers": answers, "modules": sorted(set(sys.modules) & set(asked["modules"]))}))
"""


def forwarder(words: Mapping[str, int]) -> str:
    """Return a guest that hands its arguments to an import: function `f0` to the first one, and so on."""
    imports = [
        f'(import "pulp" "{name}" (func ${name} (param {" ".join(["i32"] * count)}) (result i32)))'
        for name, count in words.items()
    ]
    message, out, nothing = (
        "(local.get $args) (local.get $len)",
        "(local.get $out) (local.get $out_len)",
        "(i32.const 0)",
    )
    given = {2: message, 4: f"{message} {out}", 6: f"{message} {nothing} {nothing} {out}"}
    bodies = [
        f"(if (i32.eq (i32.load8_u offset=1 (local.get $name)) (i32.const {ord('0') + at}))"
        f" (then (return (call ${name} {given[count]}))))"
        for at, (name, count) in enumerate(words.items())
    ]
    return FORWARDER.format(imports="\n  ".join(imports), bodies="\n    ".join(bodies))


class Field:
    """A fresh virtual environment with one package in it, and cells that use it."""

    def __init__(self, fresh: Any, wasm: Callable[[str], bytes], package: str, libraries: list[str]) -> None:
        self.fresh = fresh
        self._wasm = wasm
        self._package = package
        fresh.install(ROOT, EXTENSIONS / package)
        sys.modules[type(fresh).__module__].link(libraries, fresh.site)  # the conftest, by whatever name it goes

    def cell(self, name: str, words: Mapping[str, int], more: str = "") -> str:
        folder = self.fresh.folder / name
        folder.mkdir()
        (folder / "cell.wasm").write_bytes(self._wasm(forwarder(words)))
        provided = ", ".join(f'"f{at}"' for at in range(len(words)))
        capability = CAPABILITIES[self._package]
        (folder / "pulp.cell.toml").write_text(
            f'name = "{name}"\nversion = "1"\ncapabilities = ["{capability}"]\nprovides = [{provided}]\n{more}'
        )
        return str(folder)

    def start(self, asked: Mapping[str, Any]) -> subprocess.CompletedProcess[str]:
        """Run a host that writes everything it logs."""
        return subprocess.run(
            [self.fresh.python, "-c", SCRIPT],
            input=json.dumps(asked),
            cwd=self.fresh.folder,
            env=self.fresh.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def run(self, cells: list[str], calls: list[tuple[str, bytes]], pin: str = "", **environment: str) -> Any:
        """Return what the cells were answered, and which modules of libraries there were."""
        self.fresh.environment.update(environment)
        asked = {
            "cells": cells,
            "calls": [(function, args.hex()) for function, args in calls],
            "providers": {CAPABILITIES[self._package]: pin} if pin else {},
            "data": str(self.fresh.folder / "data"),
            "modules": [self._package.replace("-", "_"), *sorted(LIBRARIES[self._package])],
        }
        done = self.start(asked)
        assert done.returncode == 0, done.stdout + done.stderr
        found = json.loads(done.stdout.splitlines()[-1])
        found["answers"] = [[(code, bytes.fromhex(data)) for code, data in cell] for cell in found["answers"]]
        return found


@pytest.fixture
def field(fresh: Any, wasm: Callable[[str], bytes]) -> Callable[..., Field]:
    return lambda package, *libraries: Field(fresh, wasm, package, list(libraries))


@pytest.fixture
def helper(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], ModuleType]:
    """Return `helper(package, module)`: a module of a package's tests, under a name of its own."""

    def helper(package: str, name: str) -> ModuleType:
        folder = EXTENSIONS / package
        monkeypatch.syspath_prepend(str(folder / "src"))
        monkeypatch.syspath_prepend(str(folder / "tests"))
        spec = importlib.util.spec_from_file_location(f"{package}-{name}", folder / "tests" / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return helper


def packed(**message: Any) -> bytes:
    import msgspec

    return msgspec.msgpack.encode(message)


def unpacked(data: bytes) -> Any:
    import msgspec

    return msgspec.msgpack.decode(data)


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_s3_as_it_is_installed(field: Callable[..., Field], helper: Callable[..., ModuleType]) -> None:
    one = field("pulp-ext-s3", "boto3")
    words = {"s3_put": 2, "s3_get": 4, "s3_list": 4}
    prefix = '[settings."storage.s3"]\nprefix = "{}/"\n'
    cells = [one.cell(name, words, prefix.format(name)) for name in ("red", "blue", "green")]
    calls = [
        ("f0", packed(key="k", body=b"\x00" * 1000)),
        ("f1", packed(key="k")),
        ("f2", packed()),
        ("f1", packed(key="../k")),
    ]
    tests = helper("pulp-ext-s3", "conftest")

    with tests.moto() as endpoint:
        tests.request("PUT", f"{endpoint}/cells")
        found = one.run(
            cells,
            calls,
            S3_ENDPOINT=endpoint,
            S3_BUCKET="cells",
            S3_ACCESS_KEY_ID="a",
            S3_SECRET_ACCESS_KEY="b",
        )

    for answers in found["answers"]:
        assert [code for code, _data in answers] == [0, 0, 0, 1]
        assert unpacked(answers[1][1])["body"] == b"\x00" * 1000
        assert [entry["key"] for entry in unpacked(answers[2][1])["entries"]] == ["k"]
    assert found["modules"] == ["botocore", "pulp_ext_s3"]


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_postgres_as_it_is_installed_and_pinned(field: Callable[..., Field], helper: Callable[..., ModuleType]) -> None:
    one = field("pulp-ext-postgres", "psycopg", "psycopg-binary")
    words = {"sqlite_exec": 6, "sqlite_query": 6}
    cells = [one.cell(name, words) for name in ("red", "blue")]
    calls = [
        ("f0", b"CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, n BLOB)"),
        ("f0", b"INSERT INTO t (n) VALUES (X'00ff')"),
        ("f1", b"SELECT id, n FROM t"),
        ("f1", b"SELECT version()"),
        ("f0", b"INSERT INTO t (id) VALUES (1)"),
    ]
    tests = helper("pulp-ext-postgres", "conftest")

    with tests.running() as server:
        found = one.run(cells, calls, "pulp-ext-postgres", DATABASE_URL=server.url, STORAGE_POSTGRES_ISOLATE="1")

    for answers in found["answers"]:
        assert [code for code, _data in answers] == [0, 0, 0, 0, 13]
        assert unpacked(answers[2][1])["rows"] == [[1, b"\x00\xff"]]
        assert unpacked(answers[3][1])["rows"][0][0].startswith("PostgreSQL ")


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_threat_43_a_package_over_a_built_in_name_is_not_used_unless_it_is_pinned(field: Callable[..., Field]) -> None:
    one = field("pulp-ext-postgres", "psycopg", "psycopg-binary")
    cell = one.cell("red", {"sqlite_exec": 6, "sqlite_query": 6})

    found = one.run([cell], [("f1", b"SELECT sqlite_version()")], DATABASE_URL="postgresql://nobody@127.0.0.1:1/none")

    assert [code for code, _data in found["answers"][0]] == [0]
    assert found["modules"] == [], "it is not even imported"


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_threat_47_docker_as_it_is_installed_gives_each_cell_containers_of_its_own(
    field: Callable[..., Field], helper: Callable[..., ModuleType]
) -> None:
    one = field("pulp-ext-docker", "docker")
    words = {"docker_create": 4, "docker_exec": 4, "docker_destroy": 2, "docker_list": 4}
    cells = [one.cell(name, words) for name in ("red", "red-two")]
    tests = helper("pulp-ext-docker", "fake_daemon")
    daemon = tests.FakeDaemon(one.fresh.folder / "s")
    daemon.start()
    calls = [
        ("f0", packed(image=tests.IMAGE, name="web")),
        ("f1", packed(id="pulp-red-web", cmd=["echo", "hi"])),
        ("f2", packed(id="pulp-red-two-web")),
        ("f0", packed(image=tests.IMAGE, volumes={"/etc": "/etc"})),
    ]
    try:
        red, two = one.run(cells, calls, DOCKER_HOST=f"unix://{daemon.path}")["answers"]
    finally:
        daemon.stop()

    assert [code for code, _data in red] == [0, 0, 6, 1]
    assert [code for code, _data in two] == [0, 6, 0, 1]
    assert unpacked(red[1][1]) == {"output": "hi\n"}
    assert [one["Name"] for one in daemon.containers.values()] == ["/pulp-red-web"]


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_stripe_as_it_is_installed(field: Callable[..., Field], helper: Callable[..., ModuleType]) -> None:
    one = field("pulp-ext-stripe", "stripe")
    words = {"stripe_payment_intent_create": 4, "stripe_payment_intent_get": 4, "stripe_webhook_verify": 2}
    cells = [one.cell(name, words) for name in ("red", "blue", "green")]
    tests = helper("pulp-ext-stripe", "fake_stripe")
    server = tests.FakeStripe()
    calls = [
        ("f0", packed(amount_cents=5_000, currency="eur")),
        ("f0", packed(amount_cents=5_001, currency="eur")),
        ("f1", packed(id="pi_missing")),
        ("f2", packed(payload=b"{}", signature_header="t=1,v1=0")),
    ]
    try:
        found = one.run(
            cells,
            calls,
            STRIPE_SECRET_KEY=tests.KEY,
            STRIPE_WEBHOOK_SECRET="w",
            STRIPE_MAX_CHARGE_CENTS="5000",
            STRIPE_API_BASE=server.address,
        )
    finally:
        server.close()

    for answers in found["answers"]:
        assert [code for code, _data in answers] == [0, 12, 4, 6]
        assert unpacked(answers[0][1])["amount"] == 5_000


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("package", "libraries", "words", "environment"),
    [
        pytest.param(
            "pulp-ext-s3",
            ["boto3"],
            {"s3_get": 4},
            {
                "S3_ENDPOINT": "http://127.0.0.1:1",
                "S3_BUCKET": "b",
                "S3_ACCESS_KEY_ID": "a",
                "S3_SECRET_ACCESS_KEY": "canary-9f3",
            },
            id="s3",
        ),
        pytest.param(
            "pulp-ext-postgres",
            ["psycopg", "psycopg-binary"],
            {"sqlite_query": 6},
            {"DATABASE_URL": "postgresql://u:canary-9f3@127.0.0.1:1/d"},
            id="postgres",
        ),
        pytest.param(
            "pulp-ext-stripe",
            ["stripe"],
            {"stripe_balance_get": 4},
            {
                "STRIPE_SECRET_KEY": "canary-9f3",
                "STRIPE_WEBHOOK_SECRET": "canary-9f3",
                "STRIPE_API_BASE": "http://127.0.0.1:1",
            },
            id="stripe",
        ),
    ],
)
def test_threat_44_no_secret_of_an_operator_is_in_what_a_host_writes_when_all_goes_wrong(
    field: Callable[..., Field], package: str, libraries: list[str], words: dict[str, int], environment: dict[str, str]
) -> None:
    one = field(package, *libraries)
    one.fresh.environment.update(environment)
    asked = {
        "cells": [one.cell("red", words)],
        "calls": [["f0", packed(key="k").hex()]],
        "providers": {CAPABILITIES[package]: package},
        "data": str(one.fresh.folder / "data"),
        "modules": [],
    }

    done = one.start(asked)

    told = done.stdout + done.stderr
    assert "refused" in told, "somebody was asked, in vain, and it was said"
    assert "canary" not in told
