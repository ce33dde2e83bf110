"""Which addresses can be had, and what is said about those that cannot."""

import asyncio
import socket

import pytest

from pulp_runtime._net import response
from pulp_runtime._net.exchange import Request
from pulp_runtime._net.listener import Listener
from pulp_runtime._net.settings import HttpSettings
from pulp_runtime.errors import ListenError

LAST = b"GET /a HTTP/1.0\r\n\r\n"


def echo(request: Request) -> None:
    data = response.render(200, {}, (), request.connection.remote_addr.encode(), keep_alive=False)
    request.connection.respond(request, data)


def port_of(listener: Listener) -> int:
    return int(listener.addresses[0].rpartition(":")[2])


def test_every_address_means_ipv6_and_ipv4() -> None:
    async def main() -> None:
        listener = Listener.bind("", 0)
        await listener.serve(echo)
        peers: list[str] = []
        for host in ("127.0.0.1", "::1") if socket.has_dualstack_ipv6() else ("127.0.0.1",):
            try:
                reader, writer = await asyncio.open_connection(host, port_of(listener))
            except OSError:
                continue  # a machine without a loopback for IPv6
            writer.write(LAST)
            peers.append((await reader.read()).partition(b"\r\n\r\n")[2].decode().rpartition(":")[0])
            writer.close()
            await writer.wait_closed()
        assert peers in (["127.0.0.1"], ["127.0.0.1", "[::1]"])
        await listener.close(1.0)

    asyncio.run(main())


def test_port_0_is_the_same_for_every_address_of_a_name() -> None:
    listener = Listener.bind("localhost", 0)
    assert len({address.rpartition(":")[2] for address in listener.addresses}) == 1
    assert not listener.addresses[0].endswith(":0")
    asyncio.run(listener.close(0.0))


def test_a_port_in_use_is_named_with_what_to_do() -> None:
    first = Listener.bind("127.0.0.1", 0)
    port = port_of(first)
    with pytest.raises(ListenError, match=rf"cannot listen on 127\.0\.0\.1:{port}: another program listens there"):
        Listener.bind("127.0.0.1", port)
    asyncio.run(first.close(0.0))


@pytest.mark.parametrize(
    ("host", "port", "words"),
    [
        pytest.param("192.0.2.1", 0, "192.0.2.1:0: this machine does not have that address", id="it is not ours"),
        pytest.param("no-such-host.invalid", 80, "no such host", id="the name is unknown"),
        pytest.param("a" * 70, 80, "no such host", id="the name is no name"),
        pytest.param("127.0.0.1", 65_536, "a port is a number from 0 to 65535", id="the port is too large"),
        pytest.param("", -1, "a port is a number from 0 to 65535", id="the port is negative"),
    ],
)
def test_an_address_that_cannot_be_bound_is_named_with_the_reason(host: str, port: int, words: str) -> None:
    with pytest.raises(ListenError, match=words):
        Listener.bind(host, port)


def test_a_port_that_needs_privileges_is_named_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", denied)
    with pytest.raises(ListenError, match="ports below 1024 need privileges"):
        Listener.bind("127.0.0.1", 80)


def test_a_setting_that_is_not_positive_is_refused() -> None:
    with pytest.raises(ValueError, match=r"http\.body_bytes must be positive"):
        HttpSettings(body_bytes=0)
