"""What the functions of preview 1 share: the instance, its descriptors, and what is waited for."""

from __future__ import annotations

import time
from collections.abc import Callable
from struct import Struct
from typing import Final, TypeVar

from pulp_runtime.ext.tree import File, Node
from pulp_runtime.wasi import right
from pulp_runtime.wasi.bell import Bell
from pulp_runtime.wasi.descriptor import Descriptor, Descriptors
from pulp_runtime.wasi.errno import Refused, WasiErrno
from pulp_runtime.wasi.machine import Machine
from pulp_runtime.wasi.place import MAX_PATH_BYTES, Place, place

T = TypeVar("T")

PAUSE_SECONDS: Final = 0.001
"""A file that is said to be ready and is not is asked again after this."""

PAIR: Final = Struct("<II")
WORD: Final = Struct("<I")
LONG: Final = Struct("<Q")


class State:
    """One run after another of one instance slot."""

    def __init__(self, machine: Machine) -> None:
        self.machine: Final = machine
        self.view: Final = machine.view
        self.descriptors: Final = Descriptors()
        self.bell: Final = Bell()

    def file(self, number: int, rights: int = 0) -> tuple[Descriptor, File]:
        """Return an open file that has these rights; `BADF`, `ISDIR` or `NOTCAPABLE` otherwise."""
        found = self.descriptors.get(number)
        if found.file is None:
            raise Refused(WasiErrno.ISDIR)
        if found.rights & rights != rights:
            raise Refused(WasiErrno.BADF if rights & (right.READ | right.WRITE) else WasiErrno.NOTCAPABLE)
        return found, found.file

    def folder(self, number: int, rights: int = 0) -> tuple[Descriptor, Node]:
        """Return an open folder that has these rights; `BADF`, `NOTDIR` or `NOTCAPABLE` otherwise."""
        found = self.descriptors.get(number)
        if found.node is None:
            raise Refused(WasiErrno.NOTDIR)
        if found.rights & rights != rights:
            raise Refused(WasiErrno.NOTCAPABLE)
        return found, found.node

    def raw(self, address: int, length: int) -> bytes:
        """Return a path as it is in the guest's memory; `NAMETOOLONG` before it is copied."""
        found = self.view(address, length)
        if length > MAX_PATH_BYTES:
            raise Refused(WasiErrno.NAMETOOLONG)
        return found.tobytes()

    def place(self, number: int, address: int, length: int, rights: int) -> Place:
        """Return what a path below an open folder means."""
        _, node = self.folder(number, rights)
        return place(node, self.raw(address, length))

    def patiently(self, descriptor: Descriptor, file: File, act: Callable[[], T], *, write: bool) -> T:
        """Do what could not be done yet, as soon as it can.

        Raises:
            OSError: `AGAIN` on a descriptor that does not wait, `TIMEDOUT` at the deadline; or what `act` raises.
        """
        if descriptor.flags & right.NONBLOCK:
            raise Refused(WasiErrno.AGAIN)
        machine = self.machine
        while self.bell.await_any([(file, write)], machine, left := machine.seconds_left()) and left > 0:
            try:
                return act()
            except BlockingIOError:
                time.sleep(PAUSE_SECONDS)  # it was ready, and is not: somebody else was faster, or it does not know
        raise Refused(WasiErrno.TIMEDOUT)

    def put(self, address: int, number: int) -> None:
        """Answer 32 bits."""
        WORD.pack_into(self.view(address, 4), 0, number)

    def put_long(self, address: int, number: int) -> None:
        """Answer 64 bits."""
        LONG.pack_into(self.view(address, 8), 0, number)
