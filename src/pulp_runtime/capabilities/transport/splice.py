"""A fetched response passed on to a client as it comes, on the loop: no thread waits for either of them."""

from __future__ import annotations

import asyncio
from typing import Final

from pulp_runtime._net.dial_patience import DialFault
from pulp_runtime._net.exchange import Request
from pulp_runtime._net.fetch import FetchStream
from pulp_runtime._net.response import RenderedFields
from pulp_runtime._net.stream import ResponseStream
from pulp_runtime.log import Log

CHUNK_BYTES: Final = 32 * 1024
CHUNKS_AT_ONCE: Final = 32


def splice(
    request: Request, fields: RenderedFields, source: FetchStream, loop: asyncio.AbstractEventLoop, log: Log
) -> None:
    """Begin an answer and pass `source` on until it ends, breaks off, or the client leaves; then close it."""
    sink = request.connection.begin(request, fields)
    if sink is None:
        source.close()
    else:
        _Splice(sink, source, loop, log).go_on()


class _Splice:
    def __init__(self, sink: ResponseStream, source: FetchStream, loop: asyncio.AbstractEventLoop, log: Log) -> None:
        self._sink: Final = sink
        self._source: Final = source
        self._loop: Final = loop
        self._log: Final = log
        self._watched = -1
        sink.on_room = self.go_on
        sink.on_close = self._stop

    def go_on(self) -> None:
        """Pass on what is there; come back when there is more, or room for more."""
        self._unwatch()
        if self._sink.closed:
            return
        try:
            for _ in range(CHUNKS_AT_ONCE):
                if self._sink.full:
                    return
                data = self._source.read_now(CHUNK_BYTES)
                if data is None:
                    self._watch()
                    return
                if not data:
                    self._stop()
                    self._sink.end()
                    return
                self._sink.write(data)
            self._loop.call_soon(self.go_on)  # others want the loop too
        except DialFault as fault:
            self._log.warning("fetched answer broke off", reason=str(fault))
            self._stop()
            self._sink.abort()

    def _watch(self) -> None:
        self._watched = self._source.fileno()
        self._loop.add_reader(self._watched, self.go_on)

    def _unwatch(self) -> None:
        if self._watched >= 0:
            self._loop.remove_reader(self._watched)
            self._watched = -1

    def _stop(self) -> None:
        self._unwatch()
        self._source.close()
