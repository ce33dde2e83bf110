"""A module with a `_start`, compiled, checked and bound, ready to run as often as somebody likes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from types import MappingProxyType
from typing import Final

import wasmtime

from pulp_runtime._kernel.engine import Engine
from pulp_runtime._kernel.instance import FORWARDED, Blocking
from pulp_runtime._kernel.lines import LineLog
from pulp_runtime._kernel.programs.slot import Slot
from pulp_runtime.errors import Errno, HostError, LoadError
from pulp_runtime.ext import Capability, CellRef
from pulp_runtime.manifest.limits import Limits

Ask = Callable[[CellRef, str, str, bytes, float, Callable[[], AbstractContextManager[None]]], bytes]
"""`ask(caller, cell, function, args, seconds, blocking)`: asks a sibling; raises `HostError`."""

MEMORY: Final = "memory"
ENTRIES: Final = {"_start": (), "pulp_function": ("i32",)}
"""What a run calls, the first that is there, and what it may return; a reactor's `_initialize` comes before it."""


class Program:
    """One program. Safe from any thread; each run takes a slot.

    Args:
        engine: compiles and runs it.
        module: compiled.
        path: its file, for errors.
        ref: what capabilities see of it.
        capabilities: those it declares.
        limits: what a run may use; `call_seconds` is the most it may take, `inf` for a daemon.
        lines: where its output goes.
        blocking: makes the context in which a run may wait.
        ask: how it asks siblings.
        environ: its environment variables.

    Attributes:
        entry: the export that is run.
        initialize: whether `_initialize` is run before it.

    Raises:
        LoadError: it is no program; the message says what is missing.
    """

    def __init__(
        self,
        engine: Engine,
        module: wasmtime.Module,
        path: object,
        ref: CellRef,
        capabilities: Sequence[Capability],
        limits: Limits,
        lines: LineLog,
        *,
        blocking: Blocking,
        ask: Ask,
        environ: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.engine: Final = engine
        self.module: Final = module
        self.path: Final = path
        self.ref: Final = ref
        self.limits: Final = limits
        self.lines: Final = lines
        self.blocking: Final = blocking
        self.ask: Final = ask
        self.environ: Final = environ
        self.memory_bytes: Final = limits.memory_bytes
        self.mounts: Final = [(one, one.mount) for one in capabilities if one.mount is not None]
        self.entry, self.initialize = _entry(ref.name, path, module, limits)
        self._free: Final[deque[Slot]] = deque([Slot(self)])
        self._running: Final[set[Slot]] = set()

    def take(self) -> Slot:
        """Return a slot for one run; give it back with `give`."""
        try:
            slot = self._free.pop()
        except IndexError:
            slot = Slot(self)
        self._running.add(slot)
        return slot

    def give(self, slot: Slot) -> None:
        """Take a slot back that nothing runs in any more."""
        self._running.discard(slot)
        self._free.append(slot)

    @property
    def running(self) -> int:
        """How many runs there are now."""
        return len(self._running)

    def stop(self) -> None:
        """Ask every run to come to its end: what it waits for is over."""
        for slot in tuple(self._running):
            slot.stop()

    def kill(self) -> None:
        """End every run that can be ended one by one."""
        for slot in tuple(self._running):
            slot.kill()


def unasked(_caller: CellRef, cell: str, *_rest: object) -> bytes:
    """Refuse to ask: for programs that run alone."""
    raise HostError(Errno.DENIED, f"there is no cell {cell} here")


def forwarded(environ: Mapping[str, str], host: Mapping[str, str]) -> dict[str, str]:
    """Return a program's environment: its own variables, and the few of the host's that every guest sees."""
    return {**{name: host[name] for name in FORWARDED if host.get(name)}, **environ}


def _entry(cell: str, path: object, module: wasmtime.Module, limits: Limits) -> tuple[str, bool]:
    """Check what the module imports and exports; return what is run, and whether `_initialize` comes first."""
    exports = {export.name: export.type for export in module.exports}
    if "pulp_step" in exports:
        raise LoadError(cell, f"{path}: is a cell, which needs a manifest; run the folder with its pulp.cell.toml")
    for item in module.imports:
        if item.module != "wasi_snapshot_preview1":
            raise LoadError(
                cell,
                f"{path}: imports {item.module}.{item.name}; a program is given WASI preview 1 and files, nothing else",
            )
    memory = exports.get(MEMORY)
    if not isinstance(memory, wasmtime.MemoryType):
        raise LoadError(cell, f"{path}: exports no memory called {MEMORY}; build it as a WASI command")
    if memory.limits.min > limits.memory_pages:
        raise LoadError(
            cell, f"{path}: begins with {memory.limits.min} pages of memory; limits let it have {limits.memory_pages}"
        )
    for name, results in ENTRIES.items():
        kind = exports.get(name)
        if isinstance(kind, wasmtime.FuncType):
            found = tuple(map(str, kind.results))
            if kind.params or found not in ((), results):
                raise LoadError(cell, f"{path}: {name} takes no parameter; build it as a WASI command")
            return name, name != "_start" and _initializes(cell, path, exports.get("_initialize"))
    names = " nor ".join(ENTRIES)
    raise LoadError(cell, f"{path}: exports neither {names}; build it as a WASI command, with a main, for wasm32-wasi")


def _initializes(cell: str, path: object, kind: object) -> bool:
    """Tell whether there is an `_initialize`; refuse one that cannot be called: what is called is not checked again."""
    if kind is None:
        return False
    if not isinstance(kind, wasmtime.FuncType) or kind.params or kind.results:
        raise LoadError(
            cell, f"{path}: _initialize is not a function without parameter and result; build it as a WASI reactor"
        )
    return True
