from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from pulp_runtime._kernel.cell import Cell
from pulp_runtime.errors import CellTrap, Errno, HostError
from pulp_runtime.ext import U32, U64, CellRef, Guest, StepEvent, host_function

PAGE = 65_536
REST = """
  (memory (export "memory") 1 2)
  (global $allocs (mut i32) (i32.const 0))
  (func (export "pulp_alloc") (param i32) (result i32)
    (global.set $allocs (i32.add (global.get $allocs) (i32.const 1)))
    (i32.const 4096))
  (func (export "allocs") (result i32) (global.get $allocs))
  (func (export "pulp_init") (param i32 i32) (result i32) (i32.const 0))
  (func (export "pulp_shutdown") (result i32) (i32.const 0))
"""
FORWARD = f"""(module
  (import "pulp" "take" (func $take (param i32 i32) (result i32)))
  (import "pulp" "give" (func $give (param i32 i32 i32) (result i32)))
  (import "pulp" "swap" (func $swap (param i32 i32 i32 i32) (result i32)))
  {REST}
  (func (export "pulp_step") (param i32 i32) (result i32) (i32.const 0))
  (func (export "grow") (result i32) (memory.grow (i32.const 1)))
  (func (export "take") (param i32 i32) (result i32) (call $take (local.get 0) (local.get 1)))
  (func (export "give") (param i32 i32 i32) (result i32) (call $give (local.get 0) (local.get 1) (local.get 2)))
  (func (export "swap") (param i32 i32 i32 i32) (result i32)
    (call $swap (local.get 0) (local.get 1) (local.get 2) (local.get 3))))"""
RAISING = f"""(module
  (import "pulp" "fail" (func $fail (result i32)))
  {REST}
  (func (export "pulp_step") (param i32 i32) (result i32) (call $fail)))"""


class Shapes:
    """A function that reads, one that delivers, one that does both."""

    def __init__(self) -> None:
        self.took: list[bytes] = []

    @host_function
    def take(self, cell: CellRef, data: bytes) -> None:
        self.took.append(data)

    @host_function
    def give(self, cell: CellRef, size: U32) -> bytes:
        return b"\xaa" * size

    @host_function
    def swap(self, cell: CellRef, data: bytes) -> bytes:
        return data[::-1]


class Fails:
    """A function that raises what it was given: one exception, or a new one of that type each time."""

    def __init__(self, error: BaseException | type[BaseException]) -> None:
        self.error = error

    @host_function
    def fail(self, cell: CellRef) -> U32:
        raise self.error


@pytest.fixture
def shapes() -> Shapes:
    return Shapes()


@pytest.fixture
def forward(start: Callable[..., Cell], shapes: Shapes) -> Cell:
    return start(FORWARD, shapes)


# What a guest may claim -------------------------------------------------------------------------------------------

OUTSIDE = [
    pytest.param(PAGE, 1, id="starts past the end"),
    pytest.param(PAGE + 1, 0, id="is empty and lies past the end"),
    pytest.param(PAGE - 1, 2, id="runs one byte past the end"),
    pytest.param(0, PAGE + 1, id="is one byte longer than memory"),
    pytest.param(0, 0xFFFF_FFFF, id="is four gigabytes long"),
    pytest.param(0xFFFF_FFFF, 0, id="is empty and lies at the last address of all"),
    pytest.param(0xFFFF_FFFF, 1, id="is the last address of all"),
    pytest.param(0xFFFF_FFFF, 0xFFFF_FFFF, id="is minus one twice"),
    pytest.param(0xFFFF_FFFC, 8, id="wraps around to the beginning"),
    pytest.param(0x8000_0000, 0x8000_0000, id="ends exactly at 2**32, which is 0"),
    pytest.param(4, 0xFFFF_FFFC, id="has an end that is 0 in 32 bits"),
]
INSIDE = [
    pytest.param(0, 0, id="is empty"),
    pytest.param(PAGE, 0, id="is empty, at the very end"),
    pytest.param(PAGE - 1, 1, id="is the last byte"),
    pytest.param(0, PAGE, id="is all of memory"),
    pytest.param(3, 5, id="is not aligned"),
]


@pytest.mark.parametrize(("address", "length"), OUTSIDE)
def test_threat_16_bytes_outside_memory_are_a_fault(
    forward: Cell, poke: Callable[..., int], shapes: Shapes, address: int, length: int
) -> None:
    assert poke(forward, "take", address, length) == Errno.FAULT
    assert shapes.took == []


@pytest.mark.parametrize(("address", "length"), INSIDE)
def test_threat_16_bytes_inside_memory_are_read(
    forward: Cell, poke: Callable[..., int], shapes: Shapes, address: int, length: int
) -> None:
    assert poke(forward, "take", address, length) == 0
    assert shapes.took == [bytes(length)]


