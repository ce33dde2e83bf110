"""Applications: placements, the addresses they are called at, what each of them owns (spec/core §2.2, §7)."""

from __future__ import annotations

import hashlib
import json
import struct
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from pulp_runtime import Host, StartError
from pulp_runtime.capabilities.storage.place import cell_folder
from pulp_runtime.errors import CallRefused, CellTrap, Errno, ManifestError, OperationFailed
from pulp_runtime.ext import Capability, CellRef, Posted, Scope, SetupEnv, StepEvent

from .conftest import COMMAND

HERE = Path(__file__).parent
TOLD = 'provides = ["config", "last", "write", "get", "trap"]\ncapabilities = ["storage.fs"]'
TWO = '[[cell_placements]]\ncell = "b"\ninstances = ["x", "y"]\n'


def call_of(target: str, function: bytes, args: bytes = b"") -> bytes:
    return bytes([len(target)]) + target.encode() + bytes([len(function)]) + function + args


def code_and_response(answer: bytes) -> tuple[int, bytes]:
    return struct.unpack_from("<I", answer)[0], answer[4:]


@pytest.fixture
def sibling(cell: Callable[..., Path], wasm: Callable[[str], bytes]) -> Callable[..., Path]:
    """Return `sibling(name, manifest lines…)`: a cell of `sibling.wat`, which calls others."""
    return lambda name, *lines: cell(wasm((HERE / "sibling.wat").read_text()), *lines, name=name)


@pytest.fixture
def placed(cell: Callable[..., Path], wasm: Callable[[str], bytes]) -> Callable[..., Path]:
    """Return `placed(name, manifest lines…)`: a cell of `placed.wat`, which tells about itself."""
    return lambda name, *lines: cell(wasm((HERE / "placed.wat").read_text()), *(lines or (TOLD,)), name=name)


@pytest.fixture
def app(tmp_path: Path) -> Callable[..., Path]:
    """Return `app(cells…, lines="")`: the manifest of an application of these cells, called shop."""

    def app(*cells: Path, lines: str = "") -> Path:
        paths = json.dumps([f"{one.name}/pulp.cell.toml" for one in cells])
        (tmp_path / "pulp.app.toml").write_text(f'name = "shop"\nversion = "1"\ncells = {paths}\n{lines}')
        return tmp_path / "pulp.app.toml"

    return app


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., Host]:
    return lambda path, **more: Host(app=path, storage_root=tmp_path / "data", http_port="127.0.0.1:0", **more)


def do(host: Host, operation: str, address: str) -> object:
    return host._thread.run(getattr(host.operations, operation)(address))


class Watcher:
    """`test.watch`: remembers what it is told, and posts what the test wants."""

    def __init__(self, *, scoped: bool = True, keeps: bool = False) -> None:
        self.env: SetupEnv | None = None
        self.refs: dict[str, CellRef] = {}
        self.gone: list[str] = []
        self.swapped: list[tuple[object, ...]] = []
        self.ended: list[object] = []
        self.capability = Capability(
            name="test.watch",
            register=lambda _linker, cell: self.refs.update({cell.address: cell}),
            setup=lambda env: setattr(self, "env", env),
            teardown_cell=self.gone.append,
            swap_begin=(lambda *told: self.swapped.append(told)) if keeps else None,
            swap_end=(lambda *told: self.swapped.append(told)) if keeps else None,
            teardown=lambda: self.ended.append("teardown"),
            teardown_scope=self.ended.append if scoped else None,
        )

    def post(self, target: str, text: str = "hello") -> Posted:
        return self.env.post(StepEvent("test", msgspec.msgpack.encode(text), 1, target))


def last_of(host: Host, address: str, text: str, seconds: float = 10) -> bool:
    """Tell whether the latest event of a placement comes to be this one."""
    end = time.monotonic() + seconds
    while not host.call(address, "last").endswith(msgspec.msgpack.encode(text)):
        if time.monotonic() > end:
            return False
        time.sleep(0.002)
    return True


WATCHED = TOLD.replace('"storage.fs"', '"storage.fs", "test.watch"')


# Addresses ------------------------------------------------------------------------------------------------------------


