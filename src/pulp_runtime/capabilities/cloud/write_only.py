"""Folders of files that are written and never read."""

from __future__ import annotations

import errno
from collections.abc import Container

from pulp_runtime.ext.tree import How, Node, Parts


class WriteOnly(Node):
    """What all of them have in common: `EACCES` for everything but writing."""

    __slots__ = ()

    @staticmethod
    def admit(how: How) -> None:
        """Let a file be opened for writing, and for nothing else."""
        if how.folder:
            raise NotADirectoryError(errno.ENOTDIR, "no folder")
        if how.create and how.exclusive:
            raise FileExistsError(errno.EEXIST, "there is one")
        if not how.write:
            raise PermissionError(errno.EACCES, "write only")

    @staticmethod
    def admit_folder(how: How) -> None:
        """Let a folder be opened for listing."""
        if how.create and how.exclusive:
            raise FileExistsError(errno.EEXIST, "there is a folder")
        if how.write or how.truncate:
            raise IsADirectoryError(errno.EISDIR, "a folder")

    @staticmethod
    def missing(parts: Parts, how: How, files: Container[str]) -> OSError:
        """Return what is said of a path that leads nowhere."""
        if len(parts) > 1 and parts[0] in files:
            return NotADirectoryError(errno.ENOTDIR, "no folder")
        if how.create:
            return PermissionError(errno.EACCES, "no other files can be made here")
        return FileNotFoundError(errno.ENOENT, "not there")

    def make_folder(self, parts: Parts) -> None:
        """See `Node.make_folder`."""
        raise _denied()

    def remove_folder(self, parts: Parts) -> None:
        """See `Node.remove_folder`."""
        raise _denied()

    def unlink(self, parts: Parts) -> None:
        """See `Node.unlink`."""
        raise _denied()

    def rename(self, parts: Parts, to: Node, to_parts: Parts) -> None:
        """See `Node.rename`."""
        raise _denied()

    def set_times(self, parts: Parts, accessed_ns: int | None, modified_ns: int | None, *, follow: bool = True) -> None:
        """See `Node.set_times`."""
        raise _denied()


def _denied() -> OSError:
    return PermissionError(errno.EACCES, "not this way")
