from __future__ import annotations

import pytest

from pulp_runtime.manifest.names import explain_capability, explain_name, quote


@pytest.mark.parametrize("name", ["a", "echo", "echo-2", "a_b", "a" * 63])
def test_a_plain_name_is_fine(name: str) -> None:
    assert explain_name(name) is None


@pytest.mark.parametrize(
    ("name", "words"),
    [
        pytest.param(
            "Echo",
            ['"Echo" contains "E" (LATIN CAPITAL LETTER E, U+0045)', 'write for example "echo"'],
            id="a capital",
        ),
        pytest.param("../x", ['"." (FULL STOP, U+002E)', '"x"'], id="a path"),
        pytest.param("a@b", ["COMMERCIAL AT", '"a-b"'], id="an address"),
        pytest.param("еcho", ["CYRILLIC SMALL LETTER IE", '"cho"'], id="a foreign letter that looks like one of ours"),
        pytest.param("café", ["LATIN SMALL LETTER E WITH ACUTE", '"cafe"'], id="an accent"),
        pytest.param("1st", ['starts with "1" (DIGIT ONE', '"st"'], id="a digit in front"),
        pytest.param("-a", ['starts with "-"', '"a"'], id="a hyphen in front"),
        pytest.param("a" * 64, ["is 64 characters long", f'"{"a" * 63}"'], id="one character too many"),
        pytest.param("a\nb", [r'"a\u000ab" contains "\u000a" (a control character, U+000A)', '"a-b"'], id="a line end"),
        pytest.param("日本", ["CJK", '"my-cell"'], id="nothing that could be kept"),
        pytest.param("PULP", ["LATIN CAPITAL LETTER P", '"my-cell"'], id="a reserved name in capitals"),
        pytest.param("pulp", ["reserved", '"pulp-cell"'], id="the import module"),
        pytest.param("host", ["reserved", '"host-cell"'], id="the host's scope"),
        pytest.param("wasi_snapshot_preview1", ["reserved"], id="the import module of WASI"),
    ],
)
def test_another_name_is_explained_with_the_rule_and_a_fix(name: str, words: list[str]) -> None:
    problem = explain_name(name)

    assert problem is not None
    assert all(word in problem for word in words), problem
    assert "reserved" in problem or "a lower-case letter, then lower-case letters, digits" in problem


@pytest.mark.parametrize("name", ["storage.kv", "Transport.HTTP.inbound", "pulp.cross-application.v1", "a_b"])
def test_a_plain_capability_is_fine_in_any_case(name: str) -> None:
    assert explain_capability(name) is None


@pytest.mark.parametrize(
    ("name", "words"),
    [
        pytest.param("stоrage.kv", '"о" (CYRILLIC SMALL LETTER O, U+043E)', id="a Cyrillic o"),
        pytest.param("Storage.\u212av", "KELVIN SIGN", id="a sign that is a plain letter in lower case"),
        pytest.param("storage\u200b.kv", r'"\u200b" (ZERO WIDTH SPACE, U+200B)', id="a character one cannot see"),
        pytest.param("storage kv", '" " (SPACE, U+0020)', id="a space"),
        pytest.param("storage..kv", "joint", id="two dots in a row"),
        pytest.param(".kv", "joint", id="a dot in front"),
        pytest.param("kv-", "joint", id="a hyphen at the end"),
    ],
)
def test_another_capability_is_explained_by_its_odd_character(name: str, words: str) -> None:
    assert words in (explain_capability(name) or "")


def test_a_quoted_name_is_short_and_harmless() -> None:
    assert quote("\x1b[2J\u202e") == r'"\u001b[2J\u202e"'
    assert len(quote("a" * 10_000)) < 100
