from __future__ import annotations

import msgpack

from pulp_runtime.abi.codec import decode_struct, encode_str_map
from pulp_runtime.abi.ws import WSClose, WSSend, encode_ws_close, join_ws_frame, join_ws_open


def test_an_open_has_its_fields_in_order() -> None:
    encoded = join_ws_open(7, "/chat/é", encode_str_map({"name": "ada"}), encode_str_map({"Origin": "http://a"}))

    assert list(msgpack.unpackb(encoded).items()) == [
        ("conn_id", 7),
        ("path", "/chat/é"),
        ("query", {"name": "ada"}),
        ("headers", {"Origin": "http://a"}),
    ]


def test_numbers_keep_their_width_and_a_payload_is_bytes() -> None:
    assert join_ws_frame(1, 1, b"hi") == b"".join(
        (b"\x83\xa7conn_id\xcf", bytes(7), b"\x01\xa6opcode\xcc\x01\xa7payload\xc4\x02hi")
    )
    assert join_ws_frame(1 << 40, 2, b"").endswith(b"\xa6opcode\xcc\x02\xa7payload\xc4\x00")
    assert encode_ws_close(2, 65_535, "gone") == b"".join(
        (b"\x83\xa7conn_id\xcf", bytes(7), b"\x02\xa4code\xcd\xff\xff\xa6reason\xa4gone")
    )


def test_a_long_payload_is_whole() -> None:
    assert msgpack.unpackb(join_ws_frame(1, 2, b"x" * 70_000))["payload"] == b"x" * 70_000


def test_what_guests_send_is_read_liberally() -> None:
    assert decode_struct(msgpack.packb({"conn_id": 3, "opcode": 1, "payload": "text"}), WSSend) == WSSend(
        conn_id=3, opcode=1, payload=b"text"
    )
    assert decode_struct(msgpack.packb({"conn_id": 3, "opcode": 2, "payload": None}), WSSend).payload is None
    assert decode_struct(msgpack.packb({"conn_id": 3}), WSClose) == WSClose(conn_id=3, code=0, reason="")
