"""The state of one instance: taken from it between two calls, or put into it instead of starting it.

Memory is copied page by page, so that other threads get their turn in between; pages that are all zero are left out.
Globals are copied bit for bit. A table is compared with what a new instance has in it: most modules never change
theirs. Where one does, a function can be named by a place at which a new instance has the same one; a function that
is nowhere in the tables of a new instance has no name, and the snapshot is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import wasmtime

from pulp_runtime._kernel.crossing import Export
from pulp_runtime._kernel.innards import Innards
from pulp_runtime._kernel.snapshots.saved import Header, Reference, Saved, SnapshotRefused, TableState
from pulp_runtime._kernel.snapshots.sections import START, Hidden
from pulp_runtime._kernel.world import Clock
from pulp_runtime.manifest.limits import PAGE

if TYPE_CHECKING:
    from pulp_runtime._kernel.instance import Instance

_ZERO: Final = bytes(PAGE)
_NULL: Final = bytes(16)
_AS_IT_WAS: Final = (-1, 0)


class State:
    """What a snapshot needs of one instance.

    Args:
        hidden: its module's exports of ours.
        saved: what it is to go on from; None if it is to start.

    Attributes:
        clock: its monotonic clock.
        saved: the header of what it went on from; None if it was started.
    """

    def __init__(self, hidden: Hidden, saved: Saved | None) -> None:
        self.clock: Final = Clock()
        self.saved: Final = None if saved is None else saved.header
        self._saved = saved
        self._hidden: Final = hidden
        self._instance: Instance | None = None
        self._first: list[list[bytes]] = []
        self._first_globals: list[bytes] = []

    def attach(self, instance: Instance) -> None:
        """Start the instance, which has just been made, or put into it what was saved.

        Raises:
            SnapshotRefused: what was saved does not fit; the instance cannot be used.
            CellError: its start section or start function did not return.
        """
        try:
            self._attach(instance)
        except BaseException:
            instance.close()  # at once: what refers to itself in a circle would keep its memory for a long time
            raise

    def _attach(self, instance: Instance) -> None:
        self._instance = instance
        inside = Innards(instance._store)
        self._first = [inside.elements(table) for table in self._tables()]
        self._first_globals = [inside.read(one) for one in self._globals()]
        saved, self._saved = self._saved, None
        if saved is not None:
            self._restore(saved, inside)
            return
        if self._hidden.start:
            exports = instance._exports
            instance.run("start section", Export(instance._store, exports[START], instance._imports, 0))
        instance._initialize()

    def forget(self) -> None:
        """Let go of the instance, and of what it began with: a circle may keep this object for a long time."""
        self._instance = self._saved = None
        self._first = []
        self._first_globals = []

    def _exports(self) -> Mapping[str, object]:
        assert self._instance is not None  # noqa: S101 - it is attached before anything is asked
        return self._instance._exports

    def _globals(self) -> list[wasmtime.Global]:
        exports = self._exports()
        return [exports[name] for name in self._hidden.globals]  # type: ignore[misc]  # as the rewriter named them

    def _tables(self) -> list[wasmtime.Table]:
        exports = self._exports()
        return [exports[name] for name in self._hidden.tables]  # type: ignore[misc]

    # Taking -----------------------------------------------------------------------------------------------------

    def take(self) -> Saved:
        """Return a copy of the state. Nothing may run in the instance, before and meanwhile.

        Raises:
            SnapshotRefused: there is something in it that cannot be saved.
        """
        instance = self._instance
        assert instance is not None  # noqa: S101 - see above
        inside = Innards(instance._store)
        names = _Names(self._first)
        tables = [
            names.table(index, before, inside.elements(table))
            for index, (before, table) in enumerate(zip(self._first, self._tables(), strict=True))
        ]
        values = [
            self._global(index, inside.read(one), self._first_globals[index], names)
            for index, one in enumerate(self._globals())
        ]
        instance.memory.refresh()
        runs, pages = _pages(instance.memory.view)
        header = Header(
            monotonic_ns=self.clock.now_ns(),
            idle=instance._idle,
            memory_pages=instance.memory.size // PAGE,
            pages=runs,
            globals=values,
            tables=tables,
        )
        return Saved(header, pages)

    def _global(self, index: int, value: bytes, before: bytes, names: _Names) -> bytes | Reference:
        if value[0] < Innards.FUNCTION:
            return value
        if value == before:
            return _AS_IT_WAS
        return names.reference(value, f"global {self._hidden.globals[index].rpartition('g')[2]}")

    # Putting ----------------------------------------------------------------------------------------------------

    def _restore(self, saved: Saved, inside: Innards) -> None:
        instance, header = self._instance, saved.header
        assert instance is not None  # noqa: S101 - see above
        globals_, tables = self._globals(), self._tables()
        if len(header.globals) != len(globals_) or len(header.tables) != len(tables):
            raise SnapshotRefused("it has other globals and tables than the module")
        try:
            self._restore_memory(saved, instance)
            for item, value, before in zip(globals_, header.globals, self._first_globals, strict=True):
                self._restore_global(item, value, before, inside)
            for index, table in enumerate(tables):
                self._restore_table(table, header.tables[index], index, inside)
        except wasmtime.WasmtimeError as error:
            raise SnapshotRefused(f"the engine refuses it: {' '.join(str(error).split())}") from None
        instance._idle = header.idle
        self.clock.set(header.monotonic_ns)

    def _restore_memory(self, saved: Saved, instance: Instance) -> None:
        memory, header = instance.memory, saved.header
        fresh = memory.size // PAGE
        if header.memory_pages < fresh:
            raise SnapshotRefused(f"it has {header.memory_pages} pages of memory; the module begins with {fresh}")
        if header.memory_pages > fresh:
            instance._exports[instance._memory_name].grow(instance._store, header.memory_pages - fresh)
            memory.refresh()
        view, pages, at = memory.view, iter(saved.pages), 0
        for first, count in [*header.pages, (header.memory_pages, 0)]:
            for page in range(at, min(first, fresh)):  # what the module begins with, and had become zero
                view[page * PAGE : (page + 1) * PAGE] = _ZERO
            at = first + count
            for page in range(first, at):
                view[page * PAGE : (page + 1) * PAGE] = next(pages)

    def _restore_global(self, item: wasmtime.Global, value: bytes | Reference, before: bytes, inside: Innards) -> None:
        kind = before[:1]
        if isinstance(value, bytes):
            if kind[0] >= Innards.FUNCTION or value[:1] != kind or len(value) != len(before):
                raise SnapshotRefused("it has other globals than the module")
            inside.write(item, value)
        elif kind[0] < Innards.FUNCTION:
            raise SnapshotRefused("it has other globals than the module")
        elif value != _AS_IT_WAS:
            inside.write(item, kind + self._bits(value))

    def _restore_table(self, table: wasmtime.Table, state: TableState, index: int, inside: Innards) -> None:
        before = self._first[index]
        if state.size < len(before):
            raise SnapshotRefused(f"table {index} has {state.size} elements; the module begins with {len(before)}")
        kind = Innards.OBJECT if str(table.type(self._store()).element) == "externref" else Innards.FUNCTION
        if state.size > len(before):
            inside.grow(table, state.size - len(before), kind)
        for at, reference in state.changed:
            inside.set_element(table, at, bytes((kind,)) + self._bits(reference))

    def _store(self) -> wasmtime.Store:
        assert self._instance is not None  # noqa: S101 - see above
        return self._instance._store

    def _bits(self, reference: Reference) -> bytes:
        if reference is None:
            return _NULL
        table, at = reference
        if not 0 <= table < len(self._first) or not 0 <= at < len(self._first[table]):
            raise SnapshotRefused("it names a function that the module does not have")
        return self._first[table][at][1:]


class _Names:
    """Names for functions, made when the first one is asked for."""

    def __init__(self, first: Sequence[Sequence[bytes]]) -> None:
        self._first: Final = first
        self._known: dict[bytes, tuple[int, int]] | None = None

    def reference(self, value: bytes, where: str) -> Reference:
        """Return the name of a function, or None for null; raise `SnapshotRefused` if it has none."""
        bits = value[1:]
        if bits == _NULL:
            return None
        if self._known is None:
            self._known = {}
            for table, elements in enumerate(self._first):
                for at, element in enumerate(elements):
                    self._known.setdefault(element[1:], (table, at))
        name = self._known.get(bits)
        if name is None:
            raise SnapshotRefused(
                f"{where} holds a function that no table of a new instance has; build the module so that it does not "
                "change its tables, or remove snapshotable"
            )
        return name

    def table(self, index: int, before: Sequence[bytes], now: Sequence[bytes]) -> TableState:
        """Return what has become of a table."""
        if now == before:
            return TableState(len(now))
        changed = []
        for at, value in enumerate(now):
            if value[1:] != (before[at][1:] if at < len(before) else _NULL):
                changed.append((at, self.reference(value, f"element {at} of table {index}")))
        return TableState(len(now), changed)


def _pages(memory: memoryview) -> tuple[list[tuple[int, int]], list[bytes]]:
    """Return which pages are not all zero, as runs, and a copy of each."""
    runs: list[tuple[int, int]] = []
    pages: list[bytes] = []
    begin = None
    count = len(memory) // PAGE
    for page in range(count):
        copy = memory[page * PAGE : (page + 1) * PAGE].tobytes()
        if copy == _ZERO:
            if begin is not None:
                runs.append((begin, page - begin))
                begin = None
            continue
        pages.append(copy)
        if begin is None:
            begin = page
    if begin is not None:
        runs.append((begin, count - begin))
    return runs, pages
