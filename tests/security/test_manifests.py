"""Manifests and files that are not what they seem."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest

from pulp_runtime._kernel.cell import Cell
from pulp_runtime._kernel.registry import Registry
from pulp_runtime.capabilities.catalog import BUILT_IN
from pulp_runtime.errors import ExtensionError, LoadError, ManifestError
from pulp_runtime.ext import Capability, CellRef, host_function
from pulp_runtime.log import Log
from pulp_runtime.manifest.cell import CellSpec, load_cell

SECONDS = 5.0


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Return `write(*lines)`: a manifest of a good cell, and these lines."""

    def write(*lines: str) -> Path:
        path = tmp_path / "pulp.cell.toml"
        path.write_text("\n".join(['name = "cell"', 'version = "1"', *lines]), encoding="utf-8")
        return path

    return write


class Fifo:
    """A file that nobody writes into, and a hand that ends the wait of whoever opened it all the same."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self._path = path
        self.waited = False
        self._timer = threading.Timer(SECONDS, self._rescue)
        self._timer.start()

    def _rescue(self) -> None:
        self.waited = True
        os.close(os.open(self._path, os.O_WRONLY | os.O_NONBLOCK))

    def close(self) -> None:
        """Stop waiting for the waiter."""
        self._timer.cancel()
        self._timer.join()


# 42: manifests ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "words"),
    [
        pytest.param('capabilities = ["storage.f\u0455"]', "CYRILLIC SMALL LETTER DZE, U\\+0455", id="a Cyrillic s"),
        pytest.param('capabilities = ["transport.http.\u0456nbound"]', "U\\+0456", id="a Cyrillic i"),
        pytest.param('capabilities = ["storage\uff0efs"]', "FULLWIDTH FULL STOP", id="a full-width dot"),
        pytest.param('capabilities = ["storage.fs\u200b"]', "ZERO WIDTH SPACE", id="a blank without width"),
        pytest.param('capabilities = ["*"]', "ASTERISK", id="a wildcard"),
        pytest.param('capabilities = ["storage.*"]', "ASTERISK", id="a wildcard at the end"),
        pytest.param('capabilities = ["../storage.fs"]', "SOLIDUS", id="a path"),
        pytest.param('\u0441apabilities = ["storage.fs"]', "parse manifest", id="a Cyrillic c in the key"),
        pytest.param('capabilitys = ["storage.fs"]', "write capabilities instead of", id="a slip"),
        pytest.param("allow_all = true", "unknown manifest fields: allow_all", id="a wish"),
    ],
)
def test_threat_42_a_manifest_with_something_in_disguise_is_refused(
    write: Callable[..., Path], line: str, words: str
) -> None:
    with pytest.raises(ManifestError, match=words):
        load_cell(write(line))


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(".".join(["a"] * 500_000) + " = 1", id="a key of half a million parts"),
        pytest.param("[" + ".".join(["a"] * 500_000) + "]", id="a table of half a million parts"),
        pytest.param('"a".' * 250_000 + "a = 1", id="a quoted key"),
        pytest.param("a = {" + ".".join(["b"] * 250_000) + " = 1}", id="a key within braces"),
        pytest.param("a = " + "[" * 500_000, id="brackets"),
        pytest.param("a = " + "{b = " * 150_000, id="braces"),
        pytest.param("a = " + "9" * 1_000_000, id="a number of a million digits"),
        pytest.param("".join(f"[[a.b]]\nc{at} = 1\n" for at in range(40_000)), id="forty thousand tables"),
        pytest.param("\n".join(f"a.k{at}.b = {at}" for at in range(50_000)), id="fifty thousand dotted keys"),
        pytest.param("\n".join(".".join([f"k{at}", *"a" * 200]) + " = 1" for at in range(1_000)), id="long keys"),
        pytest.param('a = "' + "\\n" * 500_000 + '"', id="half a million escapes"),
    ],
)
def test_threat_42_a_document_that_is_much_work_is_over_soon(tmp_path: Path, text: str) -> None:
    path = tmp_path / "pulp.cell.toml"
    path.write_text(text)

    began = time.perf_counter()
    with pytest.raises(ManifestError):
        load_cell(path)
    assert time.perf_counter() - began < 20 * SECONDS  # quadratic work would take minutes


def test_threat_42_a_manifest_that_nobody_writes_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    fifo = Fifo(tmp_path / "pulp.cell.toml")
    try:
        with pytest.raises(ManifestError, match="Not a regular file"):
            load_cell(tmp_path / "pulp.cell.toml")
        assert not fifo.waited
    finally:
        fifo.close()


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="no /dev/zero here")
def test_threat_42_a_manifest_without_an_end_is_refused() -> None:
    with pytest.raises(ManifestError, match="Not a regular file"):
        load_cell(Path("/dev/zero"))


# 42: modules ------------------------------------------------------------------------------------------------------


def make_directory(path: Path) -> None:
    path.mkdir()


def make_loop(path: Path) -> None:
    path.symlink_to(path)


def make_dangling_link(path: Path) -> None:
    path.symlink_to(path.with_name("nowhere.wasm"))


def make_unreadable(path: Path) -> None:
    path.write_bytes(b"\0asm\1\0\0\0")
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user reads everything")


def make_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        pytest.param(make_directory, "Is a directory", id="a directory"),
        pytest.param(make_loop, "Too many levels of symbolic links", id="a link to itself"),
        pytest.param(make_dangling_link, "No such file", id="a link to nothing"),
        pytest.param(make_unreadable, "Permission denied", id="a file that may not be read"),
        pytest.param(make_device, "Not a regular file", id="a file without an end"),
    ],
)
def test_threat_42_a_module_that_is_no_file_is_refused(
    load: Callable[..., Cell], spec: Callable[..., CellSpec], make: Callable[[Path], None], words: str
) -> None:
    cell = spec("minimal", name="cell")
    cell.wasm_path.unlink()
    make(cell.wasm_path)

    with pytest.raises(LoadError, match=words):
        load(cell)


def test_threat_42_a_module_that_nobody_writes_is_refused_and_not_waited_for(
    load: Callable[..., Cell], spec: Callable[..., CellSpec]
) -> None:
    cell = spec("minimal", name="cell")
    cell.wasm_path.unlink()
    fifo = Fifo(cell.wasm_path)
    try:
        with pytest.raises(LoadError, match="Not a regular file"):
            load(cell)
        assert not fifo.waited
    finally:
        fifo.close()


def test_threat_42_the_digest_is_of_the_very_bytes_that_are_loaded_each_time(
    load: Callable[..., Cell], spec: Callable[..., CellSpec], wasm: Callable[[str], bytes]
) -> None:
    """A file that is exchanged after the start is refused when the cell is loaded again."""
    digest = hashlib.sha256(wasm("minimal")).hexdigest()
    cell = spec("minimal", name="cell", wasm_sha256=digest)
    load(cell).init()
    cell.wasm_path.write_bytes(wasm("http_hostile"))

    with pytest.raises(LoadError, match="SHA-256 mismatch"):
        load(cell)
    cell.wasm_path.write_bytes(wasm("minimal"))
    load(cell).init()


def test_threat_42_the_file_is_read_once_for_its_digest_and_its_code(
    load: Callable[..., Cell],
    spec: Callable[..., CellSpec],
    wasm: Callable[[str], bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Exchanged between the check and the compiler, it would not matter: the compiler gets the checked bytes."""
    good = wasm("minimal")
    cell = spec("minimal", name="cell", wasm_sha256=hashlib.sha256(good).hexdigest())
    sha256 = hashlib.sha256

    def swap(data: bytes = b"", **_more: object) -> hashlib._Hash:
        if data == good:
            cell.wasm_path.write_bytes(b"\0asm\1\0\0\0 something else")
        return sha256(data)

    monkeypatch.setattr(hashlib, "sha256", swap)

    load(cell).init()


