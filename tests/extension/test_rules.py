"""What an author of an extension relies on, in a host: whatever goes wrong is contained, named, and cleaned up."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pulp_runtime.errors import HostError
from pulp_runtime.ext import Capability, CellRef, Linker, SetupEnv, StepEvent, host_function
from pulp_runtime.host import Host, StartError
from pulp_runtime.testing import guest, words_guest

Make = Callable[..., Host]
Cell = Callable[..., Path]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def cell(tmp_path: Path, wasm: Callable[[str], bytes]) -> Cell:
    """Return `cell(guest, *capabilities, name=…, **settings)`: a folder with a manifest."""

    def cell(guest: str, *capabilities: str, name: str = "lab", more: str = "") -> Path:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "cell.wasm").write_bytes(wasm(guest))
        declared = ", ".join(f'"{one}"' for one in capabilities)
        (folder / "pulp.cell.toml").write_text(f'name = "{name}"\nversion = "1"\ncapabilities = [{declared}]\n{more}')
        return folder

    return cell


@pytest.fixture
def make(cache: Path, tmp_path: Path) -> Make:
    def make(*cells: Path, **settings: object) -> Host:
        return Host(cells, http_port=0, storage_root=tmp_path / "data", cache=cache, grace_seconds=4.0, **settings)

    return make


def serve(host: Host, until: Callable[[], bool]) -> None:
    """Run a host until something has happened."""

    async def main() -> None:
        async with asyncio.timeout(20), host:
            while not until():
                await asyncio.sleep(0.002)

    asyncio.run(main())


def failures(records) -> Iterator[str]:
    return (str(fields["err"]) for fields in records.fields("extension hook failed"))


class Faulty:
    """Posts events; fails in the hooks it is told to."""

    def __init__(self, *fails: str) -> None:
        self.fails = fails
        self.notes: list[str] = []
        self._numbers = iter(range(1, 11))

    def _run(self, hook: str, *about: object) -> None:
        self.notes.append(" ".join(map(str, (hook, *about))))
        if hook in self.fails:
            raise OSError("a bug")

    def setup(self, env: SetupEnv) -> None:
        self._run("setup")

    def poll(self) -> StepEvent | None:
        self._run("poll")
        number = next(self._numbers, None)
        return None if number is None else StepEvent("test.event", b"\xc0", number)

    def finalize(self, number: int) -> None:
        self._run("finalize", number)

    def teardown_cell(self, cell_id: str) -> None:
        self._run("teardown_cell", cell_id)

    def teardown(self) -> None:
        self._run("teardown")

    def count(self, hook: str) -> int:
        return sum(note.startswith(hook) for note in list(self.notes))


@pytest.mark.parametrize("hook", ["poll", "finalize"])
def test_a_hook_that_fails_again_and_again_stops_nothing(make: Make, cell: Cell, records, hook: str) -> None:
    faulty = Faulty(hook)

    serve(
        make(cell("minimal", "test.faulty"), capabilities=[Capability.of("test.faulty", faulty)]),
        lambda: faulty.count(hook) > 3,
    )

    named = "extension hook failed" if hook == "poll" else "extension finalize failed"
    assert named in records.messages
    assert faulty.notes[-2:] == ["teardown_cell lab", "teardown"]


@pytest.mark.parametrize("hook", ["teardown_cell", "teardown"])
def test_a_failing_end_skips_no_other_capability_and_is_named(make: Make, cell: Cell, records, hook: str) -> None:
    faulty, sound = Faulty(hook), Faulty()
    capabilities = [Capability.of("test.sound", sound), Capability.of("test.faulty", faulty)]
    folder = cell("minimal", "test.sound", "test.faulty")

    serve(make(folder, capabilities=capabilities), lambda: faulty.count("finalize") > 0)

    about = " for cell lab" if hook == "teardown_cell" else ""
    assert list(failures(records)) == [f"test.faulty: {hook}{about} failed: OSError: a bug"]
    assert sound.notes[-2:] == ["teardown_cell lab", "teardown"]


def test_a_restart_drops_what_the_cell_owned(make: Make, cell: Cell) -> None:
    faulty = Faulty()
    folder = cell("trap_step", "test.faulty")

    serve(make(folder, capabilities=[Capability.of("test.faulty", faulty)]), lambda: faulty.count("teardown_cell") >= 2)

    assert faulty.notes.index("finalize 1") < faulty.notes.index("teardown_cell lab")
    assert faulty.count("setup") == faulty.count("teardown lab") + 1 == 1


def test_an_extension_that_cannot_bind_fails_its_cells_and_no_others(make: Make, cell: Cell, records) -> None:
    def register(_linker: Linker, _cell: CellRef) -> None:
        raise OSError("a bug")

    def stub(_linker: Linker, _cell: CellRef) -> None: ...

    broken = Capability(name="test.broken", register=register, stub=stub)
    cells = cell("minimal", "test.broken", name="one"), cell("minimal", name="two")

    serve(make(*cells, capabilities=[broken]), lambda: True)

    told = [(fields["cell"], fields["err"]) for fields in records.fields("load failed")]
    assert told == [("one", "test.broken: register for cell one failed: OSError: a bug")]
    assert [fields["cell"] for fields in records.fields("cell ready")] == ["two"]


def test_a_stub_that_cannot_bind_fails_the_cell_it_is_for(make: Make, cell: Cell) -> None:
    def stub(_linker: Linker, _cell: CellRef) -> None:
        raise OSError("a bug")

    broken = Capability(name="test.broken", register=lambda _linker, _cell: None, stub=stub)

    with pytest.raises(StartError):
        asyncio.run(make(cell("minimal"), capabilities=[broken]).start())


class Greeter:
    @host_function
    def demo_greet(self, name: str) -> None:
        if name == "\0":
            raise KeyError("a bug")
        raise HostError(42, "not today")


def in_init(words: tuple[int, int], name: str = "demo_greet") -> str:
    """Return a guest that answers from `pulp_init` with what the import answered."""
    text = words_guest(name, words)
    call = text[text.index(f"(call ${name}") : text.rindex("))")]
    return text.replace(
        '(func (export "pulp_init") (param i32 i32) (result i32) (i32.const 0))',
        f'(func (export "pulp_init") (param i32 i32) (result i32) {call})',
    )


@pytest.mark.parametrize(
    ("declares", "words", "code"),
    [
        pytest.param(["demo.greet"], (0, 0), 42, id="a code of its own reaches the guest"),
        pytest.param(["demo.greet"], (0, 1), 99, id="a bug is 99"),
        pytest.param([], (0, 0), 99, id="undeclared is 99"),
    ],
)
def test_a_guest_is_answered(
    make: Make, cell: Cell, records, declares: list[str], words: tuple[int, int], code: int
) -> None:
    capabilities = [Capability.of("demo.greet", Greeter())]

    with pytest.raises(StartError):
        asyncio.run(make(cell(in_init(words), *declares), capabilities=capabilities).start())

    assert [fields["err"] for fields in records.fields("init failed")] == [f"pulp_init returned {code}"]
    bugs = [fields["function"] for fields in records.fields("host function failed")]
    assert bugs == (["demo_greet"] if declares and code == 99 else [])


def test_an_import_nobody_owns_is_refused_with_the_nearest(make: Make, cell: Cell, records) -> None:
    capabilities = [Capability.of("demo.greet", Greeter())]

    with pytest.raises(StartError):
        asyncio.run(make(cell(guest({"demo_gret": 2})), capabilities=capabilities).start())

    assert str(records.fields("load failed")[0]["err"]).endswith(
        '"demo_gret" is not exported in module "pulp"; did you mean demo_greet?'
    )


# Installed packages -------------------------------------------------------------------------------------------------

CODE = """
from pulp_runtime.ext import Capability, host_function

