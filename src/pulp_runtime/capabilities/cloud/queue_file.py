"""What of a topic a program has open."""

from __future__ import annotations

import errno
from typing import Final

from pulp_runtime.capabilities.cloud.queue_view import View
from pulp_runtime.ext.tree import File, Kind, Stat, Wake
from pulp_runtime.queues.message import MESSAGE_BYTES


class Next(File):
    """`next`: one message. Reading waits for it, and comes to an end after it."""

    def __init__(self, view: View) -> None:
        self._view: Final = view
        self._body: bytes | None = None
        self._at = 0
        view.attach()

    def read(self, size: int) -> bytes:
        """See `File.read`; at the end at once if the host wants the run to end."""
        if self._body is None:
            if self._view.stopped:
                return b""
            message = self._view.take()
            if message is None:
                raise BlockingIOError(errno.EAGAIN, "no message yet")
            self._body = message.body
        piece = self._body[self._at : self._at + size]
        self._at += len(piece)
        return piece

    def ready(self, *, write: bool = False) -> int | None:
        """See `File.ready`."""
        if self._body is not None:
            return len(self._body) - self._at
        return 0 if self._view.stopped or self._view.waits() else None

    def watch(self, wake: Wake) -> Wake:
        """See `File.watch`."""
        return self._view.watch(wake)

    def stat(self) -> Stat:
        """See `File.stat`."""
        return Stat(Kind.FILE, size=len(self._body or b""))


class Publishing(File):
    """A message that is published when it is closed; with `appends`, one that is published with each write.

    Args:
        view: the topic.
        appends: each write is a message of its own.
        always: also if nothing was written.
    """

    def __init__(self, view: View, *, appends: bool, always: bool) -> None:
        self._view: Final = view
        self._appends: Final = appends
        self._always: Final = always and not appends
        self._spoilt = False
        self._body: Final = bytearray()

    def write(self, data: bytes) -> int:
        """See `File.write`."""
        if len(self._body) + len(data) > MESSAGE_BYTES:
            self._spoilt = True  # half a message is none
            raise OSError(errno.EFBIG, f"a message has at most {MESSAGE_BYTES} bytes")
        if self._appends:
            self._view.publish(bytes(data))
        else:
            self._body.extend(data)
        return len(data)

    def stat(self) -> Stat:
        """See `File.stat`."""
        return Stat(Kind.FILE, size=len(self._body))

    def close(self) -> None:
        """See `File.close`; what it raises means that nothing has been published."""
        if self._spoilt:
            raise OSError(errno.EFBIG, f"a message has at most {MESSAGE_BYTES} bytes")
        if self._body or self._always:
            self._view.publish(bytes(self._body))

    def abandon(self) -> None:
        """See `File.abandon`: nothing is published."""
