"""The gateway of a host with several applications: whose path it is, and what is refused before anybody is asked."""

from __future__ import annotations

import asyncio
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulp_runtime._net.dial_own import OwnListeners
from pulp_runtime._net.fault import RequestFault
from pulp_runtime._net.head import RequestLine
from pulp_runtime._net.target import decode_path
from pulp_runtime.abi.http import HTTPResponse
from pulp_runtime.capabilities.transport.gateway import Gateway, GatewayRoute
from pulp_runtime.capabilities.transport.gateway_routes import (
    MAX_ROUTES,
    PREFIX_CHARACTERS,
    Destination,
    PrefixTable,
    RoutedLine,
    without_prefix,
)
from pulp_runtime.errors import ExtensionError, GatewayError, ListenError, PulpError
from pulp_runtime.log import Log

from .gateways import ROUTES, Instance, Stage, on_a_stage

ROOT = GatewayRoute("/", "root", "one")


def table(*paths: str) -> PrefixTable:
    return PrefixTable(
        [GatewayRoute(path, "app", "one") for path in paths], lambda route: Destination(route, None, None)
    )  # type: ignore[arg-type]


# What cannot be meant -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "where"),
    [("8080", ("", 8080)), (":8080", ("", 8080)), (" 127.0.0.1:8080 ", ("127.0.0.1", 8080)), ("[::1]:80", ("::1", 80))],
)
def test_an_address_may_be_a_port_alone(address: str, where: tuple[str, int]) -> None:
    assert Gateway(address, ROUTES, {}, Log("pulp"))._address == where


@pytest.mark.parametrize("address", ["", "  ", "localhost", "http://localhost", "localhost:http", ":", "8080/"])
def test_an_address_that_cannot_be_meant_is_refused(address: str) -> None:
    with pytest.raises(GatewayError, match="address"):
        Gateway(address, ROUTES, {}, Log("pulp"))


@pytest.mark.parametrize(
    ("path", "message"),
    [
        pytest.param("", "not absolute", id="nothing"),
        pytest.param("p", "not absolute", id="no slash in front"),
        pytest.param("http://a/p", "not absolute", id="a URL"),
        pytest.param("/p/", "not canonical: write '/p'", id="a slash at the end"),
        pytest.param("//", "not canonical: write '/'", id="two slashes"),
        pytest.param("//p", "not canonical: write '/p'", id="two slashes in front"),
        pytest.param("/p//q", "not canonical: write '/p/q'", id="two slashes inside"),
        pytest.param("/p/../q", "not canonical: write '/q'", id="two dots"),
        pytest.param("/..", "not canonical: write '/'", id="above everything"),
        pytest.param("/p/.", "not canonical: write '/p'", id="one dot"),
        pytest.param("/p?x", "not canonical", id="a query"),
        pytest.param("/p#x", "not canonical", id="a fragment"),
        pytest.param("/p%2Fq", "not canonical", id="an escape"),
        pytest.param("/p\\q", "not canonical", id="a backslash"),
        pytest.param("/p q", "not canonical", id="a blank"),
        pytest.param("/p\r\nX: y", "not canonical", id="a line of its own"),
        pytest.param("/\u0440", "not canonical", id="a letter that only looks Latin"),
        pytest.param("/" + "p" * PREFIX_CHARACTERS, f"at most {PREFIX_CHARACTERS}", id="too long"),
    ],
)
def test_a_prefix_that_is_not_absolute_and_canonical_is_refused(path: str, message: str) -> None:
    with pytest.raises(GatewayError, match=re.escape(message)):
        Gateway(":0", [ROOT, GatewayRoute(path, "shop", "blue")], {}, Log("pulp"))


def test_threat_39_a_prefix_for_two_is_ambiguous_and_both_are_named() -> None:
    routes = [GatewayRoute("/p", "shop", "blue"), ROOT, GatewayRoute("/p", "mail", "one")]

    with pytest.raises(GatewayError, match="'/p' is ambiguous: shop/blue and mail/one"):
        Gateway(":0", routes, {}, Log("pulp"))


