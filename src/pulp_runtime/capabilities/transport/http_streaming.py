"""Requests and answers that do not come in one piece, or not at once: the half of `transport.http.inbound` for them.

http_defer                       answer in a later step
http_body_read                   a body as it arrives
http_respond_begin/write/end     an answer in pieces
http_respond_stream              an answer that is the response to a fetch, as it comes
"""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec

from pulp_runtime._net.exchange import Request
from pulp_runtime._net.fetch_streams import FetchStreams
from pulp_runtime._net.response import RenderedFields, ResponseInvalid, render_head_fields
from pulp_runtime._net.upload import UploadBroken
from pulp_runtime.abi.http import HTTPBodyChunk, HTTPClosed, HTTPRespondStream, HTTPResponse
from pulp_runtime.capabilities.transport.front import Front
from pulp_runtime.capabilities.transport.pieces import Pieces
from pulp_runtime.capabilities.transport.splice import splice
from pulp_runtime.ext import U32, U64, CellRef, Errno, Guest, HostError, SetupEnv, StepEvent, host_function

CHUNK_BYTES: Final = 4 * 1024 * 1024
"""Longest piece of a body `http_body_read` gives at once."""
_REPLY_HEADS: Final = 512
_REPLY_HEAD_FIELDS: Final = 16

NOBODY: Final = (None, "")
_encode: Final = msgspec.msgpack.Encoder().encode


class HttpStreaming:
    """What both halves know of requests in flight; `http_inbound.HttpInbound` is the rest."""

    def __init__(self) -> None:
        self._torn: Final[set[str]] = set()
        self._pending: Final[dict[int, tuple[Request, str]]] = {}
        self._deferred: Final[set[int]] = set()
        self._pieces: Final[dict[int, Pieces]] = {}
        self._uploads: Final[dict[int, tuple[Request, str]]] = {}
        self._heads: Final[dict[object, RenderedFields]] = {}
        self._env: SetupEnv | None = None
        self._front = Front()
        self._streams = FetchStreams()

    @host_function
    def http_defer(self, cell: CellRef, number: U64) -> None:
        """Keep a request of this step, to be answered in a later one, within the request's time.

        Answers `FAILED` (4) when no request with this id waits for this cell.
        """
        self._waiting(cell, number)
        self._deferred.add(number)

    @host_function(blocking=True)
    def http_body_read(self, guest: Guest, number: U64, most: U32) -> HTTPBodyChunk:
        """Return the next bytes of a request's body, of a route registered with `stream`; wait for the first.

        At most `most` bytes, and 4 MiB; none with `eof` at the end. That the rest will not come is said in `err`.
        Answers `EMPTY` (1) when `most` is 0, `FAILED` (4) when this cell has no such request.
        """
        if not most:
            raise HostError(Errno.EMPTY, "most is 0")
        request, owner = self._uploads.get(number, NOBODY)
        if request is None or request.upload is None or owner != guest.cell.id:
            raise HostError(Errno.FAILED, "no such request")
        try:
            data = request.upload.read(min(most, CHUNK_BYTES), max(0.0, guest.seconds_left()))
        except (UploadBroken, TimeoutError) as error:
            return HTTPBodyChunk(bytes=b"", err=str(error))
        return HTTPBodyChunk(bytes=data, eof=not data)

    @host_function
    def http_respond_begin(self, cell: CellRef, reply: HTTPResponse) -> None:
        """Begin an answer in pieces: status, headers, cookies and the first piece, which may be empty.

        Codes as `http_respond`.
        """
        request = self._waiting(cell, reply.id)
        fields = self._checked_fields(cell, reply)
        if self._pending.pop(reply.id, None) is None:
            raise HostError(Errno.FAILED, "no such request")
        self._pieces[reply.id] = pieces = Pieces(
            request, fields, cell.id, self._loop(), lambda: self._gone(reply.id, cell.id)
        )
        if reply.body:
            pieces.write(reply.body, 0.0)

    @host_function(blocking=True)
    def http_respond_write(self, guest: Guest, number: U64, data: bytes) -> None:
        """Send a piece, waiting while the client is far behind.

        Answers `FAILED` (4) when there is no such answer of this cell, the client has left, or it took nothing
        until the call's deadline.
        """
        if not self._piecewise(guest.cell, number).write(data, max(0.0, guest.seconds_left())):
            raise HostError(Errno.FAILED, "the client is gone or takes nothing")

    @host_function
    def http_respond_end(self, cell: CellRef, number: U64) -> None:
        """End an answer in pieces. Answers `FAILED` (4) when there is no such answer of this cell."""
        self._piecewise(cell, number).end()
        self._pieces.pop(number, None)
        self._forget(number)

    @host_function
    def http_respond_stream(self, cell: CellRef, reply: HTTPRespondStream) -> None:
        """Answer with the response to a fetch (`http_fetch_begin`), passed on as it comes.

        The stream leaves the cell's table. Answers `FAILED` (4) when the cell has no such stream, 5 when no request
        with this id waits for it or the head cannot be sent; the stream is closed then.
        """
        source = self._streams.take(cell.id, reply.stream_id)
        if source is None:
            raise HostError(Errno.FAILED, "no such stream")
        try:
            request = self._waiting(cell, reply.id)
            head = HTTPResponse(id=reply.id, status=reply.status, headers=reply.headers, cookies=reply.cookies)
            fields = self._checked_fields(cell, head)
            if self._pending.pop(reply.id, None) is None:
                raise HostError(Errno.FAILED, "no such request")
        except HostError as error:
            source.close()
            raise HostError(Errno.ENCODE, error.detail) from None
        loop = self._loop()
        loop.call_soon_threadsafe(lambda: splice(request, fields, source, loop, cell.log))

    def _waiting(self, cell: CellRef, number: int) -> Request:
        request, owner = self._pending.get(number, NOBODY)
        if request is None or owner != cell.id:
            raise HostError(Errno.FAILED, "no such request")
        return request

    def _piecewise(self, cell: CellRef, number: int) -> Pieces:
        pieces = self._pieces.get(number)
        if pieces is None or pieces.owner != cell.id:
            raise HostError(Errno.FAILED, "no such answer")
        return pieces

    def _loop(self) -> asyncio.AbstractEventLoop:
        loop = self._front.loop
        assert loop is not None  # noqa: S101 - requests come while it serves
        return loop

    def _checked_fields(self, cell: CellRef, reply: HTTPResponse) -> RenderedFields:
        """Return the rendered head of a reply; cells send the same few again and again."""
        headers, cookies = reply.headers or {}, reply.cookies or ()
        key = (reply.status, *headers.items())
        fields = None if cookies or len(headers) > _REPLY_HEAD_FIELDS else self._heads.get(key)
        if fields is None:
            try:
                fields = render_head_fields(reply.status, headers, cookies)
            except ResponseInvalid as error:
                cell.log.warning("response refused", reason=str(error))
                raise HostError(Errno.FAILED, str(error)) from None
            if not cookies and len(headers) <= _REPLY_HEAD_FIELDS and len(fields.head) <= 1024:
                if len(self._heads) >= _REPLY_HEADS:
                    self._heads.clear()
                self._heads[key] = fields
        return fields

    def _gone(self, number: int, owner: str) -> None:
        self._pending.pop(number, None)
        self._pieces.pop(number, None)
        self._forget(number)
        if self._env is not None and owner not in self._torn:
            self._env.post(StepEvent("http.closed", _encode(HTTPClosed(id=number)), 0, owner))

    def _forget(self, number: int) -> None:
        """Have no more to do with a request."""
        self._deferred.discard(number)
        self._uploads.pop(number, None)
