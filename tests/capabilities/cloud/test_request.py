"""`/request`: what a program reads of a request, through a real listener."""

from __future__ import annotations

import base64
import json
import socket
import threading
from typing import Any

import pytest
from tests.capabilities.cloud.programs import HTTP, SECONDS, Exit, PlayedRun, Stage, Timeout, errno_of

from pulp_runtime.capabilities.cloud.request_body import HELD_BYTES
from pulp_runtime.ext import CellRef, ExtensionError, Posted, Program
from pulp_runtime.log import Log


def reading(*paths: str) -> tuple[dict[str, bytes], Stage]:
    """Return what a function reads from files, once it was asked."""
    found: dict[str, bytes] = {}

    def program(run: PlayedRun) -> None:
        for path in paths:
            found[path] = run.read(path)

    return found, Stage(program)


def test_each_value_is_a_file_of_its_own_without_a_newline() -> None:
    names = ("method", "path", "id", "remote_addr", "params/name", "query/q", "headers/x-one", "headers/host", "body")
    found, stage = reading(*(f"/request/{name}" for name in names))
    with stage:
        answer = stage.ask("GET", "/hello/%C3%A4rger?q=a+b&q=c", headers={"X-One": "1"})
        assert answer.status == 204
        port = stage.port

    values = {path.removeprefix("/request/"): value.decode() for path, value in found.items()}
    assert values.pop("remote_addr").startswith("127.0.0.1:")
    assert values == {
        "method": "GET",
        "path": "/hello/ärger",
        "id": "1",
        "params/name": "ärger",
        "query/q": "a b",
        "headers/x-one": "1",
        "headers/host": f"127.0.0.1:{port}",
        "body": "",
    }


def test_folders_list_what_is_there() -> None:
    found: dict[str, list[str]] = {}

    def program(run: PlayedRun) -> None:
        for path in ("/", "/request", "/request/headers", "/request/params", "/request/query", "/response"):
            found[path] = run.list(path)

    with Stage(program) as stage:
        stage.get("/hello/you?b=1&a=2", X_Y="1")

    assert found == {
        "/": ["request", "response"],
        "/request": ["body", "headers", "id", "json", "method", "params", "path", "query", "remote_addr", "txt"],
        "/request/headers": ["accept-encoding", "host", "x-y"],
        "/request/params": ["name"],
        "/request/query": ["a", "b"],
        "/response": ["body", "headers", "json", "status", "txt"],
    }


def test_the_raw_request_is_its_head_as_it_came_and_its_body() -> None:
    found, stage = reading("/request/txt")
    with stage, stage.dial() as client:
        client.sendall(b"POST /x?a=%20b HTTP/1.1\r\nHost: h\r\nA: 1\r\na: 2\r\nContent-Length: 3\r\n\r\nabc")
        assert client.recv(1024).startswith(b"HTTP/1.1 204 No Content\r\n")

    assert found["/request/txt"] == (
        b"POST /x?a=%20b HTTP/1.1\r\nHost: h\r\nA: 1\r\nA: 2\r\nContent-Length: 3\r\n\r\nabc"
    )


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param(b"", {"body": ""}, id="none"),
        pytest.param("ärger".encode(), {"body": "ärger"}, id="text"),
        pytest.param(b"\xff\0", {"body_base64": base64.b64encode(b"\xff\0").decode()}, id="no text"),
    ],
)
def test_json_is_the_whole_request(body: bytes, expected: dict[str, str]) -> None:
    found, stage = reading("/request/json")
    with stage:
        stage.ask("POST", "/files/a/b?q=1&q=2&__proto__=x", body, {"X-A": 'quote"'}).read()

    said = json.loads(found["/request/json"])
    assert said.pop("remote_addr").startswith("127.0.0.1:")
    assert said.pop("headers").items() >= {"x-a": 'quote"', "content-length": str(len(body))}.items()
    assert said == {
        "id": 1,
        "method": "POST",
        "path": "/files/a/b",
        "query": {"q": "1", "__proto__": "x"},
        "params": {"rest": "a/b"},
        **expected,
    }


