from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from pulp_runtime._kernel.cell import Cell
from pulp_runtime._kernel.engine import Engine
from pulp_runtime._kernel.lines import LineLog
from pulp_runtime._kernel.world import world
from pulp_runtime.errors import CellTimeout, Errno, HostError
from pulp_runtime.ext import StepEvent
from pulp_runtime.log import Log
from pulp_runtime.manifest.cell import CellSpec

GENEROUS_SECONDS = 5.0
SUCCESS, EBADF, EFAULT, EINVAL = 0, 8, 21, 28
REST = """
  (func (export "pulp_alloc") (param i32) (result i32) (i32.const 8))
  (func (export "pulp_init") (param i32 i32) (result i32) (i32.const 0))
  (func (export "pulp_step") (param i32 i32) (result i32) (i32.const 0))
  (func (export "pulp_shutdown") (result i32) (i32.const 0)))"""


def wasi(name: str, kind: str, call: str, memory: int = 1) -> str:
    """Return a guest whose `go` calls one function of WASI."""
    return f"""(module (import "wasi_snapshot_preview1" "{name}" (func $call {kind} (result i32)))
      (memory (export "memory") {memory})
      (func (export "go") (result i32) (call $call {call})) {REST}"""


class Memory:
    """Guest memory of one page, and a clock that passes while it sleeps."""

    def __init__(self) -> None:
        self.bytes = bytearray(65_536)
        self.slept: list[float] = []

    def read(self, address: int, length: int) -> bytes:
        if address + length > len(self.bytes):
            raise HostError(Errno.FAULT)
        return bytes(self.bytes[address : address + length])

    def write(self, address: int, data: bytes) -> None:
        if address + len(data) > len(self.bytes):
            raise HostError(Errno.WRITE)
        self.bytes[address : address + len(data)] = data

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    def put(self, address: int, *words: int) -> None:
        self.write(address, b"".join(word.to_bytes(4, "little") for word in words))


@pytest.fixture
def memory() -> Memory:
    return Memory()


@pytest.fixture
def functions(memory: Memory) -> dict[str, Callable[..., int]]:
    lines = LineLog(Log("pulp", cell="guest"))
    return {name: function for name, (_words, function) in world(memory, lines).items()}


# Randomness and clocks --------------------------------------------------------------------------------------------


def test_randomness_differs_between_two_instances_and_is_not_a_known_stream(
    start: Callable[..., Cell], poke: Callable[..., int]
) -> None:
    cells = [start("random", name=f"cell{number}") for number in range(3)]
    streams = {cell._instance.read(1024, 16) for cell in cells}

    assert [poke(cell, "probe_errno") for cell in cells] == [0, 0, 0]
    assert len(streams) == 3
    assert bytes.fromhex("538c7f96b164bf1b") not in {stream[:8] for stream in streams}


def test_the_clocks_are_real(start: Callable[..., Cell], event: StepEvent) -> None:
    before, before_monotonic = time.time_ns(), time.monotonic_ns()
    cell = start("clock")
    first = [int.from_bytes(cell._instance.read(at, 8), "little") for at in (1024, 1032)]
    cell.deliver(0, event)
    second = [int.from_bytes(cell._instance.read(at, 8), "little") for at in (1024, 1032)]

    assert before <= first[0] <= second[0] <= time.time_ns()
    assert 0 <= second[1] - first[1] <= time.monotonic_ns() - before_monotonic


@pytest.mark.parametrize(
    "length", [pytest.param("-1", id="four gigabytes"), pytest.param("65537", id="a byte more than memory")]
)
def test_threat_29_randomness_is_bounded_by_memory(start: Callable[..., Cell], event: StepEvent, length: str) -> None:
    guest = wasi("random_get", "(param i32 i32)", "(i32.const 0) (i32.const 8)")
    step = f'(func (export "pulp_step") (param i32 i32) (result i32) (call $call (i32.const 0) (i32.const {length})))'
    cell = start(guest.replace(REST, REST.replace(REST.splitlines()[3].strip(), step)))

    assert cell.deliver(0, event) == 21  # EFAULT


# Sleep ------------------------------------------------------------------------------------------------------------


def test_threat_29_a_sleep_ends_at_the_deadline(start: Callable[..., Cell], event: StepEvent) -> None:
    cell = start("sleep", call_timeout_ms=100)
    began = time.monotonic()

    with pytest.raises(CellTimeout):
        cell.deliver(0, event)

    assert time.monotonic() - began < GENEROUS_SECONDS


