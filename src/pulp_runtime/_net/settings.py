"""Every timeout and limit of an HTTP listener, in one value."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpSettings:
    """What one listener grants its clients.

    Timeouts are looked at once a second, so each may come up to a second late.

    Attributes:
        header_seconds: from the first byte of a request to the end of its
            head. Past it the client is answered 408 and the connection closes.
        body_stall_seconds: silence within a body, and how long a body may
            arrive below `body_bytes_per_second`. Past either, 408 and close.
        body_bytes_per_second: average a body must keep, counted from its first
            byte, once `body_stall_seconds` have passed.
        idle_seconds: silence between requests, and before the first. Past it
            the connection is closed without a word.
        write_stall_seconds: time in which a client takes not one byte of an
            answer that waits for it. Past it the connection is aborted.
        linger_seconds: after an answer that ends a connection whose client may
            still be sending, how long its bytes are thrown away so that the
            answer is not lost to a reset.
        line_bytes: longest request line. Past it 414 and close.
        head_bytes: longest request head, line included. Past it 431 and close.
        head_fields: most header fields. Past it 431 and close.
        body_bytes: longest body. Past it 413 and close, for a declared length
            before a byte of the body is read.
        bodies_bytes: bytes of unfinished bodies held for all connections
            together. Past it the connection that asks for more gets 503.
        pipeline_bytes: bytes read ahead of the request in flight. Past it the
            socket is not read until there is room.
        connections: most connections at once. Past it a connection is
            accepted, answered 503 and closed.
        backlog: connections the kernel may hold before they are accepted.

    Raises:
        ValueError: a bound is not positive.
    """

    header_seconds: float = 10.0
    body_stall_seconds: float = 20.0
    body_bytes_per_second: int = 500
    idle_seconds: float = 75.0
    write_stall_seconds: float = 30.0
    linger_seconds: float = 2.0
    line_bytes: int = 8 * KIB
    head_bytes: int = 64 * KIB
    head_fields: int = 100
    body_bytes: int = 50 * MIB
    bodies_bytes: int = 512 * MIB
    pipeline_bytes: int = 256 * KIB
    connections: int = 20_000
    backlog: int = 4_096

    def __post_init__(self) -> None:
        for field in fields(self):
            if getattr(self, field.name) <= 0:
                raise ValueError(f"http.{field.name} must be positive")
