from __future__ import annotations

import errno
from collections.abc import Callable

import pytest
from tests.capabilities.cloud.kv_runs import APPEND, EXCLUSIVE, FOLDER, READ, UPDATE, WRITE, FakeRun, Program, fails

from pulp_runtime.capabilities.cloud.ipc import ARGUMENT_BYTES, capability
from pulp_runtime.ext import CellRef, File, Grants, HostError, Kind
from pulp_runtime.testing.lines import KeptLog, Logged

ROOT = "/beta/ipc/billing"


class CallingRun(FakeRun):
    """A run whose siblings are a function of the test."""

    def __init__(self, cell: CellRef) -> None:
        super().__init__(cell)
        self.asked: list[tuple[str, str, bytes]] = []
        self.answers: Callable[[bytes], bytes] = lambda args: b"answer to " + args
        self.left = 10.0

    def seconds_left(self) -> float:
        return self.left

    def ask(self, cell: str, function: str, args: bytes) -> bytes:
        self.asked.append((cell, function, args))
        return self.answers(args)


@pytest.fixture
def logged() -> list[Logged]:
    return []


@pytest.fixture
def program(logged: list[Logged]) -> Program:
    grants = Grants(ipc=("billing.charge", "billing.refund", "mail.send.now"))
    run = CallingRun(CellRef(name="shop", id="shop", log=KeptLog(logged, cell="shop"), grants=grants))
    mount = capability().mount
    assert mount is not None
    mount(run)  # type: ignore[arg-type]
    return Program(run, ROOT)


def run_of(program: Program) -> CallingRun:
    assert isinstance(program.run, CallingRun)
    return program.run


def drain(file: File) -> bytes:
    found = b""
    while piece := file.read(4):
        found += piece
    return found


def cat(program: Program, path: str) -> bytes:
    file = program.open(path)
    found = drain(file)
    program.close(file)
    return found


def echo(program: Program, path: str, data: bytes) -> None:
    file = program.open(path, WRITE)
    if data:
        file.write(data)
    program.close(file)


def test_the_first_read_after_the_arguments_calls_and_gives_the_answer(program: Program) -> None:
    file = program.open("charge", UPDATE)
    file.write(b"five ")
    file.write(b"euros")
    assert run_of(program).asked == []
    assert drain(file) == b"answer to five euros"
    assert file.read(10) == b""

    assert run_of(program).asked == [("billing", "charge", b"five euros")]


def test_after_the_end_of_an_answer_the_descriptor_is_used_again(program: Program) -> None:
    file = program.open("charge", UPDATE)
    for number in (b"1", b"2"):
        file.write(number)
        assert drain(file) == b"answer to " + number
    file.write(b"3")
    file.read(2)
    file.write(b"4")  # what was not read of an answer is dropped
    assert drain(file) == b"answer to 4"
    program.close(file)

    assert [args for _cell, _function, args in run_of(program).asked] == [b"1", b"2", b"3", b"4"]


def test_a_shell_writes_the_arguments_and_reads_the_answer_once(program: Program) -> None:
    echo(program, "charge", b"5\n")
    assert run_of(program).asked == [("billing", "charge", b"5\n")]
    assert cat(program, "charge") == b"answer to 5\n"

    assert cat(program, "charge") == b"answer to "  # no answer waits: a call without arguments
    assert len(run_of(program).asked) == 2


def test_reading_alone_calls_without_arguments(program: Program) -> None:
    assert cat(program, "refund") == b"answer to "
    assert run_of(program).asked == [("billing", "refund", b"")]


def test_what_was_written_and_not_read_is_called_when_it_is_closed(program: Program) -> None:
    file = program.open("charge", UPDATE)
    file.write(b"x")
    program.close(file)
    echo(program, "refund", b"")

    assert [function for _cell, function, _args in run_of(program).asked] == ["charge", "refund"]


def test_a_program_that_is_ended_calls_nothing_more(program: Program) -> None:
    program.open("charge", WRITE).write(b"x")
    program.end(clean=False)

    assert run_of(program).asked == []


def test_appending_is_writing(program: Program) -> None:
    file = program.open("charge", APPEND)
    file.write(b"x")
    program.close(file)

    assert cat(program, "charge") == b"answer to x"


