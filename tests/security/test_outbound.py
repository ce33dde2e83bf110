"""Cells that try to reach what is not for them: through addresses, names, redirects, and what servers answer.

Every attack aims at a canary, a server of the test's on loopback, which must not see a single connection.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trustme
from tests.capabilities.puppet import Puppet, StubGuest, puppet_cell
from tests.capabilities.upstream import Peer, Seen, Upstream, always, dripping, response

from pulp_runtime import Host
from pulp_runtime._net.dial_own import OwnListeners
from pulp_runtime._net.dial_patience import DialFault, Patience
from pulp_runtime.abi.http_fetch import HTTPFetchRequest
from pulp_runtime.abi.wsout import WSOutDial
from pulp_runtime.capabilities.transport import http_outbound, ws_outbound
from pulp_runtime.capabilities.transport.http_outbound import HttpOutbound
from pulp_runtime.capabilities.transport.ws_outbound import WsOutbound
from pulp_runtime.errors import HostError
from pulp_runtime.testing import FakeHost

HTTP, WS = http_outbound.NAME, ws_outbound.NAME
SECOND = 1_000_000_000


class World:
    """Both capabilities without any exemption, names that resolve to what the test says, and a canary."""

    def __init__(self, host: FakeHost, canary: Upstream) -> None:
        self.canary = canary
        self.names: dict[str, list[list[str]]] = {}
        self.lookups: list[str] = []
        self.http, self.ws = HttpOutbound(self.resolve), WsOutbound(self.resolve)
        self.host = host
        self.http.setup(host(HTTP))
        self.ws.setup(host(WS))
        self.guest = StubGuest()

    def resolve(self, _owner: str, name: str, _patience: Patience) -> list[str]:
        """Answer with the next list of a name's, the last one again and again."""
        self.lookups.append(name)
        answers = self.names.get(name)
        if answers is None:
            raise DialFault(f"lookup of {name}: no such name")
        return answers.pop(0) if len(answers) > 1 else answers[0]

    def fetch(self, url: str, **fields: Any) -> int:
        """Return the status of a fetch; -code when it was refused."""
        try:
            answer = self.http.http_fetch(self.guest, HTTPFetchRequest(url=url, **fields))
        except HostError as error:
            return -error.code
        return msgspec.msgpack.decode(answer)["status"]

    def attempts(self, authority: str) -> list[int]:
        """Try a target by every way out; return what each answered."""
        answers = [self.fetch(f"http://{authority}/"), self.fetch(f"https://{authority}/")]
        for scheme in ("ws", "wss"):
            try:
                self.ws.wsout_dial(self.guest, WSOutDial(url=f"{scheme}://{authority}/"), 0, 0)
                answers.append(0)
            except HostError as error:
                answers.append(-error.code)
        try:
            self.http.http_fetch_begin(self.guest, HTTPFetchRequest(url=f"http://{authority}/"), 0, 0)
            answers.append(0)
        except HostError as error:
            answers.append(-error.code)
        return answers

    def close(self) -> None:
        self.http.teardown()
        self.ws.teardown()


@pytest.fixture
def canary() -> Iterator[Upstream]:
    with Upstream(always(response(b"secret"))) as upstream:
        yield upstream


@pytest.fixture
def world(canary: Upstream) -> Iterator[World]:
    with FakeHost() as host:
        world = World(host, canary)
        yield world
        world.close()


# 32: addresses ----------------------------------------------------------------------------------------------------

WRITTEN = [
    "127.0.0.1", "127.1", "127.0.1", "127.255.255.254", "0.0.0.0", "0", "2130706433", "0x7f000001", "0x7f.0.0.1",
    "017700000001", "0177.0.0.1", "127.0.0.1.", "%31%32%37.0.0.1", "127。0。0。1", "１２７.0.0.1", "①②⑦.0.0.1", "[::1]",
    "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[0:0:0:0:0:ffff:127.0.0.1]", "[::127.0.0.1]",
    "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "[fe80::1]", "[fe80::1%25lo]", "[fc00::1]", "[fec0::1]", "[ff02::1]",
    "169.254.169.254", "[fd00:ec2::254]", "100.100.100.200", "192.0.0.192", "10.0.0.1", "172.16.0.1", "192.168.0.1",
    "100.64.0.1", "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255",
]  # fmt: skip


@pytest.mark.parametrize("host", WRITTEN)
def test_threat_32_an_address_that_is_not_public_is_refused_however_it_is_written(world: World, host: str) -> None:
    assert world.attempts(f"{host}:{world.canary.port}") == [-4] * 5
    assert (world.canary.connections, world.lookups) == (0, [])


