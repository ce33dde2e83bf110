"""`workers` in a real host, against a real server."""

from __future__ import annotations

import gzip
import http.server
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from tests.capabilities.conftest import Puppets
from tests.capabilities.puppet import Puppet, StubGuest, until

from pulp_runtime.abi.workers import WorkerTask
from pulp_runtime.capabilities.workers import NAME, Workers, WorkersSettings, capability
from pulp_runtime.errors import Errno, HostError
from pulp_runtime.testing import HOSTILE_RANGES, CellUnderTest, guest
from pulp_runtime.testing.host import FakeHost

IMPORTS = {
    "workers_submit": 2,
    "workers_submit_fire": 2,
    "workers_result": 3,
    "workers_cancel": 1,
    "workers_pending": 0,
}
HERE = {NAME: {"allow": ["127.0.0.1"]}}
Make = Callable[..., CellUnderTest]


class Server(http.server.ThreadingHTTPServer):
    """Answers what the path says, and remembers who asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[tuple[str, str, bytes, str]] = []
        self.now = 0
        self.most = 0
        self.gone = 0
        self.go = threading.Event()
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients may go as they like."""


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.asked.append((self.command, self.path, body, self.headers.get("X-Note", "")))
        with self.server.lock:
            self.server.now += 1
            self.server.most = max(self.server.most, self.server.now)
        gone = False
        if self.path == "/wait":
            self.server.go.wait(20)
        if self.path == "/never":
            self.connection.settimeout(20)
            gone = self.connection.recv(1) == b""
            self.close_connection = True
        with self.server.lock:
            self.server.gone += gone
            self.server.now -= 1  # before it answers: then the client may ask again
        if self.path != "/never":
            self.say()

    do_GET = do_POST = do_DELETE = answer

    def say(self) -> None:
        status = 404 if self.path == "/missing" else 302 if self.path == "/away" else 200
        data = {"/large": bytes(200_000), "/bomb": gzip.compress(bytes(2_000_000))}.get(self.path, b"hello")
        self.send_response(status)
        if self.path == "/away":
            self.send_header("Location", f"http://127.0.0.2:{self.server.server_address[1]}/stolen")
        if self.path == "/bomb":
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.go.set()
        server.shutdown()
        thread.join()


def begin(cell: Puppet, url: str, **more: Any) -> int:
    number, _ = cell("workers_submit", {"type": "http.fetch", "url": url, **more})
    assert number >= 100, f"workers_submit answers {number}"
    return number


def end(cell: Puppet, number: int) -> tuple[int, Any]:
    """Return the status, and the response or the text."""
    answer: list[tuple[int, bytes]] = []

    def is_done() -> bool:
        answer[:] = [cell("workers_result", number)]
        return answer[0][0] != 0

    until(is_done)
    status, data = answer[0]
    return status, msgspec.msgpack.decode(data) if status == 1 else data.decode()


# What comes of it -------------------------------------------------------------------------------------------------


def test_a_response_is_asked_for_later(puppets: Puppets, server: Server) -> None:
    (one,) = puppets(NAME, IMPORTS, config=HERE)

    number = begin(one, f"{server.url}/wait")
    assert one("workers_result", number) == (0, b"")
    assert one("workers_pending") == (1, b"")
    server.go.set()

    status, response = end(one, number)
    assert number == 100
    assert (status, response["id"], response["status"], response["body"]) == (1, 0, 200, b"hello")
    assert response["headers"]["Content-Type"] == "text/plain"
    assert one("workers_pending") == (0, b"")
    assert one("workers_result", number) == (4, b"")


def test_the_request_is_the_cell_s(puppets: Puppets, server: Server) -> None:
    (one,) = puppets(NAME, IMPORTS, config=HERE)

    begin(one, f"{server.url}/a?b=c", method="post", headers={"x-note": "hi"}, body=b"body")

    until(lambda: server.asked)
    assert server.asked == [("POST", "/a?b=c", b"body", "hi")]


def test_any_status_is_a_response(puppets: Puppets, server: Server) -> None:
    (one,) = puppets(NAME, IMPORTS, config=HERE)

    status, response = end(one, begin(one, f"{server.url}/missing"))

    assert (status, response["status"]) == (1, 404)


