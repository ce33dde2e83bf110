"""What a cell may try with calls to other cells: numbers, sizes, the dead, false names; and how a chain ends."""

from __future__ import annotations

import json
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pulp_runtime import Host
from pulp_runtime.errors import CellError, CellTimeout, Errno

DEADLINE_SECONDS = 20.0
FAN_OUT = 10_000


def call_of(target: bytes, function: bytes, args: bytes = b"") -> bytes:
    return bytes([len(target)]) + target + bytes([len(function)]) + function + args


class Doomed(threading.Thread):
    """A call on a thread of its own that does not come to its end by itself."""

    def __init__(self, call: Callable[[], object]) -> None:
        super().__init__()
        self._call = call
        self.timed_out = False
        self.start()

    def run(self) -> None:
        try:
            self._call()
        except CellTimeout:
            self.timed_out = True
        except CellError:
            pass


class Stage:
    def __init__(self, host: Host) -> None:
        self.host = host

    def relay(self, caller: str, target: bytes, function: bytes, args: bytes = b"") -> tuple[int, bytes]:
        """Have `caller` call; return the code and the response it got."""
        answer = self.host.call(caller, f"relay.{caller}", call_of(target, function, args))
        return struct.unpack_from("<I", answer)[0], answer[4:]

    def until(self, cell: str, state: str) -> None:
        end = time.monotonic() + DEADLINE_SECONDS
        while self.host.status()[cell].state != state:
            assert time.monotonic() < end, self.host.status()[cell]
            time.sleep(0.002)


@pytest.fixture
def start(cell: Callable[..., Path], wasm: Callable[[str], bytes], tmp_path: Path) -> Iterator[Callable[..., Stage]]:
    """Return `start({name: (provides, consumes, manifest lines…)})`; see `sibling.wat` for what names do."""
    module = wasm((Path(__file__).parent / "sibling.wat").read_text())
    hosts: list[Host] = []

    def start(cells: dict[str, tuple[list[str], list[str], *tuple[str, ...]]]) -> Stage:
        folders = []
        for name, (provides, consumes, *lines) in cells.items():
            named = f"provides = {json.dumps(provides)}\nconsumes = {json.dumps(consumes)}"
            folders.append(cell(module, named, *lines, name=name))
        hosts.append(Host(folders, storage_root=tmp_path / "data", http_port="127.0.0.1:0", grace_seconds=3.0))
        hosts[-1].__enter__()
        return Stage(hosts[-1])

    yield start
    for host in hosts:
        host.__exit__(None, None, None)


def test_threat_30_ten_thousand_calls_of_one_step_are_all_answered(start) -> None:
    there = start({"a": (["loop.a"], ["echo"]), "b": (["echo"], [])})

    answered = there.host.call("a", "loop.a", FAN_OUT.to_bytes(4, "little") + call_of(b"b", b"echo", b"x"))

    assert int.from_bytes(answered, "little") == FAN_OUT


@pytest.mark.slow
def test_threat_30_calls_without_end_are_over_at_the_callers_deadline_and_the_callee_serves_others(start) -> None:
    there = start(
        {
            "a": (["loop.a"], ["echo"], "call_timeout_ms = 300"),
            "b": (["echo"], []),
            "c": (["relay.c"], ["echo"]),
        }
    )
    without_end = b"\xff\xff\xff\xff" + call_of(b"b", b"echo", b"x")
    flood = Doomed(lambda: there.host.call("a", "loop.a", without_end))
    while flood.is_alive():
        assert there.relay("c", b"b", b"echo", b"mine") == (0, b"mine")
    assert flood.timed_out

    assert there.relay("c", b"b", b"echo", b"after") == (0, b"after")
    assert there.host.status()["b"].restarts == 0


def test_threat_30_a_thousand_calls_inside_each_other_end_at_the_first_that_comes_back(start) -> None:
    there = start({"a": (["relay.a"], ["relay.b"]), "b": (["relay.b"], ["relay.a"])})
    message = b""
    for depth in range(1000):
        message = call_of(*((b"a", b"relay.a"), (b"b", b"relay.b"))[depth % 2], message)
    began = time.monotonic()

    code, response = struct.unpack_from("<I", answer := there.host.call("a", "relay.a", message))[0], answer[4:]
    if code == 0:
        code = struct.unpack_from("<I", response)[0]

    assert code == Errno.LOOP
    assert time.monotonic() - began < 2.0


@pytest.mark.slow
def test_threat_30_a_callee_that_traps_is_4_and_costs_the_caller_nothing(start) -> None:
    there = start({"a": (["relay.a"], ["trap", "echo"]), "b": (["trap", "echo"], [])})

    for _ in range(3):
        assert there.relay("a", b"b", b"trap") == (Errno.FAILED, b"")
        there.until("b", "ready")
        while there.relay("a", b"b", b"echo", b"x") != (0, b"x"):
            pass  # it is being replaced

    assert there.host.status()["a"].restarts == 0


