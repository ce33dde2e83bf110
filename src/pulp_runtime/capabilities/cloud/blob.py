"""`cloud.blob`: large objects as files, `/beta/blob/<bucket>/<object>` (spec/wasi-cloud §7).

    open, write…, close ──▶ Writer ──▶ {storage root}/.pulp-cloud/blob/{namespace}/    by default
    open, seek, read    ◀── Reader ◀─┘ or a backend of an extension, where the operator's settings name one

The buckets themselves are `pulp_runtime.blobs`; here is who may use which, and where each of them is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple

import msgspec

from pulp_runtime.blobs.bucket import Bucket
from pulp_runtime.blobs.store import Store
from pulp_runtime.capabilities.cloud.blob_tree import BucketFolder
from pulp_runtime.capabilities.cloud.blob_view import View
from pulp_runtime.capabilities.cloud.lease import Lease, Shared, namespace_folder
from pulp_runtime.ext import Capability, CellRef, ExtensionError, PerCell, SetupEnv
from pulp_runtime.ext.run import Run
from pulp_runtime.files.quota import DiskQuota

NAME: Final = "cloud.blob"
EMBEDDED: Final = "embedded"
BACKENDS: Final = "pulp.blob_backends"
"""Entry points of backends: each a function `connect(bucket, namespace, options) -> Bucket`."""


class BucketSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the operator says about a bucket.

    Attributes:
        backend: `embedded`, or the name of an extension's.
        max_bytes: how much the objects of an embedded bucket may have together in each namespace; 0 for any.
        options: what the backend wants to know.
    """

    backend: str = EMBEDDED
    max_bytes: Annotated[int, msgspec.Meta(ge=0)] = 0
    options: dict[str, Any] = {}


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What `Host(config={"cloud.blob": {...}})` may say.

    Attributes:
        buckets: by name; one that is not named is embedded.
    """

    buckets: dict[str, BucketSettings] = {}


class _Cell(NamedTuple):
    """What the capability has for a cell."""

    buckets: Mapping[str, Bucket]
    leases: tuple[Lease[Any], ...]
    quota: DiskQuota

    def close(self) -> None:
        for lease in self.leases:
            lease.release()


class Blobs(PerCell[_Cell]):
    """Owner of the capability's hooks."""

    def __init__(self) -> None:
        super().__init__()
        self._env: SetupEnv | None = None
        self._settings = Settings()
        self._backends: dict[str, Callable[[str, str, Mapping[str, Any]], Bucket]] = {}
        self._stores: Final[Shared[Store]] = Shared()
        self._connected: Final[Shared[Bucket]] = Shared()

    def setup(self, env: SetupEnv) -> None:
        """Read the operator's settings and find the backends they name.

        Raises:
            ExtensionError: naming the setting and what to write.
        """
        try:
            self._settings = msgspec.convert(dict(env.config), Settings)
        except msgspec.ValidationError as error:
            raise ExtensionError(f"{NAME}: {error}") from None
        for bucket, about in self._settings.buckets.items():
            where = f'{NAME}: buckets."{bucket}"'
            if about.backend == EMBEDDED:
                if about.options:
                    raise ExtensionError(f"{where}: the embedded store has no options; remove them")
            else:
                if about.max_bytes:
                    raise ExtensionError(f"{where}: max_bytes is for embedded buckets; bound it at the backend")
                self._backends[about.backend] = _backend(where, about.backend)
        self._env = env

    def setup_cell(self, cell: CellRef) -> None:
        """Open the buckets that a program is granted.

        Raises:
            ExtensionError: naming what cannot be opened, and what to do.
        """
        env = self._env
        if env is None:
            return
        namespace, folder = cell.namespace, namespace_folder(env, "blob", cell)
        leases: list[Lease[Any]] = []
        buckets: dict[str, Bucket] = {}
        try:
            for name in cell.grants.blob:
                about = self._settings.buckets.get(name, BucketSettings())
                if about.backend == EMBEDDED:
                    store = self._stores.open(namespace, lambda: self._open(env, folder))
                    leases.append(store)
                    buckets[name] = store.thing.bucket(name, most_bytes=about.max_bytes)
                else:
                    connect = self._backends[about.backend]
                    lease = self._connected.open(
                        f"{namespace}/{name}",
                        lambda: connect(name, namespace, about.options),  # noqa: B023  # at once
                    )
                    leases.append(lease)
                    buckets[name] = lease.thing
        except (OSError, ExtensionError) as error:
            for lease in leases:
                lease.release()
            raise ExtensionError(f"{NAME}: {error}") from None
        self.keep(cell.id, _Cell(buckets, tuple(leases), DiskQuota(folder, cell.disk_bytes)))

    def _open(self, env: SetupEnv, folder: Path) -> Store:
        try:
            store = Store(folder)
        except OSError as error:
            fix = "put it right, restore a backup, or move the folder away to begin anew"
            raise ExtensionError(f"{folder}: {error.strerror or error}; {fix}") from None
        if store.swept.missing:
            env.logger.error("blob content missing", store=folder, contents=store.swept.missing)
        if store.swept.orphans:
            env.logger.info("unfinished blobs removed", store=folder, files=store.swept.orphans)
        return store

    def mount(self, run: Run) -> None:
        """Mount the buckets that the program is granted."""
        cell = self.in_use(run.cell.id)
        if cell is None:
            return
        for name, mode in run.cell.grants.blob.items():
            view = View(run, name, cell.buckets[name], cell.quota, writes=mode == "rw")
            run.tree.add(f"/beta/blob/{name}", BucketFolder(view))

    def release(self, value: _Cell) -> None:
        """See `PerCell.release`; buckets that nobody else has are closed."""
        value.close()


def _backend(where: str, name: str) -> Callable[[str, str, Mapping[str, Any]], Bucket]:
    if name == "cluster":
        raise ExtensionError(f"{where}: the cluster's object store is not built; write embedded or s3")
    found = [one for one in entry_points(group=BACKENDS) if one.name == name]
    if len(found) != 1:
        known = ", ".join(sorted({EMBEDDED, *(one.name for one in entry_points(group=BACKENDS))}))
        why = "two packages bring" if found else "no package brings"
        raise ExtensionError(f"{where}: {why} the backend {name!r}; there are {known}")
    connect: Callable[[str, str, Mapping[str, Any]], Bucket] = found[0].load()
    return connect


def capability() -> Capability:
    """Return the capability."""
    return Capability.of(NAME, Blobs())