def test_a_cell_calls_each_placement_at_its_address(sibling, app, start) -> None:
    a = sibling("a", 'provides = ["relay"]\nconsumes = ["echo"]')
    b = sibling("b", 'provides = ["echo"]')
    with start(app(a, b, lines=TWO)) as host:
        assert list(host.status()) == ["a", "b@x", "b@y"]
        for target in ("b@x", "b@y"):
            assert code_and_response(host.call("a", "relay", call_of(target, b"echo", b"hi"))) == (0, b"hi")


@pytest.mark.parametrize("target", ["b", "b@z", "b@", "b@X", "a@primary", "@x"])
def test_threat_30_only_the_exact_address_of_a_placement_is_called(sibling, app, start, records, target: str) -> None:
    a = sibling("a", 'provides = ["relay"]\nconsumes = ["echo"]')
    b = sibling("b", 'provides = ["echo"]')
    with start(app(a, b, lines=TWO)) as host:
        assert code_and_response(host.call("a", "relay", call_of(target, b"echo"))) == (Errno.DENIED, b"")
    assert records.fields("pulp_call denied by manifest")[0].items() >= {"cell": "a", "target": target}.items()


def test_threat_30_a_placement_may_do_what_its_cells_manifest_says_and_no_more(sibling, app, start, records) -> None:
    a = sibling("a", 'provides = ["echo"]')
    b = sibling("b", 'provides = ["relay", "echo.b"]\nconsumes = ["echo", "echo.b"]')
    with start(app(a, b, lines=TWO)) as host:
        for one, other in (("b@x", "b@y"), ("b@y", "b@x")):
            assert code_and_response(host.call(one, "relay", call_of("a", b"echo", b"1"))) == (0, b"1")
            assert code_and_response(host.call(one, "relay", call_of(other, b"echo.b", b"2"))) == (0, b"2")
            assert code_and_response(host.call(one, "relay", call_of(one, b"echo.b"))) == (Errno.LOOP, b"")
            assert code_and_response(host.call(one, "relay", call_of(other, b"relay"))) == (Errno.DENIED, b"")
    assert [fields["cell"] for fields in records.fields("pulp_call denied by manifest")] == ["b@x", "b@y"]


def test_a_cell_with_one_placement_is_called_by_its_name_whatever_its_instance_is_called(sibling, app, start) -> None:
    a = sibling("a", 'provides = ["relay"]\nconsumes = ["echo"]')
    lines = '[[cell_placements]]\ncell = "b"\ninstances = ["main"]\n'
    with start(app(a, sibling("b", 'provides = ["echo"]'), lines=lines)) as host:
        assert code_and_response(host.call("a", "relay", call_of("b", b"echo", b"1"))) == (0, b"1")
        assert code_and_response(host.call("a", "relay", call_of("b@main", b"echo")))[0] == Errno.DENIED


def test_a_program_asks_placements_by_address(placed, app, start) -> None:
    with start(app(placed("b"), lines=TWO)) as host:
        assert host.call("b@x", "config") == b""
        with pytest.raises(CallRefused, match="no cell 'b' here; there are b@x, b@y"):
            host.call("b", "config")


# What a placement owns ------------------------------------------------------------------------------------------------


def test_one_placement_that_traps_leaves_the_other_alone(placed, app, start, records) -> None:
    with start(app(placed("b"), lines=TWO)) as host:
        with pytest.raises(CellTrap):
            host.call("b@x", "trap")
        end = time.monotonic() + 10
        while host.status()["b@x"].restarts != 1:
            assert time.monotonic() < end
            time.sleep(0.002)
        assert host.status()["b@y"].restarts == 0
    assert [fields["cell"] for fields in records.fields("cell RE-INSTANTIATED after trap")] == ["b@x"]


def test_threat_47_placements_of_one_cell_keep_their_files_apart(placed, app, start, tmp_path: Path) -> None:
    path = app(placed("a"), placed("b"), lines=TWO)
    for life in range(2):
        with start(path) as host:
            for address in ("a", "b@x", "b@y"):
                if life:
                    assert host.call(address, "get") == address.encode()
                else:
                    assert host.call(address, "write", address.encode()) == bytes(4)
    found = {str(file.relative_to(tmp_path / "data")): file.read_text() for file in (tmp_path / "data").rglob("f")}
    assert found == {"a/f": "a", "b@x/f": "b@x", "b@y/f": "b@y"}


