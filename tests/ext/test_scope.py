"""Scopes: who something belongs to."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from pulp_runtime.ext import ResourceKey, Scope, ScopedFactory, SetupEnv, legacy_scope
from pulp_runtime.log import Log

VECTORS = Path(__file__).parents[2] / "vectors" / "routing_id.json"
GENE = Scope("sessions", "primary", "gene", "default")


def test_a_routing_id_gives_each_part_with_its_length() -> None:
    assert GENE.routing_id == "pulp-scope/v1/8:sessions|7:primary|4:gene|7:default"


def test_lengths_are_counted_in_utf8_bytes_and_delimiters_are_no_trouble() -> None:
    assert Scope("é", "a|b", "c ", "d").routing_id == "pulp-scope/v1/2:é|3:a|b|2:c |1:d"


def test_the_scope_of_a_blank_cell_is_the_default_one() -> None:
    assert legacy_scope(" ").routing_id == "pulp-scope/v1/6:legacy|7:default|7:default|7:default"


def test_two_scopes_never_share_a_routing_id() -> None:
    assert Scope("a", "b|1:c", "d", "e").routing_id != Scope("a|5:b", "c", "d", "e").routing_id


def test_a_legacy_scope_is_reached_by_its_bare_name_and_any_other_by_its_routing_id() -> None:
    assert legacy_scope("echo").is_legacy
    assert legacy_scope("echo").target == "echo"
    assert GENE.target == GENE.routing_id


@pytest.mark.parametrize("at", range(4), ids=Scope._fields)
@pytest.mark.parametrize(("value", "word"), [(" ", "is required"), ("a\0", "contains NUL")], ids=["blank", "NUL"])
def test_a_part_that_is_blank_or_contains_nul_is_refused(at: int, value: str, word: str) -> None:
    parts = ["a", "b", "c", "d"]
    parts[at] = value

    with pytest.raises(ValueError, match=f"ext: scope {Scope._fields[at].replace('_', ' ')} {word}"):
        Scope(*parts).checked()


def test_resource_keys_differ_in_every_part_and_are_written_with_lengths() -> None:
    key = ResourceKey(GENE, "storage", "primary")

    assert str(key) == "8:sessions|7:primary|4:gene|7:default|7:storage|7:primary"
    assert key != ResourceKey(GENE._replace(cell_instance="b2"), "storage", "primary")
    with pytest.raises(ValueError, match="resource id is required"):
        ResourceKey(GENE, "storage", "").checked()


def test_a_factory_makes_one_value_for_a_key_and_asks_again_after_an_error() -> None:
    made: list[ResourceKey] = []

    def create(key: ResourceKey) -> object:
        made.append(key)
        if len(made) == 1:
            raise OSError("not yet")
        return object()

    factory = ScopedFactory(create)
    key = ResourceKey(GENE, "storage", "primary")
    with pytest.raises(OSError, match="not yet"):
        factory.get(key)

    assert factory.get(key) is factory.get(key)
    assert factory.get(key._replace(id="other")) is not factory.get(key)
    assert len(factory) == 2


def test_a_set_up_is_for_the_scope_it_names_and_else_for_the_host_as_a_whole() -> None:
    hooks = dict.fromkeys(("post", "spawn", "defer", "reachable"), print)
    env = SetupEnv(storage_root=Path(), logger=Log("pulp"), **hooks)

    assert env.scope == legacy_scope("host")
    assert replace(env, scope=GENE).scope == GENE


def test_the_published_vectors_hold() -> None:
    for vector in json.loads(VECTORS.read_text()):
        assert Scope(*vector["parts"]).routing_id == vector["id"]
