"""Events of one cell that a client who lost its connection may still be given.

Kept are events with an id, by path: the newest `events` of each, and of all paths together as many as `size` bytes
hold, the oldest going first. Everything here belongs to the loop's thread.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from itertools import islice
from typing import Final, NamedTuple

_EVENT_BYTES: Final = 512
"""What an event costs beside its frame, and a path beside its name; measured roughly, on the safe side."""
_PATH_BYTES: Final = 2_048


class Resumed(NamedTuple):
    """What a client gets that has seen an event.

    Attributes:
        frames: later ones, oldest first; all that are there if the event is not known any more.
        complete: nothing that came after the event is missing.
    """

    frames: list[bytes]
    complete: bool


class _Kept:
    """Events of one path, numbered without a gap."""

    __slots__ = ("edge", "events", "first", "numbers")

    def __init__(self) -> None:
        self.events: Final[deque[tuple[int, str, bytes]]] = deque()
        self.numbers: Final[dict[str, int]] = {}  # the newest of each id
        self.first = 0
        self.edge: str | None = None  # id of the event before the first

    def drop(self) -> tuple[int, str, bytes]:
        """Forget the oldest event; return it."""
        oldest = self.events.popleft()
        self.edge = oldest[1]
        if self.numbers.get(self.edge) == self.first:
            del self.numbers[self.edge]
        self.first += 1
        return oldest


class Replay:
    """See the module.

    Attributes:
        size: bytes that are kept now.
    """

    def __init__(self) -> None:
        self.size = 0
        self._paths: Final[dict[str, _Kept]] = {}
        self._order: Final[OrderedDict[int, str]] = OrderedDict()
        self._next = 0

    def keep(self, path: str, event_id: str, frame: bytes, *, events: int, size: int) -> None:
        """Remember an event.

        Args:
            path: where it was emitted.
            event_id: its id, not empty.
            frame: as it was sent.
            events: most to keep of one path.
            size: most bytes to keep of all.
        """
        event_id = event_id.strip(" \t")  # as it comes back in a header
        cost = _cost(event_id, frame)
        kept = self._paths.get(path)
        if not events or cost + _PATH_BYTES + len(path) > size:
            while kept is not None and kept.events:  # what is there has a hole behind it now
                self._drop(path)
            return
        if kept is None:
            kept = self._paths[path] = _Kept()
            self.size += _PATH_BYTES + len(path)
        kept.numbers[event_id] = kept.first + len(kept.events)
        kept.events.append((self._next, event_id, frame))
        self._order[self._next] = path
        self._next += 1
        self.size += cost
        while len(kept.events) > events:
            self._drop(path)
        while self.size > size:
            self._drop(next(iter(self._order.values())))

    def after(self, path: str, last_id: str) -> Resumed:
        """Return what came after an event of a path."""
        kept = self._paths.get(path)
        if kept is None:
            return Resumed([], False)
        number = kept.numbers.get(last_id)
        if number is None:
            return Resumed([frame for _, _, frame in kept.events], last_id == kept.edge)
        return Resumed([frame for _, _, frame in islice(kept.events, number - kept.first + 1, None)], True)

    def _drop(self, path: str) -> None:
        """Forget the oldest event of a path, and the path with its last."""
        kept = self._paths[path]
        number, event_id, frame = kept.drop()
        del self._order[number]
        self.size -= _cost(event_id, frame)
        if not kept.events:
            del self._paths[path]
            self.size -= _PATH_BYTES + len(path)


def _cost(event_id: str, frame: bytes) -> int:
    return len(frame) + len(event_id) + _EVENT_BYTES
