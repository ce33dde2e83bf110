"""A loaded cell: one instance behind one lock, and the rules of every entry point (spec/core §3)."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Final

import msgspec

from pulp_runtime._kernel.asking import Asking
from pulp_runtime._kernel.batch import Batch
from pulp_runtime._kernel.engine import Engine
from pulp_runtime._kernel.instance import Blocking, Instance
from pulp_runtime._kernel.lines import LineLog
from pulp_runtime._kernel.load import cell_ref, instantiate
from pulp_runtime._kernel.modules import default_cache
from pulp_runtime._kernel.registry import Registry
from pulp_runtime._kernel.snapshots.saved import Saved, SnapshotRefused
from pulp_runtime.abi.envelope import IDLE_BYTES, StepEnvelope, encode_step, idle_envelope
from pulp_runtime.errors import CellClosed, CellError, CellRefused, MessageTooLarge
from pulp_runtime.ext import CellRef, Scope, StepEvent
from pulp_runtime.log import Log
from pulp_runtime.manifest.cell import CellSpec, load_cell

_SIGN: Final = 1 << 31


def _signed(word: int) -> int:
    return word - (1 << 32) if word & _SIGN else word


class Cell(Asking):
    """A loaded module with the exports of the contract. Every method is safe from any thread.

    Attributes:
        spec: its manifest.
        ref: what extensions see of it.
        bindings: the host functions it was given.
    """

    def __init__(self, spec: CellSpec, ref: CellRef, instance: Instance, engine: Engine | None = None) -> None:
        super().__init__(spec, instance)
        self._engine = engine
        self.ref: Final = ref

    @classmethod
    def load(
        cls,
        spec: CellSpec | str | Path,
        registry: Registry | None = None,
        *,
        engine: Engine | None = None,
        cell_id: str = "",
        log: Log | None = None,
        blocking: Blocking = nullcontext,
        lines: LineLog | None = None,
        wasm: bytes | None = None,
        scope: Scope | None = None,
        address: str = "",
        saved: Saved | None = None,
    ) -> Cell:
        """Read, check, compile, bind and start a cell's module; `init` is the caller's next step.

        Args:
            spec: its manifest, or the path of one.
            registry: where its capabilities come from; None gives it no import but WASI.
            engine: compiles and runs it; by default one of its own, which ends with the cell.
            cell_id: its event target, its name by default.
            log: where it and its extensions log.
            blocking: makes the context in which its host functions may wait.
            lines: where its output goes; its log by default.
            wasm: the module's bytes, from `load.read_wasm`; read anew by default.
            scope: whose it is in an application; None outside one.
            address: what operators call it, by default what follows from name and scope.
            saved: the state it goes on from; `restored` is the caller's next step then, instead of `init`.

        Raises:
            LoadError: the file cannot be read or is not a cell; the message names it and the fix.
            HookFailed: an extension could not bind.
            CellTrap, CellExit: its start function did not return.
            SnapshotRefused: what was saved does not fit.
        """
        if not isinstance(spec, CellSpec):
            spec = load_cell(Path(spec))
        log = log or Log("pulp", cell=spec.name)
        lines = lines or LineLog(log, spec.limits)
        own = None if engine is not None else Engine(default_cache())
        try:
            instance = instantiate(
                spec,
                registry,
                engine or own,  # type: ignore[arg-type]  # one of them is there
                cell_ref(spec, cell_id or spec.name, log, lines, scope, address),
                blocking,
                lines,
                wasm,
                saved,
            )
        except BaseException:
            if own is not None:
                own.close()
            raise
        return cls(spec, instance.cell, instance, own)

    @property
    def spent(self) -> str:
        """Why the instance must be replaced before it can be used again; "" while it is sound."""
        instance = self._instance
        return "it is closed" if instance is None else instance.spent

    def init(self, config: bytes = b"") -> None:
        """Run `pulp_init` with the encoded configuration.

        Raises:
            CellRefused: it returned another number than 0 (signed).
            CellTrap, CellTimeout, CellExit, CallFailed: it did not return, or could not be entered.
        """
        with self._lock:
            instance = self._live("cell is closed or not initialized")
            code = self._within(instance, "pulp_init", lambda: self._init(instance, config))
            if code:
                raise CellRefused(self.name, "pulp_init", _signed(code), self._diagnostic(instance, "pulp_init"))

    def restored(self) -> None:
        """Run `pulp_restored`, if the module has it, in an instance that went on from a snapshot.

        Raises:
            CellRefused: it returned another number than 0 (signed).
            CellTrap, CellTimeout, CellExit: it did not return.
        """
        with self._lock:
            instance = self._live("cell is closed")
            restored = instance.export("pulp_restored")
            code = 0 if restored is None else self._within(instance, "pulp_restored", restored)
            if code:
                raise CellRefused(self.name, "pulp_restored", _signed(code))

    def capture(self, gather: Callable[[], dict[str, bytes]] = dict) -> Saved:
        """Copy the whole state, between two calls: nothing else enters the cell meanwhile.

        Args:
            gather: asked under the same lock for what capabilities know of the cell.

        Raises:
            SnapshotRefused: the cell is not snapshotable, has failed, or has something that cannot be saved.
        """
        with self._lock:
            instance = self._live("cell is closed")
            if instance.spent:
                raise SnapshotRefused(f"the instance is spent: {instance.spent}")
            if instance.state is None:
                raise SnapshotRefused("the cell is not snapshotable; write snapshotable = true in its manifest")
            header, pages = instance.state.take()
            return Saved(msgspec.structs.replace(header, capabilities=gather()), pages)

    def _init(self, instance: Instance, config: bytes) -> int:
        init = instance.export("pulp_init")
        address = instance.place(config)
        code = init.call2(address, len(config)) if init else 0
        instance.release(address, len(config))
        return code

    def step(self, envelope: StepEnvelope) -> int:
        """Run `pulp_step` with an envelope; return what the guest returned, which means nothing (signed).

        Without a payload it is an idle step, which answers 0 and does not run while another call is in progress.

        Raises:
            MessageTooLarge: the envelope is over the limit; the guest did not run.
            CellTrap, CellTimeout, CellExit, CellClosed, CallFailed: as `init`.
        """
        data = envelope.encode()
        if len(data) == IDLE_BYTES:
            return self._idle(data) or 0
        return self._step(data)

    def deliver(self, call_number: int, event: StepEvent) -> int:
        """Run `pulp_step` with one event.

        Raises:
            MessageTooLarge: the envelope is over the limit; the guest did not run.
            CellTrap, CellTimeout, CellExit, CallFailed: as `init`.
        """
        return self._step(encode_step(call_number, time.time_ns(), event.kind, event.payload))

    def _step(self, envelope: bytes) -> int:
        if len(envelope) > self._message_bytes:
            raise MessageTooLarge(self.name, self._message_bytes)
        with self._lock:
            instance = self._instance
            if instance is None:
                raise CellClosed(self.name, "cell is closed")
            return _signed(instance.step(envelope))

    def steps(self, call_number: int, events: Sequence[StepEvent]) -> tuple[int, CellError | None]:
        """Run `pulp_step` with several events in one crossing, as far as they fit into it and it does not take long.

        Returns:
            How many were stepped through, at least one unless the first failed; and what happened to the one after
            them, if anything did.
        """
        now = time.time_ns()
        envelopes = [encode_step(call_number + at, now, event.kind, event.payload) for at, event in enumerate(events)]
        if not Batch.fits(len(envelopes), sum(map(len, envelopes))):
            envelopes = _first_that_fit(envelopes)
        if not envelopes:
            try:
                self.deliver(call_number, events[0])
            except CellError as error:
                return 0, error
            return 1, None
        with self._lock:
            instance = self._instance
            if instance is None:
                return 0, CellClosed(self.name, "cell is closed")
            try:
                return instance.steps(envelopes)
            except CellClosed as error:
                return 0, error

    @property
    def progress(self) -> int:
        """How many steps of the batch in progress have been made; from any thread."""
        instance = self._instance
        return 0 if instance is None else instance.progress

    def idle(self, call_number: int) -> bool:
        """Run an idle step unless another call is in progress; answer whether it ran."""
        return self._idle(idle_envelope(call_number, time.time_ns())) is not None

    def _idle(self, envelope: bytes) -> int | None:
        if not self._lock.acquire(0):
            return None
        try:
            return _signed(self._live("cell is closed").idle(envelope))
        finally:
            self._lock.release()

    def probe_last_call(self) -> int | None:
        """Return the guest's `probe_last_call` (unsigned 64-bit), None if it has none. For diagnosis."""
        return self._probe("probe_last_call")

    def probe_config_marker(self) -> int | None:
        """Return the guest's `probe_config_marker` (signed 64-bit), None if it has none. For diagnosis."""
        value = self._probe("probe_config_marker")
        return value - (1 << 64) if value is not None and value >> 63 else value

    def _probe(self, name: str) -> int | None:
        with self._lock:
            instance = self._live("cell is closed")
            probe = instance.export(name)
            return None if probe is None else self._within(instance, name, probe.wide)

    def shutdown(self) -> None:
        """Run `pulp_shutdown`; nothing happens when the cell is closed or its instance is spent.

        Raises:
            CellRefused: it returned another number than 0 (signed).
            CellTrap, CellTimeout, CellExit: it did not return.
        """
        with self._lock:
            instance = self._instance
            if instance is None or instance.spent:
                return
            shutdown = instance.export("pulp_shutdown")
            code = self._within(instance, "pulp_shutdown", shutdown) if shutdown else 0
            if code:
                raise CellRefused(self.name, "pulp_shutdown", _signed(code))

    def close(self) -> None:
        """Free the instance, after the call in progress if there is one. May be called again."""
        with self._lock:
            instance, self._instance = self._instance, None
            if instance is not None:
                instance.close()
            if self._engine is not None:
                self._engine.close()


def _first_that_fit(envelopes: list[bytes]) -> list[bytes]:
    """Return as many of the first envelopes as go into one batch."""
    size = 0
    for count, envelope in enumerate(envelopes):
        size += len(envelope)
        if not Batch.fits(count + 1, size):
            return envelopes[:count]
    return envelopes
