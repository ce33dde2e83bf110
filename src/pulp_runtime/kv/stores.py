"""The open stores of a process, by file: whoever asks for the same one gets the same object."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pulp_runtime.kv.fault import StoreBusy
from pulp_runtime.kv.store import CACHE_BYTES, Store


@dataclass(slots=True)
class _Opened:
    store: Store
    power_safe: bool
    leases: int = 0


class Lease:
    """The use of a store. When the last lease is given back, the store is closed.

    Attributes:
        store: the store.
    """

    def __init__(self, store: Store, release: Callable[[], None]) -> None:
        self.store: Final = store
        self._release: Callable[[], None] | None = release

    def release(self) -> None:
        """Give it back. May be called again."""
        release, self._release = self._release, None
        if release is not None:
            release()


class Stores:
    """Every store that somebody of one host uses. Safe from any thread."""

    def __init__(self) -> None:
        self._opened: Final[dict[str, _Opened]] = {}
        self._lock: Final = threading.Lock()

    def open(
        self, path: Path, *, power_safe: bool = False, folders: bool = False, cache_bytes: int = CACHE_BYTES
    ) -> Lease:
        """Return the use of a store, which is opened if nobody has it open; then the other arguments count.

        Raises:
            StoreBusy: another process has it open; or it is open here with another `power_safe`.
            StoreFailed: see `Store`.
        """
        name = os.path.realpath(path)
        with self._lock:
            opened = self._opened.get(name)
            if opened is None:
                store = Store(path, power_safe=power_safe, folders=folders, cache_bytes=cache_bytes)
                opened = self._opened[name] = _Opened(store, power_safe)
            elif opened.power_safe != power_safe:
                raise StoreBusy(f"{path} is open with another durability; all who share it must want the same")
            opened.leases += 1
            return Lease(opened.store, lambda: self._release(name))

    def all(self) -> list[Store]:
        """Return the open stores."""
        with self._lock:
            return [opened.store for opened in self._opened.values()]

    def _release(self, name: str) -> None:
        with self._lock:
            opened = self._opened[name]
            opened.leases -= 1
            if not opened.leases:
                del self._opened[name]
                opened.store.close()
