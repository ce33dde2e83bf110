"""The boundary between Python and a guest: the only file that calls the engine's C functions, beside `innards.py`.

The engine's public Python API costs 26 µs a call; its *unchecked* C calls, through `ctypes` with arguments prepared
once per instance, cost half a microsecond. What makes that safe is kept in this one file:

* A call passes one array of 16-byte slots, parameters in, results out; only i32 and i64 cross, so a slot is read as
  32-bit words at 4·n (and 4·n + 1 for the upper half of an i64).
* After every call the error and the trap pointer are looked at, and freed by the engine's own classes.
* The engine sees a single callback per instance, `_guard`. It never raises: an exception that left it would be a
  segmentation fault. What a host function raises becomes a code; what must not be swallowed (KeyboardInterrupt) is
  kept and raised when the call has returned, in the thread that made it.
* Calls that run guest code go through `CDLL`, which releases the GIL: with it held the epoch ticker could not run
  and a looping guest would hang the host. Calls that run none (deadline, memory size) go through `PyDLL`.
* Guest memory is touched only through a view of its current size. The engine is configured so that the base never
  moves and memory only grows, so an old view is at worst too short; then it is made anew.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from typing import Any, Final

import wasmtime
from wasmtime import _ffi

from pulp_runtime.errors import Errno, HostError

PACE_CALLS: Final = 32
PACE_SECONDS: Final = 0.0005
"""A guest that calls the host in one long step, while others want to run, pauses this long every so many calls."""

_SLOTS: Final = 16
_WORD: Final = 0xFFFF_FFFF
_held = ctypes.PyDLL(_ffi.dll._name)

_run = ctypes.CDLL(_ffi.dll._name)["wasmtime_func_call_unchecked"]
_run.restype = ctypes.c_void_p

_set_deadline = _held["wasmtime_context_set_epoch_deadline"]
_set_deadline.restype = None
_set_deadline.argtypes = [ctypes.c_void_p, ctypes.c_uint64]

_memory_size = _held["wasmtime_memory_data_size"]
_memory_size.restype = ctypes.c_size_t

_memory_data = _held["wasmtime_memory_data"]
_memory_data.restype = ctypes.c_void_p

_increment_epoch = _held["wasmtime_engine_increment_epoch"]
_increment_epoch.restype = None
_increment_epoch.argtypes = [ctypes.c_void_p]

_export_get = _held["wasmtime_instance_export_get"]
_export_get.restype = ctypes.c_bool

_new_trap = _held["wasmtime_trap_new"]
_new_trap.restype = ctypes.c_void_p
_new_trap.argtypes = [ctypes.c_char_p, ctypes.c_size_t]

_define_unchecked = _held["wasmtime_linker_define_func_unchecked"]
_define_unchecked.restype = ctypes.c_void_p

_Callback = ctypes.CFUNCTYPE(
    ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p, ctypes.POINTER(ctypes.c_uint32), ctypes.c_size_t
)

Body = Callable[..., int]
Failed = Callable[[str, BaseException], None]


class EngineFault(Exception):
    """A call that did not return normally: `cause` is the engine's own `Trap`, `ExitTrap` or `WasmtimeError`."""

    def __init__(self, cause: Exception) -> None:
        self.cause = cause
        super().__init__(str(cause))


class _Exit(Exception):
    """The guest wants to end."""


