"""`transport.sse`: event streams (spec/capabilities §5), which a client that lost its connection may resume.

    loop     _take ── begin the answer ── what it missed ──▶ subscriber
    worker   sse_emit ── one frame ── pending ─┐
    loop     Post.run ◀────────────────────────┘ ──▶ every subscriber of the path

No event ever reaches the cell. Streams outlive its instances: a cell that is restarted finds its subscribers, and
what it had emitted before.
"""

from __future__ import annotations

import asyncio
from typing import Final

from pulp_runtime._net import answers
from pulp_runtime._net.exchange import Request
from pulp_runtime._net.head import HeaderBlock
from pulp_runtime._net.response import render_head_fields
from pulp_runtime._net.routes import Match, RouteConflict, RouteInvalid
from pulp_runtime.abi.sse import SSEEmitRequest
from pulp_runtime.capabilities.transport.front import EVENTS, Front
from pulp_runtime.capabilities.transport.routes_kept import KeptRoutes, keep, kept, register_again
from pulp_runtime.capabilities.transport.sse_audience import Audience, Emitted, Post, SseSettings
from pulp_runtime.capabilities.transport.sse_frame import FrameInvalid, encode_frame
from pulp_runtime.capabilities.transport.sse_subscriber import Rota
from pulp_runtime.ext import U32, Capability, CellRef, Errno, Guest, HostError, SetupEnv, host_function

NAME: Final = "transport.sse"
PATH_CHARACTERS: Final = 8 * 1024
"""Longest path of an event: a request line holds no longer one."""

_HEAD: Final = render_head_fields(
    200,
    # The last is for proxies that would gather the stream before they hand it on.
    {"Content-Type": "text/event-stream", "Cache-Control": "no-cache", "X-Accel-Buffering": "no"},
)


