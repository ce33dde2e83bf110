"""An event as the bytes of an event stream (spec/capabilities §5; HTML Living Standard §9.2.5).

    id: 7
    event: score
    data: the first line
    data: the second
    (an empty line)

A stream ends its lines with LF, CR or CRLF. The contract splits data at LF; CR and CRLF split it here as well, or what
stands behind a CR would be read as a field of its own. The client puts the lines together with LF, whichever it was.
"""

from __future__ import annotations

import re
from typing import Final

from pulp_runtime.abi.sse import SSEEmitRequest
from pulp_runtime.errors import PulpError

PING: Final = b":ping\n\n"
"""A comment that keeps a silent stream open."""
GAP: Final = b":gap\n\n"
"""A comment for a client that resumes: events it has not seen are no longer there."""

FIELD_BYTES: Final = 1_024
"""Longest id, and longest event type: a client sends the id back in a request header."""

#: What would end the line, and what no client can send back in a header (RFC 9110 §5.5).
_forbidden: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]").search


class FrameInvalid(PulpError):
    """An event that no stream can carry; the message says why."""


def encode_frame(event: SSEEmitRequest, most: int) -> bytes:
    """Return an event's frame.

    Args:
        event: what to send.
        most: longest frame, in bytes.

    Raises:
        FrameInvalid: a control character in `id` or `event`, either longer than 1,024 bytes, or too long a frame.
    """
    start = ""
    if event.id:
        start = f"id: {_field('id', event.id)}\n"
    if event.event:
        start += f"event: {_field('event', event.event)}\n"
    data = event.data
    if len(data) > most:
        raise FrameInvalid(f"data of {len(data)} characters is more than {most} bytes")
    if "\r" in data:
        data = data.replace("\r\n", "\n").replace("\r", "\n")
    if "\n" in data:
        if len(data) + 6 * data.count("\n") > most:  # said before it is made: line breaks alone grow sevenfold
            raise FrameInvalid(f"the frame is longer than {most} bytes")
        data = data.replace("\n", "\ndata: ")
    frame = f"{start}data: {data}\n\n".encode()
    if len(frame) > most:
        raise FrameInvalid(f"a frame of {len(frame)} bytes is more than {most}")
    return frame


def retry_line(milliseconds: int) -> bytes:
    """Return what tells a client how long to wait before it connects again; nothing for 0."""
    return b"retry: %d\n\n" % milliseconds if milliseconds else b""


def _field(name: str, value: str) -> str:
    if _forbidden(value):
        raise FrameInvalid(f"a control character in {name}")
    if len(value) > FIELD_BYTES or len(value.encode()) > FIELD_BYTES:
        raise FrameInvalid(f"{name} is longer than {FIELD_BYTES} bytes")
    return value
