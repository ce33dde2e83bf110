"""A host, or a single cell, inside somebody else's program."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

import pulp_runtime
from pulp_runtime import Cell, Host, Plugin, Registry, StepEnvelope, encode_config, load_cell
from pulp_runtime.errors import CallRefused, CellClosed, CellTrap

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def manifest(tmp_path: Path, wasm: Callable[[str], bytes]) -> Callable[..., Path]:
    """Return `manifest(guest, **fields)`: the folder of a cell that is one of the test guests."""

    def manifest(guest: str, **fields: str) -> Path:
        folder = tmp_path / guest
        folder.mkdir()
        (folder / "cell.wasm").write_bytes(wasm(guest))
        lines = [f'name = "{guest}"', 'version = "1"', *(f"{name} = {value}" for name, value in fields.items())]
        (folder / "pulp.cell.toml").write_text("\n".join(lines))
        return folder

    return manifest


def test_a_program_without_an_event_loop_runs_a_host_in_a_with_block() -> None:
    before = threading.active_count()

    with Host([EXAMPLES / "echo/c"], http_port=0) as host:
        assert urllib.request.urlopen(f"{host.url}/echo/hello").read() == b"hello"
        assert host.status()["echo"].state == "ready"

    assert threading.active_count() == before
    assert host.status() == {}


def test_a_host_calls_the_functions_a_cell_provides_from_any_thread(manifest: Callable[..., Path]) -> None:
    with Host([manifest("provider", provides='["echo.reverse"]')]) as host:
        answers: list[bytes] = []
        threads = [
            threading.Thread(target=lambda text=text: answers.append(host.call("provider", "echo.reverse", text)))
            for text in (b"abc", b"xyz", b"123")
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert sorted(answers) == [b"321", b"cba", b"zyx"]


def test_a_coroutine_calls_a_cell_without_holding_its_loop(manifest: Callable[..., Path]) -> None:
    async def use() -> list[bytes]:
        async with Host([manifest("provider", provides='["echo.reverse"]')]) as host:
            calls = [host.call_async("provider", "echo.reverse", text) for text in (b"ab", b"cd")]
            return list(await asyncio.gather(*calls))

    assert asyncio.run(use()) == [b"ba", b"dc"]


@pytest.mark.parametrize(
    ("cell", "function", "message"),
    [
        pytest.param("nobody", "echo.reverse", "no cell 'nobody' here; there are provider", id="no such cell"),
        pytest.param("provider", "other", "does not provide 'other'; add it to provides", id="not in provides"),
    ],
)
def test_a_call_that_makes_no_sense_says_why(
    manifest: Callable[..., Path], cell: str, function: str, message: str
) -> None:
    with Host([manifest("provider", provides='["echo.reverse"]')]) as host, pytest.raises(CallRefused, match=message):
        host.call(cell, function)


def test_a_trap_in_a_call_restarts_the_cell_like_any_other(manifest: Callable[..., Path]) -> None:
    with Host([manifest("provider_traps", provides='["f"]')]) as host:
        with pytest.raises(CellTrap):
            host.call("provider_traps", "f")
        deadline = threading.Event()
        while host.status()["provider_traps"].restarts == 0 and not deadline.wait(0.01):
            pass
        assert host.status()["provider_traps"].state in ("ready", "restarting")


def test_a_start_that_fails_leaves_a_with_block_without_a_trace(manifest: Callable[..., Path]) -> None:
    before = threading.active_count()

    with pytest.raises(pulp_runtime.StartError, match="all cells failed"), Host([manifest("trap_init")]):
        pass

    assert threading.active_count() == before


def test_the_heartbeat_cell_is_driven_step_by_step() -> None:
    spec = load_cell(EXAMPLES / "heartbeat/c")
    cell = Cell.load(spec, Registry())
    cell.init(encode_config(spec.config))

    assert cell.name == "heartbeat"
    assert not cell.has_provider
    assert cell.probe_config_marker() == 424242
    assert cell.step(StepEnvelope(call_number=41, wall_time=1)) == 0
    assert cell.probe_last_call() == 41
    assert cell.step(StepEnvelope(call_number=42, wall_time=2, payload=b"\xc0")) == 0
    assert cell.probe_last_call() == 42
    cell.shutdown()
    cell.close()
    cell.close()
    with pytest.raises(CellClosed, match="cell is closed"):
        cell.step(StepEnvelope())


def test_the_older_name_of_a_cell_is_the_same_class() -> None:
    assert Plugin is Cell


def test_importing_the_package_imports_no_engine() -> None:
    code = "import sys, pulp_runtime; sys.exit('wasmtime' in sys.modules or 'asyncio' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_public_name_can_be_imported_and_no_other() -> None:
    for name in pulp_runtime.__all__:
        assert getattr(pulp_runtime, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = pulp_runtime.Nothing


@pytest.mark.slow
def test_a_connection_is_idle_from_its_last_answer_on(echo: Path, tmp_path: Path) -> None:
    config = {"http": {"idle_seconds": 1.0}}
    with Host([echo], storage_root=tmp_path, http_port="127.0.0.1:0", config=config) as host:
        address, port = host.url.removeprefix("http://").split(":")
        with socket.create_connection((address, int(port)), timeout=25) as client:
            client.sendall(b"GET /echo/a HTTP/1.1\r\nHost: a\r\n\r\n")
            assert client.recv(65536).endswith(b"a")
            assert client.recv(65536) == b""
