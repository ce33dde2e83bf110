"""`storage.kv`: a small durable key-value store, of the cell's own or shared with others.

    cell ── key ──▶ Store ──▶ {storage root}/{cell}/.pulp-kv/kv.db            by default
                          └─▶ {storage root}/.pulp-kv/{namespace}/kv.db      with `namespace` in the manifest's settings

A change that has been answered with 0 survives the end of the process. The store itself is `pulp_runtime.kv`; here are
its functions for cells, its codes, and the way of its changes into their mailboxes.
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Final, Literal

import msgspec

from pulp_runtime.abi.kv import (
    KvBatch,
    KvChange,
    KvEntry,
    KvIncrement,
    KvKey,
    KvList,
    KvListed,
    KvNumber,
    KvRevision,
    KvWatch,
    KvWatching,
)
from pulp_runtime.capabilities.storage.kv_feed import HALF, Feed
from pulp_runtime.capabilities.storage.place import cell_folder, store_path
from pulp_runtime.ext import (
    U32,
    Capability,
    CellRef,
    Errno,
    ExtensionError,
    Guest,
    HostError,
    HostFunction,
    Linker,
    PerCell,
    SetupEnv,
    host_function,
)
from pulp_runtime.files.quota import DiskQuota, QuotaExceeded
from pulp_runtime.kv.entry import PAGE, Delete, Put
from pulp_runtime.kv.fault import (
    Conflict,
    KeyInvalid,
    KeyMissing,
    KeyTooLong,
    KvError,
    StoreFull,
    TooMany,
    ValueTooLarge,
)
from pulp_runtime.kv.store import Store
from pulp_runtime.kv.stores import Lease, Stores

NAME: Final = "storage.kv"
CONFLICT: Final = 18
TOO_LARGE: Final = 19
TOO_MANY: Final = 21
FULL: Final = 22
WATCHES: Final = 64
"""Most watches of one cell."""
TEND_SECONDS: Final = 0.25
"""How often keys whose time is over are looked for, and full mailboxes tried again."""

_CHANGING: Final = frozenset({"kv_put", "kv_delete", "kv_cas", "kv_batch", "kv_increment"})
_OVERHEAD_BYTES: Final = 8192
"""What a change may add to the file beside key and value."""
_CODES: Final[dict[type[KvError], int]] = {
    KeyInvalid: Errno.EMPTY,
    KeyTooLong: TOO_LARGE,
    KeyMissing: Errno.NOT_FOUND,
    Conflict: CONFLICT,
    ValueTooLarge: TOO_LARGE,
    StoreFull: FULL,
    TooMany: TOO_MANY,
}


class KvSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a manifest may set under `[settings."storage.kv"]`.

    Attributes:
        namespace: the store is shared by all cells that say the same; "" for one of the cell's own.
        durability: what an answered change survives: the end of the `process`, or a `power` failure too.
    """

    namespace: Annotated[str, msgspec.Meta(pattern="^([a-z][a-z0-9_-]{0,62})?$")] = ""
    durability: Literal["process", "power"] = "process"


class _Cell:
    """What one cell has open.

    Attributes:
        number: of its feed.
        waits: whether a change waits for the disk.
    """

    def __init__(self, lease: Lease, quota: DiskQuota, feed: Feed, number: int, *, waits: bool) -> None:
        self.lease: Final = lease
        self.store: Final = lease.store
        self.get: Final = lease.store.get
        self.quota: Final = quota
        self.feed: Final = feed
        self.number: Final = number
        self.waits: Final = waits

    def room(self, size: int) -> None:
        """Return if the disk quota has room for a change of `size` bytes, and take it.

        It takes twice as much: in SQLite's log, and in the file. What a change replaces is not taken off; the quota
        finds that out when it looks at the folder again, a second later.
        """
        needed = 2 * size + _OVERHEAD_BYTES
        try:
            self.quota.check(needed)
        except QuotaExceeded as error:
            raise HostError(FULL, str(error)) from None
        self.quota.charge(2 * size)


