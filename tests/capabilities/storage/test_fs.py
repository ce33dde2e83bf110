from __future__ import annotations

import dataclasses
import itertools
import os
import secrets
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec
import pytest
from tests.capabilities.storage.disk import DATA, FIRST, NEWER, OUTS, PATH, RAW, RECORDS, Disk, disk, large, tree

from pulp_runtime.capabilities.storage import fs
from pulp_runtime.capabilities.storage.fs import FsSettings
from pulp_runtime.errors import HookFailed, HostError
from pulp_runtime.ext import Capability, CellRef, ExtensionError
from pulp_runtime.files.quota import BLOCK
from pulp_runtime.log import Log
from pulp_runtime.testing import HOSTILE_RANGES, CellUnderTest, FakeHost, guest

Make = Callable[..., CellUnderTest]
MIB = 1 << 20


@pytest.fixture
def files(pulp_cell: Make, tmp_path: Path) -> Disk:
    return disk(pulp_cell, storage_root=tmp_path / "data", name="one")


@pytest.fixture
def first(pulp_cell: Make, tmp_path: Path) -> Disk:
    """A module of the first version."""
    return disk(pulp_cell, first=True, storage_root=tmp_path / "data", name="old")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# Reading and writing ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"", b"x", b"\0\xff" * 5_000], ids=["nothing", "a byte", "bytes"])
def test_what_was_written_is_read_back(files: Disk, data: bytes) -> None:
    assert files.write("a.bin", data) == 0
    assert files.read("a.bin") == (0, data)
    assert (files.folder / "a.bin").read_bytes() == data


def test_a_cell_works_in_its_own_folder_below_the_storage_root(files: Disk, tmp_path: Path) -> None:
    assert files.write("notes/today/a.txt", b"hello") == 0
    assert tree(tmp_path / "data") == ["one", "one/notes", "one/notes/today", "one/notes/today/a.txt"]


def test_a_file_is_replaced_whole(files: Disk) -> None:
    files.write("a", b"a long first version")
    assert files.write("a", b"short") == 0
    assert files.read("a") == (0, b"short")
    assert tree(files.folder) == ["a"]


def test_an_empty_file_is_delivered_without_asking_for_memory(files: Disk) -> None:
    files.write("a", b"")
    files.cell.write(OUTS[0], b"\xff" * 8)
    assert files.read("a") == (0, b"")
    assert files.cell.read(OUTS[0], 8) == bytes(8)


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        pytest.param(None, 0o644, id="nothing is 0644"),
        pytest.param(0, 0o644, id="0 is 0644"),
        pytest.param(0o600, 0o600, id="what is asked for"),
        pytest.param(0o4755, 0o755, id="no more than permissions"),
        pytest.param(0o400, 0o400, id="read only"),
    ],
)
def test_a_new_file_has_the_mode_that_is_asked_for(files: Disk, asked: int | None, given: int) -> None:
    assert files.write("a", b"x", asked) == 0
    assert mode(files.folder / "a") == given


def test_a_file_that_is_there_keeps_its_mode(files: Disk) -> None:
    files.write("a", b"x", 0o640)
    assert files.write("a", b"y", 0o777) == 0
    assert mode(files.folder / "a") == 0o640


def test_the_umask_of_the_host_applies(files: Disk) -> None:
    before = os.umask(0o077)
    try:
        assert files.write("folder/a", b"x", 0o666) == 0
    finally:
        os.umask(before)
    assert (mode(files.folder / "folder"), mode(files.folder / "folder" / "a")) == (0o700, 0o600)


def test_options_that_are_no_record_are_3_and_nothing_is_written(files: Disk) -> None:
    files.cell.write(PATH, b"a")
    files.cell.write(100, b"\xc1")
    assert files.cell.run("fs_write", PATH, 1, DATA, 0, 100, 1) == 3
    assert tree(files.folder) == []


def test_a_file_can_be_as_long_as_memory(pulp_cell: Make) -> None:
    files = disk(pulp_cell, source=large(NEWER))
    data = secrets.token_bytes(MIB)

    assert files.write("large", data) == 0
    assert files.read("large") == (0, data)


# Deleting, renaming -----------------------------------------------------------------------------------------------


def test_files_and_empty_folders_are_deleted(files: Disk) -> None:
    files.write("a/b", b"x")
    assert files.raw("fs_delete", "a") == 4
    assert files.raw("fs_delete", "a/b") == 0
    assert files.raw("fs_delete", "a") == 0
    assert tree(files.folder) == []


def test_everything_below_a_folder_is_removed_and_nothing_is_fine_too(files: Disk) -> None:
    files.write("a/b/c", b"x")
    files.write("a/d", b"x")
    files.write("e", b"x")

    assert files.raw("fs_remove_all", "a") == 0
    assert files.raw("fs_remove_all", "e") == 0
    assert files.raw("fs_remove_all", "a/b/c") == 0
    assert tree(files.folder) == []


@pytest.mark.parametrize("path", [".", "a/..", "./."])
@pytest.mark.parametrize("function", ["fs_remove_all", "fs_delete"])
def test_the_folder_itself_is_not_removed(files: Disk, function: str, path: str) -> None:
    assert files.raw(function, path) == 4
    assert files.folder.is_dir()


def test_a_file_gets_another_path_and_the_folders_it_needs(files: Disk) -> None:
    files.write("a", b"x")
    assert files.record("fs_rename", old="a", new="new/er/b") == 0
    assert tree(files.folder) == ["new", "new/er", "new/er/b"]
    assert files.record("fs_rename", old="new", new="old") == 0
    assert files.read("old/er/b") == (0, b"x")


