"""Descriptors and what is done with them: a real guest, on a real folder and on one in memory."""

from __future__ import annotations

import struct
import time

import pytest
from tests.wasi.puppet import PLACES, Answered, Puppet, Start

from pulp_runtime.ext.nodes import Text
from pulp_runtime.ext.tree import Node
from pulp_runtime.wasi import MemoryFolder, Pipe
from pulp_runtime.wasi.errno import WasiErrno as E
from pulp_runtime.wasi.streams import MAX_BUFFERS, MAX_TRANSFER_BYTES

CREAT, DIRECTORY, EXCL, TRUNC = 1, 2, 4, 8
READ, SEEK, WRITE, BOTH = 2, 4, 64, 66
APPEND, DSYNC, NONBLOCK = 1, 2, 4
SET, CURRENT, END = range(3)
NOWHERE = 0xFFFF_FFF0


def refused(call: object, number: E) -> None:
    """Check what a helper of the puppet was answered."""
    with pytest.raises(Answered) as answered:
        call()  # type: ignore[operator]
    assert answered.value.number is number


def test_what_is_written_is_read_back_at_any_position(puppet: Puppet) -> None:
    fd = puppet.open("a", CREAT, rights=BOTH)

    assert puppet.write(fd, b"hello world") == 11
    assert puppet.write(fd, b"W", at=6) == 1
    assert puppet.read(fd, 10) == b""
    assert puppet.fd_seek(fd, 0, SET, puppet.room(8)) is E.SUCCESS
    assert puppet.read(fd, 100) == b"hello World"
    assert puppet.read(fd, 3, at=2) == b"llo"
    assert puppet.read(fd, 3, at=1 << 40) == b""


def test_several_buffers_are_filled_and_written_in_their_order(puppet: Puppet) -> None:
    fd, out = puppet.open("a", CREAT, rights=BOTH), puppet.room(4)
    parts = puppet.vectors((puppet.poke(b"one"), 3), (puppet.poke(b""), 0), (puppet.poke(b"-two"), 4))

    assert puppet.fd_write(fd, *parts, out) is E.SUCCESS
    assert puppet.word(out) == 7
    first, second = puppet.room(4), puppet.room(16)
    assert puppet.fd_pread(fd, *puppet.vectors((first, 4), (second, 16)), 0, out) is E.SUCCESS
    assert (puppet.word(out), puppet.peek(first, 4), puppet.peek(second, 3)) == (7, b"one-", b"two")


def test_appending_goes_to_the_end_wherever_the_position_is(puppet: Puppet) -> None:
    puppet.put("a", b"one")
    fd = puppet.open("a", rights=BOTH, flags=APPEND)

    puppet.write(fd, b"two")
    puppet.must(puppet.fd_seek(fd, 0, SET, puppet.room(8)))
    puppet.write(fd, b"three")
    assert puppet.fd_tell(fd, out := puppet.room(8)) is E.SUCCESS
    assert puppet.long(out) == 11
    assert puppet.get("a") == b"onetwothree"
    assert puppet.fd_fdstat_set_flags(fd, 0) is E.SUCCESS
    puppet.write(fd, b"O", at=0)
    assert puppet.get("a") == b"Onetwothree"


@pytest.mark.parametrize(
    ("offset", "whence", "answer", "position"),
    [
        pytest.param(0, SET, E.SUCCESS, 0, id="the start"),
        pytest.param(-1, END, E.SUCCESS, 4, id="the last byte"),
        pytest.param(2, CURRENT, E.SUCCESS, 3, id="from where it is"),
        pytest.param(1 << 40, SET, E.SUCCESS, 1 << 40, id="far past the end"),
        pytest.param((1 << 63) - 1, SET, E.SUCCESS, (1 << 63) - 1, id="the last position there is"),
        pytest.param(-1, SET, E.INVAL, 1, id="before the start"),
        pytest.param((1 << 63) - 1, CURRENT, E.INVAL, 1, id="past what a position can be"),
        pytest.param(0, 3, E.INVAL, 1, id="from nowhere"),
    ],
)
def test_seeking(puppet: Puppet, offset: int, whence: int, answer: E, position: int) -> None:
    puppet.put("a", b"12345")
    fd, out = puppet.open("a"), puppet.room(8)
    puppet.read(fd, 1)

    assert puppet.fd_seek(fd, offset, whence, out) is answer
    puppet.must(puppet.fd_tell(fd, out))
    assert puppet.long(out) == position


