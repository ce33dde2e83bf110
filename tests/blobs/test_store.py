from __future__ import annotations

import errno
import hashlib
import os
import random
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from pulp_runtime.blobs import store as store_module
from pulp_runtime.blobs.bucket import FIELDS_BYTES, MIB, OBJECT_BYTES, Bucket, Caller, Damaged, check_name, check_type
from pulp_runtime.blobs.reading import MEMORY_BYTES, PIECE
from pulp_runtime.blobs.store import LocalBucket, Store
from pulp_runtime.files.quota import DiskQuota

ME = Caller()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "blobs")
    yield opened
    opened.close()


@pytest.fixture
def bucket(store: Store) -> LocalBucket:
    return store.bucket("photos")


@contextmanager
def fails(code: int) -> Iterator[None]:
    with pytest.raises(OSError) as caught:  # noqa: PT011  # the number is looked at
        yield
    assert errno.errorcode[caught.value.errno] == errno.errorcode[code]


def put(bucket: Bucket, name: str, data: bytes, caller: Caller = ME, step: int = PIECE // 3) -> None:
    writer = bucket.write(caller, name)
    try:
        for at in range(0, len(data), step):
            writer.write_at(caller, at, memoryview(data[at : at + step]))
        writer.commit(caller)
    finally:
        writer.abandon()


def get(bucket: Bucket, name: str) -> bytes:
    reader = bucket.read(ME, name)
    assert reader is not None
    try:
        into = memoryview(bytearray(reader.info.size + 1))
        assert reader.read_at(ME, 0, into) == reader.info.size
        return bytes(into[:-1])
    finally:
        reader.close()


def contents(store: Store) -> list[Path]:
    return [path for path in (store._folder / "content").rglob("*") if path.is_file()]


def noise(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


# Putting and reading --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE + 17])
def test_an_object_is_read_back_as_it_was_put(bucket: LocalBucket, size: int) -> None:
    data = noise(size)
    put(bucket, "cat.jpg", data)

    assert get(bucket, "cat.jpg") == data
    info = bucket.find(ME, "cat.jpg")
    assert info is not None
    assert (info.size, info.sha256) == (size, hashlib.sha256(data).digest())


def test_ranges_are_read_across_pieces_and_end_with_the_object(bucket: LocalBucket) -> None:
    data = noise(3 * PIECE)
    put(bucket, "a", data)
    reader = bucket.read(ME, "a")
    assert reader is not None

    for offset, size in (
        (0, 1),
        (PIECE - 1, 2),
        (PIECE + 5, PIECE),
        (3 * PIECE - 1, 100),
        (3 * PIECE, 5),
        (1 << 40, 5),
    ):
        into = memoryview(bytearray(size))
        count = reader.read_at(ME, offset, into)
        assert bytes(into[:count]) == data[offset : offset + size]
    reader.close()


def test_an_object_that_is_written_out_of_order_is_what_was_written(bucket: LocalBucket) -> None:
    writer = bucket.write(ME, "a")
    writer.write_at(ME, 10, memoryview(b"tail"))
    writer.write_at(ME, 0, memoryview(b"head"))
    writer.truncate(ME, 12)
    writer.commit(ME)

    assert get(bucket, "a") == b"head\0\0\0\0\0\0ta"


def test_an_object_that_is_cut_to_nothing_begins_anew(bucket: LocalBucket) -> None:
    writer = bucket.write(ME, "a")
    writer.write_at(ME, 0, memoryview(b"first"))
    writer.truncate(ME, 0)
    writer.write_at(ME, 0, memoryview(b"second"))
    writer.commit(ME)

    assert get(bucket, "a") == b"second"


def test_nobody_sees_an_object_before_it_is_put_and_an_abandoned_one_leaves_nothing(
    store: Store, bucket: LocalBucket
) -> None:
    put(bucket, "a", b"old")
    writer = bucket.write(ME, "a")
    writer.write_at(ME, 0, memoryview(b"new"))
    assert get(bucket, "a") == b"old"
    writer.abandon()
    writer.abandon()

    assert get(bucket, "a") == b"old"
    assert len(contents(store)) == 1
    assert not list((store._folder / "new").iterdir())


def test_a_reader_keeps_what_it_opened_while_others_replace_and_remove_it(store: Store, bucket: LocalBucket) -> None:
    put(bucket, "a", b"first")
    reader = bucket.read(ME, "a")
    assert reader is not None
    put(bucket, "a", b"second")
    bucket.remove(ME, "a")
    into = memoryview(bytearray(9))

    assert bytes(into[: reader.read_at(ME, 0, into)]) == b"first"
    assert len(contents(store)) == 1
    reader.close()
    reader.close()
    assert contents(store) == []


def test_content_that_is_put_again_while_an_old_reader_has_it_stays(store: Store, bucket: LocalBucket) -> None:
    put(bucket, "a", b"same")
    reader = bucket.read(ME, "a")
    assert reader is not None
    bucket.remove(ME, "a")
    put(bucket, "b", b"same")
    reader.close()

    assert get(bucket, "b") == b"same"


def test_identical_content_is_kept_once_and_goes_with_its_last_name(store: Store, bucket: LocalBucket) -> None:
    put(bucket, "a", b"same")
    put(bucket, "b", b"same")
    put(store.bucket("other"), "c", b"same")
    assert len(contents(store)) == 1
    bucket.remove(ME, "a")
    bucket.rename(ME, "b", "d")
    store.bucket("other").remove(ME, "c")
    assert get(bucket, "d") == b"same"
    bucket.remove(ME, "d")

    assert contents(store) == []
    assert store.index.bytes_of("photos") == 0


def test_readers_keep_no_descriptor(bucket: LocalBucket) -> None:
    put(bucket, "a", noise(2 * PIECE))
    before = len(os.listdir("/proc/self/fd"))
    readers = [bucket.read(ME, "a") for _ in range(2000)]

    assert len(os.listdir("/proc/self/fd")) <= before
    for reader in readers:
        assert reader is not None
        assert reader.read_at(ME, PIECE, memoryview(bytearray(10))) == 10
        reader.close()


def test_what_is_kept_in_memory_is_bounded(store: Store, bucket: LocalBucket) -> None:
    data = noise(PIECE)
    writer = bucket.write(ME, "a")
    for number in range(40):
        writer.write_at(ME, number * PIECE, memoryview(bytes([number]) + data[1:]))
    writer.commit(ME)
    reader = bucket.read(ME, "a")
    assert reader is not None
    into = memoryview(bytearray(PIECE))
    for number in range(40):
        reader.read_at(ME, number * PIECE, into)
        assert into[0] == number

    assert store.pieces._size <= MEMORY_BYTES
    assert store.pieces._size == sum(map(len, store.pieces._kept.values()))
    reader.close()


# Damage ---------------------------------------------------------------------------------------------------------------


def test_a_changed_byte_is_an_error_in_its_piece_and_only_there(store: Store, bucket: LocalBucket) -> None:
    data = noise(3 * PIECE)
    put(bucket, "a", data)
    (path,) = contents(store)
    with path.open("r+b") as file:
        file.seek(PIECE + 100)
        file.write(bytes([data[PIECE + 100] ^ 1]))
    reader = bucket.read(ME, "a")
    assert reader is not None
    into = memoryview(bytearray(2 * PIECE))

    assert reader.read_at(ME, 0, into) == PIECE  # what is good is given out, and nothing else
    with pytest.raises(Damaged):
        reader.read_at(ME, PIECE, into)
    assert reader.read_at(ME, 2 * PIECE, into) == PIECE
    assert bytes(into[:PIECE]) == data[2 * PIECE :]
    reader.close()


@pytest.mark.parametrize("harm", ["short", "gone", "link"])
def test_a_file_that_is_short_gone_or_a_link_is_an_error(store: Store, bucket: LocalBucket, harm: str) -> None:
    put(bucket, "a", b"content")
    (path,) = contents(store)
    if harm == "short":
        os.truncate(path, 3)
    else:
        path.unlink()
    if harm == "link":
        path.symlink_to("/etc/passwd")
    with pytest.raises(Damaged):
        get(bucket, "a")


def test_putting_the_same_bytes_again_mends_a_damaged_file(store: Store, bucket: LocalBucket) -> None:
    put(bucket, "a", b"content")
    (path,) = contents(store)
    path.write_bytes(b"CONTENT")
    with pytest.raises(Damaged):
        get(bucket, "a")
    put(bucket, "b", b"content")

    assert get(bucket, "a") == b"content"


def test_a_start_removes_orphans_and_counts_what_is_missing(tmp_path: Path) -> None:
    store = Store(tmp_path / "b")
    put(store.bucket("p"), "a", b"kept")
    put(store.bucket("p"), "b", b"lost")
    store.close()
    lost = hashlib.sha256(b"lost").hexdigest()
    (tmp_path / "b" / "content" / lost[:2] / lost).unlink()
    (tmp_path / "b" / "new" / "half").write_bytes(b"half")
    (tmp_path / "b" / "content" / lost[:2] / ("0" * 64)).write_bytes(b"nobody's")

    store = Store(tmp_path / "b")
    assert store.swept == (2, 1)
    assert get(store.bucket("p"), "a") == b"kept"
    store.close()


# Names ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("", errno.EINVAL),
        ("a//b", errno.EINVAL),
        ("/a", errno.EINVAL),
        ("a/", errno.EINVAL),
        (".a", errno.EINVAL),
        ("a/.b", errno.EINVAL),
        ("..", errno.EINVAL),
        ("a\0b", errno.EINVAL),
        ("\ud800", errno.EINVAL),
        ("a" * 1025, errno.ENAMETOOLONG),
        ("é" * 513, errno.ENAMETOOLONG),
    ],
)
def test_a_name_that_no_bucket_takes_is_refused(bucket: LocalBucket, name: str, code: int) -> None:
    with fails(code):
        bucket.write(ME, name)


