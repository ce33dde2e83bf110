"""Programs that call preview 1 with words that are sometimes sensible."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from random import Random
from typing import Final

from pulp_runtime.wasi import right

MEMORY: Final = 65_536

PLACES: Final = (
    *("tmp", "real", "frozen", "request", "beta/kv/local", "beta/kv/region", "beta/blob/photos", "beta/blob/docs"),
    *("beta/queue/orders", "beta/queue/in", "beta/secrets", "beta/kv", "beta", "."),
)
NAMES: Final = (
    *(b"a", b"b", b"a", b"b", b"c", b"A", b"dir", b"file", b"deep", b"link", b"out", b"up", b"abs", b"loop", b"gone"),
    *(b"fifo", b"canary", b"..", b"..", b".", b"", b"etc", b"passwd", b"proc", b"self", b"fd", b"0", b"method"),
    *(b".rev", b".lock", b".tx", b"t", b"t.commit", b".watch", b".ttl", b".meta", b"content-type", b"sha256"),
    *(b"new", b"next", b"inflight", b"1", b"key", b"tmp", b"real", b"frozen", b"beta", b"kv", b"local", b"blob"),
    *("\u00e9".encode(), "e\u0301".encode(), "\u202e".encode(), b"\xff", b"\xed\xa0\x80", b"\xc0\xaf", b"a\0b", b"\n"),
    *(b"a\\b", b"C:", b"CON", b"a ", b"a.", b".hidden", b"x" * 255, b"x" * 256, b"x" * 1025, b"%2e%2e", b"a:b", b"~"),
)
KNOWN: Final = (
    *(b"tmp/a", b"tmp/a", b"tmp/b", b"tmp/dir", b"tmp/dir/a", b"real/file", b"real/a", b"real/dir", b"real/dir/deep"),
    *(b"real/link", b"real/out", b"real/up/canary", b"real/up", b"real/fifo", b"frozen/file", b"frozen/dir"),
    *(b"request/method", b"beta/secrets/key", b"beta/kv/local/a", b"beta/kv/local/a", b"beta/kv/local/b/c"),
    *(b"beta/kv/local/.rev/a", b"beta/kv/local/.lock/a", b"beta/kv/local/.tx/t", b"beta/kv/local/.tx/t/a"),
    *(b"beta/kv/local/.tx/t.commit", b"beta/kv/local/.watch/a", b"beta/kv/local/.ttl/a", b"beta/kv/region/a"),
    *(
        b"beta/blob/photos/a",
        b"beta/blob/photos/a",
        b"beta/blob/photos/dir/b",
        b"beta/blob/photos/a/.meta/content-type",
    ),
    *(b"beta/queue/orders/new", b"beta/queue/orders/next", b"beta/queue/orders/inflight", b"beta/queue/orders", b"tmp"),
    *(b"real", b"beta/kv/local", b"beta/kv/local/b", b"beta/blob/photos", b"beta/blob/photos/dir", b".", b"beta"),
)
"""Paths that are there, or may be made."""
OPENINGS: Final = ((0, 2), (0, 2), (0, 66), (1, 66), (1, 66), (1, 64), (9, 66), (5, 66), (2, 0), (2, 1 << 14), (8, 66))
"""Flags and rights that go together."""
NUMBERS: Final = (0, 1, 2, 3, 8, 64, 255, 1023, 1024, 1025, 4096, 4097, 65_535, 1 << 31, (1 << 32) - 1, (1 << 32) - 8)
LONGS: Final = (0, 1, 5, 10, 100, 4096, 1 << 20, 1 << 31, 1 << 40, (1 << 63) - 1, 1 << 63, (1 << 64) - 1, (1 << 64) - 5)
RIGHTS: Final = (
    *(right.READ, right.READ | right.WRITE, right.WRITE, right.FILE, right.FOLDER, right.READ | right.READDIR, 0),
    (1 << 64) - 1,
)
SCRATCH: Final = 0x4000
"""Where paths and vectors are put, mostly; answers go below it."""

_HEAD: Final = struct.Struct("<BIH")
_WORD: Final = struct.Struct("<I")
_LONG: Final = struct.Struct("<Q")

OFTEN: Final = (
    *("path_open",) * 12,
    *("fd_read", "fd_write", "fd_pread", "fd_pwrite", "fd_readdir", "fd_seek", "fd_close", "path_rename") * 4,
    *("path_unlink_file", "path_create_directory", "path_remove_directory", "path_filestat_get", "path_symlink") * 3,
    *("fd_renumber", "poll_oneoff", "path_link", "fd_filestat_set_size", "fd_fdstat_set_flags", "fd_sync") * 2,
)
PATHS: Final[Mapping[str, tuple[tuple[int, int], ...]]] = {
    **{"path_create_directory": ((1, 2),), "path_remove_directory": ((1, 2),), "path_unlink_file": ((1, 2),)},
    **{"path_open": ((2, 3),), "path_filestat_get": ((2, 3),), "path_filestat_set_times": ((2, 3),)},
    **{"path_readlink": ((1, 2),), "path_rename": ((1, 2), (4, 5)), "path_link": ((2, 3), (5, 6))},
    **{"path_symlink": ((0, 1), (3, 4))},
}
"""At which words a path stands, and at which its length."""
DESCRIPTORS: Final = {"path_symlink": (2,), "path_rename": (0, 3), "path_link": (0, 4), "fd_renumber": (0, 1)}
NONE: Final = frozenset({"args_get", "args_sizes_get", "environ_get", "environ_sizes_get", "random_get", "poll_oneoff"})
VECTORS: Final = frozenset({"fd_read", "fd_write", "fd_pread", "fd_pwrite", "sock_recv", "sock_send"})

Call = tuple[str, tuple[int, ...], int, bytes]
"""A function, its words, and what is put into memory before, at an address."""


def program(rng: Random, names: Sequence[str], kinds: Mapping[str, str], known: Sequence[bytes] = KNOWN) -> bytes:
    """Return a few calls as bytes, mostly of paths that are known; `read_program` reads them."""
    made = [bytes([rng.randrange(256)])]
    for at in range(rng.randrange(5, 60)):
        name = "path_open" if at < 4 else rng.choice(OFTEN) if rng.random() < 0.8 else rng.choice(names)
        made.append(_call(rng, names, name, kinds[name], known))
    return b"".join(made)


def read_program(data: bytes, names: Sequence[str], kinds: Mapping[str, str]) -> Iterator[Call]:
    """Return the calls of any bytes; what is cut off at the end is none."""
    at = 0
    while at + _HEAD.size <= len(data):
        index, address, size = _HEAD.unpack_from(data, at)
        at += _HEAD.size
        piece = data[at : at + size]
        at += size
        name = names[index % len(names)]
        words = []
        for kind in kinds[name]:
            shape = _LONG if kind == "I" else _WORD
            if at + shape.size > len(data):
                return
            words.append(shape.unpack_from(data, at)[0])
            at += shape.size
        address %= MEMORY
        yield name, tuple(words), address, piece[: MEMORY - address]


def _call(rng: Random, names: Sequence[str], name: str, kinds: str, known: Sequence[bytes]) -> bytes:
    words = [rng.choice(LONGS) if kind == "I" else _word(rng) for kind in kinds]
    if kinds and name not in NONE:
        for at in DESCRIPTORS.get(name, (0,)):
            words[at] = _descriptor(rng, tree=name.startswith("path_") and rng.random() < 0.9)
    piece = b""
    for at, length in PATHS.get(name, ()):
        path = _path(rng, known)
        words[at], words[length] = SCRATCH + len(piece), len(path)
        piece += path
    if name in VECTORS:
        piece = _vectors(rng)
        words[1], words[2] = SCRATCH, len(piece) // 8
    elif name == "poll_oneoff":
        piece = _subscriptions(rng)
        words[0], words[1], words[2], words[3] = SCRATCH, 0, len(piece) // 48, 8192
    elif name == "path_open" and rng.random() < 0.7:
        words[1], (words[4], words[5]), words[6] = 1, rng.choice(OPENINGS), (1 << 64) - 1
        words[7], words[8] = rng.choice((0, 0, 0, 0, 1, 4)), 64
    elif name == "path_open":
        words[1] = rng.choice((0, 1, 1, 1, 2))
        words[4] = rng.choice((0, 0, 1, 1, 1, 2, 4, 5, 8, 9, 13, 16))
        words[5], words[6], words[7] = rng.choice(RIGHTS), rng.choice(RIGHTS), rng.choice((0, 0, 0, 1, 4, 5, 16, 32))
        words[8] = 64
    elif name == "fd_readdir":
        words[1], words[2], words[3], words[4] = 4096, rng.choice((0, 1, 24, 25, 300)), rng.choice((*LONGS, 2, 3)), 64
    elif name == "fd_fdstat_set_flags":
        words[1] = rng.choice((0, 0, 1, 4, 5, 16, 31, 32))
    elif name == "fd_fdstat_set_rights":
        words[1] = words[2] = rng.choice((0, right.READ, right.READ | right.OPEN, right.STAT))
    elif name in ("fd_filestat_set_times", "path_filestat_set_times"):
        words[-1], words[-2] = rng.choice((0, 1, 2, 4, 5, 8, 10, 15)), rng.choice((0, 1, 1 << 60))
        words[1] = rng.choice((0, 1, 2)) if name.startswith("path") else words[1]
    elif name.startswith("clock_"):
        words[0] = rng.randrange(5)
    elif name == "fd_seek":
        words[2] = rng.randrange(4)
    elif name == "fd_advise":
        words[3] = rng.randrange(7)
    if name in ("path_filestat_get", "path_link"):
        words[1] = rng.choice((0, 1, 1, 2))
    for at, kind in enumerate(kinds):  # now and then anything at all
        if rng.random() < 0.03:
            words[at] = _hostile(rng, kind)
    packed = b"".join([(_LONG if kind == "I" else _WORD).pack(word) for kind, word in zip(kinds, words, strict=True)])
    address = SCRATCH if rng.random() < 0.98 else rng.randrange(1 << 32)
    return _HEAD.pack(names.index(name), address, len(piece)) + piece + packed


def _descriptor(rng: Random, *, tree: bool) -> int:
    if tree:
        return 3
    return rng.randrange(3, 8) if rng.random() < 0.9 else rng.choice((0, 1, 2, 1023, 1024, 1 << 31, (1 << 32) - 1))


def _word(rng: Random) -> int:
    return rng.randrange(0, SCRATCH, 8) if rng.random() < 0.7 else rng.choice(NUMBERS)


def _hostile(rng: Random, kind: str) -> int:
    if kind == "I":
        return rng.choice(LONGS) if rng.random() < 0.7 else rng.getrandbits(64)
    odds = rng.random()
    if odds < 0.4:
        return (rng.choice((0, MEMORY, MEMORY, 1 << 31, 1 << 32)) + rng.randrange(-9, 10)) & 0xFFFF_FFFF
    return rng.choice(NUMBERS) if odds < 0.7 else rng.getrandbits(32)


def _path(rng: Random, known: Sequence[bytes]) -> bytes:
    odds = rng.random()
    if odds < 0.02:
        return rng.choice((b"", b"/", b"//", b"a" * 4096, b"a/" * 2049, b"../" * 700, b"a/../" * 800, b"/etc/passwd"))
    if odds < 0.75:
        return rng.choice(known)
    names = [rng.choice(NAMES) for _ in range(rng.choice((0, 1, 1, 1, 1, 2, 2, 3, 5)))]
    place = rng.choice(PLACES).encode() if rng.random() < 0.9 else b""
    path = b"/".join([place, *names]) if place else b"/".join(names)
    return path + b"/" if rng.random() < 0.05 else path


def _vectors(rng: Random) -> bytes:
    rows = []
    for _ in range(rng.choice((0, 1, 1, 1, 2, 3, 9))):
        if rng.random() < 0.85:
            start, size = rng.randrange(0x5000, 0x9000), rng.choice((0, 1, 5, 100, 4096, 20_000))
        else:
            start, size = _hostile(rng, "i"), _hostile(rng, "i")
        rows.append(struct.pack("<II", start, size))
    return b"".join(rows)


def _subscriptions(rng: Random) -> bytes:
    rows = []
    for _ in range(rng.choice((0, 1, 1, 2, 5))):
        head = struct.pack("<QB7x", rng.getrandbits(64), rng.choice((0, 0, 1, 1, 2, 2, 3, 255)))
        if head[8]:
            rows.append(head + struct.pack("<I28x", _descriptor(rng, tree=False)))
        else:
            rows.append(
                head + struct.pack("<I4xQQH6x", rng.choice((0, 1, 1, 2, 4)), rng.choice(LONGS), 0, rng.randrange(3))
            )
    return b"".join(rows)
