"""Slow clients, as the tool that people attack servers with plays them: everybody else is served as before."""

from __future__ import annotations

import http.client
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from pulp_runtime import Host

ROOT = Path(__file__).parents[2]
SECONDS = 6
CONNECTIONS = 400
MODES = {
    "headers": ("-H", "-i", "1", "-t", "GET", "-x", "24", "-u", "/echo/slow"),
    "body": ("-B", "-i", "1", "-s", "8192", "-t", "POST", "-x", "10", "-u", "/echo"),
    "ranges": ("-R", "-t", "HEAD", "-a", "10", "-b", "3000", "-u", "/echo/slow"),
    "reading": ("-X", "-w", "1", "-y", "8", "-n", "2", "-z", "4", "-k", "3", "-u", "/echo/slow"),
}

pytestmark = [pytest.mark.slow, pytest.mark.conformance]


@pytest.mark.parametrize("mode", MODES)
def test_threat_37_others_are_served_while_slow_clients_hold_their_connections(mode: str, tmp_path: Path) -> None:
    tool = shutil.which("slowhttptest")
    if tool is None:
        pytest.skip("LOUD: slowhttptest is not installed: apt-get install slowhttptest")
    with Host([ROOT / "examples/echo/c"], storage_root=tmp_path, http_port="127.0.0.1:0") as host:
        *options, path = MODES[mode]
        attack = subprocess.Popen(
            [tool, *options, host.url + path, "-c", str(CONNECTIONS), "-r", "200", "-l", str(SECONDS), "-p", "2"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        client = http.client.HTTPConnection(host.url.removeprefix("http://"), timeout=10)
        served = 0
        longest = 0.0
        while attack.poll() is None:
            began = time.monotonic()
            client.request("GET", "/echo/quick")
            assert client.getresponse().read() == b"quick"
            longest = max(longest, time.monotonic() - began)
            served += 1
        client.close()
        output = re.sub(r"\x1b\[[0-9;]*[a-zA-Z]", "", attack.communicate()[0])
    assert served > 100
    assert longest < 2.0  # no request waited for a slow client; how long they take is for the benchmarks
    available = re.findall(r"service available:\s*(\w+)", output)
    assert available
    assert set(available) == {"YES"}