def test_an_operator_can_put_the_files_of_one_placement_elsewhere(placed, app, start, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("PULP_FS_ROOT_B_X", str(tmp_path / "elsewhere"))
    with start(app(placed("b"), lines=TWO)) as host:
        for address in ("b@x", "b@y"):
            assert host.call(address, "write", address.encode()) == bytes(4)
    assert (tmp_path / "elsewhere/f").read_text() == "b@x"
    assert (tmp_path / "data/b@y/f").read_text() == "b@y"


def test_the_module_of_all_placements_is_kept_once(placed, app, start) -> None:
    with start(app(placed("b"), lines=TWO)) as host:
        one, other = host._application.fleet.versions.values()
        assert one.wasm is other.wasm


def test_threat_47_placements_of_one_cell_have_databases_of_their_own(placed, app, start, tmp_path: Path) -> None:
    watcher = Watcher()
    path = app(placed("a", WATCHED), placed("b", WATCHED), lines=TWO)
    with start(path, capabilities=[watcher.capability]):
        folders = {address: cell_folder(watcher.env, ref) for address, ref in watcher.refs.items()}
    assert folders == {address: tmp_path / "data" / address for address in ("a", "b@x", "b@y")}


def test_config_of_the_application_reaches_the_guest_on_top_of_its_own(placed, app, start) -> None:
    lines = TWO + "[cell_placements.config]\nsize = 2\ndeep = { b = 3 }\n"
    own = "[config]\nsize = 1\nname = 'own'\ndeep = { a = 1, b = 2 }"
    with start(app(placed("b", TOLD, own), lines=lines)) as host:
        for address in ("b@x", "b@y"):
            config = msgspec.msgpack.decode(host.call(address, "config"))
            assert config == {"size": 2, "name": "own", "deep": {"a": 1, "b": 3}}


def test_the_orchestrator_is_given_its_pinned_script(placed, app, start, tmp_path: Path, records) -> None:
    (tmp_path / "main.lua").write_text("return 42\n")
    digest = hashlib.sha256(b"return 42\n").hexdigest()
    lines = f'[orchestrator]\nmanifest = "lead/pulp.cell.toml"\nscript = "main.lua"\nsha256 = "{digest}"\n'
    with start(app(placed("lead"), lines=lines)) as host:
        assert msgspec.msgpack.decode(host.call("lead", "config")) == {"script": "return 42\n"}
    told = records.fields("pulp application")[0]
    assert told.items() >= {"name": "shop", "orchestrator": "lead", "script_sha256": digest}.items()


def test_an_extension_sees_scope_and_address_of_each_placement(placed, app, start) -> None:
    watcher = Watcher()
    path = app(placed("a", WATCHED), placed("b", WATCHED), lines=TWO)
    with start(path, capabilities=[watcher.capability]):
        assert watcher.env.scope == Scope("shop", "default", "host", "primary")
        assert watcher.refs["a"].scope == Scope("shop", "default", "a", "primary")
        assert watcher.refs["a"].id == "a"
        assert watcher.refs["b@y"].scope == Scope("shop", "default", "b", "y")
        assert watcher.refs["b@y"].id == "pulp-scope/v1/4:shop|7:default|1:b|1:y"
        assert watcher.env.storage_namespaces == {watcher.refs[one].id: one for one in ("b@x", "b@y")}
    assert watcher.ended == [watcher.env.scope]
    assert watcher.gone == [watcher.refs[one].id for one in ("b@y", "b@x", "a")]


def test_without_a_hook_for_scopes_an_extension_is_torn_down_as_a_whole(placed, app, start) -> None:
    watcher = Watcher(scoped=False)
    with start(app(placed("a", WATCHED)), capabilities=[watcher.capability]):
        assert watcher.ended == []
    assert watcher.ended == ["teardown"]


# Events ---------------------------------------------------------------------------------------------------------------


def test_an_event_reaches_the_placement_it_names_and_no_other(placed, app, start) -> None:
    watcher = Watcher()
    path = app(placed("a", WATCHED), placed("b", WATCHED), lines=TWO)
    with start(path, capabilities=[watcher.capability]) as host:
        for address in ("b@y", "b@x", "a"):
            assert watcher.post(watcher.refs[address].id, address) is Posted.ACCEPTED
            assert last_of(host, address, address)
        assert watcher.post(watcher.refs["a"].scope.routing_id, "by scope") is Posted.ACCEPTED
        assert last_of(host, "a", "by scope")
        assert host.call("b@x", "last").endswith(b"b@x")


def test_an_event_that_could_mean_several_is_refused_and_told(placed, app, start, records) -> None:
    watcher = Watcher()
    path = app(placed("a"), placed("b", WATCHED), lines=TWO)
    with start(path, capabilities=[watcher.capability]) as host:
        for target in ("", "b", "b@x", "nobody", "a"):
            assert watcher.post(target) is Posted.CLOSED
        told = [fields["target"] for fields in records.fields("application event rejected")]
        assert told == ["", "b", "b@x", "nobody", "a"]
        do(host, "stop", "b@x")
        assert watcher.post("", "the only one") is Posted.ACCEPTED
        assert last_of(host, "b@y", "the only one")


def test_threat_39_two_placements_cannot_have_the_same_route(lab, app, start, records) -> None:
    one = lab()
    with start(app(one)) as host:
        assert host.url
    with pytest.raises(StartError, match='cell "lab@2" failed to start'):
        start(app(one, lines='[[cell_placements]]\ncell = "lab"\ncount = 2\n')).__enter__()


# Start and stop -------------------------------------------------------------------------------------------------------


def test_placements_start_one_after_the_other_in_their_order(placed, app, start, records) -> None:
    cells = [placed("a", TOLD, 'depends_on = ["b"]'), placed("b"), placed("c")]
    with start(app(*cells, lines=TWO)):
        pass
    order = ["b@x", "b@y", "c", "a"]
    assert [fields["cell"] for fields in records.fields("cell ready")] == order
    assert [fields["cell"] for fields in records.fields("shutdown complete")] == order[::-1]
    assert records.fields("pulp application ready") == [{"name": "shop", "placements": 4}]
    assert "pulp boot" not in records.messages


def test_an_application_starts_whole_or_not_at_all(placed, cell, app, start, records) -> None:
    cells = [placed("a"), cell("refuse_init", name="bad"), placed("c")]
    host = start(app(*cells))
    with pytest.raises(StartError, match='cell "bad" failed to start: pulp_init returned'):
        host.__enter__()

    assert [fields["cell"] for fields in records.fields("cell ready")] == ["a"]
    assert [fields["cell"] for fields in records.fields("shutdown complete")] == ["a"]
    assert host.status() == {}


def test_a_goodbye_that_goes_wrong_is_kept_for_whoever_asks(placed, cell, app, start) -> None:
    with start(app(placed("a"), cell("refuse_shutdown", name="bad"))) as host:
        assert host.unclean == ()
    assert host.unclean == ("cell bad: pulp_shutdown returned 3",)


def test_an_application_is_not_mixed_with_cells(placed, app, start) -> None:
    a = placed("a")
    with pytest.raises(ManifestError, match="an application runs alone; give either cells or app"):
        Host([a], app=app(a))


def test_threat_42_bytes_that_changed_after_they_were_checked_do_not_run(placed, app, start) -> None:
    b = placed("b")
    digest = hashlib.sha256((b / "cell.wasm").read_bytes()).hexdigest()
    (b / "pulp.cell.toml").write_text((b / "pulp.cell.toml").read_text() + f'\nwasm_sha256 = "{digest}"\n')
    host = start(app(b, lines="require_wasm_sha256 = true\n"))
    (b / "cell.wasm").write_bytes((b / "cell.wasm").read_bytes() + b"\0\1\0")

    with pytest.raises(StartError, match="WASM SHA-256 mismatch"):
        host.__enter__()


# Operations -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def running(placed, app, start) -> SimpleNamespace:
    path = app(placed("a", WATCHED), placed("b", WATCHED), lines=TWO)
    watcher = Watcher()
    with start(path, capabilities=[watcher.capability]) as host:
        yield SimpleNamespace(host=host, path=path, cell=path.parent / "b" / "pulp.cell.toml", watcher=watcher)


def test_one_placement_is_stopped_and_started_by_its_address(running) -> None:
    host = running.host
    do(host, "stop", "b@x")
    assert {name: cell.state for name, cell in host.status().items()} == {
        "a": "ready",
        "b@x": "stopped",
        "b@y": "ready",
    }
    assert running.watcher.gone == [running.watcher.refs["b@x"].id]
    with pytest.raises(OperationFailed, match='cell "b@x" already stopped'):
        do(host, "stop", "b@x")
    do(host, "start", "b@x")
    assert host.status()["b@x"].state == "ready"


def test_the_name_of_a_cell_with_several_placements_is_answered_with_their_addresses(running) -> None:
    with pytest.raises(OperationFailed, match=r'^unknown cell: "b"; it runs as b@x, b@y$'):
        do(running.host, "reload", "b")
    with pytest.raises(OperationFailed, match=r'^unknown cell: "c"$'):
        do(running.host, "reload", "c")


def test_what_one_placement_owns_passes_to_its_new_version(placed, app, start) -> None:
    watcher, keeper = Watcher(), Watcher(keeps=True)
    keeper.capability = replace(keeper.capability, name="test.keep")
    declared = WATCHED.replace('"test.watch"', '"test.watch", "test.keep"')
    path = app(placed("b", declared), lines=TWO)
    with start(path, capabilities=[watcher.capability, keeper.capability]) as host:
        host.call("b@x", "write", b"before")
        do(host, "reload", "b@x")
        target = watcher.refs["b@x"].id
        assert keeper.swapped == [(target,), (target, True)]
        assert keeper.gone == []
        assert watcher.gone == [target]
        assert host.call("b@x", "get") == b"before"
        host.call("b@x", "write", b"after")
        host.call("b@y", "write", b"other")
        assert host.call("b@x", "get") == b"after"


def test_one_placement_is_restarted_and_the_other_keeps_its_instance(running) -> None:
    before = {address: running.host._runners()[address].cell for address in ("b@x", "b@y")}
    do(running.host, "restart", "b@x")
    assert running.host._runners()["b@x"].cell is not before["b@x"]
    assert running.host._runners()["b@y"].cell is before["b@y"]


def test_a_reload_takes_what_both_manifests_say_now_for_that_placement_alone(running, records) -> None:
    host = running.host
    running.cell.write_text(running.cell.read_text().replace('"get"', '"get", "new"') + "\n[config]\nown = 1\n")
    running.path.write_text(running.path.read_text() + "config = { added = 2 }\n")

    assert do(host, "reload", "b@y") == ("+ provides: new",)
    assert msgspec.msgpack.decode(host.call("b@y", "config")) == {"own": 1, "added": 2}
    assert host.call("b@x", "config") == b""
    with pytest.raises(CallRefused, match="does not provide 'new'"):
        host.call("b@x", "new")
    assert [fields["cell"] for fields in records.fields("cell reloaded")] == ["b@y"]
    do(host, "rollback", "b@y")
    assert host.call("b@y", "config") == b""
    with pytest.raises(OperationFailed, match='cell "b@x" has run no other version'):
        do(host, "rollback", "b@x")


def test_events_and_calls_reach_a_reloaded_placement(running) -> None:
    do(running.host, "reload", "b@x")
    assert running.watcher.post(running.watcher.refs["b@x"].id, "after") is Posted.ACCEPTED
    assert last_of(running.host, "b@x", "after")


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('"x", "y"', '"y", "z"', "the placements of cell"),
        ('"shop"', '"stop"', "names last as long as the host"),
        (', "b/pulp.cell.toml"', "", "is no longer in cells"),
        ("[[cell_placements]]", "require_wasm_sha256 = true\n[[cell_placements]]", "wasm_sha256 is required by"),
        ("version", "versoin", "write version instead of versoin"),
    ],
)
def test_a_reload_that_the_application_does_not_allow_changes_nothing(running, old: str, new: str, told: str) -> None:
    before = running.host._runners()["b@x"].cell
    running.path.write_text(running.path.read_text().replace(old, new))

    with pytest.raises(OperationFailed, match=told):
        do(running.host, "reload", "b@x")
    assert running.host._runners()["b@x"].cell is before


