"""`/response` as a stream: what clients see while the function runs, slow clients, answers that break off."""

from __future__ import annotations

import threading

import pytest
from tests.capabilities.cloud.programs import SECONDS, PlayedRun, Stage, Timeout, Trap, errno_of, unhurried
from tests.capabilities.cloud.test_response import writing

from pulp_runtime.capabilities.cloud.response_text import HEAD_BYTES
from pulp_runtime.capabilities.transport.program_answer import HELD_BYTES, WAITING_BYTES

__all__ = ["unhurried"]


@pytest.mark.parametrize("name", ["body", "txt"])
def test_a_client_sees_bytes_before_the_function_ends(name: str) -> None:
    go = threading.Event()

    def program(run: PlayedRun) -> None:
        file = run.open(f"/response/{name}", "w")
        run.give(file, b"HTTP/1.1 200 OK\n\none" if name == "txt" else b"one")
        assert go.wait(SECONDS)
        run.give(file, b"two")

    with Stage(program) as stage:
        answer = stage.ask()
        assert answer.read1(3) == b"one"
        go.set()
        assert answer.read() == b"two"
        assert answer.getheader("Transfer-Encoding") == "chunked"


def test_a_long_body_arrives_whole() -> None:
    body = bytes(range(256)) * 20_000
    with Stage(writing("/response/body", body)) as stage:
        assert stage.get() == (200, body)


def test_threat_37_a_slow_client_blocks_its_writer_and_no_memory_grows() -> None:
    stuck = threading.Event()

    def program(run: PlayedRun) -> None:
        file = run.open("/response/body", "w")
        sent = 0
        while run.wait(file, write=True, seconds=0.3):
            sent += file.write(b"x" * 65536)
        assert errno_of(file.write, b"x") == "EAGAIN"
        assert sent < 20_000_000
        stuck.set()
        run.give(file, b"end")

    with Stage(program) as stage, stage.dial() as client:
        client.sendall(b"GET /x HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        assert stuck.wait(SECONDS)
        (answer,) = stage.http._programs._wire.live  # type: ignore[union-attr]
        assert answer._waiting <= WAITING_BYTES
        assert stage.get("/none")[0] == 404, "others are served"
        assert client.makefile("rb").read().endswith(b"end\r\n0\r\n\r\n")


def test_a_writer_learns_that_its_client_is_gone() -> None:
    gone = threading.Event()

    def program(run: PlayedRun) -> None:
        file = run.open("/response/body", "w")
        try:
            while True:
                run.give(file, b"x" * 65536)
        except BrokenPipeError:
            gone.set()

    with Stage(program) as stage:
        with stage.dial() as client:
            client.sendall(b"GET /x HTTP/1.1\r\nHost: h\r\n\r\n")
            client.recv(1024)
        assert gone.wait(SECONDS)


@pytest.mark.parametrize("end", [Trap, Timeout])
def test_an_answer_that_has_begun_is_broken_off_so_that_its_client_notices(end: type[Exception]) -> None:
    go = threading.Event()

    def program(run: PlayedRun) -> None:
        file = run.open("/response/body", "w")
        run.give(file, b"one")
        assert go.wait(SECONDS)
        raise end

    with Stage(program) as stage, stage.dial() as client:
        client.sendall(b"GET /x HTTP/1.1\r\nHost: h\r\n\r\n")
        got = client.recv(4096)
        while b"one" not in got:
            got += client.recv(4096)
        go.set()
        try:
            while piece := client.recv(4096):
                got += piece
        except ConnectionResetError:
            pass
    assert not got.endswith(b"0\r\n\r\n")


@pytest.mark.parametrize(("end", "status"), [(Trap, 502), (Timeout, 504)])
def test_half_an_answer_is_none(end: type[Exception], status: int, unhurried: None) -> None:
    def program(run: PlayedRun) -> None:
        run.give(run.open("/response/body", "w"), b"half")
        raise end

    with Stage(program) as stage:
        assert stage.get()[0] == status


def test_an_answer_that_was_complete_stands_whatever_comes_of_the_function() -> None:
    def program(run: PlayedRun) -> None:
        run.write("/response/body", "whole")
        raise Trap

    with Stage(program) as stage:
        assert stage.get() == (200, b"whole")


def test_head_gets_the_length_of_the_body_it_does_not_get(unhurried: None) -> None:
    with Stage(writing("/response/body", "hello")) as stage:
        answer = stage.whole("HEAD")

    assert (answer.status, answer.getheader("Content-Length"), answer.body) == (200, "5", b"")


def test_requests_on_one_connection_are_answered_one_after_the_other() -> None:
    with Stage(lambda run: run.write("/response/body", run.read("/request/path"))) as stage:
        client = stage.connect()
        for path in ("/hello/a", "/hello/b", "/files/c"):
            client.request("GET", path)
            assert client.getresponse().read().decode() == path


def test_what_is_held_for_a_moment_fits_in_what_may_wait() -> None:
    assert HELD_BYTES <= HEAD_BYTES < WAITING_BYTES
