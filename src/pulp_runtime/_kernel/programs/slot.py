"""Where runs of a program take place, one after the other: linked once, with a fresh instance for each run."""

from __future__ import annotations

import errno
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import wasmtime

from pulp_runtime._kernel.crossing import Deadline, EngineFault, Export, GuestMemory, Imports, find_export
from pulp_runtime._kernel.faults import describe, describe_start
from pulp_runtime._kernel.instance import Blocking
from pulp_runtime._kernel.link import WASI
from pulp_runtime._kernel.programs.reprieve import EPOCHS, Reprieve
from pulp_runtime._kernel.programs.run import ProgramRun
from pulp_runtime._kernel.programs.store import RunStore
from pulp_runtime._kernel.ticker import TICK_SECONDS
from pulp_runtime.errors import CellError, CellTimeout, Errno, HookFailed, HostError, LoadError
from pulp_runtime.ext import Outcome, StepEvent
from pulp_runtime.wasi import Preview1

if TYPE_CHECKING:
    from pulp_runtime._kernel.programs.program import Program

Prepare = Callable[[ProgramRun], None]


class Slot:
    """One slot of a program. Implements `wasi.Machine`.

    Attributes:
        program: what runs here.
    """

    def __init__(self, program: Program) -> None:
        self.program: Final = program
        self.blocking: Final[Blocking] = self._resting if math.isinf(program.limits.call_seconds) else program.blocking
        self._wasi: Final = Preview1(self)
        self._imports: Final = Imports(self._host_function_failed)
        self._pre: Final = self._link()
        self._memory = GuestMemory()
        self._armed = 0
        self._epochs = 0
        self._stopping = self._lent = False
        self._run: ProgramRun | None = None
        self._reprieve: Reprieve | None = None
        self._store: RunStore | None = None

    @contextmanager
    def _resting(self) -> Iterator[None]:
        """Wait without a clock: nothing has to tick for a daemon that waits."""
        inside = self.program.engine.ticker.inside
        inside.discard(self)
        try:
            with self.program.blocking():
                yield
        finally:
            inside.add(self)
            if self.program.engine.ticker.parked:
                self.program.engine.ticker.wake()

    def _link(self) -> wasmtime.InstancePre:
        program = self.program
        linker = wasmtime.Linker(program.engine.wasm)
        names = {item.name or "" for item in program.module.imports}
        for name, (kinds, function) in self._wasi.functions.items():
            if name in names:
                wide = tuple(at for at, kind in enumerate(kinds) if kind == "I")
                self._imports.define(linker, WASI, name, len(kinds), function, wide)
        if "proc_exit" in names:
            self._imports.define_exit(linker, WASI, "proc_exit")
        try:
            return linker.instantiate_pre(program.module)
        except wasmtime.WasmtimeError as error:
            text = " ".join(str(error).split())
            raise LoadError(program.ref.name, f"{program.path}: instantiate wasm: {text}") from None
        finally:
            linker.close()

    def run(
        self,
        event: StepEvent | None = None,
        *,
        prepare: Prepare | None = None,
    ) -> Outcome:
        """Run the program in a fresh instance; nothing is raised.

        Args:
            event: what it runs for.
            prepare: is given the run before its capabilities are.
        """
        run = ProgramRun(self, event)
        if prepare is not None:
            prepare(run)
        self._run = run
        self._lent = False
        outcome = Outcome(None, "ended by the host")  # should something end it that is no `Exception`
        try:
            outcome = self._mounted(run) or self._started(run)
        except Exception as error:  # what could not even begin: streams or preopens of a capability that make no sense
            outcome = Outcome(None, f"the run could not begin: {error}")
            self.program.ref.log.error("run could not begin", err=repr(error), exc_info=error)
        finally:
            self._finish(run, outcome)
        return outcome

    def _finish(self, run: ProgramRun, outcome: Outcome) -> None:
        """Close what the run had and tell those who want to know; nothing of it is kept until somebody collects it."""
        self.program.engine.ticker.inside.discard(self)
        self._wasi.end(clean=outcome.clean)
        self._run = None
        self._stopping = False
        if not self._lent:
            for stream in (run.stdin, run.stdout, run.stderr):
                self._contained(stream.abandon)
        for callback in run.ends:
            self._contained(lambda callback=callback: callback(outcome))  # type: ignore[misc]
        run.forget()

    def _mounted(self, run: ProgramRun) -> Outcome | None:
        """Let the capabilities add to the tree; what one of them raises ends the run."""
        for capability, mount in self.program.mounts:
            try:
                mount(run)
            except Exception as error:  # an extension's mistake is this run's alone
                failed = HookFailed(capability.name, "mount", error, cell=self.program.ref.name)
                self.program.ref.log.error("extension hook failed", err=str(failed), exc_info=error)
                return Outcome(None, str(failed))
        return None

    def _started(self, run: ProgramRun) -> Outcome:
        program = self.program
        self._store = store = RunStore(program.engine.wasm, program.limits)
        self._begin_clock(store)
        self._wasi.begin(
            run.tree,
            stdin=run.stdin,
            stdout=run.stdout,
            stderr=run.stderr,
            args=run.args,
            environ=run.environ,
            preopens=run.preopens,
        )
        self._lent = True
        try:
            return self._ran(store)
        finally:
            self._memory.forget()
            self._reprieve = self._store = None
            store.close()

    def _begin_clock(self, store: wasmtime.Store) -> None:
        ticker = self.program.engine.ticker
        ticker.inside.add(self)
        if ticker.parked:
            ticker.wake()
        self._armed = ticker.epoch
        self._imports.paced = False
        seconds = self.program.limits.call_seconds
        if math.isinf(seconds):
            self._reprieve = Reprieve(store)
            ticker.epochs(EPOCHS * TICK_SECONDS)  # `expire` must go as far as its next question
        else:
            self._epochs = ticker.epochs(seconds)
            Deadline(store).set(self._epochs)

    def _ran(self, store: wasmtime.Store) -> Outcome:
        program = self.program
        name, seconds = program.ref.name, program.limits.call_seconds
        self._imports.exited = None
        try:
            instance = self._pre.instantiate(store)
        except (wasmtime.Trap, wasmtime.WasmtimeError) as error:
            return self._outcome(describe_start(name, program.path, error, seconds))
        self._memory = GuestMemory(store, find_export(store, instance, "memory"))
        try:
            if program.initialize:
                self._export(store, instance, "_initialize")()
            status = self._export(store, instance, program.entry)()
        except EngineFault as fault:
            return self._outcome(describe(name, program.entry, fault.cause, seconds))
        return Outcome(0 if program.entry == "_start" else status)

    def _export(self, store: wasmtime.Store, instance: wasmtime.Instance, name: str) -> Export:
        return Export(store, find_export(store, instance, name), self._imports, 0)

    def _outcome(self, error: CellError) -> Outcome:
        if self._imports.exited is not None:
            return Outcome(self._imports.exited)
        return Outcome(None, str(error), timed_out=isinstance(error, CellTimeout))

    def _contained(self, callback: Callable[[], None]) -> None:
        try:
            callback()
        except Exception as error:  # the other callbacks must run
            self.program.ref.log.error("run callback failed", error=repr(error), exc_info=error)

    def _host_function_failed(self, name: str, error: BaseException) -> None:
        self.program.ref.log.error("host function failed", function=name, error=repr(error), exc_info=error)

    def leave_room(self, held: int) -> None:
        """Count what `/tmp` holds against the memory of the run; `ENOSPC` where its own memory is already."""
        store, most = self._store, self.program.memory_bytes
        self._memory.refresh()
        if held + self._memory.size > most:
            raise OSError(errno.ENOSPC, f"memory and /tmp together would be more than {most} bytes")
        if store is not None:
            store.bound(most - held)

    # From other threads -----------------------------------------------------------------------------------------

    def tick(self, epoch: int) -> None:
        """See `ticker.Guest`: pace a run that takes several ticks while others want to run."""
        self._imports.paced = epoch - self._armed > 2 and self.program.engine.ticker.crowded

    def stop(self) -> None:
        """Ask the run to come to its end."""
        self._stopping = True
        run = self._run
        if run is not None:
            for callback in tuple(run.stops):
                self._contained(callback)
        self._wasi.interrupt()

    def kill(self) -> None:
        """End a daemon's run: it traps the next time it is asked."""
        reprieve = self._reprieve
        if reprieve is not None:
            reprieve.over = True  # before those who wait are rung: it is a deadline for them too
        self.stop()

    # What preview 1 sees: wasi.Machine --------------------------------------------------------------------------

    def view(self, address: int, length: int) -> memoryview:
        """See `wasi.Machine.view`."""
        view = self._memory.slice(address, length)
        if view is None:
            raise HostError(Errno.FAULT)
        return view

    def seconds_left(self) -> float:
        """See `wasi.Machine.seconds_left`."""
        if math.isinf(self.program.limits.call_seconds):
            reprieve = self._reprieve
            return 0.0 if reprieve is not None and reprieve.over else math.inf
        return max(0.0, (self._armed + self._epochs - self.program.engine.ticker.epoch) * TICK_SECONDS)

    @property
    def stopping(self) -> bool:
        """See `wasi.Machine.stopping`."""
        return self._stopping or self.program.engine.halted.is_set()
