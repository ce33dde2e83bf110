"""What may be run, where, and with which environment. Nothing may, unless the operator says so."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from pulp_runtime.ext import ExtensionError

PASSED: Final = ("HOME", "LANG", "LANGUAGE", "LC_*", "LOGNAME", "PATH", "SHELL", "TMPDIR", "TZ", "USER")
"""What a process gets of the host's environment. Everything else may be a secret."""

STEERING: Final = (
    *("LD_*", "DYLD_*", "GCONV_PATH", "GLIBC_TUNABLES", "LOCPATH", "MALLOC_*", "NLSPATH", "RES_OPTIONS", "HOSTALIASES"),
    *("PATH", "HOME", "XDG_*", "IFS", "ENV", "BASH_ENV", "BASHOPTS", "SHELLOPTS", "PS4", "PROMPT_COMMAND"),
    *("BASH_FUNC_*", "ZDOTDIR"),
    *("PYTHON*", "PERL*", "RUBY*", "NODE_*", "NPM_CONFIG_*", "JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS", "JDK_JAVA_OPTIONS"),
    *("CLASSPATH", "LUA_*", "GIT_*", "SSH_*", "EDITOR", "VISUAL", "PAGER", "LESS*", "MAN*", "TERMINFO*", "PULP_*"),
)
"""What makes a program run other code than its own: not for cells to set."""


class Refused(Exception):
    """Something a cell may not; the text says what."""


def _fits(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


class Programs:
    """A list of programs that may be run.

    A name stands for the program that the host's own search path has under it, also when it is asked for by a path of
    that very file; a path stands for that file.

    Args:
        entries: names without a slash, or absolute paths.
        setting: its name, for errors.

    Raises:
        ExtensionError: an entry is neither.
    """

    def __init__(self, entries: Iterable[str], setting: str) -> None:
        self._entries: Final = frozenset(entries)
        for entry in self._entries:
            if not entry or "\0" in entry or ("/" in entry and not entry.startswith("/")):
                raise ExtensionError(f"{setting}: {entry!r} is neither a name nor an absolute path")

    def find(self, wanted: str) -> str:
        """Return the file to run for what a cell wants; "" for an allowed name under which there is nothing.

        Raises:
            Refused: it is not in the list.
        """
        if not wanted or "\0" in wanted or ("/" in wanted and not wanted.startswith("/")):
            raise Refused(f"{wanted!r} is neither a name nor an absolute path")
        if wanted in self._entries:
            return wanted if "/" in wanted else searched(wanted)
        name = wanted.rpartition("/")[2]
        found = searched(name) if name else ""
        if found and wanted == name and found in self._entries:
            return found
        if found and name in self._entries and _is_same(wanted, found):
            return found  # and not what was named: that may be another file by the time it is run
        raise Refused(f"{wanted} is not allowed")


def _is_same(one: str, other: str) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False


def searched(name: str) -> str:
    """Return the program that the host's search path has under a name, "" if there is none."""
    folders = [folder for folder in os.environ.get("PATH", os.defpath).split(os.pathsep) if folder.startswith("/")]
    return shutil.which(name, path=os.pathsep.join(folders)) or ""


class Folders:
    """A list of folders below which a process may begin.

    Args:
        roots: absolute paths; of folders that are not there nothing is allowed.
        setting: its name, for errors.

    Raises:
        ExtensionError: a path is not absolute.
    """

    def __init__(self, roots: Iterable[str], setting: str) -> None:
        self._roots: Final = tuple(roots)
        for root in self._roots:
            if not root.startswith("/") or "\0" in root:
                raise ExtensionError(f"{setting}: {root!r} is no absolute path")

    def check(self, wanted: str) -> None:
        """Raise `Refused` unless a folder lies in one of the roots, symbolic links followed; it need not be there."""
        if "\0" in wanted:
            raise Refused("a path with NUL in it")
        self._lies_inside(os.path.realpath(wanted))

    def _lies_inside(self, real: str) -> None:
        for root in self._roots:
            if Path(real).is_relative_to(os.path.realpath(root)):
                return
        raise Refused(f"{real} is not below a root")

    @contextmanager
    def opened(self, wanted: str) -> Iterator[str | None]:
        """Hold a folder open, checked as the file it is and not by its name; yield a path of it, None for "".

        Raises:
            Refused: it lies outside the roots.
            OSError: it is no folder.
        """
        if not wanted:
            yield None
            return
        self.check(wanted)
        file = os.open(wanted, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            by_number = f"/proc/self/fd/{file}"
            if not os.path.isdir("/proc/self/fd"):  # elsewhere the name must do
                yield os.path.realpath(wanted)
                return
            self._lies_inside(os.readlink(by_number))
            yield by_number
        finally:
            os.close(file)


def environment(
    wanted: Mapping[str, str], passed: Iterable[str], settable: Iterable[str], **fixed: str
) -> dict[str, str]:
    """Return the environment of a process.

    Args:
        wanted: what the cell sets.
        passed: what else of the host's environment it gets; patterns with `*`.
        settable: what a cell may set although it steers programs; patterns with `*`.
        fixed: what it has whatever the cell says.

    Raises:
        Refused: the cell sets what it may not.
    """
    for name, value in wanted.items():
        if not name or "=" in name or "\0" in name or "\0" in value:
            raise Refused(f"the environment cannot hold {name!r}")
        if _fits(name, STEERING) and not _fits(name, settable):
            raise Refused(f"{name} makes programs run other code")
    kept = {name: value for name, value in os.environ.items() if _fits(name, (*PASSED, *passed))}
    return {**kept, **wanted, **fixed}