def test_a_sleep_ends_when_the_host_halts_its_guests(
    engine: Engine, start: Callable[..., Cell], event: StepEvent
) -> None:
    cell = start("sleep")
    errors: list[Exception] = []

    def step() -> None:
        try:
            cell.deliver(0, event)
        except CellTimeout as error:
            errors.append(error)

    thread = threading.Thread(target=step)
    thread.start()
    while not engine.ticker.inside:
        threading.Event().wait(0.001)
    engine.halt()
    thread.join(GENEROUS_SECONDS)

    assert not thread.is_alive()
    assert len(errors) == 1


def subscription(*, userdata: int = 1, tag: int = 0, clock: int = 1, timeout: int = 0, flags: int = 0) -> bytes:
    """Return one subscription of 48 bytes; for a descriptor (tag 1 or 2), `clock` is its number."""
    return b"".join(
        number.to_bytes(size, "little")
        for number, size in [(userdata, 8), (tag, 8), (clock, 8), (timeout, 8), (0, 8), (flags, 8)]
    )


def poll(memory: Memory, functions: dict[str, Callable[..., int]], *subscriptions: bytes) -> list[tuple[int, int, int]]:
    """Poll; return (userdata, errno, tag) of each event."""
    memory.write(1024, b"".join(subscriptions))
    assert functions["poll_oneoff"](1024, 32_768, len(subscriptions), 8) == SUCCESS
    count = int.from_bytes(memory.read(8, 4), "little")
    found = [memory.read(32_768 + 32 * at, 32) for at in range(count)]
    return [(int.from_bytes(one[:8], "little"), int.from_bytes(one[8:10], "little"), one[10]) for one in found]


def test_a_sleep_lasts_as_long_as_it_should(memory: Memory, functions) -> None:
    assert poll(memory, functions, subscription(userdata=7, timeout=250_000_000)) == [(7, SUCCESS, 0)]
    assert memory.slept == [0.25]


def test_of_several_clocks_the_first_ends_the_sleep(memory: Memory, functions) -> None:
    later, sooner = subscription(userdata=1, timeout=10**9), subscription(userdata=2, timeout=10**6)

    assert poll(memory, functions, later, sooner) == [(2, SUCCESS, 0)]
    assert memory.slept == [0.001]


@pytest.mark.parametrize("clock", [0, 1], ids=["of the wall", "that only goes forward"])
def test_a_time_that_is_over_does_not_sleep(memory: Memory, functions, clock: int) -> None:
    assert poll(memory, functions, subscription(clock=clock, timeout=1, flags=1)) == [(1, SUCCESS, 0)]
    assert memory.slept == []


def test_threat_29_a_sleep_may_be_as_long_as_a_number_can_say(memory: Memory, functions) -> None:
    poll(memory, functions, subscription(timeout=2**64 - 1))

    assert memory.slept == [pytest.approx(2**64 / 1e9)]


@pytest.mark.parametrize(
    ("descriptor", "errno"), [(0, SUCCESS), (1, SUCCESS), (2, SUCCESS), (3, EBADF), (2**32 - 1, EBADF)]
)
def test_streams_never_make_a_cell_wait(memory: Memory, functions, descriptor: int, errno: int) -> None:
    found = poll(memory, functions, subscription(timeout=10**9), subscription(userdata=9, tag=1, clock=descriptor))

    assert found == [(9, errno, 1)]
    assert memory.slept == []


@pytest.mark.parametrize(
    "count", [pytest.param(0, id="none"), pytest.param(257, id="257"), pytest.param(10**9, id="a thousand million")]
)
def test_threat_29_the_number_of_subscriptions_is_bounded(memory: Memory, functions, count: int) -> None:
    assert functions["poll_oneoff"](1024, 32_768, count, 8) == EINVAL


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param((0xFFFF_FFFF, 0, 1, 8), id="subscriptions"),
        pytest.param((1024, 0xFFFF_FFF0, 1, 8), id="events"),
        pytest.param((1024, 2048, 1, 65_533), id="the place for their number"),
    ],
)
def test_threat_16_polling_outside_memory_is_a_fault(memory: Memory, functions, arguments: tuple[int, ...]) -> None:
    assert functions["poll_oneoff"](*arguments) == EFAULT


# Streams ----------------------------------------------------------------------------------------------------------