@pytest.mark.parametrize("name", ["", " ", " a", "a\r\nX-Admin: 1", "a\0", "\u00e9"])
def test_an_identity_that_is_no_name_is_refused(name: str) -> None:
    for route in (GatewayRoute("/", name, "one"), GatewayRoute("/", "root", name)):
        with pytest.raises(GatewayError, match="is no name"):
            Gateway(":0", [route], {}, Log("pulp"))


def test_no_routes_and_too_many_are_refused() -> None:
    most = [GatewayRoute(f"/{number}", "app", "one") for number in range(MAX_ROUTES)]

    Gateway(":0", most, {}, Log("pulp"))
    with pytest.raises(GatewayError, match=f"there may be {MAX_ROUTES}"):
        Gateway(":0", [*most, ROOT], {}, Log("pulp"))
    with pytest.raises(GatewayError, match="no routes"):
        Gateway(":0", [], {}, Log("pulp"))


@pytest.mark.parametrize(
    "config", [{"htttp2": True}, {"cert": "a"}, {"trusted_proxies": ["everybody"]}, {"cert": "/none", "key": "/none"}]
)
def test_settings_of_the_listener_are_looked_at_before_anything_starts(config: dict[str, Any]) -> None:
    with pytest.raises(PulpError):
        Gateway(":0", ROUTES, config, Log("pulp"))


def test_a_route_to_an_instance_that_is_not_there_stops_the_start() -> None:
    async def main() -> None:
        gateway = Gateway("127.0.0.1:0", [GatewayRoute("/p", "shop", "blue")], {}, Log("pulp"))
        green = Instance(gateway, "shop", "green")
        green.up()
        with pytest.raises(GatewayError, match="shop/blue is unavailable"):
            await gateway.start()
        await green.down()

    asyncio.run(main())


def test_a_route_to_an_instance_without_http_stops_the_start_and_is_not_the_last_word() -> None:
    async def main() -> None:
        gateway = Gateway("127.0.0.1:0", [GatewayRoute("/p", "shop", "blue")], {}, Log("pulp"))
        blue = Instance(gateway, "shop", "blue")
        with pytest.raises(GatewayError, match="shop/blue does not expose HTTP"):
            await gateway.start()
        assert gateway.url == ""
        blue.up()
        await gateway.start()
        await gateway.close(1)
        await blue.down()

    asyncio.run(main())


# Life -----------------------------------------------------------------------------------------------------------------


def test_an_address_that_is_taken_is_told_and_can_be_tried_again() -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            port = other.getsockname()[1]
            gateway = Gateway(f"127.0.0.1:{port}", [ROOT], {}, Log("pulp"))
            root = Instance(gateway, "root", "one")
            root.up()
            with pytest.raises(ListenError, match=f"127.0.0.1:{port}"):
                await gateway.start()
        await gateway.start()
        assert gateway.url == f"http://127.0.0.1:{port}"
        await gateway.close(1)
        await root.down()

    asyncio.run(main())


def test_it_starts_once_and_closing_is_harmless_at_any_time() -> None:
    async def main() -> None:
        gateway = Gateway("127.0.0.1:0", [ROOT], {}, Log("pulp"))
        root = Instance(gateway, "root", "one")
        root.up()
        await gateway.close(1)
        await gateway.start()
        with pytest.raises(GatewayError, match="host gateway is already started"):
            await gateway.start()
        await gateway.close(1)
        await gateway.close(1)
        assert gateway.url == ""
        with pytest.raises(GatewayError, match="host gateway is already started"):
            await gateway.start()
        await root.down()

    asyncio.run(main())


