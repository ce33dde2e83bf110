from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from pulp_runtime._kernel.cell import Cell
from pulp_runtime._kernel.engine import Engine
from pulp_runtime._kernel.registry import Registry
from pulp_runtime.abi.envelope import encode_step
from pulp_runtime.errors import (
    CallFailed,
    CellClosed,
    CellRefused,
    CellTimeout,
    LoadError,
    MessageTooLarge,
)
from pulp_runtime.ext import Capability, CellRef, StepEvent, host_function
from pulp_runtime.manifest.cell import CellSpec
from pulp_runtime.manifest.limits import DEFAULT_MAX_MESSAGE_BYTES

GENEROUS_SECONDS = 5.0
MINIMAL = """
  (memory (export "memory") 1)
  (func (export "pulp_alloc") (param i32) (result i32) (i32.const 1024))
  (func (export "pulp_step") (param i32 i32) (result i32) (i32.const 0))
"""

# Loading ----------------------------------------------------------------------------------------------------------


def test_a_module_that_is_not_there_is_named_with_what_to_do(spec: Callable[..., CellSpec], engine: Engine) -> None:
    missing = spec("minimal")
    missing.wasm_path.unlink()

    with pytest.raises(LoadError) as caught:
        Cell.load(missing, engine=engine)

    assert str(caught.value) == (
        f"read wasm: {missing.wasm_path}: No such file or directory; build the module, or set wasm in pulp.cell.toml"
    )


def test_a_folder_is_not_a_module(spec: Callable[..., CellSpec], engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=r"read wasm: .*Is a directory"):
        Cell.load(spec("minimal", wasm_path=tmp_path), engine=engine)


def test_threat_42_a_module_with_another_digest_is_refused(
    spec: Callable[..., CellSpec], engine: Engine, wasm: Callable[[str], bytes]
) -> None:
    wanted = "0" * 64
    found = hashlib.sha256(wasm("minimal")).hexdigest()

    with pytest.raises(LoadError) as caught:
        Cell.load(spec("minimal", wasm_sha256=wanted), engine=engine)

    assert f"has {found}, pulp.cell.toml wants {wanted}" in str(caught.value)


def test_a_module_with_its_digest_is_loaded(load: Callable[..., Cell], wasm: Callable[[str], bytes]) -> None:
    load("minimal", wasm_sha256=hashlib.sha256(wasm("minimal")).hexdigest())


# Init -------------------------------------------------------------------------------------------------------------


def test_init_gets_its_config_and_the_buffer_is_freed(start: Callable[..., Cell], poke: Callable[..., int]) -> None:
    cell = start("minimal", config=b"config bytes")
    address, length = poke(cell, "probe_config"), poke(cell, "probe_config_len")

    assert cell._instance.read(address, length) == b"config bytes"
    assert (poke(cell, "probe_allocs"), poke(cell, "probe_frees"), poke(cell, "probe_live")) == (1, 1, 0)


def test_init_without_config_gets_address_0_and_nothing_is_allocated(
    start: Callable[..., Cell], poke: Callable[..., int]
) -> None:
    cell = start("minimal")

    assert (poke(cell, "probe_config"), poke(cell, "probe_config_len")) == (0, 0)
    assert (poke(cell, "probe_allocs"), poke(cell, "probe_frees")) == (0, 0)


def test_the_config_may_be_longer_than_a_message(start: Callable[..., Cell], poke: Callable[..., int]) -> None:
    cell = start("minimal", config=bytes(DEFAULT_MAX_MESSAGE_BYTES + 1))

    assert poke(cell, "probe_config_len") == DEFAULT_MAX_MESSAGE_BYTES + 1


@pytest.mark.parametrize(
    ("guest", "message"),
    [
        pytest.param("refuse_init", "pulp_init returned 7: no such table: players", id="with its own words"),
        pytest.param("refuse_init_silently", "pulp_init returned -1", id="without words, signed"),
        pytest.param("refuse_init_far_text", "pulp_init returned 7", id="with words outside its memory"),
    ],
)
def test_a_cell_that_refuses_its_init_is_quoted(load: Callable[..., Cell], guest: str, message: str) -> None:
    with pytest.raises(CellRefused) as caught:
        load(guest).init()

    assert str(caught.value) == message


