"""A host process for `test_kv_crash.py` to kill: one real program that writes without end.

python kv_storm.py MODULE STORAGE_ROOT CACHE FIRST
"""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path

from pulp_runtime._kernel.engine import Engine
from pulp_runtime._kernel.lines import LineLog
from pulp_runtime._kernel.programs.program import Program, unasked
from pulp_runtime._kernel.programs.run import ProgramRun
from pulp_runtime.capabilities.cloud import kv
from pulp_runtime.ext import CellRef, Grants
from pulp_runtime.log import Log
from pulp_runtime.manifest.limits import Limits
from pulp_runtime.testing import FakeHost
from pulp_runtime.wasi import Inherited, Pipe


def main() -> None:
    """Run the program until somebody kills the process."""
    module, data, cache, first = sys.argv[1:]
    capability = kv.capability()
    host = FakeHost(Path(data))
    assert capability.setup is not None
    capability.setup(host(capability.name))
    cell = CellRef(name="shop", id="shop", log=Log("pulp"), grants=Grants(kv={"local": "rw"}))
    capability.register(None, cell)  # type: ignore[arg-type]  # it defines no imports
    said = Pipe()
    said.writer.write(f"storm /beta/kv/local {first}\n".encode())

    def prepare(run: ProgramRun) -> None:
        run.stdin, run.stdout = said.reader, Inherited(1)

    engine = Engine(Path(cache))
    compiled = engine.modules.load("files", Path(module), Path(module).read_bytes())
    limits, lines = Limits(call_seconds=60.0), LineLog(cell.log, Limits())
    program = Program(
        engine, compiled, module, cell, (capability,), limits, lines, blocking=nullcontext, ask=unasked
    )  # fmt: skip
    program.take().run(prepare=prepare)


if __name__ == "__main__":
    main()