def test_a_descriptor_does_only_what_it_was_opened_for(puppet: Puppet) -> None:
    puppet.put("a", b"text")
    reading, writing, neither = puppet.open("a"), puppet.open("a", rights=WRITE), puppet.open("a", rights=0)

    refused(lambda: puppet.write(reading, b"x"), E.BADF)
    refused(lambda: puppet.read(writing, 1), E.BADF)
    refused(lambda: puppet.read(neither, 1), E.BADF)
    refused(lambda: puppet.write(neither, b"x", at=0), E.BADF)
    assert puppet.fd_filestat_set_size(reading, 0) is E.INVAL
    assert puppet.fd_allocate(reading, 0, 10) is E.INVAL
    assert puppet.get("a") == b"text"


def test_rights_are_given_up_and_never_had_back(puppet: Puppet) -> None:
    puppet.put("a", b"text")
    fd, out = puppet.open("a", rights=BOTH), puppet.room(24)
    puppet.must(puppet.fd_fdstat_get(fd, out))
    rights = puppet.long(out + 8)

    assert puppet.fd_fdstat_set_rights(fd, rights & ~SEEK, 0) is E.SUCCESS
    assert puppet.fd_seek(fd, 1, SET, out) is E.NOTCAPABLE
    refused(lambda: puppet.read(fd, 1, at=0), E.NOTCAPABLE)
    assert puppet.read(fd, 4) == b"text"
    assert puppet.fd_fdstat_set_rights(fd, rights, 0) is E.NOTCAPABLE
    assert puppet.fd_fdstat_set_rights(3, 0, 0) is E.SUCCESS
    refused(lambda: puppet.open("a"), E.NOTCAPABLE)


def test_a_size_is_set_and_read(puppet: Puppet) -> None:
    fd = puppet.open("a", CREAT, rights=BOTH)

    assert puppet.fd_filestat_set_size(fd, 10) is E.SUCCESS
    assert puppet.read(fd, 100) == bytes(10)
    assert puppet.fd_allocate(fd, 8, 4) is E.SUCCESS
    assert puppet.fstat(fd)["size"] == 12
    assert puppet.fd_allocate(fd, 0, 4) is E.SUCCESS
    assert puppet.fstat(fd)["size"] == 12
    assert puppet.fd_filestat_set_size(fd, 3) is E.SUCCESS
    assert puppet.stat("a")["size"] == 3
    assert puppet.fd_allocate(fd, 0, 0) is E.INVAL
    assert puppet.fd_filestat_set_size(fd, 1 << 63) is E.FBIG
    assert puppet.fd_allocate(fd, 1 << 63, 1 << 63) is E.FBIG


def test_times_are_set_one_by_one(puppet: Puppet) -> None:
    puppet.put("a", b"")
    fd = puppet.open("a")

    assert puppet.fd_filestat_set_times(fd, 1_000, 2_000, 1 | 4) is E.SUCCESS
    assert (puppet.fstat(fd)["atime"], puppet.fstat(fd)["mtime"]) == (1_000, 2_000)
    assert puppet.fd_filestat_set_times(fd, 5, 6_000, 4) is E.SUCCESS
    assert (puppet.fstat(fd)["atime"], puppet.fstat(fd)["mtime"]) == (1_000, 6_000)
    assert puppet.fd_filestat_set_times(fd, 0, 0, 2 | 8) is E.SUCCESS
    assert abs(puppet.fstat(fd)["mtime"] - time.time_ns()) < 10**10
    for flags in (3, 12, 16):
        assert puppet.fd_filestat_set_times(fd, 0, 0, flags) is E.INVAL
    assert puppet.fd_filestat_set_times(fd, 1 << 63, 0, 1) is E.INVAL


def test_advice_is_taken_and_checked(puppet: Puppet) -> None:
    fd = puppet.open("a", CREAT, rights=BOTH)

    assert [puppet.fd_advise(fd, 0, 100, advice) for advice in range(6)] == [E.SUCCESS] * 6
    assert puppet.fd_advise(fd, 0, 0, 6) is E.INVAL
    assert puppet.fd_advise(fd, 1 << 63, 0, 0) is E.INVAL
    assert puppet.fd_advise(3, 0, 0, 0) is E.ISDIR
    assert puppet.fd_advise(0, 0, 0, 0) is E.SPIPE


