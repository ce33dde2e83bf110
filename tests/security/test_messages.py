"""Messages that ask for more than they are: through a real import of a real guest."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from tests.security.conftest import inside

from pulp_runtime._kernel.cell import Cell
from pulp_runtime.abi.codec import DecodeError, Timestamp, array_header, decode_struct, encode_str, map_header
from pulp_runtime.abi.http import HTTPRegister, HTTPResponse
from pulp_runtime.abi.typed import ONE_GO_BYTES
from pulp_runtime.capabilities.transport import http_inbound
from pulp_runtime.errors import Errno
from pulp_runtime.ext import StepEvent

MIB = 1 << 20
SECONDS = 5.0
MOST_MEMORY = 400 * MIB

RESPOND = """(module
  (import "pulp" "http_respond" (func $respond (param i32 i32) (result i32)))
  (memory (export "memory") 1200)
  (func (export "pulp_alloc") (param i32) (result i32) (i32.const 67108864))
  (func (export "pulp_init") (param i32 i32) (result i32) (i32.const 0))
  (func (export "pulp_step") (param i32 i32) (result i32)
    (call $respond (i32.load (i32.const 0)) (i32.load (i32.const 4))))
  (func (export "pulp_shutdown") (result i32) (i32.const 0)))"""


@pytest.fixture
def respond(load: Callable[..., Cell]) -> Callable[[bytes], int]:
    """Return `respond(message)`: what http_respond answers a guest that hands it over."""
    cell = load(RESPOND, http_inbound.capability())
    cell.init()

    def respond(message: bytes) -> int:
        memory = inside(cell).memory
        assert memory.write(4096, message)
        memory.write(0, (4096).to_bytes(4, "little") + len(message).to_bytes(4, "little"))
        return cell.deliver(0, StepEvent("test", b"\xc0"))

    return respond


# 18: bombs --------------------------------------------------------------------------------------------------------

WORD = 1 << 64
P1, P2, P5 = 11400714785074694791, 14029467366897019727, 2870177450012600261


def colliding(count: int) -> list[Timestamp]:
    """Return moments of which the tuples (seconds, nanoseconds) have one hash in every CPython."""

    def back(number: int) -> int:
        number = number * pow(P1, -1, WORD) % WORD
        return (number << 33 | number >> 31) % WORD

    found: list[Timestamp] = []
    nanoseconds = 0
    while len(found) < count:
        start = back((4711 - (2 ^ P5 ^ 3527539)) % WORD)
        lane = (back((start - nanoseconds * P2) % WORD) - P5) * pow(P2, -1, WORD) % WORD
        seconds = lane - WORD if lane >> 63 else lane
        if abs(seconds) < (1 << 61) - 2:
            found.append(Timestamp(seconds, nanoseconds))
        nanoseconds += 1
    return found


def test_threat_18_the_collisions_of_the_next_test_are_real() -> None:
    moments = colliding(100)

    assert len({hash((moment.seconds, moment.nanoseconds)) for moment in moments}) == 1
    assert len({hash(moment) for moment in moments}) == 100


def colliding_map() -> bytes:
    moments = colliding(20_000)
    return map_header(len(moments)) + b"".join(moment.encode() + b"\xc0" for moment in moments)


def headers_of(count: int) -> bytes:
    pairs = b"".join(encode_str(f"{at:x}") + b"\xa0" for at in range(count))
    return b"\x81" + encode_str("headers") + map_header(count) + pairs


BOMBS: dict[str, Callable[[], bytes]] = {
    "a million arrays, one in the other": lambda: b"\x91" * 1_000_000,
    "a million maps, one in the other": lambda: b"\x81\xa0" * 1_000_000,
    "a million arrays in a field nobody knows": lambda: b"\x81\xa1x" + b"\x91" * 1_000_000,
    "an array of four billion values": lambda: b"\xdd\xff\xff\xff\xff\xc0",
    "cookies, four billion of them": lambda: b"\x81" + encode_str("cookies") + b"\xdd\xff\xff\xff\xff",
    "headers, four billion of them": lambda: b"\x81" + encode_str("headers") + b"\xdf\xff\xff\xff\xff",
    "a map of four billion pairs": lambda: b"\xdf\xff\xff\xff\xff\xc0",
    "a string of four gigabytes": lambda: b"\x81\xa4body\xdb\xff\xff\xff\xff",
    "bytes of four gigabytes": lambda: b"\x81\xa4body\xc6\xff\xff\xff\xff",
    "an extension of four gigabytes": lambda: b"\xc9\xff\xff\xff\xff\xff",
    "arrays of arrays that each announce as much as is left": lambda: (
        b"".join(b"\xdd" + (1 << 20).to_bytes(4, "big") for _ in range(120)) + bytes(1 << 20)
    ),
    "keys whose hashes collide": colliding_map,
    "numbers as keys, whose lowest bits are equal": lambda: (
        map_header(100_000) + b"".join(b"\xcf" + (at << 40).to_bytes(8, "big") + b"\xc0" for at in range(100_000))
    ),
    "sixteen million empty maps": lambda: array_header(16_000_000) + b"\x80" * 16_000_000,
    "three million headers": lambda: headers_of(3_000_000),
    "sixteen million cookies": lambda: (
        b"\x81" + encode_str("cookies") + array_header(16_000_000) + b"\xa1a" * 16_000_000
    ),
    "keys that are no numbers at all": lambda: map_header(1000) + b"\xcb\x7f\xf8\0\0\0\0\0\1\xc0" * 1000,
    "one key a hundred thousand times": lambda: map_header(100_000) + b"\xa6status\xc0" * 100_000 + b"\xff",
    "a value and something behind it": lambda: b"\x80\xc0",
    "a byte that starts nothing": lambda: b"\xc1",
    "a map cut short": lambda: b"\x83\xa2id\x01",
    "a map as a key": lambda: b"\x81\x80\xc0",
    "a moment after the end of time": lambda: b"\x81\xa2id\xc7\x0c\xff" + b"\xff" * 12,
}


@pytest.mark.parametrize("bomb", BOMBS, ids=list(BOMBS))
def test_threat_18_a_bomb_is_a_decode_error_in_bounded_time_and_memory(
    respond: Callable[[bytes], int], bomb: str
) -> None:
    message = BOMBS[bomb]()
    tracemalloc.start()
    try:
        began = time.perf_counter()
        code = respond(message)
        taken = time.perf_counter() - began
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert code in (Errno.DECODE, Errno.FAILED)
    assert taken < SECONDS * 4  # with every allocation traced
    assert peak < MOST_MEMORY


def test_threat_18_a_long_message_of_few_values_is_read(respond: Callable[[bytes], int]) -> None:
    message = msgspec.msgpack.encode({"id": 1, "status": 200, "body": bytes(32 * MIB)})

    assert respond(message) == Errno.FAILED  # read, and then: no such request
    assert decode_struct(message, HTTPResponse).body == bytes(32 * MIB)


def test_threat_18_both_sides_of_the_long_messages_bound_are_read_alike() -> None:
    for size in range(ONE_GO_BYTES - 40, ONE_GO_BYTES + 1, 8):
        message = msgspec.msgpack.encode({"id": 3, "headers": {"A": "b"}, "cookies": ["c"], "body": bytes(size)})
        assert decode_struct(message, HTTPResponse) == HTTPResponse(
            id=3, headers={"A": "b"}, cookies=["c"], body=bytes(size)
        )


# 19: fields -------------------------------------------------------------------------------------------------------

ODD: dict[str, Any] = {
    "nil": None,
    "true": True,
    "minus one": -1,
    "2**32": 1 << 32,
    "2**64 - 1": (1 << 64) - 1,
    "-2**63": -(1 << 63),
    "a fraction": 1.5,
    "a huge float": 1e300,
    "infinity": float("inf"),
    "not a number": float("nan"),
    "text": "200",
    "bytes": b"200",
    "an array": [1],
    "an array of arrays": [["a"]],
    "a map": {"a": "b"},
    "a map of maps": {"a": {"b": "c"}},
    "a map with numbers as keys": {1: 2},
}


@pytest.mark.parametrize("odd", ODD, ids=list(ODD))
@pytest.mark.parametrize(
    ("shape", "field"),
    [(shape, field) for shape in (HTTPResponse, HTTPRegister) for field in shape.__struct_fields__],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_threat_19_a_field_of_any_type_is_bent_or_refused_and_stays_in_bounds(
    shape: type[msgspec.Struct], field: str, odd: str
) -> None:
    message = msgspec.msgpack.encode({field: ODD[odd]})
    try:
        value = getattr(decode_struct(message, shape), field)
    except DecodeError:
        return
    if isinstance(value, int):
        assert 0 <= value < (1 << 32 if field == "status" else 1 << 64)
    else:
        assert value is None or isinstance(value, str | bytes | dict | list)


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        pytest.param({}, Errno.FAILED, id="nothing"),
        pytest.param({"id": -1}, Errno.DECODE, id="a negative id"),
        pytest.param({"id": "1"}, Errno.DECODE, id="an id in words"),
        pytest.param({"id": (1 << 64) - 1}, Errno.FAILED, id="the last id there is"),
        pytest.param({"id": 1, "status": -200}, Errno.DECODE, id="a negative status"),
        pytest.param({"id": 1, "status": 1 << 32}, Errno.DECODE, id="a status past 32 bits"),
        pytest.param({"id": 1, "status": 1000}, Errno.FAILED, id="a status of four digits"),
        pytest.param({"id": 1, "status": 99}, Errno.FAILED, id="a status of two digits"),
        pytest.param({"id": 1, "headers": ["a"]}, Errno.DECODE, id="headers that are an array"),
        pytest.param({"id": 1, "body": 5}, Errno.DECODE, id="a body that is a number"),
        pytest.param({"id": 1, "extra": {"x": [1, 2]}}, Errno.FAILED, id="a field too many"),
        pytest.param([1, 200], Errno.FAILED, id="an array for the record"),
        pytest.param("reply", Errno.DECODE, id="text for the record"),
    ],
)
def test_threat_19_a_reply_that_is_not_one_is_a_code(respond: Callable[[bytes], int], reply: object, code: int) -> None:
    assert respond(msgspec.msgpack.encode(reply)) == code
