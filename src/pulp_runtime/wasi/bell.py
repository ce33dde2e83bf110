"""Wait for files, for a time, or to be told to look again: the only place where a program's run stands still."""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Sequence
from typing import Final

from pulp_runtime.ext.tree import File, Wake
from pulp_runtime.wasi.machine import Machine

LOOK_SECONDS: Final = 1.0
"""Who waits looks again this often even if nothing was told, for the deadline may have changed."""

Wanted = tuple[File, bool]
"""A file, and whether it is to be written."""


class Bell:
    """One thread waits, any thread rings."""

    def __init__(self) -> None:
        self._rung: Final = threading.Event()
        self._lock: Final = threading.Lock()
        self._pipe: tuple[int, int] | None = None
        self._interrupts = 0

    def ring(self) -> None:
        """Have whoever waits look again."""
        self._rung.set()
        with self._lock:
            if self._pipe is not None:
                try:
                    os.write(self._pipe[1], b"!")
                except BlockingIOError:
                    pass  # it is rung already

    def interrupt(self) -> None:
        """End a wait that is for time alone; have others look again."""
        self._interrupts += 1
        self.ring()

    def await_any(self, wanted: Sequence[Wanted], machine: Machine, seconds: float, *, sleep: bool = False) -> bool:
        """Return True when one of the files is ready; False when the time is over, or the run's.

        Args:
            wanted: which files.
            machine: whose other cells get the worker meanwhile.
            seconds: how long at most; `inf` for ever.
            sleep: whether an interrupt ends it too.
        """
        if _any_ready(wanted):
            return True
        end = time.monotonic() + seconds
        interrupts = self._interrupts
        handles = [(number, write) for file, write in wanted if (number := file.fileno()) is not None]
        ends: list[Wake] = []
        try:
            if handles:
                self._open_pipe()
            ends.extend(file.watch(self.ring) for file, _ in wanted if file.fileno() is None)
            with machine.blocking():
                while True:
                    self._clear()
                    if _any_ready(wanted):
                        return True
                    left = min(end - time.monotonic(), machine.seconds_left())
                    if left <= 0 or (sleep and interrupts != self._interrupts):
                        return False
                    self._stand(handles, min(left, LOOK_SECONDS))
        finally:
            for end_watch in ends:
                end_watch()

    def _stand(self, handles: list[tuple[int, bool]], seconds: float) -> None:
        if not handles or self._pipe is None:
            self._rung.wait(seconds)
            return
        poll = select.poll()
        poll.register(self._pipe[0], select.POLLIN)
        masks: dict[int, int] = {}  # registering a handle twice would forget the first
        for number, write in handles:
            masks[number] = masks.get(number, 0) | (select.POLLOUT if write else select.POLLIN)
        for number, mask in masks.items():
            poll.register(number, mask)
        if not self._rung.is_set():
            poll.poll(max(1, int(seconds * 1000)))

    def _open_pipe(self) -> None:
        with self._lock:
            if self._pipe is None:
                self._pipe = os.pipe()
                for end in self._pipe:
                    os.set_blocking(end, False)

    def _clear(self) -> None:
        self._rung.clear()
        if self._pipe is not None:
            try:
                os.read(self._pipe[0], 4096)
            except BlockingIOError:
                pass  # nobody has rung

    def close(self) -> None:
        """Let go of what the system lent; a later wait borrows it anew."""
        with self._lock:
            if self._pipe is not None:
                for end in self._pipe:
                    os.close(end)
                self._pipe = None


def _any_ready(wanted: Sequence[Wanted]) -> bool:
    return any(file.ready(write=write) is not None for file, write in wanted)
