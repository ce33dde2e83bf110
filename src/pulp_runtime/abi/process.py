"""Records of `spawn.process`: a program to run, and what came of it."""

from __future__ import annotations

from typing import Annotated

import msgspec

U32 = Annotated[int, msgspec.Meta(ge=0, le=0xFFFF_FFFF)]


class ProcessRun(msgspec.Struct, kw_only=True, frozen=True):
    """A program that a cell wants to run.

    Attributes:
        argv: the program and its arguments; no shell reads them.
        dir: where it begins; the host's own folder when empty.
        env: what its environment has beside the host's share, or None.
        timeout_ms: 300,000 for 0, at most 3,600,000; 2**32-1 for no deadline.
    """

    argv: list[str] | None = None
    dir: str = ""
    env: dict[str, str] | None = None
    timeout_ms: U32 = 0


class ProcessResult(msgspec.Struct, frozen=True, omit_defaults=True):
    """What came of it.

    Attributes:
        exit_code: 0..255; -1 when a signal ended it, or it was never started.
        stdout: what it wrote to standard output.
        stderr: what it wrote to standard error.
        error: what went wrong; left out when nothing did.
    """

    exit_code: int
    stdout: bytes
    stderr: bytes
    error: str = ""