def test_a_reload_is_checked_against_the_set_in_which_placements_of_one_cell_count_once(sibling, app, start) -> None:
    a = sibling("a", 'provides = ["relay"]\nconsumes = ["echo"]')
    b = sibling("b", 'provides = ["echo"]')
    manifest = b / "pulp.cell.toml"
    before = manifest.read_text()
    with start(app(a, b, lines=TWO)) as host:
        manifest.write_text(before.replace("provides", 'consumes = ["relay"]\nprovides'))
        assert do(host, "reload", "b@x") == ("+ consumes: relay",)
        manifest.write_text(before.replace("provides", 'consumes = ["gone"]\nprovides'))
        with pytest.raises(OperationFailed, match="no cell provides that exact provider"):
            do(host, "reload", "b@y")
        assert code_and_response(host.call("a", "relay", call_of("b@y", b"echo", b"1"))) == (0, b"1")


def test_another_name_in_a_cells_manifest_is_refused(running) -> None:
    running.cell.write_text(running.cell.read_text().replace('name = "b"', 'name = "z"'))

    with pytest.raises(OperationFailed, match='name = "z" now'):
        do(running.host, "reload", "b@x")


# The command ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("form", ["run the folder", "run the manifest", "-app", "--app="])
def test_the_command_runs_an_application(placed, app, pulp, form: str) -> None:
    path = app(placed("b"), lines=TWO)
    arguments = {
        "run the folder": ["run", path.parent],
        "run the manifest": ["run", path],
        "-app": ["-app", path],
        "--app=": [f"--app={path.parent}"],
    }
    host = pulp(*arguments[form])
    line = host.wait_for('msg="pulp application"')
    assert f"name=shop version=1 manifest={path}" in line
    assert "orchestrator" not in line
    assert "name=shop placements=2" in host.wait_for('msg="pulp application ready"')
    assert host.stop() == 0
    assert "pulp exit clean" not in host.log
    assert host.failures == []


