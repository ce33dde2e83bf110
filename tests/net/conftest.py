"""A connection without a socket, and hostile requests as data."""

import asyncio
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from pulp_runtime._net import response
from pulp_runtime._net.exchange import Request, Service
from pulp_runtime._net.http1 import Http1Connection
from pulp_runtime._net.settings import HttpSettings

CORPUS = Path(__file__).parent / "corpus"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Fill `malformed_head` and `malformed_chunks` from the corpus."""
    for name, file in (("malformed_head", "heads.toml"), ("malformed_chunks", "chunks.toml")):
        if name in metafunc.fixturenames:
            cases = tomllib.loads((CORPUS / file).read_text(encoding="utf-8"))
            params = [pytest.param(text.encode("latin-1"), id=why) for why, text in cases.items()]
            metafunc.parametrize(name, params)


class FakeTransport(asyncio.Transport):
    """Remembers what it was told; `unsent` and `high_water` play a client that does not read."""

    def __init__(self, peer: tuple[object, ...]) -> None:
        super().__init__({"peername": peer})
        self.sent = bytearray()
        self.closed = self.aborted = self.eof = self.paused = False
        self.unsent = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.closed, "written after close"
        self.sent += data

    def is_closing(self) -> bool:
        return self.closed or self.aborted

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = True

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.eof = True

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False


class Wire:
    """One connection, a clock that only the test moves, and an application that answers at once."""

    def __init__(self, peer: tuple[object, ...] = ("192.0.2.7", 4711), **settings: float) -> None:
        self.now = 1_000.0
        self.requests: list[Request] = []
        self.disconnected: list[Request] = []
        self.hold = False
        self.service = Service(
            self._handle,
            HttpSettings(**settings),
            time=lambda: self.now,
            on_disconnect=self.disconnected.append,
        )
        self.connect(peer)

    def connect(self, peer: tuple[object, ...] = ("192.0.2.7", 4712)) -> None:
        self.transport = FakeTransport(peer)
        self.connection = Http1Connection(self.service)
        self.connection.connection_made(self.transport)

    def _handle(self, request: Request) -> None:
        self.requests.append(request)
        if not self.hold:
            self.answer(request)

    def answer(self, request: Request, text: str = "ok") -> None:
        data = response.render(
            200,
            {"Content-Type": "text/plain"},
            (),
            text.encode(),
            method=request.line.method,
            keep_alive=request.keep_alive,
            http10=request.line.minor == 0,
        )
        request.connection.respond(request, data)

    def feed(self, data: bytes) -> None:
        self.connection.data_received(data)

    def pass_time(self, seconds: float) -> None:
        """Let time pass as the listener's sweep sees it."""
        self.now += seconds
        if self.connection.deadline <= self.now:
            self.connection.expire(self.now)

    @property
    def sent(self) -> bytes:
        return bytes(self.transport.sent)

    @property
    def statuses(self) -> list[int]:
        """Status codes of everything sent, in order."""
        lines = self.sent.split(b"HTTP/1.1 ")[1:]
        return [int(line[:3]) for line in lines]

    @property
    def over(self) -> bool:
        """Whether our side is shut."""
        return self.transport.closed or self.transport.eof or self.transport.aborted


@pytest.fixture
def open_wire() -> Callable[..., Wire]:
    return Wire


@pytest.fixture
def wire() -> Wire:
    return Wire()
