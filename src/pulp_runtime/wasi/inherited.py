"""The standard streams of the process, as a program's: binary, and nothing kept back."""

from __future__ import annotations

import os
import select
import stat
from typing import Final

from pulp_runtime.ext.tree import File, Kind, Stat
from pulp_runtime.wasi.real_file import host_stat, kind_of


class Inherited(File):
    """A descriptor that the process was started with. It is not closed: it belongs to whoever started the process.

    Args:
        handle: 0, 1 or 2, or any other descriptor that stays open. Its blocking mode is left as it is, because others
            share it: a terminal's shell, for one.
    """

    def __init__(self, handle: int) -> None:
        self._handle: Final = handle
        try:
            mode = os.fstat(handle).st_mode
        except OSError:  # started without it
            mode = 0
        self._regular: Final = stat.S_ISREG(mode)
        self.kind = Kind.DEVICE if os.isatty(handle) else kind_of(mode)

    def read(self, size: int) -> bytes:
        """See `File.read`."""
        if self.ready() is None:
            raise BlockingIOError
        return os.read(self._handle, size)

    def write(self, data: bytes) -> int:
        """See `File.write`: as much as there is room for, `PIPE_BUF` at a time, which is what a pipe promises."""
        if self._regular:
            return os.write(self._handle, data)
        done = 0
        while done < len(data) and self.ready(write=True) is not None:
            done += os.write(self._handle, data[done : done + select.PIPE_BUF])
        if not done:
            raise BlockingIOError
        return done

    def ready(self, *, write: bool = False) -> int | None:
        """See `File.ready`."""
        poll = select.poll()
        poll.register(self._handle, select.POLLOUT if write else select.POLLIN)
        return 0 if poll.poll(0) else None

    def fileno(self) -> int:
        """See `File.fileno`."""
        return self._handle

    def stat(self) -> Stat:
        """See `File.stat`."""
        return host_stat(os.fstat(self._handle))._replace(kind=self.kind)

    def close(self) -> None:
        """See `File.close`."""