class KeyValue(PerCell[_Cell]):
    """A store for each cell, or for several."""

    def __init__(self) -> None:
        super().__init__()
        self._env: SetupEnv | None = None
        self._stores = Stores()
        self._feeds: Final[dict[int, Feed]] = {}
        self._numbers: Final = itertools.count(1)

    # What cells call --------------------------------------------------------------------------------------------

    def kv_get(self, guest: Guest, key: int, key_bytes: int, address_out: int, length_out: int) -> int:
        """Deliver the value at a key; 6 if there is none."""
        cell = self.kept(guest.cell.id)
        if cell is None:
            raise HostError(Errno.NO_HANDLE)
        entry = cell.get(guest.read(key, key_bytes))
        if entry is None:
            return Errno.NOT_FOUND if key_bytes else Errno.EMPTY
        guest.deliver(entry.value, address_out, length_out)
        return 0

    def kv_put(self, guest: Guest, key: int, key_bytes: int, value: int, value_bytes: int, ttl_seconds: int) -> int:
        """Store a value at a key, in place of what is there; after `ttl_seconds` it disappears, 0 for never."""
        cell = self._cell(guest.cell)
        name, data = guest.read(key, key_bytes), guest.read(value, value_bytes)
        cell.room(len(name) + len(data))
        cell.store.put(name, data, ttl_seconds=ttl_seconds)
        return 0

    @host_function
    def kv_entry(self, cell: CellRef, key: bytes) -> KvEntry:
        """Deliver what is at a key, with its revision; 6 if there is nothing."""
        entry = self._cell(cell).get(key)
        if entry is None:
            raise HostError(Errno.NOT_FOUND if key else Errno.EMPTY)
        value, revision, modified_ns, expires_ns, _inode = entry
        return KvEntry(value=value, revision=revision, modified_ns=modified_ns, expires_ns=expires_ns)

    @host_function
    def kv_delete(self, cell: CellRef, key: bytes) -> None:
        """Delete a key; 6 if there is nothing."""
        self._cell(cell).store.delete(key)

    @host_function
    def kv_list(self, cell: CellRef, request: KvList | None) -> KvListed:
        """Deliver a page of keys in the order of their bytes; without a request, the first page of all of them."""
        request = request or KvList()
        limit = min(request.limit or PAGE, PAGE)
        found = self._cell(cell).store.page(request.prefix.encode(), after=request.after.encode(), limit=limit)
        keys = [
            KvKey(
                key=one.key.decode(),
                size=one.size,
                revision=one.revision,
                modified_ns=one.modified_ns,
                expires_ns=one.expires_ns,
            )
            for one in found
        ]
        return KvListed(keys=keys, more=len(keys) == limit)

    @host_function
    def kv_cas(self, cell: CellRef, change: KvChange) -> KvRevision:
        """Put or delete a key if its revision is the expected one; 18 if it is another, and nothing has changed."""
        return self._apply(cell, [change])

    @host_function
    def kv_batch(self, cell: CellRef, batch: KvBatch) -> KvRevision:
        """Do several changes at once; 18 if one of them expects something else, and nothing has changed."""
        return self._apply(cell, batch.changes)

    def _apply(self, ref: CellRef, changes: list[KvChange]) -> KvRevision:
        cell = self._cell(ref)
        cell.room(sum(len(change.key) + len(change.value or b"") for change in changes))
        revision = cell.store.apply([_change(change) for change in changes])
        return KvRevision(revision=revision)

    @host_function
    def kv_increment(self, cell: CellRef, request: KvIncrement) -> KvNumber:
        """Add to the number at a key; 4 if what is there is no number of 64 bits, or would not be one any more."""
        found = self._cell(cell)
        found.room(len(request.key) + 20)
        number, revision = found.store.increment(request.key.encode(), request.by)
        return KvNumber(value=number, revision=revision)

    @host_function
    def kv_watch(self, cell: CellRef, request: KvWatch | None) -> KvWatching:
        """Post a `kv.change` event for every change of a key with this prefix from now on; 21 past 64 watches."""
        found = self._cell(cell)
        if len(found.feed.watches) >= WATCHES:
            raise HostError(TOO_MANY, f"{WATCHES} watches")
        number = next(self._numbers)
        prefix = request.prefix.encode() if request else b""
        watch = found.store.watch(prefix, found.feed.listener(number))
        found.feed.watches[number] = watch
        return KvWatching(watch=number, revision=watch.since)

    @host_function
    def kv_unwatch(self, cell: CellRef, watch: U32) -> None:
        """End a watch; 6 if the cell has none of that number. Events already on their way still come."""
        found = self._cell(cell).feed.watches.pop(watch, None)
        if found is None:
            raise HostError(Errno.NOT_FOUND, f"no watch {watch}")
        found.close()

    def waits(self, ref: CellRef) -> bool:
        """Tell whether a change of this cell waits for the disk."""
        cell = self.kept(ref.id)
        return cell is not None and cell.waits

    def _cell(self, ref: CellRef) -> _Cell:
        cell = self.kept(ref.id)
        if cell is None:
            raise HostError(Errno.NO_HANDLE, "no store is open for the cell")
        return cell

    # Hooks ------------------------------------------------------------------------------------------------------

    def setup(self, env: SetupEnv) -> None:
        """Remember where stores are; whoever else uses them in this host uses the same ones."""
        self._env = env
        self._stores = env.services.get(Stores, Stores)
        env.spawn(self._tend())

    async def _tend(self) -> None:
        """Delete what has expired, and try again to tell cells whose mailboxes were full."""
        while True:
            await asyncio.sleep(TEND_SECONDS)
            for _cell_id, cell in self.all_kept():
                if cell.feed.stuck:
                    cell.feed.retry()
            due = [store for store in self._stores.all() if store.due]
            if due:
                await asyncio.to_thread(self._sweep, due)

    def _sweep(self, stores: list[Store]) -> None:
        for store in stores:
            try:
                while store.due and store.sweep():
                    pass
            except KvError as error:
                if self._env is not None:
                    self._env.logger.warning("expired keys stay", store=store.path, reason=str(error))

    def setup_cell(self, cell: CellRef) -> None:
        """Open the cell's store.

        Raises:
            ExtensionError: naming the file and what to do.
        """
        env = self._env
        if env is None:
            return
        settings = cell.settings(NAME, KvSettings)
        folder = cell_folder(env, cell)
        path = store_path(folder.parent, folder.name, settings.namespace)
        try:
            lease = self._stores.open(path, power_safe=settings.durability == "power")
        except KvError as error:
            raise ExtensionError(
                f"{NAME}: {path}: {error}; put it right, restore a backup, or move the file away to begin anew"
            ) from None
        counted = path.parent if settings.namespace else path.parent.parent
        number = next(self._numbers)
        feed = Feed(cell.id, number, env.post)
        power = settings.durability == "power"
        self._feeds[number] = feed
        self.keep(cell.id, _Cell(lease, DiskQuota(counted, cell.disk_bytes), feed, number, waits=power))

    def finalize(self, event_id: int) -> None:
        """Send the next of what waits for a cell."""
        feed = self._feeds.get(event_id >> HALF)
        if feed is not None:
            feed.done()

    def release(self, value: _Cell) -> None:
        """See `PerCell.release`; its watches end, and its store is closed if nobody else uses it."""
        self._feeds.pop(value.number, None)
        value.feed.close()
        value.lease.release()


