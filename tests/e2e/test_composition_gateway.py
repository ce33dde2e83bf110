"""Several applications behind one listener (spec/core §7.7)."""

from __future__ import annotations

import http.client
import shutil
import socket
import ssl
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path

import pytest
import trustme
import websockets.sync.client

from pulp_runtime import Composition, StartError
from pulp_runtime._net.dial_own import OwnListeners

from .compose import Estate, applications, do, route

ROOT = Path(__file__).parents[2]
SECONDS = 20.0


@pytest.fixture
def estate(tmp_path: Path, wasm: Callable[[str], bytes]) -> Estate:
    return Estate(tmp_path, wasm)


@pytest.fixture
def labs(estate: Estate) -> Callable[..., Composition]:
    """Return `labs(**more)`: a host with `shop` in two instances at /shop and /blue, and `blog` at /."""

    def labs(**more: object) -> Composition:
        for name in ("shop", "blog"):
            estate.lab(name)
        shop = estate.app("shop", "lab") + 'instances = 2\naliases = ["red", "blue"]\n'
        routes = route("/shop", "shop", "red"), route("/blue", "shop", "blue"), route("/", "blog")
        return estate.host(shop, estate.app("blog", "lab"), *routes, **more)

    return labs


def get(host: Composition, path: str) -> tuple[int, bytes]:
    client = http.client.HTTPConnection(host.url.removeprefix("http://"), timeout=SECONDS)
    try:
        client.request("GET", path)
        answer = client.getresponse()
        return answer.status, answer.read()
    finally:
        client.close()


def test_threat_39_the_same_route_of_two_applications_stays_separate_behind_two_prefixes(labs) -> None:
    with labs() as host:
        for path in ("/shop/x/o", "/blue/x/o", "/x/o"):
            assert get(host, path) == (200, b"ok")
        assert {name: cell.steps > 0 for name, cell in host.status().items()} == {
            "blog/lab": True,
            "shop/blue/lab": True,
            "shop/red/lab": True,
        }
        for path in ("/shop", "/shopx/o", "/shop/y", "/y"):
            assert get(host, path)[0] == 404


def test_each_instance_answers_what_is_its_own(labs, estate: Estate) -> None:
    with labs() as host:
        assert get(host, "/shop/x/d") == (200, b"ok")  # keeps a code in its memory
        assert get(host, "/shop/x/q") == (200, b"c4")
        assert get(host, "/blue/x/q") == (200, b"c0")
        assert get(host, "/x/q") == (200, b"c0")


def test_the_address_of_each_application_is_the_gateways_and_gone_with_it(labs) -> None:
    with labs() as host:
        url = host.url
        found = {role[:2]: address for role, address in host.endpoints}
        assert found == {("blog", "blog-1"): url, ("shop", "red"): f"{url}/shop", ("shop", "blue"): f"{url}/blue"}
        assert host.endpoints.address("shop", "red") == f"{url}/shop"
    assert host.url == ""
    assert host.endpoints.address("shop", "red") == ""
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), SECONDS)


def test_a_cell_that_is_stopped_answers_no_more_and_the_other_applications_do(labs) -> None:
    with labs() as host:
        do(host, "stop", "shop/red/lab")
        assert get(host, "/shop/x/o")[0] == 503
        assert get(host, "/blue/x/o") == (200, b"ok")
        do(host, "start", "shop/red/lab")
        assert get(host, "/shop/x/o") == (200, b"ok")


def test_requests_go_on_while_a_cell_behind_the_gateway_is_reloaded(labs) -> None:
    with labs() as host:
        client = http.client.HTTPConnection(host.url.removeprefix("http://"), timeout=SECONDS)
        for _ in range(5):
            client.request("GET", "/shop/x/o")
            assert client.getresponse().read() == b"ok"
            do(host, "reload", "shop/red/lab")
        client.close()


