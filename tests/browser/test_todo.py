"""`examples/todo` as people use it: its page in a browser, and a host that is killed in between."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.browser.devtools import Browser

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-P", "-c", "from pulp_runtime.cli import main; main()"]
LIST = (
    "[...document.querySelectorAll('#list li')].map((item) => item.className + item.firstChild.textContent).join('|')"
)

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("browser")]


class Server:
    """`pulp run examples/todo/c`, which can be killed and started again on the same data."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}/todo/"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        environment = {**os.environ, "PULP_CTL_SOCK": ""}
        environment.pop("HTTP_PORT", None)
        self._process = subprocess.Popen(
            [*COMMAND, "run", str(ROOT / "examples/todo/c"), "--http-port", f"127.0.0.1:{self._port}"],
            cwd=self._folder,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        end = time.monotonic() + 20
        while True:
            try:
                urllib.request.urlopen(self.url, timeout=5).close()
                return
            except OSError:  # nobody there, or a listener whose cells are still being loaded
                assert time.monotonic() < end
                assert self._process.poll() is None
                time.sleep(0.02)

    def kill(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    server.start()
    yield server
    server.kill()


def test_todos_are_added_done_removed_and_survive_a_host_that_is_killed(
    browser: Browser, server: Server, tmp_path: Path
) -> None:
    page = browser.open(server.url)
    for text in ("buy tea", "<b>bold</b>", "feed the cat"):
        page.evaluate(f"text.value = {text!r}; document.querySelector('#add button').click()")
        page.wait_for(f"({LIST}).includes({text!r})")
    page.evaluate("document.querySelector('#list li span').click()")
    page.wait_for(f"{LIST} === 'donebuy tea|<b>bold</b>|feed the cat'")
    page.evaluate("document.querySelectorAll('#list li button')[1].click()")
    page.wait_for(f"{LIST} === 'donebuy tea|feed the cat'")
    page.screenshot(tmp_path / "todo.png")

    server.kill()
    page.evaluate("text.value = 'lost'; document.querySelector('#add button').click()")
    page.wait_for("note.textContent !== ''")  # the page says so, and loses nothing it had
    server.start()

    again = browser.open(server.url)
    again.wait_for(f"{LIST} === 'donebuy tea|feed the cat'")


def test_the_page_of_another_path_is_the_same_page(browser: Browser, server: Server) -> None:
    """A page that is one document with many addresses: whoever navigates gets the document."""
    page = browser.open(f"{server.url}some/list")
    assert page.evaluate("document.title") == "Todo"
