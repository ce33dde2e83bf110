"""`/accept` and `/conn`: what comes in for a daemon (spec/wasi-cloud §5).

    loop     admit ──▶ [ http 17, ws 18, … ] ── read /accept ──▶ daemon ── /conn/17/… ──▶ answer

A connection is in `/conn` from the moment it came until it has ended. What waits is kept while the daemon is being
started; when its run is over nothing is.
"""

from __future__ import annotations

import errno
import itertools
import threading
from collections import deque
from collections.abc import Iterator
from typing import Final, Protocol

from pulp_runtime.capabilities.cloud.signal import Signal
from pulp_runtime.ext import Run
from pulp_runtime.ext.nodes import Folder, Leaf
from pulp_runtime.ext.tree import Entry, File, How, Kind, Node, Parts, Stat, Wake

WAITING: Final = 128
"""Connections that may wait for a daemon to accept them. Past it 503."""
OPEN: Final = 1_024
"""Connections that a daemon may have at once, those that wait among them. Past it 503."""


class Connection(Protocol):
    """One connection of a daemon.

    Attributes:
        kind: `http` or `ws`.
        number: its id.
        files: what is below `/conn/<id>`.
    """

    kind: str
    number: int
    files: Folder

    def dismiss(self, *, accepted: bool) -> None:
        """End it: the daemon has ended, and had read its line from `/accept`, or not."""


class Visit:
    """One run of a daemon at its door.

    Attributes:
        run: which.
        stopping: it is to end: `/accept` does, too.
        accepted: ids of the connections it has been told of.
    """

    def __init__(self, run: Run) -> None:
        self.run: Final = run
        self.stopping = False
        self.accepted: Final[set[int]] = set()


class Door:
    """What comes in for one daemon. `admit` and `leave` are safe from any thread."""

    def __init__(self) -> None:
        self.connections: Final[dict[int, Connection]] = {}
        self.changed: Final = Signal()
        self._lock: Final = threading.Lock()
        self._waiting: Final[deque[Connection]] = deque()
        self._visit: Visit | None = None  # of two, while one version follows another, the newer
        self._admits = False

    def open(self) -> None:
        """Let connections in: the daemon is about to be started."""
        with self._lock:
            self._admits = True

    def admit(self, connection: Connection) -> bool:
        """Put a connection behind those that wait; False when there is no room, or no daemon."""
        with self._lock:
            if not self._admits or len(self._waiting) >= WAITING or len(self.connections) >= OPEN:
                return False
            self.connections[connection.number] = connection
            self._waiting.append(connection)
        self.changed.fire()
        return True

    def leave(self, number: int) -> None:
        """Forget a connection that has ended."""
        with self._lock:
            connection = self.connections.pop(number, None)
            if connection in self._waiting:
                self._waiting.remove(connection)  # type: ignore[arg-type]  # it is in there
            if self._visit is not None:
                self._visit.accepted.discard(number)

    def close(self) -> None:
        """Let nobody in any more; nobody comes for those that wait."""
        with self._lock:
            self._admits = False
            waiting = [] if self._visit is not None else self._take_waiting()
        for connection in waiting:
            connection.dismiss(accepted=False)

    def _take_waiting(self) -> list[Connection]:
        """Forget all that wait, and return them; with the lock held."""
        waiting = list(self._waiting)
        self._waiting.clear()
        for connection in waiting:
            self.connections.pop(connection.number, None)
        return waiting

    # A run of the daemon ----------------------------------------------------------------------------------------

    def mount(self, run: Run) -> None:
        """Add `/accept` and `/conn` to a run; both capabilities that bring connections do."""
        if self._visit is not None and self._visit.run is run:
            return
        visit = Visit(run)
        with self._lock:
            self._visit = visit
            self._admits = True
        run.tree.add("/accept", Accept(self, visit))
        run.tree.add("/conn", Connections(self))
        run.on_end(lambda _outcome: self._ended(visit))
        run.on_stop(lambda: self._stop(visit))

    def _stop(self, visit: Visit) -> None:
        """Let a run see the end of `/accept`; if no other follows it, let nobody in either."""
        with self._lock:
            visit.stopping = True
            if self._visit is visit:
                self._admits = False
        self.changed.fire()

    def _ended(self, visit: Visit) -> None:
        """End what a run has accepted, and what waits if no other run follows."""
        with self._lock:
            waiting = []
            if self._visit is visit:
                self._visit = None
                self._admits = False
                waiting = self._take_waiting()
            accepted = [one for number in visit.accepted if (one := self.connections.pop(number, None)) is not None]
        for connection in waiting:
            connection.dismiss(accepted=False)
        for connection in accepted:
            connection.dismiss(accepted=True)

    def accept(self, visit: Visit) -> bytes:
        """Return the line of the next connection, b"" when none will come; raise `BlockingIOError` for none yet."""
        with self._lock:
            if visit.stopping and self._visit is not visit:
                return b""
            if self._waiting:
                connection = self._waiting.popleft()
                visit.accepted.add(connection.number)
                return b"%b %d\n" % (connection.kind.encode(), connection.number)
        if visit.stopping:
            return b""
        raise BlockingIOError(errno.EAGAIN, "nothing has come in")

    def ready(self, visit: Visit) -> bool:
        """Return whether `accept` would."""
        return bool(self._waiting) or visit.stopping