@pytest.mark.parametrize(
    ("address_out", "length_out"),
    [
        pytest.param(PAGE, 16, id="the address' place starts past the end"),
        pytest.param(PAGE - 3, 16, id="the address' place runs one byte past the end"),
        pytest.param(0xFFFF_FFFF, 16, id="the address' place is the last of all"),
        pytest.param(0xFFFF_FFFC, 16, id="the address' place ends at 2**32"),
        pytest.param(16, PAGE, id="the length's place starts past the end"),
        pytest.param(16, PAGE - 3, id="the length's place runs one byte past the end"),
        pytest.param(16, 0xFFFF_FFFF, id="the length's place is the last of all"),
        pytest.param(0xFFFF_FFFF, 0xFFFF_FFFF, id="both are the last of all"),
    ],
)
@pytest.mark.parametrize("size", [0, 5])
def test_threat_16_a_result_without_a_place_is_a_write_error(
    forward: Cell, poke: Callable[..., int], address_out: int, length_out: int, size: int
) -> None:
    assert poke(forward, "give", size, address_out, length_out) == Errno.WRITE


@pytest.mark.parametrize(
    ("address_out", "length_out"),
    [
        pytest.param(17, 23, id="that are not aligned"),
        pytest.param(PAGE - 8, PAGE - 4, id="at the very end"),
        pytest.param(4096, 4100, id="inside the buffer itself"),
    ],
)
def test_threat_16_a_result_is_written_to_places(
    forward: Cell, poke: Callable[..., int], address_out: int, length_out: int
) -> None:
    memory = forward._instance

    assert poke(forward, "give", 12, address_out, length_out) == 0
    assert memory.read(address_out, 4) == (4096).to_bytes(4, "little")
    assert memory.read(length_out, 4) == (12).to_bytes(4, "little")
    assert memory.read(4096 + 8, 4) == b"\xaa" * 4


def test_threat_16_places_that_overlap_get_the_address_first_and_the_length_over_it(
    forward: Cell, poke: Callable[..., int]
) -> None:
    assert poke(forward, "give", 12, 16, 16) == 0
    assert forward._instance.read(16, 4) == (12).to_bytes(4, "little")


def test_threat_16_input_that_overlaps_its_own_result_is_read_before_it_is_written(
    forward: Cell, poke: Callable[..., int]
) -> None:
    forward._instance.write(4094, b"abcdef")

    assert poke(forward, "swap", 4094, 6, 4095, 4099) == 0
    assert forward._instance.read(4095, 4) == (4096).to_bytes(4, "little")


def test_an_empty_result_is_address_0_and_no_allocation(forward: Cell, poke: Callable[..., int]) -> None:
    forward._instance.write(16, b"\xff" * 8)

    assert poke(forward, "give", 0, 16, 20) == 0
    assert forward._instance.read(16, 8) == bytes(8)
    assert poke(forward, "allocs") == 0


def test_threat_17_memory_that_grew_is_seen_at_its_new_size(
    forward: Cell, poke: Callable[..., int], shapes: Shapes
) -> None:
    assert poke(forward, "take", PAGE, 4) == Errno.FAULT
    assert poke(forward, "grow") == 1
    assert poke(forward, "take", PAGE, 4) == 0
    assert poke(forward, "take", 2 * PAGE, 1) == Errno.FAULT


def test_a_64_bit_number_crosses_as_two_words(start: Callable[..., Cell], poke: Callable[..., int]) -> None:
    got: list[int] = []

    class Wide:
        @host_function
        def wide(self, cell: CellRef, number: U64) -> None:
            got.append(number)

    cell = start(
        f"""(module (import "pulp" "wide" (func $wide (param i32 i32) (result i32))) {REST}
        (func (export "pulp_step") (param i32 i32) (result i32) (i32.const 0))
        (func (export "go") (result i32) (call $wide (i32.const 1) (i32.const -2))))""",
        Wide(),
    )

    assert poke(cell, "go") == 0
    assert got == [0xFFFF_FFFE_0000_0001]


# What a host function may raise -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code"),
    [
        pytest.param(HostError(Errno.NOT_FOUND, "key"), 6, id="an answer is its code"),
        pytest.param(HostError(2**31 - 1), 2**31 - 1, id="an answer may be any number"),
        pytest.param(HostError(-1), -1, id="a negative answer is taken as 32 bits"),
        pytest.param(HostError(2**40 + 5), 5, id="a larger answer is cut to 32 bits"),
        pytest.param(ValueError("a bug"), 99, id="a bug is 99"),
        pytest.param(MemoryError(), 99, id="no memory is 99"),
        pytest.param(RecursionError(), 99, id="too deep is 99"),
        pytest.param(StopIteration(), 99, id="a stray StopIteration is 99"),
        pytest.param(CellTrap("guest", "not really"), 99, id="an error of ours is 99"),
    ],
)
def test_what_a_host_function_raises_is_a_code(
    start: Callable[..., Cell], event: StepEvent, error: Exception, code: int
) -> None:
    cell = start(RAISING, Fails(error))

    assert cell.deliver(0, event) == code
    assert cell.spent == ""


