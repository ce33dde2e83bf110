from __future__ import annotations

import errno
import time
from collections.abc import Iterator
from pathlib import Path

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
    FakeRun,
    Program,
    content,
    fails,
    put,
)

from pulp_runtime.capabilities.cloud import kv, kv_mount, kv_watches
from pulp_runtime.ext import ExtensionError, How, Kind
from pulp_runtime.kv.entry import VALUE_BYTES
from pulp_runtime.testing import FakeHost

ALL = {"kv": {"local": "rw", "region": "rw", "global": "ro"}}


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    with FakeHost(tmp_path / "data") as host:
        cloud = Cloud(host, kv.capability())
        yield cloud
        cloud.close()


@pytest.fixture
def program(cloud: Cloud) -> Iterator[Program]:
    program = cloud.program(cloud.cell(granted=ALL), "/beta/kv/local")
    yield program
    program.end()


@pytest.fixture
def other(cloud: Cloud, program: Program) -> Program:
    return cloud.program(program.run.cell, "/beta/kv/local")


# Values -------------------------------------------------------------------------------------------------------------


def test_what_was_written_is_read_back(program: Program) -> None:
    program.write("user/17", b"ann")

    assert program.read("user/17") == b"ann"
    assert program.ls() == ["user"]
    assert program.ls("user") == ["17"]


def test_an_open_value_is_a_snapshot(program: Program, other: Program) -> None:
    program.write("a", b"old")
    file = program.open("a")
    other.write("a", b"newer")
    other.unlink("a")

    assert content(file) == b"old"
    assert file.stat().size == 3


def test_a_value_is_put_when_it_is_closed_and_not_before(program: Program, other: Program) -> None:
    program.write("a", b"old")
    file = program.open("a", WRITE)
    put(file, b"new")

    assert other.read("a") == b"old"
    assert program.read("a") == b"old"
    program.close(file)
    assert other.read("a") == b"new"


def test_a_run_that_is_ended_before_it_closes_leaves_the_old_value(program: Program, other: Program) -> None:
    program.write("a", b"old")
    put(program.open("a", WRITE), b"new")
    put(program.open("b", WRITE), b"new")
    program.end(clean=False)

    assert other.read("a") == b"old"
    assert other.ls() == ["a"]


def test_a_run_that_exits_puts_what_it_has_open(program: Program, other: Program) -> None:
    put(program.open("a", WRITE), b"new")
    program.end(clean=True)

    assert other.read("a") == b"new"


def test_part_of_a_value_can_be_rewritten_and_the_rest_stays(program: Program) -> None:
    program.write("a", b"0123456789")
    file = program.open("a", UPDATE)
    put(file, b"xy", at=3)
    assert content(file) == b"012xy56789"
    file.truncate(7)
    program.close(file)

    assert program.read("a") == b"012xy56"


def test_a_hole_is_filled_with_zeros(program: Program) -> None:
    file = program.open("a", WRITE)
    put(file, b"z", at=4)
    program.close(file)

    assert program.read("a") == b"\0\0\0\0z"


def test_the_last_of_two_descriptors_that_closes_wins(program: Program) -> None:
    first, second = program.open("a", WRITE), program.open("a", WRITE)
    put(first, b"first")
    put(second, b"second")
    program.close(second)
    program.close(first)

    assert program.read("a") == b"first"


def test_opening_for_writing_alone_changes_nothing(program: Program) -> None:
    program.write("a", b"1")
    before = program.stat("a")
    program.close(program.open("a", UPDATE))

    assert program.stat("a") == before


def test_creating_without_writing_makes_an_empty_value(program: Program) -> None:
    program.close(program.open("a", CREATE))

    assert program.read("a") == b""


def test_what_is_synced_is_put_at_once(program: Program, other: Program) -> None:
    file = program.open("a", WRITE)
    put(file, b"half")
    file.sync()
    assert other.read("a") == b"half"
    put(file, b"whole", at=0)
    program.end(clean=False)

    assert other.read("a") == b"half"


@pytest.mark.parametrize(
    ("how", "code"),
    [
        pytest.param(READ, errno.ENOENT, id="to read"),
        pytest.param(UPDATE, errno.ENOENT, id="to write without creating it"),
        pytest.param(FOLDER, errno.ENOENT, id="as a folder"),
    ],
)
def test_a_key_that_is_not_there_is_not_opened(program: Program, how: How, code: int) -> None:
    with fails(code):
        program.open("nothing", how)
    with fails(errno.ENOENT):
        program.stat("nothing")
    with fails(errno.ENOENT):
        program.unlink("nothing")


def test_a_value_of_sixteen_mebibytes_is_the_largest(program: Program) -> None:
    file = program.open("a", WRITE)
    file.truncate(VALUE_BYTES - 1)
    assert file.write_at(VALUE_BYTES - 1, memoryview(b"ab")) == 1
    for late in (lambda: file.write_at(VALUE_BYTES, memoryview(b"c")), lambda: file.truncate(VALUE_BYTES + 1)):
        with fails(errno.EFBIG):
            late()
    program.close(file)

    assert program.stat("a").size == VALUE_BYTES
    with fails(errno.EFBIG):
        program.append("a", b"d")


