"""A cell that calls each function of `storage.fs` with what a test says, and the folder it works in."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from pulp_runtime.testing import CellUnderTest, guest

RAW = {"fs_read": 4, "fs_delete": 2, "fs_list": 4, "fs_remove_all": 2}
RECORDS = {
    **{"fs_stat": 4, "fs_rename": 2, "fs_mkdir_all": 2},
    **{"fs_chmod": 2, "fs_create_temp": 4, "fs_mkdir_temp": 4},
}
NEWER = {**RAW, **RECORDS, "fs_write": 6}
FIRST = {**RAW, **RECORDS, "fs_write": 4}

PATH = 0
"""Where paths and records are put; contents come behind them."""
DATA = 8192
OUTS = (8184, 8188)

Make = Callable[..., CellUnderTest]


def large(imports: dict[str, int], pages: int = 64) -> str:
    """Return a guest with more memory, whose allocator has all but the first page of it."""
    text = guest(imports).replace("1 1)", f"{pages} {pages})")
    return text.replace("(i32.const 32768)", "(i32.const 65536)").replace(
        "(i32.const 65536))\n      (then", f"(i32.const {pages * 65_536}))\n      (then"
    )


class Disk:
    """What a guest can do with its files: every method answers the code, and what was delivered if there was anything.

    Attributes:
        cell: the cell under test.
        folder: where its files are.
    """

    def __init__(self, cell: CellUnderTest, *, first: bool = False) -> None:
        self.cell = cell
        self.folder = cell.storage_root / cell.spec.name
        self._first = first

    def raw(self, function: str, path: str | bytes) -> int:
        data = path.encode() if isinstance(path, str) else path
        self.cell.write(PATH, data[:DATA])
        outs = OUTS if RAW[function] == 4 else ()
        return self.cell.run(function, PATH, len(data), *outs)

    def record(self, function: str, **fields: Any) -> int:
        return self.packed(function, msgspec.msgpack.encode(fields))

    def packed(self, function: str, data: bytes) -> int:
        self.cell.write(PATH, data)
        outs = OUTS if RECORDS[function] == 4 else ()
        return self.cell.run(function, PATH, len(data), *outs)

    def delivered(self) -> bytes:
        address, length = (int.from_bytes(self.cell.read(out, 4), "little") for out in OUTS)
        return self.cell.read(address, length)

    def answer(self) -> Any:
        return msgspec.msgpack.decode(self.delivered())

    def write(self, path: str | bytes, data: bytes = b"", mode: int | None = None) -> int:
        name = path.encode() if isinstance(path, str) else path
        self.cell.write(PATH, name)
        self.cell.write(DATA, data)
        if self._first:
            return self.cell.run("fs_write", PATH, len(name), DATA, len(data))
        options = b"" if mode is None else msgspec.msgpack.encode({"mode": mode})
        at = DATA + len(data)
        self.cell.write(at, options)
        return self.cell.run("fs_write", PATH, len(name), DATA, len(data), at, len(options))

    def read(self, path: str | bytes) -> tuple[int, bytes]:
        code = self.raw("fs_read", path)
        return code, b"" if code else self.delivered()

    def names(self, path: str = ".") -> list[str]:
        assert self.raw("fs_list", path) == 0
        return [entry["name"] for entry in self.answer()]

    def stat(self, path: str) -> dict[str, Any]:
        assert self.record("fs_stat", path=path) == 0
        return self.answer()

    def refusals(self) -> list[str]:
        """Return what the operator was told of refused calls."""
        told = [record.fields["reason"] for record in self.cell.logged if record.message == "file call refused"]
        return [str(reason) for reason in told]


def disk(pulp_cell: Make, *, first: bool = False, source: str = "", **fields: Any) -> Disk:
    """Return a loaded cell that declares `storage.fs`; `first` for a module of the first version."""
    text = source or guest(FIRST if first else NEWER)
    return Disk(pulp_cell(text, declares=("storage.fs",), **fields), first=first)


def tree(folder: Path) -> list[str]:
    """Return every path below a folder."""
    return sorted(
        os.path.relpath(Path(top) / name, folder) for top, dirs, files in os.walk(folder) for name in [*dirs, *files]
    )
