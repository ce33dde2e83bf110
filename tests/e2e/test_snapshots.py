"""A cell goes on exactly where it was: after a restart of the host, a reload, a crash of the host; or begins afresh."""

from __future__ import annotations

import http.client
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pulp_runtime import Host
from pulp_runtime.errors import OperationFailed
from pulp_runtime.ext import Capability
from pulp_runtime.host import StartError

from .conftest import COMMAND, ROOT

COUNTS = """(module
  (memory (export "memory") {pages})
  (global $count (mut i32) (i32.const 0)) (global $inits (mut i32) (i32.const 0))
  (global $woken (mut i32) (i32.const 0))
  (func (export "pulp_alloc") (param i32) (result i32) (i32.const 1024))
  (func (export "pulp_init") (param i32 i32) (result i32)
    (global.set $inits (i32.add (global.get $inits) (i32.const 1))) {init} (i32.const 0))
  (func (export "pulp_step") (param i32 i32) (result i32) (i32.const 0))
  (func (export "pulp_restored") (result i32)
    (global.set $woken (i32.add (global.get $woken) (i32.const 1))) (i32.const {restored}))
  (func (export "pulp_on_call") (param $name i32) (param i32 i32) (param $args i32) (param $out i32) (param $len i32)
      (result i32)
    (if (i32.eq (local.get $args) (i32.const 13)) (then unreachable))
    (global.set $count (i32.add (global.get $count) (i32.const 1)))
    (i32.store8 (i32.const 512) (global.get $count))
    (i32.store8 (i32.const 513) (global.get $inits))
    (i32.store8 (i32.const 514) (global.get $woken))
    (i32.store (local.get $out) (i32.const 512))
    (i32.store (local.get $len) (i32.const 3))
    (i32.const 0))
  (func (export "pulp_shutdown") (result i32) (i32.const 0)))"""


def counts(*, pages: int = 1, init: str = "", restored: int = 0) -> str:
    return COUNTS.format(pages=pages, init=init, restored=restored)


class Stage:
    """One cell that counts how often it is called, in hosts one after the other."""

    def __init__(self, folder: Path, root: Path, wasm: Callable[[str], bytes]) -> None:
        self.folder, self.root, self._wasm = folder, root, wasm
        self.host: Host | None = None

    def write(self, text: str) -> None:
        (self.folder / "cell.wasm").write_bytes(self._wasm(text))

    def say(self, *lines: str) -> None:
        manifest = ('name = "counts"', 'version = "1"', 'provides = ["next"]', "snapshotable = true", *lines)
        (self.folder / "pulp.cell.toml").write_text("\n".join(manifest))

    @contextmanager
    def running(self, *more: Path, **options: Any) -> Iterator[Host]:
        with Host([self.folder, *more], storage_root=self.root, **options) as host:
            self.host = host
            yield host

    def do(self, operation: str, *args: str) -> Any:
        assert self.host is not None
        assert self.host._thread is not None
        return self.host._thread.run(getattr(self.host.operations, operation)("counts", *args))

    def next(self, cell: str = "counts") -> tuple[int, int, int]:
        """Return how often the cell was called, initialised and woken."""
        assert self.host is not None
        called, inits, woken = self.host.call(cell, "next")
        return called, inits, woken

    @property
    def files(self) -> list[Path]:
        return sorted((self.root / "counts" / ".pulp-snapshots").glob("*.pulpsnap"))


@pytest.fixture
def stage(tmp_path: Path, wasm: Callable[[str], bytes]) -> Stage:
    folder = tmp_path / "counts"
    folder.mkdir()
    stage = Stage(folder, tmp_path / "data", wasm)
    stage.write(counts())
    stage.say()
    return stage


# Whole hosts, as their users run them -------------------------------------------------------------------------------


def test_a_c_cell_goes_on_after_a_restart_with_its_heap_its_stack_and_its_routes(serve) -> None:
    host = serve(ROOT / "examples/visits/c")
    assert [host.request("POST", "/visits") for _ in range(3)][-1] == (200, b"3 14 0")
    assert host.stop() == 0
    assert 'msg="snapshot taken" cell=visits' in host.log
    assert "shutdown complete" not in host.log  # it has not ended, it sleeps

    again = serve(ROOT / "examples/visits/c")
    assert again.request("GET", "/visits") == (200, b"3 14 1")
    assert again.request("POST", "/visits") == (200, b"4 30 1")
    assert "init complete" not in again.log
    assert again.failures == []