def test_a_descriptor_does_only_what_it_was_opened_for(program: Program) -> None:
    program.write("a", b"1")
    for path, how in (("a", READ), ("a", WRITE), ("a", APPEND)):
        file = program.open(path, how)
        if not how.read:
            with fails(errno.EBADF):
                file.read_at(0, memoryview(bytearray(1)))
        if not how.write:
            with fails(errno.EBADF):
                file.write_at(0, memoryview(b"x"))
            with fails(errno.EINVAL):
                file.truncate(0)


# Creating exclusively, appending ------------------------------------------------------------------------------------


def test_an_exclusive_creation_is_decided_when_it_is_opened(program: Program, other: Program) -> None:
    file = program.open("a", EXCLUSIVE)
    for second in (program, other):
        with fails(errno.EEXIST):
            second.open("a", EXCLUSIVE)
    put(file, b"mine")
    program.close(file)

    assert other.read("a") == b"mine"
    with fails(errno.EEXIST):
        other.open("a", EXCLUSIVE)


def test_a_key_that_is_reserved_takes_nothing_from_others(program: Program, other: Program) -> None:
    late = other.open("a", CREATE)
    put(late, b"theirs")
    file = program.open("a", EXCLUSIVE)
    put(file, b"mine")
    with fails(errno.EBUSY):
        late.sync()
    with fails(errno.EBUSY):
        other.append("a", b"theirs")
    other.write("b", b"theirs")
    with fails(errno.EBUSY):
        other.rename("b", "a")
    other.files.remove(late)
    with fails(errno.EBUSY):
        late.close()
    program.close(file)

    assert other.read("a") == b"mine"


@pytest.mark.parametrize("clean", [True, False], ids=["exits", "is ended"])
def test_a_reservation_is_gone_when_the_run(program: Program, other: Program, clean: bool) -> None:
    program.open("a", EXCLUSIVE)
    program.end(clean=clean)

    if clean:
        assert other.read("a") == b""
    else:
        other.close(other.open("a", EXCLUSIVE))


def test_a_program_can_take_back_what_it_is_creating(program: Program, other: Program) -> None:
    file = program.open("a", EXCLUSIVE)
    put(file, b"half")
    program.unlink("a")
    other.close(other.open("a", EXCLUSIVE))
    other.unlink("a")
    program.close(file)

    assert program.ls() == []


def test_each_write_is_appended_by_itself(program: Program, other: Program) -> None:
    first, second = program.open("log", APPEND), other.open("log", APPEND)
    for number in range(3):
        put(first, b"a%d\n" % number, append=True)
        put(second, b"b%d\n" % number, append=True)

    assert program.read("log") == b"a0\nb0\na1\nb1\na2\nb2\n"
    program.end(clean=False)
    assert other.read("log") == b"a0\nb0\na1\nb1\na2\nb2\n"


def test_an_appending_descriptor_can_read_and_begin_anew(program: Program) -> None:
    program.write("log", b"old")
    file = program.open("log", How(write=True, create=True, append=True))
    assert content(file) == b"old"
    put(file, b"+", append=True)
    assert content(file) == b"old+"
    file.write_at(0, memoryview(b"!"))
    assert content(file) == b"old+!"
    assert file.stat().size == 5
    with fails(errno.ENOTSUP):
        file.truncate(0)

    program.close(program.open("log", APPEND._replace(truncate=True)))
    assert program.read("log") == b""
    with fails(errno.EEXIST):
        program.open("log", APPEND._replace(exclusive=True))


def test_values_are_appended_to_in_the_scope_local_only(cloud: Cloud) -> None:
    region = cloud.program(cloud.cell(granted=ALL), "/beta/kv/region")
    region.write("a", b"1")

    with fails(errno.ENOTSUP):
        region.append("a", b"2")
    region.write("a", b"12")
    assert region.read("a") == b"12"


# Names --------------------------------------------------------------------------------------------------------------


def test_a_move_replaces_what_is_there_in_one_step(program: Program) -> None:
    program.write("a", b"new")
    program.write("b", b"old")
    inode = program.stat("a").inode
    program.rename("a", "b")

    assert program.read("b") == b"new"
    assert program.ls() == ["b"]
    assert program.stat("b").inode == inode
    program.rename("b", "b")
    assert program.read("b") == b"new"
    with fails(errno.ENOENT):
        program.rename("a", "c")


def test_a_value_that_is_moved_while_it_is_written_is_put_first(program: Program) -> None:
    file = program.open("part", WRITE)
    put(file, b"1")
    program.rename("part", "whole")
    assert program.read("whole") == b"1"
    put(file, b"2", at=1)
    program.close(file)

    assert program.read("whole") == b"12"
    assert program.ls() == ["whole"]


