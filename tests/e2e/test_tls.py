"""TLS and HTTP/2 through a real cell, with clients of other people: httpx, curl, h2load (nghttp2) and Go's."""

from __future__ import annotations

import asyncio
import http.client
import os
import shutil
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme

DEADLINE_SECONDS = 20.0
MIB = 1 << 20


class Pair:
    """A certificate and its key in files, and who believes it."""

    def __init__(self, folder: Path) -> None:
        self.authority = trustme.CA()
        self.ca = folder / "ca.pem"
        self.chain = folder / "server.pem"
        self.key = folder / "server.key"
        self.authority.cert_pem.write_to_path(self.ca)
        self.renew()

    def renew(self) -> None:
        """Write another pair to the same files."""
        issued = self.authority.issue_cert("localhost", "127.0.0.1")
        self.chain.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(self.key)

    @property
    def environment(self) -> dict[str, str]:
        return {"HTTP_CERT": str(self.chain), "HTTP_KEY": str(self.key)}

    @property
    def context(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        return context

    def connect(self, host: Any) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection("127.0.0.1", host.port, timeout=DEADLINE_SECONDS, context=self.context)

    def serial(self, host: Any) -> str:
        """Return which certificate a new connection is shown."""
        client = self.connect(host)
        client.connect()
        try:
            return client.sock.getpeercert()["serialNumber"]
        finally:
            client.close()

    def client(self, host: Any, *, http2: bool = True) -> httpx.Client:
        return httpx.Client(
            base_url=f"https://localhost:{host.port}",
            http2=http2,
            http1=not http2,
            verify=self.context,
            timeout=DEADLINE_SECONDS,
        )


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    folder = tmp_path / "tls"
    folder.mkdir()
    return Pair(folder)


@pytest.fixture
def host(serve, echo: Path, pair: Pair):
    return serve(echo, env=pair.environment)


def program(name: str, package: str) -> str:
    """Return where a program is; skip, loudly, the tests of a machine that lacks it."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed: apt-get install {package}")
    return found


@pytest.fixture(scope="session")
def curl() -> Callable[..., list[str]]:
    """Return `curl(arguments…)`: the lines it prints, the version and status it saw last."""
    found = program("curl", "curl")
    version = subprocess.run([found, "--version"], capture_output=True, text=True, check=True).stdout
    if " HTTP2 " not in version:
        pytest.skip("this curl does not speak HTTP/2: install another")

    def run(*arguments: object) -> list[str]:
        command = [found, "-sS", "-m", "20", "-w", r"\n%{http_version} %{http_code}", *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.split("\n")

    return run


# Clients ------------------------------------------------------------------------------------------------------------


def test_a_client_of_http1_is_served_encrypted(host, pair: Pair) -> None:
    client = pair.connect(host)
    for word in ("hello", "again"):
        client.request("GET", f"/echo/{word}")
        answer = client.getresponse()
        assert (answer.status, answer.version, answer.read()) == (200, 11, word.encode())
    client.close()


def test_a_client_of_http2_is_served(host, pair: Pair) -> None:
    blob = os.urandom(MIB)
    with pair.client(host) as client:
        hello = client.get("/echo/hello")
        assert (hello.http_version, hello.status_code, hello.content) == ("HTTP/2", 200, b"hello")
        assert hello.headers.pop("date")
        assert dict(hello.headers) == {"content-type": "text/plain; charset=utf-8", "content-length": "5"}
        assert client.post("/echo", content=blob).content == blob
        assert client.post("/echo", content=b"").content == b""
        assert client.get("/echo/%C3%A9%20%25").content == "é %".encode()
        assert client.get("/nowhere").status_code == 404
        assert client.head("/echo/hello").status_code == 404
        assert client.get("/echo//a").headers["location"] == "/echo/a"


def test_many_requests_share_one_connection(host, pair: Pair) -> None:
    async def main() -> list[bytes]:
        async with httpx.AsyncClient(
            base_url=f"https://localhost:{host.port}", http2=True, http1=False, verify=pair.context, timeout=20
        ) as client:
            await client.get("/echo/first")  # a client that has no connection yet would open several
            answers = await asyncio.gather(*(client.get(f"/echo/{number}") for number in range(300)))
            ports = {answer.extensions["network_stream"].get_extra_info("client_addr")[1] for answer in answers}
            assert len(ports) == 1
            return [answer.content if answer.status_code == 200 else b"" for answer in answers]

    bodies = asyncio.run(main())

    served = [body for body in bodies if body]
    assert served == [str(number).encode() for number, body in enumerate(bodies) if body]
    assert len(served) >= 64  # what waits for a cell is bounded; the others are told 503


def test_curl_agrees_over_tls(host, pair: Pair, curl, tmp_path: Path) -> None:
    url = f"https://localhost:{host.port}"
    assert curl("--cacert", pair.ca, "--http2", f"{url}/echo/hello") == ["hello", "2 200"]
    assert curl("--cacert", pair.ca, "--http1.1", f"{url}/echo/hello") == ["hello", "1.1 200"]
    assert curl("--cacert", pair.ca, "--tls-max", "1.2", f"{url}/echo/hello") == ["hello", "2 200"]
    blob = tmp_path / "blob"
    blob.write_bytes(os.urandom(MIB))
    back = tmp_path / "back"
    assert curl("--cacert", pair.ca, "--data-binary", f"@{blob}", "-o", back, f"{url}/echo")[-1] == "2 200"
    assert back.read_bytes() == blob.read_bytes()
    assert curl("--cacert", pair.ca, "-H", "Expect: 100-continue", "-d", "slow", f"{url}/echo") == ["slow", "2 200"]


def test_curl_agrees_in_the_clear(pulp, echo: Path, curl) -> None:
    host = pulp("run", echo, "--http-port", "127.0.0.1:0", "--http2").wait_until_ready()
    url = f"http://127.0.0.1:{host.port}/echo/hello"

    assert curl("--http2-prior-knowledge", url) == ["hello", "2 200"]
    assert curl("--http1.1", url) == ["hello", "1.1 200"]
    assert curl("--http2", url) == ["hello", "1.1 200"]  # asks to upgrade, which nobody does any more (RFC 9113 §3.1)
    assert host.request("GET", "/echo/hello") == (200, b"hello")


def test_without_its_option_there_is_no_http2_in_the_clear(serve, echo: Path) -> None:
    host = serve(echo)
    with host.raw() as client:
        client.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        assert client.recv(65536).startswith(b"HTTP/1.1 400 ")


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_h2load_is_answered_every_time(pulp, echo: Path, pair: Pair, scheme: str) -> None:
    found = program("h2load", "nghttp2-client")
    environment = pair.environment if scheme == "https" else {}
    host = pulp("run", echo, "--http-port", "127.0.0.1:0", "--http2", env=environment).wait_until_ready()
    command = [found, "-n", "20000", "-c", "4", "-m", "16", f"{scheme}://127.0.0.1:{host.port}/echo/hello"]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert "20000 succeeded, 0 failed, 0 errored, 0 timeout" in out
    assert "status codes: 20000 2xx, 0 3xx, 0 4xx, 0 5xx" in out
    assert host.failures == []


@pytest.mark.slow
def test_h2load_may_upload_and_download_much(pulp, echo: Path, pair: Pair, tmp_path: Path) -> None:
    found = program("h2load", "nghttp2-client")
    host = pulp("run", echo, "--http-port", "127.0.0.1:0", env=pair.environment).wait_until_ready()
    (tmp_path / "blob").write_bytes(bytes(MIB))
    command = [found, "-n", "60", "-c", "2", "-m", "6", "-d", str(tmp_path / "blob")]
    out = subprocess.run(
        [*command, f"https://127.0.0.1:{host.port}/echo"], capture_output=True, text=True, check=True
    ).stdout

    assert "status codes: 60 2xx, 0 3xx, 0 4xx, 0 5xx" in out
    assert f"({60 * MIB}) data" in out


@pytest.mark.slow
@pytest.mark.conformance
@pytest.mark.timeout(300)
def test_a_client_of_go_agrees(host, pair: Pair, tmp_path: Path) -> None:
    go = Path(sys.executable).parent / "go"
    if not go.exists():
        pytest.skip("go is not installed: pip install --group guests")
    client = tmp_path / "http2_client"
    environment = {**os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": ""}
    command = [go, "build", "-o", client, Path(__file__).parent / "http2_client.go"]
    subprocess.run(command, env=environment, cwd=tmp_path, check=True)
    command = [client, f"https://localhost:{host.port}", pair.ca]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert done.stdout == "agreed\n"
    assert host.failures == []


def test_a_client_that_speaks_plainly_is_told_to_use_tls(host) -> None:
    status, text = host.request("GET", "/echo/hello")

    assert status == 400
    assert b"https://" in text


def test_whom_the_client_does_not_trust_it_does_not_ask(host) -> None:
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.get(f"https://localhost:{host.port}/echo/hello")
    assert host.process.poll() is None


# Certificates -------------------------------------------------------------------------------------------------------


def test_a_new_certificate_is_used_after_a_hangup_and_open_connections_go_on(host, pair: Pair) -> None:
    with pair.client(host) as client, pair.client(host, http2=False) as old:
        client.get("/echo/before")
        old.get("/echo/before")
        before = pair.serial(host)
        pair.renew()
        host.send(signal.SIGHUP).wait_for("certificate loaded again")
        assert pair.serial(host) != before
        for one in (client, old):
            answer = one.get("/echo/after")
            shown = answer.extensions["network_stream"].get_extra_info("ssl_object").getpeercert()
            assert (answer.content, shown["serialNumber"]) == (b"after", before)

    assert host.stop() == 0


def test_a_bad_new_certificate_is_reported_and_the_old_one_stays(host, pair: Pair) -> None:
    before = pair.serial(host)
    pair.key.write_text("nonsense")
    host.send(signal.SIGHUP)

    line = host.wait_for("certificate not loaded; the one before it stays")
    assert f"{pair.key} holds no private key" in line
    assert pair.serial(host) == before
    pair.renew()
    host.send(signal.SIGHUP).wait_for("certificate loaded again")
    assert pair.serial(host) != before


def test_a_hangup_during_the_start_is_not_the_end(pulp, echo: Path, pair: Pair) -> None:
    host = pulp("run", echo, "--http-port", "127.0.0.1:0", env=pair.environment)
    host.wait_for("pulp boot")
    host.send(signal.SIGHUP)
    host.wait_until_ready()

    assert pair.serial(host)


def refused(host: Any) -> str:
    """Return why a host did not start."""
    assert host.end() == 1
    assert host.errors == ""
    (line,) = host.failures
    return line


def test_a_host_does_not_start_without_its_certificate(pulp, echo: Path, pair: Pair) -> None:
    pair.chain.unlink()
    host = pulp("run", echo, "--http-port", "127.0.0.1:0", env=pair.environment)

    assert f"certificate {pair.chain} cannot be read: No such file" in refused(host)


def test_a_host_does_not_start_with_the_key_of_another(pulp, echo: Path, pair: Pair) -> None:
    key = pair.key.read_bytes()
    pair.renew()
    pair.key.write_bytes(key)
    host = pulp("run", echo, "--http-port", "127.0.0.1:0", env=pair.environment)

    assert "the key belongs to another certificate" in refused(host)


@pytest.mark.parametrize(("name", "missing"), [("HTTP_CERT", "http.key"), ("HTTP_KEY", "http.cert")])
def test_half_a_certificate_is_none(pulp, echo: Path, pair: Pair, name: str, missing: str) -> None:
    host = pulp("run", echo, "--http-port", "127.0.0.1:0", env={name: pair.environment[name]})

    assert f"{missing} (or $" in refused(host)


@pytest.mark.parametrize("dashes", ["-", "--"])
def test_options_name_the_certificate_too(pulp, echo: Path, pair: Pair, dashes: str) -> None:
    options = (f"{dashes}http-cert", pair.chain, f"{dashes}http-key={pair.key}")
    host = pulp("-manifest", echo / "pulp.cell.toml", "-http-port", "127.0.0.1:0", *options).wait_until_ready()

    assert pair.serial(host)
    assert "scheme=https" in host.wait_for("http server started")


def test_a_variable_that_is_set_beats_the_option_and_an_empty_one_does_not(
    pulp, echo: Path, pair: Pair, tmp_path: Path
) -> None:
    options = ("--http-cert", tmp_path / "none", "--http-key", pair.key)
    host = pulp("run", echo, "--http-port", "127.0.0.1:0", *options, env={"HTTP_CERT": str(pair.chain), "HTTP_KEY": ""})

    assert pair.serial(host.wait_until_ready())


def test_a_configuration_file_names_the_certificate_too_and_comes_last(
    pulp, echo: Path, pair: Pair, tmp_path: Path
) -> None:
    config = tmp_path / "host.toml"
    config.write_text(f'[http]\ncert = "{pair.chain}"\nkey = "{tmp_path / "none"}"\n')
    options = ("--config", config, "--http-key", pair.key)
    host = pulp("run", echo, "--http-port", "127.0.0.1:0", *options).wait_until_ready()

    before = pair.serial(host)
    pair.renew()
    host.send(signal.SIGHUP).wait_for("certificate loaded again")
    assert pair.serial(host) != before


# Ends ---------------------------------------------------------------------------------------------------------------


def test_a_request_in_flight_is_answered_at_the_end(serve, lab: Callable[..., Path], pair: Pair) -> None:
    host = serve(lab("call_timeout_ms = 1000"), env=pair.environment)
    with pair.client(host) as client, pair.client(host) as idle:
        assert idle.get("/nowhere").http_version == "HTTP/2"
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(client.get, "/l/spin")
            host.wait_until_it_has_spun().send(signal.SIGTERM)
            answer = asked.result(DEADLINE_SECONDS)

    assert (answer.status_code, answer.content) == (500, b"cell did not respond")
    assert host.end() == 0


def test_idle_clients_do_not_hold_up_the_end(host, pair: Pair) -> None:
    with pair.client(host) as client, pair.client(host, http2=False) as other:
        client.get("/echo/a")
        other.get("/echo/a")
        began = time.monotonic()
        assert host.stop() == 0
        assert time.monotonic() - began < 1


# As a library -------------------------------------------------------------------------------------------------------


@pytest.fixture
def settings(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    for name in ("HTTP_PORT", "HTTP_CERT", "HTTP_KEY"):
        monkeypatch.delenv(name, raising=False)
    return {"http_port": "127.0.0.1:0", "storage_root": tmp_path / "data", "cache": cache}


def test_a_program_names_the_certificate_in_its_configuration(echo: Path, pair: Pair, settings: dict) -> None:
    from pulp_runtime.host import Host

    config = {"http": {"cert": pair.chain, "key": str(pair.key), "idle_seconds": 5.0}}
    with Host([echo], config=config, **settings) as host:
        assert host.url.startswith("https://127.0.0.1:")
        with httpx.Client(verify=pair.context, http2=True) as client:
            assert client.get(f"{host.url}/echo/hi").content == b"hi"
        assert host.reload_certificate()
        pair.key.unlink()
        assert not host.reload_certificate()


def test_a_host_without_a_certificate_has_none_to_reload(echo: Path, settings: dict) -> None:
    from pulp_runtime.host import Host

    with Host([echo], **settings) as host:
        assert host.url.startswith("http://")
        assert not host.reload_certificate()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        pytest.param({"crt": "x"}, "http.crt is no setting of the listener; there are cert, key, http2", id="unknown"),
        pytest.param({"http2": "yes"}, "Expected `bool`", id="no boolean"),
        pytest.param({"cert": 5, "key": "k"}, "Expected `str`", id="no path"),
        pytest.param({"cert": "c"}, "http.key (or $HTTP_KEY) is missing", id="half a pair"),
        pytest.param({"idle_seconds": -1}, "idle_seconds must be positive", id="no time"),
    ],
)
def test_settings_that_make_no_sense_are_refused(echo: Path, settings: dict, config: dict, message: str) -> None:
    from pulp_runtime.host import Host, StartError

    with pytest.raises(StartError) as error, Host([echo], config={"http": config}, **settings):
        pass
    assert message in str(error.value)
