"""Verbs and flags, and nothing of what they do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import click

from pulp_runtime.cli.serve import HostOptions, serve, what_to_run

_FORMATS = ("auto", "text", "json")
_LEVELS = ("debug", "info", "warning", "error")
_Command = Callable[..., Any]


def run(arguments: list[str]) -> None:
    """Run the verb that comes first, or the flags of a host."""
    if arguments and arguments[0] == "ctl":
        from pulp_runtime.cli.ctl import ctl  # what serves needs none of it

        ctl.main(arguments[1:], prog_name="pulp ctl")
    elif arguments and (arguments[0] in _verbs.commands or arguments[0].lstrip("-") == "version"):
        _verbs.main(["--version"] if arguments[0].startswith("-") else arguments, prog_name="pulp")
    else:
        _host.main(arguments, prog_name="pulp")


class _Verb(click.Command):
    """A command whose options may be written in Go's way too: `-name value`, `-name=value`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Rewrite the options with two dashes and parse them; every mistake shows the usage."""
        try:
            return super().parse_args(ctx, list(_two_dashes(self, args)))
        except click.UsageError as error:
            error.ctx = error.ctx or ctx
            raise


class _Flags(_Verb):
    """The classic command line: flags, up to the first word that is none. What follows is ignored, as in Go."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the flags; keep the first word behind them, which may be a verb that somebody misspelled."""
        flags, rest = _before_first_word(self, args)
        ctx.obj = rest[0] if rest else ""
        return super().parse_args(ctx, flags)

    def format_usage(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write both ways of starting cells."""
        formatter.write_usage("pulp", "run PATH... [OPTIONS]")
        formatter.write_usage("pulp", "-manifest PATH [OPTIONS]", prefix="       ")


class _Exec(_Verb):
    """A verb whose own options end at the first word; what follows is a program's, and stays as it is."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the options before the first word."""
        at = 0
        takes_value = _options(self)
        while at < len(args) and args[at].startswith("-") and args[at] not in ("-", "--"):
            at += 2 if takes_value.get(_name(args[at])) and "=" not in args[at] else 1
        rest = args[at + 1 :] if args[at : at + 1] == ["--"] else args[at:]
        return super().parse_args(ctx, [*args[:at], "--", *rest])


def _options(command: click.Command) -> dict[str, bool]:
    """Return the options of a command without dashes, and whether each takes a value."""
    found = {"help": False, "h": False}
    for option in command.params:
        if isinstance(option, click.Option):
            found.update((name.lstrip("-"), not option.is_flag) for name in option.opts)
    return found


def _before_first_word(command: click.Command, arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split the arguments before the first one that is neither a flag nor a flag's value."""
    takes_value = _options(command)
    at = 0
    while at < len(arguments) and arguments[at].startswith("-") and arguments[at] not in ("-", "--"):
        at += 2 if takes_value.get(_name(arguments[at])) and "=" not in arguments[at] else 1
    return list(arguments[:at]), [word for word in arguments[at:] if word != "--"]


def _two_dashes(command: click.Command, arguments: Sequence[str]) -> Iterator[str]:
    """Write `-name` as `--name`, `-h` as `--help`, and a flag's `=true` as the flag alone."""
    takes_value = _options(command)
    words = iter(arguments)
    for word in words:
        if word == "--":
            yield from (word, *words)
        elif not word.startswith("-") or word == "-":
            yield word
        else:
            name = _name(word)
            _, given, value = word.partition("=")
            if name in takes_value and not takes_value[name]:
                if value.lower() not in ("false", "f", "0"):
                    yield "--help" if name == "h" else f"--{name}"
            else:
                yield f"--{name}{given}{value}"
                if takes_value.get(name) and not given:
                    yield from _one(words)


def _one(words: Iterator[str]) -> Iterator[str]:
    for word in words:
        yield word
        return


def _name(word: str) -> str:
    return word.partition("=")[0].removeprefix("-").removeprefix("-")


_SHARED = (
    click.option(
        "--http-port",
        "http_port",
        metavar="PORT",
        help="Listener port or host:port (8080); $HTTP_PORT wins.",
    ),
    click.option(
        "--config",
        "config",
        default="",
        metavar="FILE",
        help="Settings of the listener and of capabilities, a TOML table for each.",
    ),
    click.option(
        "--http-cert",
        "http_cert",
        metavar="FILE",
        help="Speak TLS with this certificate chain; $HTTP_CERT wins. SIGHUP has it read again.",
    ),
    click.option("--http-key", "http_key", metavar="FILE", help="The certificate's key; $HTTP_KEY wins."),
    click.option(
        "--http2",
        "http2",
        is_flag=True,
        help="HTTP/2 without TLS too, for clients that know beforehand.",
    ),
    click.option(
        "--storage-root",
        "storage_root",
        default="./data",
        metavar="DIR",
        show_default=True,
        help="Folder for the cells' data.",
    ),
    click.option(
        "--log-format",
        "log_format",
        type=click.Choice(_FORMATS),
        default="auto",
        show_default=True,
        help="auto: readable on a terminal, key=value elsewhere.",
    ),
    click.option(
        "--log-level",
        "log_level",
        type=click.Choice(_LEVELS),
        default="info",
        show_default=True,
        help="Least level that is logged.",
    ),
)
"""The options that every way of serving has."""


def _shared(command: _Command) -> _Command:
    for option in reversed(_SHARED):
        command = option(command)
    return command


@click.command(cls=_Flags)
@click.option(
    "--manifest",
    "manifests",
    multiple=True,
    metavar="PATH",
    help="A cell's manifest; repeatable, or several separated by commas.",
)
@click.option("--app", "app", default="", metavar="PATH", help="An application's manifest, or a folder with one.")
@click.option("--host", "host", default="", metavar="PATH", help="The manifest of a host, or a folder with one.")
@click.option("--validate-host", "validate_host", is_flag=True, help="With --host: check everything, start nothing.")
@_shared
@click.pass_context
def _host(ctx: click.Context, /, manifests: tuple[str, ...], **options: Any) -> None:
    """Run WebAssembly cells until SIGINT or SIGTERM, each with exactly the capabilities its manifest declares.

    PATH is a manifest, or with `run` also a folder that holds one: of a cell; or of one application, or one host of
    several applications, which run alone.
    Every option may be written with one dash or two.
    """
    paths = [path for given in manifests for path in map(str.strip, given.split(",")) if path]
    serve(HostOptions(manifests=tuple(paths), ignored=ctx.obj, **options))


@click.group()
@click.version_option(package_name="pulp-runtime", prog_name="pulp", message="%(prog)s %(version)s")
def _verbs() -> None:
    """Hold the verbs; what the command does without one is in `_host`."""


@_verbs.command("run", cls=_Verb)
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option(
    "--grant",
    "grants",
    multiple=True,
    metavar="WHAT",
    help="What a module without a manifest may touch: kv.local=rw, blob.photos=ro, queue.orders=w, secrets.NAME.",
)
@_shared
def _run(paths: tuple[str, ...], grants: tuple[str, ...], **shared: Any) -> None:
    """Run the cells at PATH...: manifests, or folders with a pulp.cell.toml. Or an application, or a host, alone.

    A file that ends in .wasm needs no manifest: it is a program that answers every request.
    """
    serve(HostOptions(**what_to_run(paths), grants=grants, **shared))


@_verbs.command("exec", cls=_Exec)
@click.option("--dir", "folders", multiple=True, metavar="HOST[::GUEST]", help="A folder it may use; repeatable.")
@click.option("--env", "environ", multiple=True, metavar="NAME=VALUE", help="A variable it sees; repeatable.")
@click.option("--grant", "grants", multiple=True, metavar="WHAT", help="As with run: kv.local=rw, secrets.NAME, …")
@click.option("--storage-root", "storage_root", default="./data", metavar="DIR", help="Where that is kept.")
@click.argument("wasm", metavar="PROGRAM")
@click.argument("args", nargs=-1, metavar="[ARGS]...", type=click.UNPROCESSED)
def _exec(wasm: str, args: tuple[str, ...], **options: Any) -> None:
    """Run PROGRAM, a WASI command (.wasm), once on this terminal, and end with its status."""
    from pulp_runtime.cli.exec import execute

    execute(wasm, args, **options)


@_verbs.command("inspect", cls=_Verb)
@click.argument("path", metavar="PATH")
@click.option("--grant", "grants", multiple=True, metavar="WHAT", help="As with run, for a module without a manifest.")
@click.option("--config", "config", default="", metavar="FILE", help="The operator's settings for capabilities.")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON.")
def _inspect(path: str, grants: tuple[str, ...], config: str, as_json: bool) -> None:
    """Say what the cell at PATH is, asks for and would be given; start nothing."""
    from pulp_runtime.cli.config import read_config
    from pulp_runtime.cli.inspect import inspect
    from pulp_runtime.errors import PulpError

    try:
        inspect(path, read_config(config) if config else {}, grants, as_json=as_json)
    except PulpError as error:
        raise click.ClickException(str(error)) from None


_storage_root = click.option(
    "--storage-root",
    "storage_root",
    default="./data",
    metavar="DIR",
    show_default=True,
    help="Folder for the cells' data.",
)


@_verbs.command("backup", cls=_Verb)
@click.argument("name", metavar="CELL")
@click.option("--output", "output", default="", metavar="FILE", help="The backup; CELL.tar by default.")
@click.option("--namespace", "namespace", is_flag=True, help="CELL is a namespace that cells share in storage.kv.")
@_storage_root
def _backup(name: str, output: str, namespace: bool, storage_root: str) -> None:
    """Copy what CELL keeps, database, keys and files, into one file. The cell may run meanwhile."""
    from pulp_runtime.cli.backup import backup

    backup(name, output=output, namespace=namespace, storage_root=storage_root)


@_verbs.command("restore", cls=_Verb)
@click.argument("file", metavar="FILE")
@click.option("--cell", "cell", default="", metavar="NAME", help="Restore as this cell, or as this namespace.")
@click.option("--replace", "replace", is_flag=True, help="Put it in the place of what is there, which is kept.")
@_storage_root
def _restore(file: str, cell: str, replace: bool, storage_root: str) -> None:
    """Put back what `pulp backup` wrote into FILE. No host may run the cell meanwhile."""
    from pulp_runtime.cli.restore import restore

    restore(file, name=cell, replace=replace, storage_root=storage_root)
