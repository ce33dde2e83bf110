"""`pulp run` and `pulp -manifest`, from the first line to the last."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

LINE = re.compile(r'time=\S+Z level=(INFO|WARN|ERROR) msg=("([^"\\]|\\.)*"|\S+)( \w+=("([^"\\]|\\.)*"|\S*|\[.*?\]))*')


def test_heartbeat_end_to_end(pulp, heartbeat: Path) -> None:
    host = pulp("-manifest", heartbeat / "pulp.cell.toml")
    host.wait_for("step heartbeat")

    began = time.monotonic()
    assert host.stop(signal.SIGINT) == 0

    assert time.monotonic() - began < 3
    wanted = [
        'msg="pulp boot" cell=heartbeat version=0.1.0',
        'msg="init complete" cell=heartbeat',
        'msg="cell ready" cell=heartbeat version=0.1.0 capabilities=[] depends_on=[]',
        'msg="step heartbeat" cell=heartbeat call_number=0',
        'msg="signal received" signal=SIGINT',
        'msg="probe last envelope" cell=heartbeat last_call=',
        'msg="probe config marker" cell=heartbeat marker=424242',
        'msg="shutdown complete" cell=heartbeat',
        'msg="pulp exit clean"',
    ]
    assert [text for text in wanted if text in host.log] == wanted
    assert sorted(wanted, key=host.log.index) == wanted
    assert all(LINE.fullmatch(line) for line in host.lines)
    assert host.errors == ""


@pytest.mark.parametrize("language", ["c", "go"])
def test_echo_end_to_end(pulp, echo: Path, language: str) -> None:
    manifest = echo.parent / language / "pulp.cell.toml"
    host = pulp("-manifest", manifest, "-http-port", "0", "-storage-root", "elsewhere")
    host.wait_for('msg="cell ready" cell=echo')

    assert "capability ready" in host.log
    assert host.log.index("http server started") < host.log.index("init complete")
    assert host.request("GET", "/echo/hello") == (200, b"hello")
    assert host.request("POST", "/echo", b"\0\1\2") == (200, b"\0\1\2")
    assert host.request("GET", "/nowhere") == (404, b"404 page not found")
    assert host.stop() == 0
    assert host.errors == ""


def test_json_is_one_object_a_line(pulp, heartbeat: Path) -> None:
    host = pulp("run", heartbeat, "--log-format", "json")
    host.wait_for("step heartbeat")
    host.stop()

    records = [json.loads(line) for line in host.lines]
    assert {"level": "INFO", "msg": "probe config marker", "cell": "heartbeat", "marker": 424242}.items() <= next(
        record.items() for record in records if record["msg"] == "probe config marker"
    )
    assert all(record["time"].endswith("Z") for record in records)


def test_only_errors_are_logged_when_asked(pulp, heartbeat: Path, cell: Callable[..., Path]) -> None:
    host = pulp("run", heartbeat, cell("trap_init"), "--log-level", "error")
    host.wait_for("init failed")

    assert host.stop() == 0
    assert len(host.lines) == 1


def test_several_cells_and_kinds_of_paths_run_together(serve, echo: Path, heartbeat: Path) -> None:
    host = serve(echo, heartbeat / "pulp.cell.toml")
    host.wait_for('msg="cell ready" cell=heartbeat')
    host.wait_for('msg="cell ready" cell=echo')

    assert host.request("GET", "/echo/x") == (200, b"x")


def test_manifests_are_repeated_and_separated_by_commas(pulp, cell: Callable[..., Path]) -> None:
    first, second, third = (cell("minimal", name=name) / "pulp.cell.toml" for name in ("one", "two", "three"))
    host = pulp("-manifest", f" {first} ,,{second}", f"--manifest={third}", "left", "-over")

    for name in ("one", "two", "three"):
        host.wait_for(f'"cell ready" cell={name} ')
    boots = [line.partition("cell=")[2].split()[0] for line in host.lines if "pulp boot" in line]
    assert boots == ["one", "two", "three"]


def test_the_environment_beats_the_flag_for_the_port(pulp, echo: Path) -> None:
    host = pulp("run", echo, "--http-port", "1", env={"HTTP_PORT": "127.0.0.1:0"})

    assert "addr=127.0.0.1:" in host.wait_for("http server started")


def test_an_empty_variable_means_the_default_port_whatever_the_flag_says(pulp, echo: Path) -> None:
    host = pulp("run", echo, "--http-port", "1", env={"HTTP_PORT": ""})

    host.wait_for(":8080")  # as its address, or as the one that somebody else has


def test_a_cell_is_told_the_port(pulp, cell: Callable[..., Path], wasm: Callable[[str], bytes]) -> None:
    """`HTTP_PORT` reaches the guest's environment, from the flag too."""
    text = """(module
      (import "wasi_snapshot_preview1" "environ_get" (func $get (param i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
      (memory (export "memory") 1)
      (func (export "pulp_alloc") (param i32) (result i32) (i32.const 4096))
      (func (export "pulp_init") (param i32 i32) (result i32)
        (drop (call $get (i32.const 0) (i32.const 1024)))
        (i32.store (i32.const 512) (i32.const 1024))
        (i32.store (i32.const 516) (i32.const 14))
        (drop (call $write (i32.const 1) (i32.const 512) (i32.const 1) (i32.const 520)))
        (i32.const 0))
      (func (export "pulp_step") (param i32 i32) (result i32) (i32.const 0))
      (func (export "pulp_shutdown") (result i32) (i32.const 0)))"""
    host = pulp("run", cell(wasm(text), name="teller"), "--http-port", "4321", env={"TZ": ""})

    host.wait_for("step heartbeat")
    assert host.stop() == 0
    assert 'msg="HTTP_PORT=4321"' in host.log


