"""The servers that are compared: how each is started, and that it ends with us."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from benchmarks.measure import Unmeasurable, first_answer

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
CACHE = HERE / ".cache"
BIN = Path(sys.executable).parent

PATH = "/echo/hello"
BODY = b"hello"
TYPE = "text/plain; charset=utf-8"
WORKERD = "workerd@1"
"""The npm package that is fetched for the comparison, once, into benchmarks/.cache."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A server that answers `GET /echo/hello` with `hello`.

    Attributes:
        name: in the tables.
        about: version and mode.
        command: `command(port)`: what to run.
        environment: added to ours.
        tls: how a client trusts it, where it speaks TLS.
    """

    name: str
    about: str
    command: Callable[[int], list[str]]
    environment: Mapping[str, str] = field(default_factory=dict)
    tls: ssl.SSLContext | None = None


@dataclass(frozen=True, slots=True)
class Running:
    """A server that runs.

    Attributes:
        peer: which.
        pid: of its first process.
        port: where it listens.
        start_seconds: from the start of the process to the first answer.
        head_bytes: length of its answer's header lines.
    """

    peer: Peer
    pid: int
    port: int
    start_seconds: float
    head_bytes: int

    @property
    def url(self) -> str:
        """What to ask for."""
        return f"{'https' if self.peer.tls else 'http'}://127.0.0.1:{self.port}{PATH}"


def pulp(name: str, cell: str, *, cache: Path | None = None) -> Peer:
    """Return our own host with one cell; `cache` is where it keeps compiled modules."""
    return Peer(
        name,
        f"pulp-runtime {version('pulp-runtime')}, wasmtime {version('wasmtime')}",
        lambda port: [
            str(BIN / "pulp"), "run", str(ROOT / cell), "--http-port", f"127.0.0.1:{port}",
            "--log-level", "warning", "--storage-root", str(CACHE / "data"),
        ],
        {"PULP_CACHE_DIR": str(cache or CACHE / "modules")},
    )  # fmt: skip


def granian() -> Peer:
    """Return Granian with its default settings and the bare RSGI application."""
    return Peer(
        "granian RSGI",
        f"granian {version('granian')}, defaults: {granian_mode()}",
        lambda port: [
            str(BIN / "granian"), "--interface", "rsgi", "--host", "127.0.0.1", "--port", str(port),
            "--log-level", "warning", "benchmarks.hello_rsgi:app",
        ],
    )  # fmt: skip


def granian_mode() -> str:
    """Return what Granian's `auto` settings become here: one worker, and the mode it picks for it."""
    from granian import Granian
    from granian.constants import Interfaces

    server = Granian("benchmarks.hello_rsgi:app", interface=Interfaces.RSGI)
    mode, threads, loop = server.runtime_mode.value, server.runtime_threads, server.loop.value
    picked = "st" if mode == "auto" else mode
    return f"{server.workers} worker, runtime mode {mode} ({picked}), {threads} runtime thread, loop {loop}"


def uvicorn() -> Peer:
    """Return uvicorn on uvloop and httptools with the bare ASGI application; no access log, no Server header."""
    return Peer(
        "uvicorn ASGI",
        f"uvicorn {version('uvicorn')}, uvloop {version('uvloop')}, httptools {version('httptools')}",
        lambda port: [
            str(BIN / "uvicorn"), "--host", "127.0.0.1", "--port", str(port), "--loop", "uvloop",
            "--http", "httptools", "--interface", "asgi3", "--lifespan", "off", "--no-access-log",
            "--no-server-header", "--log-level", "warning", "benchmarks.hello_asgi:app",
        ],
    )  # fmt: skip


def workerd() -> Peer:
    """Return workerd with a bare service worker; the package is fetched with npm when it is not here yet.

    Raises:
        Unmeasurable: there is no npm, or it could not fetch the package.
    """
    folder = CACHE / "workerd"
    program = folder / "node_modules" / ".bin" / "workerd"
    if not program.exists():
        npm = shutil.which("npm")
        if npm is None:
            raise Unmeasurable("workerd: npm is not installed (apt-get install npm)")
        folder.mkdir(parents=True, exist_ok=True)
        command = [npm, "install", "--prefix", str(folder), "--no-audit", "--no-fund", "--loglevel=error", WORKERD]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode or not program.exists():
            raise Unmeasurable(f"workerd: npm install {WORKERD} failed: {done.stderr.strip()[-300:]}")
    about = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout.strip()
    config = HERE / "workerd" / "hello.capnp"
    return Peer(
        "workerd",
        about or "workerd",
        lambda port: [str(program), "serve", str(config), f"--socket-addr=http=127.0.0.1:{port}"],
    )


def free_port() -> int:
    """Return a port that nobody has just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(peer: Peer) -> Iterator[Running]:
    """Run a peer while the block lasts.

    Raises:
        Unmeasurable: it does not answer, or not with what the others answer.
    """
    CACHE.mkdir(exist_ok=True)
    port = free_port()
    environment = {name: value for name, value in os.environ.items() if name != "HTTP_PORT"} | dict(peer.environment)
    with tempfile.TemporaryFile() as log:
        began = time.monotonic()
        process = subprocess.Popen(
            peer.command(port),
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            try:
                answer = first_answer(port, PATH, tls=peer.tls)
            except Unmeasurable as error:
                log.seek(0)
                raise Unmeasurable(f"{peer.name}: {error}\n{log.read().decode(errors='replace')[-2000:]}") from None
            started = time.monotonic() - began
            if (answer.body, answer.getheader("content-type")) != (BODY, TYPE):  # type: ignore[attr-defined]
                raise Unmeasurable(f"{peer.name} answers something else: {answer.headers} {answer.body!r}")  # type: ignore[attr-defined]
            head = sum(len(f"{name}: {value}\r\n") for name, value in answer.getheaders())
            yield Running(peer, process.pid, port, started, head)
        finally:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask the peer's processes to end; after five seconds, make them. The group is the peer's own."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(5.0)
    except subprocess.TimeoutExpired:
        pass
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()
