"""Nodes that are ready-made: the trunk of a tree, and files of a few bytes."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Mapping

from pulp_runtime.ext.tree import Entry, File, How, Kind, Node, Parts, Stat, read_only


class Folder(Node):
    """A folder whose children are known: the trunk of a tree, not to be changed by programs."""

    def __init__(self, children: Mapping[str, Node] | None = None) -> None:
        self.children: dict[str, Node] = dict(children or {})

    def add(self, path: str, node: Node) -> None:
        """Put `node` at an absolute path, making the folders on the way.

        Raises:
            ValueError: something is there, or the path is not of the form `/a/b`.
        """
        names = path.split("/")
        if names[0] or len(names) < 2 or not all(names[1:]) or {".", ".."} & set(names):
            raise ValueError(f"mount path {path!r}: write an absolute one without a slash at its end, such as /beta/it")
        at = self
        for name in names[1:-1]:
            below = at.children.setdefault(name, Folder())
            if not isinstance(below, Folder):
                raise ValueError(f"mount path {path}: {name} is mounted already")
            at = below
        if names[-1] in at.children:
            raise ValueError(f"mount path {path} is mounted already")
        at.children[names[-1]] = node

    def find(self, parts: Parts) -> tuple[Node, Parts]:
        """Return who answers for a path, and what is left of it: `()` for a folder of the trunk itself."""
        node: Node = self
        for at, name in enumerate(parts):
            if not isinstance(node, Folder):
                return node, parts[at:]
            below = node.children.get(name)
            if below is None:
                return node, parts[at:]
            node = below
        return node, ()

    def open(self, parts: Parts, how: How) -> File | Node:
        """See `Node.open`."""
        node, rest = self.find(parts)
        if node is not self:
            return node.open(rest, how)
        if rest:
            raise self._missing(changing=how.create and len(rest) == 1)
        if how.create and how.exclusive:
            raise FileExistsError(errno.EEXIST, "there is a folder")
        if how.write or how.truncate:
            raise IsADirectoryError(errno.EISDIR, "a folder")
        return self

    def stat(self, parts: Parts, *, follow: bool = True) -> Stat:
        """See `Node.stat`."""
        node, rest = self.find(parts)
        if node is not self:
            return node.stat(rest, follow=follow)
        if rest:
            raise self._missing()
        return Stat(Kind.FOLDER, inode=hash(str(id(self))) & 0xFFFF_FFFF)  # hashed: a program sees no address of ours

    def entries(self) -> Iterator[Entry]:
        """See `Node.entries`."""
        for name, node in list(self.children.items()):
            yield Entry(name, (found := node.stat(())).kind, found.inode)

    def make_folder(self, parts: Parts) -> None:
        """See `Node.make_folder`."""
        self._other(parts, exists=True)[0].make_folder(self._other(parts)[1])

    def remove_folder(self, parts: Parts) -> None:
        """See `Node.remove_folder`."""
        self._other(parts)[0].remove_folder(self._other(parts)[1])

    def unlink(self, parts: Parts) -> None:
        """See `Node.unlink`."""
        self._other(parts)[0].unlink(self._other(parts)[1])

    def rename(self, parts: Parts, to: Node, to_parts: Parts) -> None:
        """See `Node.rename`."""
        node, rest = self._other(parts)
        if isinstance(to, Folder):
            to, to_parts = to._other(to_parts)
        node.rename(rest, to, to_parts)

    def link(self, parts: Parts, to: Node, to_parts: Parts, *, follow: bool = False) -> None:
        """See `Node.link`."""
        node, rest = self._other(parts)
        if isinstance(to, Folder):
            to, to_parts = to._other(to_parts)
        node.link(rest, to, to_parts, follow=follow)

    def symlink(self, target: str, parts: Parts) -> None:
        """See `Node.symlink`."""
        node, rest = self._other(parts, exists=True)
        node.symlink(target, rest)

    def read_link(self, parts: Parts) -> str:
        """See `Node.read_link`."""
        node, rest = self.find(parts)
        if node is self:
            raise self._missing() if rest else OSError(errno.EINVAL, "no symbolic link")
        return node.read_link(rest)

    def set_times(self, parts: Parts, accessed_ns: int | None, modified_ns: int | None, *, follow: bool = True) -> None:
        """See `Node.set_times`."""
        node, rest = self._other(parts)
        node.set_times(rest, accessed_ns, modified_ns, follow=follow)

    def _other(self, parts: Parts, *, exists: bool = False) -> tuple[Node, Parts]:
        """Return who answers for a change at a path; the trunk itself refuses them all."""
        node, rest = self.find(parts)
        if isinstance(node, Folder):
            if rest:
                raise self._missing(changing=exists)
            raise FileExistsError(errno.EEXIST, "there is a folder") if exists else read_only()
        return node, rest

    def _missing(self, *, changing: bool = False) -> OSError:
        return read_only() if changing else FileNotFoundError(errno.ENOENT, "not there")


class Leaf(Node):
    """A single file. Override `open_file`, and `stat_file` where opening it does something."""

    def open_file(self, how: How) -> File:
        """Open it."""
        raise PermissionError(errno.EACCES, "cannot be opened like this")

    def stat_file(self) -> Stat:
        """Return what is known of it."""
        return Stat(Kind.FILE)

    def open(self, parts: Parts, how: How) -> File:
        """See `Node.open`."""
        if parts or how.folder:
            raise NotADirectoryError(errno.ENOTDIR, "no folder")
        if how.create and how.exclusive:
            raise FileExistsError(errno.EEXIST, "there is a file")
        return self.open_file(how)

    def stat(self, parts: Parts, *, follow: bool = True) -> Stat:
        """See `Node.stat`."""
        if parts:
            raise NotADirectoryError(errno.ENOTDIR, "no folder")
        return self.stat_file()


class Text(Leaf):
    """A file that is read only: these bytes, or what a function returns when it is opened."""

    def __init__(self, content: bytes | Callable[[], bytes]) -> None:
        self._content = content

    def _bytes(self) -> bytes:
        return self._content if isinstance(self._content, bytes) else self._content()

    def open_file(self, how: How) -> File:
        """See `Leaf.open_file`."""
        if how.changes:
            raise read_only()
        return Bytes(self._bytes())

    def stat_file(self) -> Stat:
        """See `Leaf.stat_file`."""
        return Stat(Kind.FILE, size=len(self._bytes()))


class Bytes(File):
    """An open file that is read: these bytes."""

    seekable = True

    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data)

    def read_at(self, offset: int, into: memoryview) -> int:
        """See `File.read_at`."""
        piece = self._data[offset : offset + len(into)]
        into[: len(piece)] = piece
        return len(piece)

    def stat(self) -> Stat:
        """See `File.stat`."""
        return Stat(Kind.FILE, size=len(self._data))
