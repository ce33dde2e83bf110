"""The compiling child: `python -m pulp_runtime._kernel.compile RESULT`, the module on standard input.

It limits itself before it looks at a byte: CPU time, memory, no core dump. Exit status 1 with one line on standard
error means that the module is invalid.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from pathlib import Path

import wasmtime

from pulp_runtime._kernel.engine import engine_config
from pulp_runtime._kernel.modules import COMPILE_SECONDS

MEMORY_BYTES = 4 << 30
_PR_SET_PDEATHSIG = 1


def main() -> int:
    """Compile standard input into the file named by the first argument."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # nobody waits for the result of an orphan
    _limit(resource.RLIMIT_CPU, COMPILE_SECONDS * (os.cpu_count() or 1))
    _limit(resource.RLIMIT_AS, MEMORY_BYTES)
    _limit(resource.RLIMIT_CORE, 0)
    try:
        module = wasmtime.Module(wasmtime.Engine(engine_config()), sys.stdin.buffer.read())
        Path(sys.argv[1]).write_bytes(module.serialize())
    except (wasmtime.WasmtimeError, OSError, MemoryError) as error:
        print(" ".join(str(error).split()), file=sys.stderr)  # noqa: T201  # how the parent hears of it
        return 1
    return 0


def _limit(kind: int, amount: int) -> None:
    hard = resource.getrlimit(kind)[1]
    most = amount if hard == resource.RLIM_INFINITY else min(amount, hard)
    resource.setrlimit(kind, (most, hard))


if __name__ == "__main__":
    sys.exit(main())
