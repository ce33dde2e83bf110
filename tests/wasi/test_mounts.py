"""What a mount may do wrong, and what becomes of its files at the end of a run: by a real guest."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterator

import pytest
from tests.conftest import Records
from tests.wasi.puppet import PLACES, Answered, Start

from pulp_runtime.ext.nodes import Folder, Leaf
from pulp_runtime.ext.tree import Entry, File, How, Kind, Node, Parts, Stat
from pulp_runtime.wasi import Pipe, Preview1
from pulp_runtime.wasi.errno import BY_HOST
from pulp_runtime.wasi.errno import WasiErrno as E


class Told(File):
    """A file that notes how it ends; reading it raises whatever it was given."""

    def __init__(self, error: Exception | None = None, at_close: Exception | None = None) -> None:
        self.error, self.at_close = error, at_close
        self.ends: list[str] = []

    def read(self, size: int) -> bytes:
        if self.error is not None:
            raise self.error
        return b"x"

    def write(self, data: bytes) -> int:
        return len(data)

    def close(self) -> None:
        self.ends.append("closed")
        if self.at_close is not None:
            raise self.at_close

    def abandon(self) -> None:
        self.ends.append("abandoned")


class Mounted(Leaf):
    def __init__(self, file: File) -> None:
        self.file = file

    def open_file(self, how: How) -> File:
        return self.file


def read(start: Start, error: Exception) -> Callable[[], E]:
    puppet = start({"/it": Mounted(Told(error))})
    fd = puppet.open("it")
    return lambda: puppet.fd_read(fd, *puppet.vectors((puppet.room(4), 4)), puppet.room(4))


@pytest.mark.parametrize("number", sorted(BY_HOST), ids=lambda number: errno.errorcode[number])
def test_an_error_of_the_host_is_the_one_of_the_same_name(start: Start, number: int) -> None:
    if number in (errno.EAGAIN, errno.EINPROGRESS, errno.EALREADY):
        pytest.skip("Python raises BlockingIOError for these, which is waited for")
    answer = read(start, OSError(number, "why"))()

    assert getattr(errno, "E" + answer.name.replace("TOO_BIG", "2BIG")) == number


def test_an_error_without_a_number_is_eio_and_told_once(start: Start, records: Records) -> None:
    again = read(start, OSError(errno.EREMOTEIO, "the far end burns"))

    assert (again(), again()) == (E.IO, E.IO)
    told = records.fields("an error without a number in WASI; the program gets EIO")
    assert len(told) == 1
    assert told[0]["function"] == "fd_read"
    assert "the far end burns" in str(told[0]["err"])


def test_a_mistake_of_a_mount_is_eio_and_told_once_with_its_stack(start: Start, records: Records) -> None:
    again = read(start, ZeroDivisionError("oh"))

    assert (again(), again()) == (E.IO, E.IO)
    found = [record for record in records.all if record.getMessage() == "a mount failed; the program gets EIO"]
    assert len(found) == 1
    assert found[0].exc_info


def test_what_closing_raises_is_what_closing_answers(start: Start) -> None:
    file = Told(at_close=OSError(errno.ESTALE, "lost a race"))
    puppet = start({"/it": Mounted(file)})
    fd = puppet.open("it", rights=64)

    assert puppet.fd_close(fd) is E.STALE
    assert puppet.fd_close(fd) is E.BADF
    puppet.end()
    assert file.ends == ["closed"]


def test_what_is_open_at_the_end_is_closed_and_what_goes_wrong_is_logged(start: Start, records: Records) -> None:
    files = Told(at_close=OSError(errno.EIO, "gone")), Told(at_close=ValueError("oh")), Told()
    puppet = start({f"/{at}": Mounted(file) for at, file in enumerate(files)})
    for at in range(3):
        puppet.open(str(at))

    assert puppet.end().status == 0
    assert [file.ends for file in files] == [["closed"]] * 3
    assert "a file was not closed cleanly when its program ended" in records.messages
    assert "a file of a mount failed to close" in records.messages


def test_what_is_open_when_a_program_traps_is_abandoned(start: Start) -> None:
    file = Told()
    puppet = start({"/it": Mounted(file)})
    puppet.open("it", rights=64)
    puppet.tell(999)

    assert puppet.end().status is None
    assert file.ends == ["abandoned"]


def test_a_read_waits_for_what_is_not_there_yet_and_nonblocking_does_not(start: Start) -> None:
    pipe = Pipe()
    puppet = start({"/it": Mounted(pipe.reader)})
    quick, patient = puppet.open("it", flags=4), puppet.open("it")

    with pytest.raises(Answered) as answered:
        puppet.read(quick, 10)
    assert answered.value.number is E.AGAIN
    pipe.give(b"there")
    assert puppet.read(patient, 3) == b"the"
    assert puppet.read(quick, 10) == b"re"
    pipe.end()
    assert puppet.read(patient, 10) == b""


class Endless(Node):
    """A folder with more names than anybody reads."""

    def open(self, parts: Parts, how: How) -> File | Node:
        return self

    def stat(self, parts: Parts, *, follow: bool = True) -> Stat:
        return Stat(Kind.FOLDER)

    def entries(self) -> Iterator[Entry]:
        yield from (Entry(f"{at}", Kind.FILE) for at in range(10**12))


def test_a_folder_without_end_is_read_as_far_as_somebody_reads(start: Start) -> None:
    puppet = start({"/all": Endless()})
    fd, buffer, used = puppet.open("all", 2), puppet.room(4096), puppet.room(4)

    for cookie in (0, 50, 3_000, 10, 5_000):
        assert puppet.fd_readdir(fd, buffer, 4096, cookie, used) is E.SUCCESS
        assert puppet.word(used) == 4096


def test_a_preopen_that_is_not_there_is_a_mistake_of_the_host() -> None:
    class Nobody:
        stopping = False
        view = seconds_left = blocking = None

    wasi, nothing = Preview1(Nobody()), Told()  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'data' is not in the tree"):
        wasi.begin(Folder(), stdin=nothing, stdout=nothing, stderr=nothing, args=(), environ={}, preopens=("data",))


@pytest.mark.slow
def test_a_file_that_says_it_is_ready_and_never_is_ends_with_the_run(start: Start) -> None:
    puppet = start({"/it": Mounted(Told(BlockingIOError()))}, seconds=0.5)
    fd = puppet.open("it")

    began = time.monotonic()
    puppet.tell(PLACES["fd_read"], fd, *puppet.vectors((puppet.room(4), 4)), puppet.room(4))
    puppet.end()
    assert 0.2 < time.monotonic() - began < 4
