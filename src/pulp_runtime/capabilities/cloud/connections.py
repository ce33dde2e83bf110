"""One request of a daemon, as `/conn/<id>`: `request`, `response`, `close`."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from pulp_runtime.capabilities.cloud.request import RequestFiles
from pulp_runtime.capabilities.cloud.response import ResponseFiles
from pulp_runtime.capabilities.cloud.write_only import WriteOnly
from pulp_runtime.ext.nodes import Folder, Leaf
from pulp_runtime.ext.tree import File, How, Kind, Stat

if TYPE_CHECKING:
    from pulp_runtime.capabilities.cloud.accept import Door
    from pulp_runtime.capabilities.cloud.exchange import Exchange


class HttpConnection:
    """See `accept.Connection`."""

    kind = "http"

    def __init__(self, exchange: Exchange, door: Door) -> None:
        self.exchange: Final = exchange
        self.number = exchange.number
        self._door: Final = door
        exchange.reply.ends = self.finish
        self.files = Folder(
            {
                "request": RequestFiles(exchange),
                "response": ResponseFiles(exchange.reply),
                "close": CloseFile(lambda _words: self.finish()),
            }
        )

    def finish(self) -> None:
        """End it with what was written; with nothing, 204."""
        reply = self.exchange.reply
        if reply.mode:
            reply.finish()
        else:
            reply.end_nothing()
        self._door.leave(self.number)

    def dismiss(self, *, accepted: bool) -> None:
        """See `accept.Connection`."""
        reply = self.exchange.reply
        if accepted:
            reply.refuse(502, "the daemon ended without an answer")
        else:
            reply.refuse(503, "the daemon has ended")


class CloseFile(Leaf):
    """`close`: whatever is written to it ends the connection, and so does closing it.

    Args:
        end: called once, with what was written.
    """

    def __init__(self, end: Callable[[bytes], None]) -> None:
        self._end: Final = end

    def open_file(self, how: How) -> File:
        """See `Leaf.open_file`."""
        WriteOnly.admit(how)
        return _Closing(self._end)

    def stat_file(self) -> Stat:
        """See `Leaf.stat_file`."""
        return Stat(Kind.FILE)


class _Closing(File):
    def __init__(self, end: Callable[[bytes], None]) -> None:
        self._end: Callable[[bytes], None] | None = end

    def write(self, data: bytes) -> int:
        """See `File.write`."""
        end, self._end = self._end, None
        if end is None:
            raise BrokenPipeError(errno.EPIPE, "it has ended")
        end(data)
        return len(data)

    def close(self) -> None:
        """See `File.close`."""
        if self._end is not None:
            self.write(b"")

    def abandon(self) -> None:
        """See `File.abandon`: the end of the daemon says what becomes of it."""
