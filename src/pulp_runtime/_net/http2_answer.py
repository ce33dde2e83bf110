"""A complete answer as HTTP/2 sends it."""

from __future__ import annotations

from typing import NamedTuple

from pulp_runtime._net import http2_fields
from pulp_runtime._net.response import RenderedFields
from pulp_runtime._net.sniff import content_type


class Http2Answer(NamedTuple):
    """What `Connection.render` makes.

    Attributes:
        head: the encoded header block.
        body: empty for HEAD, 204, 205 and 304.
    """

    head: bytes
    body: bytes


def assemble(fields: RenderedFields, body: bytes, method: str) -> Http2Answer:
    """Return a complete answer, with the same header fields as `response.assemble` gives it."""
    head = http2_fields.encode_head(fields)
    if body and not fields.typed and not fields.bodiless:
        head += http2_fields.encode([(b"content-type", content_type(body))])
    head += http2_fields.encode_date()
    size = len(body)
    if fields.bodiless:
        body = b""
        if fields.status == 205:
            head += http2_fields.encode_length(0)
    elif not fields.chunked:
        if method == "HEAD" and not body and fields.content_length is not None:
            size = fields.content_length
        head += http2_fields.encode_length(size)
    return Http2Answer(head, b"" if method == "HEAD" else body)


def assemble_head(fields: RenderedFields, length: int | None) -> bytes:
    """Return the header block of an answer whose body follows in pieces; `length` is that of all of them, if known."""
    head = http2_fields.encode_head(fields) + http2_fields.encode_date()
    if length is not None and fields.status not in (204, 304):
        head += http2_fields.encode_length(0 if fields.status == 205 else length)
    return head