def test_the_longest_name_is_taken() -> None:
    assert check_name("a" * 1024) == b"a" * 1024


def test_a_name_is_an_object_or_a_folder_and_not_both(bucket: LocalBucket) -> None:
    put(bucket, "a/b", b"x")
    with fails(errno.EISDIR):
        put(bucket, "a", b"x")
    with fails(errno.ENOTDIR):
        put(bucket, "a/b/c", b"x")
    early = bucket.write(ME, "z")
    put(bucket, "z/y", b"x")
    with fails(errno.EISDIR):
        early.commit(ME)
    put(bucket, "m", b"x")
    with fails(errno.ENOTDIR):
        bucket.rename(ME, "m", "a/b/c")
    with fails(errno.EISDIR):
        bucket.rename(ME, "m", "a")

    assert get(bucket, "m") == b"x"


def test_a_listing_is_in_the_order_of_bytes_paged_and_without_repetition(bucket: LocalBucket) -> None:
    names = ["a", "a-", "b/1", "b/2", "b0", "c/d/e", "c/d/f", "é", "Z", "b-"]
    for name in names:
        put(bucket, name, b"")
    everything = bucket.names(ME, "", "", 100)

    assert everything == sorted(
        {(name.partition("/")[0], "/" in name) for name in names}, key=lambda one: one[0].encode() + b"/" * one[1]
    )
    assert bucket.names(ME, "c/d", "", 100) == [("e", False), ("f", False)]
    paged, after = [], ""
    while page := bucket.names(ME, "", after, 1):
        paged += page
        after = f"{page[0][0]}/" if page[0][1] else page[0][0]
    assert paged == everything


