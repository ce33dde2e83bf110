"""Calls from cell to cell: `pulp_call`, and to other applications `pulp_app_call_v1` (spec/core §5).

    caller's guest ─ pulp_call ─▶ permission ─▶ the callee's lock ─▶ its pulp_on_call ─▶ the caller's pulp_alloc

All of it happens on the caller's thread, while the caller waits inside its import. A busy callee is waited for, in
the order of arrival and no longer than the caller's own deadline; a wait that could never end is refused at once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from typing import Final

from pulp_runtime._kernel.instance import Blocking, Instance
from pulp_runtime._kernel.neighbours import Neighbours, Target
from pulp_runtime._kernel.runner import Runner
from pulp_runtime.errors import CallLoop, CallRefused, CellError, Errno, HostError
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
_depth: Final = threading.local()
"""`now`: how many calls from cell to cell stand on this thread; a chain may lead through several applications."""


class Siblings:
    """Who may call whom among the cells of one application, and the calls; those to other applications too.

    Args:
        runners: the cells, by the address they are called at.
        callers: the same, by the id of who calls.
        turning: identifiers of the workers that are in a turn.
        neighbours: the applications of the host; None where there is no other.
    """

    def __init__(
        self,
        runners: Mapping[str, Runner],
        callers: Mapping[str, Runner],
        turning: Collection[int],
        neighbours: Neighbours | None = None,
    ) -> None:
        self._runners: Final = runners
        self._callers: Final = callers
        self._turning: Final = turning
        self._neighbours: Final = neighbours
        self._granted: Final[dict[tuple[str, bytes, bytes], Runner]] = {}

    def capability(self) -> Capability:
        """Return the capability every cell has."""
        return Capability(name=NAME, register=self._register, provider=__name__)

    def _register(self, linker: Linker, _cell: CellRef) -> None:
        linker.define(CALL, 8, self._call)
        linker.define(APP_CALL, 12, self._call_application)

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

        try:
            self._ask(caller, runner, name, args, resp_ptr_out, resp_len_out)
        except CellError as error:
            caller.cell.log.warning(
                "pulp_call target failed", target=_text(target), provider=_text(name), error=str(error)
            )
            return _code(error)
        return Errno.OK

    def _call_application(self, caller: Instance, *words: int) -> int:
        """Call a cell of another application; where there is none the answer is always 4."""
        neighbours = self._neighbours
        if neighbours is None:
            return Errno.FAILED
        if not all(words[1:8:2]):
            return Errno.EMPTY
        target = Target(*(caller.read(words[at], words[at + 1]) for at in range(0, 8, 2)))
        args = caller.memory.slice(words[8], words[9])
        if args is None:
            return Errno.FAULT
        try:
            way = neighbours.way(caller.cell, self._callers[caller.cell.id].spec, target)
            if not way.turnstile.enter():
                neighbours.forget()
                raise CallRefused(target.texts[2], "the application is not running any more")
            try:
                self._ask(caller, way.runner, target.provider, args, words[10], words[11])
            finally:
                way.turnstile.leave()
        except HostError as error:
            if error.code == Errno.DENIED:
                caller.cell.log.bind(**_named(target)).warning("pulp_app_call_v1 denied by manifest")
            raise
        except CellError as error:
            own = caller.cell.scope
            log = caller.cell.log.bind(caller_app=own.application, caller_cell=caller.cell.name, **_named(target))
            log.error("pulp_app_call_v1 failed", err=str(error))
            return _code(error)
        return Errno.OK

    def ask(self, caller: CellRef, cell: str, function: str, args: bytes, seconds: float, waiting: Blocking) -> bytes:
        """Ask a cell for a program, as `pulp_call` does for a cell.

        Raises:
            HostError: with the codes of `pulp_call`, and what went wrong in words.
        """
        runner = self._grant(caller, cell.encode(), function.encode())
        found: list[bytes] = []
        try:
            self._enter(
                runner, function.encode(), memoryview(args), seconds, lambda one: found.append(one.tobytes()), waiting
            )
        except CellError as error:
            raise HostError(_code(error), str(error)) from None
        return found[0]

    def _ask(
        self, caller: Instance, runner: Runner, name: bytes, args: memoryview, resp_ptr_out: int, resp_len_out: int
    ) -> None:
        """Ask a cell on this thread, within what is left of the caller's time, and hand it the response."""

        def take(response: memoryview) -> None:
            caller.deliver(response, resp_ptr_out, resp_len_out)

        self._enter(runner, name, args, caller.seconds_left(), take, caller.blocking)

    def _enter(
        self,
        runner: Runner,
        name: bytes,
        args: memoryview,
        seconds: float,
        take: Callable[[memoryview], None],
        waiting: Blocking,
    ) -> None:
        """Ask a cell on this thread, one deeper in the chain of calls."""
        depth = getattr(_depth, "now", 0)
        if depth >= FOREIGN_DEPTH and depth >= self._most():
            raise CallLoop(runner.spec.name, f"the chain of calls is longer than {depth} cells")
        _depth.now = depth + 1
        try:
            runner.ask(name, args, seconds, take, waiting)
        finally:
            _depth.now = depth

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
        if self._neighbours is not None:
            self._neighbours.forget()


def _text(data: bytes) -> str:
    return data.decode(errors="replace")


def _code(error: CellError) -> int:
    return Errno.LOOP if isinstance(error, CallLoop) else Errno.FAILED


def _named(target: Target) -> dict[str, str]:
    application, instance, cell, provider = target.texts
    return {"target_app": application, "target_instance": instance, "target_cell": cell, "provider": provider}