def test_an_empty_answer_is_the_end_of_the_file(program: Program) -> None:
    run_of(program).answers = lambda _args: b""
    file = program.open("charge", UPDATE)
    file.write(b"x")
    assert [file.read(5), file.read(5)] == [b"", b""]

    assert len(run_of(program).asked) == 1


def fail(_args: bytes) -> bytes:
    raise HostError(4, "card declined")


def test_an_error_of_the_callee_is_eio_and_its_text_a_file(program: Program, logged: list[Logged]) -> None:
    run_of(program).answers = fail
    with fails(errno.EIO):
        cat(program, "charge")
    program.files.clear()

    assert program.read("charge.error") == b"card declined"
    assert program.read("refund.error") == b""
    assert program.stat("charge.error").size == 13
    assert [one.message for one in logged] == ["call failed"]
    run_of(program).answers = lambda _args: b"ok"
    cat(program, "charge")
    assert program.read("charge.error") == b""


def test_an_error_when_closing_answers_the_close(program: Program) -> None:
    run_of(program).answers = fail
    with fails(errno.EIO):
        echo(program, "charge", b"x")


def test_without_time_left_a_call_is_timed_out(program: Program) -> None:
    run_of(program).left = 0.0
    with fails(errno.ETIMEDOUT):
        cat(program, "charge")
    assert run_of(program).asked == []
    program.files.clear()
    run_of(program).left = 1.0

    def late(_args: bytes) -> bytes:
        run_of(program).left = -0.1
        raise HostError(4, "lock wait ended")

    run_of(program).answers = late
    with fails(errno.ETIMEDOUT):
        cat(program, "charge")


def test_arguments_are_bounded_and_half_of_them_call_nothing(program: Program) -> None:
    file = program.open("charge", UPDATE)
    assert file.write(bytes(ARGUMENT_BYTES)) == ARGUMENT_BYTES
    with fails(errno.EFBIG):
        file.write(b"x")
    with fails(errno.EFBIG):
        file.read(1)
    with fails(errno.EFBIG):
        program.close(file)
    assert run_of(program).asked == []


def test_the_listing_is_what_is_granted(program: Program) -> None:
    assert [entry.name for entry in program.folder("/beta/ipc").entries()] == ["billing", "mail"]
    assert program.ls() == ["charge", "refund"]
    assert program.ls("/beta/ipc/mail") == ["send.now"]
    assert program.stat("charge").kind is Kind.FILE
    assert cat(program, "/beta/ipc/mail/send.now") == b"answer to "


@pytest.mark.parametrize(
    ("act", "code"),
    [
        (lambda p: p.open("steal"), errno.ENOENT),
        (lambda p: p.open("steal.error"), errno.ENOENT),
        (lambda p: p.open("/beta/ipc/other/charge"), errno.ENOENT),
        (lambda p: p.open("steal", WRITE), errno.EROFS),
        (lambda p: p.open("charge.error", WRITE), errno.EROFS),
        (lambda p: p.open("charge", EXCLUSIVE), errno.EEXIST),
        (lambda p: p.open("charge", FOLDER), errno.ENOTDIR),
        (lambda p: p.open("charge/x"), errno.ENOTDIR),
        (lambda p: p.open("", WRITE), errno.EISDIR),
        (lambda p: p.unlink("charge"), errno.EROFS),
        (lambda p: p.rename("charge", "x"), errno.EROFS),
        (lambda p: p.mkdir("x"), errno.EROFS),
        (lambda p: p.touch("charge", 1), errno.EROFS),
        (lambda p: p.open("charge", READ).write(b"x"), errno.EBADF),
        (lambda p: p.open("charge", WRITE).read(1), errno.EBADF),
        (lambda p: p.at("")[0].open(("..", "mail"), READ), errno.ENOENT),
        (lambda p: p.at("")[0].open(("a\0b",), READ), errno.ENOENT),
    ],
)
def test_what_cannot_be_done_says_so(program: Program, act: Callable[[Program], object], code: int) -> None:
    with fails(code):
        act(program)

    assert run_of(program).asked == []
