"""One running copy of a cell's module: its memory, its entry points, its deadline.

Not for two threads at once; `Cell` sees to that. Once `spent`, by a trap, a deadline or an exit, it answers nothing
any more and must be replaced.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, Final

import wasmtime

from pulp_runtime._kernel.contract import OPTIONAL, REQUIRED
from pulp_runtime._kernel.crossing import Deadline, EngineFault, Export, GuestMemory, Imports
from pulp_runtime._kernel.engine import Engine
from pulp_runtime._kernel.faults import describe
from pulp_runtime._kernel.lines import LineLog
from pulp_runtime._kernel.link import link
from pulp_runtime._kernel.registry import Binding, Bindings
from pulp_runtime._kernel.ticker import TICK_SECONDS
from pulp_runtime._kernel.world import world
from pulp_runtime.errors import CallFailed, CellClosed, Errno, HostError
from pulp_runtime.ext import CellRef
from pulp_runtime.manifest.limits import Limits

FORWARDED: Final = ("HTTP_PORT", "TZ")
"""The only environment variables a guest sees; anything else on the host is none of its business."""

Blocking = Callable[[], AbstractContextManager[None]]
_IDLE_BYTES: Final = 20


class Instance:
    """A module brought to life. Implements `ext.Guest` for the host functions it calls.

    Attributes:
        cell: who it is, for extensions.
        spent: why it cannot be used any more, "" while it can.
        blocking: makes the context in which a host function may wait.
        lines: where its output goes.
        memory: its linear memory.
    """

    __slots__ = (
        "_armed",
        "_deadline",
        "_engine",
        "_epochs",
        "_exports",
        "_idle",
        "_imports",
        "_limits",
        "_store",
        "alloc",
        "blocking",
        "cell",
        "free",
        "granted",
        "lines",
        "memory",
        "spent",
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
    ) -> None:
        self.cell = cell
        self.spent = ""
        self.granted = granted
        self.blocking = blocking
        self.lines = lines or LineLog(cell.log)
        self._engine = engine
        self._limits = limits
        self._epochs = engine.ticker.epochs(limits.call_seconds)
        self._armed = -1
        self._idle = 0
        self._imports = Imports(self._host_function_failed)
        self._store = self._new_store()
        linker = wasmtime.Linker(engine.wasm)
        linker.define_wasi()
        linker.allow_shadowing = True
        ours = world(self, self.lines)
        link(cell.name, path, module, linker, self._imports, bindings, ours, self._wrap)
        self._deadline = Deadline(self._store)
        self._exports = self._instantiate(linker, module, path)
        self.memory = GuestMemory(self._store, self._exports[memory_name])
        self.alloc = self._required("pulp_alloc")
        self.step_export = self._required("pulp_step")
        self.free = self.export("pulp_free")

    def _new_store(self) -> wasmtime.Store:
        store = wasmtime.Store(self._engine.wasm)
        store.set_limits(
            memory_size=self._limits.memory_bytes,
            table_elements=self._limits.table_elements,
            instances=1,
            tables=16,
            memories=1,
        )
        wasi = wasmtime.WasiConfig()
        wasi.env = [(name, os.environ[name]) for name in FORWARDED if os.environ.get(name)]
        store.set_wasi(wasi)
        return store

    def _instantiate(self, linker: wasmtime.Linker, module: wasmtime.Module, path: object) -> Mapping[str, Any]:
        """Run the module's start section and its `_initialize` (or `_start`), each within the deadline."""
        self.enter()
        try:
            instance = linker.instantiate(self._store, module)
        except (wasmtime.Trap, wasmtime.WasmtimeError) as error:
            self.spent = "it could not be instantiated"
            raise describe(self.cell.name, f"{path}: instantiate wasm", error, self._limits.call_seconds) from None
        finally:
            self.leave()
            linker.close()
        self._exports = instance.exports(self._store)
        for name in ("_initialize", "_start"):
            start = self.export(name)
            if start is not None:
                self.run(name, start)
                break
        return self._exports

    # Entry points -----------------------------------------------------------------------------------------------

    def export(self, name: str) -> Export | None:
        """Return an export of the contract, ready to call, or None if the module has none of that name."""
        function = self._exports.get(name)
        if function is None:
            return None
        parameters, _results = {**REQUIRED, **OPTIONAL}[name]
        return Export(self._store, function, self._imports, len(parameters))

    def _required(self, name: str) -> Export:
        export = self.export(name)
        if export is None:
            raise LookupError(name)
        return export

    def enter(self) -> None:
        """Start the clock for one entry point: everything until `leave` shares its deadline."""
        if self.spent:
            raise CellClosed(self.cell.name, f"{self.cell.name}: instance is spent: {self.spent}")
        ticker = self._engine.ticker
        ticker.inside.add(self)
        if ticker.parked:
            ticker.wake()
        if self._armed != ticker.epoch:
            self._armed = ticker.epoch
            self._deadline.set(self._epochs)

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
                raise self._bad_allocation(address, length)
            answer = self.step_export.call2(address, length)
            if self.free is not None:
                self.free.call2(address, length)
        except EngineFault as fault:
            raise self.fail("pulp_step", fault) from None
        finally:
            self._engine.ticker.inside.discard(self)
        return answer

    def idle(self, envelope: bytes) -> int:
        """Hand over an envelope without an event, in a buffer that is allocated once and kept (spec/core §3.5)."""
        self.enter()
        try:
            if not self._idle:
                self._idle = self.alloc.call1(_IDLE_BYTES)
            if not self._idle or not self.memory.write(self._idle, envelope):
                raise self._bad_allocation(self._idle, _IDLE_BYTES)
            return self.step_export.call2(self._idle, _IDLE_BYTES)
        except EngineFault as fault:
            raise self.fail("pulp_step", fault) from None
        finally:
            self._engine.ticker.inside.discard(self)

    def place(self, data: bytes) -> int:
        """Copy `data` into a buffer of the guest's; return its address, 0 for no bytes."""
        if not data:
            return 0
        address = self.alloc.call1(len(data))
        if not address or not self.memory.write(address, data):
            raise self._bad_allocation(address, len(data))
        return address

    def release(self, address: int, length: int) -> None:
        """Give back what `place` returned, or what the guest handed out, if it exports `pulp_free`."""
        if length and self.free is not None and not self.spent:
            self.free.call2(address, length)

    def fail(self, name: str, fault: EngineFault) -> Exception:
        """Return the error for a call that did not come back, and mark the instance as spent."""
        error = describe(self.cell.name, name, fault.cause, self._limits.call_seconds)
        self.spent = str(error)
        return error

    def _bad_allocation(self, address: int, length: int) -> CallFailed:
        what = f"returned 0 for {length} bytes" if not address else f"returned {address:#x}: {length} bytes there are"
        reason = f"pulp_alloc {what}" + ("" if not address else f" outside its memory of {self.memory.size}")
        return CallFailed(self.cell.name, reason)

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

    def write(self, address: int, data: bytes) -> None:
        """See `ext.Guest.write`."""
        if not self.memory.write(address, data):
            raise HostError(Errno.WRITE)

    def deliver(self, data: bytes, address_out: int, length_out: int) -> None:
        """See `ext.Guest.deliver`."""
        address = 0
        if data:
            try:
                address = self.alloc.call1(len(data))
            except EngineFault as fault:
                self.fail("pulp_alloc", fault)
                raise HostError(Errno.ALLOC) from None
            if not address:
                raise HostError(Errno.ALLOC)
        self.write(address, data)
        self.write(address_out, address.to_bytes(4, "little"))
        self.write(length_out, len(data).to_bytes(4, "little"))

    def seconds_left(self) -> float:
        """See `ext.Guest.seconds_left`."""
        return max(0.0, (self._armed + self._epochs - self._engine.ticker.epoch) * TICK_SECONDS)

    def sleep(self, seconds: float) -> None:
        """Sleep for the guest, not past its deadline, not when the host halts its guests."""
        with self.blocking():
            self._engine.halted.wait(min(seconds, self.seconds_left() + 2 * TICK_SECONDS))

    def _wrap(self, binding: Binding) -> Callable[..., int]:
        """Make a binding callable for this instance, behind a second wall: the grant is looked up at each call."""
        function, capability, granted = binding.function, binding.capability, self.granted
        if binding.stub:
            return partial(function, self)

        def call2(first: int, second: int) -> int:
            return function(self, first, second) if capability in granted else Errno.UNDECLARED

        def call(*words: int) -> int:
            return function(self, *words) if capability in granted else Errno.UNDECLARED

        def call_blocking(*words: int) -> int:
            if capability not in granted:
                return Errno.UNDECLARED
            with self.blocking():
                return function(self, *words)

        if binding.blocking:
            return call_blocking
        return call2 if binding.words == 2 else call

    def _host_function_failed(self, name: str, error: BaseException) -> None:
        if self.lines.allows(1024):
            self.cell.log.error("host function failed", function=name, error=repr(error), exc_info=error)

    def close(self) -> None:
        """Free everything. The instance must not be inside a call."""
        self.spent = self.spent or "it is closed"
        self.lines.flush()
        self.memory.forget()
        self._exports = {}
        self._store.close()
