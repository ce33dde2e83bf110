"""The library's HTTP/2 connection, set up as we use it, and told only what it needs to know.

`h2` keeps the state of every stream that has one: a body, an answer in parts, a window. Most requests are one frame,
and so nearly is their answer; those never get there (`Gate.plain`), and cost a fifth. A stream may be introduced at
any time between two frames.
"""

from __future__ import annotations

import struct
from typing import Final

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.settings import SettingCodes, Settings

from pulp_runtime._net.http2_body import STREAM_WINDOW
from pulp_runtime._net.http2_fields import BlockPasser, FieldDecoder
from pulp_runtime._net.http2_gate import END_HEADERS, END_STREAM, HEADERS

STREAMS: Final = 100
"""Requests a client may have in flight. Past it a stream is refused."""
CONNECTION_WINDOW: Final = 1024 * 1024
"""Bytes of all bodies together that may be on their way; what holds a body back is its own window."""

_NO_PRIORITIES: Final = 0x9  # SETTINGS_NO_RFC7540_PRIORITIES (RFC 9218 §2.1)
_WITHOUT_END: Final = 2**31 - 1
_SHORTEST: Final = b"\x82\x84\x86"  # GET, /, http: fields of the table that every connection begins with

_head: Final = struct.Struct(">HBBBL").pack


class Protocol(H2Connection):
    """The server's side of a connection, with our settings on their way.

    Args:
        head_bytes: longest header list that is read.
    """

    MAX_CLOSED_STREAMS = 1_000  # what is remembered of the past

    def __init__(self, head_bytes: int) -> None:
        super().__init__(
            H2Configuration(
                client_side=False,
                header_encoding=None,
                validate_inbound_headers=False,  # `http2_head` does; there a bad request costs a stream, here all
                normalize_inbound_headers=False,
                validate_outbound_headers=False,  # `response` did
                normalize_outbound_headers=False,
            )
        )
        granted: dict[SettingCodes | int, int] = {
            SettingCodes.MAX_CONCURRENT_STREAMS: STREAMS,
            SettingCodes.MAX_HEADER_LIST_SIZE: head_bytes,
            SettingCodes.INITIAL_WINDOW_SIZE: STREAM_WINDOW,
            _NO_PRIORITIES: 1,
        }
        self.local_settings = Settings(client=False, initial_values=granted)  # type: ignore[arg-type]  # they may be int
        self.initiate_connection()
        self.increment_flow_control_window(CONNECTION_WINDOW - self.inbound_flow_control_window)
        # One stream too many is refused by us; the library would end the connection.
        granted[SettingCodes.MAX_CONCURRENT_STREAMS] = _WITHOUT_END
        self.local_settings = Settings(client=False, initial_values=granted)  # type: ignore[arg-type]
        self.encoder = BlockPasser()  # type: ignore[assignment]  # all that is asked of one here
        self.decoder: FieldDecoder = FieldDecoder(2 * head_bytes)

    def skip(self, number: int) -> None:
        """Note that the client has opened a stream, and know no more of it."""
        self.highest_inbound_stream_id = number

    def introduce(self, number: int) -> None:
        """Know a stream that was skipped, as one whose request is complete.

        What is read for it is a request of three fields that need no table, so that nothing else changes.
        """
        highest = self.highest_inbound_stream_id
        self.highest_inbound_stream_id = number - 1
        self.receive_data(frame_head(len(_SHORTEST), HEADERS, END_HEADERS | END_STREAM, number) + _SHORTEST)
        self.highest_inbound_stream_id = highest


def frame_head(size: int, kind: int, flags: int, stream: int) -> bytes:
    """Return the nine bytes before a frame (RFC 9113 §4.1)."""
    return _head(size >> 8, size & 0xFF, kind, flags, stream)
