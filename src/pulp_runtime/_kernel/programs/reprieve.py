"""Lets a guest run past its deadlines, until somebody says that it is enough."""

from __future__ import annotations

import ctypes
from typing import Final

import wasmtime
from wasmtime import _ffi

from pulp_runtime._kernel.crossing import Deadline, address_of

EPOCHS: Final = 20
"""How many ticks pass between two questions: a tenth of a second."""

_dll: Final = ctypes.CDLL(_ffi.dll._name)
_set_callback: Final = _dll["wasmtime_store_epoch_deadline_callback"]
_set_callback.restype = None
_new_error: Final = _dll["wasmtime_error_new"]
_new_error.restype = ctypes.c_void_p
_new_error.argtypes = [ctypes.c_char_p]

_Callback = ctypes.CFUNCTYPE(
    ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.POINTER(ctypes.c_uint64), ctypes.POINTER(ctypes.c_uint8)
)


class Reprieve:
    """Asks again and again whether the guest of a store may go on.

    Attributes:
        over: set it, from any thread, to have the guest trap at the next question.
    """

    def __init__(self, store: wasmtime.Store) -> None:
        self.over = False
        self._callback: Final = _Callback(self._ask)  # kept: the store calls it
        _set_callback(ctypes.c_void_p(address_of(store.ptr())), self._callback, None, None)
        Deadline(store).set(EPOCHS)

    def _ask(self, _context: int, _data: int, epochs: ctypes._Pointer[ctypes.c_uint64], _kind: object) -> int | None:
        if self.over:
            return int(_new_error(b"ended by the host"))
        epochs[0] = EPOCHS
        return None