def test_syncing_a_file_a_folder_and_every_write(puppet: Puppet) -> None:
    fd = puppet.open("a", CREAT, rights=WRITE, flags=DSYNC)

    assert puppet.write(fd, b"x") == 1
    assert (puppet.fd_sync(fd), puppet.fd_datasync(fd), puppet.fd_sync(3)) == (E.SUCCESS,) * 3


def test_numbers_are_the_lowest_that_are_free(puppet: Puppet) -> None:
    first, second = puppet.open("a", CREAT), puppet.open("b", CREAT)
    assert (first, second) == (4, 5)

    puppet.must(puppet.fd_close(first))
    assert puppet.open("c", CREAT) == 4
    assert puppet.fd_close(77) is E.BADF
    assert puppet.fd_close(0xFFFF_FFFF) is E.BADF


def test_renumbering_closes_what_was_there(puppet: Puppet) -> None:
    puppet.put("a", b"a")
    puppet.put("b", b"b")
    first, second = puppet.open("a"), puppet.open("b")

    assert puppet.fd_renumber(first, second) is E.SUCCESS
    assert puppet.read(second, 5) == b"a"
    assert puppet.fd_renumber(second, second) is E.SUCCESS
    assert puppet.fd_renumber(second, first) is E.BADF
    assert puppet.fd_renumber(first, second) is E.BADF
    assert puppet.open("b") == first


def test_a_preopened_folder_says_its_name(puppet: Puppet) -> None:
    out = puppet.room(8)

    assert puppet.fd_prestat_get(3, out) is E.SUCCESS
    assert struct.unpack("<II", puppet.peek(out, 8)) == (0, 1)
    assert puppet.fd_prestat_dir_name(3, out, 1) is E.SUCCESS
    assert puppet.peek(out, 1) == b"/"
    assert puppet.fd_prestat_dir_name(3, out, 0) is E.NAMETOOLONG
    assert (puppet.fd_prestat_get(0, out), puppet.fd_prestat_get(4, out)) == (E.BADF, E.BADF)
    opened = puppet.open(".", DIRECTORY)
    assert puppet.fd_prestat_get(opened, out) is E.BADF


def test_a_folder_is_no_file_and_a_file_no_folder(puppet: Puppet) -> None:
    fd, out = puppet.open("a", CREAT, rights=BOTH), puppet.room(64)

    refused(lambda: puppet.read(3, 1), E.ISDIR)
    refused(lambda: puppet.write(3, b"x"), E.ISDIR)
    assert puppet.fd_seek(3, 0, SET, out) is E.ISDIR
    assert puppet.fd_tell(3, out) is E.ISDIR
    assert puppet.fd_filestat_set_size(3, 0) is E.ISDIR
    assert puppet.fd_readdir(fd, out, 64, 0, out) is E.NOTDIR
    refused(lambda: puppet.open("b", CREAT, at=fd), E.NOTDIR)


def test_a_stream_has_no_positions(puppet: Puppet) -> None:
    out = puppet.room(8)

    assert puppet.fd_seek(1, 0, SET, out) is E.SPIPE
    assert puppet.fd_tell(1, out) is E.SPIPE
    refused(lambda: puppet.write(1, b"x", at=0), E.SPIPE)
    assert puppet.fd_filestat_set_size(1, 0) is E.SPIPE


def test_there_are_no_sockets(puppet: Puppet) -> None:
    fd, out = puppet.open("a", CREAT, rights=BOTH), puppet.room(8)

    for one in (fd, 1, 3):
        assert puppet.sock_accept(one, 0, out) is E.NOTSOCK
        assert puppet.sock_recv(one, out, 0, 0, out, out) is E.NOTSOCK
        assert puppet.sock_send(one, out, 0, 0, out) is E.NOTSOCK
        assert puppet.sock_shutdown(one, 1) is E.NOTSOCK
    assert puppet.sock_shutdown(99, 1) is E.BADF


def test_threat_09_the_1025th_descriptor_is_refused_and_nothing_is_made(puppet: Puppet) -> None:
    puppet.put("a", b"")
    out, path = puppet.room(4), puppet.text("a")
    for _ in range(1020):
        puppet.must(puppet.path_open(3, 0, *path, 0, 2, 0, 0, out))

    assert puppet.path_open(3, 0, *path, 0, 2, 0, 0, out) is E.MFILE
    refused(lambda: puppet.open("new", CREAT), E.MFILE)
    puppet.must(puppet.fd_close(500))
    assert puppet.open("a") == 500
    puppet.must(puppet.fd_close(500))
    assert puppet.names(".") == [".", "..", "a"]


