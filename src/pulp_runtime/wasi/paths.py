"""The functions that take a path: `path_*`."""

from __future__ import annotations

import errno
from typing import Final

from pulp_runtime.ext.nodes import Folder
from pulp_runtime.ext.tree import File, How, Kind, Node, Parts
from pulp_runtime.wasi import right
from pulp_runtime.wasi.attributes import fill_filestat, times
from pulp_runtime.wasi.descriptor import Descriptor
from pulp_runtime.wasi.errno import Refused, WasiErrno
from pulp_runtime.wasi.place import Place, text
from pulp_runtime.wasi.state import State

_OFLAGS: Final = right.CREAT | right.DIRECTORY | right.EXCL | right.TRUNC


class Paths(State):
    """What a program does by name."""

    def path_open(
        self,
        fd: int,
        lookup: int,
        path: int,
        length: int,
        oflags: int,
        base: int,
        _inherit: int,
        fdflags: int,
        out: int,
    ) -> None:
        """Open a file or folder. Of the rights that are asked for only `fd_read` and `fd_write` make a difference."""
        above, _ = self.folder(fd, right.OPEN)
        answer = self.view(out, 4)
        node, parts, folder = self.place(fd, path, length, 0)
        how = _how(above, lookup, oflags, base, fdflags, folder=folder)
        self.descriptors.room()
        opened = node.open(parts, how)
        below = above.inheriting
        if isinstance(opened, File):
            rights = (right.FILE if opened.seekable else right.STREAM) & ~right.WRITING & ~right.READ
            rights |= base & right.READ
            if base & right.WRITE:
                rights |= right.WRITING if opened.seekable else right.WRITE
            found = Descriptor(opened, rights & below, 0, fdflags)
        elif base & right.WRITE:
            opened.close()
            raise IsADirectoryError(errno.EISDIR, "a folder")
        else:
            found = Descriptor(opened, right.FOLDER & below, below, fdflags & right.NONBLOCK)
        answer[:] = self.descriptors.add(found).to_bytes(4, "little")

    def path_create_directory(self, fd: int, path: int, length: int) -> None:
        """Make a folder."""
        node, parts, _ = self.place(fd, path, length, right.CREATE_FOLDER)
        node.make_folder(parts)

    def path_remove_directory(self, fd: int, path: int, length: int) -> None:
        """Remove an empty folder."""
        node, parts, _ = self.place(fd, path, length, right.REMOVE_FOLDER)
        node.remove_folder(parts)

    def path_unlink_file(self, fd: int, path: int, length: int) -> None:
        """Remove a file or a link."""
        node, parts, folder = self.place(fd, path, length, right.UNLINK)
        if folder:
            _is_folder(node, parts)
            raise IsADirectoryError(errno.EISDIR, "a folder")
        node.unlink(parts)

    def path_filestat_get(self, fd: int, lookup: int, path: int, length: int, answer: int) -> None:
        """Tell what is known of what is at a path."""
        node, parts, folder = self.place(fd, path, length, right.PATH_STAT)
        found = node.stat(parts, follow=folder or _follows(lookup))
        if folder and found.kind is not Kind.FOLDER:
            raise NotADirectoryError(errno.ENOTDIR, "no folder")
        fill_filestat(self.view(answer, 64), found)

    def path_filestat_set_times(
        self, fd: int, lookup: int, path: int, length: int, accessed: int, modified: int, flags: int
    ) -> None:
        """Set the times of what is at a path."""
        node, parts, folder = self.place(fd, path, length, right.PATH_SET_TIMES)
        first, second = times(accessed, modified, flags)
        if folder:
            _is_folder(node, parts)
        node.set_times(parts, first, second, follow=folder or _follows(lookup))

    def path_rename(self, fd: int, old: int, old_length: int, to_fd: int, new: int, new_length: int) -> None:
        """Move something in one step, in place of what is there."""
        source = self.place(fd, old, old_length, right.RENAME_SOURCE)
        target = self.place(to_fd, new, new_length, right.RENAME_TARGET)
        if source[2] or target[2]:
            _is_folder(source[0], source[1], follow=False)
        _writable(target)
        _changeable(source).rename(source[1], _changeable(target), target[1])

    def path_link(self, fd: int, lookup: int, old: int, old_length: int, to_fd: int, new: int, new_length: int) -> None:
        """Give a file another name."""
        source = self.place(fd, old, old_length, right.LINK_SOURCE)
        target = self.place(to_fd, new, new_length, right.LINK_TARGET)
        follow = _follows(lookup)
        if source[2]:
            _is_folder(source[0], source[1])
        if target[2]:
            _taken(target)
        _writable(target)
        _changeable(source).link(source[1], _changeable(target), target[1], follow=follow)

    def path_symlink(self, old: int, old_length: int, fd: int, new: int, new_length: int) -> None:
        """Make a symbolic link; it may lead nowhere, but not begin at the root."""
        target = text(self.raw(old, old_length))
        where = self.place(fd, new, new_length, right.SYMLINK)
        if target.startswith("/"):
            raise Refused(WasiErrno.NOTCAPABLE, "an absolute link")
        if where[2]:
            _taken(where)
        where[0].symlink(target, where[1])

    def path_readlink(self, fd: int, path: int, length: int, buffer: int, room: int, used: int) -> None:
        """Tell where a link leads, cut off where there is no more room."""
        node, parts, folder = self.place(fd, path, length, right.READLINK)
        if folder:
            _is_folder(node, parts)
        into = self.view(buffer, room)
        answer = self.view(used, 4)
        target = node.read_link(parts).encode()[:room]
        into[: len(target)] = target
        answer[:] = len(target).to_bytes(4, "little")