def test_nothing_moves_from_scope_to_scope(cloud: Cloud, program: Program) -> None:
    program.write("a", b"1")

    with fails(errno.EXDEV):
        program.rename("a", "/beta/kv/region/a")
    with fails(errno.EROFS):
        program.rename("a", "/beta/kv/global/a")
    assert program.read("a") == b"1"


def test_a_folder_is_moved_whole(program: Program) -> None:
    for name in ("a/1", "a/b/2", "c/3", "d"):
        program.write(name, name.encode())
    program.mkdir("a/empty")

    for target, code in (("c", errno.ENOTEMPTY), ("d", errno.ENOTDIR), ("a/b/x", errno.EINVAL)):
        with fails(code):
            program.rename("a", target)
    program.rename("a", "e/f")
    assert program.ls("e/f") == ["1", "b", "empty"]
    assert program.read("e/f/b/2") == b"a/b/2"
    assert program.ls() == ["c", "d", "e"]
    with fails(errno.ENAMETOOLONG):
        program.rename("e", "x" * 1020)
    with fails(errno.EISDIR):
        program.rename("d", "e")


def test_a_folder_of_very_many_keys_is_not_moved_in_one_step(cloud: Cloud, program: Program, monkeypatch) -> None:
    monkeypatch.setattr("pulp_runtime.kv.change.BATCH", 2)
    for name in "abc":
        program.write(f"many/{name}", b"")

    with fails(errno.EXDEV):  # `mv` copies them then
        program.rename("many", "more")
    assert program.ls("many") == ["a", "b", "c"]


def test_names_come_in_the_order_of_their_bytes_page_by_page(program: Program) -> None:
    names = [f"{number:04}" for number in range(1_200)]
    for name in names:
        program.write(f"many/{name}", b"")
    program.write("many/é", b"")
    program.write("many/~", b"")

    assert program.ls("many") == [*names, "~", "é"]


@pytest.mark.slow
def test_a_listing_misses_nothing_while_others_write(program: Program, other: Program) -> None:
    names = [f"k{number:03}" for number in range(300)]
    for name in names:
        program.write(name, b"")
    seen = []
    for number, entry in enumerate(program.folder().entries()):
        seen.append(entry.name)
        other.write(f"j{number}", b"")
        other.write(f"z{number:05}", b"")
        other.unlink(f"j{number}")
        if number == 1_000:
            break

    assert [name for name in seen if name.startswith("k")] == names
    assert len(set(seen)) == len(seen)


def test_folders_are_there_as_long_as_a_key_below_them(program: Program, other: Program) -> None:
    program.write("a/b/c", b"")
    assert program.stat("a/b").kind is Kind.FOLDER
    assert [entry.kind for entry in program.folder("a").entries()] == [Kind.FOLDER]
    with fails(errno.ENOTEMPTY):
        program.rmdir("a")
    other.unlink("a/b/c")

    assert program.ls() == []
    with fails(errno.ENOENT):
        program.stat("a")


def test_an_empty_folder_is_remembered_by_its_run_only(cloud: Cloud, program: Program, other: Program) -> None:
    program.mkdir("new")
    program.mkdir("z/deep")
    program.write("m", b"")
    program.write("new!", b"")

    assert program.ls() == ["m", "new!", "new", "z"]
    assert program.stat("new").kind is Kind.FOLDER
    assert program.ls("new") == []
    assert other.ls() == ["m", "new!"]
    for path in ("new", "z", "m", ""):
        with fails(errno.EEXIST):
            program.mkdir(path)
    with fails(errno.ENOTDIR):
        program.mkdir("m/x")
    with fails(errno.ENOTEMPTY):
        program.rmdir("z")
    program.rmdir("new")
    assert program.ls() == ["m", "new!", "z"]
    with fails(errno.ENOENT):
        program.rmdir("new")
    with fails(errno.ENOTDIR):
        program.rmdir("m")
    with fails(errno.EBUSY):
        program.rmdir("")
    program.end()
    assert cloud.program(program.run.cell, "/beta/kv/local").ls() == ["m", "new!"]


def test_a_tree_is_removed_from_the_leaves_up_as_rm_does(program: Program) -> None:
    program.write("a/b/1", b"")
    program.write("a/b/2", b"")
    for step in (lambda: program.unlink("a/b/1"), lambda: program.unlink("a/b/2"), lambda: program.rmdir("a/b")):
        step()
    program.rmdir("a")

    assert program.ls() == []
    with fails(errno.ENOENT):
        program.rmdir("a")


