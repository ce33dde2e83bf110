"""`transport.http.inbound`: requests become events, replies become responses (spec/capabilities §2).

    loop     _take ── pending[id] ── post ──▶ mailbox
    worker   http_respond ── render ── front.send ─┐        (or finalize: nobody answered, 500)
    loop     flush ◀───────────────────────────────┘

A cell answers inside the step that brings the request, unless it says `http_defer` or begins an answer in pieces
there. An id is good for one reply, by the cell it was given to.
"""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Annotated, Final

import msgspec

from pulp_runtime._net import answers
from pulp_runtime._net.exchange import BodyPlan, Request
from pulp_runtime._net.fetch_streams import FetchStreams
from pulp_runtime._net.head import RequestLine
from pulp_runtime._net.routes import Match, RouteConflict, RouteInvalid
from pulp_runtime.abi.http import (
    HTTPListen,
    HTTPRegister,
    HTTPResponse,
    join_http_request,
)
from pulp_runtime.capabilities.transport.front import HTTP, Front
from pulp_runtime.capabilities.transport.http_streaming import NOBODY, HttpStreaming
from pulp_runtime.capabilities.transport.routes_kept import KeptRoutes, keep, kept, on_loop, register_again
from pulp_runtime.capabilities.transport.static import StaticFiles, StaticMount
from pulp_runtime.errors import ListenError
from pulp_runtime.ext import (
    Capability,
    CellRef,
    Errno,
    HostError,
    Posted,
    Program,
    Run,
    SetupEnv,
    StepEvent,
    host_function,
)

if TYPE_CHECKING:
    from pulp_runtime.capabilities.transport.program_http import Programs

NAME: Final = "transport.http.inbound"
UNANSWERED: Final = b"cell did not respond"
CELL_GONE: Final = b"cell shut down"


class HttpSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a cell's manifest may set under `[settings."transport.http.inbound"]`.

    Attributes:
        request_timeout_ms: how long a request waits for its reply, the time in the mailbox included. Past it 504.
        idle_timeout_ms: how long a client may be silent after an answer of this cell; the listener's by default.
        body_bytes: longest body of a request. Past it 413, before the body is read.
        stream_body_bytes: the same for routes registered with `stream`.
        head_bytes: longest header block. Past it 431.
        static: folders that are served without stepping the cell.
    """

    request_timeout_ms: Annotated[int, msgspec.Meta(ge=1, le=3_600_000)] = 30_000
    idle_timeout_ms: Annotated[int, msgspec.Meta(ge=1, le=3_600_000)] | None = None
    body_bytes: Annotated[int, msgspec.Meta(ge=0, le=1 << 30)] = 50 * 1024 * 1024
    stream_body_bytes: Annotated[int, msgspec.Meta(ge=0, le=1 << 40)] = 1 << 30
    head_bytes: Annotated[int, msgspec.Meta(ge=256, le=1 << 20)] = 64 * 1024
    static: Annotated[tuple[StaticMount, ...], msgspec.Meta(max_length=64)] = ()


class KeptHttp(KeptRoutes, kw_only=True, frozen=True):
    """See `KeptRoutes`.

    Attributes:
        streamed: the routes whose bodies the cell reads piece by piece.
        last_id: number of the last request there had been, of any cell.
    """

    streamed: tuple[tuple[str, str], ...] = ()
    last_id: int = 0


_DEFAULTS: Final = HttpSettings()


class HttpInbound(HttpStreaming):
    """Requests of every listener, for the cells whose routes they match."""

    def __init__(self) -> None:
        super().__init__()
        self._streamed: Final[set[tuple[str, str, str]]] = set()
        self._loading: Final = threading.Lock()
        self._cells: Final[dict[str, HttpSettings]] = {}
        self._before: Final[dict[str, HttpSettings]] = {}
        self._static: Final = StaticFiles()
        self._last_id = 0
        self._programs: Programs | None = None

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
            self._static.check(cell.id, route.method, route.path)
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
        request, owner = self._pending.get(reply.id, NOBODY)
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

    # Requests, on the loop --------------------------------------------------------------------------------------

    def _take(self, request: Request, match: Match) -> None:
        settings = self._cells.get(match.owner, _DEFAULTS)
        if settings is not _DEFAULTS and not self._suits(request, match, settings):
            return
        if self._programs is not None and self._programs.owns(match.owner):
            self._programs.take(request, match)
            return
        number = self._next_id()
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

    def _next_id(self) -> int:
        self._last_id += 1
        return self._last_id

    def _suits(self, request: Request, match: Match, settings: HttpSettings) -> bool:
        """Apply what the cell's manifest says to a request; answer it if that says how."""
        if settings.idle_timeout_ms is not None:
            request.connection.limit_idle(settings.idle_timeout_ms / 1000)
        if request.block.size > settings.head_bytes:
            self._front.answer(request, answers.error(431, "request head too long"))
            return False
        return not settings.static or not self._static.serve(request, match, self._front)

    def _plan(self, match: Match, line: RequestLine) -> BodyPlan:
        """Say how the body of a request is wanted."""
        settings = self._cells.get(match.owner, _DEFAULTS)
        program = self._programs is not None and self._programs.owns(match.owner)
        if program or (match.owner, line.method, match.pattern) in self._streamed:
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
            if self._pending.get(number, NOBODY)[0] is request:
                self._gone(number, self._pending[number][1])
                self._front.answer(request, answers.error(503, "the client has shut its side"), close=True)

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
        self._streams = env.services.get(FetchStreams, FetchStreams)
        self._front.plan = self._plan
        self._front.on_disconnect = self._left
        self._front.open(env, HTTP, self._take)
        env.spawn(self._watch())

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            now = asyncio.get_running_loop().time()
            self._sweep(now)
            if self._programs is not None:
                self._programs.sweep(now)

    def setup_cell(self, cell: CellRef) -> None:
        """Read what the cell's manifest sets."""
        settings = cell.settings(NAME, HttpSettings)
        self._static.mount(self._front, cell, settings.static)
        self._cells[cell.id] = _DEFAULTS if settings == _DEFAULTS else settings
        if cell.program is not None:
            self._torn.discard(cell.id)
            self._load(cell, cell.program, settings)

    def _load(self, cell: CellRef, program: Program, settings: HttpSettings) -> None:
        """Serve a function or a daemon."""
        with self._loading:  # several programs may be loaded at once, and there is one `Programs`
            if self._programs is None:
                from pulp_runtime.capabilities.transport.program_http import Programs  # seldom, and long to import

                assert self._env is not None  # noqa: S101 - cells are loaded after the set-up
                self._programs = Programs(self._front, self._env, self._next_id)
        self._programs.load(cell, program, settings)

    def mount(self, run: Run) -> None:
        """Add to the run of a program what it is asked, and where it answers."""
        if self._programs is not None:
            self._programs.mount(run)

    def finalize(self, number: int) -> None:
        """Answer 500 if the step that had the request left it unanswered and did not ask for more time."""
        if self._programs is not None and self._programs.finalize(number):
            return
        if number in self._deferred and self._pending.get(number, NOBODY)[1] not in self._torn:
            return
        entry = self._pending.pop(number, None)
        if number not in self._pieces:
            self._forget(number)
        if entry is not None:
            request, owner = entry
            answer = answers.plain(503, CELL_GONE) if owner in self._torn else answers.plain(500, UNANSWERED)
            self._front.send(request, request.connection.render(request, *answer))

    def swap_begin(self, cell_id: str) -> None:
        """Keep what the cell's present version set, for the case that the next one is not adopted."""
        self._before[cell_id] = self._cells.get(cell_id, _DEFAULTS)
        self._front.swap_begin(HTTP, cell_id)
        if self._programs is not None:
            self._programs.swap_begin(cell_id)
        self._static.swap_begin(cell_id)

    def swap_end(self, cell_id: str, adopted: bool) -> None:
        """Leave the routes and settings of the version that runs."""
        before = self._before.pop(cell_id, _DEFAULTS)
        if not adopted:
            self._cells[cell_id] = before
        if self._programs is not None:
            self._programs.swap_end(cell_id, adopted=adopted)
        self._front.swap_end(HTTP, cell_id, adopted=adopted)
        self._static.swap_end(cell_id, adopted=adopted)

    def snapshot(self, cell_id: str) -> bytes:
        """Return the cell's routes, and the number of the last request."""
        listen, found = self._front.routes_of(HTTP, cell_id)
        routes = [route for route in found if not self._static.is_mount(cell_id, *route)]
        streamed = tuple((method, path) for owner, method, path in self._streamed if owner == cell_id)
        if not routes:
            return b""
        return keep(KeptHttp(listen=listen, routes=routes, streamed=streamed, last_id=self._last_id))

    def restore(self, cell_id: str, data: bytes) -> None:
        """Register the cell's routes again; no request gets a number that it knows from before."""
        known = kept(data, KeptHttp)
        on_loop(self._front, lambda: self._skip_to(known.last_id))
        self._torn.discard(cell_id)
        for method, path in known.routes:
            self._static.check(cell_id, method, path)
        register_again(self._front, HTTP, cell_id, known)
        self._streamed.update((cell_id, method, path) for method, path in known.streamed)

    def _skip_to(self, number: int) -> None:
        self._last_id = max(self._last_id, number)

    def teardown_cell(self, cell_id: str) -> None:
        """Drop a cell's routes, what it deferred and what it had begun to answer.

        Requests that wait are the new instance's, or are finalized: then their answer is 503.
        """
        self._torn.add(cell_id)
        self._front.drop(HTTP, cell_id)
        if self._programs is not None:
            self._programs.leave(cell_id)
        for number, pieces in list(self._pieces.items()):
            if pieces.owner == cell_id:
                self._pieces.pop(number, None)
                self._forget(number)
                pieces.abort()
        for number in list(self._deferred):
            if self._pending.get(number, NOBODY)[1] == cell_id:
                self.finalize(number)

    def teardown(self) -> None:
        """Forget everything; a listener of our own ended with its task, if that was ever begun."""
        for request, _owner in list(self._pending.values()):  # a gateway's clients are still there
            self._front.answer(request, answers.plain(503, CELL_GONE))
        for pieces in list(self._pieces.values()):
            pieces.abort()
        self._front.close(HTTP)
        self._torn.clear()
        self._pending.clear()
        self._deferred.clear()
        self._pieces.clear()
        self._uploads.clear()
        self._programs = None


def capability() -> Capability:
    """Return the capability; the entry point."""
    return Capability.of(NAME, HttpInbound())
