"""Run a cell in a test: recorded events in, replies and a transcript out, no sockets.

    from pulp_runtime.testing import Fake, load

    def greet(name: str) -> None: ...

    with load("greet-cell", capabilities=[Fake("demo.greet", demo_greet=greet)]) as cell:
        cell.init()
        assert cell.transcript == ["==> demo_greet('world')", "<== 0"]

`load` takes a manifest, a module or WebAssembly text; `guest` makes a cell out of the host functions you want to call
with words of your own; `FakeHost` is what the hooks of a capability see. A pytest plugin that comes with the package
offers the same as the fixtures `pulp_cell` and `pulp_env`. Names are imported when they are first used: a test run
that uses none pays for none.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pulp_runtime.testing.cell import CellUnderTest as CellUnderTest
    from pulp_runtime.testing.cell import load as load
    from pulp_runtime.testing.fake import Fake as Fake
    from pulp_runtime.testing.host import FakeHost as FakeHost
    from pulp_runtime.testing.lines import Logged as Logged
    from pulp_runtime.testing.tape import Call as Call
    from pulp_runtime.testing.wat import HOSTILE_RANGES as HOSTILE_RANGES
    from pulp_runtime.testing.wat import guest as guest
    from pulp_runtime.testing.wat import words_guest as words_guest

_HOMES = {
    "HOSTILE_RANGES": "wat",
    "Call": "tape",
    "CellUnderTest": "cell",
    "Fake": "fake",
    "FakeHost": "host",
    "Logged": "lines",
    "guest": "wat",
    "load": "cell",
    "words_guest": "wat",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    """Import a public name from where it lives."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value
