"""What the daemon sends piece by piece: output of commands, logs, files.

The library takes the timeout off a socket before it reads a stream. So these few requests are made here, on a socket
of our own, with what is left of the deadline before every read.
"""

from __future__ import annotations

import http.client
import io
import json
import socket
import struct
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from typing import Any, Final

OUTPUT_BYTES: Final = 1024 * 1024
"""Longest output of a command, and longest text of logs."""
FILE_BYTES: Final = 16 * 1024 * 1024
"""Longest file."""
_FRAME: Final = struct.Struct(">BxxxL")
_PIECE: Final = 64 * 1024
_OUTPUTS: Final = (1, 2)
_AT_ONCE: Final = 64
_TOO_SLOW: Final = "the daemon did not answer in time"


class Failed(Exception):
    """What was asked cannot be had; the text says why, for the operator."""


class Missing(Exception):
    """There is no such thing."""


class Stream:
    """The body of an answer, read as it comes."""

    def __init__(self, sock: socket.socket, response: http.client.HTTPResponse, left: Callable[[], float]) -> None:
        self._sock: Final = sock
        self._response: Final = response
        self._left: Final = left

    def some(self, most: int = _PIECE) -> bytes:
        """Return what has come, at most `most` bytes; b"" at the end."""
        if self._response.isclosed():
            return b""
        self._sock.settimeout(self._left())
        try:
            return self._response.read1(most)
        except TimeoutError:
            raise Failed(_TOO_SLOW) from None
        except (OSError, http.client.HTTPException) as error:
            raise Failed(f"the answer broke off: {type(error).__name__}") from None

    def exactly(self, size: int) -> bytes:
        """Return `size` bytes, fewer only at the end."""
        parts = []
        while size and (part := self.some(min(size, _PIECE))):
            parts.append(part)
            size -= len(part)
        return b"".join(parts)


class Connection(http.client.HTTPConnection):
    """A connection to the daemon's socket, whose every wait is bounded.

    Args:
        path: of the socket.
        left: returns the seconds that are left; raises if none are.
    """

    def __init__(self, path: str, left: Callable[[], float]) -> None:
        super().__init__("docker")
        self._path: Final = path
        self._left: Final = left

    def connect(self) -> None:
        """See `HTTPConnection.connect`."""
        self.sock = self._own = socket.socket(socket.AF_UNIX)
        self._own.settimeout(self._left())
        self._own.connect(self._path)

    def ask(self, method: str, target: str, body: Any = None) -> None:
        """Send a request, with JSON if there is a body."""
        data = None if body is None else json.dumps(body).encode()
        headers = {} if data is None else {"Content-Type": "application/json"}
        try:
            self.request(method, target, data, headers)
        except TimeoutError:
            raise Failed(_TOO_SLOW) from None

    @contextmanager
    def answer(self) -> Iterator[Stream]:
        """Give out the body of the answer.

        Raises:
            Missing, Failed: see `asked`.
        """
        self._own.settimeout(self._left())
        try:
            response = self.getresponse()
        except TimeoutError:
            raise Failed(_TOO_SLOW) from None
        with closing(response):
            stream = Stream(self._own, response, self._left)
            if response.status >= 400:
                why = stream.exactly(_PIECE).decode(errors="replace").strip()
                raise Missing(why) if response.status == 404 else Failed(f"{response.status}: {why}")
            yield stream


@contextmanager
def asked(client: Any, method: str, target: str, body: Any = None) -> Iterator[Stream]:
    """Send one request and give out its answer's body.

    Args:
        client: a `daemon.Client`.
        method: such as `GET`.
        target: path and query, percent-encoded, without the version.
        body: what to send as JSON, None for nothing.

    Raises:
        Missing: 404.
        Failed: any other refusal, or no answer in time.
    """
    with closing(Connection(client.socket, client.left)) as connection:
        connection.ask(method, f"/v{client.api_version}{target}", body)
        with connection.answer() as stream:
            yield stream


def all_asked(client: Any, targets: Sequence[str]) -> Iterator[bytes | None]:
    """Get several addresses at once: the daemon works on all of them while the first is waited for.

    Gives out a body for each, at most 1 MiB of it, or None for what is not there.

    Raises:
        Failed: a refusal, or no answer in time.
    """
    for at in range(0, len(targets), _AT_ONCE):
        with ExitStack() as opened:
            connections = [
                (opened.enter_context(closing(Connection(client.socket, client.left))), target)
                for target in targets[at : at + _AT_ONCE]
            ]
            for connection, target in connections:
                connection.ask("GET", f"/v{client.api_version}{target}")
            for connection, _target in connections:
                try:
                    with connection.answer() as stream:
                        yield stream.exactly(OUTPUT_BYTES)
                except Missing:
                    yield None


def output(stream: Stream, *, terminal: bool, last: bool = False) -> str:
    """Return what a container wrote, as text.

    Args:
        stream: in frames of a stream number and a length each, or bare for a container with a terminal.
        terminal: whether it has one.
        last: keep the last `OUTPUT_BYTES` if there are more, instead of refusing them.

    Raises:
        Failed: there are more.
    """
    kept = bytearray()
    for piece in _bare(stream) if terminal else _framed(stream):
        kept += piece
        if len(kept) > OUTPUT_BYTES:
            if not last:
                raise Failed(f"the output has more than {OUTPUT_BYTES:,} bytes")
            del kept[:-OUTPUT_BYTES]
    return bytes(kept).decode(errors="replace")


def _bare(stream: Stream) -> Iterator[bytes]:
    while piece := stream.some():
        yield piece


def _framed(stream: Stream) -> Iterator[bytes]:
    while head := stream.exactly(_FRAME.size):
        if len(head) < _FRAME.size:
            raise Failed("the output broke off")
        number, size = _FRAME.unpack(head)
        while size:
            piece = stream.some(min(size, _PIECE))
            if not piece:
                raise Failed("the output broke off")
            size -= len(piece)
            if number in _OUTPUTS:
                yield piece


def only_file(stream: Stream) -> bytes:
    """Return the content of the one file in an archive.

    Raises:
        Failed: it is no file, or longer than `FILE_BYTES`.
    """
    try:
        with tarfile.open(fileobj=_Readable(stream), mode="r|") as archive:
            member = archive.next()
            if member is None or not member.isreg():
                raise Failed("the path is not a file")
            if member.size > FILE_BYTES:
                raise Failed(f"the file has {member.size:,} bytes, more than {FILE_BYTES:,}")
            content = archive.extractfile(member)
            return b"" if content is None else content.read()
    except tarfile.TarError as error:
        raise Failed(f"the daemon sent no archive: {error}") from None


class _Readable(io.RawIOBase):
    """A stream, for `tarfile`."""

    def __init__(self, stream: Stream) -> None:
        super().__init__()
        self._stream: Final = stream

    def readable(self) -> bool:
        """See `io.IOBase`."""
        return True

    def read(self, size: int = -1) -> bytes:
        """See `io.RawIOBase`; the size is always given."""
        return self._stream.exactly(max(size, 0))


def archive_of(name: str, data: bytes) -> bytes:
    """Return an archive with one file in it."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        member = tarfile.TarInfo(name)
        member.size = len(data)
        member.mode = 0o644
        archive.addfile(member, io.BytesIO(data))
    return packed.getvalue()