class Accept(Leaf):
    """`/accept`."""

    def __init__(self, door: Door, visit: Visit) -> None:
        self._door: Final = door
        self._visit: Final = visit

    def open_file(self, how: How) -> File:
        """See `Leaf.open_file`."""
        if how.changes:
            raise PermissionError(errno.EACCES, "read only")
        return _AcceptFile(self._door, self._visit)


class _AcceptFile(File):
    """One line a read; of a line longer than what is asked for, the rest comes with the next."""

    def __init__(self, door: Door, visit: Visit) -> None:
        self._door: Final = door
        self._visit: Final = visit
        self._rest = b""

    def read(self, size: int) -> bytes:
        """See `File.read`."""
        line = self._rest or self._door.accept(self._visit)
        self._rest = line[size:]
        return line[:size]

    def ready(self, *, write: bool = False) -> int | None:
        """See `File.ready`."""
        return len(self._rest) if write or self._rest or self._door.ready(self._visit) else None

    def watch(self, wake: Wake) -> Wake:
        """See `File.watch`."""
        return self._door.changed.watch(wake)


class Connections(Node):
    """`/conn`: a folder for each open connection."""

    def __init__(self, door: Door) -> None:
        self._door: Final = door

    def _find(self, parts: Parts) -> Folder:
        name = parts[0]
        known = name.isascii() and name.isdigit() and len(name) <= 20 and not name.startswith("0")
        connection = self._door.connections.get(int(name)) if known else None
        if connection is None:
            raise FileNotFoundError(errno.ENOENT, "no such connection")
        return connection.files

    def open(self, parts: Parts, how: How) -> File | Node:
        """See `Node.open`."""
        if parts:
            return self._find(parts).open(parts[1:], how)
        if how.create and how.exclusive:
            raise FileExistsError(errno.EEXIST, "there is a folder")
        if how.write or how.truncate:
            raise IsADirectoryError(errno.EISDIR, "a folder")
        return self

    def stat(self, parts: Parts, *, follow: bool = True) -> Stat:
        """See `Node.stat`."""
        return self._find(parts).stat(parts[1:], follow=follow) if parts else Stat(Kind.FOLDER)

    def entries(self) -> Iterator[Entry]:
        """See `Node.entries`."""
        for number in list(self._door.connections):
            yield Entry(str(number), Kind.FOLDER)

    def unlink(self, parts: Parts) -> None:
        """See `Node.unlink`."""
        if len(parts) > 1:
            self._find(parts).unlink(parts[1:])
        else:
            super().unlink(parts)


class Doors:
    """The doors of all daemons of a host; get it with `env.services.get(Doors, Doors)`.

    Attributes:
        numbers: ids of connections.
    """

    def __init__(self) -> None:
        self.numbers: Final = itertools.count(1)
        self._doors: Final[dict[str, Door]] = {}

    def of(self, cell_id: str) -> Door:
        """Return the door of a daemon."""
        door = self._doors.get(cell_id)
        if door is None:
            door = self._doors[cell_id] = Door()
        return door
