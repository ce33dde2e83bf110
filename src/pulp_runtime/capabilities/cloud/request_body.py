"""The body of a request, as one stream that all files of `/request` and standard input share.

A body of at most 64 KiB whose length was announced is here before its program is: every file that is opened has it from
its beginning, and can be read again. Any other is a stream with one position: what was read by one is gone for all.
"""

from __future__ import annotations

import errno
from typing import Final

from pulp_runtime._net.upload import Upload, UploadBroken
from pulp_runtime.capabilities.cloud.signal import Signal
from pulp_runtime.ext.nodes import Bytes
from pulp_runtime.ext.tree import File, Wake

HELD_BYTES: Final = 64 * 1024
"""Longest announced body that is waited for before its program is started."""


class RequestBody:
    """One body.

    Args:
        held: all of it, when there is no upload.
        upload: of a body that arrives while it is read.
        most: bytes that `whole` gathers.

    Attributes:
        held: see above.
        is_held: whether all of it is in `held`.
    """

    __slots__ = ("_arrived", "_gathered", "_most", "_size", "_taken", "_upload", "held", "is_held")

    def __init__(self, held: bytes, upload: Upload | None = None, *, most: int = 0) -> None:
        self.held = held
        self.is_held = upload is None
        self._upload: Final = upload
        self._most: Final = most
        self._arrived: Final = Signal()
        self._gathered: list[bytes] = []
        self._size = 0
        self._taken = False
        if upload is not None:
            upload.on_change = self._arrived.fire

    def open(self) -> File:
        """Return a file of it."""
        return Bytes(self.held) if self._upload is None or self.is_held else BodyFile(self)

    def read(self, size: int) -> bytes:
        """Return the next bytes, b"" at the end.

        Raises:
            BlockingIOError: none are here yet.
            OSError: `EIO`, the rest will not come; `EBUSY`, they are being gathered for `json`.
        """
        if self._gathered and not self._taken:
            raise OSError(errno.EBUSY, "the body is being read by json")
        self._taken = True
        return self._next(size)

    def whole(self) -> bytes:
        """Return all of it.

        Raises:
            BlockingIOError: it is not all here yet.
            OSError: `EBUSY`, some of it has been read already; `EFBIG`, it is too long; `EIO`, the rest will not come.
        """
        if self.is_held:
            return self.held
        if self._taken:
            raise OSError(errno.EBUSY, "some of the body has been read already")
        while self._size <= self._most and (piece := self._next(self._most + 1)):
            self._size += len(piece)
            self._gathered.append(piece)
        if self._size > self._most:
            self._gathered = [b""]
            raise OSError(errno.EFBIG, f"a body of more than {self._most} bytes: read it as a stream")
        self.held, self.is_held = b"".join(self._gathered), True
        return self.held

    def _next(self, size: int) -> bytes:
        upload = self._upload
        if upload is None or self.is_held:
            return b""
        try:
            return upload.read(size, 0.0)
        except TimeoutError:
            raise BlockingIOError(errno.EAGAIN, "nothing has arrived") from None
        except UploadBroken as error:
            raise OSError(errno.EIO, str(error)) from None

    def ready(self) -> int | None:
        """Return how many bytes could be read at once, 0 if unknown, None while that would wait."""
        upload = self._upload
        if upload is None or self.is_held:
            return 0
        return upload.waiting or (0 if upload.over else None)

    def watch(self, wake: Wake) -> Wake:
        """See `File.watch`."""
        return self._arrived.watch(wake)


class BodyFile(File):
    """A body as a stream, behind a few bytes that come first."""

    def __init__(self, body: RequestBody, first: bytes = b"") -> None:
        self._body: Final = body
        self._first = first

    def read(self, size: int) -> bytes:
        """See `File.read`."""
        if self._first:
            piece, self._first = self._first[:size], self._first[size:]
            return piece
        return self._body.read(size)

    def ready(self, *, write: bool = False) -> int | None:
        """See `File.ready`."""
        return 0 if write else len(self._first) or self._body.ready()

    def watch(self, wake: Wake) -> Wake:
        """See `File.watch`."""
        return self._body.watch(wake)
