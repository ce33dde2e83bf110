from __future__ import annotations

import errno
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.capabilities.cloud.kv_runs import (
    APPEND,
    CREATE,
    EXCLUSIVE,
    FOLDER,
    READ,
    UPDATE,
    WRITE,
    Cloud,
    Program,
    content,
    fails,
    put,
)

from pulp_runtime.blobs.bucket import MIB
from pulp_runtime.blobs.store import LocalBucket, Store
from pulp_runtime.capabilities.cloud import blob, blob_tree
from pulp_runtime.capabilities.cloud.blob import capability
from pulp_runtime.ext import ExtensionError, How, Kind
from pulp_runtime.testing import FakeHost

STORE = ".pulp-cloud/blob"
ROOT = "/beta/blob/photos"
RW = {"photos": "rw", "docs": "ro"}


@pytest.fixture
def make(pulp_env: FakeHost) -> Iterator[Callable[..., Cloud]]:
    made: list[Cloud] = []

    def make(config: dict[str, Any] | None = None) -> Cloud:
        made.append(Cloud(pulp_env, capability(), config))
        return made[-1]

    yield make
    for cloud in made:
        cloud.close()


@pytest.fixture
def cloud(make: Callable[..., Cloud]) -> Cloud:
    return make()


@pytest.fixture
def program(cloud: Cloud) -> Program:
    return cloud.program(cloud.cell(granted={"blob": RW}), ROOT)


@pytest.fixture
def reader(cloud: Cloud, program: Program) -> Program:
    """Return a program of the same namespace that may only read."""
    program.write("dir/cat.jpg", b"meow")
    cell = cloud.cell("viewer", granted={"blob": {"photos": "ro"}, "namespace": "shop"})
    return cloud.program(cell, ROOT)


def content_files(cloud: Cloud, namespace: str = "shop") -> list[Path]:
    folder = cloud.host.storage_root / STORE / namespace / "content"
    return [path for path in folder.rglob("*") if path.is_file()]


# Objects --------------------------------------------------------------------------------------------------------------


def test_a_program_reads_back_what_it_wrote_and_lists_it(program: Program) -> None:
    program.write("2026/cat.jpg", b"meow")
    program.write("dog.jpg", b"woof")

    assert program.read("2026/cat.jpg") == b"meow"
    assert program.ls() == ["2026", "dog.jpg"]
    assert program.ls("2026") == ["cat.jpg"]
    assert program.stat("2026").kind is Kind.FOLDER
    stat = program.stat("dog.jpg")
    assert (stat.kind, stat.size) == (Kind.FILE, 4)
    assert stat.modified_ns > 0
    assert stat.inode == program.open("dog.jpg").stat().inode


def test_a_folder_that_is_open_is_the_start_of_paths(program: Program) -> None:
    program.write("a/b/c", b"x")
    folder = program.folder("a")
    file = folder.open(("b", "c"), READ)

    assert content(file) == b"x"  # type: ignore[arg-type]
    assert [entry.name for entry in folder.open(("b",), FOLDER).entries()] == ["c"]  # type: ignore[union-attr]
    folder.rename(("b", "c"), program.folder("a/b"), ("d",))
    assert program.ls("a/b") == ["d"]


def test_ranges_are_read_by_position(program: Program) -> None:
    program.write("a", bytes(range(256)) * 8192)
    file = program.open("a")
    into = memoryview(bytearray(4))

    assert file.read_at(MIB - 2, into) == 4
    assert bytes(into) == b"\xfe\xff\x00\x01"


def test_an_object_is_put_when_it_is_closed_and_not_when_the_program_is_ended(program: Program) -> None:
    program.write("a", b"old")
    put(program.open("a", WRITE), b"new")
    assert program.read("a") == b"old"
    program.end(clean=False)
    assert program.read("a") == b"old"
    put(program.open("a", WRITE), b"new")
    program.end()

    assert program.read("a") == b"new"


def test_an_empty_object_is_an_object(program: Program) -> None:
    program.write("a", b"")

    assert program.read("a") == b""
    assert program.ls() == ["a"]


