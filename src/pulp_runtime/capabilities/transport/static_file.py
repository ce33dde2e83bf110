"""A file as it is served: found below its folder, read, and ready to be sent. Everything here may wait for the disk.

    app.js       the file              ──▶ variant ""
    app.js.br    a sibling, if it is   ──▶ variant "br"
    app.js.gz    not older             ──▶ variant "gzip"

Descriptors are closed before anything is sent.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from pulp_runtime._net.response import RenderedFields, render_head_fields
from pulp_runtime.capabilities.transport.static_conditions import Part, Version
from pulp_runtime.capabilities.transport.static_types import content_type_of
from pulp_runtime.files.descent import Descent, Root

SMALL_BYTES: Final = 256 * 1024
"""Longest file that is kept in memory; a longer one is read in pieces as its client takes them."""
_SIBLINGS: Final = {"br": b".br", "gzip": b".gz"}
_TRIES: Final = 3
_ENTRY_BYTES: Final = 4 * 1024
"""What an entry costs beside the bytes of its files, roughly."""

_Identity = tuple[int, int, int, int]


class Changed(Exception):
    """A file is not the one any more that was begun."""


class ServedRoot(Root):
    """A folder that is never made: while somebody exchanges it, it is simply not there."""

    def open(self) -> int:
        """Return a descriptor of the folder; the caller closes it."""
        return os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)


class Variant(NamedTuple):
    """A file, in one coding.

    Attributes:
        parts: where it is, below the root.
        identity: what the system knows it by.
        size: in bytes.
        version: for conditions.
        headers: of every answer that has some of it.
        fields: the head of an answer that has all of it.
        body: all of it, None when it is too long to keep.
    """

    parts: tuple[bytes, ...]
    identity: _Identity
    size: int
    version: Version
    headers: Mapping[str, str]
    fields: RenderedFields
    body: bytes | None


class Resource:
    """A file with its siblings.

    Attributes:
        variants: by coding, "" for the file itself.
        checked: when it was last compared with the disk, by the loop's clock.
        weight: bytes that it takes in memory.
    """

    __slots__ = ("checked", "variants", "weight")

    def __init__(self, variants: dict[str, Variant]) -> None:
        self.variants: Final = variants
        self.checked = 0.0
        self.weight: Final = sum(_ENTRY_BYTES + len(one.body or b"") for one in variants.values())


class Found(NamedTuple):
    """What a path leads to: a file, or a folder (without an index, if one was asked for)."""

    resource: Resource | None
    folder: bool = False


def look(
    root: Root, parts: Sequence[bytes], *, index: bytes, headers: Mapping[str, str], known: Resource | None = None
) -> Found:
    """Find a file, or the index of a folder.

    Args:
        root: the folder that is served.
        parts: components below it; with b"" for the last one it has to be a folder.
        index: name of the file to serve for a folder.
        headers: sent with every file of this folder.
        known: what was found the last time; what has not changed is not read again.

    Raises:
        OSError: there is none, or it cannot be had.
    """
    if parts and parts[-1]:
        try:
            variants = _variants(root, tuple(parts), headers, known)
        except IsADirectoryError:
            return Found(None, folder=True)
        return Found(Resource(variants))
    return Found(Resource(_variants(root, (*parts[:-1], index), headers, known)), folder=True)


def read_part(root: Root, variant: Variant, part: Part) -> bytes:
    """Return some bytes of a file.

    The file is opened anew for each part: a client that takes its time holds no descriptor.

    Raises:
        Changed: it is another one now, or shorter.
        OSError: it cannot be read.
    """
    file, status = _open(root, variant.parts)
    try:
        if _identity(status) != variant.identity:
            raise Changed
        data = os.pread(file, part.end - part.start, part.start)
    finally:
        os.close(file)
    if len(data) != part.end - part.start:
        raise Changed
    return data


def _variants(
    root: Root, parts: tuple[bytes, ...], headers: Mapping[str, str], known: Resource | None
) -> dict[str, Variant]:
    variants = {"": _Reader(root, headers, known, content_type_of(parts[-1].decode())).read("", parts)}
    siblings = {}
    for coding, ending in _SIBLINGS.items():
        try:
            reader = _Reader(root, {**headers, "Content-Encoding": coding}, known, variants[""].headers["Content-Type"])
            found = reader.read(coding, (*parts[:-1], parts[-1] + ending))
        except OSError:
            continue
        if found.version.modified >= variants[""].version.modified:
            siblings[coding] = found
    if not siblings:
        return variants
    return {coding: _varying(one) for coding, one in {**variants, **siblings}.items()}


class _Reader:
    """Reads one file; takes over what is known of it if it has not changed."""

    def __init__(self, root: Root, headers: Mapping[str, str], known: Resource | None, kind: str) -> None:
        self._root: Final = root
        self._headers: Final = {"Content-Type": kind, "X-Content-Type-Options": "nosniff", **headers}
        self._known: Final = known

    def read(self, coding: str, parts: tuple[bytes, ...]) -> Variant:
        """Return the file; raise `OSError` if there is none."""
        known = None if self._known is None else self._known.variants.get(coding)
        for _ in range(_TRIES):
            file, status = _open(self._root, parts)
            try:
                if known is not None and known.parts == parts and known.identity == _identity(status):
                    return known
                body = None
                if status.st_size <= SMALL_BYTES:
                    body = os.pread(file, SMALL_BYTES + 1, 0)
                    if len(body) != status.st_size:  # somebody is writing it
                        continue
            finally:
                os.close(file)
            return self._variant(parts, status, body)
        raise OSError(errno.EAGAIN, "the file changes all the time")

    def _variant(self, parts: tuple[bytes, ...], status: os.stat_result, body: bytes | None) -> Variant:
        from email.utils import formatdate  # long to import

        modified = max(0, int(status.st_mtime))
        if body is None:
            etag = f'"{status.st_size:x}-{status.st_mtime_ns:x}-{status.st_ino:x}"'
        else:
            etag = f'"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'
        headers = {
            **self._headers,
            "Accept-Ranges": "bytes",
            "ETag": etag,
            "Last-Modified": formatdate(modified, usegmt=True),
        }
        fields = _whole(headers, status.st_size)
        return Variant(parts, _identity(status), status.st_size, Version(etag, modified), headers, fields, body)


def _varying(variant: Variant) -> Variant:
    """Return the variant as one of several."""
    headers = {**variant.headers, "Vary": "Accept-Encoding"}
    return variant._replace(headers=headers, fields=_whole(headers, variant.size))


def _whole(headers: Mapping[str, str], size: int) -> RenderedFields:
    return render_head_fields(200, {**headers, "Content-Length": str(size)})


def _open(root: Root, parts: Sequence[bytes]) -> tuple[int, os.stat_result]:
    """Open a regular file below a folder; links may lead anywhere in it."""
    with Descent(root, parts) as descent:
        file = descent.open(os.O_RDONLY)
    status = os.fstat(file)
    if stat.S_ISREG(status.st_mode):
        return file, status
    os.close(file)
    raise OSError(errno.EISDIR if stat.S_ISDIR(status.st_mode) else errno.ENOENT, "no regular file")


def _identity(status: os.stat_result) -> _Identity:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def served_root(folder: Path) -> ServedRoot:
    """Return a folder to serve from.

    Raises:
        NotADirectoryError: it is none.
    """
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is no folder")
    return ServedRoot(folder)