def test_a_bug_is_logged_with_its_function_and_its_stack(start: Callable[..., Cell], event: StepEvent, records) -> None:
    start(RAISING, Fails(ValueError("a bug"))).deliver(0, event)

    (record,) = [record for record in records.all if record.getMessage() == "host function failed"]
    assert record.fields == {"cell": "guest", "function": "fail", "error": "ValueError('a bug')"}
    assert record.exc_info[2] is not None


def test_an_answer_is_not_logged(start: Callable[..., Cell], event: StepEvent, records) -> None:
    start(RAISING, Fails(HostError(Errno.NOT_FOUND))).deliver(0, event)

    assert "host function failed" not in records.messages


def test_a_host_function_that_answers_no_number_is_a_bug(start: Callable[..., Cell], poke: Callable[..., int]) -> None:
    from pulp_runtime.ext import Capability

    odd = Capability(name="test.odd", register=lambda linker, _cell: linker.define("fail", 0, lambda _guest: None))
    cell = start(RAISING, odd)

    assert poke(cell, "pulp_step", 0, 0) == 99


def test_a_broken_log_does_not_reach_the_guest(
    start: Callable[..., Cell], event: StepEvent, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = start(RAISING, Fails(ValueError("a bug")))
    monkeypatch.setattr(cell._instance._imports, "failed", lambda _name, _error: 1 / 0)

    assert cell.deliver(0, event) == 99


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_what_must_not_be_swallowed_is_raised_when_the_call_has_returned(
    start: Callable[..., Cell], event: StepEvent, stop: type[BaseException]
) -> None:
    cell = start(RAISING, Fails(stop()))

    with pytest.raises(stop):
        cell.deliver(0, event)

    cell._instance._imports.pending = None
    assert cell.spent == ""


def test_what_must_not_be_swallowed_is_raised_also_when_the_guest_traps_on_it(
    start: Callable[..., Cell], event: StepEvent
) -> None:
    cell = start(RAISING.replace("(call $fail)", "(drop (call $fail)) unreachable"), Fails(KeyboardInterrupt()))

    with pytest.raises(KeyboardInterrupt):
        cell.deliver(0, event)

    assert "unreachable" in cell.spent


def in_thread(body: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=body)
    thread.start()
    return thread


def test_an_exception_of_one_threads_host_function_never_surfaces_in_another(
    start: Callable[..., Cell], event: StepEvent
) -> None:
    raising, sound = start(RAISING, Fails(ValueError)), start("minimal")
    done = threading.Event()
    answers: set[int] = set()
    surfaced: list[BaseException] = []

    def raise_often() -> None:
        for number in range(10_000):
            answers.add(raising.deliver(number, event))
        done.set()

    def step_on() -> None:
        try:
            number = 0
            while not done.is_set():
                sound.deliver(number, event)
                number += 1
        except BaseException as error:  # noqa: BLE001  # whatever it is, it is not this thread's
            surfaced.append(error)

    for thread in [in_thread(raise_often), in_thread(step_on)]:
        thread.join()
    assert answers == {99}
    assert surfaced == []


def test_an_interrupt_in_a_host_function_surfaces_in_its_own_thread_only(
    start: Callable[..., Cell], event: StepEvent
) -> None:
    meet = threading.Barrier(2)
    surfaced: dict[str, list[str]] = {"interrupted": [], "other": []}

    class Meets:
        def __init__(self, error: BaseException) -> None:
            self.error = error

        @host_function
        def fail(self, cell: CellRef) -> U32:
            meet.wait()  # both threads are inside a guest now
            if self.error is not None:
                raise self.error
            meet.wait()
            return 0

    interrupted = start(RAISING, Meets(KeyboardInterrupt()), name="interrupted")
    other = start(RAISING, Meets(None), name="other")

    def step(cell: Cell) -> None:
        try:
            cell.deliver(0, event)
        except BaseException as error:  # noqa: BLE001  # so is KeyboardInterrupt
            surfaced[cell.name].append(type(error).__name__)
        if cell is interrupted:
            meet.wait()  # only then may the other guest return

    for thread in [in_thread(lambda: step(interrupted)), in_thread(lambda: step(other))]:
        thread.join()

    assert surfaced == {"interrupted": ["KeyboardInterrupt"], "other": []}


def test_a_guest_may_keep_the_memory_it_was_given_and_the_host_sees_what_it_writes(
    start: Callable[..., Cell], event: StepEvent
) -> None:
    seen: list[bytes] = []

    class Look:
        @host_function
        def fail(self, guest: Guest) -> U32:
            seen.append(guest.read(4096, 8))
            guest.write(4096, b"written!")
            seen.append(guest.read(4096, 8))
            return 0

    start(RAISING, Look()).deliver(0x0102, event)

    assert seen == [(0x0102).to_bytes(8, "little"), b"written!"]
