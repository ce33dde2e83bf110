"""One record, three renderings; whatever a field holds, a record is one line."""

from __future__ import annotations

import io
import json
import logging
import os
import re
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulp_runtime import log
from pulp_runtime.log import Log

NASTY = '\x1b[2J\x1b]0;owned\x07\r\nlevel=ERROR msg=fake\x9b31m\u2028\u202e\0 \\" ='


@pytest.fixture
def out() -> Iterator[io.StringIO]:
    logger = logging.getLogger("pulp")
    before = logger.handlers[:], logger.level, logger.propagate
    yield io.StringIO()
    logger.handlers[:], logger.level, logger.propagate = before


@pytest.fixture
def bug() -> ValueError:
    try:
        raise ValueError(NASTY)
    except ValueError as error:
        return error


def test_key_and_value_is_one_line_of_words(out: io.StringIO) -> None:
    log.configure("text", stream=out)
    Log("pulp").bind(cell="echo").info(
        "cell ready", version="0.1.0", capabilities=("a.b", "c d"), ok=True, n=1, none=""
    )

    time, rest = out.getvalue().split(" ", 1)
    assert re.fullmatch(r"time=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", time)
    assert rest == 'level=INFO msg="cell ready" cell=echo version=0.1.0 capabilities=[a.b "c d"] ok=true n=1 none=""\n'


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("plain", "plain"),
        ("/a/b-c_d.e:1", "/a/b-c_d.e:1"),
        ("two words", '"two words"'),
        ('say "hi"', '"say \\"hi\\""'),
        ("a=b", '"a=b"'),
        ("a\nb", '"a\\nb"'),
        ("\x1b[31m", '"\\u001b[31m"'),
        ("é", "é"),
        ("é è", '"é è"'),
        ("\u202e", '"\\u202e"'),
        ("\udc80", '"\\udc80"'),
        (1.5, "1.5"),
        (False, "false"),
        ([], "[]"),
    ],
)
def test_a_value_is_a_word_or_quoted(value: object, text: str) -> None:
    assert log.text(value) == text


def test_json_is_one_object_a_line(out: io.StringIO, bug: ValueError) -> None:
    log.configure("json", stream=out)
    Log("pulp", cell="echo").error("failed", path=os, exc_info=bug)

    record = json.loads(out.getvalue())
    assert out.getvalue().count("\n") == 1
    assert {"level": "ERROR", "msg": "failed", "cell": "echo"}.items() <= record.items()
    assert record["stack"].startswith("Traceback")


@pytest.mark.parametrize("renderer", ["text", "json"])
def test_threat_45_nothing_adds_a_line_or_steers_a_terminal(out: io.StringIO, bug: ValueError, renderer: str) -> None:
    log.configure(renderer, stream=out)
    Log("pulp").error(NASTY, field=NASTY, several=[NASTY], exc_info=bug)

    line = out.getvalue()
    assert line.count("\n") == 1
    assert line[:-1].isprintable()


def test_threat_45_nothing_adds_a_line_on_a_terminal_and_a_stack_is_indented(out: io.StringIO, bug: ValueError) -> None:
    log.configure("terminal", stream=out)
    Log("pulp").error(NASTY, field=NASTY, several=[NASTY], exc_info=bug)

    first, *stack = out.getvalue().splitlines()
    assert re.match(r"\x1b\[2m\d\d:\d\d:\d\d\x1b\[0m \x1b\[31mERROR\x1b\[0m ", first)
    assert re.sub(r"\x1b\[(2|0|31)m", "", first).isprintable()
    assert stack
    assert all(line.startswith("    ") and line.isprintable() for line in stack)


@given(st.text())
def test_any_text_stays_on_its_line(value: str) -> None:
    assert log.text(value).isprintable()
    assert log.escape(value).isprintable()


def test_a_quoted_value_reads_back() -> None:
    assert json.loads(log.text(NASTY)) == NASTY


def test_a_message_is_no_format(out: io.StringIO) -> None:
    log.configure("text", stream=out)
    Log("pulp").info("%s %d {} {0.__class__}", value="%(name)s")

    assert "%s %d {} {0.__class__}" in out.getvalue()


def test_a_level_that_is_not_wanted_costs_nothing(out: io.StringIO) -> None:
    log.configure("text", level="warning", stream=out)
    Log("pulp").info("no")
    Log("pulp").warning("yes")

    assert "level=WARN msg=yes" in out.getvalue()
    assert "no" not in out.getvalue()


def test_auto_is_for_people_on_a_terminal_only(out: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    log.configure("auto", stream=out)
    Log("pulp").info("a")
    monkeypatch.setattr(out, "isatty", lambda: True)
    log.configure("auto", stream=out)
    Log("pulp").info("b")

    first, second = out.getvalue().splitlines()
    assert first.startswith("time=")
    assert second.startswith("\x1b[2m")


def test_bind_leaves_the_log_it_was_asked_of_alone(out: io.StringIO) -> None:
    log.configure("text", stream=out)
    base = Log("pulp", a=1)
    base.bind(a=2, b=3)
    base.info("m")

    assert out.getvalue().endswith("msg=m a=1\n")


def test_a_character_the_stream_lacks_is_escaped(out: io.StringIO) -> None:
    raw = io.BytesIO()
    log.configure("text", stream=io.TextIOWrapper(raw, encoding="ascii", write_through=True))
    Log("pulp").info("cell init aborted — dependency failed")

    assert b"aborted \\u2014 dependency" in raw.getvalue()


def test_a_reader_that_leaves_is_not_missed(out: io.StringIO, capfd: pytest.CaptureFixture[str]) -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as stream:
        log.configure("text", stream=stream)
        Log("pulp").info("to nobody")
        Log("pulp").info("to nobody again")

    assert capfd.readouterr() == ("", "")