class Owner:
    @host_function
    def {function}(self) -> None: ...

def capability():
    return Capability.of("{name}", Owner())
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Return `install(package, capability)`: what an installer leaves behind, and the name of its module."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))

    def install(package: str, name: str) -> str:
        module = package.replace("-", "_")
        (folder / f"{module}.py").write_text(CODE.format(name=name, function=f"{module}_do"))
        about = folder / f"{module}-1.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1\n")
        (about / "entry_points.txt").write_text(f"[pulp.capabilities]\n{name} = {module}:capability\n")
        monkeypatch.delitem(sys.modules, module, raising=False)
        return module

    return install


def test_a_host_imports_only_what_its_cells_declare(make: Make, cell: Cell, install: Callable[..., str]) -> None:
    wanted, other = install("lab-wanted", "test.wanted"), install("lab-other", "test.other")

    serve(make(cell(guest({"lab_wanted_do": 0}), "test.wanted")), lambda: True)

    assert wanted in sys.modules
    assert other not in sys.modules


def test_an_import_of_an_installed_package_is_99_until_it_is_declared(
    make: Make, cell: Cell, install: Callable[..., str], records
) -> None:
    install("lab-owner", "test.owner")

    with pytest.raises(StartError):
        asyncio.run(make(cell(in_init((), "lab_owner_do"))).start())

    assert [fields["err"] for fields in records.fields("init failed")] == ["pulp_init returned 99"]


def test_two_packages_of_one_name_stop_the_host_that_needs_it_and_no_other(
    make: Make, cell: Cell, install: Callable[..., str]
) -> None:
    install("lab-one", "test.same"), install("lab-two", "test.same")

    serve(make(cell("minimal", name="bystander")), lambda: True)
    with pytest.raises(StartError, match="lab_one:capability of lab-one and lab_two:capability of lab-two"):
        asyncio.run(make(cell("minimal", "test.same")).start())


def test_a_package_over_a_built_in_name_is_ignored_and_said_to_be(
    make: Make, cell: Cell, install: Callable[..., str], records
) -> None:
    for package, name in (("lab-http", "transport.http.inbound"), ("lab-log", "core.log")):
        install(package, name)

    serve(make(cell(guest({"log_write": 3}), "core.log")), lambda: True)
    with pytest.raises(StartError):
        asyncio.run(make(cell("unknown_import", name="asks")).start())

    told = [fields["capability"] for fields in records.fields("extension ignored")]
    assert {"transport.http.inbound", "core.log"} <= set(told)
    assert {"lab_http", "lab_log"}.isdisjoint(sys.modules)
