"""The example cells, driven through nothing but the public wasmtime API and hand-made MessagePack."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgpack
import pytest
import wasmtime

EXAMPLES = Path(__file__).parents[2] / "examples"

WALL = 1_700_000_000_000_000_001
FILLER = bytes(range(256)) * 4_096


Compiled = tuple[wasmtime.Engine, wasmtime.Module]


class Cell:
    """One running module, with host imports that write down what they are told.

    `answers` maps the name of an import to the codes of its successive calls; without one it answers 0.
    """

    def __init__(self, compiled: Compiled, answers: Mapping[str, list[int]] | None = None) -> None:
        engine, module = compiled
        self.asked: list[tuple[str, Any]] = []
        self._answers = {name: list(codes) for name, codes in (answers or {}).items()}
        self._store = wasmtime.Store(engine)
        self._store.set_wasi(wasmtime.WasiConfig())
        linker = wasmtime.Linker(engine)
        linker.define_wasi()
        i32 = wasmtime.ValType.i32()
        for name in ("http_register", "http_respond"):
            linker.define_func("pulp", name, wasmtime.FuncType([i32, i32], [i32]), self._import(name), True)
        self._exports = linker.instantiate(self._store, module).exports(self._store)
        self.call("_initialize")

    def _import(self, name: str) -> Callable[[wasmtime.Caller, int, int], int]:
        def answer(caller: wasmtime.Caller, at: int, length: int) -> int:
            memory = caller["memory"]
            assert isinstance(memory, wasmtime.Memory)
            self.asked.append((name, msgpack.unpackb(memory.read(caller, at, at + length))))
            codes = self._answers.get(name)
            return codes.pop(0) if codes else 0

        return answer

    def call(self, name: str, *arguments: int) -> Any:
        function = self._exports[name]
        assert isinstance(function, wasmtime.Func)
        return function(self._store, *arguments)

    def give(self, name: str, data: bytes) -> int:
        """Call an export with bytes, as a host does: allocate, copy, call, free."""
        at = self.call("pulp_alloc", len(data)) & 0xFFFF_FFFF if data else 0
        assert at or not data
        self.memory.write(self._store, data, at)
        code = self.call(name, at, len(data))
        if data:
            self.call("pulp_free", at, len(data))
        assert isinstance(code, int)
        return code

    def init(self, config: bytes = b"") -> int:
        return self.give("pulp_init", config)

    def step(self, payload: bytes = b"", *, call: int = 1) -> int:
        return self.give("pulp_step", struct.pack("<QQI", call, WALL, len(payload)) + payload)

    @property
    def memory(self) -> wasmtime.Memory:
        memory = self._exports["memory"]
        assert isinstance(memory, wasmtime.Memory)
        return memory

    @property
    def pages(self) -> int:
        return self.memory.size(self._store)

    @property
    def responses(self) -> list[Any]:
        return [request for name, request in self.asked if name == "http_respond"]


@pytest.fixture(scope="session")
def compiled() -> Callable[[str], Compiled]:
    engine = wasmtime.Engine()
    known: dict[str, wasmtime.Module] = {}

    def module(path: str) -> Compiled:
        if path not in known:
            known[path] = wasmtime.Module.from_file(engine, str(EXAMPLES / path))
        return engine, known[path]

    return module


@pytest.fixture(
    params=[
        pytest.param("echo/c/echo.wasm", id="in C"),
        pytest.param("echo/go/echo.wasm", id="in Go", marks=pytest.mark.slow),
    ]
)
def echo_module(request: pytest.FixtureRequest, compiled: Callable[[str], Compiled]) -> Compiled:
    return compiled(request.param)


@pytest.fixture
def echo(echo_module: Compiled) -> Cell:
    return Cell(echo_module)


@pytest.fixture
def heartbeat(compiled: Callable[[str], Compiled]) -> Cell:
    return Cell(compiled("heartbeat/c/heartbeat.wasm"))


def http_request(**fields: Any) -> dict[str, Any]:
    return {
        "id": 7,
        "method": "GET",
        "path": "/echo/hi",
        "params": {"msg": "hi"},
        "query": {},
        "headers": {"Accept": "*/*"},
        "body": b"",
        "remote_addr": "127.0.0.1:1",
    } | fields


def event(payload: Any, kind: Any = "http.request") -> bytes:
    packed: bytes = msgpack.packb({"kind": kind, "payload": payload})
    return packed


# ---- echo


def test_echo_registers_its_two_routes(echo: Cell) -> None:
    assert echo.init() == 0

    assert echo.asked == [
        ("http_register", {"method": "GET", "path": "/echo/:msg"}),
        ("http_register", {"method": "POST", "path": "/echo"}),
    ]


@pytest.mark.parametrize("code", [1, 4, 99])
def test_echo_adds_100_to_the_code_of_a_refused_get_route(echo_module: Compiled, code: int) -> None:
    echo = Cell(echo_module, {"http_register": [code]})

    assert echo.init() == 100 + code
    assert len(echo.asked) == 1


@pytest.mark.parametrize("code", [1, 4, 99])
def test_echo_adds_200_to_the_code_of_a_refused_post_route(echo_module: Compiled, code: int) -> None:
    assert Cell(echo_module, {"http_register": [0, code]}).init() == 200 + code


def test_echo_does_not_mind_a_config(echo: Cell) -> None:
    assert echo.init(msgpack.packb({"unused": True})) == 0


def test_echo_answers_a_get_with_the_message_as_text(echo: Cell) -> None:
    assert echo.step(event(http_request(params={"other": "no", "msg": "grüß"}))) == 0

    assert echo.responses == [
        {
            "id": 7,
            "status": 200,
            "headers": {"Content-Type": "text/plain; charset=utf-8"},
            "body": "grüß".encode(),
        }
    ]


@pytest.mark.parametrize("length", [0, 1, 31, 32, 255, 256, 511, 512, 65_535, 65_536, 1_048_576])
def test_echo_answers_a_post_with_its_body_as_bytes(echo: Cell, length: int) -> None:
    body = FILLER[:length]

    assert echo.step(event(http_request(method="POST", params={}, body=body))) == 0

    assert echo.responses == [
        {"id": 7, "status": 200, "headers": {"Content-Type": "application/octet-stream"}, "body": body}
    ]


def test_echo_answers_an_empty_message_with_no_bytes(echo: Cell) -> None:
    assert echo.step(event(http_request(params={"msg": ""}))) == 0

    assert echo.responses[0]["body"] == b""


@pytest.mark.parametrize(
    "encoded",
    [
        pytest.param(b"\x05", id="one byte"),
        pytest.param(b"\xcc\x05", id="uint8"),
        pytest.param(b"\xcd\0\x05", id="uint16"),
        pytest.param(b"\xce\0\0\0\x05", id="uint32"),
        pytest.param(b"\xcf\0\0\0\0\0\0\0\x05", id="uint64"),
        pytest.param(b"\xd0\x05", id="int8"),
        pytest.param(b"\xd1\0\x05", id="int16"),
        pytest.param(b"\xd2\0\0\0\x05", id="int32"),
        pytest.param(b"\xd3\0\0\0\0\0\0\0\x05", id="int64"),
    ],
)
def test_echo_reads_an_id_of_any_width(echo: Cell, encoded: bytes) -> None:
    packed = event(http_request()).replace(b"\xa2id\x07", b"\xa2id" + encoded)

    assert echo.step(packed) == 0
    assert echo.responses[0]["id"] == 5


def test_echo_returns_the_largest_id_unchanged(echo: Cell) -> None:
    assert echo.step(event(http_request(id=2**64 - 1))) == 0
    assert echo.responses[0]["id"] == 2**64 - 1


def test_echo_takes_bytes_for_text_and_text_for_bytes(echo: Cell) -> None:
    request = http_request(method=b"POST", body="as text", path=b"/echo", headers={b"A": b"b"})
    packed = msgpack.packb({b"kind": b"http.request", b"payload": request})

    assert echo.step(packed) == 0
    assert echo.responses[0]["body"] == b"as text"


def test_echo_takes_nil_for_anything_empty(echo: Cell) -> None:
    request = http_request(id=None, method=None, params=None, query=None, headers=None, body=None)

    assert echo.step(event(request)) == 0
    assert (echo.responses[0]["id"], echo.responses[0]["body"]) == (0, b"")


@pytest.mark.parametrize(
    "unknown",
    [
        pytest.param({"a": [1, -1, 1.5, None, True, {"b": b"c"}]}, id="a nested map"),
        pytest.param([msgpack.ExtType(5, bytes(n)) for n in (0, 1, 2, 4, 8, 16, 300, 70_000)], id="extensions"),
        pytest.param([0] * 70_000, id="a long array"),
        pytest.param({str(n): n for n in range(70_000)}, id="a large map"),
        pytest.param([2**63, -(2**63), 2**31, -(2**31), 2**15, -(2**15), 200, -100, -1], id="wide integers"),
    ],
)
def test_echo_skips_what_it_does_not_know(echo: Cell, unknown: Any) -> None:
    request = {"later": unknown} | http_request()

    assert echo.step(msgpack.packb({"more": unknown, "kind": "http.request", "payload": request})) == 0
    assert echo.responses[0]["body"] == b"hi"


def test_echo_skips_a_value_nested_a_million_deep(echo: Cell) -> None:
    deep = b"\x91" * 1_000_000 + b"\xc0"
    packed = b"\x83\xa4more" + deep + event(http_request())[1:]

    assert echo.step(packed) == 0
    assert echo.responses[0]["body"] == b"hi"


@pytest.mark.parametrize("length", range(20))
def test_an_envelope_shorter_than_its_header_is_1(echo: Cell, length: int) -> None:
    assert echo.give("pulp_step", bytes(length)) == 1


def test_an_envelope_that_promises_more_than_it_holds_is_1(echo: Cell) -> None:
    packed = event(http_request())

    assert echo.give("pulp_step", struct.pack("<QQI", 1, WALL, len(packed) + 1) + packed) == 1
    assert echo.give("pulp_step", struct.pack("<QQI", 1, WALL, 0xFFFF_FFFF) + packed) == 1


def test_an_idle_step_is_0_and_answers_nobody(echo: Cell) -> None:
    assert echo.step() == 0
    assert echo.asked == []


@pytest.mark.parametrize(
    "packed",
    [
        pytest.param(b"\xc1", id="a byte that means nothing"),
        pytest.param(b"\x07", id="a number"),
        pytest.param(b"\x90", id="an array"),
        pytest.param(b"\x81\x01\x02", id="a map with a number for a key"),
        pytest.param(msgpack.packb({"kind": 1, "payload": None}), id="a kind that is a number"),
        pytest.param(b"\x82\xa4kind\xa1k\xa7payload", id="a payload that is missing"),
        pytest.param(b"\xdf\xff\xff\xff\xff", id="a map of four thousand million"),
        pytest.param(b"\x81\xdb\xff\xff\xff\xff", id="a key of four gigabytes"),
    ],
)
def test_an_event_that_cannot_be_decoded_is_2(echo: Cell, packed: bytes) -> None:
    assert echo.step(packed) == 2
    assert echo.asked == []


def test_an_event_cut_short_anywhere_is_2(echo: Cell) -> None:
    packed = event(http_request(method="POST", body=FILLER[:300]))

    assert {echo.step(packed[:length]) for length in range(1, len(packed))} == {2}
    assert echo.asked == []


@pytest.mark.parametrize("kind", ["", "ws.open", "http.requests", "http.reques", "HTTP.REQUEST"])
def test_an_event_of_another_kind_is_0_and_answers_nobody(echo: Cell, kind: str) -> None:
    assert echo.step(event(http_request(), kind)) == 0
    assert echo.asked == []


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(1, id="it is a number"),
        pytest.param([], id="it is an array"),
        pytest.param(http_request(id="7"), id="its id is text"),
        pytest.param(http_request(id=-7), id="its id is negative"),
        pytest.param(http_request(method=1), id="its method is a number"),
        pytest.param(http_request(body=[]), id="its body is an array"),
        pytest.param(http_request(params=[]), id="its params are an array"),
        pytest.param(http_request(headers={"a": 1}), id="a header is a number"),
        pytest.param(http_request(query={"a": {}}), id="a query value is a map"),
    ],
)
def test_a_request_that_cannot_be_decoded_is_3(echo: Cell, payload: Any) -> None:
    assert echo.step(event(payload)) == 3
    assert echo.asked == []


def test_an_event_without_a_payload_is_3(echo: Cell) -> None:
    assert echo.step(msgpack.packb({"kind": "http.request"})) == 3


@pytest.mark.parametrize("code", [1, 2, 3, 4, 99])
def test_echo_adds_300_to_the_code_of_a_refused_answer(echo_module: Compiled, code: int) -> None:
    echo = Cell(echo_module, {"http_respond": [code]})

    assert echo.step(event(http_request())) == 300 + code
    assert echo.step(event(http_request())) == 0


def test_no_mutation_of_an_event_traps(echo: Cell) -> None:
    dice = random.Random(424242)
    whole = event(http_request(method="POST", body=FILLER[:40]))

    for _ in range(2_000):
        mutant = bytearray(whole)
        for _ in range(dice.randint(1, 4)):
            mutant[dice.randrange(len(mutant))] = dice.choice([0xC1, 0xDF, 0xDB, 0xC9, dice.randrange(256)])
        assert echo.step(bytes(mutant)) in (0, 2, 3)


def test_a_thousand_requests_later_memory_has_not_grown(echo: Cell) -> None:
    packed = event(http_request(method="POST", body=FILLER[:20_000]))
    for _ in range(100):
        echo.step(packed)
    before = echo.pages

    for _ in range(1_000):
        assert echo.step(packed) == 0

    assert echo.pages <= before + 64


def test_echo_shuts_down(echo: Cell) -> None:
    assert echo.call("pulp_shutdown") == 0


def test_the_echo_in_c_imports_and_exports_only_what_it_needs(
    compiled: Callable[[str], Compiled],
) -> None:
    _, module = compiled("echo/c/echo.wasm")

    assert {(one.module, one.name) for one in module.imports} == {
        ("pulp", "http_register"),
        ("pulp", "http_respond"),
    }
    assert {one.name for one in module.exports} == {
        *("memory", "_initialize", "pulp_alloc", "pulp_free", "pulp_init", "pulp_step", "pulp_shutdown"),
    }


# ---- heartbeat


def config(marker: bytes) -> bytes:
    return b"\x82\xa6marker" + marker + b"\xa8greeting\xafhello from pulp"


def test_heartbeat_imports_nothing(compiled: Callable[[str], Compiled]) -> None:
    _, module = compiled("heartbeat/c/heartbeat.wasm")

    assert module.imports == []


def test_heartbeat_starts_without_a_config(heartbeat: Cell) -> None:
    assert heartbeat.init() == 0

    assert heartbeat.call("probe_config_marker") == 0
    assert heartbeat.call("probe_config_greeted") == 0


@pytest.mark.parametrize("marker", [424_242, 0, -1, 2**63 - 1, -(2**63)])
def test_heartbeat_stores_a_marker_written_as_an_int64(heartbeat: Cell, marker: int) -> None:
    assert heartbeat.init(config(b"\xd3" + struct.pack(">q", marker))) == 0

    assert heartbeat.call("probe_config_marker") == marker
    assert heartbeat.call("probe_config_greeted") == 1


@pytest.mark.parametrize(
    "marker",
    [
        pytest.param(b"\x05", id="one byte"),
        pytest.param(b"\xff", id="one negative byte"),
        pytest.param(b"\xd2\0\x06\x79\x32", id="int32"),
        pytest.param(b"\xce\0\x06\x79\x32", id="uint32"),
        pytest.param(b"\xcf\0\0\0\0\0\x06\x79\x32", id="uint64"),
        pytest.param(b"\xcb" + struct.pack(">d", 424_242.0), id="float"),
        pytest.param(b"\xa6424242", id="text"),
    ],
)
def test_heartbeat_does_not_store_a_marker_written_otherwise(heartbeat: Cell, marker: bytes) -> None:
    assert heartbeat.init(config(marker)) == 0

    assert heartbeat.call("probe_config_marker") == 0
    assert heartbeat.call("probe_config_greeted") == 1


def test_heartbeat_skips_other_keys(heartbeat: Cell) -> None:
    others = {"nested": {"marker": 1, "when": msgpack.Timestamp(1, 2)}, "list": [1, [2]], "pi": 3.14}
    packed = b"\x85" + msgpack.packb(others)[1:] + config(b"\xd3" + struct.pack(">q", 9))[1:]

    assert heartbeat.init(packed) == 0
    assert heartbeat.call("probe_config_marker") == 9


@pytest.mark.parametrize("broken", [b"\xc1", b"\x07", b"\x90", b"\x81\x01\x02", b"\xdf\xff\xff\xff\xff"])
def test_a_config_that_cannot_be_decoded_is_2(heartbeat: Cell, broken: bytes) -> None:
    assert heartbeat.init(broken) == 2


def test_a_config_cut_short_anywhere_is_2(heartbeat: Cell) -> None:
    whole = config(b"\xd3" + struct.pack(">q", 424_242))

    assert {heartbeat.init(whole[:length]) for length in range(1, len(whole))} == {2}


def test_heartbeat_remembers_the_latest_envelope(heartbeat: Cell) -> None:
    assert heartbeat.step(call=8) == 0
    assert heartbeat.step(b"\xc0" * 5, call=2**63 - 1) == 0

    assert heartbeat.call("probe_last_call") == 2**63 - 1
    assert heartbeat.call("probe_last_wall") == WALL
    assert heartbeat.call("probe_last_payload") == 5


@pytest.mark.parametrize("length", range(20))
def test_a_short_envelope_is_1_and_changes_nothing(heartbeat: Cell, length: int) -> None:
    heartbeat.step(b"\xc0", call=3)

    assert heartbeat.give("pulp_step", bytes(length)) == 1
    assert heartbeat.call("probe_last_call") == 3
    assert heartbeat.call("probe_last_payload") == 1


def test_heartbeat_shuts_down(heartbeat: Cell) -> None:
    assert heartbeat.call("pulp_shutdown") == 0
