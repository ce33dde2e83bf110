"""One WebSocket connection (RFC 6455), from the 101 on.

    OPEN ──▶ CLOSING ──▶ ENDING         nothing is read any more; the socket is closed, or the client is given
      │  we sent a close   ▲            time to close it
      │  frame, and look   │
      │  for the client's  │
      └────────────────────┘            the client's close frame, its last byte, or a breach of the protocol

There are no timers: the listener's sweep compares the deadline with the clock once a second, and looks after silent
clients then (`_look`). While its receiver has no room a connection reads no further, so that the client waits and no
frame is lost; what is here already is handed on when there is room, also when the client has left in the meantime.
"""

from __future__ import annotations

import asyncio
from math import inf
from typing import Final

from pulp_runtime._net.exchange import Service, TakenOver
from pulp_runtime._net.websocket_deflate import Deflate
from pulp_runtime._net.websocket_frames import (
    CLOSE,
    GOING_AWAY,
    PING,
    PONG,
    TRY_LATER,
    FrameReader,
    WebSocketFault,
    encode_close,
    encode_frame,
    parse_close,
)
from pulp_runtime._net.websocket_output import WebSocketOutput
from pulp_runtime._net.websocket_receiver import NO_CLOSE_FRAME, Receiver

OPEN, CLOSING, ENDING = range(3)

FRAMES_AT_ONCE: Final = 256
"""Frames of one connection that are read before others have their turn."""
SHORTCUT_SECONDS: Final = 5.0
"""How long a silent connection keeps its second descriptor, at least."""
_LOOKS: Final = 4
"""How often a silent client is looked at within one of its time limits: each may come a quarter late."""
_PING: Final = encode_frame(PING, b"")


