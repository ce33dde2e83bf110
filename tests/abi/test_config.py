from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulp_runtime.abi.codec import MAX_NESTING
from pulp_runtime.abi.config import EncodeError, encode_config

INT64 = st.integers(-(1 << 63), (1 << 63) - 1)
SCALARS = st.text() | INT64 | st.floats(allow_nan=False) | st.booleans()
KEYS = st.text(max_size=8)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(KEYS, inner),
    max_leaves=20,
)


@pytest.mark.parametrize("config", [pytest.param(None, id="absent"), pytest.param({}, id="empty")])
def test_no_config_is_no_bytes(config: dict[str, object] | None) -> None:
    assert encode_config(config) == b""


@pytest.mark.slow
@given(st.dictionaries(KEYS, VALUES, min_size=1))
def test_a_config_reads_back_equal(config: dict[str, Any]) -> None:
    assert msgpack.unpackb(encode_config(config)) == config


def test_keys_keep_the_order_in_which_they_were_written() -> None:
    assert encode_config({"b": True, "a": False}).hex() == "82a162c3a161c2"


def test_a_date_time_reads_back_as_the_same_moment() -> None:
    moment = datetime(2026, 5, 1, 12, 30, 15, 250_000, UTC)

    assert msgpack.unpackb(encode_config({"at": moment}), timestamp=3) == {"at": moment}


def nested(levels: int) -> dict[str, object]:
    value: object = True
    for _ in range(levels):
        value = [value]
    return {"x": value}


def test_a_config_may_be_nested_to_the_bound_and_no_further() -> None:
    assert encode_config(nested(MAX_NESTING - 1))
    with pytest.raises(EncodeError, match="nested"):
        encode_config(nested(MAX_NESTING))


@pytest.mark.parametrize(
    ("config", "words"),
    [
        pytest.param({"a": {"b": [1 << 63]}}, r"config\.a\.b\[0\] does not fit", id="an integer past int64"),
        pytest.param({"a": 10**5000}, "does not fit", id="an integer too long to print"),
        pytest.param({"a": None}, r"config\.a is of type NoneType", id="None"),
        pytest.param({"a": {1: 2}}, r"config\.a has the key 1", id="a key that is no string"),
    ],
)
def test_what_a_config_cannot_carry_is_refused_by_name(config: dict[str, object], words: str) -> None:
    with pytest.raises(EncodeError, match=words):
        encode_config(config)
