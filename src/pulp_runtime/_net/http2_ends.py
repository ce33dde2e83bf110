"""How streams and connections of HTTP/2 end: by the client, by time, by a fault."""

from __future__ import annotations

from h2.errors import ErrorCodes

from pulp_runtime._net.exchange import Service
from pulp_runtime._net.fault import RequestFault
from pulp_runtime._net.http2_answers import Http2Answers
from pulp_runtime._net.http2_stream import Exchange


class Http2Ends(Http2Answers):
    """Deadlines, which the listener's sweep looks at once a second, and what follows them."""

    __slots__ = ("_block", "_swept")

    def __init__(self, service: Service) -> None:
        super().__init__(service)
        self._swept = False  # the sweep was here since the end began
        self._block = (0, 0.0)  # the stream whose header block has not ended, and since when

    def _break_body(self, exchange: Exchange, fault: RequestFault) -> None:
        """Tell whoever waits for a body that the rest will not come."""
        raise NotImplementedError

    def _drop(self, exchange: Exchange, reason: str) -> None:
        """Give up a stream that the client has given up, and tell its application."""
        self._forget(exchange, reason)
        if exchange.stream is not None:
            exchange.stream.lost()
        request, exchange.request = exchange.request, None
        if request is not None and self._service.on_disconnect is not None:
            self._service.on_disconnect(request)

    def _drop_all(self) -> None:
        for exchange in list(self._exchanges.values()):
            self._drop(exchange, "the client is gone")
        self._ready.clear()

    def _fail(self, code: int | None, reason: str = "") -> None:
        """End the connection; without a code, `h2` has already said why."""
        self._ended = True
        transport = self._transport
        if not transport.is_closing():
            if code is None:
                self._write()
            else:
                self._go_away(code, reason.encode())
        self._drop_all()
        self._linger()

    # -- time

    def expire(self, now: float) -> None:
        """Look after everything that has a deadline; called by the sweep."""
        if self._ended:
            if not self._takes(now):
                self._transport.abort()
            return
        self._expire_socket(now)
        self._expire_block(now)
        if self._ended:
            return
        if self._closing and self._swept:
            self._say_goodbye()
        self._swept = self._closing
        if self._exchanges:
            self._expire_exchanges(now)
            return
        self._idle_since = self._idle_since or now
        if now - self._idle_since >= self.idle_seconds:
            self.close_when_idle()

    def _expire_socket(self, now: float) -> None:
        """Abort a client whose socket takes nothing."""
        unsent = self._transport.get_write_buffer_size()
        if not unsent or unsent < self._unsent:
            self._moved = now
        self._unsent = unsent
        if now - self._moved >= self._service.settings.write_stall_seconds:
            self._transport.abort()

    def _expire_block(self, now: float) -> None:
        """End a client whose preface, or a header block, is not complete in time."""
        stream = self._gate.block_stream
        if (self._gate.greeted and not stream) or stream != self._block[0]:
            self._block = (stream, now)
        elif now - self._block[1] >= self._service.settings.header_seconds:
            self._fail(ErrorCodes.ENHANCE_YOUR_CALM, "a header block takes too long")

    def _expire_exchanges(self, now: float) -> None:
        """End the streams whose client sends nothing, or gives no window."""
        stall = self._service.settings.write_stall_seconds
        whole = self._h2.outbound_flow_control_window <= 0  # then each waits for the window of all
        for exchange in list(self._exchanges.values()):
            since = self._sent if whole else exchange.moved
            if exchange.number in self._blocked and not self._write_paused and now - since >= stall:
                self._reset(exchange, ErrorCodes.CANCEL)
                if exchange.stream is not None:
                    exchange.stream.lost()
            elif exchange.body is not None and not exchange.ended:
                try:
                    exchange.body.check(now)
                except RequestFault as fault:
                    self._break_body(exchange, fault)
