"""`transport.http.inbound`: requests become events, replies become responses (spec/capabilities §2).

    loop     _take ── pending[id] ── post ──▶ mailbox
    worker   http_respond ── render ── front.send ─┐        (or finalize: nobody answered, 500)
    loop     flush ◀───────────────────────────────┘

A cell answers inside the step that brings the request, unless it says `http_defer` or begins an answer in pieces
there. An id is good for one reply, by the cell it was given to.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Final

import msgspec

from pulp_runtime._net import answers
from pulp_runtime._net.exchange import BodyPlan, Request
from pulp_runtime._net.head import RequestLine
from pulp_runtime._net.response import RenderedFields, ResponseInvalid, render_head_fields
from pulp_runtime._net.routes import Match, RouteConflict, RouteInvalid
from pulp_runtime._net.upload import UploadBroken
from pulp_runtime.abi.http import (
    HTTPBodyChunk,
    HTTPClosed,
    HTTPListen,
    HTTPRegister,
    HTTPResponse,
    join_http_request,
)
from pulp_runtime.capabilities.transport.front import HTTP, Front
from pulp_runtime.capabilities.transport.pieces import Pieces
from pulp_runtime.errors import ListenError
from pulp_runtime.ext import (
    U32,
    U64,
    Capability,
    CellRef,
    Errno,
    Guest,
    HostError,
    Posted,
    SetupEnv,
    StepEvent,
    host_function,
)

NAME: Final = "transport.http.inbound"
UNANSWERED: Final = b"cell did not respond"
CELL_GONE: Final = b"cell shut down"
CHUNK_BYTES: Final = 4 * 1024 * 1024
"""Longest piece of a body `http_body_read` gives at once."""
_REPLY_HEADS: Final = 512
_REPLY_HEAD_FIELDS: Final = 16

_NOBODY: Final = (None, "")
_closed: Final = msgspec.msgpack.Encoder().encode


class HttpSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a cell's manifest may set under `[settings."transport.http.inbound"]`.

    Attributes:
        request_timeout_ms: how long a request waits for its reply, the time in the mailbox included. Past it 504.
        idle_timeout_ms: how long a client may be silent after an answer of this cell; the listener's by default.
        body_bytes: longest body of a request. Past it 413, before the body is read.
        stream_body_bytes: the same for routes registered with `stream`.
        head_bytes: longest header block. Past it 431.
    """

    request_timeout_ms: Annotated[int, msgspec.Meta(ge=1, le=3_600_000)] = 30_000
    idle_timeout_ms: Annotated[int, msgspec.Meta(ge=1, le=3_600_000)] | None = None
    body_bytes: Annotated[int, msgspec.Meta(ge=0, le=1 << 30)] = 50 * 1024 * 1024
    stream_body_bytes: Annotated[int, msgspec.Meta(ge=0, le=1 << 40)] = 1 << 30
    head_bytes: Annotated[int, msgspec.Meta(ge=256, le=1 << 20)] = 64 * 1024


_DEFAULTS: Final = HttpSettings()


