from __future__ import annotations

import os
from collections.abc import Callable

import msgspec
import pytest

from pulp_runtime.testing import HOSTILE_RANGES, CellUnderTest, guest

REQUEST = 0
ADDRESS_OUT = 64
LENGTH_OUT = 68
OUTS = (ADDRESS_OUT, LENGTH_OUT)
OUTSIDE = 65_533

Make = Callable[..., CellUnderTest]


@pytest.fixture(params=[(), ("entropy.read",)], ids=["undeclared", "declared"])
def cell(pulp_cell: Make, request: pytest.FixtureRequest) -> CellUnderTest:
    return pulp_cell(guest({"entropy_read": 4}), declares=request.param)


def ask(cell: CellUnderTest, request: object, outs: tuple[int, int] = OUTS) -> int:
    data = request if isinstance(request, bytes) else msgspec.msgpack.encode(request)
    cell.write(REQUEST, data)
    return cell.run("entropy_read", REQUEST, len(data), *outs)


def delivered(cell: CellUnderTest) -> bytes:
    address, length = (int.from_bytes(cell.read(out, 4), "little") for out in OUTS)
    answer = msgspec.msgpack.decode(cell.read(address, length))
    assert list(answer) == ["bytes"]
    return answer["bytes"]


@pytest.mark.parametrize("count", [1, 16, 300, 30_000])
def test_as_many_bytes_are_delivered_as_are_asked_for(cell: CellUnderTest, count: int) -> None:
    assert ask(cell, {"n": count}) == 0
    assert len(delivered(cell)) == count


def test_they_are_the_system_s_and_never_the_same_twice(cell: CellUnderTest) -> None:
    assert ask(cell, {"n": 32}) == 0
    first = delivered(cell)
    assert ask(cell, {"n": 32}) == 0

    assert delivered(cell) != first


def test_a_request_may_be_written_in_any_way_that_means_it(cell: CellUnderTest) -> None:
    assert ask(cell, b"\x81\xa1n\xd3\0\0\0\0\0\0\0\x04") == 0
    assert len(delivered(cell)) == 4
    assert ask(cell, [5]) == 0
    assert len(delivered(cell)) == 5


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        pytest.param(b"", 1, id="nothing is 1"),
        pytest.param(b"\xc1", 3, id="no messagepack is 3"),
        pytest.param("ten", 3, id="no map is 3"),
        pytest.param({"n": "ten"}, 3, id="no number is 3"),
        pytest.param({"n": -1}, 3, id="a negative number is 3"),
        pytest.param({"n": 1 << 32}, 3, id="a number beyond u32 is 3"),
        pytest.param({"n": 0}, 4, id="no bytes is 4"),
        pytest.param({}, 4, id="no number at all is 4"),
        pytest.param({"n": 65_537}, 5, id="one byte too many is 5"),
        pytest.param({"n": 0xFFFF_FFFF}, 5, id="four gigabytes is 5"),
    ],
)
def test_a_request_for(cell: CellUnderTest, request_: object, code: int) -> None:
    cell.write(ADDRESS_OUT, b"untouched")

    assert ask(cell, request_) == code
    assert cell.read(ADDRESS_OUT, 9) == b"untouched"


@pytest.mark.parametrize("words", HOSTILE_RANGES.values(), ids=HOSTILE_RANGES.keys())
def test_a_request_outside_memory_is_2(cell: CellUnderTest, words: tuple[int, int]) -> None:
    assert cell.run("entropy_read", *words, *OUTS) == 2


def test_a_system_without_randomness_is_6(cell: CellUnderTest, monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(_count: int) -> bytes:
        raise OSError("no source")

    monkeypatch.setattr(os, "urandom", nothing)

    assert ask(cell, {"n": 1}) == 6


def test_an_allocator_that_refuses_is_8(pulp_cell: Make) -> None:
    assert ask(pulp_cell(guest({"entropy_read": 4}, alloc="refuse")), {"n": 1}) == 8


@pytest.mark.parametrize(
    ("alloc", "outs"),
    [
        pytest.param("outside", OUTS, id="the buffer"),
        pytest.param("bump", (OUTSIDE, LENGTH_OUT), id="its address"),
        pytest.param("bump", (ADDRESS_OUT, OUTSIDE), id="its length"),
    ],
)
def test_what_cannot_be_written_is_9(pulp_cell: Make, alloc: str, outs: tuple[int, int]) -> None:
    assert ask(pulp_cell(guest({"entropy_read": 4}, alloc=alloc)), {"n": 1}, outs) == 9


def test_the_most_that_may_be_asked_for_is_65536(pulp_cell: Make) -> None:
    large = guest({"entropy_read": 4}).replace("1 1)", "4 4)").replace("(i32.const 65536)", "(i32.const 262144)")
    cell = pulp_cell(large)

    assert ask(cell, {"n": 65_536}) == 0
    assert len(delivered(cell)) == 65_536