@pytest.mark.parametrize(
    "exports",
    [
        pytest.param('(func (export "pulp_init_error_ptr") (result i32) (i32.const 8))', id="no length"),
        pytest.param('(func (export "pulp_init_error_len") (result i32) (i32.const 8))', id="no address"),
        pytest.param("ptr:(i32.const 0) len:(i32.const 8)", id="address 0"),
        pytest.param("ptr:(i32.const 8) len:(i32.const 0)", id="length 0"),
        pytest.param("ptr:(i32.const 8) len:(i32.const 4097)", id="a byte more than 4096"),
        pytest.param("ptr:(i32.const 8) len:(i32.const -1)", id="length minus one"),
        pytest.param("ptr:(i32.const 65535) len:(i32.const 2)", id="a range that leaves memory"),
        pytest.param("ptr:unreachable len:(i32.const 2)", id="a trap for an address"),
        pytest.param("ptr:(i32.const 8) len:unreachable", id="a trap for a length"),
        pytest.param("ptr:(loop $l (br $l)) unreachable len:(i32.const 2)", id="no end for an address"),
    ],
)
def test_an_irregular_explanation_is_no_explanation(load: Callable[..., Cell], exports: str) -> None:
    if exports.startswith("ptr:"):
        pointer, _, length = exports.removeprefix("ptr:").partition(" len:")
        exports = f"""(func (export "pulp_init_error_ptr") (result i32) {pointer})
          (func (export "pulp_init_error_len") (result i32) {length})"""
    cell = load(
        f"""(module {MINIMAL} (data (i32.const 8) "explanation") {exports}
          (func (export "pulp_init") (param i32 i32) (result i32) (i32.const 7))
          (func (export "pulp_shutdown") (result i32) (i32.const 0)))""",
        call_timeout_ms=100,
    )

    with pytest.raises(CellRefused) as caught:
        cell.init()

    assert (caught.value.code, caught.value.diagnostic) == (7, "")


@pytest.mark.parametrize("length", [1, 4096])
def test_an_explanation_may_have_up_to_4096_bytes(load: Callable[..., Cell], length: int) -> None:
    cell = load(
        f"""(module {MINIMAL} (data (i32.const 8) "{"x" * 4096}")
          (func (export "pulp_init_error_ptr") (result i32) (i32.const 8))
          (func (export "pulp_init_error_len") (result i32) (i32.const {length}))
          (func (export "pulp_init") (param i32 i32) (result i32) (i32.const 7))
          (func (export "pulp_shutdown") (result i32) (i32.const 0)))"""
    )

    with pytest.raises(CellRefused) as caught:
        cell.init()

    assert caught.value.diagnostic == "x" * length


# Steps ------------------------------------------------------------------------------------------------------------


def test_an_event_is_one_allocation_and_one_free(
    start: Callable[..., Cell], poke: Callable[..., int], event: StepEvent
) -> None:
    cell = start("minimal")

    cell.deliver(0, event)
    assert (poke(cell, "probe_allocs"), poke(cell, "probe_frees"), poke(cell, "probe_live")) == (1, 1, 0)

    assert cell.steps(1, [event, event, event]) == (3, None)
    assert (poke(cell, "probe_allocs"), poke(cell, "probe_frees"), poke(cell, "probe_live")) == (4, 4, 0)
    assert poke(cell, "probe_events") == 4


@pytest.mark.parametrize("batch", [False, True], ids=["alone", "in a batch"])
def test_an_envelope_holds_number_time_kind_and_payload(
    start: Callable[..., Cell], poke: Callable[..., int], batch: bool
) -> None:
    cell = start("minimal")
    event = StepEvent("http.request", b"\x93\x01\x02\x03", 7)

    cell.steps(0x0102030405060708, [event]) if batch else cell.deliver(0x0102030405060708, event)

    seen = cell._instance.read(poke(cell, "probe_last_envelope"), poke(cell, "probe_last_len"))
    when = int.from_bytes(seen[8:16], "little")
    assert seen == encode_step(0x0102030405060708, when, "http.request", b"\x93\x01\x02\x03")


