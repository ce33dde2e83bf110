"""Cells that a test moves by hand inside a real host: each import is a function that `Host.call` can ask for."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import wasmtime

from pulp_runtime import Host
from pulp_runtime.ext import CellRef, HostError
from pulp_runtime.testing.lines import KeptLog, Logged

PATIENCE_SECONDS = 20.0
_PTR, _LEN, _OUT, _OUT_LEN = 0xF000_0001, 0xF000_0002, 0xF000_0003, 0xF000_0004
_CALLS = 8
"""Words of room for those of one call."""


def puppet_wat(imports: Mapping[str, int]) -> str:
    """Return a guest whose `pulp_on_call` runs the import of that name, and which keeps every event it is given.

    Arguments are words, then bytes. The answer is the import's code, u32, and what was delivered.
    """
    names, at, lines, branches = [], 4096, [], []
    for name, words in imports.items():
        kind = "(param" + " i32" * words + ")" if words else ""
        lines.append(f'(import "pulp" "{name}" (func ${name} {kind} (result i32)))')
        names.append(f'(data (i32.const {at}) "{name}")')
        given = " ".join(f"(call $word (i32.const {index}))" for index in range(words))
        branches.append(
            f"(if (call $is (local.get $name) (local.get $size) (i32.const {at}) (i32.const {len(name)}))\n"
            f"  (then (call $open (local.get $args) (local.get $length) (i32.const {words}))\n"
            f"    (return (call $answer (call ${name} {given}) (local.get $out) (local.get $out_length)))))"
        )
        at += len(name)
    return _WAT.format(imports="\n".join(lines), names="\n".join(names), branches="\n".join(branches))


_WAT = f"""(module
{{imports}}
  (memory (export "memory") 4)
  {{names}}
  (global $next (mut i32) (i32.const 65536))
  (global $events (mut i32) (i32.const 0))
  (global $payload (mut i32) (i32.const 0))
  (global $length (mut i32) (i32.const 0))
  (func $alloc (export "pulp_alloc") (param $size i32) (result i32) (local $at i32)
    (local.set $at (global.get $next))
    (global.set $next (i32.and (i32.add (i32.add (local.get $at) (local.get $size)) (i32.const 7)) (i32.const -8)))
    (block $room (loop $more
      (br_if $room (i32.le_u (global.get $next) (i32.mul (memory.size) (i32.const 65536))))
      (if (i32.eq (memory.grow (i32.const 16)) (i32.const -1)) (then
        (global.set $next (local.get $at)) (return (i32.const 0))))
      (br $more)))
    (local.get $at))
  (func (export "pulp_init") (param i32 i32) (result i32) (i32.const 0))
  (func (export "pulp_shutdown") (result i32) (i32.const 0))
  ;; Keep the event: length and bytes, one behind the other from $first on; the newest 4000 of a list of addresses.
  (func (export "pulp_step") (param $envelope i32) (param $size i32) (result i32) (local $at i32)
    (if (i32.le_u (local.get $size) (i32.const 20)) (then (return (i32.const 0))))
    (local.set $at (call $alloc (i32.add (local.get $size) (i32.const 4))))
    (i32.store (local.get $at) (local.get $size))
    (memory.copy (i32.add (local.get $at) (i32.const 4)) (local.get $envelope) (local.get $size))
    (if (i32.lt_u (global.get $events) (i32.const 4000)) (then
      (i32.store (i32.add (i32.const 16384) (i32.mul (global.get $events) (i32.const 4))) (local.get $at))
      (global.set $events (i32.add (global.get $events) (i32.const 1)))))
    (i32.const 0))
  (func $is (param $one i32) (param $size i32) (param $other i32) (param $length i32) (result i32)
    (if (i32.ne (local.get $size) (local.get $length)) (then (return (i32.const 0))))
    (block $differ (loop $next
      (if (i32.eqz (local.get $size)) (then (return (i32.const 1))))
      (local.set $size (i32.sub (local.get $size) (i32.const 1)))
      (br_if $differ (i32.ne
        (i32.load8_u (i32.add (local.get $one) (local.get $size)))
        (i32.load8_u (i32.add (local.get $other) (local.get $size)))))
      (br $next)))
    (i32.const 0))
  ;; Copy the words to 1024, remember where the bytes behind them are, and clear what will be delivered.
  (func $open (param $args i32) (param $length i32) (param $words i32)
    (memory.copy (i32.const 1024) (local.get $args) (i32.mul (local.get $words) (i32.const 4)))
    (global.set $payload (i32.add (local.get $args) (i32.mul (local.get $words) (i32.const 4))))
    (global.set $length (i32.sub (local.get $length) (i32.mul (local.get $words) (i32.const 4))))
    (i64.store (i32.const 64) (i64.const 0)))
  (func $word (param $index i32) (result i32) (local $word i32)
    (local.set $word (i32.load (i32.add (i32.const 1024) (i32.mul (local.get $index) (i32.const 4)))))
    (if (i32.eq (local.get $word) (i32.const {_PTR})) (then (return (global.get $payload))))
    (if (i32.eq (local.get $word) (i32.const {_LEN})) (then (return (global.get $length))))
    (if (i32.eq (local.get $word) (i32.const {_OUT})) (then (return (i32.const 64))))
    (if (i32.eq (local.get $word) (i32.const {_OUT_LEN})) (then (return (i32.const 68))))
    (local.get $word))
  (func $answer (param $code i32) (param $out i32) (param $out_length i32) (result i32) (local $at i32)
    (local.set $at (call $alloc (i32.add (i32.load (i32.const 68)) (i32.const 4))))
    (i32.store (local.get $at) (local.get $code))
    (memory.copy (i32.add (local.get $at) (i32.const 4)) (i32.load (i32.const 64)) (i32.load (i32.const 68)))
    (i32.store (local.get $out) (local.get $at))
    (i32.store (local.get $out_length) (i32.add (i32.load (i32.const 68)) (i32.const 4)))
    (i32.const 0))
  (func $tell (param $out i32) (param $out_length i32) (result i32) (local $at i32) (local $index i32) (local $one i32)
    (local.set $at (global.get $next))
    (i32.store (local.get $out) (local.get $at))
    (block $end (loop $next
      (br_if $end (i32.eq (local.get $index) (global.get $events)))
      (local.set $one (i32.load (i32.add (i32.const 16384) (i32.mul (local.get $index) (i32.const 4)))))
      (drop (call $alloc (i32.add (i32.load (local.get $one)) (i32.const 4))))
      (memory.copy (local.get $at) (local.get $one) (i32.add (i32.load (local.get $one)) (i32.const 4)))
      (local.set $at (i32.add (local.get $at) (i32.add (i32.load (local.get $one)) (i32.const 4))))
      (local.set $index (i32.add (local.get $index) (i32.const 1)))
      (br $next)))
    (i32.store (local.get $out_length) (i32.sub (local.get $at) (i32.load (local.get $out))))
    (global.set $events (i32.const 0))
    (i32.const 0))
  (func (export "pulp_on_call")
    (param $name i32) (param $size i32) (param $args i32) (param $length i32) (param $out i32) (param $out_length i32)
    (result i32)
    (if (call $is (local.get $name) (local.get $size) (i32.const 4080) (i32.const 6))
      (then (return (call $tell (local.get $out) (local.get $out_length)))))
    (if (call $is (local.get $name) (local.get $size) (i32.const 4088) (i32.const 4)) (then (unreachable)))
    {{branches}}
    (i32.const 99))
  (data (i32.const 4080) "events\\00\\00trap"))
