"""A bucket as a folder: names with `/` make folders in it, which exist as long as something is below them."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Final

from pulp_runtime.blobs.bucket import check_name
from pulp_runtime.capabilities.cloud.blob_about import META, About
from pulp_runtime.capabilities.cloud.blob_file import open_object
from pulp_runtime.capabilities.cloud.blob_view import FOLDERS, View, joined, missing
from pulp_runtime.ext.tree import Entry, File, How, Kind, Node, Parts, Stat

PAGE: Final = 256
"""How many names of a folder are fetched at a time."""


class BucketFolder(Node):
    """A bucket, or a folder in it.

    Args:
        view: the bucket, as this run sees it.
        at: the folder's name, () for the bucket itself.
    """

    def __init__(self, view: View, at: Parts = ()) -> None:
        self.view: Final = view
        self.at: Final = at

    # Looking ----------------------------------------------------------------------------------------------------

    def stat(self, parts: Parts, *, follow: bool = True) -> Stat:
        """See `Node.stat`."""
        about, rest = self._about(parts)
        if about is not None:
            return about.stat(rest, follow=follow)
        name = joined(self.at + parts)
        if parts and (info := self.view.find(name)) is not None:
            return self.view.stat(info)
        if not self.view.is_folder(name):
            raise missing()
        return self.view.folder_stat(name)

    def entries(self) -> Iterator[Entry]:
        """See `Node.entries`; names come in the order of their bytes, none twice and none left out that stays."""
        folder = joined(self.at)
        made = _below(self.view.folders, folder)
        after, last = "", None
        while True:
            with self.view.asking() as caller:
                page = self.view.bucket.names(caller, folder, after, PAGE)
            for name, is_folder in page:
                while made and made[0].encode() < name.encode():
                    yield Entry(made.pop(0), Kind.FOLDER)
                if made and made[0] == name:
                    made.pop(0)
                if name != last:
                    yield Entry(name, Kind.FOLDER if is_folder else Kind.FILE)
                last, after = name, f"{name}/" if is_folder else name
            if len(page) < PAGE:
                break
        for name in made:
            yield Entry(name, Kind.FOLDER)

    @property
    def read_only(self) -> bool:
        """See `Node.read_only`."""
        return not self.view.writes

    def open(self, parts: Parts, how: How) -> File | Node:
        """See `Node.open`."""
        about, rest = self._about(parts)
        if about is not None:
            return about.open(rest, how)
        name = joined(self.at + parts)
        if not parts or self._is_folder(name, how):
            return self._open_folder(name, how, exists=not parts)
        if how.changes:
            self.view.may_change()
            check_name(name)
        opened = open_object(self.view, name, how)
        return opened if opened is not None else self._open_folder(name, how, exists=False)

    def _is_folder(self, name: str, how: How) -> bool:
        """Tell whether a name that is to be opened as a folder, or to be written, is one."""
        if how.folder and self.view.find(name) is not None:
            raise NotADirectoryError(errno.ENOTDIR, "an object")
        return how.folder or (how.changes and self.view.writes and self.view.is_folder(name))

    def _open_folder(self, name: str, how: How, *, exists: bool) -> Node:
        if how.changes:
            self.view.may_change()
        if not exists and not self.view.is_folder(name):
            raise missing()
        if how.create and how.exclusive:
            raise FileExistsError(errno.EEXIST, "there is a folder")
        if how.changes:
            raise IsADirectoryError(errno.EISDIR, "a folder")
        return BucketFolder(self.view, tuple(name.split("/")) if name else ())

    # Changing ---------------------------------------------------------------------------------------------------

    def make_folder(self, parts: Parts) -> None:
        """See `Node.make_folder`; it is there for this run, and for all as soon as an object is in it."""
        self.view.may_change()
        about, rest = self._about(parts)
        if about is not None:
            return about.make_folder(rest)
        name = joined(self.at + parts)
        if parts:
            check_name(name)
        if not parts or self.view.find(name) is not None or self.view.is_folder(name):
            raise FileExistsError(errno.EEXIST, "it is there")
        above = self.at + parts[:-1]
        if above and not self.view.is_folder(joined(above)):
            raise missing() if self.view.find(joined(above)) is None else NotADirectoryError(errno.ENOTDIR, "an object")
        if len(self.view.folders) >= FOLDERS:
            raise OSError(errno.EDQUOT, f"{FOLDERS} empty folders are remembered; put something in them")
        self.view.folders.add(name)

    def remove_folder(self, parts: Parts) -> None:
        """See `Node.remove_folder`; one that an object is in is not empty."""
        self.view.may_change()
        about, rest = self._about(parts)
        if about is not None:
            return about.remove_folder(rest)
        name = joined(self.at + parts)
        if not parts:
            raise OSError(errno.EBUSY, "the bucket itself")
        if self.view.find(name) is not None:
            raise NotADirectoryError(errno.ENOTDIR, "an object")
        with self.view.asking() as caller:
            check_name(name)
            holds = self.view.bucket.has_folder(caller, name)
        if holds or _below(self.view.folders, name):
            raise OSError(errno.ENOTEMPTY, "there is something in it")
        if name not in self.view.folders:
            raise missing()
        self.view.folders.discard(name)

    def unlink(self, parts: Parts) -> None:
        """See `Node.unlink`."""
        self.view.may_change()
        about, rest = self._about(parts)
        if about is not None:
            return about.unlink(rest)
        name = joined(self.at + parts)
        if not parts or (self.view.find(name) is None and self.view.is_folder(name)):
            raise IsADirectoryError(errno.EISDIR, "a folder")
        with self.view.asking(slow=True) as caller:
            self.view.bucket.remove(caller, name)

    def rename(self, parts: Parts, to: Node, to_parts: Parts) -> None:
        """See `Node.rename`; objects move within their bucket, folders are moved by moving what is in them."""
        self.view.may_change()
        about, rest = self._about(parts)
        if about is not None:
            return about.rename(rest, to, to_parts)
        if isinstance(to, BucketFolder):
            to.view.may_change()
        if not isinstance(to, BucketFolder) or to.view is not self.view:
            raise OSError(errno.EXDEV, "cannot be moved out of its bucket")
        if to._about(to_parts)[0] is not None:
            raise OSError(errno.EINVAL, f"{META} is no place for an object")
        old, new = joined(self.at + parts), joined(to.at + to_parts)
        if not parts or self.view.find(old) is None:
            raise (
                OSError(errno.EXDEV, "a folder is moved by moving what is in it")
                if self.view.is_folder(old)
                else missing()
            )
        check_name(new)
        if self.view.find(new) is None and self.view.is_folder(new):
            raise IsADirectoryError(errno.EISDIR, "there is a folder of that name")
        with self.view.asking(slow=True) as caller:
            self.view.bucket.rename(caller, old, new)

    def set_times(self, parts: Parts, accessed_ns: int | None, modified_ns: int | None, *, follow: bool = True) -> None:
        """See `Node.set_times`; an object has the time when it was put."""
        self.view.may_change()
        self.stat(parts)
        raise OSError(errno.ENOTSUP, "an object has the time when it was put")

    def link(self, parts: Parts, to: Node, to_parts: Parts, *, follow: bool = False) -> None:
        """See `Node.link`."""
        self.view.may_change()
        super().link(parts, to, to_parts, follow=follow)

    def symlink(self, target: str, parts: Parts) -> None:
        """See `Node.symlink`."""
        self.view.may_change()
        super().symlink(target, parts)

    def _about(self, parts: Parts) -> tuple[About | None, Parts]:
        """Return what answers for a path in the `.meta` of an object, and what is left of it."""
        if META not in parts:
            return None, parts
        at = parts.index(META)
        name = joined(self.at + parts[:at])
        if not name:
            raise missing()
        return About(self.view, name), parts[at + 1 :]


def _below(folders: set[str], folder: str) -> list[str]:
    """Return the names in a folder that lead to an empty folder, in the order of their bytes."""
    prefix = f"{folder}/" if folder else ""
    names = {name[len(prefix) :].partition("/")[0] for name in folders if name.startswith(prefix)}
    return sorted(names, key=str.encode)