def test_a_program_changes_an_object_in_place(program: Program) -> None:
    program.write("a", b"hello world")
    file = program.open("a", UPDATE)
    put(file, b"HELLO")
    into = memoryview(bytearray(11))
    assert file.read_at(0, into) == 11
    file.truncate(7)
    assert file.stat().size == 7
    program.close(file)

    assert program.read("a") == b"HELLO w"


def test_what_is_opened_for_change_and_not_changed_stays_what_it_was(program: Program) -> None:
    program.write("a", b"x")
    before = program.stat("a")
    file = program.open("a", CREATE)
    assert content(file) == b"x"
    file.truncate(1)
    program.close(file)

    assert program.stat("a") == before


def test_appending_adds_to_the_end(program: Program) -> None:
    program.append("log", b"one\n")
    program.append("log", b"two\n")

    assert program.read("log") == b"one\ntwo\n"


def test_a_change_in_place_that_somebody_overtook_is_stale(program: Program) -> None:
    program.write("a", b"x")
    file = program.open("a", APPEND)
    put(file, b"y", append=True)
    program.write("a", b"z")
    with fails(errno.ESTALE):
        program.close(file)

    assert program.read("a") == b"z"


def test_an_object_of_which_a_write_failed_is_not_put_also_if_the_program_does_not_care(cloud: Cloud) -> None:
    program = cloud.program(cloud.cell(granted={"blob": RW}, disk_bytes=4 * MIB), ROOT)
    program.write("a", b"old")
    file = program.open("a", WRITE)
    with fails(errno.EDQUOT):
        put(file, bytes(8 * MIB))
    with fails(errno.EDQUOT):
        program.close(file)

    assert program.read("a") == b"old"


def test_exclusive_creation_is_decided_at_open(program: Program) -> None:
    file = program.open("a", EXCLUSIVE)
    with fails(errno.EEXIST):
        program.open("a", EXCLUSIVE)
    program.close(file)
    with fails(errno.EEXIST):
        program.open("a", EXCLUSIVE)


def test_an_object_is_renamed_replacing_what_is_there_and_removed(program: Program) -> None:
    program.write("a", b"1")
    program.write("b", b"2")
    program.rename("a", "b")
    assert program.read("b") == b"1"
    program.unlink("b")

    assert program.ls() == []
    for act in (lambda: program.open("b"), lambda: program.unlink("b"), lambda: program.rename("b", "c")):
        with fails(errno.ENOENT):
            act()


def test_a_folder_and_another_bucket_are_moved_by_copying(cloud: Cloud) -> None:
    program = cloud.program(cloud.cell(granted={"blob": {"photos": "rw", "more": "rw"}}), ROOT)
    program.write("dir/a", b"x")
    for old, new in (("dir", "other"), ("dir/a", "/beta/blob/more/a")):
        with fails(errno.EXDEV):
            program.rename(old, new)


def test_a_listing_has_every_name_once_in_the_order_of_bytes(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blob_tree, "PAGE", 4)
    names = {f"{number:03}" for number in range(12)}
    for name in names:
        program.write(name, b"")
    program.mkdir("0050")

    assert program.ls() == sorted({*names, "0050"})


# Folders --------------------------------------------------------------------------------------------------------------


def test_an_empty_folder_is_remembered_for_the_run(cloud: Cloud, program: Program) -> None:
    program.mkdir("new")
    program.mkdir("new/deep")
    assert program.ls() == ["new"]
    assert program.ls("new") == ["deep"]
    assert program.stat("new").kind is Kind.FOLDER
    with fails(errno.EEXIST):
        program.mkdir("new")
    with fails(errno.ENOTEMPTY):
        program.rmdir("new")
    program.rmdir("new/deep")
    program.rmdir("new")
    with fails(errno.ENOENT):
        program.stat("new")
    program.mkdir("again")

    assert cloud.program(program.run.cell, ROOT).ls() == []


