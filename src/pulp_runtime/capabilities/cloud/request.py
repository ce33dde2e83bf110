"""`/request`: one request, read only (spec/wasi-cloud §3).

    txt  json                                the whole request
    method  path  query  remote_addr  id     one value each, no newline
    headers/<name>  params/<name>  query/<name>
    body                                     the body alone

`query` is a folder of decoded values; the query as it was sent is in `txt`, and in `QUERY_STRING` of a function. Names
that can be no file name are left out of the folders: one with a slash, `.`, `..`, and the empty one. `json` has them.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Final

from pulp_runtime.capabilities.cloud.request_body import BodyFile
from pulp_runtime.capabilities.cloud.request_text import as_json, raw_head
from pulp_runtime.ext.nodes import Bytes
from pulp_runtime.ext.tree import Entry, File, How, Kind, Node, Parts, Stat, Wake

if TYPE_CHECKING:
    from pulp_runtime.capabilities.cloud.exchange import Asked

_VALUES: Final[Mapping[str, Callable[[Asked], str]]] = {
    "method": lambda asked: asked.request.line.method,
    "path": lambda asked: asked.request.line.path,
    "remote_addr": lambda asked: asked.request.connection.remote_addr,
    "id": lambda asked: str(asked.number),
}
_FOLDERS: Final[Mapping[str, Callable[[Asked], Mapping[str, str]]]] = {
    "headers": lambda asked: asked.headers,
    "params": lambda asked: asked.match.params,
    "query": lambda asked: asked.request.line.query,
}
_STREAMS: Final = ("txt", "json", "body")
_FOLDER: Final = Stat(Kind.FOLDER)
_FILE: Final = Stat(Kind.FILE)


class RequestFiles(Node):
    """The folder of one request."""

    __slots__ = ("_asked",)

    def __init__(self, asked: Asked) -> None:
        self._asked: Final = asked

    def open(self, parts: Parts, how: How) -> File | Node:
        """See `Node.open`."""
        if len(parts) == 1 and not how.changes and not how.folder:  # nearly always
            value = _VALUES.get(parts[0])
            if value is not None:
                return Bytes(value(self._asked).encode())
        stat = self._look(parts, how)
        if how.changes:
            raise OSError(errno.EROFS, "a request is read only")
        if stat.kind is Kind.FOLDER:
            return ValueFolder(_FOLDERS[parts[0]](self._asked)) if parts else self
        if how.folder:
            raise NotADirectoryError(errno.ENOTDIR, "no folder")
        return self._file(parts)

    def _look(self, parts: Parts, how: How) -> Stat:
        try:
            stat = self.stat(parts)
        except FileNotFoundError:
            if how.create:
                raise OSError(errno.EROFS, "a request is read only") from None
            raise
        if how.create and how.exclusive:
            raise FileExistsError(errno.EEXIST, "there is one")
        return stat

    def _file(self, parts: Parts) -> File:
        asked, name = self._asked, parts[0]
        if len(parts) == 2:
            return Bytes(_value(_FOLDERS[name](asked), name, parts[1]).encode())
        if name in _VALUES:
            return Bytes(_VALUES[name](asked).encode())
        body = asked.body
        if name == "body":
            return body.open()
        if name == "txt":
            head = raw_head(asked)
            return Bytes(head + body.held) if body.is_held else BodyFile(body, head)
        return Bytes(as_json(asked, body.held)) if body.is_held else JsonFile(asked)

    def stat(self, parts: Parts, *, follow: bool = True) -> Stat:
        """See `Node.stat`."""
        if not parts or (parts[0] in _FOLDERS and len(parts) == 1):
            return _FOLDER
        name = parts[0]
        if len(parts) == 1:
            if name in _VALUES:
                return Stat(Kind.FILE, size=len(_VALUES[name](self._asked).encode()))
            if name in _STREAMS:
                return self._stat_of_stream(name)
        elif len(parts) == 2 and name in _FOLDERS:
            return Stat(Kind.FILE, size=len(_value(_FOLDERS[name](self._asked), name, parts[1]).encode()))
        elif (
            name in _VALUES
            or name in _STREAMS
            or (name in _FOLDERS and _value(_FOLDERS[name](self._asked), name, parts[1]) is not None)
        ):
            raise NotADirectoryError(errno.ENOTDIR, "no folder")
        raise FileNotFoundError(errno.ENOENT, "not there")

    def _stat_of_stream(self, name: str) -> Stat:
        body = self._asked.body
        if not body.is_held:
            return _FILE
        if name == "body":
            return Stat(Kind.FILE, size=len(body.held))
        return Stat(Kind.FILE, size=self._size_of(name))

    def _size_of(self, name: str) -> int:
        body = self._asked.body
        return len(raw_head(self._asked)) + len(body.held) if name == "txt" else len(as_json(self._asked, body.held))

    def entries(self) -> Iterator[Entry]:
        """See `Node.entries`."""
        for name in (*_STREAMS, *_VALUES):
            yield Entry(name, Kind.FILE)
        for name in _FOLDERS:
            yield Entry(name, Kind.FOLDER)


class ValueFolder(Node):
    """A folder of values: one file each."""

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values: Final = values

    def open(self, parts: Parts, how: How) -> File | Node:
        """See `Node.open`."""
        if how.changes:
            raise OSError(errno.EROFS, "a request is read only")
        if not parts:
            return self
        if len(parts) > 1 or how.folder:
            raise NotADirectoryError(errno.ENOTDIR, "no folder")
        return Bytes(_value(self._values, "", parts[0]).encode())

    def stat(self, parts: Parts, *, follow: bool = True) -> Stat:
        """See `Node.stat`."""
        if not parts:
            return _FOLDER
        if len(parts) > 1:
            raise NotADirectoryError(errno.ENOTDIR, "no folder")
        return Stat(Kind.FILE, size=len(_value(self._values, "", parts[0]).encode()))

    def entries(self) -> Iterator[Entry]:
        """See `Node.entries`."""
        for name in self._values:
            if name and name not in (".", "..") and "/" not in name and "\0" not in name:
                yield Entry(name, Kind.FILE)


def _value(values: Mapping[str, str], folder: str, name: str) -> str:
    value = values.get(name)
    if value is None and folder == "headers":
        value = values.get(name.lower())
    if value is None:
        raise FileNotFoundError(errno.ENOENT, "not there")
    return value


class JsonFile(File):
    """`json` of a request whose body is still arriving: there is nothing of it before all of that is here."""

    def __init__(self, asked: Asked) -> None:
        self._asked: Final = asked
        self._text: memoryview | None = None

    def read(self, size: int) -> bytes:
        """See `File.read`; for what it raises see `RequestBody.whole`."""
        if self._text is None:
            self._text = memoryview(as_json(self._asked, self._asked.body.whole()))
        piece, self._text = self._text[:size], self._text[size:]
        return bytes(piece)

    def ready(self, *, write: bool = False) -> int | None:
        """See `File.ready`."""
        if self._text is None and not write:
            try:
                self._text = memoryview(as_json(self._asked, self._asked.body.whole()))
            except BlockingIOError:
                return None
            except OSError:  # reading it says so
                return 0
        return len(self._text or b"")

    def watch(self, wake: Wake) -> Wake:
        """See `File.watch`."""
        return self._asked.body.watch(wake)