def test_a_key_is_no_folder_and_a_folder_no_key(program: Program, other: Program) -> None:
    program.write("a", b"")
    program.write("f/x", b"")

    for act, code in (
        (lambda: program.open("a/b", CREATE), errno.ENOTDIR),
        (lambda: program.open("a/b/c"), errno.ENOTDIR),
        (lambda: program.open("a", FOLDER), errno.ENOTDIR),
        (lambda: program.open("f", CREATE), errno.EISDIR),
        (lambda: program.open("f", EXCLUSIVE), errno.EEXIST),
        (lambda: program.open("", WRITE), errno.EISDIR),
        (lambda: program.unlink("f"), errno.EISDIR),
        (lambda: program.unlink(""), errno.EISDIR),
        (lambda: program.rename("a", "a/b"), errno.ENOTDIR),
    ):
        with fails(code):
            act()
    late, below = program.open("n", CREATE), other.open("n/x", CREATE)
    other.close(below)
    program.files.remove(late)
    with fails(errno.EISDIR):  # somebody has made it a folder meanwhile
        late.close()


def test_stat_says_size_time_inode_and_revision(program: Program) -> None:
    began = time.time_ns()
    program.write("a", b"12345")
    first = program.stat("a")
    program.write("b", b"")
    program.write("a", b"1")
    second = program.stat("a")

    assert (first.kind, first.size, first.changed_ns) == (Kind.FILE, 5, 1)
    assert began <= first.modified_ns <= second.modified_ns <= time.time_ns()
    assert (second.size, second.changed_ns) == (1, 3)
    assert first.inode == second.inode != program.stat("b").inode
    assert {entry.name: entry.inode for entry in program.folder().entries()}["a"] == first.inode
    assert program.open("a").stat() == second
    program.unlink("a")
    program.write("a", b"")
    assert program.stat("a").inode != first.inode


def test_scopes_have_keys_of_their_own(cloud: Cloud, program: Program) -> None:
    program.write("a", b"local")
    program.write("/beta/kv/region/a", b"region")

    assert program.read("a") == b"local"
    assert program.read("/beta/kv/region/a") == b"region"
    assert program.ls("/beta/kv/global") == []
    assert program.stat("a").device != program.stat("/beta/kv/region/a").device


def test_touching_a_key_puts_it_again_and_no_other_time_can_be_set(program: Program) -> None:
    program.write("a", b"1")
    before = program.stat("a")
    program.touch("a", time.time_ns())

    assert program.stat("a").changed_ns == before.changed_ns + 1
    assert program.read("a") == b"1"
    for at in (0, None):
        with fails(errno.ENOTSUP):
            program.touch("a", at)
    with fails(errno.ENOENT):
        program.touch("nothing", time.time_ns())
    file = program.open("a", UPDATE)
    file.set_times(None, time.time_ns())
    program.close(file)
    assert program.stat("a").changed_ns == before.changed_ns + 2


# .rev ---------------------------------------------------------------------------------------------------------------


def test_a_revision_held_open_makes_a_put_conditional_on_it(program: Program, other: Program) -> None:
    program.write("a", b"1")
    held = program.open(".rev/a")
    assert content(held) == b"1"
    program.write("a", b"2")  # one's own moves it on
    assert content(held) == b"2"
    other.write("a", b"theirs")

    file = program.open("a", WRITE)
    put(file, b"3")
    program.files.remove(file)
    with fails(errno.ESTALE):
        file.close()
    with fails(errno.ESTALE):
        program.append("a", b"3")
    with fails(errno.ESTALE):
        program.unlink("a")
    assert program.read("a") == b"theirs"
    program.close(held)
    program.write("a", b"4")
    assert program.read("a") == b"4"


def test_a_condition_stays_with_a_value_that_was_opened_under_it(program: Program, other: Program) -> None:
    program.write("a", b"1")
    held = program.open(".rev/a")
    file = program.open("a", WRITE)
    program.close(held)  # as a program that exits closes them in the order they were opened
    other.write("a", b"theirs")
    program.files.remove(file)

    with fails(errno.ESTALE):
        file.close()


def test_a_condition_on_a_key_that_is_deleted_fails(program: Program, other: Program) -> None:
    program.write("a", b"1")
    program.open(".rev/a")
    other.unlink("a")
    file = program.open("a", CREATE)
    program.files.remove(file)

    with fails(errno.ESTALE):
        file.close()


def test_revisions_are_read_only_files_beside_the_keys(program: Program) -> None:
    program.write("d/a", b"")

    assert program.ls(".rev") == ["d"]
    assert program.ls(".rev/d") == ["a"]
    assert program.stat(".rev/d/a").size == 1
    assert program.stat(".rev").kind is Kind.FOLDER
    for act, code in (
        (lambda: program.open(".rev/d/a", UPDATE), errno.EACCES),
        (lambda: program.open(".rev/d", UPDATE), errno.EACCES),
        (lambda: program.open(".rev/x"), errno.ENOENT),
        (lambda: program.open(".rev/d/a", FOLDER), errno.ENOTDIR),
        (lambda: program.unlink(".rev/d/a"), errno.EACCES),
        (lambda: program.mkdir(".rev/x"), errno.EACCES),
        (lambda: program.rename(".rev/d/a", ".rev/b"), errno.EACCES),
        (lambda: program.rename(".rev/d/a", "b"), errno.EXDEV),
    ):
        with fails(code):
            act()


