"""Keys that somebody holds. In memory only: a lock does not outlive the process, nor its owner."""

from __future__ import annotations

import threading
from typing import Final

from pulp_runtime.kv.entry import check_key
from pulp_runtime.kv.fault import TooMany

LOCKS: Final = 10_000
"""Most locks of one store."""


class Locks:
    """Who holds which key of a store. A key need not have a value to be held. Safe from any thread."""

    def __init__(self) -> None:
        self._owners: Final[dict[bytes, object]] = {}
        self._lock: Final = threading.Lock()

    def acquire(self, key: bytes, owner: object) -> bool:
        """Let `owner` hold the key; answer False if somebody holds it, be it the owner itself. Never waits.

        Raises:
            KeyInvalid: see `check_key`.
            TooMany: 10,000 keys are held.
        """
        check_key(key)
        with self._lock:
            if key in self._owners:
                return False
            if len(self._owners) >= LOCKS:
                raise TooMany(f"{LOCKS} keys are held already")
            self._owners[key] = owner
            return True

    def release(self, key: bytes, owner: object) -> bool:
        """Let go of the key; answer False if `owner` does not hold it."""
        with self._lock:
            if self._owners.get(key) is not owner:
                return False
            del self._owners[key]
            return True

    def release_all(self, owner: object) -> int:
        """Let go of every key that `owner` holds; return how many: for an owner that ends, however it ends."""
        with self._lock:
            held = [key for key, holder in self._owners.items() if holder is owner]
            for key in held:
                del self._owners[key]
            return len(held)

    def keys(self, prefix: bytes = b"") -> list[bytes]:
        """Return the keys held that begin with `prefix`, in byte order."""
        with self._lock:
            return sorted(key for key in self._owners if key.startswith(prefix))

    def owner(self, key: bytes) -> object | None:
        """Return who holds the key."""
        return self._owners.get(key)