def test_an_instance_that_is_down_is_503_until_it_is_up_again(records) -> None:
    async def test(stage: Stage) -> None:
        blue = stage["shop/blue"]
        assert (await stage.ask("/p/a")).seen["by"] == "shop/blue"
        await blue.down()
        for _ in range(3):
            answer = await stage.ask("/p/a")
            assert (answer.status, answer.body) == (503, b"application upstream unavailable\n")
        assert (await stage.ask("/a")).seen["by"] == "root/one"
        blue.set_up()
        assert (await stage.ask("/p/a")).status == 503  # its cells are still being loaded
        assert blue.register("GET", "/a") == 0
        assert (await stage.ask("/p/a")).seen["by"] == "shop/blue"
        assert (await stage.ask("/p/none")).status == 404
        (line,) = records.fields("application upstream unavailable")  # the others are counted for the next one
        assert (line["application"], line["instance"], line["count"]) == ("shop", "blue", 1)
        (again,) = records.fields("application upstream available again")
        assert (again["application"], again["refused"]) == ("shop", 2)

    on_a_stage(test)


def test_an_instance_that_leaves_late_does_not_take_its_successors_place() -> None:
    async def test(stage: Stage) -> None:
        old = stage["shop/blue"]
        new = Instance(stage.gateway, "shop", "blue")
        new.name = "the new one"
        assert new.seat is old.seat
        new.up()
        await old.down()
        assert (await stage.ask("/p/a")).seen["by"] == "the new one"
        await new.down()
        assert (await stage.ask("/p/a")).status == 503

    on_a_stage(test)