@pytest.mark.parametrize("how", ["it crashed for good", "an operator stopped it", "it never started"])
def test_threat_30_a_callee_that_is_dead_is_4_at_once(start, records, how: str) -> None:
    lines = ['restart = "never"']
    if how == "it never started":
        lines += ["max_memory_pages = 1"]  # its module wants two
    there = start({"a": (["relay.a"], ["trap", "echo"]), "b": (["trap", "echo"], [], *lines)})
    if how == "it crashed for good":
        there.relay("a", b"b", b"trap")
        there.until("b", "down")
    elif how == "an operator stopped it":
        there.host._thread.run(there.host.operations.stop("b"))
    began = time.monotonic()

    assert there.relay("a", b"b", b"echo", b"x") == (Errno.FAILED, b"")

    assert time.monotonic() - began < 1.0
    assert "cell b is " in records.fields("pulp_call target failed")[-1]["error"]


@pytest.mark.slow
def test_threat_30_a_callee_that_is_slow_keeps_nobody_but_those_who_call_it(start) -> None:
    there = start(
        {
            "a": (["relay.a"], ["spin"], "call_timeout_ms = 400"),
            "b": (["spin"], []),
            "c": (["relay.c"], ["echo"]),
            "d": (["echo"], []),
        }
    )
    waits = Doomed(lambda: there.relay("a", b"b", b"spin"))
    served = 0
    while waits.is_alive():
        assert there.relay("c", b"d", b"echo", b"x") == (0, b"x")
        served += 1
    assert waits.timed_out
    assert served > 10


@pytest.mark.parametrize("size", [1025, 70_000, 8_000_000])
def test_threat_30_arguments_over_the_callees_limit_are_4_and_it_does_not_run(start, records, size: int) -> None:
    b = (["echo", "big"], [], "limits.message_bytes = 1024")
    there = start({"a": (["relay.a"], ["echo", "big"]), "b": b})

    assert there.relay("a", b"b", b"echo", bytes(size)) == (Errno.FAILED, b"")
    assert there.relay("a", b"b", b"big", size.to_bytes(4, "little")) == (Errno.FAILED, b"")  # nor an answer over it

    assert "exceeds 1024-byte limit" in records.fields("pulp_call target failed")[0]["error"]
    assert there.relay("a", b"b", b"echo", bytes(1024)) == (0, bytes(1024))
    assert there.host.status()["b"].restarts == 0


@pytest.mark.parametrize(
    ("target", "args"),
    [
        pytest.param(b"b", b'{"caller": "a"}', id="says in the arguments that it is another"),
        pytest.param(b"b\0a", b"", id="adds a name to the address"),
        pytest.param(b"b@a", b"", id="gives the callee an instance"),
        pytest.param(b"pulp-scope/v1/6:legacy|7:default|1:b|7:default", b"", id="writes a routing id"),
        pytest.param(b"a/b", b"", id="puts another's name before the address"),
        pytest.param(b"B", b"", id="writes the address in capitals"),
        pytest.param(b" b", b"", id="puts a blank before the address"),
    ],
)
def test_threat_30_a_caller_is_who_the_host_says_whatever_it_writes(start, records, target: bytes, args: bytes) -> None:
    there = start({"a": (["relay.a"], ["echo"]), "b": (["echo"], []), "x": (["relay.x"], [])})

    assert there.relay("x", target, b"echo", args) == (Errno.DENIED, b"")

    assert records.fields("pulp_call denied by manifest")[0]["cell"] == "x"
    assert there.relay("a", b"b", b"echo", args) == (0, args)  # not a byte is added, taken away or believed


@pytest.mark.slow
def test_threat_31_when_the_host_stops_the_whole_chain_ends(start) -> None:
    there = start({"a": (["relay.a"], ["relay.b"]), "b": (["relay.b"], ["spin"]), "c": (["spin"], [])})
    caller = Doomed(lambda: there.relay("a", b"b", b"relay.b", call_of(b"c", b"spin")))
    runners = there.host._runners()
    end = time.monotonic() + DEADLINE_SECONDS
    while not all(runners[name].cell._lock._owner for name in "abc"):
        assert time.monotonic() < end
    began = time.monotonic()

    there.host.__exit__(None, None, None)

    caller.join(DEADLINE_SECONDS)
    assert not caller.is_alive()
    assert time.monotonic() - began < 10.0  # not the 30 seconds each of them might have had
    assert there.host.finished


@pytest.mark.slow
def test_threat_31_a_chain_of_three_ends_with_the_first_ones_time(start) -> None:
    there = start(
        {
            "a": (["relay.a"], ["relay.b"], "call_timeout_ms = 300"),
            "b": (["relay.b"], ["spin"]),
            "c": (["spin"], []),
        }
    )
    began = time.monotonic()

    with pytest.raises(CellTimeout):
        there.relay("a", b"b", b"relay.b", call_of(b"c", b"spin"))

    assert time.monotonic() - began < 5.0
    for name in "abc":
        there.until(name, "ready")