def test_a_file_that_was_removed_is_there_for_who_has_it_open(puppet: Puppet) -> None:
    puppet.put("a", b"still")
    fd = puppet.open("a", rights=BOTH)

    assert puppet.on("path_unlink_file", "a") is E.SUCCESS
    assert puppet.read(fd, 10) == b"still"
    assert puppet.write(fd, b"!") == 1
    assert puppet.fstat(fd)["links"] == 0


@pytest.mark.parametrize("function", ["fd_read", "fd_write"])
def test_threat_16_pointers_outside_memory_are_a_fault_and_nothing_moves(puppet: Puppet, function: str) -> None:
    puppet.put("a", b"text")
    fd, out = puppet.open("a", rights=BOTH), puppet.room(4)
    call = getattr(puppet, function)
    good = puppet.vectors((puppet.room(4), 4))

    assert call(fd, *good, NOWHERE) is E.FAULT
    assert call(fd, NOWHERE, 1, out) is E.FAULT
    assert call(fd, *puppet.vectors((NOWHERE, 4)), out) is E.FAULT
    assert call(fd, *puppet.vectors((1024, 0xFFFF_FFFF)), out) is E.FAULT
    assert call(fd, *puppet.vectors((puppet.room(4), 4), (NOWHERE, 4)), out) is E.FAULT
    assert call(fd, good[0], 0xFFFF_FFFF, out) is E.INVAL
    assert call(fd, good[0], MAX_BUFFERS + 1, out) is E.INVAL
    assert puppet.fd_tell(fd, where := puppet.room(8)) is E.SUCCESS
    assert puppet.long(where) == 0
    assert puppet.get("a") == b"text"


def test_threat_16_every_function_with_every_word_at_the_end_of_the_world_answers(start: Start) -> None:
    puppet = start({"/tmp": MemoryFolder(1 << 20)})
    fd = puppet.open("tmp/a", CREAT, rights=BOTH)
    harmless = {"args_get", "environ_get", "fd_close", "sched_yield"}  # nothing to write, or nothing to read

    for first in (fd, 3, NOWHERE):
        answered = {name for name in PLACES if getattr(puppet, name)(first, *[NOWHERE] * 8) is E.SUCCESS}
        assert answered <= harmless
    assert puppet.fd_close(fd) is E.BADF


def test_a_transfer_is_cut_at_its_bound(start: Start) -> None:
    memory = bytes(MAX_TRANSFER_BYTES + 4096)
    puppet = start({"/big": Text(memory)})
    fd, out = puppet.open("big"), puppet.room(4)
    into = puppet.room(65536)

    vectors = puppet.vectors(*[(into, 65536)] * 257)
    assert puppet.fd_read(fd, *vectors, out) is E.SUCCESS
    assert puppet.word(out) == MAX_TRANSFER_BYTES


def test_a_full_stream_answers_again_if_it_was_asked_not_to_wait(start: Start) -> None:
    pipe = Pipe(4)
    puppet = start(stderr=pipe.writer)

    assert puppet.write(2, b"123456") == 4
    assert puppet.fd_fdstat_set_flags(2, NONBLOCK) is E.SUCCESS
    refused(lambda: puppet.write(2, b"56"), E.AGAIN)
    assert pipe.take(2) == b"12"
    assert puppet.write(2, b"56") == 2
    pipe.leave()
    refused(lambda: puppet.write(2, b"7"), E.PIPE)
    assert puppet.fd_fdstat_set_flags(2, 32) is E.INVAL


def test_a_text_is_read_only(start: Start) -> None:
    puppet = start({"/request/path": Text(b"/hello")})

    assert puppet.get("request/path") == b"/hello"
    for oflags, rights in ((CREAT, READ), (0, WRITE), (TRUNC, READ)):
        refused(lambda oflags=oflags, rights=rights: puppet.open("request/path", oflags, rights=rights), E.ROFS)
    refused(lambda: puppet.open("request/path", CREAT | EXCL), E.EXIST)
    refused(lambda: puppet.open("request/path/", 0), E.NOTDIR)


def test_the_numbers_are_those_of_wasi(folder: Node) -> None:
    assert (E.BADF, E.FAULT, E.NOENT, E.NOTCAPABLE, len(E)) == (8, 21, 44, 76, 77)
