"""What a manifest says of a program that brings its own `_start`: how it is run, and what of the cloud it may touch."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import msgspec

FUNCTION: Final = "function"
DAEMON: Final = "daemon"


class Program(msgspec.Struct, frozen=True, gc=False):
    """How a program is run (spec/wasi-cloud §1, §2).

    Attributes:
        execution: `function`, a fresh instance for each request, or `daemon`, one for as long as it likes.
        routes: what it answers, each `METHOD /path`; `ANY` is every method.
        websockets: paths where a daemon takes WebSocket connections.
        max_instances: most runs of a function at once; more requests wait, and past the mailbox are refused.
        timeout_seconds: the most a whole run of a function may take.
        environ: its environment variables.
    """

    execution: str
    routes: tuple[str, ...] = ()
    websockets: tuple[str, ...] = ()
    max_instances: int = 32
    timeout_seconds: float = 10.0
    environ: Mapping[str, str] = MappingProxyType({})


class Grants(msgspec.Struct, frozen=True, gc=False):
    """What of the cloud a program may touch (spec/wasi-cloud §1); what is not named here is not there.

    Attributes:
        namespace: who shares: every program of the host with the same one; "" is the cell's name.
        kv: `ro` or `rw` by scope: `local`, `region`, `global`.
        blob: `ro` or `rw` by bucket.
        secrets: names.
        ipc: functions of siblings, each `cell.function`.
        queue: `r`, `w` or `rw` by topic.
    """

    namespace: str = ""
    kv: Mapping[str, str] = MappingProxyType({})
    blob: Mapping[str, str] = MappingProxyType({})
    secrets: tuple[str, ...] = ()
    ipc: tuple[str, ...] = ()
    queue: Mapping[str, str] = MappingProxyType({})
