"""A request body on its way in by HTTP/2: how long it is, how fast it comes, how much more may come."""

from __future__ import annotations

from typing import Final

from pulp_runtime._net.exchange import BodyPlan, Service
from pulp_runtime._net.fault import RequestFault
from pulp_runtime._net.head import HeaderBlock
from pulp_runtime._net.upload import HIGH_BYTES, Upload

STREAM_WINDOW: Final = HIGH_BYTES
"""Bytes of one body that a client may send ahead of whoever reads it."""
CONNECTION_BODIES_BYTES: Final = 64 * 1024 * 1024
"""Bytes of unfinished bodies held for one connection, or one body of the longest kind. Past it 503."""


class Http2Body:
    """One body: whole, or handed on as it arrives.

    Args:
        block: the request's; says how long it will be, or nothing.
        service: the listener's.
        plan: how it is wanted.
        upload: where it goes if it is wanted as it arrives.

    Attributes:
        upload: None for one that is wanted whole.
        held: bytes counted as held for all connections.

    Raises:
        RequestFault: 413, its declared length is past the plan's limit.
    """

    __slots__ = (
        "_data",
        "_due",
        "_limit",
        "_received",
        "_service",
        "_started",
        "_was_behind",
        "_when",
        "held",
        "upload",
    )

    def __init__(self, block: HeaderBlock, service: Service, plan: BodyPlan, upload: Upload | None) -> None:
        if (block.content_length or 0) > plan.limit:
            raise RequestFault(413, "request body too large")
        self._limit: Final = plan.limit
        self._service: Final = service
        self._started: Final = service.time()
        self._when = self._started  # of the last byte
        self._data: Final = bytearray()
        self._received = 0
        self._due = 0  # bytes of window the client has used and not got back
        self._was_behind = False  # then its pace was the reader's, at least for a while
        self.held = 0
        self.upload: Final = upload

    def feed(self, data: bytes, window_bytes: int) -> None:
        """Take what has arrived; `window_bytes` is what it took of the window, padding included.

        Raises:
            RequestFault: 408 it comes too slowly, 413 it is too large, 503 there is no room for it now.
        """
        service = self._service
        self._when = service.time()
        self._received += len(data)
        self._due += window_bytes
        if self._received > self._limit:
            raise RequestFault(413, "request body too large")
        if self.upload is None:
            self._data.extend(data)
        else:
            self.upload.feed(data)
        self.count()
        if service.held_bytes > service.settings.bodies_bytes:
            raise RequestFault(503, "too many request bodies")
        self._check_pace(self._when)

    def finish(self) -> bytes:
        """Return the body, if it is wanted whole; note that it is complete if it is not."""
        if self.upload is not None:
            self.upload.finish()
            self.count()
            return b""
        return bytes(self._data)

    def window(self) -> int:
        """Return how much window to give back now: what was taken, once it is worth a frame."""
        ahead = 0 if self.upload is None else self.upload.waiting
        free = self._due - ahead
        if free < STREAM_WINDOW // 2:
            return 0
        self._due -= free
        return free

    @property
    def _behind(self) -> bool:
        """Whoever reads the body holds the client up."""
        return self.upload is not None and self._due >= STREAM_WINDOW // 2

    def check(self, now: float) -> None:
        """Look whether the body still comes.

        Raises:
            RequestFault: 408, it does not, or too slowly.
        """
        if self._behind:
            self._when = now
        elif now - self._when >= self._service.settings.body_stall_seconds:
            raise RequestFault(408, "request timeout")
        self._check_pace(now)

    def _check_pace(self, now: float) -> None:
        settings = self._service.settings
        elapsed = now - self._started
        slow = self._received < elapsed * settings.body_bytes_per_second
        if slow and elapsed > settings.body_stall_seconds and not self._was_behind:
            raise RequestFault(408, "request body too slow")

    def count(self) -> None:
        """Bring the count of bytes held for all connections up to date."""
        if self.upload is None:
            holds = len(self._data)
        else:
            holds = 0 if self.upload.over and not self.upload.complete else self.upload.waiting
            self._was_behind = self._was_behind or self._behind
        self._service.held_bytes += holds - self.held
        self.held = holds

    def release(self, reason: str = "") -> None:
        """Give up the body, and its room; with a reason, the rest will not come."""
        if self.upload is not None and reason:
            self.upload.fail(reason)
        self._service.held_bytes -= self.held
        self.held = 0
