from __future__ import annotations

import tomllib
from collections.abc import Callable
from datetime import UTC, date, datetime, time
from pathlib import Path

import pytest

from pulp_runtime.abi.codec import MAX_NESTING
from pulp_runtime.abi.moment import NanoDateTime, NanoTime
from pulp_runtime.errors import ManifestError
from pulp_runtime.manifest.toml import MAX_FILE_BYTES, Source, dotted, parse_toml, read_source

Write = Callable[..., Path]


def parse(text: str) -> dict[str, object]:
    return parse_toml(Source(Path("/m.toml"), text))


def test_a_byte_order_mark_and_windows_line_ends_are_accepted(write: Write) -> None:
    source = read_source(write(b"\xef\xbb\xbfa = 1\r\nb = '''x\r\ny'''\r\n"))

    assert parse_toml(source) == {"a": 1, "b": "x\ny"}


def test_the_path_of_a_source_is_absolute(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write("")
    monkeypatch.chdir(path.parent)

    assert read_source(Path(path.name)).path == path


@pytest.mark.parametrize(
    ("path", "words"),
    [
        pytest.param("a\0b", "manifest path: it contains a NUL character", id="a NUL in the path"),
        pytest.param("missing.toml", "read manifest: No such file", id="no file"),
        pytest.param("x" * 5000, "read manifest: File name too long", id="a name no file can have"),
    ],
)
def test_what_is_no_file_is_refused(tmp_path: Path, path: str, words: str) -> None:
    with pytest.raises(ManifestError, match=words):
        read_source(tmp_path / path)


def test_a_file_of_the_largest_size_is_read_and_one_byte_more_is_not(write: Write) -> None:
    assert read_source(write("#" * MAX_FILE_BYTES))
    with pytest.raises(ManifestError, match="read manifest: more than 1048576 bytes"):
        read_source(write("#" * (MAX_FILE_BYTES + 1)))


def test_text_that_is_not_utf_8_is_refused_with_its_line(write: Write) -> None:
    with pytest.raises(ManifestError, match="parse manifest: line 2: not UTF-8"):
        read_source(write(b"a = 1\nb = '\xff'\n"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param(
            "a = 1\nb = abc\n",
            r"parse manifest: Invalid value \(at line 2, column 5\)",
            id="text without quotes",
        ),
        pytest.param("a = 1\nb = 'x", "line 2, the end of the document", id="a string without an end"),
        pytest.param("a = 1\na = 2\n", r"parse manifest: .*\(at line 2", id="a key written twice"),
        pytest.param(
            "b = 1\na = 9223372036854775808",
            "parse manifest: line 2: a: does not fit 64 bits",
            id="an integer of 65 bits",
        ),
        pytest.param(
            "[c]\na = [-9223372036854775809]",
            r"parse manifest: line 2: c\.a: does not fit",
            id="one deep inside",
        ),
        pytest.param("a = 0x" + "f" * 9000, "does not fit 64 bits", id="an integer too long to print"),
        pytest.param("a = " + "9" * 9000, "parse manifest: ", id="an integer too long to convert"),
        pytest.param("a = " + "[" * 9000, "nested more than 128 levels", id="brackets without end"),
        pytest.param("[" + ".".join("a" * 200) + "]", "nested more than 128 levels", id="a key of two hundred parts"),
    ],
)
def test_what_is_not_toml_is_refused_with_its_line(text: str, words: str) -> None:
    with pytest.raises(ManifestError, match=words):
        parse(text)


def test_the_last_level_of_nesting_is_allowed() -> None:
    assert parse("a = " + "[" * MAX_NESTING + "]" * MAX_NESTING)
    with pytest.raises(ManifestError, match="nested"):
        parse("a = " + "[" * (MAX_NESTING + 1) + "]" * (MAX_NESTING + 1))


def test_keys_keep_the_order_of_the_file() -> None:
    assert list(parse("b = 1\na = 2\n[d]\n[c]\n")) == ["b", "a", "d", "c"]


def test_dates_and_times_without_long_fractions_are_plain() -> None:
    parsed = parse("a = 1979-05-27T07:32:00.123456Z\nb = 07:32:00.5\nc = 1979-05-27")

    assert parsed == {
        "a": datetime(1979, 5, 27, 7, 32, 0, 123_456, UTC),
        "b": time(7, 32, 0, 500_000),
        "c": date(1979, 5, 27),
    }


@pytest.mark.parametrize(
    ("literal", "nanosecond"),
    [
        pytest.param("1979-05-27T00:32:00.999999999-07:00", 999_999_999, id="nine digits"),
        pytest.param("1979-05-27 00:32:00.1234567", 123_456_700, id="seven digits, local, with a space"),
        pytest.param("1979-05-27t00:32:00.0000000019z", 1, id="ten digits, of which the tenth is dropped"),
        pytest.param("00:32:00.000000001", 1, id="a time"),
        pytest.param("00:32:00.0000000", 0, id="seven zeros"),
    ],
)
def test_a_long_fraction_is_exact(literal: str, nanosecond: int) -> None:
    value = parse(f"a = {literal}")["a"]

    assert isinstance(value, NanoDateTime | NanoTime)
    assert value.nanosecond == nanosecond


CLOCK = "07:32:00.123456789"


@pytest.mark.parametrize(
    "string",
    [
        pytest.param(f'"{CLOCK}"', id="a basic string"),
        pytest.param(f'"\\"{CLOCK}\\\\"', id="a basic string with escapes"),
        pytest.param(f"'\\{CLOCK}\\'", id="a literal string"),
        pytest.param(f'"""\n"{CLOCK}""\\""" {CLOCK}"""""', id="a long basic string with quotes inside and last"),
        pytest.param(f"'''\n'{CLOCK}'' {CLOCK}'''''", id="a long literal string with quotes inside and last"),
        pytest.param(f'""  # {CLOCK} "\'', id="a comment with a quote"),
        pytest.param(f"{{'{CLOCK}' = 1, \"x {CLOCK}\" = 2}}", id="keys"),
    ],
)
def test_a_clock_in_text_stays_what_it_is_beside_a_real_one(string: str) -> None:
    parsed = parse(f"before = {CLOCK}\ntext = {string}\nlist = [1979-05-27T07:32:00.25Z, {CLOCK}]\nplain = 07:32:00")

    assert parsed["text"] == tomllib.loads(f"a = {string}")["a"]
    assert parsed["plain"] == time(7, 32)
    moments = [parsed["before"], *parsed["list"]]  # type: ignore[misc]
    assert [moment.nanosecond for moment in moments] == [123_456_789, 250_000_000, 123_456_789]


def test_a_dotted_name_is_written_as_in_toml() -> None:
    assert dotted("", "a") == "a"
    assert dotted("a", "b c") == 'a."b c"'