@pytest.mark.parametrize(
    "name", ["localhost", "localhost.", "LOCALHOST", "metadata.google.internal", "127.0.0.1.nip.example"]
)
def test_threat_32_a_name_is_judged_by_the_address_it_has(world: World, name: str) -> None:
    world.names = {name.lower(): [["127.0.0.1"]]}

    assert world.attempts(f"{name}:{world.canary.port}") == [-4] * 5
    assert world.canary.connections == 0
    assert "loopback" in world.guest.logged[-1].fields["reason"]


def test_threat_32_the_system_s_own_names_for_loopback_are_refused_too(canary: Upstream) -> None:
    with FakeHost() as host:
        outbound = HttpOutbound()
        outbound.setup(host(HTTP))
        guest = StubGuest()
        for name in ("localhost", "localhost.", "LocalHost"):
            with pytest.raises(HostError):
                outbound.http_fetch(guest, HTTPFetchRequest(url=f"http://{name}:{canary.port}/"))
        outbound.teardown()
    assert canary.connections == 0


@pytest.mark.parametrize(
    "url",
    ["http://good.example@{}/", "http://good.example:80@{}/", "http://{}@good.example/", "http://good.example\\@{}/",
     "http://{}\\@good.example/", "http:\\\\{}/", "http:/{}/", "http:{}/", "//{}/", "file:///etc/passwd", "file://{}/", "gopher://{}/",
     "unix:///run/docker.sock", "ftp://{}/", "dict://{}/", "jar:http://{}!/", "data:,x", "http+unix://{}/", "http://{}#@good.example/",
     "http://{}?@good.example/", "\thttp://{}/", "http://\r\n{}/", "http://{}\t/"],
)  # fmt: skip
def test_threat_32_a_url_that_could_mean_two_hosts_or_another_protocol_is_refused(world: World, url: str) -> None:
    world.names = {"good.example": [["127.0.0.1"]]}

    assert world.fetch(url.format(world.canary.address)) == -4
    assert world.canary.connections == 0


@pytest.mark.parametrize("port", [0, 22, 25, 53, 143, 6667])
def test_threat_32_a_port_of_another_protocol_is_refused_before_anything_is_looked_up(world: World, port: int) -> None:
    world.names = {"a.example": [["8.8.8.8"]]}

    assert world.attempts(f"a.example:{port}") == [-4] * 5
    assert world.lookups == []


# 33: names that change, redirects, ourselves ----------------------------------------------------------------------


def test_threat_33_a_name_that_changes_its_mind_is_dialled_where_it_was_checked(world: World) -> None:
    """Permitted at the check, the canary at the connection: there is no second lookup that could say so."""
    world.http.setup(world.host(HTTP, config={"allow": ["127.0.0.2/32"]}))
    world.names = {"flip.example": [["127.0.0.2"], ["127.0.0.1"]]}

    assert world.fetch(f"http://flip.example:{world.canary.port}/") == -4
    assert "connect to 127.0.0.2" in world.guest.logged[-1].fields["reason"]
    assert world.fetch(f"http://flip.example:{world.canary.port}/") == -4
    assert "loopback" in world.guest.logged[-1].fields["reason"]
    assert world.canary.connections == 0
    assert world.lookups == ["flip.example"] * 2