class HttpInbound:
    """Requests of every listener, for the cells whose routes they match."""

    def __init__(self) -> None:
        self._torn: Final[set[str]] = set()
        self._pending: Final[dict[int, tuple[Request, str]]] = {}
        self._deferred: Final[set[int]] = set()
        self._pieces: Final[dict[int, Pieces]] = {}
        self._uploads: Final[dict[int, tuple[Request, str]]] = {}
        self._streamed: Final[set[tuple[str, str, str]]] = set()
        self._cells: Final[dict[str, HttpSettings]] = {}
        self._last_id = 0
        self._heads: Final[dict[object, RenderedFields]] = {}
        self._env: SetupEnv | None = None
        self._front = Front()

    # What cells call --------------------------------------------------------------------------------------------

    @host_function
    def http_listen(self, cell: CellRef, listen: HTTPListen) -> None:
        """Have this cell's routes on a listener of their own; call it before the first route is registered.

        Answers `FAILED` (4) without an address, 5 when it cannot be bound, 6 when it is too late: the cell has
        routes, or chose another address.
        """
        if not listen.addr:
            raise HostError(Errno.FAILED, "addr is empty")
        try:
            if not self._front.listen(cell.id, listen.addr):
                raise HostError(Errno.NOT_FOUND, "the cell has routes, or chose another address")
        except ListenError as error:
            cell.log.warning("listener refused", reason=str(error))
            raise HostError(Errno.ENCODE, str(error)) from None

    @host_function
    def http_register(self, cell: CellRef, route: HTTPRegister) -> None:
        """Send requests with this method and path pattern to the calling cell.

        Answers `FAILED` (4) for an invalid method or pattern, or one that overlaps a route of another cell.
        """
        self._torn.discard(cell.id)
        try:
            self._front.register(HTTP, cell.id, route.method, route.path)
        except (RouteInvalid, RouteConflict) as error:
            cell.log.warning("route refused", reason=str(error))
            raise HostError(Errno.FAILED, str(error)) from None
        if route.stream:
            self._streamed.add((cell.id, route.method.strip().upper(), route.path))

    @host_function
    def http_respond(self, cell: CellRef, reply: HTTPResponse) -> None:
        """Answer a request.

        Answers `FAILED` (4) when no request with this id waits for this cell, or the reply cannot be sent: a
        status outside 200..999, a header that would break the response. Such a request can still be answered.
        """
        request, owner = self._pending.get(reply.id, _NOBODY)
        if request is None or owner != cell.id:
            raise HostError(Errno.FAILED, "no such request")
        fields = self._checked_fields(cell, reply)
        if self._pending.pop(reply.id, None) is None:  # timed out, or torn down, since
            raise HostError(Errno.FAILED, "no such request")
        connection = request.connection
        rest = connection.render(request, fields, reply.body or b"")
        if not self._pending and not fields.close:
            # Nobody else waits for the loop, so this answer need not wake it; many are sent together by the loop.
            rest = connection.send_direct(request, rest)
        if rest is not None:
            self._front.send(request, rest, fields.close)

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
        request, owner = self._uploads.get(number, _NOBODY)
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

    def _waiting(self, cell: CellRef, number: int) -> Request:
        request, owner = self._pending.get(number, _NOBODY)
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

    # Requests, on the loop --------------------------------------------------------------------------------------

    def _take(self, request: Request, match: Match) -> None:
        settings = self._cells.get(match.owner, _DEFAULTS)
        if settings is not _DEFAULTS and not self._suits(request, settings):
            return
        self._last_id = number = self._last_id + 1
        line = request.line
        payload = join_http_request(
            number,
            line.packed_target,
            match.packed_params,
            line.packed_query,
            request.block.packed_fields,
            request.body,
            request.connection.packed_remote_addr,
        )
        self._pending[number] = (request, match.owner)
        if request.upload is not None:
            self._uploads[number] = (request, match.owner)
        posted = self._env.post(StepEvent("http.request", payload, number, match.owner))  # type: ignore[union-attr]
        if posted is not Posted.ACCEPTED and self._pending.pop(number, None) is not None:
            self._forget(number)
            self._refuse(request, posted)

    def _suits(self, request: Request, settings: HttpSettings) -> bool:
        """Apply what the cell's manifest says to a request; answer it if that forbids it."""
        if settings.idle_timeout_ms is not None:
            request.connection.limit_idle(settings.idle_timeout_ms / 1000)
        if request.block.size > settings.head_bytes:
            self._front.answer(request, answers.error(431, "request head too long"))
            return False
        return True

    def _plan(self, match: Match, line: RequestLine) -> BodyPlan:
        """Say how the body of a request is wanted."""
        settings = self._cells.get(match.owner, _DEFAULTS)
        if (match.owner, line.method, match.pattern) in self._streamed:
            return BodyPlan(settings.stream_body_bytes, streamed=True)
        return BodyPlan(min(settings.body_bytes, self._front.settings.body_bytes))

    def _refuse(self, request: Request, posted: Posted) -> None:
        if posted is Posted.FULL:
            self._front.answer(request, answers.error(503, "queue full"))
        elif posted is Posted.TOO_LARGE:
            self._front.answer(request, answers.error(413, "request body too large"))
        else:
            self._front.answer(request, answers.plain(503, CELL_GONE))

    def _left(self, request: Request) -> None:
        """Tell the cell that keeps a request that its client is gone."""
        for number in list(self._deferred):
            if self._pending.get(number, _NOBODY)[0] is request:
                self._gone(number, self._pending[number][1])
                self._front.answer(request, answers.error(503, "the client has shut its side"), close=True)

    def _gone(self, number: int, owner: str) -> None:
        self._pending.pop(number, None)
        self._pieces.pop(number, None)
        self._forget(number)
        if self._env is not None and owner not in self._torn:
            self._env.post(StepEvent("http.closed", _closed(HTTPClosed(id=number)), 0, owner))

    def _forget(self, number: int) -> None:
        """Have no more to do with a request."""
        self._deferred.discard(number)
        self._uploads.pop(number, None)

    def _sweep(self, now: float) -> None:
        """Answer 504 for requests that have waited too long; a reply that comes later is answered 4."""
        late = []
        for number, (request, owner) in list(self._pending.items()):
            if now - request.received >= self._cells.get(owner, _DEFAULTS).request_timeout_ms / 1000:
                late.append(number)
        for number in late:
            entry = self._pending.pop(number, None)
            if entry is not None:
                self._forget(number)
                self._front.answer(entry[0], answers.error(504, "cell timeout"))

    # Hooks ------------------------------------------------------------------------------------------------------

    def setup(self, env: SetupEnv) -> None:
        """Open the shared front; a port that is taken stops the host before any cell is loaded."""
        self._env = env
        self._front = env.services.get(Front, Front)
        self._front.plan = self._plan
        self._front.on_disconnect = self._left
        self._front.open(env, HTTP, self._take)
        env.spawn(self._watch())

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            self._sweep(asyncio.get_running_loop().time())

    def setup_cell(self, cell: CellRef) -> None:
        """Read what the cell's manifest sets."""
        settings = cell.settings(NAME, HttpSettings)
        self._cells[cell.id] = _DEFAULTS if settings == _DEFAULTS else settings

    def finalize(self, number: int) -> None:
        """Answer 500 if the step that had the request left it unanswered and did not ask for more time."""
        if number in self._deferred and self._pending.get(number, _NOBODY)[1] not in self._torn:
            return
        entry = self._pending.pop(number, None)
        if number not in self._pieces:
            self._forget(number)
        if entry is not None:
            request, owner = entry
            answer = answers.plain(503, CELL_GONE) if owner in self._torn else answers.plain(500, UNANSWERED)
            self._front.send(request, request.connection.render(request, *answer))

    def teardown_cell(self, cell_id: str) -> None:
        """Drop a cell's routes, what it deferred and what it had begun to answer.

        Requests that wait are the new instance's, or are finalized: then their answer is 503.
        """
        self._torn.add(cell_id)
        self._front.drop(HTTP, cell_id)
        for number, pieces in list(self._pieces.items()):
            if pieces.owner == cell_id:
                self._pieces.pop(number, None)
                self._forget(number)
                pieces.abort()
        for number in list(self._deferred):
            if self._pending.get(number, _NOBODY)[1] == cell_id:
                self.finalize(number)

    def teardown(self) -> None:
        """Forget everything; the listener ended with its task, if that was ever begun."""
        self._front.close(HTTP)
        self._torn.clear()
        self._pending.clear()
        self._deferred.clear()
        self._pieces.clear()
        self._uploads.clear()


def capability() -> Capability:
    """Return the capability; the entry point."""
    return Capability.of(NAME, HttpInbound())