def test_a_reader_that_leaves_does_not_end_the_host(environment, tmp_path, heartbeat: Path) -> None:
    command = [sys.executable, "-P", "-c", "from pulp_runtime.cli import main; main()", "run", str(heartbeat)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, cwd=tmp_path
    ) as host:
        assert b"pulp boot" in host.stdout.readline()
        host.stdout.close()
        caught = ""
        while not int(caught or "0", 16) >> (signal.SIGTERM - 1) & 1:
            caught = Path(f"/proc/{host.pid}/status").read_text().partition("SigCgt:")[2].split()[0]
        host.send_signal(signal.SIGTERM)
        assert host.wait(20) == 0
        assert host.stderr.read() == b""


@pytest.mark.parametrize("locale", ["C", "POSIX", "en_US.ISO-8859-1"])
def test_no_locale_costs_a_line(pulp, cell: Callable[..., Path], locale: str) -> None:
    failing, waiting = cell("trap_init"), cell("minimal", 'depends_on = ["trap-init"]')
    host = pulp("run", failing, waiting, env={"LC_ALL": locale, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"})

    assert host.end() == 1
    assert any("dependency failed" in line for line in host.failures)
    assert host.errors == ""


@pytest.fixture
def terminal(environment: dict[str, str], tmp_path: Path):
    """Return `terminal(arguments…, until=bytes)`: what the command prints on a terminal, stopped then."""

    def run(*arguments: object, until: bytes) -> bytes:
        master, slave = pty.openpty()
        command = [sys.executable, "-P", "-c", "from pulp_runtime.cli import main; main()", *map(str, arguments)]
        with subprocess.Popen(command, stdout=slave, stderr=slave, env=environment, cwd=tmp_path) as process:
            os.close(slave)
            output = b""
            end = time.monotonic() + 20
            while time.monotonic() < end:
                if select.select([master], [], [], 1)[0]:
                    try:
                        output += os.read(master, 65536)
                    except OSError:  # the other side is closed
                        break
                if until in output and process.poll() is None:
                    until = b"\0never"
                    process.terminate()
            process.kill()
        os.close(master)
        return output

    return run


def test_a_terminal_gets_lines_for_people(terminal, heartbeat: Path) -> None:
    output = terminal("run", heartbeat, until=b"step heartbeat")

    assert re.search(rb"\x1b\[2m\d\d:\d\d:\d\d\x1b\[0m \x1b\[36mINFO \x1b\[0m cell ready  \x1b\[2mcell=", output)
    assert b"time=" not in output
    assert output.rstrip().endswith(b"pulp exit clean")


def test_a_cell_cannot_steer_a_terminal_nor_write_a_line_of_its_own(
    terminal, cell: Callable[..., Path], wasm: Callable[[str], bytes]
) -> None:
    """Threat 45: what a cell writes is escaped, and carries its name."""
    text = r"""(module
      (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
      (memory (export "memory") 1)
      (data (i32.const 1024) "\1b[2J\1b]0;owned\07\c2\9b31m\e2\80\ae fine\0d12:00:00 INFO pulp exit clean\0a%s {}\0a")
      (func (export "pulp_alloc") (param i32) (result i32) (i32.const 4096))
      (func (export "pulp_init") (param i32 i32) (result i32)
        (i32.store (i32.const 512) (i32.const 1024))
        (i32.store (i32.const 516) (i32.const 67))
        (drop (call $write (i32.const 1) (i32.const 512) (i32.const 1) (i32.const 520)))
        (i32.const 0))
      (func (export "pulp_step") (param i32 i32) (result i32) (i32.const 0))
      (func (export "pulp_shutdown") (result i32) (i32.const 0)))"""
    output = terminal("run", cell(wasm(text), name="evil"), until=b"step heartbeat")

    lines = output.decode().splitlines()
    ours = [line for line in lines if "owned" in line]
    assert len(ours) == 1
    assert "cell=\x1b[0mevil" in ours[0]
    assert not re.search(r"\x1b(?!\[(2|0|31|33|36)m)|\x07|\x9b|\u202e", output.decode())
    assert sum("pulp exit clean" in line and "owned" not in line for line in lines) == 1
    assert any("%s {}" in line for line in lines)
