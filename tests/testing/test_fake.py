from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from pulp_runtime.errors import Errno, ExtensionError, HostError
from pulp_runtime.ext import CellRef, Guest
from pulp_runtime.testing import CellUnderTest, Fake, guest

Make = Callable[..., CellUnderTest]


class Row(msgspec.Struct):
    key: str


def test_annotations_are_the_signature(pulp_cell: Make) -> None:
    def kv_get(cell: CellRef, row: Row) -> bytes:
        return f"{cell.name}/{row.key}".encode()

    fake = Fake("storage.kv", kv_get=kv_get)
    cell = pulp_cell(guest(fake), capabilities=[fake])
    cell.write(0, msgspec.msgpack.encode(Row("size")))

    assert cell.run("kv_get", 0, 10, 64, 68) == 0
    assert cell.transcript == ["==> kv_get({'key': 'size'})", "<== 0 b'guest/size'"]


def test_a_fake_answers_codes_as_a_real_one_does(pulp_cell: Make) -> None:
    def kv_get(key: str) -> bytes:
        raise HostError(Errno.NOT_FOUND, key)

    fake = Fake("storage.kv", kv_get=kv_get)
    cell = pulp_cell(guest(fake), capabilities=[fake])

    assert cell.run("kv_get", 0, 1, 64, 68) == Errno.NOT_FOUND


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        pytest.param(2, 0, id="a number of words answers 0"),
        pytest.param((2, 11), 11, id="words and a code answer the code"),
        pytest.param((2, lambda _guest, first, second: first * 10 + second), 78, id="words and a function are asked"),
    ],
)
def test_without_annotations_the_words_are_counted(pulp_cell: Make, answer: object, code: int) -> None:
    fake = Fake("test.fake", ask=answer)
    cell = pulp_cell(guest(fake), capabilities=[fake])

    assert cell.run("ask", 7, 8) == code
    assert cell.transcript == ["==> ask(7, 8)", f"<== {code}"]


def test_a_function_by_words_reaches_the_guest_s_memory(pulp_cell: Make) -> None:
    def swap(guest: Guest, address: int, length: int) -> int:
        guest.write(address, guest.read(address, length)[::-1])
        return 0

    fake = Fake("test.fake", swap=(2, swap))
    cell = pulp_cell(guest(fake), capabilities=[fake])
    cell.write(0, b"abc")

    assert (cell.run("swap", 0, 3), cell.read(0, 3)) == (0, b"cba")
    assert cell.run("swap", 65_535, 2) == Errno.FAULT


def test_one_function_may_stand_for_two_imports(pulp_cell: Make) -> None:
    def nothing() -> None: ...

    fake = Fake("test.fake", first=nothing, second=nothing)
    cell = pulp_cell(guest(fake), capabilities=[fake])
    cell.run("first")
    cell.run("second")

    assert [call.name for call in cell.calls] == ["first", "second"]


def test_a_function_that_says_nothing_of_itself_is_refused() -> None:
    with pytest.raises(TypeError, match="kv_get: annotate its parameters"):
        Fake("storage.kv", kv_get=lambda key: key)


def test_annotations_without_a_shape_are_refused() -> None:
    def kv_get(key: float) -> None: ...

    with pytest.raises(ExtensionError, match="kv_get: parameter key"):
        Fake("storage.kv", kv_get=kv_get)
