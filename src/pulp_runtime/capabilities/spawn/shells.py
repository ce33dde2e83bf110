"""Which programs a cell may open a terminal for, and how they are started."""

from __future__ import annotations

import os
import shlex
from typing import Annotated, Final

import msgspec

from pulp_runtime.abi.pty import PtyOpen
from pulp_runtime.capabilities.operator import Variable
from pulp_runtime.capabilities.spawn.permits import Programs, Refused, searched
from pulp_runtime.ext import Errno, HostError

AGENT: Final = "agent"
MAX_ARGUMENT_BYTES: Final = 128 * 1024

Count = Annotated[int, msgspec.Meta(ge=1, le=4096)]


class PtySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an operator may set.

    Attributes:
        allow_shells: names or absolute paths of programs that cells may open a terminal for, `agent` for the agent;
            none when empty.
        run_roots: folders in which they may begin when a cell names one.
        agent: the command that `agent` stands for.
        pass_env: variables of the host that they get, beside a few that are no secrets; `*` stands for anything.
        max_per_cell: terminals of one cell.
        max_total: terminals of all cells together.
    """

    allow_shells: tuple[str, ...] = ()
    run_roots: tuple[str, ...] = ()
    agent: str = "claude"
    pass_env: tuple[str, ...] = ()
    max_per_cell: Count = 16
    max_total: Count = 128


VARIABLES: Final = {
    "allow_shells": Variable("PTY_ALLOW_SHELLS"),
    "run_roots": Variable("PTY_RUN_ROOTS", os.pathsep),
    "agent": Variable("PROJX_AGENT_CMD"),
    "pass_env": Variable("PTY_PASS_ENV"),
    "max_per_cell": Variable("PTY_MAX_PER_CELL"),
    "max_total": Variable("PTY_MAX_TOTAL"),
}


class PtyCellSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a cell's manifest may set.

    Attributes:
        allow_shells: of what the operator allows, only these.
    """

    allow_shells: tuple[str, ...] | None = None


class Shells:
    """What one cell may have.

    Args:
        settings: the operator's.
        own: the cell's.

    Raises:
        ExtensionError: an entry of a list means nothing.
    """

    def __init__(self, settings: PtySettings, own: PtyCellSettings) -> None:
        self._agent: Final = settings.agent
        self._lists: Final = [Programs(settings.allow_shells, "allow_shells")]
        if own.allow_shells is not None:
            self._lists.append(Programs(own.allow_shells, '[settings."spawn.pty"] allow_shells'))

    def argv(self, asked: PtyOpen) -> list[str]:
        """Return the file to run for what a cell asks, and its arguments.

        Raises:
            Refused: it is not allowed.
            HostError: `FAILED` when it is, but is not there, or its arguments cannot be.
        """
        args = asked.args or []
        size = sum(len(text.encode(errors="replace")) for text in args)
        if any("\0" in text for text in args) or size > MAX_ARGUMENT_BYTES:
            raise HostError(Errno.FAILED, "args are too long or have NUL in them")
        if asked.shell == AGENT:
            return [*self._agents(), *args]
        return [self._find(asked.shell) if asked.shell else self._default(), *args]

    def _agents(self) -> list[str]:
        self._allowed(AGENT)
        words = shlex.split(self._agent)
        program = searched(words[0]) if words else ""
        if not program:
            raise HostError(Errno.FAILED, f"there is no agent {self._agent!r}")
        return [program, *words[1:]]

    def _find(self, wanted: str) -> str:
        program = self._allowed(wanted)
        if not program or not os.access(program, os.X_OK):
            raise HostError(Errno.FAILED, f"{wanted}: there is no such program")
        return program

    def _default(self) -> str:
        """Return the first of the usual shells that is allowed and there."""
        problem: Refused | HostError = Refused("no shell is allowed")
        for name in filter(None, (os.environ.get("SHELL"), "bash", "/bin/sh")):
            try:
                return self._find(name)
            except HostError as error:
                problem = error
            except Refused:
                continue
        raise problem

    def _allowed(self, wanted: str) -> str:
        first, *others = [programs.find(wanted) for programs in self._lists]
        return first if all(other == first for other in others) else ""
