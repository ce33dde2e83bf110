"""What a file system in memory is made of: how much there is, inodes, and open files."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from typing import Final
from weakref import ref

from pulp_runtime.ext.tree import File, Kind, Stat

INODE_BYTES: Final = 512
"""What a file, folder or link counts for, besides its content; a further name counts the same."""
DEVICE: Final = 0x70756C70


class Disk:
    """How much a file system in memory holds, and how much it may.

    Args:
        limit_bytes: the most.
        taken: told how much it will hold before it holds more; raises `OSError` if that cannot be.
    """

    def __init__(self, limit_bytes: int, taken: Callable[[int], None] | None = None) -> None:
        self._limit: Final = limit_bytes
        self._taken: Final = taken
        self._last = 0
        self.used = 0

    def reserve(self, size: int) -> None:
        """Note so many bytes more, or fewer; refuse what does not fit."""
        if size > 0 and self.used + size > self._limit:
            raise OSError(errno.ENOSPC, f"more than {self._limit} bytes")
        if self._taken is not None:
            self._taken(self.used + size)
        self.used += size

    def inode(self, kind: Kind, target: str = "") -> Inode:
        """Return a new inode that has no name yet."""
        self._last += 1
        return Inode(self._last, kind, target)

    def add(self, above: Inode, name: str, kind: Kind, target: str = "") -> Inode:
        """Make something under a name that is free."""
        made = self.inode(kind, target)
        self.name(above, name, made)
        if kind is Kind.FOLDER:
            made.parent = ref(above)
        return made

    def name(self, above: Inode, name: str, inode: Inode) -> None:
        """Give something a name that is free."""
        if above.gone:
            raise FileNotFoundError(errno.ENOENT, "the folder was removed")
        self.reserve(_name_bytes(name, inode))
        above.children[name] = inode
        inode.links += 1
        above.touch()

    def unname(self, above: Inode, name: str) -> None:
        """Take a name away; what has none left is gone, once nobody has it open."""
        inode = above.children.pop(name)
        self.reserve(-_name_bytes(name, inode))
        inode.links -= 1
        inode.changed_ns = time.time_ns()
        above.touch()
        if inode.kind is Kind.FOLDER:
            inode.gone = True
            inode.parent = None
        self.settle(inode)

    def move(self, above: Inode, name: str, to: Inode, new: str) -> None:
        """Give something another name in one step; what has that name loses it."""
        if to.gone:
            raise FileNotFoundError(errno.ENOENT, "the folder was removed")
        inode = above.children[name]
        longer = len(new.encode()) - len(name.encode())
        if new in to.children:
            self.unname(to, new)
        self.reserve(longer)
        del above.children[name]
        to.children[new] = inode
        if inode.kind is Kind.FOLDER:
            inode.parent = ref(to)
        inode.changed_ns = time.time_ns()
        above.touch()
        to.touch()

    def settle(self, inode: Inode) -> None:
        """Give back the content of a file that has no name and is not open."""
        if not inode.links and not inode.opened and inode.data:
            self.reserve(-len(inode.data))
            inode.data = bytearray()


class Inode:
    """A file, folder or link, whatever its names are."""

    __slots__ = (
        "__weakref__", "accessed_ns", "changed_ns", "children", "data", "gone", "kind", "links", "modified_ns",
        "number", "opened", "parent", "target",
    )  # fmt: skip

    def __init__(self, number: int, kind: Kind, target: str) -> None:
        self.number = number
        self.kind = kind
        self.target = target
        self.data = bytearray()
        self.children: dict[str, Inode] = {}
        self.parent: ref[Inode] | None = None  # weak: all of it goes with the run, and not when it is collected
        self.links = 0
        self.opened = 0
        self.gone = False
        self.accessed_ns = self.modified_ns = self.changed_ns = time.time_ns()

    def touch(self) -> None:
        """Note that the content is another."""
        self.modified_ns = self.changed_ns = time.time_ns()

    def holds(self, folder: Inode) -> bool:
        """Tell whether a folder is this one, or below it."""
        at: Inode | None = folder
        while at is not None:
            if at is self:
                return True
            at = None if at.parent is None else at.parent()
        return False

    def set_times(self, accessed_ns: int | None, modified_ns: int | None) -> None:
        """Set the times; None leaves one as it is."""
        if accessed_ns is not None:
            self.accessed_ns = accessed_ns
        if modified_ns is not None:
            self.modified_ns = modified_ns
        self.changed_ns = time.time_ns()

    def stat(self) -> Stat:
        """Return what is known of it."""
        size = len(self.target.encode()) if self.kind is Kind.LINK else len(self.data)
        links = self.links
        if self.kind is Kind.FOLDER and not self.gone:
            links = 2 + sum(child.kind is Kind.FOLDER for child in self.children.values())
        return Stat(self.kind, size, self.number, DEVICE, links, self.accessed_ns, self.modified_ns, self.changed_ns)


class MemoryFile(File):
    """An open file in memory."""

    kind = Kind.FILE
    seekable = True

    def __init__(self, disk: Disk, inode: Inode) -> None:
        self._disk: Final = disk
        self._inode: Final = inode
        inode.opened += 1

    def read_at(self, offset: int, into: memoryview) -> int:
        """See `File.read_at`."""
        piece = self._inode.data[offset : offset + len(into)]
        into[: len(piece)] = piece
        return len(piece)

    def write_at(self, offset: int, data: memoryview) -> int:
        """See `File.write_at`."""
        inode = self._inode
        end = offset + len(data)
        if end > len(inode.data):
            self._resize(end)
        inode.data[offset:end] = data
        inode.modified_ns = inode.changed_ns = time.time_ns()
        return len(data)

    def append(self, data: memoryview) -> int:
        """See `File.append`."""
        return self.write_at(len(self._inode.data), data)

    def _resize(self, size: int) -> None:
        """Make it longer, with zeros, or shorter."""
        held = self._inode.data
        more = size - len(held)
        self._disk.reserve(more)
        if more > 0:
            held.extend(bytes(more))
        else:
            del held[size:]

    def stat(self) -> Stat:
        """See `File.stat`."""
        return self._inode.stat()

    def truncate(self, size: int) -> None:
        """See `File.truncate`."""
        self._resize(size)
        self._inode.touch()

    def set_times(self, accessed_ns: int | None, modified_ns: int | None) -> None:
        """See `File.set_times`."""
        self._inode.set_times(accessed_ns, modified_ns)

    def close(self) -> None:
        """See `File.close`."""
        self._inode.opened -= 1
        self._disk.settle(self._inode)


def _name_bytes(name: str, inode: Inode) -> int:
    return INODE_BYTES + len(name.encode()) + len(inode.target.encode())