# .lock --------------------------------------------------------------------------------------------------------------


def test_a_lock_is_had_by_one(program: Program, other: Program) -> None:
    lock = program.open(".lock/job/1", EXCLUSIVE)
    put(lock, b"worker 7")

    for second in (program, other):
        with fails(errno.EEXIST):
            second.open(".lock/job/1", EXCLUSIVE)
    assert other.read(".lock/job/1") == b"worker 7"
    assert other.ls(".lock") == ["job"]
    assert other.ls(".lock/job") == ["1"]
    assert other.stat(".lock/job/1").size == 8
    with fails(errno.EACCES):
        other.unlink(".lock/job/1")
    program.close(lock)
    with fails(errno.ENOENT):
        other.stat(".lock/job/1")
    other.close(other.open(".lock/job/1", EXCLUSIVE))


@pytest.mark.parametrize("clean", [True, False], ids=["exits", "is ended"])
def test_a_lock_goes_with_the_run_that(program: Program, other: Program, clean: bool) -> None:
    program.open(".lock/a", EXCLUSIVE)
    program.files.clear()  # also when nobody closes it
    program.end(clean=clean)

    other.open(".lock/a", EXCLUSIVE)


def test_a_lock_that_was_removed_and_taken_by_another_is_not_released_by_the_first(
    program: Program, other: Program
) -> None:
    lock = program.open(".lock/a", EXCLUSIVE)
    program.unlink(".lock/a")
    other.open(".lock/a", EXCLUSIVE)
    program.close(lock)

    with fails(errno.EEXIST):
        program.open(".lock/a", EXCLUSIVE)


def test_a_lock_is_not_taken_in_any_other_way(program: Program) -> None:
    program.write("a", b"")
    for act, code in (
        (lambda: program.open(".lock/a", CREATE), errno.EACCES),
        (lambda: program.open(".lock/a", UPDATE), errno.ENOENT),
        (lambda: program.open(".lock/a"), errno.ENOENT),
        (lambda: program.unlink(".lock/a"), errno.ENOENT),
        (lambda: program.mkdir(".lock/a"), errno.EACCES),
        (lambda: program.rename("a", ".lock/a"), errno.EXDEV),
        (lambda: program.open(".lock", WRITE), errno.EACCES),
    ):
        with fails(code):
            act()
    lock = program.open(".lock/a", EXCLUSIVE)
    with fails(errno.EFBIG):
        put(lock, b"x" * 5000)


# .tx ----------------------------------------------------------------------------------------------------------------


def test_a_transaction_is_isolated_and_happens_at_once(program: Program, other: Program) -> None:
    program.write("a", b"1")
    program.write("b/c", b"2")
    program.mkdir(".tx/t")
    other.write("d", b"theirs")
    program.write(".tx/t/a", b"10")
    program.unlink(".tx/t/b/c")
    program.write(".tx/t/new", b"3")
    program.rename(".tx/t/new", ".tx/t/newer")
    program.append(".tx/t/newer", b"0")
    program.mkdir(".tx/t/empty")

    assert program.read(".tx/t/newer") == b"30"
    assert program.stat(".tx/t/a").size == 2
    assert other.ls() == ["a", "b", "d"]
    assert (program.ls(".tx"), other.ls(".tx")) == (["t"], [])
    program.rename(".tx/t", ".tx/t.commit")
    assert other.ls() == ["a", "d", "newer"]
    assert [other.read(name) for name in ("a", "newer")] == [b"10", b"30"]
    assert program.ls(".tx") == []


def test_a_transaction_lists_what_was_there_and_what_it_has_written(program: Program) -> None:
    for name in ("a", "b/c", "d"):
        program.write(name, b"")
    program.mkdir(".tx/t")
    program.write("later", b"")
    program.unlink(".tx/t/b/c")
    program.write(".tx/t/c", b"")
    program.write(".tx/t/e/f", b"")
    program.mkdir(".tx/t/empty")

    assert program.ls(".tx/t") == ["a", "c", "d", "e", "empty"]
    assert program.ls(".tx/t/e") == ["f"]
    inodes = [entry.inode for entry in program.folder(".tx/t").entries()]
    assert len(set(inodes)) == 5
    assert inodes[0] == program.stat("a").inode


@pytest.mark.parametrize(
    "reads",
    [
        pytest.param(lambda p: p.read(".tx/t/a"), id="has read it"),
        pytest.param(lambda p: p.stat(".tx/t/a"), id="has looked at it"),
        pytest.param(lambda p: p.ls(".tx/t"), id="has listed it"),
        pytest.param(lambda p: p.write(".tx/t/a", b"mine"), id="has written it"),
    ],
)
def test_a_transaction_loses_to_a_change_of_what_it(program: Program, other: Program, reads) -> None:
    program.write("a", b"1")
    program.mkdir(".tx/t")
    reads(program)
    program.write(".tx/t/z", b"")
    other.write("a", b"theirs")

    with fails(errno.ESTALE):
        program.rename(".tx/t", ".tx/t.commit")
    assert other.ls() == ["a"]
    assert other.read("a") == b"theirs"
    program.mkdir(".tx/t")  # it is gone: begin again


