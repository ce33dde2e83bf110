"""Another version in the place of the one that runs: nobody notices, or nothing happens."""

from __future__ import annotations

import http.client
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pulp_runtime import Host
from pulp_runtime.errors import OperationFailed

from .conftest import COMMAND

SAYS = """
(module
  (import "pulp" "http_register" (func $register (param i32 i32) (result i32)))
  (import "pulp" "http_respond" (func $respond (param i32 i32) (result i32)))
  (memory (export "memory") 2)
  (data (i32.const 0) "\\82\\a6method\\a3GET\\a4path{length}{path}")
  (data (i32.const 256) "\\83\\a2id\\cf\\00\\00\\00\\00\\00\\00\\00\\00\\a6status\\cc\\c8\\a4body\\c4\\01{says}")
  (func (export "pulp_alloc") (param i32) (result i32) (i32.const 1024))
  (func (export "pulp_init") (param i32 i32) (result i32)
    (if (call $register (i32.const 0) (i32.const {size})) (then (return (i32.const 1))))
    (i32.const {code}))
  (func (export "pulp_step") (param $at i32) (param $len i32) (result i32) (local $i i32)
    (if (i32.lt_u (local.get $len) (i32.const 30)) (then (return (i32.const 0))))
    ;; the id is the nine bytes behind the key "id"
    (local.set $i (i32.add (local.get $at) (i32.const 20)))
    (block $found (loop $next
      (br_if $found (i32.eq (i32.load (local.get $i)) (i32.const 0xcf6469a2)))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $next (i32.lt_u (local.get $i) (i32.add (local.get $at) (local.get $len))))
      (return (i32.const 0))))
    (i64.store (i32.const 261) (i64.load (i32.add (local.get $i) (i32.const 4))))
    (call $respond (i32.const 256) (i32.const 30)))
  (func (export "pulp_shutdown") (result i32) (i32.const 0)))
"""


def guest(says: str, path: str = "/say", code: int = 0) -> str:
    length = f"\\{0xA0 | len(path):02x}"
    size = 1 + 7 + 4 + 5 + 1 + len(path)
    return SAYS.format(says=says, path=path, length=length, size=size, code=code)


class Stage:
    """A host with one cell, whose files the test changes."""

    def __init__(self, host: Host, folder: Path, wasm: Callable[[str], bytes]) -> None:
        self.host, self.folder, self._wasm = host, folder, wasm

    def write(self, says: str, path: str = "/say", code: int = 0) -> None:
        (self.folder / "cell.wasm").write_bytes(self._wasm(guest(says, path, code)))

    def do(self, operation: str) -> object:
        thread = self.host._thread
        assert thread is not None
        return thread.run(getattr(self.host.operations, operation)("says"))

    def get(self, path: str = "/say") -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(self.host.url.removeprefix("http://"), timeout=10)
        connection.request("GET", path)
        answer = connection.getresponse()
        try:
            return answer.status, answer.read()
        finally:
            connection.close()


@pytest.fixture
def stage(cell, wasm, tmp_path: Path):
    folder = cell(wasm(guest("1")), 'capabilities = ["transport.http.inbound"]', name="says")
    with Host([folder], storage_root=tmp_path / "data", http_port="127.0.0.1:0") as host:
        yield Stage(host, folder, wasm)


def test_a_reloaded_cell_answers_as_its_new_version_says(stage: Stage) -> None:
    assert stage.get() == (200, b"1")
    stage.write("2")
    assert stage.get() == (200, b"1")  # the files have changed, the cell has not
    assert stage.do("reload") == ()
    assert stage.get() == (200, b"2")
    assert stage.host.status()["says"].restarts == 0


def test_a_client_keeps_its_connection_over_a_reload(stage: Stage) -> None:
    connection = http.client.HTTPConnection(stage.host.url.removeprefix("http://"), timeout=10)
    for says in ("1", "2", "3"):
        stage.write(says)
        stage.do("reload")
        connection.request("GET", "/say")
        assert connection.getresponse().read() == says.encode()
    connection.close()


