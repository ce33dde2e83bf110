"""`pulp exec`: run a WASI program on the terminal, once.

    pulp exec --dir . --env LANG=C hello.wasm one two

It sees the folders that are named, its arguments and its variables, and nothing else of the machine. Its standard
streams are the terminal's, or whatever the shell put in their place.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

import click

from pulp_runtime import log
from pulp_runtime.errors import LoadError, ManifestError
from pulp_runtime.wasi import Inherited, RealFolder

if TYPE_CHECKING:
    from pulp_runtime.ext import Run

EXIT_NOT_A_PROGRAM: Final = 126
EXIT_NO_FILE: Final = 127
EXIT_TRAP: Final = 134
MAX_STATUS: Final = 255
_TOLD: Final = frozenset({"load failed", "daemon ended", "cell is down: no more restarts"})
"""Log records that say what the command itself says at its end."""
_QUIET: Final = ("SIGINT", "SIGTERM", "SIGPIPE")


def execute(
    wasm: str,
    args: Sequence[str],
    *,
    folders: Sequence[str],
    environ: Sequence[str],
    grants: Sequence[str],
    storage_root: str,
) -> NoReturn:
    """Run the program; end the process with its status.

    Args:
        wasm: its file.
        args: its arguments.
        folders: each `HOST` or `HOST::GUEST`.
        environ: each `NAME=VALUE`.
        grants: what of the cloud it may touch, each as `kv.local=rw`.
        storage_root: where that is kept.

    Raises:
        click.BadParameter: one of them makes no sense.
    """
    mounts = dict(map(_mount, folders))
    hides = any(name.strip("./") == "" for name in mounts)  # libraries take these for the root
    if hides and grants:
        hint = "a folder as / or . hides what is granted, which is below /beta; write for example .::/work"
        raise click.BadParameter(hint, param_hint="--dir")
    variables = dict(map(_variable, environ))
    log.configure("text", level="warning", stream=sys.stderr)
    logging.getLogger("pulp").handlers[0].addFilter(lambda record: record.getMessage() not in _TOLD)
    for name in _QUIET:  # a program on a terminal ends when its user, or the next one in the pipeline, says so
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_DFL)
    from pulp_runtime.cli.once import run_once  # the engine takes most of the time a start takes

    gc.freeze()
    gc.enable()

    def prepare(run: Run) -> None:
        run.args[:] = (wasm, *args)
        run.environ.clear()
        run.environ.update(variables)
        run.stdin, run.stdout, run.stderr = Inherited(0), Inherited(1), Inherited(2)
        run.tree.children.update(mounts)
        run.preopens[:] = mounts if hides else (*mounts, "/")

    if not os.path.isfile(wasm):
        _end(f"{wasm}: no such file", EXIT_NO_FILE)
    try:
        outcome = run_once(Path(wasm), prepare, grants=grants, storage_root=storage_root)
    except ManifestError as error:
        raise click.BadParameter(error.reason.removeprefix("validate manifest: "), param_hint="--grant") from None
    except LoadError as error:
        _end(str(error), EXIT_NOT_A_PROGRAM)
    if outcome.status is None:
        _end(outcome.error, EXIT_TRAP)
    sys.exit(min(outcome.status, MAX_STATUS))


def _end(message: str, status: int) -> NoReturn:
    click.echo(f"pulp exec: {message}", err=True)
    sys.exit(status)


def _mount(word: str) -> tuple[str, RealFolder]:
    """Return a folder and the name the program finds it under."""
    host, given, guest = word.partition("::")
    if not os.path.isdir(host):
        raise click.BadParameter(f"{host or word!r} is no folder; write HOST or HOST::GUEST", param_hint="--dir")
    return (guest or "/" if given else host), RealFolder(host)


def _variable(word: str) -> tuple[str, str]:
    name, given, value = word.partition("=")
    if not name or not given:
        raise click.BadParameter(f"{word!r}: write NAME=VALUE", param_hint="--env")
    return name, value