def test_listing_a_folder_of_thousands_does_not_look_at_each(bucket: LocalBucket) -> None:
    with bucket._store.open() as index, index.changing():
        index._connection.execute("INSERT INTO content VALUES (1, x'00', 0, x'')")
        index._connection.executemany(
            "INSERT INTO object (bucket, name, content, revision, modified_ns, type, fields) VALUES (?,?,1,1,0,'','')",
            [("photos", f"{number % 7}/{number:06}".encode()) for number in range(20_000)],
        )
    steps = 0

    def count() -> None:
        nonlocal steps
        steps += 1

    bucket._store.index._connection.set_progress_handler(count, 1000)
    assert [name for name, _folder in bucket.names(ME, "", "", 100)] == list("0123456")
    assert steps < 50


# Conditions -----------------------------------------------------------------------------------------------------------


def test_an_exclusive_put_reserves_its_name(bucket: LocalBucket) -> None:
    first = bucket.write(ME, "a", exclusive=True)
    with fails(errno.EEXIST):
        bucket.write(ME, "a", exclusive=True)
    first.abandon()
    second = bucket.write(ME, "a", exclusive=True)
    second.commit(ME)
    with fails(errno.EEXIST):
        bucket.write(ME, "a", exclusive=True)


def test_an_exclusive_put_that_somebody_overtook_is_stale(bucket: LocalBucket) -> None:
    writer = bucket.write(ME, "a", exclusive=True)
    put(bucket, "a", b"other")
    with fails(errno.ESTALE):
        writer.commit(ME)
    assert get(bucket, "a") == b"other"


