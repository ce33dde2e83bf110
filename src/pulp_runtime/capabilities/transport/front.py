"""The shared front of a host: every listener, and who owns which path on it.

All that comes in by HTTP passes here, and goes where the first of these tables has a route for it
(spec/capabilities §2.5):

    1  WebSocket upgrades    transport.ws.inbound
    2  event streams (GET)   transport.sse
    3  requests              transport.http.inbound

The three capabilities share one `Front`; whichever is set up first opens it. A cell's routes belong to one listener:
the shared one, or the one it asked for with `http_listen` before it registered its first route.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from pulp_runtime._net import answers
from pulp_runtime._net.answers import Answer
from pulp_runtime._net.dial_own import OwnListeners
from pulp_runtime._net.exchange import BodyPlan, Request
from pulp_runtime._net.head import HeaderBlock, RequestLine
from pulp_runtime._net.listener import Listener
from pulp_runtime._net.routes import Match, Route, RouteConflict, RouteTable
from pulp_runtime._net.settings import HttpSettings
from pulp_runtime.capabilities.transport.listener_settings import listener_settings
from pulp_runtime.errors import ExtensionError, ListenError, PulpError
from pulp_runtime.ext import Endpoint, SetupEnv

if TYPE_CHECKING:
    from pulp_runtime._net.tls import Certificate
    from pulp_runtime.capabilities.transport.access import Access

#: What a route leads to.
HTTP: Final = "http"
WEBSOCKET: Final = "websocket"
EVENTS: Final = "events"
KINDS: Final = (HTTP, WEBSOCKET, EVENTS)

DEFAULT_PORT: Final = "8080"
GRACE_SECONDS: Final = 5.0
FADE_SECONDS: Final = 30.0
"""How long the routes of a cell that went away wait for it to come back."""
MAX_LISTENERS: Final = 64
"""Listeners that cells may open beside the shared one, all cells together."""

Taker = Callable[[Request, Match], None]
_EMPTY: Final = RouteTable()


class Door:
    """One listener with its routes. Tables are replaced, never changed; the loop reads them without a lock.

    Attributes:
        address: as it was asked for; "" is the shared one.
        listener: its sockets.
        fading: routes of cells that went away, by kind and cell, and since when.
    """

    def __init__(self, address: str, listener: Listener) -> None:
        self.address: Final = address
        self.listener: Final = listener
        self.http = self.websocket = self.events = _EMPTY
        self.fading: Final[dict[tuple[str, str], tuple[RouteTable, float]]] = {}

    def find(self, kind: str, method: str, path: str) -> Match | None:
        """Return the route for a path, also one of a cell that is being replaced."""
        match = self.table(kind).match(method, path)
        if match is None and self.fading:
            for (fading, _cell), (table, _since) in list(self.fading.items()):
                if fading == kind and (match := table.match(method, path)) is not None:
                    return match
        return match

    def table(self, kind: str) -> RouteTable:
        """Return the routes of one kind."""
        return cast(RouteTable, getattr(self, kind))

    def owns(self, cell_id: str) -> bool:
        """Return whether a cell has a route here, of any kind."""
        return any(route.owner == cell_id for kind in KINDS for route in self.table(kind).routes)


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
        self._settings = HttpSettings()
        self._certificate: Certificate | None = None
        self._access: Access | None = None
        self._http2 = False
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
        """Have requests of one kind go to `taker`; bind the shared listener if nobody has.

        Raises:
            ListenError: its address cannot be bound; the host does not start.
            ExtensionError: the operator's settings are not understood.
        """
        self._users.add(user)
        if self._env is None:
            self._open(env)
        self.takers[user] = taker if self._access is None else self._access.watch(taker)

    def _open(self, env: SetupEnv) -> None:
        host, _, port = (env.http_port or DEFAULT_PORT).rpartition(":")
        if not port.isascii() or not port.isdigit():
            raise ExtensionError(f"http port {env.http_port!r} is not a number, nor host:port")
        settings = listener_settings(env.http_config)
        self._settings, self._http2, self._certificate = settings.limits, settings.http2, settings.certificate()
        self._access = settings.access()
        door = Door("", Listener.bind(host.strip("[]"), int(port)))
        self._env = env
        self._doors[""] = door
        env.spawn(self._serve(door))
        bound = door.listener.addresses[0]  # clients can connect from here on
        scheme = "http" if self._certificate is None else "https"
        env.logger.info("http server started", scheme=scheme, addr=bound)
        env.services.get(OwnListeners, OwnListeners).add_address(bound)
        env.reachable(Endpoint("transport.http.inbound", "public", f"{scheme}://{_reachable(bound)}"))

    def close(self, user: str) -> None:
        """Forget everything once the last user is gone; the listeners ended with their tasks."""
        self._users.discard(user)
        if self._users:
            return
        for door in self._doors.values():
            door.listener.unbind()
        self._doors.clear()
        self._chosen.clear()
        self._env = self.loop = self._certificate = None

    def reload_certificate(self) -> bool:
        """Read the certificate again, for connections to come; False when there is none, or it cannot be used."""
        certificate, env = self._certificate, self._env
        if certificate is None or env is None:
            return False
        try:
            certificate.reload()
        except PulpError as error:
            env.logger.error("certificate not loaded; the one before it stays", err=str(error))
            return False
        env.logger.info("certificate loaded again", cert=str(certificate.chain))
        return True

    async def _serve(self, door: Door) -> None:
        self.loop = asyncio.get_running_loop()

        def take(request: Request) -> None:
            self._on_request(door, request)

        def left(request: Request) -> None:
            self.on_disconnect(request)

        def bodies(line: RequestLine, _block: HeaderBlock) -> BodyPlan:
            return self._body_plan(door, line)

        access = self._access
        try:
            await door.listener.serve(
                take if access is None else access.before(take),
                self._settings,
                on_disconnect=left if access is None else access.behind(left),
                bodies=bodies,
                certificate=None if door.address else self._certificate,  # what cells open is in the clear
                http2=self._http2,
            )
            while True:
                await asyncio.sleep(1.0)
                for key, (_table, since) in list(door.fading.items()):
                    if time.monotonic() - since > FADE_SECONDS:
                        door.fading.pop(key, None)
        finally:
            await door.listener.close(GRACE_SECONDS)

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
                    own = [route for route in swap.before.get(door, _EMPTY).routes if route.owner == cell_id]
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
        host, colon, port = address.rpartition(":")
        if not colon or not port.isascii() or not port.isdigit():
            raise ListenError(f"cannot listen on {address!r}: write host:port, or :port")
        if len(self._doors) > MAX_LISTENERS:
            raise ListenError(f"cannot listen on {address}: there are {MAX_LISTENERS} listeners of cells already")
        door = Door(address, Listener.bind(host.strip("[]"), int(port)))
        self._doors[address] = door
        env = self._env
        env.defer(lambda: env.spawn(self._serve(door)))
        env.logger.info("http server started", addr=door.listener.addresses[0])
        env.services.get(OwnListeners, OwnListeners).add_address(door.listener.addresses[0])

    # Requests, on the loop --------------------------------------------------------------------------------------

    def _on_request(self, door: Door, request: Request) -> None:
        line = request.line
        if line.method == "GET":
            if request.block.upgrade == "websocket" and "upgrade" in request.block.connection:
                match = door.find(WEBSOCKET, "GET", line.path)
                if match is not None:
                    self.takers[WEBSOCKET](request, match)
                    return
            if door.events is not _EMPTY:
                match = door.find(EVENTS, "GET", line.path)
                if match is not None and self.wants_events(request, match):
                    self.takers[EVENTS](request, match)
                    return
        match = door.http.match(line.method, line.path) or door.find(HTTP, line.method, line.path)
        if match is None:
            self.answer(request, answers.not_found())
        else:
            self.takers[HTTP](request, match)

    def _body_plan(self, door: Door, line: RequestLine) -> BodyPlan:
        match = door.find(HTTP, line.method, line.path) if self.plan is not None else None
        if match is None or self.plan is None:
            return BodyPlan(self._settings.body_bytes)
        return self.plan(match, line)

    @property
    def settings(self) -> HttpSettings:
        """Timeouts and limits of every listener."""
        return self._settings

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


def _reachable(address: str) -> str:
    """Return an address that a client on this machine can use: a wildcard means loopback."""
    host, _, port = address.rpartition(":")
    return f"127.0.0.1:{port}" if host in ("0.0.0.0", "[::]") else address  # noqa: S104  # compared, not bound
