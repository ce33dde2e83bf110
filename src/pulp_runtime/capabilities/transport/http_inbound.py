"""`transport.http.inbound`: requests become events, replies become responses (spec/capabilities §2).

    loop     _on_request ── match ── pending[id] ── post ──▶ mailbox
    worker   http_respond ── render ── out ─┐        (or finalize: nobody answered, 500)
    loop     _flush ◀───── defer ───────────┘

A cell answers inside the step that brings the request. An id is good for one reply, by the cell it was given to.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from typing import Final, TypedDict

from pulp_runtime._net import response
from pulp_runtime._net.exchange import Request
from pulp_runtime._net.listener import Listener
from pulp_runtime._net.response import RenderedFields, ResponseInvalid, assemble, render_head_fields
from pulp_runtime._net.routes import Match, RouteConflict, RouteInvalid, RouteTable
from pulp_runtime.abi.http import HTTPRegister, HTTPResponse, join_http_request
from pulp_runtime.errors import ExtensionError
from pulp_runtime.ext import (
    Capability,
    CellRef,
    Endpoint,
    Errno,
    HostError,
    Posted,
    SetupEnv,
    StepEvent,
    host_function,
)

NAME: Final = "transport.http.inbound"
DEFAULT_PORT: Final = "8080"
ANSWER_SECONDS: Final = 30.0
"""How long a request waits for its reply, the time in the mailbox included. Past it the client gets 504."""
GRACE_SECONDS: Final = 5.0
UNANSWERED: Final = b"cell did not respond"
CELL_GONE: Final = b"cell shut down"
_REPLY_HEADS: Final = 512
_REPLY_HEAD_FIELDS: Final = 16

_NOBODY: Final = (None, "")


class HttpInbound:
    """Requests of the shared listener, for the cells whose routes they match."""

    def __init__(self) -> None:
        self._table = RouteTable()
        self._table_lock: Final = threading.Lock()
        self._fading: Final[dict[str, tuple[RouteTable, float]]] = {}
        self._torn: Final[set[str]] = set()
        self._pending: Final[dict[int, tuple[Request, str]]] = {}
        self._last_id = 0
        self._out: Final[deque[tuple[Request, bytes, bool]]] = deque()
        self._flushing = False
        self._heads: Final[dict[object, RenderedFields]] = {}
        self._env: SetupEnv | None = None
        self._listener: Listener | None = None

    # What cells call --------------------------------------------------------------------------------------------

    @host_function
    def http_register(self, cell: CellRef, route: HTTPRegister) -> None:
        """Send requests with this method and path pattern to the calling cell.

        Answers `FAILED` (4) for an invalid method or pattern, or one that overlaps a route of another cell.
        """
        with self._table_lock:
            self._torn.discard(cell.id)
            try:
                self._table = self._table.add(route.method, route.path, cell.id)
            except (RouteInvalid, RouteConflict) as error:
                cell.log.warning("route refused", reason=str(error))
                raise HostError(Errno.FAILED, str(error)) from None

    @host_function
    def http_respond(self, cell: CellRef, reply: HTTPResponse) -> None:
        """Answer a request of this step.

        Answers `FAILED` (4) when no request with this id waits for this cell, or the reply cannot be sent: a
        status outside 200..999, a header that would break the response. Such a request can still be answered.
        """
        request, owner = self._pending.get(reply.id, _NOBODY)
        if request is None or owner != cell.id:
            raise HostError(Errno.FAILED, "no such request")
        try:
            fields = self._fields(reply)
        except ResponseInvalid as error:
            cell.log.warning("response refused", reason=str(error))
            raise HostError(Errno.FAILED, str(error)) from None
        if self._pending.pop(reply.id, None) is None:  # timed out, or torn down, since
            raise HostError(Errno.FAILED, "no such request")
        line = request.line
        data = assemble(fields, reply.body or b"", line.method, request.keep_alive, not line.minor)
        rest: bytes | None = data
        if not self._pending and not fields.close:
            # Nobody else waits for the loop, so this answer need not wake it; many are sent together by the loop.
            rest = request.connection.send_direct(request, data)
        if rest is not None:
            self._send(request, rest, fields.close)

    def _fields(self, reply: HTTPResponse) -> RenderedFields:
        """Return the rendered head of a reply; cells send the same few again and again."""
        headers, cookies = reply.headers or {}, reply.cookies or ()
        if len(headers) > _REPLY_HEAD_FIELDS or cookies:
            return render_head_fields(reply.status, headers, cookies)
        key = (reply.status, *headers.items())
        fields = self._heads.get(key)
        if fields is None:
            fields = render_head_fields(reply.status, headers)
            if len(self._heads) >= _REPLY_HEADS:
                self._heads.clear()
            if len(fields.head) <= 1024:
                self._heads[key] = fields
        return fields

    # Requests, on the loop --------------------------------------------------------------------------------------

    def _on_request(self, request: Request) -> None:
        line = request.line
        match = self._table.match(line.method, line.path) or self._match_fading(line.method, line.path)
        if match is None:
            self._answer(request, response.not_found(**_framing(request)))
            return
        self._last_id = number = self._last_id + 1
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
        posted = self._env.post(StepEvent("http.request", payload, number, match.owner))  # type: ignore[union-attr]
        if posted is not Posted.ACCEPTED and self._pending.pop(number, None) is not None:
            self._refuse(request, posted)

    def _match_fading(self, method: str, path: str) -> Match | None:
        """Find a route of a cell that is being replaced: its requests wait for the new instance."""
        for table, _since in self._fading.values():
            if (match := table.match(method, path)) is not None:
                return match
        return None

    def _refuse(self, request: Request, posted: Posted) -> None:
        if posted is Posted.FULL:
            self._answer(request, response.simple(503, "queue full", **_framing(request)))
        elif posted is Posted.TOO_LARGE:
            self._answer(request, response.simple(413, "request body too large", **_framing(request)))
        else:
            self._answer(request, _plain(request, 503, CELL_GONE))

    def _answer(self, request: Request, data: bytes) -> None:
        request.connection.respond(request, data)

    def _send(self, request: Request, data: bytes, close: bool = False) -> None:
        """Have the loop write an answer; from any thread."""
        self._out.append((request, data, close))
        if not self._flushing:
            self._flushing = True
            self._env.defer(self._flush)  # type: ignore[union-attr]

    def _flush(self) -> None:
        self._flushing = False
        out = self._out
        while out:
            request, data, close = out.popleft()
            request.connection.respond(request, data, close=close)

    # Hooks ------------------------------------------------------------------------------------------------------

    def setup(self, env: SetupEnv) -> None:
        """Bind the shared listener; a port that is taken stops the host before any cell is loaded."""
        host, _, port = (env.http_port or DEFAULT_PORT).rpartition(":")
        if not port.isascii() or not port.isdigit():
            raise ExtensionError(f"http port {env.http_port!r} is not a number, nor host:port")
        self._env = env
        self._listener = Listener.bind(host.strip("[]"), int(port))
        env.spawn(self._serve(self._listener))
        bound = self._listener.addresses[0]  # clients can connect from here on
        env.logger.info("http server started", addr=bound)
        env.reachable(Endpoint(NAME, "public", f"http://{_reachable(bound)}"))

    async def _serve(self, listener: Listener) -> None:
        try:
            await listener.serve(self._on_request)
            while True:
                await asyncio.sleep(1.0)
                self._sweep(asyncio.get_running_loop().time())
        finally:
            await listener.close(GRACE_SECONDS)

    def _sweep(self, now: float) -> None:
        """Answer 504 for requests that have waited too long; a reply that comes later is answered 4."""
        for cell_id, (_table, since) in list(self._fading.items()):
            if time.monotonic() - since > ANSWER_SECONDS:
                self._fading.pop(cell_id, None)
        late = []
        for number, (request, _owner) in list(self._pending.items()):  # oldest first
            if now - request.received < ANSWER_SECONDS:
                break
            late.append(number)
        for number in late:
            entry = self._pending.pop(number, None)
            if entry is not None:
                self._answer(entry[0], response.simple(504, "cell timeout", **_framing(entry[0])))

    def finalize(self, number: int) -> None:
        """Answer 500 if the step that had the request left it unanswered."""
        entry = self._pending.pop(number, None)
        if entry is not None:
            request, owner = entry
            gone = owner in self._torn
            self._send(request, _plain(request, 503, CELL_GONE) if gone else _plain(request, 500, UNANSWERED))

    def teardown_cell(self, cell_id: str) -> None:
        """Drop a cell's routes, for other cells at once, for its clients when it has not come back in a while.

        Requests that wait are the new instance's, or are finalized: then their answer is 503.
        """
        with self._table_lock:
            own = RouteTable(route for route in self._table.routes if route.owner == cell_id)
            self._table = self._table.without(cell_id)
            self._torn.add(cell_id)
        if own.routes:
            self._fading[cell_id] = (own, time.monotonic())

    def teardown(self) -> None:
        """Forget everything; the listener ended with its task, if that was ever begun."""
        if self._listener is not None:
            self._listener.unbind()
        self._table = RouteTable()
        self._fading.clear()
        self._torn.clear()
        self._pending.clear()


class _Framing(TypedDict):
    method: str
    keep_alive: bool
    http10: bool


def _framing(request: Request) -> _Framing:
    """Return what an answer must know of its request."""
    line = request.line
    return {"method": line.method, "keep_alive": request.keep_alive, "http10": not line.minor}


def _plain(request: Request, status: int, body: bytes) -> bytes:
    """Return an answer as the contract's handler writes it by itself: text, no newline."""
    return response.render(status, {"Content-Type": "text/plain; charset=utf-8"}, (), body, **_framing(request))


def _reachable(address: str) -> str:
    """Return an address that a client on this machine can use: a wildcard means loopback."""
    host, _, port = address.rpartition(":")
    return f"127.0.0.1:{port}" if host in ("0.0.0.0", "[::]") else address  # noqa: S104  # compared, not bound


def capability() -> Capability:
    """Return the capability; the entry point."""
    return Capability.of(NAME, HttpInbound())
