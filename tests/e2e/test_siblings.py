"""Cells that call cells (spec/core §5)."""

from __future__ import annotations

import json
import struct
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pulp_runtime import Host
from pulp_runtime._kernel.siblings import DEPTH, FOREIGN_DEPTH
from pulp_runtime.errors import CellTimeout, CellTrap, Errno

ALL = ["echo", "relay", "loop", "trap", "spin", "big"]


def call_of(target: bytes, function: bytes, args: bytes = b"") -> bytes:
    return bytes([len(target)]) + target + bytes([len(function)]) + function + args


@pytest.fixture
def sibling(cell: Callable[..., Path], wasm: Callable[[str], bytes]) -> Callable[..., Path]:
    """Return `sibling(name, provides, consumes, manifest lines…)`: what it provides is called `<name>.<function>`."""
    module = wasm((Path(__file__).parent / "sibling.wat").read_text())

    def sibling(name: str, provides: list[str], consumes: list[str], *lines: str) -> Path:
        named = f"provides = {json.dumps(provides)}\nconsumes = {json.dumps(consumes)}"
        return cell(module, named, *lines, name=name)

    return sibling


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., Host]:
    def start(*cells: Path, **more: object) -> Host:
        return Host(cells, storage_root=tmp_path / "data", http_port="127.0.0.1:0", **more)

    return start


def code_and_response(answer: bytes) -> tuple[int, bytes]:
    return struct.unpack_from("<I", answer)[0], answer[4:]


