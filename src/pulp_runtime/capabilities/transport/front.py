"""The shared front of a host, or of an application behind a gateway: its listeners, and who owns which path on them.

All that comes in by HTTP passes here, and goes where the first of these tables has a route for it
(spec/capabilities §2.5):

    1  WebSocket upgrades    transport.ws.inbound
    2  event streams (GET)   transport.sse
    3  requests              transport.http.inbound

The three capabilities share one `Front`; whichever is set up first opens it. A cell's routes belong to one listener:
the shared one, or the one it asked for with `http_listen` before it registered its first route. Behind a `Gateway`
the shared one is the gateway's, which hands over what is this application's.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from pulp_runtime._net import answers
from pulp_runtime._net.answers import Answer
from pulp_runtime._net.dial_own import OwnListeners
from pulp_runtime._net.exchange import BodyPlan, Request
from pulp_runtime._net.head import HeaderBlock, RequestLine
from pulp_runtime._net.listener import Listener
from pulp_runtime._net.routes import Match, Route, RouteConflict, RouteTable
from pulp_runtime._net.settings import HttpSettings
from pulp_runtime.capabilities.transport.door import EMPTY, KINDS, Door
from pulp_runtime.capabilities.transport.door import EVENTS as EVENTS
from pulp_runtime.capabilities.transport.door import HTTP as HTTP
from pulp_runtime.capabilities.transport.door import WEBSOCKET as WEBSOCKET
from pulp_runtime.capabilities.transport.gateway_seat import GatewaySeat
from pulp_runtime.capabilities.transport.listener_settings import ListenerSettings, listener_settings
from pulp_runtime.capabilities.transport.listening import GRACE_SECONDS, Listening, split_address
from pulp_runtime.errors import ExtensionError, ListenError
from pulp_runtime.ext import Endpoint, SetupEnv

DEFAULT_PORT: Final = "8080"
MAX_LISTENERS: Final = 64
"""Listeners that cells may open beside the shared one, all cells together."""

Taker = Callable[[Request, Match], None]


class _Swap(NamedTuple):
    """Routes of one kind while a cell changes versions: all as they were, and what the new version asked for."""

    before: Mapping[Door, RouteTable]
    fresh: set[tuple[Door, Route]]


class Front:
    """Listeners and routes of one host; get it with `env.services.get(Front, Front)`.

    Attributes:
        takers: what handles a request with a route, by capability; on the loop.
        plan: says how the body of a request with a route is wanted.
        on_disconnect: told of unanswered requests whose client has left.
        wants_events: whether a request on an event stream's path is to be answered with one; else it is HTTP's.
        loop: the host's, once it serves.
    """

    def __init__(self) -> None:
        self.takers: Final[dict[str, Taker]] = {}
        self.plan: Callable[[Match, RequestLine], BodyPlan] | None = None
        self.on_disconnect: Callable[[Request], None] = lambda _request: None
        self.wants_events: Callable[[Request, Match], bool] = lambda _request, _match: True
        self.loop: asyncio.AbstractEventLoop | None = None
        self._listening = Listening(ListenerSettings())
        self._seat: GatewaySeat | None = None
        self._env: SetupEnv | None = None
        self._users: Final[set[str]] = set()
        self._doors: Final[dict[str, Door]] = {}
        self._chosen: Final[dict[str, str]] = {}
        self._swapping: Final[dict[tuple[str, str], _Swap]] = {}
        self._lock: Final = threading.Lock()
        self._out: Final[deque[tuple[Request, Any, bool]]] = deque()
        self._flushing = False

    # Life -------------------------------------------------------------------------------------------------------

    def open(self, env: SetupEnv, user: str, taker: Taker) -> None:
        """Have requests of one kind go to `taker`; bind the shared listener if nobody has, or sit behind the gateway.

        Raises:
            ListenError: its address cannot be bound; the host does not start.
            ExtensionError: the operator's settings are not understood.
        """
        self._users.add(user)
        if self._env is None:
            self._open(env)
        access = self._listening.access
        self.takers[user] = taker if access is None else access.watch(taker)

    def _open(self, env: SetupEnv) -> None:
        seat = env.services.find(GatewaySeat)
        if seat is not None:
            self._sit(env, seat)
            return
        address = split_address(env.http_port or DEFAULT_PORT)
        if address is None:
            raise ExtensionError(f"http port {env.http_port!r} is not a number, nor host:port")
        self._listening = Listening(listener_settings(env.http_config))
        listener = Listener.bind(*address)
        self._env = env
        self._doors[""] = door = Door("", listener)
        env.spawn(self._serve(door, listener))
        bound = listener.addresses[0]  # clients can connect from here on
        env.logger.info("http server started", scheme=self._listening.scheme, addr=bound)
        self.reached(bound, self._listening.url(bound))

    def _sit(self, env: SetupEnv, seat: GatewaySeat) -> None:
        self._listening, self._seat, self._env = seat.listening, seat, env
        self.loop = asyncio.get_running_loop()
        self._doors[""] = door = Door("", None)
        env.spawn(self._stay(seat, door))
        seat.enter(self)

    async def _stay(self, seat: GatewaySeat, door: Door) -> None:
        """Take the gateway's requests until the application begins to stop."""
        try:
            await door.forget_faded()
        finally:
            seat.leave(self)

    def reached(self, bound: str, url: str) -> None:
        """Note where the shared listener is: bound to `bound`, and for this application at `url`."""
        env = self._env
        if env is not None:
            env.services.get(OwnListeners, OwnListeners).add_address(bound)
            env.reachable(Endpoint("transport.http.inbound", "public", url))

    def close(self, user: str) -> None:
        """Forget everything once the last user is gone; the listeners ended with their tasks."""
        self._users.discard(user)
        if self._users:
            return
        if self._seat is not None:
            self._seat.leave(self)
        for door in self._doors.values():
            if door.listener is not None:
                door.listener.unbind()
        self._doors.clear()
        self._chosen.clear()
        self._env = self.loop = self._seat = None
        self._listening = Listening(ListenerSettings())

    def reload_certificate(self) -> bool:
        """Read the certificate again, for connections to come; False when there is none, or it cannot be used.

        Behind a gateway there is none here: it is the gateway's to reload.
        """
        env = self._env
        return env is not None and self._seat is None and self._listening.reload_certificate(env.logger)

    async def _serve(self, door: Door, listener: Listener) -> None:
        self.loop = asyncio.get_running_loop()

        def take(request: Request) -> None:
            self._on_request(door, request)

        def left(request: Request) -> None:
            self.on_disconnect(request)

        def bodies(line: RequestLine, _block: HeaderBlock) -> BodyPlan:
            return self._body_plan(door, line)

        handler = take if self._seat is None else self._seat.beside(take)
        try:
            # What cells open is in the clear.
            await self._listening.serve(listener, handler, left, bodies, shared=not door.address)
            await door.forget_faded()
        finally:
            await listener.close(GRACE_SECONDS)

    # Routes -----------------------------------------------------------------------------------------------------

    def register(
        self, kind: str, cell_id: str, method: str, pattern: str, *, strict: bool = False, settle: bool = True
    ) -> None:
        """Give a path to a cell, on the listener it chose; without `settle` it may still choose another.

        Raises:
            RouteInvalid: see `RouteTable.add`.
            RouteConflict: another cell has it; with `strict` also when the cell itself has one that overlaps.
        """
        with self._lock:
            if settle:
                self._chosen.setdefault(cell_id, "")
            door = self._doors[self._chosen.get(cell_id, "")]
            swap = self._swapping.get((kind, cell_id))
            if swap is not None and strict:  # its old version's routes will be gone
                lasting = [one for one in door.table(kind).routes if one.owner != cell_id or (door, one) in swap.fresh]
                RouteTable(lasting).add(method, pattern, cell_id, strict=True)
            table = door.table(kind).add(method, pattern, cell_id, strict=strict and swap is None)
            setattr(door, kind, table)
            if swap is not None:
                swap.fresh.add((door, table.route(method, pattern, cell_id)))

    def covers(self, kind: str, cell_id: str, path: str) -> bool:
        """Return whether a route of this cell covers a path."""
        door = self._doors.get(self._chosen.get(cell_id, ""))
        match = None if door is None else door.table(kind).match("GET", path)
        return match is not None and match.owner == cell_id

    def routes_of(self, kind: str, cell_id: str) -> tuple[str, list[tuple[str, str]]]:
        """Return the listener a cell chose, "" for the shared one, and method and pattern of each of its routes."""
        chosen = self._chosen.get(cell_id, "")
        door = self._doors.get(chosen)
        routes = () if door is None else door.table(kind).routes
        return chosen, [(route.method, route.pattern) for route in routes if route.owner == cell_id]

    def owns(self, kind: str, cell_id: str) -> bool:
        """Return whether a cell has a route of this kind, on any listener."""
        return any(route.owner == cell_id for door in self._doors.values() for route in door.table(kind).routes)

    def drop(self, kind: str, cell_id: str) -> None:
        """Take a cell's routes away: for other cells at once, for its clients when it has not come back in a while."""
        with self._lock:
            for door in self._doors.values():
                table = door.table(kind)
                own = RouteTable(route for route in table.routes if route.owner == cell_id)
                if own.routes:
                    setattr(door, kind, table.without(cell_id))
                    door.fading[kind, cell_id] = (own, time.monotonic())
            if not any(door.owns(cell_id) for door in self._doors.values()):
                self._chosen.pop(cell_id, None)

    def swap_begin(self, kind: str, cell_id: str) -> None:
        """Remember a cell's routes; those of the version that is about to be loaded are told apart from them."""
        with self._lock:
            self._swapping[kind, cell_id] = _Swap({door: door.table(kind) for door in self._doors.values()}, set())

    def swap_end(self, kind: str, cell_id: str, *, adopted: bool) -> None:
        """Keep the routes of the new version only, or of the old one only."""
        with self._lock:
            swap = self._swapping.pop((kind, cell_id), None)
            if swap is None:
                return
            for door in self._doors.values():
                others = [route for route in door.table(kind).routes if route.owner != cell_id]
                if adopted:
                    own = [route for route in door.table(kind).routes if (door, route) in swap.fresh]
                else:
                    own = [route for route in swap.before.get(door, EMPTY).routes if route.owner == cell_id]
                setattr(door, kind, RouteTable([*others, *own]))

    def listen(self, cell_id: str, address: str) -> bool:
        """Have the routes a cell is about to register on a listener of their own; open it if nobody has.

        Returns:
            False when it is too late: the cell has routes, or chose another address.

        Raises:
            ListenError: the address cannot be bound, or there are too many listeners.
        """
        with self._lock:
            chosen = self._chosen.get(cell_id)
            if chosen is not None:
                return chosen == address
            if address not in self._doors:
                self._open_door(address)
            self._move(cell_id, self._doors[address])
            self._chosen[cell_id] = address
            return True

    def _move(self, cell_id: str, door: Door) -> None:
        """Take a cell's routes from the shared listener to the one it chose."""
        shared, table = self._doors[""], door.http
        try:
            for route in shared.http.routes:
                if route.owner == cell_id:
                    table = table.add(route.method, route.pattern, cell_id)
        except RouteConflict as error:
            raise ListenError(str(error)) from None
        shared.http, door.http = shared.http.without(cell_id), table

    def _open_door(self, address: str) -> None:
        assert self._env is not None  # noqa: S101 - cells are loaded after the front has been opened
        parts = split_address(address)
        if parts is None or ":" not in address:
            raise ListenError(f"cannot listen on {address!r}: write host:port, or :port")
        if len(self._doors) > MAX_LISTENERS:
            raise ListenError(f"cannot listen on {address}: there are {MAX_LISTENERS} listeners of cells already")
        listener = Listener.bind(*parts)
        self._doors[address] = door = Door(address, listener)
        env = self._env
        env.defer(lambda: env.spawn(self._serve(door, listener)))
        env.logger.info("http server started", addr=listener.addresses[0])
        env.services.get(OwnListeners, OwnListeners).add_address(listener.addresses[0])

    # Requests, on the loop --------------------------------------------------------------------------------------

    def take(self, request: Request) -> None:
        """Take a request that the gateway hands over."""
        self._on_request(self._doors[""], request)

    def plan_body(self, line: RequestLine) -> BodyPlan:
        """Say how the body of a request is wanted that the gateway will hand over."""
        return self._body_plan(self._doors[""], line)

    def _on_request(self, door: Door, request: Request) -> None:
        line = request.line
        if line.method == "GET":
            if request.block.upgrade == "websocket" and "upgrade" in request.block.connection:
                match = door.find(WEBSOCKET, "GET", line.path)
                if match is not None:
                    self.takers[WEBSOCKET](request, match)
                    return
            if door.events is not EMPTY:
                match = door.find(EVENTS, "GET", line.path)
                if match is not None and self.wants_events(request, match):
                    self.takers[EVENTS](request, match)
                    return
        match = door.http.match(line.method, line.path) or door.find(HTTP, line.method, line.path)
        if match is not None:
            self.takers[HTTP](request, match)
        elif self._seat is None or any(one.table(kind).routes for one in self._doors.values() for kind in KINDS):
            self.answer(request, answers.not_found())
        else:
            self._seat.refuse(request)  # its cells are still being loaded

    def _body_plan(self, door: Door, line: RequestLine) -> BodyPlan:
        match = door.find(HTTP, line.method, line.path) if self.plan is not None else None
        if match is None or self.plan is None:
            return BodyPlan(self._listening.limits.body_bytes)
        return self.plan(match, line)

    @property
    def settings(self) -> HttpSettings:
        """Timeouts and limits of every listener."""
        return self._listening.limits

    # Answers ----------------------------------------------------------------------------------------------------

    def answer(self, request: Request, answer: Answer, *, close: bool = False) -> None:
        """Send an answer of the host's. On the loop."""
        connection = request.connection
        connection.respond(request, connection.render(request, *answer), close=close)

    def send(self, request: Request, answer: Any, close: bool = False) -> None:
        """Have the loop send what `Connection.render` made. From any thread."""
        self._out.append((request, answer, close))
        if not self._flushing:
            self._flushing = True
            self._env.defer(self._flush)  # type: ignore[union-attr]  # requests come while it is open

    def _flush(self) -> None:
        self._flushing = False
        out = self._out
        while out:
            request, answer, close = out.popleft()
            request.connection.respond(request, answer, close=close)
