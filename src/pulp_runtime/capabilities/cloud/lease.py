"""What several programs of a namespace share: opened for the first, closed after the last."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final, Generic, Protocol, TypeVar

from pulp_runtime.ext import CellRef, ExtensionError, SetupEnv


class Closable(Protocol):
    """Something that is closed in the end."""

    def close(self) -> None:
        """Let go of everything; may be called again."""


T = TypeVar("T", bound=Closable)

FOLDER: Final = ".pulp-cloud"
"""Where the host keeps what programs share, in the storage root."""


class Shared(Generic[T]):
    """Things by name. Safe from any thread."""

    def __init__(self) -> None:
        self._opened: Final[dict[str, tuple[T, list[object]]]] = {}
        self._lock: Final = threading.Lock()

    def open(self, name: str, make: Callable[[], T]) -> Lease[T]:
        """Return the use of a thing, which `make()` opens if nobody has it open."""
        with self._lock:
            if name not in self._opened:
                self._opened[name] = make(), []
            thing, users = self._opened[name]
            lease = Lease(thing, lambda: self._release(name, lease))
            users.append(lease)
            return lease

    def all(self) -> list[T]:
        """Return what is open."""
        with self._lock:
            return [thing for thing, _users in self._opened.values()]

    def _release(self, name: str, lease: object) -> None:
        with self._lock:
            thing, users = self._opened[name]
            users[:] = [user for user in users if user is not lease]
            if users:
                return
            del self._opened[name]
            thing.close()


class Lease(Generic[T]):
    """The use of a thing.

    Attributes:
        thing: what is used.
    """

    def __init__(self, thing: T, release: Callable[[], None]) -> None:
        self.thing: Final = thing
        self._release: Callable[[], None] | None = release

    def release(self) -> None:
        """Give it back. May be called again."""
        release, self._release = self._release, None
        if release is not None:
            release()


def namespace_folder(env: SetupEnv, kind: str, cell: CellRef) -> Path:
    """Return the folder of a cell's namespace for one kind of thing: `{storage root}/.pulp-cloud/{kind}/{namespace}`.

    No cell can have that folder.

    Raises:
        ExtensionError: the namespace is no name of one folder.
    """
    name = cell.namespace
    if name in ("", ".", "..") or any(character in name for character in "/\\:\0"):
        raise ExtensionError(f"{name!r} is no name for a folder; rename the namespace")
    return env.storage_root.absolute() / FOLDER / kind / name