def test_a_file_is_renamed_over_another(files: Disk) -> None:
    files.write("a", b"new")
    files.write("b", b"old")
    assert files.record("fs_rename", old="a", new="b") == 0
    assert files.read("b") == (0, b"new")
    assert files.names() == ["b"]


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        pytest.param("none", "x", 6, id="something that is not there"),
        pytest.param("none/x", "x", 6, id="in a folder that is not there"),
        pytest.param("file", "folder", 4, id="a file over a folder"),
        pytest.param("folder", "empty", 4, id="a folder over another, empty as it is"),
        pytest.param("folder", "file", 4, id="a folder over a file"),
        pytest.param("folder", "folder", 4, id="a folder to itself"),
        pytest.param("folder", "folder/in", 4, id="a folder into itself"),
        pytest.param("file", "file/in", 4, id="a file into itself"),
        pytest.param("folder/in", "file/in", 4, id="below a file"),
        pytest.param(".", "x", 4, id="the cell's folder"),
        pytest.param("file", ".", 4, id="to the cell's folder"),
        pytest.param("file", "../x", 5, id="out of the folder"),
        pytest.param("../x", "x", 5, id="from outside"),
        pytest.param("", "x", 5, id="no old path"),
        pytest.param("file", "", 5, id="no new path"),
        pytest.param("file", "file", 0, id="a file to itself"),
    ],
)
def test_renaming(files: Disk, old: str, new: str, code: int) -> None:
    files.write("file", b"x")
    files.write("folder/in", b"x")
    files.record("fs_mkdir_all", path="empty")
    before = tree(files.folder)

    assert files.record("fs_rename", old=old, new=new) == code
    assert tree(files.folder) == before


# Folders ----------------------------------------------------------------------------------------------------------


def test_a_folder_is_listed_by_the_bytes_of_its_names(files: Disk) -> None:
    for name in ("b", "B", "a", "é", "z", "10", "9"):
        files.write(name, b"")
    files.record("fs_mkdir_all", path="c")

    assert files.names() == ["10", "9", "B", "a", "b", "c", "z", "é"]
    assert [entry["name"] for entry in files.answer() if entry["is_dir"]] == ["c"]


def test_an_entry_is_what_it_is_and_not_what_it_leads_to(files: Disk) -> None:
    files.record("fs_mkdir_all", path="folder")
    (files.folder / "link").symlink_to("folder")
    files.names()

    assert files.answer() == [{"name": "folder", "is_dir": True}, {"name": "link", "is_dir": False}]


def test_an_empty_folder_is_an_empty_array(files: Disk) -> None:
    files.names()
    assert files.delivered() == b"\x90"


def test_the_records_of_a_listing_have_the_published_shape(files: Disk) -> None:
    files.write("a", b"")
    files.names()
    assert files.delivered() == b"\x91\x82\xa4name\xa1a\xa6is_dir\xc2"


def test_what_a_dead_write_left_is_not_shown_and_goes_with_its_folder(files: Disk) -> None:
    files.write("a/b", b"")
    (files.folder / "a" / ".pulp-0123456789abcdef").touch()

    assert files.names("a") == ["b"]
    assert files.raw("fs_remove_all", "a") == 0
    assert tree(files.folder) == []


@pytest.mark.parametrize(
    ("path", "code"),
    [
        pytest.param("", 1, id="nothing is 1"),
        pytest.param("file", 4, id="a file is 4"),
        pytest.param("file/x", 4, id="below a file is 4"),
        pytest.param("none", 6, id="what is not there is 6"),
        pytest.param("..", 5, id="outside is 5"),
    ],
)
def test_listing(files: Disk, path: str, code: int) -> None:
    files.write("file", b"")
    assert files.raw("fs_list", path) == code


def test_a_folder_with_too_many_entries_is_not_listed(files: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pulp_runtime.files.folder.LIST_ENTRIES", 3)
    for name in "abc":
        files.write(name, b"")
    assert files.names() == ["a", "b", "c"]
    files.write("d", b"")
    assert files.raw("fs_list", ".") == 4
    assert files.refusals() == ["more than 3 entries"]


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        pytest.param(0, 0o755, id="0 is 0755"),
        pytest.param(0o700, 0o700, id="what is asked for"),
        pytest.param(0o2770, 0o770, id="no more than permissions"),
        pytest.param(0o222, 0o722, id="its owner can list and enter it"),
    ],
)
def test_folders_are_made_with_the_mode_that_is_asked_for(files: Disk, asked: int, given: int) -> None:
    before = os.umask(0o000)
    try:
        assert files.record("fs_mkdir_all", path="a/b", mode=asked) == 0
    finally:
        os.umask(before)
    assert (mode(files.folder / "a"), mode(files.folder / "a" / "b")) == (given, given)


def test_making_a_folder_that_is_there_is_fine_and_a_file_is_in_the_way(files: Disk) -> None:
    files.write("a/file", b"")
    for path, code in (("a", 0), (".", 0), ("a/b", 0), ("a/file", 4), ("a/file/b", 4), ("", 5), ("../a", 5)):
        assert files.record("fs_mkdir_all", path=path) == code


# What is known of a file ------------------------------------------------------------------------------------------


def test_what_is_known_of_a_file(files: Disk) -> None:
    files.write("a/b.txt", b"hello", 0o640)
    os.utime(files.folder / "a" / "b.txt", ns=(1, 1_234_567_890_123_456_789))

    assert files.stat("a/b.txt") == {
        "name": "b.txt",
        "size": 5,
        "mod_time_ns": 1_234_567_890_123_456_789,
        "mode": 0o640,
        "is_dir": False,
    }


