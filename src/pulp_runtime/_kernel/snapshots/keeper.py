"""When the cells of a fleet are saved, and what they go on from.

    take     between two events, on a worker ── copy ──▶ in a thread of its own ── compress, write ──▶ Shelf
    begin    newest file first: check, make an instance, `restore` of capabilities, `pulp_restored`

A cell that trapped, or that an operator restarted, begins afresh: its snapshots are set aside, for what is in them may
be the cause. So are those that did not fit when it began.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from pulp_runtime._kernel.cell import Cell
from pulp_runtime._kernel.policy import State
from pulp_runtime._kernel.runner import Runner
from pulp_runtime._kernel.snapshots.saved import Header, Saved, SnapshotRefused, pack, unpack
from pulp_runtime._kernel.snapshots.shelf import Shelf, read, write
from pulp_runtime._kernel.versions import Version
from pulp_runtime.errors import HookFailed, LoadError, PulpError
from pulp_runtime.ext import Capability
from pulp_runtime.manifest.cell import CellSpec

_LOOK_SECONDS: Final = 0.5
"""How often the keeper looks whether a cell is due; periods are whole seconds."""


class Taken(NamedTuple):
    """What was copied from a cell and is not written yet.

    Attributes:
        saved: the state.
        version: what ran.
        era: see `Shelf.era`.
        keep: how many snapshots stay.
    """

    saved: Saved
    version: Version
    era: int
    keep: int


class Keeper:
    """Takes, keeps and uses the snapshots of a fleet.

    Args:
        root: folder of the cells' data; None where there is none: then nothing is written or read.
        folders: names of cells' folders that are not the cells' names, by event target.
        capabilities: those that a manifest declares.
        versions: what runs, by address.
        halted: whether the host ends guests just now.
    """

    def __init__(
        self,
        root: Path | None,
        folders: Mapping[str, str],
        capabilities: Callable[[CellSpec], Sequence[Capability]],
        versions: Mapping[str, Version],
        halted: Callable[[], bool],
    ) -> None:
        self._root: Final = root
        self._folders: Final = folders
        self._capabilities: Final = capabilities
        self._versions: Final = versions
        self._halted: Final = halted
        self._shelves: Final[dict[str, Shelf]] = {}
        self._refused: Final[dict[str, list[Path]]] = {}
        self._tasks: Final[dict[str, asyncio.Task[None]]] = {}
        self._clock: asyncio.Task[None] | None = None

    def _shelf(self, runner: Runner) -> Shelf | None:
        seat = runner.seat
        if self._root is None or not runner.spec.snapshotable:
            return None
        if seat.address not in self._shelves:
            folder = self._root / self._folders.get(seat.id, seat.spec.name)
            self._shelves[seat.address] = Shelf(folder, runner.spec.disk_quota_mb << 20)
        return self._shelves[seat.address]

    # Going on, on a worker --------------------------------------------------------------------------------------

    def begin(
        self, runner: Runner, version: Version, make: Callable[[Saved], Cell], drop: Callable[[], None]
    ) -> Cell | None:
        """Return a cell that goes on from its newest snapshot that fits; None if it is to begin afresh.

        Args:
            runner: the cell's.
            version: what is to run.
            make: makes an instance of it from what was saved.
            drop: drops what capabilities have prepared for an instance that was refused.

        Raises:
            LoadError: it has none of its own, and the one that the manifest names cannot be used.
        """
        shelf = self._shelf(runner)
        if shelf is None:
            return None
        self._refused.pop(runner.seat.address, None)
        refused: list[Path] = []
        for path in shelf.newest_first():
            try:
                cell = self._go_on(runner, version, path, make, drop)
            except PulpError as error:
                if self._halted():
                    raise
                runner.log.warning("snapshot refused", file=path.name, reason=str(error))
                refused.append(path)
            else:
                self._set_aside(runner, shelf, refused)
                return cell
        if refused:
            runner.log.warning("no snapshot fits; the cell begins afresh", count=len(refused))
            self._refused[runner.seat.address] = refused
            return None
        start = version.spec.snapshot.start_from
        if start is None:
            return None
        try:
            return self._go_on(runner, version, start, make, drop)
        except PulpError as error:
            raise LoadError(runner.spec.name, f"snapshot.from: {start}: {error}") from error

    def began_afresh(self, runner: Runner) -> None:
        """Set aside what was refused, now that there will be newer ones; a cell that does not start keeps them."""
        shelf, refused = self._shelf(runner), self._refused.pop(runner.seat.address, [])
        if shelf is not None and refused:
            self._set_aside(runner, shelf, refused)
            runner.log.info("snapshots set aside: the cell begins afresh", count=len(refused))

    def _go_on(
        self, runner: Runner, version: Version, path: Path, make: Callable[[Saved], Cell], drop: Callable[[], None]
    ) -> Cell:
        pages = version.spec.max_memory_pages
        saved = unpack(read(path, pages), pages)
        if saved.header.module != version.sha256:
            raise SnapshotRefused(f"it is of another module, with sha256 {saved.header.module}")
        try:
            cell = make(saved)
            self.wake(runner, cell, saved.header)
        except PulpError:
            drop()
            raise
        runner.log.info("cell goes on from a snapshot", file=path.name, call_number=saved.header.call_number)
        return cell

    def wake(self, runner: Runner, cell: Cell, header: Header) -> None:
        """Give capabilities back what they knew of a cell, and let it know; close it when that fails.

        Raises:
            PulpError: a capability or the cell refuses.
        """
        try:
            for capability in self._capabilities(cell.spec):
                if capability.restore is not None and capability.name in header.capabilities:
                    data = header.capabilities[capability.name]
                    _hook(capability, "restore", cell, runner.seat.id, data)
            cell.restored()
        except BaseException:
            cell.close()
            raise
        runner.calls = header.call_number

    # Taking -----------------------------------------------------------------------------------------------------

    def capture(self, runner: Runner, cell: Cell | None = None) -> Taken:
        """Copy the state of a cell, between two events.

        Args:
            runner: the cell's.
            cell: its instance, if the runner has let go of it.

        Raises:
            PulpError: it cannot be saved.
        """
        cell = cell or runner.cell
        version = self._versions.get(runner.seat.address)
        if cell is None or version is None:
            raise SnapshotRefused(f"the cell is {runner.state.value}")
        if version.spec is not cell.spec:
            raise SnapshotRefused("the cell is being reloaded")
        shelf = self._shelf(runner)
        era = 0 if shelf is None else shelf.era
        one = cell

        def gather() -> dict[str, bytes]:
            found = {}
            for capability in self._capabilities(one.spec):
                if capability.snapshot is not None and (data := _hook(capability, "snapshot", one, runner.seat.id)):
                    found[capability.name] = bytes(data)
            return found

        header, pages = cell.capture(gather)
        header = msgspec.structs.replace(
            header,
            cell=runner.seat.label,
            version=version.spec.version,
            taken_at=time.time_ns(),
            call_number=runner.calls,
        )
        return Taken(Saved(header, pages), version, era, cell.spec.snapshot.keep)

    def save(self, runner: Runner, taken: Taken, to: Path | None = None) -> tuple[Path, int]:
        """Write what was copied, to the cell's own folder or to a file; return where it is and its size in bytes.

        Raises:
            SnapshotRefused: it cannot be written, or the cell has begun anew since.
        """
        began = time.monotonic()
        header, pages = taken.saved
        count = header.memory_pages
        data = pack(Saved(msgspec.structs.replace(header, module=taken.version.sha256), pages))
        shelf = self._shelf(runner)
        if to is not None:
            try:
                write(to, data)
            except OSError as error:
                raise SnapshotRefused(f"{to}: {error.strerror}") from None
        elif shelf is None:
            raise SnapshotRefused("the host keeps no data")
        else:
            to = shelf.put(data, taken.keep, taken.era)
        ms = round((time.monotonic() - began) * 1000)
        runner.log.info("snapshot taken", file=to.name, bytes=len(data), memory_pages=count, ms=ms)
        return to, len(data)

    async def take(self, runner: Runner, to: Path | None = None) -> tuple[Path, int]:
        """Save a cell between two events; see `save`. On the loop.

        Raises:
            PulpError: it cannot be saved.
        """
        if not runner.spec.snapshotable:
            raise SnapshotRefused("the cell is not snapshotable; write snapshotable = true in its manifest")
        if runner.state is not State.READY:
            raise SnapshotRefused(f"the cell is {runner.state.value}")
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Taken | Exception] = loop.create_future()

        def settle(result: Taken | Exception) -> None:
            if not done.done():
                done.set_result(result)

        def job() -> None:
            result: Taken | Exception
            try:
                result = self.capture(runner)
            except Exception as error:  # noqa: BLE001  # whoever waits for it is told
                result = error
            loop.call_soon_threadsafe(settle, result)

        runner.between(job)
        result = await done
        if isinstance(result, Exception):
            raise result
        return await asyncio.to_thread(self.save, runner, result, to)

    # Now and then -----------------------------------------------------------------------------------------------

    def start(self, runners: Collection[Runner]) -> None:
        """Save every cell whose manifest says so as often as it says. May be called again. On the loop."""
        if self._clock is None and any(runner.spec.snapshot.every_seconds for runner in runners):
            self._clock = asyncio.get_running_loop().create_task(self._run(runners))

    async def _run(self, runners: Collection[Runner]) -> None:
        due: dict[str, float] = {}
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            now = time.monotonic()
            for runner in runners:
                every, name = runner.spec.snapshot.every_seconds, runner.seat.address
                if not every or runner.state is not State.READY:
                    due.pop(name, None)
                elif now >= due.setdefault(name, now + every) and name not in self._tasks:
                    due[name] = now + every
                    self._tasks[name] = asyncio.get_running_loop().create_task(self._take_quietly(runner))

    async def _take_quietly(self, runner: Runner) -> None:
        try:
            await self.take(runner)
        except PulpError as error:
            runner.log.warning("snapshot not taken", reason=str(error))
        finally:
            self._tasks.pop(runner.seat.address, None)

    def stop(self) -> None:
        """Begin no more; what is being written may be finished."""
        for task in [*self._tasks.values(), *([] if self._clock is None else [self._clock])]:
            task.cancel()
        self._clock = None

    # The end ----------------------------------------------------------------------------------------------------

    def put_to_sleep(self, runner: Runner, cell: Cell) -> bool:
        """Save a cell that is about to be shut down, and close it; answer whether that was done."""
        if not runner.spec.snapshotable or not runner.spec.snapshot.at_shutdown or cell.spent or self._root is None:
            return False
        with cell.alone():  # who waits for it is told that it is closed, and has changed nothing
            try:
                self.save(runner, self.capture(runner, cell))
            except PulpError as error:
                runner.log.error("snapshot not taken; the cell shuts down", err=str(error))
                return False
            cell.close()
        return True

    def crashed(self, runner: Runner) -> None:
        """Set a cell's snapshots aside if its instance has failed by its own doing; called at every change."""
        shelf, cell = self._shelf(runner), runner.cell
        if shelf is not None and cell is not None and cell.spent and not self._halted():
            self.set_aside(runner)

    def set_aside(self, runner: Runner) -> None:
        """Have a cell begin afresh from now on, until it is saved again."""
        shelf = self._shelf(runner)
        if shelf is not None:
            shelf.outdate()
            if found := shelf.newest_first():
                self._set_aside(runner, shelf, found)
                runner.log.info("snapshots set aside: the cell begins afresh", count=len(found))

    @staticmethod
    def _set_aside(runner: Runner, shelf: Shelf, paths: Sequence[Path]) -> None:
        try:
            shelf.set_aside(paths)
        except OSError as error:
            runner.log.error("snapshots could not be set aside", err=str(error))


