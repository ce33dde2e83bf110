"""`/response`: what a program answers, write only (spec/wasi-cloud §3).

txt  json                            the whole answer, one way or the other
status  headers/<name>  body         the same in pieces; the head is decided by the first byte of the body
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from typing import Final

from pulp_runtime._net.fields import is_token
from pulp_runtime.capabilities.cloud.reply import HEADER_FILES, STATUS_BYTES, Reply
from pulp_runtime.capabilities.cloud.response_text import HEAD_BYTES, Malformed, parse_status, text_of
from pulp_runtime.capabilities.cloud.write_only import WriteOnly
from pulp_runtime.ext.tree import Entry, File, How, Kind, Node, Parts, Stat, Wake

_FOLDER: Final = Stat(Kind.FOLDER)
_FILE: Final = Stat(Kind.FILE)
_STREAMS: Final = ("txt", "json", "status", "body")


class ResponseFiles(WriteOnly):
    """The folder of one response."""

    __slots__ = ("_reply",)

    def __init__(self, reply: Reply) -> None:
        self._reply: Final = reply

    def open(self, parts: Parts, how: How) -> File | Node:
        """See `Node.open`."""
        if len(parts) == 1 and parts[0] in _STREAMS:
            self.admit(how)
            return self._file(parts[0], how)
        if not parts or parts == ("headers",):
            self.admit_folder(how)
            return HeaderFolder(self._reply) if parts else self
        if parts[0] == "headers":
            return HeaderFolder(self._reply).open(parts[1:], how)
        raise self.missing(parts, how, _STREAMS)

    def _file(self, name: str, how: How) -> File:
        reply = self._reply
        if name == "body":
            reply.check("files")
            return StreamOut(reply, "files", reply.write_body)
        if name == "txt":
            reply.check("txt")
            return StreamOut(reply, "txt", reply.write_text)
        if name == "json":
            reply.check("json", head=True)
            return JsonOut(reply)
        reply.check("files", head=True)
        return StatusOut(reply, append=how.append)

    def stat(self, parts: Parts, *, follow: bool = True) -> Stat:
        """See `Node.stat`."""
        if not parts or parts == ("headers",):
            return _FOLDER
        if len(parts) == 1 and parts[0] in _STREAMS:
            return _FILE
        if parts[0] == "headers":
            return HeaderFolder(self._reply).stat(parts[1:])
        raise self.missing(parts, How(), _STREAMS)

    def unlink(self, parts: Parts) -> None:
        """See `HeaderFolder.unlink`."""
        if len(parts) < 2 or parts[0] != "headers":
            super().unlink(parts)
        HeaderFolder(self._reply).unlink(parts[1:])

    def entries(self) -> Iterator[Entry]:
        """See `Node.entries`."""
        for name in _STREAMS:
            yield Entry(name, Kind.FILE)
        yield Entry("headers", Kind.FOLDER)


class HeaderFolder(WriteOnly):
    """`headers` of a response: a file for each name; several lines are several values."""

    __slots__ = ("_reply",)

    def __init__(self, reply: Reply) -> None:
        self._reply: Final = reply

    def open(self, parts: Parts, how: How) -> File | Node:
        """See `Node.open`."""
        if not parts:
            self.admit_folder(how)
            return self
        if len(parts) > 1:
            raise NotADirectoryError(errno.ENOTDIR, "no folder")
        name, reply = parts[0].lower(), self._reply
        if name not in reply.headers:
            if not how.create:
                raise FileNotFoundError(errno.ENOENT, "not there")
            how = how._replace(exclusive=False)
        self.admit(how)
        if not is_token(name):
            raise OSError(errno.EINVAL, "not a header name")
        reply.check("files", head=True)
        if name not in reply.headers and len(reply.headers) >= HEADER_FILES:
            raise OSError(errno.ENOSPC, f"a response has at most {HEADER_FILES} header files")
        return HeaderOut(reply, name, append=how.append)

    def stat(self, parts: Parts, *, follow: bool = True) -> Stat:
        """See `Node.stat`."""
        if not parts:
            return _FOLDER
        if len(parts) > 1:
            raise NotADirectoryError(errno.ENOTDIR, "no folder")
        value = self._reply.headers.get(parts[0].lower())
        if value is None:
            raise FileNotFoundError(errno.ENOENT, "not there")
        return Stat(Kind.FILE, size=len(value))

    def unlink(self, parts: Parts) -> None:
        """Take a header back, while the head is not decided."""
        if len(parts) != 1 or self._reply.headers.get(parts[0].lower()) is None:
            raise FileNotFoundError(errno.ENOENT, "not there")
        self._reply.check("files", head=True)
        del self._reply.headers[parts[0].lower()]

    def entries(self) -> Iterator[Entry]:
        """See `Node.entries`."""
        for name in list(self._reply.headers):
            yield Entry(name, Kind.FILE)


class _Out(File):
    """A file of a response; `wrote` tells whether anything was written to it."""

    def __init__(self, reply: Reply) -> None:
        self._reply: Final = reply
        self.wrote = False

    def abandon(self) -> None:
        """See `File.abandon`: what was being written is half a response."""
        self._reply.half = self._reply.half or self.wrote


class StreamOut(_Out):
    """`body` or `txt`."""

    def __init__(self, reply: Reply, mode: str, write: Callable[[bytes], int]) -> None:
        super().__init__(reply)
        self._mode: Final = mode
        self._write: Final = write

    def write(self, data: bytes) -> int:
        """See `File.write`."""
        taken = self._write(data)
        self.wrote = True
        return taken

    def ready(self, *, write: bool = False) -> int | None:
        """See `File.ready`."""
        return 0 if not write or self._reply.answer.has_room else None

    def watch(self, wake: Wake) -> Wake:
        """See `File.watch`."""
        return self._reply.answer.room.watch(wake)

    def close(self) -> None:
        """End the answer of a daemon; that of a function ends with it."""
        reply = self._reply
        if not reply.mode and not reply.answer.over:  # opened and closed: an answer without a body
            reply.claim(self._mode)
        if reply.ends is not None and reply.mode == self._mode:
            reply.ends()


class JsonOut(_Out):
    """`json`: sent when it is closed."""

    def write(self, data: bytes) -> int:
        """See `File.write`."""
        self.wrote = True
        return self._reply.write_json(data)

    def close(self) -> None:
        """Send it; `EINVAL` when it is no response."""
        reply = self._reply
        if not self.wrote:
            return
        try:
            reply.close_json()
        finally:
            if reply.ends is not None and reply.mode == "json":
                reply.ends()


class StatusOut(_Out):
    """`status`: a number."""

    def __init__(self, reply: Reply, *, append: bool) -> None:
        super().__init__(reply)
        self._append: Final = append

    def write(self, data: bytes) -> int:
        """See `File.write`."""
        reply = self._reply
        reply.claim("files", head=True)
        text = data if not self.wrote and not self._append else reply.status + data
        if len(text) > STATUS_BYTES:
            raise OSError(errno.EFBIG, f"a status has at most {STATUS_BYTES} bytes")
        reply.status = text
        self.wrote = True
        return len(data)

    def close(self) -> None:
        """Say at once if it is no status; it can be written again until the head is decided."""
        if self.wrote and not self._reply.frozen:
            try:
                parse_status(text_of(self._reply.status))
            except Malformed as error:
                raise OSError(errno.EINVAL, error.reason) from None


class HeaderOut(_Out):
    """One name in `headers`."""

    def __init__(self, reply: Reply, name: str, *, append: bool) -> None:
        super().__init__(reply)
        self._name: Final = name
        self._append: Final = append

    def write(self, data: bytes) -> int:
        """See `File.write`."""
        reply = self._reply
        reply.claim("files", head=True)
        before = b"" if not self.wrote and not self._append else reply.headers.get(self._name, b"")
        others = sum(map(len, reply.headers.values())) - len(reply.headers.get(self._name, b""))
        if others + len(before) + len(data) > HEAD_BYTES:
            raise OSError(errno.EFBIG, f"all headers together have at most {HEAD_BYTES} bytes")
        reply.headers[self._name] = before + data
        self.wrote = True
        return len(data)
