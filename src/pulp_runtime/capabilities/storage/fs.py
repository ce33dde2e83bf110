"""`storage.fs`: whole files in a folder of the cell's own (spec/capabilities §7).

    guest ── path, bytes ──▶ Folder ── one component at a time, links by hand ──▶ {storage root}/{cell}/
                               │
                               └── DiskQuota: what is there, whoever wrote it

A module that imports `fs_write` with four words was built for the first version of this capability: then all its
functions answer the codes of that version, where 4 and 5 have each other's meaning, and new files are its owner's only.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Final

import msgspec

from pulp_runtime.abi.fs import FSEntry, FSMode, FSPath, FSRename, FSStat, FSTemporary, FSWrite, fs_stat
from pulp_runtime.capabilities.storage.grounds import Grounds
from pulp_runtime.ext import (
    Capability,
    CellRef,
    Errno,
    ExtensionError,
    Guest,
    HostError,
    HostFunction,
    Linker,
    Run,
    SetupEnv,
    host_function,
)
from pulp_runtime.files.descent import PathRefused, Root
from pulp_runtime.files.folder import Folder
from pulp_runtime.files.quota import DiskQuota
from pulp_runtime.wasi import RealFolder

MOUNT: Final = "/data"
"""Where programs find their folder."""
NAME: Final = "storage.fs"
FAILED: Final = 4
PATH: Final = 5
_FIRST_VERSION: Final = {FAILED: PATH, PATH: FAILED}
_FIRST_WRITE_WORDS: Final = 4

_FINDS: Final = frozenset({"fs_read", "fs_delete", "fs_list", "fs_stat", "fs_rename", "fs_chmod"})
"""Functions that say 6 when what they are asked for is missing; to the others it is a failure like any other."""

_FILE_MODE: Final = 0o644
_FIRST_FILE_MODE: Final = 0o600
_FOLDER_MODE: Final = 0o755
_PERMISSIONS: Final = 0o777


class FsSettings(msgspec.Struct, kw_only=True, frozen=True, forbid_unknown_fields=True):
    """What a manifest may set under `[settings."storage.fs"]`.

    Attributes:
        durable: whether an acknowledged change is on the disk. Without, it outlives the process, not a power failure.
        read_only: whether everything that changes files is refused.
        read_bytes: longest file that is read; 256 MiB is all the memory a cell has by default.
    """

    durable: bool = True
    read_only: bool = False
    read_bytes: Annotated[int, msgspec.Meta(ge=1, le=0xFFFF_FFFF)] = 256 << 20


class Files:
    """A folder for each cell.

    Functions that wait for the disk are `blocking`. The others seldom take long, and giving the worker away costs
    several times what reading a small file does; the dispatcher replaces a worker that is held up after all.
    """

    def __init__(self) -> None:
        self._env: SetupEnv | None = None
        self._cells: Final[dict[str, tuple[RealFolder, Folder]]] = {}
        self._swapped: Final[dict[str, tuple[RealFolder, Folder] | None]] = {}
        self._lock: Final = threading.Lock()
        self._grounds = Grounds()

    # What cells call --------------------------------------------------------------------------------------------

    @host_function
    def fs_read(self, cell: CellRef, path: bytes) -> bytes:
        """Answer all the bytes of a file."""
        return self._folder(cell).read(path)

    @host_function(blocking=True)
    def fs_write(self, cell: CellRef, path: bytes, data: bytes, options: FSWrite | None) -> None:
        """Make a file of these bytes, in one step; folders on its way are created."""
        mode = options.mode if options else 0
        self._folder(cell).write(path, data, mode & _PERMISSIONS if mode else _FILE_MODE)

    @host_function(blocking=True, name="fs_write")
    def fs_write_first(self, cell: CellRef, path: bytes, data: bytes) -> None:
        """Do the same as modules of the first version ask for it: the file is its owner's only."""
        self._folder(cell).write(path, data, _FIRST_FILE_MODE)

    @host_function(blocking=True)
    def fs_delete(self, cell: CellRef, path: bytes) -> None:
        """Remove a file, a link or an empty folder."""
        self._folder(cell).delete(path)

    @host_function
    def fs_list(self, guest: Guest, path: bytes) -> list[FSEntry]:
        """Answer what is in a folder, sorted by the bytes of the names; `.` is the cell's own folder."""
        entries = self._folder(guest.cell).entries(path, _deadline(guest))
        return [FSEntry(name.decode(errors="replace"), is_dir) for name, is_dir in entries]

    @host_function
    def fs_stat(self, cell: CellRef, request: FSPath) -> FSStat:
        """Answer name, size, time of the last change, mode and kind of what a path leads to, links followed."""
        name, status = self._folder(cell).status(request.path.encode())
        return fs_stat(name.decode(errors="replace"), status.st_size, status.st_mtime_ns, status.st_mode)

    @host_function(blocking=True)
    def fs_rename(self, cell: CellRef, request: FSRename) -> None:
        """Give a file or a folder another path; folders on the way to it are created, a file there is replaced."""
        self._folder(cell).rename(request.old.encode(), request.new.encode())

    @host_function(blocking=True)
    def fs_remove_all(self, guest: Guest, path: bytes) -> None:
        """Remove whatever is there, with all its content; nothing there is as good."""
        self._folder(guest.cell).remove_all(path, _deadline(guest))

    @host_function(blocking=True)
    def fs_mkdir_all(self, cell: CellRef, request: FSMode) -> None:
        """Create a folder and those above it that are missing; one that is there is as good."""
        mode = request.mode & _PERMISSIONS if request.mode else _FOLDER_MODE
        self._folder(cell).make_all(request.path.encode(), mode)

    @host_function
    def fs_chmod(self, cell: CellRef, request: FSMode) -> None:
        """Set the permission bits of a file or a folder."""
        self._folder(cell).chmod(request.path.encode(), request.mode & _PERMISSIONS)

    @host_function
    def fs_create_temp(self, cell: CellRef, request: FSTemporary) -> FSPath:
        """Create an empty file of a name that nobody has, and answer its path."""
        return self._temporary(cell, request, directory=False)

    @host_function
    def fs_mkdir_temp(self, cell: CellRef, request: FSTemporary) -> FSPath:
        """Create a folder of a name that nobody has, and answer its path."""
        return self._temporary(cell, request, directory=True)

    def _temporary(self, cell: CellRef, request: FSTemporary, *, directory: bool) -> FSPath:
        folder, pattern = request.dir.encode(), request.pattern.encode()
        return FSPath(path=self._folder(cell).create_temporary(folder, pattern, directory=directory).decode())

    def _folder(self, cell: CellRef) -> Folder:
        if self._env is None:
            raise HostError(Errno.UNDECLARED, "storage.fs is not set up")
        known = self._cells.get(cell.id)
        if known is None:
            raise HostError(Errno.NO_HANDLE, "the cell has been torn down")
        return known[1]

    # Hooks ------------------------------------------------------------------------------------------------------

    def setup(self, env: SetupEnv) -> None:
        """Remember where cells keep their files."""
        if os.open not in os.supports_dir_fd or not hasattr(os, "O_NOFOLLOW"):
            raise ExtensionError(f"{NAME} needs a system that opens files relative to a folder: Linux, macOS or a BSD")
        self._env = env
        self._grounds = env.services.get(Grounds, Grounds)

    def setup_cell(self, cell: CellRef) -> None:
        """Create the cell's folder; refuse one that is, holds or lies in another cell's.

        Raises:
            ExtensionError: naming the folder, the cell and what to change.
        """
        if self._env is None:
            return
        settings = cell.settings(NAME, FsSettings)
        path = _place(cell, self._env, self._grounds)
        root = Root(path)
        with self._lock, self._grounds.lock:
            for other, taken in self._grounds.roots.items():
                if other != cell.id and _overlap(root.path, taken):
                    raise ExtensionError(
                        f"{NAME}: the folder {root.path} of cell {cell.id} and the folder {taken} of cell {other} "
                        f"overlap; give each a folder of its own ({_variable(cell.address)})"
                    )
            try:
                os.close(root.open())
            except OSError as error:
                raise ExtensionError(
                    f"{NAME}: {root.path}: {error.strerror}; cell {cell.id} needs a folder there"
                ) from None
            quota = DiskQuota(root.path, cell.disk_bytes)
            self._grounds.roots[cell.id] = root.path
            self._cells[cell.id] = (
                RealFolder(root.path, read_only=settings.read_only, quota=quota),
                Folder(
                    root,
                    quota,
                    durable=settings.durable,
                    read_only=settings.read_only,
                    read_bytes=settings.read_bytes,
                ),
            )

    def mount(self, run: Run) -> None:
        """Give a program the cell's folder as `/data`."""
        with self._lock:  # while another version is being loaded, runs are still of the one before
            known = self._swapped.get(run.cell.id) or self._cells.get(run.cell.id)
        if known is not None:
            run.tree.add(MOUNT, known[0])

    def teardown_cell(self, cell_id: str) -> None:
        """Forget the cell's folder; what is in it stays."""
        with self._lock:
            self._cells.pop(cell_id, None)
            self._grounds.roots.pop(cell_id, None)

    def swap_begin(self, cell_id: str) -> None:
        """Put the cell's folder aside: another version of it is about to be loaded, perhaps with other settings."""
        with self._lock:
            self._swapped[cell_id] = self._cells.pop(cell_id, None)

    def swap_end(self, cell_id: str, adopted: bool) -> None:
        """Forget the old version's folder, or go back to it."""
        with self._lock:
            before = self._swapped.pop(cell_id, None)
            if adopted:
                return
            self._cells.pop(cell_id, None)
            if before is not None:
                self._cells[cell_id] = before

    def teardown(self) -> None:
        """Forget every folder."""
        with self._lock:
            for cell_id in self._cells:
                self._grounds.roots.pop(cell_id, None)
            self._cells.clear()
            self._swapped.clear()


