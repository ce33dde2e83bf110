"""The engine: one a host, shared by all its cells."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

import wasmtime

from pulp_runtime._kernel.crossing import epoch_counter
from pulp_runtime._kernel.glue import Glue
from pulp_runtime._kernel.ticker import Ticker

WASM_STACK_BYTES: Final = 1 << 20
"""Stack of one guest call. Past it the guest traps. A thread that runs guests needs more than that: the 8 MiB that
Linux gives it, or the 16 MiB that Python asks for on macOS, will do."""


def engine_config() -> wasmtime.Config:
    """Return the engine's configuration: the same here and in the compiling child, or the result cannot be loaded.

    What cells do not need is off, so that it can neither be attacked nor escape a limit: threads (waits that no
    deadline ends), 64-bit memories (limits are for 32 bits), garbage-collected heaps (outside every limit).
    """
    config = wasmtime.Config()
    config.epoch_interruption = True
    config.memory_may_move = False
    config.max_wasm_stack = WASM_STACK_BYTES
    config.wasm_threads = False
    config.wasm_memory64 = False
    config.wasm_multi_memory = True  # for the glue; a cell's store has room for one
    config.wasm_gc = False
    config.wasm_function_references = False
    config.wasm_component_model = False
    return config


class Engine:
    """Compiles and runs modules; ends guests whose deadline has passed.

    Attributes:
        wasm: the engine of the wheel.
        ticker: advances the epoch while any guest runs.
        glue: modules of ours that spare crossings.
        modules: compiled modules, in memory and on disk.
        halted: set when the host wants every guest to end; sleeping guests wake.
    """

    def __init__(self, cache: Path | None = None, *, on_tick: Callable[[], None] | None = None) -> None:
        from pulp_runtime._kernel.modules import Modules  # modules needs engine_config

        self.wasm: Final = wasmtime.Engine(engine_config())
        self.glue: Final = Glue(self.wasm)
        self.ticker: Final = Ticker(epoch_counter(self.wasm), on_tick)
        self.modules: Final = Modules(self.wasm, cache)
        self.halted: Final = threading.Event()

    def halt(self) -> None:
        """End every guest call and compilation in progress, now; those begun later run again."""
        self.modules.stop_compiling()
        self.halted.set()
        self.ticker.expire()

    def close(self) -> None:
        """Stop the ticker. No guest may run any more; one that was told to end and does not know yet ends now."""
        self.ticker.expire()
        self.ticker.close()
