from __future__ import annotations

import pytest

from pulp_runtime.manifest.limits import Limits


@pytest.mark.parametrize("field", ["memory_pages", "table_elements", "call_seconds", "message_bytes", "mailbox_events"])
@pytest.mark.parametrize("value", [0, -1])
def test_a_limit_must_be_positive(field: str, value: int) -> None:
    with pytest.raises(ValueError, match=rf"limits\.{field} must be positive"):
        Limits(**{field: value})


def test_memory_ends_where_addresses_do() -> None:
    assert Limits(memory_pages=65_536).memory_bytes == 1 << 32
    with pytest.raises(ValueError, match="at most 65536"):
        Limits(memory_pages=65_537)
