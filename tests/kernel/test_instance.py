from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable

import pytest

from pulp_runtime._kernel.cell import Cell
from pulp_runtime._kernel.engine import Engine
from pulp_runtime._kernel.instance import Instance
from pulp_runtime.errors import (
    CallFailed,
    CellClosed,
    CellError,
    CellExit,
    CellTimeout,
    CellTrap,
    Errno,
)
from pulp_runtime.ext import U32, CellRef, Guest, StepEvent, host_function

GENEROUS_SECONDS = 5.0
LIMIT_MS = 100


class Http:
    """What the guests that speak http import."""

    def __init__(self) -> None:
        self.registered: list[bytes] = []

    @host_function
    def http_register(self, cell: CellRef, route: bytes) -> None:
        self.registered.append(route)

    @host_function
    def http_respond(self, cell: CellRef, answer: bytes) -> None:
        pass


# Starting ---------------------------------------------------------------------------------------------------------


def test_of_both_start_functions_only_initialize_is_run_and_once(
    start: Callable[..., Cell], poke: Callable[..., int]
) -> None:
    cell = start("both_starts")

    assert (poke(cell, "probe_initialized"), poke(cell, "probe_started")) == (1, 0)


def test_without_initialize_start_is_run_once(start: Callable[..., Cell], poke: Callable[..., int]) -> None:
    cell = start("start_only")

    assert (poke(cell, "probe_initialized"), poke(cell, "probe_started")) == (0, 1)


def test_an_exit_in_the_start_function_fails_the_load(load: Callable[..., Cell]) -> None:
    with pytest.raises(CellExit, match=r"_initialize: module closed with exit_code\(3\)") as caught:
        load("exit_start")

    assert caught.value.status == 3


def test_an_exit_with_0_in_the_start_function_fails_the_load_too(load: Callable[..., Cell]) -> None:
    with pytest.raises(CellExit, match=r"module closed with exit_code\(0\)") as caught:
        load("exit_zero_start")

    assert caught.value.status == 0


def test_a_trap_in_the_start_section_fails_the_load(load: Callable[..., Cell]) -> None:
    with pytest.raises(CellTrap, match=r"instantiate wasm: .*unreachable"):
        load("""(module (memory (export "memory") 1) (func $bad unreachable) (start $bad)
          (func (export "pulp_alloc") (param i32) (result i32) (i32.const 8))
          (func (export "pulp_init") (param i32 i32) (result i32) (i32.const 0))
          (func (export "pulp_step") (param i32 i32) (result i32) (i32.const 0))
          (func (export "pulp_shutdown") (result i32) (i32.const 0)))""")


def test_threat_21_a_host_function_works_before_init(load: Callable[..., Cell], poke: Callable[..., int]) -> None:
    http = Http()
    cell = load("http_early", http)

    assert poke(cell, "probe_code") == 0
    assert http.registered == [b"\x82\xa6method\xa3GET\xa4path\xa2/x"]


FROM_EVERYWHERE = """(module
  (import "pulp" "ask" (func $ask (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 64) "hello")
  (global $heap (mut i32) (i32.const 1024))
  (func (export "pulp_alloc") (param i32) (result i32)
    (global.set $heap (i32.add (global.get $heap) (local.get 0)))
    (i32.sub (global.get $heap) (local.get 0)))
  (func $go (result i32) (call $ask (i32.const 64) (i32.const 5) (i32.const 16) (i32.const 20)))
  {start}
  (func (export "_initialize") (i32.store (i32.const 0) (call $go)))
  (func (export "pulp_init") (param i32 i32) (result i32) (call $go))
  (func (export "pulp_step") (param i32 i32) (result i32) (call $go))
  (func (export "pulp_shutdown") (result i32) (call $go))
  (func (export "early") (result i32) (i32.load (i32.const 0)))
  (func (export "very_early") (result i32) (i32.load (i32.const 4)))
  (func (export "answer") (result i32) (i32.load (i32.const 16)))
  (func (export "length") (result i32) (i32.load (i32.const 20))))"""


