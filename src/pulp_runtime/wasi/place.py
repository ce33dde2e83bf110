"""From the path a program writes to the node that answers for it.

A path is relative to an open folder and never leaves it. Mounts are found by their names, `..` is worked out here,
except below a node that resolves paths itself: there the node does it, because only it knows what is a symbolic link.
"""

from __future__ import annotations

import errno
from typing import Final

from pulp_runtime.ext.nodes import Folder
from pulp_runtime.ext.tree import Kind, Node, Parts
from pulp_runtime.wasi.errno import Refused, WasiErrno

MAX_PATH_BYTES: Final = 4096
"""Longest path; past it `NAMETOOLONG`. How long one name may be is the node's to say, 255 bytes as a rule."""

Place = tuple[Node, Parts, bool]
"""Who answers, for what below it, and whether the path says that it is a folder (it ends in `/` or `.`)."""


def text(raw: bytes) -> str:
    """Return a path as text.

    Raises:
        OSError: `NOENT` if it is empty, `NAMETOOLONG`, `INVAL` for a NUL in it, `ILSEQ` if it is not UTF-8.
    """
    if not raw:
        raise FileNotFoundError(errno.ENOENT, "an empty path")
    if len(raw) > MAX_PATH_BYTES:
        raise OSError(errno.ENAMETOOLONG, f"longer than {MAX_PATH_BYTES} bytes")
    if b"\0" in raw:
        raise OSError(errno.EINVAL, "a NUL in a path")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise OSError(errno.EILSEQ, "not UTF-8") from None


def place(start: Node, raw: bytes) -> Place:
    """Return what a path means below an open folder.

    Raises:
        OSError: as `text`; `NOTCAPABLE` for a path that is absolute or leads out of the folder.
    """
    path = text(raw)
    if path[0] == "/":
        raise Refused(WasiErrno.NOTCAPABLE, "an absolute path")
    names = path.split("/")
    folder = names[-1] in ("", ".", "..")
    if "" in names or "." in names:
        names = [name for name in names if name not in ("", ".")]
    if ".." in names and not start.resolves:
        names = _upward(start, names)
    if isinstance(start, Folder):
        return (*start.find(tuple(names)), folder)
    return start, tuple(names), folder


def _upward(start: Node, names: list[str]) -> list[str]:
    """Take `..` back where the names before are known to be folders; leave it to a node that resolves it itself."""
    done: list[str] = []
    for name in names:
        if name != "..":
            done.append(name)
            continue
        if not done:
            raise Refused(WasiErrno.NOTCAPABLE, "leads out of its folder")
        node, rest = start.find(tuple(done)) if isinstance(start, Folder) else (start, tuple(done))
        if node.resolves and len(rest) > 2 * rest.count(".."):
            done.append("..")
            continue
        if node.stat(rest).kind is not Kind.FOLDER:
            raise NotADirectoryError(errno.ENOTDIR, "no folder")
        if node.resolves:
            del done[len(done) - len(rest) :]  # back to where it is mounted
        done.pop()
    return done
