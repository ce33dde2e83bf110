"""Writing an answer from the thread that has it.

Waking the event loop only to have it write costs more than the write. So a worker may send a complete answer itself,
through a descriptor of its own that nobody closes behind its back: the loop's may be closed, and its number given to
another client, at any moment.
"""

from __future__ import annotations

import asyncio
import os
import threading
from typing import Final


class DirectWriter:
    """A second descriptor of a connected socket, for writing without waiting. Safe from any thread."""

    __slots__ = ("_descriptor", "_lock")

    def __init__(self) -> None:
        self._descriptor = -1
        self._lock: Final = threading.Lock()

    def open(self, transport: asyncio.Transport) -> bool:
        """Have the descriptor; answer False where what is written must pass through the loop (TLS).

        Call it on the loop's thread, while the transport is open.
        """
        if self._descriptor < 0:
            socket = transport.get_extra_info("socket")
            if socket is None or transport.get_extra_info("sslcontext") is not None:
                return False
            try:
                self._descriptor = os.dup(socket.fileno())
            except OSError:  # no descriptors left; the loop can still write
                return False
        return True

    def write(self, data: bytes) -> int:
        """Write as much of `data` as the system takes at once; return how much, 0 when the socket is gone."""
        with self._lock:
            if self._descriptor < 0:
                return 0
            try:
                return os.write(self._descriptor, data)
            except OSError:  # full, or the client has left: the loop finds out which
                return 0

    def close(self) -> None:
        """Give the descriptor back. May be called again; `open` gets another one."""
        with self._lock:
            descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
