"""Content codings of responses: gzip and br, a piece at a time, so that no answer is larger than asked for.

A kilobyte may stand for a gigabyte; what comes out of a decoder is bounded at each call, and what has not come out
yet is not there.
"""

from __future__ import annotations

import zlib
from typing import Final, Protocol

from pulp_runtime._net.dial_patience import DialFault

ACCEPTED: Final = "gzip, br"
"""What a request says it accepts, when its cell leaves that to us."""
_GZIP: Final = 31  # window of 32 KiB, with a gzip header
_STEP_BYTES: Final = 256 * 1024


class Decoder(Protocol):
    """Turns what arrives into what was meant."""

    @property
    def empty(self) -> bool:
        """Whether it is known to hold nothing."""

    def put(self, data: bytes) -> None:
        """Take the next bytes; only when `take` had no more."""

    def take(self, most: int) -> bytes:
        """Return 1 to `most` bytes, b"" when more input is needed.

        Raises:
            DialFault: the input is not of this coding.
        """

    def finish(self) -> None:
        """Note that there is no more input.

        Raises:
            DialFault: it ended in the middle.
        """


class Plain:
    """No coding."""

    def __init__(self) -> None:
        self._ready: bytes | memoryview = b""

    @property
    def empty(self) -> bool:
        """See `Decoder.empty`."""
        return not self._ready

    def put(self, data: bytes) -> None:
        """See `Decoder.put`."""
        self._ready = data

    def take(self, most: int) -> bytes:
        """See `Decoder.take`."""
        ready = self._ready
        if len(ready) <= most:
            self._ready = b""
            return bytes(ready)
        view = memoryview(ready)
        self._ready = view[most:]
        return bytes(view[:most])

    def finish(self) -> None:
        """See `Decoder.finish`."""


class Gzip:
    """RFC 1952: one member, or several in a row."""

    def __init__(self) -> None:
        self.empty: Final = False
        self._member = zlib.decompressobj(_GZIP)
        self._input = b""
        self._begun = False

    def put(self, data: bytes) -> None:
        """See `Decoder.put`."""
        self._input = data

    def take(self, most: int) -> bytes:
        """See `Decoder.take`."""
        while True:
            if self._member.eof:
                if not self._input:
                    return b""
                self._member = zlib.decompressobj(_GZIP)
            self._begun = self._begun or bool(self._input)
            try:
                out = self._member.decompress(self._input, most)
            except zlib.error:
                raise DialFault("response is not the gzip it says it is") from None
            self._input = self._member.unused_data or self._member.unconsumed_tail
            if out or not self._input:
                return out

    def finish(self) -> None:
        """See `Decoder.finish`."""
        if self._begun and not self._member.eof:
            raise DialFault("gzip ended in the middle")


class Brotli:
    """RFC 7932."""

    def __init__(self) -> None:
        import brotli  # type: ignore[import-untyped]

        self.empty: Final = False
        self._error: Final[type[Exception]] = brotli.error
        self._stream: Final = brotli.Decompressor()
        self._plain: Final = Plain()
        self._input = b""
        self._begun = False

    def put(self, data: bytes) -> None:
        """See `Decoder.put`."""
        self._input = data

    def take(self, most: int) -> bytes:
        """See `Decoder.take`."""
        if out := self._plain.take(most):
            return out
        data, self._input = self._input, b""
        self._begun = self._begun or bool(data)
        try:
            if data and self._stream.is_finished():
                raise DialFault("response goes on after its br has ended")
            # Without data too: the library keeps back what goes past the limit, and itself goes past it by as much.
            self._plain.put(self._stream.process(data, output_buffer_limit=min(most, _STEP_BYTES)))
        except self._error:
            raise DialFault("response is not the br it says it is") from None
        return self._plain.take(most)

    def finish(self) -> None:
        """See `Decoder.finish`."""
        if self._begun and not self._stream.is_finished():
            raise DialFault("br ended in the middle")


def decoder_for(coding: str) -> Decoder | None:
    """Return what decodes a `Content-Encoding`, None for one that is left to the cell."""
    coding = coding.strip().lower()
    if coding == "gzip":
        return Gzip()
    return Brotli() if coding == "br" else None
