"""One socket of a cell, and the packets that wait in it."""

from __future__ import annotations

import select
import selectors
import socket
import threading
import time
from collections import deque
from typing import Any, Final

from pulp_runtime.abi.codec import encode_str
from pulp_runtime.abi.udp import join_packet, packet_head
from pulp_runtime.capabilities.network.addresses import shown
from pulp_runtime.capabilities.network.udp_policy import Policy
from pulp_runtime.ext import CellRef, Errno, HostError

RING_PACKETS: Final = 1024
RING_BYTES: Final = 16 * 1024 * 1024
"""Most payload that the rings of one cell hold together."""
MAX_DATAGRAM: Final = 65_535
_KNOWN: Final = 1024
"""Destinations, and peers, that a socket remembers."""
_TELL_SECONDS: Final = 1.0
_WRITABLE_SECONDS: Final = 5.0
"""How long a send waits for room in the system's buffer."""


class Held:
    """How many bytes the rings of one cell hold. Only on the loop."""

    def __init__(self) -> None:
        self.bytes = 0


class Socket:
    """A bound socket. Its ring belongs to the loop; its file may be closed by who holds both locks.

    Args:
        number: its id.
        cell: whose it is.
        sock: non-blocking.
        policy: what the cell may do with it.
        held: shared by the cell's sockets.
    """

    def __init__(self, number: int, cell: CellRef, sock: socket.socket, policy: Policy, held: Held) -> None:
        self.number: Final = number
        self.cell: Final = cell
        self.sock: Final = sock
        self.policy: Final = policy
        self.closed = False
        self.queued = False
        self._sending: Final = threading.Lock()
        self._receiving: Final = threading.Lock()
        self._head: Final = packet_head(number)
        self._ring: Final[deque[tuple[bytes, bytes, int]]] = deque()
        self._held: Final = held
        self._dropped = 0
        self._told = float("-inf")
        self._destinations: Final[dict[str, tuple[Any, ...]]] = {}
        self._peers: Final[dict[tuple[Any, ...], bytes]] = {}

    def __len__(self) -> int:
        return len(self._ring)

    # Out --------------------------------------------------------------------------------------------------------

    def known(self, addr: str) -> tuple[Any, ...] | None:
        """Return the socket address of a destination that was spelled out and allowed before."""
        return self._destinations.get(addr)

    def remember(self, addr: str, where: tuple[Any, ...]) -> None:
        """Keep the socket address of a destination that is no name."""
        if len(self._destinations) >= _KNOWN:
            self._destinations.clear()
        self._destinations[addr] = where

    def send_now(self, payload: bytes, where: tuple[Any, ...]) -> bool:
        """Send a datagram; False if the system's buffer is full.

        Raises:
            HostError: `FAILED` when the system refuses it, or the socket is closed.
        """
        with self._sending:
            if self.closed:
                raise HostError(Errno.FAILED, "no such socket")
            try:
                self.sock.sendto(payload, where)
            except BlockingIOError:
                return False
            except OSError as error:
                raise HostError(Errno.FAILED, f"send: {error}") from None
        return True

    def send(self, payload: bytes, where: tuple[Any, ...], seconds: float) -> None:
        """Send a datagram as soon as there is room for it.

        Raises:
            HostError: as `send_now`, and `FAILED` when there is no room within `seconds`, or 5 s if that is less.
        """
        end = time.monotonic() + min(seconds, _WRITABLE_SECONDS)
        while not self.send_now(payload, where):
            left = end - time.monotonic()
            poll = select.poll()
            poll.register(self.sock, select.POLLOUT)
            if left <= 0 or not poll.poll(left * 1000):
                raise HostError(Errno.FAILED, "send: the system's buffer stays full")

    def close(self, selector: selectors.BaseSelector) -> None:
        """Close the file; what waits in the ring is let go by the loop. May be called again."""
        with self._sending, self._receiving:
            if not self.closed:
                self.closed = True
                selector.unregister(self.sock)
                self.sock.close()

    # In, on the loop --------------------------------------------------------------------------------------------

    def receive(self, buffer: bytearray, most: int) -> None:
        """Read up to `most` packets into the ring; the oldest make room for them."""
        view = memoryview(buffer)
        with self._receiving:
            for _ in range(0 if self.closed else most):
                try:
                    size, source = self.sock.recvfrom_into(buffer)
                except BlockingIOError:
                    break
                except OSError:  # what the system has to say about an earlier send
                    continue
                self._keep(self._peer(source), bytes(view[:size]))
        if self._dropped:
            self.tell("the cell does not keep up")

    def _keep(self, source: bytes, payload: bytes) -> None:
        ring, held, size = self._ring, self._held, len(payload)
        while ring and (len(ring) >= RING_PACKETS or held.bytes + size > RING_BYTES):
            self.take()
            self._dropped += 1
        if held.bytes + size > RING_BYTES:
            self._dropped += 1  # the cell's other sockets hold all it may have
            return
        held.bytes += size
        ring.append((source, payload, time.time_ns()))

    def _peer(self, sockaddr: tuple[Any, ...]) -> bytes:
        """Return a peer's address as it crosses; the same few send again and again."""
        known = self._peers.get(sockaddr)
        if known is None:
            if len(self._peers) >= _KNOWN:
                self._peers.clear()
            known = self._peers[sockaddr] = encode_str(shown(sockaddr))
        return known

    def oldest(self) -> bytes:
        """Return the event payload of the packet that waits longest."""
        source, payload, received_at = self._ring[0]
        return join_packet(self._head, source, payload, received_at)

    def take(self) -> None:
        """Take the oldest packet off the ring."""
        self._held.bytes -= len(self._ring.popleft()[1])

    def let_go(self, reason: str) -> None:
        """Drop the oldest packet, and say why."""
        self.take()
        self._dropped += 1
        self.tell(reason)

    def empty(self) -> None:
        """Drop everything that waits."""
        while self._ring:
            self.take()

    def tell(self, reason: str) -> None:
        """Log, at most once a second, how many packets have been dropped."""
        now = time.monotonic()
        if now - self._told >= _TELL_SECONDS:
            self.cell.log.warning("udp packets dropped", socket_id=self.number, count=self._dropped, reason=reason)
            self._dropped, self._told = 0, now
