"""One WebSocket to a server (RFC 6455): the handshake on the thread that asked for it, then frames on the loop.

    worker   shake_hands ─▶ WebSocketWire ─▶ send ──┐ under one lock,
    loop     start ─▶ readable ─▶ arrived ◀─────────┘ never held while anybody waits

Frames are `websockets`' own; no extension is offered, so nothing arrives compressed. What the cell has not taken yet
is bounded: past it the server is not read. So is what the server has not taken: past it the cell waits.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Mapping
from typing import Final

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidStatus, WebSocketException
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.uri import WebSocketURI

from pulp_runtime._net.dial_patience import DialFault, Patience
from pulp_runtime._net.dial_wire import Wire
from pulp_runtime._net.fetch_request import USER_AGENT
from pulp_runtime._net.fetch_url import Url

MESSAGE_BYTES: Final = 8 * 1024 * 1024
"""Longest message, either way. A longer one from the server ends the connection with 1009."""
ARRIVED_BYTES: Final = 1024 * 1024
"""Bytes that may wait for the cell. Past it the server is not read."""
UNSENT_BYTES: Final = 1024 * 1024
"""Bytes that may wait for the server. Past it the next `send` waits."""
HANDSHAKE_BYTES: Final = 128 * 1024
CLOSE_SECONDS: Final = 5.0
"""How long the server has to answer a close."""
_RECV_BYTES: Final = 16 * 1024
"""Read at once: eight thousand frames without content, which keep the loop for tens of milliseconds."""
_SILENT: Final = logging.Logger("websocket", logging.CRITICAL + 1)
"""What goes over the connection is in no log, however much the program around us wants to know."""
_DATA: Final = frozenset({Opcode.TEXT, Opcode.BINARY, Opcode.CONT})
_HANDSHAKES_OWN: Final = "Sec-Websocket-"


class Ended(DialFault):
    """The connection has ended."""


def shake_hands(wire: Wire, url: Url, fields: Mapping[str, str], patience: Patience) -> ClientProtocol:
    """Do the opening handshake; return the protocol, open.

    Args:
        wire: a fresh connection to where `url` points.
        url: its target is what is asked for.
        fields: canonical name to value. Of the handshake's own only `Sec-WebSocket-Protocol` has an effect.
        patience: for the whole of it.

    Raises:
        DialFault: the server does not agree, or time is up.
    """
    path, _, query = url.target.partition("?")
    wanted = fields.get("Sec-Websocket-Protocol", "")
    protocol = ClientProtocol(
        WebSocketURI(url.secure, url.host, url.port, path, query),
        subprotocols=[word.strip() for word in wanted.split(",") if word.strip()] or None,  # type: ignore[misc]
        max_size=MESSAGE_BYTES,
        logger=_SILENT,
    )
    request = protocol.connect()
    for name, value in {"User-Agent": USER_AGENT, **fields}.items():
        if not name.startswith(_HANDSHAKES_OWN) and value:
            request.headers[name] = value
    protocol.send_request(request)
    if not wire.send(b"".join(protocol.data_to_send()), patience):
        raise DialFault("the server spoke before it was asked")
    received = 0
    while protocol.state is State.CONNECTING and protocol.handshake_exc is None:
        data = wire.recv(_RECV_BYTES, patience)
        received += len(data)
        if received > HANDSHAKE_BYTES and protocol.state is State.CONNECTING:
            raise DialFault("handshake is too long")
        if data:
            protocol.receive_data(data)
        else:
            protocol.receive_eof()
    if protocol.handshake_exc is not None:
        raise DialFault(_reason(protocol.handshake_exc))
    return protocol


def _reason(error: Exception) -> str:
    if isinstance(error, InvalidStatus):
        return f"handshake: the server answered {error.response.status_code}"
    what = str(error) if isinstance(error, WebSocketException) else type(error).__name__
    return f"handshake: {what[:120]}"


class WebSocketWire:
    """An open WebSocket.

    Args:
        wire: the connection.
        protocol: by `shake_hands`.
        heard: called on the loop when something has arrived, or the connection has ended.
        defer: has a callback run on the loop.

    Attributes:
        ended: why there is no connection any more; "" while there is one.
    """

    def __init__(
        self,
        wire: Wire,
        protocol: ClientProtocol,
        heard: Callable[[], None],
        defer: Callable[[Callable[[], None]], None],
    ) -> None:
        self.ended = ""
        self._wire: Final = wire
        self._protocol: Final = protocol
        self._heard: Final = heard
        self._defer: Final = defer
        self._changed: Final = threading.Condition()
        self._arrived: Final = bytearray()
        self._unsent: Final = bytearray()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._reading = self._writing = self._lingering = False

    # From any thread --------------------------------------------------------------------------------------------

    def send(self, data: bytes, patience: Patience) -> None:
        """Send a binary message; wait while the server is behind.

        Raises:
            Ended: there is no connection any more.
            DialFault: the message is too long, or time is up: nothing of it has been sent.
        """
        if len(data) > MESSAGE_BYTES:
            raise DialFault(f"message over {MESSAGE_BYTES:,} bytes")
        with self._changed:
            while len(self._unsent) >= UNSENT_BYTES and not self.ended:
                self._changed.wait(patience.slice())
            if self.ended or self._protocol.state is not State.OPEN:
                raise Ended(self.ended or "closing")
            self._protocol.send_binary(data)
            fault = self._flush()
        if fault or self._unsent:
            self._defer(self._look_again)
        if fault:
            raise Ended(fault)

    def close(self, code: int = 1000) -> None:
        """Say goodbye; the connection ends when the server has answered, or after a while."""
        with self._changed:
            if not self.ended and self._protocol.state is State.OPEN:
                self._protocol.send_close(code)
                self._flush()
        self._defer(self._look_again)

    @property
    def waiting(self) -> bool:
        """Whether something has arrived that was not taken."""
        return bool(self._arrived)

    def peek(self, most: int) -> bytes:
        """Return the first bytes that have arrived."""
        with self._changed:
            return bytes(self._arrived[:most])

    # On the loop ------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to read."""
        self._loop = asyncio.get_running_loop()
        with self._changed:
            self._collect()  # what came together with the handshake
        self._look_again()
        if self.waiting:
            self._heard()

    def take(self, size: int) -> None:
        """Forget so many of the bytes that have arrived."""
        with self._changed:
            del self._arrived[:size]
        self._watch()

    def drop(self, reason: str) -> None:
        """End the connection at once; what has arrived can still be taken."""
        with self._changed:
            if self.ended:
                return
            self.ended = reason
            self._watch()
            self._wire.close()
            self._changed.notify_all()
        self._heard()

    def _look_again(self) -> None:
        """Send what is left, end if it is time to, else watch for what we can use now."""
        if self.ended or self._loop is None:
            return
        with self._changed:
            fault = self._flush()
            self._changed.notify_all()
        protocol = self._protocol
        if fault:
            self.drop(fault)
        elif protocol.state is State.OPEN:
            self._watch()
        elif protocol.state is State.CLOSED or (protocol.close_rcvd and protocol.close_sent and not self._unsent):
            self.drop("closed")
        else:
            self._watch()
            if not self._lingering:
                self._lingering = True
                self._loop.call_later(CLOSE_SECONDS, self.drop, "the server did not answer the close")

    def _readable(self) -> None:
        if self.ended or not self._reading:
            return
        had = self.waiting
        try:
            with self._changed:
                data = self._wire.recv_now(_RECV_BYTES)
                if data:
                    self._protocol.receive_data(data)
                elif data is not None:
                    self._protocol.receive_eof()
                self._collect()
        except DialFault as fault:
            self.drop(str(fault))
            return
        self._look_again()
        if self._wire.pending and self._loop is not None:
            self._loop.call_soon(self._readable)  # TLS has more than the socket shows
        if self.waiting and not had:
            self._heard()

    def _watch(self) -> None:
        """Have the loop watch for what we can use now; nothing once it has ended."""
        loop, fd = self._loop, self._wire.fileno()
        if loop is None or fd < 0:
            return
        with self._changed:
            read = not self.ended and len(self._arrived) < ARRIVED_BYTES and len(self._unsent) < UNSENT_BYTES
            write = not self.ended and bool(self._unsent)
        if read != self._reading:
            self._reading = read
            if read:
                loop.add_reader(fd, self._readable)
                if self._wire.pending:
                    loop.call_soon(self._readable)
            else:
                loop.remove_reader(fd)
        if write != self._writing:
            self._writing = write
            if write:
                loop.add_writer(fd, self._look_again)
            else:
                loop.remove_writer(fd)

    # Under the lock ---------------------------------------------------------------------------------------------

    def _collect(self) -> None:
        """Take data out of the frames that have arrived; answers to pings and closes go where ours go."""
        for event in self._protocol.events_received():
            if isinstance(event, Frame) and event.opcode in _DATA:
                self._arrived.extend(event.data)

    def _flush(self) -> str:
        """Send what goes at once; return what went wrong, "" for nothing."""
        for data in self._protocol.data_to_send():
            self._unsent.extend(data)
        while self._unsent:
            try:
                with memoryview(self._unsent) as view:
                    sent = self._wire.send_now(view)
            except DialFault as fault:
                return str(fault)
            if not sent:
                break
            del self._unsent[:sent]
        return ""
