"""`/accept` and `/conn` of a daemon, between real clients and a program that lasts."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest
from tests.capabilities.cloud.programs import HTTP, SECONDS, Exit, PlayedRun, Stage, Trap, errno_of, unhurried

from pulp_runtime.capabilities.cloud.accept import OPEN, WAITING

__all__ = ["unhurried"]


def accepted(run: PlayedRun) -> Iterator[tuple[str, str]]:
    """Yield kind and folder of each connection, until the end."""
    file = run.open("/accept")
    while line := run.take(file):
        kind, _, number = line.decode().removesuffix("\n").partition(" ")
        yield kind, f"/conn/{number}"


def daemon(answer: Callable[[PlayedRun, str], None], **named: object) -> Stage:
    """Return a stage with a daemon that answers each connection so."""

    def program(run: PlayedRun) -> None:
        for _kind, conn in accepted(run):
            answer(run, conn)

    return Stage(program, "daemon", **named)  # type: ignore[arg-type]


def test_one_run_answers_request_after_request() -> None:
    with daemon(lambda run, conn: run.write(f"{conn}/response/body", run.read(f"{conn}/request/path"))) as stage:
        assert [stage.get(f"/hello/{name}")[1] for name in "abc"] == [b"/hello/a", b"/hello/b", b"/hello/c"]
        assert len(stage.runs) == 1


def test_each_read_of_accept_is_one_line_and_a_short_one_goes_on() -> None:
    lines: list[bytes] = []

    def program(run: PlayedRun) -> None:
        file = run.open("/accept")
        assert file.ready() is None
        lines.append(run.take(file, 3) + run.take(file, 100))
        assert run.list("/conn") == [lines[0].split()[1].decode()]
        assert run.list("/conn/1") == ["close", "request", "response"]
        run.write("/conn/1/response/txt", "HTTP/1.1 202 Accepted\n\n")
        assert run.list("/conn") == []

    with Stage(program, "daemon") as stage:
        assert stage.get()[0] == 202

    assert lines == [b"http 1\n"]


@pytest.mark.parametrize(
    ("path", "content", "status", "body"),
    [
        ("response/body", "b", 200, b"b"),
        ("response/body", "", 200, b""),
        ("response/txt", "HTTP/1.1 201 Created\n\nt", 201, b"t"),
        ("response/json", '{"status": 202, "body": "j"}', 202, b"j"),
        ("response/json", "{", 502, b"request 1: malformed response\n"),
        ("close", "", 204, b""),
        ("close", "whatever", 204, b""),
    ],
)
def test_what_ends_an_exchange(path: str, content: str, status: int, body: bytes) -> None:
    seen = []

    def answer(run: PlayedRun, conn: str) -> None:
        try:
            run.write(f"{conn}/{path}", content)
        except OSError:
            assert status == 502
        seen.append(errno_of(run.list, conn))

    with daemon(answer) as stage:
        assert stage.get() == (status, body)

    assert seen == ["ENOENT"]


def test_close_ends_an_answer_in_files_without_a_body(unhurried: None) -> None:
    def answer(run: PlayedRun, conn: str) -> None:
        run.write(f"{conn}/response/status", "203")
        run.write(f"{conn}/response/headers/x-a", "1")
        run.write(f"{conn}/close", "")

    with daemon(answer) as stage:
        whole = stage.whole()
    assert (whole.status, whole.getheader("X-A"), whole.getheader("Content-Length")) == (203, "1", "0")


def test_close_is_write_only_and_used_once() -> None:
    def answer(run: PlayedRun, conn: str) -> None:
        assert errno_of(run.open, f"{conn}/close") == "EACCES"
        assert errno_of(run.open, f"{conn}/close", "x") == "EEXIST"
        assert errno_of(run.open, "/accept", "w") == "EACCES"
        assert errno_of(run.open, "/conn/01/close", "w") == "ENOENT"
        assert errno_of(run.open, "/conn/x", "r") == "ENOENT"
        assert errno_of(run.open, "/conn", "w") == "EISDIR"
        assert run.size(f"{conn}/close") == 0
        file = run.open(f"{conn}/close", "w")
        run.give(file, b"1")
        assert errno_of(file.write, b"1") == "EPIPE"

    with daemon(answer) as stage:
        assert stage.get()[0] == 204


def test_several_may_be_accepted_before_one_is_answered() -> None:
    def program(run: PlayedRun) -> None:
        source = accepted(run)
        conns = [next(source)[1] for _ in range(3)]
        for conn in reversed(conns):
            run.write(f"{conn}/response/body", conn)

    with Stage(program, "daemon") as stage:
        clients = [stage.connect() for _ in range(3)]
        for client in clients:
            client.request("GET", "/x")
        assert sorted(client.getresponse().read() for client in clients) == [b"/conn/1", b"/conn/2", b"/conn/3"]


def test_an_answer_is_streamed_while_others_are_served() -> None:
    def program(run: PlayedRun) -> None:
        source = accepted(run)
        _kind, slow = next(source)
        body = run.open(f"{slow}/response/body", "w")
        run.give(body, b"one")
        _kind, quick = next(source)
        run.write(f"{quick}/response/body", "quick")
        run.give(body, b"two")
        run.close(body)

    with Stage(program, "daemon") as stage:
        answer = stage.ask()
        assert answer.read1(3) == b"one"
        assert stage.get() == (200, b"quick")
        assert answer.read() == b"two"


def test_a_body_is_read_as_it_arrives() -> None:
    def answer(run: PlayedRun, conn: str) -> None:
        run.write(f"{conn}/response/body", str(len(run.read(f"{conn}/request/body"))))

    with daemon(answer) as stage:
        assert stage.ask("POST", body=iter([b"x" * 100_000] * 5)).read() == b"500000"


# Bounds, time, and the end --------------------------------------------------------------------------------------------


def test_requests_that_nobody_accepts_are_503_past_the_queue() -> None:
    go = threading.Event()

    def program(run: PlayedRun) -> None:
        assert go.wait(SECONDS)
        for _kind, conn in accepted(run):
            run.write(f"{conn}/response/body", "late")

    with Stage(program, "daemon") as stage:
        clients = [stage.connect() for _ in range(WAITING)]
        for client in clients:
            client.request("GET", "/x")
        while len(stage.http._programs._doors.of("prog").connections) < WAITING:  # type: ignore[union-attr]
            stage.get("/none")
        assert stage.get()[0] == 503
        go.set()
        assert {client.getresponse().status for client in clients} == {200}
    assert OPEN > WAITING


@pytest.mark.slow
def test_a_request_that_is_not_answered_in_time_is_504_and_its_folder_goes() -> None:
    seen = []

    def answer(run: PlayedRun, conn: str) -> None:
        file = run.open(f"{conn}/response/body", "w")
        while run.list("/conn"):
            pass
        seen.append(errno_of(file.write, b"late"))

    with daemon(answer, settings={HTTP: {"request_timeout_ms": 10}}) as stage:
        assert stage.get()[0] == 504
    assert seen == ["EPIPE"]


@pytest.mark.parametrize("end", [None, Exit(1), Trap()])
def test_what_a_daemon_leaves_unanswered_is_502_and_what_it_never_saw_503(end: Exception | None) -> None:
    go = threading.Event()

    def program(run: PlayedRun) -> None:
        next(accepted(run))
        assert go.wait(SECONDS)
        if end is not None:
            raise end

    with Stage(program, "daemon") as stage:
        first, second = stage.connect(), stage.connect()
        first.request("GET", "/x")
        while not stage.runs[0].opened:
            pass
        door = stage.http._programs._doors.of("prog")  # type: ignore[union-attr]
        while door._waiting or not door.connections:
            stage.get("/none")
        second.request("GET", "/x")
        while not door._waiting:
            stage.get("/none")
        go.set()
        assert (first.getresponse().status, second.getresponse().status) == (502, 503)
        assert stage.get()[0] == 503, "nobody is there any more"


def test_half_an_answer_of_a_daemon_that_trapped_is_cut_off() -> None:
    go = threading.Event()

    def program(run: PlayedRun) -> None:
        _kind, conn = next(accepted(run))
        run.give(run.open(f"{conn}/response/body", "w"), b"one")
        assert go.wait(SECONDS)
        raise Trap

    with Stage(program, "daemon") as stage, stage.dial() as client:
        client.sendall(b"GET /x HTTP/1.1\r\nHost: h\r\n\r\n")
        got = b""
        while b"one" not in got:
            got += client.recv(4096)
        go.set()
        try:
            while piece := client.recv(4096):
                got += piece
        except ConnectionResetError:
            pass
    assert not got.endswith(b"0\r\n\r\n")


def test_when_the_host_stops_what_waits_can_be_answered_and_then_accept_is_at_its_end() -> None:
    go = threading.Event()
    ended = threading.Event()

    def program(run: PlayedRun) -> None:
        assert go.wait(SECONDS)
        for _kind, conn in accepted(run):
            run.write(f"{conn}/response/body", "last")
        ended.set()

    with Stage(program, "daemon") as stage:
        client = stage.connect()
        client.request("GET", "/x")
        while not stage.http._programs._doors.of("prog")._waiting:  # type: ignore[union-attr]
            stage.get("/none")
        stage.stop()
        assert stage.get()[0] == 503
        go.set()
        assert client.getresponse().read() == b"last"
        assert ended.wait(SECONDS)


def test_a_run_that_follows_another_has_the_door_and_what_the_first_accepted_is_its_own() -> None:
    order: list[PlayedRun] = []

    def program(run: PlayedRun) -> None:
        order.append(run)
        own = order.index(run)
        held = []
        for _kind, conn in accepted(run):
            if own == 0 and not held:
                held.append(conn)
            else:
                run.write(f"{conn}/response/body", f"by run {own}")
        for conn in held:
            run.write(f"{conn}/response/body", "kept")

    with Stage(program, "daemon") as stage:
        first = stage.connect()
        first.request("GET", "/x")
        while not stage.http._programs._doors.of("prog").connections:  # type: ignore[union-attr]
            stage.get("/none")
        assert stage.get() == (200, b"by run 0")
        stage.start(None)
        while len(stage.runs[1].opened) < 1:
            pass
        for callback in stage.runs[0].stops:
            callback()
        assert first.getresponse().read() == b"kept"
        stage.outcomes.get(timeout=SECONDS)
        assert stage.get() == (200, b"by run 1")


def test_requests_that_come_before_the_daemon_runs_wait_for_it() -> None:
    with daemon(lambda run, conn: run.write(f"{conn}/response/body", "here")) as stage:
        stage.stop()
        stage.outcomes.get(timeout=SECONDS)
        assert stage.get()[0] == 503
        stage.on_loop(loaded(stage))
        client = stage.connect()
        client.request("GET", "/x")
        while not stage.http._programs._doors.of("prog")._waiting:  # type: ignore[union-attr]
            stage.get("/none")
        stage.start(None)
        assert client.getresponse().read() == b"here"


async def loaded(stage: Stage) -> None:
    stage.http.setup_cell(stage.cell)
