from __future__ import annotations

from collections.abc import Callable

import pytest

from pulp_runtime.errors import Errno
from pulp_runtime.ext import Capability
from pulp_runtime.testing import HOSTILE_RANGES, CellUnderTest, Fake, guest, words_guest
from pulp_runtime.testing.wat import MEMORY_BYTES

Make = Callable[..., CellUnderTest]


def give(data: bytes) -> Fake:
    def give() -> bytes:
        return data

    return Fake("test.give", give=give)


def test_a_guest_exports_what_it_imports(pulp_cell: Make) -> None:
    fake = Fake("test.fake", none=0, three=(3, lambda _guest, *words: sum(words)))
    cell = pulp_cell(guest(fake, {"log_write": 3}), capabilities=[fake])
    cell.init()

    assert (cell.run("none"), cell.run("three", 1, 2, 3), cell.run("log_write", 9, 0, 0)) == (0, 6, 1)
    assert (cell.tick(), cell.memory_bytes) == (0, MEMORY_BYTES)


def test_what_is_delivered_lies_in_the_upper_half(pulp_cell: Make) -> None:
    cell = pulp_cell(guest(give(b"one")), capabilities=[give(b"one")])

    assert [cell.run("give", 0, 4) for _ in range(2)] == [0, 0]
    assert cell.read(0, 8) == (32_776).to_bytes(4, "little") + (3).to_bytes(4, "little")
    assert cell.read(32_776, 3) == b"one"


@pytest.mark.parametrize(
    ("alloc", "data", "code"),
    [
        pytest.param("refuse", b"x", Errno.ALLOC, id="that refuses"),
        pytest.param("outside", b"x", Errno.WRITE, id="that points outside memory"),
        pytest.param("bump", bytes(32_769), Errno.ALLOC, id="that is full"),
        pytest.param("bump", bytes(32_768), 0, id="that is just large enough"),
    ],
)
def test_a_guest_has_an_allocator(pulp_cell: Make, alloc: str, data: bytes, code: int) -> None:
    cell = pulp_cell(guest(give(data), alloc=alloc), capabilities=[give(data)])

    assert cell.run("give", 0, 4) == code


@pytest.mark.parametrize("words", HOSTILE_RANGES.values(), ids=HOSTILE_RANGES.keys())
def test_a_hostile_range_takes_two_lines(pulp_cell: Make, words: tuple[int, int]) -> None:
    cell = pulp_cell(words_guest("log_write", (1, *words)))
    assert cell.run("code") == Errno.FAULT


def test_a_capability_that_hides_its_functions_is_refused() -> None:
    with pytest.raises(ValueError, match=r"test\.raw does not say"):
        guest(Capability(name="test.raw", register=lambda _linker, _cell: None))
