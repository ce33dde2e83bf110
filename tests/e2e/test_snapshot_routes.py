"""What the transports know of a cell goes on with it: listener, routes, numbers of requests and connections."""

from __future__ import annotations

import http.client
import io
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import pytest
import websockets.sync.client

from pulp_runtime import Host
from pulp_runtime.capabilities.transport.routes_kept import KeptRoutes, kept
from pulp_runtime.ext import ExtensionError

#: It keeps every event it gets, one behind the other, and answers them when it is called.
LISTENS = """(module
  (import "pulp" "http_listen" (func $listen (param i32 i32) (result i32)))
  (import "pulp" "http_register" (func $http (param i32 i32) (result i32)))
  (import "pulp" "http_defer" (func $defer (param i32 i32) (result i32)))
  (import "pulp" "ws_register" (func $ws (param i32 i32) (result i32)))
  (import "pulp" "sse_register" (func $sse (param i32 i32) (result i32)))
  (memory (export "memory") 8)
  (global $end (mut i32) (i32.const 131072))
  (data (i32.const 0) "{listen}") (data (i32.const 128) "{http}")
  (data (i32.const 256) "/ws") (data (i32.const 272) "/events")
  (func (export "pulp_alloc") (param i32) (result i32) (i32.const 65536))
  (func (export "pulp_init") (param i32 i32) (result i32)
    (i32.or (i32.or (call $listen (i32.const 0) (i32.const {listen_size}))
                    (call $http (i32.const 128) (i32.const {http_size})))
            (i32.or (call $ws (i32.const 256) (i32.const 3)) (call $sse (i32.const 272) (i32.const 7)))))
  (func (export "pulp_step") (param $at i32) (param $len i32) (result i32) (local $i i32)
    (if (i32.le_u (local.get $len) (i32.const 20)) (then (return (i32.const 0))))
    (memory.copy (global.get $end) (i32.add (local.get $at) (i32.const 20)) (i32.sub (local.get $len) (i32.const 20)))
    (global.set $end (i32.sub (i32.add (global.get $end) (local.get $len)) (i32.const 20)))
    ;; a request is kept: its number is the nine bytes behind the key "id"
    (local.set $i (i32.add (local.get $at) (i32.const 20)))
    (loop $next
      (if (i32.eq (i32.load (local.get $i)) (i32.const 0xcf6469a2)) (then
        (return (call $defer (i32.wrap_i64 (call $swap (i64.load (i32.add (local.get $i) (i32.const 4)))))
                             (i32.const 0)))))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $next (i32.lt_u (local.get $i) (i32.add (local.get $at) (local.get $len)))))
    (i32.const 0))
  (func $swap (param $n i64) (result i64)  ;; the last of eight bytes is enough of a number
    (i64.shr_u (local.get $n) (i64.const 56)))
  (func (export "pulp_on_call") (param i32 i32 i32 i32) (param $out i32) (param $len i32) (result i32)
    (i32.store (local.get $out) (i32.const 131072))
    (i32.store (local.get $len) (i32.sub (global.get $end) (i32.const 131072)))
    (i32.const 0))
  (func (export "pulp_shutdown") (result i32) (i32.const 0)))"""
CAPABILITIES = ("transport.ws.inbound", "transport.sse", "transport.http.inbound")


def escaped(data: bytes) -> str:
    return "".join(f"\\{byte:02x}" for byte in data)


