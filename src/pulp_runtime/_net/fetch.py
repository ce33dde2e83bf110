"""HTTP requests of one cell: connections dialled through the guard and used again, redirects followed, bodies decoded.

    FetchClient.open ─▶ pool or dial ─▶ send ─▶ head ─┬─ redirect: once more, through the guard
                                                      └─ FetchStream: read, read, ... ─▶ pool

Whatever waits, waits with a `Patience`: a deadline for the whole exchange, whichever part of it drips.
"""

from __future__ import annotations

import threading
from typing import Final

from pulp_runtime._net.dial import Dialer
from pulp_runtime._net.dial_patience import DialFault, OutOfTime, Patience
from pulp_runtime._net.dial_wire import Wire
from pulp_runtime._net.fetch_decode import Decoder, Plain, decoder_for
from pulp_runtime._net.fetch_pool import WirePool
from pulp_runtime._net.fetch_reply import ReplyReader
from pulp_runtime._net.fetch_request import FetchRequest

REDIRECTS: Final = 20
_RECV_BYTES: Final = 64 * 1024
_RECV_MANY_BYTES: Final = 256 * 1024
_DRAIN_BYTES: Final = 2 * 1024
"""Body of a redirect that is read so that its connection can be used again."""


class _Broken(DialFault):
    """A connection that had been idle broke before it brought a byte: the request may not have arrived."""


class FetchStream:
    """A response whose body is read as it comes. One thread at a time; `close` from any.

    Attributes:
        status: 200..999.
        fields: canonical name to first value; several `Set-Cookie` are one, joined by newlines.
        length: bytes of body as they are read, None when the server did not say, or they are decoded.
        patience: how long the whole of it may take.
    """

    def __init__(self, wire: Wire, reply: ReplyReader, request: FetchRequest, pool: WirePool, patience: Patience):
        self.status: Final = reply.status
        self.fields: Final = reply.fields
        self._over = False
        self._wire: Wire | None = wire
        self._reply: Final = reply
        self._url: Final = request.url
        self._pool: Final = pool
        self.patience: Final = patience
        self._kept = b""
        self._lock: Final = threading.Lock()
        self._closed = False
        self._decoder: Final = self._choose(request)
        self.length: Final = reply.length if isinstance(self._decoder, Plain) and not reply.complete else None

    @property
    def ended(self) -> bool:
        """Whether the last byte has been read."""
        return self._over and not self._kept

    def _choose(self, request: FetchRequest) -> Decoder:
        decoder = decoder_for(self.fields.get("Content-Encoding", "")) if request.decode else None
        if decoder is None:
            return Plain()
        for name in ("Content-Encoding", "Content-Length"):
            self.fields.pop(name, None)
        return decoder

    def read(self, most: int, patience: Patience | None = None) -> bytes:
        """Wait for the next bytes of the body; return 1 to `most` of them, none at its end.

        Args:
            most: at least 1.
            patience: whose time it is; by default the stream's own.

        Raises:
            DialFault: the rest will not come, or time is up. After `OutOfTime` it may be tried again.
        """
        with self._lock:
            while (data := self._read_ready(most)) is None:
                self._wire_open().wait(patience or self.patience)
            return data

    def read_now(self, most: int) -> bytes | None:
        """Return what `read` would, without waiting: None when nothing is there; then wait for `fileno` to be ready.

        Raises:
            DialFault: as `read`.
        """
        with self._lock:
            self.patience.slice()
            return self._read_ready(most)

    @property
    def seconds_left(self) -> float | None:
        """Seconds of its timeout that are left, None when it has none; for who waits for `fileno` and not in `read`."""
        return self.patience.seconds_left

    def fileno(self) -> int:
        """Return the descriptor that becomes readable when there may be more; -1 when there is none any more."""
        wire = self._wire
        return -1 if wire is None else wire.fileno()

    def unread(self, data: bytes) -> None:
        """Put back what was read last."""
        self._kept = data + self._kept

    def _read_ready(self, most: int) -> bytes | None:
        """Return bytes, b"" at the end, None to wait."""
        if self._kept:
            kept, self._kept = self._kept[:most], self._kept[most:]
            return kept
        if self._over:
            return b""
        reply, decoder = self._reply, self._decoder
        try:
            while not (out := decoder.take(most)):
                if data := reply.take():
                    decoder.put(data)
                elif reply.complete:
                    decoder.finish()
                    self._finish()
                    return b""
                else:
                    received = self._wire_open().recv_now(max(_RECV_BYTES, min(most, _RECV_MANY_BYTES)))
                    self._wire_open()
                    if received is None:
                        return None
                    if received:
                        reply.feed(received)
                    else:
                        reply.feed_end()
        except DialFault:
            self._drop()
            raise
        if reply.taken and decoder.empty:
            self._finish()
        return out

    def _wire_open(self) -> Wire:
        if self._wire is None or self._closed:
            raise DialFault("the stream is closed")
        return self._wire

    def _finish(self) -> None:
        """Give the connection back: the whole response has been read."""
        self._over = True
        wire, self._wire = self._wire, None
        if wire is not None and self._reply.reusable and not self._closed:
            self._pool.give(self._url, wire)
        elif wire is not None:
            wire.close()

    def _drop(self) -> None:
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.close()

    def drain(self) -> None:
        """Read what is left if it is here and little, so that the connection can be used again; then close."""
        try:
            left = _DRAIN_BYTES
            while not self.ended and left > 0 and (data := self.read_now(left)):
                left -= len(data)
        except DialFault:
            pass
        self.close()

    def close(self) -> None:
        """Give up the rest. May be called again, and while another thread reads: that one then fails."""
        self._closed = True
        if self._lock.acquire(blocking=False):
            try:
                self._drop()
            finally:
                self._lock.release()
        elif (wire := self._wire) is not None:
            wire.interrupt()