def _deadline(guest: Guest) -> Callable[[], None]:
    def check() -> None:
        if not guest.seconds_left():
            raise TimeoutError(errno.ETIMEDOUT, "the call's deadline is over")

    return check


# Where a cell's folder is -------------------------------------------------------------------------------------------


def _variable(address: str) -> str:
    return f"PULP_FS_ROOT_{re.sub('[^A-Z0-9]', '_', address.upper())}"


def _place(cell: CellRef, env: SetupEnv, grounds: Grounds) -> Path:
    """Return the folder of a cell: below the storage root, or where the operator wants it."""
    name = env.storage_namespaces.get(cell.id, cell.name)
    if name in ("", ".", "..") or any(character in name for character in "/\\:\0"):
        raise ExtensionError(f"{NAME}: {name!r} is no name for a folder; rename the cell")
    own = env.storage_root.absolute() / name
    variable = _variable(cell.address)
    chosen = os.environ.get(variable, "")
    if not chosen:
        return own
    path = Path(chosen).absolute()
    storage_root = grounds.storage_root or env.storage_root
    if not _same(path, own) and _overlap(path, storage_root):
        raise ExtensionError(
            f"{NAME}: {variable}={chosen} overlaps the storage root {storage_root}, where other cells keep their "
            f"data; choose a folder outside it"
        )
    return path


