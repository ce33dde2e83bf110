"""Names to addresses, by the system's resolver, and no longer than the asker has time.

The system's call cannot be told to give up, so each lookup has a thread of its own, which is left behind when time is
up. Those left behind are counted: a cell whose names are never answered runs out of lookups, not the host of threads.
"""

from __future__ import annotations

import socket
import threading
from collections import Counter
from collections.abc import Callable
from typing import Final

from pulp_runtime._net.dial_patience import DialFault, Patience

LOOKUPS: Final = 128
"""Unanswered lookups at once, of all cells."""
LOOKUPS_OF_ONE: Final = 4
"""Unanswered lookups at once of one cell."""

Resolve = Callable[[str, str, Patience], list[str]]
"""`resolve(owner, name, patience)`: the addresses of a name, in the order in which to try them.

Raises `DialFault` when it has none.
"""


def system_lookup(name: str) -> list[str]:
    """Return what the system says about a name; blocks for as long as that takes."""
    # As bytes: a str would be encoded once more, by the rules of a standard that names with `_` do not follow.
    answers = socket.getaddrinfo(name.encode("ascii"), None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for _family, _type, _proto, _name, address in answers))


class _Lookup:
    """One lookup on its thread."""

    def __init__(self, name: str) -> None:
        self.name: Final = name
        self.addresses: list[str] = []
        self.error = ""
        self.done: Final = threading.Event()


class Names:
    """The lookups of one host.

    Args:
        lookup: asks; in a thread of its own.
    """

    def __init__(self, lookup: Callable[[str], list[str]] = system_lookup) -> None:
        self._lookup: Final = lookup
        self._lock: Final = threading.Lock()
        self._waiting: Final[Counter[str]] = Counter()

    def resolve(self, owner: str, name: str, patience: Patience) -> list[str]:
        """Return the addresses of a name.

        Args:
            owner: who asks, for the count.
            name: as `Url.host`, not an address.
            patience: how long to wait.

        Raises:
            DialFault: it has none, time is up, or too many lookups are unanswered.
        """
        with self._lock:
            if self._waiting[owner] >= LOOKUPS_OF_ONE or self._waiting.total() >= LOOKUPS:
                raise DialFault("too many lookups of names are still unanswered")
            self._waiting[owner] += 1
        lookup = _Lookup(name)
        thread = threading.Thread(target=self._run, args=(owner, lookup), name="lookup", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the system has no more threads
            self._ended(owner)
            raise DialFault("no thread for a lookup") from None
        while not lookup.done.wait(patience.slice()):
            pass
        if lookup.error:
            raise DialFault(lookup.error)
        return lookup.addresses

    def _run(self, owner: str, lookup: _Lookup) -> None:
        try:
            lookup.addresses = self._lookup(lookup.name)
        except (OSError, UnicodeError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            lookup.error = f"lookup of {lookup.name}: {reason}"
        finally:
            self._ended(owner)
            lookup.done.set()

    def _ended(self, owner: str) -> None:
        with self._lock:
            self._waiting[owner] -= 1
            if not self._waiting[owner]:
                del self._waiting[owner]
