"""A great many cells, and a great many failures."""

from __future__ import annotations

import http.client
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest


def resident_kib(pid: int) -> int:
    return int(re.search(r"VmRSS:\s*(\d+)", Path(f"/proc/{pid}/status").read_text())[1])


NUMBERED = r"""(module
  (import "pulp" "http_register" (func $http_register (param i32 i32) (result i32)))
  (import "pulp" "http_respond" (func $http_respond (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "pulp_alloc") (param i32) (result i32) (i32.const 4096))
  ;; The configuration is {"n": "0042"}; the route becomes GET /0042.
  (func (export "pulp_init") (param $config i32) (param i32) (result i32)
    (i32.store (i32.const 1043) (i32.load offset=4 (local.get $config)))
    (call $http_register (i32.const 1024) (i32.const 23)))
  (func (export "pulp_step") (param $envelope i32) (param $length i32) (result i32)
    (local $at i32)
    (if (i32.eq (local.get $length) (i32.const 20)) (then (return (i32.const 0))))
    (local.set $at (local.get $envelope))
    (loop $next
      (if (i32.ne (i32.load (local.get $at)) (i32.const 0xcf6469a2))
        (then (local.set $at (i32.add (local.get $at) (i32.const 1))) (br $next))))
    (i64.store (i32.const 2053) (i64.load offset=4 (local.get $at)))
    (i32.store (i32.const 2087) (i32.load (i32.const 1043)))
    (call $http_respond (i32.const 2048) (i32.const 43)))
  (func (export "pulp_shutdown") (result i32) (i32.const 0))
  (data (i32.const 1024) "\82\a6method\a3GET\a4path\a5/????")
  (data (i32.const 2048) "\84\a2id\cf........\a6status\cd\00\c8\a7headers\80\a4body\c4\04????"))"""


@pytest.mark.slow
def test_a_thousand_cells_answer(pulp, tmp_path: Path, wasm: Callable[[str], bytes]) -> None:
    (tmp_path / "cell.wasm").write_bytes(wasm(NUMBERED))
    manifests = [tmp_path / f"{number:04}.toml" for number in range(1000)]
    for path in manifests:
        path.write_text(
            f'name = "cell-{path.stem}"\nversion = "1"\ncapabilities = ["transport.http.inbound"]\n'
            f'[config]\nn = "{path.stem}"\n'
        )
    host = pulp("run", *manifests, "--http-port", "127.0.0.1:0")
    while sum('msg="cell ready"' in line for line in host.lines) < 1000:
        assert host.process.poll() is None, host.log[-2000:]
        assert time.monotonic() - host.started < 15
        time.sleep(0.05)
    started = time.monotonic() - host.started

    with host.connection() as client:
        for path in manifests:
            client.request("GET", f"/{path.stem}")
            assert client.getresponse().read() == path.stem.encode()
    kib = resident_kib(host.process.pid)
    print(f"1,000 cells: {started:.1f} s to start, {kib / 1024:.0f} MiB")
    assert kib < 512 * 1024
    assert host.stop() == 0
    assert sum("shutdown complete" in line for line in host.lines) == 1000


@pytest.mark.slow
def test_threat_27_a_storm_of_traps_costs_neither_memory_nor_log(serve, lab: Callable[..., Path]) -> None:
    host = serve(lab())
    with host.connection() as client:
        statuses = [ask(client, "/l/trap") for _ in range(2000)]

    assert set(statuses) <= {500, 503}
    assert statuses.count(500) <= 6  # five restarts in 30 s, then the cell is down
    assert len(host.lines) < 60
    assert host.wait_for("cell is down")
    assert host.stop() == 0


def ask(client: http.client.HTTPConnection, path: str) -> int:
    client.request("GET", path)
    answer = client.getresponse()
    answer.read()
    return answer.status