def test_standard_input_is_at_its_end(start: Callable[..., Cell], poke: Callable[..., int]) -> None:
    guest = wasi("fd_read", "(param i32 i32 i32 i32)", "(i32.const 0) (i32.const 0) (i32.const 1) (i32.const 16)")
    cell = start(guest)
    cell._instance.write(0, (64).to_bytes(4, "little") + (8).to_bytes(4, "little") + b"\xff" * 16)

    assert poke(cell, "go") == SUCCESS
    assert cell._instance.read(16, 4) == bytes(4)


def test_there_are_no_arguments(start: Callable[..., Cell], poke: Callable[..., int]) -> None:
    cell = start(wasi("args_sizes_get", "(param i32 i32)", "(i32.const 0) (i32.const 4)"))
    cell._instance.write(0, b"\xff" * 8)

    assert poke(cell, "go") == SUCCESS
    assert cell._instance.read(0, 4) == bytes(4)


def test_there_are_no_folders(start: Callable[..., Cell], poke: Callable[..., int]) -> None:
    cell = start(wasi("fd_prestat_get", "(param i32 i32)", "(i32.const 3) (i32.const 0)"))

    assert poke(cell, "go") == EBADF


def test_a_write_gathers_its_pieces_and_says_how_much_it_took(memory: Memory, functions, records) -> None:
    memory.write(100, b"hello ")
    memory.write(200, b"world\n")
    memory.put(16, 100, 6, 200, 6)

    assert functions["fd_write"](1, 16, 2, 8) == SUCCESS
    assert records.messages == ["hello world"]
    assert memory.read(8, 4) == (12).to_bytes(4, "little")


@pytest.mark.parametrize("descriptor", [0, 3, 4, 0xFFFF_FFFF])
def test_only_two_descriptors_can_be_written_to(functions, descriptor: int) -> None:
    assert functions["fd_write"](descriptor, 16, 1, 8) == EBADF


def test_threat_45_one_write_takes_a_mebibyte_at_most(memory: Memory, functions) -> None:
    memory.put(0, *([0, 65_536] * 1000))

    assert functions["fd_write"](1, 0, 1000, 32_768) == SUCCESS
    assert memory.read(32_768, 4) == (1 << 20).to_bytes(4, "little")


def test_a_write_has_1024_pieces_at_most(functions) -> None:
    assert functions["fd_write"](1, 16, 1024, 8) == SUCCESS
    assert functions["fd_write"](1, 16, 1025, 8) == EINVAL
    assert functions["fd_write"](1, 16, 0xFFFF_FFFF, 8) == EINVAL


@pytest.mark.parametrize(
    ("vectors", "pieces", "written_out"),
    [
        pytest.param(65_533, (), 8, id="the table runs out of memory"),
        pytest.param(0xFFFF_FFF8, (), 8, id="the table is at the end of all addresses"),
        pytest.param(16, (65_535, 2), 8, id="a piece runs out of memory"),
        pytest.param(16, (0xFFFF_FFFF, 0xFFFF_FFFF), 8, id="a piece is minus one twice"),
        pytest.param(16, (100, 4), 65_533, id="the place for the number runs out of memory"),
        pytest.param(16, (100, 4), 0xFFFF_FFFF, id="the place for the number is the last of all"),
    ],
)
def test_threat_16_a_write_outside_memory_is_a_fault_and_nothing_is_written(
    memory: Memory, functions, records, vectors: int, pieces: tuple[int, ...], written_out: int
) -> None:
    memory.write(100, b"out\n")
    if pieces:
        memory.put(vectors, *pieces)

    assert functions["fd_write"](1, vectors, 1, written_out) == EFAULT
    assert records.messages == []


def test_a_timer_for_a_moment_of_the_guest_s_own_clock_waits_until_then(
    spec: Callable[..., CellSpec], engine: Engine
) -> None:
    """It reads the monotonic clock, and waits until 50 ms after that."""
    guest = f"""(module
      (import "wasi_snapshot_preview1" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))
      (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
      (memory (export "memory") 1)
      (func (export "pulp_shutdown") (result i32)
        (drop (call $clock (i32.const 1) (i64.const 0) (i32.const 24)))
        (i64.store (i32.const 24) (i64.add (i64.load (i32.const 24)) (i64.const 50_000_000)))
        (i32.store (i32.const 16) (i32.const 1))
        (i32.store16 (i32.const 40) (i32.const 1))
        (call $poll (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128)))
      {REST.replace('(func (export "pulp_shutdown") (result i32) (i32.const 0))', "")}"""
    cell = Cell.load(spec(guest), engine=engine)
    began = time.monotonic()

    cell.shutdown()

    assert 0.045 < time.monotonic() - began < GENEROUS_SECONDS
    cell.close()