def test_numbers_have_the_width_that_guests_expect(files: Disk) -> None:
    files.write("a", b"hello", 0o644)
    os.utime(files.folder / "a", ns=(1, 5))
    files.stat("a")

    assert files.delivered() == (
        b"\x85\xa4name\xa1a\xa4size\xd3\0\0\0\0\0\0\0\x05\xabmod_time_ns\xd3\0\0\0\0\0\0\0\x05"
        b"\xa4mode\xce\0\0\x01\xa4\xa6is_dir\xc2"
    )


@pytest.mark.parametrize(
    ("path", "name"),
    [
        pytest.param(".", "one", id="the cell's folder has the cell's name"),
        pytest.param("a/..", "one", id="by a detour too"),
        pytest.param("a/../a", "a", id="a detour is not in the name"),
        pytest.param("a/", "a", id="nor is a slash at the end"),
        pytest.param("link", "link", id="a link has its own name"),
    ],
)
def test_the_name_is_the_last_part_of_the_path(files: Disk, path: str, name: str) -> None:
    files.record("fs_mkdir_all", path="a")
    (files.folder / "link").symlink_to("a")
    found = files.stat(path)
    assert (found["name"], found["is_dir"], found["mode"]) == (name, True, 1 << 31 | 0o755)


@pytest.mark.parametrize(
    ("st_mode", "go"),
    [
        pytest.param(stat.S_IFREG | 0o644, 0o644, id="a file"),
        pytest.param(stat.S_IFDIR | 0o755, 1 << 31 | 0o755, id="a folder"),
        pytest.param(stat.S_IFLNK | 0o777, 1 << 27 | 0o777, id="a link"),
        pytest.param(stat.S_IFBLK, 1 << 26, id="a device by blocks"),
        pytest.param(stat.S_IFCHR, 1 << 26 | 1 << 21, id="a device by characters"),
        pytest.param(stat.S_IFIFO, 1 << 25, id="a pipe"),
        pytest.param(stat.S_IFSOCK, 1 << 24, id="a socket"),
        pytest.param(stat.S_IFREG | 0o4755, 1 << 23 | 0o755, id="set-user-id"),
        pytest.param(stat.S_IFREG | 0o2755, 1 << 22 | 0o755, id="set-group-id"),
        pytest.param(stat.S_IFDIR | 0o1777, 1 << 31 | 1 << 20 | 0o777, id="sticky"),
        pytest.param(0o644, 1 << 19 | 0o644, id="something else"),
    ],
)
def test_the_mode_is_the_one_of_go(st_mode: int, go: int) -> None:
    from pulp_runtime.abi.fs import file_mode

    assert file_mode(st_mode) == go


@pytest.mark.parametrize("asked", [0o600, 0o777, 0o4644, 0xFFFF_FFFF, 0])
def test_permissions_are_set_and_nothing_else(files: Disk, asked: int) -> None:
    files.write("a", b"")
    assert files.record("fs_chmod", path="a", mode=asked) == 0
    assert (files.folder / "a").stat().st_mode == stat.S_IFREG | asked & 0o777


def test_a_folder_can_always_be_counted(files: Disk) -> None:
    """A cell that could hide what it has would have more than its share of the disk."""
    files.write("a/file", b"")
    for path in ("a", "."):
        assert files.record("fs_chmod", path=path, mode=0) == 0
    assert mode(files.folder / "a") == mode(files.folder) == 0o500


def test_what_a_link_leads_to_gets_the_mode(files: Disk) -> None:
    files.write("a", b"")
    (files.folder / "link").symlink_to("a")
    assert files.record("fs_chmod", path="link", mode=0o604) == 0
    assert mode(files.folder / "a") == 0o604


def test_a_mode_is_set_where_the_system_cannot_by_name(files: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*_args: Any, **_options: Any) -> None:
        raise NotImplementedError

    files.write("a", b"")
    monkeypatch.setattr("pulp_runtime.files.folder.os.chmod", unsupported)
    assert files.record("fs_chmod", path="a", mode=0o604) == 0
    assert mode(files.folder / "a") == 0o604


# Temporary files --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("folder", "pattern", "begins", "ends"),
    [
        pytest.param("", "", "tmp/", "", id="anywhere, any name"),
        pytest.param("", "x", "tmp/x", "", id="a prefix"),
        pytest.param("", "x*.txt", "tmp/x", ".txt", id="a prefix and a suffix"),
        pytest.param("", "a*b*c", "tmp/a*b", "c", id="the last star counts"),
        pytest.param("a", "*", "a/", "", id="in a folder"),
        pytest.param("a/../a/", "x", "a/x", "", id="in a folder by a detour"),
        pytest.param(".", "x", "x", "", id="in the cell's folder"),
    ],
)
@pytest.mark.parametrize("function", ["fs_create_temp", "fs_mkdir_temp"])
def test_a_temporary_name_is_new(files: Disk, function: str, folder: str, pattern: str, begins: str, ends: str) -> None:
    files.record("fs_mkdir_all", path="a")
    paths = set()
    for _ in range(3):
        assert files.record(function, dir=folder, pattern=pattern) == 0
        path = files.answer()["path"]
        assert path.startswith(begins)
        assert path.endswith(ends)
        assert path[len(begins) : len(path) - len(ends)].isdecimal()
        assert (files.folder / path).is_dir() is (function == "fs_mkdir_temp")
        assert mode(files.folder / path) == (0o700 if function == "fs_mkdir_temp" else 0o600)
        paths.add(path)
    assert len(paths) == 3