def test_a_request_that_nobody_waits_for_is_made_all_the_same(puppets: Puppets, server: Server) -> None:
    (one,) = puppets(NAME, IMPORTS, config=HERE)

    assert one("workers_submit_fire", {"type": "http.fetch", "url": f"{server.url}/fire"}) == (0, b"")

    until(lambda: server.asked and one("workers_pending")[0] == 0)
    assert one("workers_result", 100) == (4, b"")


@pytest.mark.parametrize(
    ("url", "more", "said"),
    [
        ("http://127.0.0.1:{closed}/", {}, "connection refused"),
        ("ftp://127.0.0.1/", {}, "http"),
        ("", {}, ""),
        ("{url}/", {"method": "NO WAY"}, "method"),
        ("{url}/", {"headers": {"a": "b\r\nc: d"}}, ""),
        ("{url}/never", {"timeout_ms": 150}, "timeout after 0.15 s"),
    ],
)
def test_what_goes_wrong_is_a_text(puppets: Puppets, server: Server, url: str, more: dict[str, Any], said: str) -> None:
    (one,) = puppets(NAME, IMPORTS, config=HERE)

    status, text = end(one, begin(one, url.format(url=server.url, closed=1024), **more))

    assert status == 2
    assert said in text
    assert text


@pytest.mark.parametrize("path", ["/large", "/bomb"])
def test_threat_34_a_body_over_the_limit_is_no_response(puppets: Puppets, server: Server, path: str) -> None:
    (one,) = puppets(NAME, IMPORTS, config={NAME: {**HERE[NAME], "max_fetch_bytes": 100_000}})

    assert end(one, begin(one, server.url + path)) == (2, "body over 100,000 bytes")


def test_a_bug_of_the_host_is_3_and_tells_the_cell_nothing(
    puppets: Puppets, server: Server, monkeypatch: pytest.MonkeyPatch, records: Any
) -> None:
    def broken(*_arguments: object) -> None:
        raise RuntimeError("with a secret in it")

    monkeypatch.setattr(Workers, "_fetch", broken)
    (one,) = puppets(NAME, IMPORTS, config=HERE)

    assert end(one, begin(one, server.url)) == (3, "the host failed: RuntimeError")
    assert records.fields("task failed")


# Where it may go --------------------------------------------------------------------------------------------------


def test_threat_32_a_private_address_is_refused_and_only_the_operator_learns_why(
    puppets: Puppets, server: Server, records: Any
) -> None:
    (one,) = puppets(NAME, IMPORTS)

    for host in ("127.0.0.1", "localhost", "2130706433", "[::ffff:127.0.0.1]", "0.0.0.0"):
        url = server.url.replace("127.0.0.1", host)
        assert end(one, begin(one, url))[0] == 2
    assert end(one, begin(one, server.url)) == (2, "the target is not for this cell")
    assert server.asked == []
    assert "127.0.0.1 is loopback" in str(records.fields("fetch refused")[0]["reason"])


def test_threat_33_a_redirect_earns_no_exemption(puppets: Puppets, server: Server) -> None:
    (one,) = puppets(NAME, IMPORTS, config=HERE)

    assert end(one, begin(one, f"{server.url}/away")) == (2, "the target is not for this cell")
    assert [path for _method, path, _body, _note in server.asked] == ["/away"]


