from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

from pulp_runtime.errors import Errno
from pulp_runtime.testing import HOSTILE_RANGES, CellUnderTest, Logged, guest

INFO = 1


@pytest.fixture
def cell(pulp_cell: Callable[..., CellUnderTest]) -> CellUnderTest:
    return pulp_cell(guest({"log_write": 3}), name="talker")


def write(cell: CellUnderTest, text: bytes, level: int = INFO) -> int:
    cell.write(0, text)
    return cell.run("log_write", level, 0, len(text))


def messages(cell: CellUnderTest) -> list[str]:
    return [record.message for record in cell.logged]


@pytest.mark.parametrize(
    ("level", "logged"),
    [(0, logging.DEBUG), (1, logging.INFO), (2, logging.WARNING), (3, logging.ERROR)],
)
def test_each_level_has_its_number(cell: CellUnderTest, level: int, logged: int) -> None:
    assert write(cell, b"hello", level) == 0
    assert cell.logged == [Logged(logged, "hello", {"cell": "talker"})]


@pytest.mark.parametrize("level", [4, 0xFFFF_FFFF])
def test_a_level_beyond_them_is_refused_and_nothing_is_logged(cell: CellUnderTest, level: int) -> None:
    assert write(cell, b"hello", level) == Errno.EMPTY
    assert cell.logged == []


@pytest.mark.parametrize("words", HOSTILE_RANGES.values(), ids=HOSTILE_RANGES.keys())
def test_a_text_outside_memory_is_a_fault(cell: CellUnderTest, words: tuple[int, int]) -> None:
    assert cell.run("log_write", INFO, *words) == Errno.FAULT
    assert cell.logged == []


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        pytest.param(b"one\ntwo", ["one", "two"], id="two lines are two records"),
        pytest.param(b"one\n", ["one"], id="a newline at the end begins no other"),
        pytest.param(b"one\r\ntwo\r\n", ["one", "two"], id="a return before it is dropped"),
        pytest.param(b"\n\na", ["", "", "a"], id="empty lines are lines"),
        pytest.param(b"", [""], id="no text is an empty line"),
        pytest.param("naïve ☃".encode(), ["naïve ☃"], id="utf-8 is text"),
        pytest.param(b"a\xffb", ["a\ufffdb"], id="what is not utf-8 is replaced"),
        pytest.param(b"\x1b[2Jgone\x00", ["\\u001b[2Jgone\\u0000"], id="what steers a terminal is escaped"),
    ],
)
def test_one_record_is_written_for_each_line(cell: CellUnderTest, text: bytes, lines: list[str]) -> None:
    assert write(cell, text) == 0
    assert messages(cell) == lines


def test_a_long_line_is_cut_and_said_to_be(cell: CellUnderTest) -> None:
    assert write(cell, b"x" * 5_000) == 0
    assert cell.logged == [Logged(logging.INFO, "x" * 4_096, {"cell": "talker", "truncated": True})]


def test_a_flood_is_dropped_and_said_to_be(cell: CellUnderTest) -> None:
    assert write(cell, b"\n" * 30_000) == 0
    assert write(cell, b"more") == 0
    assert len(cell.logged) == 200
    cell.close()
    assert messages(cell)[-1] == "cell log over its rate"


def test_a_cell_need_not_declare_it(cell: CellUnderTest) -> None:
    assert cell.spec.capabilities == ()
    assert write(cell, b"x") == 0
    assert cell.transcript == ["==> log_write(level=1, text=b'x')", "<== 0"]
