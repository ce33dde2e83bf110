"""What a scope of `cloud.kv` is to its files, whoever keeps the keys.

    Mount, Keys, .rev, .lock, .tx … ──▶ Keyspace ◀── Backend.open(namespace, scope)
                                           ▲
                                           └── pulp_runtime.kv.store.Store      the host's own, for all three scopes

A key that is a folder, or below one that has a value, is refused by the keyspace, in the same step as the change.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from pulp_runtime.ext import ExtensionError
from pulp_runtime.kv.entry import Change, Entry, Listed
from pulp_runtime.kv.fault import KvError
from pulp_runtime.kv.stores import Stores

SCOPES: Final = ("local", "region", "global")
FOLDER: Final = ".pulp-cloud"
"""Where the host's own stores are, in the storage root: no cell, application or placement has such a name."""


class Watching(Protocol):
    """A watch; see `Store.watch`."""

    def close(self) -> None:
        """Tell the listener no more."""


class Locking(Protocol):
    """Keys that somebody holds; see `Locks`."""

    def acquire(self, key: bytes, owner: object) -> bool:
        """Let `owner` hold the key, False if somebody does."""

    def release(self, key: bytes, owner: object) -> bool:
        """Let go of it."""

    def owner(self, key: bytes) -> object | None:
        """Return who holds it."""

    def keys(self, prefix: bytes = b"") -> list[bytes]:
        """Return what is held."""


class Transacting(Protocol):
    """A transaction; see `Transaction`."""

    @property
    def written_bytes(self) -> int:
        """How much it will write."""

    def entry(self, key: bytes) -> Entry | None:
        """Return what is at a key."""

    def listing(self, prefix: bytes = b"", *, after: bytes = b"", limit: int = ...) -> Sequence[Listed]:
        """Return a page of keys."""

    def put(self, key: bytes, value: bytes, *, ttl_seconds: int | None = 0) -> None:
        """Store a value when it commits."""

    def delete(self, key: bytes) -> bool:
        """Delete a key when it commits; answer whether it was there."""

    def commit(self) -> int:
        """Make it happen, or raise `Conflict`; it is over then."""

    def rollback(self) -> None:
        """Forget it."""


class Keyspace(Protocol):
    """The keys of one scope of one namespace. Safe from any thread; raises `KvError`. See `Store`."""

    @property
    def locks(self) -> Locking:
        """Who holds which key."""

    def get(self, key: bytes) -> Entry | None:
        """Return what is at a key."""

    def status(self, key: bytes) -> Listed | None:
        """Return what is known of it."""

    def page(self, prefix: bytes = b"", *, after: bytes = b"", limit: int = ...) -> Sequence[Listed]:
        """Return a page of keys."""

    def put(
        self,
        key: bytes,
        value: bytes,
        *,
        expect: int | None = None,
        ttl_seconds: int | None = 0,
        owner: object = None,
    ) -> int:
        """Store a value; return its revision."""

    def append(self, key: bytes, data: bytes, *, expect: int | None = None) -> int:
        """Add to a value; return its revision."""

    def delete(self, key: bytes, *, expect: int | None = None) -> int:
        """Delete a key."""

    def rename(self, old: bytes, new: bytes) -> int:
        """Move a key."""

    def move(self, old: bytes, new: bytes) -> int:
        """Move a folder."""

    def reserve(self, key: bytes, owner: object) -> bool:
        """Let only `owner` create a key."""

    def release(self, key: bytes, owner: object) -> None:
        """Let others create it again."""

    def expire(self, key: bytes, ttl_seconds: int) -> None:
        """Set when a key disappears."""

    def watch(self, prefix: bytes, listener: Callable[[Change], None]) -> Watching:
        """Tell of changes."""

    def begin(self) -> Transacting:
        """Begin a transaction."""


@dataclass(frozen=True, slots=True)
class Opened:
    """The use of a keyspace.

    Attributes:
        keys: it.
        release: gives the use back.
        waits: whether any change takes so long that others should have the worker meanwhile.
        folder: what counts against the disk quota; None if nothing does.
    """

    keys: Keyspace
    release: Callable[[], None]
    waits: bool = False
    folder: Path | None = None


class Backend(Protocol):
    """Who keeps scopes.

    Attributes:
        name: what an operator calls it.
    """

    name: str

    def open(self, namespace: str, scope: str) -> Opened:
        """Return the use of a scope's keys.

        Raises:
            ExtensionError: naming what is wrong and what to do.
        """


class HostStores:
    """The host's own stores, `{storage root}/.pulp-cloud/kv/{namespace}/{scope}.db`. Implements `Backend`."""

    name = "embedded"

    def __init__(self, storage_root: Path, stores: Stores, *, power_safe: bool) -> None:
        self._root: Final = storage_root.absolute() / FOLDER / "kv"
        self._stores: Final = stores
        self._power_safe: Final = power_safe

    def open(self, namespace: str, scope: str) -> Opened:
        """See `Backend.open`."""
        folder = self._root / namespace
        path = folder / f"{scope}.db"
        try:
            lease = self._stores.open(path, power_safe=self._power_safe, folders=True)
        except KvError as error:
            raise ExtensionError(
                f"cloud.kv: {path}: {error}; put it right, restore a backup, or move the file away to begin anew"
            ) from None
        return Opened(lease.store, lease.release, waits=self._power_safe, folder=folder)
