"""What every protocol on a listener's socket has in common: a place, a deadline, an end.

There are no timers here. A peer has a `deadline`, which the listener compares
with the clock once a second; on the way of a request nobody asks for the time
more than once.
"""

from __future__ import annotations

import asyncio
from math import inf
from typing import Final, cast

from pulp_runtime._net import answers
from pulp_runtime._net.exchange import Service, address_text
from pulp_runtime.abi.http import pack_remote_addr


class SocketPeer(asyncio.Protocol):
    """One client's socket.

    Attributes:
        deadline: when the sweep has to look, by the loop's clock.
        remote_addr: `ip:port` of the TCP peer, IPv6 in brackets; no header changes it.
        packed_remote_addr: the same, by `abi.http.pack_remote_addr`.
        secure: whether it is encrypted.
        idle_seconds: how long the client may be silent between its requests.
    """

    __slots__ = (
        "_eof",
        "_service",
        "_transport",
        "_unsent",
        "_write_paused",
        "deadline",
        "idle_seconds",
        "packed_remote_addr",
        "remote_addr",
        "secure",
    )

    _transport: asyncio.Transport

    def __init__(self, service: Service) -> None:
        self._service: Final = service
        self.deadline = 0.0
        self.remote_addr = ""
        self.packed_remote_addr = b""
        self.secure = False
        self.idle_seconds = service.settings.idle_seconds
        self._unsent = 0  # bytes waiting for the client when the deadline was set
        self._eof = self._write_paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a place, or answer 503 if there is none."""
        self._transport = transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name
        service = self._service
        full = len(service.connections) >= service.settings.connections
        if full:
            transport.write(answers.last_words(503, "too many connections"))
        if full or service.closing:
            self._close()
            return
        self._enter(transport)

    def _enter(self, transport: asyncio.Transport) -> None:
        """Take a place; also that of a protocol whose socket this was."""
        self._transport = transport
        self.remote_addr = address_text(transport.get_extra_info("peername"))
        self.packed_remote_addr = pack_remote_addr(self.remote_addr)
        self.secure = transport.get_extra_info("sslcontext") is not None
        self._service.connections.add(self)
        self._service.changed()

    def _leave(self) -> None:
        """Give up the place."""
        self.deadline = inf
        self._service.connections.discard(self)
        self._service.changed()

    def pause_writing(self) -> None:
        """Note that the client is slower than what is sent to it."""
        self._write_paused = True

    def resume_writing(self) -> None:
        """Note that there is room again."""
        self._write_paused = False

    def expire(self, now: float) -> None:
        """Act on a deadline that has passed."""
        raise NotImplementedError

    def close_when_idle(self) -> None:
        """Begin to end: the listener is closing."""
        raise NotImplementedError

    def limit_idle(self, seconds: float) -> None:
        """Have the client be silent no longer than this after the answer in flight."""
        self.idle_seconds = seconds
        self.deadline = min(self.deadline, self._service.time() + seconds)

    def abort(self) -> None:
        """Close without waiting for anything."""
        self._transport.abort()

    def _close(self) -> None:
        """Close once everything is sent; the sweep sees that this does not take for ever."""
        self._transport.close()
        self._watch_unsent(self._service.settings.write_stall_seconds)

    def _watch_unsent(self, seconds: float) -> None:
        """Have the sweep look whether the client takes what is written for it."""
        self._unsent = self._transport.get_write_buffer_size()
        self.deadline = self._service.time() + seconds

    def _takes(self, now: float) -> bool:
        """Return whether the client took something since the last look, and look again later if it did."""
        unsent = self._transport.get_write_buffer_size()
        if not 0 < unsent < self._unsent:
            return False
        self._unsent = unsent
        self.deadline = now + self._service.settings.write_stall_seconds
        return True