class Sse:
    """Subscribers of every cell, on every listener."""

    def __init__(self) -> None:
        self._audiences: Final[dict[str, Audience]] = {}
        self._before: Final[dict[str, SseSettings]] = {}
        self._post: Final = Post()
        self._rota = Rota()
        self._empty: asyncio.Event | None = None
        self._env: SetupEnv | None = None
        self._front = Front()

    # What cells call --------------------------------------------------------------------------------------------

    @host_function
    def sse_register(self, cell: CellRef, path: bytes) -> None:
        """Have GET requests for a path pattern answered with an event stream.

        Answers `EMPTY` (1) without a path, `FAILED` (4) for an invalid pattern or one that overlaps another stream's.
        """
        if not path:
            raise HostError(Errno.EMPTY, "path is empty")
        try:
            self._front.register(EVENTS, cell.id, "GET", _text(path), strict=True)
        except (RouteInvalid, RouteConflict) as error:
            cell.log.warning("event stream refused", reason=str(error))
            raise HostError(Errno.FAILED, str(error)) from None

    @host_function
    def sse_emit(self, guest: Guest, event: SSEEmitRequest) -> None:
        """Send an event to whoever is connected on exactly its path; nobody is fine too.

        Answers `FAILED` (4) when no stream of this cell covers the path, the event cannot be sent (a control
        character in `id` or `event`, too long), or no room was made for it until the call's deadline.
        """
        cell, path = guest.cell, event.path
        audience = self._audiences[cell.id]
        try:
            if len(path) > PATH_CHARACTERS or not self._front.covers(EVENTS, cell.id, path):
                raise FrameInvalid("no event stream of this cell covers the path")
            frame = encode_frame(event, audience.settings.event_bytes)
            if not event.id and not audience.listeners(path):
                return
            if audience.push(Emitted(path, event.id, frame), guest):
                self._post.add(audience)
                self._env.defer(self._post.run)  # type: ignore[union-attr]  # cells run while it is set up
        except (FrameInvalid, TimeoutError) as error:
            cell.log.warning("event refused", path=path[:80], reason=str(error))
            raise HostError(Errno.FAILED, str(error)) from None

    @host_function
    def sse_has_subscribers(self, guest: Guest, path_ptr: U32, path_len: U32, out_count_ptr: U32) -> None:
        """Store how many clients are connected on exactly this path of the cell, u32 little-endian.

        Answers `EMPTY` (1) without a path, `FAULT` (2) when it is outside memory, `WRITE` (8) when the out-address is.
        """
        if not path_len:
            raise HostError(Errno.EMPTY, "path is empty")
        path = guest.read(path_ptr, path_len).decode(errors="replace")
        count = self._audiences[guest.cell.id].listeners(path)
        guest.write(out_count_ptr, count.to_bytes(4, "little"))

    # Requests, on the loop --------------------------------------------------------------------------------------

    def _wants(self, request: Request, match: Match) -> bool:
        """Return whether a request is to be answered with a stream; otherwise it goes to the HTTP routes."""
        return not self._audiences[match.owner].settings.accept_only or accepts_events(request.block)

    def _take(self, request: Request, match: Match) -> None:
        audience = self._audiences[match.owner]
        if self._empty is not None:
            self._front.answer(request, answers.error(503, "host shutting down"))
            return
        if audience.count >= audience.settings.max_subscribers:
            audience.trouble("subscribers turned away")
            self._front.answer(request, answers.error(503, "too many subscribers"))
            return
        stream = request.connection.begin(request, _HEAD)
        if stream is None:
            return
        last_id = request.block.fields.get("Last-Event-Id", "")
        subscriber = audience.join(stream, request.line.path, last_id)

        def left() -> None:
            audience.leave(subscriber)
            self._look()

        stream.on_close = left
        self._rota.add(subscriber, audience.settings.keepalive_seconds, asyncio.get_running_loop().time())

    # The end ----------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        """Ping until the host stops; then end each cell's streams when it has said its last, and wait for that."""
        try:
            await self._rota.run(asyncio.get_running_loop().time)
        except asyncio.CancelledError:
            self._empty = asyncio.Event()
            for cell_id in list(self._audiences):
                if not self._front.owns(EVENTS, cell_id):  # it has gone before
                    self._end(cell_id)
            self._look()
            await self._empty.wait()

    def _end(self, cell_id: str) -> None:
        """End the streams of a cell, behind everything it emitted."""
        audience = self._audiences.get(cell_id)
        if audience is not None and self._empty is not None:
            self._post.finish()
            for subscriber in audience.subscribers():
                subscriber.end()
                audience.leave(subscriber)
            audience.tell()
            self._look()

    def _look(self) -> None:
        """Note whether the last subscriber is gone, if the host is stopping."""
        if self._empty is not None and not any(audience.count for audience in self._audiences.values()):
            self._empty.set()

    # Hooks ------------------------------------------------------------------------------------------------------

    def setup(self, env: SetupEnv) -> None:
        """Open the shared front; a port that is taken stops the host before any cell is loaded."""
        self._env = env
        self._empty = None
        self._rota = Rota()
        self._front = env.services.get(Front, Front)
        self._front.wants_events = self._wants
        self._front.open(env, EVENTS, self._take)
        env.spawn(self._run())

    def setup_cell(self, cell: CellRef) -> None:
        """Read what the cell's manifest sets."""
        settings = cell.settings(NAME, SseSettings)
        audience = self._audiences.setdefault(cell.id, Audience(settings, cell.log))
        audience.settings, audience.log = settings, cell.log

    def swap_begin(self, cell_id: str) -> None:
        """Keep what the cell's present version set, for the case that the next one is not adopted."""
        if (audience := self._audiences.get(cell_id)) is not None:
            self._before[cell_id] = audience.settings
        self._front.swap_begin(EVENTS, cell_id)

    def swap_end(self, cell_id: str, adopted: bool) -> None:
        """Leave the routes and settings of the version that runs; subscribers stay with it."""
        before = self._before.pop(cell_id, None)
        if before is not None and not adopted:
            self._audiences[cell_id].settings = before
        self._front.swap_end(EVENTS, cell_id, adopted=adopted)

    def snapshot(self, cell_id: str) -> bytes:
        """Return the cell's routes."""
        listen, routes = self._front.routes_of(EVENTS, cell_id)
        return keep(KeptRoutes(listen=listen, routes=routes)) if routes else b""

    def restore(self, cell_id: str, data: bytes) -> None:
        """Register the cell's routes again."""
        register_again(self._front, EVENTS, cell_id, kept(data, KeptRoutes), strict=True)

    def teardown_cell(self, cell_id: str) -> None:
        """Drop a cell's routes; its streams stay open for its next instance, unless the host is stopping."""
        self._front.drop(EVENTS, cell_id)
        if self._env is not None:
            self._env.defer(lambda: self._end(cell_id))

    def teardown(self) -> None:
        """End every stream that is still open, and forget everything."""
        for cell_id in self._audiences:
            self._end(cell_id)
        self._front.close(EVENTS)
        self._audiences.clear()
        self._before.clear()
        self._env = None


def accepts_events(block: HeaderBlock) -> bool:
    """Return whether an Accept header names `text/event-stream`, and not with a weight of 0 (RFC 9110 §12.5.1)."""
    for offer in block.fields.get("Accept", "").lower().split(","):
        kind, *parameters = [part.strip() for part in offer.split(";")]
        if kind == "text/event-stream":
            return not any(_no_weight(parameter) for parameter in parameters)
    return False


def _no_weight(parameter: str) -> bool:
    name, _, value = parameter.partition("=")
    return name == "q" and not value.strip("0.")


def _text(path: bytes) -> str:
    try:
        return path.decode()
    except UnicodeDecodeError:
        raise HostError(Errno.FAILED, "path is not UTF-8") from None


def capability() -> Capability:
    """Return the capability; the entry point."""
    return Capability.of(NAME, Sse())
