"""`poll_oneoff`: wait for clocks and files, whichever is first."""

from __future__ import annotations

from math import inf
from struct import Struct
from typing import Final, NamedTuple

from pulp_runtime.ext.tree import File
from pulp_runtime.wasi import right
from pulp_runtime.wasi.bell import Wanted
from pulp_runtime.wasi.descriptor import Descriptor
from pulp_runtime.wasi.errno import Refused, WasiErrno, wasi_errno
from pulp_runtime.wasi.process import MONOTONIC, REALTIME, Process

MAX_SUBSCRIPTIONS: Final = 4096
"""Most subscriptions of one call; past it `INVAL`."""

_CLOCK, _READ, _WRITE = range(3)
_ABSOLUTE: Final = 1
_SUBSCRIPTION: Final = Struct("<QB7x32s")
_TIMEOUT: Final = Struct("<I4xQ8xH6x")
_EVENT: Final = Struct("<QHB5xQH6x")
_SECOND_NS: Final = 1_000_000_000


class _Clock(NamedTuple):
    user: int
    seconds: float


class _Ready(NamedTuple):
    user: int
    kind: int
    descriptor: Descriptor
    file: File


class _Event(NamedTuple):
    user: int
    error: int
    kind: int
    nbytes: int = 0


class Polling(Process):
    """The function that waits."""

    def poll_oneoff(self, subscriptions: int, out: int, count: int, nevents: int) -> None:
        """Wait until something that is subscribed to happens; tell all that has.

        The host may end the wait before: at the run's deadline, and when it wants the program to end; then the clock
        that is nearest has come.
        """
        if not 0 < count <= MAX_SUBSCRIPTIONS:
            raise Refused(WasiErrno.INVAL, f"1 to {MAX_SUBSCRIPTIONS} subscriptions")
        raw = self.view(subscriptions, _SUBSCRIPTION.size * count).tobytes()
        self.view(out, _EVENT.size * count)
        self.view(nevents, 4)
        clocks: list[_Clock] = []
        files: list[_Ready] = []
        events: list[_Event] = []
        for user, kind, detail in _SUBSCRIPTION.iter_unpack(raw):
            try:
                if kind == _CLOCK:
                    clocks.append(_Clock(user, self._seconds(detail)))
                else:
                    files.append(self._subscribed(user, kind, int.from_bytes(detail[:4], "little")))
            except OSError as error:
                events.append(_Event(user, wasi_errno(error) or WasiErrno.IO, kind))
        if not events:
            events = self._wait(clocks, files)
        into = self.view(out, _EVENT.size * len(events))
        for at, event in enumerate(events):
            _EVENT.pack_into(into, at * _EVENT.size, *event, 0)
        self.put(nevents, len(events))

    def _wait(self, clocks: list[_Clock], files: list[_Ready]) -> list[_Event]:
        seconds = min((clock.seconds for clock in clocks), default=inf)
        wanted: list[Wanted] = [(one.file, one.kind == _WRITE) for one in files]
        events = [] if not files else _happened(files)
        if not events:
            if self.bell.await_any(wanted, self.machine, seconds, sleep=bool(clocks)):
                events = _happened(files)
                clocks = []  # a file was ready first; a clock that has come too is told the next time
            elif not clocks:
                raise Refused(WasiErrno.TIMEDOUT)
            else:
                events = [_Event(clock.user, 0, _CLOCK) for clock in clocks if clock.seconds <= seconds]
        else:
            events.extend(_Event(clock.user, 0, _CLOCK) for clock in clocks if clock.seconds <= 0)
        return events

    def _seconds(self, detail: bytes) -> float:
        """Return how long it is until a clock has come; 0 if it has."""
        clock, timeout, flags = _TIMEOUT.unpack(detail)
        if clock not in (REALTIME, MONOTONIC):
            raise Refused(WasiErrno.NOTSUP if clock < 4 else WasiErrno.INVAL, "a clock that cannot be waited for")
        if flags & ~_ABSOLUTE:
            raise Refused(WasiErrno.INVAL, "no such flag")
        if flags:
            timeout = max(0, timeout - self.now(clock))
        return float(timeout / _SECOND_NS)

    def _subscribed(self, user: int, kind: int, number: int) -> _Ready:
        if kind not in (_READ, _WRITE):
            raise Refused(WasiErrno.INVAL, "no such event")
        found, file = self.file(number, right.READ if kind == _READ else right.WRITE)
        if not found.rights & right.POLL:
            raise Refused(WasiErrno.NOTCAPABLE)
        return _Ready(user, kind, found, file)


def _happened(files: list[_Ready]) -> list[_Event]:
    """Return the events of what is ready."""
    events = []
    for user, kind, descriptor, file in files:
        try:
            size = file.ready(write=kind == _WRITE)
            if size is None:
                continue
            if descriptor.seekable and kind == _READ:
                size = max(0, file.stat().size - descriptor.position)
            events.append(_Event(user, 0, kind, size))
        except OSError as error:
            events.append(_Event(user, wasi_errno(error) or WasiErrno.IO, kind))
    return events
