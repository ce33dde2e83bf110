"""What a file is, by the end of its name: a table of our own, so that every machine gives the same answer.

After the IANA media types registry; what is not here is `application/octet-stream`.
"""

from __future__ import annotations

from typing import Final

UNKNOWN: Final = "application/octet-stream"
_UTF8: Final = "; charset=utf-8"

_TYPES: Final = {
    "css": "text/css" + _UTF8,
    "csv": "text/csv" + _UTF8,
    "htm": "text/html" + _UTF8,
    "html": "text/html" + _UTF8,
    "ics": "text/calendar" + _UTF8,
    "js": "text/javascript" + _UTF8,
    "md": "text/markdown" + _UTF8,
    "mjs": "text/javascript" + _UTF8,
    "txt": "text/plain" + _UTF8,
    "vtt": "text/vtt" + _UTF8,
    "xml": "application/xml",
    "atom": "application/atom+xml",
    "rss": "application/rss+xml",
    "json": "application/json",
    "jsonld": "application/ld+json",
    "map": "application/json",
    "webmanifest": "application/manifest+json",
    "pdf": "application/pdf",
    "wasm": "application/wasm",
    "zip": "application/zip",
    "gz": "application/gzip",
    "tar": "application/x-tar",
    "7z": "application/x-7z-compressed",
    "avif": "image/avif",
    "bmp": "image/bmp",
    "gif": "image/gif",
    "ico": "image/vnd.microsoft.icon",
    "jpeg": "image/jpeg",
    "jpg": "image/jpeg",
    "png": "image/png",
    "svg": "image/svg+xml",
    "tif": "image/tiff",
    "tiff": "image/tiff",
    "webp": "image/webp",
    "otf": "font/otf",
    "ttf": "font/ttf",
    "woff": "font/woff",
    "woff2": "font/woff2",
    "aac": "audio/aac",
    "flac": "audio/flac",
    "m4a": "audio/mp4",
    "mp3": "audio/mpeg",
    "oga": "audio/ogg",
    "ogg": "audio/ogg",
    "opus": "audio/ogg",
    "wav": "audio/wav",
    "weba": "audio/webm",
    "m3u8": "application/vnd.apple.mpegurl",
    "mov": "video/quicktime",
    "mp4": "video/mp4",
    "mpeg": "video/mpeg",
    "ogv": "video/ogg",
    "ts": "video/mp2t",
    "webm": "video/webm",
}


def content_type_of(name: str) -> str:
    """Return the media type of a file by its name."""
    stem, dot, ending = name.rpartition(".")
    return _TYPES.get(ending.lower(), UNKNOWN) if stem and dot else UNKNOWN