def test_threat_49_a_version_that_does_not_start_changes_nothing_and_says_why(stage: Stage) -> None:
    stage.write("2", path="/new", code=7)
    with pytest.raises(OperationFailed, match="pulp_init returned 7"):
        stage.do("reload")
    assert stage.get() == (200, b"1")
    assert stage.get("/new") == (404, b"404 page not found")  # what it had registered is gone
    (stage.folder / "cell.wasm").write_bytes(b"nonsense")
    with pytest.raises(OperationFailed, match="is not a WebAssembly module"):
        stage.do("reload")
    (stage.folder / "pulp.cell.toml").write_text("name = ")
    with pytest.raises(OperationFailed, match="parse manifest"):
        stage.do("reload")
    assert stage.get() == (200, b"1")


def test_routes_that_the_new_version_does_not_have_are_gone(stage: Stage) -> None:
    stage.write("2", path="/other")
    stage.do("reload")
    assert stage.get("/other") == (200, b"2")
    assert stage.get("/say") == (404, b"404 page not found")


def test_rollback_returns_to_the_version_before_and_again_to_the_one_after(stage: Stage) -> None:
    with pytest.raises(OperationFailed, match="has run no other version"):
        stage.do("rollback")
    stage.write("2")
    stage.do("reload")
    (stage.folder / "cell.wasm").write_bytes(b"gone from the disk")
    stage.do("rollback")
    assert stage.get() == (200, b"1")
    stage.do("rollback")
    assert stage.get() == (200, b"2")


def test_a_manifest_that_changes_what_the_cell_may_do_is_told(stage: Stage) -> None:
    manifest = stage.folder / "pulp.cell.toml"
    text = manifest.read_text()
    manifest.write_text(text.replace('["transport.http.inbound"]', '["transport.http.inbound", "storage.fs"]'))
    assert stage.do("reload") == ("+ capabilities: storage.fs",)
    manifest.write_text(text)
    assert stage.do("reload") == ("- capabilities: storage.fs",)


def test_another_name_is_refused(stage: Stage) -> None:
    manifest = stage.folder / "pulp.cell.toml"
    manifest.write_text(manifest.read_text().replace('"says"', '"sings"'))
    with pytest.raises(OperationFailed, match='name = "sings"'):
        stage.do("reload")


def test_a_stopped_cell_can_be_started_again(stage: Stage) -> None:
    stage.do("stop")
    assert stage.host.status()["says"].state == "stopped"
    assert stage.get()[0] == 503
    for operation, told in (("stop", "already stopped"), ("reload", "is stopped; cannot reload")):
        with pytest.raises(OperationFailed, match=told):
            stage.do(operation)
    stage.do("start")
    assert stage.get() == (200, b"1")
    with pytest.raises(OperationFailed, match="is ready already"):
        stage.do("start")


def test_a_restarted_cell_is_a_fresh_instance_of_the_same_version(stage: Stage) -> None:
    before = stage.host._runners()["says"].cell
    stage.write("2")
    stage.do("restart")
    assert stage.host._runners()["says"].cell is not before
    assert stage.get() == (200, b"1")


def test_no_request_fails_while_the_cell_is_reloaded_again_and_again(stage: Stage) -> None:
    stop = threading.Event()
    answers: list[tuple[int, bytes]] = []

    def ask() -> None:
        connection = http.client.HTTPConnection(stage.host.url.removeprefix("http://"), timeout=10)
        while not stop.is_set():
            connection.request("GET", "/say")
            answer = connection.getresponse()
            answers.append((answer.status, answer.read()))
        connection.close()

    clients = [threading.Thread(target=ask) for _ in range(4)]
    for client in clients:
        client.start()
    for number in range(20):
        stage.write(str(number % 10))
        stage.do("reload")
    enough = time.monotonic() + 10
    while len(answers) < 200 and time.monotonic() < enough:
        time.sleep(0.01)
    stop.set()
    for client in clients:
        client.join()
    assert {status for status, _ in answers} == {200}
    assert len({body for _, body in answers}) > 3


def test_the_command_reloads_a_running_host(serve, cell, wasm, tmp_path: Path) -> None:
    """As an operator does it: a process, another process, a file in between."""
    folder = cell(wasm(guest("1")), 'capabilities = ["transport.http.inbound"]', name="says")
    host = serve(folder)
    host.wait_for("control socket listening")
    (folder / "cell.wasm").write_bytes(wasm(guest("2")))
    command = [*COMMAND, "ctl", "reload", "says", "--socket", str(tmp_path / "pulp.ctl")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "ok\n"), done.stderr
    assert host.request("GET", "/say") == (200, b"2")
