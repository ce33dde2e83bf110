"""A headless Chromium that a test drives over the DevTools protocol.

with Browser() as browser:
    page = browser.open("http://127.0.0.1:8080/")
    page.wait_for("document.readyState === 'complete'")
    page.screenshot(folder / "page.png")
"""

from __future__ import annotations

import base64
import http.client
import itertools
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from websockets.sync.client import connect

PATIENCE_SECONDS = 30.0
_MEGABYTES = 64 * 1024 * 1024  # a screenshot is one message

_OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--no-proxy-server",
    "--hide-scrollbars",
    "--window-size=900,700",
    "--remote-debugging-port=0",
)


def find_chromium() -> str | None:
    """Return the program, None where there is none."""
    return next((path for name in ("chromium", "chromium-browser") if (path := shutil.which(name))), None)


class BrowserError(AssertionError):
    """The browser does not start, or what it was asked to run failed."""


class Browser:
    """One Chromium with a profile of its own, which is gone afterwards."""

    def __enter__(self) -> Self:
        program = find_chromium()
        if program is None:
            raise BrowserError("chromium is not installed: apt-get install chromium")
        self._pages: list[Page] = []
        self._profile = tempfile.mkdtemp(prefix="pulp-browser-")
        self._process = subprocess.Popen(
            [program, *_OPTIONS, f"--user-data-dir={self._profile}", "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            self._port = self._await_port()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, stack: TracebackType | None
    ) -> None:
        self._end()

    def open(self, url: str) -> Page:
        """Open a tab, and return when its document is loaded."""
        target = self._ask("PUT", "/json/new?about:blank")
        page = Page(target["webSocketDebuggerUrl"])
        self._pages.append(page)
        page.navigate(url)
        return page

    def _await_port(self) -> int:
        """Return the port that Chromium chose: it writes it into its profile once it listens there."""
        file = Path(self._profile, "DevToolsActivePort")
        end = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < end:
            if self._process.poll() is not None:
                raise BrowserError(f"chromium ended with status {self._process.returncode}")
            lines = file.read_text().splitlines() if file.exists() else []
            if len(lines) == 2:  # a port and a path: the file is complete
                return int(lines[0])
            time.sleep(0.01)
        raise BrowserError(f"chromium does not listen after {PATIENCE_SECONDS:g} s")

    def _ask(self, method: str, path: str) -> Any:
        client = http.client.HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE_SECONDS)
        try:
            client.request(method, path)
            answer = client.getresponse()
            body = answer.read()
        finally:
            client.close()
        if answer.status != http.HTTPStatus.OK:
            raise BrowserError(f"{method} {path}: {answer.status} {body[:200]!r}")
        return json.loads(body)

    def _end(self) -> None:
        """End the browser's own group of processes, and remove its profile."""
        for page in self._pages:
            page.close()
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self._process.pid, number)
            except ProcessLookupError:
                pass
            try:
                self._process.wait(5.0)
            except subprocess.TimeoutExpired:
                continue
        shutil.rmtree(self._profile, ignore_errors=True)


class Page:
    """One tab."""

    def __init__(self, address: str) -> None:
        parts = urlsplit(address)
        assert parts.hostname in ("127.0.0.1", "localhost"), address
        self._stack = ExitStack()
        self._socket = self._stack.enter_context(
            connect(address, max_size=_MEGABYTES, open_timeout=PATIENCE_SECONDS, proxy=None)
        )
        self._numbers = itertools.count(1)

    def command(self, method: str, **parameters: Any) -> Any:
        """Send one command of the protocol; return its result. Events that come in between are dropped."""
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv(timeout=PATIENCE_SECONDS))
            if message.get("id") == number:
                if "error" in message:
                    raise BrowserError(f"{method}: {message['error']}")
                return message["result"]

    def navigate(self, url: str) -> None:
        """Go to another document, and return when it is loaded."""
        self.evaluate("window.leaving = true")
        failed = self.command("Page.navigate", url=url).get("errorText")
        if failed:
            raise BrowserError(f"{url}: {failed}")
        self.wait_for("!window.leaving && document.readyState === 'complete'")

    def evaluate(self, script: str) -> Any:
        """Run an expression in the page, wait for it if it is a promise, and return its value."""
        done = self.command(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True, userGesture=True
        )
        if "exceptionDetails" in done:
            details = done["exceptionDetails"]
            raise BrowserError(details.get("exception", {}).get("description") or details["text"])
        return done["result"].get("value")

    def wait_for(self, condition: str, seconds: float = PATIENCE_SECONDS) -> Any:
        """Wait until an expression is true in the page; return its value."""
        end = time.monotonic() + seconds
        while True:
            try:
                value = self.evaluate(condition)
            except BrowserError as error:  # the document may be on its way out
                value = None
                if time.monotonic() >= end:
                    raise BrowserError(f"{condition}: {error}") from None
            if value:
                return value
            if time.monotonic() >= end:
                raise BrowserError(f"never true: {condition}; the page says {self._text()!r}")
            time.sleep(0.02)

    def screenshot(self, path: Path) -> None:
        """Write what the tab shows as a PNG."""
        data = self.command("Page.captureScreenshot", format="png")["data"]
        path.write_bytes(base64.b64decode(data))

    def close(self) -> None:
        """Stop driving the tab; it ends with the browser."""
        self._stack.close()

    def _text(self) -> str:
        return str(self.evaluate("document.body ? document.body.innerText : ''"))[:500]