@pytest.mark.parametrize("guest", ["refuse_step"])
def test_what_a_step_answers_means_nothing(start: Callable[..., Cell], guest: str, event: StepEvent) -> None:
    cell = start(guest)

    assert cell.deliver(0, event) == 5
    assert cell.steps(1, [event, event]) == (2, None)
    assert cell.spent == ""


def test_a_batch_numbers_its_steps_and_says_where_it_stopped(start: Callable[..., Cell], event: StepEvent) -> None:
    numbers: list[int] = []

    class Number:
        @host_function
        def number(self, cell: CellRef, envelope: bytes) -> None:
            numbers.append(int.from_bytes(envelope[:8], "little"))
            if len(numbers) == 3:
                raise ValueError("the third")

    cell = start(
        """(module (import "pulp" "number" (func $number (param i32 i32) (result i32)))
          (memory (export "memory") 1)
          (func (export "pulp_alloc") (param i32) (result i32) (i32.const 1024))
          (func (export "pulp_init") (param i32 i32) (result i32) (i32.const 0))
          (func (export "pulp_step") (param i32 i32) (result i32)
            (if (call $number (local.get 0) (local.get 1)) (then unreachable)) (i32.const 0))
          (func (export "pulp_shutdown") (result i32) (i32.const 0)))""",
        Number(),
    )
    made, error = cell.steps(10, [event] * 5)

    assert (made, numbers) == (2, [10, 11, 12])
    assert "unreachable" in str(error)


def test_a_long_event_goes_alone_and_keeps_its_place(start: Callable[..., Cell], poke: Callable[..., int]) -> None:
    cell = start("minimal")
    short, long = StepEvent("short", b"\xc0"), StepEvent("long", b"\xc6\0\x08\0\0" + bytes(0x80000))

    assert cell.steps(0, [short, long, short]) == (1, None)
    assert cell.steps(1, [long, short]) == (1, None)
    assert poke(cell, "probe_last_len") > 0x80000
    assert cell.steps(2, [short]) == (1, None)


def test_an_envelope_of_exactly_the_limit_is_handed_over_and_one_byte_more_is_not(
    start: Callable[..., Cell], poke: Callable[..., int]
) -> None:
    cell = start("minimal")
    overhead = len(encode_step(0, 0, "k", b"x")) - 1
    fits = StepEvent("k", bytes(DEFAULT_MAX_MESSAGE_BYTES - overhead))
    too_large = StepEvent("k", bytes(DEFAULT_MAX_MESSAGE_BYTES - overhead + 1))

    cell.deliver(0, fits)
    assert poke(cell, "probe_last_len") == DEFAULT_MAX_MESSAGE_BYTES
    with pytest.raises(MessageTooLarge, match="cell message exceeds 8388608-byte limit"):
        cell.deliver(1, too_large)
    assert poke(cell, "probe_steps") == 1
    assert cell.spent == ""


# Calls ------------------------------------------------------------------------------------------------------------

LEDGER = """(module
  (memory (export "memory") 2)
  (global $next (mut i32) (i32.const 4096))
  (global $at (mut i32) (i32.const 0))
  (func $note (param $what i32) (param $size i32)
    (i32.store8 (global.get $at) (local.get $what))
    (i32.store8 (i32.add (global.get $at) (i32.const 1)) (local.get $size))
    (global.set $at (i32.add (global.get $at) (i32.const 2))))
  (func (export "pulp_alloc") (param $size i32) (result i32)
    (call $note (i32.const 97) (local.get $size))
    (global.set $next (i32.add (global.get $next) (i32.const 64)))
    (global.get $next))
  (func (export "pulp_free") (param $at i32) (param $size i32)
    (call $note (i32.const 102) (local.get $size)))
  (func (export "pulp_init") (param i32 i32) (result i32) (i32.const 0))
  (func (export "pulp_step") (param i32 i32) (result i32) (i32.const 0))
  (func (export "pulp_shutdown") (result i32) (i32.const 0))
  (func (export "pulp_on_call") (param $name i32) (param i32 i32 i32) (param $out i32) (param $out_len i32) (result i32)
    (i32.store (local.get $out) {address})
    (i32.store (local.get $out_len) {length})
    {answer}))"""


