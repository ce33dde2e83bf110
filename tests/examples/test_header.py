"""sdk/c/pulp.h, compiled with the cell of its README and with a probe that rewrites any MessagePack value."""

from __future__ import annotations

import re
import shlex
import struct
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgpack
import pytest
import wasmtime
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

ROOT = Path(__file__).parents[2]
SDK = ROOT / "sdk" / "c"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(find_spec("ziglang") is None, reason="NOT CHECKED: pulp.h needs ziglang to be compiled"),
]

FLAGS = "-target wasm32-wasi -mexec-model=reactor -std=c99 -Wall -Wextra -Wpedantic -Werror -O2 -s"


def compile_c(engine: wasmtime.Engine, source: Path, flags: list[str]) -> wasmtime.Module:
    module = source.with_suffix(".wasm")
    zig = [sys.executable, "-m", "ziglang", "cc"]
    subprocess.run([*zig, *flags, "-I", str(SDK), "-o", str(module), source.name], cwd=source.parent, check=True)
    return wasmtime.Module.from_file(engine, str(module))


class Probe:
    """The running probe: `call` hands it bytes, `written` is what it wrote last."""

    def __init__(self, engine: wasmtime.Engine, module: wasmtime.Module) -> None:
        self._store = wasmtime.Store(engine)
        self._exports = wasmtime.Instance(self._store, module, []).exports(self._store)
        self._call("_initialize")

    def _call(self, name: str, *arguments: int) -> int:
        function = self._exports[name]
        assert isinstance(function, wasmtime.Func)
        answer = function(self._store, *arguments)
        return -1 if answer is None else int(answer)

    @property
    def _memory(self) -> wasmtime.Memory:
        memory = self._exports["memory"]
        assert isinstance(memory, wasmtime.Memory)
        return memory

    def call(self, name: str, data: bytes) -> int:
        at = self._call("pulp_alloc", max(len(data), 1))
        assert at
        self._memory.write(self._store, data, at)
        code = self._call(name, at, len(data))
        self._call("pulp_free", at, len(data))
        return code

    @property
    def written(self) -> bytes:
        at = self._call("probe_out")
        return bytes(self._memory.read(self._store, at, at + self._call("probe_out_len")))


@pytest.fixture(scope="module")
def engine() -> wasmtime.Engine:
    return wasmtime.Engine()


@pytest.fixture(scope="module")
def probe(engine: wasmtime.Engine, tmp_path_factory: pytest.TempPathFactory) -> Probe:
    source = tmp_path_factory.mktemp("header") / "header_probe.c"
    source.write_bytes((Path(__file__).parent / "header_probe.c").read_bytes())
    return Probe(engine, compile_c(engine, source, FLAGS.split()))


def unpack(packed: bytes) -> Any:
    return msgpack.unpackb(packed, strict_map_key=False)


leaves = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=300)
    | st.binary(max_size=300)
    | st.builds(msgpack.ExtType, st.integers(0, 127), st.binary(max_size=20))
)
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(max_size=40), inner, max_size=20),
)
over_the_probe = settings(
    max_examples=100, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)


@over_the_probe
@given(value=values)
def test_any_value_read_and_written_again_is_the_same(probe: Probe, value: Any) -> None:
    assert probe.call("probe_rewrite", msgpack.packb(value)) == 0
    assert unpack(probe.written) == value


