from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

from pulp_runtime._kernel.cell import Cell
from pulp_runtime._kernel.lines import LINE_BYTES, LineLog
from pulp_runtime.ext import StepEvent
from pulp_runtime.log import Json, KeyValue, Log, Terminal
from pulp_runtime.manifest.limits import LOG_BYTES_PER_SECOND, LOG_LINES_PER_SECOND


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 100.0
        self.asked = 0

    def __call__(self) -> float:
        self.asked += 1
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def lines(clock: Clock) -> LineLog:
    return LineLog(Log("pulp", cell="guest"), clock=clock)


def test_a_guests_output_arrives_line_by_line(start: Callable[..., Cell], event: StepEvent, records) -> None:
    cell = start("stdout")
    cell.deliver(0, event)
    cell.close()

    written = [(record.fields["stream"], record.getMessage()) for record in records.all if "stream" in record.fields]
    assert written == [
        ("stdout", "one"),
        ("stdout", "two"),
        ("stdout", "half a line"),
        ("stderr", "trouble"),
        ("stdout", "event"),
        ("stderr", "unfinished"),
    ]
    assert all(record.fields["cell"] == "stdout" for record in records.all)


def test_half_a_line_waits_for_the_rest(lines: LineLog, records) -> None:
    lines.feed("stdout", b"half ")
    assert records.messages == []

    lines.feed("stderr", b"of something else\n")
    lines.feed("stdout", b"a line\nand ")
    lines.flush()
    lines.flush()

    assert records.messages == ["of something else", "half a line", "and "]


def test_a_character_cut_in_two_by_a_write_is_whole_again(lines: LineLog, records) -> None:
    lines.feed("stdout", "ø".encode()[:1])
    lines.feed("stdout", "ø".encode()[1:] + b"\n")

    assert records.messages == ["ø"]


def test_the_end_of_a_line_may_be_written_as_on_windows(lines: LineLog, records) -> None:
    lines.feed("stdout", b"one\r\ntwo\r\n")

    assert records.messages == ["one", "two"]


def test_threat_45_a_line_is_kept_up_to_its_limit_and_says_that_it_was_cut(lines: LineLog, records) -> None:
    lines.feed("stdout", b"x" * (LINE_BYTES + 10) + b"\n" + b"y" * LINE_BYTES + b"\n")

    assert records.messages == ["x" * LINE_BYTES, "y" * LINE_BYTES]
    assert [record.fields.get("truncated") for record in records.all] == [True, None]


def test_threat_45_a_line_without_end_takes_no_more_memory_than_its_limit(lines: LineLog, records) -> None:
    for _ in range(100):
        lines.feed("stdout", b"x" * 100_000)
    assert sum(len(rest) for rest in lines._partial.values()) <= LINE_BYTES + 1

    lines.feed("stdout", b"\n")
    assert records.messages == ["x" * LINE_BYTES]


def test_threat_45_lines_past_the_rate_are_dropped_and_counted(lines: LineLog, clock: Clock, records) -> None:
    lines.feed("stdout", b"line\n" * (LOG_LINES_PER_SECOND + 37))
    assert len(records.all) == LOG_LINES_PER_SECOND

    clock.now += 1.0
    lines.feed("stdout", b"again\n")

    assert records.messages[LOG_LINES_PER_SECOND:] == ["cell log over its rate", "again"]
    assert records.fields("cell log over its rate") == [{"cell": "guest", "dropped": 37}]


def test_threat_45_bytes_past_the_rate_are_dropped_too(lines: LineLog, records) -> None:
    lines.feed("stdout", (b"x" * LINE_BYTES + b"\n") * LOG_LINES_PER_SECOND)

    assert len(records.all) == LOG_BYTES_PER_SECOND // LINE_BYTES


def test_what_was_dropped_is_told_at_the_end_too(lines: LineLog, records) -> None:
    lines.feed("stdout", b"line\n" * (LOG_LINES_PER_SECOND + 5))
    lines.flush()

    assert records.fields("cell log over its rate") == [{"cell": "guest", "dropped": 5}]


def test_threat_45_a_million_empty_lines_in_one_write_are_looked_at_only_until_the_rate_is_used_up(
    lines: LineLog, clock: Clock, records
) -> None:
    clock.asked = 0
    lines.feed("stdout", b"\n" * (1 << 20))

    assert clock.asked == LOG_LINES_PER_SECOND + 1
    assert len(records.all) == LOG_LINES_PER_SECOND
    lines.flush()
    assert records.fields("cell log over its rate")[0]["dropped"] == (1 << 20) - LOG_LINES_PER_SECOND


def test_bugs_of_host_functions_count_against_the_rate(lines: LineLog) -> None:
    assert [lines.allows(1) for _ in range(LOG_LINES_PER_SECOND + 1)].count(True) == LOG_LINES_PER_SECOND


HOSTILE = [
    pytest.param(b"\x1b[31mred\x1b[0m", r"\u001b[31mred\u001b[0m", id="colours"),
    pytest.param(b"\x1b]0;title\x07", r"\u001b]0;title\u0007", id="a window's title"),
    pytest.param(b"a\rb", r"a\rb", id="a return to the beginning of the line"),
    pytest.param(b"a\x00b", r"a\u0000b", id="a zero"),
    pytest.param("a\u202eb".encode(), r"a\u202eb", id="a change of direction"),
    pytest.param("a\u2028b".encode(), r"a\u2028b", id="a line separator"),
    pytest.param("a\x85b".encode(), r"a\u0085b", id="a next-line"),
    pytest.param(b"\xff\xfe", "\ufffd\ufffd", id="what is not UTF-8"),
]


@pytest.mark.parametrize(("written", "logged"), HOSTILE)
def test_threat_45_what_could_steer_a_terminal_is_escaped(lines: LineLog, records, written: bytes, logged: str) -> None:
    lines.feed("stdout", written + b"\n")

    assert records.messages == [logged]


def render(formatter: logging.Formatter, message: str, **fields: object) -> str:
    record = logging.LogRecord("pulp", logging.INFO, __file__, 1, message, None, None)
    record.fields = fields
    return formatter.format(record)


FORGERIES = [
    "one\nlevel=ERROR msg=forged",
    'quote" msg="forged',
    "a=b",
    "\x1b[2J",
    "%s %(name)s {0}",
    "\u202eevil",
    "tab\there",
    "a\u2028b",
]


@pytest.mark.parametrize("formatter", [KeyValue(), Json(), Terminal()], ids=["key=value", "json", "for people"])
@pytest.mark.parametrize("text", FORGERIES, ids=repr)
def test_threat_45_no_value_adds_a_line_or_a_control_character(formatter: logging.Formatter, text: str) -> None:
    own = render(formatter, "plain", key="plain").count("\x1b")
    line = render(formatter, text, key=text)

    assert len(line.splitlines()) == 1
    assert line.count("\x1b") == own
    assert all(char.isprintable() for char in line.replace("\x1b", ""))


def test_threat_45_a_quoted_value_cannot_end_early() -> None:
    line = render(KeyValue(), "plain", key='quote" msg="forged')

    assert r'key="quote\" msg=\"forged"' in line
