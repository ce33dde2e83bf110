"""`cloud.kv`: keys and values as files, shared by all programs of one namespace.

    program ── /beta/kv/<scope>/… ──▶ KvNode ──▶ Area ──▶ Keyspace
                                                             └──▶ {storage root}/.pulp-cloud/kv/{namespace}/{scope}.db

`local` is this host. `region` and `global` belong to a cluster; a host that has none serves them from its own stores
too, each with keys of its own, so that the same program runs on a laptop.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec

from pulp_runtime.capabilities.cloud.kv_backend import SCOPES, Backend, HostStores, Opened
from pulp_runtime.capabilities.cloud.kv_mount import Answering, Granted, Mount
from pulp_runtime.capabilities.cloud.kv_node import KvNode
from pulp_runtime.capabilities.operator import operator_settings
from pulp_runtime.ext import Capability, CellRef, ExtensionError, Folder, PerCell, Run, SetupEnv
from pulp_runtime.files.quota import DiskQuota
from pulp_runtime.kv.fault import KvError
from pulp_runtime.kv.store import Store
from pulp_runtime.kv.stores import Stores

NAME: Final = "cloud.kv"
PATH: Final = "/beta/kv"
TEND_SECONDS: Final = 0.25
"""How often keys whose time is over are looked for."""


class CloudKvConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What an operator may set.

    Attributes:
        durability: what a value that has been closed survives: the end of the `process`, or a `power` failure too.
    """

    durability: Literal["process", "power"] = "process"


class _Cell:
    """What one cell has been granted."""

    def __init__(self, granted: Mapping[str, Granted], opened: list[Opened]) -> None:
        self.scopes: Final = tuple(granted.items())
        self._opened: Final = opened

    def release(self) -> None:
        """Give back the use of its keys."""
        for one in self._opened:
            one.release()


class CloudKv(PerCell[_Cell]):
    """Mounts the scopes that a program has been granted."""

    def __init__(self) -> None:
        super().__init__()
        self._env: SetupEnv | None = None
        self._stores = Stores()
        self._backends: Mapping[str, Backend] = {}

    def mount(self, run: Run) -> None:
        """Add `/beta/kv/<scope>` for each scope that is granted."""
        cell = self.in_use(run.cell.id)
        if cell is not None and cell.scopes:
            run.tree.add(PATH, Folder({scope: KvNode(Mount(run, granted)) for scope, granted in cell.scopes}))

    def setup(self, env: SetupEnv) -> None:
        """Decide who keeps which scope.

        Raises:
            ExtensionError: the operator's settings are wrong.
        """
        config = operator_settings(env, CloudKvConfig, {})
        self._env = env
        self._stores = env.services.get(Stores, Stores)
        own = HostStores(env.storage_root, self._stores, power_safe=config.durability == "power")
        self._backends = dict.fromkeys(SCOPES, own)
        env.spawn(self._tend())

    def setup_cell(self, cell: CellRef) -> None:
        """Open the keys that a cell has been granted.

        Raises:
            ExtensionError: naming the file and what to do.
        """
        opened: list[Opened] = []
        try:
            granted = {scope: self._open(cell, scope, mode, opened) for scope, mode in cell.grants.kv.items()}
        except BaseException:
            _Cell({}, opened).release()
            raise
        self.keep(cell.id, _Cell(granted, opened))

    def _open(self, cell: CellRef, scope: str, mode: str, opened: list[Opened]) -> Granted:
        backend = self._backends.get(scope)
        if backend is None or mode not in ("ro", "rw"):
            raise ExtensionError(
                f'{cell.manifest}: cloud.kv: {scope} = "{mode}": write local, region or global, ro or rw'
            )
        one = backend.open(cell.namespace, scope)
        opened.append(one)
        return Granted(
            scope=scope,
            keys=one.keys,
            read_only=mode == "ro",
            waits=one.waits,
            quota=None if one.folder is None else DiskQuota(one.folder, cell.disk_bytes),
            log=cell.log,
            answering=Answering(cell.log, scope),
            device=zlib.crc32(f"{cell.namespace}/{scope}".encode()),
        )

    async def _tend(self) -> None:
        """Delete what has expired, so that watches are told."""
        while True:
            await asyncio.sleep(TEND_SECONDS)
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

    def release(self, value: _Cell) -> None:
        """See `PerCell.release`; the keys are closed if nobody else uses them."""
        value.release()


def backends(_config: Mapping[str, Any]) -> dict[str, str]:
    """Return what keeps each scope with an operator's settings: `embedded`, for there is no other yet."""
    return dict.fromkeys(SCOPES, HostStores.name)


def capability() -> Capability:
    """Return the capability; the entry point."""
    return Capability.of(NAME, CloudKv())
