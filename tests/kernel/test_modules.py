from __future__ import annotations

import os
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pulp_runtime._kernel import modules as modules_module
from pulp_runtime._kernel.cell import Cell
from pulp_runtime._kernel.engine import Engine
from pulp_runtime._kernel.modules import Modules, default_cache
from pulp_runtime.errors import LoadError
from pulp_runtime.manifest.cell import CellSpec

pytestmark = pytest.mark.usefixtures("real_compiler")
SMALL = '(module (func (export "answer") (result i32) (i32.const 42)))'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "modules"


@pytest.fixture
def engines() -> Iterator[Callable[..., Engine]]:
    """Return a function that makes engines, each like a host that has just been started."""
    made: list[Engine] = []

    def engine(folder: Path | None = None) -> Engine:
        made.append(Engine(folder))
        return made[-1]

    yield engine
    for one in made:
        one.close()


@pytest.fixture
def data(wasm: Callable[[str], bytes]) -> bytes:
    return wasm(SMALL)


@pytest.fixture
def no_children(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Return a function after whose call no compiling child can be started."""

    def refuse(*_args: object, **_kwargs: object) -> None:
        raise AssertionError("a compiling child was started")

    return lambda: monkeypatch.setattr(subprocess, "Popen", refuse)


def load(engine: Engine, data: bytes) -> None:
    engine.modules.load("guest", Path("cell.wasm"), data)


def refusal(engine: Engine, data: bytes) -> str:
    with pytest.raises(LoadError) as caught:
        load(engine, data)
    return str(caught.value)


def files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


# The cache --------------------------------------------------------------------------------------------------------


def test_the_second_start_compiles_nothing(
    engines: Callable[..., Engine], folder: Path, data: bytes, no_children: Callable[[], None]
) -> None:
    load(engines(folder), data)
    no_children()

    load(engines(folder), data)


def test_a_module_that_somebody_uses_is_not_even_read_again(
    engines: Callable[..., Engine], data: bytes, no_children: Callable[[], None]
) -> None:
    engine = engines(None)
    module = engine.modules.load("guest", Path("cell.wasm"), data)
    no_children()

    assert engine.modules.load("other", Path("other.wasm"), data) is module


def test_a_module_is_compiled_once_however_many_ask(
    engines: Callable[..., Engine], data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = engines(None)
    started: list[object] = []
    real = subprocess.Popen

    def popen(*args: object, **kwargs: object) -> object:
        started.append(args)
        return real(*args, **kwargs)

    monkeypatch.setattr(subprocess, "Popen", popen)
    found: list[object] = []
    together = threading.Barrier(32)

    def ask() -> None:
        together.wait()
        found.append(engine.modules.load("guest", Path("cell.wasm"), data))

    threads = [threading.Thread(target=ask) for _ in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(started) == 1
    assert len(found) == 32
    assert len({id(module) for module in found}) == 1


def test_a_module_that_was_forgotten_is_compiled_anew_while_its_cell_goes_on(
    engines: Callable[..., Engine],
    spec: Callable[..., CellSpec],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = engines(None)
    monkeypatch.setattr(modules_module, "KEPT_MODULES", 1)
    compiled: list[str] = []
    original = Modules._run_compiler

    def run_compiler(self: Modules, cell: str, *more: object) -> None:
        compiled.append(cell)
        original(self, cell, *more)

    monkeypatch.setattr(Modules, "_run_compiler", run_compiler)
    one, other, again = (Cell.load(spec(name), engine=engine) for name in ("provider", "minimal", "provider"))

    assert compiled == ["provider", "minimal", "provider"]
    for cell in (one, again):
        cell.init(b"")
        assert cell.call("echo.reverse", b"pulp") == b"plup"
    for cell in (one, other, again):
        cell.close()


def test_the_folder_and_its_files_are_for_their_owner_alone(
    engines: Callable[..., Engine], folder: Path, data: bytes
) -> None:
    load(engines(folder), data)

    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    (file,) = files(folder)
    assert file.suffix == ".cwasm"
    assert not file.stat().st_mode & 0o022


def test_a_folder_that_others_can_write_is_made_ours_alone(
    engines: Callable[..., Engine], folder: Path, data: bytes
) -> None:
    folder.mkdir(parents=True)
    folder.chmod(0o777)

    load(engines(folder), data)

    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.parametrize("mode", [0o620, 0o602], ids=["its group", "everybody"])
def test_a_file_that_others_can_write_is_thrown_away(
    engines: Callable[..., Engine], folder: Path, data: bytes, mode: int, records
) -> None:
    load(engines(folder), data)
    (file,) = files(folder)
    file.chmod(mode)

    load(engines(folder), data)

    (file,) = files(folder)
    assert not file.stat().st_mode & 0o022
    assert "compiled module discarded" in records.messages


def test_a_file_of_somebody_else_is_thrown_away(
    engines: Callable[..., Engine], folder: Path, data: bytes, monkeypatch: pytest.MonkeyPatch, records
) -> None:
    load(engines(folder), data)
    fresh = engines(folder)
    (file,) = files(folder)
    real = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: real + 1)

    load(fresh, data)

    assert records.fields("compiled module discarded")[0]["file"] == file.name


def test_a_link_is_not_followed(
    engines: Callable[..., Engine], folder: Path, data: bytes, tmp_path: Path, records
) -> None:
    load(engines(folder), data)
    (file,) = files(folder)
    file.rename(tmp_path / "elsewhere")
    file.symlink_to(tmp_path / "elsewhere")

    load(engines(folder), data)

    assert not files(folder)[0].is_symlink()
    assert "compiled module discarded" in records.messages


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda content: content[: len(content) // 2], id="cut in half"),
        pytest.param(lambda _content: b"", id="empty"),
        pytest.param(lambda _content: b"not a module at all", id="something else"),
        pytest.param(lambda content: content[:64] + bytes(64) + content[128:], id="with another beginning"),
    ],
)
def test_a_damaged_file_is_compiled_anew(
    engines: Callable[..., Engine], folder: Path, data: bytes, damage: Callable[[bytes], bytes]
) -> None:
    load(engines(folder), data)
    (file,) = files(folder)
    whole = file.read_bytes()
    file.unlink()  # the first engine runs what is in it
    file.write_bytes(damage(whole))

    load(engines(folder), data)

    assert len(files(folder)[0].read_bytes()) == len(whole)


def test_a_folder_that_cannot_be_had_costs_time_and_nothing_else(
    engines: Callable[..., Engine], tmp_path: Path, data: bytes, records
) -> None:
    (tmp_path / "file").write_text("in the way")

    load(engines(tmp_path / "file"), data)

    assert "module cache disabled" in records.messages


def test_a_folder_that_is_a_link_is_not_used(
    engines: Callable[..., Engine], tmp_path: Path, data: bytes, records
) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")

    load(engines(tmp_path / "link"), data)

    assert "module cache disabled" in records.messages
    assert files(tmp_path / "real") == []


def test_without_a_cache_modules_are_compiled_all_the_same(engines: Callable[..., Engine], data: bytes) -> None:
    load(engines(None), data)


def test_a_disk_without_room_is_named(
    engines: Callable[..., Engine], folder: Path, data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tempfile

    def full(*_args: object, **_kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    engine = engines(folder)
    monkeypatch.setattr(tempfile, "mkdtemp", full)

    assert refusal(engine, data) == "compile wasm: cell.wasm: [Errno 28] No space left on device"


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"PULP_CACHE_DIR": "/given"}, "/given"),
        ({"XDG_CACHE_HOME": "/cache"}, "/cache/pulp/modules"),
        ({"HOME": "/home/me"}, "/home/me/.cache/pulp/modules"),
    ],
    ids=["is the one that was given", "is in the user's cache folder", "is in the usual place"],
)
def test_the_cache(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], expected: str) -> None:
    for name in ("PULP_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    assert default_cache() == Path(expected)


# What is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(b"", "is empty", id="nothing"),
        pytest.param(b"(module)", "is WebAssembly text; translate it with wat2wasm first", id="text"),
        pytest.param(b"\n  (module)", "is WebAssembly text; translate it with wat2wasm first", id="text after a gap"),
        pytest.param(b"\x1f\x8b\x08" + bytes(20), "is compressed with gzip; unpack it first", id="gzip"),
        pytest.param(b"PK\x03\x04" + bytes(20), "is a zip archive; unpack it first", id="zip"),
        pytest.param(
            b"\0asm\x0d\0\x01\0",
            "is a WebAssembly component; cells are core modules, build it without the component step",
            id="a component",
        ),
        pytest.param(b"\0asm\x02\0\0\0", "has an unknown WebAssembly version", id="another version"),
        pytest.param(
            b"\x7fELF" + bytes(20),
            "is a native program, not WebAssembly; build for wasm32-wasi (or GOOS=wasip1 GOARCH=wasm)",
            id="a native program",
        ),
        pytest.param(b"hello world", "is not a WebAssembly module (it begins with b'hello wo')", id="something else"),
    ],
)
def test_threat_26_what_is_not_a_module_is_named(
    engines: Callable[..., Engine], no_children: Callable[[], None], data: bytes, message: str
) -> None:
    engine = engines(None)
    no_children()

    assert refusal(engine, data) == f"compile wasm: cell.wasm {message}"


def test_threat_26_a_file_of_a_gigabyte_is_not_even_looked_at(
    engines: Callable[..., Engine], no_children: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = engines(None)
    no_children()
    monkeypatch.setattr(modules_module, "MAX_MODULE_BYTES", 100)

    assert refusal(engine, b"\0asm\x01\0\0\0" + bytes(93)) == "compile wasm: cell.wasm has 101 bytes; the most is 100"


@pytest.mark.parametrize(
    "tail",
    [
        pytest.param(b"\xff\xff\xff", id="garbage"),
        pytest.param(b"\x01\x80", id="a section that is cut"),
        pytest.param(b"\x0a\x05\x01\x03\x00\x0b\x0b", id="code without types"),
    ],
)
def test_threat_26_an_invalid_module_is_refused_with_the_compilers_reason(
    engines: Callable[..., Engine], folder: Path, tail: bytes
) -> None:
    message = refusal(engines(folder), b"\0asm\x01\0\0\0" + tail)

    assert message.startswith("compile wasm: cell.wasm: ")
    assert "offset" in message or "section" in message
    assert "\n" not in message
    assert files(folder) == []


def test_threat_26_a_module_that_takes_too_long_is_given_up_and_its_compiler_is_ended(
    engines: Callable[..., Engine], data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    children: list[subprocess.Popen[bytes]] = []
    real = subprocess.Popen

    def popen(command: list[str], **kwargs: object) -> subprocess.Popen[bytes]:
        children.append(real([command[0], "-c", "import sys; sys.stdin.read(); input()"], **kwargs))
        monkeypatch.setattr(children[0], "communicate", lambda *_args: timeout())
        return children[0]

    def timeout() -> None:
        raise subprocess.TimeoutExpired("compile", 120)

    monkeypatch.setattr(subprocess, "Popen", popen)

    assert refusal(engines(None), data) == (
        "compile wasm: cell.wasm: still compiling after 120 s; the module is too complex"
    )
    assert children[0].returncode is not None


def test_threat_26_a_compiler_that_is_killed_is_named(
    engines: Callable[..., Engine], data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = subprocess.Popen

    def popen(command: list[str], **kwargs: object) -> subprocess.Popen[bytes]:
        return real([command[0], "-c", "import os; os.kill(os.getpid(), 9)"], **kwargs)

    monkeypatch.setattr(subprocess, "Popen", popen)

    assert refusal(engines(None), data) == "compile wasm: cell.wasm: compiler ended with -9"


def test_threat_26_the_compiler_has_limits(
    engines: Callable[..., Engine], data: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limits are those of `compile.py` itself, seen from inside."""
    import resource

    real, seen = subprocess.Popen, tmp_path / "limits"
    script = (
        "import resource, sys, runpy; from pulp_runtime._kernel import compile as c; "
        f"sys.argv = ['compile', {str(tmp_path / 'result')!r}]; code = c.main(); "
        "kinds = (resource.RLIMIT_CPU, resource.RLIMIT_AS, resource.RLIMIT_CORE); "
        f"open({str(seen)!r}, 'w').write(' '.join(str(resource.getrlimit(kind)[0]) for kind in kinds)); sys.exit(code)"
    )

    def popen(command: list[str], **kwargs: object) -> subprocess.Popen[bytes]:
        return real([command[0], "-P", "-c", script], **kwargs)

    monkeypatch.setattr(subprocess, "Popen", popen)
    with pytest.raises(LoadError):
        load(engines(None), data)  # the result went elsewhere

    cpu, memory, core = map(int, seen.read_text().split())
    assert 0 < cpu <= 120 * (os.cpu_count() or 1)
    assert 0 < memory <= 4 << 30
    assert core == 0
    assert resource.getrlimit(resource.RLIMIT_AS)[0] != memory, "and only the child has them"


def test_threat_44_the_compiler_sees_no_secret_of_the_environment(
    engines: Callable[..., Engine], data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[dict[str, str]] = []
    real = subprocess.Popen

    def popen(command: list[str], **kwargs: object) -> subprocess.Popen[bytes]:
        given.append(kwargs["env"])
        return real(command, **kwargs)

    monkeypatch.setenv("PROJX_AI_KEY", "secret")
    monkeypatch.setattr(subprocess, "Popen", popen)
    load(engines(None), data)

    assert set(given[0]) <= {"PATH", "LD_LIBRARY_PATH", "SYSTEMROOT", "PYTHONPATH"}


@pytest.mark.parametrize("module", ["wasmtime", "resource", "pulp_runtime"])
def test_threat_42_nothing_in_the_current_folder_is_imported(
    engines: Callable[..., Engine], data: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    (tmp_path / f"{module}.py").write_text(f"open({str(tmp_path / 'imported')!r}, 'w')")
    monkeypatch.chdir(tmp_path)

    load(engines(None), data)

    assert not (tmp_path / "imported").exists()