@pytest.mark.parametrize(
    ("act", "code"),
    [
        (lambda p: p.mkdir("file"), errno.EEXIST),
        (lambda p: p.mkdir("file/x"), errno.ENOTDIR),
        (lambda p: p.mkdir("nowhere/x"), errno.ENOENT),
        (lambda p: p.mkdir(".x"), errno.EINVAL),
        (lambda p: p.rmdir("file"), errno.ENOTDIR),
        (lambda p: p.rmdir("dir"), errno.ENOTEMPTY),
        (lambda p: p.rmdir("nowhere"), errno.ENOENT),
        (lambda p: p.unlink("dir"), errno.EISDIR),
        (lambda p: p.open("dir", WRITE), errno.EISDIR),
        (lambda p: p.open("dir", EXCLUSIVE), errno.EEXIST),
        (lambda p: p.open("file", FOLDER), errno.ENOTDIR),
        (lambda p: p.open("file/x", WRITE), errno.ENOTDIR),
        (lambda p: p.rename("file", "dir"), errno.EISDIR),
        (lambda p: p.rename("file", "dir/a/b"), errno.ENOTDIR),
        (lambda p: p.open("nowhere", UPDATE), errno.ENOENT),
        (lambda p: p.touch("file", 1), errno.ENOTSUP),
        (lambda p: p.unlink(""), errno.EISDIR),
        (lambda p: p.rmdir(""), errno.EBUSY),
    ],
)
def test_what_cannot_be_done_says_so(program: Program, act: Callable[[Program], object], code: int) -> None:
    program.write("file", b"x")
    program.write("dir/a", b"y")
    with fails(code):
        act(program)

    assert (program.read("file"), program.read("dir/a")) == (b"x", b"y")


def test_empty_folders_are_bounded(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blob_tree, "FOLDERS", 3)
    for number in range(3):
        program.mkdir(f"{number}")
    with fails(errno.EDQUOT):
        program.mkdir("more")


# What is said about an object -----------------------------------------------------------------------------------------


def test_what_is_known_of_an_object_is_in_small_files(program: Program) -> None:
    program.write("cat.png", b"meow")

    assert program.ls("cat.png/.meta") == ["content-type", "modified", "sha256", "size"]
    assert program.read("cat.png/.meta/sha256") == hashlib.sha256(b"meow").hexdigest().encode()
    assert program.read("cat.png/.meta/size") == b"4"
    assert program.read("cat.png/.meta/content-type") == b"application/octet-stream"
    assert program.read("cat.png/.meta/modified").endswith(b"Z")
    assert program.stat("cat.png/.meta").kind is Kind.FOLDER
    assert program.stat("cat.png/.meta/sha256").size == 64


def test_a_content_type_and_fields_are_written_read_and_removed(program: Program) -> None:
    program.write("cat.png", b"meow")
    program.write("cat.png/.meta/content-type", b"image/png\n")
    program.write("cat.png/.meta/x-owner", b"ann")
    program.append("cat.png/.meta/x-owner", b"a")

    assert program.read("cat.png/.meta/content-type") == b"image/png"
    assert program.read("cat.png/.meta/x-owner") == b"anna"
    assert "x-owner" in program.ls("cat.png/.meta")
    program.unlink("cat.png/.meta/x-owner")
    program.unlink("cat.png/.meta/content-type")
    assert program.read("cat.png/.meta/content-type") == b"application/octet-stream"
    with fails(errno.ENOENT):
        program.read("cat.png/.meta/x-owner")


@pytest.mark.parametrize(
    ("path", "data", "code"),
    [
        ("a/.meta/sha256", b"0", errno.EACCES),
        ("a/.meta/other", b"0", errno.EINVAL),
        ("a/.meta/x-a", b"0" * 2049, errno.EFBIG),
        ("a/.meta/x-a", b"\xff", errno.EINVAL),
        ("a/.meta/content-type", b"a\r\nb", errno.EINVAL),
        ("nothing/.meta/x-a", b"0", errno.ENOENT),
        (".meta/x-a", b"0", errno.ENOENT),
        ("a/.meta/x-a/b", b"0", errno.ENOTDIR),
        ("a/.meta", b"0", errno.EISDIR),
    ],
)
def test_what_cannot_be_said_is_refused(program: Program, path: str, data: bytes, code: int) -> None:
    program.write("a", b"x")
    before = program.ls("a/.meta")
    with fails(code):
        program.write(path, data)

    assert program.ls("a/.meta") == before


