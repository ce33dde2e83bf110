"""The bare RSGI peer: the answer of the echo cell without a cell."""

from __future__ import annotations

from typing import Any

_HEADERS = [("content-type", "text/plain; charset=utf-8"), ("content-length", "5")]


async def app(_scope: object, protocol: Any) -> None:
    """Answer every request with `hello`."""
    protocol.response_bytes(200, _HEADERS, b"hello")