class Ask:
    def __init__(self) -> None:
        self.heard: list[bytes] = []

    @host_function
    def ask(self, cell: CellRef, question: bytes) -> bytes:
        self.heard.append(question)
        return question[::-1]


def test_threat_21_a_result_is_delivered_in_every_phase(
    start: Callable[..., Cell], poke: Callable[..., int], event: StepEvent
) -> None:
    owner = Ask()
    cell = start(FROM_EVERYWHERE.replace("{start}", ""), owner)

    assert poke(cell, "early") == 0
    assert cell.deliver(0, event) == 0
    cell.shutdown()
    assert owner.heard == [b"hello"] * 4
    assert cell._instance.read(poke(cell, "answer"), poke(cell, "length")) == b"olleh"


def test_threat_21_in_the_start_section_there_is_no_memory_yet_and_host_functions_answer_a_code(
    load: Callable[..., Cell], poke: Callable[..., int]
) -> None:
    owner = Ask()
    cell = load(
        FROM_EVERYWHERE.replace("{start}", "(func $early (i32.store (i32.const 4) (call $go))) (start $early)"), owner
    )

    assert poke(cell, "very_early") == Errno.FAULT
    assert poke(cell, "early") == 0


# The allocator ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("guest", "reason"),
    [
        pytest.param("alloc_zero", "pulp_alloc returned 0", id="answers 0"),
        pytest.param("alloc_outside", "outside its memory", id="points just past the end"),
        pytest.param("alloc_negative", "outside its memory", id="points at the last addresses of all"),
        pytest.param("alloc_straddles", "outside its memory", id="points at too little room"),
    ],
)
@pytest.mark.parametrize("entry", ["init", "step", "steps", "idle"])
def test_threat_17_a_bad_allocator_is_named_and_the_guest_does_not_run(
    load: Callable[..., Cell], guest: str, reason: str, entry: str, event: StepEvent
) -> None:
    cell = load(guest)

    with pytest.raises(CallFailed, match=reason):
        enter(cell, entry, event)

    assert cell.spent == ""


def enter(cell: Cell, entry: str, event: StepEvent) -> None:
    """Go into a guest by one of its doors."""
    if entry == "init":
        cell.init(b"a config of more than eight bytes")
    elif entry == "step":
        cell.deliver(0, event)
    elif entry == "steps":
        _made, error = cell.steps(0, [event, event])
        if error is not None:
            raise error
    elif entry == "idle":
        cell.idle(0)
    elif entry == "call":
        cell.call("echo.reverse", b"args")
    elif entry == "shutdown":
        cell.shutdown()


def test_threat_17_memory_that_grows_in_the_allocator_is_written_where_it_is_now(
    start: Callable[..., Cell], event: StepEvent
) -> None:
    cell = start("alloc_grows", config=b"x" * 100_000)

    for number in (5, 6, 7):
        cell.deliver(number, event)
        assert cell.probe_last_call() == number
    assert cell.steps(8, [event] * 3) == (3, None)
    assert cell.probe_last_call() == 10


REENTRANT = """(module
  (import "pulp" "ask" (func $ask (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (global $allocs (mut i32) (i32.const 0))
  (func (export "pulp_alloc") (param $size i32) (result i32)
    (global.set $allocs (i32.add (global.get $allocs) (i32.const 1)))
    {alloc})
  (func (export "pulp_init") (param i32 i32) (result i32) (i32.const 0))
  (func (export "pulp_step") (param i32 i32) (result i32)
    (i32.store (i32.const 0) (call $ask (i32.const 64) (i32.const 5) (i32.const 16) (i32.const 20)))
    (i32.const 0))
  (func (export "pulp_shutdown") (result i32) (i32.const 0))
  (func (export "code") (result i32) (i32.load (i32.const 0)))
  (func (export "allocs") (result i32) (global.get $allocs))
  (func (export "answer") (result i32) (i32.load (i32.const 16))))"""


