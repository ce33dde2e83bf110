"""What is said about an object, as small files: `<object>/.meta/content-type`, `sha256`, `size`, `modified`, `x-…`."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from pulp_runtime.blobs.bucket import FIELDS_BYTES, TYPE, Info, check_field, check_type
from pulp_runtime.capabilities.cloud.blob_view import View, missing
from pulp_runtime.ext.nodes import Bytes
from pulp_runtime.ext.tree import Entry, File, How, Kind, Node, Parts, Stat

META: Final = ".meta"
CONTENT_TYPE: Final = "content-type"
_FIXED: Final = ("modified", "sha256", "size")
_SECOND_NS: Final = 1_000_000_000


class About(Node):
    """The folder `.meta` of one object."""

    def __init__(self, view: View, name: str) -> None:
        self._view: Final = view
        self._name: Final = name

    def _info(self) -> Info:
        info = self._view.find(self._name)
        if info is None:
            raise missing()
        return info

    def entries(self) -> Iterator[Entry]:
        """See `Node.entries`."""
        for name in sorted(_values(self._info())):
            yield Entry(name, Kind.FILE)

    def stat(self, parts: Parts, *, follow: bool = True) -> Stat:
        """See `Node.stat`."""
        info = self._info()
        if not parts:
            return self._view.folder_stat(f"{self._name}/{META}")
        return self._view.stat(info)._replace(inode=0, size=len(_value(info, parts)))

    def open(self, parts: Parts, how: How) -> File | Node:
        """See `Node.open`."""
        info = self._info()
        if not parts:
            if how.changes:
                self._view.may_change()
                raise IsADirectoryError(errno.EISDIR, "a folder")
            return self
        if how.folder:
            _value(info, parts)
            raise NotADirectoryError(errno.ENOTDIR, "no folder")
        if not how.changes:
            return Bytes(_value(info, parts).encode())
        self._may_change(parts)
        there = _values(info).get(parts[0])
        if there is None and not how.create:
            raise missing()
        if there is not None and how.create and how.exclusive:
            raise FileExistsError(errno.EEXIST, "it is there")
        if parts[0] != CONTENT_TYPE:
            check_field(parts[0], "")
        return _Saying(self, parts[0], b"" if how.truncate or there is None else there.encode())

    def unlink(self, parts: Parts) -> None:
        """See `Node.unlink`; a content type goes back to what it was when nobody had said one."""
        self._may_change(parts)
        _value(self._info(), parts)
        self.say(parts[0], None)

    def say(self, name: str, value: str | None) -> None:
        """Set what one of the files has, None to remove it."""
        if name == CONTENT_TYPE:
            check_type(value or TYPE)
        with self._view.asking(slow=True) as caller:
            if name == CONTENT_TYPE:
                self._view.bucket.describe(caller, self._name, value or TYPE, {})
            else:
                self._view.bucket.describe(caller, self._name, None, {name: value})

    def make_folder(self, parts: Parts) -> None:
        """See `Node.make_folder`; there are none here."""
        self._view.may_change()
        raise FileExistsError(errno.EEXIST, "a folder") if not parts else OSError(errno.EINVAL, "no folders here")

    def remove_folder(self, parts: Parts) -> None:
        """See `Node.remove_folder`."""
        self._view.may_change()
        raise OSError(errno.EACCES, "stays as long as the object")

    def rename(self, parts: Parts, to: Node, to_parts: Parts) -> None:
        """See `Node.rename`."""
        self._view.may_change()
        raise OSError(errno.EXDEV, "cannot be moved")

    def set_times(self, parts: Parts, accessed_ns: int | None, modified_ns: int | None, *, follow: bool = True) -> None:
        """See `Node.set_times`."""
        self._view.may_change()
        raise OSError(errno.ENOTSUP, "an object has the time when it was put")

    def _may_change(self, parts: Parts) -> None:
        self._view.may_change()
        if not parts:
            raise IsADirectoryError(errno.EISDIR, "a folder")
        if len(parts) > 1:
            raise NotADirectoryError(errno.ENOTDIR, "no folder")
        if parts[0] in _FIXED:
            raise PermissionError(errno.EACCES, f"{parts[0]} follows from the object")


class _Saying(File):
    """One of the files, that is being written; it counts when it is closed."""

    seekable = True

    def __init__(self, about: About, name: str, data: bytes) -> None:
        self._about: Final = about
        self._name: Final = name
        self._data: Final = bytearray(data)

    def read_at(self, offset: int, into: memoryview) -> int:
        """See `File.read_at`."""
        piece = self._data[offset : offset + len(into)]
        into[: len(piece)] = piece
        return len(piece)

    def write_at(self, offset: int, data: memoryview) -> int:
        """See `File.write_at`."""
        self.truncate(max(len(self._data), offset + len(data)))
        self._data[offset : offset + len(data)] = data
        return len(data)

    def append(self, data: memoryview) -> int:
        """See `File.append`."""
        return self.write_at(len(self._data), data)

    def truncate(self, size: int) -> None:
        """See `File.truncate`."""
        if size > FIELDS_BYTES:
            raise OSError(errno.EFBIG, f"at most {FIELDS_BYTES} bytes")
        del self._data[size:]
        self._data.extend(bytes(size - len(self._data)))

    def stat(self) -> Stat:
        """See `File.stat`."""
        return Stat(Kind.FILE, size=len(self._data))

    def close(self) -> None:
        """See `File.close`. A newline at the end, as `echo` writes it, does not count."""
        try:
            value = self._data.decode()
        except UnicodeDecodeError:
            raise OSError(errno.EINVAL, "what is said about an object is text") from None
        self._about.say(self._name, value.removesuffix("\n"))

    def abandon(self) -> None:
        """See `File.abandon`: it stays as it was."""


def _values(info: Info) -> dict[str, str]:
    seconds, rest = divmod(info.modified_ns, _SECOND_NS)
    moment = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    known = {
        CONTENT_TYPE: info.content_type,
        "modified": f"{moment}.{rest // 1_000_000:03}Z",
        "size": str(info.size),
    }
    if info.sha256:
        known["sha256"] = info.sha256.hex()
    return {**info.fields, **known}


def _value(info: Info, parts: Parts) -> str:
    value = _values(info).get(parts[0])
    if value is None:
        raise missing()
    if len(parts) > 1:
        raise NotADirectoryError(errno.ENOTDIR, "no folder")
    return value
