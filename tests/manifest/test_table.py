from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pulp_runtime.errors import ManifestError
from pulp_runtime.manifest.table import Known, Table, read_table
from pulp_runtime.manifest.toml import Source, parse_toml

FILE = Path("/cells/pulp.cell.toml")
KNOWN: Known = {"name": None, "config": None, "routes": {"path": None}, "top": {"inner": {"leaf": None}}}


def table(text: str) -> Table:
    source = Source(FILE, text)
    return Table(source, parse_toml(source))


def test_absent_fields_have_their_defaults() -> None:
    empty = table("")

    assert empty.text("a") == ""
    assert empty.text("a", "x") == "x"
    assert empty.integer("a", 3) == 3
    assert empty.uint32("a") == 0
    assert empty.flag("a") is False
    assert empty.texts("a") == []
    assert empty.table("a") is None
    assert empty.tables("a") == []


def test_fields_are_read_with_their_types() -> None:
    full = table("a = 'x'\nb = -1\nc = 4294967295\nd = true\ne = ['y']\n[f]\ng = 1\n[[h]]\ni = 2\n")

    assert full.text("a") == "x"
    assert full.integer("b") == -1
    assert full.uint32("c") == 4_294_967_295
    assert full.flag("d") is True
    assert full.texts("e") == ["y"]
    assert full.table("f").integer("g") == 1  # type: ignore[union-attr]
    assert [item.integer("i") for item in full.tables("h")] == [2]


@pytest.mark.parametrize(
    ("read", "value", "words"),
    [
        pytest.param(
            Table.text, "5", 'a: a string is needed, not an integer; write a = "..."', id="an integer as text"
        ),
        pytest.param(Table.text, "1979-05-27", "a string is needed, not a date or time", id="a date as text"),
        pytest.param(
            Table.integer, "true", "an integer is needed, not a boolean; write a = 1", id="true as an integer"
        ),
        pytest.param(Table.integer, "1.5", "an integer is needed, not a float", id="a fraction as an integer"),
        pytest.param(Table.integer, "'1'", "an integer is needed, not a string", id="text as an integer"),
        pytest.param(
            Table.uint32,
            "-1",
            "a: -1 is out of range; write a number from 0 to 4294967295",
            id="a negative uint32",
        ),
        pytest.param(Table.uint32, "4294967296", "4294967296 is out of range", id="a uint32 of 33 bits"),
        pytest.param(Table.flag, "1", "a boolean is needed, not an integer; write a = true", id="one as a boolean"),
        pytest.param(
            Table.texts,
            "'x'",
            'an array of strings is needed, not a string; write a = ["..."]',
            id="text as an array",
        ),
        pytest.param(
            Table.texts,
            "['x', 1]",
            "an array of strings is needed, not an integer",
            id="an array with a number",
        ),
        pytest.param(Table.table, "[]", "a table is needed, not an array; write a = { ... }", id="an array as a table"),
        pytest.param(
            Table.tables,
            "{}",
            "an array of tables is needed, not a table",
            id="a table as an array of tables",
        ),
        pytest.param(Table.tables, "[1]", "an array of tables is needed, not an array", id="an array of numbers"),
    ],
)
def test_another_type_is_refused_with_file_line_field_and_fix(
    read: Callable[[Table, str], object], value: str, words: str
) -> None:
    with pytest.raises(ManifestError) as caught:
        read(table(f"other = 0\na = {value}\n"), "a")

    assert str(caught.value).startswith(f"{FILE}: parse manifest: line 2: a: ")
    assert words in str(caught.value)
    assert caught.value.field == "a"


def test_a_field_in_a_table_is_named_with_its_parents() -> None:
    with pytest.raises(ManifestError, match=r"line 3: top\.inner\.leaf: a string") as caught:
        table("[top]\n[top.inner]\nleaf = 1").table("top").table("inner").text("leaf")  # type: ignore[union-attr]

    assert caught.value.field == "top.inner.leaf"


def test_no_line_is_named_where_it_would_be_a_guess() -> None:
    with pytest.raises(ManifestError, match="parse manifest: x: a string"):
        table("x = 1\n[top]\nx = 2\n").text("x")


def test_known_fields_pass_at_every_level() -> None:
    known = table("name = ''\nconfig = {any = {thing = 1}}\nroutes = [{path = '/'}]\ntop.inner.leaf = 1")

    known.refuse_unknown(KNOWN, otherwise="remove them")


@pytest.mark.parametrize(
    ("text", "listed", "advice"),
    [
        pytest.param("[bar]\nbaz = 1", "bar, bar.baz", "remove them", id="a table with a key"),
        pytest.param("x = 1\ny = [{z = {q = 1}}, {z = 2}]", "x, y, y.z, y.z.q", "remove them", id="an array of tables"),
        pytest.param(
            "[[routes]]\npth = '/'",
            "routes.pth",
            "write path instead of routes.pth",
            id="inside a known array",
        ),
        pytest.param(
            "[top]\ninner.lef = 1",
            "top.inner.lef",
            "write leaf instead of top.inner.lef",
            id="two levels down",
        ),
        pytest.param("Name = 'x'", "Name", "write name instead of Name", id="a name in another case"),
        pytest.param('"a b" = 1', '"a b"', "remove them", id="a key in quotes"),
        pytest.param(
            "nam = 1\nqqq = 1",
            "nam, qqq",
            "write name instead of nam; remove them",
            id="one near and one far",
        ),
    ],
)
def test_every_unknown_field_is_listed_with_what_to_do(text: str, listed: str, advice: str) -> None:
    with pytest.raises(ManifestError) as caught:
        table(text).refuse_unknown(KNOWN, otherwise="remove them")

    assert str(caught.value) == f"{FILE}: unknown manifest fields: {listed}; {advice}"


def test_a_file_is_read_as_one_table(write: Callable[..., Path]) -> None:
    path = write("name = 'x'")

    root = read_table(path)

    assert (root.path, root.name, root.text("name")) == (path, "", "x")
