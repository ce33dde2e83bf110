"""The reference page names everything there is, and the public suite passes where it is."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pulp_runtime.wasi.descriptor import MAX_DESCRIPTORS
from pulp_runtime.wasi.errno import WasiErrno
from pulp_runtime.wasi.listing import REMEMBERED
from pulp_runtime.wasi.place import MAX_PATH_BYTES
from pulp_runtime.wasi.polling import MAX_SUBSCRIPTIONS
from pulp_runtime.wasi.preview1 import KINDS, Preview1
from pulp_runtime.wasi.streams import MAX_BUFFERS, MAX_TRANSFER_BYTES

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reference" / "wasi.md").read_text()
WORDS = " ".join(PAGE.split())
SUITE = ROOT / "scripts" / "wasi_testsuite.py"


def test_every_function_is_in_the_reference() -> None:
    named = set(re.findall(r"`((?:args|clock|environ|fd|path|poll|proc|random|sched|sock)_[a-z_]+)`", PAGE))

    assert set(KINDS) | {"proc_exit"} <= named
    assert len(KINDS) == 45
    assert all(callable(getattr(Preview1, name)) for name in KINDS)


def test_every_error_is_in_the_reference_with_its_number() -> None:
    assert [f"`{one.name}` {one.value}" for one in WasiErrno if f"`{one.name}` {one.value}" not in WORDS] == []


def test_every_bound_is_in_the_reference() -> None:
    table = PAGE.partition("## Limits")[2].partition("## ")[0]

    for bound in (MAX_DESCRIPTORS, MAX_PATH_BYTES, MAX_BUFFERS, MAX_SUBSCRIPTIONS, REMEMBERED):
        assert f"{bound:,}" in table
    assert f"{MAX_TRANSFER_BYTES >> 20} MiB" in table


@pytest.mark.conformance
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_program_of_the_public_suite_passes() -> None:
    if not os.environ.get("WASI_TESTSUITE"):
        pytest.skip("NOT CHECKED: WASI_TESTSUITE does not name a folder with the programs of wasi-testsuite")
    done = subprocess.run([sys.executable, str(SUITE)], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout


def test_without_the_suite_its_runner_says_so() -> None:
    environ = {name: value for name, value in os.environ.items() if name != "WASI_TESTSUITE"}
    done = subprocess.run([sys.executable, str(SUITE)], capture_output=True, text=True, check=False, env=environ)

    assert done.returncode == 2
    assert "SKIPPED" in done.stdout


@pytest.mark.slow
def test_the_runner_tells_what_passes_from_what_does_not(tmp_path: Path) -> None:
    import wasmtime

    begin = '(module (memory (export "memory") 1) (func (export "_start")'
    (tmp_path / "passes.wasm").write_bytes(wasmtime.wat2wasm(f"{begin}))"))
    (tmp_path / "traps.wasm").write_bytes(wasmtime.wat2wasm(f"{begin} unreachable))"))
    (tmp_path / "silent.wasm").write_bytes(wasmtime.wat2wasm(f"{begin}))"))
    (tmp_path / "silent.json").write_text('{"stdout": "hello"}')
    done = subprocess.run([sys.executable, str(SUITE), str(tmp_path)], capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert [line.split()[0] for line in done.stdout.splitlines() if line[:4] in ("pass", "FAIL")] == [
        "pass", "FAIL", "FAIL",
    ]  # fmt: skip
    assert "1 of 3 programs pass" in done.stdout
