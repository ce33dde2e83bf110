"""Proxies, request ids and the access log: what the operator switches on for every request."""

from __future__ import annotations

import asyncio
import http.client
import json
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulp_runtime import Host
from pulp_runtime._net.head import HeaderBlock
from pulp_runtime.capabilities.network.addresses import split_host_port
from pulp_runtime.capabilities.transport.listener_settings import listener_settings
from pulp_runtime.capabilities.transport.proxies import HOPS, Proxies
from pulp_runtime.errors import Errno, ExtensionError
from pulp_runtime.ext import SetupEnv

from .streams import Bench as EventsBench
from .test_http_inbound import ECHO, Bench

LOCAL = ["127.0.0.0/8"]
PEER = "10.0.0.1:5000"


class Configured(Bench):
    """A bench whose operator has set something under `http`."""

    def __init__(self, **config: Any) -> None:
        super().__init__()
        self.config = config

    def env(self, http_port: str) -> SetupEnv:
        env = super().env(http_port)
        return SetupEnv(**{name: getattr(env, name) for name in env.__slots__} | {"http_config": self.config})


def with_settings(test: Callable[[Configured], Awaitable[None]], **config: Any) -> None:
    async def main() -> None:
        async with asyncio.timeout(20), Configured(**config) as bench:
            assert bench.register(ECHO, "GET", "/:x") == Errno.OK
            await test(bench)

    asyncio.run(main())


async def ask(
    bench: Bench, *lines: str, reply: dict[str, Any] | None = None, path: str = "/a"
) -> tuple[Any, str, bytes]:
    """Send a request that the cell answers; return the cell's event, and the head and body of the answer."""
    head = "\r\n".join((f"GET {path} HTTP/1.1", "Host: a", "Connection: close", *lines, "", ""))
    answer = await bench.send(head.encode())
    request = await bench.request()
    assert bench.respond(ECHO, id=request.id, **(reply or {"body": b"hello"})) == Errno.OK
    bench.inbound.finalize(request.id)
    head, _, body = (await answer.reader.read()).partition(b"\r\n\r\n")
    return request, head.decode(), body


def block(*lines: tuple[str, str]) -> HeaderBlock:
    return HeaderBlock([(b"Host", b"a"), *((name.encode(), value.encode()) for name, value in lines)], 1)


# Proxies --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "client"),
    [
        pytest.param("203.0.113.9", "203.0.113.9:0", id="a client"),
        pytest.param("203.0.113.9:4711", "203.0.113.9:4711", id="a client with its port"),
        pytest.param("2001:db8::1", "[2001:db8::1]:0", id="version 6"),
        pytest.param("[2001:db8::1]:4711", "[2001:db8::1]:4711", id="version 6 with its port"),
        pytest.param("::ffff:203.0.113.9", "203.0.113.9:0", id="a mapped address"),
        pytest.param("203.0.113.9, 10.9.9.9 ,10.1.1.1", "203.0.113.9:0", id="behind more of our proxies"),
        pytest.param(
            "198.51.100.1, 203.0.113.9", "203.0.113.9:0", id="what the client itself claims counts for nothing"
        ),
        pytest.param("10.0.0.5, 203.0.113.9", "203.0.113.9:0", id="nor that it is one of us"),
        pytest.param("10.2.0.1, 10.3.0.1", "10.2.0.1:0", id="a client among our proxies"),
        pytest.param("nonsense, 10.3.0.1", "10.3.0.1:0", id="nonsense behind a proxy"),
        pytest.param("nonsense", "", id="nonsense"),
        pytest.param("", "", id="nothing"),
        pytest.param("203.0.113.9,", "", id="an empty hop"),
        pytest.param("203.0.113.9:99999", "203.0.113.9:0", id="a port that is none"),
        pytest.param("[::1", "[::1]:0", id="half a bracket"),
        pytest.param("0x7f.1", "", id="an address only some readers understand"),
        pytest.param("1.2.3.4, " * 2_000 + "1.2.3.4", "", id="a list without end"),
        pytest.param(", ".join(["10.0.0.7"] * 100), "10.0.0.7:0", id="a hundred of our own"),
    ],
)
def test_the_client_is_the_last_hop_that_is_not_ours(value: str, client: str) -> None:
    proxies = Proxies(("10.0.0.0/8",), "x-forwarded-for")

    assert proxies.trusts(PEER)
    assert proxies.client(block(("X-Forwarded-For", value)), PEER) == client


