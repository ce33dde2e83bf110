"""Memory that cells share: `shm_attach` and `shm_fence`, for cells whose manifest says `shared_memory_groups`.

    guest ─ shm_attach(name, length) ─▶ member? quota? ─▶ its own pulp_alloc ─▶ the group's pages over that range

The range comes from the guest's allocator, not from the end of its memory: a runtime may take for granted that nobody
but itself grows memory (Go's does), and would put its heap into pages that the host had added. What `pulp_alloc` has
handed out is left alone by every runtime until it is freed.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Collection
from typing import TYPE_CHECKING, Final, NamedTuple

from pulp_runtime._kernel.shared_memory_pages import SharedPages, put_back, supported
from pulp_runtime.errors import Errno, HostError, LoadError
from pulp_runtime.ext import Capability, CellRef, Linker
from pulp_runtime.manifest.cell import CellSpec
from pulp_runtime.manifest.limits import MIB, PAGE
from pulp_runtime.manifest.names import NAME_CHARACTERS

if TYPE_CHECKING:
    from pulp_runtime._kernel.instance import Instance

NAME: Final = "core.shared_memory"
ATTACH: Final = "shm_attach"
FENCE: Final = "shm_fence"

UNEVEN: Final = 12
"""The length is not a whole number of pages."""
OTHER_LENGTH: Final = 13
"""The group has another length."""
QUOTA: Final = 22
"""`limits.shared_memory_mb` is used up."""


class Range(NamedTuple):
    """Where a group stands in one instance.

    Attributes:
        start: the guest's address.
        address: the host's.
        pages: what is there; the group exists as long as any instance refers to it.
    """

    start: int
    address: int
    pages: SharedPages


class Attachments:
    """The groups one instance may attach, and has attached.

    Attributes:
        groups: those its manifest names.
        attached: by name.
        attaching: whether its allocator is being asked for room for one.
    """

    __slots__ = ("_bytes", "attached", "attaching", "groups")

    def __init__(self, groups: Collection[str], megabytes: int) -> None:
        self.groups: Final = frozenset(groups)
        self.attached: Final[dict[str, Range]] = {}
        self.attaching = False
        self._bytes: Final = megabytes * MIB

    @property
    def room(self) -> int:
        """How many bytes more it may attach."""
        return self._bytes - sum(one.pages.length for one in self.attached.values())

    @property
    def ranges(self) -> tuple[tuple[int, int], ...]:
        """Start and length of what is not this instance's alone, in its memory."""
        return tuple((one.start, one.pages.length) for one in self.attached.values())

    def detach(self) -> None:
        """Give every range private zeroes again. The instance must not be inside a call, nor closed."""
        while self.attached:
            _name, one = self.attached.popitem()
            try:
                put_back(one.address, one.pages.length)
            except OSError:
                pass  # the engine is about to unmap all of this memory anyway


class SharedMemory:
    """The groups of one host. A group exists from its first `shm_attach` until no instance has it attached."""

    def __init__(self) -> None:
        self._lock: Final = threading.Lock()
        self._groups: Final[weakref.WeakValueDictionary[tuple[str, str, str], SharedPages]] = (
            weakref.WeakValueDictionary()
        )

    def capability(self) -> Capability:
        """Return the capability every cell has; what it may attach is in its manifest."""
        return Capability(name=NAME, register=self._register, provider=__name__)

    def _register(self, linker: Linker, _cell: CellRef) -> None:
        linker.define(ATTACH, 4, self._attach, blocking=True)  # the system fills pages with zeroes
        linker.define(FENCE, 0, self._fence)

    def _fence(self, guest: Instance) -> int:
        """Order what the guest did before and does after; the way here and back takes and releases the GIL."""
        return Errno.OK if guest.shared.groups else Errno.UNDECLARED

    def _attach(self, guest: Instance, name_ptr: int, name_len: int, length: int, address_out: int) -> int:
        try:
            start = self._start(guest, name_ptr, name_len, length, address_out)
        except HostError as refused:
            guest.cell.log.warning("shm_attach refused", code=refused.code, reason=refused.detail)
            raise
        guest.write(address_out, start.to_bytes(4, "little"))
        return Errno.OK

    def _start(self, guest: Instance, name_ptr: int, name_len: int, length: int, address_out: int) -> int:
        """Return the address of the group's range in the guest, attaching it if it is not attached."""
        own = guest.shared
        if not own.groups:
            raise HostError(Errno.UNDECLARED, "the manifest has no shared_memory_groups")
        if not name_len or not length:
            raise HostError(Errno.EMPTY, "no name, or no length")
        name = guest.read(name_ptr, min(name_len, NAME_CHARACTERS + 1)).decode(errors="replace")
        if name not in own.groups:
            raise HostError(Errno.DENIED, f"shared_memory_groups does not have {name!r}")
        if length % PAGE:
            raise HostError(UNEVEN, f"{name}: {length} bytes are not a whole number of pages of {PAGE}")
        known = own.attached.get(name)
        if known is not None:
            if known.pages.length != length:
                raise HostError(OTHER_LENGTH, f"{name} has {known.pages.length} bytes, not {length}")
            return known.start
        if length > own.room:
            raise HostError(QUOTA, f"{name}: {length} bytes are too many; raise limits.shared_memory_mb")
        guest.write(address_out, bytes(4))  # refused now, not when the pages are mapped
        return self._put(guest, name, length)

    def _put(self, guest: Instance, name: str, length: int) -> int:
        """Map the group into the guest, at a place of its own choosing; return where."""
        own = guest.shared
        if own.attaching:
            raise HostError(Errno.ALLOC, "the allocator attaches memory itself")
        own.attaching = True
        try:
            pages = self._group(guest.cell, name, length)
            block = guest.allocate(length + PAGE - 1)
            start = -(-block // PAGE) * PAGE
            try:
                _check(guest, start, length)
                own.attached[name] = Range(start, pages.put(guest.memory, start), pages)
            except OSError as error:
                raise HostError(Errno.FAILED, f"{name}: the system refuses: {error}") from None
        finally:
            own.attaching = False
        guest.cell.log.info("shared memory attached", group=name, bytes=length)
        return start

    def _group(self, cell: CellRef, name: str, length: int) -> SharedPages:
        """Return the group's pages, made if no instance has it attached."""
        key = (cell.scope.application, cell.scope.application_instance, name)
        with self._lock:
            pages = self._groups.get(key)
            if pages is None:
                try:
                    pages = self._groups[key] = SharedPages(length)
                except OSError as error:
                    raise HostError(Errno.FAILED, f"{name}: the system refuses: {error}") from None
            if pages.length != length:
                raise HostError(OTHER_LENGTH, f"{name} has {pages.length} bytes, not {length}")
            return pages


def _check(guest: Instance, start: int, length: int) -> None:
    """Refuse a range, as the guest's allocator handed it out, that is not memory or is another group's."""
    guest.memory.refresh()
    if start + length > guest.memory.size:
        raise HostError(Errno.ALLOC, f"pulp_alloc answered {start:#x}, which has no room for {length} bytes")
    for other, size in guest.shared.ranges:
        if start < other + size and other < start + length:
            raise HostError(Errno.ALLOC, f"pulp_alloc answered {start:#x} again, where another group is")


def check_system(spec: CellSpec) -> None:
    """Refuse a cell that wants shared memory on a system that has none.

    Raises:
        LoadError: with the way out.
    """
    if spec.shared_memory_groups and not supported():
        raise LoadError(
            spec.name,
            f"{spec.manifest_path}: shared_memory_groups works on Linux and macOS only; remove it to run here",
        )