def _writable(target: tuple[Node, Parts, bool]) -> None:
    """Refuse a mount where nothing can be changed before it is asked whether the two are one mount."""
    if target[0].read_only:
        raise OSError(errno.EROFS, "nothing can be changed there")


def _how(above: Descriptor, lookup: int, oflags: int, base: int, fdflags: int, *, folder: bool) -> How:
    """Return how something is to be opened, if the program may and the flags make sense."""
    if oflags & ~_OFLAGS or fdflags & ~right.FLAGS:
        raise Refused(WasiErrno.INVAL, "no such flag")
    create, truncate = oflags & right.CREAT != 0, oflags & right.TRUNC != 0
    directory = oflags & right.DIRECTORY != 0
    if directory and (create or truncate):
        raise Refused(WasiErrno.INVAL, "a folder is not opened like that")
    if (create and not above.rights & right.CREATE_FILE) or (truncate and not above.rights & right.PATH_SET_SIZE):
        raise Refused(WasiErrno.NOTCAPABLE)
    if create and folder:
        raise IsADirectoryError(errno.EISDIR, "a name of a folder")
    base &= above.inheriting
    write = base & right.WRITE != 0
    return How(
        read=base & right.READ != 0 or not write,
        write=write,
        create=create,
        exclusive=oflags & right.EXCL != 0,
        truncate=truncate,
        append=fdflags & right.APPEND != 0 and write,
        folder=directory or folder,
        follow=_follows(lookup) or folder,
    )


def _follows(lookup: int) -> bool:
    if lookup & ~right.FOLLOW:
        raise Refused(WasiErrno.INVAL, "no such flag")
    return lookup & right.FOLLOW != 0


def _is_folder(node: Node, parts: Parts, *, follow: bool = True) -> None:
    if node.stat(parts, follow=follow).kind is not Kind.FOLDER:
        raise NotADirectoryError(errno.ENOTDIR, "no folder")


def _taken(place: Place) -> None:
    """Refuse to make what is no folder under a name that says it is one, in the way POSIX has it."""
    _is_folder(place[0], place[1])
    raise FileExistsError(errno.EEXIST, "there is a folder")


def _changeable(place: Place) -> Node:
    """Return who is asked to move or link; the trunk of the tree itself never changes."""
    node, parts, _ = place
    if isinstance(node, Folder):
        node.stat(parts)  # what is not there is not there
        raise OSError(errno.EROFS, "a mount, or where mounts are")
    return node
