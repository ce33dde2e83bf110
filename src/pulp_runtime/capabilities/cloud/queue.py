"""`cloud.queue`: durable queues as files, `/beta/queue/<topic>` (spec/wasi-cloud §7).

    echo hi > …/orders/new ──▶ {storage root}/.pulp-cloud/queue/{namespace}/queue.db ──▶ cat …/orders/next
                                                                            ◀── rm …/orders/inflight/17

The queues themselves are `pulp_runtime.queues`; here is who may use which, and the clock that gives messages out again.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Annotated, Final, Literal, NamedTuple

import msgspec

from pulp_runtime.capabilities.cloud.lease import Lease, Shared, namespace_folder
from pulp_runtime.capabilities.cloud.queue_tree import TopicFolder
from pulp_runtime.capabilities.cloud.queue_view import View
from pulp_runtime.ext import Capability, CellRef, ExtensionError, PerCell, SetupEnv
from pulp_runtime.ext.run import Run
from pulp_runtime.files.quota import DiskQuota
from pulp_runtime.queues.message import (
    DELIVERIES,
    MOST_BYTES,
    MOST_MESSAGES,
    SECOND_NS,
    VISIBILITY_SECONDS,
    Bounds,
    Terms,
)
from pulp_runtime.queues.store import Store

NAME: Final = "cloud.queue"
FILE: Final = "queue.db"

_Count = Annotated[int, msgspec.Meta(ge=1, le=1_000_000_000_000)]


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What `Host(config={"cloud.queue": {...}})` may say.

    Attributes:
        max_messages: most messages of one topic, those in flight and the dead included.
        max_bytes: most bytes of them.
        durability: what a message that is published survives: the end of the `process`, or a `power` failure.
    """

    max_messages: _Count = MOST_MESSAGES
    max_bytes: _Count = MOST_BYTES
    durability: Literal["process", "power"] = "process"


class QueueSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a manifest may say under `[settings."cloud.queue"]`: how this program takes messages.

    Attributes:
        visibility_seconds: how long it has one before it is given out again, 1 to 43,200.
        max_deliveries: how often one is given out before it is dead, 1 to 1,000.
    """

    visibility_seconds: Annotated[float, msgspec.Meta(ge=1, le=43_200)] = VISIBILITY_SECONDS
    max_deliveries: Annotated[int, msgspec.Meta(ge=1, le=1_000)] = DELIVERIES


class _Cell(NamedTuple):
    """What the capability has for a cell."""

    lease: Lease[Store]
    quota: DiskQuota
    terms: Terms

    def close(self) -> None:
        self.lease.release()


class Queues(PerCell[_Cell]):
    """Owner of the capability's hooks."""

    def __init__(self) -> None:
        super().__init__()
        self._env: SetupEnv | None = None
        self._settings = Settings()
        self._stores: Final[Shared[Store]] = Shared()
        self._sooner: Final = asyncio.Event()
        self._sleeps_until_ns = 0

    def setup(self, env: SetupEnv) -> None:
        """Read the operator's settings, and start the clock.

        Raises:
            ExtensionError: naming the setting and what is wrong with it.
        """
        try:
            self._settings = msgspec.convert(dict(env.config), Settings)
        except msgspec.ValidationError as error:
            raise ExtensionError(f"{NAME}: {error}") from None
        self._env = env
        env.spawn(self._tend())

    async def _tend(self) -> None:
        """Give messages out again whose time is over, as soon as it is."""
        while True:
            self._sooner.clear()
            due_ns = min((due for store in self._stores.all() if (due := store.next_due_ns)), default=0)
            self._sleeps_until_ns = due_ns
            try:
                await asyncio.wait_for(
                    self._sooner.wait(), max(0.0, (due_ns - time.time_ns()) / SECOND_NS) if due_ns else None
                )
            except TimeoutError:
                await asyncio.to_thread(self._sweep)

    def _sweep(self) -> None:
        for store in self._stores.all():
            try:
                store.sweep()
            except OSError as error:
                if self._env is not None:
                    self._env.logger.warning("queue not swept", reason=error.strerror or repr(error))

    def _taken(self, store: Store) -> None:
        """Wake the clock if a message may come back before it looks again."""
        due_ns, until_ns = store.next_due_ns, self._sleeps_until_ns
        if self._env is not None and due_ns and (not until_ns or due_ns < until_ns):
            self._env.defer(self._sooner.set)

    def setup_cell(self, cell: CellRef) -> None:
        """Open the queues of a program's namespace.

        Raises:
            ExtensionError: naming what cannot be opened, and what to do.
        """
        env = self._env
        if env is None:
            return
        settings = cell.settings(NAME, QueueSettings)
        if not cell.grants.queue:
            return
        folder = namespace_folder(env, "queue", cell)
        lease = self._stores.open(cell.namespace, lambda: self._open(env, folder / FILE))
        terms = Terms(settings.visibility_seconds, settings.max_deliveries)
        self.keep(cell.id, _Cell(lease, DiskQuota(folder, cell.disk_bytes), terms))

    def _open(self, env: SetupEnv, path: Path) -> Store:
        def buried(topic: str, number: int) -> None:
            env.logger.warning("message is dead", namespace=path.parent.name, topic=topic, id=number)

        try:
            return Store(path, power_safe=self._settings.durability == "power", buried=buried)
        except OSError as error:
            fix = "put it right, restore a backup, or move the file away to begin anew"
            raise ExtensionError(f"{NAME}: {path}: {error.strerror or error}; {fix}") from None

    def mount(self, run: Run) -> None:
        """Mount the topics that the program is granted."""
        cell = self.in_use(run.cell.id)
        if cell is None:
            return
        bounds = Bounds(self._settings.max_messages, self._settings.max_bytes)
        for topic, mode in run.cell.grants.queue.items():
            view = View(run, cell.lease.thing, topic, mode, cell.terms, bounds, cell.quota, self._taken)
            run.tree.add(f"/beta/queue/{topic}", TopicFolder(view))

    def release(self, value: _Cell) -> None:
        """See `PerCell.release`; the queues are closed if nobody else uses them."""
        value.close()


def capability() -> Capability:
    """Return the capability."""
    return Capability.of(NAME, Queues())
