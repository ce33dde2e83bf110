"""Asking a cell: `pulp_on_call`, with its response copied out or lifted (spec/core §3.5, §5.3, §5.5).

Every function here runs inside an entered instance, under one deadline.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from pulp_runtime._kernel.crossing import Export
from pulp_runtime._kernel.instance import Instance
from pulp_runtime._kernel.pad import Pad
from pulp_runtime.errors import CallFailed, CellRefused, MessageTooLarge
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

    def __init__(self, instance: Instance, on_call: Export, name: bytes, args: bytes | memoryview) -> None:
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


def exchange(
    instance: Instance, name: bytes, args: bytes | memoryview, limit: int, take: Callable[[memoryview], T]
) -> T:
    """Ask, and return what `take` makes of the response where it lies; then free it.

    A response that is too long or outside memory is not freed.

    Raises:
        EngineFault: the guest did not come back.
        CellRefused: it answered with a code.
        CallFailed, MessageTooLarge: its allocator refused, or the response cannot be had.
    """
    if not Pad.fits(len(name) + len(args)):
        return _exchange_slowly(instance, name, args, limit, take)
    pad = instance.pad
    pad.ask(name, args)
    if pad.allocator:
        raise CallFailed(instance.cell.name, f"pulp_alloc {pad.allocator}")
    if pad.code:
        raise CellRefused(instance.cell.name, "pulp_on_call", pad.code)
    if pad.copied:
        if pad.length > limit:
            raise MessageTooLarge(instance.cell.name, limit)
        return take(pad.response())
    return _take(instance, pad.address, pad.length, limit, take)


def _exchange_slowly(
    instance: Instance, name: bytes, args: bytes | memoryview, limit: int, take: Callable[[memoryview], T]
) -> T:
    """Do the same crossing by crossing, for what does not fit into the pad."""
    on_call = instance.on_call
    assert on_call is not None  # noqa: S101 - the caller looked
    asked = Asked(instance, on_call, name, args)
    try:
        if asked.code:
            raise CellRefused(instance.cell.name, "pulp_on_call", asked.code)
        return _take(instance, asked.address, asked.length, limit, take)
    finally:
        asked.release()


def _take(instance: Instance, address: int, length: int, limit: int, take: Callable[[memoryview], T]) -> T:
    """Return what `take` makes of a response in the guest's memory, and free it."""
    if length > limit:
        raise MessageTooLarge(instance.cell.name, limit)
    view = instance.memory.slice(address, length)
    if view is None:
        raise CallFailed(instance.cell.name, f"response of {length} bytes at {address:#x} is outside its memory")
    try:
        return take(view)
    finally:
        instance.release(address, length)


def lift_response(instance: Instance, asked: Asked, limit: int, post_return: Export, lift: Lift[T]) -> T:
    """Return what `lift` makes of the response, then let the guest free it, also when lifting failed.

    Raises:
        MessageTooLarge: it is longer than `limit`.
    """
    if asked.length > limit:
        raise MessageTooLarge(instance.cell.name, limit)
    try:
        return lift(instance, asked.address, asked.length)
    finally:
        if asked.address:
            post_return(asked.address, asked.length)
