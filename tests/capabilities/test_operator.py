from __future__ import annotations

from typing import Annotated, Any

import msgspec
import pytest

from pulp_runtime.capabilities.operator import Variable, operator_settings
from pulp_runtime.errors import ExtensionError
from pulp_runtime.testing.host import FakeHost


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    words: tuple[str, ...] = ("one",)
    count: Annotated[int, msgspec.Meta(ge=0, le=9)] = 1
    text: str = ""


VARIABLES = {"words": Variable("PULP_TEST_WORDS", ";"), "count": Variable("PULP_TEST_COUNT")}


def read(env: FakeHost, **config: Any) -> Settings:
    return operator_settings(env("test", config=config), Settings, VARIABLES)


def test_what_nobody_sets_is_the_default(pulp_env: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PULP_TEST_COUNT", " ")  # as good as none

    assert read(pulp_env) == Settings()


def test_a_variable_stands_in_for_a_setting(pulp_env: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PULP_TEST_WORDS", " a b ;; c,d ;")
    monkeypatch.setenv("PULP_TEST_COUNT", " 7 ")

    assert read(pulp_env) == Settings(words=("a b", "c,d"), count=7)


def test_a_setting_goes_before_its_variable(pulp_env: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PULP_TEST_WORDS", "variable")
    monkeypatch.setenv("PULP_TEST_COUNT", "wrong, but nobody looks")

    assert read(pulp_env, words=["setting"], count=0, text="x") == Settings(words=("setting",), count=0, text="x")


@pytest.mark.parametrize(
    ("variables", "config", "said"),
    [
        ({"PULP_TEST_COUNT": "many"}, {}, r"\$PULP_TEST_COUNT: Expected `int`"),
        ({"PULP_TEST_COUNT": "10"}, {}, r"\$PULP_TEST_COUNT: Expected `int` <= 9"),
        ({}, {"count": -1}, r"^count: Expected `int` >= 0"),
        ({}, {"words": [1]}, r"^words: Expected `str`"),
        ({}, {"word": "x"}, r"unknown field `word`"),
    ],
)
def test_what_is_wrong_is_named_as_it_was_written(
    pulp_env: FakeHost, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], config: dict[str, Any], said: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    with pytest.raises(ExtensionError, match=said):
        read(pulp_env, **config)
