"""Where a request head ends, and when it can no longer become a good one."""

from __future__ import annotations

from pulp_runtime._net.fault import RequestFault, bad
from pulp_runtime._net.head import END_OF_HEAD, stray_byte
from pulp_runtime._net.settings import HttpSettings


def take_head(buffer: bytearray, scanned: int, settings: HttpSettings) -> bytes | None:
    """Take a head off the front of `buffer`; None, and nothing taken, if it is not all here.

    Args:
        buffer: what the client has sent.
        scanned: how many bytes of it were looked at before; none of them is looked at again.
        settings: how long a line and a head may be.

    Raises:
        RequestFault: 400, 414 or 431, as soon as what is here cannot be the beginning of a good head.
    """
    end = buffer.find(END_OF_HEAD, max(0, scanned - 3))
    if end < 0:
        if stray_byte(buffer, max(0, scanned - 1)):
            raise bad("stray control character in request head")
        if len(buffer) > settings.line_bytes and buffer.find(b"\r\n", 0, settings.line_bytes + 2) < 0:
            raise RequestFault(414, "request line too long")
        if len(buffer) > settings.head_bytes:
            raise RequestFault(431, "request head too long")
        return None
    end += len(END_OF_HEAD)
    # One empty line before a request is forgiven: old clients end a body with it (RFC 9112 §2.2).
    head = bytes(buffer[2 if buffer.startswith(b"\r\n") else 0 : end])
    del buffer[:end]
    return head
