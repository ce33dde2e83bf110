"""HTTP through a real cell: what a client sees."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

MIB = 1 << 20


def read_all(client: socket.socket) -> bytes:
    return b"".join(iter(lambda: client.recv(65536), b""))


def get(target: str, *fields: str) -> bytes:
    return "\r\n".join((f"GET {target} HTTP/1.1", "Host: a", *fields, "", "")).encode()


LAST = get("/echo/last", "Connection: close")


@pytest.fixture(params=["c", "go"])
def host(serve, echo: Path, request: pytest.FixtureRequest):
    return serve(echo.parent / request.param)


def test_echo_says_back_what_it_is_told(host) -> None:
    """Many short exchanges with one host: to start one for each would take longer."""
    blob = os.urandom(MIB)
    assert host.request("GET", "/echo/hello") == (200, b"hello")
    assert host.request("POST", "/echo", blob) == (200, blob)
    assert host.request("POST", "/echo", b"") == (200, b"")
    assert host.request("GET", "/echo/a%2Fb") == (404, b"404 page not found")
    assert host.request("GET", "/echo/%C3%A9%20%25") == (200, "é %".encode())
    assert host.request("GET", "/echo/") == (200, b"")
    for method in ("PUT", "DELETE", "OPTIONS", "HEAD", "PATCH"):
        status, _body = host.request(method, "/echo/hello")
        assert status == 404
    with host.connection() as client:
        client.request("GET", "/nowhere")
        answer = client.getresponse()
        fields = dict(answer.getheaders())
        assert answer.read() == b"404 page not found"
        assert fields.pop("Date")
        assert fields == {"Content-Type": "text/plain", "Content-Length": "18"}


def test_one_connection_carries_many_requests(host) -> None:
    with host.connection() as client:
        for number in range(50):
            client.request("GET", f"/echo/{number}")
            assert client.getresponse().read() == str(number).encode()


def test_pipelined_requests_are_answered_in_order(host) -> None:
    with host.raw() as client:
        client.sendall(b"".join(get(f"/echo/{number}") for number in range(200)) + LAST)
        answers = read_all(client).split(b"HTTP/1.1 200 OK\r\n")[1:]

    bodies = [answer.partition(b"\r\n\r\n")[2] for answer in answers]
    assert bodies == [str(number).encode() for number in range(200)] + [b"last"]


def test_a_request_may_come_byte_by_byte(host) -> None:
    with host.raw() as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in LAST:
            client.send(bytes((byte,)))

        assert read_all(client).endswith(b"\r\n\r\nlast")


def test_a_client_may_shut_its_side_first(host) -> None:
    with host.raw() as client:
        client.sendall(get("/echo/half"))
        client.shutdown(socket.SHUT_WR)

        assert read_all(client).endswith(b"\r\n\r\nhalf")


def test_a_body_may_come_in_chunks(host) -> None:
    with host.raw() as client:
        client.sendall(
            b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
            b"5\r\nhello\r\n7;ext=1\r\n, world\r\n0\r\nTrailer: x\r\n\r\n"
        )

        assert read_all(client).endswith(b"\r\n\r\nhello, world")


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_curl_waits_for_100_continue(host, tmp_path: Path) -> None:
    blob = tmp_path / "blob"
    blob.write_bytes(os.urandom(2 * MIB))
    command = ["curl", "-sv", "-H", "Expect: 100-continue", "--expect100-timeout", "20", "--data-binary", f"@{blob}"]
    done = subprocess.run([*command, f"http://127.0.0.1:{host.port}/echo"], capture_output=True, timeout=20)

    assert done.stdout == blob.read_bytes()
    assert b"< HTTP/1.1 100 Continue" in done.stderr


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        pytest.param(b"GARBAGE\r\n\r\n", 400, id="garbage"),
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", 400, id="no host"),
        pytest.param(b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n", 414, id="a long line"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 66000 + b"\r\n\r\n", 431, id="a long head"),
        pytest.param(
            b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
            id="two framings",
        ),
        pytest.param(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n", 413, id="a body of 99 MB"),
    ],
)
def test_threat_36_a_malformed_request_is_answered_once_and_closed(
    serve, echo, request_bytes: bytes, status: int
) -> None:
    host = serve(echo)
    with host.raw() as client:
        client.sendall(request_bytes + get("/echo/smuggled"))
        answer = read_all(client)

    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert answer.count(b"HTTP/1.1 ") == 1
    assert host.request("GET", "/echo/next") == (200, b"next")


def test_a_body_longer_than_a_message_is_413_and_the_cell_goes_on(serve, lab: Callable[..., Path]) -> None:
    host = serve(lab())

    assert host.request("POST", "/l/ok", bytes(9 * MIB)) == (413, b"request body too large\n")
    assert host.request("GET", "/l/ok") == (200, b"ok")
    assert "RE-INSTANTIATED" not in host.log


def test_a_step_that_does_not_answer_is_500(serve, lab: Callable[..., Path]) -> None:
    host = serve(lab())

    assert host.request("GET", "/l/ignore") == (500, b"cell did not respond")
    assert host.request("GET", "/l/ok") == (200, b"ok")


def test_a_trap_costs_one_request_and_the_next_one_works(serve, lab: Callable[..., Path]) -> None:
    host = serve(lab())

    assert host.request("GET", "/l/trap") == (500, b"cell did not respond")
    assert host.request("GET", "/l/ok") == (200, b"ok")
    assert 'msg="cell RE-INSTANTIATED after trap" cell=lab' in host.wait_for("RE-INSTANTIATED")
    assert "wasm trap" in host.wait_for("step failed")


def test_a_deadline_costs_one_request_and_the_next_one_works(serve, lab: Callable[..., Path]) -> None:
    host = serve(lab("call_timeout_ms = 100"))

    assert host.request("GET", "/l/spin") == (500, b"cell did not respond")
    assert host.request("GET", "/l/ok") == (200, b"ok")
    assert "stopped after 0.1 s" in host.wait_for("step failed")


def test_a_cell_that_may_not_restart_is_down_and_the_host_goes_on(serve, lab: Callable[..., Path], echo: Path) -> None:
    host = serve(lab('restart = "never"'), echo)
    host.wait_until_ready("echo")

    assert host.request("GET", "/l/trap") == (500, b"cell did not respond")
    assert host.request("GET", "/l/ok") == (503, b"cell shut down")
    assert host.request("GET", "/echo/fine") == (200, b"fine")
    assert "no more restarts" in host.wait_for("cell is down")
    assert host.stop() == 0


def test_a_full_queue_is_503_and_those_in_it_are_answered(serve, lab: Callable[..., Path]) -> None:
    """64 wait while the guest is held up; the 66th is told at once."""
    host = serve(lab("call_timeout_ms = 3000"))
    with host.raw() as held:
        held.sendall(get("/l/spin"))
        host.wait_until_it_has_spun()
        waiting = [socket.create_connection(("127.0.0.1", host.port), 20) for _ in range(80)]
        for client in waiting:
            client.sendall(get("/l/ok", "Connection: close"))
        answers = [read_all(client) for client in waiting]
        for client in waiting:
            client.close()

    full = [answer for answer in answers if answer.startswith(b"HTTP/1.1 503 ")]
    assert all(answer.endswith(b"\r\n\r\nqueue full\n") for answer in full)
    assert len(full) == 80 - 64
    assert sum(answer.endswith(b"\r\n\r\nok") for answer in answers) == 64


def test_a_client_that_leaves_harms_nobody(serve, lab: Callable[..., Path]) -> None:
    host = serve(lab("call_timeout_ms = 200"))
    for _ in range(3):
        with host.raw() as client:
            client.sendall(get("/l/spin"))
    with host.raw() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset
        client.sendall(get("/l/ok"))

    assert host.request("GET", "/l/ok") == (200, b"ok")
    assert host.stop() == 0
    assert host.errors == ""


def test_threat_20_a_cell_answers_each_request_once(serve, lab: Callable[..., Path]) -> None:
    host = serve(lab())
    with host.raw() as client:
        client.sendall(get("/l/double") + get("/l/query", "Connection: close"))
        answers = read_all(client)

    assert answers.count(b"HTTP/1.1 ") == 2
    assert answers.endswith(b"\r\n\r\nc4")


def test_threat_20_a_cell_cannot_answer_a_request_that_is_over(serve, lab: Callable[..., Path]) -> None:
    host = serve(lab())
    host.request("GET", "/l/ignore")

    assert host.request("GET", "/l/late") == (200, b"c4")


def test_threat_20_a_cell_cannot_answer_for_another(serve, lab: Callable[..., Path]) -> None:
    host = serve(lab("call_timeout_ms = 1500"), lab(name="thief"))
    host.wait_until_ready("thief")
    with host.connection() as victim:
        victim.request("GET", "/l/spin")
        host.wait_until_it_has_spun()

        assert host.request("GET", "/t/late") == (200, b"c4")  # its own id less one: the victim's
        answer = victim.getresponse()
        assert (answer.status, answer.read()) == (500, b"cell did not respond")


def test_threat_38_a_cell_cannot_split_a_response(serve, lab: Callable[..., Path]) -> None:
    host = serve(lab())
    with host.connection() as client:
        client.request("GET", "/l/hidden")
        answer = client.getresponse()

        assert answer.read() == b"c4"
        assert answer.getheader("X-Evil") is None
    assert "control character" in host.wait_for("response refused")


def test_threat_38_an_impossible_status_is_refused(serve, lab: Callable[..., Path]) -> None:
    host = serve(lab())

    assert host.request("GET", "/l/ninety-nine") == (200, b"c4")


def test_threat_38_framing_is_the_host_s(serve, lab: Callable[..., Path]) -> None:
    host = serve(lab())
    with host.raw() as client:
        client.sendall(get("/l/framing", "Connection: close"))
        head, _, body = read_all(client).partition(b"\r\n\r\n")

    assert b"Content-Length: 2\r\n" in head + b"\r\n"
    assert b"Transfer-Encoding" not in head
    assert body == b"ok"


@pytest.mark.slow
def test_a_request_that_waits_behind_a_guest_that_shutting_down_ends_is_answered_too(
    serve, lab: Callable[..., Path]
) -> None:
    host = serve(lab("call_timeout_ms = 30000"))
    with host.raw() as held, host.raw() as waiting:
        held.sendall(get("/l/spin"))
        host.wait_until_it_has_spun()
        waiting.sendall(get("/l/ok"))
        for _ in range(3):  # answers to later requests say that the one before them has been read
            assert host.request("GET", "/nowhere") == (404, b"404 page not found")
        host.send(signal.SIGTERM)
        later, first = read_all(waiting), read_all(held)

    assert host.end() == 0
    assert first.endswith(b"\r\n\r\ncell did not respond")
    assert later.endswith((b"\r\n\r\nok", b"\r\n\r\ncell shut down"))
