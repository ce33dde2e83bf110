from __future__ import annotations

import msgpack
import pytest

from pulp_runtime.abi.envelope import IDLE_BYTES, encode_step, event_prefix, idle_envelope


def test_an_idle_tick_is_the_header_alone() -> None:
    assert idle_envelope(1, 2).hex() == "0100000000000000" + "0200000000000000" + "00000000"
    assert len(idle_envelope(1, 2)) == IDLE_BYTES


def test_a_payload_is_spliced_in_and_not_wrapped() -> None:
    step = encode_step(7, 9, "http.request", msgpack.packb({"id": 1}))

    assert int.from_bytes(step[16:20], "little") == len(step) - IDLE_BYTES
    assert msgpack.unpackb(step[IDLE_BYTES:]) == {"kind": "http.request", "payload": {"id": 1}}


@pytest.mark.parametrize("payload", [pytest.param(None, id="None"), pytest.param(b"", id="no bytes")])
def test_no_payload_is_nil(payload: bytes | None) -> None:
    assert encode_step(1, 2, "k", payload).endswith(b"\xa7payload\xc0")


def test_numbers_may_be_as_large_as_their_fields() -> None:
    largest = (1 << 64) - 1

    assert idle_envelope(largest, largest)[:16] == b"\xff" * 16


def test_a_kind_is_encoded_once() -> None:
    assert event_prefix("ws.frame") is event_prefix("ws.frame")
