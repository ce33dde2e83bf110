"""One running copy of a cell's module: its memory, its entry points, its deadline.

Not for two threads at once; `Cell` sees to that. Once `spent`, by a trap, a deadline or an exit, it answers nothing
any more and must be replaced.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

import wasmtime

from pulp_runtime._kernel.batch import Batch
from pulp_runtime._kernel.contract import OPTIONAL, REQUIRED
from pulp_runtime._kernel.crossing import Deadline, EngineFault, Export, GuestMemory, Imports
from pulp_runtime._kernel.engine import Engine
from pulp_runtime._kernel.faults import bad_allocation, describe, describe_start
from pulp_runtime._kernel.glue import attach
from pulp_runtime._kernel.lines import LineLog
from pulp_runtime._kernel.link import link
from pulp_runtime._kernel.pad import Pad
from pulp_runtime._kernel.registry import Binding, Bindings
from pulp_runtime._kernel.shared_memory import Attachments
from pulp_runtime._kernel.snapshots.state import State
from pulp_runtime._kernel.ticker import TICK_SECONDS
from pulp_runtime._kernel.wall import guarded
from pulp_runtime._kernel.world import world
from pulp_runtime.errors import CallFailed, CellClosed, CellError, Errno, HostError
from pulp_runtime.ext import CellRef
from pulp_runtime.manifest.limits import Limits

FORWARDED: Final = ("HTTP_PORT", "TZ")
"""The only environment variables a guest sees; anything else on the host is none of its business."""

Blocking = Callable[[], AbstractContextManager[None]]
_IDLE_BYTES: Final = 20
_NESTED_ALLOCATIONS: Final = 8  # how deep an allocator may call host functions that allocate


class Instance:
    """A module brought to life. Implements `ext.Guest` for the host functions it calls.

    Attributes:
        cell: who it is, for extensions.
        spent: why it cannot be used any more, "" while it can.
        blocking: makes the context in which a host function may wait.
        lines: where its output goes.
        memory: its linear memory.
        shared: what of that it shares with other cells.
        state: how that can be saved; None for a cell that is not snapshotable.
    """

    __slots__ = (
        "_allocating",
        "_armed",
        "_batch",
        "_deadline",
        "_engine",
        "_epochs",
        "_exports",
        "_idle",
        "_imports",
        "_limits",
        "_memory_name",
        "_pad",
        "_store",
        "alloc",
        "blocking",
        "cell",
        "free",
        "granted",
        "lines",
        "memory",
        "on_call",
        "shared",
        "spent",
        "state",
        "step_export",
    )

    def __init__(
        self,
        engine: Engine,
        module: wasmtime.Module,
        path: object,
        cell: CellRef,
        bindings: Bindings,
        granted: frozenset[str],
        memory_name: str,
        limits: Limits,
        *,
        blocking: Blocking = nullcontext,
        lines: LineLog | None = None,
        groups: Sequence[str] = (),
        state: State | None = None,
    ) -> None:
        self.cell = cell
        self.state = state
        self.shared = Attachments(groups, limits.shared_memory_mb)
        self.spent = ""
        self.granted = granted
        self.blocking = blocking
        self.lines = lines or LineLog(cell.log, limits)
        self._engine = engine
        self._limits = limits
        self._epochs = engine.ticker.epochs(limits.call_seconds)
        self._armed = -1
        self._idle = 0
        self._allocating = 0
        self._imports = Imports(self._host_function_failed)
        self._store = self._new_store()
        linker = wasmtime.Linker(engine.wasm)
        linker.define_wasi()
        linker.allow_shadowing = True
        ours = world(self, self.lines, None if state is None else state.clock)
        link(cell.name, path, module, linker, self._imports, bindings, ours, self._behind_the_wall)
        self._deadline = Deadline(self._store)
        self._batch: Batch | None = None
        self._pad: Pad | None = None
        self.memory = GuestMemory()  # until there is one: host functions called by a start section answer 2
        self._exports = self._instantiate(linker, module, path)
        self._memory_name = memory_name
        self.memory = GuestMemory(self._store, self._exports[memory_name])
        self.alloc = self._entry("pulp_alloc")
        self.step_export = self._entry("pulp_step")
        self.free = self.export("pulp_free")
        self.on_call = self.export("pulp_on_call")
        self._initialize() if state is None else state.attach(self)

    def _new_store(self) -> wasmtime.Store:
        store = wasmtime.Store(self._engine.wasm)
        self._limit(store)
        wasi = wasmtime.WasiConfig()
        wasi.env = [(name, os.environ[name]) for name in FORWARDED if os.environ.get(name)]
        store.set_wasi(wasi)
        return store

    def _limit(self, store: wasmtime.Store | None = None, *, extra: int = 0) -> None:
        """Bound what the guest may take; `extra` makes room for the glue."""
        (store or self._store).set_limits(
            memory_size=self._limits.memory_bytes,
            table_elements=self._limits.table_elements,
            instances=1 + 2 * extra,
            tables=16,
            memories=1 + extra,
        )

    def _instantiate(self, linker: wasmtime.Linker, module: wasmtime.Module, path: object) -> Mapping[str, Any]:
        """Instantiate the module, its start section included, within the deadline."""
        self.enter()
        try:
            instance = linker.instantiate(self._store, module)
        except (wasmtime.Trap, wasmtime.WasmtimeError) as error:
            self.spent = "it could not be instantiated"
            raise describe_start(self.cell.name, path, error, self._limits.call_seconds) from None
        finally:
            self.leave()
            linker.close()
        return instance.exports(self._store)

    def _initialize(self) -> None:
        """Run `_initialize`, or `_start` if there is none; imports may be called from there (spec/core §3.1)."""
        for name in ("_initialize", "_start"):
            start = self.export(name)
            if start is not None:
                self.run(name, start)
                return

    # Entry points -----------------------------------------------------------------------------------------------

    def export(self, name: str) -> Export | None:
        """Return an export of the contract, ready to call, or None if the module has none of that name."""
        return self._entry(name) if name in self._exports else None

    def _entry(self, name: str) -> Export:
        parameters, _results = {**REQUIRED, **OPTIONAL}[name]
        return Export(self._store, self._exports[name], self._imports, len(parameters))

    def enter(self, seconds: float | None = None, *, nested: bool = False) -> None:
        """Start the clock for one entry point: everything until `leave` shares its deadline.

        `seconds` makes it come sooner than the cell's own limit says: a caller has no more time left. A `nested` call
        comes from a guest, which is inside already.
        """
        if self.spent:
            raise CellClosed(self.cell.name, f"{self.cell.name}: instance is spent: {self.spent}")
        ticker = self._engine.ticker
        if not nested:
            ticker.inside.add(self)
            if ticker.parked:
                ticker.wake()
        if self._armed != ticker.epoch:
            self._armed = ticker.epoch
            self._imports.paced = False
            self._deadline.set(self._epochs)
        if seconds is not None and seconds < self._limits.call_seconds:
            left = int(seconds / TICK_SECONDS) + 1
            self._armed = ticker.epoch + left - self._epochs  # as if it had begun so much earlier
            self._deadline.set(left)

    def leave(self) -> None:
        """Stop the clock."""
        self._engine.ticker.inside.discard(self)

    def run(self, name: str, export: Export, *words: int) -> int:
        """Call one export within a deadline of its own."""
        self.enter()
        try:
            return export(*words)
        except EngineFault as fault:
            raise self.fail(name, fault) from None
        finally:
            self.leave()

    def step(self, envelope: bytes) -> int:
        """Hand over one envelope: alloc, write, step, free, under one deadline.

        Raises:
            CallFailed: the allocator refused or pointed outside memory.
            CellTrap, CellTimeout, CellExit: the guest did not come back; the instance is spent.
        """
        self.enter()
        length = len(envelope)
        try:
            address = self.alloc.call1(length)
            if not address or not self.memory.write(address, envelope):
                raise bad_allocation(self.cell.name, address, length, self.memory.size)
            answer = self.step_export.call2(address, length)
            self.release(address, length)
        except EngineFault as fault:
            raise self.fail("pulp_step", fault) from None
        finally:
            self._engine.ticker.inside.discard(self)
        return answer

    def steps(self, envelopes: Sequence[bytes]) -> tuple[int, CellError | None]:
        """Hand over envelopes that fit into a batch; return how many steps were made, and what ended them.

        It may stop early, with no error, when the batch takes long: the deadline is for one step, not for all.
        """
        batch = self._batch or self._new_batch()
        self.enter()
        error: CellError | None = None
        try:
            batch.run(envelopes)
            if batch.allocator:
                error = CallFailed(self.cell.name, f"pulp_alloc {batch.allocator}")
        except EngineFault as fault:
            error = self.fail("pulp_step", fault)
        finally:
            self._engine.ticker.inside.discard(self)
        return batch.done, error

    def _new_batch(self) -> Batch:
        self._batch = Batch(self._store, self._glue(self._engine.glue.steps), self._imports)
        return self._batch

    @property
    def pad(self) -> Pad:
        """What `pulp_on_call`, if it is there, is asked through."""
        if self._pad is None:
            self._pad = Pad(self._store, self._glue(self._engine.glue.ask), self._imports)
        return self._pad

    def _glue(self, module: wasmtime.Module) -> Mapping[str, Any]:
        self._limit(extra=2)
        return attach(self._store, module, self._exports, self._memory_name)

    @property
    def progress(self) -> int:
        """How many steps of the batch in progress have been made."""
        batch = self._batch
        return 0 if batch is None else batch.progress

    def tick(self, epoch: int) -> None:
        """End a batch that has taken a whole tick, pace a call that takes several; called by the ticker meanwhile."""
        self._imports.paced = epoch - self._armed > 2 and self._engine.ticker.crowded
        batch = self._batch  # once: another thread may be closing the instance
        if batch is not None and epoch - self._armed > 1:
            batch.stop()

    def idle(self, envelope: bytes) -> int:
        """Hand over an envelope without an event, in a buffer that is allocated once and kept (spec/core §3.5)."""
        self.enter()
        try:
            if not self._idle:
                self._idle = self.alloc.call1(_IDLE_BYTES)
            if not self._idle or not self.memory.write(self._idle, envelope):
                raise bad_allocation(self.cell.name, self._idle, _IDLE_BYTES, self.memory.size)
            return self.step_export.call2(self._idle, _IDLE_BYTES)
        except EngineFault as fault:
            raise self.fail("pulp_step", fault) from None
        finally:
            self._engine.ticker.inside.discard(self)

    def place(self, data: bytes | memoryview) -> int:
        """Copy `data` into a buffer of the guest's; return its address, 0 for no bytes."""
        if not data:
            return 0
        address = self.alloc.call1(len(data))
        if not address or not self.memory.write(address, data):
            raise bad_allocation(self.cell.name, address, len(data), self.memory.size)
        return address

    def release(self, address: int, length: int) -> None:
        """Give back what `place` returned, or what the guest handed out, if it exports `pulp_free`."""
        if length and self.free is not None and not self.spent:
            self.free.call2(address, length)

    def fail(self, name: str, fault: EngineFault) -> CellError:
        """Return the error for a call that did not come back, and mark the instance as spent."""
        error = describe(self.cell.name, name, fault.cause, self._limits.call_seconds)
        self.spent = str(error)
        pending, self._imports.pending = self._imports.pending, None
        if pending is not None and not isinstance(pending, EngineFault):
            raise pending  # what a host function raised before, and must not be swallowed
        return error

    # What host functions see: ext.Guest -------------------------------------------------------------------------

    def read(self, address: int, length: int) -> bytes:
        """See `ext.Guest.read`."""
        memory = self.memory
        end = address + length
        if end <= memory.size:
            return memory.view[address:end].tobytes()
        data = memory.read(address, length)
        if data is None:
            raise HostError(Errno.FAULT)
        return data

    def write(self, address: int, data: bytes | memoryview) -> None:
        """See `ext.Guest.write`."""
        if not self.memory.write(address, data):
            raise HostError(Errno.WRITE)

    def deliver(self, data: bytes | memoryview, address_out: int, length_out: int) -> None:
        """See `ext.Guest.deliver`."""
        address = self.allocate(len(data)) if data else 0
        self.write(address, data)
        self.write(address_out, address.to_bytes(4, "little"))
        self.write(length_out, len(data).to_bytes(4, "little"))

    def allocate(self, length: int) -> int:
        """Ask the guest, which is waiting in a host function, for a buffer; what goes wrong fails its step too."""
        if self._allocating >= _NESTED_ALLOCATIONS or not self.memory.size:  # a start section has no allocator yet
            raise HostError(Errno.ALLOC)
        self._allocating += 1
        try:
            address = self.alloc.call1(length)
        except EngineFault as fault:
            self.fail("pulp_alloc", fault)
            self._imports.pending = fault
            raise HostError(Errno.ALLOC) from None
        finally:
            self._allocating -= 1
        if not address:
            raise HostError(Errno.ALLOC)
        return address

    def seconds_left(self) -> float:
        """See `ext.Guest.seconds_left`."""
        return max(0.0, (self._armed + self._epochs - self._engine.ticker.epoch) * TICK_SECONDS)

    def sleep(self, seconds: float) -> None:
        """Sleep for the guest; a sleep that its deadline or the host ends, ends its step too."""
        halted, left = self._engine.halted, self.seconds_left()
        awake = not halted.is_set()
        with self.blocking():
            woken = halted.wait(min(seconds, left)) and awake
        if (woken or seconds > left) and self._imports.pending is None:
            self._imports.pending = EngineFault(TimeoutError("asleep at its deadline"))

    def _behind_the_wall(self, binding: Binding) -> Callable[..., int]:
        return guarded(binding, self)

    def _host_function_failed(self, name: str, error: BaseException) -> None:
        self.cell.log.error("host function failed", function=name, error=repr(error), exc_info=error)

    def close(self) -> None:
        """Free everything. The instance must not be inside a call."""
        self.spent = self.spent or "it is closed"
        self.lines.flush()
        self.shared.detach()
        if self.state is not None:
            self.state.forget()
        self.memory.forget()
        for glue in (self._batch, self._pad):
            if glue is not None:
                glue.forget()
        self._batch = self._pad = None
        self._exports = {}
        self._store.close()
