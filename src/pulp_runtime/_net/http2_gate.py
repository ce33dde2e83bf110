"""What an HTTP/2 client may make the server do, looked at frame by frame before a frame is read.

Most of HTTP/2's attacks are frames that cost the client nothing and the server something: streams opened and reset,
pings, settings, headers that never end. Each frame that moves no request forward costs points here:

    points   come back with time, and with every request and byte that is really served
    none     the connection is told ENHANCE_YOUR_CALM, and ends

What has passed goes three ways:

    a request that is one HEADERS frame   is `Plain`: nearly all are, and `h2` need not know of them
    unknown frames, and GOAWAY            nowhere: the first mean nothing (RFC 9113 §5.5), and after the second `h2`
                                          would not let us answer what is still in flight
    all others                            to `h2`, unchanged, whole, and some dozens at a time, so that what they
                                          cause is dealt with before the next ones are read
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from pulp_runtime._net.preface import PREFACE
from pulp_runtime.errors import PulpError

POINTS: Final = 10_000
"""What a connection begins with, and can have at most."""
POINTS_PER_SECOND: Final = 500
POINTS_PER_REQUEST: Final = 20
BYTES_PER_POINT: Final = 64
"""Bytes of DATA, in either direction, that bring a point."""

RESET_POINTS: Final = 50
"""What a stream costs that the client resets, or opens where it may not: 200 at once, 10 a second."""
CONTROL_POINTS: Final = 10
"""PING, SETTINGS, and DATA that is empty."""
OTHER_POINTS: Final = 5
"""WINDOW_UPDATE, PRIORITY, unknown types."""
CONTINUATION_POINTS: Final = 250
"""A header block of more than one frame: the library takes long for it, and real ones are short."""

CONTINUATIONS: Final = 16
"""Frames a header block may be continued in."""
FRAME_BYTES: Final = 16 * 1024
"""Longest frame, the protocol's least."""
HEAD_BYTES: Final = 9
"""The head of every frame."""
_FRAMES_AT_ONCE: Final = 64

_head: Final = struct.Struct(">HBBBL").unpack_from

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM: Final = 0x1
END_HEADERS: Final = 0x4
_PADDED: Final = 0x8
_PRIORITIZED: Final = 0x20
_PRIORITY_BYTES: Final = 5

_COSTS: Final = {
    PRIORITY: OTHER_POINTS,
    RST_STREAM: RESET_POINTS,
    SETTINGS: CONTROL_POINTS,
    PING: CONTROL_POINTS,
    WINDOW_UPDATE: OTHER_POINTS,
    CONTINUATION: OTHER_POINTS,
}
_NAMING: Final = frozenset({DATA, RST_STREAM, WINDOW_UPDATE})
_GOAWAY_BYTES: Final = 8
_STREAM: Final = 0x7FFF_FFFF
PROTOCOL_ERROR: Final = 0x1
FRAME_SIZE_ERROR: Final = 0x6


class Excess(PulpError):
    """The client asks for more than it may have; the message says of what, for the client."""


class FrameFault(PulpError):
    """A frame breaks the protocol where `h2` would not see it; the connection cannot go on.

    Attributes:
        code: for the client (RFC 9113 §7).
    """

    def __init__(self, code: int, reason: str) -> None:
        self.code = code
        super().__init__(reason)


class Plain(NamedTuple):
    """A request that is one HEADERS frame.

    Attributes:
        stream: its number.
        block: its header block.
    """

    stream: int
    block: bytes


