"""The routes of a cell, as they go into a snapshot of it: what it registered once and will not register again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final, TypeVar

import msgspec

from pulp_runtime.capabilities.transport.front import Front
from pulp_runtime.ext import ExtensionError

K = TypeVar("K", bound="KeptRoutes")
_LOOP_SECONDS: Final = 5.0


class KeptRoutes(msgspec.Struct, kw_only=True, frozen=True):
    """What one capability knows of a cell; those that know more have structs of their own.

    Attributes:
        listen: the listener the cell asked for, "" for the shared one.
        routes: method and pattern of each route, oldest first.
    """

    listen: str = ""
    routes: list[tuple[str, str]] = []


def keep(kept: KeptRoutes) -> bytes:
    """Return a record for a snapshot."""
    return msgspec.msgpack.encode(kept)


def kept(data: bytes, kind: type[K]) -> K:
    """Return the record of a snapshot.

    Raises:
        ExtensionError: it is none.
    """
    try:
        return msgspec.msgpack.decode(data, type=kind)
    except msgspec.MsgspecError as error:
        raise ExtensionError(f"it cannot be read: {error}") from None


def register_again(front: Front, kind: str, cell_id: str, routes: KeptRoutes, *, strict: bool = False) -> None:
    """Give a cell its routes again, on the listener it had asked for.

    Raises:
        ExtensionError: the listener is another one now.
        PulpError: an address cannot be bound, or another cell has a route that overlaps.
    """
    if routes.listen and not front.listen(cell_id, routes.listen):
        raise ExtensionError(f"the cell has routes on another listener than {routes.listen}")
    for method, pattern in routes.routes:
        front.register(kind, cell_id, method, pattern, strict=strict)


def on_loop(front: Front, work: Callable[[], None]) -> None:
    """Run `work` on the host's loop and wait for it: nothing else there sees it half done. On a worker.

    Raises:
        ExtensionError: the loop does not come to it.
    """
    end = time.monotonic() + _LOOP_SECONDS
    while (loop := front.loop) is None and time.monotonic() < end:
        time.sleep(0.001)  # the listener is about to be served
    done = threading.Event()

    def run() -> None:
        work()
        done.set()

    if loop is not None:
        loop.call_soon_threadsafe(run)
    if not done.wait(end - time.monotonic()):
        raise ExtensionError("the host is too busy")