def test_lines_of_one_header_are_one_list_in_their_order() -> None:
    proxies = Proxies(("10.0.0.0/8",), "x-forwarded-for")
    lines = block(
        ("x-forwarded-for", "198.51.100.1"), ("X-Forwarded-For", "203.0.113.9"), ("X-FORWARDED-FOR", "10.1.1.1")
    )

    assert proxies.client(lines, PEER) == "203.0.113.9:0"
    assert proxies.cleaned(lines, trusted=True)["X-Forwarded-For"] == "198.51.100.1, 203.0.113.9, 10.1.1.1"


@pytest.mark.parametrize(
    ("value", "client"),
    [
        ("for=203.0.113.9;proto=https;by=10.0.0.1", "203.0.113.9:0"),
        ('for="[2001:db8::1]:4711"', "[2001:db8::1]:4711"),
        ('For="203.0.113.9:80" , for=10.0.0.2', "203.0.113.9:80"),
        ('for=198.51.100.1;ext="a,b;for=1.1.1.1", for=203.0.113.9', "203.0.113.9:0"),
        ("for=unknown", ""),
        ("for=_hidden", ""),
        ("proto=https", ""),
        ('for="198.51.100.1', ""),
        ('for="a, for=203.0.113.9', ""),
        ('for="\\"", for=203.0.113.9', "203.0.113.9:0"),
    ],
)
def test_forwarded_is_read_as_rfc_7239_writes_it(value: str, client: str) -> None:
    proxies = Proxies(("10.0.0.0/8",), "forwarded")

    assert proxies.client(block(("Forwarded", value)), PEER) == client


@given(st.text(st.sampled_from('0123456789.:,;=" []\\abforunkw_'), max_size=60))
def test_no_list_of_hops_is_a_failure(value: str) -> None:
    lines = block(("X-Forwarded-For", value.strip()), ("Forwarded", value.strip()))
    for header in ("x-forwarded-for", "forwarded"):
        client = Proxies(("10.0.0.0/8",), header).client(lines, PEER)
        assert not client or split_host_port(client)


def test_only_the_header_the_operator_names_is_believed_and_the_other_one_goes() -> None:
    lines = block(("X-Forwarded-For", "198.51.100.1"), ("Forwarded", "for=203.0.113.9"), ("X-Forwarded-Proto", "https"))
    for header, client, kept in (
        ("x-forwarded-for", "198.51.100.1:0", "X-Forwarded-For"),
        ("forwarded", "203.0.113.9:0", "Forwarded"),
    ):
        proxies = Proxies(("10.0.0.0/8",), header)
        assert proxies.client(lines, PEER) == client
        assert proxies.cleaned(lines, trusted=True).keys() == {kept, "X-Forwarded-Proto"}
    assert Proxies(("10.0.0.0/8",), "forwarded").client(block(("X-Forwarded-For", "1.1.1.1")), PEER) == PEER


@pytest.mark.parametrize("peer", ["11.0.0.1:1", "[2001:db8::1]:1", "", "nonsense", "10.0.0.1.evil:1"])
def test_a_peer_outside_the_networks_is_not_trusted(peer: str) -> None:
    assert not Proxies(("10.0.0.0/8", "fd00::/8"), "forwarded").trusts(peer)


def test_peers_are_remembered_within_bounds() -> None:
    proxies = Proxies(("10.0.0.0/8",), "forwarded")
    for number in range(5_000):
        assert proxies.trusts(f"10.0.{number >> 8}.{number & 255}:1")
    assert len(proxies._peers) <= 1_024
    assert HOPS == 32


def test_a_trusted_proxy_says_who_the_client_is() -> None:
    async def test(bench: Configured) -> None:
        request, _, _ = await ask(bench, "X-Forwarded-For: 203.0.113.9, 127.0.0.2", "Forwarded: for=6.6.6.6")
        assert request.remote_addr == "203.0.113.9:0"
        assert "Forwarded" not in request.headers
        request, _, _ = await ask(bench)
        assert request.remote_addr.startswith("127.0.0.1:")
        request, _, _ = await ask(bench, "X-Forwarded-For: unknown")
        assert request.remote_addr == ""

    with_settings(test, trusted_proxies=LOCAL)


