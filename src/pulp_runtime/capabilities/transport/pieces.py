"""An answer that a cell writes in pieces: the cell's thread on one side, the loop and a slow client on the other."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from typing import Final

from pulp_runtime._net.exchange import Request
from pulp_runtime._net.response import RenderedFields
from pulp_runtime._net.stream import ResponseStream

HIGH_BYTES: Final = 256 * 1024
"""Bytes that wait for the loop or the client before a writer has to wait."""


class Pieces:
    """One answer on its way. `write`, `end` and `abort` are safe from any thread.

    Args:
        request: what is answered.
        fields: the head, which is sent at once.
        owner: id of the cell that answers.
        loop: the host's.
        gone: called on the loop when the client has left before the end.
    """

    def __init__(
        self,
        request: Request,
        fields: RenderedFields,
        owner: str,
        loop: asyncio.AbstractEventLoop,
        gone: Callable[[], None],
    ) -> None:
        self.owner: Final = owner
        self._request: Final = request
        self._fields: Final = fields
        self._loop: Final = loop
        self._gone: Final = gone
        self._changed: Final = threading.Condition()
        self._queue: Final[deque[bytes]] = deque()
        self._waiting = 0
        self._ending = self._closed = self._scheduled = False
        self._stream: ResponseStream | None = None
        self._schedule(self._begin)

    def write(self, data: bytes, seconds: float) -> bool:
        """Queue a piece; wait up to `seconds` while more than 256 KiB are queued. False: nobody will take it."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._waiting <= HIGH_BYTES or self._closed, seconds):
                return False
            if self._closed:
                return False
            self._queue.append(data)
            self._waiting += len(data)
            if self._scheduled:
                return True
            self._scheduled = True
        self._schedule(self._flush)
        return True

    def end(self) -> None:
        """End the answer behind the last piece."""
        self._ending = True
        self._schedule(self._flush)

    def abort(self) -> None:
        """Break the answer off, so that the client knows it is not complete."""
        self._schedule(self._abort)

    def _schedule(self, callback: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(callback)
        except RuntimeError:  # the loop is closed, and with it every connection
            self._close()

    # On the loop ------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        stream = self._request.connection.begin(self._request, self._fields)
        if stream is None:
            self._lost()
            return
        self._stream = stream
        stream.on_room = self._flush
        stream.on_close = self._lost
        self._flush()

    def _flush(self) -> None:
        stream = self._stream
        if stream is None or self._closed:
            return
        with self._changed:
            self._scheduled = False
            while self._queue and not stream.full:
                piece = self._queue.popleft()
                self._waiting -= len(piece)
                stream.write(piece)
            self._changed.notify_all()
        if self._ending and not self._queue:
            self._close()
            stream.end()

    def _abort(self) -> None:
        self._close()
        if self._stream is not None:
            self._stream.abort()

    def _lost(self) -> None:
        self._close()
        self._gone()

    def _close(self) -> None:
        with self._changed:
            self._closed = True
            self._queue.clear()
            self._changed.notify_all()