@pytest.mark.parametrize(
    ("folder", "pattern", "code"),
    [
        pytest.param("none", "x", 4, id="a folder that is not there"),
        pytest.param("file", "x", 4, id="a folder that is a file"),
        pytest.param("", "a/b", 4, id="a pattern with a slash"),
        pytest.param("", "../b", 4, id="a pattern that leads up"),
        pytest.param("", "a\0b", 4, id="a pattern with a NUL"),
        pytest.param("", "a\ufffd", 4, id="a pattern with a replaced character"),
        pytest.param("", ".pulp-x", 4, id="a pattern of the host's own"),
        pytest.param("", "x" * 256, 4, id="a pattern that is too long"),
        pytest.param("..", "x", 5, id="a folder outside"),
        pytest.param("/tmp", "x", 5, id="an absolute folder"),
    ],
)
@pytest.mark.parametrize("function", ["fs_create_temp", "fs_mkdir_temp"])
def test_a_temporary_name_is_refused(files: Disk, function: str, folder: str, pattern: str, code: int) -> None:
    files.write("file", b"")
    files.record("fs_mkdir_all", path="tmp")
    assert files.record(function, dir=folder, pattern=pattern) == code
    assert tree(files.folder) == ["file", "tmp"]


def test_names_that_all_exist_are_given_up(files: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pulp_runtime.files.folder.secrets.randbits", lambda _bits: 7)
    assert files.record("fs_create_temp", dir="", pattern="x") == 0
    assert files.record("fs_create_temp", dir="", pattern="x") == 4
    assert files.refusals() == ["every name that was tried exists"]


# Every code of every function -------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", [*RAW, *RECORDS])
def test_nothing_is_1_wherever_it_is(files: Disk, function: str) -> None:
    outs = OUTS if {**RAW, **RECORDS}[function] == 4 else ()
    for address in (0, 65_536, 0xFFFF_FFFF):
        assert files.cell.run(function, address, 0, *outs) == 1


def test_writing_to_nowhere_is_1(files: Disk) -> None:
    assert files.cell.run("fs_write", 0, 0, 0, 0, 0, 0) == 1


@pytest.mark.parametrize("words", HOSTILE_RANGES.values(), ids=HOSTILE_RANGES.keys())
@pytest.mark.parametrize("function", [*RAW, *RECORDS, "fs_write"])
def test_threat_16_a_path_or_a_record_outside_memory_is_2(files: Disk, function: str, words: tuple[int, int]) -> None:
    rest = {2: (), 4: OUTS, 6: (0, 0, 0, 0)}[NEWER[function]]
    assert files.cell.run(function, *words, *rest) == 2
    assert tree(files.folder) == []


@pytest.mark.parametrize("words", HOSTILE_RANGES.values(), ids=HOSTILE_RANGES.keys())
def test_threat_16_data_or_options_outside_memory_are_2_and_nothing_is_written(
    files: Disk, words: tuple[int, int]
) -> None:
    files.cell.write(PATH, b"a")
    assert files.cell.run("fs_write", PATH, 1, *words, 0, 0) == 2
    assert files.cell.run("fs_write", PATH, 1, 0, 0, *words) == 2
    assert tree(files.folder) == []


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\xc1", id="no messagepack"),
        pytest.param(b"\x81\xa4path", id="cut short"),
        pytest.param(msgspec.msgpack.encode(7), id="a number"),
        pytest.param(msgspec.msgpack.encode({"path": 7, "old": [], "dir": 1}), id="paths that are none"),
    ],
)
@pytest.mark.parametrize("function", RECORDS)
def test_a_record_that_is_none_is_3(files: Disk, function: str, data: bytes) -> None:
    assert files.packed(function, data) == 3


@pytest.mark.parametrize("mode", ["rw", -1, 1 << 32, 1.5, [1]])
def test_a_mode_that_is_none_is_3(files: Disk, mode: object) -> None:
    files.write("a", b"", 0o600)
    for function in ("fs_mkdir_all", "fs_chmod"):
        assert files.record(function, path="a", mode=mode) == 3
    options = msgspec.msgpack.encode({"mode": mode})
    files.cell.write(PATH, b"a")
    files.cell.write(100, options)
    assert files.cell.run("fs_write", PATH, 1, 0, 0, 100, len(options)) == 3


@pytest.mark.parametrize("function", ["fs_read", "fs_delete", "fs_list"])
def test_what_is_not_there_is_6(files: Disk, function: str) -> None:
    for path in ("none", "none/none", "a/../none"):
        assert files.raw(function, path) == 6
    assert files.refusals() == []


@pytest.mark.parametrize("function", ["fs_stat", "fs_chmod"])
def test_what_is_not_there_is_6_for_records_too(files: Disk, function: str) -> None:
    assert files.record(function, path="none") == 6
    assert files.record(function, path="none/none") == 6


def test_what_cannot_be_done_is_4_and_the_operator_is_told_why(files: Disk) -> None:
    files.write("file", b"")
    files.write("folder/in", b"")
    for function, path in (("fs_read", "folder"), ("fs_read", "file/x"), ("fs_delete", "folder"), ("fs_list", "file")):
        assert files.raw(function, path) == 4
    for path in ("folder", "file/x", "."):
        assert files.write(path, b"x") == 4
    assert files.record("fs_stat", path="file/x") == 4
    assert files.raw("fs_remove_all", "file/x") == 4

    assert len(files.refusals()) == 9
    assert files.refusals()[0] == "a folder"
    told = files.cell.logged[-1].fields
    assert told == {"cell": "one", "function": "fs_remove_all", "reason": "Not a directory"}


