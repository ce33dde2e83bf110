"""The daemon, asked from the event loop: for answers that come bit by bit, and may never end.

What runs here is cancelled when the host stops; a thread that reads a socket could not be.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, BinaryIO, Final

_LINE_BYTES: Final = 1024 * 1024
_PIECE: Final = 64 * 1024


class Unanswered(Exception):
    """The daemon cannot be reached, refuses, or says what cannot be read; the text says which."""


@asynccontextmanager
async def lines(
    socket: str, method: str, target: str, headers: Mapping[str, str], body: BinaryIO | None = None, size: int = 0
) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
    """Send one request; give out its answer, a JSON object a line, as it comes.

    Args:
        socket: path of the daemon's.
        method: such as `GET`.
        target: path and query, percent-encoded.
        headers: more of them.
        body: what to send; a file that has been opened.
        size: how many bytes of it.

    Raises:
        Unanswered: see there.
    """
    try:
        reader, writer = await asyncio.open_unix_connection(socket, limit=_LINE_BYTES)
    except OSError as error:
        raise Unanswered(error.strerror or type(error).__name__) from None
    try:
        head = {"Host": "docker", "Connection": "close", "Content-Length": str(size), **headers}
        written = "".join(f"{name}: {value}\r\n" for name, value in head.items())
        writer.write(f"{method} {target} HTTP/1.1\r\n{written}\r\n".encode())
        while body is not None and (piece := body.read(_PIECE)):
            writer.write(piece)
            await writer.drain()
        yield _objects(reader, chunked=await _head(reader))
    except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as error:
        raise Unanswered(f"the answer broke off: {type(error).__name__}") from None
    finally:
        writer.close()


async def _head(reader: asyncio.StreamReader) -> bool:
    """Read status and headers; return whether the body comes in chunks.

    Raises:
        Unanswered: it is a refusal.
    """
    status = (await reader.readuntil(b"\r\n")).split()
    headers = {}
    while (line := await reader.readuntil(b"\r\n")) != b"\r\n":
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.strip().lower()] = value.strip().lower()
    if len(status) < 2 or not status[1].startswith(b"2"):
        why = (await reader.read(_PIECE)).decode(errors="replace")
        raise Unanswered(
            f"{status[1].decode(errors='replace') if len(status) > 1 else 'no status'}: {why.strip()[:500]}"
        )
    return headers.get("transfer-encoding", "") == "chunked"


async def _objects(reader: asyncio.StreamReader, *, chunked: bool) -> AsyncIterator[dict[str, Any]]:
    rest = b""
    async for piece in _chunks(reader) if chunked else _pieces(reader):
        *whole, rest = (rest + piece).split(b"\n")
        for line in whole:
            if line.strip():
                yield _object(line)
        if len(rest) > _LINE_BYTES:
            raise ValueError("a line without end")
    if rest.strip():
        yield _object(rest)


def _object(line: bytes) -> dict[str, Any]:
    found = json.loads(line)
    return found if isinstance(found, dict) else {}


async def _pieces(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while piece := await reader.read(_PIECE):
        yield piece


async def _chunks(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while True:
        size = int((await reader.readuntil(b"\r\n")).partition(b";")[0], 16)
        if not size:
            return
        if not 0 < size <= _LINE_BYTES:
            raise ValueError("a chunk without end")
        yield (await reader.readexactly(size + 2))[:-2]
