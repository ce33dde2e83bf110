"""A folder of the host's disk as a mount: opened component by component, never by a joined path.

`Descent` does the looking up: no component but the last is ever followed by the system, symbolic links are walked by
hand, and none leads out of the folder it is below, an absolute one never. What is neither a regular file, a folder
nor a link is listed and removed, but not opened.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from pulp_runtime.ext.tree import Entry, File, How, Kind, Node, Parts, Stat
from pulp_runtime.files.atomic import sync_folder
from pulp_runtime.files.descent import Descent, LeadsOutside, Start
from pulp_runtime.files.handles import shared
from pulp_runtime.files.quota import BLOCK, DiskQuota, counted
from pulp_runtime.wasi.real_file import RealFile, host_stat, kind_of

FILE_MODE: Final = 0o666
FOLDER_MODE: Final = 0o777
"""Permissions of what a program makes, before the host's umask."""

_START: Final = os.O_DIRECTORY | getattr(os, "O_PATH", os.O_RDONLY)
_LIST: Final = os.O_RDONLY | os.O_DIRECTORY


class _Top:
    """The folder by its path, which may be a link: the operator chose it."""

    def __init__(self, path: Path) -> None:
        self._path: Final = path.absolute()

    def open(self) -> int:
        """See `Start.open`."""
        return os.open(self._path, _START)

    def below(self, _target: bytes) -> list[bytes]:
        """Refuse: an absolute link means another tree than the program sees."""
        raise LeadsOutside


class _Held(_Top):
    """A folder that is open, wherever it may be moved to."""

    def __init__(self, handle: int) -> None:
        self._handle: Final = handle

    def open(self) -> int:
        """See `Start.open`."""
        return os.open(b".", _START, dir_fd=self._handle)


class Mount:
    """What all folders below one `RealFolder` share."""

    def __init__(self, *, read_only: bool, quota: DiskQuota | None) -> None:
        self.read_only: Final = read_only
        self.quota: Final = quota

    def writable(self) -> None:
        """Refuse to change anything in a mount that is read only."""
        if self.read_only:
            raise OSError(errno.EROFS, "mounted read-only")

    def reserve(self, size: int) -> None:
        """Note that there will be so many bytes more, if the quota lets them be."""
        if self.quota is not None:
            self.quota.check(size)
            self.quota.charge(size)

    def charge(self, size: int) -> None:
        """Note that there are so many bytes more, or less."""
        if self.quota is not None:
            self.quota.charge(size)


