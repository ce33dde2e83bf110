"""Between libpq and the server: bytes pass in portions, and are counted.

libpq reads a row of a gigabyte in one go, and no setting of the server's bounds a row. So once it is connected its
socket is exchanged for one end of a pair, and what comes from the server is handed over a portion at a time:

    libpq ⇄ [pair] ⇄ valve ⇄ [socket] ⇄ server

What passes may be encrypted; the valve does not look at it.
"""

from __future__ import annotations

import fcntl
import os
import select
import socket
import sys
import termios
import time
from typing import Final

PORTION: Final = 64 * 1024


class Valve:
    """The socket of a connection, taken from libpq.

    Args:
        descriptor: libpq's; it keeps this number, which from now on is the pair's.

    Attributes:
        closed: whether the server has closed its side.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor: Final = descriptor
        self._server: Final = socket.socket(fileno=os.dup(descriptor))
        self._inside, handed = socket.socketpair()
        for one in (self._server, self._inside, handed):
            one.setblocking(False)
        os.dup2(handed.fileno(), descriptor, inheritable=False)
        handed.close()
        self._outgoing = b""
        self.closed = False

    def push(self) -> bool:
        """Pass on what libpq has written, as far as the server's side takes it; return whether it took everything."""
        while True:
            if not self._outgoing:
                try:
                    self._outgoing = self._inside.recv(PORTION)
                except BlockingIOError:
                    return True
            if not self._outgoing:
                return False
            try:
                sent = self._server.send(self._outgoing)
            except BlockingIOError:
                return False
            except OSError:
                self._end()
                return False
            self._outgoing = self._outgoing[sent:]

    def pull(self) -> int:
        """Pass on one portion of what the server has sent; return how many bytes."""
        try:
            portion = self._server.recv(PORTION)
        except BlockingIOError:
            return 0
        except OSError:
            portion = b""
        if not portion:
            self._end()
            return 0
        # libpq has read all that was here before, and a portion fits into the pair's buffer.
        self._inside.sendall(portion)
        return len(portion)

    def wait(self, deadline: float) -> bool:
        """Wait until something can pass; return False if the deadline comes first."""
        return wait(self._server.fileno(), deadline, writing=bool(self._outgoing))

    @property
    def speaks(self) -> bool:
        """Whether the server has sent something, or has closed its side."""
        return self.closed or bool(select.select([self._server], [], [], 0)[0])

    @property
    def unread(self) -> int:
        """How many bytes wait for libpq."""
        waiting = fcntl.ioctl(self._descriptor, termios.FIONREAD, bytes(4))
        return int.from_bytes(waiting, sys.byteorder)

    def _end(self) -> None:
        if not self.closed:
            self.closed = True
            self._inside.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close both sides."""
        self._server.close()
        self._inside.close()


def wait(descriptor: int, deadline: float, *, writing: bool) -> bool:
    """Wait until a socket can be read, or written; return False if the deadline comes first."""
    left = deadline - time.monotonic()
    if left <= 0:
        return False
    waiter = select.poll()
    waiter.register(descriptor, select.POLLIN | (select.POLLOUT if writing else 0))
    return bool(waiter.poll(left * 1000))
