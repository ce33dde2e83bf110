"""A function whose every request is a program of its own: calls of its files and /tmp, in any order."""

from __future__ import annotations

import http.client
import os
import threading
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from pulp_runtime import Host

from .obedient import obedient, script

SCRIPTS = 150
CLIENTS = 4
MANIFEST = """name = "evil"
version = "1"
execution = "function"
capabilities = ["transport.http.inbound"]
[function]
routes = ["ANY /x/*rest"]
timeout_ms = 200
max_instances = 4
"""
TOLD = {
    *("run failed", "request failed", "response refused", "cell log over its rate"),
    "a file was not closed cleanly when its program ended",
}
"""What the operator is told of such programs; anything else is a mistake of the host's."""


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_threat_16_whatever_a_function_does_with_its_files_its_client_is_answered(
    tmp_path: Path, wasm: Callable[[str], bytes], records: Any, seed: int
) -> None:
    folder = tmp_path / "evil"
    folder.mkdir()
    (folder / "cell.wasm").write_bytes(wasm(obedient()))
    (folder / "pulp.cell.toml").write_text(MANIFEST)
    found: list[int | str] = []

    with Host([folder], storage_root=tmp_path / "data", http_port="127.0.0.1:0") as host:
        assert host.url is not None
        port = int(host.url.rpartition(":")[2])
        assert _asked(port, b"")  # what is opened once is open
        before = len(os.listdir("/proc/self/fd"))
        threads = [
            threading.Thread(target=lambda at=at: found.extend(_client(port, seed * 100 + at))) for at in range(CLIENTS)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        assert host.status()["evil"].state == "ready"
        assert _asked(port, b"") == 204
        assert len(os.listdir("/proc/self/fd")) <= before + CLIENTS

    broken_off = [answer for answer in found if isinstance(answer, str)]
    assert len(found) == CLIENTS * SCRIPTS
    assert len(broken_off) < len(found) // 20
    assert {answer for answer in found if isinstance(answer, int)} >= {200, 204, 502}
    told = {record.getMessage() for record in records.all if record.levelname in ("WARNING", "ERROR")}
    assert told <= TOLD


def _client(port: int, seed: int) -> list[int | str]:
    rng = Random(seed)
    return [_asked(port, script(rng)) for _ in range(SCRIPTS)]


def _asked(port: int, body: bytes) -> int | str:
    """Return the status, or how an answer that had begun was broken off."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("POST", "/x/a?q=1", body=body, headers={"X-A": "1"})
        response = connection.getresponse()
        response.read()
        return response.status
    except http.client.IncompleteRead as error:
        return str(error)
    finally:
        connection.close()