def _same(first: Path, second: Path) -> bool:
    return os.path.realpath(first) == os.path.realpath(second)


def _overlap(first: Path, second: Path) -> bool:
    """Tell whether one of two folders is the other or lies in it, links on the way followed."""
    one, other = Path(os.path.realpath(first)), Path(os.path.realpath(second))
    return one.is_relative_to(other) or other.is_relative_to(one) or _same_folder(one, other)


def _same_folder(one: Path, other: Path) -> bool:
    """Tell whether two paths are one folder, as on a disk to which `A` is `a`, or by a second mount."""
    try:
        first, second = os.stat(one), os.stat(other)
    except OSError:
        return False
    return stat.S_ISDIR(first.st_mode) and os.path.samestat(first, second)


# From errors to codes -----------------------------------------------------------------------------------------------


def _answering(function: HostFunction) -> HostFunction:
    """Return the function with its failures as codes, each but "not found" told to the operator."""
    invoke, name = function.invoke, function.name
    missing = Errno.NOT_FOUND if name in _FINDS else FAILED

    def answer(guest: Guest, *words: int) -> int:
        if not words[1]:  # the length of what comes first, be it a path or a record
            return Errno.EMPTY
        try:
            return invoke(guest, *words)
        except PathRefused as error:
            code, reason = PATH, error.strerror
        except FileNotFoundError as error:
            code, reason = missing, error.strerror
        except OSError as error:
            code, reason = FAILED, error.strerror
        if code != Errno.NOT_FOUND:
            guest.cell.log.warning("file call refused", function=name, reason=reason)
        raise HostError(code, reason or "")

    return replace(function, invoke=answer)


def _of_first_version(invoke: Callable[..., int]) -> Callable[..., int]:
    """Return a function that answers the codes of the first version."""

    def answer(guest: Guest, *words: int) -> int:
        try:
            return invoke(guest, *words)
        except HostError as error:
            raise HostError(_FIRST_VERSION.get(error.code, error.code), error.detail) from None

    return answer


def capability() -> Capability:
    """Return the capability; the entry point."""
    owner = Files()
    plain = Capability.of(NAME, owner)
    functions: Mapping[str, HostFunction] = {key: _answering(each) for key, each in plain.functions.items()}

    def register(linker: Linker, cell: CellRef) -> None:
        owner.setup_cell(cell)
        first = linker.wanted.get("fs_write") == _FIRST_WRITE_WORDS
        for each in functions.values():
            invoke = _of_first_version(each.invoke) if first else each.invoke
            linker.define(each.name, each.words, invoke, blocking=each.blocking)

    return replace(plain, register=register, functions=functions)
