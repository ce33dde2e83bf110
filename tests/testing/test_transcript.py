from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from pulp_runtime.ext import U32, U64, Capability, CellRef, Errno, Guest, HostError, Linker, host_function
from pulp_runtime.testing import HOSTILE_RANGES, CellUnderTest, guest, words_guest

Make = Callable[..., CellUnderTest]


class Pair(msgspec.Struct):
    key: str
    value: int = 0


class Everything:
    """One function for each shape."""

    @host_function
    def take_text(self, cell: CellRef, text: str) -> None: ...

    @host_function
    def take_bytes(self, data: bytes) -> None: ...

    @host_function
    def take_record(self, pair: Pair) -> None: ...

    @host_function
    def take_perhaps(self, pair: Pair | None) -> None: ...

    @host_function
    def take_numbers(self, guest: Guest, small: U32, large: U64) -> U32:
        return small + 1

    @host_function
    def give_text(self, times: U32) -> str:
        return "ab" * times

    @host_function
    def give_pairs(self, key: str) -> list[Pair]:
        return [Pair(key, 1), Pair(key, 2)]

    @host_function
    def refuse(self, key: str) -> None:
        raise HostError(Errno.NOT_FOUND, key)

    @host_function
    def break_down(self) -> None:
        raise KeyError("a bug")


@pytest.fixture
def cell(pulp_cell: Make) -> CellUnderTest:
    capability = Capability.of("test.everything", Everything())
    cell = pulp_cell(guest(capability), capabilities=[capability])
    cell.write(0, b"text")
    cell.write(16, msgspec.msgpack.encode({"key": "k", "value": 3}))
    return cell


@pytest.mark.parametrize(
    ("export", "words", "transcript"),
    [
        pytest.param("take_text", (0, 4), ["==> take_text('text')", "<== 0"], id="text"),
        pytest.param("take_bytes", (0, 4), ["==> take_bytes(b'text')", "<== 0"], id="bytes"),
        pytest.param("take_bytes", (0, 0), ["==> take_bytes(b'')", "<== 0"], id="no bytes"),
        pytest.param("take_record", (16, 14), ["==> take_record({'key': 'k', 'value': 3})", "<== 0"], id="a record"),
        pytest.param("take_record", (16, 0), ["==> take_record(None)", "<== 1"], id="no record"),
        pytest.param("take_record", (0, 4), ["==> take_record(b'text')", "<== 3"], id="bytes that are no record"),
        pytest.param("take_perhaps", (0, 0), ["==> take_perhaps(None)", "<== 0"], id="a record left out"),
        pytest.param(
            "take_numbers",
            (7, 1, 1),
            ["==> take_numbers(small=7, large=4294967297)", "<== 8"],
            id="numbers, a word back",
        ),
        pytest.param("give_text", (2, 64, 68), ["==> give_text(2)", "<== 0 'abab'"], id="text back"),
        pytest.param("give_text", (0, 64, 68), ["==> give_text(0)", "<== 0 ''"], id="no text back"),
        pytest.param(
            "give_pairs",
            (0, 1, 64, 68),
            ["==> give_pairs('t')", "<== 0 [{'key': 't', 'value': 1}, {'key': 't', 'value': 2}]"],
            id="records back",
        ),
        pytest.param("give_text", (2, 65_535, 68), ["==> give_text(2)", "<== 8"], id="an answer with nowhere to go"),
        pytest.param("refuse", (0, 4), ["==> refuse('text')", "<== 6"], id="a refusal"),
        pytest.param("break_down", (), ["==> break_down()", "<== 99 KeyError('a bug')"], id="a bug of the host"),
    ],
)
def test_what_crosses_is_written_down(
    cell: CellUnderTest, export: str, words: tuple[int, ...], transcript: list[str]
) -> None:
    cell.run(export, *words)

    assert cell.transcript == transcript


@pytest.mark.parametrize("words", HOSTILE_RANGES.values(), ids=HOSTILE_RANGES.keys())
def test_an_argument_outside_memory_is_said_to_be(cell: CellUnderTest, words: tuple[int, int]) -> None:
    assert cell.run("take_text", *words) == Errno.FAULT

    address, length = cell.calls[0].arguments["text"]
    assert (address, length) == words
    assert cell.transcript[0] == f"==> take_text(<{length} bytes at {address:#x}, outside memory>)"


def test_calls_are_values_too(cell: CellUnderTest) -> None:
    cell.run("take_record", 16, 14)
    cell.run("take_numbers", 1, 2, 0)
    cell.run("take_record", 16, 0)

    assert cell.replies("take_record") == [{"key": "k", "value": 3}, None]
    assert cell.replies("take_numbers") == [(1, 2)]
    assert [(call.name, call.words, call.code) for call in cell.calls] == [
        ("take_record", (16, 14), 0),
        ("take_numbers", (1, 2, 0), 2),
        ("take_record", (16, 0), 1),
    ]


def test_what_happened_can_be_forgotten(cell: CellUnderTest) -> None:
    cell.run("take_text", 0, 4)
    cell.clear()

    assert (cell.transcript, cell.calls, cell.logged) == ([], [], [])


def test_a_function_defined_by_hand_shows_its_words(pulp_cell: Make) -> None:
    def register(linker: Linker, _cell: CellRef) -> None:
        linker.define("raw", 3, lambda _guest, first, _second, _third: first)

    capability = Capability(name="test.raw", register=register)
    cell = pulp_cell(words_guest("raw", (5, 6, -1)), capabilities=[capability])

    assert cell.run("code") == 5
    assert cell.transcript == ["==> raw(5, 6, 4294967295)", "<== 5"]


def test_a_call_within_a_call_stands_inside_it(pulp_cell: Make) -> None:
    class Nested:
        @host_function
        def outer(self) -> str:
            return "x"

        @host_function
        def inner(self) -> None: ...

    text = guest({"outer": 2, "inner": 0})
    body = text.index("(local $at i32)") + len("(local $at i32)")
    asks_first = text[:body] + "(drop (call $inner))" + text[body:]
    cell = pulp_cell(asks_first, capabilities=[Capability.of("test.nested", Nested())])

    assert cell.run("outer", 0, 4) == 0
    assert cell.transcript == ["==> outer()", "==> inner()", "<== 0", "<== 0 'x'"]