@pytest.mark.parametrize("change", ["put", "removed", "removed and put"])
def test_a_conditional_put_is_stale_when_anything_happened(bucket: LocalBucket, change: str) -> None:
    put(bucket, "a", b"1")
    info = bucket.find(ME, "a")
    assert info is not None
    writer = bucket.write(ME, "a", base=info.version)
    if change != "put":
        bucket.remove(ME, "a")
    if change != "removed":
        put(bucket, "a", b"1")
    with fails(errno.ESTALE):
        writer.commit(ME)


# What is said about an object -----------------------------------------------------------------------------------------


def test_what_is_said_about_an_object_stays_when_it_is_put_again_or_renamed(bucket: LocalBucket) -> None:
    put(bucket, "a", b"1")
    bucket.describe(ME, "a", "image/png", {"x-camera": "box"})
    first = bucket.find(ME, "a")
    put(bucket, "a", b"22")
    bucket.rename(ME, "a", "b")
    info = bucket.find(ME, "b")
    assert first is not None
    assert info is not None

    assert (info.content_type, info.fields, info.size) == ("image/png", {"x-camera": "box"}, 2)
    assert info.inode == first.inode
    bucket.describe(ME, "b", None, {"x-camera": None})
    assert bucket.find(ME, "b").fields == {}  # type: ignore[union-attr]


@pytest.mark.parametrize("content_type", ["", "png", "a/b\r\nx: y", "a/b\0", "image/" + "p" * 300, "é/b"])
def test_a_content_type_that_is_none_is_refused(content_type: str) -> None:
    with fails(errno.EINVAL):
        check_type(content_type)


def test_fields_are_bounded_and_named(bucket: LocalBucket) -> None:
    put(bucket, "a", b"")
    for name, value, code in (
        ("x-a", "v" * FIELDS_BYTES, errno.EFBIG),
        ("x-A", "v", errno.EINVAL),
        ("sha256", "v", errno.EINVAL),
        ("x-a", "a\r\nb", errno.EINVAL),
        ("x-" + "a" * 64, "v", errno.EINVAL),
    ):
        with fails(code):
            bucket.describe(ME, "a", None, {name: value})
    with fails(errno.ENOENT):
        bucket.describe(ME, "missing", None, {"x-a": "v"})


# Bounds ---------------------------------------------------------------------------------------------------------------


def test_a_full_bucket_takes_no_more_and_keeps_what_it_has(store: Store) -> None:
    bucket = store.bucket("small", most_bytes=10)
    put(bucket, "a", b"12345")
    with fails(errno.EDQUOT):
        put(bucket, "b", b"123456")
    put(bucket, "a", b"1234567890")
    with fails(errno.EDQUOT):
        put(bucket, "a", b"12345678901")
    bucket.remove(ME, "a")
    put(bucket, "b", b"123456")

    assert get(bucket, "b") == b"123456"
    assert len(contents(store)) == 1


def test_the_disk_quota_ends_a_put_and_gives_back_what_it_had_taken(tmp_path: Path) -> None:
    quota = DiskQuota(tmp_path / "root", 4 * MIB)
    store = Store(tmp_path / "root" / "blobs")
    bucket, caller = store.bucket("p"), Caller(quota=quota)
    before = quota.room()
    writer = bucket.write(caller, "a")
    with fails(errno.EDQUOT):
        for number in range(100):
            writer.write_at(caller, number * MIB, memoryview(bytes(MIB)))
    writer.abandon()
    assert quota.room() == before
    put(bucket, "a", noise(MIB), caller)

    assert quota.room() <= before - MIB
    store.close()


def test_an_object_past_its_bound_and_a_hole_past_the_quota_are_refused(tmp_path: Path, bucket: LocalBucket) -> None:
    writer = bucket.write(ME, "a")
    with fails(errno.EFBIG):
        writer.write_at(ME, OBJECT_BYTES, memoryview(b"x"))
    with fails(errno.EFBIG):
        writer.truncate(ME, OBJECT_BYTES + 1)
    with fails(errno.EDQUOT):
        writer.truncate(Caller(quota=DiskQuota(tmp_path, 1 << 30)), 1 << 33)
    writer.abandon()


