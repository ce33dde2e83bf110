"""A cell whose instance can be looked into: any export, any byte."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import wasmtime

from pulp_runtime._kernel.cell import Cell
from pulp_runtime._kernel.crossing import Export
from pulp_runtime._kernel.instance import Instance

_WORD: Final = 0xFFFF_FFFF


class OpenedCell(Cell):
    """A cell, and what only tests may do with it."""

    def run(self, export: str, words: Sequence[int]) -> int:
        """Call any exported function; see `CellUnderTest.run`."""
        with self._lock:
            instance = self._live("cell is closed")
            function = instance._exports.get(export)
            if not isinstance(function, wasmtime.Func):
                there = [name for name, item in instance._exports.items() if isinstance(item, wasmtime.Func)]
                raise LookupError(f"{self.name} exports no function {export}; it exports {', '.join(sorted(there))}")
            kind = function.type(instance._store)
            parameters, results = list(map(str, kind.params)), list(map(str, kind.results))
            if parameters != ["i32"] * len(words) or results not in ([], ["i32"], ["i64"]):
                raise LookupError(f"{export} is ({', '.join(parameters)}) -> {', '.join(results) or '()'}")
            entry = Export(instance._store, function, instance._imports, len(words))
            given = [word & _WORD for word in words]
            if results == ["i64"] and not words:
                return self._within(instance, export, entry.wide)
            answer = instance.run(export, entry, *given)
            return answer if results else 0

    def read(self, address: int, length: int) -> bytes:
        """See `CellUnderTest.read`."""
        data = self._opened().memory.read(address, length)
        if data is None or address < 0 or length < 0:
            raise IndexError(f"{length} bytes at {address:#x} are outside its memory of {self.memory_bytes}")
        return data

    def write(self, address: int, data: bytes) -> None:
        """See `CellUnderTest.write`."""
        if address < 0 or not self._opened().memory.write(address, data):
            raise IndexError(f"{len(data)} bytes at {address:#x} are outside its memory of {self.memory_bytes}")

    @property
    def memory_bytes(self) -> int:
        """See `CellUnderTest.memory_bytes`."""
        memory = self._opened().memory
        memory.refresh()
        return memory.size

    def _opened(self) -> Instance:
        return self._live("cell is closed")
