"""A loaded cell: one instance behind one lock, and the rules of every entry point (spec/core §3)."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Final, TypeVar

from pulp_runtime._kernel.contract import check_exports
from pulp_runtime._kernel.crossing import EngineFault, Export
from pulp_runtime._kernel.engine import Engine
from pulp_runtime._kernel.instance import Blocking, Instance
from pulp_runtime._kernel.lines import LineLog
from pulp_runtime._kernel.registry import Bindings, Registry
from pulp_runtime.abi.envelope import encode_step, event_prefix, idle_envelope
from pulp_runtime.errors import CallFailed, CellClosed, CellRefused, LoadError, MessageTooLarge
from pulp_runtime.ext import CellRef, StepEvent
from pulp_runtime.log import Log
from pulp_runtime.manifest.cell import CellSpec
from pulp_runtime.manifest.limits import DIAGNOSTIC_BYTES

T = TypeVar("T")
_HEADER: Final = 20
_SIGN: Final = 1 << 31


def _signed(word: int) -> int:
    return word - (1 << 32) if word & _SIGN else word


class Cell:
    """A loaded module with the exports of the contract. Every method is safe from any thread.

    Attributes:
        spec: its manifest.
        ref: what extensions see of it.
        bindings: the host functions it was given.
    """

    def __init__(self, spec: CellSpec, ref: CellRef, instance: Instance) -> None:
        self.spec: Final = spec
        self.ref: Final = ref
        self._limits: Final = spec.limits
        self._message_bytes: Final = self._limits.message_bytes
        self._lock: Final = threading.Lock()
        self._instance: Instance | None = instance

    @classmethod
    def load(
        cls,
        spec: CellSpec,
        registry: Registry | None = None,
        *,
        engine: Engine,
        cell_id: str = "",
        log: Log | None = None,
        blocking: Blocking = nullcontext,
        lines: LineLog | None = None,
    ) -> Cell:
        """Read, check, compile, bind and start a cell's module; `init` is the caller's next step.

        Args:
            spec: its manifest.
            registry: where its capabilities come from; None gives it no import but WASI.
            engine: compiles and runs it.
            cell_id: its event target, its name by default.
            log: where it and its extensions log.
            blocking: makes the context in which its host functions may wait.
            lines: where its output goes; its log by default.

        Raises:
            LoadError: the file cannot be read or is not a cell; the message names it and the fix.
            HookFailed: an extension could not bind.
            CellTrap, CellExit: its start function did not return.
        """
        ref = CellRef(spec.name, cell_id or spec.name, log or Log("pulp", cell=spec.name))
        data = _read_wasm(spec)
        module = engine.modules.load(spec.name, spec.wasm_path, data)
        memory = check_exports(spec.name, spec.wasm_path, module, spec.max_memory_pages)
        bindings = registry.bind(ref, spec.capabilities) if registry is not None else Bindings()
        granted = registry.granted(spec.capabilities) if registry is not None else frozenset()
        instance = Instance(
            engine,
            module,
            spec.wasm_path,
            ref,
            bindings,
            granted,
            memory,
            spec.limits,
            blocking=blocking,
            lines=lines,
        )
        return cls(spec, ref, instance)

    @property
    def name(self) -> str:
        """The manifest's name."""
        return self.spec.name

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

    def _init(self, instance: Instance, config: bytes) -> int:
        init = instance.export("pulp_init")
        address = instance.place(config)
        code = init.call2(address, len(config)) if init else 0
        instance.release(address, len(config))
        return code

    def step(self, call_number: int, event: StepEvent) -> int:
        """Run `pulp_step` with one event; return what the guest returned, which means nothing (signed).

        Raises:
            MessageTooLarge: the envelope is over the limit; the guest did not run.
            CellTrap, CellTimeout, CellExit, CallFailed: as `init`.
        """
        envelope = encode_step(call_number, time.time_ns(), event.kind, event.payload)
        if len(envelope) > self._message_bytes:
            raise MessageTooLarge(self.name, self._message_bytes)
        with self._lock:
            instance = self._instance
            if instance is None:
                raise CellClosed(self.name, "cell is closed")
            return _signed(instance.step(envelope))

    def idle(self, call_number: int) -> bool:
        """Run an idle step unless another call is in progress; answer whether it ran."""
        if not self._lock.acquire(blocking=False):
            return False
        try:
            instance = self._live("cell is closed")
            instance.idle(idle_envelope(call_number, time.time_ns()))
        finally:
            self._lock.release()
        return True

    def envelope_bytes(self, event: StepEvent) -> int:
        """Return how long an event's envelope will be."""
        return _HEADER + len(event_prefix(event.kind)) + len(event.payload or b"\xc0")

    def call(self, function: str, args: bytes = b"", *, seconds: float | None = None) -> bytes:
        """Ask the cell's `pulp_on_call`; return a copy of its response.

        Args:
            function: the exact name it provides.
            args: opaque bytes, MessagePack by convention.
            seconds: how long to wait for the cell to be free; its own call deadline by default.

        Raises:
            CellRefused: it returned another number than 0 (unsigned).
            CallFailed: it has no `pulp_on_call`, stayed busy, or its response is not in its memory.
            MessageTooLarge: name, arguments or response are over the limit.
            CellTrap, CellTimeout, CellExit, CellClosed: as `init`.
        """
        limit = self._limits.message_bytes
        name = function.encode()
        if max(len(name), len(args)) > limit:
            raise MessageTooLarge(self.name, limit)
        wait = self._limits.call_seconds if seconds is None else seconds
        if not self._lock.acquire(timeout=wait):
            raise CallFailed(self.name, f"{self.name} stayed busy for {wait:g} s")
        try:
            instance = self._instance
            on_call = instance.export("pulp_on_call") if instance is not None else None
            if instance is None or on_call is None:
                raise CellClosed(self.name, f'cell "{self.name}" does not export pulp_on_call (or is closed)')
            code, response = self._within(
                instance, "pulp_on_call", lambda: self._on_call(instance, on_call, name, args, limit)
            )
            if code:
                diagnostic = self._diagnostic(instance, "pulp_on_call")
                raise CellRefused(self.name, "pulp_on_call", code, diagnostic)
            return response
        finally:
            self._lock.release()

    def _on_call(self, instance: Instance, on_call: Export, name: bytes, args: bytes, limit: int) -> tuple[int, bytes]:
        """Call with an 8-byte out-area; free response, out-area, arguments and name in that order (spec/core §3.5)."""
        name_at = instance.place(name)
        args_at = instance.place(args)
        out_at = instance.place(bytes(8))
        code = on_call(name_at, len(name), args_at, len(args), out_at, out_at + 4)
        response = b""
        if not code:
            out = instance.memory.read(out_at, 8) or bytes(8)
            address, length = int.from_bytes(out[:4], "little"), int.from_bytes(out[4:], "little")
            if length > limit:
                raise MessageTooLarge(self.name, limit)
            copied = instance.memory.read(address, length)
            if copied is None:
                raise CallFailed(self.name, f"response of {length} bytes at {address:#x} is outside its memory")
            response = copied
            instance.release(address, length)
        instance.release(out_at, 8)
        instance.release(args_at, len(args))
        instance.release(name_at, len(name))
        return code, response

    @property
    def has_provider(self) -> bool:
        """Whether the module exports `pulp_on_call`."""
        with self._lock:
            return self._instance is not None and self._instance.export("pulp_on_call") is not None

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

    def _live(self, otherwise: str) -> Instance:
        if self._instance is None:
            raise CellClosed(self.name, otherwise)
        return self._instance

    def _within(self, instance: Instance, name: str, body: Callable[[], T]) -> T:
        """Run `body`, which enters the guest, under one deadline."""
        instance.enter()
        try:
            return body()
        except EngineFault as fault:
            raise instance.fail(name, fault) from None
        finally:
            instance.leave()

    def _diagnostic(self, instance: Instance, export: str) -> str:
        """Return the guest's own words about a failure, "" at any irregularity (spec/core §3.4)."""
        pointer, length = instance.export(f"{export}_error_ptr"), instance.export(f"{export}_error_len")
        if pointer is None or length is None or instance.spent:
            return ""
        address = self._within(instance, export, pointer)
        size = self._within(instance, export, length)
        if not address or not 0 < size <= DIAGNOSTIC_BYTES:
            return ""
        return (instance.memory.read(address, size) or b"").decode(errors="replace")


def _read_wasm(spec: CellSpec) -> bytes:
    """Return the module's bytes, which are the ones that were checked against the manifest's digest."""
    try:
        data = spec.wasm_path.read_bytes()
    except OSError as error:
        reason = error.strerror or str(error)
        raise LoadError(
            spec.name,
            f"read wasm: {spec.wasm_path}: {reason}; build the module, or set wasm in {spec.manifest_path.name}",
        ) from None
    if spec.wasm_sha256 is not None:
        found = hashlib.sha256(data).hexdigest()
        if found != spec.wasm_sha256:
            raise LoadError(
                spec.name,
                f"WASM SHA-256 mismatch: {spec.wasm_path} has {found}, {spec.manifest_path.name} wants "
                f"{spec.wasm_sha256}",
            )
    return data