def test_threat_38_nobody_else_says_who_the_client_is() -> None:
    forged = (
        "X-Forwarded-For: 203.0.113.9",
        "X-Forwarded-Proto: https",
        "Forwarded: for=1.1.1.1",
        "X-Real-IP: 1.1.1.1",
    )

    async def test(bench: Configured) -> None:
        request, _, _ = await ask(bench, *forged, "X-Forwarded-For: 1.1.1.1", "X-Other: kept")
        assert request.remote_addr.startswith("127.0.0.1:")
        assert request.headers.keys() == {"Connection", "X-Other"}

    with_settings(test, trusted_proxies=["10.0.0.0/8"])
    with_settings(test, trusted_proxies=[])


def test_without_the_setting_forwarding_headers_are_data_like_others() -> None:
    async def test(bench: Configured) -> None:
        request, _, _ = await ask(bench, "X-Forwarded-For: 203.0.113.9", "Forwarded: for=1.1.1.1")
        assert request.remote_addr.startswith("127.0.0.1:")
        assert request.headers["X-Forwarded-For"] == "203.0.113.9"
        assert request.headers["Forwarded"] == "for=1.1.1.1"
        assert bench.inbound._front._listening.access is None

    with_settings(test)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"trusted_proxies": ["10.0.0.0/33"]}, "http.trusted_proxies: '10.0.0.0/33' is no address and no network"),
        ({"trusted_proxies": "10.0.0.0/8"}, "trusted_proxies"),
        ({"proxy_header": "x-real-ip"}, "proxy_header"),
        ({"access_log": "yes"}, "access_log"),
        ({"request_id": 1}, "request_id"),
    ],
)
def test_a_setting_that_cannot_be_stops_the_host_by_name(config: dict[str, Any], reason: str) -> None:
    with pytest.raises(ExtensionError, match=re.escape(reason)):
        listener_settings(config).access()


# Request ids ----------------------------------------------------------------------------------------------------------


def test_every_request_has_an_id_of_its_own_in_and_out() -> None:
    async def test(bench: Configured) -> None:
        seen = set()
        for _ in range(3):
            request, head, body = await ask(bench, "X-Request-Id: chosen-by-the-client")
            number = request.headers["X-Request-Id"]
            assert re.fullmatch("[0-9a-f]{24}", number)
            assert head.count("X-Request-Id: ") == 1
            assert f"\r\nX-Request-Id: {number}" in head
            assert body == b"hello"
            seen.add(number)
        assert len(seen) == 3

    with_settings(test, request_id=True)


def test_the_id_of_a_trusted_proxy_is_kept_if_it_is_one() -> None:
    async def test(bench: Configured) -> None:
        request, head, _ = await ask(bench, "X-Request-Id: abc-123/4")
        assert request.headers["X-Request-Id"] == "abc-123/4"
        assert "X-Request-Id: abc-123/4" in head
        for bad in ("", "a b", "x" * 129, "é", 'a"b', "a,b"):
            request, _, _ = await ask(bench, f"X-Request-Id: {bad}")
            assert re.fullmatch("[0-9a-f]{24}", request.headers["X-Request-Id"])

    with_settings(test, request_id=True, trusted_proxies=LOCAL)


def test_an_id_that_a_cell_answers_with_gives_way() -> None:
    async def test(bench: Configured) -> None:
        reply = {"headers": {"x-request-id": "mine", "X-Request-Id-Other": "kept"}, "body": b""}
        request, head, _ = await ask(bench, reply=reply)
        assert f"X-Request-Id: {request.headers['X-Request-Id']}" in head
        assert "mine" not in head
        assert "X-Request-Id-Other: kept" in head

    with_settings(test, request_id=True)


def test_what_the_host_answers_has_an_id_too() -> None:
    async def test(bench: Configured) -> None:
        answer = await bench.get("/no/route")
        assert b"\r\nX-Request-Id: " in await answer.reader.read()

    with_settings(test, request_id=True)


# The access log -------------------------------------------------------------------------------------------------------


