"""Where applications can be reached, index by index (spec/core §7.8)."""

from __future__ import annotations

import pytest

from pulp_runtime.errors import ExtensionError
from pulp_runtime.ext import Endpoint, Scope
from pulp_runtime.hosting.endpoints import Endpoints

RED, BLUE = (Scope("shop", instance, "host", "primary") for instance in ("red", "blue"))
PUBLIC = Endpoint("transport.http.inbound", "public", "http://127.0.0.1:1")


@pytest.fixture
def endpoints() -> Endpoints:
    return Endpoints()


def test_an_address_is_found_by_application_instance_capability_and_role(endpoints: Endpoints) -> None:
    endpoints.ready(RED, PUBLIC)
    endpoints.ready(RED, PUBLIC)

    assert endpoints.address("shop", "red") == PUBLIC.address
    assert endpoints.address(" shop ", "red\n", " transport.http.inbound", "public ") == PUBLIC.address
    for other in (("shop", "blue"), ("shop", "red", "transport.sse"), ("shop", "red", PUBLIC.capability, "admin")):
        assert endpoints.address(*other) == ""


def test_a_role_is_taken_by_the_cell_that_has_it_first(endpoints: Endpoints) -> None:
    endpoints.ready(RED, PUBLIC)
    endpoints.ready(BLUE, PUBLIC)
    with pytest.raises(ExtensionError, match="shop/red has a public endpoint of transport"):
        endpoints.ready(RED._replace(cell="other"), PUBLIC)
    with pytest.raises(ExtensionError, match=r"is http://127\.0\.0\.1:1 already"):
        endpoints.ready(RED, PUBLIC._replace(address="http://127.0.0.1:2"))


@pytest.mark.parametrize("part", Endpoint._fields)
def test_an_endpoint_without_a_part_is_none(endpoints: Endpoints, part: str) -> None:
    with pytest.raises(ExtensionError, match=f"endpoint {part} is required"):
        endpoints.ready(RED, PUBLIC._replace(**{part: " "}))


def test_a_late_word_about_an_address_that_was_replaced_changes_nothing(endpoints: Endpoints) -> None:
    endpoints.ready(RED, PUBLIC)
    endpoints.gone(RED, PUBLIC._replace(address="http://127.0.0.1:2"))
    endpoints.gone(BLUE, PUBLIC)
    endpoints.gone(RED._replace(cell="other"), PUBLIC)
    assert endpoints.address("shop", "red") == PUBLIC.address
    endpoints.gone(RED, PUBLIC)
    endpoints.gone(RED, PUBLIC)
    assert endpoints.address("shop", "red") == ""


def test_an_application_goes_with_everything_it_has_and_its_other_instances_stay(endpoints: Endpoints) -> None:
    for scope in (RED, BLUE):
        for name in ("public", "admin"):
            endpoints.ready(scope, PUBLIC._replace(name=name))
    endpoints.remove_application("shop", "red")
    assert [role[1:] for role, _address in endpoints] == [
        ("blue", "transport.http.inbound", "public"),
        ("blue", "transport.http.inbound", "admin"),
    ]
    assert endpoints.first == PUBLIC.address
