"""The chunked transfer coding, as it arrives (RFC 9112 §7.1).

    size [;extension] CRLF  data CRLF   ...   0 CRLF  [trailer CRLF]...  CRLF

Strict where reading it differently than a proxy would let one request hide in
another: a size is hexadecimal digits and nothing else, a line ends with CRLF and
nothing else. Extensions and trailers are checked and dropped.

    feed(data) -> None      more is needed
    feed(data) -> bytes     the message ended; these bytes belong to the next one
"""

from __future__ import annotations

import re
from typing import Final

from pulp_runtime._net.fault import RequestFault, bad
from pulp_runtime._net.fields import TCHAR, forbidden_in_value_bytes

#: Bytes of all extensions of one message. Past it 400.
EXTENSION_BYTES: Final = 4_096
#: Bytes of all trailers. Past it 431.
TRAILER_BYTES: Final = 8_192
#: Trailer fields. Past it 431.
TRAILER_FIELDS: Final = 100
#: A size of more digits than this is past any limit, zeros in front or not.
SIZE_DIGITS: Final = 16
#: Chunks a message may have whatever their size, and beyond them one for this
#: many bytes: a body in one-byte chunks costs the reader a hundred times as
#: much as the same body in large ones. Past it 400.
FREE_CHUNKS: Final = 16_384
BYTES_PER_CHUNK: Final = 64

_LINE_BYTES: Final = SIZE_DIGITS + EXTENSION_BYTES

_token: Final = TCHAR.encode() + b"+"
_quoted: Final = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*"'
_size_line: Final = re.compile(
    rb"([0-9A-Fa-f]{1,%d})((?:;%s(?:=(?:%s|%s))?)*)" % (SIZE_DIGITS, _token, _token, _quoted)
).fullmatch
_trailer: Final = re.compile(_token + rb":").match

_SIZE: Final = 0
_DATA: Final = 1
_DATA_END: Final = 2
_TRAILER: Final = 3


class ChunkedDecoder:
    """Decodes one chunked body.

    Attributes:
        body: the data so far, but for what was taken.
    """

    __slots__ = (
        "_chunks",
        "_extension_bytes",
        "_left",
        "_limit",
        "_pending",
        "_state",
        "_total",
        "_trailer_bytes",
        "_trailer_fields",
        "body",
    )

    def __init__(self, limit_bytes: int) -> None:
        """Make a decoder; `limit_bytes` is the longest body it accepts."""
        self.body: Final = bytearray()
        self._limit: Final = limit_bytes
        self._pending = b""  # an unfinished line, bounded by the longest line
        self._state = _SIZE
        self._left = 0
        self._total = 0  # of all chunks begun, in bytes
        self._chunks = 0
        self._extension_bytes = 0
        self._trailer_bytes = 0
        self._trailer_fields = 0

    def feed(self, data: bytes) -> bytes | None:
        """Take the next bytes; return what follows the message once it has ended.

        Raises:
            RequestFault: 400 the coding is malformed, 413 the body is too
                large, 431 the trailers are. The decoder is spent.
        """
        if self._pending:
            data = self._pending + data
            self._pending = b""
        position = 0
        while True:
            if self._state == _DATA:
                position = self._take_data(data, position)
                if self._left:
                    return None
                self._state = _DATA_END
            if self._state == _DATA_END:
                if not b"\r\n".startswith(data[position : position + 2]):
                    raise bad("malformed chunk end")
                if len(data) - position < 2:
                    self._pending = data[position:]
                    return None
                position += 2
                self._state = _SIZE
            line = self._line(data, position)
            if line is None:
                self._pending = data[position:]
                return None
            position += len(line) + 2
            if self._state == _SIZE:
                self._start_chunk(line)
            elif not line:
                return data[position:]
            else:
                self._check_trailer(line)

    def take(self) -> bytes:
        """Return the data so far, and forget it."""
        taken = bytes(self.body)
        self.body.clear()
        return taken

    def _take_data(self, data: bytes, position: int) -> int:
        """Move what belongs to the current chunk into the body; return where it ends."""
        end = position + self._left
        piece = data[position:end] if position or end < len(data) else data
        self.body.extend(piece)
        self._left -= len(piece)
        return position + len(piece)

    def _line(self, data: bytes, position: int) -> bytes | None:
        """Return the line that starts here without its CRLF, or None if it is not all here."""
        longest = _LINE_BYTES if self._state == _SIZE else TRAILER_BYTES
        end = data.find(b"\r\n", position, position + longest + 2)
        if end >= 0:
            return data[position:end]
        start = data[position : position + longest + 2]
        # No CRLF so far: a CR or LF that is here already, but for a last CR, is a stray one.
        if b"\n" in start or b"\r" in start[:-1]:
            raise bad("stray line end in chunked body")
        if len(start) > longest:
            raise RequestFault(431 if self._state == _TRAILER else 400, "line in chunked body too long")
        return None

    def _start_chunk(self, line: bytes) -> None:
        """Read a size line."""
        match = _size_line(line)
        if match is None:
            raise bad("malformed chunk size")
        digits, extension = match.groups()
        self._extension_bytes += len(extension)
        if self._extension_bytes > EXTENSION_BYTES:
            raise bad("too many chunk extensions")
        size = int(digits, 16)
        if not size:
            self._state = _TRAILER
            return
        if self._total + size > self._limit:
            raise RequestFault(413, "request body too large")
        self._chunks += 1
        if self._chunks > FREE_CHUNKS + self._total // BYTES_PER_CHUNK:
            raise bad("too many small chunks")
        self._total += size
        self._left = size
        self._state = _DATA

    def _check_trailer(self, line: bytes) -> None:
        """Check a trailer field like any header field, and drop it."""
        self._trailer_bytes += len(line) + 2
        self._trailer_fields += 1
        if self._trailer_bytes > TRAILER_BYTES or self._trailer_fields > TRAILER_FIELDS:
            raise RequestFault(431, "trailers too large")
        if _trailer(line) is None or forbidden_in_value_bytes(line):
            raise bad("malformed trailer")