@pytest.mark.parametrize("entry", ["step", "steps"])
def test_threat_17_the_allocator_may_be_reentered_and_may_grow_memory_while_the_host_hands_over(
    start: Callable[..., Cell], poke: Callable[..., int], event: StepEvent, entry: str
) -> None:
    grows = "(i32.shl (memory.grow (i32.const 1)) (i32.const 16))"
    cell = start(REENTRANT.replace("{alloc}", grows), Ask())

    enter(cell, entry, event)

    assert poke(cell, "code") == 0
    assert poke(cell, "allocs") == (2 if entry == "step" else 4)
    assert cell._instance.read(poke(cell, "answer"), 5) == bytes(5)


def test_threat_17_an_allocator_that_itself_asks_for_something_is_refused_when_it_is_too_deep(
    start: Callable[..., Cell], poke: Callable[..., int], event: StepEvent
) -> None:
    asks = "(drop (call $ask (i32.const 64) (i32.const 5) (i32.const 16) (i32.const 20))) (i32.const 512)"
    cell = start(REENTRANT.replace("{alloc}", asks), Ask())

    cell.deliver(0, event)

    assert poke(cell, "allocs") == 1 + 8 + 8  # the host's own and eight deep, then eight deep from the step
    assert poke(cell, "code") == 0


@pytest.mark.parametrize(
    ("alloc", "error"),
    [
        pytest.param("unreachable", CellTrap, id="traps"),
        pytest.param("(loop $l (br $l)) (i32.const 0)", CellTimeout, id="never returns"),
    ],
)
@pytest.mark.parametrize("entry", ["step", "steps"])
def test_threat_17_an_allocator_that_fails_inside_a_host_function_fails_that_step_and_not_the_next(
    start: Callable[..., Cell], event: StepEvent, alloc: str, error: type[CellError], entry: str
) -> None:
    second = f"(if (i32.and (global.get $allocs) (i32.const 1)) (then (return (i32.const 1024)))) {alloc}"
    cell = start(REENTRANT.replace("{alloc}", second), Ask(), call_timeout_ms=LIMIT_MS)

    with pytest.raises(error):
        enter(cell, entry, event)

    assert cell.spent


@pytest.mark.parametrize(
    ("alloc", "code"),
    [
        pytest.param("(i32.const 0)", Errno.ALLOC, id="answers 0"),
        pytest.param("(i32.const -3)", Errno.WRITE, id="points outside memory"),
        pytest.param("(i32.const 65533)", Errno.WRITE, id="points at too little room"),
    ],
)
def test_threat_17_what_a_bad_allocator_is_told_when_a_result_is_delivered(
    start: Callable[..., Cell], poke: Callable[..., int], alloc: str, code: int, event: StepEvent
) -> None:
    second = f"(if (i32.and (global.get $allocs) (i32.const 1)) (then (return (i32.const 1024)))) {alloc}"
    cell = start(REENTRANT.replace("{alloc}", second), Ask())

    cell.deliver(0, event)

    assert poke(cell, "code") == code


# Deadlines --------------------------------------------------------------------------------------------------------

SPINS = [
    pytest.param("spin_init", "init", id="in init"),
    pytest.param("spin_step", "step", id="in a step"),
    pytest.param("spin_step", "steps", id="in a batch of steps"),
    pytest.param("spin_step_idle", "idle", id="in an idle step"),
    pytest.param("spin_alloc", "step", id="in the allocator"),
    pytest.param("spin_alloc", "steps", id="in the allocator, in a batch"),
    pytest.param("spin_alloc", "idle", id="in the allocator, in an idle step"),
    pytest.param("spin_free", "step", id="in free"),
    pytest.param("spin_free", "steps", id="in free, in a batch"),
    pytest.param("spin_shutdown", "shutdown", id="in shutdown"),
    pytest.param("provider_spins", "call", id="in a call"),
]