class Gate:
    """The frames of one connection on their way in, and what they cost.

    Args:
        block_bytes: longest header block, as it comes.
        time: the loop's clock.
        introduce: has `h2` know a stream.

    Attributes:
        greeted: the client's preface is here.
        block_stream: the stream whose header block has begun and not ended, else 0.
        leaving: the client has sent GOAWAY.
        highest: the last stream the client opened.
        plain: streams in flight that `h2` does not know. A frame that names one has it introduced.
    """

    __slots__ = (
        "_block_bytes",
        "_held",
        "_introduce",
        "_points",
        "_time",
        "_when",
        "block_stream",
        "greeted",
        "highest",
        "leaving",
        "plain",
    )

    def __init__(self, block_bytes: int, time: Callable[[], float], introduce: Callable[[int], None]) -> None:
        self._block_bytes: Final = block_bytes
        self._time: Final = time
        self._introduce: Final = introduce
        self._points: float = POINTS
        self._when = time()
        self._held = b""  # the beginning of what is not all here: a frame, or the frames of one header block
        self.block_stream = self.highest = 0
        self.greeted = self.leaving = False
        self.plain: Final[set[int]] = set()

    def charge(self, points: float) -> None:
        """Take points for something that moves no request forward.

        Raises:
            Excess: there are none left.
        """
        self._points -= points
        if self._points < 0:
            now = self._time()
            self._points = min(self._points + points + (now - self._when) * POINTS_PER_SECOND, POINTS) - points
            self._when = now
            if self._points < 0:
                raise Excess("too many frames without a request to them")

    def earn(self, points: float) -> None:
        """Give points for something that was served."""
        self._points = min(self._points + points, POINTS)

    def admit(self, data: bytes) -> Iterator[bytes | Plain]:
        """Pass frames on, in pieces that are to be dealt with one after the other.

        Raises:
            Excess: the client has no points left, or a header block is too long.
            FrameFault: a frame is too long, or interrupts a header block.
        """
        if self._held:
            data, self._held = self._held + data, b""
        size = len(data)
        at = start = frames = 0
        if not self.greeted:
            if size < len(PREFACE):
                self._held = data
                return
            self.greeted = True
            at = len(PREFACE)
        while at + HEAD_BYTES <= size:
            high, low, kind, flags, stream = _head(data, at)
            length = high << 8 | low
            stream &= _STREAM
            if length > FRAME_BYTES:
                raise FrameFault(FRAME_SIZE_ERROR, f"a frame of {length} bytes is more than {FRAME_BYTES}")
            end = at + HEAD_BYTES + length
            if kind == HEADERS and not flags & END_HEADERS:
                end = self._block_end(data, end, stream, length)
            if end > size:
                break
            plain = self._plain(data, at, end, flags, stream) if kind == HEADERS else None
            if plain is not None or not self._passes(kind, flags, stream, length):
                if at > start:
                    yield data[start:at]
                if plain is not None:
                    yield plain
                start, frames = end, 0
            else:
                frames += 1
                if frames == _FRAMES_AT_ONCE:
                    yield data[start:end]
                    start, frames = end, 0
            at = end
        if at > start:
            yield data if not start and at == size else data[start:at]
        self._held = data[at:]

    def _block_end(self, data: bytes, at: int, stream: int, length: int) -> int:
        """Return where a header block ends that began in a frame which ends at `at`; past `data` if not in it."""
        self.block_stream = stream
        left = self._block_bytes - length
        for _ in range(CONTINUATIONS):
            if left < 0:
                raise Excess("a header block is too long")
            if at + HEAD_BYTES > len(data):
                return len(data) + 1
            high, low, kind, flags, same = _head(data, at)
            length = high << 8 | low
            if kind != CONTINUATION or same & _STREAM != stream or length > FRAME_BYTES:
                raise FrameFault(PROTOCOL_ERROR, "a header block is interrupted")
            at += HEAD_BYTES + length
            left -= length
            if flags & END_HEADERS and left >= 0:
                if at <= len(data):
                    self.block_stream = 0
                    self.charge(CONTINUATION_POINTS)
                return at
        raise Excess("a header block in too many frames, or too long")

    def _plain(self, data: bytes, at: int, end: int, flags: int, stream: int) -> Plain | None:
        """Return the request that a HEADERS frame is by itself; None when `h2` is to look at it."""
        new = stream > self.highest > 0 and stream & 1
        self.highest = max(self.highest, stream)
        if not new or flags & (END_STREAM | END_HEADERS | _PADDED) != END_STREAM | END_HEADERS:
            return None
        begin = at + HEAD_BYTES
        if flags & _PRIORITIZED:
            if end - begin < _PRIORITY_BYTES or int.from_bytes(data[begin : begin + 4]) & _STREAM == stream:
                return None
            begin += _PRIORITY_BYTES
        return Plain(stream, data[begin:end])

    def _passes(self, kind: int, flags: int, stream: int, length: int) -> bool:
        """Charge a frame; return whether it is for `h2`."""
        if kind in _NAMING and stream:
            if stream > self.highest or not stream & 1:
                raise FrameFault(PROTOCOL_ERROR, "a frame for a stream that was never opened")
            if stream in self.plain:
                self._introduce(stream)
        if kind == DATA:
            if not length and not flags & END_STREAM:
                self.charge(CONTROL_POINTS)
            else:
                self._points = min(self._points + length / BYTES_PER_POINT - 1, POINTS)
                self.charge(0)
        elif kind in _COSTS:
            self.charge(_COSTS[kind])
        elif kind > CONTINUATION or (kind == GOAWAY and not stream and length >= _GOAWAY_BYTES):
            self.leaving = self.leaving or kind == GOAWAY
            self.charge(OTHER_POINTS)
            return False
        return True
