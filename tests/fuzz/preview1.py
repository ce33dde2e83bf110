"""Target: preview 1 as a hostile program calls it, over a tree of everything that can be mounted without a host.

The machine is plain memory. A case is a program: calls one after the other, with words that are sometimes sensible,
and before each a few bytes put into memory. After every call the answer must be an error number, memory must be as it
was wherever the call may not write, and afterwards nothing may be open and nothing outside the folder changed.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from math import inf
from pathlib import Path
from random import Random
from typing import Any, Final

from tests.capabilities.cloud.kv_runs import Cloud, FakeRun
from tests.fuzz.harness import Broken, Target
from tests.fuzz.preview1_inputs import MEMORY, program, read_program

from pulp_runtime.capabilities.cloud import blob, kv, queue, secrets
from pulp_runtime.errors import Errno, HostError
from pulp_runtime.ext import CellRef, Folder, Grants, How, Node, Outcome, Text
from pulp_runtime.files.quota import DiskQuota
from pulp_runtime.testing import FakeHost
from pulp_runtime.testing.lines import KeptLog
from pulp_runtime.wasi import MemoryFolder, Pipe, Preview1, RealFolder
from pulp_runtime.wasi.errno import WasiErrno

PATIENCE_SECONDS: Final = 0.001
"""The deadline of each call that waits."""
DISK_BYTES: Final = 1 << 20
CANARY: Final = b"nobody may touch this"
GRANTS: Final = Grants(
    namespace="fuzz",
    kv={"local": "rw", "region": "ro"},
    blob={"photos": "rw", "docs": "ro"},
    queue={"orders": "rw", "in": "r"},
    secrets=("key",),
)
ANSWERS: Final = {
    **{"clock_res_get": ((1, 8),), "clock_time_get": ((2, 8),), "fd_fdstat_get": ((1, 24),)},
    **{"args_sizes_get": ((0, 4), (1, 4)), "environ_sizes_get": ((0, 4), (1, 4)), "fd_filestat_get": ((1, 64),)},
    **{"fd_prestat_get": ((1, 8),), "fd_prestat_dir_name": ((1, 8),), "fd_tell": ((1, 8),), "fd_seek": ((3, 8),)},
    **{"fd_read": ((3, 4),), "fd_write": ((3, 4),), "fd_pread": ((4, 4),), "fd_pwrite": ((4, 4),)},
    **{"fd_readdir": ((4, 4),), "path_filestat_get": ((4, 64),), "path_open": ((8, 4),), "path_readlink": ((5, 4),)},
    **{"poll_oneoff": ((3, 4),), "sock_accept": ((2, 4),), "sock_recv": ((4, 4), (5, 2)), "sock_send": ((4, 4),)},
}
"""Where a call puts its answer: at which of its words, how many bytes."""
BUFFERS: Final = {
    **{"random_get": (0, 1, 1), "fd_readdir": (1, 2, 1), "path_readlink": (3, 4, 1), "poll_oneoff": (1, 2, 32)},
    **{"args_get": (0, None, 16), "environ_get": (0, None, 16)},
}
"""Where it puts more: at which word, how many (another word), of so many bytes each."""
STRINGS: Final = {"args_get": 1, "environ_get": 1}
VECTORS: Final = frozenset({"fd_read", "fd_pread", "sock_recv"})


class PlainMemory:
    """Implements `wasi.Machine`."""

    stopping = False

    def __init__(self) -> None:
        self.bytes = bytearray(MEMORY)
        self._view = memoryview(self.bytes)
        self.until = inf

    def view(self, address: int, length: int) -> memoryview:
        if address + length > MEMORY:
            raise HostError(Errno.FAULT)
        return self._view[address : address + length]

    def seconds_left(self) -> float:
        return self.until - time.monotonic()

    def blocking(self) -> Any:
        return nullcontext()


class Mishaps(logging.Handler):
    """Notes when a mount made a mistake: the program gets EIO, and the operator a log line."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.last = ""

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if message.startswith(("a mount failed", "an error without", "a file of a mount failed")):
            error = record.exc_info[1] if record.exc_info else None
            self.last = f"{message}: {error!r} {getattr(record, 'fields', '')}"