@pytest.mark.slow
def test_a_go_cell_goes_on_with_its_goroutines_maps_and_timers(serve) -> None:
    host = serve(ROOT / "examples/visits/go")
    for name in ("ada", "grace", "ada"):
        host.request("POST", f"/visits/{name}")
    time.sleep(1.5)  # how far the clock of the second instance would be behind if it began anew
    host.request("POST", "/alarms/300")
    assert host.stop() == 0

    again = serve(ROOT / "examples/visits/go")
    assert again.request("GET", "/visits/ada") == (200, b"2 of 3")
    assert again.request("POST", "/visits/grace") == (200, b"2 of 4")
    assert again.request("GET", "/alarms") == (200, b"0 rung, 1 times restored")
    end = time.monotonic() + 1.2
    while (rung := again.request("GET", "/alarms")[1]) != b"1 rung, 1 times restored":
        assert time.monotonic() < end, rung
    for number in range(200):
        assert again.request("POST", "/visits/alan")[1] == f"{number + 1} of {number + 5}".encode()
    assert again.failures == []


def test_after_kill_9_a_cell_goes_on_from_the_last_snapshot(serve, environment, tmp_path: Path) -> None:
    host = serve(ROOT / "examples/visits/c")
    host.request("POST", "/visits")
    host.wait_for("control socket listening")
    told = subprocess.run(
        [*COMMAND, "ctl", "snapshot", "visits"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert told.returncode == 0, told.stderr
    assert ".pulpsnap (" in told.stdout
    host.request("POST", "/visits")
    host.kill()

    again = serve(ROOT / "examples/visits/c")
    assert again.request("GET", "/visits") == (200, b"1 1 1")  # what came after the snapshot is lost


RANDOM = """
    (global.set $count (i32.const 40))
    (drop (call $random (i32.const 65536) (i32.const {bytes})))"""


@pytest.mark.slow
def test_kill_9_in_the_middle_of_a_snapshot_leaves_the_one_before(
    serve, cell: Callable[..., Path], wasm: Callable[[str], bytes], environment, tmp_path: Path
) -> None:
    pages = 1_600  # 100 MiB that cannot be compressed: writing takes a while
    text = counts(pages=pages, init=RANDOM.format(bytes=(pages - 1) * 65_536)).replace(
        "(module", '(module (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))'
    )
    folder = cell(wasm(text), 'provides = ["next"]', "snapshotable = true", name="counts")
    ctl = [*COMMAND, "ctl"]
    host = serve(folder)
    host.wait_for("control socket listening")
    subprocess.run([*ctl, "snapshot", "counts"], cwd=tmp_path, env=environment, check=True, capture_output=True)
    subprocess.run([*ctl, "call", "counts", "next"], cwd=tmp_path, env=environment, check=True, capture_output=True)
    shelf = tmp_path / "data" / "counts" / ".pulp-snapshots"
    before = sorted(shelf.iterdir())
    asking = subprocess.Popen([*ctl, "snapshot", "counts"], cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 20
    while len(found := sorted(shelf.iterdir())) == len(before):
        assert time.monotonic() < end
    host.kill()
    asking.wait(20)
    begun = [path.name for path in found if path not in before]
    assert begun[0].startswith(".pulp-"), "it was killed too late to tell anything"

    again = serve(folder)
    again.wait_for('msg="cell goes on from a snapshot"')
    again.wait_for("control socket listening")
    told = subprocess.run([*ctl, "call", "counts", "next"], cwd=tmp_path, env=environment, capture_output=True)
    assert told.stdout == bytes((41, 1, 1))


# What is used, and what is not --------------------------------------------------------------------------------------


def test_call_numbers_go_on(stage: Stage) -> None:
    stage.say("tick_ms = 5")
    with stage.running() as host:
        while host.status()["counts"].steps < 5:
            time.sleep(0.005)
    with stage.running() as host:
        assert host.status()["counts"].steps >= 5


def test_a_cell_that_is_not_snapshotable_keeps_nothing(stage: Stage) -> None:
    (stage.folder / "pulp.cell.toml").write_text('name = "counts"\nversion = "1"\nprovides = ["next"]')
    with stage.running():
        assert stage.next() == (1, 1, 0)
        with pytest.raises(OperationFailed, match="not snapshotable; write snapshotable = true"):
            stage.do("snapshot")
    assert not stage.root.exists()
    with stage.running():
        assert stage.next() == (1, 1, 0)


def test_a_damaged_snapshot_is_told_and_the_next_older_one_is_used(stage: Stage, records) -> None:
    with stage.running():
        stage.next()
        stage.do("snapshot")
        stage.next()
    older, newest = stage.files
    newest.write_bytes(newest.read_bytes()[:-40])
    with stage.running():
        assert stage.next() == (2, 1, 1)
    (refused,) = records.fields("snapshot refused")
    assert refused["file"] == newest.name
    assert refused["reason"] == "its checksum is wrong: it is torn or damaged"
    assert not newest.exists()
    assert older in stage.files, "and the damaged one does not take the place of a good one"


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        pytest.param(lambda path: path.write_bytes(b""), "it is no snapshot", id="empty"),
        pytest.param(lambda path: path.chmod(0o666), "others than the host's user may write it", id="anybody's"),
        pytest.param(
            lambda path: path.write_bytes(path.read_bytes().replace(b"wasmtime 5", b"wasmtime 4")),
            "its checksum is wrong",
            id="of another engine, badly forged",
        ),
    ],
)
def test_if_none_fits_the_cell_begins_afresh_and_says_so(
    stage: Stage, records, spoil: Callable[[Path], object], why: str
) -> None:
    with stage.running():
        stage.next()
    spoil(stage.files[0])
    with stage.running():
        assert stage.next() == (1, 1, 0)
        assert stage.files == []  # set aside, where an operator finds it
    assert why in records.fields("snapshot refused")[0]["reason"]
    assert "no snapshot fits; the cell begins afresh" in records.messages
    assert "snapshots set aside: the cell begins afresh" in records.messages


def test_a_snapshot_of_another_engine_is_refused(stage: Stage, records, monkeypatch: pytest.MonkeyPatch) -> None:
    from pulp_runtime._kernel.snapshots import saved

    with stage.running():
        stage.next()
    monkeypatch.setattr(saved, "ENGINE", "wasmtime 51.0.0; settings 2")
    with stage.running():
        assert stage.next() == (1, 1, 0)
    assert "this host runs wasmtime 51.0.0" in records.fields("snapshot refused")[0]["reason"]


def test_a_snapshot_of_another_module_is_refused(stage: Stage, records) -> None:
    with stage.running():
        stage.next()
    stage.write(counts(pages=2))
    with stage.running():
        assert stage.next() == (1, 1, 0)
    assert "it is of another module, with sha256" in records.fields("snapshot refused")[0]["reason"]


def test_a_cell_that_refuses_to_go_on_begins_afresh(stage: Stage, records) -> None:
    stage.write(counts(restored=5))
    with stage.running():
        stage.next()
    with stage.running():
        assert stage.next() == (1, 1, 0)
    assert records.fields("snapshot refused")[0]["reason"] == "pulp_restored returned 5"


def test_a_cell_that_trapped_begins_afresh_also_in_the_next_host(stage: Stage, records) -> None:
    with stage.running() as host:
        stage.next()
        stage.do("snapshot")
        with pytest.raises(Exception, match="unreachable"):
            host.call("counts", "next", bytes(13))
        while host.status()["counts"].restarts == 0 or host.status()["counts"].state != "ready":
            time.sleep(0.005)
        assert stage.next() == (1, 1, 0)
        assert stage.files == []
    assert "snapshots set aside: the cell begins afresh" in records.messages


def test_restart_begins_afresh_and_stop_and_start_go_on(stage: Stage) -> None:
    with stage.running():
        stage.next()
        stage.do("stop")
        stage.do("start")
        assert stage.next() == (2, 1, 1)
        stage.do("snapshot")
        stage.do("restart")
        assert stage.next() == (1, 1, 0)
        assert stage.files == []


def test_a_reload_of_the_same_module_keeps_the_state_and_one_of_another_does_not(stage: Stage, records) -> None:
    with stage.running() as host:
        stage.next()
        stage.say('config = { greeting = "hello" }')
        stage.do("reload")
        assert stage.next() == (2, 1, 1)
        assert "shutdown complete" not in records.messages
        stage.write(counts(pages=2))
        stage.do("reload")
        assert stage.next() == (1, 1, 0)
        assert records.fields("state not kept; the cell begins afresh")[0]["reason"] == "the module is another one"
        assert "shutdown complete" in records.messages
        assert host.status()["counts"].state == "ready"


def test_a_reload_whose_state_is_refused_begins_afresh(stage: Stage, records) -> None:
    stage.write(counts(restored=7))
    with stage.running():
        stage.next()
        stage.do("reload")
        assert stage.next() == (1, 1, 0)
    assert records.fields("state not kept; the cell begins afresh")[0]["reason"] == "pulp_restored returned 7"


def test_a_cell_that_is_not_saved_at_shutdown_shuts_down(stage: Stage, records) -> None:
    stage.say("[snapshot]", "at_shutdown = false")
    with stage.running():
        stage.next()
        stage.do("snapshot")
        stage.next()
    assert "shutdown complete" in records.messages
    with stage.running():
        assert stage.next() == (2, 1, 1)


@pytest.mark.slow
def test_a_cell_is_saved_now_and_then_and_only_so_many_are_kept(stage: Stage) -> None:
    stage.say("[snapshot]", "every_seconds = 1", "keep = 1", "at_shutdown = false")
    with stage.running():
        assert stage.next() == (1, 1, 0)
        seen: set[Path] = set()
        end = time.monotonic() + 20
        while len(seen) < 2:
            assert time.monotonic() < end
            assert len(stage.files) <= 2  # the new one is there before the old one goes
            seen.update(stage.files)
            time.sleep(0.01)
    assert len(stage.files) == 1
    with stage.running():
        assert stage.next() == (2, 1, 1)


def test_a_cell_whose_snapshot_does_not_fit_its_quota_shuts_down_and_the_log_says_why(stage: Stage, records) -> None:
    stage.say("[limits]", "disk_quota_mb = 1")
    (stage.root / "counts").mkdir(parents=True)
    (stage.root / "counts" / "full").write_bytes(bytes(1 << 20))
    with stage.running():
        stage.next()
    assert "raise limits.disk_quota_mb" in records.fields("snapshot not taken; the cell shuts down")[0]["err"]
    assert "shutdown complete" in records.messages


def test_no_call_that_was_answered_is_forgotten_by_a_reload(stage: Stage) -> None:
    with stage.running() as host:

        def ask() -> None:
            for _ in range(100):
                host.call("counts", "next")

        askers = [threading.Thread(target=ask) for _ in range(2)]
        for asker in askers:
            asker.start()
        reloads = 0
        while any(asker.is_alive() for asker in askers) or not reloads:
            stage.do("reload")
            reloads += 1
        for asker in askers:
            asker.join()
        assert stage.next() == (201, 1, reloads & 255)


# Extensions ---------------------------------------------------------------------------------------------------------


class Notes:
    """A capability that knows something of each cell."""

    def __init__(self) -> None:
        self.known: dict[str, bytes] = {}
        self.fails = ""

    def snapshot(self, cell_id: str) -> bytes:
        if self.fails == "snapshot":
            raise RuntimeError("no")
        return self.known.get(cell_id, b"")

    def restore(self, cell_id: str, data: bytes) -> None:
        if self.fails == "restore":
            raise RuntimeError("no")
        self.known[cell_id] = data

    def teardown_cell(self, cell_id: str) -> None:
        self.known.pop(cell_id, None)


def with_notes(notes: Notes) -> dict[str, Any]:
    return {"capabilities": [Capability.of("demo.notes", notes)]}


def test_what_an_extension_knows_of_a_cell_goes_on_with_it(stage: Stage) -> None:
    stage.say('capabilities = ["demo.notes"]')
    with stage.running(**with_notes(notes := Notes())):
        stage.next()
        notes.known["counts"] = b"what it asked for"
    with stage.running(**with_notes(later := Notes())):
        assert later.known == {"counts": b"what it asked for"}
        assert stage.next() == (2, 1, 1)


def test_an_extension_that_knows_nothing_is_not_asked_again(stage: Stage) -> None:
    stage.say('capabilities = ["demo.notes"]')
    with stage.running(**with_notes(Notes())):
        stage.next()
    with stage.running(**with_notes(later := Notes())):
        assert later.known == {}
        assert stage.next() == (2, 1, 1)


def test_an_extension_may_refuse_a_snapshot(stage: Stage, records) -> None:
    stage.say('capabilities = ["demo.notes"]')
    notes = Notes()
    with stage.running(**with_notes(notes)):
        stage.next()
        notes.fails = "snapshot"
        with pytest.raises(OperationFailed, match=r"demo\.notes: snapshot for cell counts failed: RuntimeError: no"):
            stage.do("snapshot")
        notes.fails, notes.known["counts"] = "", b"something"
    notes.fails = "restore"
    with stage.running(**with_notes(notes)):
        assert stage.next() == (1, 1, 0)
    assert "demo.notes: restore for cell counts failed" in records.fields("snapshot refused")[0]["reason"]


# Forks --------------------------------------------------------------------------------------------------------------


def fork_of(stage: Stage, tmp_path: Path, start_from: str) -> Path:
    folder = tmp_path / "fork"
    folder.mkdir()
    (folder / "cell.wasm").write_bytes((stage.folder / "cell.wasm").read_bytes())
    (folder / "pulp.cell.toml").write_text(
        f'name = "fork"\nversion = "1"\nprovides = ["next"]\nsnapshotable = true\n[snapshot]\nfrom = "{start_from}"'
    )
    return folder


def test_a_second_cell_begins_as_the_first_one_was_and_they_part(stage: Stage, tmp_path: Path) -> None:
    file = tmp_path / "first.pulpsnap"
    with stage.running():
        stage.next()
        stage.next()
        assert str(file) in stage.do("snapshot", str(file))
        stage.next()
    fork = fork_of(stage, tmp_path, "../first.pulpsnap")
    with stage.running(fork):
        assert (stage.next(), stage.next("fork")) == ((4, 1, 1), (3, 1, 1))
        assert (stage.next(), stage.next(), stage.next("fork")) == ((5, 1, 1), (6, 1, 1), (4, 1, 1))
    with stage.running(fork):  # now it has one of its own, which counts
        assert stage.next("fork") == (5, 1, 2)


def test_a_cell_whose_first_snapshot_cannot_be_used_does_not_start(stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "first.pulpsnap").write_bytes(b"nonsense")
    fork = fork_of(stage, tmp_path, "../first.pulpsnap")

    with pytest.raises(StartError), Host([fork], storage_root=tmp_path / "data"):
        pass
    with stage.running(fork) as host:
        assert "snapshot.from" in host.status()["fork"].reason
        assert "it is no snapshot" in host.status()["fork"].reason


def test_placements_of_one_cell_each_go_on_with_their_own(stage: Stage, tmp_path: Path) -> None:
    manifest = tmp_path / "pulp.app.toml"
    two = '[[cell_placements]]\ncell = "counts"\ninstances = ["x", "y"]'
    manifest.write_text(f'name = "shop"\nversion = "1"\ncells = ["counts/pulp.cell.toml"]\n{two}')
    for hosts in (0, 1):
        with Host(app=manifest, storage_root=stage.root) as stage.host:
            assert [stage.next("counts@x")[0] for _ in range(2)] == [2 * hosts + 1, 2 * hosts + 2]
            assert stage.next("counts@y")[0] == hosts + 1
    assert {path.name for path in stage.root.iterdir()} == {"counts@x", "counts@y"}


def test_a_file_that_cannot_be_written_is_told(stage: Stage, tmp_path: Path) -> None:
    with stage.running(), pytest.raises(OperationFailed, match="No such file or directory"):
        stage.do("snapshot", str(tmp_path / "missing" / "first.pulpsnap"))


# What capabilities know ---------------------------------------------------------------------------------------------


def get(host: Host, path: str, method: str = "GET") -> tuple[int, bytes]:
    client = http.client.HTTPConnection(host.url.removeprefix("http://"), timeout=10)
    client.request(method, path)
    answer = client.getresponse()
    try:
        return answer.status, answer.read()
    finally:
        client.close()


def test_a_cell_whose_route_another_cell_has_by_now_cannot_go_on_and_keeps_its_snapshot(
    cell: Callable[..., Path], wasm: Callable[[str], bytes], tmp_path: Path, records
) -> None:
    from .test_reload import guest

    lines = ('capabilities = ["transport.http.inbound"]', "snapshotable = true")
    first = cell(wasm(guest("1")), *lines, name="first")
    second = cell(wasm(guest("2")), 'capabilities = ["transport.http.inbound"]', name="second")
    options = {"storage_root": tmp_path / "data", "http_port": "127.0.0.1:0"}
    with Host([first], **options) as host:
        assert get(host, "/say") == (200, b"1")
    (first / "pulp.cell.toml").write_text((first / "pulp.cell.toml").read_text() + '\ndepends_on = ["second"]')
    with Host([first, second], **options) as host:
        assert get(host, "/say") == (200, b"2")
        assert host.status()["first"].state == "failed"  # its own pulp_init is refused too
    assert "overlaps GET /say of second" in records.fields("snapshot refused")[0]["reason"]
    # It has kept what it could not use.
    text = (first / "pulp.cell.toml").read_text().replace('\ndepends_on = ["second"]', "")
    (first / "pulp.cell.toml").write_text(text)
    with Host([first], **options) as host:
        assert get(host, "/say") == (200, b"1")
        assert "cell goes on from a snapshot" in records.messages


#: It hands its argument, a path, to the file function whose name begins as its own does, and answers the code.
THIEF = """(module
  (import "pulp" "fs_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "pulp" "fs_write" (func $write (param i32 i32 i32 i32 i32 i32) (result i32)))
  (import "pulp" "fs_delete" (func $delete (param i32 i32) (result i32)))
  (import "pulp" "fs_remove_all" (func $remove (param i32 i32) (result i32)))
  (memory (export "memory") 2)
  (global $next (mut i32) (i32.const 4096))
  (func (export "pulp_alloc") (param $size i32) (result i32)
    (global.get $next) (global.set $next (i32.add (global.get $next) (local.get $size))))
  (func (export "pulp_init") (param i32 i32) (result i32) (i32.const 0))
  (func (export "pulp_step") (param i32 i32) (result i32) (i32.const 0))
  (func $do (param $what i32) (param $at i32) (param $len i32) (result i32)
    (if (i32.eq (local.get $what) (i32.const 114))
      (then (return (call $read (local.get $at) (local.get $len) (i32.const 16) (i32.const 20)))))
    (if (i32.eq (local.get $what) (i32.const 119))
      (then (return (call $write (local.get $at) (local.get $len) (i32.const 0) (i32.const 4) (i32.const 0)
        (i32.const 0)))))
    (if (i32.eq (local.get $what) (i32.const 100)) (then (return (call $delete (local.get $at) (local.get $len)))))
    (call $remove (local.get $at) (local.get $len)))
  (func (export "pulp_on_call") (param $name i32) (param i32) (param $at i32) (param $len i32) (param $out i32)
      (param $out_len i32) (result i32)
    (i32.store (i32.const 32) (call $do (i32.load8_u (local.get $name)) (local.get $at) (local.get $len)))
    (i32.store (local.get $out) (i32.const 32))
    (i32.store (local.get $out_len) (i32.const 1))
    (i32.const 0))
  (func (export "pulp_shutdown") (result i32) (i32.const 0)))"""


def test_threat_47_a_cell_can_neither_see_nor_write_nor_remove_its_snapshots(
    cell: Callable[..., Path], wasm: Callable[[str], bytes], tmp_path: Path
) -> None:
    names = ("read", "write", "delete", "tree")
    provides = "provides = " + str(list(names)).replace("'", '"')
    thief = cell(wasm(THIEF), 'capabilities = ["storage.fs"]', provides, "snapshotable = true", name="thief")
    options = {"storage_root": tmp_path / "data"}
    with Host([thief], **options) as host:
        assert [host.call("thief", name, b"mine") for name in ("write", "read", "delete")] == [b"\0"] * 3
    shelf = tmp_path / "data" / "thief" / ".pulp-snapshots"
    (file,) = shelf.iterdir()
    before = file.read_bytes()
    with Host([thief], **options) as host:
        for path in (f".pulp-snapshots/{file.name}", f"x/../.pulp-snapshots/{file.name}", ".pulp-snapshots"):
            for name in names:
                assert host.call("thief", name, path.encode()) == b"\x05", (name, path)  # an invalid path
        assert file.read_bytes() == before
        assert [one.name for one in shelf.iterdir()] == [file.name]