class Imports:
    """The host functions of one instance, behind its guard.

    Attributes:
        exited: what the guest ended itself with, None if it did not; see `define_exit`.
        failed: called with a function's name and what it raised, when that was not a `HostError`.
        paced: whether every so many calls the guest has to pause, so that others get the GIL.
    """

    __slots__ = ("_bodies", "_callback", "_calls", "_keep", "exited", "failed", "paced", "pending")

    def __init__(self, failed: Failed) -> None:
        self.exited: int | None = None
        self.failed = failed
        self.pending: BaseException | None = None
        self.paced = False
        self._calls = 0
        self._bodies: list[tuple[str, Body, int | tuple[tuple[int, bool], ...]]] = []
        self._keep: list[object] = []
        self._callback = _Callback(self._guard)

    def define(
        self, linker: wasmtime.Linker, module: str, name: str, words: int, body: Body, wide: tuple[int, ...] = ()
    ) -> None:
        """Bind `module.name`, `words` i32 parameters and one i32 result, to `body(word, …) -> code`.

        The parameters at the places in `wide` are i64.
        """
        i32, i64 = wasmtime.ValType.i32(), wasmtime.ValType.i64()
        parameters = [i64 if at in wide else i32 for at in range(words)]
        places = tuple((4 * at, at in wide) for at in range(words)) if wide else words
        self._define(linker, module, name, wasmtime.FuncType(parameters, [i32]), body, places)

    def define_exit(self, linker: wasmtime.Linker, module: str, name: str) -> None:
        """Bind `module.name`, of one i32, which ends the guest: the call into it faults, and `exited` is set."""

        def leave(status: int) -> int:
            self.exited = status
            raise _Exit

        self._define(linker, module, name, wasmtime.FuncType([wasmtime.ValType.i32()], []), leave, 1)

    def _define(
        self,
        linker: wasmtime.Linker,
        module: str,
        name: str,
        kind: wasmtime.FuncType,
        body: Body,
        words: int | tuple[tuple[int, bool], ...],
    ) -> None:
        self._keep.append(kind)  # the C side must not outlive it
        index = len(self._bodies)
        self._bodies.append((name, body, words))
        error = _define_unchecked(
            ctypes.cast(linker.ptr(), ctypes.c_void_p),
            module.encode(),
            ctypes.c_size_t(len(module.encode())),
            name.encode(),
            ctypes.c_size_t(len(name.encode())),
            ctypes.cast(kind.ptr(), ctypes.c_void_p),
            self._callback,
            ctypes.c_void_p(index),
            None,
        )
        if error:
            raise _error(error)

    def raise_pending(self) -> None:
        """Raise what a host function raised that is not an `Exception`."""
        if self.pending is not None:
            pending, self.pending = self.pending, None
            raise pending

    def _guard(self, index: int, _caller: int, slots: ctypes._Pointer[ctypes.c_uint32], _count: int) -> int | None:
        try:
            if self.paced:
                self._pause()
            name, body, words = self._bodies[index]
            if words == 2:  # nearly all of them
                slots[0] = body(slots[0], slots[4]) & _WORD
            elif words == 4:
                slots[0] = body(slots[0], slots[4], slots[8], slots[12]) & _WORD
            elif isinstance(words, int):
                slots[0] = body(*[slots[4 * at] for at in range(words)]) & _WORD
            else:
                slots[0] = body(*[slots[at] | slots[at + 1] << 32 if wide else slots[at] for at, wide in words]) & _WORD
        except HostError as refused:
            slots[0] = refused.code & _WORD
        except _Exit:
            return int(_new_trap(b"exit", 4))  # the engine's from here on: it unwinds the guest
        except Exception as error:  # noqa: BLE001  # nothing may pass into the engine
            slots[0] = Errno.UNDECLARED
            self._tell(name, error)
        except BaseException as stop:  # noqa: BLE001  # kept for the thread that made the call
            slots[0] = Errno.UNDECLARED
            self.pending = stop
        return None

    def _pause(self) -> None:
        self._calls += 1
        if not self._calls % PACE_CALLS:
            time.sleep(PACE_SECONDS)

    def _tell(self, name: str, error: BaseException) -> None:
        try:
            self.failed(name, error)
        except Exception:  # noqa: BLE001  # a broken log handler must not pass either
            return
        except BaseException as stop:  # noqa: BLE001  # as in the guard
            self.pending = stop


class Export:
    """One exported function, ready to be called with i32 words."""

    __slots__ = ("_context", "_function", "_imports", "_slots", "_slots_ref", "_trap", "_trap_ref", "_words")

    def __init__(self, store: wasmtime.Store, function: wasmtime.Func, imports: Imports, words: int) -> None:
        self._context = ctypes.c_void_p(address_of(store._context()))
        self._function = ctypes.byref(function._func)
        self._imports = imports
        self._slots = (ctypes.c_uint32 * (4 * _SLOTS))()
        self._slots_ref = ctypes.byref(self._slots)
        self._trap = ctypes.c_void_p()
        self._trap_ref = ctypes.byref(self._trap)
        self._words = ctypes.c_size_t(max(words, 1))  # the result needs a slot too

    def __call__(self, *words: int) -> int:
        """Run the function; return its first result as an unsigned 32-bit number (0 if it has none).

        Raises:
            EngineFault: it trapped, exited or could not be entered.
        """
        slots = self._slots
        for at, word in enumerate(words):
            slots[4 * at] = word
        error = _run(self._context, self._function, self._slots_ref, self._words, self._trap_ref)
        if error or self._trap.value:
            raise _fault(error, self._trap)
        if self._imports.pending is not None:
            self._imports.raise_pending()
        return slots[0]

    def call1(self, word: int) -> int:
        """Do the same for exactly one parameter, without the loop."""
        slots = self._slots
        slots[0] = word
        error = _run(self._context, self._function, self._slots_ref, self._words, self._trap_ref)
        if error or self._trap.value:
            raise _fault(error, self._trap)
        if self._imports.pending is not None:
            self._imports.raise_pending()
        return slots[0]

    def call2(self, first: int, second: int) -> int:
        """Do the same for exactly two parameters, without the loop."""
        slots = self._slots
        slots[0] = first
        slots[4] = second
        error = _run(self._context, self._function, self._slots_ref, self._words, self._trap_ref)
        if error or self._trap.value:
            raise _fault(error, self._trap)
        if self._imports.pending is not None:
            self._imports.raise_pending()
        return slots[0]

    def wide(self) -> int:
        """Run a function without parameters; return its i64 result, unsigned."""
        low = self()
        return low | self._slots[1] << 32


