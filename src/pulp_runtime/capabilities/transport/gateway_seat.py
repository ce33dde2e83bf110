"""Where an instance of an application sits behind the gateway of its host.

composition   seat = gateway.seat("shop", "blue");  services.put(GatewaySeat, seat)
Front.open    services.find(GatewaySeat)  ──▶ enter: requests come from the gateway, no listener is bound
Front.close   ──▶ leave: the gateway answers 503 until the next one enters
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from pulp_runtime._net import answers
from pulp_runtime._net.exchange import Handler, Request
from pulp_runtime.log import Log

if TYPE_CHECKING:
    from pulp_runtime.capabilities.transport.front import Front
    from pulp_runtime.capabilities.transport.gateway_headers import Headers
    from pulp_runtime.capabilities.transport.listening import Listening

UNAVAILABLE: Final = "application upstream unavailable"
TELL_SECONDS: Final = 5.0
"""How often the log says that an instance is not up; in between, refusals are counted."""


class GatewaySeat:
    """One instance of an application, as the gateway sees it; get it with `Gateway.seat`.

    It outlives what sits in it: an instance that is stopped and started again finds the same one. All on the loop.

    Args:
        application: its id.
        instance: the instance's name.
        listening: the gateway's; listeners that cells open use it too.
        own: what headers requests get that come by a listener of a cell's own.
        log: where refusals are told.
        entered: called when a front has entered.

    Attributes:
        front: who takes the requests; None while the instance is not up.
        taken: whether there has ever been one.
    """

    def __init__(
        self,
        application: str,
        instance: str,
        *,
        listening: Listening,
        own: Headers,
        log: Log,
        entered: Callable[[GatewaySeat], None],
    ) -> None:
        self.application: Final = application
        self.instance: Final = instance
        self.listening: Final = listening
        self.front: Front | None = None
        self.taken = False
        self._own: Final = own
        self._entered: Final = entered
        self._log: Final = log.bind(application=application, instance=instance)
        self._refused = 0
        self._told = -TELL_SECONDS

    def enter(self, front: Front) -> None:
        """Have requests go to `front`, whoever had them before."""
        self.front, self.taken = front, True
        if self._refused:  # and not told yet
            self._log.info("application upstream available again", refused=self._refused)
            self._refused = 0
        self._entered(self)

    def leave(self, front: Front) -> None:
        """Have no more requests go to `front`; nothing happens when another one has taken its place."""
        if self.front is front:
            self.front = None

    def refuse(self, request: Request) -> None:
        """Answer 503: the instance is not up."""
        self._refused += 1
        now = time.monotonic()
        if now - self._told >= TELL_SECONDS:
            self._log.warning(UNAVAILABLE, count=self._refused)
            self._refused, self._told = 0, now
        connection = request.connection
        connection.respond(request, connection.render(request, *answers.error(503, UNAVAILABLE)))

    def mark(self, request: Request) -> None:
        """Note for the access log whose request it is."""
        if self.listening.access is not None:
            self.listening.access.mark(request, self.application, self.instance)

    def beside(self, take: Handler) -> Handler:
        """Return a handler of requests that come past the gateway, by a listener of a cell's own.

        They carry the same headers as the others, so that no client can write them itself.
        """

        def handle(request: Request) -> None:
            self.mark(request)
            request.block = self._own.block(request)
            take(request)

        return handle
