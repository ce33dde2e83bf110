"""A file system in memory, as `/tmp` is one: all that POSIX programs expect of files, and a bound on their size.

    MemoryFolder ──▶ Disk (how much there may be)
         └─▶ Inode ── children ──▶ Inode, Inode …          a folder
                                   Inode ── data           a file, under as many names as there are links

Everything counts: a byte of a file, and for every file, folder or link `INODE_BYTES` and its name. A file without a
name is there until nobody has it open. Used by one run, so by one thread at a time.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from typing import Final

from pulp_runtime.ext.tree import Entry, File, How, Kind, Node, Parts, Stat
from pulp_runtime.files.descent import MAX_LINKS, LeadsOutside
from pulp_runtime.wasi.memory_file import Disk, Inode, MemoryFile

MAX_NAME_BYTES: Final = 255


class MemoryFolder(Node):
    """A folder in memory.

    Args:
        limit_bytes: how much all that is below it may take; past it `ENOSPC`.
        taken: `taken(bytes)`: told how much that will be before it changes; raises `OSError` if it cannot be more.
    """

    resolves = True

    def __init__(self, limit_bytes: int, taken: Callable[[int], None] | None = None) -> None:
        self._disk = Disk(limit_bytes, taken)
        self._base = self._disk.inode(Kind.FOLDER)

    @classmethod
    def _opened(cls, disk: Disk, inode: Inode) -> MemoryFolder:
        folder = cls.__new__(cls)
        folder._disk = disk
        folder._base = inode
        return folder

    @property
    def used_bytes(self) -> int:
        """How much is in it."""
        return self._disk.used

    # Finding ----------------------------------------------------------------------------------------------------

    def _walk(self, parts: Parts, *, follow: bool) -> tuple[Inode, str, Inode | None]:
        """Return the folder a path leads to, the last name ("" for the folder itself), and what is there."""
        todo = list(reversed(parts))
        walked = [self._base]
        links = 0
        while todo:
            name = todo.pop()
            if name == "..":
                if len(walked) == 1:
                    raise LeadsOutside
                walked.pop()
                continue
            if len(name) > MAX_NAME_BYTES // 4 and len(name.encode()) > MAX_NAME_BYTES:
                raise OSError(errno.ENAMETOOLONG, f"a name of more than {MAX_NAME_BYTES} bytes")
            found = walked[-1].children.get(name)
            if found is not None and found.kind is Kind.LINK and (todo or follow):
                links += 1
                if links > MAX_LINKS:
                    raise OSError(errno.ELOOP, "leads through too many links")
                todo.extend(word for word in reversed(found.target.split("/")) if word not in ("", "."))
            elif not todo:
                return walked[-1], name, found
            elif found is None:
                raise FileNotFoundError(errno.ENOENT, "not there")
            elif found.kind is not Kind.FOLDER:
                raise NotADirectoryError(errno.ENOTDIR, "no folder")
            else:
                walked.append(found)
        return walked[-1], "", walked[-1]

    def _there(self, parts: Parts, *, follow: bool) -> Inode:
        _, _, found = self._walk(parts, follow=follow)
        if found is None:
            raise FileNotFoundError(errno.ENOENT, "not there")
        return found

    def _named(self, parts: Parts) -> tuple[Inode, str, Inode]:
        """Return something that is to be changed, and where it stands."""
        above, name, found = self._walk(parts, follow=False)
        if not name:
            raise OSError(errno.EBUSY, "the folder itself")
        if found is None:
            raise FileNotFoundError(errno.ENOENT, "not there")
        return above, name, found

    # Looking ----------------------------------------------------------------------------------------------------

    def open(self, parts: Parts, how: How) -> File | Node:
        """See `Node.open`."""
        exclusive = how.create and how.exclusive
        above, name, found = self._walk(parts, follow=how.follow and not exclusive)
        if found is None:
            if not how.create:
                raise FileNotFoundError(errno.ENOENT, "not there")
            found = self._disk.add(above, name, Kind.FILE)
        elif exclusive:
            raise FileExistsError(errno.EEXIST, "is there")
        if found.kind is Kind.FOLDER:
            if how.write or how.truncate or how.create:
                raise IsADirectoryError(errno.EISDIR, "a folder")
            return self._opened(self._disk, found)
        if how.folder:
            raise NotADirectoryError(errno.ENOTDIR, "no folder")
        if found.kind is Kind.LINK:
            raise OSError(errno.ELOOP, "a symbolic link")
        file = MemoryFile(self._disk, found)
        if how.truncate:
            file.truncate(0)
        return file

    def stat(self, parts: Parts, *, follow: bool = True) -> Stat:
        """See `Node.stat`."""
        return self._there(parts, follow=follow).stat()

    def entries(self) -> Iterator[Entry]:
        """See `Node.entries`: in the order they were made."""
        for name in list(self._base.children):
            inode = self._base.children.get(name)
            if inode is not None:
                yield Entry(name, inode.kind, inode.number)

    def read_link(self, parts: Parts) -> str:
        """See `Node.read_link`."""
        found = self._there(parts, follow=False)
        if found.kind is not Kind.LINK:
            raise OSError(errno.EINVAL, "no symbolic link")
        return found.target

    # Changing ---------------------------------------------------------------------------------------------------

    def make_folder(self, parts: Parts) -> None:
        """See `Node.make_folder`."""
        above, name, _ = self._free(parts)
        self._disk.add(above, name, Kind.FOLDER)

    def symlink(self, target: str, parts: Parts) -> None:
        """See `Node.symlink`."""
        if target.startswith("/"):
            raise LeadsOutside
        above, name, _ = self._free(parts)
        self._disk.add(above, name, Kind.LINK, target)

    def _free(self, parts: Parts) -> tuple[Inode, str, Inode | None]:
        """Return where something new is to stand; nothing may be there."""
        found = self._walk(parts, follow=False)
        if found[2] is not None:
            raise FileExistsError(errno.EEXIST, "is there")
        return found

    def link(self, parts: Parts, to: Node, to_parts: Parts, *, follow: bool = False) -> None:
        """See `Node.link`."""
        found = self._there(parts, follow=follow)
        target = self._same_disk(to)
        if found.kind is Kind.FOLDER:
            raise PermissionError(errno.EPERM, "a folder has one name")
        above, name, _ = target._free(to_parts)
        self._disk.name(above, name, found)

    def remove_folder(self, parts: Parts) -> None:
        """See `Node.remove_folder`."""
        above, name, found = self._named(parts)
        if found.kind is not Kind.FOLDER:
            raise NotADirectoryError(errno.ENOTDIR, "no folder")
        if found.children:
            raise OSError(errno.ENOTEMPTY, "not empty")
        self._disk.unname(above, name)

    def unlink(self, parts: Parts) -> None:
        """See `Node.unlink`."""
        above, name, found = self._named(parts)
        if found.kind is Kind.FOLDER:
            raise IsADirectoryError(errno.EISDIR, "a folder")
        self._disk.unname(above, name)

    def rename(self, parts: Parts, to: Node, to_parts: Parts) -> None:
        """See `Node.rename`."""
        target = self._same_disk(to)
        above, name, moved = self._named(parts)
        there, new, replaced = target._walk(to_parts, follow=False)
        if not new:
            raise OSError(errno.EBUSY, "the folder itself")
        if replaced is moved:
            return
        if moved.kind is Kind.FOLDER and moved.holds(there):
            raise OSError(errno.EINVAL, "into itself")
        if replaced is not None:
            _replaceable(replaced, by=moved)
        self._disk.move(above, name, there, new)

    def set_times(self, parts: Parts, accessed_ns: int | None, modified_ns: int | None, *, follow: bool = True) -> None:
        """See `Node.set_times`."""
        self._there(parts, follow=follow).set_times(accessed_ns, modified_ns)

    def _same_disk(self, to: Node) -> MemoryFolder:
        if not isinstance(to, MemoryFolder) or to._disk is not self._disk:
            raise OSError(errno.EXDEV, "another mount")
        return to


def _replaceable(there: Inode, *, by: Inode) -> None:
    """Refuse to put something in the place of what it cannot replace."""
    if there.kind is Kind.FOLDER:
        if by.kind is not Kind.FOLDER:
            raise IsADirectoryError(errno.EISDIR, "a folder")
        if there.children:
            raise OSError(errno.ENOTEMPTY, "not empty")
    elif by.kind is Kind.FOLDER:
        raise NotADirectoryError(errno.ENOTDIR, "no folder")
