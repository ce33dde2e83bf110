"""`/response`: what a function answers, as its client sees it."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable

import pytest
from tests.capabilities.cloud.programs import SECONDS, Exit, PlayedRun, Stage, Trap, errno_of, unhurried

from pulp_runtime.capabilities.cloud.reply import HEADER_FILES, JSON_BYTES
from pulp_runtime.capabilities.cloud.response_text import HEAD_BYTES

__all__ = ["unhurried"]

pytestmark = pytest.mark.usefixtures("unhurried")
Program = Callable[[PlayedRun], None]


def writing(path: str, data: bytes | str) -> Program:
    """Return a function that writes a file, and does not mind what it is told."""

    def program(run: PlayedRun) -> None:
        assert errno_of(run.write, path, data) in ("", "EINVAL")

    return program


# The three ways -------------------------------------------------------------------------------------------------------


def test_the_body_alone_is_an_answer() -> None:
    with Stage(writing("/response/body", "hello")) as stage:
        answer = stage.whole()

    assert (answer.status, answer.body) == (200, b"hello")
    assert answer.getheader("Content-Length") == "5"
    assert answer.getheader("Content-Type") == "text/plain; charset=utf-8"


def test_status_and_headers_are_files() -> None:
    def program(run: PlayedRun) -> None:
        run.write("/response/status", "201 Created\n")
        run.write("/response/headers/content-type", "text/x\n")
        run.write("/response/headers/Set-Cookie", "a=1\nb=2\n")
        run.write("/response/headers/x-list", "1\n2")
        run.write("/response/headers/x-gone", "1")
        assert run.list("/response/headers") == ["content-type", "set-cookie", "x-gone", "x-list"]
        assert run.size("/response/headers/x-list") == 3
        run.unlink("/response/headers/x-gone")
        assert errno_of(run.unlink, "/response/headers/x-gone") == "ENOENT"

    with Stage(program) as stage:
        answer = stage.whole()

    assert (answer.status, answer.body) == (201, b"")
    assert answer.getheader("Content-Type") == "text/x"
    assert answer.headers.get_all("Set-Cookie") == ["a=1", "b=2"]
    assert answer.getheader("X-List") == "1, 2"
    assert answer.getheader("X-Gone") is None


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_raw_response_is_one_file(newline: str) -> None:
    text = newline.join(("HTTP/1.1 418 I'm a teapot", "Content-Type: text/x", "X-A: 1", "X-A: 2", "", "short"))
    with Stage(writing("/response/txt", text)) as stage:
        answer = stage.whole()

    assert (answer.status, answer.getheader("X-A"), answer.body) == (418, "1, 2", b"short")


def test_a_raw_response_may_come_byte_by_byte() -> None:
    def program(run: PlayedRun) -> None:
        file = run.open("/response/txt", "w")
        for byte in b"HTTP/1.1 200 OK\r\nX-A: 1\r\n\r\nhello":
            assert file.write(bytes([byte])) == 1

    with Stage(program) as stage:
        answer = stage.whole()

    assert (answer.status, answer.getheader("X-A"), answer.body) == (200, "1", b"hello")


@pytest.mark.parametrize(
    ("said", "status", "body"),
    [
        ({}, 200, b""),
        ({"status": 404, "body": "ärger"}, 404, "ärger".encode()),
        ({"body_base64": base64.b64encode(b"\0\xff").decode()}, 200, b"\0\xff"),
    ],
)
def test_json_is_a_whole_response(said: dict[str, object], status: int, body: bytes) -> None:
    said = {**said, "headers": {"x-a": "1", "set-cookie": ["a=1", "b=2"]}}
    with Stage(writing("/response/json", json.dumps(said))) as stage:
        answer = stage.whole()

    assert (answer.status, answer.body, answer.getheader("X-A")) == (status, body, "1")
    assert answer.headers.get_all("Set-Cookie") == ["a=1", "b=2"]


def test_json_is_sent_when_it_is_closed_and_not_when_the_function_ends() -> None:
    go = threading.Event()

    def program(run: PlayedRun) -> None:
        run.write("/response/json", '{"body": "early"}')
        assert errno_of(run.write, "/response/json", "x") == "EBUSY"
        assert go.wait(SECONDS)

    with Stage(program) as stage:
        assert stage.get() == (200, b"early")
        go.set()


@pytest.mark.parametrize("first", ["txt", "json", "status", "headers/x-a", "body"])
@pytest.mark.parametrize("second", ["txt", "json", "status", "headers/x-b", "body"])
def test_whichever_way_is_written_first_decides(first: str, second: str) -> None:
    files = ("status", "headers/x-a", "headers/x-b")
    same = first == second or (first in files and second in (*files, "body"))
    content = {"txt": "HTTP/1.1 200 OK\n\n", "json": "{}", "status": "200", "body": "b"}

    def program(run: PlayedRun) -> None:
        early = run.open(f"/response/{second}", "w")
        file = run.open(f"/response/{first}", "w")
        run.give(file, content.get(first, "v").encode())
        late = errno_of(run.open, f"/response/{second}", "a")
        written = errno_of(run.give, early, b" " if first == second else content.get(second, "v").encode())
        assert (written, late) == (("", "") if same else ("EBUSY", "EBUSY"))

    with Stage(program) as stage:
        assert stage.get()[0] == 200


def test_the_head_is_decided_by_the_first_byte_of_the_body() -> None:
    def program(run: PlayedRun) -> None:
        late = run.open("/response/headers/x-late", "w")
        run.write("/response/status", "202")
        run.write("/response/body", "b")
        assert errno_of(run.give, late, b"1") == "EBUSY"
        assert errno_of(run.open, "/response/status", "w") == "EBUSY"
        run.write("/response/body", "ody", "a")

    with Stage(program) as stage:
        answer = stage.whole()

    assert (answer.status, answer.body, answer.getheader("X-Late")) == (202, b"body", None)


def test_opening_a_file_decides_nothing_and_closing_it_empty_is_an_empty_answer() -> None:
    def program(run: PlayedRun) -> None:
        txt = run.open("/response/txt", "w")
        run.write("/response/body", "")
        run.close(txt)

    with Stage(program) as stage:
        answer = stage.whole()

    assert (answer.status, answer.getheader("Content-Length"), answer.body) == (200, "0", b"")


def test_nothing_written_is_204() -> None:
    with Stage(lambda run: None) as stage:
        answer = stage.whole()

    assert (answer.status, answer.body) == (204, b"")


def test_what_is_written_is_the_answer_also_of_a_function_that_exits_with_a_status() -> None:
    def program(run: PlayedRun) -> None:
        run.write("/response/status", "409")
        raise Exit(1)

    with Stage(program) as stage:
        assert stage.get()[0] == 409


# Write only -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "mode", "error"),
    [
        ("/response/body", "r", "EACCES"),
        ("/response/txt", "r", "EACCES"),
        ("/response/none", "r", "ENOENT"),
        ("/response/none", "w", "EACCES"),
        ("/response/body", "x", "EEXIST"),
        ("/response/body/below", "w", "ENOTDIR"),
        ("/response/headers/none", "r", "ENOENT"),
        ("/response/headers/a b", "w", "EINVAL"),
        ("/response/headers/a/b", "w", "ENOTDIR"),
        ("/response/headers", "w", "EISDIR"),
        ("/response/headers/x-new", "x", ""),
    ],
)
def test_what_cannot_be_opened_says_why(path: str, mode: str, error: str) -> None:
    def program(run: PlayedRun) -> None:
        assert errno_of(run.open, path, mode) == error

    with Stage(program) as stage:
        assert stage.get()[0] == 204


def test_a_response_cannot_be_read_moved_or_removed() -> None:
    def program(run: PlayedRun) -> None:
        tree = run.tree
        assert errno_of(run.take, run.open("/response/body", "w+")) == "EBADF"
        assert errno_of(tree.unlink, ("response", "body")) == "EACCES"
        assert errno_of(tree.make_folder, ("response", "new")) == "EACCES"
        assert errno_of(tree.remove_folder, ("response", "headers")) == "EACCES"
        assert errno_of(tree.rename, ("response", "body"), tree, ("response", "other")) == "EACCES"
        assert errno_of(tree.set_times, ("response", "body"), 0, 0) == "EACCES"
        raise Trap

    with Stage(program) as stage:
        assert stage.get()[0] == 502


# What cannot be sent --------------------------------------------------------------------------------------------------

MALFORMED = [
    ("txt", "", "no end of the header block"),
    ("txt", "hello\n\n", "not a status line"),
    ("txt", "HTTP/1.1 200 OK\n", "no end of the header block"),
    ("txt", "HTTP/1.1 99 Low\n\n", "not a status line"),
    ("txt", "HTTP/1.1 600 High\n\n", "status outside 100..599"),
    ("txt", "HTTP/1.1 000 Zero\n\n", "status outside 100..599"),
    ("txt", "HTTP/1.1 101 Switching\n\n", "an informational status is no answer"),
    ("txt", "HTTP/1.1 200 OK\nno colon\n\n", "not a header line"),
    ("txt", "HTTP/1.1 200 OK\n folded: x\n\n", "not a header name"),
    ("txt", "HTTP/1.1 200 OK\nX-A: a\rb\n\n", "a control character in the value of X-A"),
    ("txt", "HTTP/1.1 200 OK\nX-A: a\0b\n\n", "a control character in the value of X-A"),
    ("txt", "HTTP/1.1 200 OK\nX A: 1\n\n", "not a header name"),
    ("txt", "HTTP/1.1 200 OK\nContent-Length: 9\n\nshort", "the body is shorter than its Content-Length"),
    ("json", "", "not a response in JSON"),
    ("json", "[]", "not a response in JSON"),
    ("json", '{"status": 99}', "status outside 100..599"),
    ("json", '{"status": "200"}', "not a response in JSON"),
    ("json", '{"stauts": 200}', "not a response in JSON"),
    ("json", '{"headers": {"x": "a\\r\\nEvil: 1"}}', "a control character in the value of x"),
    ("json", '{"headers": {"x\\n": "a"}}', "not a header name"),
    ("json", '{"headers": {"x": "a\\u0000"}}', "a control character in the value of x"),
    ("json", '{"body": "a", "body_base64": "YQ=="}', "body and body_base64 are both there"),
    ("json", '{"body_base64": "?"}', "body_base64"),
    ("status", "abc", "not a status"),
    ("status", "0", "status outside 100..599"),
    ("status", "600", "status outside 100..599"),
    ("status", "-200", "not a status"),
    ("status", "99999999999999999999", "not a status"),
    ("headers/x-a", "a\rb", "a control character in the value of x-a"),
    ("headers/x-a", "a\0b", "a control character in the value of x-a"),
    ("headers/x-a", "ok\nb\x1b[2J", "a control character in the value of x-a"),
]


@pytest.mark.parametrize(("name", "text", "reason"), MALFORMED)
def test_threat_38_a_malformed_response_is_502_and_the_log_quotes_what_is_wrong(
    name: str, text: str, reason: str
) -> None:
    def program(run: PlayedRun) -> None:
        assert errno_of(run.write, f"/response/{name}", text) in ("", "EINVAL")

    with Stage(program) as stage:
        if text == "" and name == "json":  # closed without a byte, it was not used
            assert stage.get()[0] == 204
            return
        status, body = stage.get()

    assert (status, body) == (502, b"request 1: malformed response\n")
    record = stage.logged("response refused")
    assert record["reason"].startswith(reason)
    assert record["part"].isprintable(), "escaped"


def test_the_end_of_a_long_quote_is_left_out() -> None:
    with Stage(writing("/response/json", "x" * 100_000)) as stage:
        assert stage.get()[0] == 502

    assert len(stage.logged("response refused")["part"]) < 1000


def test_a_status_that_was_wrong_can_be_written_again() -> None:
    def program(run: PlayedRun) -> None:
        assert errno_of(run.write, "/response/status", "abc") == "EINVAL"
        run.write("/response/status", "203")

    with Stage(program) as stage:
        assert stage.get()[0] == 203


def test_a_body_longer_than_its_content_length_is_efbig() -> None:
    def program(run: PlayedRun) -> None:
        run.write("/response/headers/content-length", "3")
        file = run.open("/response/body", "w")
        assert errno_of(run.give, file, b"abcd") == "EFBIG"
        run.give(file, b"abc")
        assert errno_of(run.give, file, b"d") == "EFBIG"

    with Stage(program) as stage:
        assert stage.get() == (200, b"abc")


def test_each_bound_has_its_code() -> None:
    def program(run: PlayedRun) -> None:
        assert errno_of(run.write, "/response/status", "2" * 257) == "EFBIG"
        run.write("/response/status", "200")
        assert errno_of(run.write, "/response/headers/x", "2" * (HEAD_BYTES + 1)) == "EFBIG"
        for number in range(HEADER_FILES):
            run.write(f"/response/headers/x-{number}", "1")
        assert errno_of(run.open, "/response/headers/one-more", "w") == "ENOSPC"

    with Stage(program) as stage:
        assert stage.get()[0] == 200


def test_json_that_is_too_long_is_efbig() -> None:
    def program(run: PlayedRun) -> None:
        file = run.open("/response/json", "w")
        run.give(file, b'{"body": "')
        run.give(file, b"x" * (JSON_BYTES - 12))
        assert errno_of(run.give, file, b"xxx") == "EFBIG"
        run.give(file, b'"}')

    with Stage(program) as stage:
        status, body = stage.get()
    assert (status, len(body)) == (200, JSON_BYTES - 12)


def test_a_head_without_an_end_is_given_up() -> None:
    with Stage(writing("/response/txt", b"HTTP/1.1 200 OK\nX: " + b"x" * HEAD_BYTES)) as stage:
        assert stage.get()[0] == 502


def test_what_programs_say_about_framing_is_not_sent() -> None:
    text = "HTTP/1.1 200 OK\nConnection: upgrade\nKeep-Alive: 1\nTransfer-Encoding: gzip\nUpgrade: x\n\nhello"
    with Stage(writing("/response/txt", text)) as stage:
        answer = stage.whole()

    assert answer.body == b"hello"
    assert {name.lower() for name in answer.headers} == {"content-type", "content-length", "date"}


@pytest.mark.parametrize("status", ["204", "304"])
def test_a_status_without_a_body_has_none(status: str) -> None:
    def program(run: PlayedRun) -> None:
        run.write("/response/status", status)
        run.write("/response/body", "dropped")

    with Stage(program) as stage:
        assert stage.get() == (int(status), b"")