def _change(change: KvChange) -> Put | Delete:
    key = change.key.encode()
    if change.value is None:
        return Delete(key, change.revision)
    return Put(key, change.value, change.revision, change.ttl_seconds)


def _answering(owner: KeyValue, function: HostFunction) -> HostFunction:
    """Return the function with what a store raises as codes; what only the operator can mend is told to him."""
    invoke, name = function.invoke, function.name
    changes = name in _CHANGING

    def answer(guest: Guest, *words: int) -> int:
        try:
            if changes and owner.waits(guest.cell):
                with guest.blocking():
                    return invoke(guest, *words)
            return invoke(guest, *words)
        except KvError as error:
            code = _CODES.get(type(error), Errno.FAILED)
            if code in (Errno.FAILED, FULL):
                guest.cell.log.warning("change refused", function=name, reason=str(error))
            raise HostError(code, str(error)) from None

    return replace(function, invoke=answer)


def capability() -> Capability:
    """Return the capability; the entry point."""
    owner = KeyValue()
    plain = Capability.of(NAME, owner)
    by_hand: dict[str, tuple[int, Callable[..., int], str]] = {
        "kv_get": (4, owner.kv_get, "(cell: CellRef, key: str) -> bytes"),
        "kv_put": (5, owner.kv_put, "(cell: CellRef, key: str, value: bytes, ttl_seconds: U32) -> None"),
    }
    functions = {
        name: HostFunction(name, words, invoke, False, signature, inspect.getdoc(invoke) or "")
        for name, (words, invoke, signature) in by_hand.items()
    } | dict(plain.functions)
    functions = {name: _answering(owner, each) for name, each in functions.items()}

    def register(linker: Linker, cell: CellRef) -> None:
        owner.setup_cell(cell)
        for each in functions.values():
            linker.define(each.name, each.words, each.invoke, blocking=each.blocking)

    return replace(plain, register=register, functions=functions)