class WebSocketConnection(WebSocketOutput):
    """One client.

    Args:
        service: the listener's.
        receiver: who gets its messages.
        deflate: the compression that was agreed on.
        number: see below.

    Attributes:
        number: by which the receiver knows it.
        receiver: see above.
        shaken: whether both sides have sent a close frame, once that is known; None before. From any thread.
        waiting: the receiver's own: what it took and could not pass on yet.
    """

    __slots__ = (
        "_end",
        "_full",
        "_heard",
        "_heard_at",
        "_held",
        "_lost",
        "_moved_at",
        "_pinged_at",
        "_reader",
        "_reading_paused",
        "_state",
        "_yielded",
        "number",
        "receiver",
        "shaken",
        "waiting",
    )

    def __init__(self, service: Service, receiver: Receiver, deflate: Deflate | None, number: int) -> None:
        super().__init__(service, receiver, deflate)
        self.number: Final = number
        self.receiver: Final = receiver
        self.shaken: bool | None = None
        self.waiting: list[tuple[str, bytes]] | None = None
        self._reader: Final = FrameReader(receiver.limits.message_bytes, deflate)
        self._state = OPEN
        self._end: tuple[int, str] | None = (NO_CLOSE_FRAME, "connection lost")  # None once it is told
        self._held = 0  # bytes of unfinished messages, as the listener counts them
        self._full = False  # the receiver takes no more just now
        self._yielded = False  # there is more to read, and others come first
        self._reading_paused = self._lost = self._heard = False
        self._heard_at = self._moved_at = self._pinged_at = 0.0

    # Life -------------------------------------------------------------------------------------------------------

    def begin(self, taken: TakenOver, answer: bytes) -> None:
        """Continue on a socket that was an HTTP connection's, with the answer to its handshake."""
        transport = taken.transport
        self._enter(transport)
        self.packed_remote_addr = b""  # an HTTP matter
        transport.set_protocol(self)
        transport.write(answer)
        self._heard_at = self._moved_at = self._service.time()
        self._set_deadline()
        if self._service.closing:
            self.close_when_idle()
        elif taken.unread:
            self.data_received(taken.unread)

    def close(self, code: int, reason: str, why: str, *, drop: bool = False) -> None:
        """Begin the closing handshake. What is queued goes first; messages the client still sends are dropped.

        Args:
            code: for the close frame.
            reason: for the client.
            why: for the receiver.
            drop: drop what is queued, since the client is too slow for it.
        """
        if self._state != OPEN:
            return
        self.open = False
        self._end = (NO_CLOSE_FRAME, why)
        self._state = CLOSING
        if self._lost:
            self._finish()
            return
        if drop:
            self._drop_backlog()
        self._write_last(encode_close(code, reason))
        self._set_deadline()
        self.resume()  # the client's own may be behind messages that had no room

    def close_when_idle(self) -> None:
        """Say goodbye: the listener is closing."""
        self.close(GOING_AWAY, "host shutting down", "host shutting down")

    def cut(self, why: str) -> None:
        """End the connection without a word."""
        self.open = False
        if self._state == OPEN and self._end is not None:
            self._end = (NO_CLOSE_FRAME, why)
        self._transport.abort()

    def resume(self) -> None:
        """Go on reading: there is room for messages."""
        self._full = False
        if self._yielded:
            return
        if self._reader.held or self._reading_paused or self._lost or self._eof:
            self._advance()

    # What the loop calls ----------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Take bytes; nearly always they are one short frame."""
        self._heard = True
        if self._state == OPEN and not self._full and not self._yielded:
            try:
                message = self._reader.take_only(data)
            except WebSocketFault as fault:
                self._fail(fault)
                return
            if message is not None:
                self._hand_on(*message)
                return
        elif self._state >= ENDING:
            return
        self._reader.feed(data)
        if self._full or self._yielded:
            self._pause_reading()
            self._account()
        else:
            self._advance()

    def eof_received(self) -> bool:
        """End once everything that came before is handed on; nobody half-closes a WebSocket."""
        self._eof = True
        if self._state == OPEN and (self._full or self._yielded):
            return self._transport.can_write_eof()
        if self._state < ENDING:
            self._finish()
        return False

    def connection_lost(self, _exc: Exception | None) -> None:
        """Give up the place."""
        self.open = False
        self._lost = True
        self._drop_everything()
        self._leave()
        if self._state == OPEN and (self._full or self._yielded):
            return  # the client is gone, its messages are not
        self._finish()

    def pause_writing(self) -> None:
        """See `WebSocketOutput`; a connection that closes has its time already."""
        deadline = self.deadline
        super().pause_writing()
        if self._state != OPEN:
            self.deadline = min(deadline, self.deadline)

    def resume_writing(self) -> None:
        """See `WebSocketOutput`."""
        super().resume_writing()
        if self._state == OPEN:
            self._set_deadline()

    def expire(self, now: float) -> None:
        """See `Peer`."""
        if self._state != OPEN:
            self._transport.abort()
        elif not self._write_paused:
            self._look(now)
        elif not self._takes(now):
            self.cut("the client takes nothing")

    # Reading ----------------------------------------------------------------------------------------------------

    def _advance(self) -> None:
        """Read frames until there are no more, or no room."""
        pongs: list[bytes] = []
        try:
            more = self._read_frames(pongs)
        except WebSocketFault as fault:
            self._answer_pings(pongs)
            self._fail(fault)
            return
        self._answer_pings(pongs)
        if self._state >= ENDING:
            return
        if more:  # thousands of tiny frames in one read: others come first
            self._yielded = True
            asyncio.get_running_loop().call_soon(self._go_on)
        if self._full or self._yielded:
            if self._reader.held:
                self._pause_reading()
        elif self._lost or self._eof:
            self._finish()
            return
        else:
            self._resume_reading()
        self._account()

    def _read_frames(self, pongs: list[bytes]) -> bool:
        """Read what is here; return whether there may be more to read at once."""
        for _ in range(FRAMES_AT_ONCE):
            if self._full:
                return False
            frame = self._reader.take()
            if frame is None:
                return False
            opcode, payload = frame
            if opcode == PING:
                pongs.append(encode_frame(PONG, payload))
            elif opcode == CLOSE:
                code, reason = parse_close(payload)
                self._answer_pings(pongs)
                self._closed_by_client(code, reason)
                return False
            elif opcode and opcode != PONG and self._state == OPEN:
                self._hand_on(opcode, payload)
        return True

    def _go_on(self) -> None:
        """Read what had to wait for others."""
        self._yielded = False
        if self._state < ENDING and not self._full:
            self._advance()

    def _hand_on(self, opcode: int, payload: bytes) -> None:
        """Give a message to the receiver."""
        self._moved = True
        receiver = self.receiver
        if not self._clear and not receiver.busy and not self._lost and self._open_shortcut():
            self._set_deadline()
        if not receiver.on_message(self, opcode, payload):
            self._full = True

    def _answer_pings(self, pongs: list[bytes]) -> None:
        if pongs and self._state == OPEN and not self._lost:
            self._write_pongs(pongs)
        pongs.clear()

    def _pause_reading(self) -> None:
        if not self._reading_paused and not self._lost and not self._transport.is_closing():
            self._reading_paused = True
            self._transport.pause_reading()

    def _resume_reading(self) -> None:
        if self._reading_paused and not self._transport.is_closing():
            self._reading_paused = False
            self._transport.resume_reading()

    def _account(self) -> None:
        """Keep to the memory that a listener's clients may use together for what they have not finished."""
        held = self._reader.held
        if held != self._held:
            service = self._service
            service.held_bytes += held - self._held
            self._held = held
            if service.held_bytes > service.settings.bodies_bytes:
                self._fail(WebSocketFault(TRY_LATER, "too many unfinished messages"))

    # Silent clients ---------------------------------------------------------------------------------------------

    def _look(self, now: float) -> None:
        """Ping a client that has been silent, end a connection that nobody uses."""
        limits = self.receiver.limits
        if self._heard:
            self._heard, self._heard_at, self._pinged_at = False, now, 0.0
        else:
            self._close_shortcut()
        if limits.ping_seconds and now - self._heard_at >= limits.ping_seconds:
            if not self._pinged_at:
                self._pinged_at = now
                self._write(_PING)
            elif now - self._pinged_at >= limits.ping_seconds:
                self.cut("the client does not answer pings")
                return
        if self._moved:
            self._moved, self._moved_at = False, now
        elif limits.idle_seconds and now - self._moved_at >= limits.idle_seconds:
            self.close(GOING_AWAY, "idle", "idle")
            return
        self._set_deadline()

    def _set_deadline(self) -> None:
        """Have the sweep look when it is next of use."""
        limits, state = self.receiver.limits, self._state
        if state == OPEN:
            if self._write_paused:
                return
            seconds = SHORTCUT_SECONDS if self._shortcut is not None else inf
            for limit in (limits.ping_seconds, limits.idle_seconds):
                if limit:
                    seconds = min(seconds, limit / _LOOKS)
        else:
            seconds = limits.close_seconds if state == CLOSING else self._service.settings.linger_seconds
            if self._write_paused:
                seconds *= 2  # once to take what is queued, once to answer
        self.deadline = self._service.time() + seconds

    # The end ----------------------------------------------------------------------------------------------------

    def _closed_by_client(self, code: int, reason: str) -> None:
        """Answer the client's close frame, or take it as the answer to ours; then the socket is ours to close."""
        self.shaken = True
        answer = b""
        if self._state == OPEN:
            self._end = (code, reason)
            answer = encode_close(code, reason)
        if not self._lost:
            self._write_now(answer)
        self._finish()

    def _fail(self, fault: WebSocketFault) -> None:
        """End a connection whose client broke the protocol: its frames cannot be read any more."""
        answer = b""
        if self._state == OPEN:
            self._end = (NO_CLOSE_FRAME, fault.reason)
            answer = encode_close(fault.code, fault.reason)
        if not self._lost:
            self._write_now(answer)
        self._finish(linger=True)

    def _finish(self, *, linger: bool = False) -> None:
        """Read no more, close the socket behind what is written, and tell the receiver.

        Args:
            linger: whether to let the client close it, for a while: closing it at once would have the kernel answer
                the bytes in flight with a reset, and the client might never read why.
        """
        self.open = False
        if self._state < ENDING:
            self._state = ENDING
            self._reader.clear()
            self._full = False
            self._service.held_bytes -= self._held
            self._held = 0
            if not self._lost:
                self._shut(linger=linger)
        if self._end is not None:
            (code, reason), self._end = self._end, None
            self.shaken = self.shaken is True
            self.receiver.on_close(self, code, reason)

    def _shut(self, *, linger: bool) -> None:
        transport = self._transport
        if transport.is_closing():
            return
        self._resume_reading()  # to notice the client's end
        if linger and not self._eof and transport.can_write_eof():
            transport.write_eof()
            self._set_deadline()
        else:
            self._close()