class RealFolder(Node):
    """A folder of the host.

    Args:
        path: where it is; it must be there.
        read_only: refuse whatever would change something, with `EROFS`.
        quota: bound on what is below; past it `EDQUOT`.
    """

    resolves = True

    def __init__(self, path: Path | str, *, read_only: bool = False, quota: DiskQuota | None = None) -> None:
        self._start: Start = _Top(Path(path))
        self._mount = Mount(read_only=read_only, quota=quota)
        self._handle: int | None = None

    @classmethod
    def _opened(cls, handle: int, mount: Mount) -> RealFolder:
        folder = cls.__new__(cls)
        folder._start = _Held(handle)
        folder._mount = mount
        folder._handle = handle
        return folder

    @property
    def read_only(self) -> bool:
        """See `Node.read_only`."""
        return self._mount.read_only

    def _descend(self, parts: Parts) -> Descent:
        return Descent(self._start, [name.encode() for name in parts])

    # Opening ----------------------------------------------------------------------------------------------------

    def open(self, parts: Parts, how: How) -> File | Node:
        """See `Node.open`."""
        if how.changes:
            self._mount.writable()
        if how.folder and how.follow:
            parts = (*parts, ".")
        with self._descend(parts) as at:
            found = self._found(at, how)
            if found is not None and stat.S_ISDIR(found.st_mode):
                return self._open_folder(at, how)
            if how.folder:
                raise NotADirectoryError(errno.ENOTDIR, "no folder")
            return self._open_file(at, how, new=found is None)

    def _found(self, at: Descent, how: How) -> os.stat_result | None:
        """Look at what is to be opened: a device or a pipe would notice, so it is not even tried."""
        try:
            found = at.status(follow=how.follow and not (how.create and how.exclusive))
        except FileNotFoundError:
            if not how.create or at.name == b".":  # it is missing itself, and not a folder on the way of a link
                raise
            return None
        if how.create and how.exclusive:
            raise FileExistsError(errno.EEXIST, "is there")
        if stat.S_ISLNK(found.st_mode):
            raise OSError(errno.ELOOP, "a symbolic link")
        _openable(found)
        return found

    def _open_folder(self, at: Descent, how: How) -> Node:
        if how.write or how.truncate or how.create:
            raise IsADirectoryError(errno.EISDIR, "a folder")
        handle = shared(os.open(at.name, _LIST | os.O_NOFOLLOW, dir_fd=at.folder))
        return self._opened(handle, self._mount)

    def _open_file(self, at: Descent, how: How, *, new: bool) -> File:
        flags = (os.O_RDWR if how.read else os.O_WRONLY) if how.write or how.truncate else os.O_RDONLY
        flags |= (os.O_CREAT if how.create else 0) | (os.O_EXCL if how.exclusive else 0)
        if how.truncate:
            flags |= os.O_TRUNC
        if new:
            self._mount.reserve(BLOCK)
        try:
            if how.follow and not how.exclusive:
                handle = shared(at.open(flags, FILE_MODE))
            else:
                handle = shared(os.open(at.name, flags | os.O_NOFOLLOW | os.O_NONBLOCK, FILE_MODE, dir_fd=at.folder))
        except BaseException:
            if new:
                self._mount.charge(-BLOCK)
            raise
        try:
            found = os.fstat(handle)
            _openable(found)
            if stat.S_ISDIR(found.st_mode):  # it has taken the file's place since we looked
                raise IsADirectoryError(errno.EISDIR, "a folder")
            return RealFile(handle, found.st_size, self._mount)
        except BaseException:
            os.close(handle)
            raise

    def entries(self) -> Iterator[Entry]:
        """See `Node.entries`. Names that are not UTF-8 cannot be said by a program, and are left out."""
        with self._descend(()) as at:
            handle = shared(os.open(b".", _LIST, dir_fd=at.folder))
        try:
            with os.scandir(handle) as listing:
                for entry in listing:
                    if _is_text(entry.name):
                        yield Entry(entry.name, _entry_kind(entry), entry.inode())
        finally:
            os.close(handle)

    def stat(self, parts: Parts, *, follow: bool = True) -> Stat:
        """See `Node.stat`."""
        with self._descend(parts) as at:
            return host_stat(at.status(follow=follow))

    def read_link(self, parts: Parts) -> str:
        """See `Node.read_link`."""
        with self._descend(parts) as at:
            try:
                return os.readlink(at.name, dir_fd=at.folder).decode()
            except UnicodeDecodeError:
                raise OSError(errno.EILSEQ, "not UTF-8") from None

    # Changing ---------------------------------------------------------------------------------------------------

    def make_folder(self, parts: Parts) -> None:
        """See `Node.make_folder`."""
        with self._descend(parts) as at:
            self._named(at, taken=True)
            self._new(lambda: os.mkdir(at.name, FOLDER_MODE, dir_fd=at.folder))

    def remove_folder(self, parts: Parts) -> None:
        """See `Node.remove_folder`."""
        with self._descend(parts) as at:
            self._named(at)
            os.rmdir(at.name, dir_fd=at.folder)
            self._mount.charge(-BLOCK)

    def unlink(self, parts: Parts) -> None:
        """See `Node.unlink`."""
        with self._descend(parts) as at:
            self._named(at)
            found = at.status(follow=False)
            if stat.S_ISDIR(found.st_mode):
                raise IsADirectoryError(errno.EISDIR, "a folder")
            os.unlink(at.name, dir_fd=at.folder)
            self._mount.charge(-counted(found))

    def rename(self, parts: Parts, to: Node, to_parts: Parts) -> None:
        """See `Node.rename`."""
        self._mount.writable()
        target = self._same_mount(to)
        with self._descend(parts) as at, target._descend(to_parts) as there:
            self._named(at)
            self._named(there)
            try:
                replaced = counted(there.status(follow=False))
            except FileNotFoundError:
                replaced = 0
            moved = at.status(follow=False)
            same = replaced and os.path.samestat(moved, there.status(follow=False))
            os.rename(at.name, there.name, src_dir_fd=at.folder, dst_dir_fd=there.folder)
            self._mount.charge(0 if same else -replaced)

    def link(self, parts: Parts, to: Node, to_parts: Parts, *, follow: bool = False) -> None:
        """See `Node.link`."""
        self._mount.writable()
        target = self._same_mount(to)
        with self._descend(parts) as at, target._descend(to_parts) as there:
            found = at.status(follow=follow)
            if stat.S_ISDIR(found.st_mode):
                raise PermissionError(errno.EPERM, "a folder has one name")
            self._named(there, taken=True)
            size = counted(found)
            self._mount.reserve(size)
            try:
                os.link(at.name, there.name, src_dir_fd=at.folder, dst_dir_fd=there.folder, follow_symlinks=False)
            except BaseException:
                self._mount.charge(-size)
                raise

    def symlink(self, target: str, parts: Parts) -> None:
        """See `Node.symlink`."""
        if target.startswith("/"):
            raise LeadsOutside
        with self._descend(parts) as at:
            self._named(at, taken=True)
            self._new(lambda: os.symlink(target.encode(), at.name, dir_fd=at.folder))

    def set_times(self, parts: Parts, accessed_ns: int | None, modified_ns: int | None, *, follow: bool = True) -> None:
        """See `Node.set_times`."""
        self._mount.writable()
        with self._descend(parts) as at:
            found = at.status(follow=follow)
            both = (
                found.st_atime_ns if accessed_ns is None else accessed_ns,
                found.st_mtime_ns if modified_ns is None else modified_ns,
            )
            os.utime(at.name, ns=both, dir_fd=at.folder, follow_symlinks=False)

    def sync(self) -> None:
        """Return when the disk has the names in this folder."""
        with self._descend(()) as at:
            sync_folder(at.folder)

    def close(self) -> None:
        """See `Node.close`."""
        if self._handle is not None:
            handle, self._handle = self._handle, None
            os.close(handle)

    # Parts of it ------------------------------------------------------------------------------------------------

    def _named(self, at: Descent, *, taken: bool = False) -> None:
        """Refuse to change a mount that is read only, or the folder itself, which has no name here."""
        if at.name == b".":
            raise FileExistsError(errno.EEXIST, "the folder") if taken else OSError(errno.EBUSY, "the folder itself")
        self._mount.writable()

    def _new(self, make: Callable[[], None]) -> None:
        self._mount.reserve(BLOCK)
        try:
            make()
        except BaseException:
            self._mount.charge(-BLOCK)
            raise

    def _same_mount(self, to: Node) -> RealFolder:
        if not isinstance(to, RealFolder) or to._mount is not self._mount:
            raise OSError(errno.EXDEV, "another mount")
        return to


def _openable(found: os.stat_result) -> None:
    if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
        raise PermissionError(errno.EACCES, "neither a file nor a folder")


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _entry_kind(entry: os.DirEntry[str]) -> Kind:
    if entry.is_symlink():
        return Kind.LINK
    if entry.is_dir(follow_symlinks=False):
        return Kind.FOLDER
    if entry.is_file(follow_symlinks=False):
        return Kind.FILE
    return kind_of(entry.stat(follow_symlinks=False).st_mode)
