"""What a program has open, by number."""

from __future__ import annotations

import heapq
from typing import Final

from pulp_runtime.ext.tree import File, Kind, Node
from pulp_runtime.wasi.errno import Refused, WasiErrno
from pulp_runtime.wasi.listing import Listing

MAX_DESCRIPTORS: Final = 1024
"""Most that are open at once (spec/wasi-cloud §8); past it opening answers `MFILE`."""


class Descriptor:
    """One number: a file, or a folder.

    Attributes:
        file: the open file; None for a folder.
        node: the open folder; None for a file.
        rights: what may be done with it; only ever fewer.
        inheriting: what may be done with what is opened below it.
        flags: `right.APPEND`, `NONBLOCK` and so on.
        position: where a file with positions goes on.
        seekable: whether it has them.
        preopen: the name it was given to the program under; None if the program opened it.
        listing: how far the names of a folder have been read.
    """

    __slots__ = ("file", "flags", "inheriting", "listing", "node", "position", "preopen", "rights", "seekable")

    def __init__(self, opened: File | Node, rights: int, inheriting: int = 0, flags: int = 0) -> None:
        self.file = opened if isinstance(opened, File) else None
        self.node = None if isinstance(opened, File) else opened
        self.seekable = self.file is not None and self.file.seekable
        self.rights = rights
        self.inheriting = inheriting
        self.flags = flags
        self.position = 0
        self.preopen: bytes | None = None
        self.listing: Listing | None = None

    @property
    def kind(self) -> Kind:
        """What it is."""
        return Kind.FOLDER if self.file is None else self.file.kind

    def close(self, *, clean: bool = True) -> None:
        """Let go of it; what its file raises is the caller's."""
        if self.listing is not None:
            self.listing.close()
        if self.file is not None:
            if clean:
                self.file.close()
            else:
                self.file.abandon()
        elif self.preopen is None and self.node is not None:
            self.node.close()


class Descriptors:
    """All of them. A new one gets the lowest number that is free, as POSIX has it."""

    __slots__ = ("_free", "all")

    def __init__(self) -> None:
        self.all: list[Descriptor | None] = []
        self._free: list[int] = []

    def get(self, number: int) -> Descriptor:
        """Return one; refuse a number that is not open with `BADF`."""
        try:
            found = self.all[number]
        except IndexError:
            found = None
        if found is None:
            raise Refused(WasiErrno.BADF)
        return found

    def room(self) -> None:
        """Refuse with `MFILE` if no more may be opened."""
        if len(self.all) - len(self._free) >= MAX_DESCRIPTORS:
            raise Refused(WasiErrno.MFILE)

    def add(self, descriptor: Descriptor) -> int:
        """Give one its number."""
        if self._free:
            number = heapq.heappop(self._free)
            self.all[number] = descriptor
            return number
        self.all.append(descriptor)
        return len(self.all) - 1

    def take(self, number: int) -> Descriptor:
        """Return one whose number is free from now on."""
        found = self.get(number)
        self.all[number] = None
        heapq.heappush(self._free, number)
        return found

    def put(self, number: int, descriptor: Descriptor) -> Descriptor:
        """Give an open number to another one; return the one that had it."""
        found = self.get(number)
        self.all[number] = descriptor
        return found

    def drain(self) -> list[Descriptor]:
        """Return all that are open, and forget them."""
        found = [descriptor for descriptor in self.all if descriptor is not None]
        self.all.clear()
        self._free.clear()
        return found
