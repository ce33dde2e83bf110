"""Where secrets come from: files of the operator that nobody else may read.

    folder = "/etc/pulp/secrets"         {folder}/{namespace}/{name}, else {folder}/{name}
    file = "/etc/pulp/secrets.toml"      name = "value", and [namespace] with the same in it

What is refused is refused with a sentence that names the file and what to do about it. No error, and no line of the
log, has anything in it of what a file says.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import tomllib
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

from pulp_runtime.files.descent import Descent, PathRefused, Root

SECRET_BYTES: Final = 64 * 1024
"""Longest secret."""
FILE_BYTES: Final = 4 * 1024 * 1024
"""Longest file of several secrets."""

_OTHERS: Final = 0o077
_WRITERS: Final = 0o022
_READ: Final = os.O_RDONLY | os.O_CLOEXEC


class SecretRefused(OSError):
    """A secret that is there and not given out; its text is for the operator. `errno` is `EIO`, or `EFBIG`."""

    def __init__(self, reason: str, code: int = errno.EIO) -> None:
        super().__init__(code, reason)


class Secret(NamedTuple):
    """A secret as it is now. Not to be printed: `repr` shows nothing of it.

    Attributes:
        value: what it says.
        modified_ns: when its file was modified, nanoseconds since 1970.
    """

    value: bytes
    modified_ns: int

    def __repr__(self) -> str:
        return "Secret()"


class Source(Protocol):
    """Where secrets are looked up, each time one is opened. Safe from any thread."""

    def find(self, namespace: str, name: str) -> Secret | None:
        """Return a secret, None if there is none of that name.

        Raises:
            SecretRefused: there is one, and something about its file is not as it must be.
        """


class SecretFolder:
    """A folder with a file for each secret; those in a folder with the namespace's name go first.

    Links are followed as far as they stay inside, for folders whose files are replaced all at once that way.
    """

    def __init__(self, folder: Path) -> None:
        self._folder: Final = folder

    def find(self, namespace: str, name: str) -> Secret | None:
        """See `Source.find`."""
        if not self._checked(self._folder):
            raise SecretRefused(f"{self._folder} is not there; create the folder, with mode 0700")
        own = self._folder / namespace
        if not own.is_symlink() and own.is_dir() and self._checked(own):
            found = self._read((namespace, name))
            if found is not None:
                return found
        return self._read((name,))

    def _checked(self, folder: Path) -> bool:
        """Tell whether a folder is there; raise if somebody else may put files into it."""
        try:
            status = folder.stat()
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise SecretRefused(f"{folder}: {error.strerror}") from None
        if not stat.S_ISDIR(status.st_mode):
            raise SecretRefused(f"{folder} is no folder; name a folder, or write file = instead of folder =")
        _owned(folder, status, _WRITERS, "chmod go-w")
        return True

    def _read(self, parts: tuple[str, ...]) -> Secret | None:
        path = self._folder.joinpath(*parts)
        try:
            with Descent(Root(self._folder), [part.encode() for part in parts]) as at:
                file = at.open(_READ)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except PathRefused:
            raise SecretRefused(
                f"{path} is a link that leads out of {self._folder}; put the file itself there"
            ) from None
        except OSError as error:
            raise SecretRefused(
                f"{path}: {error.strerror}; it must be a file of mode 0600 that the host owns"
            ) from None
        try:
            status = os.fstat(file)
            if stat.S_ISDIR(status.st_mode):
                return None  # the folder of a namespace
            data = _content(path, file, status, SECRET_BYTES)
        finally:
            os.close(file)
        return Secret(data, status.st_mtime_ns)


class SecretFile:
    """A TOML file with all secrets; those in a table with the namespace's name go first."""

    def __init__(self, file: Path) -> None:
        self._file: Final = file

    def find(self, namespace: str, name: str) -> Secret | None:
        """See `Source.find`."""
        try:
            file = os.open(self._file, _READ | os.O_NONBLOCK)
        except FileNotFoundError:
            raise SecretRefused(f"{self._file} is not there; create the file, with mode 0600") from None
        except OSError as error:
            raise SecretRefused(f"{self._file}: {error.strerror}; it must be a file that the host owns") from None
        try:
            status = os.fstat(file)
            data = _content(self._file, file, status, FILE_BYTES)
        finally:
            os.close(file)
        values = self._parsed(data)
        own = values.get(namespace)
        value = own[name] if isinstance(own, dict) and name in own else values.get(name)
        if value is None or isinstance(value, dict):
            return None
        if not isinstance(value, str):
            raise SecretRefused(f'{self._file}: {name} is no text; write {name} = "…"')
        found = value.encode()
        if len(found) > SECRET_BYTES:
            raise SecretRefused(f"{self._file}: {name} has more than {SECRET_BYTES} bytes; shorten it", errno.EFBIG)
        return Secret(found, status.st_mtime_ns)

    def _parsed(self, data: bytes) -> dict[str, Any]:
        problem = "it is not UTF-8"
        try:
            return tomllib.loads(data.decode())
        except UnicodeDecodeError:
            pass
        except ValueError as error:
            # Its text, and what it carries, may be parts of the file.
            where = re.search(r"at line \d+, column \d+|at end of document", str(error))
            problem = f"it is no TOML {where[0] if where else ''}".rstrip()
        except RecursionError:
            problem = "it is nested too deeply"
        raise SecretRefused(f"{self._file}: {problem}; put that right")


def _content(path: Path, file: int, status: os.stat_result, most: int) -> bytes:
    """Return what an open file says, if it is as it must be."""
    if not stat.S_ISREG(status.st_mode):
        raise SecretRefused(f"{path} is no regular file; put one in its place")
    _owned(path, status, _OTHERS, "chmod 600")
    parts, left = [], most + 1
    while left and (part := os.read(file, left)):
        parts.append(part)
        left -= len(part)
    if not left:
        raise SecretRefused(f"{path} has more than {most} bytes; shorten it", errno.EFBIG)
    return b"".join(parts)


def _owned(path: Path, status: os.stat_result, bits: int, fix: str) -> None:
    """Return if something belongs to the host's user, or to root, and has none of the permission bits."""
    user = os.geteuid()
    if status.st_uid not in (user, 0):
        raise SecretRefused(
            f"{path} belongs to user {status.st_uid}, the host runs as {user}; run: chown {user} {path}"
        )
    if stat.S_IMODE(status.st_mode) & bits:
        raise SecretRefused(f"{path} has mode {stat.S_IMODE(status.st_mode):04o}, open to others; run: {fix} {path}")