def test_requests_of_an_instance_that_stops_are_answered_though_their_connections_stay() -> None:
    async def test(stage: Stage) -> None:
        blue = stage["shop/blue"]
        blue.answers = False
        reader, writer = await stage.connect(b"GET /p/a HTTP/1.1\r\nHost: a\r\n\r\n")
        await blue.requests.get()
        await blue.down()
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 503 ")
        assert await reader.readexactly(14) == b"cell shut down"
        writer.write(b"GET /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert b"root/one" in await reader.read()

    on_a_stage(test)


def test_what_a_cell_that_cannot_be_stopped_leaves_behind_is_ended() -> None:
    async def test(stage: Stage) -> None:
        blue = stage["shop/blue"]
        blue.answers = False
        readers = [(await stage.connect(b"GET /p/a HTTP/1.1\r\nHost: a\r\n\r\n"))[0] for _ in range(2)]
        begun, waiting = await blue.requests.get(), await blue.requests.get()
        assert begun.id < waiting.id
        blue.inbound.http_respond_begin(blue.cell, HTTPResponse(id=begun.id, status=200))
        await readers[0].readuntil(b"\r\n\r\n")
        await blue.down(cells=False)
        assert b" 503 " in await readers[1].readuntil(b"cell shut down")
        try:
            rest = await readers[0].read()
        except ConnectionError:
            rest = b""
        assert not rest  # not even the end of the answer

    on_a_stage(test)


def test_an_instance_that_begins_to_stop_takes_nothing_more() -> None:
    async def test(stage: Stage) -> None:
        blue = stage["shop/blue"]
        blue.begin_to_stop()
        await asyncio.sleep(0)
        assert (await stage.ask("/p/a")).status == 503
        assert not blue.events

    on_a_stage(test)


def test_closing_lets_an_exchange_in_flight_end_and_accepts_no_other() -> None:
    async def test(stage: Stage) -> None:
        blue = stage["shop/blue"]
        blue.answers = False
        address = stage.address
        reader, _writer = await stage.connect(b"GET /p/a HTTP/1.1\r\nHost: a\r\n\r\n")
        request = await blue.requests.get()
        closing = asyncio.create_task(stage.gateway.close(10))
        await asyncio.sleep(0)
        with pytest.raises(OSError):  # noqa: PT011  # refused or reset, as the system likes
            await asyncio.open_connection(*address)
        assert not closing.done()
        blue.respond(request.id, body=b"at last")
        blue.inbound.finalize(request.id)
        answer = await reader.read()
        assert b"Connection: close" in answer
        assert answer.endswith(b"at last")
        await closing

    on_a_stage(test)


def test_closing_breaks_off_what_outlives_the_grace_time() -> None:
    async def test(stage: Stage) -> None:
        stage["shop/blue"].answers = False
        reader, _writer = await stage.connect(b"GET /p/a HTTP/1.1\r\nHost: a\r\n\r\n")
        await stage["shop/blue"].requests.get()
        await stage.gateway.close(0.05)
        try:
            assert not await reader.read()
        except ConnectionError:
            pass  # as the system likes

    on_a_stage(test)


def test_an_instance_is_told_where_it_is_reached_and_keeps_its_cells_from_dialling_it() -> None:
    async def test(stage: Stage) -> None:
        for name, path in (("root/one", ""), ("shop/blue", "/p"), ("deep/one", "/p/deep")):
            (endpoint,) = {*stage[name].endpoints}
            assert endpoint == ("transport.http.inbound", "public", stage.gateway.url + path)
            own = stage[name].services.find(OwnListeners)
            assert own is not None
            assert own._ports == {stage.address[1]}
        late = Instance(stage.gateway, "shop", "blue")
        late.up()
        assert [endpoint.address for endpoint in late.endpoints] == [stage.gateway.url + "/p"]
        await late.down()

    on_a_stage(test)


def test_an_instance_that_no_route_leads_to_is_told_of(records) -> None:
    async def test(stage: Stage) -> None:
        green = Instance(stage.gateway, "shop", "green")
        green.up()
        assert not green.endpoints
        await green.down()
        (line,) = records.fields("no route of the gateway leads to")
        assert (line["application"], line["instance"]) == ("shop", "green")

    on_a_stage(test)


# Whose path -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "prefix"),
    [
        ("/", "/"),
        ("/p", "/p"),
        ("/p/", "/p"),
        ("/p/x", "/p"),
        ("/p/deep", "/p/deep"),
        ("/p/deep/", "/p/deep"),
        ("/p/deeper", "/p"),
        ("/p/deep/x/y/z", "/p/deep"),
        ("/px", "/"),
        ("/P", "/"),
        ("/p ", "/"),
        ("/x/p", "/"),
    ],
)
def test_the_longest_prefix_of_whole_segments_has_a_path(path: str, prefix: str) -> None:
    with_root = table("/", "/p", "/p/deep").find(path)
    without = table("/p", "/p/deep").find(path)

    assert with_root is not None
    assert with_root.route.path == prefix
    assert (without.route.path if without else "/") == prefix


def test_a_prefix_may_be_deeper_than_all_shorter_ones_that_are_not_there() -> None:
    deep = table("/a/b/c")

    assert [bool(deep.find(path)) for path in ("/a", "/a/b", "/a/b/c", "/a/b/c/d", "/a/b/cd")] == [False] * 2 + [
        True,
        True,
        False,
    ]