def test_values_of_a_header_that_came_repeatedly_are_lines() -> None:
    found, stage = reading("/request/headers/x-a", "/request/json")
    with stage, stage.dial() as client:
        client.sendall(b"GET /x HTTP/1.1\r\nHost: h\r\nX-A: 1\r\nX-A: 2\r\n\r\n")
        client.recv(1024)

    assert found["/request/headers/x-a"] == b"1\n2"
    assert json.loads(found["/request/json"])["headers"]["x-a"] == "1, 2"


@pytest.mark.parametrize(
    ("path", "mode", "error"),
    [
        ("/request/none", "r", "ENOENT"),
        ("/request/headers/none", "r", "ENOENT"),
        ("/request/params/none", "r", "ENOENT"),
        ("/request/method/below", "r", "ENOTDIR"),
        ("/request/headers/a/b", "r", "ENOENT"),
        ("/request/path", "w", "EROFS"),
        ("/request/path", "a", "EROFS"),
        ("/request/path", "x", "EEXIST"),
        ("/request/new", "w", "EROFS"),
        ("/request/headers/x-new", "w", "EROFS"),
        ("/request/json", "r+", "EROFS"),
    ],
)
def test_what_cannot_be_opened_says_why(path: str, mode: str, error: str) -> None:
    def program(run: PlayedRun) -> None:
        assert errno_of(run.open, path, mode) == error

    with Stage(program) as stage:
        assert stage.get()[0] == 204


def test_nothing_below_request_can_be_removed_moved_or_made() -> None:
    def program(run: PlayedRun) -> None:
        tree = run.tree
        assert errno_of(tree.unlink, ("request", "path")) == "EROFS"
        assert errno_of(tree.make_folder, ("request", "new")) == "EROFS"
        assert errno_of(tree.remove_folder, ("request", "headers")) == "EROFS"
        assert errno_of(tree.rename, ("request", "path"), tree, ("request", "other")) == "EROFS"
        assert errno_of(tree.set_times, ("request", "path"), 0, 0) == "EROFS"

    with Stage(program) as stage:
        assert stage.get()[0] == 204


def test_names_that_are_no_file_names_are_not_in_the_folders() -> None:
    seen: dict[str, Any] = {}

    def program(run: PlayedRun) -> None:
        seen["list"] = run.list("/request/query")
        seen["json"] = json.loads(run.read("/request/json"))["query"]
        seen["error"] = errno_of(run.open, "/request/query/../../etc/passwd")

    with Stage(program) as stage:
        assert stage.get("/x?..=1&.=2&a%2F..%2Fb=3&%00=4&=5&ok=6")[0] == 204

    assert seen["list"] == ["ok"]
    assert set(seen["json"]) == {"..", ".", "a/../b", "\0", "", "ok"}
    assert seen["error"] in ("ENOENT", "ENOTDIR")


# The body -------------------------------------------------------------------------------------------------------------


def test_a_short_body_can_be_read_from_every_file_and_again() -> None:
    body = b"x" * HELD_BYTES

    def program(run: PlayedRun) -> None:
        assert run.read("/request/body") == body
        assert run.read("/request/body") == body
        assert run.read("/request/txt").endswith(b"\r\n\r\n" + body)
        assert json.loads(run.read("/request/json"))["body"] == body.decode()
        assert run.take(run.stdin, len(body)) == body
        assert run.size("/request/body") == len(body)
        assert run.size("/request/txt") == len(run.read("/request/txt"))
        assert run.size("/request/json") == len(run.read("/request/json"))

    with Stage(program) as stage:
        assert stage.ask("POST", body=body).status == 204


