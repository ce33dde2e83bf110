"""An HTTP/1 answer in pieces."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from pulp_runtime._net.response import Framing
from pulp_runtime._net.stream import ResponseStream


class Http1Stream(ResponseStream):
    """The rest of an answer, on the connection's own transport.

    Args:
        transport: where to.
        framing: how the end of the body is told.
        length: what was announced, for `Framing.LENGTH`.
        ended: called after the last byte, with whether the connection can go on.
    """

    def __init__(
        self, transport: asyncio.Transport, framing: Framing, length: int, ended: Callable[[bool], None]
    ) -> None:
        super().__init__()
        self._transport = transport
        self._framing = framing
        self._left = length
        self._ended = ended

    @property
    def waiting(self) -> int:
        """See `ResponseStream`."""
        return self._transport.get_write_buffer_size()

    def write(self, data: bytes) -> None:
        """See `ResponseStream`. Of a body longer than announced the rest is dropped: it would be the next answer."""
        if self.closed or not data or self._framing is Framing.NONE:
            return
        if self._framing is Framing.CHUNKED:
            self._transport.write(b"%x\r\n%s\r\n" % (len(data), data))
            return
        if self._framing is Framing.LENGTH:
            data = data[: self._left]
            self._left -= len(data)
        self._transport.write(data)

    def end(self) -> None:
        """See `ResponseStream`. A body shorter than announced breaks the connection off."""
        if self.closed:
            return
        if self._framing is Framing.LENGTH and self._left:
            self.abort()
            return
        self.closed = True
        if self._framing is Framing.CHUNKED:
            self._transport.write(b"0\r\n\r\n")
        self._ended(self._framing is not Framing.CLOSE)

    def abort(self) -> None:
        """See `ResponseStream`."""
        if not self.closed:
            self.closed = True
            self._transport.abort()

    def lost(self) -> None:
        """Note that the client is gone."""
        if not self.closed:
            self.closed = True
            self.on_close()

    def set_full(self, full: bool) -> None:
        """Note that the client fell behind, or caught up."""
        self.full = full
        if not full and not self.closed:
            self.on_room()
