"""The half of a cell that answers: `pulp_on_call` for the host and for other cells (spec/core §5.3, §5.5)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Final, TypeVar

from pulp_runtime._kernel.calls import Asked, Lift, exchange, lift_response
from pulp_runtime._kernel.crossing import EngineFault, Export
from pulp_runtime._kernel.fairlock import FairLock, WouldDeadlock
from pulp_runtime._kernel.instance import Blocking, Instance
from pulp_runtime.errors import CallFailed, CallLoop, CellClosed, CellError, CellRefused, MessageTooLarge, NoPostReturn
from pulp_runtime.manifest.cell import CellSpec
from pulp_runtime.manifest.limits import DIAGNOSTIC_BYTES

T = TypeVar("T")


class Asking:
    """A cell's lock and instance, and what can be asked of it; `Cell` is the rest. Safe from any thread.

    Attributes:
        spec: its manifest.
    """

    def __init__(self, spec: CellSpec, instance: Instance) -> None:
        self.spec: Final = spec
        self._limits: Final = spec.limits
        self._message_bytes: Final = self._limits.message_bytes
        self._lock: Final = FairLock()
        self._instance: Instance | None = instance

    @property
    def name(self) -> str:
        """The manifest's name."""
        return self.spec.name

    def alone(self) -> AbstractContextManager[None]:
        """Make a context in which nobody else enters the cell; who asks meanwhile waits."""
        return self._lock

    def call(self, function: str, args: bytes = b"", *, seconds: float | None = None) -> bytes:
        """Ask the cell's `pulp_on_call`; return a copy of its response.

        Args:
            function: the exact name it provides.
            args: opaque bytes, MessagePack by convention.
            seconds: how long to wait for the cell to be free; its own call deadline by default.

        Raises:
            CellRefused: it returned another number than 0 (unsigned).
            CallFailed: it stayed busy, or its response is not in its memory.
            MessageTooLarge: name, arguments or response are over the limit.
            CellClosed: it has no `pulp_on_call`, or is closed.
            CellTrap, CellTimeout, CellExit: as `init`.
        """
        most = self._limits.call_seconds
        return self.answer(function.encode(), args, most if seconds is None else seconds, most, bytes, diagnose=True)

    def call_typed(self, function: str, args: bytes, lift: Lift[T], *, seconds: float | None = None) -> T:
        """Ask the cell's `pulp_on_call` for a response laid out by the canonical ABI; return what `lift` makes of it.

        `lift(guest, address, length)` reads the response where it lies. Then the guest frees it in its
        `pulp_post_return`, also when `lift` raised.

        Raises:
            NoPostReturn: the module does not export `pulp_post_return`; use `call`.
            Exception: as `call`, without the guest's own words; and what `lift` raises.
        """
        limit = self._message_bytes

        def ask(instance: Instance, on_call: Export) -> T:
            post_return = instance.export("pulp_post_return")
            if post_return is None:
                raise NoPostReturn(self.name)
            asked = Asked(instance, on_call, function.encode(), args)
            try:
                if asked.code:
                    raise CellRefused(self.name, "pulp_on_call", asked.code)
                return lift_response(instance, asked, limit, post_return, lift)
            finally:
                asked.release()

        if not self.exports_post_return:
            raise NoPostReturn(self.name)
        most = self._limits.call_seconds
        self._check(len(function.encode()), len(args))
        return self._entered(ask, most if seconds is None else seconds, most)

    def answer(
        self,
        name: bytes,
        args: bytes | memoryview,
        wait: float,
        seconds: float,
        take: Callable[[memoryview], T],
        waiting: Blocking = nullcontext,
        *,
        diagnose: bool = False,
        nested: bool = False,
    ) -> T:
        """Ask `pulp_on_call` on this thread, at once if the cell is idle.

        Args:
            name: of the function.
            args: its arguments; read before the call returns.
            wait: how long to wait for the cell, in seconds.
            seconds: how long the call may take; its own call deadline, when that is shorter.
            take: makes the result of the response, which is gone afterwards.
            waiting: makes the context in which this thread may wait.
            diagnose: add the guest's own words to a refusal.
            nested: the call comes from a guest, on its thread.

        Raises:
            CallLoop: the cell is busy and could never become free while this thread waits for it.
            Exception: see `call`.
        """
        self._check(len(name), len(args))
        limit = self._message_bytes

        def ask(instance: Instance, _on_call: Export) -> T:
            return exchange(instance, name, args, limit, take)

        return self._entered(ask, wait, seconds, waiting, diagnose=diagnose, nested=nested)

    def _check(self, *lengths: int) -> None:
        if max(lengths) > self._message_bytes:
            raise MessageTooLarge(self.name, self._message_bytes)

    def _entered(
        self,
        ask: Callable[[Instance, Export], T],
        wait: float,
        seconds: float,
        waiting: Blocking = nullcontext,
        *,
        diagnose: bool = False,
        nested: bool = False,
    ) -> T:
        """Run `ask` under the cell's lock and one deadline."""
        if not self._lock.acquire(0):
            self._await_turn(wait, waiting)
        try:
            instance = self._instance
            on_call = instance.on_call if instance is not None else None
            if instance is None or on_call is None:
                raise CellClosed(self.name, f'cell "{self.name}" does not export pulp_on_call (or is closed)')
            instance.enter(seconds, nested=nested)
            try:
                return ask(instance, on_call)
            except EngineFault as fault:
                raise instance.fail("pulp_on_call", fault) from None
            finally:
                instance.leave()
        except CellRefused as refused:
            raise self._with_diagnostic(refused) if diagnose else refused from None
        finally:
            self._lock.release()

    def _await_turn(self, wait: float, waiting: Blocking) -> None:
        try:
            with waiting():
                taken = self._lock.acquire(max(wait, 0.0))
        except WouldDeadlock as error:
            raise CallLoop(self.name, f"{self.name} cannot be waited for: {error}") from None
        if not taken:
            raise CallFailed(self.name, f"{self.name} stayed busy for {wait:g} s")

    def _with_diagnostic(self, refused: CellRefused) -> CellRefused:
        instance = self._live("cell is closed")
        return CellRefused(self.name, refused.export, refused.code, self._diagnostic(instance, refused.export))

    @property
    def exports_post_return(self) -> bool:
        """Whether the module exports `pulp_post_return`, and so may be asked with `call_typed`."""
        with self._lock:
            return self._instance is not None and self._instance.export("pulp_post_return") is not None

    @property
    def has_provider(self) -> bool:
        """Whether the module exports `pulp_on_call`."""
        with self._lock:
            return self._instance is not None and self._instance.export("pulp_on_call") is not None

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
        try:
            address = self._within(instance, export, pointer)
            size = self._within(instance, export, length)
        except CellError:
            return ""
        if not address or not 0 < size <= DIAGNOSTIC_BYTES:
            return ""
        return (instance.memory.read(address, size) or b"").decode(errors="replace")