def test_every_request_is_a_line(records) -> None:
    async def test(bench: Configured) -> None:
        request, _, _ = await ask(bench, path="/a%0Ab?secret=1", reply={"status": 201, "body": b"12345"})
        await (await bench.get("/no/route")).reader.read()
        answer = await bench.send(b"HEAD /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        await answer.reader.read()
        first, second, third = records.fields("request")
        assert first | {"ms": 0} == {
            "method": "GET",
            "path": "/a\nb",
            "status": 201,
            "bytes": 5,
            "ms": 0,
            "cell": "echo",
            "remote": request.remote_addr,
            "id": request.headers["X-Request-Id"],
        }
        assert 0 <= first["ms"] < 10_000
        assert (second["status"], second["cell"], second["path"]) == (404, "", "/no/route")
        assert (third["method"], third["bytes"]) == ("HEAD", 0)
        assert all(record.name == "pulp.access" for record in records.all if record.getMessage() == "request")

    with_settings(test, access_log=True, request_id=True)


def test_the_line_shows_the_client_behind_a_trusted_proxy(records) -> None:
    async def test(bench: Configured) -> None:
        await ask(bench, "X-Forwarded-For: 203.0.113.9")
        (line,) = records.fields("request")
        assert line["remote"] == "203.0.113.9:0"
        assert "id" not in line

    with_settings(test, access_log=True, trusted_proxies=LOCAL)


def test_a_client_that_leaves_before_its_answer_is_a_line_too_and_only_one(records) -> None:
    async def test(bench: Configured) -> None:
        answer = await bench.send(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n")
        request = await bench.request()
        answer.writer.transport.abort()
        while not records.fields("request"):
            await asyncio.sleep(0.001)
        bench.respond(ECHO, id=request.id, body=b"late")
        await asyncio.sleep(0.01)
        (line,) = records.fields("request")
        assert (line["status"], line["bytes"], line["cell"]) == (499, 0, "echo")

    with_settings(test, access_log=True)


def test_a_long_path_is_cut(records) -> None:
    async def test(bench: Configured) -> None:
        await ask(bench, path="/" + "x" * 5_000)
        (line,) = records.fields("request")
        assert line["path"] == "/" + "x" * 1_023

    with_settings(test, access_log=True)


def test_an_event_stream_is_a_line_when_it_ends(records) -> None:
    class Logged(EventsBench):
        def env(self, _http: dict[str, Any] | None = None) -> SetupEnv:
            return super().env({"access_log": True, "request_id": True})

    async def main() -> None:
        async with asyncio.timeout(20), Logged() as bench:
            bench.register("/live")
            left, ended = await bench.subscribe("/live"), await bench.subscribe("/live")
            assert "X-Request-Id: " in left.head
            bench.emit("/live", "x")
            assert await left.frame() == await ended.frame() == "data: x"
            assert not records.fields("request")
            left.leave()
            await bench.until_count("/live", 1)
            await bench.stop()
        broken, whole = records.fields("request")
        assert (broken["status"], broken["bytes"], broken["broken"], broken["cell"]) == (200, 9, True, "echo")
        assert (whole["status"], whole["bytes"], "broken" in whole) == (200, 9, False)

    asyncio.run(main())


# A real host ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_host_with_everything_on_serves_files_streams_and_requests(tmp_path: Path, records) -> None:
    counter = Path(__file__).parents[3] / "examples" / "counter" / "c"
    config = {"http": {"access_log": True, "request_id": True, "trusted_proxies": LOCAL}}
    with Host([counter], storage_root=tmp_path, cache=tmp_path, http_port="127.0.0.1:0", config=config) as host:
        client = http.client.HTTPConnection(host.url.removeprefix("http://"), timeout=20)
        for method, path, status in (("GET", "/", 200), ("POST", "/count", 200), ("GET", "/none", 404)):
            client.request(method, path, headers={"X-Request-Id": f"{method}{path}", "X-Forwarded-For": "203.0.113.9"})
            answer = client.getresponse()
            answer.read()
            assert (answer.status, answer.getheader("X-Request-Id")) == (status, f"{method}{path}")
        client.close()
    lines = records.fields("request")
    assert [(line["method"], line["path"], line["status"], line["id"]) for line in lines] == [
        ("GET", "/", 200, "GET/"),
        ("POST", "/count", 200, "POST/count"),
        ("GET", "/none", 404, "GET/none"),
    ]
    assert {line["cell"] for line in lines} == {"counter"}
    assert {line["remote"] for line in lines} == {"203.0.113.9:0"}
    json.dumps(lines)
