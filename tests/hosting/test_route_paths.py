"""The manifest and the gateway agree on what the path of a route may be."""

from __future__ import annotations

import string

from hypothesis import example, given
from hypothesis import strategies as st

from pulp_runtime.capabilities.transport.gateway_routes import PREFIX_CHARACTERS, GatewayRoute, PrefixTable
from pulp_runtime.errors import GatewayError
from pulp_runtime.manifest.host import ROUTE_CHARACTERS, _explain_path

ALPHABET = string.printable + "é\u2028%.//..\\"


def gateway_takes(path: str) -> bool:
    try:
        PrefixTable([GatewayRoute(path, "a", "b")], lambda _route: None)
    except GatewayError:
        return False
    return True


@given(st.text(ALPHABET, max_size=12).map(lambda text: f"/{text}"))
@example("")
@example("/")
@example("//")
@example("/a/")
@example("/.")
@example("/...")
@example("/a" * (ROUTE_CHARACTERS // 2))
@example("/a" * (ROUTE_CHARACTERS // 2) + "a")
def test_the_manifest_takes_the_paths_that_the_gateway_takes_and_no_others(path: str) -> None:
    assert (not _explain_path(path)) == gateway_takes(path)
    assert ROUTE_CHARACTERS == PREFIX_CHARACTERS
