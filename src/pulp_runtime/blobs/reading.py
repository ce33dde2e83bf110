"""Reading content: a piece of 1 MiB at a time, each verified before a byte of it is given out."""

from __future__ import annotations

import errno
import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Final

from pulp_runtime.blobs.bucket import MIB, Caller, Damaged, Info, Reader
from pulp_runtime.blobs.index import Content

PIECE: Final = MIB
"""What is verified at once; the last piece of an object may be shorter."""
MEMORY_BYTES: Final = 32 * MIB
"""Most that a store keeps in memory of pieces that were read."""

_DIGEST: Final = 32


class Pieces:
    """Verified pieces that were read lately. Safe from any thread.

    Args:
        path: returns the file of content. It is opened for each piece: who reads keeps no descriptor.
        most_bytes: how much is kept.
    """

    def __init__(self, path: Callable[[bytes], Path], most_bytes: int = MEMORY_BYTES) -> None:
        self._path: Final = path
        self._most: Final = most_bytes
        self._kept: Final[OrderedDict[tuple[bytes, int], bytes]] = OrderedDict()
        self._size = 0
        self._lock: Final = threading.Lock()

    def get(self, content: Content, number: int) -> bytes:
        """Return a piece.

        Raises:
            Damaged: the file is not there or too short, or its bytes are others than those that were put.
            OSError: it cannot be read.
        """
        key = content.sha256, number
        with self._lock:
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
                return found
        piece = self._read(content, number)
        if sha256(piece).digest() != content.chunks[number * _DIGEST : (number + 1) * _DIGEST]:
            raise Damaged(
                f"bytes {number * PIECE} to {number * PIECE + len(piece)} of {content.sha256.hex()} are not its own"
            )
        with self._lock:
            if key not in self._kept:
                self._kept[key] = piece
                self._size += len(piece)
            while self._size > self._most:
                self._size -= len(self._kept.popitem(last=False)[1])
        return piece

    def _read(self, content: Content, number: int) -> bytes:
        path = self._path(content.sha256)
        try:
            file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ELOOP, errno.ENOTDIR):
                raise Damaged(f"{path.name} is not there") from None
            raise OSError(errno.EIO, f"{path.name} cannot be opened: {error.strerror}") from None
        try:
            return os.pread(file, min(PIECE, content.size - number * PIECE), number * PIECE)
        finally:
            os.close(file)

    def forget(self, digest: bytes) -> None:
        """Forget what is kept of content that is removed or written anew."""
        with self._lock:
            for key in [key for key in self._kept if key[0] == digest]:
                self._size -= len(self._kept.pop(key))


class LocalReader(Reader):
    """An object of the embedded store, opened; see `Reader`."""

    def __init__(self, info: Info, content: Content, pieces: Pieces, closed: Callable[[], None]) -> None:
        self.info = info
        self._content: Final = content
        self._pieces: Final = pieces
        self._closed: Callable[[], None] | None = closed

    def read_at(self, _caller: Caller, offset: int, into: memoryview) -> int:
        """See `Reader.read_at`."""
        done = 0
        while done < len(into) and offset < self._content.size:
            number, inside = divmod(offset, PIECE)
            try:
                piece = memoryview(self._pieces.get(self._content, number))[inside : inside + len(into) - done]
            except OSError:
                if done:
                    return done  # what is good is given out; asked for the rest, we say what is wrong
                raise
            into[done : done + len(piece)] = piece
            done += len(piece)
            offset += len(piece)
        return done

    def close(self) -> None:
        """See `Reader.close`."""
        closed, self._closed = self._closed, None
        if closed is not None:
            closed()