@pytest.mark.parametrize(("guest", "entry"), SPINS)
def test_threat_22_a_guest_that_never_returns_is_stopped_at_its_deadline(
    load: Callable[..., Cell], guest: str, entry: str, event: StepEvent
) -> None:
    cell = load(guest, call_timeout_ms=LIMIT_MS)
    began = time.monotonic()

    with pytest.raises(CellTimeout, match=r"stopped after 0.1 s, the call's deadline"):
        enter(cell, entry, event)

    assert LIMIT_MS / 2000 < time.monotonic() - began < GENEROUS_SECONDS
    assert "deadline" in cell.spent


@pytest.mark.parametrize("guest", ["spin_start", "spin_initialize"])
def test_threat_22_a_guest_that_never_gets_started_is_stopped_at_its_deadline(
    load: Callable[..., Cell], guest: str
) -> None:
    began = time.monotonic()

    with pytest.raises(CellTimeout):
        load(guest, call_timeout_ms=LIMIT_MS)

    assert time.monotonic() - began < GENEROUS_SECONDS


def test_threat_22_another_cell_keeps_answering_while_one_loops(start: Callable[..., Cell], event: StepEvent) -> None:
    looping, sound = start("spin_step", call_timeout_ms=300), start("minimal")
    ended = threading.Event()
    errors: list[Exception] = []

    def loop() -> None:
        try:
            looping.deliver(0, event)
        except CellTimeout as error:
            errors.append(error)
        ended.set()

    thread = threading.Thread(target=loop)
    thread.start()
    steps = 0
    while not ended.is_set():
        sound.deliver(steps, event)
        steps += 1
    thread.join()

    assert len(errors) == 1
    assert steps > 20
    assert sound.spent == ""


def test_a_deadline_is_for_each_call_not_for_all(engine: Engine, start: Callable[..., Cell], event: StepEvent) -> None:
    cell = start("minimal")

    for number in range(5):
        cell.deliver(number, event)
        engine.ticker.expire()  # as much time passes as one call may take
        cell.idle(number)
        engine.ticker.expire()


def test_halting_the_engine_ends_what_runs_and_nothing_else(
    engine: Engine, start: Callable[..., Cell], event: StepEvent
) -> None:
    inside = threading.Event()

    class Signal:
        @host_function
        def inside(self, cell: CellRef) -> None:
            inside.set()

    looping = start(
        """(module (import "pulp" "inside" (func $inside (result i32))) (memory (export "memory") 1)
          (func (export "pulp_alloc") (param i32) (result i32) (i32.const 8))
          (func (export "pulp_init") (param i32 i32) (result i32) (i32.const 0))
          (func (export "pulp_step") (param i32 i32) (result i32) (drop (call $inside)) (loop $l (br $l)) unreachable)
          (func (export "pulp_shutdown") (result i32) (i32.const 0)))""",
        Signal(),
    )
    errors: list[Exception] = []

    def loop() -> None:
        try:
            looping.deliver(0, event)
        except CellTimeout as error:
            errors.append(error)

    thread = threading.Thread(target=loop)
    thread.start()
    assert inside.wait(GENEROUS_SECONDS)
    engine.halt()
    thread.join(GENEROUS_SECONDS)

    assert len(errors) == 1
    start("minimal").deliver(0, event)


# Storms -----------------------------------------------------------------------------------------------------------


def test_threat_24_recursion_without_end_is_a_trap(start: Callable[..., Cell], event: StepEvent) -> None:
    cell = start("recursion")

    with pytest.raises(CellTrap, match="call stack exhausted"):
        cell.deliver(0, event)


