"""`examples/fetch-proxy` in a browser: a page that another server has, seen through the cell."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest
from tests.browser.devtools import Browser
from tests.capabilities.upstream import Seen, Upstream, always, response

from pulp_runtime import Host

EXAMPLES = Path(__file__).parents[2] / "examples" / "fetch-proxy"

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("browser")]


def page(seen: Seen) -> bytes:
    html = f"<!doctype html><title>far away</title><h1>you asked for {seen.target}</h1>"
    return response(html.encode(), "Content-Type: text/html; charset=utf-8")


@pytest.mark.parametrize("language", ["c", "go"])
def test_a_page_of_another_server_is_shown_as_it_is(
    browser: Browser, language: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_FETCH_ALLOW", "127.0.0.1")
    with (
        Upstream(always(page)) as upstream,
        Host([EXAMPLES / language], storage_root=tmp_path / "data", http_port="127.0.0.1:0") as host,
    ):
        shown = browser.open(f"{host.url}/proxy?url={quote(f'{upstream.url}/page', safe='')}")
        assert shown.evaluate("document.title") == "far away"
        assert shown.evaluate("document.body.innerText") == "you asked for /page"
        shown.screenshot(tmp_path / "proxy.png")
    assert (tmp_path / "proxy.png").stat().st_size > 1000
