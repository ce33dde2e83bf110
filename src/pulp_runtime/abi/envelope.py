"""The bytes one step gets.

    0            8            16             20
    ┌────────────┬────────────┬──────────────┬──────────────────────────────────┐
    │ call u64   │ wall u64   │ length u32   │ {"kind": ..., "payload": ...}    │
    └────────────┴────────────┴──────────────┴──────────────────────────────────┘
      little-endian, wall in nanoseconds        MessagePack; nothing on an idle tick

The extension's payload is already MessagePack and is spliced in as it is: the
guest finds a nested value, not bytes.
"""

from __future__ import annotations

import functools
import struct
from typing import Final

import msgspec

from pulp_runtime.abi.codec import NIL, encode_str

#: Size of an envelope without an event.
IDLE_BYTES: Final = 20

_HEADER: Final = struct.Struct("<QQI")
_pack_header: Final = _HEADER.pack
#: Kinds are words of extensions, a few dozen; the bound only keeps a mistaken caller from leaking.
_CACHED_KINDS: Final = 256


class StepEnvelope(msgspec.Struct, frozen=True):
    """One step as a program that drives cells itself hands it over.

    Attributes:
        call_number: counts the steps of this cell, u64.
        wall_time: nanoseconds since 1970, u64.
        payload: one MessagePack value, normally a `StepEvent`; b"" for an idle step.
    """

    call_number: int = 0
    wall_time: int = 0
    payload: bytes = b""

    def encode(self) -> bytes:
        """Return the bytes `pulp_step` gets."""
        return _pack_header(self.call_number, self.wall_time, len(self.payload)) + self.payload


@functools.lru_cache(maxsize=_CACHED_KINDS)
def event_prefix(kind: str) -> bytes:
    """Return everything of an event that stands before its payload."""
    return b"\x82" + encode_str("kind") + encode_str(kind) + encode_str("payload")


def idle_envelope(call_number: int, wall_time_ns: int) -> bytes:
    """Return the envelope of a step without an event."""
    return _pack_header(call_number, wall_time_ns, 0)


def encode_step(call_number: int, wall_time_ns: int, kind: str, payload: bytes | None) -> bytes:
    """Return the envelope of a step with one event.

    Args:
        call_number: counts the steps of this cell, u64.
        wall_time_ns: nanoseconds since 1970, u64.
        kind: what happened, such as `http.request`.
        payload: one MessagePack value; None or nothing at all becomes nil.
    """
    prefix = event_prefix(kind)
    body = payload or NIL
    return _pack_header(call_number, wall_time_ns, len(prefix) + len(body)) + prefix + body
