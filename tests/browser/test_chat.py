"""The chat of the examples, as two people see it in a browser."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.browser.devtools import Browser, Page

from pulp_runtime import Host

CHAT = Path(__file__).parents[2] / "examples" / "chat"
PNG = b"\x89PNG\r\n\x1a\n"


def join(page: Page, name: str) -> None:
    page.evaluate(f"document.getElementById('name').value = {json.dumps(name)}")
    page.evaluate("document.querySelector('#join button').click()")
    page.wait_for("document.getElementById('state').textContent === 'connected'")


def say(page: Page, text: str) -> None:
    page.evaluate(f"document.getElementById('text').value = {json.dumps(text)}")
    page.evaluate("document.querySelector('#say button').click()")


def lines(page: Page) -> list[str]:
    return page.evaluate("[...document.querySelectorAll('#lines li')].map((line) => line.textContent)")


@pytest.mark.slow
@pytest.mark.parametrize("language", ["c", "go"])
def test_two_people_talk_to_each_other(browser: Browser, tmp_path: Path, language: str) -> None:
    with Host([CHAT / language], http_port="127.0.0.1:0", storage_root=tmp_path / "data") as host:
        ada, bob = browser.open(f"{host.url}/"), browser.open(f"{host.url}/")
        join(ada, "Ada")
        join(bob, "Bob <b>&")
        say(ada, "Hello, Böb 👋")
        say(bob, "<script>document.title = 'taken over'</script>")
        ada.wait_for("document.querySelectorAll('#lines li').length === 4")
        bob.wait_for("document.querySelectorAll('#lines li').length === 4")

        heard = [
            "Ada came in",
            "Bob <b>& came in",
            "Ada Hello, Böb 👋",
            "Bob <b>& <script>document.title = 'taken over'</script>",
        ]
        assert sorted(lines(ada)) == sorted(heard)
        assert sorted(lines(bob)) == sorted(heard)
        assert bob.evaluate("document.title") == "Chat"
        visible = "[...document.forms].filter((form) => form.offsetHeight > 0).map((form) => form.id)"
        assert bob.evaluate(visible) == ["say"]
        picture = tmp_path / "chat.png"
        bob.screenshot(picture)
        assert picture.read_bytes().startswith(PNG)

        bob.evaluate("location.href = 'about:blank'")
        ada.wait_for("document.querySelector('#lines li:last-child').textContent === 'Bob <b>& left'")
