"""WebSockets of a daemon: `recv`, `send`, `type` and `close` below `/conn/<id>`."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest
from tests.capabilities.cloud.programs import SECONDS, WS, PlayedRun, Stage, errno_of
from tests.capabilities.cloud.test_daemon import accepted
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from pulp_runtime.capabilities.cloud.socket_files import MESSAGES
from pulp_runtime.capabilities.transport.front import Front
from pulp_runtime.capabilities.transport.program_ws import register
from pulp_runtime.ext import ExtensionError


def stage_of(serve: Callable[[PlayedRun, str], None], **named: object) -> Stage:
    """Return a daemon that serves each WebSocket so, one after the other, and answers requests with `ok`."""

    def program(run: PlayedRun) -> None:
        for kind, conn in accepted(run):
            if kind == "ws":
                serve(run, conn)
            else:
                run.write(f"{conn}/response/body", "ok")

    return Stage(program, "daemon", websockets=("/chat", "/room/:name"), **named)  # type: ignore[arg-type]


def client(stage: Stage, path: str = "/chat", **more: Any) -> ClientConnection:
    url = f"ws://127.0.0.1:{stage.port}{path}"
    times = {"open_timeout": SECONDS, "close_timeout": SECONDS}
    return connect(url, compression=None, proxy=None, max_size=None, **times, **more)


def closed(one: ClientConnection) -> tuple[int, str]:
    with pytest.raises(ConnectionClosed) as caught:
        one.recv(timeout=SECONDS)
    assert caught.value.rcvd is not None
    return caught.value.rcvd.code, caught.value.rcvd.reason


def echo(run: PlayedRun, conn: str) -> None:
    recv, send = run.open(f"{conn}/recv"), run.open(f"{conn}/send", "w")
    while message := run.take(recv):
        run.give(send, message)


def test_each_read_is_a_message_and_each_write_is_one() -> None:
    with stage_of(echo) as stage, client(stage) as one:
        for message in ("hello", b"\0\xff", "ärger", "x" * 30_000):
            one.send(message)
            assert one.recv(timeout=SECONDS) == message


def test_type_is_that_of_the_message_read_last_and_sets_that_of_the_next_one_written() -> None:
    seen = []

    def serve(run: PlayedRun, conn: str) -> None:
        recv, send = run.open(f"{conn}/recv"), run.open(f"{conn}/send", "w")
        seen.append(run.read(f"{conn}/type"))
        run.take(recv)
        seen.append(run.read(f"{conn}/type"))
        assert run.size(f"{conn}/type") == 6
        run.write(f"{conn}/type", "text\n")
        run.give(send, b"now text")
        assert errno_of(run.write, f"{conn}/type", "other") == "EINVAL"
        run.write(f"{conn}/type", "binary")
        run.give(send, b"now binary")
        run.take(recv)

    with stage_of(serve) as stage, client(stage) as one:
        one.send(b"\0")
        assert one.recv(timeout=SECONDS) == "now text"
        assert one.recv(timeout=SECONDS) == b"now binary"
    assert seen == [b"text", b"binary"]


def test_the_handshake_is_a_request_to_be_read() -> None:
    seen = {}

    def serve(run: PlayedRun, conn: str) -> None:
        seen["list"] = run.list(conn)
        seen["name"] = run.read(f"{conn}/request/params/name")
        seen["upgrade"] = run.read(f"{conn}/request/headers/upgrade")
        run.write(f"{conn}/close", "")

    with stage_of(serve) as stage, client(stage, "/room/a") as one:
        assert closed(one) == (1000, "")
    assert seen == {"list": ["close", "recv", "request", "send", "type"], "name": b"a", "upgrade": b"websocket"}


@pytest.mark.parametrize(
    ("words", "code", "reason"),
    [("1000 bye bye\n", 1000, "bye bye"), ("4000", 4000, ""), ("", 1000, "")],
)
def test_close_takes_a_code_and_a_reason(words: str, code: int, reason: str) -> None:
    left = []

    def serve(run: PlayedRun, conn: str) -> None:
        run.write(f"{conn}/close", words)
        left.append(errno_of(run.list, conn))

    with stage_of(serve) as stage, client(stage) as one:
        assert closed(one) == (code, reason)
    assert left == ["ENOENT"]


@pytest.mark.parametrize("words", ["999 low", "1005", "1006 x", "abc", "1000 " + "x" * 124])
def test_a_close_that_may_not_be_sent_is_einval(words: str) -> None:
    def serve(run: PlayedRun, conn: str) -> None:
        assert errno_of(run.write, f"{conn}/close", words) == "EINVAL"
        run.write(f"{conn}/close", "1000 ok")

    with stage_of(serve) as stage, client(stage) as one:
        assert closed(one) == (1000, "ok")


def test_the_end_of_the_client_is_the_end_of_the_file_and_epipe() -> None:
    seen = []

    def serve(run: PlayedRun, conn: str) -> None:
        recv, send = run.open(f"{conn}/recv"), run.open(f"{conn}/send", "w")
        seen.append(run.take(recv))
        seen.append(errno_of(send.write, b"x"))
        seen.append(run.take(recv))
        seen.append(errno_of(run.list, conn))

    with stage_of(serve) as stage:
        with client(stage) as one:
            pass
        assert stage.get() == (200, b"ok")
        assert one.close_code == 1000
    assert seen == [b"", "EPIPE", b"", "ENOENT"]


def test_what_came_before_the_client_left_is_read_first() -> None:
    got = []
    go = threading.Event()

    def serve(run: PlayedRun, conn: str) -> None:
        assert go.wait(SECONDS)
        recv = run.open(f"{conn}/recv")
        while message := run.take(recv):
            got.append(message)

    with stage_of(serve) as stage:
        with client(stage) as one:
            for number in range(5):
                one.send(str(number))
        go.set()
        assert stage.get()[1] == b"ok"
    assert got == [b"0", b"1", b"2", b"3", b"4"]


def test_a_message_longer_than_a_read_goes_on_and_an_empty_one_is_left_out() -> None:
    got = []

    def serve(run: PlayedRun, conn: str) -> None:
        recv = run.open(f"{conn}/recv")
        got.extend(run.take(recv, 4) for _ in range(3))
        run.write(f"{conn}/close", "")

    with stage_of(serve) as stage, client(stage) as one:
        one.send("")
        one.send("abcdef")
        one.send("gh")
        closed(one)
    assert got == [b"abcd", b"ef", b"gh"]


@pytest.mark.parametrize(
    ("path", "mode", "error"),
    [("recv", "w", "EACCES"), ("send", "r", "EACCES"), ("send", "x", "EEXIST"), ("none", "r", "ENOENT")],
)
def test_files_open_one_way(path: str, mode: str, error: str) -> None:
    def serve(run: PlayedRun, conn: str) -> None:
        assert errno_of(run.open, f"{conn}/{path}", mode) == error
        run.write(f"{conn}/close", "")

    with stage_of(serve) as stage, client(stage) as one:
        closed(one)


def test_text_that_is_none_and_messages_that_are_too_long_are_refused() -> None:
    def serve(run: PlayedRun, conn: str) -> None:
        send = run.open(f"{conn}/send", "w")
        assert errno_of(send.write, b"\xff") == "EINVAL"
        assert errno_of(send.write, bytes(16 * 1024 * 1024 + 1)) == "EMSGSIZE"
        run.give(send, b"fine")
        run.write(f"{conn}/close", "")

    with stage_of(serve) as stage, client(stage) as one:
        assert one.recv(timeout=SECONDS) == "fine"
        closed(one)


def test_threat_40_a_client_is_not_listened_to_while_its_messages_are_not_read() -> None:
    go = threading.Event()
    count = 3000
    got = []

    def serve(run: PlayedRun, conn: str) -> None:
        assert go.wait(SECONDS)
        recv = run.open(f"{conn}/recv")
        while message := run.take(recv):
            got.append(message)

    with stage_of(serve) as stage:
        with client(stage) as one:
            sender = threading.Thread(target=lambda: [one.send(f"{at:05}" + "x" * 8000) for at in range(count)])
            sender.start()
            sender.join(0.3)
            assert sender.is_alive(), "it waits for us"
            (sockets,) = stage.ws._cells["prog"]._open.values()  # type: ignore[attr-defined]
            assert len(sockets._messages) <= MESSAGES
            go.set()
            sender.join(SECONDS)
        assert stage.get()[1] == b"ok"
    assert [int(message[:5]) for message in got] == list(range(count))


def test_a_slow_client_makes_its_writer_wait() -> None:
    stuck = threading.Event()
    size, seen = 65536, []

    def serve(run: PlayedRun, conn: str) -> None:
        send = run.open(f"{conn}/send", "w")
        count = 0
        while run.wait(send, write=True, seconds=0.3):
            send.write(b"x" * size)
            count += 1
        seen.append(count)
        assert errno_of(send.write, b"x") == "EAGAIN"
        stuck.set()
        run.give(send, b"end")
        run.write(f"{conn}/close", "")

    with stage_of(serve) as stage:
        with client(stage, max_queue=1) as one:
            assert stuck.wait(SECONDS)
            assert stage.get("/none")[0] == 404, "others are served"
            messages = list(one)
        assert len(messages) == seen[0] + 1
        assert messages[-1] == "end"


@pytest.mark.parametrize(("slow", "error"), [("drop", "ENOBUFS"), ("close", "EPIPE")])
def test_the_manifest_says_what_becomes_of_a_slow_client(slow: str, error: str) -> None:
    seen = []

    def serve(run: PlayedRun, conn: str) -> None:
        send = run.open(f"{conn}/send", "w")
        while not (code := errno_of(send.write, b"x" * 65536)):
            assert send.ready(write=True) is not None
        seen.append(code)

    with stage_of(serve, settings={WS: {"slow": slow}}) as stage, client(stage, max_queue=1) as one:
        assert stage.get()[1] == b"ok"
        one.socket.shutdown(socket.SHUT_RDWR)
    assert seen == [error]


def test_a_setting_that_would_do_nothing_is_refused() -> None:
    stage = stage_of(echo, settings={WS: {"mailbox_frames": 5}})
    with pytest.raises(ExtensionError, match="mailbox_frames: a program has no mailbox; remove it"):
        register(Front(), stage.cell)
    stage.loop.close()


def test_clients_are_told_when_the_daemon_ends() -> None:
    def program(run: PlayedRun) -> None:
        next(accepted(run))

    with Stage(program, "daemon", websockets=("/chat",)) as stage, client(stage) as one:
        assert closed(one)[0] == 1001
        with pytest.raises(InvalidStatus) as caught:
            client(stage)
        assert caught.value.response.status_code == 503
