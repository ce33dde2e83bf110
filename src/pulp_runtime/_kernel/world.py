"""The WASI that a cell sees, where the engine's own would not do.

The engine's preview 1 answers clocks, arguments (none) and folders (none). Ours are the calls with an effect on the
host: writing, which goes to the cell's log, sleeping, which must end at the call's deadline, and randomness, for which
the engine would fill memory of its own before it looks at the guest's.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from pulp_runtime._kernel.lines import LineLog
from pulp_runtime.errors import HostError

_SUCCESS: Final = 0
_EBADF: Final = 8
_EFAULT: Final = 21
_EINVAL: Final = 28

_STREAMS: Final = {1: "stdout", 2: "stderr"}
_MAX_VECTORS: Final = 1024
_MAX_WRITE: Final = 1 << 20
_MAX_SUBSCRIPTIONS: Final = 256
_RANDOM_PIECE: Final = 1 << 20

_SUBSCRIPTION: Final = struct.Struct("<QB7xI4xQQH6x")  # userdata, tag, clock or descriptor, timeout, precision, flags
_EVENT: Final = struct.Struct("<QHBxxxxxQHxxxxxx")  # userdata, errno, tag, bytes ready, flags
_CLOCK: Final = 0
_CLOCKS: Final = 4
_ABSOLUTE: Final = 1


class World(Protocol):
    """What these calls need of an instance."""

    def read(self, address: int, length: int) -> bytes:
        """Copy bytes out of guest memory."""

    def write(self, address: int, data: bytes) -> None:
        """Copy bytes into guest memory."""

    def sleep(self, seconds: float) -> None:
        """Sleep, but not past the call's deadline."""


class Clock:
    """A monotonic clock that goes on where the one of a snapshot stood; what passed in between does not count.

    The engine's own begins at 0 with each instance: a timer of a restored guest would wait as long as the guest had
    been running before.
    """

    def __init__(self) -> None:
        self._zero = time.monotonic_ns()

    def now_ns(self) -> int:
        """Return nanoseconds since the guest began, those of its earlier instances included."""
        return time.monotonic_ns() - self._zero

    def set(self, now_ns: int) -> None:
        """Go on from there."""
        self._zero = time.monotonic_ns() - now_ns


def world(guest: World, lines: LineLog, clock: Clock | None = None) -> Mapping[str, tuple[int, Callable[..., int]]]:
    """Return the WASI functions of our own by name: how many words, and the function.

    With a `clock`, `clock_time_get` is ours too; else the engine's begins now, and so does the one that timers are
    measured by.
    """
    monotonic = (clock or Clock()).now_ns

    def fd_write(descriptor: int, vectors: int, count: int, written_out: int) -> int:
        stream = _STREAMS.get(descriptor)
        if stream is None:
            return _EBADF
        if count > _MAX_VECTORS:
            return _EINVAL
        try:
            table = guest.read(vectors, 8 * count)
            left = _MAX_WRITE
            pieces = []
            for address, length in struct.iter_unpack("<II", table):
                pieces.append(guest.read(address, min(length, left)))
                left -= len(pieces[-1])
            guest.write(written_out, (_MAX_WRITE - left).to_bytes(4, "little"))
        except HostError:
            return _EFAULT
        lines.feed(stream, b"".join(pieces))
        return _SUCCESS

    def poll_oneoff(subscriptions: int, events: int, count: int, count_out: int) -> int:
        if not 1 <= count <= _MAX_SUBSCRIPTIONS:
            return _EINVAL
        try:
            table = guest.read(subscriptions, _SUBSCRIPTION.size * count)
            ready = _wait(guest, list(_SUBSCRIPTION.iter_unpack(table)), monotonic)
            guest.write(events, b"".join(ready))
            guest.write(count_out, len(ready).to_bytes(4, "little"))
        except HostError:
            return _EFAULT
        return _SUCCESS

    def random_get(address: int, length: int) -> int:
        try:
            guest.read(address + length, 0)  # the whole range is checked before a byte is made
            for start in range(0, length, _RANDOM_PIECE):
                guest.write(address + start, os.urandom(min(_RANDOM_PIECE, length - start)))
        except HostError:
            return _EFAULT
        return _SUCCESS

    ours: dict[str, tuple[int, Callable[..., int]]] = {}
    if clock is not None:
        ours["clock_time_get"] = (3, _clock_time_get(guest, clock))
    return {**ours, "fd_write": (4, fd_write), "poll_oneoff": (4, poll_oneoff), "random_get": (2, random_get)}


def _clock_time_get(guest: World, clock: Clock) -> Callable[..., int]:
    def clock_time_get(number: int, _precision: int, time_out: int) -> int:
        if number > 1:
            return _EBADF if number < _CLOCKS else _EINVAL  # as the engine: there are clocks of a processor's time
        try:
            guest.write(time_out, (clock.now_ns() if number else time.time_ns()).to_bytes(8, "little"))
        except HostError:
            return _EFAULT
        return _SUCCESS

    return clock_time_get


def _wait(
    guest: World, subscriptions: list[tuple[int, int, int, int, int, int]], monotonic: Callable[[], int]
) -> list[bytes]:
    """Sleep until the first subscription is due and return every one that is."""
    # Streams never make a cell wait: input is at its end, output is taken at once.
    ready = [
        _EVENT.pack(userdata, _SUCCESS if descriptor <= 2 else _EBADF, tag, 0, 0)
        for userdata, tag, descriptor, *_ in subscriptions
        if tag != _CLOCK
    ]
    if ready:
        return ready
    waits = [
        (_remaining(clock, timeout, flags, monotonic), _EVENT.pack(userdata, _SUCCESS, _CLOCK, 0, 0))
        for userdata, _tag, clock, timeout, _precision, flags in subscriptions
    ]
    first = min(wait for wait, _event in waits)
    if first > 0:
        guest.sleep(first / 1e9)
    return [event for wait, event in waits if wait <= first]


def _remaining(clock: int, timeout: int, flags: int, monotonic: Callable[[], int]) -> int:
    """Return nanoseconds until a clock subscription is due."""
    if not flags & _ABSOLUTE:
        return timeout
    return max(0, timeout - (time.time_ns() if clock == 0 else monotonic()))
