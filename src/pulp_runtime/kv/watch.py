"""Who is told of changes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Final

from pulp_runtime.kv.entry import Change
from pulp_runtime.kv.fault import TooMany
from pulp_runtime.log import Log

WATCHES: Final = 1000
"""Most watches of one store."""

Listener = Callable[[Change], None]


class Watch:
    """One listener.

    Attributes:
        prefix: of the keys it is told of.
        since: it is told of every change with a higher revision.
    """

    def __init__(self, watches: Watches, prefix: bytes, listener: Listener, since: int) -> None:
        self.prefix: Final = prefix
        self.since: Final = since
        self._watches: Final = watches
        self._listener: Final = listener

    def tell(self, change: Change) -> None:
        """Tell the listener if it is its business; what it raises is logged and changes nothing."""
        if not change.key.startswith(self.prefix):
            return
        try:
            self._listener(change)
        except Exception as error:  # noqa: BLE001  # the change has happened, and others wait to hear of it
            Log("pulp").error("watch failed", error=repr(error), exc_info=error)

    def close(self) -> None:
        """Tell it no more. A change in progress may still be told. May be called again."""
        self._watches.remove(self)


class Watches:
    """The listeners of a store; `tell` is called under its lock."""

    def __init__(self) -> None:
        self._all: tuple[Watch, ...] = ()
        self._lock: Final = threading.Lock()

    def add(self, prefix: bytes, listener: Listener, since: int) -> Watch:
        """Add a listener.

        Raises:
            TooMany: there are 1,000.
        """
        with self._lock:
            if len(self._all) >= WATCHES:
                raise TooMany(f"{WATCHES} watches are open already")
            watch = Watch(self, prefix, listener, since)
            self._all = (*self._all, watch)
            return watch

    def remove(self, watch: Watch) -> None:
        """Forget a listener."""
        with self._lock:
            self._all = tuple(other for other in self._all if other is not watch)

    def tell(self, changes: Iterable[Change]) -> None:
        """Tell everybody, change by change."""
        if self._all:
            for change in changes:
                for watch in self._all:
                    watch.tell(change)

    def clear(self) -> None:
        """Forget every listener."""
        with self._lock:
            self._all = ()
