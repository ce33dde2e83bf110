"""Start real guests with whatever is to be mounted."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path

import pytest
from tests.wasi.puppet import GUESTS, Puppet, Start

from pulp_runtime._kernel.engine import Engine
from pulp_runtime._kernel.lines import LineLog
from pulp_runtime._kernel.programs.program import Program, unasked
from pulp_runtime._kernel.programs.run import ProgramRun
from pulp_runtime.ext import CellRef
from pulp_runtime.ext.nodes import Folder
from pulp_runtime.ext.tree import File, Node
from pulp_runtime.log import Log
from pulp_runtime.manifest.limits import Limits
from pulp_runtime.wasi import MemoryFolder, RealFolder


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    engine = Engine(None)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def modules(engine: Engine) -> Callable[[Path], object]:
    loaded: dict[Path, object] = {}

    def load(path: Path) -> object:
        if path not in loaded:
            loaded[path] = engine.modules.load(path.stem, path, path.read_bytes())
        return loaded[path]

    return load


def program_of(engine: Engine, module: object, path: Path, seconds: float, environ: Mapping[str, str]) -> Program:
    log = Log("pulp", cell=path.stem)
    limits = Limits(call_seconds=seconds)
    lines = LineLog(log, limits)
    ref = CellRef(path.stem, path.stem, log, lines.write)
    return Program(engine, module, path, ref, (), limits, lines, blocking=nullcontext, ask=unasked, environ=environ)


@pytest.fixture
def start(engine: Engine, modules: Callable[[Path], object]) -> Iterator[Start]:
    """Start a puppet with mounts by their paths; "/" is the whole tree."""
    started: list[Puppet] = []

    def start(
        mounts: Mapping[str, Node] | None = None,
        *,
        seconds: float = math.inf,
        args: Sequence[str] = ("puppet",),
        environ: Mapping[str, str] | None = None,
        stderr: File | None = None,
    ) -> Puppet:
        def prepare(run: ProgramRun) -> None:
            run.tree = Folder()
            for path, node in (mounts or {}).items():
                if path == "/":
                    run.tree.children["/"] = node
                else:
                    run.tree.add(path, node)
            if stderr is not None:
                run.stderr = stderr

        path = GUESTS / "puppet.wasm"
        puppet = Puppet(program_of(engine, modules(path), path, seconds, environ or {}), prepare, args)
        started.append(puppet)
        return puppet

    yield start
    for puppet in started:
        puppet.end()


@pytest.fixture(params=["real", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Node:
    """Both kinds of folder that are whole file systems."""
    return RealFolder(tmp_path) if request.param == "real" else MemoryFolder(64 << 20)


@pytest.fixture
def puppet(start: Start, folder: Node) -> Puppet:
    """A guest whose `/` is a folder of either kind."""
    return start({"/": folder})