def test_writers_are_bounded_and_readers_go_on(bucket: LocalBucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "MOST_WRITERS", 3)
    writers = [bucket.write(ME, f"a{number}") for number in range(3)]
    with fails(errno.EMFILE):
        bucket.write(ME, "b")
    for writer in writers:
        writer.commit(ME)
    bucket.write(ME, "b").abandon()


def test_a_deadline_ends_what_reads_everything_again(bucket: LocalBucket) -> None:
    writer = bucket.write(ME, "a")
    writer.write_at(ME, 5, memoryview(b"x"))
    with fails(errno.ETIMEDOUT):
        writer.commit(Caller(seconds_left=lambda: 0.0))
    assert bucket.find(ME, "a") is None


# The disk -------------------------------------------------------------------------------------------------------------


def test_bytes_are_on_disk_before_their_name_and_their_name_before_the_index(
    store: Store, bucket: LocalBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync, rename = os.fsync, os.rename

    def spy_fsync(file: int) -> None:
        steps.append("fsync " + ("folder" if os.path.isdir(f"/proc/self/fd/{file}") else "file"))
        fsync(file)

    def spy_rename(old: Path, new: Path) -> None:
        steps.append("rename")
        rename(old, new)

    put(bucket, "first", b"same")  # now its folder is there
    monkeypatch.setattr(os, "fsync", spy_fsync)
    monkeypatch.setattr(os, "rename", spy_rename)
    store.index._connection.set_trace_callback(lambda sql: steps.append(sql) if sql == "COMMIT" else None)
    put(bucket, "a", b"same")

    assert steps == ["fsync file", "rename", "fsync folder", "COMMIT"]
    assert store.index._connection.execute("PRAGMA synchronous").fetchone() == (2,)  # each commit waits for the disk


# The store itself -----------------------------------------------------------------------------------------------------


def test_one_store_at_a_time_has_a_folder_open(tmp_path: Path, store: Store) -> None:
    with fails(errno.EBUSY):
        Store(tmp_path / "blobs")
    store.close()
    store.close()
    Store(tmp_path / "blobs").close()


def test_a_closed_store_says_so(store: Store, bucket: LocalBucket) -> None:
    put(bucket, "a", b"x")
    writer, reader = bucket.write(ME, "b"), bucket.read(ME, "a")
    store.close()
    with fails(errno.EIO):
        bucket.find(ME, "a")
    with fails(errno.EIO):
        writer.commit(ME)
    assert reader is not None
    reader.close()


def test_a_file_that_is_no_index_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "index.db").write_bytes(b"something else" * 1000)
    with fails(errno.EIO):
        Store(tmp_path)
    assert (tmp_path / "index.db").read_bytes().startswith(b"something else")


class Model(RuleBasedStateMachine):
    """A bucket does what a dictionary does, and keeps exactly the content that somebody has."""

    names = st.sampled_from(["a", "b", "c", "d/1", "d/2", "d/e/3", "z"])
    data = st.sampled_from([b"", b"one", b"two", b"three" * 100])

    @initialize()
    def open(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.store = Store(Path(self.folder.name))
        self.bucket = self.store.bucket("p")
        self.model: dict[str, bytes] = {}

    @rule(name=names, data=data)
    def put(self, name: str, data: bytes) -> None:
        put(self.bucket, name, data)
        self.model[name] = data

    @rule(name=names)
    def remove(self, name: str) -> None:
        if name in self.model:
            self.bucket.remove(ME, name)
            del self.model[name]
        else:
            with fails(errno.ENOENT):
                self.bucket.remove(ME, name)

    @rule(old=names, new=names)
    def rename(self, old: str, new: str) -> None:
        if old in self.model:
            self.bucket.rename(ME, old, new)
            self.model[new] = self.model.pop(old)

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = Store(Path(self.folder.name))
        self.bucket = self.store.bucket("p")
        assert self.store.swept == (0, 0)

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "model"):
            return
        found = {name: get(self.bucket, name) for name in self.model}
        assert found == self.model
        assert {path.name for path in contents(self.store)} == {
            hashlib.sha256(data).hexdigest() for data in self.model.values()
        }
        assert self.store.index.bytes_of("p") == sum(map(len, self.model.values()))
        top = {(name.partition("/")[0], "/" in name) for name in self.model}
        assert set(self.bucket.names(ME, "", "", 100)) == top

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
            self.folder.cleanup()


TestModel = pytest.mark.slow(Model.TestCase)
TestModel.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