class GuestMemory:
    """A linear memory, checked against its size as it is now.

    Made of nothing, it is a memory of size 0. A range is `address`, `length`, both unsigned 32-bit; past the end
    `read` answers None and `write` False.
    """

    __slots__ = ("_context", "_memory", "size", "view")

    def __init__(self, store: wasmtime.Store | None = None, memory: wasmtime.Memory | None = None) -> None:
        self.size = 0
        self.view = memoryview(b"")
        self._context = self._memory = None
        if store is not None and memory is not None:
            self._context = ctypes.c_void_p(address_of(store._context()))
            self._memory = ctypes.byref(memory._memory)
            self.refresh()

    def refresh(self) -> None:
        """Look at the memory's base and size again."""
        if self._context is None:
            return
        size = _memory_size(self._context, self._memory)
        if size != self.size:
            base = _memory_data(self._context, self._memory)
            self.view = memoryview((ctypes.c_ubyte * size).from_address(base)).cast("B")
            self.size = size

    def read(self, address: int, length: int) -> bytes | None:
        """Copy `length` bytes out, or answer None if the range is not inside memory."""
        end = address + length
        if end > self.size:
            self.refresh()
            if end > self.size:
                return None
        return self.view[address:end].tobytes()

    def slice(self, address: int, length: int) -> memoryview | None:
        """Return `length` bytes where they lie, or None if the range is not inside memory.

        Good until the guest runs again.
        """
        end = address + length
        if end > self.size:
            self.refresh()
            if end > self.size:
                return None
        return self.view[address:end]

    def write(self, address: int, data: bytes | memoryview) -> bool:
        """Copy `data` in, or answer False if the range is not inside memory."""
        end = address + len(data)
        if end > self.size:
            self.refresh()
            if end > self.size:
                return False
        self.view[address:end] = data
        return True

    def forget(self) -> None:
        """Drop the view; the memory is about to go away."""
        self._context = None
        self.view = memoryview(b"")
        self.size = 0


class Deadline:
    """Sets how many epochs from now a store's guest may run."""

    __slots__ = ("_context",)

    def __init__(self, store: wasmtime.Store) -> None:
        self._context = address_of(store._context())

    def set(self, epochs: int) -> None:
        """Let the guest run until the engine's epoch has advanced by `epochs`."""
        _set_deadline(self._context, epochs)


def epoch_counter(engine: wasmtime.Engine) -> Callable[[], None]:
    """Return a function that advances the engine's epoch by one, from any thread."""
    pointer = address_of(engine.ptr())
    return lambda: _increment_epoch(pointer)


class _Found:
    """An export, as far as `Export` and `GuestMemory` look at one."""

    __slots__ = ("_func", "_item", "_memory")

    def __init__(self, item: Any) -> None:
        self._item: Final = item  # what the others are part of
        self._func: Final = item.of.func
        self._memory: Final = item.of.memory


def find_export(store: wasmtime.Store, instance: wasmtime.Instance, name: str) -> Any:
    """Return one function or memory, without making objects of all exports; None if there is none of that name."""
    item = _ffi.wasmtime_extern_t()
    key = name.encode()
    context, found = ctypes.cast(store._context(), ctypes.c_void_p), ctypes.byref(item)
    if not _export_get(context, ctypes.byref(instance._instance), key, ctypes.c_size_t(len(key)), found):
        return None
    return _Found(item)


def is_interrupt(cause: Exception) -> bool:
    """Tell whether a trap means that the deadline passed."""
    return isinstance(cause, wasmtime.Trap) and cause.trap_code is wasmtime.TrapCode.INTERRUPT


def raise_if(error: int | None) -> None:
    """Take over the error that a C function returned, and raise it; None is fine."""
    if error:
        raise _error(error)


def address_of(pointer: object) -> int:
    return ctypes.cast(pointer, ctypes.c_void_p).value or 0  # type: ignore[arg-type]


def _fault(error: int | None, trap: ctypes.c_void_p) -> EngineFault:
    """Take over whichever pointer is set, so that it is freed, and clear the trap for the next call."""
    if error:
        return EngineFault(_error(error))
    pointer = ctypes.cast(trap.value or 0, ctypes.POINTER(_ffi.wasm_trap_t))
    trap.value = None
    return EngineFault(wasmtime.Trap._from_ptr(pointer))


def _error(pointer: int) -> Exception:
    return wasmtime.WasmtimeError._from_ptr(ctypes.cast(pointer, ctypes.POINTER(_ffi.wasmtime_error_t)))