def test_a_cell_calls_a_function_of_another_and_gets_its_response(sibling, start) -> None:
    with start(sibling("a", ["relay"], ["echo"]), sibling("b", ["echo"], [])) as host:
        for size in (0, 1, 300, 70_000, 300_000, 4_000_000):  # beyond 256 KiB the pad is too small
            args = bytes(range(256)) * (size // 256) + bytes(size % 256)
            assert code_and_response(host.call("a", "relay", call_of(b"b", b"echo", args))) == (0, args)


def test_a_response_beyond_the_pad_arrives_whole(sibling, start) -> None:
    with start(sibling("a", ["relay"], ["big"]), sibling("b", ["big"], [])) as host:
        for size in (262_128, 262_129, 5_000_000):
            code, response = code_and_response(
                host.call("a", "relay", call_of(b"b", b"big", size.to_bytes(4, "little")))
            )
            assert (code, len(response)) == (0, size)


@pytest.mark.parametrize(
    ("target", "function", "code"),
    [
        (b"", b"echo", Errno.EMPTY),
        (b"b", b"", Errno.EMPTY),
        (b"b", b"big", Errno.DENIED),  # provided, not consumed
        (b"c", b"echo", Errno.DENIED),  # consumed, not provided by c
        (b"nobody", b"echo", Errno.DENIED),
        (b"b\xff", b"echo", Errno.DENIED),
        (b"b", b"echo\0", Errno.DENIED),
    ],
)
def test_threat_30_only_what_one_consumes_and_the_other_provides_can_be_called(
    sibling, start, records, target: bytes, function: bytes, code: Errno
) -> None:
    a, b, c = sibling("a", ["relay"], ["echo"]), sibling("b", ["echo", "big"], []), sibling("c", ["trap"], [])
    with start(a, b, c) as host:
        assert code_and_response(host.call("a", "relay", call_of(target, function))) == (code, b"")
    if code is Errno.DENIED:
        assert records.fields("pulp_call denied by manifest")[0]["cell"] == "a"


def test_a_dependency_alone_gives_no_permission(sibling, start) -> None:
    with start(sibling("a", ["relay"], [], 'depends_on = ["b"]'), sibling("b", ["echo"], [])) as host:
        assert code_and_response(host.call("a", "relay", call_of(b"b", b"echo"))) == (Errno.DENIED, b"")


def test_a_range_outside_memory_is_2(cell, wasm, start, sibling) -> None:
    text = (Path(__file__).parent / "sibling.wat").read_text()
    hostile = text.replace("(local.get $rest) (i32.sub", "(i32.const -16) (i32.sub")
    a = cell(wasm(hostile), 'provides = ["relay"]\nconsumes = ["echo"]', name="a")
    with start(a, sibling("b", ["echo"], [])) as host:
        assert code_and_response(host.call("a", "relay", call_of(b"b", b"echo", b"x")))[0] == Errno.FAULT


def test_a_callee_that_traps_is_4_for_its_caller_and_restarted(sibling, start, records) -> None:
    with start(sibling("a", ["relay"], ["trap", "echo"]), sibling("b", ["trap", "echo"], [])) as host:
        assert code_and_response(host.call("a", "relay", call_of(b"b", b"trap"))) == (Errno.FAILED, b"")
        assert records.fields("pulp_call target failed")[0].items() >= {"target": "b", "provider": "trap"}.items()
        end = time.monotonic() + 10
        while code_and_response(host.call("a", "relay", call_of(b"b", b"echo", b"x"))) != (0, b"x"):
            assert time.monotonic() < end
        assert host.status()["b"].restarts == 1
        assert host.status()["a"].restarts == 0


# Chains ---------------------------------------------------------------------------------------------------------------


def test_threat_30_a_cell_that_calls_itself_is_refused_at_once(sibling, start) -> None:
    with start(sibling("a", ["relay", "echo"], ["echo"])) as host:
        began = time.monotonic()
        assert code_and_response(host.call("a", "relay", call_of(b"a", b"echo"))) == (Errno.LOOP, b"")
        assert time.monotonic() - began < 1.0


def test_threat_30_a_chain_that_comes_back_is_refused_at_once(sibling, start) -> None:
    a = sibling("a", ["relay", "a.echo", "echo"], ["relay.b"])
    b = sibling("b", ["relay.b"], ["echo"])
    with start(a, b) as host:
        began = time.monotonic()
        inner = call_of(b"a", b"echo")
        code, response = code_and_response(host.call("a", "relay", call_of(b"b", b"relay.b", inner)))
        assert (code, code_and_response(response)) == (0, (Errno.LOOP, b""))
        assert time.monotonic() - began < 1.0


def test_threat_30_two_chains_that_wait_for_each_other_are_told_apart_from_a_busy_cell(sibling, start) -> None:
    """Both callers hold their own cell and want the other's: one of them is refused, the other gets through."""
    a = sibling("a", ["loop.a", "echo.a"], ["echo.b"])
    b = sibling("b", ["loop.b", "echo.b"], ["echo.a"])
    count = 300
    with start(a, b) as host, ThreadPoolExecutor(2) as pool:
        began = time.monotonic()
        calls = [
            pool.submit(host.call, "a", "loop.a", count.to_bytes(4, "little") + call_of(b"b", b"echo.b")),
            pool.submit(host.call, "b", "loop.b", count.to_bytes(4, "little") + call_of(b"a", b"echo.a")),
        ]
        answered = [int.from_bytes(call.result(), "little") for call in calls]
        assert time.monotonic() - began < 20.0  # nobody waited for a deadline
    assert 0 <= min(answered) <= max(answered) <= count


def test_threat_30_a_chain_has_a_most_length(sibling, start) -> None:
    names = [f"c{number}" for number in range(DEPTH + 3)]
    cells = [
        sibling(name, [f"relay.{name}", f"echo.{name}"], [f"relay.{after}", f"echo.{after}"])
        for name, after in zip(names, [*names[1:], names[-1]], strict=True)
    ]
    message = call_of(names[-1].encode(), f"echo.{names[-1]}".encode(), b"end")
    for name in reversed(names[1:-1]):
        message = call_of(name.encode(), f"relay.{name}".encode(), message)
    with start(*cells) as host:  # from here, on a thread that is not a worker's
        answer = host.call("c0", "relay.c0", message)
        for _ in range(FOREIGN_DEPTH):
            code, answer = code_and_response(answer)
            assert code == 0
        assert code_and_response(answer) == (Errno.LOOP, b"")


@pytest.mark.parametrize("on_a_worker", [False, True])
def test_threat_24_cells_that_each_use_their_whole_stack_in_one_chain_do_no_harm(
    sibling, start, on_a_worker: bool
) -> None:
    """Were there too little room for them all, this process would die of a segmentation fault."""
    depth = DEPTH if on_a_worker else FOREIGN_DEPTH
    names = [f"c{number}" for number in range(depth + 1)]
    cells = [
        sibling(name, [f"deep.{name}", f"echo.{name}"], [f"deep.{after}", f"echo.{after}"])
        for name, after in zip(names, [*names[1:], names[-1]], strict=True)
    ]
    with start(*cells) as host:

        def call(function: str, message: bytes) -> bytes:
            if not on_a_worker:
                return host.call("c0", function, message)
            answers: list[bytes] = []
            done = threading.Event()
            runner = host._runners()["c0"]

            class OneTurn:
                due = armed = None

                def turn(self) -> None:
                    answers.append(runner.call(function, message))
                    done.set()

                def claim(self) -> bool:
                    return True

            runner.lane.ready(OneTurn())
            assert done.wait(20)
            return answers[0]

        def chain(frames: int) -> bytes:
            message = call_of(names[-1].encode(), f"echo.{names[-1]}".encode(), b"end")
            for name in reversed(names[1:-1]):
                inner = frames.to_bytes(4, "little") + message
                message = call_of(name.encode(), f"deep.{name}".encode(), inner)
            return frames.to_bytes(4, "little") + message

        frames = 1000
        while _survives(host, frames * 5 // 4):
            frames = frames * 5 // 4
        answer = call("deep.c0", chain(frames))
        for _ in range(depth):
            code, answer = code_and_response(answer)
            assert code == 0
        assert answer == b"end"


def _survives(host: Host, frames: int) -> bool:
    """Tell whether one cell's stack has room for so many nested calls."""
    try:
        host.call("c0", "deep.c0", frames.to_bytes(4, "little") + call_of(b"nobody", b"nothing"))
    except CellTrap:
        end = time.monotonic() + 10
        while host.status()["c0"].state != "ready" or host._runners()["c0"].cell.spent:
            assert time.monotonic() < end
            time.sleep(0.001)
        return False
    return True


def test_a_busy_callee_is_waited_for_and_callers_come_in_turn(sibling, start) -> None:
    callers = [sibling(f"a{number}", [f"loop.{number}"], ["echo"]) for number in range(4)]
    count = 200
    with start(*callers, sibling("b", ["echo"], [])) as host, ThreadPoolExecutor(4) as pool:
        message = count.to_bytes(4, "little") + call_of(b"b", b"echo", b"x" * 1000)
        calls = [pool.submit(host.call, f"a{number}", f"loop.{number}", message) for number in range(4)]
        assert [int.from_bytes(call.result(), "little") for call in calls] == [count] * 4


def test_threat_31_a_callee_has_no_more_time_than_its_caller(sibling, start) -> None:
    with start(sibling("a", ["relay"], ["spin"], "call_timeout_ms = 300"), sibling("b", ["spin"], [])) as host:
        began = time.monotonic()
        with pytest.raises(CellTimeout):  # the callee was ended, and then the caller's own time was over
            host.call("a", "relay", call_of(b"b", b"spin"))
        assert time.monotonic() - began < 3.0


def test_threat_31_waiting_for_a_busy_callee_ends_at_the_callers_deadline(sibling, start) -> None:
    a = sibling("a", ["relay"], ["spin"], "call_timeout_ms = 300")
    with start(a, sibling("b", ["spin"], [], "call_timeout_ms = 5000")) as host:
        holder = threading.Thread(target=_spin, args=(host,))
        holder.start()
        while not host._runners()["b"].cell._lock._owner:
            time.sleep(0.001)
        began = time.monotonic()
        try:
            assert code_and_response(host.call("a", "relay", call_of(b"b", b"spin"))) == (Errno.FAILED, b"")
        except CellTimeout:
            pass  # its time was over just then
        assert time.monotonic() - began < 2.0
        holder.join()


def _spin(host: Host) -> None:
    with pytest.raises(CellTimeout):
        host.call("b", "spin")
