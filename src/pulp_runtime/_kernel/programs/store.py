"""The store of one run. It lives for a fraction of a millisecond, so making and dropping it keeps the GIL.

The engine's public class gives the GIL away with each of its calls, and whoever takes it meanwhile keeps it for longer
than the call takes. None of these calls runs guest code.
"""

from __future__ import annotations

import ctypes
from typing import Any, Final

import wasmtime
from wasmtime import _ffi

from pulp_runtime.manifest.limits import Limits

_held: Final = ctypes.PyDLL(_ffi.dll._name)
_new = _held["wasmtime_store_new"]
_new.restype = ctypes.c_void_p
_new.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]
_context = _held["wasmtime_store_context"]
_context.restype = ctypes.c_void_p
_context.argtypes = [ctypes.c_void_p]
_limit = _held["wasmtime_store_limiter"]
_limit.restype = None
_limit.argtypes = [ctypes.c_void_p, *[ctypes.c_int64] * 5]
_drop = _held["wasmtime_store_delete"]
_drop.restype = None
_drop.argtypes = [ctypes.c_void_p]


class RunStore(wasmtime.Store):
    """A store with room for one instance of one memory."""

    def __init__(self, engine: wasmtime.Engine, limits: Limits) -> None:
        address = _new(ctypes.cast(engine.ptr(), ctypes.c_void_p), None, None)
        self._set_ptr(ctypes.cast(address, ctypes.POINTER(_ffi.wasmtime_store_t)))
        self._inside: Any = ctypes.cast(_context(address), ctypes.POINTER(_ffi.wasmtime_context_t))
        self._address: Final = address
        self.engine = engine
        self._table_elements: Final = limits.table_elements
        self.bound(limits.memory_bytes)

    def bound(self, memory_bytes: int) -> None:
        """Let its memory grow to so many bytes."""
        _limit(self._address, memory_bytes, self._table_elements, 1, 16, 1)

    def _context(self) -> Any:
        if self._inside is None:
            raise ValueError("already closed")
        return self._inside

    def _delete(self, ptr: Any) -> None:
        self._inside = None
        _drop(self._address)
