"""What a user gets wrong is said in one line that names the file and what to do; nothing ever ends in a traceback."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

Cell = Callable[..., Path]


def fails(host) -> list[str]:
    """Return the lines of a start that failed, after checking that nothing but lines came."""
    assert host.end() == 1
    assert host.errors == ""
    assert "Traceback" not in host.log
    return host.failures


def fails_alone(host) -> str:
    """Return the one line about the only cell there was."""
    line, last = fails(host)
    assert last == 'level=ERROR msg="all cells failed to start"'
    return line


def test_a_misspelled_setting_is_named_with_the_nearest(pulp, cell: Cell) -> None:
    folder = cell("minimal", 'capabilites = ["transport.http.inbound"]')

    (line,) = fails(pulp("run", folder))
    assert 'msg="manifest load failed"' in line
    assert f"{folder}/pulp.cell.toml" in line
    assert "write capabilities instead of capabilites" in line


@pytest.mark.parametrize("name", ["nowhere/pulp.cell.toml", "nowhere"])
def test_a_manifest_that_is_not_there(pulp, tmp_path: Path, name: str) -> None:
    (line,) = fails(pulp("run", tmp_path / name))

    assert f"{tmp_path / name}: read manifest: No such file or directory" in line


def test_a_folder_without_a_manifest(pulp, tmp_path: Path) -> None:
    (line,) = fails(pulp("run", tmp_path))

    assert "no pulp.cell.toml or pulp.plugin.toml in this directory" in line


def test_a_manifest_that_is_something_else(pulp, cell: Cell) -> None:
    folder = cell("minimal")

    (folder / "cell.wasm").rename(folder / "cell.bin")
    (line,) = fails(pulp("run", folder / "cell.bin"))
    assert f"{folder}/cell.bin: parse manifest" in line or f"{folder}/cell.bin: read manifest" in line


def test_a_cell_without_its_manifest(pulp, cell: Cell) -> None:
    folder = cell("minimal")

    line = fails_alone(pulp("run", folder / "cell.wasm"))
    assert f"{folder}/cell.wasm: is a cell, which needs a manifest; run the folder with its pulp.cell.toml" in line


def test_a_module_that_is_not_built(pulp, cell: Cell) -> None:
    folder = cell(None, name="unbuilt")

    line = fails_alone(pulp("run", folder))
    assert f"read wasm: {folder}/cell.wasm: No such file or directory; build the module" in line


def test_a_folder_as_a_module(pulp, cell: Cell) -> None:
    folder = cell(None, 'wasm = "."', name="unbuilt")

    line = fails_alone(pulp("run", folder))
    assert f"{folder}: Is a directory" in line


@pytest.mark.parametrize(
    ("data", "told"),
    [
        pytest.param(b"hello, I am text", "is not a WebAssembly module", id="text"),
        pytest.param(b"", "is empty", id="an empty file"),
        pytest.param(b"(module)", "translate it with wat2wasm first", id="WebAssembly text"),
        pytest.param(b"\x7fELF....", "is a native program", id="a native program"),
        pytest.param(b"\0asm\x01\0\0\0\xff\xff\xff", "compile wasm", id="a broken module"),
    ],
)
def test_a_file_that_is_no_module(pulp, cell: Cell, data: bytes, told: str) -> None:
    folder = cell(data)

    line = fails_alone(pulp("run", folder))
    assert f"{folder}/cell.wasm" in line
    assert told in line


@pytest.mark.parametrize(
    ("guest", "told"),
    [
        ("no_memory", "exports no memory"),
        ("wrong_arity_step", "export pulp_step is (i32) -> i32; it must be (i32, i32) -> i32"),
        ("missing_step", "missing required exports: [pulp_step]"),
        ("unknown_import", "install the extension that provides it"),
        ("near_import", "did you mean http_register?"),
        ("env_import", "cells may import only from pulp and wasi_snapshot_preview1"),
        ("big_min_memory", "raise max_memory_pages to at least 5000"),
        ("trap_init", "pulp_init: wasm trap: wasm `unreachable` instruction executed"),
        ("refuse_init", "pulp_init returned 7: no such table: players"),
        ("refuse_init_silently", "pulp_init returned -1"),
        ("exit_start", "exit_code(3)"),
        ("no_alloc", "missing required exports: [pulp_alloc]"),
    ],
)
def test_a_module_that_is_no_cell(pulp, cell: Cell, guest: str, told: str) -> None:
    folder = cell(guest)

    line = fails_alone(pulp("run", folder))
    assert f"cell={guest.replace('_', '-')}" in line
    assert f"{folder}/cell.wasm" in line
    assert told in line


def test_a_call_of_a_capability_that_is_not_declared(pulp, cell: Cell) -> None:
    host = pulp("run", cell("http_any"))

    assert "pulp_init returned 99" in fails_alone(host)
    assert "function=http_register capability=transport.http.inbound" in host.wait_for("add the capability")


def test_an_unknown_capability_is_named_with_the_nearest(pulp, cell: Cell) -> None:
    line = fails_alone(pulp("run", cell("minimal", 'capabilities = ["transport.http.inbond"]')))

    assert "did you mean transport.http.inbound?" in line


def test_a_guest_that_never_leaves_init_is_stopped(pulp, cell: Cell) -> None:
    line = fails_alone(pulp("run", cell("spin_init", "call_timeout_ms = 50")))

    assert "pulp_init: stopped after 0.05 s" in line


def test_a_port_that_is_in_use(pulp, echo: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        (line,) = fails(pulp("run", echo, "--http-port", f"127.0.0.1:{port}"))

    assert "capability setup failed" in line
    assert f"cannot listen on 127.0.0.1:{port}: another program listens there" in line
    assert "choose another port" in line


@pytest.mark.parametrize("port", ["abc", "-1", "99999", "80x", "[::1", "localhost:"])
def test_a_port_that_is_none(pulp, echo: Path, port: str) -> None:
    (line,) = fails(pulp("run", echo, env={"HTTP_PORT": port}))

    assert "capability setup failed" in line
    assert "port" in line


def test_two_cells_of_one_name(pulp, cell: Cell, tmp_path: Path) -> None:
    first, second = cell("minimal"), cell("trap_step")
    (second / "pulp.cell.toml").write_text('name = "minimal"\nversion = "2"')

    (line,) = fails(pulp("run", first, second))
    assert f"{first}/pulp.cell.toml" in line
    assert f"{second}/pulp.cell.toml" in line
    assert "rename one of them" in line


def test_cells_that_wait_for_each_other(pulp, cell: Cell) -> None:
    (line,) = fails(
        pulp("run", cell("minimal", 'depends_on = ["b"]', name="a"), cell(b"", 'depends_on = ["a"]', name="b"))
    )

    assert "dependency cycle involving: a -> b -> a" in line


def test_a_cell_whose_dependency_failed_is_not_started(pulp, cell: Cell) -> None:
    first, second = fails(pulp("run", cell("trap_init"), cell("minimal", 'depends_on = ["trap-init"]')))[:2]

    assert "init failed" in first
    assert 'msg="cell init aborted — dependency failed" cell=minimal failed_dep=trap-init' in second


def test_a_good_cell_serves_beside_a_bad_one(serve, cell: Cell, echo: Path) -> None:
    host = serve(cell("trap_init"), echo)
    host.wait_until_ready("echo")

    assert host.request("GET", "/echo/still") == (200, b"still")
    assert host.stop() == 0
    assert len(host.failures) == 1
    assert "all cells failed" not in host.log


def test_all_cells_bad_ends_the_host(pulp, cell: Cell) -> None:
    lines = fails(pulp("run", cell("trap_init"), cell("no_memory")))

    assert len(lines) == 3
    assert lines[-1] == 'level=ERROR msg="all cells failed to start"'