class Programs:
    """Runs hostile programs."""

    def __init__(self) -> None:
        self._host = FakeHost()
        self._below = self._host.folder / "outside" / "inside"
        self._below.mkdir(parents=True)
        self._canary = self._below.parent / "canary"
        self._canary.write_bytes(CANARY)
        key = self._host.folder / "secrets" / "key"
        key.parent.mkdir(mode=0o700)
        key.write_bytes(b"sesame")
        key.chmod(0o600)
        options: dict[Any, dict[str, Any]] = {secrets: {"folder": str(key.parent)}}
        self._clouds = [Cloud(self._host, one.capability(), options.get(one)) for one in (kv, blob, queue, secrets)]
        self._cell = CellRef("fuzz", "fuzz", KeptLog(self._host.logged), grants=GRANTS)
        for cloud in self._clouds:
            assert cloud.capability.register is not None
            cloud.capability.register(None, self._cell)  # type: ignore[arg-type]
        self._machine = PlainMemory()
        self._wasi = Preview1(self._machine)
        self._names = sorted(self._wasi.functions)
        self._quota = DiskQuota(self._below, DISK_BYTES)
        self._logger = logging.getLogger("pulp")
        self._mishaps = Mishaps()
        self._before = (self._logger.level, self._logger.propagate)
        self._logger.setLevel(logging.WARNING)
        self._logger.propagate = False
        self._logger.addHandler(self._mishaps)
        self._warm()
        self._handles = open_handles()

    def make(self, rng: Random) -> bytes:
        """Return a program."""
        return program(rng, self._names, {name: kinds for name, (kinds, _) in self._wasi.functions.items()})

    # A case -----------------------------------------------------------------------------------------------

    def check(self, data: bytes) -> None:
        """Run a program; look at everything after each call, and at the host afterwards."""
        self._host.logged.clear()
        kinds = {name: kinds for name, (kinds, _) in self._wasi.functions.items()}
        clean = bool(data[:1] < b"\x80")
        run = self._begin()
        try:
            for name, words, address, piece in read_program(data[1:], self._names, kinds):
                self._machine.bytes[address : address + len(piece)] = piece
                self._call(name, words)
        finally:
            self._wasi.end(clean=clean)
            for callback in run.ends:
                callback(Outcome(0 if clean else None))
        self._look_around()

    def _begin(self) -> FakeRun:
        self._furnish()
        self._machine.bytes[:] = PATTERN
        self._machine.until = inf
        run = self._mounted()
        self._wasi.begin(
            run.tree,
            stdin=_full(b"standard input"),
            stdout=Pipe(4096).writer,
            stderr=Pipe(4096).writer,
            args=["fuzz", "é", ""],
            environ={"A": "b", "EMPTY": ""},
        )
        return run

    def _mounted(self) -> FakeRun:
        run = FakeRun(self._cell)
        tree = run.tree = Folder({"tmp": MemoryFolder(256 << 10), "real": RealFolder(self._below, quota=self._quota)})
        tree.add("/frozen", RealFolder(self._below, read_only=True))
        tree.add("/request/method", Text(b"GET"))
        for cloud in self._clouds:
            assert cloud.capability.mount is not None
            cloud.capability.mount(run)  # type: ignore[arg-type]
        return run

    def _call(self, name: str, words: tuple[int, ...]) -> None:
        memory = self._machine.bytes
        before = bytes(memory)
        self._machine.until = time.monotonic() + PATIENCE_SECONDS
        code = self._wasi.functions[name][1](*words)
        if not isinstance(code, int) or code not in _CODES:
            raise Broken(f"{name}{words} answers {code!r}")
        if self._mishaps.last:
            last, self._mishaps.last = self._mishaps.last, ""
            raise Broken(f"{name}{words}: {last}")
        if len(memory) != MEMORY:
            raise Broken(f"{name}{words} made memory another size")
        if before != memory:
            after = bytes(memory)
            allowed = bytearray(before)
            for start, end in _writable(name, words, before):
                allowed[start:end] = after[start:end]
            if allowed != after:
                raise Broken(f"{name}{words} = {code} wrote where nothing may be written")

    def _look_around(self) -> None:
        if self._canary.read_bytes() != CANARY or sorted(os.listdir(self._below.parent)) != ["canary", "inside"]:
            raise Broken("something outside the folder was touched")
        handles = open_handles()
        if handles != self._handles:
            raise Broken(f"{self._handles} descriptors of the host were open before, {handles} are now")
        if self._wasi.descriptors.all:
            raise Broken("descriptors are left")

    # What is there before each case ---------------------------------------------------------------------------

    def _furnish(self) -> None:
        """Have in the folder, and in the stores, what every case begins with."""
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self._below)
        self._below.mkdir()
        (self._below / "file").write_bytes(b"0123456789" * 10)
        (self._below / "dir").mkdir()
        (self._below / "dir" / "deep").write_bytes(b"deep")
        links = {"link": "file", "out": "../canary", "up": "..", "abs": "/etc", "loop": "loop", "gone": "nothing"}
        for name, target in links.items():
            (self._below / name).symlink_to(target)
        os.mkfifo(self._below / "fifo")
        run = self._mounted()
        for path in ("beta/kv/local", "beta/blob/photos"):
            _emptied(*run.tree.find(tuple(path.split("/"))))
        for callback in run.ends:
            callback(Outcome(0))

    def _warm(self) -> None:
        """Have the stores open what they keep open."""
        for seed in range(60):
            with contextlib.suppress(Exception):
                self._handles = open_handles()
                self.check(self.make(Random(seed)))
        self._mishaps.last = ""

    def close(self) -> None:
        """Undo everything."""
        for cloud in self._clouds:
            if cloud.capability.teardown is not None:
                cloud.close()
        self._host.close()
        self._logger.removeHandler(self._mishaps)
        self._logger.setLevel(self._before[0])
        self._logger.propagate = self._before[1]