"""


def puppet_cell(folder: Path, name: str, imports: Mapping[str, int], declares: Iterable[str], *lines: str) -> Path:
    """Write a puppet's cell below `folder`; return where it is."""
    cell = folder / name
    cell.mkdir()
    provides = ["events", "trap", *imports]
    quoted = ", ".join(f'"{one}"' for one in provides)
    declared = ", ".join(f'"{one}"' for one in declares)
    head = (f'name = "{name}"', 'version = "1"', f"capabilities = [{declared}]", f"provides = [{quoted}]")
    (cell / "pulp.cell.toml").write_text("\n".join((*head, *lines)))
    (cell / "cell.wasm").write_bytes(wasmtime.wat2wasm(puppet_wat(imports)))
    return cell


class StubGuest:
    """A guest without memory: whose call it is, how long that may take, and what was delivered to it.

    Attributes:
        cell: with settings of its manifest, if any are given.
        logged: what was logged through it.
        waits: how often another cell was let have the worker.
        delivered: oldest first.
        refuses: what `deliver` raises, if anything.
    """

    def __init__(self, name: str = "one", tables: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        self.logged: list[Logged] = []
        self.cell = CellRef(name, name, KeptLog(self.logged, cell=name), tables=tables or {})
        self.seconds = 5.0
        self.waits = 0
        self.delivered: list[bytes] = []
        self.refuses: HostError | None = None

    def seconds_left(self) -> float:
        return self.seconds

    @contextlib.contextmanager
    def blocking(self) -> Iterator[None]:
        self.waits += 1
        yield

    def deliver(self, data: bytes, _address_out: int, _length_out: int) -> None:
        if self.refuses is not None:
            raise self.refuses
        self.delivered.append(data)


class Puppet:
    """One such cell in a running host."""

    def __init__(self, host: Host, name: str, imports: Mapping[str, int]) -> None:
        self.host = host
        self.name = name
        self._imports = imports
        self._seen: list[tuple[str, Any]] = []

    def __call__(self, function: str, *arguments: Any) -> tuple[int, bytes]:
        """Call an import; return its code and what was delivered.

        Args:
            function: its name.
            arguments: an int is a word, bytes are handed over as they are, anything else as MessagePack. Out-addresses
                are added by themselves.
        """
        words: list[int] = []
        payload = b""
        for argument in arguments:
            if isinstance(argument, int):
                words.append(argument)
            else:
                payload = argument if isinstance(argument, bytes) else msgspec.msgpack.encode(argument)
                words += [_PTR, _LEN]
        if len(words) + 2 == self._imports[function]:
            words += [_OUT, _OUT_LEN]
        assert len(words) == self._imports[function], f"{function} takes {self._imports[function]} words"
        given = b"".join((word & 0xFFFF_FFFF).to_bytes(4, "little") for word in words) + payload
        answer = self.host.call(self.name, function, given, seconds=PATIENCE_SECONDS)
        return int.from_bytes(answer[:4], "little"), answer[4:]

    def ask(self, function: str, *arguments: Any) -> Any:
        """Call an import that must succeed; return what was delivered, decoded."""
        code, answer = self(function, *arguments)
        assert code == 0, f"{function} answers {code}"
        return msgspec.msgpack.decode(answer) if answer else None

    def events(self) -> list[tuple[str, Any]]:
        """Return the events since the last time, as (kind, payload)."""
        data = self.host.call(self.name, "events", seconds=PATIENCE_SECONDS)
        seen, self._seen = self._seen, []
        while data:
            size = int.from_bytes(data[:4], "little")
            event = msgspec.msgpack.decode(data[24 : 4 + size])
            seen.append((event["kind"], event["payload"]))
            data = data[4 + size :]
        return seen

    def wait_for(self, enough: Callable[[list[tuple[str, Any]]], bool]) -> list[tuple[str, Any]]:
        """Return the events since the last time, as soon as they are enough."""
        end = time.monotonic() + PATIENCE_SECONDS
        while True:
            self._seen = self.events()
            if enough(self._seen):
                seen, self._seen = self._seen, []
                return seen
            assert time.monotonic() < end, f"there were only {self._seen}"
            time.sleep(0.002)

    def trap(self) -> None:
        """Crash the cell, and return when it has been restarted."""
        before = self.host.status()[self.name].restarts
        try:
            self.host.call(self.name, "trap")
        except Exception as error:  # noqa: BLE001  # that is the point
            assert "trap" in str(error) or "unreachable" in str(error), error  # noqa: PT017
        until(lambda: (status := self.host.status()[self.name]).restarts > before and status.state == "ready")


def until(true: Callable[[], Any], seconds: float = PATIENCE_SECONDS) -> Any:
    """Wait for something to be true; return it."""
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.002)
    return found