def ledger(cell: Cell) -> list[str]:
    """Return the allocations (a) and frees (f) of a guest, with their sizes."""
    written = cell._instance.read(0, 64).rstrip(b"\0")
    return [f"{chr(written[at])}{written[at + 1]}" for at in range(0, len(written), 2)]


def test_a_call_allocates_name_arguments_and_places_and_frees_response_places_arguments_and_name(
    start: Callable[..., Cell],
) -> None:
    guest = LEDGER.replace("{address}", "(local.get $name)").replace("{length}", "(i32.const 4)")
    cell = start(guest.replace("{answer}", "(i32.const 0)"))

    assert cell.call("echo.reverse", b"fives") == b"echo"
    assert ledger(cell) == ["a12", "a5", "a8", "f4", "f8", "f5", "f12"]


@pytest.mark.parametrize(
    ("length", "answer", "error", "expected"),
    [
        pytest.param("0", "0", None, ["a1", "a5", "a8", "f8", "f5", "f1"], id="an empty response is not freed"),
        pytest.param(
            "4", "9", CellRefused, ["a1", "a5", "a8", "f8", "f5", "f1"], id="the response of a refusal is not freed"
        ),
        pytest.param(
            "8388609", "0", MessageTooLarge, ["a1", "a5", "a8", "f8", "f5", "f1"], id="nor is one that is too long"
        ),
        pytest.param("8388608", "0", CallFailed, ["a1", "a5", "a8", "f8", "f5", "f1"], id="nor is one outside memory"),
    ],
)
def test_what_else_is_freed_after_a_call(
    start: Callable[..., Cell], length: str, answer: str, error: type[Exception] | None, expected: list[str]
) -> None:
    guest = LEDGER.replace("{address}", "(local.get $name)").replace("{length}", f"(i32.const {length})")
    cell = start(guest.replace("{answer}", f"(i32.const {answer})"))

    if error is None:
        assert cell.call("n", b"fives") == b""
    else:
        with pytest.raises(error):
            cell.call("n", b"fives")

    assert ledger(cell) == expected


def test_a_call_without_arguments_allocates_none(start: Callable[..., Cell], poke: Callable[..., int]) -> None:
    cell = start("provider")

    assert cell.call("echo.reverse") == b""
    assert (poke(cell, "probe_allocs"), poke(cell, "probe_frees"), poke(cell, "probe_live")) == (2, 2, 0)


def test_a_call_is_three_allocations_of_the_host_and_four_frees(
    start: Callable[..., Cell], poke: Callable[..., int]
) -> None:
    cell = start("provider")

    assert cell.call("echo.reverse", b"pulp") == b"plup"
    assert (poke(cell, "probe_allocs"), poke(cell, "probe_frees"), poke(cell, "probe_live")) == (3 + 1, 4, 0)


def test_a_call_that_is_refused_has_its_number_unsigned_and_its_words(start: Callable[..., Cell]) -> None:
    with pytest.raises(CellRefused, match="pulp_on_call returned 9: not today"):
        start("provider_refuses").call("echo.reverse")

    guest = LEDGER.replace("{address}", "(i32.const 0)").replace("{length}", "(i32.const 0)")
    with pytest.raises(CellRefused, match="pulp_on_call returned 4294967295"):
        start(guest.replace("{answer}", "(i32.const -1)")).call("echo.reverse")


def test_a_response_over_the_limit_is_refused(start: Callable[..., Cell]) -> None:
    with pytest.raises(MessageTooLarge):
        start("provider_huge").call("echo.reverse")


def test_a_response_outside_memory_is_refused(start: Callable[..., Cell]) -> None:
    with pytest.raises(CallFailed, match="response of 32 bytes at 0xffff0 is outside its memory"):
        start("provider_outside").call("echo.reverse")


