"""What an instance has beside its memory: its globals and tables, read and set bit for bit.

The engine's public API knows neither vectors nor the bits of a number that is none, and takes fifty times as long. No
guest code runs here, so the calls keep the GIL.
"""

from __future__ import annotations

import ctypes

import wasmtime
from wasmtime import _ffi

from pulp_runtime._kernel.crossing import address_of, raise_if

_held = ctypes.PyDLL(_ffi.dll._name)
_global_get = _held["wasmtime_global_get"]
_global_get.restype = None
_global_set = _held["wasmtime_global_set"]
_global_set.restype = ctypes.c_void_p
_table_size = _held["wasmtime_table_size"]
_table_size.restype = ctypes.c_uint64
_table_get = _held["wasmtime_table_get"]
_table_get.restype = ctypes.c_bool
_table_set = _held["wasmtime_table_set"]
_table_set.restype = ctypes.c_void_p
_table_grow = _held["wasmtime_table_grow"]
_table_grow.restype = ctypes.c_void_p


class Innards:
    """Globals and tables of one instance, bit for bit: also vectors, and numbers that are none.

    A value is a byte that says what it is (0 i32, 1 i64, 2 f32, 3 f64, 4 v128, 5 a function, 6 an object of the
    host's), and its bits, little-endian. Those of a function are good within the instance, where two are the same
    function if they are the same bits, and null if all are 0.
    """

    __slots__ = ("_context", "_value", "_value_ref", "_view")

    WIDTHS = (4, 8, 4, 8, 16, 16, 16)
    FUNCTION, OBJECT = 5, 6

    def __init__(self, store: wasmtime.Store) -> None:
        self._context = ctypes.c_void_p(address_of(store._context()))
        self._value = (ctypes.c_uint64 * 4)()  # a kind, and 24 bytes from the eighth on
        self._value_ref = ctypes.byref(self._value)
        self._view = memoryview(self._value).cast("B")

    def _taken(self) -> bytes:
        kind = self._view[0]
        bits = self._view[8 : 8 + self.WIDTHS[kind]]
        return bytes((kind,)) + (bits.tobytes() if kind < self.FUNCTION or any(bits[:8]) else bytes(16))

    def _put(self, value: bytes) -> None:
        self._view[:] = value[:1] + bytes(7) + value[1:].ljust(24, b"\0")

    def read(self, item: wasmtime.Global) -> bytes:
        """Return a global's value."""
        _global_get(self._context, ctypes.byref(item._global), self._value_ref)
        return self._taken()

    def write(self, item: wasmtime.Global, value: bytes) -> None:
        """Set a mutable global to a value of its kind."""
        self._put(value)
        raise_if(_global_set(self._context, ctypes.byref(item._global), self._value_ref))

    def elements(self, item: wasmtime.Table) -> list[bytes]:
        """Return the values in a table."""
        context, table, value, view = self._context, ctypes.byref(item._table), self._value_ref, self._view
        get, null = _table_get, bytes(16)
        found = []
        for at in range(_table_size(context, table)):
            get(context, table, ctypes.c_uint64(at), value)
            bits = view[8:24].tobytes()
            found.append(view[:1].tobytes() + (bits if any(view[8:16]) else null))
        return found

    def set_element(self, item: wasmtime.Table, at: int, value: bytes) -> None:
        """Set one element of a table; raise `WasmtimeError` past its end."""
        self._put(value)
        raise_if(_table_set(self._context, ctypes.byref(item._table), ctypes.c_uint64(at), self._value_ref))

    def grow(self, item: wasmtime.Table, count: int, kind: int) -> None:
        """Make a table longer by so many nulls; raise `WasmtimeError` past its limit."""
        self._put(bytes((kind,)))
        before = ctypes.c_uint64()
        table = ctypes.byref(item._table)
        raise_if(_table_grow(self._context, table, ctypes.c_uint64(count), self._value_ref, ctypes.byref(before)))
