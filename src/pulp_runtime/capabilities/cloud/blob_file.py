"""Objects that a program has open."""

from __future__ import annotations

import errno
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from pulp_runtime.blobs.bucket import MIB, Reader, Writer
from pulp_runtime.capabilities.cloud.blob_view import View, missing
from pulp_runtime.ext.tree import File, How, Kind, Stat

COPY_BYTES: Final = MIB
"""How much is copied at a time when a program changes an object in place."""


class Reading(File):
    """An object that is read: as it was when it was opened."""

    seekable = True

    def __init__(self, view: View, reader: Reader) -> None:
        self._view: Final = view
        self._reader: Final = reader

    def read_at(self, offset: int, into: memoryview) -> int:
        """See `File.read_at`."""
        view = self._view
        if not view.bucket.remote:  # what programs do most costs no context
            try:
                return self._reader.read_at(view.caller, offset, into)
            except OSError as error:
                view.told(error)
                raise
        with view.asking() as caller:
            return self._reader.read_at(caller, offset, into)

    def stat(self) -> Stat:
        """See `File.stat`."""
        return self._view.stat(self._reader.info)

    def close(self) -> None:
        """See `File.close`."""
        self._reader.close()


class Writing(File):
    """An object that is being put when it is closed, if the program does not come to a bad end before.

    Opened without truncating, it begins with what is there; that is copied when the first change is made, and putting
    it is conditional on nobody having been faster.
    """

    seekable = True

    def __init__(self, view: View, name: str, base: Reader | None, writer: Writer | None, *, reads: bool) -> None:
        self._view: Final = view
        self._name: Final = name
        self._base = base
        self._writer = writer
        self._reads: Final = reads
        self._failed: OSError | None = None

    def _changing(self) -> Writer:
        if self._writer is not None:
            return self._writer
        base = self._base
        assert base is not None  # noqa: S101  # one of the two is always there
        with self._view.asking(slow=True) as caller:
            writer = self._view.bucket.write(caller, self._name, base=base.info.version)
            try:
                buffer = memoryview(bytearray(min(COPY_BYTES, base.info.size)))
                while writer.size < base.info.size:
                    caller.hurry()
                    writer.write_at(caller, writer.size, buffer[: base.read_at(caller, writer.size, buffer)])
            except BaseException:
                writer.abandon()
                raise
        base.close()
        self._writer, self._base = writer, None
        return writer

    def read_at(self, offset: int, into: memoryview) -> int:
        """See `File.read_at`."""
        if not self._reads:
            raise OSError(errno.EBADF, "not open for reading")
        with self._view.asking() as caller:
            return (self._writer or self._readable()).read_at(caller, offset, into)

    def _readable(self) -> Reader:
        if self._base is None:
            raise OSError(errno.EBADF, "closed")
        return self._base

    def write_at(self, offset: int, data: memoryview) -> int:
        """See `File.write_at`."""
        view, writer = self._view, self._writer
        if writer is not None and not view.bucket.remote:
            try:
                return writer.write_at(view.caller, offset, data)
            except OSError as error:
                self._failed = error
                view.told(error)
                raise
        with self._whole():
            writer = self._changing()
            with self._view.asking() as caller:
                return writer.write_at(caller, offset, data)

    def append(self, data: memoryview) -> int:
        """See `File.append`."""
        with self._whole():
            size = self._changing().size
        return self.write_at(size, data)

    def truncate(self, size: int) -> None:
        """See `File.truncate`."""
        if size == self._size():
            return
        with self._whole():
            writer = self._changing()
            with self._view.asking() as caller:
                writer.truncate(caller, size)

    @contextmanager
    def _whole(self) -> Iterator[None]:
        """Remember that something of the object is missing: then it is not put, also if the program does not care."""
        try:
            yield
        except OSError as error:
            self._failed = error
            raise

    def _size(self) -> int:
        return self._writer.size if self._writer is not None else self._readable().info.size

    def stat(self) -> Stat:
        """See `File.stat`."""
        if self._writer is None:
            return self._view.stat(self._readable().info)
        now = time.time_ns()
        return Stat(Kind.FILE, size=self._writer.size, device=self._view.device, modified_ns=now, changed_ns=now)

    def close(self) -> None:
        """See `File.close`; what it raises means that nothing has been put."""
        if self._failed is not None:
            self.abandon()
            raise OSError(self._failed.errno, f"not put, for a write has failed: {self._failed.strerror}")
        if self._base is not None:
            self._base.close()
        if self._writer is not None:
            with self._view.asking(slow=True) as caller:
                self._writer.commit(caller)

    def abandon(self) -> None:
        """See `File.abandon`."""
        if self._base is not None:
            self._base.close()
        if self._writer is not None:
            self._writer.abandon()


def open_object(view: View, name: str, how: How) -> File | None:
    """Open an object, None if there is none and none is to be made.

    Raises:
        OSError: see `pulp_runtime.blobs.bucket`; `EROFS` it would change a bucket that is granted read-only.
    """
    if not how.changes:
        try:
            with view.asking() as caller:
                reader = view.bucket.read(caller, name)
        except OSError as error:
            if error.errno == errno.EINVAL:
                return None  # no object can have that name
            raise
        return None if reader is None else Reading(view, reader)
    view.may_change()
    with view.asking() as caller:
        if how.create and how.exclusive:
            return Writing(view, name, None, view.bucket.write(caller, name, exclusive=True), reads=how.read)
        if how.truncate and how.create:
            return Writing(view, name, None, view.bucket.write(caller, name), reads=how.read)
        base = view.bucket.read(caller, name)
        if base is None and not how.create:
            raise missing()
        if base is None or how.truncate:
            if base is not None:
                base.close()
            return Writing(view, name, None, view.bucket.write(caller, name), reads=how.read)
        return Writing(view, name, base, None, reads=how.read)
