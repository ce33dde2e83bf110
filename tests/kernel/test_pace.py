"""A guest that calls the host again and again, in one long step, lets others have the GIL."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pulp_runtime._kernel import crossing
from pulp_runtime._kernel.cell import Cell
from pulp_runtime.ext import U32, StepEvent, host_function

CALLS = 4 * crossing.PACE_CALLS
BUSY = f"""
(module
  (import "pulp" "busy_call" (func $call (param i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "pulp_alloc") (param i32) (result i32) (i32.const 1024))
  (func (export "pulp_init") (param i32 i32) (result i32) (i32.const 0))
  (func (export "pulp_step") (param i32 i32) (result i32) (local $i i32)
    (loop $next
      (drop (call $call (local.get $i)))
      (br_if $next
        (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const {CALLS}))))
    (i32.const 0))
  (func (export "pulp_shutdown") (result i32) (i32.const 0)))
"""


class Host:
    """Counts calls; from the first on, the guest is as if its step had been long and others had waited."""

    def __init__(self) -> None:
        self.calls = 0
        self.crowded: Callable[[], None] = lambda: None

    @host_function
    def busy_call(self, _number: U32) -> None:
        self.calls += 1
        self.crowded()


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    found: list[float] = []
    monkeypatch.setattr(crossing.time, "sleep", found.append)
    return found


def test_a_long_step_among_others_pauses_every_so_many_calls_and_makes_them_all(
    start: Callable[..., Cell], event: StepEvent, pauses: list[float]
) -> None:
    host = Host()
    cell = start(BUSY, host)
    imports = cell._instance._imports
    host.crowded = lambda: setattr(imports, "paced", True)

    cell.deliver(0, event)

    assert host.calls == CALLS
    assert pauses == [crossing.PACE_SECONDS] * ((CALLS - 1) // crossing.PACE_CALLS)


def test_a_step_that_holds_up_nobody_never_pauses(
    start: Callable[..., Cell], event: StepEvent, pauses: list[float]
) -> None:
    host = Host()
    start(BUSY, host).deliver(0, event)

    assert host.calls == CALLS
    assert pauses == []
