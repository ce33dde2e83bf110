"""A cell that keeps files, in a host that is killed, stopped, and given a folder by its operator."""

from __future__ import annotations

import http.client
import itertools
import shutil
import signal
import stat
import threading
import time
from pathlib import Path

import msgspec
import pytest

ROOT = Path(__file__).parents[2]
FILES = ROOT / "examples" / "files" / "c"
PORT = ("--http-port", "127.0.0.1:0")

pytestmark = pytest.mark.slow


@pytest.fixture
def serve(pulp, tmp_path: Path):
    """Return `serve(*arguments, **options)`: a host that runs the example and keeps its data below `tmp_path`."""

    def serve(*arguments: object, **options):
        host = pulp("run", FILES, *PORT, "--storage-root", tmp_path / "data", *arguments, **options)
        return host.wait_until_ready("files")

    return serve


def test_files_are_put_listed_got_and_deleted(serve, tmp_path: Path) -> None:
    host = serve()

    assert host.request("PUT", "/files/notes/a.txt", b"hello") == (204, b"")
    assert host.request("GET", "/files/notes/a.txt") == (200, b"hello")
    assert (tmp_path / "data" / "files" / "notes" / "a.txt").read_bytes() == b"hello"
    status, names = host.request("GET", "/files/notes/")
    assert (status, msgspec.msgpack.decode(names)) == (200, [{"name": "a.txt", "is_dir": False}])
    assert host.request("DELETE", "/files/notes")[0] == 409
    assert host.request("DELETE", "/files/notes/a.txt")[0] == 204
    assert host.request("GET", "/files/notes/a.txt")[0] == 404


def test_what_is_refused_is_in_the_log_with_cell_function_and_reason(serve) -> None:
    host = serve()
    host.request("PUT", "/files/.pulp-x", b"")

    line = host.wait_for("file call refused")
    assert "cell=files function=fs_write" in line
    assert "names that begin with .pulp- are the host's own" in line


def test_the_quota_of_the_manifest_ends_in_an_answer(serve) -> None:
    host = serve()
    six = bytes(6 << 20)
    statuses = [host.request("PUT", f"/files/{at}", six)[0] for at in range(12)]

    assert statuses == [204] * 10 + [409] * 2
    assert "disk quota" in host.wait_for("file call refused")
    assert host.request("GET", "/files/0") == (200, six)


def test_an_operator_can_put_the_files_elsewhere(serve, tmp_path: Path) -> None:
    host = serve(env={"PULP_FS_ROOT_FILES": str(tmp_path / "elsewhere")})
    host.request("PUT", "/files/a", b"x")

    assert (tmp_path / "elsewhere" / "a").read_bytes() == b"x"


def test_an_acknowledged_write_survives_kill_9_and_a_half_done_one_leaves_the_old_file(serve, tmp_path: Path) -> None:
    """A version is a number, again and again: after the kill one is there whole, no older than the last yes."""
    folder = tmp_path / "data" / "files"
    numbers = itertools.count(1)
    for life in range(6):
        host = serve()
        acknowledged: list[int] = []

        def put(port: int, acknowledged: list[int] = acknowledged) -> None:
            client = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
            try:
                for number in numbers:
                    client.request("PUT", "/files/state", f"{number:08}".encode() * 40_000)
                    answer = client.getresponse()
                    answer.read()
                    assert answer.status == 204
                    acknowledged.append(number)
            except (OSError, http.client.HTTPException):
                pass  # the host was killed
            finally:
                client.close()

        writer = threading.Thread(target=put, args=(host.port,))
        writer.start()
        while len(acknowledged) < 5 + 3 * life:
            assert writer.is_alive(), host.log
            time.sleep(0.0005)  # the moment of the kill is any
        host.process.send_signal(signal.SIGKILL)
        host.end()
        writer.join()

        content = (folder / "state").read_bytes()
        found = int(content[:8])
        assert content == f"{found:08}".encode() * 40_000
        assert acknowledged[-1] <= found <= acknowledged[-1] + 1
    host = serve()
    status, names = host.request("GET", "/files/")
    assert (status, [entry["name"] for entry in msgspec.msgpack.decode(names)]) == (200, ["state"])


@pytest.mark.parametrize(
    ("setting", "status", "state"),
    [
        ("read_only = true", 409, "cell ready"),
        ("durable = false", 204, "cell ready"),
        ("durabel = false", 0, "load failed"),
    ],
)
def test_a_manifest_can_set_things(pulp, tmp_path: Path, setting: str, status: int, state: str) -> None:
    cell = tmp_path / "files"
    shutil.copytree(FILES, cell)
    with (cell / "pulp.cell.toml").open("a") as manifest:
        manifest.write(f'\n[settings."storage.fs"]\n{setting}\n')
    host = pulp("run", cell, *PORT, "--storage-root", tmp_path / "data")

    line = host.wait_for(f'msg="{state}"')
    if status:
        assert host.request("PUT", "/files/a", b"x")[0] == status
    else:
        assert "pulp.cell.toml" in line
        assert "durabel" in line


def test_a_file_is_the_cell_s_owner_s_to_change(serve, tmp_path: Path) -> None:
    host = serve()
    host.request("PUT", "/files/a", b"x")

    assert stat.S_IMODE((tmp_path / "data" / "files" / "a").stat().st_mode) == 0o644