@pytest.mark.parametrize("way", ["rmdir", "unlink"])
def test_a_transaction_is_rolled_back_by(program: Program, way: str) -> None:
    program.mkdir(".tx/t")
    program.write(".tx/t/a", b"")
    getattr(program, way)(".tx/t")

    assert program.ls() == []
    with fails(errno.ENOENT):
        program.stat(".tx/t")
    with fails(errno.ENOENT):
        program.read(".tx/t/a")


@pytest.mark.parametrize("clean", [True, False], ids=["exits", "is ended"])
def test_a_transaction_is_rolled_back_when_the_run(program: Program, other: Program, clean: bool) -> None:
    for number in range(8):
        program.mkdir(f".tx/{number}")
    with fails(errno.EBUSY):
        program.mkdir(".tx/too-many")
    program.write(".tx/0/a", b"")
    program.end(clean=clean)

    assert other.ls() == []
    for number in range(8):
        other.mkdir(f".tx/{number}")


def test_a_transaction_is_used_by_its_own_rules_only(program: Program) -> None:
    program.write("a", b"1")
    program.mkdir(".tx/t")
    program.mkdir(".tx/u")
    for act, code in (
        (lambda: program.mkdir(".tx/t"), errno.EEXIST),
        (lambda: program.mkdir(".tx"), errno.EEXIST),
        (lambda: program.mkdir(".tx/v.commit"), errno.EINVAL),
        (lambda: program.mkdir(".tx/.v"), errno.EINVAL),
        (lambda: program.rename(".tx/t", ".tx/v"), errno.EINVAL),
        (lambda: program.rename(".tx/t", ".tx/u.commit"), errno.EINVAL),
        (lambda: program.rename(".tx/none", ".tx/none.commit"), errno.ENOENT),
        (lambda: program.rename(".tx/t/a", "b"), errno.EXDEV),
        (lambda: program.rename(".tx/t/a", ".tx/u/a"), errno.EXDEV),
        (lambda: program.rename(".tx", ".tx.commit"), errno.EINVAL),
        (lambda: program.rmdir(".tx"), errno.EACCES),
        (lambda: program.open(".tx/t/.rev/a"), errno.EINVAL),
        (lambda: program.open(".tx", WRITE), errno.EACCES),
        (lambda: program.open(".tx/t", WRITE), errno.EISDIR),
        (lambda: program.open(".tx/t/a", EXCLUSIVE), errno.EEXIST),
    ):
        with fails(code):
            act()
    file = program.open(".tx/t/x", EXCLUSIVE)
    with fails(errno.EEXIST):
        program.open(".tx/t/x", EXCLUSIVE)
    with fails(errno.EBUSY):
        program.append(".tx/t/x", b"")
    program.rename(".tx/t", ".tx/t.commit")
    program.files.remove(file)
    with fails(errno.ESTALE):  # it comes too late
        file.close()
    assert program.ls() == ["a"]


def test_a_transaction_may_turn_a_key_into_a_folder(program: Program) -> None:
    program.write("a", b"")
    program.write("f/1", b"")
    program.mkdir(".tx/t")
    with fails(errno.ENOTDIR):
        program.open(".tx/t/a/b", CREATE)
    program.unlink(".tx/t/a")
    program.write(".tx/t/a/b", b"")
    program.rename(".tx/t/f", ".tx/t/g")
    program.rename(".tx/t", ".tx/t.commit")

    assert program.ls("a") == ["b"]
    assert program.ls() == ["a", "g"]


def test_a_transaction_in_the_way_of_a_reservation_loses(program: Program, other: Program) -> None:
    program.mkdir(".tx/t")
    program.write(".tx/t/a", b"")
    other.open("a", EXCLUSIVE)

    with fails(errno.EBUSY):
        program.rename(".tx/t", ".tx/t.commit")


# .watch -------------------------------------------------------------------------------------------------------------


def test_a_watch_has_a_line_for_each_change_of_its_prefix(program: Program, other: Program) -> None:
    program.write("user/1", b"")
    watch = program.open(".watch/user")
    woken: list[bool] = []
    unwatch = watch.watch(lambda: woken.append(True))
    assert watch.ready() is None
    with pytest.raises(BlockingIOError):
        watch.read(100)

    other.write("user/1", b"x")
    other.write("elsewhere", b"")
    other.rename("user/1", "user/2")
    other.unlink("user/2")
    assert woken
    unwatch()
    assert watch.ready() == len("put user/1 2\n")
    assert watch.read(6) == b"put us"
    assert watch.read(4096) == b"er/1 2\n"
    assert watch.read(4096) == b"del user/1 4\nput user/2 5\ndel user/2 6\n"


