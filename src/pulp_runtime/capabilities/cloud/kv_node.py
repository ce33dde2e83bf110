"""The mount of a scope: finds who answers for a path, and keeps what is read-only as it is."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from pulp_runtime.capabilities.cloud.kv_area import Area
from pulp_runtime.capabilities.cloud.kv_control import Revisions, Times
from pulp_runtime.capabilities.cloud.kv_keys import Keys
from pulp_runtime.capabilities.cloud.kv_locks import Locks
from pulp_runtime.capabilities.cloud.kv_mount import Mount
from pulp_runtime.capabilities.cloud.kv_transactions import Transactions
from pulp_runtime.capabilities.cloud.kv_view import AsTheyAre
from pulp_runtime.capabilities.cloud.kv_watches import Watches
from pulp_runtime.ext import Entry, File, How, Node, Stat
from pulp_runtime.ext.tree import Parts


def _keys(mount: Mount) -> Area:
    return Keys(mount, AsTheyAre(mount))


_AREAS: Final[Mapping[str, Callable[[Mount], Area]]] = {
    "": _keys,
    ".rev": Revisions,
    ".lock": Locks,
    ".tx": Transactions,
    ".watch": Watches,
    ".ttl": Times,
}


class KvNode(Node):
    """A folder of a scope, the mount itself first of all.

    Args:
        mount: the scope, for one run.
        base: where the folder is below the mount.
    """

    __slots__ = ("_base", "_mount")

    def __init__(self, mount: Mount, base: Parts = ()) -> None:
        self._mount = mount
        self._base = base

    def _at(self, parts: Parts) -> tuple[Area, Parts]:
        """Return who answers for a path, and what it is to him."""
        path = self._base + parts
        first = path[0] if path and path[0].startswith(".") else ""
        areas = self._mount.areas
        area = areas.get(first)
        if area is None:
            make = _AREAS.get(first)
            if make is None:
                raise OSError(errno.EINVAL, "names that begin with a dot are reserved")
            area = areas[first] = make(self._mount)
        return area.at(path[1:]) if first else (area, path)

    @property
    def read_only(self) -> bool:
        """See `Node.read_only`."""
        return self._mount.granted.read_only

    def _to_change(self, parts: Parts) -> tuple[Area, Parts]:
        if self._mount.granted.read_only:
            raise _read_only()
        return self._at(parts)

    def open(self, parts: Parts, how: How) -> File | Node:
        """See `Node.open`."""
        area, rest = self._to_change(parts) if how.changes else self._at(parts)
        file = area.open(rest, how)
        return KvNode(self._mount, self._base + parts) if file is None else file

    def stat(self, parts: Parts, *, follow: bool = True) -> Stat:
        """See `Node.stat`."""
        area, rest = self._at(parts)
        return area.stat(rest)

    def entries(self) -> Iterator[Entry]:
        """See `Node.entries`; names that begin with a dot can be opened, and are not listed."""
        area, rest = self._at(())
        return area.entries(rest)

    def make_folder(self, parts: Parts) -> None:
        """See `Node.make_folder`."""
        area, rest = self._to_change(parts)
        area.make_folder(rest)

    def remove_folder(self, parts: Parts) -> None:
        """See `Node.remove_folder`."""
        area, rest = self._to_change(parts)
        area.remove_folder(rest)

    def unlink(self, parts: Parts) -> None:
        """See `Node.unlink`."""
        area, rest = self._to_change(parts)
        area.unlink(rest)

    def rename(self, parts: Parts, to: Node, to_parts: Parts) -> None:
        """See `Node.rename`."""
        area, rest = self._to_change(parts)
        if not isinstance(to, KvNode):
            raise OSError(errno.EXDEV, "another mount")
        to_area, to_rest = to._to_change(to_parts)
        if to_area is not area:
            raise OSError(errno.EXDEV, "another scope, or another transaction")
        area.rename(rest, to_rest)

    def link(self, parts: Parts, to: Node, to_parts: Parts, *, follow: bool = False) -> None:
        """See `Node.link`."""
        self._to_change(parts)
        super().link(parts, to, to_parts, follow=follow)

    def symlink(self, target: str, parts: Parts) -> None:
        """See `Node.symlink`."""
        self._to_change(parts)
        super().symlink(target, parts)

    def set_times(self, parts: Parts, accessed_ns: int | None, modified_ns: int | None, *, follow: bool = True) -> None:
        """See `Node.set_times`."""
        area, rest = self._to_change(parts)
        area.set_times(rest, modified_ns)


def _read_only() -> OSError:
    return OSError(errno.EROFS, os.strerror(errno.EROFS))
