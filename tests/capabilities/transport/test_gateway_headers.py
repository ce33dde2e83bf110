"""What an application behind the gateway is told of a request's way, and what no client can make it believe."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from pulp_runtime.abi.http import HTTPListen

from .gateways import Instance, Stage, on_a_stage

SPOOFS = (
    "X-Pulp-Application: root",
    "x-pulp-application-instance: admin",
    "X-PULP-APPLICATION: root",
    "X_Pulp_Application: root",
    "X-Pulp_Application-Instance: admin",
    "X-Forwarded-Prefix: /admin",
    "X_Forwarded_Prefix: /admin",
    "X-Forwarded-For: 203.0.113.9",
    "X-Forwarded-For: 203.0.113.10",
    "X-Forwarded-Host: bank.example",
    "x-forwarded-proto: https",
    "X-Forwarded-Port: 443",
    "X-Forwarded-Server: bank",
    "X_Forwarded_For: 203.0.113.9",
    "X-Real-IP: 203.0.113.9",
    "X_Real_Ip: 203.0.113.9",
    "Forwarded: for=203.0.113.9;proto=https;host=bank.example",
    "forwarded: for=203.0.113.10",
)
TRUTH = {
    "X-Pulp-Application": "shop",
    "X-Pulp-Application-Instance": "blue",
    "X-Forwarded-Prefix": "/p",
    "X-Forwarded-For": "127.0.0.1",
    "X-Forwarded-Host": "public.example",
    "X-Forwarded-Proto": "http",
}
LOCAL = ["127.0.0.0/8"]


async def headers(stage: Stage, *lines: str, target: str = "/p/a") -> dict[str, str]:
    """Return the headers that the cell sees of a request."""
    seen: dict[str, str] = (await stage.ask(target, *lines)).seen["headers"]
    return seen


@pytest.mark.parametrize("config", [{}, {"trusted_proxies": []}, {"trusted_proxies": ["10.0.0.0/8"]}], ids=str)
@pytest.mark.parametrize("spoofs", [(), SPOOFS, *((one,) for one in SPOOFS)], ids=lambda spoofs: "; ".join(spoofs)[:60])
def test_threat_38_no_client_says_whose_request_it_is_or_how_it_came(
    config: dict[str, Any], spoofs: tuple[str, ...]
) -> None:
    async def test(stage: Stage) -> None:
        for _ in range(2):  # the second time by heart
            answer = await stage.ask("/p/a", *spoofs, "X-Mine: kept")
            assert answer.seen["headers"] == {**TRUTH, "X-Mine": "kept"}
            assert answer.seen["remote"].startswith("127.0.0.1:")

    on_a_stage(test, **config)


def test_each_route_has_its_own_truth_for_the_same_request() -> None:
    async def test(stage: Stage) -> None:
        for target, application, instance, prefix in (
            ("/a", "root", "one", "/"),
            ("/p/a", "shop", "blue", "/p"),
            ("/p/deep/a", "deep", "one", "/p/deep"),
        ):
            seen = await headers(stage, target=target)
            assert (seen["X-Pulp-Application"], seen["X-Pulp-Application-Instance"], seen["X-Forwarded-Prefix"]) == (
                application,
                instance,
                prefix,
            )

    on_a_stage(test)


def test_clients_with_one_block_are_told_apart_by_their_addresses() -> None:
    request = b"GET /p/a HTTP/1.1\r\nHost: public.example\r\n\r\n"

    async def test(stage: Stage) -> None:
        for address in ("127.0.0.1", "127.0.0.2", "127.0.0.1"):
            reader, writer = await stage.connect(request, local_addr=(address, 0))
            assert f'"X-Forwarded-For": "{address}"'.encode() in await reader.readuntil(b'"remote"')
            writer.close()

    on_a_stage(test)


def test_what_is_remembered_of_headers_is_bounded_for_all_routes_together() -> None:
    async def test(stage: Stage) -> None:
        memo = stage.gateway._memo
        assert memo is not None
        reader, writer = await stage.connect()
        for number in range(1_100):
            path = "/p/a" if number % 2 else "/a"
            writer.write(f"GET {path} HTTP/1.1\r\nHost: a\r\nX-Number: {number}\r\n\r\n".encode())
            assert f'"X-Number": "{number}"'.encode() in await reader.readuntil(b'"remote"')
        assert 0 < len(memo) <= 512
        memo.clear()
        for line in ("Connection: close", f"X-Long: {'x' * 3_000}"):  # the listener does not remember them either
            await stage.ask("/p/a", line)
        assert not memo

    on_a_stage(test)


def test_threat_33_a_chosen_host_is_told_and_chooses_nothing() -> None:
    async def test(stage: Stage) -> None:
        for host in ("shop", "other.example:99", "[::1]:80", "127.0.0.1"):
            lines = (f"GET /a HTTP/1.1\r\nHost: {host}", f"GET http://{host}/a HTTP/1.1\r\nHost: root")
            for line in lines:
                answer = await stage.send(f"{line}\r\nConnection: close\r\n\r\n".encode())
                assert answer.seen["by"] == "root/one"
                assert answer.seen["headers"]["X-Forwarded-Host"] == host
                assert "Host" not in answer.seen["headers"]
        for head in (
            "Host: a\r\nHost: b",
            "Host: a/p",
            "Host: user@a",
            "Host: a b",
            "X-Forwarded-Host: a",
        ):
            answer = await stage.send(f"GET /p/a HTTP/1.1\r\n{head}\r\n\r\n".encode())
            assert answer.status == 400

    on_a_stage(test)


def test_an_old_client_without_a_host_has_none() -> None:
    async def test(stage: Stage) -> None:
        answer = await stage.send(b"GET /p/a HTTP/1.0\r\nX-Forwarded-Host: bank.example\r\n\r\n")
        assert "X-Forwarded-Host" not in answer.seen["headers"]

    on_a_stage(test)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        pytest.param(
            (
                "X-Forwarded-For: 198.51.100.1, 203.0.113.9",
                "X-Forwarded-Host: shop.example",
                "X-Forwarded-Proto: https",
            ),
            {
                "X-Forwarded-For": "198.51.100.1, 203.0.113.9",
                "X-Forwarded-Host": "shop.example",
                "X-Forwarded-Proto": "https",
            },
            id="all of it",
        ),
        pytest.param((), {}, id="nothing, and it is set"),
        pytest.param(
            ("X-Forwarded-For: 203.0.113.9",), {"X-Forwarded-For": "203.0.113.9"}, id="the client, and the rest is set"
        ),
        pytest.param(
            ("X-Forwarded-Prefix: /outer", "X-Pulp-Application: root", "X_Forwarded_For: 1.1.1.1"),
            {},
            id="what even a trusted proxy does not say",
        ),
    ],
)
def test_what_a_trusted_proxy_says_of_its_client_is_kept(lines: tuple[str, ...], expected: dict[str, str]) -> None:
    async def test(stage: Stage) -> None:
        assert await headers(stage, *lines) == {**TRUTH, **expected}

    on_a_stage(test, trusted_proxies=LOCAL)


def test_the_client_that_a_proxy_reports_in_the_other_header_is_told_in_both() -> None:
    async def test(stage: Stage) -> None:
        answer = await stage.ask("/p/a", "Forwarded: for=203.0.113.9", "X-Forwarded-For: 198.51.100.1")
        seen = answer.seen
        assert seen["remote"] == "203.0.113.9:0"
        assert seen["headers"]["X-Forwarded-For"] == "203.0.113.9"
        assert seen["headers"]["Forwarded"] == "for=203.0.113.9"

    on_a_stage(test, trusted_proxies=LOCAL, proxy_header="forwarded")


def test_a_hidden_client_has_no_address() -> None:
    async def test(stage: Stage) -> None:
        seen = (await stage.ask("/p/a", "Forwarded: for=_hidden")).seen
        assert not seen["remote"]
        assert "X-Forwarded-For" not in seen["headers"]

    on_a_stage(test, trusted_proxies=LOCAL, proxy_header="forwarded")


def test_threat_38_a_listener_of_a_cells_own_is_no_way_around_the_gateway() -> None:
    async def test(stage: Stage) -> None:
        late = Instance(stage.gateway, "shop", "blue")
        late.set_up()
        late.inbound.http_listen(late.cell, HTTPListen(addr="127.0.0.1:0"))
        assert late.register("GET", "/a") == 0
        await asyncio.sleep(0.01)
        own = late.inbound._front._doors["127.0.0.1:0"].listener.addresses[0]
        host, _, port = own.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write("\r\n".join(("GET /a HTTP/1.1", "Host: inside", "Connection: close", *SPOOFS, "", "")).encode())
        data = await reader.read()
        writer.close()
        assert data.startswith(b"HTTP/1.1 200 ")
        for word in (b"root", b"admin", b"203.0.113", b"bank", b"X-Forwarded-Prefix"):
            assert word not in data
        for word in (b'"X-Pulp-Application": "shop"', b'"X-Forwarded-Host": "inside"', b'"path": "/a"'):
            assert word in data
        assert (await stage.ask("/p/a")).status == 404  # it is not on the shared one
        await late.down()

    on_a_stage(test)


def test_the_access_log_names_application_and_instance_and_the_path_that_was_asked_for(records) -> None:
    async def test(stage: Stage) -> None:
        await stage.ask("/p/a?x=y", "X-Request-Id: mine")
        await stage.ask("/p%2Fa")
        await stage["shop/blue"].down()
        await stage.ask("/p/a")

    on_a_stage(test, access_log=True, request_id=True)
    up, twisted, down = records.fields("request")
    assert (up["application"], up["instance"], up["cell"]) == ("shop", "blue", "shop/blue/cell")
    assert (up["path"], up["status"], up["id"] != "mine", len(up["id"])) == ("/p/a", 200, True, 24)
    assert (twisted["path"], twisted["status"], "application" in twisted, twisted["cell"]) == ("/p/a", 400, False, "")
    assert (down["path"], down["status"], down["application"], down["cell"]) == ("/p/a", 503, "shop", "")


def test_redirects_and_cookies_of_an_application_are_its_own() -> None:
    async def test(stage: Stage) -> None:
        blue = stage["shop/blue"]
        blue.answers = False
        asking = asyncio.create_task(stage.ask("/p/a"))
        request = await blue.requests.get()
        blue.respond(request.id, status=302, headers={"Location": "/login"}, cookies=["a=1; Path=/", "b=2"])
        blue.inbound.finalize(request.id)
        answer = await asking
        assert (answer.status, answer.fields["Location"]) == (302, "/login")

    on_a_stage(test)


def test_a_folders_own_path_has_the_prefix(tmp_path) -> None:
    (tmp_path / "public" / "docs").mkdir(parents=True)
    (tmp_path / "public" / "docs" / "index.html").write_text("here")

    async def test(stage: Stage) -> None:
        blue = stage["shop/blue"]
        await blue.down()
        blue.cell = msgspec.structs.replace(blue.cell, manifest=tmp_path / "pulp.cell.toml")
        blue.set_up(static=[{"path": "/files", "folder": "public"}])
        answer = await stage.ask("/p/files/docs?x=1")
        assert (answer.status, answer.fields["Location"]) == (301, "/p/files/docs/?x=1")
        assert (await stage.ask("/p/files/docs/")).body == b"here"

    on_a_stage(test)