def test_the_operator_allows_more_in_the_environment_and_a_manifest_for_its_cell(
    puppets: Puppets, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = {"own": ("[settings.workers]", 'allow = ["127.0.0.1"]')}
    own, other = puppets(NAME, IMPORTS, "own", "other", lines=lines)
    assert end(own, begin(own, server.url))[0] == 1
    assert end(other, begin(other, server.url))[0] == 2
    puppets.stop()  # type: ignore[attr-defined]

    monkeypatch.setenv("HTTP_FETCH_ALLOW", "127.0.0.0/8")
    workers = Workers()
    with FakeHost() as env:
        workers.setup(env(NAME))
        cell = StubGuest().cell
        assert workers._fetch(cell, WorkerTask(type="http.fetch", url=server.url), lambda: False).status == 1
        workers.teardown()


# How many ---------------------------------------------------------------------------------------------------------


def test_tasks_are_counted(puppets: Puppets, server: Server) -> None:
    bounds = {"max_concurrency": 2, "max_queued": 1, "max_per_cell": 2}
    one, two = puppets(NAME, IMPORTS, "one", "two", config={NAME: {**HERE[NAME], **bounds}})
    ask = {"type": "http.fetch", "url": f"{server.url}/wait"}

    assert [one("workers_submit", ask)[0] for _ in range(3)] == [100, 101, 16]
    assert [two("workers_submit_fire", ask)[0], two("workers_submit", ask)[0]] == [0, 15]
    assert (one("workers_pending"), two("workers_pending")) == ((3, b""), (3, b""))
    until(lambda: server.now == 2)
    server.go.set()

    assert [end(one, number)[0] for number in (100, 101)] == [1, 1]
    until(lambda: len(server.asked) == 3)
    assert server.most == 2


def test_too_much_that_nobody_asks_for_is_17(puppets: Puppets, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pulp_runtime.capabilities.workers.TOTAL_BYTES", 0)
    (one,) = puppets(NAME, IMPORTS, config={NAME: {**HERE[NAME], "max_fetch_bytes": 5}})

    first = begin(one, server.url)
    until(lambda: one("workers_pending")[0] == 0)

    assert one("workers_submit", {"type": "http.fetch", "url": server.url})[0] == 17
    assert end(one, first)[0] == 1
    assert one("workers_submit", {"type": "http.fetch", "url": server.url})[0] >= 100


def test_a_task_is_given_up(puppets: Puppets, server: Server) -> None:
    (one,) = puppets(NAME, IMPORTS, config=HERE)
    number = begin(one, f"{server.url}/never")
    until(lambda: server.asked)

    assert one("workers_cancel", number) == (0, b"")

    assert one("workers_result", number) == (4, b"")
    assert one("workers_cancel", number) == (1, b"")
    assert one("workers_pending") == (0, b"")
    until(lambda: server.gone == 1)


def test_threat_47_a_task_of_another_cell_does_not_exist(puppets: Puppets, server: Server) -> None:
    one, two = puppets(NAME, IMPORTS, "one", "two", config=HERE)
    number = begin(one, f"{server.url}/secret")

    assert two("workers_result", number) == (4, b"")
    assert two("workers_cancel", number) == (1, b"")
    assert end(one, number)[0] == 1


def test_a_cell_that_crashes_loses_its_tasks(puppets: Puppets, server: Server) -> None:
    one, two = puppets(NAME, IMPORTS, "one", "two", config=HERE)
    number = begin(one, f"{server.url}/never")
    other = begin(two, f"{server.url}/wait")
    until(lambda: server.now == 2)

    one.trap()

    until(lambda: server.gone == 1)
    assert one("workers_result", number) == (4, b"")
    server.go.set()
    assert end(two, other)[0] == 1


def test_a_host_that_stops_waits_for_no_server(puppets: Puppets, server: Server) -> None:
    before = threading.active_count()
    (one,) = puppets(NAME, IMPORTS, config=HERE)
    for _ in range(5):
        begin(one, f"{server.url}/never")
    until(lambda: server.now == 5)

    began = time.monotonic()
    puppets.stop()  # type: ignore[attr-defined]

    assert time.monotonic() - began < 2
    until(lambda: server.gone == 5)
    until(lambda: threading.active_count() <= before)


# Codes and settings -----------------------------------------------------------------------------------------------


def run(cell: CellUnderTest, name: str, request: object) -> int:
    data = request if isinstance(request, bytes) else msgspec.msgpack.encode(request)
    cell.write(1024, data)
    return cell.run(name, 1024, len(data))


@pytest.mark.parametrize("name", ["workers_submit", "workers_submit_fire"])
@pytest.mark.parametrize(
    ("request_", "code"),
    [
        pytest.param(b"", 1, id="nothing is 1"),
        pytest.param(b"\xc1", 3, id="no messagepack is 3"),
        pytest.param({"type": "http.fetch", "headers": "x"}, 3, id="no map of headers is 3"),
        pytest.param({"type": "http.fetch", "timeout_ms": 1 << 32}, 3, id="a time beyond u32 is 3"),
        pytest.param({"type": "http.push", "url": "http://a.example/"}, 3, id="another type is 3"),
        pytest.param({}, 3, id="no type is 3"),
    ],
)
def test_a_request(pulp_cell: Make, name: str, request_: object, code: int) -> None:
    assert run(pulp_cell(guest(capability()), declares=[NAME]), name, request_) == code


@pytest.mark.parametrize("name", ["workers_submit", "workers_submit_fire"])
@pytest.mark.parametrize("words", HOSTILE_RANGES.values(), ids=HOSTILE_RANGES.keys())
def test_a_request_outside_memory_is_2(pulp_cell: Make, name: str, words: tuple[int, int]) -> None:
    assert pulp_cell(guest(capability()), declares=[NAME]).run(name, *words) == 2


@pytest.mark.parametrize(("alloc", "code"), [("refuse", 7), ("outside", 8)])
def test_a_result_without_a_place_is_kept(pulp_cell: Make, alloc: str, code: int) -> None:
    cell = pulp_cell(guest(capability(), alloc=alloc), declares=[NAME])
    number = run(cell, "workers_submit", {"type": "http.fetch", "url": "nonsense"})
    until(lambda: (cell.advance(0.01), cell.run("workers_pending") == 0)[1])

    assert [cell.run("workers_result", number, 64, 68) for _ in range(2)] == [code, code]


def test_without_the_capability_there_is_nothing(pulp_cell: Make) -> None:
    cell = pulp_cell(guest(IMPORTS))

    codes = {name: cell.run(name, *[0] * words) for name, words in IMPORTS.items()}

    assert codes == {
        "workers_submit": 99,
        "workers_submit_fire": 99,
        "workers_result": 4,
        "workers_cancel": 1,
        "workers_pending": 0,
    }


def test_before_it_is_set_up_it_is_99() -> None:
    with pytest.raises(HostError) as refused:
        Workers().workers_submit(StubGuest().cell, WorkerTask(type="http.fetch"))

    assert refused.value.code == Errno.UNDECLARED


@pytest.mark.parametrize("name", ["PULP_WORKERS_MAX_PER_CELL", "PULP_WORKER_MAX_PER_CELL"])
def test_bounds_are_the_operator_s_in_the_environment(
    pulp_env: FakeHost, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "3")
    monkeypatch.setenv("PULP_WORKERS_MAX_CONCURRENCY", "5")
    monkeypatch.setenv("PULP_WORKERS_MAX_QUEUED", "7")
    monkeypatch.setenv("PULP_WORKERS_MAX_FETCH_BYTES", str(1 << 34))
    workers = Workers()

    workers.setup(pulp_env(NAME))

    bounds = workers._pool._bounds
    assert (bounds.per_cell, bounds.running, bounds.queued) == (3, 5, 7)
    assert workers._settings.max_fetch_bytes == bounds.cell_bytes == 1 << 34
    workers.teardown()


def test_the_newer_name_goes_before_the_older(pulp_env: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PULP_WORKERS_MAX_PER_CELL", "3")
    monkeypatch.setenv("PULP_WORKER_MAX_PER_CELL", "4")
    workers = Workers()

    workers.setup(pulp_env(NAME))

    assert workers._settings.max_per_cell == 3
    workers.teardown()


def test_the_defaults_are_those_of_the_contract() -> None:
    most = WorkersSettings()

    assert (most.max_concurrency, most.max_queued, most.max_per_cell) == (32, 1024, 8)


@pytest.mark.parametrize(
    ("config", "said"),
    [({"max_per_cell": 0}, "max_per_cell"), ({"per_cell": 1}, "unknown field"), ({"ca_file": "/nowhere"}, "/nowhere")],
)
def test_a_wrong_setting_stops_the_host(puppets: Puppets, config: dict[str, object], said: str) -> None:
    with pytest.raises(Exception, match=r"workers: setup") as raised:
        puppets(NAME, IMPORTS, config={NAME: config})

    assert said in str(raised.value)


def test_a_wrong_setting_of_a_manifest_fails_that_cell_alone(puppets: Puppets) -> None:
    lines = {"bad": ("[settings.workers]", 'allow = ["not a host"]')}
    good, _bad = puppets(NAME, IMPORTS, "good", "bad", lines=lines)

    status = good.host.status()
    assert (status["good"].state, status["bad"].state) == ("ready", "failed")
    assert "not a host" in status["bad"].reason
