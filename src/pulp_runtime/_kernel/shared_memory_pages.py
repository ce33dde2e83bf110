"""Pages that stand in several linear memories at once: the only file that maps memory.

    group's file ── mmap(MAP_SHARED | MAP_FIXED) ──▶ a range inside the linear memory of each member

A range is the guest's own before it is mapped over: the guest's allocator handed it out. What makes that safe:

* The engine reserves address space for a whole 32-bit memory, never moves it, and on `memory.grow` changes the
  protection of the new pages only. When an instance is closed it unmaps the whole reservation; the pages live on in
  the group's file, for the other members.
* The file cannot shrink (sealed where the system can do that, and nobody else has it), and all of it is allocated
  when it is made: a guest that touches it can never be sent SIGBUS.
* `put_back` gives the range private zeroes again before the instance is closed, so that nothing shared is left even
  in an engine that would keep reservations for the next instance.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
import tempfile
import weakref
from typing import Final

from pulp_runtime._kernel.crossing import GuestMemory

_MAP_FIXED: Final = 0x10  # Linux and macOS; Python's mmap has no name for it
_FAILED: Final = ctypes.c_void_p(-1).value
_READ_WRITE: Final = 3
_SHARED: Final = 1
_PRIVATE: Final = 2
_ZEROES: Final = bytes(1 << 20)


def supported() -> bool:
    """Tell whether this system can map one page into two memories."""
    return sys.platform in ("linux", "darwin")


class SharedPages:
    """The memory of one group: zeroes when it is made, gone with the last reference and the last mapping.

    Attributes:
        length: in bytes.

    Raises:
        OSError: the system has no memory, or no descriptors, for it.
    """

    def __init__(self, length: int) -> None:
        self.length: Final = length
        self._file: Final = _anonymous_file(length)
        weakref.finalize(self, os.close, self._file)

    def put(self, memory: GuestMemory, start: int) -> int:
        """Map the pages over `start`, a range inside `memory`; return the host's address of it.

        Raises:
            OSError: the system refuses; the range holds zeroes then, or `memory` cannot be read any more.
        """
        address = ctypes.addressof(ctypes.c_ubyte.from_buffer(memory.view, start))
        if start + self.length > memory.size or address % mmap.PAGESIZE:
            raise OSError(f"{start:#x} is not a place for {self.length} bytes")
        try:
            _map(address, self.length, _SHARED, self._file)
        except OSError:
            try:
                put_back(address, self.length)  # a mapping that fails may leave a hole, and a hole would end the host
            except OSError:
                memory.forget()
                raise
            raise
        return address


def put_back(address: int, length: int) -> None:
    """Map private zeroes over what `SharedPages.put` mapped; raise OSError if the system refuses."""
    _map(address, length, _PRIVATE | mmap.MAP_ANONYMOUS, -1)


def _map(address: int, length: int, flags: int, file: int) -> None:
    library = ctypes.CDLL(None, use_errno=True)
    function = library.mmap
    function.restype = ctypes.c_void_p
    function.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int64]
    if function(address, length, _READ_WRITE, flags | _MAP_FIXED, file, 0) == _FAILED:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def _anonymous_file(length: int) -> int:
    """Return a file without a name that has `length` bytes of zeroes, all of them allocated."""
    make = getattr(os, "memfd_create", None)
    if make is None:
        return _unlinked_file(length)
    import fcntl

    file: int = make("pulp-shared", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.posix_fallocate(file, 0, length)
        fcntl.fcntl(file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    except BaseException:
        os.close(file)
        raise
    return file


def _unlinked_file(length: int) -> int:
    """Do the same in the folder of temporary files."""
    with tempfile.TemporaryFile(buffering=0) as made:
        for start in range(0, length, len(_ZEROES)):
            piece = _ZEROES[: length - start]
            while piece:  # written, not only made longer: a hole is filled when it is touched, if there is room then
                piece = piece[made.write(piece) :]
        return os.dup(made.fileno())