class Listening:
    """A cell with routes of all kinds on a listener of its own, in hosts one after the other."""

    def __init__(self, folder: Path, data: Path, port: int) -> None:
        self.folder, self.data, self.port = folder, data, port
        self.host: Host | None = None

    def say(self, start_from: str = "") -> None:
        lines = ['name = "listens"', 'version = "1"', 'provides = ["events"]', f"capabilities = {list(CAPABILITIES)}"]
        lines += [
            "snapshotable = true",
            "tick_ms = 0",
            *(["[snapshot]", f'from = "{start_from}"'] if start_from else []),
        ]
        (self.folder / "pulp.cell.toml").write_text("\n".join(lines))

    def hosted(self) -> Host:
        self.host = Host([self.folder], storage_root=self.data, http_port="127.0.0.1:0")
        return self.host

    def snapshot(self, file: Path) -> None:
        assert self.host is not None
        assert self.host._thread is not None
        self.host._thread.run(self.host.operations.snapshot("listens", str(file)))

    def events(self) -> list[dict[str, Any]]:
        assert self.host is not None
        return list(msgpack.Unpacker(io.BytesIO(self.host.call("listens", "events"))))

    def wait_for(self, *kinds: str) -> list[dict[str, Any]]:
        """Return the payloads of all events, once they are of these kinds."""
        end = time.monotonic() + 10
        while True:
            events = self.events()
            if [event["kind"] for event in events] == list(kinds):
                break
            assert time.monotonic() < end, events
            time.sleep(0.005)
        return [event["payload"] for event in events]

    def connect(self) -> websockets.sync.client.ClientConnection:
        return websockets.sync.client.connect(f"ws://127.0.0.1:{self.port}/ws", proxy=None)

    def request(self, path: str) -> http.client.HTTPConnection:
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        client.request("GET", path)
        return client


@pytest.fixture
def listening(tmp_path: Path, wasm: Callable[[str], bytes]) -> Listening:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    listen = msgpack.packb({"addr": f"127.0.0.1:{port}"})
    route = msgpack.packb({"method": "GET", "path": "/kept"})
    folder = tmp_path / "listens"
    folder.mkdir()
    text = LISTENS.format(listen=escaped(listen), http=escaped(route), listen_size=len(listen), http_size=len(route))
    (folder / "cell.wasm").write_bytes(wasm(text))
    found = Listening(folder, tmp_path / "data", port)
    found.say()
    return found


def test_routes_of_every_kind_are_there_again_on_the_cells_own_listener(listening: Listening) -> None:
    with listening.hosted():
        listening.events()
    with listening.hosted():
        client = listening.request("/events")
        events = client.getresponse()
        assert (events.status, events.headers["Content-Type"]) == (200, "text/event-stream")
        events.close()
        client.close()
        with listening.connect():
            listening.wait_for("ws.open")


def test_a_connection_of_before_is_closed_for_the_cell_and_its_number_is_not_given_to_another(
    listening: Listening, tmp_path: Path
) -> None:
    with listening.hosted(), listening.connect():
        (opened,) = listening.wait_for("ws.open")
        assert opened["conn_id"] == 1
        listening.snapshot(tmp_path / "open.pulpsnap")  # as if the host died now
    for path in (listening.data / "listens" / ".pulp-snapshots").iterdir():
        path.unlink()
    listening.say(str(tmp_path / "open.pulpsnap"))
    with listening.hosted():
        _, closed = listening.wait_for("ws.open", "ws.close")
        assert (closed["conn_id"], closed["code"], closed["reason"]) == (1, 1006, "")
        with listening.connect():
            *_, opened = listening.wait_for("ws.open", "ws.close", "ws.open")
            assert opened["conn_id"] > 1


def test_a_connection_survives_a_reload_with_the_state_it_belongs_to(listening: Listening) -> None:
    with listening.hosted() as host, listening.connect() as client:
        listening.wait_for("ws.open")
        assert host._thread is not None
        host._thread.run(host.operations.reload("listens"))
        client.send("still here")
        _, frame = listening.wait_for("ws.open", "ws.frame")
        assert frame["payload"] == b"still here"


def test_a_request_the_cell_keeps_is_not_taken_for_a_later_one(listening: Listening, tmp_path: Path) -> None:
    with listening.hosted():
        client = listening.request("/kept")
        (request,) = listening.wait_for("http.request")
        listening.snapshot(tmp_path / "kept.pulpsnap")
        client.close()
    for path in (listening.data / "listens" / ".pulp-snapshots").iterdir():
        path.unlink()
    listening.say(str(tmp_path / "kept.pulpsnap"))
    with listening.hosted():
        client = listening.request("/kept")
        _, later = listening.wait_for("http.request", "http.request")
        assert later["id"] > request["id"]
        client.close()


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x81\xa6routes\x01", b"\x81\xa6listen\xc4\x01x"])
def test_a_record_that_is_none_refuses_the_snapshot(data: bytes) -> None:
    with pytest.raises(ExtensionError, match="it cannot be read"):
        kept(data, KeptRoutes)
