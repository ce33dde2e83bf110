"""The embedded store: files named by the hash of what is in them, and an index.

    {folder}/index.db             see `index`
    {folder}/content/ab/ab12…     content, named by its SHA-256; identical content is there once
    {folder}/new/…                what is being written

An object that has been put is on disk: first its bytes, then its name among the files, then the index. What dies on
the way leaves a file that the index does not know, and the next start removes it.
"""

from __future__ import annotations

import errno
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from pulp_runtime.blobs.bucket import Bucket, Caller, Damaged, Info, Reader, Version, Writer, check_name
from pulp_runtime.blobs.index import Content, Index
from pulp_runtime.blobs.reading import LocalReader, Pieces
from pulp_runtime.blobs.writing import LocalWriter
from pulp_runtime.files.atomic import sync_folder
from pulp_runtime.files.quota import BLOCK
from pulp_runtime.kv.fault import KvError
from pulp_runtime.kv.hold import Hold

INDEX: Final = "index.db"
MOST_WRITERS: Final = 128
"""Most objects of one store that are being written at once; each has a descriptor of the host."""

_SHA256_BYTES: Final = 32


class Swept(NamedTuple):
    """What the start of a store found.

    Attributes:
        orphans: files that belonged to nothing, and were removed.
        missing: how many contents the index knows and no file has.
    """

    orphans: int
    missing: int