class Passage:
    """What goes from one instance of a cell to the next when it is reloaded; see `swap.py`.

    Args:
        keeper: the fleet's.
        runner: the cell's.
        old: what runs, None when nothing ever did.
        new: what is to run.

    Attributes:
        taken: whether the state went over.
    """

    def __init__(self, keeper: Keeper, runner: Runner, old: Version | None, new: Version) -> None:
        self.taken = False
        self._old: Final = old
        self._keeper: Final = keeper
        self._runner: Final = runner
        self._new: Final = new

    def take(self) -> Saved | None:
        """Return the state of the instance that runs; None where the new one is to begin afresh."""
        cell = self._runner.cell
        if cell is None or cell.spent or not cell.spec.snapshotable or not self._new.spec.snapshotable:
            return None
        try:
            if self._old is None or self._old.wasm != self._new.wasm:
                raise SnapshotRefused("the module is another one")
            return self._keeper.capture(self._runner).saved
        except PulpError as error:
            self._runner.log.warning("state not kept; the cell begins afresh", reason=str(error))
            return None

    def wake(self, cell: Cell, header: Header) -> None:
        """See `Keeper.wake`."""
        self._keeper.wake(self._runner, cell, header)
        self.taken = True


def _hook(capability: Capability, hook: str, cell: Cell, *args: Any) -> Any:
    """Run a hook that may refuse.

    Raises:
        HookFailed: it raised.
    """
    try:
        return getattr(capability, hook)(*args)
    except Exception as error:
        raise HookFailed(capability.name, hook, error, cell=cell.name) from error
