"""A request body on its way in: how long it is, how fast it comes, what it may hold."""

from __future__ import annotations

from typing import Final

from pulp_runtime._net.chunked import ChunkedDecoder
from pulp_runtime._net.exchange import Service
from pulp_runtime._net.fault import RequestFault
from pulp_runtime._net.head import HeaderBlock
from pulp_runtime._net.upload import Upload


class BodyReader:
    """Reads one body out of a connection's buffer."""

    __slots__ = ("_decoder", "_length", "_received", "_seen", "_service", "_started")

    def __init__(self, block: HeaderBlock, service: Service, limit: int) -> None:
        """Make a reader for the body that `block` announces.

        Raises:
            RequestFault: 413, its declared length is past `limit`.
        """
        self._service: Final = service
        self._length: Final = block.content_length or 0
        if self._length > limit:
            raise RequestFault(413, "request body too large")
        self._decoder: Final = ChunkedDecoder(limit) if block.chunked else None
        self._started: Final = service.time()
        self._received = 0  # bytes of this body, as they came over the wire
        self._seen = 0  # of these, what still lies in the connection's buffer

    def read(self, buffer: bytearray) -> bytes | None:
        """Take what belongs to the body out of `buffer`; return the body once it is complete.

        Raises:
            RequestFault: 400 malformed chunks, 408 it comes too slowly, 413 it
                is too large, 431 its trailers are, 503 no room for it now.
        """
        self._count(len(buffer) - self._seen)
        if self._decoder is not None:
            data = bytes(buffer)
            buffer.clear()
            rest = self._decoder.feed(data)
            if rest is None:
                return None
            buffer += rest
            return bytes(self._decoder.body)
        length = self._length
        if len(buffer) < length:
            self._seen = len(buffer)
            return None
        with memoryview(buffer) as view:  # a slice of the bytearray would be one copy more
            body = bytes(view[:length])
        del buffer[:length]
        return body

    def release(self) -> None:
        """Give back the room the body took in the count of all connections."""
        self._service.held_bytes -= self._received
        self._received = 0

    def _count(self, size: int) -> None:
        """Count what came, and refuse a body that keeps others from being served."""
        service = self._service
        settings = service.settings
        self._received += size
        service.held_bytes += size
        if service.held_bytes > settings.bodies_bytes:
            raise RequestFault(503, "too many request bodies")
        elapsed = service.time() - self._started
        if elapsed > settings.body_stall_seconds and self._received < elapsed * settings.body_bytes_per_second:
            raise RequestFault(408, "request body too slow")


class UploadReader:
    """Moves one body out of a connection's buffer into an `Upload`, piece by piece."""

    __slots__ = ("_decoder", "_held", "_left", "_service", "_started", "_was_full", "upload")

    def __init__(self, block: HeaderBlock, service: Service, upload: Upload, limit: int) -> None:
        """Make a reader for the body that `block` announces.

        Raises:
            RequestFault: 413, its declared length is past `limit`.
        """
        self._left = block.content_length or 0
        if self._left > limit:
            raise RequestFault(413, "request body too large")
        self._decoder: Final = ChunkedDecoder(limit) if block.chunked else None
        self._service: Final = service
        self._started: Final = service.time()
        self._held = 0  # bytes counted as held for all connections
        self._was_full = False  # then its pace was ours, at least for a while
        self.upload: Final = upload

    def read(self, buffer: bytearray) -> None:
        """Take what belongs to the body out of `buffer`; the upload is complete when its end was there.

        Raises:
            RequestFault: see `BodyReader.read`.
        """
        if self._decoder is not None:
            data = bytes(buffer)
            buffer.clear()
            rest = self._decoder.feed(data)
            self.upload.feed(self._decoder.take())
            complete = rest is not None
            buffer += rest or b""
        else:
            piece = bytes(buffer[: self._left])
            del buffer[: len(piece)]
            self._left -= len(piece)
            self.upload.feed(piece)
            complete = not self._left
        self.count()
        if complete:
            self.upload.finish()
            return
        settings = self._service.settings
        if self._service.held_bytes > settings.bodies_bytes:
            raise RequestFault(503, "too many request bodies")
        elapsed = self._service.time() - self._started
        slow = self.upload.size < elapsed * settings.body_bytes_per_second
        if slow and elapsed > settings.body_stall_seconds and not self._was_full:
            raise RequestFault(408, "request body too slow")

    def count(self) -> None:
        """Bring the count of bytes held for all connections up to date."""
        waiting = 0 if self.upload.over and not self.upload.complete else self.upload.waiting
        self._service.held_bytes += waiting - self._held
        self._held = waiting
        self._was_full = self._was_full or self.upload.full

    def release(self) -> None:
        """Give back the room the body took in the count of all connections."""
        self._service.held_bytes -= self._held
        self._held = 0
