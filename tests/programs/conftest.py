"""Functions and daemons in a host, with a capability of the test's own: events, mounts and how each run ended."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pulp_runtime import Host
from pulp_runtime.ext import Capability, Outcome, Posted, Run, SetupEnv, StepEvent, Text

SECONDS = 20.0
HEAD = """
(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (global $times (mut i32) (i32.const 0))
"""


def program(start: str, *, more: str = "", export: str = "_start", result: str = "") -> str:
    """Return a WASI command in WebAssembly text."""
    return f'{HEAD}{more}(func (export "{export}") {result} {start}))'


class Bench:
    """What a run was given, and how it ended: a capability called `test.bench`."""

    def __init__(self) -> None:
        self.env: SetupEnv | None = None
        self.runs: list[Run] = []
        self.outcomes: list[Outcome] = []
        self.finalized: list[int] = []
        self.on_mount: Callable[[Run], None] = lambda run: run.tree.add("/word", Text(b"sesame"))
        self._changed = threading.Condition()

    def setup(self, env: SetupEnv) -> None:
        self.env = env

    def mount(self, run: Run) -> None:
        self.runs.append(run)
        run.on_end(self._ended)
        self.on_mount(run)
        with self._changed:
            self._changed.notify_all()

    def finalize(self, event_id: int) -> None:
        with self._changed:
            self.finalized.append(event_id)
            self._changed.notify_all()

    def _ended(self, outcome: Outcome) -> None:
        with self._changed:
            self.outcomes.append(outcome)
            self._changed.notify_all()

    def post(self, event_id: int = 1, cell: str = "prog") -> Posted:
        assert self.env is not None
        return self.env.post(StepEvent("test.event", b"", event_id, cell))

    def wait(self, condition: Callable[[], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(condition, SECONDS)

    def one(self, event_id: int = 1) -> Outcome:
        """Run a function once and return how that ended."""
        before = len(self.finalized)
        assert self.post(event_id) is Posted.ACCEPTED
        self.wait(lambda: len(self.finalized) > before)
        return self.outcomes[-1]


@pytest.fixture
def bench() -> Bench:
    return Bench()


Serve = Callable[..., Any]


@pytest.fixture
def serve(tmp_path: Path, wasm: Callable[[str], bytes], bench: Bench) -> Serve:
    """Return `serve(text, lines)`: a host with one program."""

    @contextmanager
    def serve(text: str, lines: str = "", *, execution: str = "function", **more: Any) -> Iterator[Host]:
        folder = tmp_path / "prog"
        folder.mkdir(exist_ok=True)
        (folder / "cell.wasm").write_bytes(wasm(text))
        routes = '[function]\nroutes = ["GET /"]\n' if execution == "function" else ""
        (folder / "pulp.cell.toml").write_text(
            f'name = "prog"\nversion = "1"\nexecution = "{execution}"\n'
            f'capabilities = ["test.bench", "transport.http.inbound"]\n{routes}{lines}'
        )
        capability = Capability.of("test.bench", bench)
        with Host(
            [folder], storage_root=tmp_path / "data", http_port="127.0.0.1:0", capabilities=[capability], **more
        ) as host:
            yield host

    return serve