def test_a_short_body_is_waited_for_before_the_function_is_started() -> None:
    with Stage(lambda run: run.write("/response/body", run.read("/request/body"))) as stage, stage.dial() as client:
        client.sendall(b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 6\r\nConnection: close\r\n\r\nabc")
        stage.get("/none")  # whatever the loop had to do for the first is done
        assert not stage.runs
        client.sendall(b"def")
        assert client.makefile("rb").read().endswith(b"\r\n\r\nabcdef")


def test_a_short_body_that_breaks_off_starts_no_function() -> None:
    with Stage(lambda run: None) as stage:
        with stage.dial() as client:
            client.sendall(b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 6\r\n\r\nabc")
            client.shutdown(socket.SHUT_WR)
            assert client.recv(1024).startswith(b"HTTP/1.1 400 ")
        assert not stage.runs


def test_a_long_body_is_one_stream_for_all_files() -> None:
    body = bytes(range(256)) * 1024

    def program(run: PlayedRun) -> None:
        first = run.open("/request/body")
        begun = run.take(first, 1000)
        assert errno_of(run.read, "/request/json") == "EBUSY"
        rest = run.read("/request/body")
        assert begun + rest == body
        assert run.take(first) == b""

    with Stage(program) as stage:
        assert stage.ask("POST", body=body).status == 204


def test_json_of_a_long_body_comes_when_all_of_it_is_here() -> None:
    body = b"x" * 300_000

    def program(run: PlayedRun) -> None:
        assert json.loads(run.read("/request/json"))["body"] == body.decode()
        assert run.read("/request/body") == body, "it is kept then"

    with Stage(program) as stage:
        assert stage.ask("POST", body=iter([body[:100_000], body[100_000:]])).status == 204


def test_json_of_a_body_over_the_limit_is_refused_and_the_rest_is_not_kept() -> None:
    def program(run: PlayedRun) -> None:
        assert errno_of(run.read, "/request/json") == "EFBIG"

    with Stage(program, settings={HTTP: {"body_bytes": 100_000}}) as stage:
        assert stage.ask("POST", body=iter([b"x" * 100_001])).status == 204


def test_a_body_is_read_while_the_client_still_sends_it() -> None:
    read = threading.Semaphore(0)
    got: list[bytes] = []

    def program(run: PlayedRun) -> None:
        body = run.open("/request/body")
        assert body.ready() is None
        while piece := run.take(body):
            got.append(piece)
            read.release()

    with Stage(program) as stage, stage.dial() as client:
        client.sendall(b"POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
        for piece in (b"one", b"two"):
            client.sendall(b"3\r\n%b\r\n" % piece)
            assert read.acquire(timeout=SECONDS)
        client.sendall(b"0\r\n\r\n")
        assert client.recv(1024).startswith(b"HTTP/1.1 204 ")

    assert got == [b"one", b"two"]


def test_threat_37_a_client_is_not_listened_to_while_its_body_is_not_read() -> None:
    go = threading.Event()
    size = 30_000_000
    total = []

    def program(run: PlayedRun) -> None:
        body = run.open("/request/body")
        run.wait(body)
        assert go.wait(SECONDS)
        count = 0
        while piece := run.take(body, 1 << 20):
            count += len(piece)
        total.append(count)

    with Stage(program) as stage, stage.dial() as client:
        client.sendall(b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % size)
        client.setblocking(False)
        sent = 0
        try:
            while sent < size:
                sent += client.send(b"x" * min(1 << 16, size - sent))
        except BlockingIOError:
            pass
        client.settimeout(SECONDS)
        stage.get("/none")
        assert sent < size, "the kernel's buffers and 256 KiB of ours were enough"
        go.set()
        while sent < size:
            sent += client.send(b"x" * min(1 << 16, size - sent))
        assert client.recv(1024).startswith(b"HTTP/1.1 204 ")

    assert total == [size]


def test_a_body_that_breaks_off_is_an_error_and_no_end() -> None:
    def program(run: PlayedRun) -> None:
        body = run.open("/request/body")
        assert run.take(body) == b"abc"
        assert errno_of(run.take, body) == "EIO"

    with Stage(program) as stage:
        with stage.dial() as client:
            client.sendall(b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\nabc")
            while not stage.runs:
                stage.get("/none")
        assert stage.outcomes.get(timeout=SECONDS).status == 0


def test_a_body_over_the_limit_is_413_before_a_function_is_started() -> None:
    with Stage(lambda run: None, settings={HTTP: {"stream_body_bytes": 10}}) as stage:
        assert stage.ask("POST", body=b"x" * 11).status == 413
        assert not stage.runs


# What becomes of a request --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("verdict", "text"), [(Posted.FULL, b"queue full"), (Posted.CLOSED, b"has ended")])
def test_a_request_that_finds_no_room_is_503(verdict: Posted, text: bytes) -> None:
    with Stage(lambda run: None) as stage:
        stage.verdict = verdict
        status, body = stage.get()

    assert status == 503
    assert text in body


def test_a_request_whose_run_never_began_is_503() -> None:
    with Stage(lambda run: None) as stage:
        stage.start = lambda event: stage.http.finalize(event.id)  # type: ignore[assignment,method-assign,union-attr]
        assert stage.get()[0] == 503


def test_a_request_that_waits_too_long_for_its_run_is_504() -> None:
    with Stage(lambda run: None, settings={HTTP: {"request_timeout_ms": 1}}) as stage:
        stage.start = lambda event: None  # type: ignore[method-assign]
        assert stage.get()[0] == 504


@pytest.mark.parametrize(
    ("execution", "routes", "websockets", "field"),
    [
        ("function", ("GET /x",), (), "[function] routes: 'GET /x'"),
        ("daemon", ("ANY /:any",), (), "[daemon] routes: 'ANY /:any'"),
        ("function", ("GET x",), (), "[function] routes: 'GET x'"),
        ("daemon", (), ("/chat",), "[daemon] websockets: '/chat'"),
    ],
)
def test_a_route_that_cannot_be_had_stops_the_load_and_says_where(
    execution: str, routes: tuple[str, ...], websockets: tuple[str, ...], field: str
) -> None:
    def load(cell: CellRef) -> None:
        stage.http.setup_cell(cell)
        stage.ws.setup_cell(cell)

    with Stage(lambda run: None, "daemon", websockets=("/chat",)) as stage:
        other = CellRef("other", "other", Log(), program=Program(execution, routes, websockets))
        with pytest.raises(ExtensionError) as caught:
            load(other)

    assert str(caught.value).startswith(f"pulp.cell.toml: {field}: ")
    assert "; write " in str(caught.value)


def fail(run: PlayedRun) -> None:
    run.give(run.stderr, b"it went wrong\n")
    raise Exit(3)


def test_a_function_that_fails_is_502_with_the_id_and_its_last_words_are_in_the_log() -> None:
    with Stage(fail) as stage:
        status, body = stage.get()

    assert (status, body) == (502, b"request 1: the function failed\n")
    record = stage.logged("request failed")
    assert (record["request"], record["path"], record["status"]) == (1, "/x", 3)
    assert record["stderr"] == "it went wrong"


def test_a_function_that_is_out_of_time_is_504() -> None:
    def program(run: PlayedRun) -> None:
        raise Timeout

    with Stage(program) as stage:
        assert stage.get() == (504, b"request 1: the function took too long\n")


def test_who_answers_get_answers_head_and_any_is_every_method() -> None:
    with Stage(lambda run: run.write("/response/body", run.read("/request/method"))) as stage:
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"):
            assert stage.ask(method).read().decode() == method
        head = stage.ask("HEAD", "/hello/you")
        assert (head.status, head.getheader("Content-Length"), head.read()) == (200, "4", b"")
        assert stage.ask("POST", "/hello/you").status == 404
