"""Runs of programs that are not there: what a mount hook sees, and files used as the layer below uses them."""

from __future__ import annotations

import errno
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest

from pulp_runtime.ext import Capability, CellRef, File, Folder, Grants, How, Node, Outcome, Stat
from pulp_runtime.testing import FakeHost
from pulp_runtime.testing.lines import KeptLog, Logged

READ = How()
WRITE = How(read=False, write=True, create=True, truncate=True)
UPDATE = How(write=True)
CREATE = How(write=True, create=True)
EXCLUSIVE = How(write=True, create=True, exclusive=True)
APPEND = How(read=False, write=True, create=True, append=True)
FOLDER = How(folder=True)


class FakeRun:
    """Implements `ext.Run` as far as mounts need it."""

    def __init__(self, cell: CellRef) -> None:
        self.cell = cell
        self.event = None
        self.tree = Folder()
        self.environ: dict[str, str] = {}
        self.stdin = self.stdout = self.stderr = File()
        self.ends: list[Callable[[Outcome], None]] = []
        self.stops: list[Callable[[], None]] = []
        self.blocked = 0

    def on_end(self, callback: Callable[[Outcome], None]) -> None:
        self.ends.append(callback)

    def on_stop(self, callback: Callable[[], None]) -> None:
        self.stops.append(callback)

    def seconds_left(self) -> float:
        return math.inf

    def ask(self, cell: str, function: str, args: bytes) -> bytes:
        raise NotImplementedError

    def blocking(self) -> Any:
        self.blocked += 1
        return nullcontext()


class Program:
    """A program that uses its tree: paths are below `root`; what it opens is closed when it ends, or abandoned."""

    def __init__(self, run: FakeRun, root: str) -> None:
        self.run = run
        self.root = root
        self.files: list[File] = []

    def at(self, path: str) -> tuple[Node, tuple[str, ...]]:
        full = path if path.startswith("/") else f"{self.root}/{path}"
        return self.run.tree.find(tuple(name for name in full.split("/") if name))

    def open(self, path: str, how: How = READ) -> File:
        node, parts = self.at(path)
        file = node.open(parts, how)
        assert isinstance(file, File), "a folder"
        self.files.append(file)
        return file

    def close(self, file: File) -> None:
        self.files.remove(file)
        file.close()

    def read(self, path: str) -> bytes:
        file = self.open(path)
        try:
            return content(file)
        finally:
            self.close(file)

    def write(self, path: str, data: bytes, how: How = WRITE) -> None:
        file = self.open(path, how)
        put(file, data, append=how.append)
        self.close(file)

    def append(self, path: str, data: bytes) -> None:
        self.write(path, data, APPEND)

    def ls(self, path: str = "") -> list[str]:
        return [entry.name for entry in self.folder(path).entries()]

    def folder(self, path: str = "") -> Node:
        node, parts = self.at(path)
        found = node.open(parts, FOLDER)
        assert isinstance(found, Node)
        return found

    def stat(self, path: str) -> Stat:
        node, parts = self.at(path)
        return node.stat(parts)

    def unlink(self, path: str) -> None:
        node, parts = self.at(path)
        node.unlink(parts)

    def mkdir(self, path: str) -> None:
        node, parts = self.at(path)
        node.make_folder(parts)

    def rmdir(self, path: str) -> None:
        node, parts = self.at(path)
        node.remove_folder(parts)

    def rename(self, old: str, new: str) -> None:
        node, parts = self.at(old)
        to, to_parts = self.at(new)
        node.rename(parts, to, to_parts)

    def touch(self, path: str, at_ns: int | None) -> None:
        node, parts = self.at(path)
        node.set_times(parts, at_ns, at_ns)

    def end(self, *, clean: bool = True) -> None:
        """End: as preview 1 does, every open file first."""
        while self.files:
            file = self.files.pop(0)
            (file.close if clean else file.abandon)()
        outcome = Outcome(0 if clean else None, "" if clean else "trap")
        while self.run.ends:
            self.run.ends.pop(0)(outcome)


def content(file: File, size: int = 1 << 16) -> bytes:
    """Read an open file from its beginning to its end."""
    found = bytearray()
    buffer = bytearray(size)
    while count := file.read_at(len(found), memoryview(buffer)):
        found += buffer[:count]
    return bytes(found)


def put(file: File, data: bytes, at: int = 0, *, append: bool = False) -> None:
    """Write all of `data`."""
    view = memoryview(data)
    while view:
        taken = file.append(view) if append else file.write_at(at, view)
        assert 0 < taken <= len(view)
        at += taken
        view = view[taken:]


@contextmanager
def fails(code: int) -> Iterator[None]:
    """Expect an `OSError` of this number."""
    with pytest.raises(OSError) as caught:  # noqa: PT011  # the number is looked at
        yield
    assert errno.errorcode[caught.value.errno] == errno.errorcode[code]


class Cloud:
    """A host with one capability, and programs in it."""

    def __init__(self, host: FakeHost, capability: Capability, config: dict[str, Any] | None = None) -> None:
        self.host = host
        self.capability = capability
        assert capability.setup is not None
        capability.setup(host(capability.name, config=config))
        self.cells: list[CellRef] = []

    def cell(self, name: str = "shop", **options: Any) -> CellRef:
        grants = options.pop("grants", None) or Grants(**options.pop("granted", {}))
        cell = CellRef(name=name, id=name, log=KeptLog(self.host.logged, cell=name), grants=grants, **options)
        self.capability.register(None, cell)  # type: ignore[arg-type]  # it defines no imports
        self.cells.append(cell)
        return cell

    def program(self, cell: CellRef, root: str) -> Program:
        run = FakeRun(cell)
        assert self.capability.mount is not None
        self.capability.mount(run)  # type: ignore[arg-type]
        return Program(run, root)

    def log(self) -> str:
        return "\n".join(f"{one.message} {one.fields}" for one in self.host.logged)

    def close(self) -> None:
        assert self.capability.teardown is not None
        self.capability.teardown()


__all__ = [
    "APPEND", "CREATE", "EXCLUSIVE", "FOLDER", "READ", "UPDATE", "WRITE", "Cloud", "FakeRun", "Logged", "Program",
    "content", "fails", "put",
]  # fmt: skip