@pytest.mark.parametrize(
    ("name", "args"),
    [
        pytest.param("n" * (DEFAULT_MAX_MESSAGE_BYTES + 1), b"", id="a name"),
        pytest.param("n", bytes(DEFAULT_MAX_MESSAGE_BYTES + 1), id="arguments"),
    ],
)
def test_a_call_with_more_than_the_limit_does_not_reach_the_guest(
    start: Callable[..., Cell], poke: Callable[..., int], name: str, args: bytes
) -> None:
    cell = start("provider")

    with pytest.raises(MessageTooLarge):
        cell.call(name, args)

    assert poke(cell, "probe_allocs") == 0


def test_a_cell_that_provides_nothing_says_so(start: Callable[..., Cell]) -> None:
    cell = start("minimal")

    assert not cell.has_provider
    with pytest.raises(CellClosed, match=r'cell "minimal" does not export pulp_on_call \(or is closed\)'):
        cell.call("anything")


# One at a time ----------------------------------------------------------------------------------------------------

WAITS = """(module (import "pulp" "wait" (func $wait (result i32)))
  (memory (export "memory") 1)
  (func (export "pulp_alloc") (param i32) (result i32) (i32.const 1024))
  (func (export "pulp_init") (param i32 i32) (result i32) (i32.const 0))
  (func (export "pulp_step") (param i32 i32) (result i32)
    (if (i32.gt_u (local.get 1) (i32.const 20)) (then (drop (call $wait)))) (i32.const 0))
  (func (export "pulp_shutdown") (result i32) (i32.const 0)))"""


class Wait:
    """A guest that is held in a step until it is let go."""

    def __init__(self) -> None:
        self.inside = threading.Event()
        self.let_go = threading.Event()

    @host_function
    def wait(self, cell: CellRef) -> None:
        self.inside.set()
        assert self.let_go.wait(GENEROUS_SECONDS)


@pytest.fixture
def held(start: Callable[..., Cell], event: StepEvent):
    """A cell in the middle of a step, and what holds it."""
    wait = Wait()
    cell = start(WAITS, wait)
    thread = threading.Thread(target=cell.deliver, args=(0, event))
    thread.start()
    assert wait.inside.wait(GENEROUS_SECONDS)
    yield cell, wait
    wait.let_go.set()
    thread.join()


def test_an_idle_step_is_left_out_while_another_runs(held: tuple[Cell, Wait]) -> None:
    cell, wait = held

    assert cell.idle(1) is False
    wait.let_go.set()


def test_an_event_is_not_left_out_while_another_runs(held: tuple[Cell, Wait], event: StepEvent) -> None:
    cell, wait = held
    thread = threading.Thread(target=cell.deliver, args=(1, event))
    thread.start()
    wait.inside.clear()
    wait.let_go.set()

    assert wait.inside.wait(GENEROUS_SECONDS)
    thread.join(GENEROUS_SECONDS)
    assert not thread.is_alive()


def test_a_call_whose_time_is_over_before_it_begins_does_not_harm_the_cell(held: tuple[Cell, Wait]) -> None:
    cell, wait = held

    with pytest.raises(CallFailed, match="guest stayed busy"):
        cell.call("anything", seconds=0.0)
    wait.let_go.set()

    assert cell.spent == ""
    cell.shutdown()


def test_a_call_waits_no_longer_than_it_may(held: tuple[Cell, Wait]) -> None:
    cell, _wait = held

    with pytest.raises(CallFailed, match=r"guest stayed busy for 0\.01 s"):
        cell.call("anything", seconds=0.01)


def test_closing_waits_for_the_step_that_runs(held: tuple[Cell, Wait]) -> None:
    cell, wait = held
    closed = threading.Event()

    def close() -> None:
        cell.close()
        closed.set()

    threads = [threading.Thread(target=close) for _ in range(4)]
    for thread in threads:
        thread.start()
    assert not closed.is_set()
    wait.let_go.set()
    for thread in threads:
        thread.join(GENEROUS_SECONDS)

    assert closed.is_set()
    assert cell.spent == "it is closed"