@pytest.mark.slow
def test_the_control_socket_knows_placements_by_their_addresses(placed, app, pulp, tmp_path: Path) -> None:
    path = app(placed("a"), placed("b"), lines=TWO)
    host = pulp("run", path)
    host.wait_for("control socket listening")

    def ctl(*words: str) -> str:
        command = [*COMMAND, "ctl", *words, "--socket", str(tmp_path / "pulp.ctl")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.stdout + done.stderr

    assert [line.split()[:2] for line in ctl("status").splitlines()[1:]] == [
        ["a", "ready"],
        ["b@x", "ready"],
        ["b@y", "ready"],
    ]
    assert ctl("call", "b@x", "write", "text") == "\0\0\0\0"
    assert ctl("call", "b@x", "get") == "text"
    assert ctl("reload", "b@x") == "ok\n"
    assert ctl("shutdown", "b@y") == "ok\n"
    assert "cell=b@y" in ctl("logs", "b@y")
    assert "it runs as b@x, b@y" in ctl("restart", "b")
    ctl("shutdown_all")
    assert host.end() == 0


@pytest.mark.slow
def test_a_placement_that_does_not_start_ends_the_command_with_1(placed, cell, app, pulp) -> None:
    host = pulp("-app", app(placed("a"), cell("refuse_init", name="bad")))

    assert host.end() == 1
    assert host.wait_for('msg="application failed to start" err=.*cell .*bad.* failed to start: pulp_init returned')


@pytest.mark.slow
def test_a_goodbye_that_goes_wrong_ends_the_command_with_1(placed, cell, app, pulp) -> None:
    host = pulp("-app", app(placed("a"), cell("refuse_shutdown", name="bad")))
    host.wait_for("pulp application ready")

    assert host.stop() == 1
    assert host.wait_for('msg="application shutdown failed" err="cell bad: pulp_shutdown returned')


@pytest.mark.slow
def test_an_application_and_cells_in_one_command_make_no_sense(placed, app, pulp) -> None:
    a = placed("a")
    path = app(a)
    mixed = pulp("run", a, path.parent)
    assert mixed.end() == 2
    assert "is an application, which runs alone: pulp run" in mixed.wait_for("invalid runtime input")

    both = pulp("-app", path, "-manifest", a / "pulp.cell.toml")
    assert both.end() == 2
    assert "-host, -app, and -manifest are mutually exclusive" in both.wait_for("invalid runtime input")


@pytest.mark.slow
def test_an_application_that_cannot_be_read_ends_the_command_with_1(placed, app, pulp) -> None:
    path = app(placed("a"), lines="nonsense = 1\n")
    host = pulp("run", path)

    assert host.end() == 1
    assert "unknown manifest fields: nonsense" in host.wait_for("manifest load failed")
