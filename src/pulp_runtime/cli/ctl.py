"""`pulp ctl`: speak to a host that runs here."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import click
import msgspec

from pulp_runtime.cli import EXIT_FAILED
from pulp_runtime.control.client import ControlFailed, ask, follow
from pulp_runtime.control.protocol import CellEntry, Reply, Request
from pulp_runtime.log import escape

_SOCKET = click.option("--socket", "path", default=None, metavar="PATH", help="$PULP_CTL_SOCK, else ./pulp.ctl.")
_JSON = click.option("--json", "as_json", is_flag=True, help="Print the reply as one line of JSON.")


@click.group("ctl")
def ctl() -> None:
    """Look at the cells of a running host, and stop, start, restart, reload or roll back one."""


@ctl.command()
@_JSON
@_SOCKET
def status(as_json: bool, path: str | None) -> None:
    """Show every cell: state, steps, restarts, and why it is where it is."""
    reply = _ask(Request(op="status"), path)
    if as_json:
        _print_json(reply.cells)
        return
    width = max([22, *(len(cell.name) for cell in reply.cells)]) + 2
    click.echo(f"{'CELL':<{width}}{'STATE':<12}{'VERSION':<12}{'STEPS':>12}  {'RESTARTS':>8}  {'WAITING':>7}  REASON")
    for cell in reply.cells:
        click.echo(_row(cell, width))


def _row(cell: CellEntry, width: int) -> str:
    return (
        f"{cell.name:<{width}}{cell.state:<12}{escape(cell.version):<12}{cell.steps:>12}  {cell.restarts:>8}  "
        f"{cell.waiting:>7}  {escape(cell.reason)}"
    ).rstrip()


def _add_operation(op: str, help_text: str) -> None:
    """Add a verb that names a cell and changes it."""

    @ctl.command(op, help=help_text)
    @click.argument("cell")
    @_JSON
    @_SOCKET
    def _verb(cell: str, as_json: bool, path: str | None) -> None:
        reply = _ask(Request(op=op, cell=cell), path)
        if as_json:
            _print_json({"ok": reply.ok, "changes": reply.changes})
            return
        for change in reply.changes:
            click.echo(escape(change))
        click.echo("ok")


_add_operation("shutdown", "Let one cell say goodbye, and close it.")
_add_operation("start", "Start a cell that is stopped, down or failed.")
_add_operation("restart", "Begin anew with a fresh instance; connections stay.")
_add_operation("reload", "Put the version on disk in the place of the one that runs; connections stay.")
_add_operation("rollback", "Put the version that ran before back.")


@ctl.command()
@click.argument("cell")
@click.option("--to", "to", default="", metavar="FILE", help="Write it there, not to the cell's own folder.")
@_SOCKET
def snapshot(cell: str, to: str, path: str | None) -> None:
    """Save the whole state of CELL between two events; see snapshotable in its manifest."""
    file = os.fsencode(os.path.abspath(to)) if to else b""
    for line in _ask(Request(op="snapshot", cell=cell, args=file), path).lines:
        click.echo(escape(line))


@ctl.command("shutdown_all")
@_SOCKET
def shutdown_all(path: str | None) -> None:
    """Stop every cell; the host then ends."""
    _ask(Request(op="shutdown_all"), path)
    click.echo("ok")


@ctl.command()
@click.argument("cell", default="")
@click.option("-n", "--lines", default=100, show_default=True, type=click.IntRange(0, 10_000), help="How many.")
@click.option("-f", "--follow", "go_on", is_flag=True, help="Go on with the lines that come.")
@_SOCKET
def logs(cell: str, lines: int, go_on: bool, path: str | None) -> None:
    """Show the last lines of the log, of one CELL, of the cells of an application, or of all."""
    with _errors_told():
        for reply in follow(Request(op="logs", cell=cell, lines=lines, follow=go_on), path):
            for line in reply.lines:
                click.echo(line)


@ctl.command()
@click.argument("cell")
@click.argument("function")
@click.argument("args", default="")
@_SOCKET
def call(cell: str, function: str, args: str, path: str | None) -> None:
    """Ask CELL for a FUNCTION it provides; ARGS are bytes, `-` reads them from standard input."""
    data = sys.stdin.buffer.read() if args == "-" else args.encode()
    sys.stdout.buffer.write(_ask(Request(op="call", cell=cell, function=function, args=data), path).result)


@ctl.command()
@_JSON
@_SOCKET
def metrics(as_json: bool, path: str | None) -> None:
    """Show what the host and its cells use."""
    found = _ask(Request(op="metrics"), path).metrics
    if as_json:
        _print_json(found)
        return
    for name, value in _flat(found):
        click.echo(f"{name:<40}{value}")


def _flat(values: dict[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _print_json(value: Any) -> None:
    click.echo(json.dumps(msgspec.to_builtins(value)))


def _ask(request: Request, path: str | None) -> Reply:
    with _errors_told():
        return ask(request, path)


@contextmanager
def _errors_told() -> Iterator[None]:
    try:
        yield
    except ControlFailed as error:
        click.echo(f"error: {escape(str(error))}", err=True)
        sys.exit(EXIT_FAILED)
    except KeyboardInterrupt:
        sys.exit(0)