@pytest.mark.parametrize(
    ("target", "by", "path"),
    [
        pytest.param("/p", "shop/blue", "/", id="the prefix alone"),
        pytest.param("/p/", "shop/blue", "/", id="the prefix and a slash"),
        pytest.param("/p/x/y", "shop/blue", "/x/y", id="what follows it"),
        pytest.param("/p/x/", "shop/blue", "/x/", id="a slash at the end stays"),
        pytest.param("/%70/x", "shop/blue", "/x", id="an escaped letter of it"),
        pytest.param("/p/a%2Fb", "shop/blue", "/a/b", id="an encoded slash behind it is the application's"),
        pytest.param("/p/%252e%252e/x", "shop/blue", "/%2e%2e/x", id="decoded once"),
        pytest.param("/p/deep/x", "deep/one", "/x", id="a longer one"),
        pytest.param("/x", "root/one", "/x", id="none but the root's"),
        pytest.param("/x%2Fy", "root/one", "/x/y", id="an encoded slash at the root"),
        pytest.param("/P/x", "root/one", "/P/x", id="another case"),
        pytest.param("http://public.example/p/x", "shop/blue", "/x", id="absolute form"),
        pytest.param("http://public.example/p", "shop/blue", "/", id="absolute form, the prefix alone"),
        pytest.param("http://public.example", "root/one", "/", id="absolute form without a path"),
        pytest.param("HTTP://public.example?a=b", "root/one", "/", id="absolute form with nothing but a query"),
    ],
)
def test_the_prefix_is_taken_off(target: str, by: str, path: str) -> None:
    async def test(stage: Stage) -> None:
        if path.endswith("/") and path != "/":
            for instance in stage.instances.values():
                instance.register("GET", path)
        for _ in range(2):  # the second time by heart
            seen = (await stage.ask(target)).seen
            assert (seen["by"], seen["path"]) == (by, path)

    on_a_stage(test)


@pytest.mark.parametrize(
    ("target", "status", "location"),
    [
        pytest.param("/p/../x", 301, "/x", id="two dots"),
        pytest.param("/p/%2e%2e/x", 301, "/x", id="two escaped dots"),
        pytest.param("/p/..%2Fx", 301, "/x", id="an escaped slash behind them"),
        pytest.param("/p%2F..%2Fx", 301, "/x", id="nothing but escapes"),
        pytest.param("/x/../p/y", 301, "/p/y", id="the other way round"),
        pytest.param("/../p/y", 301, "/p/y", id="above everything"),
        pytest.param("//p/y", 301, "/p/y", id="two slashes"),
        pytest.param("/p//y", 301, "/p/y", id="two slashes behind the prefix"),
        pytest.param("/p/./y", 301, "/p/y", id="one dot"),
        pytest.param("/%2Fp/y", 301, "/p/y", id="an escaped slash in front"),
        pytest.param("/p%2Fx", 400, "", id="an encoded slash instead of the one behind the prefix"),
        pytest.param("/p%2fx", 400, "", id="the same in lower case"),
        pytest.param("/p%2F", 400, "", id="and nothing behind it"),
        pytest.param("/p/deep%2Fx", 400, "", id="behind the longer prefix"),
        pytest.param("/p%2Fdeep/x", 400, "", id="inside the longer prefix"),
        pytest.param("%2Fp/x", 400, "", id="no slash in front at all"),
        pytest.param("/p/%00", 400, "", id="a NUL"),
        pytest.param("/p/%zz", 400, "", id="no escape"),
        pytest.param("/p/%c0%af", 400, "", id="a slash in too many bytes"),
        pytest.param("/p#/x", 400, "", id="a fragment"),
        pytest.param("http://public.example/p%2Fx", 400, "", id="in absolute form"),
    ],
)
def test_threat_37_no_spelling_of_a_path_reaches_another_application(target: str, status: int, location: str) -> None:
    async def test(stage: Stage) -> None:
        for method, body in (("GET", b""), ("POST", b"four")):
            answer = await stage.ask(target, method=method, body=body)
            expected = 308 if (status, method) == (301, "POST") else status
            assert (answer.status, answer.fields.get("Location", "")) == (expected, location)
        assert not any(instance.events for instance in stage.instances.values())

    on_a_stage(test)


