"""TOML files, read strictly: what is not understood is refused with the line and a way out.

The language is TOML 1.0 with case-sensitive keys. A byte order mark and Windows
line ends are accepted, numbers must fit the 64 bits that guests are given, and
fractions of a second are exact to the nanosecond.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import tomllib
from dataclasses import dataclass
from datetime import datetime, time
from pathlib import Path
from typing import Any, BinaryIO, Final

from pulp_runtime.abi.codec import MAX_NESTING
from pulp_runtime.errors import ManifestError
from pulp_runtime.manifest.fraction import Fractions, has_long_fractions

#: A manifest is written by hand; past this it is some other file.
MAX_FILE_BYTES: Final = 1024 * 1024

_INT64: Final = range(-(1 << 63), 1 << 63)
_END: Final = "at end of document"
#: The parser's time grows with the square of the parts of one dotted key; a run this long may be one.
_KEY_DOTS: Final = 256
_long_run: Final = re.compile(rf"[^=,\[\]{{}}\n]{{{2 * _KEY_DOTS},}}").finditer
_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class Source:
    """A file that was read, and the errors that are told about it.

    Attributes:
        path: absolute.
        text: all of it, its lines ended the Unix way.
    """

    path: Path
    text: str

    def unparsed(self, reason: str, field: str = "") -> ManifestError:
        """Return the error for text or a type that cannot be accepted."""
        where = self._line_of(field)
        return ManifestError(self.path, f"parse manifest: {where}{reason}", field=field)

    def _line_of(self, field: str) -> str:
        """Return `line <n>: ` if the last part of a dotted name is assigned just once."""
        key = re.escape(field.rpartition(".")[2])
        found = list(re.finditer(rf"^[ \t]*(?:\[+[ \t]*)?{key}[ \t]*[=\]]", self.text, re.MULTILINE)) if key else []
        return f"line {self.text.count(chr(10), 0, found[0].start()) + 1}: " if len(found) == 1 else ""


def read_source(path: Path) -> Source:
    """Read a TOML file as text.

    Raises:
        ManifestError: `manifest path:` for a path that cannot be one, `read
            manifest:` for a file that is missing, unreadable or too large,
            `parse manifest:` for one that is not UTF-8.
    """
    if "\0" in str(path):
        raise ManifestError(path, "manifest path: it contains a NUL character; write the path without it")
    path = path.absolute()
    try:
        with open_regular(path) as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ManifestError(path, f"read manifest: {reason}; check the path and its permissions") from error
    if len(data) > MAX_FILE_BYTES:
        raise ManifestError(
            path, f"read manifest: more than {MAX_FILE_BYTES} bytes; keep bulky data in a file of its own"
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ManifestError(path, f"parse manifest: line {line}: not UTF-8; save the file as UTF-8") from None
    return Source(path, text.replace("\r\n", "\n"))


def open_regular(path: Path) -> BinaryIO:
    """Open a file for reading; anything else, a FIFO that nobody writes into for one, is an `OSError` at once."""
    file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "Not a regular file")
    return file


def parse_toml(source: Source) -> dict[str, object]:
    """Parse a document.

    Date-times and times whose fraction has more than six digits come back as
    `NanoDateTime` and `NanoTime`.

    Raises:
        ManifestError: `parse manifest:` with the line, for text that is not
            TOML 1.0, an integer outside int64, or nesting past `MAX_NESTING`.
    """
    values = _loads(source, source.text)
    fractions = None
    if has_long_fractions(source.text):
        fractions = Fractions(source.text)
        values = _loads(source, fractions.text)
    return {key: _checked(source, item, dotted("", key), 1, fractions) for key, item in values.items()}


def dotted(parent: str, key: str) -> str:
    """Return the dotted name of `key` inside `parent`, as it would be written in TOML."""
    name = key if _BARE_KEY.fullmatch(key) else f'"{key}"'
    return f"{parent}.{name}" if parent else name


def _loads(source: Source, text: str) -> dict[str, Any]:
    for run in _long_run(text):
        if run[0].count(".") > _KEY_DOTS:
            line = text.count("\n", 0, run.start()) + 1
            raise source.unparsed(f"line {line}: nested more than {MAX_NESTING} levels deep; write it flatter")
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise source.unparsed(f"nested more than {MAX_NESTING} levels deep; write it flatter") from None
    except ValueError as error:  # also from int(), for a number of thousands of digits
        reason = str(error).replace(_END, f"at line {text.count(chr(10)) + 1}, the end of the document")
        raise source.unparsed(f'{reason}; a line reads key = value, with text in "double quotes"') from None


def _checked(source: Source, value: object, name: str, depth: int, fractions: Fractions | None) -> object:
    """Return `value` with its fractions restored, once every number and level is within bounds."""
    if isinstance(value, int) and value not in _INT64:
        raise source.unparsed(f"{name}: does not fit 64 bits; write a number from {_INT64[0]} to {_INT64[-1]}", name)
    if fractions is not None and isinstance(value, datetime | time):
        return fractions.restore(value)
    if isinstance(value, dict | list) and depth > MAX_NESTING:
        raise source.unparsed(f"{name[:80]}…: nested more than {MAX_NESTING} levels deep; write it flatter")
    if isinstance(value, dict):
        return {key: _checked(source, item, dotted(name, key), depth + 1, fractions) for key, item in value.items()}
    if isinstance(value, list):
        return [_checked(source, item, name, depth + 1, fractions) for item in value]
    return value
