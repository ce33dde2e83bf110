"""What a program knows of itself and its world: arguments, environment, clocks, randomness."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from pulp_runtime.wasi.errno import Refused, WasiErrno
from pulp_runtime.wasi.machine import Machine
from pulp_runtime.wasi.state import State

RANDOM_PIECE_BYTES: Final = 1 << 20
"""So much is drawn at a time; between two pieces the deadline is looked at."""
_SIGNALS: Final = 31

REALTIME, MONOTONIC, PROCESS_CPU, THREAD_CPU = range(4)


class Process(State):
    """The functions about the process."""

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine)
        self._args: Sequence[str] = ()
        self._environ: Mapping[str, str] = {}
        self._variables: Sequence[bytes] | None = None
        self._cpu_ns = 0

    def set_process(self, args: Sequence[str], environ: Mapping[str, str]) -> None:
        """Begin: what the program is told of itself. Bytes that were no text pass as they were (surrogate escapes)."""
        self._args, self._environ = args, environ
        self._variables = None  # many a program never asks
        self._cpu_ns = time.thread_time_ns()

    def _words(self) -> list[bytes]:
        return [word.encode(errors="surrogateescape") + b"\0" for word in self._args]

    def _pairs(self) -> Sequence[bytes]:
        if self._variables is None:
            pairs = (f"{name}={value}" for name, value in self._environ.items())
            self._variables = [pair.encode(errors="surrogateescape") + b"\0" for pair in pairs]
        return self._variables

    def args_sizes_get(self, count: int, size: int) -> None:
        """Tell how many arguments there are, and how many bytes with a NUL behind each."""
        self._sizes(self._words(), count, size)

    def args_get(self, pointers: int, buffer: int) -> None:
        """Write the arguments."""
        self._strings(self._words(), pointers, buffer)

    def environ_sizes_get(self, count: int, size: int) -> None:
        """Tell how many variables there are, and how many bytes with a NUL behind each."""
        self._sizes(self._pairs(), count, size)

    def environ_get(self, pointers: int, buffer: int) -> None:
        """Write the variables, each `NAME=value`."""
        self._strings(self._pairs(), pointers, buffer)

    def _sizes(self, words: Sequence[bytes], count: int, size: int) -> None:
        self.put(count, len(words))
        self.put(size, sum(map(len, words)))

    def _strings(self, words: Iterable[bytes], pointers: int, buffer: int) -> None:
        for at, word in enumerate(words):
            self.put(pointers + 4 * at, buffer)
            self.view(buffer, len(word))[:] = word
            buffer += len(word)

    def clock_res_get(self, clock: int, resolution: int) -> None:
        """Tell how fine a clock is: a nanosecond, as the system says."""
        self.now(clock)
        self.put_long(resolution, 1)

    def clock_time_get(self, clock: int, _precision: int, answer: int) -> None:
        """Tell the time in nanoseconds."""
        self.put_long(answer, self.now(clock))

    def now(self, clock: int) -> int:
        """Return a clock's time. The CPU clocks are those of the run: its thread's, since it began."""
        if clock == MONOTONIC:
            return time.monotonic_ns()
        if clock == REALTIME:
            return time.time_ns()
        if clock in (PROCESS_CPU, THREAD_CPU):
            return max(0, time.thread_time_ns() - self._cpu_ns)
        raise Refused(WasiErrno.INVAL, "no such clock")

    def random_get(self, buffer: int, length: int) -> None:
        """Fill with random bytes. All of it must be inside memory before the first is drawn."""
        into = self.view(buffer, length)
        for at in range(0, length, RANDOM_PIECE_BYTES):
            if at and self.machine.seconds_left() <= 0:
                raise Refused(WasiErrno.TIMEDOUT)
            piece = into[at : at + RANDOM_PIECE_BYTES]
            piece[:] = os.urandom(len(piece))

    def sched_yield(self) -> None:
        """Let others have the processor for a moment."""
        time.sleep(0)

    def proc_raise(self, signal: int) -> None:
        """Refuse: there are no signals."""
        raise Refused(WasiErrno.NOTSUP if signal < _SIGNALS else WasiErrno.INVAL)
