"""Header blocks as HTTP/2 compresses them (HPACK, RFC 7541), for a server that sees and sends the same few all day.

What a client sends goes through the `hpack` library, but for blocks that were read before and have changed nothing:
those mean the same until something else changes the table of the connection. What we send is written without a table
of our own: it takes some bytes more and can be made on any thread, kept, and sent on every connection; and a client
cannot have us keep a table for it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any, Final

from hpack import Decoder, HeaderTuple
from hpack.table import HeaderTable

from pulp_runtime._net.response import RenderedFields, date_line

Pair = tuple[bytes, bytes]

_KEPT_BLOCKS: Final = 16
_KEPT_BYTES: Final = 256
_KEPT_FIELDS: Final = 40
_HEADS: Final = 512
_HEAD_BYTES: Final = 1_024

_STATIC: Final = {name: index for index, (name, _value) in reversed(list(enumerate(HeaderTable.STATIC_TABLE, 1)))}
_STATUSES: Final = {
    value: index for index, (name, value) in enumerate(HeaderTable.STATIC_TABLE, 1) if name == b":status"
}

_PLAIN: Final = 0x00  # a literal that no table keeps
_SECRET: Final = 0x10  # ... and that nobody on the way may keep either (RFC 7541 §7.1.3)
_NEVER: Final = frozenset({b"set-cookie", b"authorization", b"proxy-authorization"})


class _CountedTable(HeaderTable):
    """A table that says how often it was changed."""

    def __init__(self) -> None:
        super().__init__()
        self.changes = 0

    def add(self, name: bytes, value: bytes) -> None:
        self.changes += 1
        super().add(name, value)

    @property
    def maxsize(self) -> int:
        return self._maxsize

    @maxsize.setter
    def maxsize(self, newmax: int) -> None:
        self.changes += 1
        HeaderTable.maxsize.fset(self, newmax)  # type: ignore[attr-defined]  # what `property` is to the type checker


class FieldDecoder(Decoder):
    """Reads header blocks of one connection; remembers those that change nothing.

    Args:
        list_bytes: longest list, as RFC 9113 §10.5.1 counts: 32 bytes a field on top of its own. Past it the
            library raises, and the connection is over.
    """

    def __init__(self, list_bytes: int) -> None:
        super().__init__(list_bytes)
        self.header_table: _CountedTable = _CountedTable()
        self._known: Final[dict[bytes, tuple[int, list[HeaderTuple]]]] = {}

    def decode(self, data: bytes, raw: bool = False) -> list[HeaderTuple]:  # noqa: ARG002 - the library's name
        """See `hpack.Decoder`; names and values are always bytes."""
        table = self.header_table
        before = table.changes
        known = self._known.get(data)
        if known is not None and known[0] == before:
            return known[1]
        fields = list(super().decode(data, raw=True))
        if table.changes == before and len(data) <= _KEPT_BYTES and len(fields) <= _KEPT_FIELDS:
            if len(self._known) >= _KEPT_BLOCKS:
                self._known.clear()
            self._known[data] = (before, fields)
        return fields


class BlockPasser:
    """Stands where `h2` expects an encoder: our blocks are encoded already, see `headers`."""

    header_table_size: int = 4_096  # a client may ask for any; we use none

    def encode(self, headers: Iterable[Any]) -> bytes:
        """Return the block that `headers` carries."""
        for name, value in headers:
            if name == _BLOCK:
                return bytes(value)
        raise ValueError("no block")  # a mistake of ours


_BLOCK: Final = b""


def headers(block: bytes, *, informational: bool = False) -> list[Pair]:
    """Return what to give to `h2` for a block: it looks at the status to know what kind of answer it is."""
    return [(b":status", b"100" if informational else b"200"), (_BLOCK, block)]


def encode(pairs: Iterable[Pair]) -> bytes:
    """Return lower-case names and values as a header block, or a part of one."""
    out = bytearray()
    for name, value in pairs:
        form = _SECRET if name in _NEVER else _PLAIN
        index = _STATIC.get(name, 0)
        _number(out, form, 4, index)
        if not index:
            _number(out, 0, 7, len(name))
            out += name
        _number(out, 0, 7, len(value))
        out += value
    return bytes(out)


def encode_status(status: int) -> bytes:
    """Return the first field of an answer."""
    text = b"%d" % status
    index = _STATUSES.get(text)
    return encode([(b":status", text)]) if index is None else bytes([0x80 | index])


def encode_head(fields: RenderedFields) -> bytes:
    """Return status and header fields of an answer; those that were encoded lately are remembered."""
    key = (fields.status, fields.pairs)
    block = _heads.get(key)
    if block is None:
        block = encode_status(fields.status) + encode(fields.pairs)
        if len(block) <= _HEAD_BYTES:
            if len(_heads) >= _HEADS:
                _heads.clear()
            _heads[key] = block
    return block


def encode_length(size: int) -> bytes:
    """Return the field `content-length`."""
    text = b"%d" % size
    return b"\x0f\x0d%c%b" % (len(text), text)


def encode_date() -> bytes:
    """Return the field `date` of this second."""
    global _date
    second, field = _date
    now = int(time.time())
    if now != second:
        field = encode([(b"date", date_line()[len(b"Date: ") : -2])])
        _date = (now, field)  # one assignment: a reader sees the old pair or the new one
    return field


def _number(out: bytearray, form: int, bits: int, value: int) -> None:
    """Append a number behind a form of its first byte (RFC 7541 §5.1)."""
    most = (1 << bits) - 1
    if value < most:
        out.append(form | value)
        return
    out.append(form | most)
    value -= most
    while value >= 0x80:
        out.append(0x80 | value & 0x7F)
        value >>= 7
    out.append(value)


_heads: dict[tuple[int, tuple[Pair, ...]], bytes] = {}
_date: tuple[int, bytes] = (0, b"")