def test_threat_24_recursion_without_end_is_a_trap_on_a_worker_thread_too(
    start: Callable[..., Cell], event: StepEvent
) -> None:
    cell = start("recursion")
    errors: list[Exception] = []

    def step() -> None:
        try:
            cell.steps(0, [event])[1] or errors.append(AssertionError())
            cell.deliver(1, event)
        except CellError as error:
            errors.append(error)

    thread = threading.Thread(target=step)
    thread.start()
    thread.join()

    assert [type(error) for error in errors] == [CellClosed]


def test_threat_25_memory_grows_to_its_ceiling_and_no_further(
    start: Callable[..., Cell], poke: Callable[..., int], event: StepEvent
) -> None:
    cell = start("grow_storm", max_memory_pages=64)

    cell.deliver(0, event)
    assert cell.steps(1, [event]) == (1, None)

    assert poke(cell, "probe_pages") == 64


def test_threat_25_a_table_grows_to_its_ceiling_and_no_further(
    start: Callable[..., Cell], poke: Callable[..., int], event: StepEvent
) -> None:
    cell = start("table_grow")

    cell.deliver(0, event)
    assert cell.steps(1, [event]) == (1, None)

    assert poke(cell, "probe_entries") <= 100_000


def test_threat_27_a_storm_of_traps_leaves_no_instance_behind(load: Callable[..., Cell], event: StepEvent) -> None:
    for number in range(50):
        cell = load("trap_step", name=f"storm{number % 2}")
        with pytest.raises(CellTrap):
            cell.deliver(0, event)
        cell.close()
    del cell
    gc.collect()

    assert not [thing for thing in gc.get_objects() if isinstance(thing, Instance) and not thing.spent]


# Spent ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("guest", "entry", "error"),
    [
        pytest.param("trap_init", "init", CellTrap, id="a trap in init"),
        pytest.param("trap_step", "step", CellTrap, id="a trap in a step"),
        pytest.param("trap_step", "steps", CellTrap, id="a trap in a batch"),
        pytest.param("trap_step_idle", "idle", CellTrap, id="a trap in an idle step"),
        pytest.param("trap_alloc", "step", CellTrap, id="a trap in the allocator"),
        pytest.param("trap_free", "step", CellTrap, id="a trap in free"),
        pytest.param("trap_free", "steps", CellTrap, id="a trap in free, in a batch"),
        pytest.param("trap_shutdown", "shutdown", CellTrap, id="a trap in shutdown"),
        pytest.param("exit_step", "step", CellExit, id="an exit in a step"),
        pytest.param("exit_step", "steps", CellExit, id="an exit in a batch"),
        pytest.param("provider_traps", "call", CellTrap, id="a trap in a call"),
    ],
)
def test_after_a_failure_the_instance_refuses_every_entry(
    load: Callable[..., Cell], guest: str, entry: str, error: type[CellError], event: StepEvent
) -> None:
    cell = load(guest)
    with pytest.raises(error) as caught:
        enter(cell, entry, event)

    assert cell.spent == str(caught.value)
    for door in ("init", "step", "steps", "idle"):
        with pytest.raises(CellClosed, match="instance is spent"):
            enter(cell, door, event)
    cell.shutdown()  # says nothing, does nothing


def test_a_trap_names_its_entry_point_its_reason_and_the_functions_on_the_stack(
    load: Callable[..., Cell], event: StepEvent
) -> None:
    cell = load(
        """(module $guest (memory (export "memory") 1)
          (func (export "pulp_alloc") (param i32) (result i32) (i32.const 8))
          (func (export "pulp_init") (param i32 i32) (result i32) (i32.const 0))
          (func $divide (result i32) (i32.div_s (i32.const 1) (i32.const 0)))
          (func $step (export "pulp_step") (param i32 i32) (result i32) (call $divide))
          (func (export "pulp_shutdown") (result i32) (i32.const 0)))"""
    )

    with pytest.raises(CellTrap, match="pulp_step: wasm trap: integer divide by zero") as caught:
        cell.deliver(0, event)
    assert "divide < step" in str(caught.value)