def test_a_closed_cell_refuses_everything_in_the_words_of_the_contract(
    start: Callable[..., Cell], event: StepEvent
) -> None:
    cell = start("provider")
    cell.close()
    cell.close()

    with pytest.raises(CellClosed, match=r"^cell is closed$"):
        cell.deliver(0, event)
    assert [type(error) for error in cell.steps(0, [event])[1:]] == [CellClosed]
    with pytest.raises(CellClosed, match=r"^cell is closed$"):
        cell.idle(0)
    with pytest.raises(CellClosed, match="cell is closed or not initialized"):
        cell.init()
    with pytest.raises(CellClosed, match='cell "provider" does not export pulp_on_call'):
        cell.call("echo.reverse")
    assert not cell.has_provider
    cell.shutdown()


def test_steps_from_many_threads_never_overlap(start: Callable[..., Cell], poke, event: StepEvent) -> None:
    inside: list[int] = []
    most: list[int] = []

    class Count:
        @host_function
        def wait(self, cell: CellRef) -> None:
            inside.append(1)
            most.append(len(inside))
            inside.pop()

    cell = start(WAITS, Count())
    together = threading.Barrier(4)

    def step() -> None:
        together.wait()
        for number in range(50):
            cell.deliver(number, event)

    threads = [threading.Thread(target=step) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(most) == 200
    assert set(most) == {1}


# The end ----------------------------------------------------------------------------------------------------------


def test_shutdown_runs_its_export(start: Callable[..., Cell], poke: Callable[..., int]) -> None:
    cell = start("minimal")

    cell.shutdown()

    assert poke(cell, "probe_shutdowns") == 1


def test_a_shutdown_that_is_refused_has_its_number_signed(start: Callable[..., Cell]) -> None:
    with pytest.raises(CellRefused, match="pulp_shutdown returned 3"):
        start("refuse_shutdown").shutdown()


def test_the_probes_of_the_contract_are_read_with_their_signs(start: Callable[..., Cell]) -> None:
    cell = start(
        f"""(module {MINIMAL}
          (func (export "pulp_init") (param i32 i32) (result i32) (i32.const 0))
          (func (export "pulp_shutdown") (result i32) (i32.const 0))
          (func (export "probe_last_call") (result i64) (i64.const -1))
          (func (export "probe_config_marker") (result i64) (i64.const -1)))"""
    )

    assert (cell.probe_last_call(), cell.probe_config_marker()) == (2**64 - 1, -1)


def test_a_cell_without_probes_has_none(start: Callable[..., Cell]) -> None:
    cell = start("minimal")

    assert (cell.probe_last_call(), cell.probe_config_marker()) == (None, None)


def test_a_probe_that_never_returns_is_stopped(start: Callable[..., Cell]) -> None:
    cell = start(
        f"""(module {MINIMAL}
          (func (export "pulp_init") (param i32 i32) (result i32) (i32.const 0))
          (func (export "pulp_shutdown") (result i32) (i32.const 0))
          (func (export "probe_last_call") (result i64) (loop $l (br $l)) unreachable))""",
        call_timeout_ms=50,
    )

    with pytest.raises(CellTimeout, match="probe_last_call"):
        cell.probe_last_call()


# Real cells -------------------------------------------------------------------------------------------------------

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize("path", ["heartbeat/c/heartbeat.wasm", "echo/c/echo.wasm", "echo/go/echo.wasm"])
def test_an_example_runs_from_load_to_shutdown(
    engine: Engine, spec: Callable[..., CellSpec], event: StepEvent, path: str
) -> None:
    class Http:
        @host_function
        def http_register(self, cell: CellRef, route: bytes) -> None: ...

        @host_function
        def http_respond(self, cell: CellRef, answer: bytes) -> None: ...

    registry = Registry(prefill=False)
    registry.always(Capability.of("transport.http.inbound", Http()))
    cell = Cell.load(spec("minimal", name="example", wasm_path=EXAMPLES / path), registry, engine=engine)

    cell.init(b"\x80")
    cell.idle(0)
    cell.deliver(1, event)
    assert cell.steps(2, [event, event]) == (2, None)
    cell.shutdown()
    cell.close()
