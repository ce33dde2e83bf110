"""A Content-Type for a body that has none.

The table is the one Go's `http.DetectContentType` follows (WHATWG MIME
Sniffing), because existing cells rely on the types that host sends.
"""

from __future__ import annotations

import re
from typing import Final

#: Bytes of the body that are looked at.
SNIFFED_BYTES: Final = 512

OCTETS: Final = b"application/octet-stream"
TEXT: Final = b"text/plain; charset=utf-8"

_html: Final = re.compile(
    rb"[\t\n\x0c\r ]*<(?:!--[ >]|(?:!DOCTYPE HTML|HTML|HEAD|SCRIPT|IFRAME|H1|DIV"
    rb"|FONT|TABLE|A|STYLE|TITLE|B|BODY|BR|P)[ >])",
    re.IGNORECASE,
).match
_xml: Final = re.compile(rb"[\t\n\x0c\r ]*<\?xml").match

#: Bytes that no text holds; deleting them from a text changes nothing.
_BINARY: Final = bytes([*range(0x09), 0x0B, *range(0x0E, 0x1B), *range(0x1C, 0x20)])

_MAGIC: Final = (
    (b"%PDF-", b"application/pdf"),
    (b"%!PS-Adobe-", b"application/postscript"),
    (b"\xfe\xff", b"text/plain; charset=utf-16be"),
    (b"\xff\xfe", b"text/plain; charset=utf-16le"),
    (b"\xef\xbb\xbf", TEXT),
    (b"\x00\x00\x01\x00", b"image/x-icon"),
    (b"\x00\x00\x02\x00", b"image/x-icon"),
    (b"BM", b"image/bmp"),
    (b"GIF87a", b"image/gif"),
    (b"GIF89a", b"image/gif"),
    (b"\x89PNG\r\n\x1a\n", b"image/png"),
    (b"\xff\xd8\xff", b"image/jpeg"),
    (b"OggS\x00", b"application/ogg"),
    (b"MThd\x00\x00\x00\x06", b"audio/midi"),
    (b"ID3", b"audio/mpeg"),
    (b".snd", b"audio/basic"),
    (b"\x1a\x45\xdf\xa3", b"video/webm"),
    (b"\x00\x01\x00\x00", b"font/ttf"),
    (b"OTTO", b"font/otf"),
    (b"ttcf", b"font/collection"),
    (b"wOFF", b"font/woff"),
    (b"wOF2", b"font/woff2"),
    (b"\x1f\x8b\x08", b"application/x-gzip"),
    (b"PK\x03\x04", b"application/zip"),
    (b"Rar!\x1a\x07\x00", b"application/x-rar-compressed"),
    (b"Rar!\x1a\x07\x01\x00", b"application/x-rar-compressed"),
    (b"\x00asm", b"application/wasm"),
)
_MAGIC_FIRST: Final = frozenset(magic[0] for magic, _ in _MAGIC)

#: Kinds inside a RIFF or FORM container, told by the bytes at offset 8.
_RIFF: Final = {b"WEBP": b"image/webp", b"AVI ": b"video/avi", b"WAVE": b"audio/wave"}


def content_type(body: bytes) -> bytes:
    """Return the type of a body by its first 512 bytes."""
    start = body[:SNIFFED_BYTES]
    if not start:
        return TEXT
    if b"<" in start:
        if _html(start):
            return b"text/html; charset=utf-8"
        if _xml(start):
            return b"text/xml; charset=utf-8"
    if start[0] in _MAGIC_FIRST:
        for magic, kind in _MAGIC:
            if start.startswith(magic):
                return kind
    container = start[:4]
    if container == b"RIFF" and start[8:12] in _RIFF:
        return _RIFF[start[8:12]]
    if container == b"FORM" and start[8:12] == b"AIFF":
        return b"audio/aiff"
    if start[4:8] == b"ftyp" and b"mp4" in start[8:32]:
        return b"video/mp4"
    return TEXT if len(start.translate(None, _BINARY)) == len(start) else OCTETS
