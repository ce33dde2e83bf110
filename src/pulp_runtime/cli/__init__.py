"""The command `pulp`.

The first argument decides: a verb (`run`, `--version`), or the flags of a host in the classic form
(`pulp -manifest cell.toml -http-port 9090`). Signals are looked after from the first line on: one that comes while the
rest is still being imported ends the process quietly.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and end the process with its exit code."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _leave)
    gc.disable()  # what is imported stays: looking for garbage in it is a twentieth of a start
    from pulp_runtime.cli.command import run  # after the signals, because importing takes most of a start

    run(list(sys.argv[1:] if arguments is None else arguments))


def _leave(_number: int, _frame: FrameType | None) -> None:
    """End before anything has been started: there is nothing to clean up.

    At once, because an exception could come out anywhere, in the middle of an import too.
    """
    os._exit(EXIT_OK)
