"""Writing content: into a file of its own, hashed on the way, 1 MiB at a time.

Whoever goes back, or reads what he writes, costs one more reading at the end.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Final, NoReturn

from pulp_runtime.blobs.bucket import MIB, OBJECT_BYTES, Caller, Info, Writer
from pulp_runtime.blobs.index import Content
from pulp_runtime.blobs.reading import PIECE
from pulp_runtime.files.atomic import sync
from pulp_runtime.files.quota import DiskQuota

FIRST: Final = 64 * 1024
"""How much of an object is in memory before room for a whole piece is taken."""
AHEAD: Final = MIB
"""How much of the quota is taken at a time, so that small writes need not ask."""


class Digests:
    """The hash of some bytes, and of each piece of them, as they come piece by piece."""

    def __init__(self) -> None:
        self._whole: Final = sha256()
        self._pieces: Final = bytearray()
        self.size = 0

    def piece(self, data: memoryview) -> None:
        """Go on with a piece; only the last is shorter than 1 MiB."""
        self._whole.update(data)
        self._pieces.extend(sha256(data).digest() if self.size else self._whole.digest())
        self.size += len(data)

    def content(self) -> Content:
        """Return what the bytes are."""
        return Content(self._whole.digest(), self.size, bytes(self._pieces))


class LocalWriter(Writer):
    """An object of the embedded store that is being put; see `Writer`.

    Args:
        path: the file.
        file: its descriptor.
        put: makes it an object.
        ended: called once, when the writer is closed.
    """

    def __init__(self, path: Path, file: int, put: Callable[[Content], Info], ended: Callable[[], None]) -> None:
        self.size = 0
        self._path: Final = path
        self._file = file
        self._put: Final = put
        self._ended: Final = ended
        self._digests: Digests | None = Digests()
        self._buffer = bytearray()
        self._filled = 0
        self._quota: DiskQuota | None = None
        self._taken = 0

    def write_at(self, caller: Caller, offset: int, data: memoryview) -> int:
        """See `Writer.write_at`."""
        self._grow(caller, offset + len(data))
        if self._digests is None or offset != self.size:
            self._scatter()
            self._write(offset, data)
            self.size = max(self.size, offset + len(data))
            return len(data)
        rest = data
        while rest:
            if not self._filled and len(rest) >= PIECE:
                self._piece(rest[:PIECE])
                rest = rest[PIECE:]
                continue
            part = rest[: PIECE - self._filled]
            end = self._filled + len(part)
            if end > len(self._buffer):
                self._buffer = self._buffer[: self._filled] + bytes((FIRST if end <= FIRST else PIECE) - self._filled)
            self._buffer[self._filled : end] = part
            self._filled = end
            rest = rest[len(part) :]
            if end == PIECE:
                self._flush()
        self.size = offset + len(data)
        return len(data)

    def _piece(self, data: memoryview) -> None:
        """Hash and write a piece; all before it are in the file."""
        assert self._digests is not None  # noqa: S101  # bytes come in order
        self._write(self._digests.size, data)
        self._digests.piece(data)

    def _flush(self) -> None:
        """Write what waits for being a whole piece."""
        filled, self._filled = self._filled, 0
        if filled:
            self._piece(memoryview(self._buffer)[:filled])

    def _scatter(self) -> None:
        """From now on bytes come in any order: hash them at the end."""
        if self._digests is not None:
            filled, self._filled = self._filled, 0
            self._write(self._digests.size, memoryview(self._buffer)[:filled])
            self._digests = None

    def _write(self, offset: int, data: memoryview) -> None:
        while data:
            done = os.pwrite(self._file, data, offset)
            data, offset = data[done:], offset + done

    def _grow(self, caller: Caller, size: int) -> None:
        """Return if it may be that long."""
        if size > OBJECT_BYTES:
            raise OSError(errno.EFBIG, f"an object has at most {OBJECT_BYTES} bytes")
        if caller.quota is None or size <= self._taken:
            return
        more = size - self._taken
        if caller.quota.room() >= more + AHEAD:
            more += AHEAD
        caller.quota.check(more)
        caller.quota.charge(more)
        self._quota = caller.quota
        self._taken += more

    def read_at(self, _caller: Caller, offset: int, into: memoryview) -> int:
        """See `Writer.read_at`."""
        self._scatter()
        return os.preadv(self._file, [into], offset)

    def truncate(self, caller: Caller, size: int) -> None:
        """See `Writer.truncate`."""
        if size == self.size:
            return
        self._grow(caller, size)
        self._scatter()
        os.ftruncate(self._file, size)
        self.size = size
        if not size:
            self._digests = Digests()

    def commit(self, caller: Caller) -> Info:
        """See `Writer.commit`."""
        if self._file < 0:
            raise OSError(errno.EBADF, "closed already")
        try:
            content = self._content(caller)
            sync(self._file)
            return self._put(content)
        finally:
            self.abandon()

    def _content(self, caller: Caller) -> Content:
        if self._digests is not None:
            self._flush()
            content = self._digests.content()
            return content if content.size == self.size else self._short()
        digests = Digests()
        buffer = memoryview(bytearray(PIECE))
        while digests.size < self.size:
            caller.hurry()
            got = 0
            while got < min(PIECE, self.size - digests.size):
                got += os.preadv(self._file, [buffer[got:]], digests.size + got) or self._short()
            digests.piece(buffer[:got])
        return digests.content()

    def _short(self) -> NoReturn:
        raise OSError(errno.EIO, "the file is shorter than what was written to it")

    def abandon(self) -> None:
        """See `Writer.abandon`."""
        if self._file < 0:
            return
        self._buffer = bytearray()
        os.close(self._file)
        self._file = -1
        unused = self._taken - self.size
        try:
            os.unlink(self._path)
            unused = self._taken
        except OSError:
            pass  # it has become content; or the next start removes it
        if self._quota is not None:
            self._quota.charge(-unused)
        self._ended()