@over_the_probe
@given(value=values)
def test_any_value_cut_short_is_undecodable(probe: Probe, value: Any) -> None:
    packed = msgpack.packb(value)
    lengths = range(0, len(packed), 1 + len(packed) // 200)

    assert {probe.call("probe_rewrite", packed[:length]) for length in lengths} == {1}


@over_the_probe
@given(noise=st.binary(max_size=200))
def test_reading_and_skipping_agree_on_any_bytes(probe: Probe, noise: bytes) -> None:
    assert probe.call("probe_rewrite", noise) in (0, 1)


@pytest.mark.parametrize("power", [0, 5, 7, 8, 15, 16, 31, 32, 63])
def test_integers_on_both_sides_of_a_power_of_two_survive(probe: Probe, power: int) -> None:
    numbers = [sign * 2**power + step for sign in (1, -1) for step in (-1, 0, 1)]
    numbers = [number for number in numbers if -(2**63) <= number < 2**64]

    assert probe.call("probe_rewrite", msgpack.packb(numbers)) == 0
    assert unpack(probe.written) == numbers


@pytest.mark.parametrize("wide", [b"\xd0\x80", b"\xd1\x80\0", b"\xd2\x80\0\0\0", b"\xd3\x80\0\0\0\0\0\0\0"])
def test_the_lowest_integer_of_a_width_survives(probe: Probe, wide: bytes) -> None:
    assert probe.call("probe_rewrite", wide) == 0
    assert unpack(probe.written) == unpack(wide)


def test_a_float_of_four_bytes_is_read(probe: Probe) -> None:
    assert probe.call("probe_rewrite", b"\xca" + struct.pack(">f", -1.5)) == 0
    assert unpack(probe.written) == -1.5


@pytest.mark.parametrize("length", [15, 16, 31, 32, 255, 256, 65_535, 65_536])
@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda n: "x" * n, id="text"),
        pytest.param(bytes, id="bytes"),
        pytest.param(lambda n: [7] * n, id="an array"),
        pytest.param(lambda n: dict.fromkeys(range(n)), id="a map"),
    ],
)
def test_a_length_on_the_edge_of_a_form_survives(probe: Probe, make: Callable[[int], Any], length: int) -> None:
    value = make(length)

    assert probe.call("probe_rewrite", msgpack.packb(value)) == 0
    assert unpack(probe.written) == value


def test_a_fixed_writer_takes_what_fits_and_fails_one_byte_later(probe: Probe) -> None:
    assert probe.call("probe_rewrite_fixed", msgpack.packb(b"x" * 62)) == 0
    assert probe.written == msgpack.packb(b"x" * 62)
    assert probe.call("probe_rewrite_fixed", msgpack.packb(b"x" * 63)) == 2


@pytest.mark.parametrize(
    ("name", "same"),
    [
        (b"Content-Type", 1),
        (b"content-type", 1),
        (b"CONTENT-TYPE", 1),
        (b"Content-Typ", 0),
        (b"Content-Types", 0),
        (b"Content\rType", 0),
        (b"Content-Type\0", 0),
        (b"", 0),
    ],
)
def test_names_of_headers_are_compared_without_case(probe: Probe, name: bytes, same: int) -> None:
    assert probe.call("probe_header_name", name) == same


def test_the_cell_of_the_readme_builds_with_its_command_and_answers(engine: wasmtime.Engine, tmp_path: Path) -> None:
    readme = (SDK / "README.md").read_text()
    source, command = (re.search(rf"```{kind}\n(.*?)```", readme, re.S) for kind in ("c", "sh"))
    assert source is not None
    assert command is not None
    words = shlex.split(command[1])
    assert words[:4] == ["python", "-m", "ziglang", "cc"]
    assert words[-3:] == ["-o", "hello.wasm", "hello.c"]
    (tmp_path / "hello.c").write_text(source[1])
    module = compile_c(engine, tmp_path / "hello.c", words[4:-3])
    asked = []

    def host(caller: wasmtime.Caller, at: int, length: int) -> int:
        memory = caller["memory"]
        assert isinstance(memory, wasmtime.Memory)
        asked.append(msgpack.unpackb(memory.read(caller, at, at + length)))
        return 0

    store = wasmtime.Store(engine)
    linker = wasmtime.Linker(engine)
    i32 = wasmtime.ValType.i32()
    for name in ("http_register", "http_respond"):
        linker.define_func("pulp", name, wasmtime.FuncType([i32, i32], [i32]), host, True)
    exports = linker.instantiate(store, module).exports(store)
    request = {"id": 3, "method": "GET", "path": "/hello/you", "params": {"name": "you"}}
    payload = msgpack.packb({"kind": "http.request", "payload": request})
    envelope = struct.pack("<QQI", 1, 2, len(payload)) + payload
    at = exports["pulp_alloc"](store, len(envelope))
    exports["memory"].write(store, envelope, at)

    assert exports["pulp_init"](store, 0, 0) == 0
    assert exports["pulp_step"](store, at, len(envelope)) == 0

    assert asked[0] == {"method": "GET", "path": "/hello/:name"}
    assert (asked[1]["id"], asked[1]["status"], asked[1]["body"]) == (3, 200, b"you")