def test_a_watch_can_be_of_everything_or_of_one_folder(program: Program) -> None:
    everything, folder = program.open(".watch/.all"), program.open(".watch/user/.all")
    program.write("user", b"")
    program.unlink("user")
    program.write("users", b"")
    program.write("user/1", b"")

    assert everything.read(4096) == b"put user 1\ndel user 2\nput users 3\nput user/1 4\n"
    assert folder.read(4096) == b"put user/1 4\n"


def test_a_key_cannot_write_lines_of_its_own(program: Program) -> None:
    watch = program.open(".watch/.all")
    program.write("a\ndel b 9\\", b"")

    assert watch.read(4096) == b"put a\\ndel b 9\\\\ 1\n"


def test_a_watch_that_is_not_read_is_told_that_it_has_lost_something(program: Program, monkeypatch) -> None:
    monkeypatch.setattr(kv_watches, "WAITING", 3)
    watch = program.open(".watch/.all")
    for number in range(5):
        program.write("a", b"%d" % number)

    assert watch.read(4096) == b"lost 4\nput a 5\n"


def test_a_watch_ends_when_the_program_is_to_end_and_with_its_run(program: Program, other: Program) -> None:
    watch = program.open(".watch/.all")
    other.write("a", b"")
    for stop in program.run.stops:
        stop()

    assert watch.read(4096) == b"put a 1\n"
    assert watch.ready() == 0
    assert watch.read(4096) == b""
    program.end()
    for _ in range(kv_watches.OPEN):
        other.open(".watch/a")
    with fails(errno.EBUSY):
        other.open(".watch/a")


@pytest.mark.slow
def test_a_watch_is_told_of_what_expires(cloud: Cloud, program: Program) -> None:
    program.write("a", b"")
    watch = program.open(".watch/.all")
    program.write(".ttl/a", b"1\n")
    end = time.monotonic() + 10
    while watch.ready() is None and time.monotonic() < end:
        cloud.host.advance(kv.TEND_SECONDS)
        time.sleep(0.01)

    assert watch.read(4096) == b"del a 2\n"


# .ttl ---------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_key_disappears_after_the_seconds_written(program: Program) -> None:
    program.write("a", b"1")
    assert program.read(".ttl/a") == b"0"
    revision = program.stat("a").changed_ns
    program.write(".ttl/a", b"1\n", UPDATE._replace(truncate=True))
    program.write("a", b"2")  # what is set stays set
    assert program.read(".ttl/a") == b"1"
    assert program.stat("a").changed_ns == revision + 1
    program.write("b", b"")
    program.write(".ttl/b", b"100")
    program.write(".ttl/b", b"0")
    time.sleep(1.05)

    assert program.ls() == ["b"]
    with fails(errno.ENOENT):
        program.read("a")


@pytest.mark.parametrize("text", [b"x", b"-1", b"1.5"])
def test_only_seconds_are_written(program: Program, text: bytes) -> None:
    program.write("a", b"")
    with fails(errno.EINVAL):
        put(program.open(".ttl/a", WRITE), text)


@pytest.mark.parametrize("text", [b"4294967296", b" ", b"1 2"])
def test_seconds_that_are_none_are_refused_when_they_are_closed(program: Program, text: bytes) -> None:
    program.write("a", b"")
    file = program.open(".ttl/a", WRITE)
    put(file, text)
    program.files.remove(file)

    with fails(errno.EINVAL):
        file.close()
    assert program.read(".ttl/a") == b"0"


def test_a_time_is_set_of_keys_that_are_there_only(program: Program) -> None:
    program.write("d/a", b"")
    assert program.ls(".ttl/d") == ["a"]
    for act, code in (
        (lambda: program.open(".ttl/x", CREATE), errno.ENOENT),
        (lambda: program.open(".ttl/d", CREATE), errno.EACCES),
        (lambda: program.open(".ttl/d/a", EXCLUSIVE), errno.EEXIST),
        (lambda: program.unlink(".ttl/d/a"), errno.EACCES),
        (lambda: put(program.open(".ttl/d/a", WRITE), b"1" * 33), errno.EFBIG),
    ):
        with fails(code):
            act()
    file = program.open(".ttl/d/a", WRITE)
    put(file, b"1")
    program.files.remove(file)
    file.abandon()
    assert program.read(".ttl/d/a") == b"0"


# Grants and bounds --------------------------------------------------------------------------------------------------


def test_only_what_is_granted_is_mounted(cloud: Cloud) -> None:
    none = cloud.program(cloud.cell("none"), "/")
    one = cloud.program(cloud.cell("one", granted={"kv": {"region": "ro"}}), "/")

    assert none.ls("/") == []
    assert one.ls("/beta/kv") == ["region"]


def test_programs_share_what_their_namespace_has_and_nothing_else(cloud: Cloud) -> None:
    cells = {
        name: cloud.program(cloud.cell(name, granted={"namespace": space, "kv": {"local": "rw"}}), "/beta/kv/local")
        for name, space in (("web", "shop"), ("jobs", "shop"), ("shop", ""), ("else", ""), ("spy", "else"))
    }
    cells["web"].write("a", b"1")
    cells["else"].write("b", b"2")

    assert [cells[name].ls() for name in ("jobs", "shop", "else", "spy")] == [["a"], ["a"], ["b"], ["b"]]