@given(
    st.lists(st.sampled_from(["/", "%2F", "%2f", "p", "%70", "deep", "d%65ep", "x", "%252F", "."]), max_size=8),
    st.sampled_from(["", "http://h"]),
)
def test_whatever_is_routed_is_under_its_prefix_both_decoded_and_as_it_was_written(
    pieces: list[str], origin: str
) -> None:
    prefixes = ("/", "/p", "/p/deep")
    try:
        line = RequestLine("GET", origin + "/" + "".join(pieces), 1)
    except RequestFault:
        return
    if line.redirect:
        return
    longest = max(
        (prefix for prefix in prefixes if prefix == "/" or line.path == prefix or line.path.startswith(prefix + "/")),
        key=len,
    )
    try:
        routed = table(*prefixes).routed(line)
    except RequestFault:
        assert "%2f" in line.target.lower()
        return
    assert routed is not None
    assert routed.destination.route.path == longest
    assert routed.path == (line.path if longest == "/" else line.path[len(longest) :] or "/")
    assert decode_path(routed.target) == routed.path
    assert (routed.prefix, routed.method, routed.query) == ("" if longest == "/" else longest, "GET", {})


def test_escapes_and_the_query_stay_as_they_were_sent() -> None:
    assert without_prefix("/p/a%2fb%20c?x=1;y=%zz&&z", "/p") == "/a%2fb%20c?x=1;y=%zz&&z"
    assert without_prefix("/p?x", "/p") == "/?x"
    assert without_prefix("/a", "") == "/a"


def test_the_query_is_read_as_without_a_gateway() -> None:
    async def test(stage: Stage) -> None:
        behind = (await stage.ask("/p/a?a=1&a=2&b=x+y&c;d=e&f=%zz&g")).seen["query"]
        assert behind == {"a": "1", "b": "x y", "g": ""}

    on_a_stage(test)


def test_a_path_that_nobody_has_is_404() -> None:
    async def test(stage: Stage) -> None:
        for target in ("/", "/x", "/px", "/P"):
            for method, body in (("GET", b""), ("POST", b"four")):
                answer = await stage.ask(target, method=method, body=body)
                assert (answer.status, answer.body) == (404, b"404 page not found")

    on_a_stage(test, ROUTES[1:])


def test_what_is_remembered_of_lines_is_bounded() -> None:
    routes = table("/p")
    for number in range(3_000):
        assert routes.routed(RequestLine("GET", f"/p/{number}", 1)) is not None
    assert len(routes._lines) <= 512
    for target in ("http://h/p/x", "/p/" + "x" * 4_000):
        routes._lines.clear()
        assert isinstance(routes.routed(RequestLine("GET", target, 1)), RoutedLine)
        assert not routes._lines


def test_instances_of_one_application_may_have_the_same_routes() -> None:
    routes = [GatewayRoute("/blue", "shop", "blue"), GatewayRoute("/green", "shop", "green")]

    async def test(stage: Stage) -> None:
        for colour in ("blue", "green"):
            seen = (await stage.ask(f"/{colour}/a")).seen
            assert (seen["by"], seen["path"]) == (f"shop/{colour}", "/a")

    on_a_stage(test, routes)


def test_two_routes_may_lead_to_one_instance() -> None:
    routes = [GatewayRoute("/a", "shop", "blue"), GatewayRoute("/b", "shop", "blue")]

    async def test(stage: Stage) -> None:
        for path in ("/a", "/b"):
            seen = (await stage.ask(f"{path}/x")).seen
            assert (seen["path"], seen["headers"]["X-Forwarded-Prefix"]) == ("/x", path)

    on_a_stage(test, routes)


@pytest.mark.slow
def test_a_lone_host_does_not_import_the_gateway() -> None:
    program = (
        "import sys, pulp_runtime.capabilities.transport.http_inbound\n"
        "ends = ('gateway', 'gateway_routes', 'gateway_headers', 'access')\n"
        "print([name for name in sys.modules if name.rpartition('.')[2] in ends and 'transport' in name])"
    )
    root = Path(__file__).parents[3]
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, cwd=root).stdout == b"[]\n"


def test_a_setting_of_the_listener_is_named_as_the_operator_wrote_it() -> None:
    with pytest.raises(ExtensionError, match=r"http\.body_byte is no setting"):
        Gateway(":0", ROUTES, {"body_byte": 1}, Log("pulp"))