def test_threat_33_a_public_address_is_the_one_that_is_dialled(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    dialled: list[object] = []
    monkeypatch.setattr(socket.socket, "connect_ex", lambda _self, address: dialled.append(address) or 111)
    world.names = {"flip.example": [["8.8.8.8", "2606:4700::1111"], ["127.0.0.1"]]}

    assert world.fetch("http://flip.example:8080/") == -4
    assert dialled == [("8.8.8.8", 8080), ("2606:4700::1111", 8080)]
    assert world.lookups == ["flip.example"]


@pytest.mark.parametrize(
    "answers", [["8.8.8.8", "127.0.0.1"], ["127.0.0.1", "8.8.8.8"], ["2606:4700::1111", "::ffff:127.0.0.1"]]
)
def test_threat_33_one_private_address_among_several_refuses_the_name(world: World, answers: list[str]) -> None:
    world.names = {"two.example": [answers]}

    assert world.attempts(f"two.example:{world.canary.port}") == [-4] * 5
    assert world.canary.connections == 0


def test_threat_33_an_alias_of_an_internal_name_is_judged_by_its_address(world: World) -> None:
    """A lookup follows CNAMEs; what counts is where they end."""
    world.names = {"cname-to-internal.example": [["10.0.0.5"]]}

    assert world.attempts("cname-to-internal.example:8080") == [-4] * 5
    assert "10.0.0.5 is private" in world.guest.logged[-1].fields["reason"]


@pytest.fixture
def front() -> Iterator[Callable[[str, int], tuple[World, Upstream]]]:
    """Return `front(location, status)`: a server that cells may reach and that sends them elsewhere."""
    hosts: list[FakeHost] = []
    worlds: list[World] = []
    upstreams: list[Upstream] = []

    def front(location: str, status: int) -> tuple[World, Upstream]:
        canary = Upstream(always(response(b"secret")))
        target = location.format(canary=canary.address, port=canary.port)
        door = Upstream(always(response(b"", f"Location: {target}", status=f"{status} Moved")))
        upstreams.extend((canary, door))
        hosts.append(FakeHost())
        world = World(hosts[-1], canary)
        world.http.setup(hosts[-1](HTTP, config={"allow": [f"door.example:{door.port}"]}))
        world.names = {"door.example": [["127.0.0.1"]], "inside.example": [["127.0.0.1"]]}
        worlds.append(world)
        return world, door

    yield front
    for closing in (*worlds, *upstreams, *hosts):
        closing.close()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    "location",
    ["http://{canary}/", "//{canary}/", "http://localhost:{port}/", "http://inside.example:{port}/", "http://[::ffff:127.0.0.1]:{port}/",
     "http://door.example:{port}/", "http://0x7f.1:{port}/", "http://u@{canary}/", "http:\\\\{canary}/", "file:///etc/passwd",
     "gopher://{canary}/", "ftp://{canary}/"],
)  # fmt: skip
def test_threat_33_a_redirect_earns_no_exemption(
    front: Callable[[str, int], tuple[World, Upstream]], location: str, status: int
) -> None:
    """Not even one to the host that is exempt, at another port."""
    world, door = front(location, status)

    assert world.fetch(f"http://door.example:{door.port}/") == -4
    assert len(door.seen) == 1
    assert world.canary.connections == 0


def test_threat_33_a_circle_of_redirects_ends(front: Callable[[str, int], tuple[World, Upstream]]) -> None:
    world, door = front("/again", 302)

    assert world.fetch(f"http://door.example:{door.port}/") == -4
    assert len(door.seen) == 21


def test_threat_33_a_host_header_does_not_change_where_a_request_goes_nor_what_it_says(
    front: Callable[[str, int], tuple[World, Upstream]],
) -> None:
    world, door = front("/x", 200)
    url = f"http://door.example:{door.port}/"

    assert world.fetch(url, headers={"Host": world.canary.address, "host": "self"}) == 200
    assert door.seen[0].fields["host"] == [f"door.example:{door.port}"]
    assert world.fetch("http://self/") == -4
    assert world.fetch("http://self.invalid/", headers={"Host": "door.example"}) == -4


def test_threat_33_our_own_listener_is_not_for_cells_even_where_loopback_is_exempt(canary: Upstream) -> None:
    with FakeHost() as host:
        world = World(host, canary)
        world.http.setup(host(HTTP, config={"allow": ["127.0.0.0/8", "localhost"]}))
        assert world.fetch(canary.url) == 200
        host(HTTP).services.get(OwnListeners, OwnListeners).add(canary.port)
        world.http.teardown()
        seen = canary.connections

        world.names = {"localhost": [["127.0.0.1"]], "me.example": [["127.0.0.1"]]}
        for name in ("127.0.0.1", "localhost", "me.example", "127.8.8.8"):
            assert world.fetch(f"http://{name}:{canary.port}/") == -4
        assert canary.connections == seen
        assert "own listener" in world.guest.logged[-1].fields["reason"]
        world.close()


def test_threat_33_a_refusal_is_told_to_the_operator_with_cell_target_and_reason(world: World) -> None:
    world.names = {"inside.example": [["10.0.0.5"]]}
    world.fetch("http://inside.example:8080/path?token=hunter2")

    logged = world.guest.logged[-1]
    assert (logged.level, logged.message) == (30, "fetch refused")
    assert logged.fields == {
        "cell": "one",
        "url": "http://inside.example:8080",
        "reason": "inside.example:8080: 10.0.0.5 is private",
    }


# 34: what servers answer, in a host -------------------------------------------------------------------------------

IMPORTS = {"http_fetch": 4, "http_fetch_begin": 4, "http_fetch_read": 5, "http_fetch_close": 2}


