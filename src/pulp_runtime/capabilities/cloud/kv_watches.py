"""`.watch/<prefix>`: a stream with a line for each change of a key that begins so."""

from __future__ import annotations

import errno
import threading
from collections import deque
from collections.abc import Iterator
from typing import Final

from pulp_runtime.capabilities.cloud.kv_area import Area, folder_stat, prefix_of, refused
from pulp_runtime.capabilities.cloud.kv_backend import Keyspace
from pulp_runtime.capabilities.cloud.kv_mount import Mount, key_of
from pulp_runtime.capabilities.cloud.signal import Signal
from pulp_runtime.ext import Entry, File, How, Kind, Outcome, Stat
from pulp_runtime.ext.tree import Parts, Wake
from pulp_runtime.kv.entry import Change

ALL: Final = ".all"
"""The name that stands for everything in a folder: `.watch/.all`, `.watch/user/.all`."""
WAITING: Final = 10_000
"""Most lines that wait for a reader; past that they are forgotten, and `lost <rev>` comes in their place."""
WAITING_BYTES: Final = 1024 * 1024
"""Most bytes of such lines; past that the same."""
OPEN: Final = 64
"""Most watches of one run in one scope."""


class Watches(Area):
    """The watches of one run."""

    def __init__(self, mount: Mount) -> None:
        super().__init__(mount)
        self.open_files: Final[set[Watch]] = set()
        self._ends = False

    def open(self, parts: Parts, how: How) -> File | None:
        """See `Area.open`; lines come for changes from now on."""
        if not parts:
            if how.changes:
                raise refused()
            return None
        prefix = _prefix(parts)
        if how.folder:
            raise NotADirectoryError(errno.ENOTDIR, "no folder")
        if how.changes:
            raise refused()
        if len(self.open_files) >= OPEN:
            raise OSError(errno.EBUSY, f"{OPEN} watches are open")
        if not self._ends:
            self._ends = True
            self.mount.run.on_stop(self._stop)
            self.mount.run.on_end(self._end)
        with self.mount.answering:
            return Watch(self, self.mount.keys, prefix)

    def stat(self, parts: Parts) -> Stat:
        """See `Area.stat`; any prefix can be watched."""
        if parts:
            _prefix(parts)
            return Stat(Kind.FILE, device=self.mount.granted.device)
        return folder_stat(parts, self.mount.granted.device)

    def entries(self, parts: Parts) -> Iterator[Entry]:
        """See `Area.entries`; prefixes are no names."""
        yield from ()

    def _stop(self) -> None:
        for watch in list(self.open_files):
            watch.stop()

    def _end(self, _outcome: Outcome) -> None:
        for watch in list(self.open_files):
            watch.close()


def _prefix(parts: Parts) -> bytes:
    if parts[-1] == ALL:
        return prefix_of(parts[:-1])
    return key_of(parts)


class Watch(File):
    """An open watch: reading it waits for changes; it ends when the host wants the program to end."""

    def __init__(self, area: Watches, keys: Keyspace, prefix: bytes) -> None:
        self._area: Final = area
        self._changed: Final = Signal()
        self._lock: Final = threading.Lock()
        self._lines: Final[deque[bytes]] = deque()
        self._bytes = 0
        self._rest = b""
        self._over = False
        self._watch: Final = keys.watch(prefix, self._tell)
        area.open_files.add(self)

    def _tell(self, change: Change) -> None:
        line = line_of(change)
        with self._lock:
            if len(self._lines) >= WAITING or self._bytes + len(line) > WAITING_BYTES:
                self._lines.clear()
                self._bytes = 0
                line = b"lost %d\n" % change.revision
            self._lines.append(line)
            self._bytes += len(line)
        self._changed.fire()

    def read(self, size: int) -> bytes:
        """See `File.read`: as many lines as there are; one that does not fit goes on with the next read."""
        if not self._rest:
            room = size
            with self._lock:
                found = []
                while self._lines and room > 0:
                    found.append(self._lines.popleft())
                    room -= len(found[-1])
                    self._bytes -= len(found[-1])
            self._rest = b"".join(found)
        if not self._rest:
            if self._over:
                return b""
            raise BlockingIOError(errno.EAGAIN, "nothing has changed")
        piece, self._rest = self._rest[:size], self._rest[size:]
        return piece

    def ready(self, *, write: bool = False) -> int | None:
        """See `File.ready`."""
        if self._rest or write:
            return len(self._rest)
        with self._lock:
            return len(self._lines[0]) if self._lines else 0 if self._over else None

    def watch(self, wake: Wake) -> Wake:
        """See `File.watch`."""
        return self._changed.watch(wake)

    def stop(self) -> None:
        """Come to the end, after what has changed already."""
        self._over = True
        self._changed.fire()

    def close(self) -> None:
        """See `File.close`."""
        self._watch.close()
        self._area.open_files.discard(self)


def line_of(change: Change) -> bytes:
    """Return the line of a change: what would end it early is written as backslash and n, a backslash twice."""
    key = change.key.replace(b"\\", b"\\\\").replace(b"\n", b"\\n")
    return b"%s %s %d\n" % (b"del" if change.deleted else b"put", key, change.revision)