def test_threat_08_a_pipe_is_not_even_opened(files: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """That alone would wake whoever waits at its other end."""
    os.mkfifo(files.folder / "pipe")
    opened: list[object] = []
    real = os.open

    def noting(path: Any, *args: Any, **options: Any) -> int:
        opened.append(path)
        return real(path, *args, **options)

    monkeypatch.setattr(os, "open", noting)
    assert files.raw("fs_read", "pipe") == 4
    assert files.write("pipe", b"x") == 4
    assert files.record("fs_chmod", path="pipe", mode=0o600) == 0
    assert opened
    assert b"pipe" not in opened


ALLOCATING: list[tuple[str, object]] = [
    ("fs_read", "file"),
    ("fs_list", "."),
    ("fs_stat", {"path": "file"}),
    ("fs_create_temp", {"dir": ".", "pattern": "t"}),
    ("fs_mkdir_temp", {"dir": ".", "pattern": "t"}),
]


def asked(files: Disk, function: str, what: object) -> int:
    return files.raw(function, what) if isinstance(what, str) else files.record(function, **what)  # type: ignore[arg-type]


@pytest.mark.parametrize(("alloc", "code"), [("refuse", 7), ("outside", 8)])
@pytest.mark.parametrize(("function", "what"), ALLOCATING, ids=[name for name, _what in ALLOCATING])
def test_an_answer_without_a_place_is_7_or_8(
    pulp_cell: Make, function: str, what: object, alloc: Any, code: int
) -> None:
    files = disk(pulp_cell, source=guest(NEWER, alloc=alloc))
    files.write("file", b"x")
    assert asked(files, function, what) == code


@pytest.mark.parametrize("outs", [(65_533, OUTS[1]), (OUTS[0], 65_533)])
@pytest.mark.parametrize(("function", "what"), ALLOCATING, ids=[name for name, _what in ALLOCATING])
def test_an_answer_whose_place_cannot_be_noted_is_8(
    files: Disk, function: str, what: object, outs: tuple[int, int]
) -> None:
    files.write("file", b"x")
    data = what.encode() if isinstance(what, str) else msgspec.msgpack.encode(what)
    files.cell.write(PATH, data)
    assert files.cell.run(function, PATH, len(data), *outs) == 8


EVERY: list[tuple[str, object]] = [
    *ALLOCATING,
    ("fs_delete", "file"),
    ("fs_remove_all", "file"),
    ("fs_rename", {"old": "file", "new": "other"}),
    ("fs_mkdir_all", {"path": "a"}),
    ("fs_chmod", {"path": "file", "mode": 7}),
]


def test_after_its_end_a_cell_has_nothing(pulp_cell: Make, tmp_path: Path) -> None:
    capability = fs.capability()
    files = disk(pulp_cell, capabilities=[capability], storage_root=tmp_path)
    files.write("file", b"x")
    assert capability.teardown_cell is not None
    capability.teardown_cell(files.cell.spec.name)

    for function, what in EVERY:
        assert asked(files, function, what) == 9
    assert files.write("file", b"y") == 9
    assert (files.folder / "file").read_bytes() == b"x"


def test_a_capability_that_was_not_set_up_answers_99() -> None:
    capability = fs.capability()
    bound: dict[str, Callable[..., int]] = {}

    class Linker:
        wanted: Mapping[str, int] = MappingProxyType({})

        def define(self, name: str, words: int, function: Callable[..., int], *, blocking: bool = False) -> None:
            bound.setdefault(name, function)

    class Guest:
        cell = CellRef("one", "one", Log("pulp"))

        def read(self, _address: int, _length: int) -> bytes:
            return b"a"

    capability.register(Linker(), Guest.cell)
    with pytest.raises(Exception, match="code 99"):
        bound["fs_read"](Guest(), 0, 1, 0, 0)


@pytest.mark.slow
def test_undeclared_every_function_answers_99(pulp_cell: Make) -> None:
    for imports in (NEWER, FIRST):
        cell = pulp_cell(guest(imports), declares=())
        for function, words in imports.items():
            assert cell.run(function, *([1] * words)) == 99


# The two versions -------------------------------------------------------------------------------------------------


def test_the_first_version_writes_with_four_words_and_for_the_owner_only(first: Disk) -> None:
    assert first.write("a/b", b"hello") == 0
    assert first.read("a/b") == (0, b"hello")
    assert mode(first.folder / "a" / "b") == 0o600


def test_in_the_first_version_4_is_the_path_and_5_is_what_failed(first: Disk) -> None:
    first.write("folder/in", b"")
    for path in ("../x", "/x", "a\0b", "\\x"):
        assert first.write(path, b"") == 4
        assert first.read(path)[0] == 4
        assert first.raw("fs_delete", path) == 4
    assert first.write("folder", b"") == 5
    assert first.read("folder")[0] == 5
    assert first.raw("fs_delete", "folder") == 5


def test_every_function_of_such_a_module_answers_the_older_codes(first: Disk) -> None:
    first.write("folder/in", b"")
    assert first.raw("fs_list", "..") == 4
    assert first.raw("fs_list", "folder/in") == 5
    assert first.record("fs_stat", path="../x") == 4
    assert first.record("fs_mkdir_all", path="folder/in") == 5
    assert first.record("fs_create_temp", dir="none", pattern="") == 5


def test_the_other_codes_are_the_same_in_both_versions(first: Disk) -> None:
    assert first.raw("fs_read", "") == 1
    assert first.cell.run("fs_read", 65_536, 1, *OUTS) == 2
    assert first.packed("fs_stat", b"\xc1") == 3
    assert first.read("none")[0] == 6
    assert first.raw("fs_delete", "none") == 6


def test_a_module_that_writes_nothing_is_taken_for_a_newer_one(pulp_cell: Make) -> None:
    files = disk(pulp_cell, source=guest({"fs_read": 4}))
    assert files.read("../x")[0] == 5


# Names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("a\nb", id="a newline"),
        pytest.param("a\\b", id="a backslash inside"),
        pytest.param("C:", id="a drive"),
        pytest.param("C:\\x", id="a path of another system"),
        pytest.param("CON", id="a device of another system"),
        pytest.param("a ", id="a space at the end"),
        pytest.param("a.", id="a dot at the end"),
        pytest.param("...", id="three dots"),
        pytest.param("-rf", id="an option"),
        pytest.param("\u202etxt.exe", id="right to left"),
        pytest.param("\U0001f600", id="beyond the basic plane"),
        pytest.param("a" * 255, id="the longest there is"),
    ],
)
def test_threat_06_an_odd_name_is_a_name(files: Disk, name: str) -> None:
    assert files.write(name, b"x") == 0
    assert files.names() == [name]
    assert files.read(name) == (0, b"x")
    assert files.stat(name)["name"] == name


