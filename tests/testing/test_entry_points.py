from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from pulp_runtime.errors import CellClosed, CellRefused, CellTimeout, CellTrap
from pulp_runtime.ext import StepEvent
from pulp_runtime.testing import CellUnderTest, Fake, guest

Make = Callable[..., CellUnderTest]

GUESTS = Path(__file__).parents[1] / "guests"
HEARTBEAT = Path(__file__).parents[2] / "examples" / "heartbeat" / "c"

REMEMBERS = """
(module
  (memory (export "memory") 1)
  (func (export "pulp_alloc") (param i32) (result i32) (i32.const 1024))
  (func (export "pulp_init") (param i32 i32) (result i32) (i32.const 0))
  (func (export "pulp_step") (param $at i32) (param $len i32) (result i32)
    (memory.copy (i32.const 0) (local.get $at) (local.get $len))
    (local.get $len))
  (func (export "pulp_shutdown") (result i32) (i32.const 0)))
"""


def test_an_event_is_spliced_into_its_envelope(pulp_cell: Make) -> None:
    cell = pulp_cell(REMEMBERS)

    length = cell.step("test.event", {"n": 1})

    envelope = cell.read(0, length)
    assert msgspec.msgpack.decode(envelope[20:]) == {"kind": "test.event", "payload": {"n": 1}}


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(msgspec.msgpack.encode([1]), id="bytes are messagepack already"),
        pytest.param([1], id="anything else is encoded"),
    ],
)
def test_a_payload_may_be_encoded_or_not(pulp_cell: Make, payload: object) -> None:
    cell = pulp_cell(REMEMBERS)

    assert cell.read(0, cell.step("k", payload))[-2:] == b"\x91\x01"


def test_steps_are_numbered_and_timed_by_the_test(pulp_cell: Make) -> None:
    cell = pulp_cell(REMEMBERS, wall_time_ns=5_000)

    cell.tick()
    assert cell.read(0, 20) == (0).to_bytes(8, "little") + (5_000).to_bytes(8, "little") + bytes(4)
    cell.wall_time_ns += 1
    cell.tick()
    assert cell.read(0, 16) == (1).to_bytes(8, "little") + (5_001).to_bytes(8, "little")
    assert cell.call_number == 2


def test_time_that_passes_shows_in_the_envelope(pulp_cell: Make) -> None:
    cell = pulp_cell(REMEMBERS, wall_time_ns=0)

    cell.advance(2.5)

    assert cell.wall_time_ns == 2_500_000_000


def test_recorded_events_are_replayed_in_order(pulp_cell: Make) -> None:
    cell = pulp_cell(REMEMBERS)

    answers = cell.replay([StepEvent("a", b"\xc0", 1), ("bb", None), StepEvent("ccc", b"", 2)])

    assert answers == [20 + 17, 20 + 18, 20 + 19]


def test_a_provider_is_called_as_a_sibling_would(pulp_cell: Make) -> None:
    cell = pulp_cell(GUESTS / "provider.wat")

    assert cell.call("echo.reverse", b"pulp") == b"plup"
    assert cell.call("echo.reverse", 1) == b"\x01"
    assert (cell.run("probe_allocs"), cell.run("probe_live")) == (8, 0)


def test_a_cell_that_provides_nothing_cannot_be_called(pulp_cell: Make) -> None:
    with pytest.raises(CellClosed, match="pulp_on_call"):
        pulp_cell(REMEMBERS).call("anything")


def test_a_refusal_carries_the_guest_s_words(pulp_cell: Make) -> None:
    with pytest.raises(CellRefused, match="pulp_on_call returned 9: not today"):
        pulp_cell(GUESTS / "provider_refuses.wat").call("anything")


def test_any_export_is_run_with_words(pulp_cell: Make) -> None:
    cell = pulp_cell(HEARTBEAT)
    cell.init()
    cell.wall_time_ns = (1 << 63) + 1
    cell.tick()

    assert cell.run("probe_config_greeted") == 1
    assert cell.run("probe_last_wall") == (1 << 63) + 1
    assert cell.run("pulp_free", 0, 0) == 0


def test_words_are_unsigned_both_ways(pulp_cell: Make) -> None:
    same = Fake("test.same", same=(1, lambda _guest, word: word))
    cell = pulp_cell(guest(same), capabilities=[same])

    assert cell.run("same", -1) == cell.run("same", 0xFFFF_FFFF) == 0xFFFF_FFFF


@pytest.mark.parametrize(
    ("export", "words", "told"),
    [
        pytest.param(
            "probe_nothing", (), "exports no function probe_nothing; it exports pulp_alloc", id="is not there"
        ),
        pytest.param("memory", (), "exports no function memory", id="is not a function"),
        pytest.param("pulp_alloc", (1, 2), r"pulp_alloc is \(i32\) -> i32", id="takes another number of words"),
    ],
)
def test_an_export_cannot_be_run_that(pulp_cell: Make, export: str, words: tuple[int, ...], told: str) -> None:
    with pytest.raises(LookupError, match=told):
        pulp_cell(REMEMBERS).run(export, *words)


@pytest.mark.parametrize(("address", "length"), [(65_535, 2), (65_536, 1), (-1, 1), (0, 65_537)])
def test_memory_is_read_and_written_only_inside(pulp_cell: Make, address: int, length: int) -> None:
    cell = pulp_cell(REMEMBERS)

    with pytest.raises(IndexError):
        cell.read(address, length)
    with pytest.raises(IndexError):
        cell.write(address, bytes(length))
    cell.write(65_535, b"x")
    assert cell.read(65_535, 1) == b"x"
    assert cell.memory_bytes == 65_536


def test_a_trap_is_raised_and_a_restart_makes_the_cell_usable_again(pulp_cell: Make) -> None:
    cell = pulp_cell(GUESTS / "trap_step.wat")
    cell.init()

    with pytest.raises(CellTrap):
        cell.step("test.event")
    with pytest.raises(CellClosed):
        cell.tick()
    cell.restart()

    assert cell.tick() == 0
    assert cell.call_number == 3, "numbers go on"


def test_a_guest_that_does_not_return_is_stopped(pulp_cell: Make) -> None:
    cell = pulp_cell(GUESTS / "spin_step.wat", call_timeout_ms=20)

    with pytest.raises(CellTimeout):
        cell.step("test.event")


def test_a_refused_shutdown_is_raised_by_shutdown_and_by_close(pulp_cell: Make) -> None:
    cell = pulp_cell(GUESTS / "refuse_shutdown.wat")
    cell.init()
    with pytest.raises(CellRefused, match="pulp_shutdown returned 3"):
        cell.shutdown()
    cell.close()
    other = pulp_cell(GUESTS / "refuse_shutdown.wat")
    other.init()

    with pytest.raises(CellRefused, match="pulp_shutdown returned 3"):
        other.close()


def test_a_cell_that_is_closed_answers_nothing_and_may_be_closed_again(pulp_cell: Make) -> None:
    cell = pulp_cell(REMEMBERS)
    cell.close()
    cell.close()

    with pytest.raises(CellClosed):
        cell.tick()
    assert not cell.storage_root.parent.exists()