@pytest.fixture
def hosted(tmp_path: Path) -> Iterator[Callable[..., tuple[Puppet, ...]]]:
    hosts: list[Host] = []

    def hosted(*names: str, **options: Any) -> tuple[Puppet, ...]:
        cells = [puppet_cell(tmp_path, name, IMPORTS, (HTTP,)) for name in names]
        config = {HTTP: {"allow": ["127.0.0.0/8"], **options}}
        hosts.append(Host(cells, storage_root=tmp_path / "data", cache=tmp_path / "cache", config=config))
        hosts[-1].__enter__()
        return tuple(Puppet(hosts[-1], name, IMPORTS) for name in names)

    yield hosted
    for host in hosts:
        host.__exit__(None, None, None)


@pytest.mark.slow
def test_threat_34_a_server_that_drips_holds_up_its_own_cell_and_only_until_the_deadline(
    hosted: Callable[..., tuple[Puppet, ...]],
) -> None:
    victim, other = hosted("victim", "other")
    stop = threading.Event()
    drip = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + bytes(100_000)
    with Upstream(dripping(drip, stop, 0.05)) as slow, Upstream(always(response())) as fast:
        answers: list[tuple[int, bytes]] = []
        request = {"url": slow.url, "timeout": SECOND}
        began = time.monotonic()
        thread = threading.Thread(target=lambda: answers.append(victim("http_fetch", request)))
        thread.start()
        times = []
        while thread.is_alive():
            before = time.monotonic()
            assert other.ask("http_fetch", {"url": fast.url})["status"] == 200
            times.append(time.monotonic() - before)
        took = time.monotonic() - began
        stop.set()

    assert answers == [(4, b"")]
    assert 0.9 < took < 5
    assert sorted(times)[len(times) // 2] < 0.1


def endless(peer: Peer) -> None:
    """Answer with a body that never ends, as fast as it goes."""
    peer.request()
    peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
    piece = bytes(1 << 20)
    while True:
        peer.send(piece)


@pytest.mark.slow
def test_threat_34_a_body_without_end_is_4_at_its_limit_and_the_cell_goes_on(
    hosted: Callable[..., tuple[Puppet, ...]],
) -> None:
    (cell,) = hosted("victim")
    with Upstream(endless) as upstream, Upstream(always(response())) as good:
        assert cell("http_fetch", {"url": upstream.url}) == (4, b"")
        assert cell.ask("http_fetch", {"url": good.url})["status"] == 200


# 35: TLS ----------------------------------------------------------------------------------------------------------


def test_threat_35_tls_fails_closed_in_a_host_and_works_with_the_right_certificate(
    hosted: Callable[..., tuple[Puppet, ...]], tmp_path: Path
) -> None:
    import ssl

    authority, stranger = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    (cell,) = hosted("victim", ca_file=str(tmp_path / "ca.pem"))

    def served(by: trustme.CA, name: str) -> Upstream:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        by.issue_cert(name).configure_cert(context)
        return Upstream(always(response(b"secret")), tls=context)

    with (
        served(authority, "127.0.0.1") as good,
        served(stranger, "127.0.0.1") as bad,
        served(authority, "b.example") as wrong,
    ):
        assert cell.ask("http_fetch", {"url": good.url})["body"] == b"secret"
        assert cell("http_fetch", {"url": bad.url}) == (4, b"")
        assert cell("http_fetch", {"url": wrong.url}) == (4, b"")
        assert (bad.seen, wrong.seen) == ([], [])


# 47: between cells ------------------------------------------------------------------------------------------------


def test_threat_47_cells_of_one_host_share_no_connection_no_tls_session_and_no_stream(
    hosted: Callable[..., tuple[Puppet, ...]], tmp_path: Path
) -> None:
    import ssl

    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    resumed: list[bool | None] = []

    def script(peer: Peer) -> None:
        resumed.append(peer.sock.session_reused)  # type: ignore[attr-defined]

        def answer(seen: Seen) -> bytes:
            return response(f"{seen.connection} {seen.fields.get('authorization', ['none'])[0]}".encode())

        always(answer)(peer)

    one, two = hosted("one", "two", ca_file=str(tmp_path / "ca.pem"))
    with Upstream(script, tls=context) as upstream:
        secret = {"url": upstream.url, "headers": {"Authorization": "one's"}}
        bodies = [one.ask("http_fetch", secret)["body"], two.ask("http_fetch", {"url": upstream.url})["body"]]
        bodies += [one.ask("http_fetch", secret)["body"], two.ask("http_fetch", {"url": upstream.url})["body"]]
        number = one.ask("http_fetch_begin", secret)["id"]
        stolen = two.ask("http_fetch_read", number, 0, 100)

    assert bodies == [b"1 one's", b"2 none", b"1 one's", b"2 none"]
    assert resumed == [False, False]
    assert stolen == {"bytes": None, "eof": False, "err": "no such stream"}
