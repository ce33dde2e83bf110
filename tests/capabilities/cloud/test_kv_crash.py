"""`kill -9` of a host while a real program writes: what was closed, or committed, is there, and whole.

PULP_CRASH_ROUNDS=200 pytest tests/capabilities/cloud/test_kv_crash.py        the long run
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.capabilities.cloud.kv_guests import LANGUAGES, build

from pulp_runtime.kv.store import Store

ROUNDS = int(os.environ.get("PULP_CRASH_ROUNDS", "6"))
STORM = Path(__file__).with_name("kv_storm.py")


def number_of(value: bytes) -> int:
    """Return the number of a whole value."""
    lines = {value[at : at + 16] for at in range(0, len(value), 16)}
    assert len(lines) == 1, "half of a value, or two"
    return int(lines.pop())


def look(path: Path) -> dict[str, int]:
    """Return the number at each key."""
    store = Store(path, folders=True)
    try:
        found = {one.key.decode(): number_of(store.get(one.key).value) for one in store.page()}  # type: ignore[union-attr]
    finally:
        store.close()
    assert found.get("pair/x") == found.get("pair/y"), "half of a transaction"
    return found


@pytest.mark.slow
@pytest.mark.conformance
@pytest.mark.timeout(120 + 5 * ROUNDS)
@pytest.mark.parametrize("language", LANGUAGES[:1])
def test_a_host_that_is_killed_while_a_program_writes_loses_nothing_it_has_closed(
    tmp_path: Path, language: str
) -> None:
    module = build(language, tmp_path)
    rng = random.Random(20261121)
    path = tmp_path / "data/.pulp-cloud/kv/shop/local.db"
    last, acknowledged = 0, 0
    for _ in range(ROUNDS):
        command = [
            sys.executable,
            str(STORM),
            str(module),
            str(tmp_path / "data"),
            str(tmp_path / "cache"),
            str(last + 1),
        ]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as host:
            assert host.stdout is not None
            said = [host.stdout.readline()]
            time.sleep(rng.uniform(0.01, 0.4))
            host.kill()
            said += host.stdout.read().splitlines()[:-1]  # of the last line there may be half
        at_least: dict[str, int] = {}
        for line in said:
            kind, key, number = line.split()
            assert kind in ("key", "pair")
            names = [f"key/{key}"] if kind == "key" else ["pair/x", "pair/y"]
            at_least |= dict.fromkeys(names, int(number))
        found = look(path)
        assert {name: found[name] >= number for name, number in at_least.items()} == dict.fromkeys(at_least, True)
        last = max(last, *found.values())
        acknowledged += len(said)
    assert acknowledged > 20 * ROUNDS
