"""WebSockets as other people's programs see them: clients from PyPI and npm, and ten thousand of them at once."""

from __future__ import annotations

import asyncio
import json
import os
import re
import resource
import shutil
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme
import websockets
import websockets.sync.client

from pulp_runtime import Host

ROOT = Path(__file__).parents[2]
CELL = ROOT / "examples" / "ws-echo" / "c"
NPM = ROOT / ".cache" / "npm-ws"
PACKAGES = ("ws@8", "wscat@6")
SECONDS = 30.0
IDLE = 10_000


@pytest.fixture
def host(serve: Callable[..., Any]) -> Any:
    return serve(CELL)


def test_a_python_program_talks_to_a_cell(host: Any) -> None:
    async def main() -> list[Any]:
        async with websockets.connect(f"ws://127.0.0.1:{host.port}/echo", proxy=None) as client:
            heard = []
            for message in ("hello", b"\x00\xff", "grüß" * 1_000, ["a", "b", "c"], ""):
                await client.send(message)
                heard.append(await client.recv())
            await (await client.ping(b"there?"))
            for number in range(1_000):
                await client.send(str(number))
            heard.append([await client.recv() for _ in range(1_000)])
            return heard

    assert asyncio.run(asyncio.wait_for(main(), SECONDS)) == [
        "hello",
        b"\x00\xff",
        "grüß" * 1_000,
        "abc",
        "",
        [str(number) for number in range(1_000)],
    ]


def test_it_works_over_tls_too(tmp_path: Path) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("localhost", "127.0.0.1")
    chain, key = tmp_path / "server.pem", tmp_path / "server.key"
    chain.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(key)
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    listener = {"cert": str(chain), "key": str(key)}
    with Host([CELL], http_port="127.0.0.1:0", storage_root=tmp_path / "data", config={"http": listener}) as host:
        url = host.url.replace("https:", "wss:", 1) + "/echo"
        with websockets.sync.client.connect(url, ssl=trust, proxy=None) as client:
            for message in ("hello", b"\x00" * 30_000, *map(str, range(200))):
                client.send(message)
                assert client.recv(timeout=SECONDS) == message


def hears(command: list[str], said: str, heard: str) -> None:
    """Run a client that leaves at the end of its input; say something, and wait until it shows what it hears."""
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as client:
        assert client.stdin is not None
        assert client.stdout is not None
        impatient = threading.Timer(SECONDS, client.kill)
        impatient.start()
        client.stdin.write(said)
        client.stdin.flush()
        shown = ""
        while heard not in shown and (piece := client.stdout.read(1)):
            shown += piece
        impatient.cancel()
        client.stdin.close()
        client.stdout.read()
    assert heard in shown


def test_the_command_of_the_python_package_talks_to_a_cell(host: Any) -> None:
    hears([sys.executable, "-m", "websockets", f"ws://127.0.0.1:{host.port}/echo"], "hello\n", "< hello")


@pytest.fixture(scope="module")
def npm_packages() -> Path:
    """The packages of npm, fetched once."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("node and npm are not installed: apt-get install npm")
    if not all((NPM / "node_modules" / name.partition("@")[0]).is_dir() for name in PACKAGES):
        NPM.mkdir(parents=True, exist_ok=True)
        (NPM.parent / ".gitignore").write_text("*\n")
        command = [npm, "install", "--prefix", str(NPM), "--no-audit", "--no-fund", "--loglevel=error", *PACKAGES]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"npm cannot fetch {', '.join(PACKAGES)}: {done.stderr.strip()[-300:]}")
    return NPM


SCRIPT = """
const WebSocket = require('ws');
const client = new WebSocket(process.argv[1]);
const heard = [];
const hear = (what) => { heard.push(what); if (heard.length === 3) client.close(4000, 'bye'); };
client.on('open', () => { client.send('hello'); client.send(Buffer.from([0, 255])); client.ping('there?'); });
client.on('pong', (data) => hear(['pong', data.toString()]));
client.on('message', (data, binary) => hear(binary ? [...data] : data.toString()));
client.on('close', (code, reason) => console.log(JSON.stringify([heard, code, reason.toString()])));
client.on('error', (error) => { console.log(error.message); process.exit(1); });
"""


@pytest.mark.slow
@pytest.mark.timeout(120)  # the first time the packages are fetched
def test_a_node_program_talks_to_a_cell(npm_packages: Path, host: Any) -> None:
    done = subprocess.run(
        ["node", "-e", SCRIPT, f"ws://127.0.0.1:{host.port}/echo"],
        cwd=npm_packages,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    heard, code, reason = json.loads(done.stdout)

    assert sorted(map(json.dumps, heard)) == sorted(map(json.dumps, ["hello", [0, 255], ["pong", "there?"]]))
    assert (code, reason) == (4000, "bye")


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_wscat_talks_to_a_cell(npm_packages: Path, host: Any) -> None:
    wscat = npm_packages / "node_modules" / ".bin" / "wscat"
    hears([str(wscat), "-c", f"ws://127.0.0.1:{host.port}/echo", "-x", "hello", "-w", "30"], "", "hello")


def resident(pid: int) -> int:
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) * 1024


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_ten_thousand_idle_connections_are_held_and_each_still_answers(serve: Callable[..., Any]) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < IDLE + 1_000:
        pytest.skip(f"the system allows {hard} open files, {IDLE + 1_000} are needed: raise `ulimit -Hn`")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # the host inherits it
    try:
        host = serve(CELL)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    before = resident(host.process.pid)
    crowd = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("crowd.py")), str(host.port), str(IDLE), str(host.process.pid)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )

    assert crowd.returncode == 0, crowd.stderr
    told = json.loads(crowd.stdout)
    assert told["answered"] == IDLE
    assert (told["resident"] - before) / IDLE < 8 * 1024, "bytes for each of them"
