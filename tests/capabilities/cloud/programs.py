"""Programs in Python, between the files that capabilities mount and real sockets; the kernel's part is played."""

from __future__ import annotations

import asyncio
import errno
import http.client
import queue
import socket
import threading
import time
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from pulp_runtime.capabilities.transport import program_answer
from pulp_runtime.capabilities.transport.http_inbound import HttpInbound
from pulp_runtime.capabilities.transport.ws_inbound import WsInbound
from pulp_runtime.ext import CellRef, Endpoint, File, Folder, How, Node, Outcome, Posted, Program, SetupEnv, StepEvent
from pulp_runtime.ext.nodes import Bytes
from pulp_runtime.log import Log
from pulp_runtime.testing.lines import KeptLog, Logged

SECONDS = 10.0
HTTP, WS = "transport.http.inbound", "transport.ws.inbound"


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have an answer begun only when it is long or complete, however slow the machine is."""
    monkeypatch.setattr(program_answer, "HELD_SECONDS", 60.0)


class Ended(Exception):
    """What a program raises to end by a trap, or by its deadline."""


class Trap(Ended):
    pass


class Timeout(Ended):
    pass


class Exit(Exception):
    def __init__(self, status: int) -> None:
        self.status = status


class Sink(File):
    """Where output goes that is no response."""

    def __init__(self) -> None:
        self.text = b""

    def write(self, data: bytes) -> int:
        self.text += data
        return len(data)


class PlayedRun:
    """See `ext.Run`; a program uses it as its libc, too. Waits as the wasi layer does, with a deadline."""

    def __init__(self, cell: CellRef, event: StepEvent | None, seconds: float = SECONDS) -> None:
        self.cell, self.event = cell, event
        self.tree = Folder()
        self.environ: dict[str, str] = {}
        self.stdin: File = Bytes(b"")
        self.log, self.err = Sink(), Sink()
        self.stdout: File = self.log
        self.stderr: File = self.err
        self.ends: list[Callable[[Outcome], None]] = []
        self.stops: list[Callable[[], None]] = []
        self.opened: list[File] = []
        self._deadline = time.monotonic() + seconds

    def on_end(self, callback: Callable[[Outcome], None]) -> None:
        self.ends.append(callback)

    def on_stop(self, callback: Callable[[], None]) -> None:
        self.stops.append(callback)

    def seconds_left(self) -> float:
        return self._deadline - time.monotonic()

    def ask(self, cell: str, function: str, args: bytes) -> bytes:
        raise AssertionError

    def blocking(self) -> AbstractContextManager[None]:
        return nullcontext()

    # What a libc does ---------------------------------------------------------------------------------------------

    def find(self, path: str) -> tuple[Folder, tuple[str, ...]]:
        return self.tree, tuple(path.strip("/").split("/")) if path != "/" else ()

    def open(self, path: str, mode: str = "r") -> File:
        tree, parts = self.find(path)
        writes = mode[0] in "wax"
        how = How(
            read=not writes or "+" in mode,
            write=writes or "+" in mode,
            create=writes,
            exclusive="x" in mode,
            truncate=mode[0] == "w",
            append=mode[0] == "a",
        )
        file = tree.open(parts, how)
        assert isinstance(file, File)
        self.opened.append(file)
        return file

    def list(self, path: str) -> list[str]:
        tree, parts = self.find(path)
        folder = tree.open(parts, How(folder=True))
        assert isinstance(folder, Node)
        return sorted(entry.name for entry in folder.entries())

    def size(self, path: str) -> int:
        tree, parts = self.find(path)
        return tree.stat(parts).size

    def unlink(self, path: str) -> None:
        tree, parts = self.find(path)
        tree.unlink(parts)

    def close(self, file: File) -> None:
        self.opened.remove(file)
        file.close()

    def wait(self, file: File, *, write: bool = False, seconds: float = SECONDS) -> bool:
        """Wait as `poll` does; return whether it is ready."""
        woken = threading.Event()
        unwatch = file.watch(woken.set)
        try:
            end = time.monotonic() + seconds
            while file.ready(write=write) is None:
                if not woken.wait(end - time.monotonic()):
                    return False
                woken.clear()
            return True
        finally:
            unwatch()

    def take(self, file: File, size: int = 65536) -> bytes:
        """Read once, waiting for something."""
        if file.seekable:
            into = bytearray(size)
            at = getattr(file, "at", 0)
            count = file.read_at(at, memoryview(into))
            file.at = at + count  # type: ignore[attr-defined]
            return bytes(into[:count])
        while True:
            try:
                return file.read(size)
            except BlockingIOError:
                assert self.wait(file), "nothing came"

    def give(self, file: File, data: bytes) -> None:
        """Write all of it, waiting for room."""
        while data:
            try:
                data = data[file.write(data) :]
            except BlockingIOError:
                assert self.wait(file, write=True), "no room came"

    def read(self, path: str) -> bytes:
        file = self.open(path)
        pieces = []
        while piece := self.take(file):
            pieces.append(piece)
        self.close(file)
        return b"".join(pieces)

    def write(self, path: str, data: bytes | str, mode: str = "w") -> None:
        file = self.open(path, mode)
        self.give(file, data.encode() if isinstance(data, str) else data)
        self.close(file)

    def print(self, text: str | bytes) -> None:
        self.give(self.stdout, text.encode() if isinstance(text, str) else text)

    def run(self, program: Callable[[PlayedRun], None]) -> Outcome:
        """Run a program to its end, and end its files as the kernel does."""
        try:
            program(self)
            outcome = Outcome(0)
        except Exit as end:
            outcome = Outcome(end.status)
        except Ended as end:
            outcome = Outcome(None, repr(end), timed_out=isinstance(end, Timeout))
        for file in self.opened:
            try:
                (file.close if outcome.clean else file.abandon)()
            except OSError:
                pass
        for stream in (self.stdout, self.stderr):
            stream.close()
        for callback in self.ends:
            callback(outcome)
        return outcome


def errno_of(call: Callable[..., Any], *args: Any) -> str:
    """Return the name of the error that a call raises, "" for none."""
    try:
        call(*args)
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return ""


class Whole:
    """An answer that is here."""

    def __init__(self, answer: http.client.HTTPResponse) -> None:
        self.status, self.headers = answer.status, answer.headers
        self.getheader = answer.getheader
        self.body = answer.read()


class Stage:
    """The capabilities, served on a loop of their own, with one program behind them.

    Args:
        program: what runs; for a function once for every request.
        execution: `function` or `daemon`.
        routes: of its manifest.
        websockets: of its manifest.
        full: whether its mailbox is.
        settings: what its manifest sets for a capability.
    """

    def __init__(
        self,
        program: Callable[[PlayedRun], None],
        execution: str = "function",
        routes: tuple[str, ...] = ("ANY /x", "ANY /files/*rest", "GET /hello/:name"),
        websockets: tuple[str, ...] = (),
        *,
        settings: dict[str, dict[str, Any]] | None = None,
    ) -> None:
        self.program = program
        self.seen: list[Logged] = []
        self.http, self.ws = HttpInbound(), WsInbound()
        self.verdict = Posted.ACCEPTED
        self.endpoints: list[Endpoint] = []
        self.faults: list[BaseException] = []
        self.runs: list[PlayedRun] = []
        self.outcomes: queue.Queue[Outcome] = queue.Queue()
        self._threads: list[threading.Thread] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._clients: list[Any] = []
        self.loop = asyncio.new_event_loop()
        self.loop.set_exception_handler(
            lambda _loop, told: self.faults.append(told.get("exception") or RuntimeError(told["message"]))
        )
        self._looping = threading.Thread(target=self.loop.run_forever)
        self.cell = CellRef(
            "prog",
            "prog",
            KeptLog(self.seen, cell="prog"),
            manifest=Path("pulp.cell.toml"),
            program=Program(execution, routes, websockets),
            tables=settings or {},
        )

    def __enter__(self) -> Stage:
        self._looping.start()
        self.on_loop(self._set_up())
        if self.cell.program is not None and self.cell.program.execution == "daemon":
            self.start(None)
        return self

    async def _set_up(self) -> None:
        env = SetupEnv(
            storage_root=Path("/nonexistent"),
            logger=Log("pulp"),
            post=self._post,
            spawn=lambda coroutine: self._tasks.append(self.loop.create_task(coroutine)),
            defer=self.loop.call_soon_threadsafe,
            reachable=self.endpoints.append,
            http_port="127.0.0.1:0",
        )
        self.http.setup(env)
        self.ws.setup(env)
        self.http.setup_cell(self.cell)
        self.ws.setup_cell(self.cell)
        while not self.endpoints or self.http._front.loop is None:
            await asyncio.sleep(0)

    def __exit__(self, *_error: object) -> None:
        for client in self._clients:
            client.close()
        self.stop()
        for thread in self._threads:
            thread.join(SECONDS)
            assert not thread.is_alive()
        self.on_loop(self._tear_down())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._looping.join()
        self.loop.close()
        if self.faults:
            raise self.faults[0]

    def stop(self) -> None:
        """Ask what runs to end."""
        for run in self.runs:
            for callback in run.stops:
                callback()

    async def _tear_down(self) -> None:
        self.http.teardown_cell("prog")
        self.ws.teardown_cell("prog")
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        self.http.teardown()
        self.ws.teardown()

    def on_loop(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(SECONDS)

    def _post(self, event: StepEvent) -> Posted:
        if self.verdict is Posted.ACCEPTED:
            self.start(event)
        return self.verdict

    def start(self, event: StepEvent | None) -> None:
        """Begin a run, on a thread of its own."""
        run = PlayedRun(self.cell, event)
        self.runs.append(run)
        self._threads.append(threading.Thread(target=self._run, args=(run,)))
        self._threads[-1].start()

    def _run(self, run: PlayedRun) -> None:
        try:
            self.http.mount(run)
            self.ws.mount(run)
            self.outcomes.put(run.run(self.program))
        except BaseException as error:  # noqa: BLE001  # the test is told of it
            self.faults.append(error)
            for callback in run.ends:
                callback(Outcome(None, "the test failed"))
        finally:
            if run.event is not None:
                self.http.finalize(run.event.id)

    # Clients ------------------------------------------------------------------------------------------------------

    @property
    def port(self) -> int:
        return int(self.endpoints[0].address.rpartition(":")[2])

    def connect(self) -> http.client.HTTPConnection:
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)
        self._clients.append(client)
        return client

    def dial(self) -> socket.socket:
        """Connect, and leave the rest to the test."""
        return socket.create_connection(("127.0.0.1", self.port), SECONDS)

    def ask(
        self, method: str = "GET", path: str = "/x", body: Any = None, headers: dict[str, str] | None = None
    ) -> http.client.HTTPResponse:
        """Send a request; return the answer when its head is here."""
        client = self.connect()
        client.request(method, path, body, headers or {})
        return client.getresponse()

    def whole(self, method: str = "GET", path: str = "/x", body: Any = None, **headers: str) -> Whole:
        """Send a request; return the answer when all of it is here."""
        return Whole(self.ask(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()}))

    def get(self, path: str = "/x", **headers: str) -> tuple[int, bytes]:
        answer = self.whole("GET", path, **headers)
        self._clients.pop().close()
        return answer.status, answer.body

    def logged(self, message: str) -> dict[str, Any]:
        """Return the fields of the one record with this message."""
        (found,) = [one.fields for one in self.seen if one.message == message]
        return found