def test_a_websocket_goes_through_the_gateway_and_lives_until_the_host_stops(estate: Estate) -> None:
    shutil.copytree(ROOT / "examples" / "ws-echo" / "c", estate.path / "chat" / "cell")
    estate.lab("blog")
    routes = route("/chat", "chat"), route("/blog", "blog")
    with estate.host(estate.app("chat", "cell"), estate.app("blog", "lab"), *routes) as host:
        url = host.url.replace("http://", "ws://")
        with websockets.sync.client.connect(f"{url}/chat/echo", proxy=None) as client:
            for message in ("hello", b"\x00\xff", "x" * 30_000):
                client.send(message)
                assert client.recv(SECONDS) == message
            assert get(host, "/blog/x/o") == (200, b"ok")


@pytest.mark.parametrize("port", ["", " "])
def test_routes_without_a_port_are_refused_before_anything_starts(labs, records, monkeypatch, port: str) -> None:
    monkeypatch.delenv("HTTP_PORT", raising=False)
    with pytest.raises(StartError, match=r"^-host with routes requires -http-port for the host gateway"):
        labs(http_port=port).__enter__()
    assert "cell ready" not in records.messages


def test_a_port_that_is_taken_stops_everything_again(labs, records) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        host = labs(http_port=f"127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(StartError, match=r"cannot listen on 127\.0\.0\.1:\d+: another program listens there"):
            host.__enter__()
    assert host.status() == {}
    assert len(records.fields("shutdown complete")) == 3
    with host:
        assert get(host, "/x/o") == (200, b"ok")


def test_without_routes_the_only_application_that_answers_has_the_listener(estate: Estate) -> None:
    estate.lab("blog")
    with estate.host(estate.app("blog", "lab"), estate.one("store")) as host:
        assert get(host, "/x/o") == (200, b"ok")
        assert host.endpoints.address("blog", "blog-1") == host.url


def test_an_application_without_a_route_is_not_reached_from_outside(estate: Estate) -> None:
    for name in ("shop", "hidden"):
        estate.lab(name)
    with estate.host(estate.app("shop", "lab"), estate.app("hidden", "lab"), route("/shop", "shop")) as host:
        assert get(host, "/shop/x/o") == (200, b"ok")
        for path in ("/x/o", "/hidden/x/o"):
            assert get(host, path)[0] == 404
        assert host.endpoints.address("hidden", "hidden-1") == ""


def test_a_cell_that_trapped_is_started_again_behind_the_gateway(labs) -> None:
    with labs() as host:
        assert get(host, "/shop/x/t")[0] == 500
        for _ in range(100):
            if get(host, "/shop/x/o") == (200, b"ok"):
                break
        else:
            raise AssertionError("it never came back")
        assert host.status()["shop/blue/lab"].restarts == 0


def test_threat_33_every_application_knows_the_listeners_of_all(labs) -> None:
    """The policy for outbound requests refuses addresses at which the host listens itself."""
    with labs() as host:
        one, *others = [application.services.find(OwnListeners) for application in applications(host).values()]
        assert one is not None
        assert one.have(ip_address("127.0.0.1"), int(host.url.rpartition(":")[2]))
        assert all(other is one for other in others)


def test_the_certificate_of_the_gateway_is_read_again_for_connections_to_come(labs, tmp_path: Path) -> None:
    authority = trustme.CA()
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"

    def issue() -> None:
        issued = authority.issue_cert("127.0.0.1")
        chain.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        key.write_bytes(issued.private_key_pem.bytes())

    def serial(host: Composition) -> int:
        context = ssl.create_default_context()
        authority.configure_trust(context)
        address = "127.0.0.1", int(host.url.rpartition(":")[2])
        with (
            socket.create_connection(address, SECONDS) as plain,
            context.wrap_socket(plain, server_hostname=address[0]) as one,
        ):
            return int(one.getpeercert()["serialNumber"], 16)

    issue()
    with labs(config={"http": {"cert": str(chain), "key": str(key)}}) as host:
        assert host.url.startswith("https://")
        before = serial(host)
        issue()
        assert serial(host) == before
        assert host.reload_certificate()
        assert serial(host) != before
    with labs() as host:
        assert not host.reload_certificate()
