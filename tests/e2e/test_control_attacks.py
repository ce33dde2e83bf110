"""What somebody may try at the control socket of a host that runs, and what a browser cannot."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from pulp_runtime.control.client import ControlFailed, ask
from pulp_runtime.control.protocol import MOST_BYTES, Request

OPERATIONS = ["shutdown", "start", "restart", "reload", "rollback", "call"]
NAMES = [
    pytest.param("../evil", id="up and into another folder"),
    pytest.param("../../../../etc/passwd", id="up to the system's files"),
    pytest.param("/etc/passwd", id="an absolute path"),
    pytest.param("..", id="the folder above"),
    pytest.param(".", id="the folder itself"),
    pytest.param("", id="nothing"),
    pytest.param("echo/../../evil", id="a cell's name and a way up"),
    pytest.param("echo\0", id="a cell's name and a NUL"),
    pytest.param("ECHO", id="a cell's name in capitals"),
    pytest.param("echo\n", id="a cell's name and a new line"),
    pytest.param("\x1b[2Jecho", id="what steers a terminal"),
    pytest.param("*", id="a pattern"),
    pytest.param("a" * 100_000, id="a hundred thousand letters"),
]


@pytest.fixture
def control(serve, echo: Path, cell: Callable[..., Path], tmp_path: Path):
    """A host with the echo cell, its control socket, and the folder of a cell it was not told of."""
    cell("minimal", name="evil")
    host = serve(echo)
    host.wait_for("control socket listening")
    return host, str(tmp_path / "pulp.ctl")


def said(path: str, data: bytes) -> bytes:
    """Send bytes; return all that comes until the host closes."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(15)
        client.connect(path)
        try:
            client.sendall(data)
            return b"".join(iter(lambda: client.recv(65536), b""))
        except (BrokenPipeError, ConnectionResetError):
            return b""


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_threat_46_a_name_is_looked_up_and_never_a_path(control, name: str) -> None:
    host, path = control

    for operation in OPERATIONS:
        with pytest.raises(ControlFailed, match=r"unknown cell|cell name required|no cell"):
            ask(Request(op=operation, cell=name, function="f"), path)
    if name:  # without a name these are the lines of the host itself
        assert ask(Request(op="logs", cell=name), path).lines == ()

    status = ask(Request(op="status"), path).cells
    assert [(cell.name, cell.state) for cell in status] == [("echo", "ready")]
    assert "evil" not in host.log.replace("../evil", "")
    assert "\x1b" not in host.log


@pytest.mark.slow
@pytest.mark.parametrize(
    "request_line",
    [
        pytest.param(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", id="a page"),
        pytest.param(b"POST / HTTP/1.1\r\nContent-Length: 14\r\n\r\n\x0a\0\0\0\x81\xa2op\xa6status", id="a form"),
        pytest.param(b"OPTIONS * HTTP/1.1\r\n\r\n", id="a question first"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", id="a TLS handshake"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", id="HTTP/2"),
    ],
)
def test_threat_46_what_a_browser_sends_is_a_broken_frame(control, request_line: bytes) -> None:
    """No page can reach a Unix socket; what it would send through a proxy to one is no frame either."""
    _host, path = control

    assert said(path, request_line) == b""
    assert ask(Request(op="status"), path).ok


@pytest.mark.slow
def test_threat_46_nothing_but_the_socket_listens_for_operators(control) -> None:
    """There is no port to rebind a name to: the host's one TCP port answers requests for cells, and 404."""
    host, _path = control

    for target in ("/status", "/reload", "/ctl", "/admin", "/metrics", "/debug", "/.well-known/pulp"):
        assert host.request("GET", target)[0] == 404
        assert host.request("POST", target, b"\x81\xa2op\xa6status")[0] == 404


@pytest.mark.slow
@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"\x81\xa2op" + b"\x81\xa1a" * 200_000, id="maps inside maps"),
        pytest.param(b"\x91" * 500_000, id="arrays inside arrays"),
        pytest.param(b"\xdf\xff\xff\xff\xff", id="a map of four billion"),
        pytest.param(
            b"\x82\xa2op\xa4logs\xa5lines\xcf\xff\xff\xff\xff\xff\xff\xff\xff", id="every line there ever was"
        ),
        pytest.param(b"\x82\xa2op\xa4call\xa4args\xc6\xff\xff\xff\xff", id="arguments of four gigabytes"),
        pytest.param(b"\x81\xa2op\xdb\x00\x0f\x00\x00" + b"a" * 0xF0000, id="an operation of a megabyte"),
    ],
)
def test_threat_46_a_bomb_is_refused_in_a_frame_and_the_host_goes_on(control, body: bytes) -> None:
    _host, path = control

    answer = said(path, struct.pack("<I", len(body)) + body)

    assert len(answer) < 1000
    assert msgspec.msgpack.decode(answer[4:])["error"]
    assert ask(Request(op="status"), path).ok


@pytest.mark.slow
@pytest.mark.parametrize("size", [MOST_BYTES + 1, 1 << 31, 0xFFFF_FFFF])
def test_threat_46_a_frame_longer_than_any_is_not_waited_for(control, size: int) -> None:
    _host, path = control

    assert said(path, struct.pack("<I", size) + bytes(1000)) == b""
    assert ask(Request(op="status"), path).ok
