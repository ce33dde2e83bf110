"""One listener of a host, and who has which path on it."""

from __future__ import annotations

import asyncio
import time
from typing import Final, cast

from pulp_runtime._net.listener import Listener
from pulp_runtime._net.routes import Match, RouteTable

#: What a route leads to.
HTTP: Final = "http"
WEBSOCKET: Final = "websocket"
EVENTS: Final = "events"
KINDS: Final = (HTTP, WEBSOCKET, EVENTS)

FADE_SECONDS: Final = 30.0
"""How long the routes of a cell that went away wait for it to come back."""

EMPTY: Final = RouteTable()


class Door:
    """One listener with its routes. Tables are replaced, never changed; the loop reads them without a lock.

    Attributes:
        address: as it was asked for; "" is the shared one.
        listener: its sockets; None for the shared one behind a gateway.
        fading: routes of cells that went away, by kind and cell, and since when.
    """

    def __init__(self, address: str, listener: Listener | None) -> None:
        self.address: Final = address
        self.listener: Final = listener
        self.http = self.websocket = self.events = EMPTY
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

    async def forget_faded(self) -> None:
        """Forget routes that have waited long enough; runs until it is cancelled."""
        while True:
            await asyncio.sleep(1.0)
            for key, (_table, since) in list(self.fading.items()):
                if time.monotonic() - since > FADE_SECONDS:
                    self.fading.pop(key, None)
