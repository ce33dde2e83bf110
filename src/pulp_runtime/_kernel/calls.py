"""Asking a cell: `pulp_on_call`, with its response copied out or lifted (spec/core §3.5, §5.3, §5.5).

Every function here runs inside an entered instance, under one deadline.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from pulp_runtime._kernel.crossing import Export
from pulp_runtime._kernel.instance import Instance
from pulp_runtime.errors import CallFailed, MessageTooLarge
from pulp_runtime.ext import Guest

T = TypeVar("T")
Lift = Callable[[Guest, int, int], T]
"""`lift(guest, address, length)`: read a response that still lies in the guest's memory."""

_OUT_BYTES: Final = 8


class Asked:
    """One call in progress: what the host has placed in the guest, and what came out.

    Attributes:
        code: what the guest answered, unsigned; 0 is success.
        address: of the response.
        length: of the response, in bytes.
    """

    __slots__ = ("_args", "_instance", "_name", "_out", "address", "code", "length")

    def __init__(self, instance: Instance, on_call: Export, name: bytes, args: bytes) -> None:
        """Place name, arguments and an 8-byte out-area, and call."""
        self._instance = instance
        self._name = (instance.place(name), len(name))
        self._args = (instance.place(args), len(args))
        self._out = (instance.place(bytes(_OUT_BYTES)), _OUT_BYTES)
        out = self._out[0]
        self.code = on_call(*self._name, *self._args, out, out + 4)
        self.address = self.length = 0
        if not self.code:
            words = instance.memory.read(out, _OUT_BYTES) or bytes(_OUT_BYTES)
            self.address = int.from_bytes(words[:4], "little")
            self.length = int.from_bytes(words[4:], "little")

    def release(self) -> None:
        """Free out-area, arguments and name, in that order."""
        for placed in (self._out, self._args, self._name):
            self._instance.release(*placed)


def copy_response(instance: Instance, asked: Asked, limit: int) -> bytes:
    """Return a copy of the response and free it; what cannot be copied is not freed.

    Raises:
        MessageTooLarge: it is longer than `limit`.
        CallFailed: it is not inside the guest's memory.
    """
    _check_length(instance, asked, limit)
    copied = instance.memory.read(asked.address, asked.length)
    if copied is None:
        raise CallFailed(
            instance.cell.name, f"response of {asked.length} bytes at {asked.address:#x} is outside its memory"
        )
    instance.release(asked.address, asked.length)
    return copied


def lift_response(instance: Instance, asked: Asked, limit: int, post_return: Export, lift: Lift[T]) -> T:
    """Return what `lift` makes of the response, then let the guest free it, also when lifting failed.

    Raises:
        MessageTooLarge: it is longer than `limit`.
    """
    _check_length(instance, asked, limit)
    try:
        return lift(instance, asked.address, asked.length)
    finally:
        if asked.address:
            post_return(asked.address, asked.length)


def _check_length(instance: Instance, asked: Asked, limit: int) -> None:
    if asked.length > limit:
        raise MessageTooLarge(instance.cell.name, limit)
