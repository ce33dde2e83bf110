"""Programs that are loaded at the same time, and runs that are prepared while another version is loaded."""

from __future__ import annotations

import http.client
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pulp_runtime import Host
from pulp_runtime.capabilities.cloud.kv import CloudKv, Granted
from pulp_runtime.capabilities.transport.program_http import Programs
from pulp_runtime.ext import CellRef, Run

EXAMPLES = Path(__file__).parents[2] / "examples"
SECONDS = 20.0


def test_programs_that_are_loaded_at_the_same_time_are_all_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Programs] = []
    original = Programs.__init__

    def slowly(self: Programs, *more: object) -> None:
        made.append(self)
        threading.Event().wait(0.2)  # long enough for the other thread to come by
        original(self, *more)

    monkeypatch.setattr(Programs, "__init__", slowly)
    cells = [EXAMPLES / "guestbook/c", EXAMPLES / "hits/zig"]
    with Host(cells, storage_root=tmp_path, http_port="127.0.0.1:0", workers=2) as host:
        client = http.client.HTTPConnection(host.url.removeprefix("http://"), timeout=20)
        for path, body in (("/guestbook", b"Guestbook"), ("/hits/x", b"1\n")):
            client.request("GET", path)
            answer = client.getresponse()
            assert answer.status == 200, path
            assert body in answer.read()
        client.close()
    assert len(made) == 1


def test_a_run_that_is_prepared_while_another_version_is_loaded_has_its_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, loading, prepared, armed = (threading.Event() for _ in range(4))
    mount, open_keys = CloudKv.mount, CloudKv._open

    def slow_mount(self: CloudKv, run: Run) -> None:
        if armed.is_set():
            begun.set()
            assert loading.wait(SECONDS)
        mount(self, run)
        prepared.set()

    def slow_open(self: CloudKv, cell: CellRef, *more: Any) -> Granted:
        if armed.is_set():
            loading.set()
            assert prepared.wait(SECONDS)
        return open_keys(self, cell, *more)

    monkeypatch.setattr(CloudKv, "mount", slow_mount)
    monkeypatch.setattr(CloudKv, "_open", slow_open)
    with Host([EXAMPLES / "hits/zig"], storage_root=tmp_path, http_port="127.0.0.1:0", workers=2) as host:
        assert counted(host) == b"1\n"
        prepared.clear()
        armed.set()
        with ThreadPoolExecutor() as threads:
            second = threads.submit(counted, host)
            assert begun.wait(SECONDS)
            assert host._thread is not None
            host._thread.run(host.operations.reload("hits"))
            assert second.result(SECONDS) == b"2\n"
        assert counted(host) == b"3\n"


def counted(host: Host) -> bytes:
    client = http.client.HTTPConnection(host.url.removeprefix("http://"), timeout=20)
    try:
        client.request("GET", "/hits/x")
        answer = client.getresponse()
        assert answer.status == 200
        return answer.read()
    finally:
        client.close()
