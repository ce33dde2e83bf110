"""Records of `network.udp`: a socket asked for, a datagram out, a datagram in."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from pulp_runtime.abi.codec import bin_header, encode_int64, encode_str, encode_u64, map_header

U64 = Annotated[int, msgspec.Meta(ge=0)]


class UdpListen(msgspec.Struct, kw_only=True, frozen=True):
    """A socket that a cell asks for.

    Attributes:
        addr: `host:port`; `:port` means every interface, IPv4 and IPv6.
        buffer_size: bytes of the system's receive buffer; 262,144 for 0 and less.
    """

    addr: str = ""
    buffer_size: int = 0


class UdpSend(msgspec.Struct, kw_only=True, frozen=True):
    """A datagram to send.

    Attributes:
        socket_id: of `udp_listen`.
        dst_addr: `host:port`.
        payload: or None for an empty datagram.
    """

    socket_id: U64 = 0
    dst_addr: str = ""
    payload: bytes | None = None


class UdpClose(msgspec.Struct, kw_only=True, frozen=True):
    """A socket to close.

    Attributes:
        socket_id: of `udp_listen`.
    """

    socket_id: U64 = 0


class UdpSent(msgspec.Struct, frozen=True):
    """What became of a datagram.

    Attributes:
        bytes_sent: all of it.
    """

    bytes_sent: int


_SOCKET_ID: Final = encode_str("socket_id")
_SRC_ADDR: Final = encode_str("src_addr")
_PAYLOAD: Final = encode_str("payload")
_RECEIVED_AT: Final = encode_str("received_at")


def encode_listening(socket_id: int) -> bytes:
    """Return the answer to `udp_listen`."""
    return map_header(1) + _SOCKET_ID + encode_u64(socket_id)


def packet_head(socket_id: int) -> bytes:
    """Return how every `udp.packet` of one socket begins, up to the value of `src_addr`."""
    return map_header(4) + _SOCKET_ID + encode_u64(socket_id) + _SRC_ADDR


def join_packet(head: bytes, source: bytes, payload: bytes, received_at: int) -> bytes:
    """Return the payload of a `udp.packet` event.

    Args:
        head: by `packet_head`.
        source: `ip:port`, by `encode_str`.
        payload: raw.
        received_at: nanoseconds since 1970.
    """
    size = bin_header(len(payload))
    return b"".join((head, source, _PAYLOAD, size, payload, _RECEIVED_AT, encode_int64(received_at)))
