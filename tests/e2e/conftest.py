"""The command as its users run it: a process, its log, its port."""

from __future__ import annotations

import http.client
import itertools
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DEADLINE_SECONDS = 20.0
COMMAND = [sys.executable, "-P", "-c", "from pulp_runtime.cli import main; main()"]


class Pulp:
    """A running `pulp`, every line of its output as it comes."""

    def __init__(self, arguments: tuple[object, ...], environment: dict[str, str], cwd: Path) -> None:
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            [*COMMAND, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=cwd,
            start_new_session=True,
        )
        self.lines: list[str] = []
        self.errors = ""
        self._changed = threading.Condition()
        self._open = 2
        self._threads = [threading.Thread(target=work) for work in (self._read_output, self._read_errors)]
        for thread in self._threads:
            thread.start()

    def _read_output(self) -> None:
        for line in self.process.stdout:
            with self._changed:
                self.lines.append(line.rstrip("\n"))
                self._changed.notify_all()
        self._closed()

    def _read_errors(self) -> None:
        self.errors = self.process.stderr.read()
        self._closed()

    def _closed(self) -> None:
        with self._changed:
            self._open -= 1
            self._changed.notify_all()

    @property
    def log(self) -> str:
        return "\n".join(self.lines)

    @property
    def failures(self) -> list[str]:
        """The lines of level ERROR, without their times."""
        return [line.split(" ", 1)[1] for line in self.lines if " level=ERROR " in line]

    def wait_for(self, text: str, *, count: int = 1) -> str:
        """Return the first line that holds `text`, or matches it, or the line that makes `count` of them.

        Fails when the process ends without it.
        """

        def found() -> str | None:
            lines = (line for line in self.lines if text in line or re.search(text, line))
            return next(itertools.islice(lines, count - 1, None), None)

        with self._changed:
            self._changed.wait_for(lambda: found() or not self._open, DEADLINE_SECONDS)
        line = found()
        assert line is not None, f"no {text!r} in:\n{self.log}\n{self.errors}"
        return line

    def wait_until_ready(self, name: str = "") -> Pulp:
        """Return once a cell, or the one of that name, is ready."""
        self.wait_for(f'msg="cell ready" cell={name} ' if name else 'msg="cell ready"')
        return self

    @property
    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def wait_until_it_has_spun(self, seconds: float = 0.1) -> Pulp:
        """Return once so much more processor time is spent: by a guest that never ends, there is nobody else."""
        end = time.monotonic() + DEADLINE_SECONDS
        enough = self.cpu_seconds + seconds
        while self.cpu_seconds < enough:
            assert time.monotonic() < end, self.log
            time.sleep(0.005)
        return self

    def wait_until_signals_are_caught(self) -> None:
        """Return once SIGTERM has a handler: from then on a signal is the program's to answer."""
        status = Path(f"/proc/{self.process.pid}/status")
        end = time.monotonic() + DEADLINE_SECONDS
        while time.monotonic() < end:
            caught = re.search(r"SigCgt:\s*([0-9a-f]+)", status.read_text())
            if caught and int(caught[1], 16) >> (signal.SIGTERM - 1) & 1:
                return
            time.sleep(0.0005)
        raise AssertionError("SIGTERM is never caught")

    @property
    def port(self) -> int:
        return int(self.wait_for("http server started").rpartition(":")[2])

    def request(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        """Send one request on a connection of its own."""
        with self.connection() as client:
            client.request(method, path, body)
            answer = client.getresponse()
            return answer.status, answer.read()

    @contextmanager
    def connection(self) -> Iterator[http.client.HTTPConnection]:
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE_SECONDS)
        try:
            yield client
        finally:
            client.close()

    @contextmanager
    def raw(self) -> Iterator[socket.socket]:
        with socket.create_connection(("127.0.0.1", self.port), DEADLINE_SECONDS) as client:
            yield client

    def send(self, number: int) -> Pulp:
        self.process.send_signal(number)
        return self

    def end(self) -> int:
        """Wait for the process to end by itself; return its exit code."""
        code = self.process.wait(DEADLINE_SECONDS)
        for thread in self._threads:
            thread.join(DEADLINE_SECONDS)
        return code

    def stop(self, number: int = signal.SIGTERM) -> int:
        return self.send(number).end()

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for thread in self._threads:
            thread.join()
        self.process.stdout.close()
        self.process.stderr.close()


Start = Callable[..., Pulp]


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """Where compiled modules are kept: one place for all workers of a run."""
    base = tmp_path_factory.getbasetemp()
    return (base if worker_id == "master" else base.parent) / "modules"


@pytest.fixture(scope="session")
def environment(cache: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("HTTP_PORT", "PULP_CTL_SOCK")}
    return {**kept, "PULP_CACHE_DIR": str(cache)}


@pytest.fixture
def pulp(environment: dict[str, str], tmp_path: Path) -> Iterator[Start]:
    """Return `pulp(arguments…, env={})`: start the command; what still runs after the test is killed."""
    running: list[Pulp] = []

    def start(*arguments: object, env: dict[str, str] | None = None) -> Pulp:
        running.append(Pulp(arguments, {**environment, **(env or {})}, tmp_path))
        return running[-1]

    yield start
    for process in running:
        process.kill()


@pytest.fixture
def serve(pulp: Start) -> Start:
    """Return `serve(paths…, env={})`: run cells on a free port, each ready or failed."""

    def serve(*paths: object, env: dict[str, str] | None = None) -> Pulp:
        host = pulp("run", *paths, "--http-port", "127.0.0.1:0", env=env)
        host.wait_for('msg="(cell ready|load failed|init failed)"', count=len(paths))
        return host

    return serve


@pytest.fixture(scope="session")
def echo() -> Path:
    return ROOT / "examples/echo/c"


@pytest.fixture(scope="session")
def heartbeat() -> Path:
    return ROOT / "examples/heartbeat/c"


@pytest.fixture
def cell(tmp_path: Path, wasm: Callable[[str], bytes]) -> Callable[..., Path]:
    """Return `cell(guest, manifest lines…)`: the folder of a cell with the guest's name, or `name`."""

    def cell(guest: str | bytes | None, *lines: str, name: str = "") -> Path:
        name = name or (guest if isinstance(guest, str) else "cell").replace("_", "-")
        folder = tmp_path / name
        folder.mkdir()
        (folder / "pulp.cell.toml").write_text("\n".join((f'name = "{name}"', 'version = "1.0.0"', *lines)))
        if guest is not None:
            (folder / "cell.wasm").write_bytes(guest if isinstance(guest, bytes) else wasm(guest))
        return folder

    return cell


@pytest.fixture
def lab(cell: Callable[..., Path], wasm: Callable[[str], bytes]) -> Callable[..., Path]:
    """Return `lab(manifest lines…, name="lab")`: the cell whose paths say how it should behave; see `lab.wat`."""

    def lab(*lines: str, name: str = "lab") -> Path:
        text = (Path(__file__).parent / "lab.wat").read_text().replace("/x/:do", f"/{name[0]}/:do")
        return cell(wasm(text), 'capabilities = ["transport.http.inbound"]', *lines, name=name)

    return lab
