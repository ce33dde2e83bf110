"""A cell that calls each function of `storage.sqlite` with what a test says, and the database it works on."""

from __future__ import annotations

import dataclasses
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from pulp_runtime.capabilities.storage import sqlite
from pulp_runtime.ext import Capability, CellRef, Linker
from pulp_runtime.testing import CellUnderTest

NEWER = {
    **{"sqlite_exec": 6, "sqlite_query": 6, "sqlite_exec_many": 6, "sqlite_query_many": 6},
    **{"sqlite_rows_open": 6, "sqlite_rows_next": 4, "sqlite_rows_close": 1},
}
FIRST = {"sqlite_exec": 4, "sqlite_query": 6}

SQL = 64
"""Where texts are put; parameters come behind them."""
OUTS = (16, 20)
PAGE = 65_536

Make = Callable[..., CellUnderTest]
Answer = tuple[int, Any]


def memory_guest(imports: Mapping[str, int], pages: int) -> str:
    """Return a guest that exports every import, with an allocator that has the upper half of its memory.

    `reset` gives all of it back.
    """
    half = pages * PAGE // 2
    lines = []
    for name, words in imports.items():
        kind = "(param" + " i32" * words + ") (result i32)"
        given = " ".join(f"(local.get {at})" for at in range(words))
        lines.append(f'(import "pulp" "{name}" (func ${name} {kind}))')
        lines.append(f'(func (export "{name}") {kind} (call ${name} {given}))')
    lines.sort(key=lambda line: not line.startswith("(import"))
    return f"""(module
      {" ".join(lines)}
      (memory (export "memory") {pages} {pages})
      (global $next (mut i32) (i32.const {half}))
      (func (export "pulp_alloc") (param $size i32) (result i32) (local $at i32)
        (local.set $at (global.get $next))
        (if (i32.gt_u (local.get $size) (i32.sub (i32.const {pages * PAGE - 8}) (local.get $at)))
          (then (return (i32.const 0))))
        (global.set $next (i32.and (i32.add (i32.add (local.get $at) (local.get $size)) (i32.const 7)) (i32.const -8)))
        (local.get $at))
      (func (export "reset") (result i32) (global.set $next (i32.const {half})) (i32.const 0))
      (func (export "trap") (result i32) (unreachable))
      (func (export "pulp_init") (param i32 i32) (result i32) (i32.const 0))
      (func (export "pulp_step") (param i32 i32) (result i32) (i32.const 0))
      (func (export "pulp_shutdown") (result i32) (i32.const 0)))"""


class Tables:
    """What a guest can do with its database: every method answers the code, and what was delivered, decoded.

    Attributes:
        cell: the cell under test.
        path: of its database.
    """

    def __init__(self, cell: CellUnderTest, imports: Mapping[str, int]) -> None:
        self.cell = cell
        self.path = cell.storage_root / cell.spec.name / "data.db"
        self._imports = imports

    def call(self, function: str, sql: str | bytes, params: bytes = b"", *, raw: bool = False) -> Answer:
        text = sql.encode() if isinstance(sql, str) else sql
        self.cell.write(SQL, text + params)
        outs = OUTS if self._imports[function] == 6 else ()
        self.cell.write(OUTS[0], b"\xee" * 8)
        code = self.cell.run(function, SQL, len(text), SQL + len(text), len(params), *outs)
        return code, self._delivered(raw=raw) if outs else None

    def _delivered(self, *, raw: bool) -> Any:
        words = self.cell.read(OUTS[0], 8)
        address, length = int.from_bytes(words[:4], "little"), int.from_bytes(words[4:], "little")
        if words == b"\xee" * 8:
            return None  # nothing was stored
        data = self.cell.read(address, length)
        self.cell.run("reset")
        return data if raw or not data else msgspec.msgpack.decode(data)

    def exec(self, sql: str | bytes, *values: Any) -> Answer:
        return self.call("sqlite_exec", sql, msgspec.msgpack.encode(values) if values else b"")

    def query(self, sql: str | bytes, *values: Any) -> Answer:
        return self.call("sqlite_query", sql, msgspec.msgpack.encode(values) if values else b"")

    def raw(self, sql: str, *values: Any) -> bytes:
        """Return the bytes a query delivers."""
        code, data = self.call("sqlite_query", sql, msgspec.msgpack.encode(values) if values else b"", raw=True)
        assert code == 0, data
        return data

    def done(self, sql: str, *values: Any) -> dict[str, int]:
        """Return what a statement delivers that must succeed."""
        code, answer = self.exec(sql, *values)
        assert code == 0, answer
        return answer

    def rows(self, sql: str, *values: Any) -> list[list[Any]]:
        """Return the rows of a query that must succeed."""
        code, answer = self.query(sql, *values)
        assert code == 0, answer
        return answer["rows"] or []

    def open(self, sql: str, *values: Any) -> Answer:
        return self.call("sqlite_rows_open", sql, msgspec.msgpack.encode(values) if values else b"")

    def next(self, handle: int, most: int = 65_536) -> Answer:
        self.cell.write(OUTS[0], b"\xee" * 8)
        code = self.cell.run("sqlite_rows_next", handle, most, *OUTS)
        return code, self._delivered(raw=False)

    def close(self, handle: int) -> int:
        return self.cell.run("sqlite_rows_close", handle)

    def other(self) -> sqlite3.Connection:
        """Return another connection to the same file."""
        return sqlite3.connect(self.path, isolation_level=None)


def settled(disk_bytes: int | None = None, **settings: Any) -> Capability:
    """Return the capability for a cell with these settings in its manifest."""
    plain = sqlite.capability()

    def register(linker: Linker, cell: CellRef) -> None:
        known = msgspec.structs.replace(cell, tables={sqlite.NAME: settings})
        plain.register(linker, known if disk_bytes is None else msgspec.structs.replace(known, disk_bytes=disk_bytes))

    return dataclasses.replace(plain, register=register)


def tables(
    pulp_cell: Make, *, first: bool = False, pages: int = 64, capability: Capability | None = None, **fields: Any
) -> Tables:
    """Return a cell that has been initialised, and what to call it with."""
    imports = FIRST if first else NEWER
    fields.setdefault("name", "one")
    cell = pulp_cell(memory_guest(imports, pages), capabilities=[capability or sqlite.capability()], **fields)
    cell.init()
    return Tables(cell, imports)


def stop_at(seconds: float) -> dict[str, int]:
    """Return the manifest's field for a call that may take so long."""
    return {"call_timeout_ms": int(seconds * 1000)}


def storage(tmp_path: Path) -> dict[str, Path]:
    """Return the field for a storage root that outlives a cell."""
    return {"storage_root": tmp_path / "data"}
