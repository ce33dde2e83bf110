"""A topic as a folder.

<any name>      write and close: one message; opened for appending, one with each write
next            read: wait for one message
next.id         its id
inflight/<id>   what this run has taken: read it again, unlink = done, touch = keep it longer, move out = give back
dead/<id>       what is given out no more: read it, unlink = drop, move out = publish again
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Final

from pulp_runtime.capabilities.cloud.queue_file import Next, Publishing
from pulp_runtime.capabilities.cloud.queue_view import View
from pulp_runtime.ext.nodes import Bytes
from pulp_runtime.ext.tree import Entry, File, How, Kind, Node, Parts, Stat

NEXT: Final = "next"
NEXT_ID: Final = "next.id"
IN_FLIGHT: Final = "inflight"
DEAD: Final = "dead"
NAME_BYTES: Final = 255

_FILES: Final = (NEXT, NEXT_ID)
_FOLDERS: Final = (DEAD, IN_FLIGHT)
_OWN: Final = (*_FILES, *_FOLDERS)


class TopicFolder(Node):
    """A topic, or one of the two folders in it.

    Args:
        view: the topic, as this run sees it.
        at: the folder, () for the topic itself.
    """

    def __init__(self, view: View, at: Parts = ()) -> None:
        self.view: Final = view
        self.at: Final = at

    # Looking ----------------------------------------------------------------------------------------------------

    def entries(self) -> Iterator[Entry]:
        """See `Node.entries`."""
        if not self.view.reads:
            return
        if not self.at:
            yield from (Entry(name, Kind.FOLDER if name in _FOLDERS else Kind.FILE) for name in sorted(_OWN))
        elif self.at == (IN_FLIGHT,):
            yield from (Entry(str(number), Kind.FILE, number) for number in sorted(self.view.held))
        else:
            after = 0
            while page := self.view.store.dead(self.view.topic, after=after):
                yield from (Entry(str(number), Kind.FILE, number) for number in page)
                after = page[-1]

    def stat(self, parts: Parts, *, follow: bool = True) -> Stat:
        """See `Node.stat`."""
        path = self._known(parts)
        if path == (NEXT_ID,):
            return Stat(Kind.FILE, size=len(self._last()))
        if len(path) < 2:
            return Stat(Kind.FILE if path == (NEXT,) else Kind.FOLDER)
        number = _number(path[1])
        if path[0] == IN_FLIGHT:
            held = self.view.held.get(number)
            if held is None:
                raise _missing()
            size, at = held.size, held.published_ns
        else:
            dead = self.view.store.find_dead(self.view.topic, number)
            if dead is None:
                raise _missing()
            size, at = len(dead.body), dead.published_ns
        return Stat(Kind.FILE, size=size, inode=number, accessed_ns=at, modified_ns=at, changed_ns=at)

    def _known(self, parts: Parts) -> Parts:
        """Return a path that may be something: of what a program that may take messages finds."""
        path = self.at + parts
        if not path:
            return path
        if not self.view.reads or path[0] not in _OWN or len(path) > 2:
            raise _missing()
        if len(path) == 2 and path[0] in _FILES:
            raise NotADirectoryError(errno.ENOTDIR, "no folder")
        return path

    def _last(self) -> bytes:
        return b"" if self.view.last is None else b"%d" % self.view.last

    # Opening ----------------------------------------------------------------------------------------------------

    def open(self, parts: Parts, how: How) -> File | Node:
        """See `Node.open`."""
        path = self.at + parts
        if how.changes and self._publishes(path):
            return self._publish(path[0], how)
        found = self.stat(parts)
        if how.create and how.exclusive:
            raise FileExistsError(errno.EEXIST, "it is there")
        if found.kind is Kind.FOLDER:
            if how.changes:
                raise IsADirectoryError(errno.EISDIR, "a folder")
            return TopicFolder(self.view, path)
        if how.folder:
            raise NotADirectoryError(errno.ENOTDIR, "no folder")
        if how.changes:
            raise PermissionError(errno.EACCES, "is read, and not written")
        if path == (NEXT,):
            return Next(self.view)
        if path == (NEXT_ID,):
            return Bytes(self._last())
        number = _number(path[1])
        if path[0] == IN_FLIGHT:
            return Bytes(self.view.body(number))
        dead = self.view.store.find_dead(self.view.topic, number)
        if dead is None:
            raise _missing()
        return Bytes(dead.body)

    def _publishes(self, path: Parts) -> bool:
        """Tell whether writing at a path would publish; refuse where nothing can be made."""
        if len(path) == 1 and not (self.view.reads and path[0] in _OWN):
            return True
        if len(path) > 1 and path[0] in _FOLDERS and self.view.reads:
            try:
                self.stat(path[len(self.at) :])
            except FileNotFoundError:
                self._writable()
                raise PermissionError(errno.EACCES, "only the queue itself puts messages here") from None
        return False

    def _publish(self, name: str, how: How) -> File:
        self._writable()
        _check(name)
        if not how.create:
            raise _missing()
        return Publishing(self.view, appends=how.append, always=how.truncate or how.exclusive)

    def _writable(self) -> None:
        if not self.view.writes:
            raise OSError(errno.EROFS, f"the topic {self.view.topic} is granted for reading only")

    # Changing ---------------------------------------------------------------------------------------------------

    def unlink(self, parts: Parts) -> None:
        """See `Node.unlink`: what was taken is acknowledged, what is dead is dropped."""
        folder, number = self._message(parts)
        if folder == IN_FLIGHT:
            self.view.acknowledge(number)
        else:
            self.view.store.drop(self.view.topic, number)

    def rename(self, parts: Parts, to: Node, to_parts: Parts) -> None:
        """See `Node.rename`: moved out, a message is ready again; moved from inflight to dead, it is dead."""
        folder, number = self._message(parts)
        if not isinstance(to, TopicFolder) or to.view is not self.view:
            if isinstance(to, TopicFolder):
                to._writable()
            raise OSError(errno.EXDEV, "a message stays in its topic")
        target = to.at + to_parts
        if len(target) == 1 and target[0] not in _OWN:
            _check(target[0])
            if folder == IN_FLIGHT:
                self.view.release(number)
            else:
                self.view.store.requeue(self.view.topic, number)
        elif len(target) == 2 and target[0] == DEAD and folder == IN_FLIGHT:
            self.view.release(number, dead=True)
        else:
            raise PermissionError(errno.EACCES, "a message moves out of its folder, or from inflight to dead")

    def set_times(self, parts: Parts, accessed_ns: int | None, modified_ns: int | None, *, follow: bool = True) -> None:
        """See `Node.set_times`: what was taken is kept for another time-out, whatever the times are."""
        folder, number = self._message(parts)
        if folder == DEAD:
            raise OSError(errno.ENOTSUP, "a dead message has no time-out")
        self.view.renew(number)

    def _message(self, parts: Parts) -> tuple[str, int]:
        """Return which message a path is, of `inflight` or `dead`."""
        path = self.at + parts
        if self.stat(parts).kind is Kind.FOLDER:
            raise IsADirectoryError(errno.EISDIR, "a folder")
        if len(path) < 2:
            raise PermissionError(errno.EACCES, "a topic's own file")
        return path[0], _number(path[1])

    def make_folder(self, parts: Parts) -> None:
        """See `Node.make_folder`; there are none to make."""
        self._fixed(parts)

    def remove_folder(self, parts: Parts) -> None:
        """See `Node.remove_folder`; those that are there stay."""
        self.stat(parts)
        self._fixed(())

    def _fixed(self, parts: Parts) -> None:
        if parts:
            self._writable()
        raise PermissionError(errno.EACCES, "the folders of a topic are what they are")


def _check(name: str) -> None:
    """Return if a message can be published by that name, which it then has not."""
    if len(name.encode(errors="replace")) > NAME_BYTES:
        raise OSError(errno.ENAMETOOLONG, f"a name has at most {NAME_BYTES} bytes")
    if name.startswith(".") or name in _OWN or "\0" in name:
        raise OSError(errno.EINVAL, "that name is the queue's own; take any other")


def _number(name: str) -> int:
    if not (name.isascii() and name.isdigit() and name[0] != "0" and len(name) <= 18):
        raise _missing()
    return int(name)


def _missing() -> OSError:
    return FileNotFoundError(errno.ENOENT, "not there")
