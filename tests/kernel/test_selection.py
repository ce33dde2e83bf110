"""Which of several implementations of one capability is used."""

from __future__ import annotations

import pytest

from pulp_runtime._kernel.selection import select
from pulp_runtime.errors import ExtensionError
from pulp_runtime.ext import Capability


def offer(name: str, provider: str = "") -> Capability:
    return Capability(name=name, register=lambda _linker, _cell: None, provider=provider)


def test_the_only_implementation_is_used_whether_it_says_who_it_is_or_not() -> None:
    known, unknown = offer("a.b", "x"), offer("c.d")

    assert select([known, unknown], {}) == (known, unknown)


def test_names_come_in_the_order_they_were_first_registered() -> None:
    names = [capability.name for capability in select([offer("z"), offer("a"), offer("m")], {})]

    assert names == ["z", "a", "m"]


def test_of_two_the_pinned_one_is_used() -> None:
    one, other = offer("a.b", "x"), offer("a.b", "y")

    assert select([one, other], {"a.b": "y"}) == (other,)


@pytest.mark.parametrize(
    ("registered", "pins", "message"),
    [
        pytest.param([("a", "x"), ("a", "y")], {}, "requires explicit selection: pin one of x, y", id="two, unpinned"),
        pytest.param([("a", "x")], {"b": "x"}, 'pinned capability "b" is not registered', id="nobody has the name"),
        pytest.param([("a", "x"), ("a", "")], {"a": "z"}, 'want exact provider "z", there are .*x', id="substituted"),
        pytest.param([("a", "")], {"a": "z"}, "there are <legacy-unidentified>", id="the only one is unidentified"),
        pytest.param([("a", "x"), ("a", "x")], {"a": "x"}, "has 2 registrations for pinned", id="registered twice"),
        pytest.param([("a", "x")], {"a": " "}, "neither may be blank", id="a blank provider"),
        pytest.param([("a", "x")], {"": "x"}, "neither may be blank", id="a blank name"),
    ],
)
def test_what_is_not_clear_is_refused(registered: list[tuple[str, str]], pins: dict[str, str], message: str) -> None:
    with pytest.raises(ExtensionError, match=message):
        select([offer(*one) for one in registered], pins)
