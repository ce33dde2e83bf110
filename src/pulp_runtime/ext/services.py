"""What capabilities of one host share with each other."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

T = TypeVar("T")


class Services:
    """One object of a kind for each host, made when the first capability asks for it. Safe from any thread."""

    def __init__(self) -> None:
        self._made: Final[dict[type[Any], Any]] = {}
        self._lock: Final = threading.RLock()

    def get(self, kind: type[T], make: Callable[[], T]) -> T:
        """Return this host's object of class `kind`, made by `make()` if there is none yet."""
        with self._lock:
            if kind not in self._made:
                self._made[kind] = make()
            return cast(T, self._made[kind])

    def find(self, kind: type[T]) -> T | None:
        """Return this host's object of class `kind`, None if there is none; makes none."""
        with self._lock:
            return cast("T | None", self._made.get(kind))

    def put(self, kind: type[T], value: T) -> None:
        """Have `value` be this host's object of class `kind`, before anybody has asked for it.

        Raises:
            ValueError: there is one already.
        """
        with self._lock:
            if kind in self._made:
                raise ValueError(f"there is a {kind.__name__} already")
            self._made[kind] = value
