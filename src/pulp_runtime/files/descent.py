"""Find a place below a folder, one component at a time, and never leave the folder.

A path that is joined to its root and opened is resolved by the system, which follows whatever links it meets; and what
is checked before may be another tree when it is opened. Here each component is opened by itself, in the folder that is
open already, and links are refused (`O_NOFOLLOW`). A link is read and walked by hand, by the same rule:

    root ──▶ a ──▶ b, a link to ../c/d ══▶ from the root again: c ──▶ d

`..` is never opened. It takes back a component that has been a real folder, and the walk starts again at the root. So
whoever swaps folders and links meanwhile can make a lookup fail or find something else, but only ever below the root.
The folder that was reached is held open: what happens to its name afterwards changes nothing.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol, Self

MAX_PATH_BYTES: Final = 4096
"""Longest path, the limit of the systems we run on."""
MAX_LINKS: Final = 40
"""Links followed in one lookup, as Linux does."""
MAX_STEPS: Final = 10_000
"""Folders entered in one lookup, when links and `..` make it start again and again."""

_FOLDER: Final = os.O_DIRECTORY | os.O_NOFOLLOW | getattr(os, "O_PATH", os.O_RDONLY)
_FILE: Final = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
_PERHAPS_A_LINK: Final = frozenset({errno.ENOTDIR, errno.ELOOP, errno.EMLINK})

Make = Callable[[int, bytes], None]
"""`make(folder, name)`: create a folder that is missing; one that is there by now is as good."""


class PathRefused(OSError):
    """A path that is not looked up, or not any further, because of what it says."""


class LeadsOutside(PathRefused):
    """A path, or a link on its way, that leads out of the folder."""

    def __init__(self) -> None:
        super().__init__(errno.EXDEV, "leads out of its folder")


def clean(path: bytes) -> list[bytes]:
    """Return the components of a relative path, with `.` and `..` worked out in the text alone: `a/../b` is `b`.

    Raises:
        PathRefused: it is empty, absolute (a backslash at its start counts), contains NUL, or leads out of the folder.
        OSError: `ENAMETOOLONG`, it is longer than `MAX_PATH_BYTES`.
    """
    if not path or path[:1] in (b"/", b"\\") or b"\0" in path:
        raise PathRefused(errno.EINVAL, "empty, absolute or with a NUL character in it")
    if len(path) > MAX_PATH_BYTES:
        raise OSError(errno.ENAMETOOLONG, f"longer than {MAX_PATH_BYTES} bytes")
    found: list[bytes] = []
    for name in path.split(b"/"):
        if name == b"..":
            if not found:
                raise LeadsOutside
            found.pop()
        elif name not in (b"", b"."):
            found.append(name)
    return found


def _components(path: bytes) -> list[bytes]:
    return [name for name in path.split(b"/") if name not in (b"", b".")]


class Start(Protocol):
    """Where a lookup starts."""

    def open(self) -> int:
        """Return a descriptor of the folder, fit for `dir_fd`; the caller closes it."""

    def below(self, target: bytes) -> list[bytes]:
        """Return where an absolute link leads, as components below the folder; raise `LeadsOutside` if elsewhere."""


class Root:
    """The folder that paths are looked up in. Whoever may write to the folders above it is trusted.

    Attributes:
        path: absolute; created when it is needed and not there.
    """

    def __init__(self, path: Path) -> None:
        self.path: Final = path.absolute()
        real = os.path.realpath(self.path)
        self._prefixes: Final = {tuple(_components(os.fsencode(name))) for name in (self.path, real)}

    def open(self) -> int:
        """Return a descriptor of the folder, fit for `dir_fd`; the caller closes it."""
        flags = _FOLDER & ~os.O_NOFOLLOW  # the operator may put a link in its place
        try:
            return os.open(self.path, flags)
        except FileNotFoundError:
            os.makedirs(self.path, 0o755, exist_ok=True)
            return os.open(self.path, flags)

    def below(self, target: bytes) -> list[bytes]:
        """Return where an absolute link leads, as components below the folder; raise `LeadsOutside` if elsewhere."""
        names = tuple(_components(target))
        for prefix in self._prefixes:
            if names[: len(prefix)] == prefix:
                return list(names[len(prefix) :])
        raise LeadsOutside


class Descent:
    """One lookup: every component but the last has been entered. A context manager that closes what it opened.

    Attributes:
        folder: descriptor of the folder that was reached, fit for `dir_fd`.
        name: the last component, to be used with `dir_fd=folder` and without following links; `.` when the path
            leads to the folder itself.

    Args:
        root: where it starts.
        parts: the components; `..` among them is the folder above, as the system would understand it. With `.` for
            the last one, the one before is entered too.
        make: creates a folder of `parts` that is missing; never one that only a link speaks of.

    Raises:
        LeadsOutside: by itself, or by a link.
        PathRefused: too many links or steps.
        OSError: what the system says: a component is missing, or is no folder.
    """

    def __init__(self, root: Start, parts: Sequence[bytes], make: Make | None = None) -> None:
        self._root: Final = root
        self._make: Final = make
        self._todo: Final = list(reversed(parts))  # a stack
        self._given = len(parts)  # so many of them, from its bottom, are the caller's own words
        self._walked: Final[list[bytes]] = []
        self._links = self._steps = 0
        self._base: Final = root.open()
        self.folder = self._base
        self.name = b"."
        try:
            self._advance()
        except BaseException:
            self.close()
            raise

    def _advance(self) -> None:
        self.name = b"."
        while self._todo:
            name = self._todo.pop()
            if name == b"..":
                self._rise()
            elif self._todo:
                self._enter(name)
            else:
                self.name = name

    def _enter(self, name: bytes) -> None:
        self._steps += 1
        if self._steps > MAX_STEPS:
            raise PathRefused(errno.ELOOP, "takes too many steps")
        try:
            below = os.open(name, _FOLDER, dir_fd=self.folder)
        except FileNotFoundError:
            if self._make is None or len(self._todo) >= self._given:
                raise
            self._make(self.folder, name)
            below = os.open(name, _FOLDER, dir_fd=self.folder)
        except OSError as error:
            if error.errno not in _PERHAPS_A_LINK or not self._splice(name):
                raise
            return
        self._stand(below)
        self._walked.append(name)

    def _rise(self) -> None:
        """Take back the last component, and all that `..` follows: they have been real folders."""
        self._given = min(self._given, len(self._todo))
        self._todo.append(b"..")
        while self._todo and self._todo[-1] == b"..":
            if not self._walked:
                raise LeadsOutside
            self._todo.pop()
            self._walked.pop()
        again, self._walked[:] = self._walked[::-1], []
        self._todo.extend(again)
        self._stand(self._base)

    def _splice(self, name: bytes) -> bool:
        """Put where a link leads before what is left; answer False if it is no link."""
        self._links += 1
        if self._links > MAX_LINKS:
            raise PathRefused(errno.ELOOP, "leads through too many links")
        try:
            target = os.readlink(name, dir_fd=self.folder)
        except OSError as error:
            if error.errno == errno.EINVAL:
                return False
            raise
        self._given = min(self._given, len(self._todo))
        if target.startswith(b"/"):
            names = self._root.below(target)
            self._walked.clear()
            self._stand(self._base)
        else:
            names = _components(target)
        self._todo.extend(reversed(names))
        return True

    def _stand(self, folder: int) -> None:
        if self.folder != self._base:
            os.close(self.folder)
        self.folder = folder

    # The last component -----------------------------------------------------------------------------------------

    def follow(self) -> None:
        """Go on where the last component leads if it is a link; then try again what was refused for that reason."""
        if self._splice(self.name):
            self._advance()

    def status(self, *, follow: bool = True) -> os.stat_result:
        """Return what the system knows of the last component, or of what it leads to."""
        while True:
            found = os.stat(self.name, dir_fd=self.folder, follow_symlinks=False)
            if not follow or not stat.S_ISLNK(found.st_mode):
                return found
            self.follow()

    def open(self, flags: int, mode: int = 0o600) -> int:
        """Open the last component, or what it leads to. Never waits, whatever it finds; look at what it was."""
        while True:
            try:
                return os.open(self.name, flags | _FILE, mode, dir_fd=self.folder)
            except OSError as error:
                if error.errno not in (errno.ELOOP, errno.EMLINK):
                    raise
            self.follow()

    def close(self) -> None:
        """Close the folder that was reached."""
        self._stand(self._base)
        os.close(self._base)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _stack: TracebackType | None
    ) -> None:
        self.close()