def test_an_idle_buffer_is_allocated_once_reused_and_never_freed(
    start: Callable[..., Cell], poke: Callable[..., int]
) -> None:
    cell = start("minimal")
    addresses = set()

    for number in range(5):
        cell.idle(number)
        addresses.add(poke(cell, "probe_last_envelope"))

    assert len(addresses) == 1
    assert (poke(cell, "probe_allocs"), poke(cell, "probe_frees"), poke(cell, "probe_live")) == (1, 0, 20)
    assert poke(cell, "probe_last_len") == 20


def test_an_idle_envelope_carries_the_call_number_the_time_and_no_payload(
    start: Callable[..., Cell], poke: Callable[..., int]
) -> None:
    cell = start("minimal")
    before = time.time_ns()

    cell.idle(0x1_0000_0007)

    envelope = cell._instance.read(poke(cell, "probe_last_envelope"), 20)
    assert int.from_bytes(envelope[:8], "little") == 0x1_0000_0007
    assert before <= int.from_bytes(envelope[8:16], "little") <= time.time_ns()
    assert envelope[16:] == bytes(4)


def test_seconds_left_count_down_from_the_calls_deadline(start: Callable[..., Cell], event: StepEvent) -> None:
    left: list[float] = []

    class Left:
        @host_function
        def ask(self, guest: Guest, _question: bytes) -> bytes:
            left.append(guest.seconds_left())
            return b""

    start(FROM_EVERYWHERE.replace("{start}", ""), Left(), call_timeout_ms=1000).deliver(0, event)

    assert all(0 < seconds <= 1.01 for seconds in left)


def test_two_instances_share_nothing(start: Callable[..., Cell], poke: Callable[..., int], event: StepEvent) -> None:
    first, second = start("minimal"), start("minimal", name="second")

    first.deliver(0, event)

    assert (poke(first, "probe_steps"), poke(second, "probe_steps")) == (1, 0)


def test_only_two_variables_of_the_environment_reach_a_guest(
    start: Callable[..., Cell], poke: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "Europe/Oslo")
    monkeypatch.setenv("HTTP_PORT", "8081")
    monkeypatch.setenv("PROJX_AI_KEY", "secret")
    cell = start("""(module
      (import "wasi_snapshot_preview1" "environ_sizes_get" (func $sizes (param i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "environ_get" (func $get (param i32 i32) (result i32)))
      (memory (export "memory") 1)
      (func (export "pulp_alloc") (param i32) (result i32) (i32.const 8))
      (func (export "pulp_init") (param i32 i32) (result i32)
        (i32.or (call $sizes (i32.const 0) (i32.const 4)) (call $get (i32.const 16) (i32.const 1024))))
      (func (export "pulp_step") (param i32 i32) (result i32) (i32.const 0))
      (func (export "pulp_shutdown") (result i32) (i32.const 0))
      (func (export "bytes") (result i32) (i32.load (i32.const 4))))""")

    found = cell._instance.read(1024, poke(cell, "bytes")).split(b"\0")

    assert sorted(found) == [b"", b"HTTP_PORT=8081", b"TZ=Europe/Oslo"]


def test_a_word_that_is_returned_directly_is_all_32_bits(start: Callable[..., Cell], event: StepEvent) -> None:
    class Wide:
        @host_function
        def ask(self, cell: CellRef, question: bytes, _out: U32, _length: U32) -> U32:
            return 0x1_8000_0001

    cell = start(
        FROM_EVERYWHERE.replace("{start}", "").replace(
            '(result i32) (call $go))\n  (func (export "pulp_step',
            '(result i32) (i32.const 0))\n  (func (export "pulp_step',
        ),
        Wide(),
    )

    assert cell.deliver(0, event) == -0x7FFF_FFFF