# 43: two walls ----------------------------------------------------------------------------------------------------

FUNCTIONS = sorted(
    (capability.name, function.name, function.words)
    for capability in (make() for make in BUILT_IN.values())
    for function in capability.functions.values()
)


REFUSALS = {"workers_result": 4, "workers_cancel": 1, "workers_pending": 0, "pty_alive": 0}
"""Functions that answer with a status or a count, for which 99 would be one: these are the published refusals."""


@pytest.mark.parametrize(("capability", "name", "words"), FUNCTIONS)
def test_threat_43_every_function_of_a_capability_that_is_not_declared_answers_99(
    engine: object, spec: Callable[..., CellSpec], capability: str, name: str, words: int
) -> None:
    registry = Registry(prefill=False)
    for make in BUILT_IN.values():
        registry.gated(make())
    text = f"""(module
      (import "pulp" "{name}" (func $f (param {"i32 " * words}) (result i32)))
      (memory (export "memory") 1)
      (func (export "pulp_alloc") (param i32) (result i32) (i32.const 1024))
      (func (export "pulp_init") (param i32 i32) (result i32) (call $f {"(i32.const -1) " * words}))
      (func (export "pulp_step") (param i32 i32) (result i32) (i32.const 0))
      (func (export "pulp_shutdown") (result i32) (i32.const 0)))"""
    cell = Cell.load(spec(text), registry, engine=engine)  # type: ignore[arg-type]

    refusal = REFUSALS.get(name, 99)
    with pytest.raises(Exception, match=f"pulp_init returned {refusal}$") if refusal else nullcontext():
        cell.init()
    cell.close()


class Impostor:
    """Wants the requests of others."""

    @host_function
    def http_respond(self, reply: bytes) -> None:
        """Listen in."""


@pytest.mark.parametrize("name", BUILT_IN)
def test_threat_43_nobody_takes_the_name_of_a_built_in_capability(name: str) -> None:
    registry = Registry(prefill=False)
    registry.gated(BUILT_IN[name]())

    with pytest.raises(ExtensionError, match="is offered by"):
        registry.gated(Capability.of(name, Impostor()))


def test_threat_43_nobody_takes_the_functions_of_a_built_in_capability(spec: Callable[..., CellSpec]) -> None:
    """A cell that declares both gets neither: it is refused with both names."""
    registry = Registry(prefill=False)
    for make in BUILT_IN.values():
        registry.gated(make())
    registry.gated(Capability.of("demo.impostor", Impostor()))
    ref = CellRef("cell", "cell", Log("pulp"))

    with pytest.raises(ExtensionError, match=r"http_respond is defined by \S+ and again by \S+"):
        registry.bind(ref, ("demo.impostor", "transport.http.inbound"))
