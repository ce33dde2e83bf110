"""A real guest whose strings a test holds: `guests/puppet.c`, run by the kernel on a thread beside the test."""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from pulp_runtime._kernel.programs.program import Program
from pulp_runtime._kernel.programs.run import ProgramRun
from pulp_runtime.ext import Outcome
from pulp_runtime.wasi import Pipe
from pulp_runtime.wasi.errno import WasiErrno
from pulp_runtime.wasi.preview1 import KINDS

GUESTS = Path(__file__).parent / "guests"
PLACES = {name: at for at, name in enumerate(KINDS)}
SPARE, POKE, PEEK = 100, 101, 102
ROOT = 3
RIGHTS = (1 << 30) - 1


class Puppet:
    """The guest. Every function of preview 1 is a method that answers an error number."""

    def __init__(self, program: Program, run: Callable[[ProgramRun], None], args: Sequence[str]) -> None:
        self._orders = Pipe(1 << 20)
        self._answers = Pipe(1 << 20)
        self._news = threading.Event()
        self._answers.reader.watch(self._news.set)
        self._prepare = run
        self.outcome: Outcome | None = None
        self.program = program
        self.slot = program.take()
        self._thread = threading.Thread(target=self._run, args=(args,), daemon=True)
        self._thread.start()
        self.spare = self.order(SPARE)
        self._next = self.spare

    def _run(self, args: Sequence[str]) -> None:
        def prepare(run: ProgramRun) -> None:
            run.args[:] = args
            run.stdin, run.stdout = self._orders.reader, self._answers.writer
            self._prepare(run)

        self.outcome = self.slot.run(prepare=prepare)
        self._answers.end()

    def tell(self, number: int, *words: int) -> None:
        padded = [word & (1 << 64) - 1 for word in (*words, *[0] * (9 - len(words)))]
        assert self._orders.give(struct.pack("<10Q", number, *padded)) == 80

    def order(self, number: int, *words: int) -> int:
        self.tell(number, *words)
        return struct.unpack("<Q", self.hear(8))[0]

    def hear(self, size: int) -> bytes:
        got = b""
        while len(got) < size:
            self._news.clear()
            try:
                piece = self._answers.take(size - len(got))
            except BlockingIOError:
                assert self._news.wait(20), "the guest does not answer"
                continue
            assert piece, f"the guest has ended: {self.outcome}"
            got += piece
        return got

    def __getattr__(self, name: str) -> Callable[..., WasiErrno]:
        if name not in PLACES:
            raise AttributeError(name)
        return lambda *words: WasiErrno(self.order(PLACES[name], *words))

    # Memory -----------------------------------------------------------------------------------------------------

    def room(self, size: int) -> int:
        """Return the address of so many bytes that nothing else uses."""
        address = self._next
        self._next += (size + 15) // 16 * 16
        assert self._next < self.spare + (1 << 20)
        return address

    def poke(self, data: bytes, address: int | None = None) -> int:
        address = self.room(len(data)) if address is None else address
        self.tell(POKE, address, len(data))
        assert not data or self._orders.give(data) == len(data)
        return address

    def peek(self, address: int, size: int) -> bytes:
        self.tell(PEEK, address, size)
        return self.hear(size)

    def word(self, address: int) -> int:
        return int.from_bytes(self.peek(address, 4), "little")

    def long(self, address: int) -> int:
        return int.from_bytes(self.peek(address, 8), "little")

    # What programs do -------------------------------------------------------------------------------------------

    def text(self, path: str | bytes) -> tuple[int, int]:
        raw = path.encode() if isinstance(path, str) else path
        return self.poke(raw), len(raw)

    def open(
        self, path: str | bytes, oflags: int = 0, *, rights: int = 2, flags: int = 0, follow: int = 1, at: int = ROOT
    ) -> int:
        """Open, and return the descriptor; raise what was answered otherwise."""
        out = self.room(4)
        self.must(self.path_open(at, follow, *self.text(path), oflags, rights, RIGHTS, flags, out))
        return self.word(out)

    def must(self, answer: WasiErrno) -> None:
        if answer is not WasiErrno.SUCCESS:
            raise Answered(answer)

    def vectors(self, *pieces: tuple[int, int]) -> tuple[int, int]:
        return self.poke(b"".join(struct.pack("<II", *piece) for piece in pieces)), len(pieces)

    def write(self, fd: int, data: bytes, *, at: int | None = None) -> int:
        out = self.room(4)
        vectors = self.vectors((self.poke(data), len(data)))
        self.must(self.fd_write(fd, *vectors, out) if at is None else self.fd_pwrite(fd, *vectors, at, out))
        return self.word(out)

    def read(self, fd: int, size: int, *, at: int | None = None) -> bytes:
        out, into = self.room(4), self.room(size)
        vectors = self.vectors((into, size))
        self.must(self.fd_read(fd, *vectors, out) if at is None else self.fd_pread(fd, *vectors, at, out))
        return self.peek(into, self.word(out))

    def put(self, path: str, data: bytes) -> None:
        fd = self.open(path, 1, rights=64)
        assert self.write(fd, data) == len(data)
        self.must(self.fd_close(fd))

    def get(self, path: str) -> bytes:
        fd = self.open(path)
        data = self.read(fd, 65536)
        self.must(self.fd_close(fd))
        return data

    def on(self, function: str, path: str | bytes, *rest: int, at: int = ROOT) -> WasiErrno:
        """Call a function of a folder and a path."""
        return getattr(self, function)(at, *self.text(path), *rest)

    def rename(self, old: str, new: str) -> WasiErrno:
        return self.path_rename(ROOT, *self.text(old), ROOT, *self.text(new))

    def link(self, old: str, new: str, *, follow: int = 0) -> WasiErrno:
        return self.path_link(ROOT, follow, *self.text(old), ROOT, *self.text(new))

    def symlink(self, target: str | bytes, path: str) -> WasiErrno:
        return self.path_symlink(*self.text(target), ROOT, *self.text(path))

    def stat(self, path: str, *, follow: int = 1) -> dict[str, int]:
        out = self.room(64)
        self.must(self.path_filestat_get(ROOT, follow, *self.text(path), out))
        return filestat(self.peek(out, 64))

    def fstat(self, fd: int) -> dict[str, int]:
        out = self.room(64)
        self.must(self.fd_filestat_get(fd, out))
        return filestat(self.peek(out, 64))

    def names(self, path: str, *, size: int = 4096) -> list[str]:
        """Return the names in a folder, with `.` and `..`."""
        fd = self.open(path, 2)
        found, cookie = [], 0
        buffer, used = self.room(size), self.room(4)
        while True:
            self.must(self.fd_readdir(fd, buffer, size, cookie, used))
            entries = dirents(self.peek(buffer, self.word(used)))
            if not entries:
                self.must(self.fd_close(fd))
                return found
            found.extend(name for name, _, _ in entries)
            cookie = entries[-1][2]

    def fill(self, folder: str) -> int:
        """Make empty files until there is no room; return how many there were."""
        for made in range(1_000_000):
            try:
                self.must(self.fd_close(self.open(f"{folder}{made}", 1, rights=64)))
            except Answered:
                return made
        raise AssertionError("no end of it")

    def end(self) -> Outcome:
        self._orders.end()
        self._thread.join(20)
        assert self.outcome is not None
        return self.outcome


class Answered(Exception):
    """The guest was answered with an error."""

    def __init__(self, number: WasiErrno) -> None:
        self.number = number
        super().__init__(number.name)


def filestat(raw: bytes) -> dict[str, int]:
    words = struct.unpack("<QQB7xQQQQQ", raw)
    return dict(zip(("dev", "ino", "kind", "links", "size", "atime", "mtime", "ctime"), words, strict=True))


def dirents(raw: bytes) -> list[tuple[str, int, int]]:
    """Return names, kinds and the cookies behind them; one that is cut off is left out."""
    found, at = [], 0
    while at + 24 <= len(raw):
        cookie, _, length, kind = struct.unpack_from("<QQIB", raw, at)
        if at + 24 + length > len(raw):
            break
        found.append((raw[at + 24 : at + 24 + length].decode(), kind, cookie))
        at += 24 + length
    return found


Start = Callable[..., Puppet]