class Store:
    """An open store. Safe from any thread; one process at a time has it open.

    Args:
        folder: where everything is; created when it is not there.
        now_ns: the clock, nanoseconds since 1970.

    Attributes:
        swept: what was found at the start.
        pieces: verified pieces of content, in memory.

    Raises:
        OSError: `EBUSY` another process has it open; `EIO` it cannot be read.
    """

    def __init__(self, folder: Path, *, now_ns: Callable[[], int] = time.time_ns) -> None:
        self.pieces: Final = Pieces(self._path)
        self._folder: Final = folder
        self._now_ns: Final = now_ns
        self._lock: Final = threading.RLock()
        self._pins: Final[dict[bytes, int]] = {}
        self._doomed: Final[set[bytes]] = set()
        self._reserved: Final[set[tuple[str, str]]] = set()
        self._writers = 0
        self._closed = False
        self._hold: Final = _held(folder / INDEX)
        try:
            for name in ("content", "new"):
                (folder / name).mkdir(0o700, exist_ok=True)
            self.index: Final = Index(folder / INDEX)
            self.swept: Final = self._sweep()
        except BaseException:
            self._hold.release()
            raise

    def bucket(self, name: str, *, most_bytes: int = 0) -> LocalBucket:
        """Return a bucket; it is there when the first object is put.

        Args:
            name: of the bucket.
            most_bytes: how much its objects may have together, 0 for any.
        """
        return LocalBucket(self, name, most_bytes)

    @contextmanager
    def open(self) -> Iterator[Index]:
        """Give out the index while nobody else uses it.

        Raises:
            OSError: `EIO` the store is closed.
        """
        with self._lock:
            if self._closed:
                raise OSError(errno.EIO, "the store is closed")
            yield self.index

    # Content ----------------------------------------------------------------------------------------------------

    def _path(self, sha256: bytes) -> Path:
        name = sha256.hex()
        return self._folder / "content" / name[:2] / name

    def pin(self, sha256: bytes) -> None:
        """Keep content as long as somebody reads it."""
        with self._lock:
            self._pins[sha256] = self._pins.get(sha256, 0) + 1

    def unpin(self, sha256: bytes) -> None:
        """Let go of it again."""
        with self._lock:
            left = self._pins.pop(sha256) - 1
            if left:
                self._pins[sha256] = left
            elif sha256 in self._doomed:
                self.drop(sha256)

    def drop(self, sha256: bytes | None) -> None:
        """Remove content that no object has any more, at once or when the last reader is done."""
        if sha256 is None:
            return
        with self._lock:
            if sha256 in self._pins and not self._closed:
                self._doomed.add(sha256)
                return
            self._doomed.discard(sha256)
            self.pieces.forget(sha256)
            try:
                os.unlink(self._path(sha256))
            except OSError:
                pass  # the next start finds it

    def adopt(self, temporary: Path, sha256: bytes) -> None:
        """Make a file that is on disk the content of that hash; one that is there is replaced, so mended."""
        path = self._path(sha256)
        if not path.parent.is_dir():
            path.parent.mkdir(0o700, exist_ok=True)
            _sync(path.parent.parent)
        os.rename(temporary, path)
        _sync(path.parent)
        self._doomed.discard(sha256)
        self.pieces.forget(sha256)

    def _sweep(self) -> Swept:
        """Remove what the last process left behind."""
        orphans = 0
        known = self.index.contents()
        found = 0
        for entry in os.scandir(self._folder / "new"):
            os.unlink(entry.path)
            orphans += 1
        for shard in os.scandir(self._folder / "content"):
            for entry in os.scandir(shard.path):
                if _hash(entry.name) in known:
                    found += 1
                else:
                    os.unlink(entry.path)
                    orphans += 1
        return Swept(orphans, len(known) - found)

    # Writers ----------------------------------------------------------------------------------------------------

    def began(self, bucket: str, name: str, *, exclusive: bool) -> tuple[Path, int]:
        """Return a new file, and its descriptor; reserve the name if it is to be the only one.

        Raises:
            OSError: `EEXIST` it is reserved or there; `EMFILE` too many are being written; `EISDIR`, `ENOTDIR`.
        """
        with self.open() as index:
            there = index.find(bucket, name.encode()) is not None
            if not there:
                index.check_place(bucket, name.encode())
            if exclusive and ((bucket, name) in self._reserved or there):
                raise OSError(errno.EEXIST, "the object is there, or somebody is about to put it")
            if self._writers >= MOST_WRITERS:
                raise OSError(errno.EMFILE, f"{MOST_WRITERS} objects are being written; close one")
            path = self._folder / "new" / secrets.token_hex(16)
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            self._writers += 1
            if exclusive:
                self._reserved.add((bucket, name))
            return path, file

    def ended(self, bucket: str, name: str, *, exclusive: bool) -> None:
        """Note that a writer is closed."""
        with self._lock:
            self._writers -= 1
            if exclusive:
                self._reserved.discard((bucket, name))

    def now_ns(self) -> int:
        """Return the time."""
        return self._now_ns()

    def close(self) -> None:
        """Close it. May be called again. Who still reads or writes is answered `EIO`."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            for sha256 in list(self._doomed):
                self.drop(sha256)
            self.index.close()
            self._hold.release()


class LocalBucket(Bucket):
    """A bucket of the embedded store; see `Bucket`."""

    def __init__(self, store: Store, name: str, most_bytes: int) -> None:
        self._store: Final = store
        self._name: Final = name
        self._most: Final = most_bytes

    def find(self, _caller: Caller, name: str) -> Info | None:
        """See `Bucket.find`."""
        encoded = check_name(name)
        with self._store.open() as index:
            return index.find(self._name, encoded)

    def has_folder(self, _caller: Caller, folder: str) -> bool:
        """See `Bucket.has_folder`."""
        encoded = check_name(folder)
        with self._store.open() as index:
            return index.has_folder(self._name, encoded)

    def names(self, _caller: Caller, folder: str, after: str, limit: int) -> list[tuple[str, bool]]:
        """See `Bucket.names`."""
        with self._store.open() as index:
            return index.names(self._name, folder.encode(), after.encode(), limit)

    def read(self, _caller: Caller, name: str) -> Reader | None:
        """See `Bucket.read`."""
        encoded = check_name(name)
        with self._store.open() as index:
            info = index.find(self._name, encoded)
            if info is None:
                return None
            content = index.content(info.sha256)
            if content is None:
                raise Damaged("the index has no digests for it")
            self._store.pin(info.sha256)
        return LocalReader(info, content, self._store.pieces, lambda: self._store.unpin(info.sha256))

    def write(self, caller: Caller, name: str, *, exclusive: bool = False, base: Version | None = None) -> Writer:
        """See `Bucket.write`."""
        encoded = check_name(name)
        self._room(caller)
        path, file = self._store.began(self._name, name, exclusive=exclusive)

        def put(content: Content) -> Info:
            with self._store.open() as index:
                with index.changing():
                    info, gone = index.put(
                        self._name,
                        encoded,
                        content,
                        base=base,
                        fresh=exclusive,
                        most=self._most,
                        now_ns=self._store.now_ns(),
                    )
                    self._store.adopt(path, content.sha256)
                self._store.drop(gone)
            return info

        return LocalWriter(path, file, put, lambda: self._store.ended(self._name, name, exclusive=exclusive))

    def remove(self, _caller: Caller, name: str) -> None:
        """See `Bucket.remove`."""
        encoded = check_name(name)
        with self._store.open() as index:
            with index.changing():
                gone = index.remove(self._name, encoded)
            self._store.drop(gone)

    def rename(self, caller: Caller, old: str, new: str) -> None:
        """See `Bucket.rename`."""
        names = check_name(old), check_name(new)
        self._room(caller)
        with self._store.open() as index:
            with index.changing():
                gone = index.rename(self._name, *names)
            self._store.drop(gone)

    def describe(self, caller: Caller, name: str, content_type: str | None, fields: Mapping[str, str | None]) -> None:
        """See `Bucket.describe`."""
        encoded = check_name(name)
        self._room(caller)
        with self._store.open() as index, index.changing():
            index.describe(self._name, encoded, content_type, fields)

    def _room(self, caller: Caller) -> None:
        """Return if the index may grow."""
        if caller.quota is None or caller.quota.room() >= BLOCK:
            return
        with self._store.open() as index:
            if index.has_room():
                return
            index.shrink()
        caller.quota.check(BLOCK)

    def close(self) -> None:
        """See `Bucket.close`; the store is closed by whoever opened it."""


def _hash(name: str) -> bytes:
    try:
        return bytes.fromhex(name) if len(name) == 2 * _SHA256_BYTES else b""
    except ValueError:
        return b""


def _held(path: Path) -> Hold:
    try:
        return Hold(path)
    except KvError as error:
        raise OSError(errno.EBUSY, str(error)) from None


def _sync(folder: Path) -> None:
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        sync_folder(file)
    finally:
        os.close(file)