# Who shares -----------------------------------------------------------------------------------------------------------


def test_programs_of_a_namespace_share_its_buckets_and_others_do_not(cloud: Cloud, program: Program) -> None:
    program.write("a", b"x")
    partner = cloud.program(cloud.cell("two", granted={"blob": RW, "namespace": "shop"}), ROOT)
    stranger = cloud.program(cloud.cell("three", granted={"blob": RW}), ROOT)

    assert partner.read("a") == b"x"
    assert stranger.ls() == []
    with fails(errno.ENOENT):
        stranger.read("a")


def test_what_is_not_granted_is_not_there(program: Program) -> None:
    assert sorted(entry.name for entry in program.folder("/beta/blob").entries()) == ["docs", "photos"]
    with fails(errno.ENOENT):
        program.read("/beta/blob/secret/a")


def test_a_cell_that_is_gone_mounts_nothing_and_a_reload_keeps_what_is_there(cloud: Cloud, program: Program) -> None:
    program.write("a", b"x")
    hooks = cloud.capability
    assert hooks.swap_begin
    assert hooks.swap_end
    assert hooks.teardown_cell
    for adopted in (False, True):
        hooks.swap_begin("shop")
        cell = cloud.cell(granted={"blob": RW})
        hooks.swap_end("shop", adopted)
        assert cloud.program(cell, ROOT).read("a") == b"x"
    hooks.teardown_cell("shop")

    assert "beta" not in cloud.program(program.run.cell, ROOT).run.tree.children
    with fails(errno.EIO):
        program.read("a")


# The operator ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"buckets": {"photos": {"backend": "cluster"}}}, "the cluster's object store is not built"),
        ({"buckets": {"photos": {"backend": "floppy"}}}, "no package brings the backend 'floppy'"),
        ({"buckets": {"photos": {"options": {"x": 1}}}}, "the embedded store has no options"),
        ({"buckets": {"photos": {"max_bytes": -1}}}, "max_bytes"),
        ({"bucket": {}}, "bucket"),
    ],
)
def test_settings_that_cannot_be_are_refused_with_a_sentence(
    make: Callable[..., Cloud], config: dict[str, Any], says: str
) -> None:
    with pytest.raises(ExtensionError, match=says):
        make(config)


def test_the_operator_bounds_a_bucket(make: Callable[..., Cloud]) -> None:
    cloud = make({"buckets": {"photos": {"max_bytes": 5}}})
    program = cloud.program(cloud.cell(granted={"blob": RW}), ROOT)
    program.write("a", b"12345")
    with fails(errno.EDQUOT):
        program.write("b", b"1")

    assert "blob refused" in cloud.log()
    assert program.ls() == ["a"]


def test_a_damaged_object_is_an_error_and_a_line_in_the_log(cloud: Cloud, program: Program) -> None:
    program.write("a", b"content")
    (path,) = content_files(cloud)
    path.write_bytes(b"CONTENT")
    with fails(errno.EIO):
        program.read("a")

    assert "blob is damaged" in cloud.log()
    assert "photos" in cloud.log()


def test_an_index_that_cannot_be_read_keeps_the_cell_from_loading(cloud: Cloud) -> None:
    folder = cloud.host.storage_root / STORE / "broken"
    folder.mkdir(parents=True)
    (folder / "index.db").write_bytes(b"no database" * 1000)
    with pytest.raises(ExtensionError, match="move the folder away"):
        cloud.cell("broken", granted={"blob": RW})


def test_putting_lets_other_programs_run_meanwhile(program: Program) -> None:
    before = program.run.blocked
    program.write("a", b"x")

    assert program.run.blocked > before


class Remote(LocalBucket):
    """An embedded bucket that says it is behind a network."""

    remote = True
    closed = 0

    def close(self) -> None:
        Remote.closed += 1


