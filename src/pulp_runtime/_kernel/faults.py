"""The engine's failures in the words of the contract."""

from __future__ import annotations

import wasmtime

from pulp_runtime._kernel.crossing import is_interrupt
from pulp_runtime.errors import CallFailed, CellError, CellExit, CellTimeout, CellTrap, LoadError

MAX_FRAMES = 8


def describe(cell: str, where: str, cause: Exception, seconds: float) -> CellError:
    """Return the error for a guest call that the engine ended.

    Args:
        cell: the cell's name.
        where: the entry point, or the phase of loading.
        cause: the engine's own exception.
        seconds: how long the call was allowed to take.
    """
    if isinstance(cause, wasmtime.ExitTrap):
        return CellExit(cell, where, cause.code)
    if is_interrupt(cause) or isinstance(cause, TimeoutError):
        return CellTimeout(cell, f"{where}: stopped after {seconds:g} s, the call's deadline")
    if isinstance(cause, wasmtime.Trap):
        return CellTrap(cell, f"{where}: {_reason(cause.message)}{_frames(cause)}")
    return CellTrap(cell, f"{where}: {_reason(str(cause))}")


def describe_start(cell: str, path: object, cause: Exception, seconds: float) -> CellError:
    """Return the error for a module that could not be instantiated: its own doing, or something it may not have."""
    where = f"{path}: instantiate wasm"
    if isinstance(cause, wasmtime.Trap | wasmtime.ExitTrap):
        return describe(cell, where, cause, seconds)
    return LoadError(cell, f"{where}: {' '.join(str(cause).split())}")


def bad_allocation(cell: str, address: int, length: int, memory_bytes: int) -> CallFailed:
    """Return the error for an allocator that answered 0, or an address without room for `length` bytes."""
    if not address:
        return CallFailed(cell, f"pulp_alloc returned 0 for {length} bytes")
    where = f"returned {address:#x}: {length} bytes there are outside its memory of {memory_bytes}"
    return CallFailed(cell, f"pulp_alloc {where}")


def _reason(message: str) -> str:
    """Return the last cause the engine names; what stands before it is a backtrace."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return lines[-1].removeprefix("Caused by:").lstrip("0123456789: ") if lines else "unknown trap"


def _frames(trap: wasmtime.Trap) -> str:
    names = [frame.func_name or f"function {frame.func_index}" for frame in trap.frames[:MAX_FRAMES]]
    return f" (in {' < '.join(names)})" if names else ""
