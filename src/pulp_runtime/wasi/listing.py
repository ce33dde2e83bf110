"""Read the names in a folder piece by piece, from any place that was answered before.

A cookie is the place of a name: 0 is `.`, 1 is `..`, 2 the first name. The names that were read last are remembered, so
that a program whose buffer was too short for the last one gets it again, whatever was made or removed meanwhile. For an
older cookie the folder is read anew up to it; there a name that came or went meanwhile can move the others.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterator
from struct import Struct
from typing import Final

from pulp_runtime.ext.tree import Entry, Kind, Node
from pulp_runtime.wasi.errno import Refused, WasiErrno

REMEMBERED: Final = 1024
"""Names that are kept for being asked for again."""

_HEAD: Final = Struct("<QQIB3x")


class Listing:
    """How far one folder has been read."""

    def __init__(self, node: Node, seconds_left: Callable[[], float]) -> None:
        self._node: Final = node
        self._seconds_left: Final = seconds_left
        self._names: Iterator[Entry] = iter(())
        self._recent: deque[Entry] = deque(maxlen=REMEMBERED)
        self._next = -1  # place of the next name the iterator gives; -1: not begun

    def fill(self, cookie: int, into: memoryview) -> int:
        """Write entries from `cookie` on, the last one cut off where there is no more room; return how many bytes."""
        if cookie == 0 or not 0 <= self._next - len(self._recent) <= cookie:
            self._begin()
        while self._next < cookie and self._advance() is not None:
            if not self._next % REMEMBERED and self._seconds_left() <= 0:
                raise Refused(WasiErrno.TIMEDOUT)  # a cookie of any size, in a folder of any
        used, room = 0, len(into)
        while used < room:
            entry = self._at(cookie)
            if entry is None:
                break
            cookie += 1
            name = entry.name.encode()
            record = _HEAD.pack(cookie, entry.inode, len(name), entry.kind) + name
            piece = record[: room - used]
            into[used : used + len(piece)] = piece
            used += len(piece)
        return used

    def _begin(self) -> None:
        self.close()
        own = self._node.stat(()).inode
        dots = (Entry(".", Kind.FOLDER, own), Entry("..", Kind.FOLDER))
        self._names = itertools.chain(dots, self._node.entries())
        self._recent.clear()
        self._next = 0

    def _at(self, cookie: int) -> Entry | None:
        back = self._next - cookie
        if back > len(self._recent):
            return None
        return self._recent[-back] if back > 0 else self._advance()

    def _advance(self) -> Entry | None:
        entry = next(self._names, None)
        if entry is not None:
            self._recent.append(entry)
            self._next += 1
        return entry

    def close(self) -> None:
        """Let go of the folder."""
        self._names = iter(())
        self._recent.clear()
        self._next = -1
