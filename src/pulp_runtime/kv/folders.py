"""Keys as paths: `/` in a key makes folders, which are there as long as a key below them is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple, TypeAlias

from pulp_runtime.kv.entry import Listed

Page: TypeAlias = Callable[[bytes, bytes, int], Sequence[Listed]]
"""`page(prefix, after, limit)`: keys that begin with `prefix` and come after `after`, in byte order."""

_FEW: Final = 32
_MANY: Final = 512
_PAST: Final = b"\xff"  # behind every key of a folder: no key has this byte


class Named(NamedTuple):
    """A name in a folder.

    Attributes:
        name: without a slash.
        is_folder: whether there are keys below it.
        inode: of a key, 0 for a folder.
    """

    name: bytes
    is_folder: bool
    inode: int


def names(page: Page, folder: bytes = b"") -> Iterator[Named]:
    """Yield the names in a folder, in the order of their keys: that of a folder counts with its slash.

    Nothing is yielded twice, and nothing that stays is left out, whatever is changed meanwhile.

    Args:
        page: asked for one part after the other.
        folder: "" for all keys, else a prefix that ends with `/`.
    """
    after, limit = b"", _FEW
    open_names: list[bytes] = []  # yielded as keys, and what comes now begins with them: one may be a folder by now
    while part := page(folder, after, limit):
        limit = min(_MANY, limit * 2)
        for listed in part:
            after = listed.key
            name, inside, _rest = listed.key[len(folder) :].partition(b"/")
            open_names = [key for key in open_names if name.startswith(key)]
            if inside:
                if name not in open_names:
                    yield Named(name, True, 0)
                after = folder + name + b"/" + _PAST
                limit = _FEW
                break
            open_names.append(name)
            yield Named(name, False, listed.inode)


def folders_of(key: bytes) -> Iterator[bytes]:
    """Yield the folders that a key is in, each with a slash at its end, the outermost first."""
    at = key.find(b"/")
    while at >= 0:
        yield key[: at + 1]
        at = key.find(b"/", at + 1)
