"""The chat of the examples, without a browser: what its two languages have in common."""

from __future__ import annotations

import http.client
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import quote

import pytest
from websockets.sync.client import ClientConnection, connect

from pulp_runtime import Host

CHAT = Path(__file__).parents[2] / "examples" / "chat"
SECONDS = 20.0

Join = Callable[[str], ClientConnection]


@pytest.fixture(params=["c", "go"])
def join(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Join]:
    """Return `join(name)`: come in, and hear it."""
    with Host([CHAT / request.param], http_port="127.0.0.1:0", storage_root=tmp_path) as host, ExitStack() as stack:

        def come_in(name: str) -> ClientConnection:
            url = f"{host.url.replace('http:', 'ws:', 1)}/chat?name={quote(name)}"
            return stack.enter_context(connect(url, proxy=None, close_timeout=SECONDS))

        come_in.address = host.url.removeprefix("http://")  # type: ignore[attr-defined]
        yield come_in


def hear(client: ClientConnection, count: int = 1) -> list[str]:
    return [str(client.recv(timeout=SECONDS)) for _ in range(count)]


def test_everybody_hears_what_anybody_says(join: Join) -> None:
    ada = join("Ada")
    assert hear(ada) == ["\tAda came in"]
    bob = join("Bob")
    assert hear(bob, 2) == ["\tAda came in", "\tBob came in"]
    assert hear(ada) == ["\tBob came in"]
    ada.send("hello, Böb")
    assert hear(ada) == hear(bob) == ["Ada\thello, Böb"]
    bob.close()
    assert hear(ada) == ["\tBob left"]


def test_who_comes_late_hears_the_last_twenty_lines(join: Join) -> None:
    ada = join("Ada")
    hear(ada)
    for number in range(30):
        ada.send(str(number))
    hear(ada, 30)
    bob = join("Bob")

    assert hear(bob, 21) == [*(f"Ada\t{number}" for number in range(10, 30)), "\tBob came in"]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("", "somebody"),
        ("a\tb\nc", "a b c"),
        ("ü" * 40, "ü" * 32),
        ("x" + "ü" * 40, "x" + "ü" * 31),
        ("€" * 30, "€" * 21),
    ],
)
def test_a_name_is_one_word_of_a_line_and_not_too_long(join: Join, name: str, shown: str) -> None:
    assert hear(join(name)) == [f"\t{shown} came in"]


def test_bytes_and_nothing_are_not_passed_on(join: Join) -> None:
    ada = join("Ada")
    hear(ada)
    ada.send(b"\x00\x01")
    ada.send("")
    ada.send("this")

    assert hear(ada) == ["Ada\tthis"]


def test_the_page_is_served(join: Join) -> None:
    client = http.client.HTTPConnection(join.address, timeout=SECONDS)  # type: ignore[attr-defined]
    client.request("GET", "/")
    answer = client.getresponse()
    body = answer.read()
    client.close()

    assert (answer.status, answer.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert body == (CHAT / "c" / "index.html").read_bytes() == (CHAT / "go" / "index.html").read_bytes()