@pytest.mark.parametrize(
    ("path", "code"),
    [
        pytest.param("a" * 256, 4, id="a name of 256 bytes"),
        pytest.param("é" * 128, 4, id="a name of 256 bytes in 128 letters"),
        pytest.param("a/" * 2048 + "a", 4, id="a path of 4,097 bytes"),
        pytest.param("a/" * 3000, 4, id="a path far too long"),
        pytest.param(b"\xff", 5, id="no UTF-8"),
        pytest.param(b"a/\xed\xa0\x80", 5, id="half a surrogate pair"),
        pytest.param(b"\xc0\xae\xc0\xae/x", 5, id="dots written too long"),
        pytest.param("a\ufffd", 5, id="the character that stands for what is no text"),
        pytest.param(b"a\0", 5, id="a NUL"),
        pytest.param(".pulp-0123456789abcdef", 5, id="a name of the host's own"),
        pytest.param("a/.pulp-x/b", 5, id="a folder of the host's own"),
    ],
)
def test_threat_06_and_07_a_name_that_cannot_be_is_a_clean_code(files: Disk, path: str | bytes, code: int) -> None:
    assert files.write(path, b"x") == code
    assert files.read(path)[0] == code
    assert files.raw("fs_delete", path) == code
    assert files.raw("fs_list", path) == code
    assert files.raw("fs_remove_all", path) == code


@pytest.mark.parametrize(
    "field",
    [
        pytest.param(b"\xa1\xff", id="text that is none"),
        pytest.param(b"\xc4\x01\xff", id="bytes"),
        pytest.param(b"\xa3\xef\xbf\xbd", id="what stands for it"),
    ],
)
def test_threat_07_no_two_spellings_of_a_record_mean_one_file(files: Disk, field: bytes) -> None:
    (files.folder / "\ufffd").touch()
    assert files.packed("fs_stat", b"\x81\xa4path" + field) == 5


def test_a_path_may_be_bytes_in_a_record(files: Disk) -> None:
    files.write("é", b"x")
    assert files.packed("fs_stat", b"\x81\xa4path\xc4\x02" + "é".encode()) == 0


def test_threat_07_a_name_that_is_no_text_is_shown_and_cannot_be_taken_for_another(files: Disk) -> None:
    (files.folder / os.fsdecode(b"a\xff")).touch()
    assert files.names() == ["a\ufffd"]
    assert files.read("a\ufffd")[0] == 5


def test_threat_07_names_that_look_alike_are_different_files(files: Disk) -> None:
    names = ["e\u0301", "\u00e9", "a", "\u0430", "A"]
    for name in names:
        files.write(name, name.encode())
    here = files.names()

    if len(here) < len(names):
        pytest.skip("the file system takes some of these names for one")
    assert all(files.read(name) == (0, name.encode()) for name in names)


# Settings and places ----------------------------------------------------------------------------------------------


def test_a_read_only_cell_reads_and_changes_nothing(pulp_cell: Make, tmp_path: Path) -> None:
    (tmp_path / "guest" / "folder").mkdir(parents=True)
    (tmp_path / "guest" / "file").write_bytes(b"x")
    capability = settled(read_only=True)
    files = disk(pulp_cell, capabilities=[capability], storage_root=tmp_path)
    before = [(path, (files.folder / path).stat()) for path in tree(files.folder)]

    for function, what in EVERY[3:]:
        assert asked(files, function, what) == 4
    assert files.write("file", b"y") == 4
    assert files.write("new", b"y") == 4
    assert files.read("file") == (0, b"x")
    assert files.names() == ["file", "folder"]
    assert [(path, (files.folder / path).stat()) for path in tree(files.folder)] == before
    assert set(files.refusals()) == {"read-only by the cell's settings"}


def settled(**settings: object) -> Capability:
    """Return the capability for a cell with these settings in its manifest."""
    capability = fs.capability()

    def register(linker: Any, cell: CellRef) -> None:
        ref = msgspec.structs.replace(cell, tables={fs.NAME: settings})
        capability.register(linker, ref)

    return dataclasses.replace(capability, register=register)


def test_a_file_that_is_too_long_to_be_read_is_4(pulp_cell: Make) -> None:
    files = disk(pulp_cell, capabilities=[settled(read_bytes=10)])
    files.write("ten", b"0123456789")
    files.write("eleven", b"0123456789a")

    assert files.read("ten") == (0, b"0123456789")
    assert files.read("eleven")[0] == 4
    assert files.refusals() == ["longer than 10 bytes"]


