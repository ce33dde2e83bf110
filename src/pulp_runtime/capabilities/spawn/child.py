"""One process, from the thread that starts it to the last of its descendants."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import secrets
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Final

from pulp_runtime.capabilities.spawn import tree
from pulp_runtime.capabilities.spawn.warden import Warden

KILL_SECONDS: Final = 5.0
"""How long a tree may take to end once it is killed."""
_POLL_SECONDS: Final = 0.01
_CHUNK: Final = 65_536


class Child:
    """A running process, leader of a session of its own.

    Attributes:
        process: not waited for before its tree is ended, so that its number stays its own.
        mark: see `tree.MARK`.
    """

    def __init__(self, argv: Sequence[str], warden: Warden, *, env: Mapping[str, str], **options: Any) -> None:
        """Start it, in a thread; `options` are those of `subprocess.Popen`, and so is what it raises."""
        self.mark: Final = secrets.token_hex(16)
        self._warden: Final = warden
        warden.watch(self.mark)
        try:
            self.process: Final[subprocess.Popen[bytes]] = subprocess.Popen(  # noqa: S603  # what it may be was checked
                argv, env={**env, tree.MARK: self.mark}, start_new_session=True, **options
            )
        except BaseException:
            warden.forget(self.mark)
            raise
        warden.watch(self.mark, self.process.pid)
        with contextlib.suppress(OSError, ValueError, AttributeError):  # it may have ended; only Linux has this
            resource.prlimit(self.process.pid, resource.RLIMIT_CORE, (0, 0))

    async def ended(self) -> None:
        """Wait until the process itself has ended; it is not reaped."""
        loop = asyncio.get_running_loop()
        try:
            file = os.pidfd_open(self.process.pid)
        except (AttributeError, OSError):  # another system, or an older one
            while os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                await asyncio.sleep(_POLL_SECONDS)
            return
        ended = asyncio.Event()
        loop.add_reader(file, ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(file)
            os.close(file)

    def end(self) -> int:
        """End what is left of the tree and reap the process; return its exit code. In a thread, once."""
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()  # nobody came to read
        gone = tree.kill(self.process.pid, self.mark, KILL_SECONDS)
        try:
            code = self.process.wait(KILL_SECONDS)
        except subprocess.TimeoutExpired:  # not even the system can end it now
            return -signal.SIGKILL
        if gone:
            self._warden.forget(self.mark)
        return code


async def started(start: Callable[[], Child]) -> Child:
    """Run `start` in a thread; if nobody waits any more, end what it started."""
    starting = asyncio.ensure_future(asyncio.to_thread(start))
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        with contextlib.suppress(Exception):
            await ended_for_good(await starting)
        raise


async def ended_for_good(child: Child) -> int:
    """End a tree, whatever happens meanwhile; return the exit code of its first process."""
    ending = asyncio.ensure_future(asyncio.to_thread(child.end))
    try:
        return await asyncio.shield(ending)
    except asyncio.CancelledError:
        await ending
        raise


class Output:
    """What comes out of a pipe, as far as there is room for it.

    Args:
        file: number of the reading end; it is closed when the other end is, or by `close`.
        most: bytes that are kept. What is over is read and dropped.
    """

    def __init__(self, file: int, most: int) -> None:
        self.data: Final = bytearray()
        self._most: Final = most
        self._file: int | None = file
        self._loop: Final = asyncio.get_running_loop()
        self.finished: Final[asyncio.Future[None]] = self._loop.create_future()
        os.set_blocking(file, False)
        self._loop.add_reader(file, self._read)

    def _read(self) -> None:
        if self._file is None:
            return
        try:
            piece = os.read(self._file, _CHUNK)
        except BlockingIOError:
            return
        except OSError:
            piece = b""
        if not piece:
            self.close()
        elif len(self.data) < self._most:
            self.data.extend(piece[: self._most - len(self.data)])

    def close(self) -> None:
        """Read no more. May be called again."""
        file, self._file = self._file, None
        if file is not None:
            self._loop.remove_reader(file)
            os.close(file)
        if not self.finished.done():
            self.finished.set_result(None)


@contextlib.asynccontextmanager
async def outputs(child: Child, most: int) -> AsyncIterator[tuple[Output, Output]]:
    """Yield standard output and standard error of a child that was started with pipes for both."""
    process = child.process
    if process.stdout is None or process.stderr is None:
        raise ValueError("it has no pipes")
    both = Output(os.dup(process.stdout.fileno()), most), Output(os.dup(process.stderr.fileno()), most)
    process.stdout.close()
    process.stderr.close()
    try:
        yield both
    finally:
        for one in both:
            one.close()
