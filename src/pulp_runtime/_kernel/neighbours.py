"""Applications that may call each other: `pulp_app_call_v1` (spec/core §5.6).

    caller's guest ─ pulp_app_call_v1 ─▶ its host_consumes, its application's depends_on ─▶ the instance's turnstile ─▶
                                                                                            the callee's pulp_on_call

Who calls is what the host knows of the calling cell, never what the guest says. What a caller may reach is granted
once and remembered; the turnstile is asked at every call, so that an instance that has been withdrawn gets none.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final, NamedTuple

from pulp_runtime._kernel.runner import Runner
from pulp_runtime._kernel.turnstile import Turnstile
from pulp_runtime.errors import CallRefused, Errno, HostError, PulpError
from pulp_runtime.ext import CellRef
from pulp_runtime.manifest.cell import CellSpec

_KNOWN: Final = 4096
"""Grants that are remembered. Past it all are looked up again."""


class Target(NamedTuple):
    """What a guest wants to call, as it wrote it."""

    application: bytes
    instance: bytes
    cell: bytes
    provider: bytes

    @property
    def texts(self) -> tuple[str, ...]:
        """The four names; bytes that are no UTF-8 name nothing that exists."""
        return tuple(part.decode(errors="replace") for part in self)


class Way(NamedTuple):
    """How a call that has been granted gets there."""

    turnstile: Turnstile
    runner: Runner


class Neighbours:
    """The application instances of one host that can be called now. Safe from any thread.

    Args:
        depends_on: by application id, those whose cells its own may call.
    """

    def __init__(self, depends_on: Mapping[str, Collection[str]]) -> None:
        self._depends_on: Final = depends_on
        self._doors: Final[dict[tuple[str, str], tuple[Turnstile, Mapping[str, Runner]]]] = {}
        self._granted: Final[dict[tuple[str, Target], Way]] = {}

    def admit(self, application: str, instance: str, runners: Mapping[str, Runner]) -> None:
        """Let an instance be called, by cell address.

        Raises:
            PulpError: it is here already.
        """
        if (application, instance) in self._doors:
            raise PulpError(f"application {application}/{instance} can be called already")
        self._doors[application, instance] = (Turnstile(), runners)
        self._granted.clear()

    def withdraw(self, application: str, instance: str) -> Turnstile | None:
        """Let an instance be called no more; return the closed turnstile of the calls in flight, None if there is none.

        An instance that is admitted later never gets a call that was meant for this one.
        """
        door = self._doors.pop((application, instance), None)
        if door is None:
            return None
        door[0].close()
        self._granted.clear()
        return door[0]

    def way(self, caller: CellRef, spec: CellSpec, target: Target) -> Way:
        """Return the way of a call that is granted.

        Raises:
            HostError: `DENIED`: the manifests do not permit it.
            CallRefused: they do, and there is nobody to call.
        """
        return self._granted.get((caller.id, target)) or self._grant(caller, spec, target)

    def _grant(self, caller: CellRef, spec: CellSpec, target: Target) -> Way:
        application, instance, cell, provider = target.texts
        own = caller.scope
        if (
            (application, instance) == (own.application, own.application_instance)
            or provider not in spec.host_consumes
            or application not in self._depends_on.get(own.application, ())
        ):
            raise HostError(Errno.DENIED, "not permitted by the manifests")
        door = self._doors.get((application, instance))
        if door is None:
            raise CallRefused(cell, f"application {application}/{instance} is not running")
        turnstile, runners = door
        runner = runners.get(cell)
        if runner is None:
            raise CallRefused(cell, f'application {application}/{instance} has no cell "{cell}"')
        if provider not in runner.spec.provides:
            raise CallRefused(cell, f'cell {runner.seat.label} does not provide "{provider}"')
        if len(self._granted) >= _KNOWN:
            self._granted.clear()
        way = self._granted[caller.id, target] = Way(turnstile, runner)
        return way

    def forget(self) -> None:
        """Look every grant up again: a manifest has changed."""
        self._granted.clear()