def test_values_survive_their_cell(cloud: Cloud, program: Program) -> None:
    program.write("a", b"1")
    program.end()
    assert cloud.capability.teardown_cell is not None
    cloud.capability.teardown_cell("shop")
    assert cloud.program(program.run.cell, "/").ls("/") == []

    again = cloud.program(cloud.cell(granted=ALL), "/beta/kv/local")
    assert again.read("a") == b"1"


@pytest.mark.parametrize("adopted", [True, False])
def test_a_reload_goes_on_with_the_version_that_runs(cloud: Cloud, program: Program, adopted: bool) -> None:
    program.write("a", b"1")
    capability = cloud.capability
    assert capability.swap_begin is not None
    assert capability.swap_end is not None
    capability.swap_begin("shop")
    cell = cloud.cell(granted={"kv": {"local": "ro"}})
    capability.swap_end("shop", adopted)

    after = cloud.program(cell, "/beta/kv/local")
    assert after.read("a") == b"1"
    assert after.ls("/beta/kv") == (["local"] if adopted else ["local", "region", "global"])


def test_a_store_that_cannot_be_opened_refuses_the_cell(cloud: Cloud, tmp_path: Path) -> None:
    path = tmp_path / "data/.pulp-cloud/kv/shop/local.db"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"no database" * 500)

    with pytest.raises(ExtensionError, match=rf"{path}: .*move the file away"):
        cloud.cell(granted=ALL)


@pytest.mark.parametrize("kv_grants", [{"moon": "rw"}, {"local": "w"}])
def test_a_grant_that_means_nothing_refuses_the_cell(cloud: Cloud, kv_grants: dict[str, str]) -> None:
    with pytest.raises(ExtensionError, match="write local, region or global, ro or rw"):
        cloud.cell(granted={"kv": kv_grants})


def test_an_operators_mistake_is_refused(tmp_path: Path) -> None:
    with FakeHost(tmp_path) as host, pytest.raises(ExtensionError, match="durability"):
        Cloud(host, kv.capability(), {"durability": "wishful"})


def test_with_power_durability_every_change_lets_others_run(tmp_path: Path) -> None:
    with FakeHost(tmp_path) as host:
        cloud = Cloud(host, kv.capability(), {"durability": "power"})
        program = cloud.program(cloud.cell(granted=ALL), "/beta/kv/local")
        program.write("a", b"1")
        assert program.run.blocked == 1
        program.end()
        cloud.close()


def test_long_values_let_others_run_and_short_ones_do_not_ask(program: Program) -> None:
    program.write("a", b"1")
    assert program.run.blocked == 0
    program.write("a", bytes(kv_mount.LONG_BYTES))
    assert program.run.blocked == 1


@pytest.mark.slow
def test_one_run_has_so_many_bytes_open(program: Program) -> None:
    program.write("a", bytes(16 << 20))
    files = [program.open("a") for _ in range(4)]
    with fails(errno.EDQUOT):
        program.open("a")
    with fails(errno.EDQUOT):
        put(program.open("b", WRITE), b"x")
    program.close(files.pop())
    program.write("b", b"x")


def test_a_full_quota_is_told_to_the_program_and_the_operator(cloud: Cloud) -> None:
    cell = cloud.cell("small", granted={"kv": {"local": "rw"}}, disk_bytes=1 << 20)
    program = cloud.program(cell, "/beta/kv/local")
    program.write("a", b"old")
    file = program.open("a", WRITE)

    with fails(errno.EDQUOT):
        put(file, bytes(1 << 20))
    program.files.remove(file)
    file.abandon()
    with fails(errno.EDQUOT):
        program.append("a", bytes(1 << 20))
    assert program.read("a") == b"old"
    assert "disk quota" in cloud.log()


def test_a_disk_that_fails_is_an_error_and_a_line_in_the_log(cloud: Cloud, program: Program) -> None:
    program.write("a", b"")
    assert cloud.capability.teardown_cell is not None
    cloud.capability.teardown_cell("shop")

    with fails(errno.EIO):
        program.write("a", b"")
    assert "key-value store failed" in cloud.log()


def test_every_scope_has_a_backend_with_a_name() -> None:
    assert kv.backends({}) == {"local": "embedded", "region": "embedded", "global": "embedded"}


def test_mounting_costs_microseconds(cloud: Cloud, program: Program) -> None:
    runs = [FakeRun(program.run.cell) for _ in range(1_000)]
    assert cloud.capability.mount is not None
    began = time.perf_counter()
    for run in runs:
        cloud.capability.mount(run)  # type: ignore[arg-type]
    took = time.perf_counter() - began

    assert took < 0.1  # three scopes each, on a machine that has other things to do
    assert [run.ends for run in runs] == [[]] * 1_000