PATTERN: Final = (bytes(range(1, 256)) * (MEMORY // 255 + 1))[:MEMORY]
_CODES: Final = frozenset(int(number) for number in WasiErrno)


def _full(data: bytes) -> Any:
    pipe = Pipe()
    pipe.writer.write(data)
    return pipe.reader


def _emptied(node: Node, parts: tuple[str, ...]) -> None:
    """Remove everything below a folder."""
    folder = node.open(parts, How(folder=True))
    assert isinstance(folder, Node)
    names = [entry.name for entry in folder.entries()]
    folder.close()
    for name in names:
        try:
            node.unlink((*parts, name))
        except OSError:
            with contextlib.suppress(OSError):
                _emptied(node, (*parts, name))
                node.remove_folder((*parts, name))


def _writable(name: str, words: tuple[int, ...], memory: bytes) -> Iterator[tuple[int, int]]:
    """Return where a call may write."""
    for at, size in ANSWERS.get(name, ()):
        size = words[2] if name == "fd_prestat_dir_name" else size
        yield words[at], words[at] + size
    if name in BUFFERS:
        at, count, size = BUFFERS[name]
        yield words[at], words[at] + size * (1 if count is None else words[count])
    if name in STRINGS:
        yield words[STRINGS[name]], words[STRINGS[name]] + 64
    if name in VECTORS and words[2] <= 1024 and words[1] + 8 * words[2] <= MEMORY:
        for start, size in struct.iter_unpack("<II", memory[words[1] : words[1] + 8 * words[2]]):
            yield start, start + size


def open_handles() -> int:
    """Return how many descriptors this process has open, but for those of databases, which are kept for the next."""
    folder = Path("/proc/self/fd")
    if not folder.exists():
        return 0
    found = 0
    for name in os.listdir(folder):
        with contextlib.suppress(FileNotFoundError):  # the listing's own
            found += not os.readlink(folder / name).endswith((".db", "-wal", "-shm"))
    return found


def targets() -> list[Target]:
    """Return the target."""
    start: Callable[[], Programs] = Programs
    return [Target("preview1", "error numbers, memory, descriptors, and nothing outside", start, seconds=5.0, share=2)]