@pytest.mark.parametrize(("durable", "synced"), [(True, True), (False, False)])
def test_what_is_acknowledged_is_on_the_disk_unless_it_need_not_be(
    pulp_cell: Make, durable: bool, synced: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = disk(pulp_cell, capabilities=[settled(durable=durable)])
    calls = []
    monkeypatch.setattr("pulp_runtime.files.atomic.os.fsync", lambda file: calls.append(os.fstat(file).st_mode))
    done: dict[str, bool] = {}
    for function, what in (
        ("fs_mkdir_all", {"path": "a"}),
        ("fs_rename", {"old": "a", "new": "b"}),
        ("fs_remove_all", "b"),
    ):
        calls.clear()
        assert asked(files, function, what) == 0
        done[function] = bool(calls)
    calls.clear()
    files.write("x/file", b"")
    kinds = [stat.S_ISDIR(kind) for kind in calls]

    assert set(done.values()) == {synced}
    assert kinds == ([True, False, True] if synced else [])  # the new folder's name, the bytes, the file's name


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        pytest.param({"durabel": True}, "durabel", id="a slip of the pen"),
        pytest.param({"durable": 1}, "Expected `bool`", id="a number for a truth"),
        pytest.param({"read_bytes": 0}, "read_bytes", id="too little"),
        pytest.param({"read_bytes": 1 << 32}, "read_bytes", id="too much"),
    ],
)
def test_settings_that_cannot_be_refuse_the_load(pulp_cell: Make, settings: dict[str, object], told: str) -> None:
    with pytest.raises(HookFailed, match=told) as caught:
        disk(pulp_cell, capabilities=[settled(**settings)])
    assert '[settings."storage.fs"]' in str(caught.value)


def test_the_defaults_are_those_of_the_page() -> None:
    page = (Path(fs.__file__).parents[4] / "docs/reference/capabilities/storage.fs.md").read_text()
    for name, value in (("durable", "true"), ("read_only", "false"), ("read_bytes", f"{FsSettings().read_bytes:,}")):
        assert f"| `{name}` | {value} |" in page
    assert (FsSettings().durable, FsSettings().read_only) == (True, False)


