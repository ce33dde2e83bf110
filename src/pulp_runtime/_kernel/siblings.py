"""Calls from cell to cell: `pulp_call` (spec/core §5).

    caller's guest ─ pulp_call ─▶ permission ─▶ the callee's lock ─▶ its pulp_on_call ─▶ the caller's pulp_alloc

All of it happens on the caller's thread, while the caller waits inside its import. A busy callee is waited for, in
the order of arrival and no longer than the caller's own deadline; a wait that could never end is refused at once.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping
from typing import Final

from pulp_runtime._kernel.instance import Instance
from pulp_runtime._kernel.runner import Runner
from pulp_runtime.errors import CallLoop, CellError, Errno, HostError
from pulp_runtime.ext import Capability, CellRef, Linker

NAME: Final = "core.call"
CALL: Final = "pulp_call"
APP_CALL: Final = "pulp_app_call_v1"

DEPTH: Final = 16
"""Cells in one chain of calls. Each may use its whole stack (1 MiB), and they share a worker's (32 MiB)."""
FOREIGN_DEPTH: Final = 4
"""The same for a chain that begins with a call from outside, on a thread of which we only know that it has 8 MiB."""
_KNOWN: Final = 4096
"""Grants that are remembered. Past it all are looked up again."""


class Siblings:
    """Who may call whom among the cells of one host, and the calls.

    Args:
        runners: the cells, by the address they are called at.
        callers: the same, by the id of who calls.
        turning: identifiers of the workers that are in a turn.
    """

    def __init__(self, runners: Mapping[str, Runner], callers: Mapping[str, Runner], turning: Collection[int]) -> None:
        self._runners: Final = runners
        self._callers: Final = callers
        self._turning: Final = turning
        self._granted: Final[dict[tuple[str, bytes, bytes], Runner]] = {}
        self._depth: Final = threading.local()

    def capability(self) -> Capability:
        """Return the capability every cell has."""
        return Capability(name=NAME, register=self._register, provider=__name__)

    def _register(self, linker: Linker, _cell: CellRef) -> None:
        linker.define(CALL, 8, self._call)
        linker.define(APP_CALL, 12, self._call_application)

    def _call_application(self, _guest: Instance, *words: int) -> int:
        """Answer calls to another application: there are none outside a host of several."""
        return Errno.FAILED if all(words[at] for at in (1, 3, 5, 7)) else Errno.EMPTY

    def _call(
        self,
        caller: Instance,
        target_ptr: int,
        target_len: int,
        name_ptr: int,
        name_len: int,
        args_ptr: int,
        args_len: int,
        resp_ptr_out: int,
        resp_len_out: int,
    ) -> int:
        if not target_len or not name_len:
            return Errno.EMPTY
        target, name = caller.read(target_ptr, target_len), caller.read(name_ptr, name_len)
        args = caller.memory.slice(args_ptr, args_len)
        if args is None:
            return Errno.FAULT
        runner = self._granted.get((caller.cell.id, target, name)) or self._grant(caller.cell, target, name)

        def take(response: memoryview) -> None:
            caller.deliver(response, resp_ptr_out, resp_len_out)

        depth = getattr(self._depth, "now", 0)
        try:
            if depth >= FOREIGN_DEPTH and depth >= self._most():
                raise CallLoop(runner.spec.name, f"the chain of calls is longer than {depth} cells")
            self._depth.now = depth + 1
            try:
                runner.ask(name, args, caller.seconds_left(), take, caller.blocking)
            finally:
                self._depth.now = depth
        except CellError as error:
            caller.cell.log.warning(
                "pulp_call target failed", target=_text(target), provider=_text(name), error=str(error)
            )
            return Errno.LOOP if isinstance(error, CallLoop) else Errno.FAILED
        return Errno.OK

    def _grant(self, caller: CellRef, target: bytes, name: bytes) -> Runner:
        """Return the callee if the caller may call this function of it: consumed by the one, provided by the other."""
        mine, runner = self._callers.get(caller.id), self._runners.get(_text(target))
        function = _text(name)
        if mine is None or runner is None or function not in mine.spec.consumes or function not in runner.spec.provides:
            caller.log.warning("pulp_call denied by manifest", target=_text(target), provider=function)
            raise HostError(Errno.DENIED, "not permitted by the manifests")
        if len(self._granted) >= _KNOWN:
            self._granted.clear()
        self._granted[caller.id, target, name] = runner
        return runner

    def _most(self) -> int:
        return DEPTH if threading.get_ident() in self._turning else FOREIGN_DEPTH

    def forget(self) -> None:
        """Look every grant up again: a manifest has changed."""
        self._granted.clear()


def _text(data: bytes) -> str:
    return data.decode(errors="replace")
