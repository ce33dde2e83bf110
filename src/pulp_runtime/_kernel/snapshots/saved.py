"""What a snapshot is: a header and the pages of memory that are not all zero.

In a file:

    magic u8×8 │ header length u32 LE │ header, MessagePack │ pages, one zlib stream │ BLAKE2b-256 of all before it

The digest is checked before anything else is believed, so that a torn or damaged file is told from a good one; it is
no signature, and who may write the file decides what a cell wakes up with.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from typing import Annotated, Final, NamedTuple

import msgspec

from pulp_runtime.errors import PulpError
from pulp_runtime.manifest.limits import PAGE

MAGIC: Final = b"\x93pulp\r\n\x01"
"""The last byte is the version of the format. What is not ASCII shows a file that was sent as text."""
ENGINE: Final = f"wasmtime {version('wasmtime')}; settings 2"
"""Another engine, or another configuration of it, may see the same bits otherwise; raise the number with
`modules.CONFIGURATION`."""
HEADER_BYTES: Final = 64 << 20
"""Longest header: a million changed elements of tables."""
COMPRESSION: Final = 1
_DIGEST_BYTES: Final = 32
_PIECE: Final = 1 << 20
_U32 = Annotated[int, msgspec.Meta(ge=0, le=0xFFFF_FFFF)]
_U64 = Annotated[int, msgspec.Meta(ge=0)]
Reference = tuple[int, int] | None
"""A function, by a table and a place in it where a new instance has it; (-1, 0): what is there anyway; None: null."""


class SnapshotRefused(PulpError):
    """A snapshot that cannot be taken, written, read or used; the message says why."""


class TableState(msgspec.Struct, frozen=True):
    """A table.

    Attributes:
        size: elements.
        changed: those that are not what a new instance has there: place and function.
    """

    size: _U32
    changed: list[tuple[_U32, Reference]] = []


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """All that is known of an instance but the content of its memory.

    Attributes:
        engine: `ENGINE` of the host that took it.
        module: SHA-256 of the module, in hexadecimal.
        cell: address of the cell, for people.
        version: of the cell's manifest, for people.
        taken_at: nanoseconds since 1970.
        call_number: the next step's.
        monotonic_ns: the guest's monotonic clock.
        idle: where the buffer for idle steps is, 0 for nowhere.
        memory_pages: size of the memory, in pages of 64 KiB.
        pages: runs of pages that are not all zero: first page and how many.
        globals: the mutable ones, by index: see `innards.Innards`; functions as references.
        tables: by index.
        capabilities: what the hooks `snapshot` of capabilities gave, by name.
    """

    engine: str = ENGINE
    module: str = ""
    cell: str = ""
    version: str = ""
    taken_at: _U64 = 0
    call_number: _U64 = 0
    monotonic_ns: _U64 = 0
    idle: _U32 = 0
    memory_pages: Annotated[int, msgspec.Meta(ge=0, le=65_536)] = 0
    pages: list[tuple[_U32, _U32]] = []
    globals: list[bytes | Reference] = []
    tables: list[TableState] = []
    capabilities: dict[str, bytes] = {}


class Saved(NamedTuple):
    """A snapshot.

    Attributes:
        header: see there.
        pages: of the runs, in order, each 64 KiB; iterated once.
    """

    header: Header
    pages: Iterable[bytes]


_decode: Final = msgspec.msgpack.Decoder(Header).decode


def pack(saved: Saved) -> bytes:
    """Return a snapshot as a file; pages in a list are let go of as they are compressed."""
    header = msgspec.msgpack.encode(saved.header)
    if len(header) > HEADER_BYTES:
        raise SnapshotRefused(f"its header has {len(header)} bytes; the most is {HEADER_BYTES}")
    pieces = [MAGIC, len(header).to_bytes(4, "little"), header]
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    for piece in pieces:
        digest.update(piece)
    press = zlib.compressobj(COMPRESSION)
    for page in _consumed(saved.pages):
        if piece := press.compress(page):
            digest.update(piece)
            pieces.append(piece)
    last = press.flush()
    digest.update(last)
    return b"".join([*pieces, last, digest.digest()])


def _consumed(pages: Iterable[bytes]) -> Iterator[bytes]:
    if not isinstance(pages, list):
        yield from pages
        return
    pages.reverse()
    while pages:
        yield pages.pop()


def unpack(data: bytes, memory_pages: int) -> Saved:
    """Return the snapshot in a file.

    Args:
        data: all of the file.
        memory_pages: how large its memory may be.

    Raises:
        SnapshotRefused: it is no snapshot, not whole, or of another engine. Iterating its pages raises it too.
    """
    if data[: len(MAGIC)] != MAGIC:
        known = data[: len(MAGIC) - 1] == MAGIC[:-1] and len(data) > len(MAGIC)
        raise SnapshotRefused(f"its format is {data[7]}; this host reads {MAGIC[-1]}" if known else "it is no snapshot")
    view = memoryview(data)
    body, digest = view[:-_DIGEST_BYTES], view[-_DIGEST_BYTES:]
    if hashlib.blake2b(body, digest_size=_DIGEST_BYTES).digest() != digest:
        raise SnapshotRefused("its checksum is wrong: it is torn or damaged")
    start = len(MAGIC) + 4
    length = int.from_bytes(body[len(MAGIC) : start], "little")
    if length > min(HEADER_BYTES, len(body) - start):
        raise SnapshotRefused("its header is longer than the file")
    try:
        header = _decode(body[start : start + length])
    except msgspec.MsgspecError as error:
        raise SnapshotRefused(f"its header cannot be read: {error}") from None
    if header.engine != ENGINE:
        raise SnapshotRefused(f"it was taken by {header.engine}; this host runs {ENGINE}")
    if header.memory_pages > memory_pages:
        raise SnapshotRefused(f"it has {header.memory_pages} pages of memory; the cell may have {memory_pages}")
    at = 0
    for first, count in header.pages:
        if first < at or count > header.memory_pages - first:
            raise SnapshotRefused("its pages are not in its memory")
        at = first + count
    return Saved(header, _pages(body[start + length :], sum(count for _first, count in header.pages)))


def _pages(body: memoryview, count: int) -> Iterator[bytes]:
    """Yield the pages; none is longer than a page whatever the stream says."""
    press = zlib.decompressobj()
    at = 0
    try:
        for _ in range(count):
            page = b""
            while len(page) < PAGE:
                data: bytes | memoryview = press.unconsumed_tail
                if not data:
                    data, at = body[at : at + _PIECE], at + _PIECE
                more = press.decompress(data, PAGE - len(page))
                if not more and (press.eof or at > len(body) + _PIECE):
                    raise SnapshotRefused("its pages end too soon")
                page += more
            yield page
    except zlib.error as error:
        raise SnapshotRefused(f"its pages cannot be read: {error}") from None
