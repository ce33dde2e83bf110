"""`.rev` and `.ttl`: what else there is to know of a key, and to set, as small files beside the keys."""

from __future__ import annotations

import errno
import time
from collections.abc import Iterator
from typing import Final

from pulp_runtime.capabilities.cloud.kv_area import Area, folder_stat, refused
from pulp_runtime.capabilities.cloud.kv_file import stat_of
from pulp_runtime.capabilities.cloud.kv_mount import Held, Mount
from pulp_runtime.ext import Entry, File, How, Stat
from pulp_runtime.ext.tree import Parts
from pulp_runtime.kv.entry import MAX_TTL_SECONDS, SECOND_NS, Listed

TEXT_BYTES: Final = 32
"""Most bytes that are written to `.ttl/<key>`."""


class Mirror(Area):
    """A folder with a small file for each key."""

    def text(self, status: Listed) -> bytes:
        """Return what the file of a key says."""
        raise NotImplementedError

    def stat(self, parts: Parts) -> Stat:
        """See `Area.stat`."""
        status = self.status_of(parts)
        device = self.mount.granted.device
        return folder_stat(parts, device) if status is None else stat_of(status, len(self.text(status)), device)

    def entries(self, parts: Parts) -> Iterator[Entry]:
        """See `Area.entries`."""
        return self.mirrored(parts)


class Revisions(Mirror):
    """`.rev/<key>`: the revision in decimal digits. Held open, it makes changes of the key conditional on it."""

    def text(self, status: Listed) -> bytes:
        """See `Mirror.text`."""
        return b"%d" % status.revision

    def open(self, parts: Parts, how: How) -> File | None:
        """See `Area.open`."""
        status = self.status_of(parts, how)
        if status is None:
            return None
        if how.changes:
            raise refused()
        return Revision(self.mount, status)


class Revision(File):
    """A revision that is held: a put of the program's own moves it on, one of somebody else's makes it stale."""

    seekable = True

    def __init__(self, mount: Mount, status: Listed) -> None:
        self._mount: Final = mount
        self._status: Final = status
        self._held: Final = Held(status.revision)
        mount.held.setdefault(status.key, []).append(self._held)

    def read_at(self, offset: int, into: memoryview) -> int:
        """See `File.read_at`."""
        piece = (b"%d" % self._held.revision)[offset : offset + len(into)]
        into[: len(piece)] = piece
        return len(piece)

    def stat(self) -> Stat:
        """See `File.stat`."""
        revision = self._held.revision
        status = self._status._replace(revision=revision)
        return stat_of(status, len(str(revision)), self._mount.granted.device)

    def close(self) -> None:
        """See `File.close`."""
        key = self._status.key
        held = self._mount.held[key]
        held.remove(self._held)
        if not held:
            del self._mount.held[key]


class Times(Mirror):
    """`.ttl/<key>`: seconds until a key disappears, 0 for never; write them to set them."""

    def text(self, status: Listed) -> bytes:
        """See `Mirror.text`."""
        left_ns = status.expires_ns - time.time_ns()
        return b"%d" % max(1, -(-left_ns // SECOND_NS)) if status.expires_ns else b"0"

    def open(self, parts: Parts, how: How) -> File | None:
        """See `Area.open`; a key that is not there gets no time."""
        status = self.status_of(parts, how)
        if status is None:
            return None
        if how.create and how.exclusive:
            raise FileExistsError(errno.EEXIST, "set already")
        return Time(self.mount, status, self.text(status), how)


class Time(File):
    """A time to live that is read, or written and set when it is closed."""

    seekable = True

    def __init__(self, mount: Mount, status: Listed, text: bytes, how: How) -> None:
        self._mount: Final = mount
        self._status: Final = status
        self._how: Final = how
        self._text = bytearray(b"" if how.truncate else text)
        self._changed = False

    def read_at(self, offset: int, into: memoryview) -> int:
        """See `File.read_at`."""
        piece = self._text[offset : offset + len(into)]
        into[: len(piece)] = piece
        return len(piece)

    def write_at(self, offset: int, data: memoryview) -> int:
        """See `File.write_at`; `EINVAL` for anything but digits and white space."""
        if not self._how.write:
            raise OSError(errno.EBADF, "not open for writing")
        if offset + len(data) > TEXT_BYTES:
            raise OSError(errno.EFBIG, f"a number has at most {TEXT_BYTES} bytes")
        if bytes(data).strip(b"0123456789 \t\r\n"):
            raise OSError(errno.EINVAL, "no number of seconds")
        self._text.extend(b" " * (offset - len(self._text)))
        self._text[offset : offset + len(data)] = data
        self._changed = True
        return len(data)

    def append(self, data: memoryview) -> int:
        """See `File.append`."""
        return self.write_at(len(self._text), data)

    def truncate(self, size: int) -> None:
        """See `File.truncate`."""
        if not self._how.write or size > len(self._text):
            raise OSError(errno.EINVAL, "a number of seconds is not longer than it is")
        del self._text[size:]

    def stat(self) -> Stat:
        """See `File.stat`."""
        return stat_of(self._status, len(self._text), self._mount.granted.device)

    def close(self) -> None:
        """See `File.close`: set it; `EINVAL` for what is no number of seconds, up to 136 years."""
        if not self._changed:
            return
        words = bytes(self._text).split()
        seconds = int(words[0]) if len(words) == 1 else -1
        if not 0 <= seconds <= MAX_TTL_SECONDS:
            raise OSError(errno.EINVAL, f"write a number of seconds, up to {MAX_TTL_SECONDS}")
        with self._mount.answering, self._mount.waiting(0):
            self._mount.keys.expire(self._status.key, seconds)

    def abandon(self) -> None:
        """See `File.abandon`: nothing is set."""