def test_the_operator_can_choose_another_folder(
    pulp_cell: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PULP_FS_ROOT_MY_CELL_2", str(tmp_path / "else" / "where"))
    files = disk(pulp_cell, name="my-cell_2", storage_root=tmp_path / "data")

    assert files.write("a", b"x") == 0
    assert tree(tmp_path / "else") == ["where", "where/a"]
    assert files.stat(".")["name"] == "where"


def test_an_empty_choice_is_none(pulp_cell: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PULP_FS_ROOT_ONE", "")
    files = disk(pulp_cell, name="one", storage_root=tmp_path)
    files.write("a", b"x")
    assert tree(tmp_path) == ["one", "one/a"]


def cell(name: str) -> CellRef:
    return CellRef(name, name, Log("pulp"))


@pytest.mark.parametrize(
    ("first_root", "second_root", "message"),
    [
        pytest.param("{tmp}/x", "{tmp}/x", "overlap", id="one folder for two cells"),
        pytest.param("{tmp}/x", "{tmp}/x/y", "overlap", id="one in the other"),
        pytest.param("{tmp}/x/y", "{tmp}/x", "overlap", id="the other in the one"),
        pytest.param("{tmp}/x", "{tmp}/link", "overlap", id="one by a link"),
        pytest.param("{tmp}/x", "{tmp}/data/a-b", "overlaps the storage root", id="another cell's own folder"),
        pytest.param("{tmp}/x", "{tmp}/data", "overlaps the storage root", id="the storage root"),
        pytest.param("{tmp}/x", "{tmp}", "overlaps the storage root", id="above the storage root"),
        pytest.param("{tmp}/x", "/", "overlaps the storage root", id="everything"),
        pytest.param("{tmp}/x", "{tmp}/file", "Not a directory", id="a file"),
    ],
)
def test_threat_10_folders_of_two_cells_do_not_overlap(
    pulp_env: FakeHost,
    tmp_path: Path,
    first_root: str,
    second_root: str,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PULP_FS_ROOT_A_B", first_root.format(tmp=tmp_path))
    monkeypatch.setenv("PULP_FS_ROOT_C", second_root.format(tmp=tmp_path))
    (tmp_path / "link").symlink_to("x")
    (tmp_path / "file").touch()
    owner = fs.Files()
    owner.setup(dataclasses.replace(pulp_env("storage.fs"), storage_root=tmp_path / "data"))
    owner.setup_cell(cell("a-b"))

    with pytest.raises(ExtensionError, match=message):
        owner.setup_cell(cell("c"))
    owner.setup_cell(cell("a-b"))  # again, as after a restart


def test_threat_10_two_names_that_mean_one_variable_are_not_given_one_folder(
    pulp_env: FakeHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PULP_FS_ROOT_A_B", str(tmp_path / "x"))
    owner = fs.Files()
    owner.setup(dataclasses.replace(pulp_env("storage.fs"), storage_root=tmp_path / "data"))
    owner.setup_cell(cell("a-b"))

    with pytest.raises(ExtensionError, match=r"of cell a_b and the folder \S+ of cell a-b overlap"):
        owner.setup_cell(cell("a_b"))
    owner.teardown_cell("a-b")
    owner.setup_cell(cell("a_b"))


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../a", "a\\b", "a:b", "a\0b"])
def test_threat_10_a_cell_whose_name_is_no_folder_is_not_loaded(pulp_env: FakeHost, name: str) -> None:
    owner = fs.Files()
    owner.setup(pulp_env("storage.fs"))

    with pytest.raises(ExtensionError, match="no name for a folder"):
        owner.setup_cell(cell(name))


def test_a_folder_of_another_name_can_stand_for_a_cell(pulp_env: FakeHost, tmp_path: Path) -> None:
    owner = fs.Files()
    owner.setup(dataclasses.replace(pulp_env("fs"), storage_root=tmp_path, storage_namespaces={"one": "elsewhere"}))
    owner.setup_cell(cell("one"))

    assert tree(tmp_path) == ["elsewhere"]
    owner.teardown()


def test_files_stay_when_the_cell_goes(pulp_cell: Make, tmp_path: Path) -> None:
    files = disk(pulp_cell, storage_root=tmp_path)
    files.cell.init()
    files.write("a", b"x")
    files.cell.restart()
    assert files.read("a") == (0, b"x")
    files.cell.close()
    assert tree(tmp_path) == ["guest", "guest/a"]


@pytest.mark.parametrize(
    ("declares", "adopted", "settings"),
    [
        pytest.param(True, True, {"read_only": True}, id="is adopted"),
        pytest.param(True, False, {}, id="is not adopted"),
        pytest.param(False, False, {}, id="is not adopted and never had files"),
    ],
)
def test_when_another_version_is_loaded_its_settings_count_if_it(
    pulp_env: FakeHost, tmp_path: Path, declares: bool, adopted: bool, settings: dict[str, object]
) -> None:
    owner = fs.Files()
    owner.setup(dataclasses.replace(pulp_env("storage.fs"), storage_root=tmp_path))
    one = cell("one")
    owner.setup_cell(one)
    owner.swap_begin("one")
    if declares:
        owner.setup_cell(msgspec.structs.replace(one, tables={fs.NAME: {"read_only": True}}))
    owner.swap_end("one", adopted)

    if settings:
        with pytest.raises(OSError, match="read-only"):
            owner.fs_write_first(one, b"a", b"x")
    else:
        owner.fs_write_first(one, b"a", b"x")
        assert tree(tmp_path) == ["one", "one/a"]


def test_a_version_that_no_longer_declares_files_has_none(pulp_env: FakeHost, tmp_path: Path) -> None:
    owner = fs.Files()
    owner.setup(dataclasses.replace(pulp_env("storage.fs"), storage_root=tmp_path))
    owner.setup_cell(cell("one"))
    owner.swap_begin("one")
    owner.swap_end("one", True)

    with pytest.raises(HostError, match="code 9"):
        owner.fs_read(cell("one"), b"a")


def test_a_folder_that_the_operator_removed_comes_back(files: Disk) -> None:
    files.folder.rmdir()
    assert files.read("a")[0] == 6
    assert files.write("a", b"x") == 0
    assert files.read("a") == (0, b"x")


# The quota --------------------------------------------------------------------------------------------------------


def test_the_quota_is_the_one_of_the_manifest_and_what_does_not_fit_changes_nothing(pulp_cell: Make) -> None:
    files = disk(pulp_cell, source=large(NEWER), disk_quota_mb=1)
    half = b"x" * (MIB // 2)
    assert files.write("a", half) == 0
    assert files.write("b", half) == 0
    assert files.write("c", b"x") == 4
    assert files.record("fs_mkdir_all", path="d") == 4
    assert files.record("fs_create_temp", dir=".", pattern="") == 4
    assert files.write("b", b"new") == 4  # old and new are there together for a moment

    assert files.names() == ["a", "b"]
    assert files.read("b") == (0, half)
    assert files.refusals()[0] == f"disk quota: {BLOCK} bytes asked for, 0 of {MIB} are left"


def test_what_was_deleted_or_replaced_gives_room_at_once(pulp_cell: Make) -> None:
    files = disk(pulp_cell, source=large(NEWER), disk_quota_mb=1)
    quarter = b"x" * (MIB // 4)
    for _ in range(3):
        for name in "abc":
            assert files.write(name, quarter) == 0
        assert files.write("a", quarter) == 0  # the fourth quarter, and the first one is free again
        assert files.write("a", b"") == 0
        assert files.write("d/e", quarter[: -2 * BLOCK]) == 0
        assert files.record("fs_rename", old="b", new="c") == 0
        assert files.raw("fs_remove_all", "d") == 0
        assert files.raw("fs_delete", "c") == 0
        assert files.raw("fs_delete", "a") == 0


@pytest.mark.slow
def test_files_without_a_byte_are_bounded_too(pulp_cell: Make) -> None:
    files = disk(pulp_cell, capabilities=[settled(durable=False)], disk_quota_mb=1)
    made = 0
    for at in itertools.count():
        if files.write(f"{at}", b""):
            break
        made += 1
    assert made == MIB // BLOCK


def test_the_operator_s_disk_failing_is_4_and_not_an_exception(files: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_args: Any) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pulp_runtime.files.atomic.os.write", full)
    assert files.write("a", b"x") == 4
    assert tree(files.folder) == []
    assert files.refusals() == ["No space left on device"]


def test_work_that_takes_too_long_stops_at_the_deadline(pulp_cell: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    files = disk(pulp_cell)
    files.write("a/b", b"")
    monkeypatch.setattr("pulp_runtime._kernel.instance.Instance.seconds_left", lambda _self: 0.0)

    assert files.raw("fs_list", "a") == 4
    assert files.raw("fs_remove_all", "a") == 4
    assert files.refusals() == ["the call's deadline is over"] * 2
    assert tree(files.folder) == ["a", "a/b"]