def test_a_backend_of_an_extension_holds_the_bucket_that_names_it(
    make: Callable[..., Cloud], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    store = Store(tmp_path / "elsewhere")

    def connect(bucket: str, namespace: str, options: dict[str, Any]) -> LocalBucket:
        asked.append((bucket, namespace, options))
        return Remote(store, bucket, 0)

    class Entry:
        name = "far"
        load = staticmethod(lambda: connect)

    monkeypatch.setattr(blob, "entry_points", lambda group: [Entry] if group == "pulp.blob_backends" else [])
    cloud = make({"buckets": {"photos": {"backend": "far", "options": {"x": 1}}}})
    program = cloud.program(cloud.cell(granted={"blob": RW}), ROOT)
    partner = cloud.program(cloud.cell("two", granted={"blob": RW, "namespace": "shop"}), ROOT)
    program.write("dir/a", b"x")
    before = partner.run.blocked
    assert partner.read("dir/a") == b"x"
    assert partner.ls() == ["dir"]

    assert partner.run.blocked > before  # others run while a network is waited for
    assert asked == [("photos", "shop", {"x": 1})]
    assert program.ls("/beta/blob/docs") == []  # what names none is embedded
    hooks = cloud.capability
    assert hooks.teardown_cell
    hooks.teardown_cell("shop")
    assert Remote.closed == 0
    hooks.teardown_cell("two")
    assert Remote.closed == 1
    store.close()


# Attacks --------------------------------------------------------------------------------------------------------------

HOSTILE = ["..", "../x", "a/../../x", "a/./b", "./a", "/etc/passwd", "//etc", ".hidden", "a/.hidden"]


@pytest.fixture
def canary(cloud: Cloud) -> Iterator[Path]:
    """A file that no program may touch."""
    path = cloud.host.storage_root.parent / "canary"
    path.write_bytes(b"canary")
    yield path
    assert path.read_bytes() == b"canary"


@pytest.mark.parametrize("name", HOSTILE)
def test_threat_01_no_object_name_leads_out_of_its_bucket(program: Program, canary: Path, name: str) -> None:
    node, _ = program.at("")
    parts = tuple(name.split("/"))
    for act in (
        lambda: node.open(parts, WRITE),
        lambda: node.make_folder(parts),
        lambda: node.rename(("a",), node, parts),
    ):
        program.write("a", b"x")
        with pytest.raises(OSError):  # noqa: PT011  # which one depends on the name
            act()
    for act in (lambda: node.open(parts, READ), lambda: node.stat(parts), lambda: node.unlink(parts)):
        with pytest.raises(OSError):  # noqa: PT011
            act()

    assert program.ls() == ["a"]


def test_threat_02_and_03_a_link_in_place_of_content_is_not_followed(
    cloud: Cloud, program: Program, canary: Path
) -> None:
    program.write("a", b"canary")
    (path,) = content_files(cloud)
    path.unlink()
    path.symlink_to(canary)
    with fails(errno.EIO):
        program.read("a")
    program.write("b", b"canary")  # replaces the link, and does not write through it

    assert not path.is_symlink()
    assert program.read("a") == b"canary"


@pytest.mark.parametrize(
    "act",
    [
        lambda p: p.open("dir/cat.jpg", How(truncate=True)),
        lambda p: p.open("dir/cat.jpg", UPDATE),
        lambda p: p.open("dir/cat.jpg", APPEND),
        lambda p: p.open("new", CREATE),
        lambda p: p.open("dir", WRITE),
        lambda p: p.unlink("dir/cat.jpg"),
        lambda p: p.unlink("nothing"),
        lambda p: p.rename("dir/cat.jpg", "b"),
        lambda p: p.mkdir("new"),
        lambda p: p.rmdir("dir"),
        lambda p: p.touch("dir/cat.jpg", 1),
        lambda p: p.write("dir/cat.jpg/.meta/content-type", b"a/b"),
        lambda p: p.write("dir/cat.jpg/.meta/sha256", b"0"),
        lambda p: p.unlink("dir/cat.jpg/.meta/x-a"),
        lambda p: p.mkdir("dir/cat.jpg/.meta/x"),
        lambda p: p.rename("dir/cat.jpg/.meta/size", "b"),
        lambda p: p.at("dir")[0].link(("dir", "cat.jpg"), p.at("")[0], ("b",)),
        lambda p: p.at("dir")[0].symlink("x", ("b",)),
    ],
)
def test_threat_04_and_05_a_bucket_that_is_granted_read_only_is_not_changed_by_anything(
    reader: Program, program: Program, act: Callable[[Program], object]
) -> None:
    before = program.stat("dir/cat.jpg")
    with fails(errno.EROFS):
        act(reader)

    assert reader.read("dir/cat.jpg") == b"meow"
    assert program.stat("dir/cat.jpg") == before
    assert program.ls() == ["dir"]


def test_threat_04_nothing_is_moved_between_buckets_of_different_grants(cloud: Cloud, program: Program) -> None:
    program.write("a", b"x")
    for old, new in (("a", "/beta/blob/docs/a"), ("/beta/blob/docs/a", "a")):
        with fails(errno.EROFS):
            program.rename(old, new)


@pytest.mark.parametrize("name", ["a\nb", "a\\b", "C:", "CON", "a.", "a ", " ", "-rf", "x" * 1024])
def test_threat_06_an_odd_name_is_one_object_and_found_again(program: Program, name: str) -> None:
    program.write(name, b"x")

    assert program.ls() == [name]
    assert program.read(name) == b"x"


@pytest.mark.parametrize(
    ("name", "code"), [("a\0b", errno.EINVAL), ("x" * 1025, errno.ENAMETOOLONG), ("a/" * 600 + "b", errno.ENAMETOOLONG)]
)
def test_threat_06_an_impossible_name_is_a_code(program: Program, name: str, code: int) -> None:
    with fails(code):
        program.open(name, WRITE)


def test_threat_07_names_that_look_alike_are_different_objects(program: Program) -> None:
    twins = ["é", "e\u0301", "A", "a", "a\u202eb", "ab", "ß", "ss", "a%2fb", "ı", "i"]
    for number, name in enumerate(twins):
        program.write(name, b"%d" % number)

    assert {name: program.read(name) for name in twins} == {name: b"%d" % n for n, name in enumerate(twins)}
    assert len(program.ls()) == len(twins)
    with fails(errno.EINVAL):
        program.open("\ud800", WRITE)


def test_threat_08_an_object_that_is_all_holes_ends_at_the_quota(cloud: Cloud) -> None:
    program = cloud.program(cloud.cell(granted={"blob": RW}, disk_bytes=16 * MIB), ROOT)
    file = program.open("a", WRITE)
    with fails(errno.EDQUOT):
        file.truncate(1 << 40 >> 5)
    with fails(errno.EFBIG):
        file.write_at(1 << 40, memoryview(b"x"))
    program.end(clean=False)

    assert program.ls() == []


def test_threat_09_a_full_quota_ends_one_namespace_only_and_what_is_there_stays(cloud: Cloud) -> None:
    program = cloud.program(cloud.cell(granted={"blob": RW}, disk_bytes=4 * MIB), ROOT)
    other = cloud.program(cloud.cell("other", granted={"blob": RW}, disk_bytes=4 * MIB), ROOT)
    program.write("a", bytes(MIB))
    file = program.open("b", WRITE)
    with fails(errno.EDQUOT):
        put(file, bytes(8 * MIB))
    program.end(clean=False)
    other.write("a", bytes(MIB))

    assert (program.read("a"), program.ls()) == (bytes(MIB), ["a"])
    assert not list((cloud.host.storage_root / STORE / "shop" / "new").iterdir())
    assert "blob refused" in cloud.log()


@pytest.mark.slow
def test_threat_09_objects_without_a_byte_end_at_the_quota(cloud: Cloud) -> None:
    program = cloud.program(cloud.cell(granted={"blob": RW}, disk_bytes=256 * 1024), ROOT)
    with fails(errno.EDQUOT):
        for number in range(10_000):
            program.write(f"{number:0200}", b"")


def test_threat_10_a_namespace_that_is_no_folder_of_its_own_does_not_load(cloud: Cloud) -> None:
    for name in ("..", ".", "a/b", "a\\b"):
        with pytest.raises(ExtensionError, match="no name for a folder"):
            cloud.cell("x", granted={"blob": RW, "namespace": name})