class FetchClient:
    """Makes the requests of one cell.

    Args:
        dialer: opens its connections.
    """

    def __init__(self, dialer: Dialer) -> None:
        self._dialer: Final = dialer
        self.pool: Final = WirePool()

    @property
    def closed(self) -> bool:
        """Whether the cell is gone; what waits for the network then gives up."""
        return self.pool.closed

    def open(self, request: FetchRequest, patience: Patience, stream_patience: Patience | None = None) -> FetchStream:
        """Send a request, follow redirects, and return the response once its head is here.

        Args:
            request: see `prepare`.
            patience: for all of it until then.
            stream_patience: for the body; `patience` by default.

        Raises:
            EgressRefused: it, or a redirect, leads where the cell may not go.
            UrlInvalid: a redirect leads nowhere.
            DialFault: anything else.
        """
        for _ in range(REDIRECTS + 1):
            stream = self._exchange(request, patience, stream_patience or patience)
            try:
                following = request.redirected(stream.status, stream.fields.get("Location", ""))
            except BaseException:
                stream.close()
                raise
            if following is None:
                return stream
            stream.drain()
            request = following
        raise DialFault(f"more than {REDIRECTS} redirects")

    def _exchange(self, request: FetchRequest, patience: Patience, stream_patience: Patience) -> FetchStream:
        wire = self.pool.take(request.url)
        if wire is not None:
            try:
                return self._ask(wire, request, patience, stream_patience, used=True)
            except _Broken:
                if not request.repeatable:
                    raise
        return self._ask(self._dialer.dial(request.url, patience), request, patience, stream_patience, used=False)

    def _ask(
        self, wire: Wire, request: FetchRequest, patience: Patience, stream_patience: Patience, *, used: bool
    ) -> FetchStream:
        """Send the request and read the head of the response."""
        reply = ReplyReader(request.method)
        received = False
        try:
            sent = _send(wire, request, patience)
            while not reply.status:
                data = wire.recv(_RECV_BYTES, patience)
                received = received or bool(data)
                if data:
                    reply.feed(data)
                else:
                    reply.feed_end()
            reply.reusable = reply.reusable and sent
        except DialFault as fault:
            wire.close()
            if used and not received:
                raise _Broken(str(fault)) from None
            raise
        except BaseException:
            wire.close()
            raise
        return FetchStream(wire, reply, request, self.pool, stream_patience)

    def close(self) -> None:
        """Close the idle connections; requests in progress give up."""
        self.pool.close()


def _send(wire: Wire, request: FetchRequest, patience: Patience) -> bool:
    """Send a request; return whether all of it went. A server may answer before it has read all, and close."""
    head, body = request.render()
    try:
        if len(body) < _RECV_BYTES:
            return wire.send(head + body, patience)
        return wire.send(head, patience) and wire.send(body, patience)
    except OutOfTime:
        raise
    except DialFault:
        return False
