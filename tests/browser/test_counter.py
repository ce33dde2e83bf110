"""`examples/counter` as people use it: a page in a browser, a button, and a connection that breaks now and then."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.browser.devtools import Browser, Page

from pulp_runtime import Host

EXAMPLES = Path(__file__).parents[2] / "examples" / "counter"
SEEN = "[...document.querySelectorAll('#seen li')].map((item) => item.textContent).join(' ')"

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("browser")]


class Relay:
    """A line between the browser and the host that a test can cut."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._lines: list[socket.socket] = []
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self.open = True
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._start(self._accept)

    def _start(self, work, *args) -> None:
        self._threads.append(thread := threading.Thread(target=work, args=args))
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _address = self._listener.accept()
            except OSError:
                return
            with self._lock:
                if not self.open:
                    client.close()
                    continue
                host = socket.create_connection(self._target)
                self._lines += [client, host]
            self._start(self._carry, client, host)
            self._start(self._carry, host, client)

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65_536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def cut(self) -> None:
        """Break every line, and let nobody connect."""
        with self._lock:
            self.open = False
            for line in self._lines:
                try:
                    line.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
                line.close()
            self._lines.clear()

    def close(self) -> None:
        self.cut()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(10)


@pytest.fixture(params=["c", "go"])
def host(request: pytest.FixtureRequest, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    cache = tmp_path_factory.getbasetemp() / "counter-modules"
    with Host([EXAMPLES / request.param], storage_root=tmp_path, cache=cache, http_port="127.0.0.1:0") as host:
        yield host


@contextmanager
def relay_to(host: Host) -> Iterator[Relay]:
    name, _, port = host.url.removeprefix("http://").rpartition(":")
    relay = Relay((name, int(port)))
    try:
        yield relay
    finally:
        relay.close()


def count(host: Host, method: str = "POST") -> str:
    client = http.client.HTTPConnection(host.url.removeprefix("http://"), timeout=20)
    try:
        client.request(method, "/count")
        return client.getresponse().read().decode()
    finally:
        client.close()


def live(page: Page) -> None:
    page.wait_for("document.getElementById('state').textContent === 'live'")


def shows(page: Page, number: str) -> None:
    page.wait_for(f"document.getElementById('count').value === '{number}'")


@pytest.mark.timeout(180)
def test_everybody_sees_the_number_change_and_who_was_away_misses_nothing(
    host: Host, browser: Browser, tmp_path: Path
) -> None:
    count(host)
    with relay_to(host) as relay:
        one, other = browser.open(relay.url + "/"), browser.open(host.url + "/")
        for page in (one, other):
            live(page)
            shows(page, "1")
        one.evaluate("document.getElementById('more').click()")
        for page in (one, other):
            shows(page, "2")
            assert page.evaluate(SEEN) == "2"

        relay.cut()
        one.wait_for("document.getElementById('state').textContent === 'connecting'")
        for _ in range(20):
            count(host)
        shows(other, "22")
        assert one.evaluate("document.getElementById('count').value") == "2"
        relay.open = True
        live(one)
        shows(one, "22")
        count(host)
        expected = " ".join(str(number) for number in range(2, 24))
        for page in (one, other):
            shows(page, "23")
            assert page.evaluate(SEEN) == expected, "each event once, in order"
        picture = tmp_path / "counter.png"
        one.screenshot(picture)
        assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.timeout(120)
def test_the_page_is_served_by_the_host_and_is_not_fetched_again(host: Host, browser: Browser) -> None:
    page = browser.open(host.url + "/")
    live(page)
    assert page.evaluate("document.contentType") == "text/html"
    status = page.evaluate(
        "fetch('/', {cache: 'no-cache'}).then(() => performance.getEntriesByType('resource').at(-1).transferSize)"
    )
    assert status < 500, "an answer without a body: 304"
    assert page.evaluate("fetch('/none.js').then((answer) => answer.status)") == 404
