"""Verbs and flags, and nothing of what they do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import click

from pulp_runtime.cli.serve import HostOptions, serve

_FORMATS = ("auto", "text", "json")
_Command = Callable[..., Any]


def run(arguments: list[str]) -> None:
    """Run the verb that comes first, or the flags of a host."""
    verbs = _verbs.commands
    if arguments and (arguments[0] in verbs or arguments[0] == "--version"):
        _verbs.main(arguments, prog_name="pulp")
    else:
        _host.main(_before_first_word(arguments), prog_name="pulp")


def _before_first_word(arguments: Sequence[str]) -> list[str]:
    """Return the flags up to the first word that is neither a flag nor a flag's value; the rest is ignored.

    Go's flag package, whose command line this is, stops there too.
    """
    takes_value = {name for option in _host.params for name in option.opts if not getattr(option, "is_flag", False)}
    kept: list[str] = []
    at = 0
    while at < len(arguments) and arguments[at].startswith("-") and arguments[at] not in ("-", "--"):
        width = 2 if arguments[at] in takes_value else 1
        kept += arguments[at : at + width]
        at += width
    return kept


def _both(name: str) -> tuple[str, str]:
    """Return an option's two spellings: one dash, as the seeds of Pulp write it, and two."""
    return f"-{name}", f"--{name}"


def _shared(command: _Command) -> _Command:
    """Add the options that every way of serving has."""
    for option in reversed(
        (
            click.option(
                *_both("http-port"),
                "http_port",
                metavar="PORT",
                help="Listener port or host:port (8080); $HTTP_PORT wins.",
            ),
            click.option(
                *_both("storage-root"),
                "storage_root",
                default="./data",
                metavar="DIR",
                show_default=True,
                help="Folder for the cells' data.",
            ),
            click.option(
                *_both("log-format"),
                "log_format",
                type=click.Choice(_FORMATS),
                default="auto",
                show_default=True,
                help="auto: readable on a terminal, key=value elsewhere.",
            ),
            click.option(
                *_both("log-level"),
                "log_level",
                type=click.Choice(["debug", "info", "warning", "error"]),
                default="info",
                show_default=True,
                help="Least level that is logged.",
            ),
        )
    ):
        command = option(command)
    return command


@click.command(context_settings={"help_option_names": ["-h", "-help", "--help"]})
@click.option(
    *_both("manifest"),
    "manifests",
    multiple=True,
    metavar="PATH",
    help="A cell's manifest; repeatable, or several separated by commas.",
)
@click.option(*_both("app"), "app", default="", metavar="PATH", help="An application (not in this version).")
@click.option(*_both("host"), "host", default="", metavar="PATH", help="Several applications (not in this version).")
@_shared
def _host(manifests: tuple[str, ...], app: str, host: str, **shared: Any) -> None:
    """Run cells until SIGINT or SIGTERM.

    pulp -manifest echo/pulp.cell.toml [-manifest …] [-http-port 9090]

    For people there is: pulp run PATH…  (see pulp run --help)
    """
    paths = [path for given in manifests for path in map(str.strip, given.split(",")) if path]
    serve(HostOptions(manifests=tuple(paths), app=app, host=host, **shared))


@click.group()
@click.version_option(package_name="pulp-runtime", prog_name="pulp")
def _verbs() -> None:
    """Run WebAssembly cells, each with exactly the capabilities its manifest declares."""


@_verbs.command("run")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@_shared
def _run(paths: tuple[str, ...], **shared: Any) -> None:
    """Run the cells at PATH...: manifests, or folders with a pulp.cell.toml."""
    serve(HostOptions(manifests=paths, **shared))
