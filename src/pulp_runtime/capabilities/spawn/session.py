"""One terminal with a program on it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import select
import struct
import termios
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from pulp_runtime.capabilities.spawn.child import Child, ended_for_good
from pulp_runtime.capabilities.spawn.warden import Warden
from pulp_runtime.ext import CellRef, Errno, HostError

BUFFER_BYTES: Final = 1024 * 1024
"""Output that waits for the cell. The newest is kept."""
COLUMNS, ROWS = 80, 24
_CHUNK: Final = 65_536
_WRITE_SECONDS: Final = 5.0
"""How long a program may leave what is written to it unread."""
_LAST_WORDS_SECONDS: Final = 0.5
_TELL_SECONDS: Final = 1.0

# A session's first terminal is the first one its leader opens, so somebody must open it by name after `setsid`.
_OPEN_TERMINAL: Final = 'exec "$@" 0<>"$0"'


class Session:
    """A terminal. Its buffer belongs to the loop, its file to whoever holds the lock.

    Attributes:
        number: its id.
        cell: whose it is.
        persist: whether it outlives its cell.
        is_alive: whether its program runs.
        is_posted: whether an event with its output is on its way to the cell.
        life: the task of the loop that looks after it, begun once.
        closing: set to end it.
        waits: bytes of output for the next event.
    """

    def __init__(
        self, number: int, cell: CellRef, argv: Sequence[str], warden: Warden, *, cwd: str | None,
        env: Mapping[str, str], persist: bool,
    ) -> None:  # fmt: skip
        """Open a terminal and start a program on it, in a thread; OSError when either cannot be done."""
        self.number: Final = number
        self.cell: Final = cell
        self.persist: Final = persist
        self.is_alive = True
        self.is_posted = False
        self.life: asyncio.Task[None] | None = None
        self.closing: Final = asyncio.Event()
        self.waits: Final = bytearray()
        self._lock: Final = threading.Lock()
        self._dropped = 0
        self._told = float("-inf")
        self._master, slave = os.openpty()
        try:
            os.set_blocking(self._master, False)
            self.resize(COLUMNS, ROWS)
            self.child: Final = Child(
                ["/bin/sh", "-c", _OPEN_TERMINAL, os.ttyname(slave), *argv],
                warden, env=env, cwd=cwd, stdin=slave, stdout=slave, stderr=slave,
            )  # fmt: skip
        except BaseException:
            os.close(self._master)
            raise
        finally:
            os.close(slave)

    # From a worker ----------------------------------------------------------------------------------------------

    def resize(self, columns: int, rows: int) -> None:
        """Say how large the terminal is; the program is told.

        Raises:
            OSError: the terminal is closed.
        """
        with self._lock:
            if self._master < 0:
                raise OSError(errno.EBADF, "it is closed")
            fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def write_now(self, data: bytes) -> int:
        """Type as much as there is room for; return how many bytes that was.

        Raises:
            HostError: `FAILED` when nobody reads any more.
        """
        with self._lock:
            if self._master < 0 or not self.is_alive:
                raise HostError(Errno.FAILED, "its program has ended")
            try:
                return os.write(self._master, data)
            except BlockingIOError:
                return 0
            except OSError as error:
                raise HostError(Errno.FAILED, f"write: {error}") from None

    def write(self, data: bytes, seconds: float) -> None:
        """Type all of it.

        Raises:
            HostError: as `write_now`, and `FAILED` when it is not read within `seconds`, or 5 s if that is less.
        """
        end = time.monotonic() + min(seconds, _WRITE_SECONDS)
        left = memoryview(data)
        while left := left[self.write_now(bytes(left[:_CHUNK])) :]:
            poll, file = select.poll(), self._master
            poll.register(max(0, file), select.POLLOUT)
            if time.monotonic() >= end or not poll.poll(max(0.0, end - time.monotonic()) * 1000):
                raise HostError(Errno.FAILED, "write: its program does not read")

    # On the loop ------------------------------------------------------------------------------------------------

    async def live(self, output: Callable[[Session], None]) -> None:
        """Read what its program writes until it ends, or the session is closed; then end what is left of it.

        Args:
            output: called when something waits.
        """
        loop = asyncio.get_running_loop()
        silent = asyncio.Event()
        loop.add_reader(self._master, self._read, output, silent)
        ended, closing = asyncio.ensure_future(self.child.ended()), asyncio.ensure_future(self.closing.wait())
        try:
            await asyncio.wait({ended, closing}, return_when=asyncio.FIRST_COMPLETED)
            self.is_alive = False
            if not closing.done():
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(silent.wait(), _LAST_WORDS_SECONDS)
        finally:
            self.is_alive = False
            ended.cancel()
            closing.cancel()
            await asyncio.wait({ended, closing})
            loop.remove_reader(self._master)
            await self._end()

    async def _end(self) -> None:
        try:
            await ended_for_good(self.child)
        finally:
            self.release()

    def release(self) -> None:
        """Close the terminal."""
        with self._lock:
            file, self._master = self._master, -1
        if file >= 0:
            os.close(file)

    def _read(self, output: Callable[[Session], None], silent: asyncio.Event) -> None:
        try:
            piece = os.read(self._master, _CHUNK)
        except BlockingIOError:
            return
        except OSError:  # the last one who had the terminal open has closed it
            piece = b""
        if not piece:
            asyncio.get_running_loop().remove_reader(self._master)
            silent.set()
            return
        self.waits.extend(piece)
        over = len(self.waits) - BUFFER_BYTES
        if over > 0:
            del self.waits[:over]
            self._tell(over)
        output(self)

    def _tell(self, over: int) -> None:
        self._dropped += over
        now = time.monotonic()
        if now - self._told >= _TELL_SECONDS:
            self.cell.log.warning("pty output dropped", pty_id=self.number, bytes=self._dropped)
            self._dropped, self._told = 0, now
