"""The fetch-proxy cells as the command runs them: a client, the cell, and a server behind it."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

import pytest
from tests.capabilities.upstream import Seen, Upstream, always, response, silent
from tests.e2e.conftest import ROOT


def answer(seen: Seen) -> bytes:
    if seen.target == "/missing":
        return response(b"no such page", "Content-Type: text/html", status="404 Not Found")
    if seen.target == "/moved":
        return response(b"", "Location: /page", status="302 Found")
    return response(f"you asked for {seen.target}".encode(), "Content-Type: text/html; charset=utf-8")


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream(always(answer)) as upstream:
        yield upstream


@pytest.fixture(params=["c", "go"])
def proxy(request: pytest.FixtureRequest):
    return ROOT / "examples/fetch-proxy" / request.param


def ask(host, url: str) -> tuple[int, str | None, bytes]:
    with host.connection() as client:
        client.request("GET", f"/proxy?url={quote(url, safe='')}")
        answer = client.getresponse()
        return answer.status, answer.getheader("Content-Type"), answer.read()


REFUSED = (502, "text/plain; charset=utf-8", b"cannot fetch that\n")


@pytest.mark.slow
def test_a_page_is_handed_on_with_its_status_and_its_type(serve, proxy, upstream: Upstream) -> None:
    host = serve(proxy, env={"HTTP_FETCH_ALLOW": "127.0.0.1"})

    page = (200, "text/html; charset=utf-8", b"you asked for /page")
    assert ask(host, f"{upstream.url}/page") == page
    assert ask(host, f"{upstream.url}/moved") == page
    assert ask(host, f"{upstream.url}/missing") == (404, "text/html", b"no such page")
    assert ask(host, f"{upstream.url}/a?b=c&d=é")[2] == b"you asked for /a?b=c&d=%C3%A9"
    assert ask(host, "nonsense") == REFUSED
    assert ask(host, "") == REFUSED
    assert upstream.connections == 1
    assert host.stop() == 0
    assert host.failures == []


@pytest.mark.slow
def test_what_is_not_public_is_refused_and_the_operator_is_told(serve, proxy, upstream: Upstream) -> None:
    host = serve(proxy, env={"HTTP_FETCH_ALLOW": ""})

    for target in (
        upstream.address,
        f"localhost:{upstream.port}",
        "169.254.169.254",
        f"[::ffff:127.0.0.1]:{upstream.port}",
    ):
        assert ask(host, f"http://{target}/latest/meta-data?token=hunter2") == REFUSED
    assert upstream.connections == 0
    told = host.wait_for("fetch refused")
    assert "level=WARN" in told
    assert "cell=fetch-proxy" in told
    assert "127.0.0.1 is loopback" in told
    assert "hunter2" not in host.log


@pytest.mark.slow
def test_a_cell_is_not_sent_to_its_own_host(serve, proxy) -> None:
    """It would wait for itself."""
    host = serve(proxy, env={"HTTP_FETCH_ALLOW": "127.0.0.0/8,localhost"})

    assert ask(host, f"http://localhost:{host.port}/proxy?url=x") == REFUSED
    assert "own listener" in host.wait_for("fetch refused")


@pytest.mark.slow
def test_a_manifest_may_exempt_for_its_own_cell(serve, proxy, upstream: Upstream, tmp_path) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    manifest = (proxy / "pulp.cell.toml").read_text()
    (folder / "fetch_proxy.wasm").write_bytes((proxy / "fetch_proxy.wasm").read_bytes())
    (folder / "pulp.cell.toml").write_text(
        f'{manifest}\n[settings."transport.http.outbound"]\nallow = ["{upstream.address}"]\n'
    )
    host = serve(folder, env={"HTTP_FETCH_ALLOW": ""})

    assert ask(host, f"{upstream.url}/page")[0] == 200
    assert ask(host, f"http://localhost:{upstream.port}/") == REFUSED


@pytest.mark.slow
def test_the_command_ends_while_a_cell_waits_for_a_server(serve, proxy) -> None:
    with Upstream(silent) as stuck:
        host = serve(proxy, env={"HTTP_FETCH_ALLOW": "127.0.0.1"})
        with host.raw() as client:
            client.sendall(request(stuck.url))
            while not stuck.seen:
                stuck.ended.wait(0.01)
            assert host.stop() == 0
        assert stuck.ended.wait(5)


def request(url: str) -> bytes:
    return f"GET /proxy?url={quote(url, safe='')} HTTP/1.1\r\nHost: a\r\n\r\n".encode()
