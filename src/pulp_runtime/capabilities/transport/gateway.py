"""The gateway of a host with several applications: one listener, a prefix of the path for each of their instances.

    listener ──▶ longest prefix ──▶ prefix off, headers on ──▶ the instance's `Front` ──▶ its routes
                 no prefix: 404      not up: 503

There is no second hop: a request is handed on in the same process, and its answer, its body, its WebSocket or its
event stream goes by the client's own connection. So limits, timeouts, TLS, HTTP/2, trusted proxies and the access log
are those of the listener (spec/core §7.7; docs/reference/gateway.md says where this differs from a proxy).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from pulp_runtime._net import answers
from pulp_runtime._net.exchange import BodyPlan, Request
from pulp_runtime._net.fault import RequestFault
from pulp_runtime._net.head import HeaderBlock, RequestLine
from pulp_runtime._net.listener import Listener
from pulp_runtime.capabilities.transport.gateway_headers import Headers, Remembered
from pulp_runtime.capabilities.transport.gateway_routes import Destination, GatewayRoute, PrefixTable, RoutedLine
from pulp_runtime.capabilities.transport.gateway_seat import GatewaySeat
from pulp_runtime.capabilities.transport.listener_settings import listener_settings
from pulp_runtime.capabilities.transport.listening import Listening, split_address
from pulp_runtime.errors import GatewayError
from pulp_runtime.log import Log

__all__ = ["Gateway", "GatewayRoute", "GatewaySeat"]


class Gateway:
    """The one listener of a host with several applications. It belongs to one event loop, which is the instances' too.

        gateway = Gateway("127.0.0.1:8080", [GatewayRoute("/shop", "shop", "blue")], config["http"], log)
        services.put(GatewaySeat, gateway.seat("shop", "blue"))     # for each instance, before it starts
        ...                                                         # start the applications
        await gateway.start()

    To stop without waiting for event streams, which end only with their cells, close it while the applications stop:

        closing = asyncio.create_task(gateway.close(5.0))
        ...                                                         # stop the applications
        await closing

    Args:
        address: where to listen: `host:port`, `:port` or a port.
        routes: at least one; which instance has which prefix.
        http_config: the operator's settings of the listener, those under `http`.
        log: what happens to the gateway is told here.

    Raises:
        GatewayError: no address, or none that can be meant; no route; a prefix that is not absolute and canonical, or
            is there twice (`ambiguous`); an application or instance without a name.
        ExtensionError: a setting of the listener makes no sense.
        CertificateInvalid: the certificate cannot be used.
    """

    def __init__(self, address: str, routes: Sequence[GatewayRoute], http_config: Mapping[str, Any], log: Log) -> None:
        if not address.strip():
            raise GatewayError("the gateway has no address: say which port to listen on, as in --http-port 8080")
        where = split_address(address.strip())
        if where is None:
            raise GatewayError(f"the address of the gateway, {address!r}, is no port, nor host:port")
        self._address: Final = where
        self._log: Final = log
        self._listening: Final = Listening(listener_settings(http_config))
        # What `access` has admitted has a block of its own.
        self._memo: Final = Remembered() if self._listening.access is None else None
        self._seats: Final[dict[tuple[str, str], GatewaySeat]] = {}
        self._wanted: Final[set[tuple[str, str]]] = set()
        self._table: Final = PrefixTable(routes, self._destination)
        self._listener: Listener | None = None
        self._bound = ""
        self._started = False

    # What the composition calls ---------------------------------------------------------------------------------

    def seat(self, application: str, instance: str) -> GatewaySeat:
        """Return the place of an instance, for its `Services`; always the same one."""
        self._wanted.add((application, instance))
        return self._place(application, instance)

    async def start(self) -> None:
        """Listen, and serve until `close`. The instances are up by then.

        Raises:
            GatewayError: it has been started before; the instance of a route is not there (`unavailable`), or no cell
                of it takes requests (`does not expose HTTP`).
            ListenError: the address cannot be bound; `start` may be called again.
        """
        if self._started:
            raise GatewayError("host gateway is already started")
        for destination in self._table.destinations:
            self._check(destination)
        listener = Listener.bind(*self._address)
        self._started = True
        try:
            await self._listening.serve(listener, self._take, self._left, self._bodies, shared=True)
        except BaseException:
            self._started = False
            listener.unbind()
            raise
        self._listener = listener
        self._bound = listener.addresses[0]
        self._log.info("host gateway started", scheme=self._listening.scheme, addr=self._bound)
        for seat in self._seats.values():
            self._tell(seat)

    async def close(self, grace_seconds: float) -> None:
        """Accept nothing more, let the exchanges in flight end, and break off what is left after the grace time.

        Nothing happens before `start`, or when it is closed already; a closed gateway does not start again.
        """
        self._bound = ""
        if self._listener is not None:
            await self._listener.close(grace_seconds)

    @property
    def url(self) -> str:
        """Where it answers, e.g. `http://127.0.0.1:8080`; "" while it does not."""
        return self._listening.url(self._bound) if self._bound else ""

    def reload_certificate(self) -> bool:
        """Read the certificate again; open connections keep theirs.

        Returns:
            False when there is none, or it cannot be used: then the one before it stays, and the log says why.
        """
        return self._listening.reload_certificate(self._log)

    # Places -----------------------------------------------------------------------------------------------------

    def _place(self, application: str, instance: str) -> GatewaySeat:
        identity = (application, instance)
        if identity not in self._seats:
            self._seats[identity] = GatewaySeat(
                application,
                instance,
                listening=self._listening,
                own=self._headers(application, instance, ""),
                log=self._log,
                entered=self._tell,
            )
        return self._seats[identity]

    def _headers(self, application: str, instance: str, prefix: str) -> Headers:
        return Headers(application, instance, prefix, proxies=self._listening.proxies, memo=self._memo)

    def _destination(self, route: GatewayRoute) -> Destination:
        headers = self._headers(route.application, route.instance, route.path)
        return Destination(route, self._place(route.application, route.instance), headers)

    def _check(self, destination: Destination) -> None:
        """Refuse a route that leads nowhere."""
        route, seat = destination.route, destination.seat
        whose = f"{route.application}/{route.instance}"
        if (route.application, route.instance) not in self._wanted:
            raise GatewayError(f"route {route.path!r}: {whose} is unavailable: no such instance runs here")
        if not seat.taken:
            raise GatewayError(
                f"route {route.path!r}: {whose} does not expose HTTP: no cell of it declares transport.http.inbound, "
                "transport.ws.inbound or transport.sse; take the route away, or add the capability"
            )

    def _tell(self, seat: GatewaySeat) -> None:
        """Tell an instance where it is reached, once both are there."""
        if not self._bound or seat.front is None:
            return
        paths = [one.route.path for one in self._table.destinations if one.seat is seat]
        if paths:
            seat.front.reached(self._bound, self.url + ("" if paths[0] == "/" else paths[0]))
        else:
            self._log.warning("no route of the gateway leads to", application=seat.application, instance=seat.instance)

    # Requests, on the loop --------------------------------------------------------------------------------------

    def _take(self, request: Request) -> None:
        try:
            line = self._table.routed(request.line)
        except RequestFault as fault:
            _answer(request, answers.error(fault.status, fault.reason))
            return
        if line is None:
            _answer(request, answers.not_found())
            return
        request.line = line
        destination = line.destination
        seat = destination.seat
        seat.mark(request)
        front = seat.front
        if front is None:
            seat.refuse(request)
            return
        request.block = destination.headers.block(request)
        front.take(request)

    def _bodies(self, line: RequestLine, _block: HeaderBlock) -> BodyPlan:
        try:
            routed = self._table.routed(line)
        except RequestFault:
            routed = None  # `_take` says so
        front = None if routed is None else routed.destination.seat.front
        if routed is None or front is None:
            return BodyPlan(self._listening.limits.body_bytes)
        return front.plan_body(routed)

    def _left(self, request: Request) -> None:
        line = request.line
        front = line.destination.seat.front if isinstance(line, RoutedLine) else None
        if front is not None:
            front.on_disconnect(request)


def _answer(request: Request, answer: answers.Answer) -> None:
    connection = request.connection
    connection.respond(request, connection.render(request, *answer))
